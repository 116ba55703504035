//! Versions that do not come on, and versions that are here in part for too long: told once each.

use super::Replication;
use super::routes::reason;
use crate::serve::farm::FarmHandle;
use farm::{EventKind, FarmView, NewEvent};
use mesh::{Backlog, Reason};
use model::Root;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// A version of which nothing came for so long does not come on: longer than a peer's restart, by
/// eye.
const STALLED_AFTER: Duration = Duration::from_secs(600);
/// A version is to be whole within a day: what is lacked then is lacked over a weekend, too.
const LATE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Stalled,
    Resumed,
    Late,
}

/// What is known of the versions that are not all here.
#[derive(Debug, Default)]
struct Watch(BTreeMap<Root, Lacking>);

#[derive(Debug)]
struct Lacking {
    since: Instant,
    /// When it came on last, or was held on purpose.
    moved: Instant,
    missing: Option<u32>,
    stalled: bool,
    late: bool,
}

/// Looks as long as the server runs.
pub(super) async fn run(replication: &Arc<Replication>, farm: &Arc<FarmHandle>) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let pulling = Arc::clone(replication);
        let looked = tokio::task::spawn_blocking(move || pulling.puller.backlog());
        let backlog = looked.await.expect("looking does not panic");
        for (root, news) in watch.look(Instant::now(), &backlog) {
            let row = backlog.iter().find(|row| row.root == root);
            farm.event(event(&farm.view(), root, row, news));
        }
    }
}

impl Watch {
    fn look(&mut self, now: Instant, backlog: &[Backlog]) -> Vec<(Root, News)> {
        let mut news = Vec::new();
        self.0.retain(|root, lacking| {
            let lacks = backlog.iter().any(|row| row.root == *root);
            if !lacks && lacking.stalled {
                news.push((*root, News::Resumed));
            }
            lacks
        });
        for row in backlog {
            let new = || Lacking {
                since: now,
                moved: now,
                missing: row.missing_chunks,
                stalled: false,
                late: false,
            };
            let lacking = self.0.entry(row.root).or_insert_with(new);
            news.extend(lacking.look(now, row).into_iter().map(|news| (row.root, news)));
        }
        news
    }
}

impl Lacking {
    fn look(&mut self, now: Instant, row: &Backlog) -> Vec<News> {
        let mut news = Vec::new();
        let held = matches!(row.reason, Some(Reason::Paused | Reason::ScheduleClosed));
        if self.missing != row.missing_chunks || held {
            (self.moved, self.missing) = (now, row.missing_chunks);
            if std::mem::take(&mut self.stalled) {
                news.push(News::Resumed);
            }
        }
        if now.duration_since(self.moved) >= STALLED_AFTER && !std::mem::replace(&mut self.stalled, true) {
            news.push(News::Stalled);
        }
        if now.duration_since(self.since) >= LATE_AFTER && !std::mem::replace(&mut self.late, true) {
            news.push(News::Late);
        }
        // What was told is told again only after it came on.
        news
    }
}

fn event(view: &FarmView, root: Root, row: Option<&Backlog>, news: News) -> NewEvent {
    let version = view.versions.values().find(|version| version.root == root);
    let what = version.map_or_else(
        || format!("content {}", root.short()),
        |version| format!("version {} of vDisk {}", version.number, version.vdisk),
    );
    let missing = row
        .and_then(|row| row.missing_bytes)
        .map_or("all of it is".to_owned(), |bytes| format!("{} MiB are", bytes.div_ceil(1 << 20)));
    let why = row.map_or("", |row| reason(row.reason).text());
    let (kind, message) = match news {
        News::Stalled => {
            let minutes = STALLED_AFTER.as_secs() / 60;
            let message =
                format!("{what} has not come on for {minutes} minutes, {missing} missing here: {why}");
            (EventKind::ReplicationStalled, message)
        }
        News::Resumed => (EventKind::ReplicationResumed, format!("{what} comes on again")),
        News::Late => {
            let hours = LATE_AFTER.as_secs() / 3600;
            let message = format!("{what} is here in part for {hours} hours, {missing} missing: {why}");
            (EventKind::ReplicationLate, message)
        }
    };
    NewEvent::new(kind, what, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(missing: u32, reason: Reason) -> Backlog {
        Backlog {
            root: Root::from_bytes([1; 32]),
            missing_chunks: Some(missing),
            missing_bytes: Some(u64::from(missing) << 16),
            bytes_per_s: 0,
            reason: Some(reason),
            sources: Vec::new(),
        }
    }

    #[test]
    fn what_stands_still_is_told_once_until_it_comes_on() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        let mut look = |minutes: u64, rows: &[Backlog]| -> Vec<News> {
            let news = watch.look(begun + Duration::from_secs(minutes * 60), rows);
            news.into_iter().map(|(_, news)| news).collect()
        };
        assert_eq!(look(0, &[row(9, Reason::NoSource)]), []);
        assert_eq!(look(9, &[row(9, Reason::NoSource)]), []);
        assert_eq!(look(10, &[row(9, Reason::NoSource)]), [News::Stalled]);
        assert_eq!(look(30, &[row(9, Reason::NoSource)]), []);
        assert_eq!(look(31, &[row(8, Reason::Working)]), [News::Resumed]);
        assert_eq!(look(40, &[row(8, Reason::ScheduleClosed)]), []);
        assert_eq!(look(49, &[row(8, Reason::Working)]), [], "it was held on purpose");
        assert_eq!(look(50, &[row(8, Reason::Working)]), [News::Stalled]);
        assert_eq!(look(51, &[]), [News::Resumed]);
    }

    #[test]
    fn what_is_here_in_part_for_a_day_is_told() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        assert!(watch.look(begun, &[row(9, Reason::Working)]).is_empty());
        let news = watch.look(begun + LATE_AFTER, &[row(1, Reason::Working)]);
        assert_eq!(news, [(Root::from_bytes([1; 32]), News::Late)]);
        assert!(watch.look(begun + LATE_AFTER * 2, &[row(0, Reason::Working)]).is_empty());
        let told = event(&FarmView::default(), news[0].0, Some(&row(20, Reason::NoSource)), News::Late);
        assert!(told.message.contains("in part for 24 hours, 2 MiB are missing"), "{}", told.message);
    }
}
