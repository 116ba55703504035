//! What of a farm's standing is wrong, and what to do about it. Pure.

use api::{
    DatabaseView, FarmStatusView, FindingSeverity, FindingView, ServerReport, ServerStandingView, ServerState,
};

/// A database that takes longer for a small read holds up every change. By eye: etcd on a disk and a
/// network that suit it takes a few milliseconds.
const SLOW_US: u64 = 100_000;
/// Clocks further apart put events and audit of two servers in a wrong order. By eye.
const CLOCK_MS: u64 = 2_000;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// A server renews its certificate when 120 days are left: with less it has tried in vain for long.
const RENEWAL_LATE_MS: u64 = 90 * DAY_MS;
/// Then it is time to act.
const RENEWAL_URGENT_MS: u64 = 14 * DAY_MS;

/// Everything worth saying, the worst first.
pub(super) fn findings(status: &FarmStatusView) -> Vec<FindingView> {
    let mut found = Vec::new();
    restored(status, &mut found);
    database(&status.database, status.servers.len(), &mut found);
    for server in &status.servers {
        of_server(server, status.at_ms, &mut found);
    }
    versions(status, &mut found);
    found.sort_by_key(|finding| finding.severity);
    found
}

/// One line of the list.
struct About<'a> {
    server: Option<&'a ServerStandingView>,
    found: &'a mut Vec<FindingView>,
}

impl About<'_> {
    fn say(&mut self, severity: FindingSeverity, message: String, hint: impl Into<String>) {
        let server = self.server.map(|server| server.name.clone());
        self.found.push(FindingView { severity, server, message, hint: hint.into() });
    }
}

fn restored(status: &FarmStatusView, found: &mut Vec<FindingView>) {
    let Some(restored) = &status.restored else { return };
    let made = restored.made_ms.map(|made| format!(" of {}", crate::cli::output::time_of(made)));
    let message = format!(
        "the records were restored to an older state{}: what no record names is not deleted from stores",
        made.unwrap_or_default()
    );
    let hint = "see whether anything is missing (docs/operations/farms.md), then `headwater farm accept`";
    About { server: None, found }.say(FindingSeverity::Warning, message, hint);
}

fn database(database: &DatabaseView, servers: usize, found: &mut Vec<FindingView>) {
    use FindingSeverity::{Error, Note, Warning};
    let mut about = About { server: None, found };
    if !database.reachable {
        let message = match &database.remembered {
            Some(known) => format!(
                "the farm database cannot be reached; what is shown was known at {}",
                crate::cli::output::time_of(known.since_ms)
            ),
            None => "the farm database cannot be reached".to_owned(),
        };
        let hint = "sessions and boots go on, changes are refused; look at the etcd members: `etcdctl endpoint health`";
        about.say(Error, message, hint);
    }
    let members = database.members.len();
    let healthy = database.members.iter().filter(|member| member.healthy).count();
    // What is left must be a majority, and one more so that another may fail.
    let severity = if healthy * 2 > members { Warning } else { Error };
    for member in database.members.iter().filter(|member| !member.healthy) {
        let message =
            format!("etcd member {} is not healthy: {}", member.endpoint, member.troubles.join("; "));
        let hint = match severity {
            Warning => "start it, or replace it: until then the farm survives one failure less",
            _ => "start it: without a majority of members nothing can be changed",
        };
        about.say(severity, message, hint);
    }
    if members == 1 && servers > 1 {
        let message = "the farm database has one etcd member: while it is away, nothing can be changed";
        about.say(
            Note,
            message.to_owned(),
            "three members survive the loss of one: docs/operations/farms.md",
        );
    }
    if let Some(latency) = database.latency_us.filter(|latency| *latency > SLOW_US) {
        let message = format!("the farm database takes {} ms for a small read", latency / 1000);
        about.say(Warning, message, "give etcd a fast disk and a network of few milliseconds");
    }
}

fn of_server(server: &ServerStandingView, now_ms: u64, found: &mut Vec<FindingView>) {
    use FindingSeverity::{Error, Warning};
    let mut about = About { server: Some(server), found };
    let name = &server.name;
    match server.state {
        ServerState::Up => (),
        ServerState::Silent => about.say(
            Error,
            format!("server {name} is connected, but does not say how it is"),
            "look into its log; a newer or older program may not know the question",
        ),
        ServerState::Down if server.lease == Some(true) => about.say(
            Error,
            format!("server {name} is not connected, but renews its lease in the database"),
            "look at the network between the servers, and whether mesh.listen of both can be reached",
        ),
        ServerState::Down => about.say(
            Error,
            format!("server {name} is not connected"),
            format!("start it, and look at the network between the servers; if it is gone for good: `headwater server remove {name}`"),
        ),
        ServerState::Removed => about.say(
            Warning,
            format!("server {name} was removed, but records still count on its copies"),
            format!("finish it: `headwater server remove {name}`"),
        ),
    }
    clock(server, &mut about);
    if let Some(report) = &server.report {
        of_report(report, now_ms, &mut about);
    }
}

fn clock(server: &ServerStandingView, about: &mut About<'_>) {
    let (Some(clock), Some(error)) = (server.clock_ms, server.clock_error_ms) else { return };
    if clock.unsigned_abs() > CLOCK_MS + error {
        let (seconds, way) = (clock.unsigned_abs() / 1000, if clock < 0 { "behind" } else { "ahead" });
        let message = format!("the clock of {} is {seconds} s {way}", server.name);
        about.say(FindingSeverity::Warning, message, "let NTP set the clocks of all servers");
    }
}

fn of_report(report: &ServerReport, now_ms: u64, about: &mut About<'_>) {
    use FindingSeverity::{Error, Note, Warning};
    let name = about.server.map(|server| server.name.to_string()).unwrap_or_default();
    let left = report.certificate_ends_ms.map(|ends| ends.saturating_sub(now_ms));
    if let Some(left) = left.filter(|left| *left < RENEWAL_LATE_MS) {
        let severity = if left < RENEWAL_URGENT_MS { Error } else { Warning };
        let message = format!("the certificate of {name} ends in {} days and is not renewed", left / DAY_MS);
        about.say(
            severity,
            message,
            "it renews by itself while the database is there: its log says why it could not",
        );
    }
    for store in &report.stores {
        let free = crate::cli::output::bytes(store.free_bytes);
        match store.space.as_str() {
            "reserve" => about.say(
                Error,
                format!("store {} of {name} is full: {free} are free", store.name),
                "nothing comes to it any more; free space: docs/operations/stores.md",
            ),
            "low" => about.say(
                Warning,
                format!("store {} of {name} has little space: {free} are free", store.name),
                "retire and prune versions, or give it a larger disk: docs/operations/stores.md",
            ),
            _ => (),
        }
        if store.quarantined_chunks > 0 {
            let message =
                format!("store {} of {name} has {} damaged chunks", store.name, store.quarantined_chunks);
            about.say(
                Warning,
                message,
                "they come from the other servers; look at its disk: docs/operations/stores.md",
            );
        }
    }
    if report.lacking_versions > 0 {
        let missing = crate::cli::output::bytes(report.missing_bytes);
        let message = format!("{} versions are still to come to {name}: {missing}", report.lacking_versions);
        about.say(Note, message, "`headwater replication backlog` on it says why");
    }
}

fn versions(status: &FarmStatusView, found: &mut Vec<FindingView>) {
    let mut all: Vec<&str> =
        status.servers.iter().filter_map(|server| Some(&*server.report.as_ref()?.version)).collect();
    all.sort_unstable();
    all.dedup();
    if all.len() > 1 {
        let message = format!("the servers run different programs: {}", all.join(", "));
        About { server: None, found }.say(FindingSeverity::Note, message, "bring all to the newest one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{DatabaseMemberView, StoreFillView};
    use model::Name;

    const NOW: u64 = 1_763_900_000_000;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn report() -> ServerReport {
        ServerReport {
            version: "1.0".to_owned(),
            now_ms: NOW,
            up_since_ms: NOW - 1000,
            certificate_ends_ms: Some(NOW + 300 * DAY_MS),
            stores: vec![StoreFillView {
                name: name("default"),
                total_bytes: 100,
                free_bytes: 50,
                space: "ample".to_owned(),
                quarantined_chunks: 0,
            }],
            complete_versions: 3,
            lacking_versions: 0,
            missing_bytes: 0,
            bytes_per_s: 0,
            sessions: 0,
        }
    }

    fn server(text: &str) -> ServerStandingView {
        ServerStandingView {
            name: name(text),
            this: false,
            state: ServerState::Up,
            since_ms: None,
            address: None,
            incarnation: None,
            lease: Some(true),
            clock_ms: Some(3),
            clock_error_ms: Some(5),
            report: Some(report()),
        }
    }

    fn member(healthy: bool) -> DatabaseMemberView {
        DatabaseMemberView {
            endpoint: "http://e:2379".to_owned(),
            healthy,
            name: None,
            version: None,
            leads: false,
            size_bytes: None,
            latency_us: 900,
            troubles: vec![],
        }
    }

    fn farm(members: &[bool]) -> FarmStatusView {
        let members = members.iter().map(|healthy| member(*healthy)).collect();
        let database = DatabaseView {
            engine: "etcd".to_owned(),
            reachable: true,
            revision: Some(1),
            latency_us: Some(900),
            remembered: None,
            members,
        };
        let servers = vec![server("pvs01"), server("pvs02")];
        FarmStatusView {
            farm: None,
            answered_by: name("pvs01"),
            at_ms: NOW,
            restored: None,
            database,
            servers,
            findings: vec![],
        }
    }

    fn severities(status: &FarmStatusView) -> Vec<FindingSeverity> {
        findings(status).into_iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn a_farm_in_order_has_no_findings() {
        assert_eq!(findings(&farm(&[true, true, true])), vec![]);
    }

    #[test]
    fn a_lost_member_is_a_warning_and_a_lost_majority_an_error() {
        use FindingSeverity::{Error, Note, Warning};
        assert_eq!(severities(&farm(&[true, true, false])), [Warning]);
        assert_eq!(severities(&farm(&[true, false, false])), [Error, Error]);
        assert_eq!(severities(&farm(&[true])), [Note], "one member is allowed, and told of");
    }

    #[test]
    fn a_server_that_is_away_or_removed_is_told_of_with_what_to_do() {
        let mut farm = farm(&[true, true, true]);
        farm.servers[1].state = ServerState::Down;
        farm.servers[1].report = None;
        assert!(findings(&farm)[0].message.contains("renews its lease"));
        farm.servers[1].lease = Some(false);
        let found = findings(&farm);
        assert_eq!((found.len(), found[0].severity), (1, FindingSeverity::Error));
        assert!(found[0].hint.contains("server remove pvs02"), "{}", found[0].hint);
        farm.servers[1].state = ServerState::Removed;
        assert_eq!(severities(&farm), [FindingSeverity::Warning]);
    }

    #[test]
    fn a_clock_is_only_blamed_for_more_than_the_question_took() {
        let mut farm = farm(&[true, true, true]);
        (farm.servers[1].clock_ms, farm.servers[1].clock_error_ms) = (Some(-4000), Some(3000));
        assert_eq!(severities(&farm), []);
        farm.servers[1].clock_error_ms = Some(10);
        let found = findings(&farm);
        assert!(found[0].message.contains("4 s behind"), "{}", found[0].message);
    }

    #[test]
    fn full_stores_old_certificates_and_what_is_missing_are_found() {
        use FindingSeverity::{Error, Note, Warning};
        let mut farm = farm(&[true, true, true]);
        let report = farm.servers[0].report.as_mut().unwrap();
        report.stores[0].space = "reserve".to_owned();
        report.stores[0].quarantined_chunks = 2;
        report.certificate_ends_ms = Some(NOW + 30 * DAY_MS);
        report.lacking_versions = 1;
        assert_eq!(severities(&farm), [Error, Warning, Warning, Note]);
        farm.servers[0].report.as_mut().unwrap().certificate_ends_ms = Some(NOW - 1);
        assert_eq!(severities(&farm), [Error, Error, Warning, Note]);
    }

    #[test]
    fn programs_that_differ_are_noted() {
        let mut farm = farm(&[true, true, true]);
        farm.servers[0].report.as_mut().unwrap().version = "2.0".to_owned();
        assert!(findings(&farm)[0].message.contains("1.0, 2.0"));
    }
}
