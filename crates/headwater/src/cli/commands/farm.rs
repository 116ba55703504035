//! `headwater farm init|token|join|status|backup|restore|accept|migrate`

mod backup;
mod migrate;
mod restore;
mod status;

use crate::cli::Context;
use crate::cli::output::{Output, time_of};
use crate::cli::since::Span;
use crate::config::Config;
use crate::join_token::JoinTokenText;
use crate::serve::IDENTITY_DIR;
use anyhow::{Result, bail};
use api::{GrantedJoinToken, InitFarm, InitialisedFarm, NewJoinToken, paths};
use clap::{Args, Subcommand};
use mesh::identity::{KeyRequest, ServerIdentity};
use mesh::join::{JoinAnswer, JoinError, JoinRequest, ask};
use reqwest::Method;
use serde::Serialize;
use std::path::PathBuf;

/// Making one farm of several servers.
#[derive(Subcommand)]
pub(crate) enum Farm {
    /// Makes the farm's certificate authority, once, on its first server
    Init {
        /// Where the other servers reach this one; the port is that of mesh.listen
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
    },
    /// Makes a token with which one server joins, once, and shows it
    Token {
        /// How long it is good for, such as 30m or 2d [default: 1h]
        #[arg(long, value_name = "TIME")]
        expires: Option<Span>,
    },
    /// Shows how the database and every server stand, what is wrong and what to do
    Status {
        /// Fail where something is wrong: for monitoring
        #[arg(long)]
        check: bool,
    },
    /// Writes all records into a new file on this machine, the farm's secrets among them
    Backup {
        /// The new file
        file: PathBuf,
    },
    /// Brings a backup into the farm's database, while no server of the farm runs
    Restore(restore::Restore),
    /// Takes restored records as they are: what no record names may be deleted from stores again
    Accept,
    /// Moves the records of this server's embedded database to etcd, while it does not run
    Migrate(migrate::Migrate),
    /// Makes this machine a server of the farm; before `headwater serve` runs on it
    Join(Join),
}

#[derive(Args)]
pub(crate) struct Join {
    /// What `headwater farm token` has shown on a server of the farm
    #[arg(hide_env_values = true, env = "HEADWATER_JOIN_TOKEN")]
    join_token: String,
    /// Where the other servers reach this one; the port is that of mesh.listen
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// The configuration that `headwater serve` will use
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What a new server must know to go on.
#[derive(Serialize)]
struct Joined {
    server: String,
    farm: String,
    identity: String,
    settings: serde_json::Value,
}

impl Farm {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::Init { address } => {
                let made: InitialisedFarm =
                    context.client.post(paths::FARM_INIT, &InitFarm { address }).await?;
                context.output.one(&made, |made| {
                    vec![("farm", made.farm.clone()), ("fingerprint", made.fingerprint.clone())]
                })
            }
            Self::Token { expires } => {
                let new = NewJoinToken { expires_s: expires.map(|span| span.0.as_secs()) };
                let granted: GrantedJoinToken = context.client.post(paths::FARM_TOKENS, &new).await?;
                context.output.one(&granted, |granted| {
                    vec![("token", granted.token.clone()), ("until", time_of(granted.expires_ms))]
                })
            }
            Self::Status { check } => status::run(context, check).await,
            Self::Accept => {
                context.client.act(Method::POST, paths::FARM_ACCEPT).await?;
                context.output.done("the restored records are the farm's: stores are tidied up by them again")
            }
            Self::Backup { file } => backup::run(context, &file).await,
            Self::Restore(_) | Self::Migrate(_) | Self::Join(_) => {
                unreachable!("they need no server on this machine")
            }
        }
    }
}

impl Join {
    /// Joins; talks to the farm's servers, not to one on this machine.
    pub(crate) async fn run(self, state_dir: Option<PathBuf>, output: Output) -> Result<()> {
        let token: JoinTokenText = self.join_token.parse().map_err(anyhow::Error::msg)?;
        let config = Config::load_with_state_dir(self.config.as_deref(), state_dir)?;
        let directory = config.server.state_dir.join(IDENTITY_DIR);
        if ServerIdentity::load(&directory)?.is_some() {
            bail!(
                "this machine has an identity already, in {}\n\
                 hint: to join another farm, take the server out of its own and move that directory away",
                directory.display()
            );
        }
        let server = config.server.name.clone();
        let key = KeyRequest::make(&server)?;
        let request = key.request().to_owned();
        let asked = JoinRequest { secret: token.secret.clone(), server, address: self.address, request };
        let answer = ask_any(&token, &asked).await?;
        key.certified(&answer.authority, &answer.certificate)?.save(&directory)?;
        let joined = Joined {
            server: asked.server.to_string(),
            farm: answer.farm.to_string(),
            identity: directory.display().to_string(),
            settings: answer.settings,
        };
        output.one(&joined, |joined| {
            vec![
                ("server", joined.server.clone()),
                ("farm", joined.farm.clone()),
                ("identity", joined.identity.clone()),
                ("[farm] in the configuration", settings(&joined.settings)),
            ]
        })
    }
}

/// Asks one server after the other; only one that cannot be reached sends on to the next.
async fn ask_any(token: &JoinTokenText, asked: &JoinRequest) -> Result<JoinAnswer> {
    let mut reasons = Vec::new();
    for address in &token.addresses {
        match ask(address, token.pinned, asked).await {
            Ok(answer) => return Ok(answer),
            Err(error @ JoinError::Network { .. }) => reasons.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    bail!(
        "no server of the farm could be asked: {}\n\
         hint: are the addresses in the token reachable from here, and is the token of that farm?",
        reasons.join("; ")
    )
}

fn settings(settings: &serde_json::Value) -> String {
    let endpoints = settings.get("endpoints").map(ToString::to_string).unwrap_or_default();
    format!("database = \"etcd\", endpoints = {endpoints}; with ca, cert and key where etcd asks for them")
}
