//! Twenty programs at once, all of them moved about at random; a long run goes on until there were ten thousand moves.
//!
//! At the end every node must be as it was at the beginning.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use std::process::ExitCode;
use suite::{MIX, Ordeals, Workload, is_long, main as run, trial};

/// Moves of a long run, at least.
const MOVES_LONG: u64 = 10_000;
/// How much a round of a long run does, in terms of a short one.
const SIZE_LONG: u32 = 4;
/// What chance is made of; each further round takes the next number.
const SEED: u64 = 20;

static ORDEALS: Ordeals = Ordeals::new('m');

fn main() -> ExitCode {
    ORDEALS.end(run(vec![trial("twenty-programs", MIX.needs, twenty_programs)]))
}

fn twenty_programs() -> Result<()> {
    let times = if is_long() { SIZE_LONG } else { 1 };
    let mix = Workload { size: times * MIX.size, ..MIX };
    for seed in SEED.. {
        let report = ORDEALS.torture(&mix.plan(seed)?)?;
        println!("== seed {seed}, {} moves in all\n{report}", ORDEALS.moves());
        ensure!(report.same, "it was not as in peace, see above");
        if !is_long() || ORDEALS.moves() >= MOVES_LONG {
            break;
        }
    }
    Ok(())
}
