//! A process as the cost sees it.

use model::limits::TALK_NODES_MAX;
use model::{NodeId, ProcessId};

/// A process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// Its home.
    pub home: NodeId,
    /// The process, at its home.
    pub process: ProcessId,
}

/// With whom a process talks, for each second of CPU time of the standard CPU that it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Talk {
    /// System calls that its home must do for it.
    pub calls: f64,
    /// Megabytes that it reads and writes on files of these nodes, its home among them.
    pub files: [Option<(NodeId, f64)>; TALK_NODES_MAX],
}

/// What a decision needs to know of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// Its home.
    pub home: NodeId,
    /// CPU time it has used, seconds of the standard CPU.
    pub age_s: f64,
    /// CPU time it is believed to use in its whole life, if something is believed.
    pub whole_s: Option<f64>,
    /// Memory it has or is believed to need, MB.
    pub memory_mb: f64,
    /// CPUs it keeps busy.
    pub width: f64,
    /// With whom it talks.
    pub talk: Talk,
}

impl Job {
    /// CPU time it is still expected to use: as much as it has used, unless something better is believed.
    pub fn remaining_s(&self) -> f64 {
        self.whole_s.map_or(self.age_s, |whole| (whole - self.age_s).max(self.age_s / 2.0))
    }
}
