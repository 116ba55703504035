//! `headwater token list|create|revoke`

use crate::cli::Context;
use crate::cli::output::{or_dash, time_of};
use crate::cli::since::Span;
use anyhow::Result;
use api::{GrantedToken, NewApiToken, TokenView, paths};
use clap::{Args, Subcommand};
use model::Name;
use reqwest::Method;

/// Tokens: how programs, and logins, prove who they are.
#[derive(Subcommand)]
pub(crate) enum Token {
    /// Lists one's own tokens and logins; a farm admin sees everybody's
    List,
    /// Makes a token for a program and shows it, this once
    Create(Create),
    /// Makes a token, or a login, prove nothing any more
    Revoke {
        /// The token's id, which stands in the token behind hw_
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// What the token is for
    about: String,
    /// Whose it is; another user's only a farm admin makes [default: one's own]
    #[arg(long)]
    user: Option<Name>,
    /// What it may do, where that is less than its user may
    #[arg(long)]
    role: Option<String>,
    /// When it expires, such as 12h or 90d [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<Span>,
}

impl Token {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::List => list(context).await,
            Self::Create(create) => create.run(context).await,
            Self::Revoke { id } => {
                context.client.act(Method::DELETE, &paths::fill(paths::TOKEN, &id)).await?;
                context.output.done(&format!("token {id} is revoked"))
            }
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<()> {
        let Self { about, user, role, expires } = self;
        let new = NewApiToken { about, user, role, expires_s: expires.map(|span| span.0.as_secs()) };
        let granted: GrantedToken = context.client.post(paths::TOKENS, &new).await?;
        context.output.one(&granted, |granted| {
            vec![
                ("token", granted.token.clone()),
                ("id", granted.id.clone()),
                ("user", granted.user.to_string()),
                ("role", granted.role.clone()),
                ("until", or_dash(granted.expires_ms.map(time_of))),
            ]
        })
    }
}

async fn list(context: &Context) -> Result<()> {
    let tokens: Vec<TokenView> = context.client.get(paths::TOKENS).await?;
    let heads = ["id", "user", "kind", "role", "about", "made", "last used", "until"];
    context.output.list(&tokens, &heads, |token| {
        vec![
            token.id.clone(),
            token.user.to_string(),
            token.kind.clone(),
            token.role.clone(),
            token.about.clone(),
            time_of(token.created_ms),
            or_dash(token.last_used_ms.map(time_of)),
            or_dash(token.expires_ms.map(time_of)),
        ]
    })
}
