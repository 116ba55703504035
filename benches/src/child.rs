//! Runs a program to its end and says what it cost.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one run of a program cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// User and system time of the program and its children.
    pub cpu: Duration,
}

/// Runs `command` without output; fails where the program fails.
pub fn run(command: &mut Command) -> Result<Cost> {
    let cpu_before = children_cpu()?;
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("cannot run {command:?}"))?;
    let wall = start.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(Cost { wall, cpu: children_cpu()?.saturating_sub(cpu_before) })
}

/// The middle of some values (the upper one of two).
pub fn median<T: Copy + Ord>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

/// The CPU time of this process's ended children (proc(5), /proc/self/stat fields 16 and 17), in
/// steps of 10 ms.
fn children_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field, the program's name, may hold spaces; it ends with the last parenthesis.
    let after_name = stat.rsplit_once(')').context("/proc/self/stat has no name")?.1;
    let field = |number: usize| -> Result<u64> {
        let text = after_name.split_whitespace().nth(number - 3);
        Ok(text.context("/proc/self/stat is short")?.parse()?)
    };
    let ticks = field(16)? + field(17)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}
