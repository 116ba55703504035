//! The one binary: `headwater serve`, `headwater lab`, and the command line that talks to it.
//!
//! Read next: `serve/mod.rs` for the server, `cli/mod.rs` for the commands, `lab/mod.rs`
//! for all of it on one machine.

mod byte_rate;
mod byte_size;
mod cli;
mod client;
mod config;
mod join_token;
mod lab;
mod login_file;
mod serve;

fn main() -> std::process::ExitCode {
    cli::main()
}
