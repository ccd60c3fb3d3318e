//! Measures what docs/performance.md shows, and prints its tables in Markdown.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result};
use std::process::ExitCode;
use std::time::Duration;
use suite::{Cluster, Input, Move, Place, Run, Stop, Workshop};

/// Sizes of the moved heap, megabytes, and how often each is measured.
const SIZES: &[(u32, usize)] = &[(1, 9), (10, 9), (100, 5), (1000, 3)];

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

fn measure() -> Result<()> {
    Workshop::open()?;
    println!("## Freezes\n\nA program that sleeps, with a heap of random data. Medians, milliseconds.\n");
    println!(
        "| heap | out: freeze | out: whole move | home: freeze | home: whole move |\n|---|---|---|---|---|"
    );
    let place = Cluster::shared()?.home();
    for (megabytes, times) in SIZES.iter().copied() {
        freezes(place, megabytes, times)?;
    }
    println!("\n## System calls\n\nMicroseconds for each, one after the other.\n");
    println!("| where | getpid | write of 100 bytes | read of 64 kB |\n|---|---|---|---|");
    calls(Place::Here, "on this machine, outside the lab", &[])?;
    calls(place, "on a node, never moved", &[])?;
    calls(place, "away", &[Stop::N2])?;
    calls(place, "home again", &[Stop::N2, Stop::Home])
}

fn freezes(place: Place<'_>, megabytes: u32, times: usize) -> Result<()> {
    let script = format!(
        "import os, sys; data = bytearray(os.urandom({megabytes} << 20)); print('ready', flush=True); sys.stdin.readline()"
    );
    let words = ["/usr/bin/python3".to_owned(), "-c".to_owned(), script];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let (mut out, mut home) = (Vec::new(), Vec::new());
    for _ in 0..times {
        out.push(run.go(Stop::N2)?);
        home.push(run.go(Stop::Home)?);
    }
    let milliseconds = |moves: &[Move], of: fn(&Move) -> u64| {
        let mut all: Vec<u64> = moves.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2] as f64 / 1000.0
    };
    println!(
        "| {megabytes} MB | {:.1} | {:.1} | {:.1} | {:.1} |",
        milliseconds(&out, |made| made.freeze_us),
        milliseconds(&out, |made| made.total_us),
        milliseconds(&home, |made| made.freeze_us),
        milliseconds(&home, |made| made.total_us)
    );
    run.finish(0)?;
    Ok(())
}

fn calls(place: Place<'_>, where_it_is: &str, way: &[Stop]) -> Result<()> {
    let words = [format!("{}/calls", place.guests()?)];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    for stop in way {
        run.go(*stop)?;
    }
    std::thread::sleep(Duration::from_millis(200));
    let from = run.position();
    run.send(b"measure\n")?;
    let end = run.expect("measured ", from)?;
    run.expect("\n", end)?;
    let said = run.output().text();
    let line = said.get(end..).and_then(|rest| rest.lines().next()).context("it measured nothing")?;
    println!("| {where_it_is} | {} |", line.replace(' ', " | "));
    run.finish(0)?;
    Ok(())
}
