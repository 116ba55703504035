//! `cargo xtask show last-writer-wins`: the original trap, step by step, with plain files.

extern crate headwater_sim as sim;

use sim::last_writer_wins::play;
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let directory = tempfile::tempdir()?;
    let story = play(directory.path())?;
    story.steps.iter().for_each(|step| println!("{step}"));
    let left = story.copies_of_the_work();
    println!(
        "last-writer-wins: what the machine wrote all day is on {left} of 3 servers; production is empty"
    );
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
