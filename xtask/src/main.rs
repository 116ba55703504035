//! Prepares the machine and runs the project's chores: `cargo xtask --help`.
//!
//! Each chore is one module. Nothing of the product's logic lives here: `cargo xtask lab` installs,
//! builds, makes an image and hands over to `headwater lab`.
//!
//! Read next: [`check`] for what `cargo xtask test` does, `packages` for what it installs.

mod binaries;
mod check;
mod image;
mod lab;
mod packages;
mod process;
mod show;
mod steps;
mod tidy;

use binaries::{Binaries, Build};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Prepares the machine and runs Headwater's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every check and test: format, lints, tidy, licences, unit, doc and end-to-end tests
    Test,
    /// Compare the maps (ARCHITECTURE.md, docs) with the tree
    Tidy,
    /// Build the programs into target/headwater: headwater, and the agent as a static binary
    Build {
        /// As the end-to-end tests use them: not optimised, into target/headwater-dev
        #[arg(long)]
        dev: bool,
    },
    /// Make a real Debian image for the lab and the tests, and print its path
    Image {
        /// debian-initramfs or debian-dracut
        #[arg(value_parser = recipe)]
        name: &'static image::Recipe,
    },
    /// Boot two diskless machines from a real Debian vDisk; Ctrl-C ends it
    Lab {
        /// Further arguments for `headwater lab`, such as --once
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Measure one of the project's claims, or list them with their last known figures
    Show {
        /// The claim's name; without it, all are listed
        #[arg(value_parser = claim)]
        name: Option<&'static show::Claim>,
    },
}

fn claim(name: &str) -> Result<&'static show::Claim, String> {
    show::Claim::named(name)
        .ok_or_else(|| format!("there is no claim {name:?}; `cargo xtask show` lists them"))
}

fn recipe(name: &str) -> Result<&'static image::Recipe, String> {
    image::Recipe::named(name).ok_or_else(|| format!("there is no image {name:?}"))
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    std::env::set_current_dir(process::workspace())?;
    match chore {
        Chore::Test => check::everything(),
        Chore::Tidy => tidy::run(),
        Chore::Build { dev } => {
            let build = if dev { Build::Dev } else { Build::Release };
            let Binaries { headwater, agent } = binaries::build(build)?;
            println!("{}\n{}", headwater.display(), agent.display());
            Ok(())
        }
        Chore::Image { name } => {
            println!("{}", image::make(name)?.display());
            Ok(())
        }
        Chore::Lab { arguments } => lab::run(&arguments),
        Chore::Show { name: None } => show::list(),
        Chore::Show { name: Some(claim) } => claim.show(),
    }
}
