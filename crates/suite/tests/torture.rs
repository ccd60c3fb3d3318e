//! Ordinary programs, moved about at random with everything they start, and compared with their runs in peace.
//!
//! The engine of it is that of `om lab torture`. All trials share one lab, one after the other: torture wants it for
//! itself. At the end every node must be as it was at the beginning.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use suite::{WORKLOADS, Workload, Workshop, is_long, main as run, trial};
use torture::Ground;

/// Moves that all trials of a long run make together, at least.
const MOVES_LONG_MIN: u64 = 2000;
/// What chance is made of; long runs go on with the numbers behind it.
const SEED: u64 = 20;
/// How often a long run tortures each workload.
const TIMES_LONG: u64 = 6;
/// The nodes of the lab.
const NODES: u16 = 3;

static GROUND: Mutex<Option<Ground>> = Mutex::new(None);
static MOVES: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

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
    let conclusion = run(trials);
    match end(count) {
        Ok(()) => conclusion,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn torture(workload: &Workload, seed: u64) -> Result<()> {
    let plan = workload.plan(seed)?;
    let mut ground = GROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if ground.is_none() {
        let programs = Workshop::open()?.programs.clone();
        *ground = Some(Ground::up(&format!("t{}", std::process::id()), NODES, Some(programs))?);
    }
    let ground = ground.as_mut().context("no lab")?;
    let report = ground.torture(&plan, &|_| {})?;
    MOVES.fetch_add(report.moves, Ordering::Relaxed);
    DONE.fetch_add(1, Ordering::Relaxed);
    println!("== {} with seed {seed}\n{report}", workload.name);
    ensure!(report.same, "it was not as in peace, see above; 'om lab torture --seed {seed}' does the same");
    Ok(())
}

/// Ends the lab, if there is one, and looks at what all trials together have left in it.
fn end(count: usize) -> Result<()> {
    let Some(ground) = GROUND.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
    let remains = ground.remains();
    ground.down()?;
    let moves = MOVES.load(Ordering::Relaxed);
    println!("torture: {moves} moves in all");
    ensure!(remains.is_empty(), "after {moves} moves there is left:\n{}", remains.join("\n"));
    if is_long() && DONE.load(Ordering::Relaxed) == count {
        ensure!(moves >= MOVES_LONG_MIN, "only {moves} moves in all, {MOVES_LONG_MIN} are wanted");
    }
    Ok(())
}
