//! What a node knows of itself and of its processes.
//!
//! A node measures *itself*: the CPUs that its daemon may use, the memory that its control group leaves, the processes of
//! its own pid namespace. Never the whole machine beneath it: so the same code is right in a lab, in a container and on a
//! bare machine, and nodes that share a machine do not take each other's load for their own.
//!
//! ```text
//! procinfo (files) ──► cpus, memory, pressure, usage ──┐
//!                  ──► table of processes ─────────────┴─► Meter ──► NodeState, ProcessState
//! ```
//! Between two measurements `Alarm` watches the memory. Each source is probed, with a fallback; what reads is apart from
//! what computes.

mod alarm;
mod cpus;
mod headroom;
mod memory;
mod meter;
mod pressure;
mod process;
mod speed;
mod table;
mod usage;
mod view;

pub(crate) use alarm::{Alarm, STALLED, Warning};
pub use cpus::Cpus;
pub use memory::Memory;
pub(crate) use memory::MemoryLimits;
pub use meter::{Judge, Meter};
pub use process::{Away, ProcessState, age_ms};
pub use speed::{Speed, SpeedSource};
pub use table::Party;

use model::limits::{LOAD_PER_CPU, SPEED_STANDARD};
use procinfo::Pressure;

/// What a node knows of itself at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeState {
    /// Speed of one of its CPUs; the standard CPU has [`SPEED_STANDARD`]. A quota does not make it slower.
    pub speed: u32,
    /// CPUs that it may use; a quota makes a fraction of it.
    pub cpus: f64,
    /// Runnable threads, those that wait for swapped-out memory among them; without the cluster's own agents and without
    /// what is left of processes that are away.
    pub runnable: f64,
    /// Those of them whose processes are not moved automatically.
    pub foreign: f64,
    /// Share of its CPUs in use, 0 to 1.
    pub utilisation: f64,
    /// Its memory.
    pub memory: Memory,
    /// How much waits for memory.
    pub pressure: Pressure,
    /// Processes that it sees.
    pub processes: u32,
}

impl NodeState {
    /// Load as openMosix counts it: 100 is one runnable thread for each standard CPU; a faster CPU has less of it.
    pub fn load(&self) -> u32 {
        let speed = f64::from(self.speed.max(1)) / f64::from(SPEED_STANDARD);
        (self.runnable / self.cpus / speed * f64::from(LOAD_PER_CPU)).round().clamp(0.0, f64::from(u32::MAX))
            as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_is_one_standard_cpu() {
        let state = |runnable, cpus, speed| NodeState {
            speed,
            cpus,
            runnable,
            foreign: 0.0,
            utilisation: 0.0,
            memory: Memory::default(),
            pressure: Pressure::default(),
            processes: 1,
        };
        for (runnable, cpus, speed, load) in [
            (1.0, 1.0, 10_000, 100),
            (4.0, 4.0, 10_000, 100),
            (1.0, 0.5, 10_000, 200),
            (1.0, 1.0, 20_000, 50),
        ] {
            assert_eq!(state(runnable, cpus, speed).load(), load);
        }
        assert_eq!(state(1e300, 1.0, 0).load(), u32::MAX);
    }
}
