//! A network of its own for each test: namespaces, a bridge, taps; gone when dropped.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The server's address on the bridge.
pub(crate) const SERVER: &str = "10.77.0.1";
/// The interface that our servers listen on.
pub(crate) const BRIDGE: &str = "hwbr0";

/// A namespace with a bridge that has [`SERVER`].
pub(crate) struct Network {
    pub(crate) namespace: String,
    others: Vec<String>,
    processes: Vec<Child>,
}

impl Network {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces; hint: run it as root");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("hwboot{}-{number}", std::process::id());
        run("ip", &["netns", "add", &namespace], "iproute2");
        let network = Self { namespace, others: Vec::new(), processes: Vec::new() };
        network.ip("link set lo up");
        network.ip(&format!("link add {BRIDGE} type bridge"));
        network.ip(&format!("addr add {SERVER}/24 dev {BRIDGE}"));
        network.ip(&format!("link set {BRIDGE} up"));
        network
    }

    /// Runs `ip` inside the namespace.
    fn ip(&self, arguments: &str) {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments.split(' '));
        run("ip", &all, "iproute2");
    }

    /// A tap on the bridge for a machine.
    pub(crate) fn add_tap(&self, name: &str) {
        self.ip(&format!("tuntap add {name} mode tap"));
        self.ip(&format!("link set {name} master {BRIDGE} up"));
    }

    /// Another host on the bridge, in a namespace of its own.
    pub(crate) fn add_host(&mut self, address: &str) -> String {
        let host = format!("{}-h{}", self.namespace, self.others.len());
        run("ip", &["netns", "add", &host], "iproute2");
        self.others.push(host.clone());
        self.ip(&format!("link add toh type veth peer name eth0 netns {host}"));
        self.ip(&format!("link set toh master {BRIDGE} up"));
        for arguments in [format!("addr add {address}/24 dev eth0"), "link set eth0 up".to_owned()] {
            let mut all = vec!["-n", host.as_str()];
            all.extend(arguments.split(' '));
            run("ip", &all, "iproute2");
        }
        host
    }

    /// Starts a program in a namespace; ended with the network.
    pub(crate) fn spawn(&mut self, namespace: &str, program: &str, arguments: &[&str], package: &str) {
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; hint: apt-get install {package}"));
        self.processes.push(child);
    }

    /// Starts a machine that boots by BIOS PXE from its iPXE option ROM.
    pub(crate) fn spawn_machine(&mut self, tap: &str, mac: &str, extra: &[&str]) {
        self.add_tap(tap);
        let netdev = format!("tap,id=n0,ifname={tap},script=no,downscript=no");
        let device = format!("virtio-net-pci,netdev=n0,mac={mac},bootindex=1");
        let mut arguments =
            vec!["-accel", "tcg", "-m", "256", "-nographic", "-monitor", "none", "-serial", "stdio"];
        arguments.extend(["-nodefaults", "-netdev", netdev.as_str(), "-device", device.as_str()]);
        arguments.extend(extra);
        let namespace = self.namespace.clone();
        self.spawn(&namespace, "qemu-system-x86_64", &arguments, "qemu-system-x86");
    }

    /// Everything that the last started process printed, for a failed test.
    pub(crate) fn last_output(&mut self) -> String {
        let Some(mut child) = self.processes.pop() else { return String::new() };
        end(&mut child);
        let mut output = Vec::new();
        if let Some(mut stdout) = child.stdout.take() {
            drop(stdout.read_to_end(&mut output));
        }
        String::from_utf8_lossy(&output).into_owned()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in &mut self.processes {
            end(child);
        }
        for namespace in self.others.iter().chain([&self.namespace]) {
            drop(Command::new("ip").args(["netns", "del", namespace]).status());
        }
    }
}

/// `ip netns exec` becomes the program itself, so its process is the one to end.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

fn run(program: &str, arguments: &[&str], package: &str) {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .unwrap_or_else(|error| panic!("{program}: {error}; hint: apt-get install {package}"));
    assert!(status.success(), "{program} {arguments:?} failed");
}

/// Runs `test` on a thread inside the namespace, with its own tokio runtime.
pub(crate) fn within<T: Send>(namespace: &str, test: impl AsyncFnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let path = format!("/run/netns/{namespace}");
            let file = std::fs::File::open(path).expect("the namespace");
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("entering it");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(test())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How long something took, for the tests' output.
pub(crate) fn seconds(since: Instant) -> String {
    format!("{:.1} s", Duration::as_secs_f64(&since.elapsed()))
}
