//! The daemon measures its node once a second, and at once where somebody needs to know; it knows what it measured last.
//!
//! ```text
//! once a second ─────────────┐
//! memory runs short (alarm) ─┼──► measure ──► what is known ──► balancing
//! a process has come or gone ┘
//! ```

use super::Daemon;
use super::balancing::{Occasion, Told};
use crate::Error;
use crate::config::Paths;
use crate::measure::{Alarm, Meter, NodeState, Party, ProcessState, STALLED, Speed, SpeedSource, Warning};
use crate::rules::{Subject, standing};
use control::{NodeLoad, WardenStatus};
use model::NodeId;
use model::limits::PROCESSES_MEASURED_MAX;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two measurements at least: shares of less time say nothing.
const APART: Duration = Duration::from_millis(200);
/// Rounds between two sweeps of what was said about processes.
const ROUNDS_PER_SWEEP: u32 = 10;

/// The node as it was measured last.
pub(super) struct Gauge {
    measured: Mutex<Measured>,
    hurry: Arc<Hurry>,
    /// Processes that have become other programs since it was measured.
    cleared: Mutex<Vec<i32>>,
    /// Memory that should be free, by the alarm, bytes.
    reserve: AtomicU64,
}

/// Why the node is to be measured before its time, if it is.
#[derive(Default)]
struct Hurry {
    wanted: Mutex<Option<Haste>>,
    told: Condvar,
}

/// Why a node is to be measured at once; a later one matters more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Haste {
    /// Something has come or gone.
    Change,
    /// Memory runs short.
    Short,
    /// Processes wait for memory.
    Stalled,
}

struct Measured {
    began: Instant,
    speed: Speed,
    state: Option<NodeState>,
    processes: Vec<ProcessState>,
    guests: Vec<WardenStatus>,
}

/// The node and what runs on it, at one moment.
pub(super) struct Look {
    /// When it was begun: what happened later may be missing.
    pub(super) began: Instant,
    /// Memory that should be free, bytes.
    pub(super) reserve: u64,
    /// The node.
    pub(super) state: NodeState,
    /// Its processes.
    pub(super) processes: Vec<ProcessState>,
    /// What their wardens told of guests.
    pub(super) guests: Vec<WardenStatus>,
}

impl Gauge {
    pub(super) fn new(speed: Speed) -> Gauge {
        Gauge {
            measured: Mutex::new(Measured {
                began: Instant::now(),
                speed,
                state: None,
                processes: Vec::new(),
                guests: Vec::new(),
            }),
            hurry: Arc::default(),
            cleared: Mutex::default(),
            reserve: AtomicU64::new(0),
        }
    }

    /// Lets the node be measured at once, or soon if that has just been done.
    pub(super) fn hasten(&self, haste: Haste) {
        let mut wanted = self.hurry.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        *wanted = (*wanted).max(Some(haste));
        self.hurry.told.notify_all();
    }

    /// A process has become another program: what it did before does not count any more.
    pub(super) fn clear(&self, pid: i32) {
        let mut cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        if cleared.len() < PROCESSES_MEASURED_MAX {
            cleared.push(pid);
        }
    }

    fn take_cleared(&self) -> Vec<i32> {
        std::mem::take(&mut *self.cleared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was measured last; nothing in the first moment.
    pub(super) fn look(&self) -> Option<Look> {
        let measured = self.lock();
        Some(Look {
            began: measured.began,
            reserve: self.reserve.load(Ordering::Relaxed),
            state: measured.state?,
            processes: measured.processes.clone(),
            guests: measured.guests.clone(),
        })
    }

    /// The node as it was measured last; nothing in the first moment.
    pub(super) fn state(&self) -> Option<NodeState> {
        self.lock().state
    }

    /// The speed of its CPUs.
    pub(super) fn speed(&self) -> Speed {
        self.lock().speed.clone()
    }

    /// The state of the node; nothing in the first moment.
    pub(super) fn load(&self, node: NodeId) -> Option<NodeLoad> {
        let measured = self.lock();
        let state = measured.state?;
        let percent = |thousandths: u16| f64::from(thousandths) / 10.0;
        Some(NodeLoad {
            node,
            speed: state.speed,
            speed_source: match measured.speed.source {
                SpeedSource::Measured => "measured".to_owned(),
                SpeedSource::Set => "set".to_owned(),
            },
            cpus: state.cpus,
            runnable: state.runnable,
            foreign: state.foreign,
            load: state.load(),
            utilisation: state.utilisation * 100.0,
            memory_total: state.memory.total,
            memory_free: state.memory.free,
            memory_available: state.memory.available,
            pressure_some: percent(state.pressure.some),
            pressure_full: percent(state.pressure.full),
            processes: state.processes,
        })
    }

    /// Another speed counts from now on, also after the next start.
    pub(super) fn tune(&self, speed: Speed, paths: &Paths) -> Result<(), Error> {
        speed.keep(paths)?;
        let mut measured = self.lock();
        if let Some(state) = measured.state.as_mut() {
            state.speed = speed.speed;
        }
        measured.speed = speed;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hurry {
    /// Waits until the node is to be measured again, and says why if that is before its time.
    fn rest(&self) -> Option<Haste> {
        std::thread::sleep(APART);
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(wanted, EVERY - APART, |wanted| wanted.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

/// Begins to measure.
pub(super) fn start(daemon: &Arc<Daemon>) {
    let speed = daemon.gauge.lock().speed.speed;
    let meter = match Meter::new(speed) {
        Ok(meter) => meter,
        Err(error) => {
            tracing::error!(%error, "this node cannot measure itself");
            return;
        }
    };
    let watched = Arc::downgrade(daemon);
    std::thread::spawn(move || match Alarm::probe() {
        Ok(alarm) => watch(&watched, alarm),
        Err(error) => tracing::error!(%error, "that memory runs short is seen once a second only"),
    });
    let daemon = Arc::downgrade(daemon);
    std::thread::spawn(move || run(&daemon, meter));
}

/// Lets the node be measured when memory runs short.
fn watch(daemon: &Weak<Daemon>, mut alarm: Alarm) {
    loop {
        let warning = alarm.wait();
        let Some(daemon) = daemon.upgrade() else { return };
        daemon.gauge.reserve.store(alarm.reserve(), Ordering::Relaxed);
        match warning {
            Ok(None) => continue,
            Ok(Some(Warning::Short)) => daemon.gauge.hasten(Haste::Short),
            Ok(Some(Warning::Stalled)) => daemon.gauge.hasten(Haste::Stalled),
            Err(error) => return tracing::error!(%error, "that memory runs short is seen once a second only"),
        }
        daemon.counts.memory_alarms.add();
        tracing::debug!(?warning, reserve = alarm.reserve(), "memory runs short");
    }
}

fn run(daemon: &Weak<Daemon>, mut meter: Meter) {
    let mut haste = None;
    for round in 0u32.. {
        let Some(daemon) = daemon.upgrade() else { return };
        let paths = &daemon.setup.config.paths;
        let began = Instant::now();
        meter.set_speed(daemon.gauge.lock().speed.speed);
        daemon.gauge.take_cleared().into_iter().for_each(|pid| meter.cleared(pid));
        let away = held(paths);
        let guests = daemon.guests();
        let keepers = if away.is_empty() { Vec::new() } else { daemon.agents.keepers() };
        meter.report(&away, &keepers, &guests, daemon.own(), &|node| daemon.speed_of(node));
        let mut judge = |process: &ProcessState| party(&daemon, process);
        match meter.measure(&away, &mut judge) {
            Ok(mut state) => {
                if haste == Some(Haste::Stalled) {
                    // The mean of ten seconds does not show it yet.
                    state.pressure.full = state.pressure.full.max(STALLED);
                }
                let processes = meter.processes().collect();
                let mut measured = daemon.gauge.lock();
                (measured.state, measured.processes, measured.guests) = (Some(state), processes, guests);
                measured.began = began;
            }
            Err(error) => tracing::warn!(%error, "this node could not measure itself"),
        }
        if round.is_multiple_of(ROUNDS_PER_SWEEP) {
            standing::sweep(paths);
        }
        if let Some(balancing) = daemon.balancing.get() {
            balancing.tell(Told::Measured(match haste {
                None => Occasion::Time,
                Some(Haste::Change) => Occasion::Change,
                Some(Haste::Short | Haste::Stalled) => Occasion::Pressure,
            }));
        }
        let hurry = daemon.gauge.hurry.clone();
        drop(daemon);
        haste = hurry.rest();
    }
}

/// Pids of the processes that are in the hands of a keeper: what is here of them is no load.
fn held(paths: &Paths) -> HashSet<i32> {
    let entries = std::fs::read_dir(paths.keepers()).into_iter().flatten().flatten();
    let pid = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".held")?.parse().ok();
    entries.filter_map(|entry| pid(entry.file_name())).collect()
}

/// To whom a busy process belongs.
fn party(daemon: &Daemon, process: &ProcessState) -> Party {
    let Some(subject) = Subject::read(process.id.pid) else { return Party::Foreign };
    if subject.own {
        return Party::Own;
    }
    if daemon.setup.config.guests.is_guest(subject.uid) {
        return Party::Guest;
    }
    let standing = standing::of(&daemon.setup.config.paths, subject.id);
    if daemon.rules.keeps(&subject, &standing) { Party::Foreign } else { Party::Job }
}
