//! The one binary: `headwater serve`, and the command line that talks to it.
//!
//! Read next: `serve/mod.rs` for the server, `cli/mod.rs` for the commands.

mod byte_size;
mod cli;
mod client;
mod config;
mod serve;

fn main() -> std::process::ExitCode {
    cli::main()
}
