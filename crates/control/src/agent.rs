//! What the daemon asks its agents: a keeper (one per migrated process at home) or a warden (one per guest).
//!
//! Both listen on a unix socket of their own, so that a restarted daemon finds them again.

use crate::UsedAway;
use model::{NodeId, ProcessId, Reservation};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The daemon's request to an agent; answered by [`crate::Event`] lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentRequest {
    /// To a keeper: move a process to another node, answered like [`crate::Request::Migrate`].
    MoveTo {
        /// The process.
        pid: i32,
        /// The node.
        node: NodeId,
        /// Where it listens.
        address: SocketAddr,
        /// The room that was promised there.
        #[serde(default)]
        reservation: Option<Reservation>,
        /// For whose sake.
        #[serde(default, skip_serializing_if = "Sake::is_peoples")]
        sake: Sake,
    },
    /// To a keeper: bring a process home, answered like [`crate::Request::Migrate`]. To a warden: ask the keeper to.
    BringHome {
        /// The process, by its pid at home.
        pid: i32,
        /// For whose sake.
        #[serde(default, skip_serializing_if = "Sake::is_peoples")]
        sake: Sake,
    },
    /// To both: answered by one line holding a list of [`KeeperStatus`] or of [`WardenStatus`], one for each process of
    /// the family.
    Status,
    /// To a warden: a connection for its session arrived; the socket travels with this line (`SCM_RIGHTS`). Not answered.
    Connection,
}

/// For whose sake a process is moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sake {
    /// Somebody wishes it.
    #[default]
    People,
    /// The cluster does, for the load of its nodes.
    Load,
}

impl Sake {
    /// What is said where nothing is said.
    fn is_peoples(&self) -> bool {
        *self == Sake::People
    }
}

/// What a keeper knows of its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperStatus {
    /// The process.
    pub process: ProcessId,
    /// The node that runs it.
    pub node: NodeId,
    /// It is on its way.
    pub moving: bool,
    /// How often it has moved.
    pub moves: u64,
    /// Resident memory away, bytes, as last reported by the warden.
    pub memory_bytes: u64,
    /// CPU time used away, milliseconds, as last reported by the warden.
    pub away_cpu_ms: u64,
    /// System calls forwarded so far.
    pub forwarded: u64,
    /// Bytes that they have carried from and to its host.
    #[serde(default)]
    pub carried_bytes: u64,
    /// How often each system call brought it home.
    pub home_comings: Vec<(String, u64)>,
}

impl KeeperStatus {
    /// What the process has used away.
    pub fn used_away(&self) -> UsedAway {
        let KeeperStatus { away_cpu_ms: cpu_ms, moves, forwarded, carried_bytes, .. } = *self;
        UsedAway { cpu_ms, moves, forwarded, carried_bytes }
    }
}

/// What a warden knows of its guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WardenStatus {
    /// The guest's pid at home.
    pub pid: i32,
    /// The guest's pid on this node, 0 while it arrives.
    pub local_pid: i32,
    /// Its command name.
    pub name: String,
    /// Its home.
    pub home: NodeId,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// CPU time used here, milliseconds.
    pub cpu_ms: u64,
    /// System calls that its home has done for it while it was here.
    #[serde(default)]
    pub forwarded: u64,
    /// Bytes that they have carried from and to its home.
    #[serde(default)]
    pub carried_bytes: u64,
}
