//! Moves in the middle of something: of a wait, of a call that is half done, of a `vfork`; and an end in the middle of a move.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, anyhow, ensure};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, HALF_DONE, HALF_JUMP, Input, Run, SOON, Stop, guest, main as run, trial, wait_until};

fn main() -> ExitCode {
    run(vec![
        trial("killed-in-the-middle-of-a-move", &["python3"], killed_in_the_middle_of_a_move),
        trial("waits-end-while-it-moves", &["python3", "python3:ctypes"], waits_end_while_it_moves),
        trial("waits-end-that-go-home", &["python3", "python3:ctypes"], waits_end_that_go_home),
        trial("half-done-writes-go-on", &["cc"], || {
            half_done_writes(&[Stop::N2, Stop::N3, Stop::N2], Count::Whole)
        }),
        trial("half-done-writes-come-home", &["cc"], || {
            half_done_writes(&[Stop::N2, Stop::Home], Count::Any)
        }),
        trial("half-done-writes-heed-handlers", &["cc"], half_done_writes_heed_handlers),
        trial("moves-in-the-middle-of-vfork", &["cc"], moves_in_the_middle_of_vfork),
    ])
}

/// Whoever is killed on its way was not lost: nobody starts it again.
fn killed_in_the_middle_of_a_move() -> Result<()> {
    const PROGRAM: &str =
        "import os, time; memory = os.urandom(48 << 20); print('ready', flush=True); time.sleep(600)";
    const STEP_MS: u32 = 16;
    const ROUNDS: u32 = 6;
    let place = Cluster::shared()?.home();
    let mut broken = 0;
    for (from, to) in [(Stop::N2, Stop::Home), (Stop::N2, Stop::N3), (Stop::Home, Stop::N2)] {
        for after in (1..=ROUNDS).map(|step| Duration::from_millis((step * STEP_MS).into())) {
            let words = ["/usr/bin/python3", "-c", PROGRAM].map(str::to_owned);
            let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
            let pid = run.pid;
            run.expect("ready", 0)?;
            if from != Stop::Home {
                run.go(from)?;
            }
            let (killed, moved) = std::thread::scope(|scope| {
                let moved = scope.spawn(|| place.migrate(pid, to.name()));
                std::thread::sleep(after);
                (place.must(&format!("kill -KILL {pid}")), moved.join())
            });
            killed?;
            if let Err(refusal) = moved.map_err(|_| anyhow!("the thread that moves it"))?? {
                // Of one that is about to end something may be in the way as well; but nothing fails without a reason.
                let is_told = refusal.text.contains("ended") || !refusal.codes.is_empty();
                ensure!(is_told, "{from:?} to {to:?}: {}", refusal.text);
            }
            let (status, _) = run.end(SOON)?;
            ensure!(status == 128 + 9, "it ended with {status}");
            let log = place.must(&format!("om log --pid {pid} --json"))?;
            ensure!(!log.contains("lost"), "{from:?} to {to:?}, killed after {after:?}: {log}");
            broken += u32::from(log.contains("not-moved"));
        }
    }
    ensure!(broken > 0, "nobody was killed in the middle of a move");
    Ok(())
}

/// What was made with `vfork` ends while its maker is on its way: each waits for the other only as long as the child
/// takes, and nobody has to ask twice.
fn moves_in_the_middle_of_vfork() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &guest("vforks"))?;
    for stop in [Stop::N2, Stop::N3, Stop::N2, Stop::Home, Stop::N3, Stop::N2, Stop::N3, Stop::Home] {
        let moved = place.migrate(run.pid, stop.name())?;
        moved.map_err(|refusal| anyhow::anyhow!("to {}: {}", stop.name(), refusal.text.trim()))?;
    }
    run.finish(0)?;
    Ok(())
}

/// However often a process is moved in the middle of a wait: its time goes on, also while the process stands still, and the
/// wait never ends too early.
fn waits_end_while_it_moves() -> Result<()> {
    const KINDS: &[&str] = &[
        "poll",
        "nanosleep",
        "nanosleep-rest",
        "clock-nanosleep",
        "futex",
        "select",
        "select-rest",
        "pselect",
        "ppoll",
        "epoll",
        "epoll-pwait2",
        "receive",
        "accept",
        "semtimedop",
        "event",
    ];
    for way in [&["n2", "home"][..], &["n2", "n3"], &["n2", "n3", "home"]] {
        waits_end(way, KINDS)?;
    }
    Ok(())
}

/// As above, of a call that brings its process home by itself.
fn waits_end_that_go_home() -> Result<()> {
    waits_end(&["n2"], &["sigtimedwait"])
}

fn waits_end(way: &[&str], kinds: &[&str]) -> Result<()> {
    const WAIT: u64 = 6;
    // The threads get to their waits, and out of them, one after the other.
    const SLACK: Duration = Duration::from_millis(400);
    let place = Cluster::shared()?.home();
    let mut words =
        vec!["/usr/bin/python3".to_owned(), format!("{}/waits.py", place.guests()?), WAIT.to_string()];
    words.extend(kinds.iter().map(|&kind| kind.to_owned()));
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let (mut longest, mut moves) = (Duration::ZERO, 0);
    let (begun, mut refused) = (Instant::now(), String::new());
    for stop in way.iter().cycle() {
        ensure!(begun.elapsed() < Duration::from_secs(WAIT) + SOON, "{way:?}, {moves} moves: it waits still");
        match place.migrate_patiently(run.pid, stop)? {
            Ok(moved) => {
                longest = longest.max(Duration::from_micros(moved.freeze_us));
                moves += 1;
            }
            // It has not come home yet.
            Err(refusal) if refusal.codes == ["same-node"] && !run.has_ended() => {}
            // Because it has ended, or else that is what is wrong.
            Err(refusal) => {
                refused = refusal.text;
                break;
            }
        }
        if run.has_ended() {
            break;
        }
    }
    let (status, output) = run.end(SOON).with_context(|| format!("{way:?}, move {moves}: {refused}"))?;
    let text = String::from_utf8_lossy(&output);
    let waited = text.lines().filter_map(|line| line.strip_suffix(" ms")?.rsplit_once(' '));
    let mut count = 0;
    for (kind, waited) in waited {
        let waited = Duration::from_millis(waited.parse()?);
        // It may stand still when its time is over, and again before it has looked at its clock.
        let at_most = Duration::from_secs(WAIT) + 2 * longest + SLACK;
        ensure!(
            (Duration::from_secs(WAIT)..at_most).contains(&waited),
            "{way:?}, {moves} moves, frozen for at most {longest:?}: {kind} took {waited:?}"
        );
        count += 1;
    }
    ensure!(
        status == 0 && count == kinds.len() && text.lines().count() == count + 1 && moves > 3,
        "{moves} moves, it ended with {status}: {text}"
    );
    Ok(())
}

/// What a call that was half done when its process moved may answer.
#[derive(PartialEq)]
enum Count {
    /// What it was asked for.
    Whole,
    /// Less as well, if it is true.
    Any,
}

/// Calls that have given a part, and wait for somebody to take it, while their process moves.
fn half_done_writes(way: &[Stop], count: Count) -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &HALF_DONE)?;
    // All of them wait now: in the futex of their end, or for the child to begin.
    wait_until("its threads wait", || {
        Ok(place.must(&format!("ps -L -o stat= -p {}", run.pid))?.lines().all(|state| state.starts_with('S')))
    })?;
    for stop in way {
        run.go(*stop)?;
    }
    let output = String::from_utf8_lossy(&run.finish(0)?).into_owned();
    ensure!(output.contains("every byte came once"), "{output}");
    ensure!(count == Count::Any || !output.contains("short"), "{way:?}: {output}");
    Ok(())
}

/// A call that is half done, is stopped, and finds a signal that the program handles when it goes on: it answers its part. If
/// the handler leaves for good, the same call at the same place is another one.
fn half_done_writes_heed_handlers() -> Result<()> {
    let place = Cluster::shared()?.home();
    for (signal, says) in [("USR1", "1 jumps, 0 short"), ("USR2", "0 jumps, 1 short")] {
        let mut run = Run::start(place, &HALF_JUMP)?;
        let pid = run.number_after("writer ")?;
        wait_until("it waits", || Ok(place.must(&format!("cat /proc/{pid}/syscall"))?.starts_with("1 ")))?;
        let moved = place.migrate(pid, "n2")?;
        moved.map_err(|refusal| anyhow::anyhow!("to n2: {}", refusal.text.trim()))?;
        // Nothing but the part that it gave at home is done: the deputy waits for room.
        wait_until("its deputy waits", || {
            Ok(place.must(&format!("cat /proc/{pid}/syscall"))?.starts_with("1 "))
        })?;
        place.must(&format!("kill -TSTP {pid}"))?;
        wait_until("it is stopped", || Ok(place.state(pid)?.starts_with('T')))?;
        place.must(&format!("kill -{signal} {pid} && kill -CONT {pid}"))?;
        wait_until("its deputy waits again", || {
            Ok(place.must(&format!("cat /proc/{pid}/syscall"))?.starts_with("1 "))
        })?;
        let output = String::from_utf8_lossy(&run.finish(0)?).into_owned();
        ensure!(output.contains(says), "{signal}: {output}");
    }
    Ok(())
}
