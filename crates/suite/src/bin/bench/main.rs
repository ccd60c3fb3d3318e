//! Measures what docs/performance.md shows, and prints its tables in Markdown.
//!
//! The lab deals one CPU to each node, round robin: on a machine of two CPUs n1 and n3 share one, and n2 has the other.
#![forbid(unsafe_code)]

mod balance;
mod calls;
mod idle;
mod kinds;
mod memory;
mod moves;
mod why;

use anyhow::{Context as _, Result};
use std::process::ExitCode;
use suite::{Cluster, Place, Run, Workshop};

/// Where a part is measured.
#[derive(Clone, Copy)]
enum Part {
    /// In the lab that the parts share.
    Shared(fn(&Cluster) -> Result<()>),
    /// In labs of its own, with nothing else on the machine.
    Alone(fn() -> Result<()>),
}

/// What is measured, by the name that chooses it.
const PARTS: &[(&str, Part)] = &[
    ("moves", Part::Shared(moves::measure)),
    ("calls", Part::Shared(calls::measure)),
    ("kinds", Part::Shared(kinds::measure)),
    ("memory", Part::Shared(memory::measure)),
    ("why", Part::Shared(why::measure)),
    ("balance", Part::Alone(balance::measure)),
    ("idle", Part::Alone(idle::measure)),
];

fn main() -> ExitCode {
    let measured = measure();
    match measured.and(Cluster::end_shared()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All of it, or only the parts whose names are given as arguments.
fn measure() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    Workshop::open()?;
    print_machine()?;
    for (_, part) in PARTS.iter().filter(|(name, _)| wants(name)) {
        if let Part::Shared(part) = part {
            part(Cluster::shared()?)?;
        }
    }
    Cluster::end_shared()?;
    for (_, part) in PARTS.iter().filter(|(name, _)| wants(name)) {
        if let Part::Alone(part) = part {
            part()?;
        }
    }
    Ok(())
}

fn print_machine() -> Result<()> {
    let here = Place::Here;
    let cpu = here.must("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1")?;
    let count = here.must("nproc")?;
    let kernel = here.must("uname -r | sed 's/-.*//'")?;
    println!("Machine: {}, {} CPUs, Linux {}.", cpu.trim(), count.trim(), kernel.trim());
    Ok(())
}

/// Whether this is only to see that it works: everything is short, and the numbers mean nothing.
fn is_a_try() -> bool {
    std::env::var_os("OM_BENCH_TRY").is_some()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Sends a line and reads the numbers that come in answer, behind this word.
fn told(run: &mut Run<'_>, ask: &[u8], word: &str) -> Result<Vec<f64>> {
    let from = run.position();
    run.send(ask)?;
    let at = run.expect(word, from)?;
    let end = run.expect("\n", at)?;
    let bytes = run.output().bytes();
    let line = String::from_utf8_lossy(bytes.get(at..end).unwrap_or_default()).into_owned();
    line.split_whitespace()
        .map(|word| word.parse().with_context(|| format!("'{word}' is no number")))
        .collect()
}
