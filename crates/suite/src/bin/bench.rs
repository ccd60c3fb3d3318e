//! Measures what docs/performance.md shows, and prints its tables in Markdown.
//!
//! The lab deals one CPU to each node, round robin: on a machine of two CPUs n1 and n3 share one, and n2 has the other.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result};
use std::process::ExitCode;
use std::time::Duration;
use suite::{Cluster, Input, Move, Place, Run, Stop, Workshop};

/// A program that is moved, how often, and what the prototype needed (milliseconds, from and to).
struct Moved {
    what: &'static str,
    guest: &'static str,
    megabytes: u32,
    times: usize,
    prototype_ms: &'static str,
}

const MOVED: &[Moved] = &[
    Moved { what: "C, nearly nothing", guest: "gaps", megabytes: 0, times: 15, prototype_ms: "3–4" },
    Moved { what: "Python, 7 MB", guest: "gaps.py", megabytes: 1, times: 15, prototype_ms: "10–17" },
    Moved { what: "Python, 100 MB", guest: "gaps.py", megabytes: 100, times: 7, prototype_ms: "85–120" },
    Moved { what: "Python, 1 GB", guest: "gaps.py", megabytes: 1000, times: 5, prototype_ms: "700–1400" },
];

/// Memory that is touched first: the first use of a virtual machine's memory measures its hypervisor.
const WARM_BYTES: usize = 4 << 30;
/// Repetitions of the measurements of calls; the median counts.
const CALL_RUNS: usize = 5;
const PORT: &str = "17655";

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
    let cluster = Cluster::shared()?;
    if wants("moves") {
        moves(cluster)?;
    }
    if wants("calls") {
        calls(cluster)?;
    }
    if wants("memory") {
        memory(cluster)?;
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn moves(cluster: &Cluster) -> Result<()> {
    std::hint::black_box(vec![1u8; WARM_BYTES]);
    println!(
        "\n## Moves\n\nMedians, milliseconds, and the best. *Seen* is the gap that the program itself saw.\n"
    );
    println!(
        "| program | out: freeze | best | seen | whole move | home: freeze | best | seen | whole move | prototype |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for moved in MOVED {
        let measured = freezes(cluster.home(), moved);
        let [out, home] = measured.with_context(|| format!("failed to measure {}", moved.what))?;
        let row: Vec<String> = out.iter().chain(&home).map(|value| format!("{value:.1}")).collect();
        println!("| {} | {} | {} |", moved.what, row.join(" | "), moved.prototype_ms);
    }
    Ok(())
}

/// Out and home: freeze, the best of them, the gap that was seen, the whole move; milliseconds.
fn freezes(place: Place<'_>, moved: &Moved) -> Result<[[f64; 4]; 2]> {
    let path = format!("{}/{}", place.guests()?, moved.guest);
    let words = match moved.guest.ends_with(".py") {
        true => vec!["/usr/bin/python3".to_owned(), path, moved.megabytes.to_string()],
        false => vec![path],
    };
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    // Once there and back: what every later move finds in place, this one brings.
    run.go(Stop::N2)?;
    run.go(Stop::Home)?;
    gap(&mut run)?;
    let mut ways: [Vec<(Move, f64)>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..moved.times {
        for (way, stop) in ways.iter_mut().zip([Stop::N2, Stop::Home]) {
            let made = run.go(stop)?;
            way.push((made, gap(&mut run)?));
        }
    }
    let frozen: Vec<u64> = ways[0].iter().map(|(made, _)| made.freeze_us).collect();
    let back: Vec<u64> = ways[1].iter().map(|(made, _)| made.freeze_us).collect();
    eprintln!("{}: out {frozen:?}, home {back:?} microseconds", moved.what);
    run.send(b"finish\n")?;
    run.end(suite::SOON)?;
    Ok(ways.map(|way| {
        let freezes = || way.iter().map(|(made, _)| made.freeze_us as f64 / 1000.0);
        [
            median(freezes()),
            freezes().fold(f64::INFINITY, f64::min),
            median(way.iter().map(|(_, gap)| *gap)),
            median(way.iter().map(|(made, _)| made.total_us as f64 / 1000.0)),
        ]
    }))
}

/// The longest gap since the last time, milliseconds.
fn gap(run: &mut Run<'_>) -> Result<f64> {
    let told = told(run, b"gap\n", "gap ")?;
    Ok(told.first().context("it told nothing")? / 1000.0)
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

/// One row: getpid, write, read, large read (microseconds), loop (milliseconds).
type Costs = [f64; 5];

fn calls(cluster: &Cluster) -> Result<()> {
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
fn pingpong(cluster: &Cluster, node: &'static str) -> Result<f64> {
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

/// Proportional memory of our own processes, with one Python process away.
fn memory(cluster: &Cluster) -> Result<()> {
    let home = cluster.home();
    let words = ["/usr/bin/python3".to_owned(), format!("{}/gaps.py", home.guests()?), "1".to_owned()];
    let mut run = Run::command(home, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let resident =
        |run: &Run<'_>| home.must(&format!("sed -n 's/^Pss: *//p' /proc/{}/smaps_rollup", run.pid));
    let before = resident(&run)?;
    run.go(Stop::N2)?;
    std::thread::sleep(Duration::from_millis(1500));
    println!("\n## Memory\n\nProportional set size with one Python program away.\n");
    println!("| process | memory |\n|---|---|");
    let script = "cd /proc; for p in [0-9]*; do c=$(tr '\\0' ' ' <$p/cmdline 2>/dev/null); case \"$c\" in *omd*) \
                  case \"$c\" in *'sh -c'*) ;; *) echo \"| $(echo $c | sed 's,.*/omd,omd,') | $(sed -n 's/^Pss: *//p' $p/smaps_rollup) |\";; esac;; esac; done";
    for (name, place) in [("n1", home), ("n2", cluster.node("n2"))] {
        for line in place.must(script)?.lines() {
            println!("| {name}: {}", line.trim_start_matches("| "));
        }
    }
    println!("| n1: the program before it left | {} |", before.trim());
    println!("| n1: its deputy | {} |", resident(&run)?.trim());
    run.send(b"finish\n")?;
    run.end(suite::SOON)?;
    Ok(())
}
