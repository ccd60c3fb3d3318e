//! Many moves under many signals: nothing lost, nothing doubled, nothing out of order.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use suite::{Cluster, Feed, Guest, Input, RUN_MAX, Run, Stop, World, guest, is_long, main as run, trial};

/// Bytes that go through the pump.
const PUMPED: usize = 40_000_000;

fn main() -> ExitCode {
    run(vec![
        trial("pump-40-megabytes-60-moves", &["cc"], || pump(60)),
        trial("rtsignals-3000-20-moves", &["cc"], || {
            let moves = World::Shuttle { moves: if is_long() { 60 } else { 20 }, seed: 61 }.moves();
            real_time_signals(3000, None, moves.into_iter())
        }),
        // Its deputy catches some whenever it is to be filled again.
        trial("rtsignals-60000-without-a-break-home-and-out", &["cc"], || {
            let moves = [Stop::N2, Stop::Home].into_iter().cycle();
            real_time_signals(60_000, Some("50"), moves.map(|stop| (Duration::ZERO, stop)))
        }),
        trial("every-register-30-moves", &["cc"], || registers(30)),
    ])
}

/// Data through a pipe on both sides, two kinds of handlers, moves at random moments.
fn pump(moves: u32) -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut run = Run::start(cluster.home(), &guest("pump"))?;
    let data = suite::data(PUMPED);
    let mut input = run.take_input()?;
    let (stops, pid) = (World::Shuttle { moves, seed: 60 }.moves(), run.pid);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| -> Result<()> {
            // In pieces, so that the last one goes out when the last move has been made.
            let pieces = stops.len() + 1;
            let mut pieces = data.chunks(PUMPED.div_ceil(pieces));
            let last = pieces.next_back().unwrap_or_default();
            pieces.try_for_each(|piece| input.write_all(piece))?;
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            input.write_all(last)?;
            drop(input);
            Ok(())
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let both = format!("kill -USR1 {pid}; sleep 0.02; kill -USR2 {pid}; sleep 0.03");
                drop(cluster.home().shell(&format!("for i in 1 2 3 4 5; do {both}; done")));
            }
        });
        let moved = stops.iter().try_for_each(|(pause, stop)| {
            std::thread::sleep(*pause);
            travel_on(&run, *stop)
        });
        done.store(true, Ordering::Relaxed);
        moved?;
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })?;
    let (status, output) = run.end(RUN_MAX)?;
    ensure!(status == 0, "it ended with {status}: {}", run.said());
    ensure!(output == data, "{} bytes came out, {} went in, and they differ", output.len(), data.len());
    Ok(())
}

/// Queued signals carry numbers: the guest sees each once, in order. It moves until there are no more moves or signals; the
/// sender may pause after each, microseconds.
fn real_time_signals(
    count: u32,
    pause: Option<&str>,
    moves: impl Iterator<Item = (Duration, Stop)>,
) -> Result<()> {
    let cluster = Cluster::shared()?;
    let text = format!("{count}");
    let guests = cluster.home().guests()?;
    let words = [format!("{guests}/rtsignals"), text.clone()];
    let mut run = Run::command(cluster.home(), &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let words = [format!("{guests}/sendsig"), run.pid.to_string(), text];
    let words: Vec<String> = words.into_iter().chain(pause.map(str::to_owned)).collect();
    let mut sender = Run::command(cluster.home(), &words, Input::Pipes, String::new())?;
    for (pause, stop) in moves {
        std::thread::sleep(pause);
        if run.has_ended() || sender.has_ended() {
            break;
        }
        match travel_on(&run, stop) {
            Err(_) if run.has_ended() => break,
            answer => answer?,
        }
    }
    let (status, _) = sender.end(RUN_MAX)?;
    ensure!(status == 0, "the sender: {}", sender.said());
    let (status, output) = run.end(RUN_MAX)?;
    let output = String::from_utf8_lossy(&output).into_owned();
    let wanted = format!("received {count} of {count}, in order: yes");
    ensure!(status == 0 && output.contains(&wanted), "{status}: {output}");
    Ok(())
}

/// A guest without any system call, moved in the middle of its vectors.
fn registers(moves: u32) -> Result<()> {
    let guest = Guest { feed: Feed::Steps, ..guest("registers") };
    suite::travel(&guest, World::Shuttle { moves, seed: 62 })
}

fn travel_on(run: &Run<'_>, stop: Stop) -> Result<()> {
    match run.go(stop) {
        // It had come home by itself.
        Err(error) if stop == Stop::Home && format!("{error:#}").contains("same-node") => Ok(()),
        answer => answer.map(|_| ()),
    }
}
