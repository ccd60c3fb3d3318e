//! What an administrator sets and sweeps, and what everybody may ask about causes and places.

use super::Daemon;
use super::requests::{Wish, relay};
use super::tools::{failed, failed_for};
use crate::agents::{self, Conversation};
use crate::process::Process;
use crate::{Error, held, journal};
use control::{
    AgentRequest, Answer, Book, Cursor, Event, FailureKind, Fate, NodeRow, Record, Sake, Sweep, Switch, What,
};
use model::limits::{CONTROL_LINE_BYTES_MAX, LOAD_PER_CPU};
use model::{DecayRates, Destination, NodeId, ProcessId, ReasonCode};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

/// Processes that are asked to move at the same time.
const SWEPT_AT_ONCE: usize = 4;
/// Failures of a sweep that are told one by one.
const FAILURES_TOLD_MAX: usize = 100;
/// Records of a page of the log: the longest there can be, each character of a cause escaped, fit into one line.
const PAGE_RECORDS_MAX: usize = CONTROL_LINE_BYTES_MAX / 4096;

impl Daemon {
    pub(super) fn switch(&self, uid: u32, switch: Switch, on: bool) -> Result<Answer, Event> {
        only_root(uid, "turn this node's switches")?;
        let changed = self.switched.set(switch, on).map_err(|error| {
            failed(FailureKind::Broken, &format!("failed to {error}; nothing is changed"))
        })?;
        if changed {
            let text = format!("{switch} {}", if on { "on" } else { "off" });
            journal::note(&self.setup.config.paths, journal::now(What::Switched).cause(text));
        }
        Ok(Answer::NodeStanding(self.node_standing()))
    }

    pub(super) fn set_decay(&self, uid: u32, rates: Option<DecayRates>) -> Result<Answer, Event> {
        only_root(uid, "set how fast statistics decay")?;
        let rates = rates.unwrap_or_default();
        if !rates.is_sound() {
            let text = "an interval is from 1 to 3600 seconds, and 0 to 1000 thousandths are kept";
            return Err(failed(FailureKind::BadRequest, text));
        }
        self.decays.set(rates).map_err(|error| {
            failed(FailureKind::Broken, &format!("failed to {error}; nothing is changed"))
        })?;
        let DecayRates { interval_s, slow, fast } = rates;
        let text = format!("decay every {interval_s} s, kept are {slow} (slow) and {fast} (fast) of 1000");
        journal::note(&self.setup.config.paths, journal::now(What::Switched).cause(text));
        Ok(Answer::NodeStanding(self.node_standing()))
    }

    /// Guests that have come just before the block are sent away like all others.
    pub(super) fn expel_all(&self, uid: u32) -> Result<Answer, Event> {
        self.switch(uid, Switch::Block, true)?;
        // An offer that is just being decided on is a warden when this is passed.
        drop(self.offers.lock().unwrap_or_else(PoisonError::into_inner));
        let guests = self.agents.wardens();
        Ok(Answer::Swept(sweep(&guests, |(path, guest)| {
            let who = format!("guest {} of node {}", guest.pid, guest.home);
            let Ok(stream) = agents::connect(path) else { return Ok(()) };
            let mut conversation = Conversation::new(stream);
            let request = AgentRequest::BringHome { pid: guest.pid, sake: Sake::People };
            last_word(&who, &mut |out| relay(&mut conversation, &request, out).map(drop))
        })))
    }

    pub(super) fn bring_all(&self, uid: u32) -> Result<Answer, Event> {
        self.switch(uid, Switch::Lstay, true)?;
        let away: Vec<_> =
            self.agents.keepers().into_iter().filter(|status| status.node != self.own()).collect();
        Ok(Answer::Swept(sweep(&away, |status| {
            let pid = status.process.pid;
            last_word(&format!("process {pid}"), &mut |out| {
                self.migrate(0, pid, Destination::Home, Wish::People, out)
            })
        })))
    }

    /// The least loaded of the nodes that are known and take guests.
    pub(super) fn best(self: &Arc<Daemon>, among: &[NodeId]) -> Result<Answer, Event> {
        let own = self.own();
        let rows = self.nodes();
        let wanted = |row: &&NodeRow| among.is_empty() || among.contains(&row.id);
        let others = rows.iter().filter(|row| row.id != own && row.alive).filter(wanted).count();
        if others == 0 && !among.contains(&own) {
            let text = "no other node is known to be up, so there is no best one; 'om nodes' lists them";
            return Err(failed_for(ReasonCode::DeadNode, FailureKind::Refused, text));
        }
        let fit = |row: &&NodeRow| row.id == own || (row.alive && row.figures.accepts == Some(true));
        let found = rows.iter().filter(fit).filter(wanted).min_by_key(|row| rank(row, own));
        found.map(|row| Answer::Found { node: row.id }).ok_or_else(|| {
            failed_for(ReasonCode::Refused, FailureKind::Refused, "no other node takes guests now")
        })
    }

    pub(super) fn log(
        &self,
        since_ms: u64,
        pid: Option<i32>,
        (book, after): (Book, Option<Cursor>),
    ) -> Result<Answer, Event> {
        let mut records: Vec<Record> = Vec::new();
        let next = journal::read(&self.setup.config.paths, book, after, &mut |record| {
            if record.at_ms >= since_ms && (pid.is_none() || record.pid == pid) {
                records.push(record);
            }
            if records.len() < PAGE_RECORDS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let more = records.len() == PAGE_RECORDS_MAX;
        next.map(|next| Answer::Log { records, next, more })
            .map_err(|error| failed(FailureKind::Broken, &format!("failed to {error}")))
    }

    /// Why a process was ended. Whoever asks has seen it end: what its keeper has left is dealt with first.
    pub(super) fn fate(&self, process: ProcessId) -> Result<Answer, Event> {
        let paths = &self.setup.config.paths;
        held::settle(paths);
        // In this order: the note goes only after the record is there.
        let pending = held::is_held(paths, process);
        match journal::end_of(paths, process) {
            Ok(Some(record)) => Ok(Answer::Fate(Fate::Known { record: Box::new(record) })),
            Ok(None) if pending => Ok(Answer::Fate(Fate::Pending)),
            Ok(None) => Ok(Answer::Fate(Fate::Unknown)),
            Err(error) => Err(failed(FailureKind::Broken, &format!("failed to {error}"))),
        }
    }
}

impl Daemon {
    /// Notes down that somebody's wish was refused before anything was touched.
    pub(super) fn note_refusal(&self, pid: i32, failure: &Event) {
        let Event::Failed { kind: FailureKind::Refused, message, .. } = failure else { return };
        let Some(process) = Process::read(pid) else { return };
        let record = journal::now(What::NotMoved).process(process.id, process.name).cause(message);
        journal::note(&self.setup.config.paths, record);
    }
}

fn only_root(uid: u32, what: &str) -> Result<(), Event> {
    if uid == 0 { Ok(()) } else { Err(failed(FailureKind::Forbidden, &format!("only root may {what}"))) }
}

/// Less is better: the load, and among equals our own node, then the one with most memory. Of a node whose load is not
/// known, each guest counts as a busy process.
fn rank(row: &NodeRow, own: NodeId) -> (u64, bool, u64, NodeId) {
    let cpus = row.figures.cpus.unwrap_or(1.0).max(0.01);
    let guessed = f64::from(row.guests) * f64::from(LOAD_PER_CPU) / cpus;
    let load = row.figures.load.map_or(guessed as u64, u64::from);
    (load, row.id != own, u64::MAX - row.figures.memory_free.unwrap_or(0), row.id)
}

/// Moves several processes at a time; each move gives nothing, or one line about why it failed.
fn sweep<Subject: Sync>(subjects: &[Subject], go: impl Fn(&Subject) -> Result<(), String> + Sync) -> Sweep {
    let (waiting, done) = (Mutex::new(subjects.iter()), Mutex::new(Sweep::default()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..SWEPT_AT_ONCE.min(subjects.len()) {
            scope.spawn(|| {
                while let Some(subject) = next() {
                    let outcome = go(subject);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(()) => done.moved += 1,
                        Err(line) if done.failures.len() < FAILURES_TOLD_MAX => done.failures.push(line),
                        Err(_) => {}
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Holds a conversation about one process; what is gone meanwhile has nothing to move any more.
fn last_word(
    who: &str,
    hold: &mut dyn FnMut(&mut super::requests::Out<'_>) -> Result<(), Error>,
) -> Result<(), String> {
    let mut last = None;
    let held = hold(&mut |event| {
        last = Some(event.clone());
        Ok(())
    });
    match (held, last) {
        (Err(error), _) => Err(format!("{who}: failed to {error}")),
        (Ok(()), Some(Event::Failed { kind, message, .. })) if kind != FailureKind::NotFound => {
            Err(format!("{who}: {message}"))
        }
        (Ok(()), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{Figures, NodeFound, NodeState};

    fn row(id: u16, load: Option<u32>, guests: u32, free: u64) -> NodeRow {
        NodeRow {
            id: NodeId::new(id).unwrap(),
            name: String::new(),
            address: String::new(),
            addresses: Vec::new(),
            state: NodeState::Alive,
            since_seconds: None,
            found: NodeFound::Configured,
            alive: true,
            round_trip_us: 0,
            cpus: 2,
            memory_bytes: 0,
            guests,
            kernel: String::new(),
            version: String::new(),
            figures: Figures { load, cpus: Some(2.0), memory_free: Some(free), ..Figures::default() },
        }
    }

    #[test]
    fn the_best_node_is_the_least_loaded_one() {
        let best = |rows: &[NodeRow]| {
            let own = NodeId::new(1).unwrap();
            rows.iter().min_by_key(|row| rank(row, own)).map(|row| row.id.get())
        };
        assert_eq!(best(&[row(1, Some(90), 0, 5), row(2, None, 1, 5), row(3, None, 2, 5)]), Some(2));
        assert_eq!(best(&[row(1, Some(40), 0, 5), row(2, None, 1, 5)]), Some(1));
        assert_eq!(best(&[row(1, Some(0), 0, 1), row(2, Some(0), 9, 5)]), Some(1), "staying costs nothing");
        assert_eq!(best(&[row(2, None, 1, 5), row(3, None, 1, 6)]), Some(3));
    }

    #[test]
    fn a_sweep_reaches_everybody_once() {
        let subjects: Vec<u32> = (0..50).collect();
        let seen = Mutex::new(Vec::new());
        let done = sweep(&subjects, |subject| {
            seen.lock().unwrap().push(*subject);
            if subject % 10 == 0 { Err(format!("{subject}")) } else { Ok(()) }
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!((seen, done.moved, done.failures.len()), (subjects, 45, 5));
        assert_eq!(sweep(&[0; 0], |_| Ok(())), Sweep::default());
    }
}
