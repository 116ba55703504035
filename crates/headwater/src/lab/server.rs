//! A server of the lab: `headwater serve` as a child, on free ports of the loopback.
//!
//! It is configured by a file as any server is, and asked for nothing that users could not ask
//! for: the lab imports and configures by running the same commands that it then shows.

use super::child::{self, Output, Program};
use super::trouble::Trouble;
use crate::client::Target;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Child;

/// How long the server may take to be ready: it creates a database, even on a slow disk.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How often the lab looks whether it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take to stop in order; above its own patience with requests.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// The most bytes of its log that are read to show the last lines.
const LOG_TAIL_BYTES: u64 = 64 * 1024;
/// The most bytes of the file with its URL.
const URL_BYTES: u64 = 256;

/// Where everything of a lab lies.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// A lab below `dir`.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The folder itself.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The server's log.
    pub(super) fn server_log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// The admin's token.
    pub(super) fn token(&self) -> PathBuf {
        self.state().join("admin.token")
    }

    /// The server's state.
    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn url(&self) -> PathBuf {
        self.state().join("api.url")
    }

    /// The server's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("lab.toml")
    }

    /// Where its commands find the server and its token.
    pub(super) fn target(&self) -> Target {
        Target { url: None, token: None, state_dir: Some(self.state()) }
    }
}

/// What tells one server of a lab from the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// Its name.
    pub(super) name: String,
    /// What makes it one of several.
    pub(super) farm: Option<FarmSetup>,
}

/// A server of a farm: its ports stay the same when it is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FarmSetup {
    /// HTTP.
    pub(super) http: u16,
    /// NBD.
    pub(super) nbd: u16,
    /// Where its peers reach it.
    pub(super) mesh: u16,
    /// Where etcd is.
    pub(super) etcd: String,
}

/// A server that is ready.
pub(super) struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(super) url: String,
}

impl Server {
    /// Configures a server, starts it, and waits until it serves.
    pub(super) async fn start(
        program: &Path,
        layout: &Layout,
        setup: &Setup,
        agent: &Path,
    ) -> Result<Self, Trouble> {
        configure(layout, setup, agent)?;
        Self::run(program, layout).await
    }

    /// Starts a server that is configured, and waits until it serves.
    pub(super) async fn run(program: &Path, layout: &Layout) -> Result<Self, Trouble> {
        // One that was killed leaves the address of the former process.
        let _ = std::fs::remove_file(layout.url());
        let log = File::options().create(true).append(true).open(layout.server_log());
        let log = log.map_err(|e| cannot(&layout.server_log(), e))?;
        let both = log.try_clone().map_err(|e| cannot(&layout.server_log(), e))?;
        let output = Output { out: Stdio::from(both), err: Stdio::from(log) };
        let args = serve_args(layout);
        let mut child = child::start(Program { path: program, args: &args, env: &[] }, output)
            .map_err(|e| cannot(program, e))?;
        let url_file = layout.url();
        let url = tokio::select! {
            url = wait_for_url(&url_file) => url,
            ended = child.wait() => Err(ended.map_or_else(|e| e.to_string(), |s| s.to_string())),
        };
        let url = url.map_err(|why| not_ready(&why, layout))?;
        Ok(Self { child, url })
    }

    /// Waits until the server ends by itself, which it should not.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The HTTP port.
    pub(super) fn port(&self) -> Option<u16> {
        self.url.rsplit_once(':')?.1.parse().ok()
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as a power cut does.
    pub(super) async fn kill(mut self) -> std::io::Result<()> {
        self.child.kill().await
    }

    /// Stops it in order.
    pub(super) async fn end(mut self) {
        child::end(&mut self.child, STOP_GRACE).await;
    }
}

/// Writes the server's configuration.
pub(super) fn configure(layout: &Layout, setup: &Setup, agent: &Path) -> Result<(), Trouble> {
    let written = std::fs::create_dir_all(layout.dir())
        .and_then(|()| std::fs::write(layout.config(), config(layout, setup, agent)));
    written.map_err(|e| cannot(&layout.config(), e))
}

/// What `headwater` is told to serve; on the command line too, as HEADWATER_STATE_DIR of the user's
/// shell is not for us.
pub(super) fn serve_args(layout: &Layout) -> [OsString; 5] {
    ["serve".into(), "--config".into(), layout.config().into(), "--state-dir".into(), layout.state().into()]
}

fn cannot(path: &Path, error: std::io::Error) -> Trouble {
    Trouble::new(
        format!("{} cannot be written: {error}", path.display()),
        "free some space there, or set TMPDIR to another folder",
    )
}

/// The server's configuration; the system chooses the ports of a single one.
fn config(layout: &Layout, setup: &Setup, agent: &Path) -> String {
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let (state, agent, name) = (quoted(&layout.state()), quoted(agent), &setup.name);
    let (http, nbd) = setup.farm.as_ref().map_or((0, 0), |farm| (farm.http, farm.nbd));
    // Guests know each other server, too, by the address that QEMU's user network gives this machine.
    let advertise = setup.farm.as_ref().map_or("", |_| "advertise = \"10.0.2.2\"\n");
    let farm = setup.farm.as_ref().map(farm_config).unwrap_or_default();
    format!(
        "# A server of `headwater lab`.\n\
         [server]\nname = \"{name}\"\nstate_dir = {state}\n\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\n{advertise}\n\
         [nbd]\nlisten = \"127.0.0.1:{nbd}\"\n\n\
         # QEMU's user network answers DHCP by itself.\n\
         [dhcp]\nmode = \"off\"\n\n\
         [tftp]\nenabled = false\n\n\
         {farm}[boot]\nagent = {agent}\nextra_args = \"console=ttyS0\"\n"
    )
}

fn farm_config(farm: &FarmSetup) -> String {
    format!(
        "[mesh]\nlisten = \"127.0.0.1:{}\"\n\n[farm]\ndatabase = \"etcd\"\nendpoints = [\"{}\"]\n\n",
        farm.mesh, farm.etcd
    )
}

async fn wait_for_url(file: &Path) -> Result<String, String> {
    let there = async {
        loop {
            match std::fs::read_to_string(file) {
                Ok(url) if url.len() as u64 <= URL_BYTES && !url.trim().is_empty() => {
                    return url.trim().to_owned();
                }
                _ => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    };
    let late = |_| format!("not ready after {} s", START_PATIENCE.as_secs());
    tokio::time::timeout(START_PATIENCE, there).await.map_err(late)
}

fn not_ready(why: &str, layout: &Layout) -> Trouble {
    let said = last_lines(&layout.server_log(), 20).join("\n");
    Trouble::new(
        format!("the server did not start ({why}); it said:\n{said}"),
        "`headwater config check` explains a configuration; --keep DIR keeps this one",
    )
}

/// The last lines of a log, at most `count`.
pub(super) fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let tail = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = tail().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single() -> Setup {
        Setup { name: "lab".to_owned(), farm: None }
    }

    #[test]
    fn the_configuration_is_toml_whatever_the_paths_are() {
        let layout = Layout::new("/a \"b\" \\c".into());
        let table: toml::Table = config(&layout, &single(), Path::new("/agent")).parse().unwrap();
        assert_eq!(table["server"]["state_dir"].as_str(), Some("/a \"b\" \\c/state"));
        assert_eq!(table["boot"]["agent"].as_str(), Some("/agent"));
        assert_eq!(table["http"]["listen"].as_str(), Some("127.0.0.1:0"));
        assert!(!table.contains_key("farm"));
    }

    #[test]
    fn a_server_of_several_is_told_where_the_farm_is() {
        let farm = FarmSetup { http: 1, nbd: 2, mesh: 3, etcd: "http://127.0.0.1:4".to_owned() };
        let setup = Setup { name: "pvs02".to_owned(), farm: Some(farm) };
        let text = config(&Layout::new("/x".into()), &setup, Path::new("/agent"));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["server"]["name"].as_str(), Some("pvs02"));
        assert_eq!(table["nbd"]["listen"].as_str(), Some("127.0.0.1:2"));
        assert_eq!(table["mesh"]["listen"].as_str(), Some("127.0.0.1:3"));
        assert_eq!(table["farm"]["endpoints"][0].as_str(), Some("http://127.0.0.1:4"));
    }

    #[test]
    fn the_last_lines_of_a_log_are_found_in_a_bounded_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(last_lines(file.path(), 2), ["line 99998", "line 99999"]);
        assert!(last_lines(Path::new("/no/such"), 2).is_empty());
    }

    #[tokio::test]
    async fn a_server_that_ends_at_once_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        // `sh serve ...` says that there is no file `serve`.
        let error = Server::start(Path::new("/bin/sh"), &layout, &single(), Path::new("/agent")).await;
        let error = error.err().unwrap();
        assert!(error.to_string().contains("serve"), "{error}");
    }
}
