//! What calls of each kind cost, and what threads, children and other programs cost to make.

use super::calls::pingpong;
use super::{median, told};
use anyhow::Result;
use std::time::Duration;
use suite::{Cluster, Input, Place, Run, Stop};

/// Repetitions; the median counts.
const RUNS: usize = 3;

/// Where a kind is dealt with while the process is away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// On the host.
    There,
    /// At home; this many calls.
    Home(u32),
    /// At both ends.
    Both,
}

/// What `guests/kinds.c` measures, in its order.
const KINDS: &[(&str, Where)] = &[
    ("getpid", Where::There),
    ("mmap and munmap, anonymous", Where::There),
    ("fcntl", Where::Home(1)),
    ("lseek", Where::Home(1)),
    ("write 100 B", Where::Home(1)),
    ("read 100 B", Where::Home(1)),
    ("write 4 kB", Where::Home(1)),
    ("stat", Where::Home(1)),
    ("open and close", Where::Home(2)),
    ("poll of two", Where::Home(1)),
    ("100 B through a pipe", Where::Home(2)),
    ("100 B through a socket pair", Where::Home(2)),
    ("kill(self, 0)", Where::Home(1)),
    ("a thread made and joined", Where::Both),
    ("fork, its end, wait", Where::Both),
    ("posix_spawn of `true`, its end, wait", Where::Both),
    ("fork, exec of `true`, its end, wait", Where::Both),
];

/// At home and away, each in terms of home and of a network's round trip.
pub(super) fn measure(cluster: &Cluster) -> Result<()> {
    let home = costs(cluster.home(), None)?;
    let away = costs(cluster.home(), Some(Stop::N2))?;
    let wire = pingpong(cluster, "n2")?;
    println!(
        "\n## Calls of each kind, threads, children, other programs\n\nMicroseconds, each node on its own CPU; a round \
         trip of 100 bytes by TCP between them takes {wire:.1}. A call that stays on the host is measured with the rest.\n"
    );
    println!("| what | made | at home | away | per second, away | away ÷ home | away ÷ round trip |");
    println!("|---|---|---|---|---|---|---|");
    for (index, (what, place)) in KINDS.iter().enumerate() {
        let (home, away) = (home[index], away[index]);
        let (place, calls) = match place {
            Where::There => ("on the host".to_owned(), 1),
            Where::Home(1) => ("at home".to_owned(), 1),
            Where::Home(calls) => (format!("at home, {calls} calls"), *calls),
            Where::Both => ("at both".to_owned(), 1),
        };
        let per_second = f64::from(calls) * 1e6 / away;
        println!(
            "| {what} | {place} | {home:.2} | {away:.2} | {per_second:.0} | {:.1} | {:.2} |",
            away / home,
            away / wire
        );
    }
    Ok(())
}

/// Microseconds of each kind.
fn costs(place: Place<'_>, way: Option<Stop>) -> Result<Vec<f64>> {
    let words = [format!("{}/kinds", place.guests()?)];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    if let Some(stop) = way {
        run.go(stop)?;
    }
    // What a move leaves to be done is not what is measured here.
    std::thread::sleep(Duration::from_millis(300));
    let mut rows = Vec::new();
    for _ in 0..RUNS {
        let row = told(&mut run, b"measure\n", "measured ")?;
        anyhow::ensure!(row.len() == KINDS.len(), "it measured {row:?}");
        rows.push(row);
    }
    eprintln!("{way:?}: {rows:?}");
    run.finish(0)?;
    Ok((0..KINDS.len()).map(|index| median(rows.iter().map(|row| row[index]))).collect())
}
