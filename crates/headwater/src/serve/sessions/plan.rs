//! The boot plan of a session: what its device's agent is told.

use super::{Holder, SessionInfo, SessionMode, Token};
use crate::serve::reached::Reached;
use model::Name;
use protocol::plan::{BootPlan, DiskPlan, StreamServer};

/// Seconds between a device's reports: fresh enough for a fill level, 400 a second at 4,000
/// devices.
const REPORT_INTERVAL_S: u32 = 10;

/// The boot plan of a device's session; none for sessions that are not a device's.
pub(crate) fn boot_plan(
    info: &SessionInfo,
    token: &Token,
    server: &Name,
    reached: &Reached,
) -> Option<BootPlan> {
    let Holder::Device { name, mac } = &info.holder else { return None };
    Some(BootPlan {
        revision: 1,
        device: name.clone(),
        mac: *mac,
        vdisk: info.vdisk.clone(),
        version: info.version.0,
        root: info.root,
        size: info.size,
        servers: vec![StreamServer { name: server.clone(), nbd: reached.nbd.to_string() }],
        export: token.as_str().to_owned(),
        disk: disk(info)?,
        identity: None,
        report_urls: vec![format!("{}/boot/v1/report/{}", reached.http_base(), token.as_str())],
        report_interval_s: REPORT_INTERVAL_S,
    })
}

fn disk(info: &SessionInfo) -> Option<DiskPlan> {
    match info.mode {
        SessionMode::Draft { .. } => Some(DiskPlan::Draft),
        SessionMode::Shared | SessionMode::Scratch => {
            Some(DiskPlan::Shared { write_cache: info.write_cache.clone()? })
        }
    }
}
