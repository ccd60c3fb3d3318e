//! Programs that are stopped, by `kill -STOP` as by a terminal: away, and while they move.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::Duration;
use suite::{Cluster, Input, Run, SOON, Stop, guest, main as run, trial, wait_until};

fn main() -> ExitCode {
    run(vec![
        trial("stop-and-continue", &["python3"], stop_and_continue),
        trial("they-move", &["python3"], they_move),
        trial("stops-and-moves-cross", &["python3"], || stops_and_moves_cross("counter", &[])),
        trial("stops-and-moves-of-threads-cross", &["cc"], || {
            stops_and_moves_cross("threads64", &["stopped"])
        }),
        trial("in-a-wait-they-stay", &["python3"], in_a_wait_they_stay),
    ])
}

fn stop_and_continue() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &guest("counter"))?;
    run.go(Stop::N2)?;
    let pid = run.pid;
    let count = format!("stat -c %s {}/count", run.scratch);
    place.must(&format!("kill -STOP {pid}"))?;
    wait_until("it is stopped", || Ok(place.state(pid)?.starts_with('T')))?;
    // What was on its way may still arrive; after that nothing moves.
    std::thread::sleep(Duration::from_millis(500));
    let first = place.must(&count)?;
    std::thread::sleep(Duration::from_millis(700));
    ensure!(place.must(&count)? == first, "it counts while it is stopped");
    place.must(&format!("kill -CONT {pid}"))?;
    wait_until("it goes on", || Ok(place.must(&count)? != first))?;
    ensure!(!place.state(pid)?.starts_with('T'), "it still looks stopped");
    run.finish(3)?;
    Ok(())
}

/// A stopped process moves and is stopped wherever it is, until it is continued.
fn they_move() -> Result<()> {
    let cluster = Cluster::shared()?;
    let place = cluster.home();
    let mut run = Run::start(place, &guest("counter"))?;
    let pid = run.pid;
    let count = || place.must(&format!("stat -c %s {}/count", run.scratch));
    let way = [Stop::N2, Stop::Home, Stop::N2, Stop::N3, Stop::N2, Stop::Home, Stop::N3];
    for (number, stop) in way.into_iter().enumerate() {
        place.must(&format!("kill -STOP {pid}"))?;
        wait_until("it is stopped", || Ok(place.state(pid)?.starts_with('T')))?;
        let moved = place.migrate(pid, stop.name())?;
        ensure!(moved.is_ok(), "stopped, it is not moved to {}: {moved:?}", stop.name());
        let wanted = cluster.number(if stop == Stop::Home { "n1" } else { stop.name() })?;
        ensure!(place.whereabouts(pid)? == wanted, "it is not at {}", stop.name());
        ensure!(place.state(pid)?.starts_with('T'), "the move to {} continued it", stop.name());
        let first = count()?;
        // Sometimes it is looked at for longer than its keeper takes to look at it, sometimes it is continued at once.
        if number % 2 == 0 {
            std::thread::sleep(Duration::from_millis(300));
            ensure!(count()? == first, "it counts at {} while it is stopped", stop.name());
        }
        place.must(&format!("kill -CONT {pid}"))?;
        wait_until("it counts on", || Ok(count()? != first))?;
        ensure!(!place.state(pid)?.starts_with('T'), "it still looks stopped");
    }
    run.finish(3)?;
    Ok(())
}

/// It is stopped and continued at any moment of its moves, and each of them is made all the same, but where one of its threads
/// waits as in the next trial.
fn stops_and_moves_cross(name: &str, refusals: &[&str]) -> Result<()> {
    let place = Cluster::shared()?.home();
    let guest = guest(name);
    let mut run = Run::start(place, &guest)?;
    let pid = run.pid;
    let storm = format!(
        "while kill -STOP {pid} && sleep 0.0$((RANDOM % 3))$((RANDOM % 10)) && kill -CONT {pid}; \
         do sleep 0.0$((RANDOM % 4))$((RANDOM % 10)); [ -e {}/enough ] && exit; done",
        run.scratch
    );
    let words = ["bash", "-c", &storm].map(str::to_owned);
    let mut storm = Run::command(place, &words, Input::Pipes, String::new())?;
    let way = [Stop::N2, Stop::N3, Stop::Home, Stop::N3, Stop::N2, Stop::Home];
    let mut refused = 0;
    for (number, stop) in way.into_iter().cycle().take(36).enumerate() {
        while let Err(refusal) = place.migrate(pid, stop.name())? {
            refused += 1;
            let usual = !refusals.is_empty() && refusal.codes == refusals && refused < 500;
            ensure!(
                usual,
                "move {number}, to {}, {refused}: {refusal:?}\n{:?} {}",
                stop.name(),
                run.end(SOON),
                run.said()
            );
        }
    }
    place.must(&format!("touch {}/enough", run.scratch))?;
    storm.end(SOON)?;
    run.finish(guest.exit)?;
    Ok(())
}

/// The kernel does not tell how long a wait still is that it will go on with when a stopped process is continued.
fn in_a_wait_they_stay() -> Result<()> {
    let place = Cluster::shared()?.home();
    let script = "import select; print('ready', flush=True); select.poll().poll(1000000)";
    let words = ["/usr/bin/python3", "-c", script].map(str::to_owned);
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let pid = run.pid;
    wait_until("it waits", || Ok(place.must(&format!("cat /proc/{pid}/syscall"))?.starts_with("7 ")))?;
    place.must(&format!("kill -STOP {pid}"))?;
    wait_until("it is stopped", || Ok(place.state(pid)?.starts_with('T')))?;
    let refusal = place.migrate(pid, "n2")?.err().context("stopped in a wait, it was moved")?;
    ensure!(refusal.codes == ["stopped"] && refusal.status == 3, "{refusal:?}");
    ensure!(place.state(pid)?.starts_with('T'), "the refusal continued it");
    place.must(&format!("kill -CONT {pid}"))?;
    run.go(Stop::N2)?;
    // Away its host knows.
    place.must(&format!("kill -STOP {pid}"))?;
    wait_until("it is stopped", || Ok(place.state(pid)?.starts_with('T')))?;
    for stop in [Stop::N3, Stop::Home] {
        let moved = place.migrate(pid, stop.name())?;
        ensure!(moved.is_ok(), "to {}: {moved:?}", stop.name());
    }
    place.must(&format!("kill -KILL {pid}"))?;
    run.end(SOON)?;
    Ok(())
}
