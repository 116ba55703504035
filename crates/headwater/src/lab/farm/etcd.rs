//! The lab's etcd: one member, with the farm's records.

use super::super::child::{self, Output, Program};
use super::super::server::last_lines;
use super::super::trouble::Trouble;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Child;

/// How long it may take to listen; a new member writes its log to disk first.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often the lab looks whether it does.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A member that listens.
pub(super) struct Etcd {
    child: Child,
    /// Where clients reach it.
    pub(super) url: String,
}

impl Etcd {
    /// Starts a member that keeps its data in `dir`; its ports are those for clients and for peers.
    pub(super) async fn start(program: &Path, dir: &Path, ports: (u16, u16)) -> Result<Self, Trouble> {
        let log = dir.join("etcd.log");
        let failed = |why: String| {
            let said = last_lines(&log, 10).join("\n");
            Trouble::new(
                format!("etcd does not start ({why}); it said:\n{said}"),
                "etcd 3.4 or newer is needed",
            )
        };
        let out = File::create(&log).map_err(|e| failed(e.to_string()))?;
        let err = out.try_clone().map_err(|e| failed(e.to_string()))?;
        let output = Output { out: Stdio::from(out), err: Stdio::from(err) };
        let args = args(&dir.join("etcd"), ports);
        let mut child = child::start(Program { path: program, args: &args, env: &[] }, output)
            .map_err(|e| failed(e.to_string()))?;
        tokio::select! {
            listens = wait_for_port(ports.0) => listens.map_err(failed)?,
            ended = child.wait() => return Err(failed(ended.map_or_else(|e| e.to_string(), |s| s.to_string()))),
        }
        Ok(Self { child, url: url(ports.0) })
    }

    /// Stops it.
    pub(super) async fn end(mut self) {
        child::end(&mut self.child, STOP_GRACE).await;
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn args(data: &Path, (client, peer): (u16, u16)) -> Vec<OsString> {
    let data: PathBuf = data.to_owned();
    let cluster = format!("lab={}", url(peer));
    let options: [(&str, OsString); 7] = [
        ("--name", "lab".into()),
        ("--data-dir", data.into()),
        ("--listen-client-urls", url(client).into()),
        ("--advertise-client-urls", url(client).into()),
        ("--listen-peer-urls", url(peer).into()),
        ("--initial-advertise-peer-urls", url(peer).into()),
        ("--initial-cluster", cluster.into()),
    ];
    options.into_iter().flat_map(|(option, value)| [option.into(), value]).collect()
}

async fn wait_for_port(port: u16) -> Result<(), String> {
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let late = |_| format!("it does not listen after {} s", START_PATIENCE.as_secs());
    tokio::time::timeout(START_PATIENCE, listens).await.map_err(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_etcd_that_ends_at_once_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        // A shell says that it knows no such option.
        let refused = Etcd::start(Path::new("/bin/sh"), dir.path(), (1, 2)).await.err().unwrap().to_string();
        assert!(refused.contains("option") && refused.contains("hint:"), "{refused}");
    }
}
