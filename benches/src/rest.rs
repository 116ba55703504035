//! REST calls to a local server, timed one by one over a kept connection as a script makes them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The largest answer that is read, in bytes.
const LARGEST: usize = 16 << 20;

/// A connection to a server's API.
#[derive(Debug)]
pub struct Rest {
    connection: BufReader<TcpStream>,
    token: String,
}

impl Rest {
    /// Connects to the server of a state directory, with the admin's token that lies there.
    pub fn of(state: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = state.join(name);
            fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let url = read("api.url")?;
        let socket = TcpStream::connect(url.trim().trim_start_matches("http://"))?;
        socket.set_nodelay(true)?;
        Ok(Self { connection: BufReader::new(socket), token: read("admin.token")?.trim().to_owned() })
    }

    /// Makes one call that must succeed; its answer and how long it took.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<(Value, Duration)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let begun = Instant::now();
        let (status, answer) = self.exchange(method, path, &body)?;
        let took = begun.elapsed();
        if !(200..300).contains(&status) {
            bail!("{method} {path} {body} was answered with {status}: {answer}");
        }
        Ok((if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer)? }, took))
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let (token, len) = (&self.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        self.connection.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
        let mut length = 0;
        loop {
            let header = self.line()?.to_ascii_lowercase();
            match header.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("transfer-encoding", _)) => bail!("the answer has no length"),
                Some(_) => {}
            }
        }
        ensure!(length <= LARGEST, "an answer of {length} bytes");
        let mut answer = vec![0; length];
        self.connection.read_exact(&mut answer)?;
        Ok((status, String::from_utf8(answer)?))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.connection.read_line(&mut line)? > 0, "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }
}
