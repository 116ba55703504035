//! `[events]` and `[audit]`: how long what happened is kept.

use super::ConfigError;
use farm::Retention;
use serde::{Deserialize, Serialize};

/// The most events: every server holds them in memory.
const MAX_EVENTS: usize = 20_000;
/// The most records of the audit: a filter reads them all.
const MAX_AUDIT: usize = 100_000;
/// The fewest of either, so that what was just done can be seen.
const MIN_RECORDS: usize = 100;

/// `[events]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EventsConfig {
    pub(crate) keep_records: usize,
    pub(crate) keep_days: u32,
}

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuditConfig {
    pub(crate) keep_records: usize,
    pub(crate) keep_days: u32,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { keep_records: 2000, keep_days: 90 }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { keep_records: 10_000, keep_days: 365 }
    }
}

impl EventsConfig {
    /// How long events are kept.
    pub(crate) fn retention(&self) -> Retention {
        Retention { records: self.keep_records, days: self.keep_days }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check("events", self.retention(), MAX_EVENTS)
    }
}

impl AuditConfig {
    /// How long the audit is kept.
    pub(crate) fn retention(&self) -> Retention {
        Retention { records: self.keep_records, days: self.keep_days }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check("audit", self.retention(), MAX_AUDIT)
    }
}

fn check(section: &str, retention: Retention, most: usize) -> Result<(), ConfigError> {
    if !(MIN_RECORDS..=most).contains(&retention.records) {
        let message = format!("{section}.keep_records is {}", retention.records);
        let hint = format!("give {MIN_RECORDS} to {most}");
        return Err(ConfigError::Contradiction { message, hint });
    }
    if retention.days == 0 {
        let message = format!("{section}.keep_days is 0: nothing could be looked at");
        return Err(ConfigError::Contradiction { message, hint: "give 1 or more".to_owned() });
    }
    Ok(())
}
