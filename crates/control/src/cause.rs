//! What happened to processes and nodes, and why: one record each, as `om log` shows them.

use model::{NodeId, ProcessId};
use serde::{Deserialize, Serialize};

/// Something that happened, as the daemon or an agent noted it down.
///
/// All records have the same fields, so that a script needs to know one form only; what does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, milliseconds since 1970, by the clock of the node that noted it down.
    pub at_ms: u64,
    /// What.
    pub what: What,
    /// The process; of a guest, as it is known at its home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// With `pid` what names the process without fail: its start, in clock ticks since boot. Not known of guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ticks: Option<u64>,
    /// Its command name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The other node: where it went, where it was; a guest's home; a node that joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Why, and what else is known, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What a process that has ended had used away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<UsedAway>,
}

/// What a process has used on other nodes, in all its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedAway {
    /// CPU time, milliseconds.
    pub cpu_ms: u64,
    /// How often it has moved, homewards too.
    pub moves: u64,
    /// System calls that its home has done for it.
    pub forwarded: u64,
    /// Bytes that they have carried.
    pub carried_bytes: u64,
}

/// The two logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Book {
    /// What happened, and why.
    #[default]
    Causes,
    /// What processes that ended had used away. A large build ends many: they do not drive out the causes.
    Ends,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A process of this node moved as somebody wished.
    Moved,
    /// A process of this node moved as no user but the cluster itself wished, for the load.
    Balanced,
    /// It was to move and did not: refused, or something failed. It goes on where it was.
    NotMoved,
    /// It came home because it did what cannot be done away.
    CameHome,
    /// It was ended with SIGKILL because its host, its keeper or the connection was lost.
    Lost,
    /// It was ended with SIGKILL because it had been ended on its host.
    Killed,
    /// A guest arrived here.
    GuestArrived,
    /// A guest is gone: it left, or ended.
    GuestGone,
    /// A guest was ended here because its home, or the connection, was lost.
    GuestLost,
    /// A process of this node that has been away, or was born there, has ended.
    Ended,
    /// A node has become one of the cluster.
    NodeJoined,
    /// A node does not answer any more.
    NodeLost,
    /// A node is there, for the first time or again, or has left in order.
    NodeChanged,
    /// A switch of this node, or its speed, was changed.
    Switched,
    /// The daemon started.
    Started,
    /// The daemon ended in order.
    Stopped,
}

impl Record {
    /// A record with nothing else in it; the time is in milliseconds since 1970.
    pub fn at(at_ms: u64, what: What) -> Record {
        let (name, cause) = (String::new(), String::new());
        Record { at_ms, what, pid: None, start_ticks: None, name, node: None, cause, used: None }
    }

    /// Of a process of this node.
    #[must_use]
    pub fn process(self, process: ProcessId, name: impl Into<String>) -> Record {
        Record { pid: Some(process.pid), start_ticks: Some(process.start_ticks), name: name.into(), ..self }
    }

    /// Of a guest of another node.
    #[must_use]
    pub fn guest(self, pid: i32, home: NodeId, name: impl Into<String>) -> Record {
        Record { pid: Some(pid), node: Some(home), name: name.into(), ..self }
    }

    /// With another node.
    #[must_use]
    pub fn node(self, node: NodeId) -> Record {
        Record { node: Some(node), ..self }
    }

    /// For this reason.
    #[must_use]
    pub fn cause(self, cause: impl Into<String>) -> Record {
        Record { cause: cause.into(), ..self }
    }

    /// With what it used away.
    #[must_use]
    pub fn used(self, used: UsedAway) -> Record {
        Record { used: Some(used), ..self }
    }

    /// In which log it stands.
    pub fn book(&self) -> Book {
        if self.what == What::Ended { Book::Ends } else { Book::Causes }
    }

    /// Whether it speaks of this very process.
    pub fn is_of(&self, process: ProcessId) -> bool {
        self.pid == Some(process.pid) && self.start_ticks == Some(process.start_ticks)
    }
}

/// A place in the log, from where it is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The number of the file: the log consists of several, the oldest of which go.
    pub file: u64,
    /// Bytes into it.
    pub offset: u64,
}

/// What is known of the end of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing: whatever ended it was not this cluster.
    Unknown,
    /// An agent still holds it, so that its end may yet be noted down.
    Pending,
    /// Why it was ended.
    Known {
        /// The last record of its end.
        record: Box<Record>,
    },
}
