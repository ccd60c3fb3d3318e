//! What a system call costs.

use super::{median, told};
use anyhow::{Context as _, Result};
use std::time::Duration;
use suite::{Cluster, Input, Place, Run, Stop};

/// Repetitions of the measurements of calls; the median counts.
const CALL_RUNS: usize = 5;
const PORT: &str = "17655";

/// One row: getpid, write, read, large read (microseconds), loop (milliseconds).
type Costs = [f64; 5];

/// Calls that go home, calls that do not, and no calls at all.
pub(super) fn measure(cluster: &Cluster) -> Result<()> {
    let home = cluster.home();
    let rows = [
        ("on a node, never moved", "", costs(home, &[])?),
        ("away, both nodes on one CPU", "n3", costs(home, &[Stop::N3])?),
        ("away, each node on its own CPU", "n2", costs(home, &[Stop::N2])?),
        ("home again", "", costs(home, &[Stop::N2, Stop::Home])?),
    ];
    println!(
        "\n## System calls\n\nMicroseconds; *TCP* is a ping-pong of 100 bytes between the same two nodes.\n"
    );
    println!("| where | write 100 B | read 100 B | read 64 kB | TCP | write ÷ TCP | read ÷ TCP |");
    println!("|---|---|---|---|---|---|---|");
    for (what, node, [_, sent, got, large, _]) in &rows {
        if node.is_empty() {
            println!("| {what} | {sent:.2} | {got:.2} | {large:.2} | | | |");
        } else {
            let wire = pingpong(cluster, node)?;
            let (a, b) = (sent / wire, got / wire);
            println!("| {what} | {sent:.1} | {got:.1} | {large:.1} | {wire:.1} | {a:.2} | {b:.2} |");
        }
    }
    let native = rows[0].2;
    println!("\n## What stays where the program is\n\nIn terms of a program that was never moved.\n");
    println!("| where | getpid, microseconds | ratio | loop, milliseconds | ratio |\n|---|---|---|---|---|");
    for (what, _, costs) in &rows {
        let (call, work) = (costs[0], costs[4]);
        let (a, b) = (call / native[0], work / native[4]);
        println!("| {what} | {call:.3} | {a:.2} | {work:.2} | {b:.3} |");
    }
    Ok(())
}

fn costs(place: Place<'_>, way: &[Stop]) -> Result<Costs> {
    let words = [format!("{}/calls", place.guests()?)];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    for stop in way {
        run.go(*stop)?;
    }
    // What a move leaves to be done is not what is measured here.
    std::thread::sleep(Duration::from_millis(300));
    let mut rows = Vec::new();
    for _ in 0..CALL_RUNS {
        let row = told(&mut run, b"measure\n", "measured ")?;
        rows.push(Costs::try_from(row).map_err(|row| anyhow::anyhow!("it measured {row:?}"))?);
    }
    eprintln!("{way:?}: {rows:?}");
    run.finish(0)?;
    let mut costs: Costs = std::array::from_fn(|index| median(rows.iter().map(|row| row[index])));
    // The loop only ever gets slower by others.
    costs[4] = rows.iter().map(|row| row[4]).fold(f64::INFINITY, f64::min);
    Ok(costs)
}

/// The median round trip between n1, which asks, and another node; microseconds.
pub(super) fn pingpong(cluster: &Cluster, node: &'static str) -> Result<f64> {
    let (home, other) = (cluster.home(), cluster.node(node));
    let program = format!("{}/pingpong", home.guests()?);
    let address = cluster.address(node)?;
    let mut all = Vec::new();
    for _ in 0..CALL_RUNS {
        let words = [program.clone(), "serve".to_owned(), PORT.to_owned()];
        let mut server = Run::command(other, &words, Input::Pipes, String::new())?;
        server.expect("ready", 0)?;
        let said = home.must(&format!("{program} ask {address} {PORT}"))?;
        server.end(suite::SOON)?;
        let word = said.split_whitespace().nth(1).context("it measured nothing")?;
        all.push(word.parse::<f64>()?);
    }
    Ok(median(all.into_iter()))
}
