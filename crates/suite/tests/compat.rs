//! The quick ones among the tests of other projects, moved about at random and compared with their runs in peace.
//!
//! `cargo xtask compat` runs all of them.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use suite::compat::{self, Ends, Entry};
use suite::{Workshop, main as run, trial};
use torture::Ground;

/// What chance is made of.
const SEED: u64 = 20;
/// The nodes of the lab.
const NODES: u16 = 3;

static GROUND: Mutex<Option<Ground>> = Mutex::new(None);

fn main() -> ExitCode {
    let trials = compat::entries().filter(|entry| entry.in_ci).map(|entry| {
        let name = format!("{}/{}", entry.group, entry.name);
        trial(name, entry.needs, move || torture(entry))
    });
    let conclusion = run(trials.collect());
    let ground = GROUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    match ground.map_or(Ok(()), Ground::down) {
        Ok(()) => conclusion,
        Err(error) => {
            eprintln!("compat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn torture(entry: &Entry) -> Result<()> {
    let plan = entry.plan(SEED)?;
    let mut ground = GROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if ground.is_none() {
        let programs = Workshop::open()?.programs.clone();
        *ground = Some(Ground::up(&format!("x{}", std::process::id()), NODES, Some(programs))?);
    }
    let ground = ground.as_mut().context("no lab")?;
    let report = ground.torture(&plan, &|_| {})?;
    let ends = Ends::of(&report.printed);
    println!("== {} {}: {ends:?}\n{report}", entry.group, entry.name);
    let unknown = entry.unknown_differences(&report);
    ensure!(unknown.is_empty(), "not as in peace, see above: {}", unknown.join(", "));
    ensure!(ends.ok > 0, "no test of it passed, not even in peace");
    Ok(())
}
