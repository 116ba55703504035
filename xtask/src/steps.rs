//! A run of named steps: each is timed, a failure does not stop the ones after it, and a table at
//! the end says what took how long.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How a step ended.
pub(crate) enum Outcome {
    /// All of it was checked.
    Passed,
    /// Nothing failed, but something could not be checked; the text says what and why.
    NotChecked(String),
}

struct Step {
    name: &'static str,
    took: Duration,
    end: Result<Outcome>,
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    /// Runs a step and remembers how it ended.
    pub(crate) fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<Outcome>) {
        eprintln!("\n== {name}");
        let began = Instant::now();
        let end = step();
        if let Err(error) = &end {
            eprintln!("{name} failed: {error:#}");
        }
        self.0.push(Step { name, took: began.elapsed(), end });
    }

    /// Runs a step that is either wholly checked or failed.
    pub(crate) fn check(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) {
        self.run(name, || step().map(|()| Outcome::Passed));
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("\n{:<28} {:>9}  result", "step", "seconds");
        for step in &self.0 {
            let result = match &step.end {
                Ok(Outcome::Passed) => "ok".to_owned(),
                Ok(Outcome::NotChecked(why)) => format!("NOT CHECKED: {why}"),
                Err(error) => format!("FAILED: {error}"),
            };
            println!("{:<28} {:>9.1}  {result}", step.name, step.took.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|step| step.took).sum();
        println!("{:<28} {:>9.1}", "total", total.as_secs_f64());
    }

    /// Fails where any step failed.
    pub(crate) fn verdict(&self) -> Result<()> {
        let failed: Vec<_> = self.0.iter().filter(|step| step.end.is_err()).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = failed.iter().map(|step| step.name).collect();
        bail!("{} of {} steps failed: {}", failed.len(), self.0.len(), names.join(", "));
    }
}
