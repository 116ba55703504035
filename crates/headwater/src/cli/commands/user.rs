//! `headwater user list|show|create|set-role|set-password|delete`

use crate::cli::output::time_of;
use crate::cli::{Context, password};
use anyhow::Result;
use api::{ChangePassword, NewUser, PatchUser, SetPassword, UserView, paths};
use clap::{Args, Subcommand};
use model::Name;
use reqwest::Method;

/// Users: who may use the farm, and for what.
#[derive(Subcommand)]
pub(crate) enum User {
    /// Lists all users
    List,
    /// Shows one user
    Show {
        /// The user's name
        name: Name,
    },
    /// Makes a user; the password is asked for, or read from standard input
    Create(Create),
    /// Gives a user another role
    SetRole {
        /// The user's name
        name: Name,
        /// read-only, device-operator, site-admin:SITE, farm-admin
        role: String,
    },
    /// Sets a password, which is asked for, or read from standard input; all logins of the user end
    SetPassword {
        /// The user's name [default: one's own]
        name: Option<Name>,
        /// Takes the password away: only tokens prove who the user is
        #[arg(long, requires = "name")]
        remove: bool,
    },
    /// Deletes a user with all tokens
    Delete {
        /// The user's name
        name: Name,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// The user's name
    name: Name,
    /// read-only, device-operator, site-admin:SITE, farm-admin
    #[arg(long)]
    role: String,
    /// No password: a program, which has tokens only
    #[arg(long)]
    no_password: bool,
}

impl User {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let client = &context.client;
        match self {
            Self::List => list(context).await,
            Self::Show { name } => show(context, &client.get(&paths::fill(paths::USER, name)).await?),
            Self::Create(create) => create.run(context).await,
            Self::SetRole { name, role } => {
                let path = paths::fill(paths::USER, name);
                show(context, &client.patch(&path, &PatchUser { role }).await?)
            }
            Self::SetPassword { name: Some(name), remove } => set_password(context, &name, remove).await,
            Self::SetPassword { name: None, .. } => change_own(context).await,
            Self::Delete { name } => {
                client.act(Method::DELETE, &paths::fill(paths::USER, &name)).await?;
                context.output.done(&format!("user {name} is deleted"))
            }
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<()> {
        let Self { name, role, no_password } = self;
        let password = match no_password {
            true => None,
            false => Some(password::ask_new(&format!("password of {name}"))?),
        };
        show(context, &context.client.post(paths::USERS, &NewUser { name, role, password }).await?)
    }
}

async fn set_password(context: &Context, name: &Name, remove: bool) -> Result<()> {
    let password = match remove {
        true => None,
        false => Some(password::ask_new(&format!("new password of {name}"))?),
    };
    let request = context.client.request(Method::POST, &paths::fill(paths::USER_PASSWORD, name));
    context.client.send(request.json(&SetPassword { password })).await?;
    context.output.done(&format!("the password of {name} is changed; logins of {name} are over"))
}

async fn change_own(context: &Context) -> Result<()> {
    let old_password = password::ask("password so far")?;
    let new_password = password::ask_new("new password")?;
    let request = context.client.request(Method::POST, paths::OWN_PASSWORD);
    context.client.send(request.json(&ChangePassword { old_password, new_password })).await?;
    context.output.done("the password is changed; log in again with `headwater login`")
}

async fn list(context: &Context) -> Result<()> {
    let users: Vec<UserView> = context.client.get(paths::USERS).await?;
    context.output.list(&users, &["name", "role", "password", "logins", "tokens"], |user| {
        vec![
            user.name.to_string(),
            user.role.clone(),
            yes_or_no(user.has_password),
            user.logins.to_string(),
            user.tokens.to_string(),
        ]
    })
}

fn show(context: &Context, user: &UserView) -> Result<()> {
    context.output.one(user, |user| {
        vec![
            ("name", user.name.to_string()),
            ("role", user.role.clone()),
            ("password", yes_or_no(user.has_password)),
            ("logins", user.logins.to_string()),
            ("tokens", user.tokens.to_string()),
            ("made", time_of(user.created_ms)),
        ]
    })
}

fn yes_or_no(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}
