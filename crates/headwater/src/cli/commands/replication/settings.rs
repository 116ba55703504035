//! `headwater replication settings|limit|zone|window|pause|resume|now`

use crate::byte_rate::ByteRate;
use crate::cli::Context;
use crate::cli::output::{Output, bytes, names, or_dash, print, time_of};
use anyhow::Context as _;
use api::{
    PatchReplication, ReplicationLimit, ReplicationSettingsView, ReplicationWindow, Steer, SteerReplication,
    TrafficClass, paths,
};
use clap::{Args, Subcommand, ValueEnum};
use model::Name;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What can be limited.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Class {
    /// What devices will probably read when they boot
    BootProfile,
    /// Drafts' checkpoints
    Checkpoint,
    /// All the rest
    Bulk,
}

/// The windows of the week in which less is allowed.
#[derive(Subcommand)]
pub(crate) enum Windows {
    /// Lists the windows
    List,
    /// Adds a window
    Add(NewWindow),
    /// Removes a window
    Remove {
        /// Its number in the list
        number: usize,
    },
}

#[derive(Args)]
pub(crate) struct NewWindow {
    /// Days on which it begins, such as mon-fri or sat,sun
    #[arg(long, value_parser = days)]
    days: Days,
    /// When it begins, such as 08:00; steps of 15 minutes
    #[arg(long, value_name = "TIME")]
    from: String,
    /// When it ends, such as 18:00; earlier than it begins: on the next day
    #[arg(long, value_name = "TIME")]
    to: String,
    /// Nothing comes but what devices wait for
    #[arg(long, required_unless_present = "limit", conflicts_with = "limit")]
    closed: bool,
    /// At most so much comes, such as 20Mbit/s
    #[arg(long, value_name = "RATE")]
    limit: Option<ByteRate>,
}

/// Days of a week, 1 is Monday.
#[derive(Clone)]
struct Days(Vec<u8>);

pub(super) async fn show(context: &Context) -> anyhow::Result<()> {
    let settings = context.client.get(paths::REPLICATION_SETTINGS).await?;
    print_settings(context, &settings)
}

pub(super) async fn limit(context: &Context, class: Class, rate: ByteRate) -> anyhow::Result<()> {
    let class = match class {
        Class::BootProfile => TrafficClass::BootProfile,
        Class::Checkpoint => TrafficClass::Checkpoint,
        Class::Bulk => TrafficClass::Bulk,
    };
    let limit = Some(ReplicationLimit { class, bytes_per_s: rate.0 });
    change(context, PatchReplication { limit, ..PatchReplication::default() }).await
}

pub(super) async fn zone(context: &Context, zone: String) -> anyhow::Result<()> {
    change(context, PatchReplication { zone: Some(zone), ..PatchReplication::default() }).await
}

pub(super) async fn windows(context: &Context, windows: Windows) -> anyhow::Result<()> {
    let patch = match windows {
        Windows::List => return list(context).await,
        Windows::Add(new) => {
            let bytes_per_s = new.limit.and_then(|rate| rate.0);
            anyhow::ensure!(
                new.closed || bytes_per_s.is_some(),
                "a window without a limit changes nothing\nhint: give a rate, or --closed"
            );
            let window = ReplicationWindow { days: new.days.0, from: new.from, to: new.to, bytes_per_s };
            PatchReplication { add_window: Some(window), ..PatchReplication::default() }
        }
        Windows::Remove { number } => {
            let mut settings: ReplicationSettingsView =
                context.client.get(paths::REPLICATION_SETTINGS).await?;
            let at = number.checked_sub(1).filter(|at| *at < settings.windows.len());
            let none = "there is no such window\nhint: `headwater replication window list` numbers them";
            let window = settings.windows.swap_remove(at.context(none)?);
            PatchReplication { remove_window: Some(window), ..PatchReplication::default() }
        }
    };
    change(context, patch).await
}

/// Pauses or resumes all, or does with a vDisk what is said.
pub(super) async fn steer(context: &Context, vdisk: Option<Name>, steer: Steer) -> anyhow::Result<()> {
    let Some(vdisk) = vdisk else {
        let paused = Some(steer == Steer::Pause);
        return change(context, PatchReplication { paused, ..PatchReplication::default() }).await;
    };
    let path = paths::fill(paths::VDISK_REPLICATION, vdisk);
    print_settings(context, &context.client.post(&path, &SteerReplication { steer }).await?)
}

async fn change(context: &Context, patch: PatchReplication) -> anyhow::Result<()> {
    print_settings(context, &context.client.patch(paths::REPLICATION_SETTINGS, &patch).await?)
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let settings: ReplicationSettingsView = context.client.get(paths::REPLICATION_SETTINGS).await?;
    let numbered: Vec<_> = settings.windows.iter().enumerate().collect();
    let row = |(at, window): &(usize, &ReplicationWindow)| {
        let day = |day: &u8| DAYS.get(usize::from(*day).wrapping_sub(1)).copied().unwrap_or("?");
        vec![
            (at + 1).to_string(),
            window.days.iter().map(day).collect::<Vec<_>>().join(","),
            window.from.clone(),
            window.to.clone(),
            window.bytes_per_s.map_or("closed".to_owned(), rate),
        ]
    };
    match context.output {
        Output::Json => context.output.list(&settings.windows, &[], |_| Vec::new()),
        Output::Table => context.output.list(&numbered, &["number", "days", "from", "to", "allowed"], row),
    }
}

fn print_settings(context: &Context, settings: &ReplicationSettingsView) -> anyhow::Result<()> {
    context.output.one(settings, |settings| {
        let limit = |class| settings.limits.get(&class).map_or("unlimited".to_owned(), |bytes| rate(*bytes));
        let now: Vec<String> = settings.now.iter().map(|(name, to)| format!("{name} up to {to}")).collect();
        vec![
            ("paused", if settings.paused { "everything" } else { "no" }.to_owned()),
            ("paused vdisks", names(&settings.paused_vdisks)),
            ("asked for now", now.join(", ")),
            ("boot-profile", limit(TrafficClass::BootProfile)),
            ("checkpoint", limit(TrafficClass::Checkpoint)),
            ("bulk", limit(TrafficClass::Bulk)),
            ("zone", settings.zone.clone()),
            ("next change", or_dash(settings.changes_at_ms.map(time_of))),
        ]
    })?;
    if context.output == Output::Json { Ok(()) } else { print(&grid(&settings.week)) }
}

/// The week, an hour a character.
fn grid(week: &[String]) -> String {
    let mut lines = vec!["\n     0     6     12    18".to_owned()];
    lines.extend(DAYS.iter().zip(week).map(|(day, hours)| format!("{day}  {hours}")));
    lines.push("     . everything   l limited   # nothing".to_owned());
    lines.join("\n")
}

fn rate(bytes_per_s: u64) -> String {
    format!("{}/s", bytes(bytes_per_s))
}

/// `mon-fri`, `sat,sun`, `fri-mon`.
fn days(text: &str) -> Result<Days, String> {
    let wrong = || format!("{text:?} are no days: write mon-fri or sat,sun");
    let day = |name: &str| DAYS.iter().position(|day| *day == name).ok_or_else(wrong);
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        days.extend((0..=count).map(|on| ((first + on) % 7) as u8 + 1));
    }
    days.sort_unstable();
    days.dedup();
    Ok(Days(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_lists_and_ranges_that_may_go_over_the_end_of_the_week() {
        assert_eq!(days("mon-fri").unwrap().0, [1, 2, 3, 4, 5]);
        assert_eq!(days("sat,sun").unwrap().0, [6, 7]);
        assert_eq!(days("fri-mon").unwrap().0, [1, 5, 6, 7]);
        assert!(days("monday").is_err() && days("").is_err() && days("mon-").is_err());
    }

    #[test]
    fn the_week_is_a_grid() {
        let grid = grid(&vec![".".repeat(24); 7]);
        assert!(grid.contains("\nsun  ........................\n"), "{grid}");
    }
}
