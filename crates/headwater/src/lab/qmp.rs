//! The QEMU Machine Protocol, as much as the lab needs: reset, keys, and the news of a reset.
//!
//! One JSON document a line, over a unix socket that only this user can reach. Answers are not
//! waited for: what matters is what the machine then does. (QEMU docs/interop/qmp-spec.)

use serde::Deserialize;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest line taken; QEMU's events are a few hundred bytes.
const MAX_LINE: u64 = 64 * 1024;
/// How long QEMU may take to open its socket: it does so before it starts the machine.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How often the socket is tried.
const RETRY: Duration = Duration::from_millis(50);

/// What QEMU is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Ctrl-Alt-Del: init reboots in order.
    CtrlAltDel,
    /// The reset button.
    Reset,
}

/// What QEMU tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The machine was reset, by its guest or by the button.
    Reset,
    /// The machine was switched off.
    Shutdown,
}

/// The telling end.
pub(super) struct Commands(OwnedWriteHalf);

/// The listening end.
pub(super) struct Notices(BufReader<OwnedReadHalf>);

/// Connects to a QEMU that has just been started.
pub(super) async fn connect(socket: &Path) -> io::Result<(Commands, Notices)> {
    let opened = async {
        loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    };
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "QEMU did not open its control socket");
    let stream = tokio::time::timeout(CONNECT_PATIENCE, opened).await.map_err(timed_out)?;
    let (read, mut write) = stream.into_split();
    write.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").await?;
    Ok((Commands(write), Notices(BufReader::new(read))))
}

impl Commands {
    /// Tells QEMU something.
    pub(super) async fn tell(&mut self, command: Command) -> io::Result<()> {
        self.0.write_all(command.line().as_bytes()).await
    }
}

impl Notices {
    /// The next notice; none when QEMU is gone.
    pub(super) async fn next(&mut self) -> io::Result<Option<Notice>> {
        loop {
            let mut line = Vec::new();
            (&mut self.0).take(MAX_LINE).read_until(b'\n', &mut line).await?;
            if line.is_empty() {
                return Ok(None);
            }
            if let Some(notice) = notice_of(&line) {
                return Ok(Some(notice));
            }
        }
    }
}

impl Command {
    fn line(self) -> String {
        match self {
            Self::Reset => "{\"execute\":\"system_reset\"}\n".to_owned(),
            Self::CtrlAltDel => {
                let keys =
                    ["ctrl", "alt", "delete"].map(|key| serde_json::json!({"type": "qcode", "data": key}));
                format!("{}\n", serde_json::json!({"execute": "send-key", "arguments": {"keys": keys}}))
            }
        }
    }
}

#[derive(Deserialize)]
struct Line {
    event: Option<String>,
}

/// What a line means; answers, greetings and other events mean nothing here.
fn notice_of(line: &[u8]) -> Option<Notice> {
    let line: Line = serde_json::from_slice(line).ok()?;
    match line.event?.as_str() {
        "RESET" => Some(Notice::Reset),
        "SHUTDOWN" => Some(Notice::Shutdown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_answers_and_nonsense() {
        let reset =
            br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESET", "data": {"guest": true}}"#;
        assert_eq!(notice_of(reset), Some(Notice::Reset));
        assert_eq!(notice_of(br#"{"event": "SHUTDOWN"}"#), Some(Notice::Shutdown));
        assert_eq!(notice_of(br#"{"event": "STOP"}"#), None);
        assert_eq!(notice_of(br#"{"return": {}}"#), None);
        assert_eq!(notice_of(b"{\"event\": 7"), None);
    }

    #[test]
    fn commands_are_single_lines_of_json() {
        for command in [Command::CtrlAltDel, Command::Reset] {
            let line = command.line();
            assert_eq!(line.matches('\n').count(), 1);
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
        }
    }

    #[tokio::test]
    async fn a_flood_without_line_ends_is_taken_in_bounded_pieces() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, _write) = ours.into_split();
        let flood = tokio::spawn(async move {
            let (_, mut write) = theirs.into_split();
            write.write_all(&vec![b'x'; 300_000]).await.unwrap();
            write.write_all(b"\n{\"event\": \"RESET\"}\n").await.unwrap();
        });
        let mut notices = Notices(BufReader::new(read));
        assert_eq!(notices.next().await.unwrap(), Some(Notice::Reset));
        assert_eq!(notices.next().await.unwrap(), None);
        flood.await.unwrap();
    }
}
