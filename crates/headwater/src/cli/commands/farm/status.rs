//! `headwater farm status`

use crate::cli::Context;
use crate::cli::output::{Output, bytes, or_dash, print, print_json, table, time_of};
use anyhow::{Result, ensure};
use api::{
    DatabaseMemberView, DatabaseView, FarmStatusView, FindingSeverity, FindingView, ServerReport,
    ServerStandingView, StoreFillView, paths,
};

/// Shows the farm; with `check` it fails where something is wrong.
pub(super) async fn run(context: &Context, check: bool) -> Result<()> {
    let status: FarmStatusView = context.client.get(paths::FARM_STATUS).await?;
    match context.output {
        Output::Json => print_json(&status)?,
        Output::Table => print(&text(&status))?,
    }
    let wrong = status.findings.iter().filter(|finding| finding.severity != FindingSeverity::Note).count();
    ensure!(
        !check || wrong == 0,
        "something is wrong with the farm ({wrong} errors and warnings)\nhint: `headwater farm status` lists them, and what to do"
    );
    Ok(())
}

fn text(status: &FarmStatusView) -> String {
    let mut parts = vec![database(&status.database)];
    if !status.database.members.is_empty() {
        let heads = ["member", "name", "version", "", "answers in", "size", ""];
        parts.push(table(&status.database.members, &heads, member));
    }
    let heads = [
        "server",
        "state",
        "since",
        "address",
        "version",
        "starts",
        "lease",
        "certificate until",
        "space free",
        "versions",
        "missing",
        "clock",
    ];
    parts.push(table(&status.servers, &heads, server));
    if !status.findings.is_empty() {
        parts.push(status.findings.iter().map(finding).collect::<Vec<_>>().join("\n"));
    }
    parts.join("\n\n")
}

fn database(database: &DatabaseView) -> String {
    let answer = match (database.latency_us, &database.remembered) {
        (Some(latency), _) => format!("answers in {}", ms(latency)),
        (None, Some(known)) => format!(
            "cannot be reached; what follows is revision {}, known at {}",
            known.revision,
            time_of(known.since_ms)
        ),
        (None, None) => "cannot be reached".to_owned(),
    };
    let revision = database.revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
    format!("database {}: {answer}{revision}", database.engine)
}

fn member(member: &DatabaseMemberView) -> Vec<String> {
    vec![
        member.endpoint.clone(),
        or_dash(member.name.as_ref()),
        or_dash(member.version.as_ref()),
        if member.leads { "leads" } else { "" }.to_owned(),
        if member.version.is_some() { ms(member.latency_us) } else { "-".to_owned() },
        or_dash(member.size_bytes.map(bytes)),
        match member.healthy {
            true => "healthy".to_owned(),
            false => member.troubles.join("; "),
        },
    ]
}

fn server(server: &ServerStandingView) -> Vec<String> {
    let report = server.report.as_ref();
    let this = if server.this { " (asked)" } else { "" };
    vec![
        format!("{}{this}", server.name),
        server.state.text().to_owned(),
        or_dash(server.since_ms.map(time_of)),
        or_dash(server.address.as_ref()),
        or_dash(report.map(|report| &report.version)),
        or_dash(server.incarnation),
        or_dash(server.lease.map(|held| if held { "held" } else { "lost" })),
        or_dash(report.and_then(|report| report.certificate_ends_ms).map(day)),
        or_dash(report.map(stores)),
        or_dash(report.map(versions)),
        or_dash(report.map(|report| bytes(report.missing_bytes))),
        or_dash(server.clock_ms.map(clock)),
    ]
}

fn stores(report: &ServerReport) -> String {
    let free = |store: &StoreFillView| {
        format!("{} of {} {}", bytes(store.free_bytes), bytes(store.total_bytes), store.name)
    };
    report.stores.iter().map(free).collect::<Vec<_>>().join(", ")
}

fn versions(report: &ServerReport) -> String {
    match report.lacking_versions {
        0 => format!("{} complete", report.complete_versions),
        lacking => format!("{} complete, {lacking} coming", report.complete_versions),
    }
}

fn finding(finding: &FindingView) -> String {
    let severity = match finding.severity {
        FindingSeverity::Error => "error",
        FindingSeverity::Warning => "warning",
        FindingSeverity::Note => "note",
    };
    format!("{severity}: {}\n  hint: {}", finding.message, finding.hint)
}

/// Seconds and milliseconds that one's own clock is behind another, with its sign.
fn clock(ms: i64) -> String {
    match ms.unsigned_abs() {
        0..1000 => format!("{ms:+} ms"),
        more => format!("{}{}.{} s", if ms < 0 { "-" } else { "+" }, more / 1000, more % 1000 / 100),
    }
}

fn day(unix_ms: u64) -> String {
    time_of(unix_ms).chars().take(10).collect()
}

fn ms(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_clocks_a_sign() {
        assert_eq!((ms(950), ms(12_340)), ("0.9 ms".to_owned(), "12.3 ms".to_owned()));
        assert_eq!((clock(-12), clock(0)), ("-12 ms".to_owned(), "+0 ms".to_owned()));
        assert_eq!((clock(4321), clock(-61_050)), ("+4.3 s".to_owned(), "-61.0 s".to_owned()));
        assert_eq!(day(1_763_836_262_123), "2025-11-22");
    }
}
