//! What the broker is told of this node: the machine, the processes that it may move, and what has changed since.

use super::kinds;
use crate::daemon::Daemon;
use crate::daemon::gauge::Look;
use crate::machine;
use crate::measure::{Away, NodeState, Party, ProcessState};
use crate::rules::standing;
use balance::{Activity, Bounds, Event, Hold, Job, JobId, LocalJob, Machine, Run, Sample, Stats};
use control::WardenStatus;
use model::limits::{SPEED_STANDARD, TALK_NODES_MAX};
use model::{Decay, DecayRates, NodeId, ProcessId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use wire::peer::Bonds;

const BYTES_PER_MB: f64 = (1 << 20) as f64;
/// Of a node's memory, what is kept for the kernel and for everybody's surprises.
const USABLE: f64 = 0.95;
/// A process that wants less of a CPU than this is no load, and nothing is gained by moving it.
const WIDTH_MIN: f64 = 0.05;

/// Guests of which is known what binds them, at most: the home of any other refuses.
const BOUND_MAX: usize = 4096;
/// How long a guest may take to come.
const COMES: Duration = Duration::from_secs(600);

/// What a process has had done by its home so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Traffic {
    calls: u64,
    bytes: u64,
}

/// What is remembered of a process between two looks.
#[derive(Clone, Debug)]
struct Record {
    stats: Stats,
    /// At the last look.
    age_ms: u64,
    traffic: Traffic,
    job: Job,
    /// Where it ran.
    at: NodeId,
    peak_mb: f64,
}

/// Looks at this node, once a second.
pub(super) struct Census {
    cpu_class: u64,
    kernel: u32,
    records: BTreeMap<JobId, Record>,
    /// Who was here at the last look, at work or not.
    present: BTreeSet<JobId>,
    /// Own processes that were away at the look before the last.
    were_away: BTreeSet<JobId>,
    changes: Vec<(JobId, Event)>,
    /// Own processes that the broker has sent away itself, until a look shows them there.
    sent: BTreeSet<(JobId, NodeId)>,
    /// New programs that are on their way to where they are to start: their target has promised them room, and counts them.
    starting: BTreeSet<JobId>,
    /// What has left this node, and when: a look that was begun before may still show it here.
    left: BTreeMap<JobId, Instant>,
    /// What binds guests, by their names at home, and since when it is known.
    bonds: BTreeMap<(NodeId, i32), (Bonds, Instant)>,
    /// When the last look was begun, and how long that was after the one before.
    last: Instant,
    interval_s: f64,
    rates: DecayRates,
}

impl Census {
    pub(super) fn new(daemon: &Daemon) -> Census {
        Census {
            cpu_class: kinds::class_of(&daemon.cpu),
            kernel: packed(&machine::kernel()),
            records: BTreeMap::new(),
            present: BTreeSet::new(),
            were_away: BTreeSet::new(),
            changes: Vec::new(),
            sent: BTreeSet::new(),
            starting: BTreeSet::new(),
            left: BTreeMap::new(),
            bonds: BTreeMap::new(),
            last: Instant::now(),
            interval_s: 0.0,
            rates: DecayRates::default(),
        }
    }

    /// How this node is now. None where it has not been measured yet.
    pub(super) fn take(&mut self, daemon: &Daemon) -> Option<Sample> {
        let own = daemon.own();
        let Look { began, reserve, state, processes, guests } = daemon.gauge.look()?;
        self.left.retain(|_, left| *left >= began);
        self.interval_s = began.saturating_duration_since(self.last).as_secs_f64();
        self.last = began;
        self.rates = daemon.decays.get();
        self.were_away =
            self.records.iter().filter(|(_, record)| record.at != own).map(|(id, _)| *id).collect();
        let mut seen = BTreeSet::new();
        self.present.clear();
        let mut jobs = Vec::new();
        for process in processes {
            let Some(id) = id_of(&process, own) else { continue };
            let at = process.away.map_or(own, |away| away.node);
            let of_guest = |(home, pid)| {
                let told = guests.iter().find(|status| (status.home, status.pid) == (home, pid))?;
                Some(Traffic { calls: told.forwarded, bytes: told.carried_bytes })
            };
            let of_away = |away: Away| Traffic { calls: away.forwarded, bytes: away.carried_bytes };
            let traffic = match process.guest {
                Some(guest) => of_guest(guest),
                None => process.away.map(of_away),
            };
            let is_here = at == own && !self.left.contains_key(&id) && !self.starting.contains(&id);
            let works = is_here
                && process.runnable >= WIDTH_MIN
                && matches!(process.party, Some(Party::Job | Party::Guest));
            let bonds = works.then(|| match process.guest {
                Some(guest) => self.bonds.get(&guest).map(|(bonds, _)| bonds.clone()).unwrap_or_default(),
                None => standing::bonds(&daemon.setup.config.paths, process.id),
            });
            let decay = bonds.as_ref().map(|bonds| bonds.decay.unwrap_or_default());
            let job = self.note(id, &process, at, traffic.unwrap_or_default(), decay);
            seen.insert(id);
            if is_here {
                self.present.insert(id);
            }
            if let Some(Bonds { hold, mask, .. }) = bonds {
                let hold = if hold == Some(model::Hold::Locked) { Hold::Locked } else { Hold::Free };
                // A guest has looked at its home's CPU. Whatever runs the programs of ours runs it, too.
                let of_home = process.guest.and_then(|(home, _)| daemon.known_of(home));
                let cpu_class = of_home.map_or(self.cpu_class, |entry| entry.cpu_class);
                let bounds = Bounds { hold, mask, cpu_class };
                jobs.push(LocalJob { id, job, bounds });
            }
        }
        self.bury(&seen, own);
        self.loosen(&guests);
        Some(Sample { machine: self.machine(daemon, &state, reserve, &jobs), jobs })
    }

    /// What has happened to own processes since the last look.
    pub(super) fn changes(&mut self) -> Vec<(JobId, Event)> {
        std::mem::take(&mut self.changes)
    }

    /// Who is here, as of the last look: also who sleeps has come, and takes up its room.
    pub(super) fn present(&self) -> &BTreeSet<JobId> {
        &self.present
    }

    /// Whether a process has been seen at work.
    pub(super) fn knows(&self, id: &JobId) -> bool {
        self.records.contains_key(id)
    }

    /// The class of this node's CPUs.
    pub(super) fn cpu_class(&self) -> u64 {
        self.cpu_class
    }

    /// Whether an own process was away at the last look but one.
    pub(super) fn was_away(&self, id: &JobId) -> bool {
        self.were_away.contains(id)
    }

    /// A new program leaves for where it is to start.
    pub(super) fn starts(&mut self, id: JobId) {
        self.starting.insert(id);
    }

    /// It is there, or has stayed.
    pub(super) fn started(&mut self, id: &JobId) {
        self.starting.remove(id);
    }

    /// The broker has sent it there itself, and has accounted for it.
    pub(super) fn sent(&mut self, id: JobId, to: NodeId) {
        self.sent.insert((id, to));
        self.left.insert(id, Instant::now());
    }

    /// What people have said about a guest, which is here or will soon be.
    pub(super) fn bind(&mut self, guest: (NodeId, i32), bonds: Bonds) {
        if self.bonds.len() < BOUND_MAX || self.bonds.contains_key(&guest) {
            self.bonds.insert(guest, (bonds, Instant::now()));
        }
    }

    /// Forgets what binds those that have left, or have never come.
    fn loosen(&mut self, guests: &[WardenStatus]) {
        let here: BTreeSet<(NodeId, i32)> = guests.iter().map(|guest| (guest.home, guest.pid)).collect();
        self.bonds.retain(|guest, (_, since)| here.contains(guest) || since.elapsed() < COMES);
    }

    /// Takes in a look at a process, and what has changed since the last one.
    fn note(
        &mut self,
        id: JobId,
        process: &ProcessState,
        at: NodeId,
        traffic: Traffic,
        decay: Option<Decay>,
    ) -> Job {
        let record = self.records.entry(id).or_insert_with(|| Record {
            stats: Stats::new(Decay::default()),
            age_ms: process.age_ms,
            traffic,
            job: Job {
                home: id.home,
                age_s: 0.0,
                whole_s: None,
                memory_mb: 0.0,
                width: 0.0,
                talk: Default::default(),
            },
            at: id.home,
            peak_mb: 0.0,
        });
        if let Some(decay) = decay {
            record.stats.set_decay(decay);
        }
        if process.age_ms < record.age_ms {
            // It is another program now, which begins anew.
            record.stats.clear();
            (record.age_ms, record.traffic, record.peak_mb) = (process.age_ms, traffic, 0.0);
        }
        let spent_ms = process.age_ms.saturating_sub(record.age_ms);
        let carried = traffic.bytes.saturating_sub(record.traffic.bytes);
        let mut files = [None; TALK_NODES_MAX];
        // Whatever a call of the remote reads or writes, it is with its home.
        files[0] = (carried > 0).then_some((id.home, carried as f64 / BYTES_PER_MB));
        let activity = Activity {
            cpu_s: spent_ms as f64 / 1000.0,
            calls: traffic.calls.saturating_sub(record.traffic.calls) as f64,
            files,
            ..Activity::default()
        };
        record.stats.observe(&activity, self.interval_s, &self.rates);
        (record.age_ms, record.traffic) = (process.age_ms, traffic);
        let travels = process.dirty_bytes.unwrap_or(process.resident_bytes);
        record.job = Job {
            home: id.home,
            age_s: process.age_ms as f64 / 1000.0,
            whole_s: None,
            memory_mb: travels as f64 / BYTES_PER_MB,
            width: process.runnable,
            talk: record.stats.talk(),
        };
        record.peak_mb = record.peak_mb.max(process.resident_bytes as f64 / BYTES_PER_MB);
        let before = std::mem::replace(&mut record.at, at);
        let job = record.job;
        if before != at {
            if before != id.home {
                self.changes.push((id, Event::Left { at: before, job }));
            }
            if at != id.home && !self.sent.remove(&(id, at)) {
                self.changes.push((id, Event::Arrived { at, job }));
            }
        }
        job
    }

    /// Forgets those that are no more.
    fn bury(&mut self, seen: &BTreeSet<JobId>, own: NodeId) {
        let changes = &mut self.changes;
        self.records.retain(|id, record| {
            let lives = seen.contains(id);
            if !lives && id.home == own {
                if record.at != own {
                    changes.push((*id, Event::Left { at: record.at, job: record.job }));
                }
                changes.push((*id, Event::Ended(Run { cpu_s: record.job.age_s, peak_mb: record.peak_mb })));
            }
            lives
        });
        self.sent.retain(|(id, _)| seen.contains(id));
    }

    fn machine(&self, daemon: &Daemon, state: &NodeState, reserve: u64, jobs: &[LocalJob]) -> Machine {
        let mb = |bytes: u64| bytes as f64 / BYTES_PER_MB;
        let total = mb(state.memory.total);
        let of_jobs: f64 = jobs.iter().map(|job| job.job.memory_mb).sum();
        Machine {
            speed: f64::from(state.speed) / f64::from(SPEED_STANDARD),
            cpus: state.cpus,
            foreign_jobs: state.foreign,
            memory_total_mb: total,
            memory_free_mb: mb(state.memory.free),
            memory_usable_mb: (total * USABLE).min(total - mb(reserve)).max(0.0),
            foreign_mb: (total - mb(state.memory.available) - of_jobs).max(0.0),
            pressure: f64::from(state.pressure.full) / 1000.0,
            utilisation: state.utilisation,
            link_busy_s: 0.0,
            switches: daemon.switches(),
            cpu_class: self.cpu_class,
            kernel: self.kernel,
            guests_max: u16::try_from(daemon.setup.config.guests.max).unwrap_or(u16::MAX),
        }
    }
}

/// Its name in the cluster. What keeps a guest's start at home secret is only that its home knows it.
fn id_of(process: &ProcessState, own: NodeId) -> Option<JobId> {
    match (process.party, process.guest) {
        (_, Some((home, pid))) => Some(JobId { home, process: ProcessId { pid, start_ticks: 0 } }),
        (Some(Party::Job), None) => Some(JobId { home: own, process: process.id }),
        _ if process.away.is_some() => Some(JobId { home: own, process: process.id }),
        _ => None,
    }
}

/// A kernel release as in `wire::balance::Entry`.
fn packed(release: &str) -> u32 {
    let [major, minor, patch] = machine::numbers(release).map(|number| number.min(255));
    major << 24 | minor << 16 | patch
}

#[cfg(test)]
mod tests {
    #[test]
    fn releases_are_numbers() {
        for (text, number) in [
            ("6.18.44", 0x0612_002c),
            ("6.1.0-18-amd64", 0x0601_0000),
            ("7.0", 0x0700_0000),
            ("odd", 0),
            ("5.10.300", 0x050a_00ff),
        ] {
            assert_eq!(super::packed(text), number, "{text}");
        }
    }
}
