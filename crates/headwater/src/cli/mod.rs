//! The command line: noun, then verb.
//!
//! Exit codes are stable: 0 done, 1 failed, 2 wrong usage, 3 refused by the rules, 4 the server is
//! not reachable, 130 stopped by Ctrl-C.

pub(crate) mod commands;
mod job;
pub(crate) mod output;
mod password;
mod since;

use crate::client::{Client, ClientError, Target};
use clap::{Args, Parser, Subcommand};
use output::Output;
use std::path::PathBuf;
use std::process::ExitCode;

const FAILED: u8 = 1;
const REFUSED: u8 = 3;
const NOT_REACHABLE: u8 = 4;
const STOPPED: u8 = 130;

/// Streams versioned disk images from the local disks of several servers to diskless machines.
#[derive(Parser)]
#[command(name = "headwater", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// The server's address, such as http://10.0.0.5:6900 [default: the local server's]
    #[arg(long, global = true, env = "HEADWATER_URL", value_name = "URL")]
    url: Option<String>,
    /// A token [default: of the login, else the local server's file STATE_DIR/admin.token]
    #[arg(long, global = true, env = "HEADWATER_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Where the local server keeps its state
    #[arg(long, global = true, env = "HEADWATER_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server
    Serve(commands::serve::Serve),
    /// Shows and checks the server's configuration
    #[command(subcommand)]
    Config(commands::config::Config),
    /// vDisks: what the devices boot
    #[command(subcommand, name = "vdisk")]
    VDisk(commands::vdisk::VDisk),
    /// Versions: the numbered states of a vDisk
    #[command(subcommand)]
    Version(commands::version::Version),
    /// Devices: the diskless machines
    #[command(subcommand)]
    Device(commands::device::Device),
    /// Collections: groups of devices with a template
    #[command(subcommand)]
    Collection(commands::collection::Collection),
    /// Unknown machines that wait to be accepted
    #[command(subcommand)]
    Pending(commands::pending::Pending),
    /// Sessions: who reads which version from the server
    #[command(subcommand)]
    Session(commands::session::Session),
    /// The farm: making one of several servers
    #[command(subcommand)]
    Farm(commands::farm::Farm),
    /// The servers of the farm
    #[command(subcommand)]
    Server(commands::server::Server),
    /// Replication: what is still to come to a server from the others
    #[command(subcommand)]
    Replication(commands::replication::Replication),
    /// Where the vDisks lie
    #[command(subcommand)]
    Store(commands::store::Store),
    /// Takes over bytes that were brought by other means, so that they need not travel
    Adopt(commands::adopt::Adopt),
    /// What runs against a draft before it is sealed
    #[command(subcommand)]
    Hook(commands::hook::Hook),
    /// What happened in the farm
    Events(commands::events::Events),
    /// Who asked for which change, and how it ended
    Audit(commands::audit::Audit),
    /// Logs in with a password; what follows is done as that user
    Login(commands::login::Login),
    /// Ends the login
    Logout,
    /// Who the server takes this for
    Whoami,
    /// Users: who may use the farm, and for what
    #[command(subcommand)]
    User(commands::user::User),
    /// Tokens: how programs prove who they are
    #[command(subcommand)]
    Token(commands::token::Token),
    /// How the server and the farm stand
    Status,
    /// Prints the description of the REST API (OpenAPI 3.1)
    Openapi,
    /// Shows all of it on this machine: a server and diskless machines in QEMU, without root
    Lab(crate::lab::Lab),
}

/// What commands that talk to the server work with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) output: Output,
}

/// Somebody pressed Ctrl-C, and has been told what became of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Stopped(pub(crate) String);

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    match run(global, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", shown(&error));
            exit_code(&error)
        }
    }
}

fn run(global: Global, command: Command) -> anyhow::Result<()> {
    let Global { url, token, state_dir, output } = global;
    let context = || {
        let target = Target { url, token, state_dir: state_dir.clone() };
        Ok::<_, anyhow::Error>(Context { client: Client::new(&target)?, output })
    };
    match command {
        Command::Serve(serve) => serve.run(state_dir),
        Command::Config(config) => config.run(),
        Command::VDisk(vdisk) => block_on(vdisk.run(&context()?)),
        Command::Version(version) => block_on(version.run(&context()?)),
        Command::Device(device) => block_on(device.run(&context()?)),
        Command::Collection(collection) => block_on(collection.run(&context()?)),
        Command::Pending(pending) => block_on(pending.run(&context()?)),
        Command::Replication(replication) => block_on(replication.run(&context()?)),
        Command::Session(session) => block_on(session.run(&context()?)),
        Command::Farm(commands::farm::Farm::Join(join)) => block_on(join.run(state_dir, output)),
        Command::Farm(commands::farm::Farm::Restore(restore)) => block_on(restore.run(state_dir, output)),
        Command::Farm(commands::farm::Farm::Migrate(migrate)) => block_on(migrate.run(state_dir, output)),
        Command::Farm(farm) => block_on(farm.run(&context()?)),
        Command::Server(server) => block_on(server.run(&context()?)),
        Command::Store(commands::store::Store::Check(check)) => check.run(output),
        Command::Store(store) => block_on(store.run(&context()?)),
        Command::Adopt(adopt) => block_on(adopt.run(&context()?)),
        Command::Hook(hook) => block_on(hook.run(&context()?)),
        Command::Events(events) => block_on(events.run(&context()?)),
        Command::Audit(audit) => block_on(audit.run(&context()?)),
        Command::Login(login) => block_on(login.run(&context()?)),
        Command::Logout => block_on(commands::login::logout(&context()?)),
        Command::Whoami => block_on(commands::login::whoami(&context()?)),
        Command::User(user) => block_on(user.run(&context()?)),
        Command::Token(token) => block_on(token.run(&context()?)),
        Command::Status => block_on(commands::status::run(&context()?)),
        Command::Openapi => commands::openapi::run(),
        Command::Lab(lab) => crate::lab::run(&lab),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Stopped>() {
        return ExitCode::from(STOPPED);
    }
    ExitCode::from(match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(_)) => REFUSED,
        Some(ClientError::NotReachable(_)) => NOT_REACHABLE,
        Some(ClientError::Failed(_)) | None => FAILED,
    })
}

/// The error and its causes, the hint on a line of its own at the end.
fn shown(error: &anyhow::Error) -> String {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let (messages, hints): (Vec<&str>, Vec<&str>) =
        chain.iter().map(|text| text.split_once("\nhint: ").unwrap_or((text, ""))).unzip();
    let hints = hints.into_iter().filter(|hint| !hint.is_empty()).map(|hint| format!("\nhint: {hint}"));
    format!("error: {}{}", messages.join(": "), hints.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_hint_stands_behind_all_causes() {
        let error = anyhow::anyhow!("port 1 is taken\nhint: take another").context("cannot serve");
        assert_eq!(shown(&error), "error: cannot serve: port 1 is taken\nhint: take another");
    }
}
