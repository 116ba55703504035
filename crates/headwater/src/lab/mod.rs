//! `headwater lab`: the product on one machine, without root and without KVM.
//!
//! A server on the loopback, an imported image, diskless machines in QEMU, and a picture of how
//! far their boots have come. It uses nothing that users do not have: the server is configured by a
//! file, and every command that the lab runs is shown and can be typed.
//!
//! This file is the order of things with one server, `farm/mod.rs` with several. Read next: `floor.rs`
//! for what is decided, `runner.rs` for how machines are run, `verdict.rs` for what `--once` demands.

mod args;
mod child;
mod farm;
mod floor;
mod machine;
mod preflight;
mod qmp;
mod runner;
mod screen;
mod serial;
mod server;
mod sessions;
mod shell;
mod table;
mod timeline;
mod trouble;
mod verdict;

pub(crate) use args::Lab;

use crate::cli::Stopped;
use crate::client::{Client, Target};
use anyhow::{Context, Result};
use machine::MachineSpec;
use model::Name;
use runner::{Plan, Runner};
use screen::Screen;
use server::{Layout, Server, Setup};
use sessions::Sessions;
use shell::Shell;
use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use trouble::Trouble;
use verdict::Goal;

/// What of the lab is still running when the user has seen enough.
type Up = Cell<bool>;

/// Runs a lab until it is done, until it fails, or until Ctrl-C.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    preflight::check_image(&lab.image)?;
    preflight::check_agent(&lab.agent)?;
    preflight::check_numbers(lab.servers, lab.machines)?;
    let qemu = match lab.machines {
        0 => PathBuf::new(),
        _ => preflight::find_qemu()?,
    };
    let folder = Folder::make(lab.keep.as_deref())?;
    // One thread: the lab's children live as long as the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dir = folder.path()?;
    let ended = match lab.servers {
        1 => runtime.block_on(serve_and_run(lab, &qemu, &Layout::new(dir))),
        _ => runtime.block_on(farm::run(lab, &qemu, dir)),
    };
    if let Some(kept) = &lab.keep {
        println!("kept: {}", kept.display());
    }
    ended
}

/// Where the lab lives; a temporary one goes when this is dropped.
enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn make(keep: Option<&Path>) -> Result<Self> {
        let Some(dir) = keep else {
            let hint =
                "no temporary folder can be made\nhint: set TMPDIR to a folder with some gigabytes free";
            let made = tempfile::Builder::new().prefix("headwater-lab-").tempdir();
            return Ok(Self::Temporary(made.context(hint)?));
        };
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let mut entries = std::fs::read_dir(dir)?;
        if entries.next().is_some() {
            let what = format!("{} is not empty", dir.display());
            return Err(Trouble::new(what, "give --keep a new folder: each lab begins from nothing").into());
        }
        Ok(Self::Kept(dir.to_owned()))
    }

    /// The folder, absolute.
    fn path(&self) -> Result<PathBuf> {
        let path = match self {
            Self::Kept(dir) => dir.as_path(),
            Self::Temporary(dir) => dir.path(),
        };
        path.canonicalize().with_context(|| format!("{} has gone", path.display()))
    }
}

async fn serve_and_run(lab: &Lab, qemu: &Path, layout: &Layout) -> Result<()> {
    let mut screen = Screen::new();
    let mut stop = StopSignals::catch().context("signals cannot be caught")?;
    let program = std::env::current_exe().context("this program does not know its own path")?;
    let agent = lab.agent.canonicalize()?;
    let setup = Setup { name: "lab".to_owned(), farm: None };
    let mut server = tokio::select! {
        server = Server::start(&program, layout, &setup, &agent) => server?,
        () = stop.next() => return Err(stopped()),
    };
    screen.say(&format!("server     {} (log: {})", server.url, layout.server_log().display()));
    let up = Up::default();
    let course = Course { lab, qemu, layout, program: &program, url: server.url.clone(), up: &up };
    let port = server.port().context("the server says no port")?;
    let ended = tokio::select! {
        ended = course.run(port, &mut screen) => ended,
        status = server.ended() => Err(server_gone(layout, &format!("{status:?}"))),
        () = stop.next() => match up.get() {
            true => Ok(()),
            false => Err(stopped()),
        },
    };
    // The machines went with `course`.
    server.end().await;
    ended
}

/// What happens while the server runs.
struct Course<'a> {
    lab: &'a Lab,
    qemu: &'a Path,
    layout: &'a Layout,
    program: &'a Path,
    url: String,
    up: &'a Up,
}

impl Course<'_> {
    async fn run(self, port: u16, screen: &mut Screen) -> Result<()> {
        let vdisk = args::vdisk_name(&self.lab.image);
        self.prepare(&vdisk, screen).await?;
        screen.say(&self.machines_line());
        let mut runner = Runner::start(self.plan(port)?).await?;
        runner.until_done(screen).await?;
        if self.lab.once {
            let summary = summary(&vdisk, &runner.logins());
            runner.end().await;
            screen.say(&summary);
            return Ok(());
        }
        self.up.set(true);
        screen.say(&self.how_to_use(runner.logins().first().map_or(&[], Vec::as_slice)));
        runner.keep(screen).await?;
        Ok(())
    }

    /// Imports the image and makes it what unknown machines boot, by the commands that users type.
    async fn prepare(&self, vdisk: &Name, screen: &mut Screen) -> Result<()> {
        let shell = Shell { program: self.program, url: &self.url, token: self.layout.token() };
        import(self.lab, &shell, vdisk, screen).await
    }

    fn plan(&self, http_port: u16) -> Result<Plan<'_>> {
        let dir = self.layout.dir();
        let spec = |index| MachineSpec {
            index,
            memory_mib: self.lab.memory,
            http_port,
            dir: dir.to_owned(),
            server_log: self.layout.server_log(),
        };
        let target =
            Target { url: Some(self.url.clone()), token: None, state_dir: Some(self.layout.state()) };
        Ok(Plan {
            machines: (0..usize::from(self.lab.machines)).map(spec).collect(),
            goal: if self.lab.once { Goal::WritesGone } else { Goal::Login },
            patience: self.lab.patience(),
            qemu: self.qemu,
            sessions: Sessions::new(vec![Client::new(&target)?]),
        })
    }

    fn machines_line(&self) -> String {
        format!(
            "machines   {} without a disk, {} MiB each, serial consoles: {}/machine-*.serial.log",
            self.lab.machines,
            self.lab.memory,
            self.layout.dir().display()
        )
    }

    fn how_to_use(&self, logins: &[Duration]) -> String {
        let state = self.layout.state();
        format!(
            "\nAll machines are up, after {}.\n\n\
             status page  {url}/\n\
             command line export HEADWATER_URL={url}\n             \
             export HEADWATER_STATE_DIR={state}   # has the admin's token\n             \
             headwater device list; headwater vdisk list; headwater events --follow\n\
             consoles     tail -f {dir}/machine-1.serial.log\n\n\
             Ctrl-C ends the machines and the server.",
            seconds(logins),
            url = self.url,
            state = state.display(),
            dir = self.layout.dir().display()
        )
    }
}

/// Imports the image and makes it what unknown machines boot.
async fn import(lab: &Lab, shell: &Shell<'_>, vdisk: &Name, screen: &mut Screen) -> Result<()> {
    let image = lab.image.canonicalize()?.into_os_string();
    shell.run(&["vdisk".into(), "import".into(), vdisk.to_string().into(), image], screen).await?;
    let cache = format!("{}MiB", lab.cache_mib());
    let words = ["collection", "set", "default", "--vdisk", vdisk.as_str()];
    let more = ["--auto-add", "on", "--prefix", "lab-", "--cache", &cache];
    let args: Vec<OsString> = words.iter().chain(&more).map(OsString::from).collect();
    shell.run(&args, screen).await
}

/// The last line of `--once`.
fn summary(vdisk: &Name, logins: &[Vec<Duration>]) -> String {
    let boot = |number: usize| logins.get(number).map_or_else(String::new, |boot| seconds(boot));
    let machines = logins.first().map_or(0, Vec::len);
    format!(
        "lab: {machines} machines without a disk booted {vdisk}: login after {}; \
         rebooted, their writes were gone: login after {}",
        boot(0),
        boot(1)
    )
}

fn seconds(times: &[Duration]) -> String {
    let times: Vec<String> = times.iter().map(|time| format!("{:.1} s", time.as_secs_f64())).collect();
    times.join(" and ")
}

fn server_gone(layout: &Layout, status: &str) -> anyhow::Error {
    let said = server::last_lines(&layout.server_log(), 20).join("\n");
    let what = format!("the server ended ({status}); it said:\n{said}");
    Trouble::new(what, "--keep DIR keeps its whole log; please report what it says").into()
}

fn stopped() -> anyhow::Error {
    Stopped("stopped: the machines and the server have ended".to_owned()).into()
}

/// Ctrl-C, a service manager, a terminal that closes: all mean to stop.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn catch() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_every_machine_s_figures() {
        let boot = |ms: &[u64]| ms.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        let text =
            summary(&Name::new("debian").unwrap(), &[boot(&[31_200, 32_040]), boot(&[30_000, 29_990])]);
        assert!(text.contains("31.2 s and 32.0 s") && text.contains("30.0 s and 30.0 s"), "{text}");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Folder::make(Some(dir.path())).is_ok());
        std::fs::write(dir.path().join("x"), b"").unwrap();
        let error = Folder::make(Some(dir.path())).err().unwrap().to_string();
        assert!(error.contains("not empty") && error.contains("hint:"), "{error}");
    }
}
