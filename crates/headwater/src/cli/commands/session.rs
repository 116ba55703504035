//! `headwater session list|show|create|close`

use crate::byte_size::ByteSize;
use crate::cli::Context;
use crate::cli::output::{bytes, or_dash, time_of};
use api::{NewSession, OpenedSession, SessionView, TimelineStep, WriteCacheView, paths};
use clap::Subcommand;
use model::Name;
use reqwest::Method;

/// Sessions: who reads which version from the server.
#[derive(Subcommand)]
pub(crate) enum Session {
    /// Lists the server's sessions
    List,
    /// Shows one session and the boot that led to it
    Show {
        /// The session's id
        id: String,
    },
    /// Opens a version over NBD; whoever has the printed address can use it
    Create {
        /// The vDisk
        vdisk: Name,
        /// Which version [default: the one in production]
        #[arg(long)]
        version: Option<u32>,
        /// Makes the disk writable: as much of the server's RAM holds writes until the session
        /// is closed, such as 1GiB
        #[arg(long, value_name = "SIZE")]
        scratch: Option<ByteSize>,
        /// Writes to the version itself: a draft that nobody else holds
        #[arg(long, requires = "version", conflicts_with = "scratch")]
        write: bool,
        /// Notes what is read first in the version's boot profile, as if one of the farm's
        /// devices booted
        #[arg(long, conflicts_with = "write")]
        record_boot: bool,
    },
    /// Ends a session: its machine loses its disk
    Close {
        /// The session's id
        id: String,
    },
}

impl Session {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = &context.client;
        match self {
            Self::List => list(context).await,
            Self::Show { id } => show(context, &client.get(&paths::fill(paths::SESSION, id)).await?),
            Self::Create { vdisk, version, scratch, write, record_boot } => {
                let scratch_bytes = scratch.map(|size| size.0);
                let new = NewSession { vdisk, version, scratch_bytes, write, record_boot };
                let opened: OpenedSession = client.post(paths::SESSIONS, &new).await?;
                context
                    .output
                    .one(&opened, |opened| vec![("id", opened.id.clone()), ("uri", opened.uri.clone())])
            }
            Self::Close { id } => {
                client.act(Method::DELETE, &paths::fill(paths::SESSION, &id)).await?;
                context.output.done(&format!("session {id} is closed"))
            }
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let sessions: Vec<SessionView> = context.client.get(paths::SESSIONS).await?;
    let heads = ["id", "device", "vdisk", "version", "connections", "stage", "write cache", "opened"];
    context.output.list(&sessions, &heads, |session| {
        vec![
            session.id.clone(),
            session.device.as_ref().map_or_else(|| "(admin)".to_owned(), ToString::to_string),
            session.vdisk.to_string(),
            session.version.to_string(),
            session.connections.to_string(),
            or_dash(session.timeline.last().map(|step| &step.label)),
            or_dash(session.write_cache.as_ref().map(fill)),
            time_of(session.opened_ms),
        ]
    })
}

fn show(context: &Context, session: &SessionView) -> anyhow::Result<()> {
    context.output.one(session, |session| {
        let mut fields = vec![
            ("id", session.id.clone()),
            ("device", or_dash(session.device.as_ref())),
            ("mac", or_dash(session.mac)),
            ("vdisk", format!("{} version {}", session.vdisk, session.version)),
            ("root", session.root.to_string()),
            ("connections", session.connections.to_string()),
            ("peer", or_dash(session.peer.as_ref())),
            ("write cache", or_dash(session.write_cache.as_ref().map(fill))),
            ("read", or_dash(session.read_bytes.map(bytes))),
            ("written", or_dash(session.written_bytes.map(bytes))),
            ("opened", time_of(session.opened_ms)),
            ("last seen", time_of(session.last_seen_ms)),
        ];
        let begun = session.timeline.first().map_or(0, |step| step.at_ms);
        fields.extend(session.timeline.iter().map(|step| ("boot", since(begun, step))));
        fields
    })
}

/// A step of a boot with its seconds since the first one.
fn since(begun_ms: u64, step: &TimelineStep) -> String {
    format!("{:7.2} s  {}", step.at_ms.saturating_sub(begun_ms) as f64 / 1000.0, step.label)
}

fn fill(cache: &WriteCacheView) -> String {
    let percent = cache.used_bytes.saturating_mul(100) / cache.limit_bytes.max(1);
    let refused = match cache.refused_writes {
        0 => String::new(),
        refused => format!(", {refused} writes refused"),
    };
    format!("{} of {} ({percent} %){refused}", bytes(cache.used_bytes), bytes(cache.limit_bytes))
}
