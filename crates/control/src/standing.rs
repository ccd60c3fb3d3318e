//! What an administrator has set for a node, and what a node says of itself.

use model::DecayRates;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A switch of a node; openMosix's own, kept across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// No process leaves this node by itself, guests neither.
    Stay,
    /// No process of this home leaves by itself.
    Lstay,
    /// No new guests.
    Block,
    /// This node tells others nothing of its load.
    Quiet,
}

impl Switch {
    /// All of them.
    pub const ALL: [Switch; 4] = [Switch::Stay, Switch::Lstay, Switch::Block, Switch::Quiet];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Switch::Stay => "stay",
            Switch::Lstay => "lstay",
            Switch::Block => "block",
            Switch::Quiet => "quiet",
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an administrator has set for a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStanding {
    /// The switches that are on.
    pub switches: BTreeSet<Switch>,
    /// The speed of one of its CPUs, if somebody has set it; the standard CPU has [`model::limits::SPEED_STANDARD`].
    pub speed: Option<u32>,
    /// How fast the statistics of processes decay.
    pub decay: DecayRates,
}

/// What is known of a node's load and room; of another node maybe not everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Speed of one CPU; the standard CPU has [`model::limits::SPEED_STANDARD`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<u32>,
    /// CPUs that it may use; a quota makes it a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Runnable threads for each CPU, weighed by its speed: [`model::limits::LOAD_PER_CPU`] is one for each standard CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<u32>,
    /// Memory that it may use, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_total: Option<u64>,
    /// Memory that could still be used, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_free: Option<u64>,
    /// How busy its CPUs are, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<u32>,
    /// Whether it takes guests now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<bool>,
    /// The switches that are on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switches: Option<BTreeSet<Switch>>,
}

/// What came of sending away, or bringing home, everything there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// How many moved.
    pub moved: u32,
    /// What did not, one line each.
    pub failures: Vec<String>,
}
