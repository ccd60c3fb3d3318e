//! What a node tells tools of itself.

use model::NodeId;
use serde::{Deserialize, Serialize};

/// What a node measures of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeLoad {
    /// The node.
    pub node: NodeId,
    /// Speed of one of its CPUs; the standard CPU has [`model::limits::SPEED_STANDARD`].
    pub speed: u32,
    /// Whether that was measured (`measured`), or somebody has set it (`set`).
    pub speed_source: String,
    /// CPUs that it may use; a quota makes a fraction of it.
    pub cpus: f64,
    /// Runnable threads.
    pub runnable: f64,
    /// Those of them whose processes are not moved automatically.
    pub foreign: f64,
    /// Runnable threads for each CPU, weighed by its speed: 100 is one for each standard CPU.
    pub load: u32,
    /// Percent of its CPUs in use.
    pub utilisation: f64,
    /// Its memory, bytes.
    pub memory_total: u64,
    /// Memory that nothing uses, not even a cache, bytes.
    pub memory_free: u64,
    /// Memory that programs could get without swapping, bytes.
    pub memory_available: u64,
    /// Percent of the time in which somebody waited for memory.
    pub pressure_some: f64,
    /// Percent of the time in which everybody did.
    pub pressure_full: f64,
    /// Processes that it sees.
    pub processes: u32,
}
