//! A process that is away outlives trouble between its home and its host, or ends with a cause; nothing is left of it.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use suite::{Cluster, Counting, RUN_MAX, Run, SOON, Stop, World, guest, is_long, main as run, trial};

/// Bytes that go through the pump.
const PUMPED: usize = 40_000_000;
/// How long after a connection is lost for good everything must be gone: the time for which it may come back, on the
/// side that waits longest, and what the ends take.
const GONE: Duration = Duration::from_secs(model::limits::RESUME_HOST_SECONDS + 25);

fn main() -> ExitCode {
    let cuts = if is_long() { 60 } else { 20 };
    run(vec![
        trial("pump-40-megabytes-under-cuts", &["cc"], move || pump(cuts)),
        trial("python-under-cuts-and-moves", &["python3"], move || counting_under_cuts(cuts)),
        trial("cut-of-25-seconds", &["cc"], cut_of_25_seconds),
        trial("cut-for-good", &["cc"], cut_for_good),
    ])
}

/// Trouble by chance: silent cuts of either end, and resets.
fn trouble(cluster: &Cluster, seed: u64, number: u32, ends: &AtomicBool, made: &AtomicU32) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    for round in 0..number {
        let node = ["n1", "n2", "n3"][random.random_range(0..3)];
        if random.random_range(0..3) == 0 {
            cluster.reset(node)?;
        } else {
            let longest = if round % 8 == 7 { 5000 } else { 900 };
            cluster.cut(node, Duration::from_millis(random.random_range(200..longest)))?;
        }
        made.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(random.random_range(0..600)));
        if ends.load(Ordering::SeqCst) {
            break;
        }
    }
    Ok(())
}

/// A move may be refused, or fail, under trouble; the process must not notice.
fn move_about(run: &mut Run<'_>, seed: u64, enough: impl Fn() -> bool) -> Result<(u32, u32)> {
    let (mut made, mut failed) = (0, 0);
    for (pause, stop) in (World::Shuttle { moves: 4000, seed }).moves() {
        std::thread::sleep(pause);
        if enough() {
            break;
        }
        match run.go(stop) {
            Ok(_) => made += 1,
            // It had all it wanted, and ended.
            Err(_) if enough() => break,
            Err(error) if run.has_ended() => bail!("it ended: {error:#}"),
            Err(_) => failed += 1,
        }
    }
    Ok((made, failed))
}

fn pump(cuts: u32) -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let outcome = pump_in(&cluster, cuts);
    outcome.with_context(|| cluster.logs())
}

fn pump_in(cluster: &Cluster, cuts: u32) -> Result<()> {
    let mut run = Run::start(cluster.home(), &guest("pump"))?;
    let data = suite::data(PUMPED);
    let mut input = run.take_input()?;
    let (done, made, pid) = (AtomicBool::new(false), AtomicU32::new(0), run.pid);
    let (mut moves, mut failed) = (0, 0);
    std::thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| -> Result<()> {
            // In pieces, so that the last ones go out when the last trouble is over.
            let pieces = cuts as usize + 1;
            for (number, piece) in data.chunks(PUMPED.div_ceil(pieces)).enumerate() {
                let last = number + 1 == pieces;
                while (last || made.load(Ordering::SeqCst) < number as u32) && !done.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                input.write_all(piece)?;
            }
            drop(input);
            Ok(())
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let both = format!("kill -USR1 {pid}; sleep 0.02; kill -USR2 {pid}; sleep 0.03");
                drop(cluster.home().shell(&format!("for i in 1 2 3 4 5; do {both}; done")));
            }
        });
        let troubled = scope.spawn(|| {
            let outcome = trouble(cluster, 81, cuts, &done, &made);
            done.store(true, Ordering::SeqCst);
            outcome
        });
        let moved = move_about(&mut run, 82, || done.load(Ordering::SeqCst));
        done.store(true, Ordering::SeqCst);
        (moves, failed) = moved?;
        troubled.join().map_err(|_| anyhow::anyhow!("the trouble panicked"))??;
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })?;
    let (status, output) = run.end(RUN_MAX)?;
    ensure!(status == 0, "it ended with {status}: {}", run.said());
    ensure!(output == data, "{} bytes came out, {} went in, and they differ", output.len(), data.len());
    println!("{} cuts, {moves} moves, {failed} moves that failed", made.load(Ordering::SeqCst));
    ensure!(moves > 0 && made.load(Ordering::SeqCst) >= cuts, "{moves} moves, {made:?} cuts");
    cluster.nothing_remains(GONE)
}

fn counting_under_cuts(cuts: u32) -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let outcome = counting_in(&cluster, cuts);
    outcome.with_context(|| cluster.logs())
}

fn counting_in(cluster: &Cluster, cuts: u32) -> Result<()> {
    let mut counting = Counting::start(cluster, Duration::ZERO)?;
    let (done, made) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut counts = (0, 0);
    std::thread::scope(|scope| -> Result<()> {
        let troubled = scope.spawn(|| {
            let outcome = trouble(cluster, 83, cuts, &done, &made);
            done.store(true, Ordering::SeqCst);
            outcome
        });
        let moved = move_about(&mut counting.run, 84, || done.load(Ordering::SeqCst));
        done.store(true, Ordering::SeqCst);
        counts = moved?;
        troubled.join().map_err(|_| anyhow::anyhow!("the trouble panicked"))?
    })?;
    counting.goes_on(SOON)?;
    let count = counting.finish()?;
    println!("{made:?} cuts, {} moves, {} that failed, counted to {count}", counts.0, counts.1);
    ensure!(counts.0 > 0 && made.load(Ordering::SeqCst) >= cuts, "{counts:?}");
    cluster.nothing_remains(GONE)
}

fn cut_of_25_seconds() -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let mut run = Run::start(cluster.home(), &guest("counter"))?;
    run.go(Stop::N2)?;
    let count = format!("stat -c %s {}/count", run.scratch);
    cluster.cut("n2", Duration::from_secs(25)).with_context(|| cluster.logs())?;
    let before = cluster.home().must(&count)?;
    let deadline = Instant::now() + SOON;
    while cluster.home().must(&count)? == before {
        ensure!(Instant::now() < deadline, "it does not go on: {}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(!cluster.log_lines("n1", &["the connection is back"])?.is_empty(), "{}", cluster.logs());
    run.go(Stop::N3)?;
    run.go(Stop::Home)?;
    run.send(b"finish\n")?;
    let (status, _) = run.end(SOON)?;
    // The guest itself finds that a sleep or a call took longer than on one machine, and nothing else.
    ensure!(status == 3 || run.said().contains("a sleep was wrong"), "{status}: {}", run.said());
    cluster.nothing_remains(GONE)
}

fn cut_for_good() -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let mut run = Run::start(cluster.home(), &guest("loop"))?;
    let (pid, begun) = (run.pid, Instant::now());
    run.go(Stop::N2)?;
    cluster.cut_for_good("n2")?;
    let (status, _) = run.end(GONE).with_context(|| cluster.logs())?;
    ensure!(status == 128 + 9, "it ended with {status} instead of by SIGKILL: {}", cluster.logs());
    println!("ended {:?} after the cut", begun.elapsed());
    let causes = cluster
        .log_lines("n1", &["SIGKILL", &format!("pid={pid}"), "loop", "node=2", "did not come back"])?;
    ensure!(causes.len() == 1, "the log names the cause {} times: {}", causes.len(), cluster.logs());
    cluster.nothing_remains(GONE)
}
