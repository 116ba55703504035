//! `headwater audit`

use crate::cli::Context;
use crate::cli::output::{or_dash, time_of};
use crate::cli::since::Since;
use api::{AuditQuery, AuditView, paths};
use clap::{Args, ValueEnum};
use reqwest::Method;

/// The most records that the server answers at once.
const PAGE: u32 = 1000;

/// Who asked for which change, and how it ended.
#[derive(Args)]
pub(crate) struct Audit {
    /// Not older than: 30m, 2h, 7d, 2026-11-22, 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Who asked: admin, server:NAME, device:MAC
    #[arg(long)]
    actor: Option<String>,
    /// What it is about: a name, and all below it (win11 finds win11/3)
    #[arg(long)]
    object: Option<String>,
    /// What for: version.promote, or a noun for all of its actions (version)
    #[arg(long)]
    action: Option<String>,
    /// How it ended
    #[arg(long, value_enum)]
    result: Option<Ended>,
    /// The most records, the newest ones
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// How a request ended.
#[derive(Clone, Copy, ValueEnum)]
enum Ended {
    /// Done
    Ok,
    /// A job that has not ended
    Started,
    /// The rules said no
    Refused,
    /// It was tried and did not succeed
    Failed,
}

impl Audit {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut records = self.pages(context).await?;
        records.reverse();
        let heads = ["time", "who", "from", "action", "object", "result", "message"];
        context.output.list(&records, &heads, |record| {
            vec![
                time_of(record.at_ms),
                record.actor.clone(),
                or_dash(record.from.as_ref()),
                record.action.clone(),
                record.object.clone(),
                record.result.clone(),
                record.message.clone(),
            ]
        })
    }

    /// The newest records, newest first.
    async fn pages(self, context: &Context) -> anyhow::Result<Vec<AuditView>> {
        let mut query = AuditQuery {
            since_ms: self.since.map(|since| since.0),
            actor: self.actor,
            object: self.object,
            action: self.action,
            result: self.result.and_then(|ended| Some(ended.to_possible_value()?.get_name().to_owned())),
            ..AuditQuery::default()
        };
        let mut records: Vec<AuditView> = Vec::new();
        let mut left = self.limit;
        while left > 0 {
            query.limit = Some(left.min(PAGE));
            let request = context.client.request(Method::GET, paths::AUDIT).query(&query);
            let page: Vec<AuditView> = context.client.json(request).await?;
            let Some(last) = page.last() else { break };
            query.before = Some(last.id.clone());
            left -= u32::try_from(page.len()).unwrap_or(left).min(left);
            records.extend(page);
        }
        Ok(records)
    }
}
