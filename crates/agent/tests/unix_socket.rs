//! The agent's disk on a unix socket, streamed from a server and read by clients that we did not
//! write (nbdkit, nbdcopy, qemu-io).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// Far longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running program, killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Packages that these programs come from, for the message when one is missing.
fn start(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot run {command:?}: {error}\nhint: apt-get install nbdkit libnbd-bin qemu-utils")
    })
}

fn output(command: &mut Command) -> Output {
    start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
        .wait_with_output()
        .unwrap()
}

fn run(command: &mut Command) -> String {
    let done = output(command);
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(done.status.success(), "{command:?}: {}\n{text}", done.status);
    text
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An image, a server for it and the agent over them.
struct Scene {
    folder: TempDir,
    image: PathBuf,
    bytes: Vec<u8>,
    address: SocketAddr,
    server: Option<Running>,
    agent: Option<Running>,
}

impl Scene {
    fn new(len: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let image = folder.path().join("image.raw");
        let bytes: Vec<u8> =
            (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        fs::write(&image, &bytes).unwrap();
        // Taken and let go: nbdkit cannot tell which port it got.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        Self { folder, image, bytes, address, server: None, agent: None }
    }

    /// Starts nbdkit with a millisecond of delay, so that reads are in flight when it is killed.
    fn start_server(&mut self) {
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["--foreground", "--exit-with-parent", "--readonly", "--ipaddr", "127.0.0.1", "--port"]);
        nbdkit.arg(self.address.port().to_string()).args(["--filter=delay", "file"]).arg(&self.image);
        self.server = Some(Running(start(nbdkit.arg("rdelay=1ms").stdin(Stdio::null()))));
        let address = self.address;
        wait_for("nbdkit", || TcpStream::connect(address).is_ok());
    }

    fn start_agent(&mut self, limit_bytes: u64) {
        let plan = self.write_plan(self.bytes.len() as u64, limit_bytes);
        let socket = self.socket();
        let child = start(self.agent_command(&plan).arg(&socket).stdin(Stdio::null()));
        self.agent = Some(Running(child));
        wait_for("the agent's socket", || socket.exists());
    }

    fn agent_command(&self, plan: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-agent"));
        command.arg("serve-unix").arg("--plan").arg(plan).arg("--socket");
        command
    }

    fn write_plan(&self, size: u64, limit_bytes: u64) -> PathBuf {
        let plan = serde_json::json!({
            "revision": 1, "device": "d", "mac": "52:54:00:12:34:56", "vdisk": "v", "version": 1,
            "root": "00".repeat(32), "size": size, "export": "",
            "servers": [{"name": "s0", "nbd": self.address.to_string()}],
            "disk": {"kind": "shared", "write_cache": {"kind": "device-ram", "limit_bytes": limit_bytes, "when_full": "refuse-writes"}},
            "report_urls": [], "report_interval_s": 10,
        });
        let path = self.folder.path().join("plan.json");
        fs::write(&path, plan.to_string()).unwrap();
        path
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("disk.sock")
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket().display())
    }

    /// The whole disk, as nbdcopy reads it through the agent.
    fn copy(&self) -> Vec<u8> {
        let copy = self.folder.path().join("copy.raw");
        run(Command::new("nbdcopy").arg(self.uri()).arg(&copy));
        fs::read(copy).unwrap()
    }

    fn qemu_io(&self, commands: &[&str]) -> Output {
        let mut qemu_io = Command::new("qemu-io");
        qemu_io.args(["-f", "raw", "-t", "writeback", "-d", "unmap"]);
        for command in commands {
            qemu_io.args(["-c", command]);
        }
        output(qemu_io.arg(self.uri()))
    }
}

#[test]
fn the_disk_is_the_server_s_image() {
    let mut scene = Scene::new(9 * MIB + 512);
    scene.start_server();
    scene.start_agent(64 << 20);
    let info = run(Command::new("nbdinfo").arg(scene.uri()));
    assert!(info.contains(&format!("export-size: {}", scene.bytes.len())), "{info}");
    assert!(info.contains("is_read_only: false") && info.contains("can_trim: true"), "{info}");
    assert!(scene.copy() == scene.bytes);
}

#[test]
fn writes_stay_in_the_cache() {
    let mut scene = Scene::new(8 * MIB);
    scene.start_server();
    scene.start_agent(64 << 20);
    let done = scene.qemu_io(&["write -P 0x5a 1000 70000", "discard 1M 1M", "write -z 3M 64k", "flush"]);
    assert!(done.status.success(), "{done:?}");
    let mut expected = scene.bytes.clone();
    expected[1000..71_000].fill(0x5a);
    expected[MIB..2 * MIB].fill(0);
    expected[3 * MIB..3 * MIB + 65_536].fill(0);
    assert!(scene.copy() == expected);
    assert!(fs::read(&scene.image).unwrap() == scene.bytes, "the server's image is untouched");
}

#[test]
fn a_full_cache_says_no_space() {
    let mut scene = Scene::new(4 * MIB);
    scene.start_server();
    scene.start_agent(MIB as u64 / 2);
    let done = scene.qemu_io(&["write -P 1 0 2M"]);
    let text = format!("{done:?}");
    assert!(!done.status.success() || text.contains("No space left on device"), "{text}");
    assert!(scene.copy() == scene.bytes, "nothing of the refused write is there");
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_not_noticed() {
    let mut scene = Scene::new(32 * MIB);
    scene.start_server();
    scene.start_agent(64 << 20);
    let copy = scene.folder.path().join("copy.raw");
    let mut nbdcopy = Command::new("nbdcopy");
    nbdcopy.args(["--request-size=65536", "--requests=8"]).arg(scene.uri()).arg(&copy);
    let mut reader = Running(start(&mut nbdcopy));
    for _ in 0..5 {
        let before = fs::metadata(&copy).map_or(0, |found| blocks(&found));
        wait_for("some progress", || {
            fs::metadata(&copy).is_ok_and(|found| blocks(&found) > before)
                || reader.0.try_wait().unwrap().is_some()
        });
        scene.server = None; // kill -9
        scene.start_server();
    }
    assert!(reader.0.wait().unwrap().success());
    assert!(fs::read(&copy).unwrap() == scene.bytes);
}

fn blocks(found: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(found)
}

#[test]
fn a_server_with_another_disk_is_refused_by_size() {
    let mut scene = Scene::new(MIB);
    scene.start_server();
    let plan = scene.write_plan(2 * MIB as u64, 64 << 20);
    let done = output(scene.agent_command(&plan).arg(scene.socket()));
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success());
    assert!(text.contains("its disk has 1048576 bytes instead of 2097152"), "{text}");
}
