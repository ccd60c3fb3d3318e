//! This node, as the broker was last told of it.

use super::rooms::Rooms;
use crate::ages::Ages;
use crate::entry::{KB_PER_MB, Sound};
use crate::job::{Job, JobId};
use crate::load::{Load, normalised, speed_units};
use crate::rules::Bounds;
use crate::state::State;
use model::NodeId;
use model::limits::JOBS_MAX;
use std::time::Duration;
use wire::balance::{Entry, Switches};

/// A node beside its processes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Speed of one of its CPUs; the standard CPU has 1.
    pub speed: f64,
    /// CPUs that it may use.
    pub cpus: f64,
    /// Runnable processes that balancing does not look at.
    pub foreign_jobs: f64,
    /// All its memory, MB.
    pub memory_total_mb: f64,
    /// Memory that nothing uses, MB.
    pub memory_free_mb: f64,
    /// Memory that processes may fill, MB.
    pub memory_usable_mb: f64,
    /// Memory of processes that balancing does not look at, MB.
    pub foreign_mb: f64,
    /// Share of time in which everybody waits for memory (PSI `full avg10`).
    pub pressure: f64,
    /// Share of the CPUs in use.
    pub utilisation: f64,
    /// Seconds until the link is free of moves that have begun.
    pub link_busy_s: f64,
    /// What is switched.
    pub switches: Switches,
    /// Class of its CPU.
    pub cpu_class: u64,
    /// Kernel release, as in [`Entry::kernel`].
    pub kernel: u32,
    /// Guests that it takes at most.
    pub guests_max: u16,
}

/// A process that runs on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalJob {
    /// Which.
    pub id: JobId,
    /// How it is.
    pub job: Job,
    /// What keeps it.
    pub bounds: Bounds,
}

/// What runs on this node at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The node.
    pub machine: Machine,
    /// Its processes that balancing looks at; those beyond [`JOBS_MAX`] are not looked at.
    pub jobs: Vec<LocalJob>,
}

/// The newest sample, and what has been decided since.
#[derive(Debug)]
pub(super) struct Own {
    me: NodeId,
    boot: u32,
    sample: Option<Sample>,
    /// Of the sample's processes: asked for by every question, and summed up once.
    sums: Sums,
    load: Load,
    /// Processes that were told to start here since the sample, and their memory, MB.
    begun: (f64, f64),
}

/// What the processes of a sample are together.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Runnable ones, those included that balancing does not look at.
    running: f64,
    memory_mb: f64,
    guests: usize,
    ages: Ages,
}

impl Sums {
    fn of(sample: &Sample, me: NodeId) -> Sums {
        let jobs = || sample.jobs.iter();
        let mut ages = Ages::default();
        jobs().for_each(|local| ages.add(local.job.age_s));
        Sums {
            running: sample.machine.foreign_jobs
                + jobs().map(|local| positive(local.job.width, 0.0, 1e5)).sum::<f64>(),
            memory_mb: jobs().map(|local| positive(local.job.memory_mb, 0.0, 1e9)).sum(),
            guests: jobs().filter(|local| local.id.home != me).count(),
            ages,
        }
    }
}

impl Own {
    pub(super) fn new(me: NodeId, boot: u32) -> Own {
        Own { me, boot, sample: None, sums: Sums::default(), load: Load::default(), begun: (0.0, 0.0) }
    }

    /// A new sample, without those that are on their way to other nodes; answers whether there are more processes than
    /// before.
    pub(super) fn take(&mut self, mut sample: Sample, leaves: impl Fn(&JobId) -> bool) -> bool {
        sample.jobs.truncate(JOBS_MAX);
        sample.jobs.retain(|local| !leaves(&local.id));
        let before = self.jobs().len();
        self.begun = (0.0, 0.0);
        let more = sample.jobs.len() > before;
        self.sums = Sums::of(&sample, self.me);
        self.sample = Some(sample);
        more
    }

    /// A process begins to leave: its load is what its target has promised room for, and no longer this node's.
    pub(super) fn leave(&mut self, id: &JobId) {
        if let Some(sample) = &mut self.sample {
            sample.jobs.retain(|local| local.id != *id);
            self.sums = Sums::of(sample, self.me);
        }
    }

    /// A second has passed.
    pub(super) fn tick(&mut self) {
        if self.sample.is_some() {
            self.load.observe(self.sums.running);
        }
    }

    pub(super) fn begin(&mut self, width: f64, memory_mb: f64) {
        self.begun.0 += width;
        self.begun.1 += memory_mb;
    }

    pub(super) fn jobs(&self) -> &[LocalJob] {
        self.sample.as_ref().map_or(&[], |sample| &sample.jobs)
    }

    pub(super) fn job(&self, id: &JobId) -> Option<&LocalJob> {
        self.jobs().iter().find(|local| local.id == *id)
    }

    pub(super) fn switches(&self) -> Switches {
        self.sample.as_ref().map_or(Switches::empty(), |sample| sample.machine.switches)
    }

    pub(super) fn link_busy_s(&self) -> f64 {
        self.sample.as_ref().map_or(0.0, |sample| sample.machine.link_busy_s)
    }

    /// Guests that are here.
    pub(super) fn guests(&self) -> usize {
        self.sums.guests
    }

    pub(super) fn guests_max(&self) -> usize {
        self.sample.as_ref().map_or(0, |sample| usize::from(sample.machine.guests_max))
    }

    /// What this node says of itself, the room that it has promised included. None before the first sample.
    pub(super) fn entry(&self, now: Duration, rooms: &Rooms) -> Option<Entry> {
        let sample = self.sample.as_ref()?;
        let machine = &sample.machine;
        let (speed, cpus) = (positive(machine.speed, 1e-3, 1e3), positive(machine.cpus, 0.01, 2e4));
        let promised = rooms.promised();
        let running = self.sums.running + self.begun.0 + promised.jobs;
        let mut ages = self.sums.ages;
        rooms.ages_s().for_each(|age_s| ages.add(age_s));
        let taken_mb = machine.foreign_mb + self.sums.memory_mb + self.begun.1 + promised.memory_mb;
        let total_kb = kilobytes(machine.memory_total_mb).max(1);
        let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        Some(Entry {
            node: self.me,
            boot: self.boot,
            stamp_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            speed: speed_units(speed),
            cpus_hundredths: (cpus * 100.0) as u32,
            jobs_hundredths: (positive(running, 0.0, 1e6) * 100.0).round() as u32,
            load: normalised(self.load.upper(running), cpus, speed),
            memory_total_kb: total_kb,
            memory_free_kb: kilobytes(machine.memory_free_mb).min(total_kb),
            memory_usable_kb: kilobytes(machine.memory_usable_mb).clamp(1, total_kb),
            memory_taken_kb: kilobytes(taken_mb),
            pressure_thousandths: thousandths(machine.pressure),
            utilisation_thousandths: thousandths(machine.utilisation),
            link_busy_ms: (positive(machine.link_busy_s, 0.0, 3600.0) * 1000.0) as u32,
            switches: machine.switches,
            cpu_class: machine.cpu_class,
            kernel: machine.kernel,
            guests: count(self.guests() + rooms.guests(self.me)),
            guests_max: machine.guests_max,
            ages: ages.counts(),
        })
    }

    /// This node as the cost sees it, as others would see it. For its own decisions the load is the mean.
    pub(super) fn state(&self, now: Duration, rooms: &Rooms, thrash: f64) -> Option<State> {
        let sound = Sound::judge(self.entry(now, rooms)?).ok()?;
        Some(State { load: self.load.mean(), ..sound.state(thrash) })
    }
}

/// The number within its bounds; what is no number is the least.
fn positive(number: f64, min: f64, max: f64) -> f64 {
    if number.is_nan() { min } else { number.clamp(min, max) }
}

fn kilobytes(megabytes: f64) -> u64 {
    (positive(megabytes, 0.0, 4e9) * KB_PER_MB) as u64
}

fn thousandths(share: f64) -> u16 {
    (positive(share, 0.0, 1.0) * 1000.0).round() as u16
}
