//! How long programs stand still when they move.

use super::{median, told};
use anyhow::{Context as _, Result};
use suite::{Cluster, Input, Move, Place, Run, Stop};

/// A program that is moved, how often, and what the prototype needed (milliseconds, from and to).
struct Moved {
    what: &'static str,
    guest: &'static str,
    /// Megabytes that it holds, or threads that it has.
    amount: u32,
    times: usize,
    prototype_ms: &'static str,
}

const MOVED: &[Moved] = &[
    Moved { what: "C, nearly nothing", guest: "gaps", amount: 1, times: 15, prototype_ms: "3–4" },
    Moved { what: "C, 64 threads", guest: "gaps", amount: 64, times: 15, prototype_ms: "" },
    Moved { what: "Python, 7 MB", guest: "gaps.py", amount: 1, times: 15, prototype_ms: "10–17" },
    Moved { what: "Python, 100 MB", guest: "gaps.py", amount: 100, times: 7, prototype_ms: "85–120" },
    Moved { what: "Python, 1 GB", guest: "gaps.py", amount: 1000, times: 5, prototype_ms: "700–1400" },
];

/// Memory that is touched first: the first use of a virtual machine's memory measures its hypervisor.
const WARM_BYTES: usize = 4 << 30;
/// Freezes and whole moves, out and home.
pub(super) fn measure(cluster: &Cluster) -> Result<()> {
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
        true => vec!["/usr/bin/python3".to_owned(), path, moved.amount.to_string()],
        false => vec![path, moved.amount.to_string()],
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
