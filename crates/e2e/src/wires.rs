//! What goes wrong between hosts of a segment: packets that are lost, links that are slow.
//!
//! Packets are dropped where they pass the bridge, by nftables, so that neither end hears of it;
//! slowness is a class of `htb` on the sender's card for what it sends to certain hosts. Kernels of
//! small machines lack `netem`; nothing here needs it.

use crate::network::{Host, Namespace, Segment};
use anyhow::Result;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bytes that wait before a slow link; at 10 Mbit/s a tenth of a second, as in a small switch.
const QUEUE_BYTES: u32 = 128 * 1024;

/// The faults of a segment.
#[derive(Debug)]
pub struct Wires {
    /// The port whose server alone answers a machine's first question, by the machine's address.
    led: RefCell<BTreeMap<String, String>>,
}

impl Wires {
    /// Nothing is wrong yet.
    pub fn new(segment: &Segment) -> Result<Self> {
        nft(
            segment.switch(),
            "add table bridge wires; \
             add set bridge wires cut { type ipv4_addr . ipv4_addr; }; \
             add chain bridge wires led; \
             add chain bridge wires pass { type filter hook forward priority 0; }; \
             add rule bridge wires pass ip saddr . ip daddr @cut drop; \
             add rule bridge wires pass jump led",
        )?;
        Ok(Self { led: RefCell::default() })
    }

    /// Loses from now on what `from` sends to `to`; the other way nothing changes.
    pub fn cut(&self, segment: &Segment, from: &Host, to: &Host) -> Result<()> {
        let pair = format!("{} . {}", from.address, to.address);
        nft(segment.switch(), &format!("add element bridge wires cut {{ {pair} }}"))
    }

    /// Lets pass again what `from` sends to `to`.
    pub fn mend_one(&self, segment: &Segment, from: &Host, to: &Host) -> Result<()> {
        let pair = format!("{} . {}", from.address, to.address);
        nft(segment.switch(), &format!("delete element bridge wires cut {{ {pair} }}"))
    }

    /// Lets everything pass again.
    pub fn mend(&self, segment: &Segment) -> Result<()> {
        nft(segment.switch(), "flush set bridge wires cut")
    }

    /// Lets only `host` hear the machine with this address when it asks for an address by DHCP.
    pub fn lead(&self, segment: &Segment, mac: &str, host: &Host) -> Result<()> {
        self.led.borrow_mut().insert(mac.to_owned(), host.port.clone());
        let rules: Vec<String> = self
            .led
            .borrow()
            .iter()
            .map(|(mac, port)| {
                format!("; add rule bridge wires led ether saddr {mac} udp dport 67 oifname != {port} drop")
            })
            .collect();
        nft(segment.switch(), &format!("flush chain bridge wires led{}", rules.concat()))
    }
}

/// Lets `from` send at most `mbit` megabits a second to all of `to` together.
pub fn limit(from: &Host, to: &[&Host], mbit: f64) -> Result<()> {
    unlimit(from)?;
    let (tc, kbit) = (|words: &str| from.namespace().run("tc", words), (mbit * 1000.0) as u64);
    tc("qdisc add dev lan0 root handle 1: htb default 10")?;
    tc("class add dev lan0 parent 1: classid 1:10 htb rate 40gbit")?;
    tc(&format!("class add dev lan0 parent 1: classid 1:20 htb rate {kbit}kbit"))?;
    tc(&format!("qdisc add dev lan0 parent 1:20 handle 20: bfifo limit {QUEUE_BYTES}"))?;
    for host in to {
        let filter = format!("match ip dst {}/32 flowid 1:20", host.address);
        tc(&format!("filter add dev lan0 parent 1: protocol ip u32 {filter}"))?;
    }
    Ok(())
}

/// Lets `from` send as fast as it can again.
pub fn unlimit(from: &Host) -> Result<()> {
    // A card without a limit has its default discipline, which `tc` does not delete.
    let limited = from.namespace().command("tc").args(["qdisc", "show", "dev", "lan0"]).output()?;
    match String::from_utf8_lossy(&limited.stdout).contains("htb") {
        true => from.namespace().run("tc", "qdisc del dev lan0 root"),
        false => Ok(()),
    }
}

fn nft(switch: &Namespace, commands: &str) -> Result<()> {
    let output = switch.command("nft").arg(commands).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "nft {commands}: {}\nhint: `cargo xtask setup` installs nftables",
        said.trim()
    );
    Ok(())
}
