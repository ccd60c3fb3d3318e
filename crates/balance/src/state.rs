//! A node as the cost sees it, and how slow it makes a process.

use crate::ages::Ages;
use model::NodeId;

/// A node at one moment, believed or true. Numbers are finite and not negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Speed of one of its CPUs; the standard CPU has 1.
    pub speed: f64,
    /// CPUs.
    pub cpus: f64,
    /// Runnable processes, those included that are promised room.
    pub jobs: f64,
    /// Load as openMosix exports it, in processes: rises at once, falls slowly.
    pub load: f64,
    /// Memory that its processes have, those included that are promised room, MB.
    pub memory_mb: f64,
    /// Memory that processes may have, MB.
    pub usable_mb: f64,
    /// How many times slower it is if its processes have more memory than they may.
    pub thrash: f64,
    /// Seconds until its link is free of moves that have begun.
    pub link_busy_s: f64,
    /// Whether nothing moves away from it by itself.
    pub stays: bool,
    /// Ages of its processes.
    pub ages: Ages,
}

impl State {
    /// f of the study: wall seconds that a second of CPU time of the standard CPU takes, among so many runnable processes
    /// with so much memory together.
    pub fn stretch(&self, jobs: f64, memory_mb: f64) -> f64 {
        let thrash = if memory_mb > self.usable_mb { self.thrash } else { 1.0 };
        (jobs / self.cpus).max(1.0) / self.speed * thrash
    }

    /// [`State::stretch`] as it is.
    pub fn stretch_now(&self) -> f64 {
        self.stretch(self.jobs, self.memory_mb)
    }

    /// [`State::stretch`] with one process more.
    pub fn stretch_with(&self, width: f64, memory_mb: f64) -> f64 {
        self.stretch(self.jobs + width, self.memory_mb + memory_mb)
    }

    /// [`State::stretch`] with one process less.
    pub fn stretch_without(&self, width: f64, memory_mb: f64) -> f64 {
        self.stretch((self.jobs - width).max(0.0), (self.memory_mb - memory_mb).max(0.0))
    }

    /// Whether its processes have more memory than they may.
    pub fn thrashes(&self) -> bool {
        self.memory_mb > self.usable_mb
    }
}

/// A node as a candidate: who, in what state, and what it takes to get there from here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Which node.
    pub node: NodeId,
    /// Its state.
    pub state: State,
    /// The way to it.
    pub link: Link,
}

/// The way between this node and another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Seconds that a move takes without any memory.
    pub fixed_s: f64,
    /// Megabytes per second.
    pub bandwidth_mb_s: f64,
    /// Seconds for a question and its answer.
    pub round_trip_s: f64,
}
