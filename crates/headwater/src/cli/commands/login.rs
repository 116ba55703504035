//! `headwater login`, `logout`, `whoami`

use crate::cli::output::{or_dash, time_of};
use crate::cli::{Context, password};
use crate::login_file;
use anyhow::{Context as _, Result};
use api::{GrantedToken, WhoAmI, paths};
use clap::Args;
use model::Name;
use reqwest::Method;

/// Logs in with a password; what follows is done as that user.
#[derive(Args)]
pub(crate) struct Login {
    /// The user's name
    name: Name,
}

impl Login {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let client = &context.client;
        warn_of_readable_wire(client.url());
        let password = password::ask(&format!("password of {} at {}", self.name, client.url()))?;
        let login = api::Login { name: self.name, password };
        let request = client.request_as_nobody(Method::POST, paths::LOGIN).json(&login);
        let granted: GrantedToken = client.json(request).await?;
        let path = login_file::write(client.url(), &granted.token).context(
            "the login cannot be kept\nhint: set XDG_CONFIG_HOME to a directory that can be written",
        )?;
        let until = granted.expires_ms.map(time_of).unwrap_or_default();
        let GrantedToken { user, role, .. } = granted;
        let file = path.display();
        context.output.done(&format!("logged in as {user}, who is {role}, until {until}; kept in {file}"))
    }
}

/// A password goes over the wire as it is where the server is another machine.
fn warn_of_readable_wire(url: &str) {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_here = ["127.", "localhost", "[::1]"].iter().any(|here| host.starts_with(here));
    if url.starts_with("http://") && !is_here {
        eprintln!(
            "warning: {url} is not encrypted: whoever sees the wire sees the password\n\
             hint: ssh -L 6900:127.0.0.1:6900 THE-SERVER, and log in at http://127.0.0.1:6900"
        );
    }
}

/// Ends the login.
pub(crate) async fn logout(context: &Context) -> Result<()> {
    let client = &context.client;
    anyhow::ensure!(
        login_file::read(client.url()).is_some(),
        "nobody is logged in at {}\nhint: `headwater whoami` says who the server takes this for",
        client.url()
    );
    let ended = client.act(Method::POST, paths::LOGOUT).await;
    login_file::remove(client.url())?;
    // One that has expired is over as well.
    if let Err(error) = ended {
        eprintln!("warning: the server did not end the login: {error}");
    }
    context.output.done("logged out")
}

/// Says who the server takes this for.
pub(crate) async fn whoami(context: &Context) -> Result<()> {
    let who: WhoAmI = context.client.get(paths::WHOAMI).await?;
    context.output.one(&who, |who| {
        vec![
            ("name", who.name.to_string()),
            ("role", who.role.clone()),
            ("token", or_dash(who.token.as_ref())),
            ("until", or_dash(who.expires_ms.map(time_of))),
            ("server", context.client.url().to_owned()),
        ]
    })
}
