//! The status page at `/`: plain, without secrets, for a glance. The console is another thing.

use super::state::Shared;
use super::views;
use axum::extract::State;
use axum::response::Html;
use std::fmt::Write;

/// Renders the page.
pub(super) async fn show(State(state): State<Shared>) -> Html<String> {
    let (status, view) = (views::status(&state), state.farm.view());
    let sessions = views::sessions_by_mac(&state);
    let vdisks =
        view.vdisks.values().map(|vdisk| vec![vdisk.name.to_string(), vdisk.size.bytes().to_string()]);
    let devices = view.devices.values().map(|device| {
        let shown = views::device(&view, device, &sessions);
        let vdisk = shown.vdisk.map(|name| name.to_string());
        vec![
            device.name.to_string(),
            device.mac.to_string(),
            device.collection.to_string(),
            shown.not_booting.or(vdisk).unwrap_or_default(),
        ]
    });
    let mut html = format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5><title>Headwater</title>\
         <style>body{{font-family:sans-serif;margin:2em}}td,th{{text-align:left;padding:.2em 1em .2em 0}}</style>\
         <h1>Headwater: {}</h1><p>version {}, up {} s, {} devices, {} sessions, {} jobs at work</p>",
        escape(status.server.as_str()),
        escape(&status.version),
        status.uptime_s,
        status.devices,
        status.sessions,
        status.jobs,
    );
    table(&mut html, "vDisks", &["name", "bytes"], vdisks);
    table(&mut html, "Devices", &["name", "MAC", "collection", "boots"], devices);
    Html(html)
}

fn table(html: &mut String, title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    write!(html, "<h2>{}</h2><table><tr>{}</tr>", escape(title), cells("th", &mut heads.iter().copied()))
        .expect("a string");
    for row in rows {
        write!(html, "<tr>{}</tr>", cells("td", &mut row.iter().map(String::as_str))).expect("a string");
    }
    html.push_str("</table>");
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
