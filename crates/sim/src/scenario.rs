//! The eight scenarios: machines, work, and what things cost in them.

use crate::workload::{self, Work};
use rand::rngs::SmallRng;

/// One machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MachineSpec {
    /// Speed of one CPU; the fastest has 1.
    pub speed: f64,
    /// CPUs.
    pub cpus: f64,
    /// Memory for processes, MB.
    pub memory_mb: f64,
}

/// A cluster and what happens on it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// The machines.
    pub machines: Vec<MachineSpec>,
    /// Makes the work.
    pub work: fn(&mut SmallRng, usize) -> Vec<Work>,
    /// As many processes at once, the next begins when one ends; none: they come by themselves.
    pub at_once: Option<usize>,
    /// Share of CPU time that being away costs.
    pub remote_overhead: f64,
}

/// Seconds that a move takes without memory.
pub const MOVE_FIXED_S: f64 = 0.1;
/// Megabytes per second between two machines, one move at a time at each end.
pub const BANDWIDTH_MB_S: f64 = 117.0;
/// Seconds that starting on another machine takes longer.
pub const REMOTE_START_S: f64 = 0.02;
/// How many times slower a machine is whose processes have more memory than it has.
pub const THRASH: f64 = 10.0;

const PAPER: [MachineSpec; 6] = {
    const fn one(speed: f64, memory_mb: f64) -> MachineSpec {
        MachineSpec { speed, cpus: 1.0, memory_mb }
    }
    let fast = one(1.0, 64.0);
    let slow = one(0.665, 32.0);
    [fast, fast, fast, slow, slow, one(0.45, 24.0)]
};

fn equal(count: usize) -> Vec<MachineSpec> {
    vec![MachineSpec { speed: 1.0, cpus: 4.0, memory_mb: 64_000.0 }; count]
}

fn unequal(count: usize) -> Vec<MachineSpec> {
    let kinds = [(1.0, 16_000.0), (1.0, 8_000.0), (0.7, 8_000.0), (0.5, 8_000.0)];
    let kinds = kinds.map(|(speed, memory_mb)| MachineSpec { speed, cpus: 4.0, memory_mb });
    kinds.into_iter().cycle().take(count).collect()
}

impl Scenario {
    /// All of them.
    pub fn all() -> Vec<Scenario> {
        let base = Scenario {
            name: "a",
            about: "six unequal machines with little memory, 0.1 jobs/s, 10 000 s",
            machines: PAPER.to_vec(),
            work: workload::paper,
            at_once: None,
            remote_overhead: 0.0,
        };
        vec![
            base.clone(),
            Scenario {
                name: "a'",
                about: "the same with 0.13 arrivals/s, a tenth of them batches of 2 to 20 jobs",
                work: workload::paper_batches,
                ..base.clone()
            },
            Scenario {
                name: "b",
                about: "16 equal nodes of 4 CPUs, 70 % load, all jobs come to one node",
                machines: equal(16),
                work: workload::one_home,
                ..base.clone()
            },
            Scenario {
                name: "c1",
                about: "64 equal nodes of 4 CPUs, 70 % load, half of the jobs come to an eighth of the nodes",
                machines: equal(64),
                work: workload::skewed,
                ..base.clone()
            },
            Scenario {
                name: "c2",
                about: "as c1 with 1024 nodes",
                machines: equal(1024),
                work: workload::skewed_short,
                ..base.clone()
            },
            Scenario {
                name: "d",
                about: "16 unequal nodes of 4 CPUs, memory limited, 45 % load",
                machines: unequal(16),
                work: workload::memory_limited,
                ..base.clone()
            },
            Scenario {
                name: "dt",
                about: "as d, memory tight, 60 % load",
                machines: unequal(16),
                work: workload::memory_tight,
                ..base.clone()
            },
            Scenario {
                name: "e",
                about: "a compilation: 2000 short jobs, 128 at once, from one of 16 nodes of 4 CPUs",
                machines: equal(16),
                work: workload::compilation,
                at_once: Some(128),
                remote_overhead: 0.05,
            },
        ]
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Scenario> {
        Scenario::all().into_iter().find(|scenario| scenario.name == name)
    }

    /// The same kinds of machines, but so many of them.
    pub fn resized(mut self, count: usize) -> Scenario {
        self.machines = self.machines.iter().copied().cycle().take(count).collect();
        self
    }

    /// CPUs of all machines.
    pub fn cpus(&self) -> f64 {
        self.machines.iter().map(|machine| machine.cpus).sum()
    }
}
