//! `headwater events [--follow]`

use crate::cli::Context;
use crate::cli::output::{Output, print, time_of};
use crate::cli::since::Since;
use crate::client::{Client, ClientError};
use anyhow::Result;
use api::{EventView, EventsQuery, paths};
use clap::{Args, ValueEnum};
use futures::StreamExt;
use reqwest::Method;
use std::time::Duration;

/// How long to wait before a lost server is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest line of a stream in bytes: an event is far shorter.
const MAX_LINE: usize = 64 * 1024;

/// What happened in the farm.
#[derive(Args)]
pub(crate) struct Events {
    /// Goes on with what happens, until Ctrl-C; a server that restarts is waited for
    #[arg(long, short)]
    follow: bool,
    /// Only of this kind; may be given several times
    #[arg(long)]
    kind: Vec<String>,
    /// Only this bad or worse
    #[arg(long, value_enum)]
    severity: Option<AtLeast>,
    /// Only about this vDisk, device, MAC address, ...
    #[arg(long)]
    subject: Option<String>,
    /// Not older than: 30m, 2h, 7d, 2026-11-22, 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// The most events, the newest ones
    #[arg(long, conflicts_with = "follow")]
    limit: Option<u32>,
}

/// How bad an event is.
#[derive(Clone, Copy, ValueEnum)]
enum AtLeast {
    /// Something changed as it should
    Info,
    /// Somebody should look at it
    Warning,
    /// Something does not work
    Error,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let query = EventsQuery {
            kind: (!self.kind.is_empty()).then(|| self.kind.join(",")),
            severity: self.severity.and_then(|least| Some(least.to_possible_value()?.get_name().to_owned())),
            subject: self.subject,
            since_ms: self.since.map(|since| since.0),
            limit: self.limit,
        };
        if self.follow {
            return follow(context, &query).await;
        }
        let request = context.client.request(Method::GET, paths::EVENTS).query(&query);
        let events: Vec<EventView> = context.client.json(request).await?;
        context.output.list(&events, &["time", "severity", "kind", "message"], |event| {
            vec![time_of(event.at_ms), event.severity.clone(), event.kind.clone(), event.message.clone()]
        })
    }
}

/// Prints each event as it arrives: a line for people, a line of JSON for programs. A server that
/// was there once is asked again where it left off; one that says no is an error.
async fn follow(context: &Context, query: &EventsQuery) -> Result<()> {
    let (mut last, mut client) = (None, None::<Client>);
    loop {
        let asked = client.as_ref().unwrap_or(&context.client);
        match follow_once(asked, context.output, query, &mut last).await {
            Ok(()) => {}
            Err(Lost::Server(ClientError::NotReachable(_))) if last.is_some() => {}
            Err(Lost::Server(error)) => return Err(error.into()),
            Err(Lost::Output(error)) => return Err(error),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        // The server may be on another port by now.
        client = Some(context.client.found_again()?);
    }
}

/// Why a stream is not followed any more.
enum Lost {
    Server(ClientError),
    Output(anyhow::Error),
}

async fn follow_once(
    client: &Client,
    output: Output,
    query: &EventsQuery,
    last: &mut Option<String>,
) -> Result<(), Lost> {
    let mut request = client.request(Method::GET, paths::EVENTS_STREAM).query(query);
    if let Some(last) = &last {
        request = request.header("last-event-id", last);
    }
    let mut stream = client.send(request).await.map_err(Lost::Server)?.bytes_stream();
    let mut pending = Vec::new();
    // A stream that breaks is taken up again like one that ends.
    while let Some(Ok(piece)) = stream.next().await {
        pending.extend_from_slice(&piece);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            let event: EventView =
                serde_json::from_slice(data).map_err(|error| Lost::Output(error.into()))?;
            show(output, &event).map_err(Lost::Output)?;
            *last = Some(event.id);
        }
        if pending.len() > MAX_LINE {
            return Err(Lost::Output(anyhow::anyhow!(
                "the server sends no events\nhint: is it a headwater server?"
            )));
        }
    }
    Ok(())
}

fn show(output: Output, event: &EventView) -> Result<()> {
    match output {
        Output::Json => print(&serde_json::to_string(event)?),
        Output::Table => {
            print(&format!("{} {:7} {}: {}", time_of(event.at_ms), event.severity, event.kind, event.message))
        }
    }
}
