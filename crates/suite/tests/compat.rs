//! The quick ones among the tests of other projects, moved about at random and compared with their runs in peace.
//!
//! `cargo xtask compat` runs all of them.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use std::process::ExitCode;
use suite::compat::{self, Ends, Entry};
use suite::{Ordeals, main as run, trial};

/// What chance is made of.
const SEED: u64 = 20;

static ORDEALS: Ordeals = Ordeals::new('x');

fn main() -> ExitCode {
    let trials = compat::entries().filter(|entry| entry.in_ci).map(|entry| {
        let name = format!("{}/{}", entry.group, entry.name);
        trial(name, entry.needs, move || torture(entry))
    });
    ORDEALS.end(run(trials.collect()))
}

fn torture(entry: &Entry) -> Result<()> {
    let report = ORDEALS.torture(&entry.plan(SEED)?)?;
    let ends = Ends::of(&report.printed);
    println!("== {} {}: {ends:?}\n{report}", entry.group, entry.name);
    let unknown = entry.unknown_differences(&report);
    ensure!(unknown.is_empty(), "not as in peace, see above: {}", unknown.join(", "));
    ensure!(ends.ok > 0, "no test of it passed, not even in peace");
    Ok(())
}
