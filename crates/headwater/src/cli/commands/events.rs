//! `headwater events [--follow]`

use crate::cli::Context;
use crate::cli::output::{Output, print, time_of};
use api::{EventView, paths};
use clap::Args;
use futures::StreamExt;
use reqwest::Method;

/// What happened in the farm.
#[derive(Args)]
pub(crate) struct Events {
    /// Goes on with what happens, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        if self.follow {
            return follow(context).await;
        }
        let events: Vec<EventView> = context.client.get(paths::EVENTS).await?;
        context.output.list(&events, &["time", "severity", "kind", "message"], |event| {
            vec![time_of(event.at_ms), event.severity.clone(), event.kind.clone(), event.message.clone()]
        })
    }
}

/// Prints each event as it arrives: a line for people, a line of JSON for programs.
async fn follow(context: &Context) -> anyhow::Result<()> {
    let request = context.client.request(Method::GET, paths::EVENTS).query(&[("follow", "true")]);
    let mut stream = context.client.send(request).await?.bytes_stream();
    let mut pending = Vec::new();
    while let Some(piece) = stream.next().await {
        pending.extend_from_slice(&piece?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data: ") {
                show(context.output, &serde_json::from_slice(data)?)?;
            }
        }
    }
    Ok(())
}

fn show(output: Output, event: &EventView) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&serde_json::to_string(event)?),
        Output::Table => {
            print(&format!("{} {:7} {}: {}", time_of(event.at_ms), event.severity, event.kind, event.message))
        }
    }
}
