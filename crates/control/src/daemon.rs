//! What tools ask the daemon, and what it answers.

use crate::{Book, Cursor, Fate, Figures, NodeLoad, NodeStanding, Record, Sweep, Switch};
use model::{DecayRates, Destination, NodeId, ProcessId, Reason, Standing, Stay};
use serde::{Deserialize, Serialize};

/// A tool's request to its daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Move a process; answered by [`Answer::Moved`].
    Migrate {
        /// Its pid at home.
        pid: i32,
        /// Where to.
        to: Destination,
    },
    /// Where a process is; answered by [`Answer::Where`].
    Where {
        /// Its pid.
        pid: i32,
    },
    /// Every reason why a process cannot move now; answered by [`Answer::Why`].
    Why {
        /// Its pid.
        pid: i32,
    },
    /// Migrated processes of this node and guests on it; answered by [`Answer::Processes`].
    Ps,
    /// The nodes of the cluster; answered by [`Answer::Nodes`].
    Nodes,
    /// Send a guest of this node home (administrator only); answered by [`Answer::Moved`].
    Expel {
        /// The guest's pid at its home.
        pid: i32,
        /// Its home node.
        home: NodeId,
    },
    /// The node with this name; answered by [`Answer::Found`].
    Find {
        /// Its name.
        name: String,
    },
    /// What the daemon has counted since it started; answered by [`Answer::Counts`].
    Counts,
    /// Make a new cluster key and hand it to all nodes (administrator only); answered by [`Answer::KeyRotated`].
    RotateKey,
    /// Send all guests home, bring all own processes home, and end the daemon (administrator only); answered by
    /// [`Answer::Left`].
    Leave,
    /// What this node measures of itself; answered by [`Answer::Load`].
    Load,
    /// Measure the speed of this node's CPUs, or set it (administrator only); answered by [`Answer::Load`].
    Tune {
        /// What it is to be, one of [`model::limits::SPEEDS`]; measured where it is absent.
        #[serde(default)]
        speed: Option<u32>,
    },
    /// Say whether a process, and its children, may be moved automatically, and where to; answered by [`Answer::Stands`].
    Stand {
        /// Its pid.
        pid: i32,
        /// What is said in addition to what was said before.
        standing: Standing,
    },
    /// Turn a switch of this node on or off (administrator only); answered by [`Answer::NodeStanding`].
    Switch {
        /// Which.
        switch: Switch,
        /// On.
        on: bool,
    },
    /// Set how fast the statistics of processes decay here (administrator only); answered by [`Answer::NodeStanding`].
    Decay {
        /// How fast; none is as usual.
        #[serde(default)]
        rates: Option<DecayRates>,
    },
    /// What is set for this node; answered by [`Answer::NodeStanding`].
    NodeStanding,
    /// Refuse new guests and send all others home (administrator only); answered by [`Answer::Swept`].
    ExpelAll,
    /// Let no process of this home leave by itself, and bring all home (administrator only); answered by
    /// [`Answer::Swept`].
    BringAll,
    /// The best node for a process, among those that are known; answered by [`Answer::Found`].
    Best {
        /// Only these, if there are any here.
        #[serde(default)]
        among: Vec<NodeId>,
    },
    /// A page of the log, the oldest first; answered by [`Answer::Log`].
    Log {
        /// Nothing older, milliseconds since 1970.
        #[serde(default)]
        since_ms: u64,
        /// Only of this pid.
        #[serde(default)]
        pid: Option<i32>,
        /// From here on.
        #[serde(default)]
        after: Option<Cursor>,
        /// Of which log.
        #[serde(default)]
        book: Book,
    },
    /// Why a process of this home was ended; answered by [`Answer::Fate`].
    Fate {
        /// The process.
        process: ProcessId,
    },
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Long work goes on.
    Progress(Progress),
    /// Long work has come to a new step.
    Said {
        /// The step, for people.
        text: String,
    },
    /// The request is done.
    Done {
        /// Its answer.
        answer: Answer,
    },
    /// An agent has done its part, and another one is to be asked for the rest. Never sent to a tool.
    Again,
    /// The request failed; nothing was changed.
    Failed {
        /// What kind of failure, for exit codes.
        kind: FailureKind,
        /// One line that names the thing and the remedy.
        message: String,
        /// All reasons, where the failure is a refusal.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<Reason>,
    },
}

/// How far a migration is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The phase, one word ("files", "memory", ...).
    pub phase: String,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes in all in this phase; 0 where unknown.
    pub total_bytes: u64,
}

/// The kinds of failure a script can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The request itself is wrong.
    BadRequest,
    /// The process or node does not exist.
    NotFound,
    /// The caller may not do this.
    Forbidden,
    /// The process cannot move, or the node does not take it.
    Refused,
    /// Something broke on the way; the process goes on where it was.
    Broken,
}

/// What a request brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// A process moved.
    Moved {
        /// Its pid at home.
        pid: i32,
        /// Where it runs now.
        node: NodeId,
        /// Time during which it did not run, microseconds.
        freeze_us: u64,
        /// Time from request to end, microseconds.
        total_us: u64,
        /// Bytes of memory that travelled.
        bytes: u64,
    },
    /// Where a process is.
    Where(Location),
    /// Reasons against moving; none means that it can move.
    Why {
        /// The reasons.
        reasons: Vec<Reason>,
        /// How often each system call brought it home, as `(name, times)`.
        #[serde(default)]
        home_comings: Vec<(String, u64)>,
        /// Why it is not moved automatically, if it could be moved.
        #[serde(default)]
        stays: Vec<Stay>,
    },
    /// What a node measures of itself.
    Load(NodeLoad),
    /// What holds for a process from now on, what it inherits included.
    Stands {
        /// Its pid.
        pid: i32,
        /// What holds.
        standing: Standing,
    },
    /// Processes of this home that were moved, and guests here.
    Processes {
        /// Processes whose home this node is.
        own: Vec<ProcessRow>,
        /// Guests on this node.
        guests: Vec<GuestRow>,
    },
    /// The cluster's nodes.
    Nodes {
        /// One row each, by id.
        nodes: Vec<NodeRow>,
    },
    /// A new cluster key is in use.
    KeyRotated {
        /// Its generation.
        generation: u32,
        /// The nodes that have it.
        told: Vec<NodeId>,
        /// Those that were not reached; they fetch it when they are.
        missed: Vec<NodeId>,
    },
    /// This node is empty and its daemon is about to end.
    Left {
        /// Guests that went home.
        guests: u32,
        /// Own processes that came home.
        own: u32,
    },
    /// The node with the name that was asked for.
    Found {
        /// Its id.
        node: NodeId,
    },
    /// What the daemon has counted since it started.
    Counts {
        /// Names and numbers, by name.
        counts: std::collections::BTreeMap<String, u64>,
    },
    /// What is set for this node.
    NodeStanding(NodeStanding),
    /// Everything was asked to move.
    Swept(Sweep),
    /// A page of the log.
    Log {
        /// The records, the oldest first.
        records: Vec<Record>,
        /// Where the next page begins.
        next: Cursor,
        /// There is more already.
        more: bool,
    },
    /// What is known of a process's end.
    Fate(Fate),
}

/// Where a process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Its pid at home.
    pub pid: i32,
    /// Its home node.
    pub home: NodeId,
    /// The node that runs it.
    pub node: NodeId,
    /// How often it has moved.
    pub moves: u64,
}

/// What a migrated process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    /// At home, after having been away.
    Home,
    /// Away.
    Away,
    /// On its way.
    Moving,
}

/// A process of this home.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Its pid.
    pub pid: i32,
    /// Its command name.
    pub name: String,
    /// Its owner's user id.
    pub uid: u32,
    /// Its home node.
    pub home: NodeId,
    /// The node that runs it.
    pub node: NodeId,
    /// What it is doing.
    pub state: ProcessState,
    /// How often it has moved.
    pub moves: u64,
    /// Its resident memory where it runs, bytes.
    pub memory_bytes: u64,
    /// CPU time used, at home and away, milliseconds.
    pub cpu_ms: u64,
    /// System calls forwarded home so far.
    pub forwarded: u64,
}

/// A guest on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestRow {
    /// Its pid at home.
    pub pid: i32,
    /// Its pid on this node.
    pub local_pid: i32,
    /// Its command name.
    pub name: String,
    /// Its home node.
    pub home: NodeId,
    /// Its resident memory, bytes.
    pub memory_bytes: u64,
    /// CPU time used on this node, milliseconds.
    pub cpu_ms: u64,
}

/// What the nodes think of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It is there.
    Alive,
    /// It did not answer; it may still say that it lives.
    Suspect,
    /// It does not answer any more.
    Gone,
    /// It has taken leave.
    Left,
    /// It is listed, and was never heard of.
    #[default]
    Unknown,
}

/// How a node was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeFound {
    /// It is listed in the configuration.
    #[default]
    Configured,
    /// By multicast in one of the networks.
    Multicast,
    /// At an address where it was looked for.
    Seed,
    /// Another node told of it.
    Relay,
    /// It is this node.
    Own,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub address: String,
    /// All addresses under which it is the same node, the likeliest first.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// What the nodes think of it.
    #[serde(default)]
    pub state: NodeState,
    /// For how many seconds they have thought so; none where nobody has.
    #[serde(default)]
    pub since_seconds: Option<u64>,
    /// How it was found.
    #[serde(default)]
    pub found: NodeFound,
    /// Whether it answered just now.
    pub alive: bool,
    /// Round trip of a control message, microseconds; 0 for this node and dead ones.
    pub round_trip_us: u64,
    /// CPUs it may use.
    pub cpus: u32,
    /// Memory it may use, bytes.
    pub memory_bytes: u64,
    /// Guests on it.
    pub guests: u32,
    /// Kernel release.
    pub kernel: String,
    /// Version of its daemon.
    pub version: String,
    /// Its load and room, as far as this daemon knows.
    #[serde(default)]
    pub figures: Figures,
}
