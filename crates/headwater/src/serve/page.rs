//! The status page at `/`: plain, without secrets, for a glance. The console is another thing.

use super::state::{AppState, Shared};
use super::{session_routes, views};
use api::{DeviceView, SessionView, WriteCacheView};
use axum::extract::State;
use axum::response::Html;
use farm::{FarmView, VDisk};

/// The most rows of a table: anybody may ask for the page, every five seconds.
const MAX_ROWS: usize = 200;

/// Renders the page.
pub(super) async fn show(State(state): State<Shared>) -> Html<String> {
    state.observe_sessions().await;
    let status = views::status(&state);
    let mut html = format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5><title>Headwater</title>\
         <style>body{{font-family:sans-serif;margin:2em}}td,th{{text-align:left;padding:.2em 1em .2em 0}}</style>\
         <h1>Headwater: {}</h1><p>version {}, up {} s, {} jobs at work, {} machines wait to be accepted</p>",
        escape(status.server.as_str()),
        escape(&status.version),
        status.uptime_s,
        status.jobs,
        status.pending,
    );
    table(&mut html, "Sessions", &["device", "vDisk", "stage", "write cache"], session_rows(&state));
    let view = state.farm.view();
    table(
        &mut html,
        "vDisks",
        &["name", "size", "kernel"],
        view.vdisks.values().map(|vdisk| vdisk_row(&state, &view, vdisk)),
    );
    let sessions = views::sessions_by_mac(&state);
    let devices = view
        .devices
        .values()
        .map(|device| device_row(views::device(&view, device, &state.server, &sessions)));
    table(&mut html, "Devices", &["name", "MAC", "collection", "boots", "sessions"], devices);
    Html(html)
}

fn session_rows(state: &AppState) -> impl ExactSizeIterator<Item = Vec<String>> {
    state.boot.sessions.list().into_iter().map(session_routes::view).map(|session: SessionView| {
        let fill =
            |cache: WriteCacheView| format!("{} of {} MiB", cache.used_bytes >> 20, cache.limit_bytes >> 20);
        vec![
            session.device.map_or_else(|| "an admin".to_owned(), |device| device.to_string()),
            format!("{} version {}", session.vdisk, session.version),
            session.timeline.last().map(|step| step.label.clone()).unwrap_or_default(),
            session.write_cache.map(fill).unwrap_or_default(),
        ]
    })
}

fn vdisk_row(state: &AppState, view: &FarmView, vdisk: &VDisk) -> Vec<String> {
    let newest = views::vdisk(state, view, vdisk).versions.pop();
    let kernel = newest.and_then(|version| version.kernel.or(version.not_bootable));
    vec![vdisk.name.to_string(), format!("{} MiB", vdisk.size.bytes() >> 20), kernel.unwrap_or_default()]
}

fn device_row(device: DeviceView) -> Vec<String> {
    let vdisk = device.vdisks.first().map(|name| name.to_string());
    vec![
        device.name.to_string(),
        device.mac.to_string(),
        device.collection.to_string(),
        device.not_booting.or(vdisk).unwrap_or_default(),
        device.sessions.to_string(),
    ]
}

fn table(html: &mut String, title: &str, heads: &[&str], rows: impl ExactSizeIterator<Item = Vec<String>>) {
    let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        let cells: String = cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>")
    };
    let count = rows.len();
    html.push_str(&format!("<h2>{count} {}</h2><table>", escape(title)));
    html.push_str(&row("th", &mut heads.iter().copied()));
    for cells in rows.take(MAX_ROWS) {
        html.push_str(&row("td", &mut cells.iter().map(String::as_str)));
    }
    html.push_str("</table>");
    if count > MAX_ROWS {
        html.push_str(&format!("<p>and {} more", count - MAX_ROWS));
    }
}

/// Makes text harmless inside HTML elements and quoted attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
