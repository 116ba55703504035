//! A guest's serial port: read all the time, waited on by text, shown when a wait fails.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How many of the last lines a failed wait shows.
const SHOWN_LINES: usize = 60;
/// How long an emulator may take to open its serial ports, by eye.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// A socket that an emulator will connect its serial port to.
#[derive(Debug)]
pub struct Port {
    listener: UnixListener,
    /// The socket's path, for the emulator's command line.
    pub path: PathBuf,
}

impl Port {
    /// Listens on a socket in `folder`, before the emulator starts: no byte is lost.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let listener = UnixListener::bind(&path).with_context(|| format!("{}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Waits for the emulator and reads from then on.
    pub fn connected(self) -> Result<Console> {
        let limit = Instant::now() + CONNECT_LIMIT;
        let stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < limit => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error).context("the emulator did not open its serial port"),
            }
        };
        stream.set_nonblocking(false)?;
        Console::over(stream)
    }
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    partial: String,
    has_ended: bool,
}

/// Everything that a serial port said, and the way to answer.
#[derive(Debug)]
pub struct Console {
    heard: Arc<(Mutex<Heard>, Condvar)>,
    stream: UnixStream,
    /// Lines before this one were matched by an earlier wait.
    next: usize,
}

impl Console {
    fn over(stream: UnixStream) -> Result<Self> {
        let heard = Arc::<(Mutex<Heard>, Condvar)>::default();
        let (reader, into) = (stream.try_clone()?, heard.clone());
        std::thread::spawn(move || listen(reader, &into));
        Ok(Self { heard, stream, next: 0 })
    }

    /// Waits for a complete line that contains `text`, among the lines after the last wait's.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let from = self.next;
        let found = self.wait_until(text, limit, |heard| {
            let mut fresh = heard.lines.iter().enumerate().skip(from);
            fresh.find(|(_, line)| line.contains(text)).map(|(at, line)| (at, line.clone()))
        });
        let (at, line) = found?;
        self.next = at + 1;
        Ok(line)
    }

    /// Waits for a prompt: a line that ends in `text` and is not complete.
    pub fn wait_for_prompt(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.wait_until(text, limit, |heard| heard.partial.trim_end().ends_with(text).then_some(()))
    }

    fn wait_until<T>(&self, text: &str, limit: Duration, find: impl Fn(&Heard) -> Option<T>) -> Result<T> {
        let until = Instant::now() + limit;
        let (lock, changed) = &*self.heard;
        let mut heard = lock.lock().expect("the reader does not panic");
        loop {
            if let Some(found) = find(&heard) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || heard.has_ended {
                let why = if heard.has_ended { "the console ended" } else { "nothing came" };
                bail!("waited {limit:?} for {text:?} and {why}; last lines:\n{}", tail(&heard));
            }
            heard = changed.wait_timeout(heard, left).expect("the reader does not panic").0;
        }
    }

    /// Whether a line with `text` was heard so far, matched or not.
    pub fn has_said(&self, text: &str) -> bool {
        let heard = self.heard.0.lock().expect("the reader does not panic");
        heard.lines.iter().any(|line| line.contains(text))
    }

    /// Sends keys as they are.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.stream.write_all(keys.as_bytes()).context("writing to the serial port")
    }

    /// Waits for `text` anywhere, also in a line that is not complete: loaders draw on screens.
    pub fn wait_for_screen(&mut self, text: &str, limit: Duration) -> Result<()> {
        let from = self.next;
        self.wait_until(text, limit, |heard| {
            let fresh = heard.lines.iter().skip(from).chain([&heard.partial]);
            fresh.into_iter().any(|line| line.contains(text)).then_some(())
        })
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).context("writing to the serial port")
    }

    /// The last lines, for a failure's message.
    pub fn last_lines(&self) -> String {
        tail(&self.heard.0.lock().expect("the reader does not panic"))
    }
}

fn listen(stream: UnixStream, into: &(Mutex<Heard>, Condvar)) {
    let mut reader = BufReader::new(stream);
    loop {
        let bytes = reader.fill_buf().unwrap_or_default().to_vec();
        reader.consume(bytes.len());
        let mut heard = into.0.lock().expect("waiters do not panic");
        heard.has_ended = bytes.is_empty();
        for byte in bytes {
            heard.take(byte);
        }
        into.1.notify_all();
        if heard.has_ended {
            return;
        }
    }
}

impl Heard {
    fn take(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                let line = std::mem::take(&mut self.partial);
                self.lines.push(line);
            }
            // Escape sequences of firmware and loaders stay as text without their first byte.
            0x20..=0x7e => self.partial.push(char::from(byte)),
            _ => {}
        }
        // A guest that never ends its line must not eat the test's memory.
        if self.partial.len() > 4096 {
            self.partial.clear();
        }
    }
}

fn tail(heard: &Heard) -> String {
    let from = heard.lines.len().saturating_sub(SHOWN_LINES);
    let lines = heard.lines[from..].iter().map(String::as_str);
    lines.chain([heard.partial.as_str()]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn pair() -> (Console, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Console::over(ours).unwrap(), theirs)
    }

    #[test]
    fn a_second_wait_looks_behind_the_first_ones_line() {
        let (mut console, mut guest) = pair();
        guest.write_all(b"boot 1\r\nnoise\r\nboot 2\r\n").unwrap();
        assert_eq!(console.wait_for("boot", SOON).unwrap(), "boot 1");
        assert_eq!(console.wait_for("boot", SOON).unwrap(), "boot 2");
        assert!(console.has_said("noise"));
    }

    #[test]
    fn a_prompt_without_a_line_end_is_seen() {
        let (mut console, mut guest) = pair();
        guest.write_all(b"host login: ").unwrap();
        console.wait_for_prompt("login:", SOON).unwrap();
    }

    #[test]
    fn a_wait_that_fails_shows_what_was_said_instead() {
        let (mut console, mut guest) = pair();
        guest.write_all(b"Kernel panic\n").unwrap();
        drop(guest);
        let error = console.wait_for("login:", SOON).unwrap_err().to_string();
        assert!(error.contains("Kernel panic") && error.contains("the console ended"), "{error}");
    }
}
