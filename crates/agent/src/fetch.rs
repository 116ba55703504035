//! Gets the boot plan from the first server that answers.

use crate::console;
use protocol::plan::BootPlan;
use std::time::Duration;

/// A plan has a few hundred bytes; a list of 64 servers stays below this.
const MAX_PLAN_BYTES: u64 = 256 * 1024;
/// The most of a server's reason that is shown.
const MAX_REASON_CHARS: usize = 1000;
/// A server that has not answered by then is passed over.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The pauses between rounds over all servers grow to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The revision of plans that this agent understands.
const REVISION: u32 = 1;

/// Why a server gave no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// No answer, or one that is no plan.
    #[error("{0}")]
    Http(#[from] ureq::Error),
    /// The answer cannot be read as a plan.
    #[error("its plan cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The server gives none, and says why.
    #[error("{0}")]
    Refused(String),
    /// Made for another agent.
    #[error(
        "its plan has revision {0}, this agent knows {REVISION}\nhint: the server is newer than the agent in this initrd; boot again"
    )]
    Revision(u32),
    /// Nothing to stream from.
    #[error("its plan names no server to stream from")]
    NoServer,
}

/// Asks all servers in turn until one answers; says on the console why others did not.
pub(crate) fn plan(urls: &[String]) -> BootPlan {
    let agent = http(ANSWER_WITHIN);
    let mut pause = Duration::from_millis(250);
    loop {
        for url in urls {
            match plan_from(&agent, url) {
                Ok(plan) => return plan,
                Err(error) => console::problem(format!("no boot plan from {}: {error}", origin(url))),
            }
        }
        console::problem(format!("no server gave a boot plan; trying again in {} ms", pause.as_millis()));
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks one server once.
pub(crate) fn plan_once(url: &str) -> Result<BootPlan, PlanError> {
    plan_from(&http(ANSWER_WITHIN), url)
}

/// An HTTP client whose every call ends within `timeout`, and to which an answer that says no is
/// an answer and no error.
pub(crate) fn http(timeout: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(timeout)).proxy(None);
    config.http_status_as_error(false).build().into()
}

fn plan_from(agent: &ureq::Agent, url: &str) -> Result<BootPlan, PlanError> {
    let mut answer = agent.get(url).call()?;
    let text = answer.body_mut().with_config().limit(MAX_PLAN_BYTES).read_to_vec()?;
    if answer.status().is_success() {
        return parse(&text);
    }
    let reason: String = String::from_utf8_lossy(&text).trim().chars().take(MAX_REASON_CHARS).collect();
    Err(PlanError::Refused(if reason.is_empty() { answer.status().to_string() } else { reason }))
}

/// Reads a plan and refuses one that cannot be followed.
pub(crate) fn parse(json: &[u8]) -> Result<BootPlan, PlanError> {
    #[derive(serde::Deserialize)]
    struct Head {
        revision: u32,
    }
    let head: Head = serde_json::from_slice(json)?;
    if head.revision != REVISION {
        return Err(PlanError::Revision(head.revision));
    }
    let plan: BootPlan = serde_json::from_slice(json)?;
    if plan.servers.is_empty() { Err(PlanError::NoServer) } else { Ok(plan) }
}

/// The part of a URL that may be shown: its path holds the session's secret.
fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(origin("http://10.0.0.1:6900/boot/v1/plan/SECRET"), "http://10.0.0.1:6900");
        assert_eq!(origin("nonsense"), "nonsense");
    }

    #[test]
    fn a_plan_of_another_revision_is_refused_by_number() {
        let error = parse(br#"{"revision": 2, "whatever": true}"#).unwrap_err();
        assert!(matches!(error, PlanError::Revision(2)));
    }
}
