//! How well a cluster spreads what one node is given, in terms of the best that could be.

use super::{is_a_try, median};
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};
use suite::{Cluster, Crowd, Place, find, is_even};

/// CPUs of the nodes; together they are never more than two, one each half of which the machine gives to one node.
const LABS: &[(&str, &[f64])] = &[
    ("two nodes of one CPU", &[1.0, 1.0]),
    ("four nodes of half a CPU", &[0.5, 0.5, 0.5, 0.5]),
    ("half a CPU, one, half a CPU", &[0.5, 1.0, 0.5]),
];
/// How many programs are started.
const JOBS: &[usize] = &[4, 8];
/// How many programs are a burst.
const BURST: usize = 8;
/// Seconds that a program takes on a standard CPU which it has for itself.
const JOB_SECONDS: f64 = 30.0;
/// Repetitions; the median counts.
const RUNS: usize = 3;
/// Millions of steps by which a node's rate is measured: some seconds.
const CALIBRATION: u32 = 1500;
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Makespans, and the time until a burst is spread.
pub(super) fn measure() -> Result<()> {
    let (runs, seconds) = if is_a_try() { (1, 3.0) } else { (RUNS, JOB_SECONDS) };
    println!(
        "\n## Balance\n\nEqual programs that compute, {seconds:.0} s each on a standard CPU alone, started on the first node \
         at once. *Ideal* is all their work ÷ what all nodes together do, measured in the same lab before with one program \
         on each node; nothing that moves and costs nothing could be faster. Medians of {runs}.\n"
    );
    println!("| nodes | programs | ideal, s | took, s | ÷ ideal | moves | burst of {BURST} even after, s |");
    println!("|---|---|---|---|---|---|---|");
    for (what, cpus) in LABS {
        let list: Vec<String> = cpus.iter().map(f64::to_string).collect();
        let cluster = Cluster::balanced(cpus.len(), &["--cpus", &list.join(",")])?;
        let measured = of_a_lab(&cluster, what, cpus, runs, seconds);
        measured.with_context(|| cluster.logs())?;
    }
    Ok(())
}

fn of_a_lab(cluster: &Cluster, what: &str, cpus: &[f64], runs: usize, seconds: f64) -> Result<()> {
    let home = cluster.home();
    let bursts: Vec<f64> = (0..runs).map(|_| burst(cluster, cpus)).collect::<Result<_>>()?;
    let burst = median(bursts.iter().copied());
    eprintln!("{what}: bursts {bursts:?}");
    for &count in JOBS {
        let mut rows = Vec::new();
        for _ in 0..runs {
            let rates = rates(cluster)?;
            let together: f64 = rates.iter().sum();
            // What a standard CPU does in so many seconds, in millions of steps.
            let standard = together / cpus.iter().sum::<f64>() / speed(home)?;
            let millions = (seconds * standard).round().max(1.0);
            let ideal = count as f64 * millions / together;
            let (moves, began) = (moves(cluster)?, Instant::now());
            Crowd::start(home, count, millions as u32, 1)?.finish(PATIENCE)?;
            let took = began.elapsed().as_secs_f64();
            let moves = self::moves(cluster)? - moves;
            eprintln!("{what}, {count}: rates {rates:?}, ideal {ideal:.1}, took {took:.1}, moves {moves}");
            rows.push([ideal, took, took / ideal, moves]);
            cluster.nothing_remains(suite::SOON)?;
        }
        let of = |index: usize| median(rows.iter().map(|row: &[f64; 4]| row[index]));
        println!(
            "| {what} | {count} | {:.1} | {:.1} | {:.2} | {:.0} | {burst:.1} |",
            of(0),
            of(1),
            of(2),
            of(3)
        );
    }
    Ok(())
}

/// Millions of steps per second of each node, all of them at work at the same time with one program that nobody moves.
fn rates(cluster: &Cluster) -> Result<Vec<f64>> {
    let millions = if is_a_try() { CALIBRATION / 10 } else { CALIBRATION };
    let measure = |node: &'static str| {
        let place = cluster.node(node);
        let program = format!("{}/grind", place.guests()?);
        // Not by our own clock: what it takes to get into the node does not count.
        let line = format!(
            "a=$(date +%s%N); mosrun -L {program} {millions} 1 > /dev/null; b=$(date +%s%N); echo took $((b - a))"
        );
        let words = ["sh".to_owned(), "-c".to_owned(), line];
        let mut run = suite::Run::command(place, &words, suite::Input::Pipes, String::new())?;
        let (status, output) = run.end(PATIENCE)?;
        let said = String::from_utf8_lossy(&output).into_owned();
        ensure!(status == 0, "the measurement of {node} ended with {status}: {said}");
        let took = said.lines().find_map(|line| line.strip_prefix("took ")?.trim().parse::<f64>().ok());
        Ok(f64::from(millions) * 1e9 / took.with_context(|| format!("it measured nothing: {said}"))?)
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = cluster.nodes().iter().map(|node| scope.spawn(|| measure(node))).collect();
        let joined = asked.into_iter().map(|thread| thread.join());
        joined.map(|rate| rate.map_err(|_| anyhow::anyhow!("a measurement failed"))?).collect()
    })
}

/// How fast a node's CPU is, in standard CPUs.
fn speed(place: Place<'_>) -> Result<f64> {
    let said = place.must("om load --json")?;
    let speed = find(&said, "speed").and_then(|speed| speed.as_f64()).context(said)?;
    Ok(speed / f64::from(model::limits::SPEED_STANDARD))
}

/// Moves that all nodes have made by themselves.
fn moves(cluster: &Cluster) -> Result<f64> {
    let mut moves = 0.0;
    for &node in cluster.nodes() {
        let said = cluster.node(node).must("om counts --json")?;
        for what in ["balanced", "placed"] {
            moves += find(&said, what).and_then(|count| count.as_f64()).with_context(|| said.clone())?;
        }
    }
    Ok(moves)
}

/// Seconds until a burst of programs is spread.
fn burst(cluster: &Cluster, cpus: &[f64]) -> Result<f64> {
    let crowd = Crowd::start(cluster.home(), BURST, 1_000_000, 1)?;
    let took = crowd.settles(PATIENCE, |places| is_even(places, cpus))?;
    // Dropped, they are killed.
    drop(crowd);
    cluster.nothing_remains(suite::SOON)?;
    Ok(took.as_secs_f64())
}
