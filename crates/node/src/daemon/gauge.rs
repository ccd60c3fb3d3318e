//! The daemon measures its node once a second, and knows what it measured last.

use super::Daemon;
use crate::Error;
use crate::config::Paths;
use crate::measure::{Meter, NodeState, Party, ProcessState, Speed, SpeedSource};
use crate::rules::{Subject, standing};
use control::{NodeLoad, WardenStatus};
use model::NodeId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(1);
/// Rounds between two sweeps of what was said about processes.
const ROUNDS_PER_SWEEP: u32 = 10;

/// The node as it was measured last.
pub(super) struct Gauge {
    measured: Mutex<Measured>,
}

struct Measured {
    speed: Speed,
    state: Option<NodeState>,
    processes: Vec<ProcessState>,
    guests: Vec<WardenStatus>,
}

/// The node and what runs on it, at one moment.
pub(super) struct Look {
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
            measured: Mutex::new(Measured { speed, state: None, processes: Vec::new(), guests: Vec::new() }),
        }
    }

    /// What was measured last; nothing in the first moment.
    pub(super) fn look(&self) -> Option<Look> {
        let measured = self.lock();
        Some(Look {
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
    let daemon = Arc::downgrade(daemon);
    std::thread::spawn(move || run(&daemon, meter));
}

fn run(daemon: &Weak<Daemon>, mut meter: Meter) {
    for round in 0u32.. {
        let Some(daemon) = daemon.upgrade() else { return };
        let paths = &daemon.setup.config.paths;
        meter.set_speed(daemon.gauge.lock().speed.speed);
        let away = held(paths);
        let guests = daemon.guests();
        if !away.is_empty() || !guests.is_empty() {
            let keepers = if away.is_empty() { Vec::new() } else { daemon.agents.keepers() };
            meter.report(&keepers, &guests, daemon.own(), &|node| daemon.speed_of(node));
        }
        let mut judge = |process: &ProcessState| party(&daemon, process);
        match meter.measure(&away, &mut judge) {
            Ok(state) => {
                let processes = meter.processes().collect();
                let mut measured = daemon.gauge.lock();
                (measured.state, measured.processes, measured.guests) = (Some(state), processes, guests);
            }
            Err(error) => tracing::warn!(%error, "this node could not measure itself"),
        }
        if round.is_multiple_of(ROUNDS_PER_SWEEP) {
            standing::sweep(paths);
        }
        drop(daemon);
        std::thread::sleep(EVERY);
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
