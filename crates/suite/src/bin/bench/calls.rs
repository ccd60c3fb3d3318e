//! What a system call costs.

use super::{median, told};
use anyhow::{Context as _, Result};
use std::time::Duration;
use suite::{Cluster, Input, Run, Stop};

/// Rounds, in each of which every program measures once; the median counts.
const CALL_RUNS: usize = 9;
const PORT: &str = "17655";

/// One row: getpid, write, read, large read (microseconds), loop (milliseconds).
type Costs = [f64; 5];
const LOOP: usize = 4;

/// Calls that go home, calls that do not, and no calls at all.
pub(super) fn measure(cluster: &Cluster) -> Result<()> {
    let programs = [
        ("on a node, never moved", "", start(cluster, &[])?),
        ("away, both nodes on one CPU", "n3", start(cluster, &[Stop::N3])?),
        ("away, each node on its own CPU", "n2", start(cluster, &[Stop::N2])?),
        ("home again", "", start(cluster, &[Stop::N2, Stop::Home])?),
    ];
    let rows = side_by_side(programs)?;
    println!(
        "\n## System calls\n\nMicroseconds; *TCP* is a ping-pong of 100 bytes between the same two nodes.\n"
    );
    println!("| where | write 100 B | read 100 B | read 64 kB | TCP | write ÷ TCP | read ÷ TCP |");
    println!("|---|---|---|---|---|---|---|");
    for Row { what, node, costs: [_, sent, got, large, _], .. } in &rows {
        if node.is_empty() {
            println!("| {what} | {sent:.2} | {got:.2} | {large:.2} | | | |");
        } else {
            let wire = pingpong(cluster, node)?;
            let (a, b) = (sent / wire, got / wire);
            println!("| {what} | {sent:.1} | {got:.1} | {large:.1} | {wire:.1} | {a:.2} | {b:.2} |");
        }
    }
    println!("\n## What stays where the program is\n\nIn terms of a program that was never moved.\n");
    println!("| where | getpid, microseconds | ratio | loop, milliseconds | ratio |\n|---|---|---|---|---|");
    for Row { what, costs: [call, .., work], ratios: [a, .., b], .. } in &rows {
        println!("| {what} | {call:.3} | {a:.2} | {work:.2} | {b:.3} |");
    }
    Ok(())
}

/// What was measured of one program.
struct Row {
    what: &'static str,
    /// The other node of it; empty at home.
    node: &'static str,
    costs: Costs,
    /// In terms of the first program, in the same round.
    ratios: Costs,
}

/// Starts a program and takes it where it is to be measured.
fn start<'a>(cluster: &'a Cluster, way: &[Stop]) -> Result<Run<'a>> {
    let words = [format!("{}/calls", cluster.home().guests()?)];
    let run = Run::command(cluster.home(), &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    for stop in way {
        run.go(*stop)?;
    }
    Ok(run)
}

/// All programs measure in turn, so that what the machine does meanwhile meets each of them.
fn side_by_side<const N: usize>(
    mut programs: [(&'static str, &'static str, Run<'_>); N],
) -> Result<Vec<Row>> {
    // What a move leaves to be done is not what is measured here.
    std::thread::sleep(Duration::from_millis(300));
    let mut rounds = Vec::new();
    for _ in 0..CALL_RUNS {
        let mut round = Vec::new();
        for (what, _, run) in &mut programs {
            let costs = told(run, b"measure\n", "measured ")?;
            let costs = Costs::try_from(costs).map_err(|costs| anyhow::anyhow!("it measured {costs:?}"))?;
            eprintln!("{what}: {costs:?}");
            round.push(costs);
        }
        rounds.push(round);
    }
    let least = |number: usize| rounds.iter().map(|round| round[number][LOOP]).fold(f64::INFINITY, f64::min);
    let mut rows = Vec::new();
    for (number, (what, node, mut run)) in programs.into_iter().enumerate() {
        let cost = |index: usize| median(rounds.iter().map(|round| round[number][index]));
        let ratio = |index: usize| median(rounds.iter().map(|round| round[number][index] / round[0][index]));
        let (mut costs, mut ratios): (Costs, Costs) = (std::array::from_fn(cost), std::array::from_fn(ratio));
        // The loop only ever gets slower by others.
        (costs[LOOP], ratios[LOOP]) = (least(number), least(number) / least(0));
        rows.push(Row { what, node, costs, ratios });
        run.finish(0)?;
    }
    Ok(rows)
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
