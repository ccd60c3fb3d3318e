//! Ordinary programs, moved about at random with everything they start, and compared with their runs in peace.
//!
//! The engine of it is that of `om lab torture`. At the end every node must be as it was at the beginning.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use std::process::ExitCode;
use suite::{Ordeals, WORKLOADS, Workload, is_long, main as run, trial};

/// Moves that all trials of a long run make together, at least.
const MOVES_LONG_MIN: u64 = 2000;
/// What chance is made of; long runs go on with the numbers behind it.
const SEED: u64 = 20;
/// How often a long run tortures each workload.
const TIMES_LONG: u64 = 6;

static ORDEALS: Ordeals = Ordeals::new('t');

fn main() -> ExitCode {
    let times = if is_long() { TIMES_LONG } else { 1 };
    let seeds = SEED..SEED + times;
    let trials: Vec<_> = seeds
        .flat_map(|seed| WORKLOADS.iter().map(move |workload| (workload, seed)))
        .map(|(workload, seed)| {
            let name = format!("{}-{seed}", workload.name);
            trial(name, workload.needs, move || torture(workload, seed))
        })
        .collect();
    let count = trials.len();
    let conclusion = ORDEALS.end(run(trials));
    let moves = ORDEALS.moves();
    if is_long() && ORDEALS.count() == count && moves < MOVES_LONG_MIN {
        eprintln!("torture: only {moves} moves in all, {MOVES_LONG_MIN} are wanted");
        return ExitCode::FAILURE;
    }
    conclusion
}

fn torture(workload: &Workload, seed: u64) -> Result<()> {
    let report = ORDEALS.torture(&workload.plan(seed)?)?;
    println!("== {} with seed {seed}\n{report}", workload.name);
    ensure!(report.same, "it was not as in peace, see above; 'om lab torture --seed {seed}' does the same");
    Ok(())
}
