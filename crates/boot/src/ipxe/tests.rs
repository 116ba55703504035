//! Tests of `ipxe`.

use super::*;
use std::net::SocketAddr;

fn url(host: u8, path: &str) -> HttpUrl {
    HttpUrl::new(SocketAddr::from(([10, 0, 0, host], 6900)), path).unwrap()
}

fn source(host: u8) -> BootSource {
    BootSource {
        kernel: url(host, "/boot/v1/kernel/T"),
        initrd: url(host, "/boot/v1/initrd/T"),
        plan: url(host, "/boot/v1/plan/T"),
    }
}

fn script() -> DeviceScript {
    DeviceScript {
        device: "pc-1".parse().unwrap(),
        vdisk: "debian".parse().unwrap(),
        version: VersionNumber::FIRST,
        root: image::RootSpec { uuid: Some("ab-cd".to_owned()), part_uuid: None, partition: None },
        sources: vec![source(1), source(2)],
        args: vec![KernelArg::new("console=ttyS0,115200").unwrap()],
    }
}

#[test]
fn a_device_tries_every_server_in_turn() {
    let text = script().render();
    let kernel = "kernel --timeout 5000 --name vmlinuz http://10.0.0.1:6900/boot/v1/kernel/T \
        ${headwater-efi} rdinit=/headwater/init root=UUID=ab-cd ro \
        headwater.plan=http://10.0.0.1:6900/boot/v1/plan/T,http://10.0.0.2:6900/boot/v1/plan/T \
        headwater.ip=${ip}/${netmask}/${gateway}/${mac} console=ttyS0,115200 || goto server2\n";
    assert!(text.starts_with("#!ipxe\n"), "{text}");
    assert!(text.contains(kernel), "{text}");
    assert!(text.contains("initrd --timeout 5000 --name headwater.img http://10.0.0.2:6900/boot/v1/initrd/T || goto server3\n"), "{text}");
    assert!(text.contains("\n:server3\n"), "{text}");
    assert!(text.trim_end().ends_with("reboot"), "{text}");
}

#[test]
fn a_device_with_several_vdisks_may_choose() {
    let vdisks = ["debian", "win11"].map(|name| name.parse().unwrap());
    let script = url(1, "/boot/v1/script?mac=52:54:00:12:34:56");
    let text = menu_script(&"pc-1".parse().unwrap(), &vdisks, Duration::from_secs(10), &script);
    let menu = "menu Headwater: what shall pc-1 start?\n\
        item --key 1 debian 1. debian (in 10 seconds)\n\
        item --key 2 win11 2. win11\n\
        choose --default debian --timeout 10000 vdisk || set vdisk debian\n";
    assert!(text.contains(menu), "{text}");
    assert!(text.contains("/boot/v1/script?mac=52:54:00:12:34:56&vdisk=${vdisk} ||\n"), "{text}");
}

#[test]
fn a_waiting_device_asks_again() {
    let mac = "52:54:00:12:34:56".parse().unwrap();
    let text = pending_script(mac, &url(1, "/boot/v1/script?mac=52:54:00:12:34:56"));
    assert!(text.contains("headwater pending accept 52:54:00:12:34:56\n"), "{text}");
    assert!(
        text.contains("--autofree http://10.0.0.1:6900/boot/v1/script?mac=52:54:00:12:34:56 || reboot\n")
    );
}

#[test]
fn an_error_is_shown_and_cannot_become_a_command() {
    let text = error_script("version 3 is gone\nhint: \"x\" || reboot && ${shell} \u{1b}[2J");
    assert!(text.contains("echo Headwater: version 3 is gone\n"), "{text}");
    assert!(text.contains("hint: 'x' ?? reboot ?? ??shell? ?[2J\n"), "{text}");
}

#[test]
fn a_device_is_sent_to_the_server_that_has_its_writes() {
    let text =
        elsewhere_script("server pvs03 has changes", &[url(3, "/boot/v1/script?mac=52:54:00:00:00:01")]);
    assert!(text.contains("echo Headwater: server pvs03 has changes\n"), "{text}");
    let chain = "chain --timeout 10000 --replace --autofree http://10.0.0.3:6900/boot/v1/script?mac=52:54:00:00:00:01 ||";
    assert!(text.contains(chain), "{text}");
    assert!(text.ends_with("reboot\n"), "nobody sits in front of it: {text}");
}

#[test]
fn boot_media_fall_through_to_the_next_server() {
    let text = chain_script(&[url(1, "/boot/v1/script"), url(2, "/boot/v1/script")]);
    assert!(
        text.contains("chain --timeout 3000 --autofree http://10.0.0.2:6900/boot/v1/script?mac=${mac} ||\n"),
        "{text}"
    );
    assert!(text.contains("ifconf -c dhcp || goto wait\n"), "{text}");
}

#[test]
fn arguments_and_paths_with_anything_to_expand_are_refused() {
    for bad in ["", "a b", "x=${y}", "a\nb", "\"q\"", "a|b", "a&b", "$HOME"] {
        assert!(KernelArg::new(bad).is_err(), "{bad:?}");
    }
    let server = SocketAddr::from(([10, 0, 0, 1], 80));
    for bad in ["", "no-slash", "/a b", "/${x}", "/a\n", "/a%20"] {
        assert!(HttpUrl::new(server, bad).is_err(), "{bad:?}");
    }
}
