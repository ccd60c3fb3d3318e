//! A guest's way through a world, from start to end, and the comparison with a native run.

use crate::om::{Move, moved};
use crate::place::Place;
use crate::{Cluster, Feed, Guest, RUN_MAX, Run, SOON, Stop, World};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

/// How a guest ended: everything that must be the same in every world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status.
    pub status: i32,
    /// Everything it printed.
    pub output: Vec<u8>,
    /// The files it left.
    pub files: String,
}

impl Finished {
    /// Fails unless both are the same, and says what differs.
    pub fn same_as(&self, native: &Finished) -> Result<()> {
        ensure!(
            self.status == native.status,
            "exit status {}, natively {}: {}",
            self.status,
            native.status,
            self.shown()
        );
        if self.output != native.output {
            let at = self.output.iter().zip(&native.output).take_while(|(a, b)| a == b).count();
            bail!(
                "its output differs from byte {at} on ({} bytes, natively {})\n{}\nnatively\n{}",
                self.output.len(),
                native.output.len(),
                self.shown(),
                native.shown()
            );
        }
        ensure!(self.files == native.files, "its files are\n{}natively\n{}", self.files, native.files);
        Ok(())
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.output[..self.output.len().min(2000)]).into_owned()
    }
}

/// The native run of a guest, done once in each test program.
pub fn native(guest: &Guest) -> Result<Finished> {
    type Slot = Arc<OnceLock<std::result::Result<Finished, String>>>;
    static RUNS: Mutex<Option<HashMap<String, Slot>>> = Mutex::new(None);
    let key = format!("{}:{}", guest.name, guest.argument);
    let slot = {
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(runs.get_or_insert_default().entry(key).or_default())
    };
    let run =
        slot.get_or_init(|| run_in(Place::Here, guest, World::Native).map_err(|error| format!("{error:#}")));
    run.clone().map_err(|error| anyhow::anyhow!("natively: {error}"))
}

/// Runs a guest in a world and compares it with its native run.
pub fn travel(guest: &Guest, world: World) -> Result<()> {
    let natively = native(guest)?;
    let output = String::from_utf8_lossy(&natively.output).into_owned();
    ensure!(natively.status == guest.exit, "natively it ends with {}: {output}", natively.status);
    ensure!(!output.contains("not so:") && !output.contains(": took "), "natively: {output}");
    if world == World::Native {
        return Ok(());
    }
    let cluster = Cluster::shared()?;
    let finished = run_in(cluster.home(), guest, world)?;
    finished.same_as(&natively)
}

fn run_in(place: Place<'_>, guest: &Guest, world: World) -> Result<Finished> {
    let mut run = Run::start(place, guest)?;
    let mut journey = Journey { moves: world.moves().into_iter().collect(), made: Vec::new() };
    match guest.feed {
        Feed::Steps => {
            while !journey.moves.is_empty() {
                run.send(b"step\n")?;
                journey.next(&mut run, 1)?;
            }
            run.send(b"step\n")?;
            std::thread::sleep(Duration::from_millis(150));
            run.send(b"finish\n")?;
        }
        Feed::Wait => {
            // The native run has no moves; its input stays open as in the others.
            while !journey.moves.is_empty() && !run.has_ended() {
                journey.next(&mut run, 1)?;
            }
        }
        Feed::Data(length) => feed_data(&mut run, &mut journey, length)?,
        Feed::Terminal(script) => type_script(&mut run, &mut journey, script)?,
    }
    let (status, output) = run.end(RUN_MAX)?;
    journey.report(guest, world);
    // On a terminal each line ends with two characters; that is no matter of the guest's.
    let output = if matches!(guest.feed, Feed::Terminal(_)) {
        String::from_utf8_lossy(&output).replace("\r\n", "\n").into_bytes()
    } else {
        output
    };
    let files = place.take_files(&run.scratch)?;
    Ok(Finished { status, output, files })
}

fn feed_data(run: &mut Run<'_>, journey: &mut Journey, length: usize) -> Result<()> {
    let pieces = journey.moves.len() + 2;
    let data = data(length);
    let mut input = run.take_input()?;
    let (send, receive) = mpsc::sync_channel::<Vec<u8>>(1);
    // A thread of its own: the guest may take its input only after it has been moved.
    let writer = std::thread::spawn(move || {
        receive.into_iter().try_for_each(|piece| input.write_all(&piece).and_then(|()| input.flush()))
    });
    for piece in data.chunks(length.div_ceil(pieces)) {
        if send.send(piece.to_vec()).is_err() {
            break;
        }
        journey.next(run, 1)?;
    }
    drop(send);
    ensure!(journey.moves.is_empty(), "{} moves were left over", journey.moves.len());
    match writer.join() {
        Ok(written) => written.with_context(|| run.said()),
        Err(_) => bail!("the writer panicked"),
    }
}

/// Bytes that neither repeat nor shrink to nothing when they are compressed.
pub fn data(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"abcdefghijklmnopqrstuvwxyz012345"[(state >> 32) as usize % 32]
    };
    (0..length).map(|_| next()).collect()
}

fn type_script(run: &mut Run<'_>, journey: &mut Journey, script: &[(&str, &str)]) -> Result<()> {
    let each = journey.moves.len().div_ceil(script.len()).max(1);
    let mut at = 0;
    for (typed, answered) in script {
        journey.next(run, each)?;
        run.send(typed.as_bytes())?;
        at = run.expect(answered, at)?;
    }
    ensure!(journey.moves.is_empty(), "{} moves were left over", journey.moves.len());
    Ok(())
}

/// The moves still to be made, and those that were.
struct Journey {
    moves: std::collections::VecDeque<(Duration, Stop)>,
    made: Vec<Move>,
}

impl Journey {
    /// Makes the next moves, if any are left.
    fn next(&mut self, run: &mut Run<'_>, count: usize) -> Result<()> {
        for _ in 0..count {
            let Some((pause, stop)) = self.moves.pop_front() else { return Ok(()) };
            // The pause is part of the world: the guest shall run for a while.
            std::thread::sleep(pause);
            match run.place().migrate_patiently(run.pid, stop.name())? {
                // It came home by itself, because it did what cannot be done away.
                Err(refusal) if stop == Stop::Home && refusal.codes == ["same-node"] => {}
                Err(refusal) if run.has_ended() => {
                    bail!("it ended before its move: {}\n{}", refusal.text, run.said())
                }
                answer => {
                    let made = moved(answer, stop.name()).with_context(|| run.said())?;
                    self.made.push(made);
                    check_place(run, stop)?;
                }
            }
        }
        Ok(())
    }

    fn report(&self, guest: &Guest, world: World) {
        if std::env::var_os("OM_SUITE_VERBOSE").is_some() && !self.made.is_empty() {
            let freezes: Vec<u64> = self.made.iter().map(|made| made.freeze_us / 1000).collect();
            println!("{world}/{}: freezes of {freezes:?} ms", guest.name);
        }
    }
}

/// After a move a process is there, or at home if it was brought home meanwhile; never anywhere else.
fn check_place(run: &mut Run<'_>, stop: Stop) -> Result<()> {
    let Place::Node(cluster, home) = run.place() else { return Ok(()) };
    let at = match run.place().whereabouts(run.pid) {
        Ok(at) => at,
        Err(_) if run.has_ended() => return Ok(()),
        Err(error) => return Err(error),
    };
    let home = cluster.number(home)?;
    let wanted = if stop == Stop::Home { home } else { cluster.number(stop.name())? };
    ensure!(at == wanted || at == home, "it was moved to {} and is on node {at}", stop.name());
    Ok(())
}

impl Run<'_> {
    /// Moves it, and fails if it is not moved.
    pub fn go(&self, stop: Stop) -> Result<Move> {
        moved(self.place().migrate_patiently(self.pid, stop.name())?, stop.name())
            .with_context(|| self.said())
    }

    /// Says "finish" and waits for an end with this status.
    pub fn finish(&mut self, status: i32) -> Result<Vec<u8>> {
        self.send(b"finish\n")?;
        let (ended, output) = self.end(SOON)?;
        ensure!(ended == status, "it ended with {ended} instead of {status}\n{}", self.said());
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canary: a comparison that finds nothing would let every world pass.
    #[test]
    fn every_difference_is_found() {
        let native = Finished { status: 3, output: b"a\nb\n".to_vec(), files: "./x f 644 1\n".to_owned() };
        assert!(native.same_as(&native.clone()).is_ok());
        let differs = |change: fn(&mut Finished)| {
            let mut other = native.clone();
            change(&mut other);
            other.same_as(&native).is_err()
        };
        assert!(differs(|other| other.status = 0));
        assert!(differs(|other| other.output.truncate(2)));
        assert!(differs(|other| other.output.push(b'c')));
        assert!(differs(|other| other.files.clear()));
    }
}
