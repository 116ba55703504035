//! A real `headwater serve` in a directory of its own, and the command line against it.

use assert_cmd::Command;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before a test calls it hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) const HEADWATER: &str = env!("CARGO_BIN_EXE_headwater");

/// A directory with a configuration whose ports are free.
pub(crate) struct Home {
    dir: TempDir,
}

/// A running server.
pub(crate) struct Server<'a> {
    child: Child,
    home: &'a Home,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config =
            "[server]\nname = 'test'\n[http]\nlisten = '127.0.0.1:0'\n[nbd]\nlisten = '127.0.0.1:0'\n";
        std::fs::write(dir.path().join("test.toml"), config).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `headwater serve`, not yet started.
    pub(crate) fn serve(&self) -> std::process::Command {
        let mut command = std::process::Command::new(HEADWATER);
        command.arg("serve").arg("--config").arg(self.path("test.toml"));
        command.arg("--state-dir").arg(self.path("state"));
        command.env_remove("HEADWATER_URL").env_remove("HEADWATER_TOKEN").stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self) -> Server<'_> {
        self.start_by(self.serve())
    }

    /// Starts the server by a command that ends up as `headwater serve`.
    pub(crate) fn start_by(&self, mut command: std::process::Command) -> Server<'_> {
        // A killed server leaves its file behind: it must not be taken for the new one's.
        let _ = std::fs::remove_file(self.url_file());
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = command.stderr(log).spawn().unwrap();
        let mut server = Server { child, home: self };
        wait_for("the server's address", || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {}", server.log());
            self.url_file().exists()
        });
        server
    }

    /// The token in the server's file.
    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.path("state/admin.token")).unwrap().trim().to_owned()
    }

    fn url_file(&self) -> PathBuf {
        self.path("state/api.url")
    }

    /// A command of the command line, not yet run.
    pub(crate) fn cli(&self, words: &[&str]) -> Command {
        let mut command = Command::new(HEADWATER);
        command.env_remove("HEADWATER_URL").env_remove("HEADWATER_TOKEN");
        command.env("HEADWATER_STATE_DIR", self.path("state"));
        command.env("XDG_CONFIG_HOME", self.path("config"));
        command.current_dir(self.dir.path()).timeout(PATIENCE).args(words);
        command
    }

    /// Runs a command that must succeed; what it prints.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let output = self.cli(words).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    }

    /// Runs a command that must succeed; what it prints as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.run(&words)).unwrap()
    }

    /// Runs a command that must fail with `code`; what it says.
    pub(crate) fn refused(&self, words: &[&str], code: i32) -> String {
        let output = self.cli(words).assert().code(code);
        String::from_utf8(output.get_output().stderr.clone()).unwrap()
    }

    /// The command line as a child that is spoken to.
    pub(crate) fn spawn_cli(&self, words: &[&str]) -> Child {
        std::process::Command::new(HEADWATER)
            .env("HEADWATER_STATE_DIR", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .current_dir(self.dir.path())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Writes a sparse image with `data` bytes that are not zero at its beginning.
    pub(crate) fn image(&self, name: &str, data: usize, size: u64) -> PathBuf {
        let path = self.path(name);
        let mut file = std::fs::File::create(&path).unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = vec![0; 1 << 20];
        for start in (0..data).step_by(block.len()) {
            for word in block.chunks_exact_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word.copy_from_slice(&(state | 1).to_le_bytes());
            }
            file.write_all(&block[..block.len().min(data - start)]).unwrap();
        }
        file.set_len(size).unwrap();
        path
    }

    /// Bytes that the store's files take.
    pub(crate) fn store_bytes(&self) -> u64 {
        self.json(&["store", "list"])[0]["used_bytes"].as_u64().unwrap()
    }

    /// Files below the store's directory for data.
    pub(crate) fn files_in_store(&self, part: &str) -> usize {
        std::fs::read_dir(self.path("state/store").join(part)).unwrap().count()
    }
}

impl Server<'_> {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path("log")).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        send(&self.child, signal);
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }

    /// A request with JSON, by hand; the answer's status and its JSON, null where it has none.
    pub(crate) fn call(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let mut answer = Vec::new();
        self.send(method, path, token, body).read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (status(head), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The status of an answer, whose body may have no end.
    pub(crate) fn status_of(&self, method: &str, path: &str, token: Option<&str>) -> u16 {
        let mut line = String::new();
        let stream = self.send(method, path, token, &Value::Object(serde_json::Map::new()));
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
        status(&line)
    }

    fn send(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> TcpStream {
        let url = std::fs::read_to_string(self.home.url_file()).unwrap();
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{token}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        stream
    }

    /// GET without a token; status line and body.
    pub(crate) fn get(&self, path: &str) -> String {
        let url = std::fs::read_to_string(self.home.url_file()).unwrap();
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // Already waited for where a test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(crate) fn send(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until something is so.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program of QEMU's; fails with what to install where there is none.
pub(crate) fn qemu_img(words: &[&str]) {
    let output = std::process::Command::new("qemu-img").args(words).output();
    let output = output.expect("qemu-img runs: apt-get install qemu-utils");
    assert!(output.status.success(), "qemu-img {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs commands of `qemu-io` on a disk, or says what went wrong.
pub(crate) fn qemu_io(uri: &str, commands: &[&str]) {
    qemu_io_with(&["-f", "raw"], uri, commands);
}

/// Runs commands of `qemu-io` on a disk that cannot be written.
pub(crate) fn qemu_io_read(uri: &str, commands: &[&str]) {
    qemu_io_with(&["-r", "-f", "raw"], uri, commands);
}

fn qemu_io_with(options: &[&str], uri: &str, commands: &[&str]) {
    let words = commands.iter().flat_map(|command| ["-c", command]);
    let output = std::process::Command::new("qemu-io").args(options).arg(uri).args(words).output();
    let output = output.expect("qemu-io runs: apt-get install qemu-utils");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = !output.status.success() || said.contains("failed");
    assert!(!wrong, "qemu-io {commands:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
