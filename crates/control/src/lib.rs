//! Messages between the daemon and its tools, and between the daemon and its agents.
//!
//! Every conversation is one line of JSON (a request) answered by lines of JSON: any number of
//! [`Event::Progress`], then exactly one of [`Event::Done`] and [`Event::Failed`].
//! A line is at most [`model::limits::CONTROL_LINE_BYTES_MAX`] bytes.
#![forbid(unsafe_code)]

mod agent;
mod cause;
mod daemon;
mod load;
mod standing;

pub use agent::{AgentRequest, KeeperStatus, Sake, WardenStatus};
pub use cause::{Book, Cursor, Fate, Record, UsedAway, What};
pub use daemon::{
    Answer, Event, FailureKind, GuestRow, Location, NodeFound, NodeRow, NodeState, ProcessRow, ProcessState,
    Progress, Request,
};
pub use load::NodeLoad;
pub use standing::{Figures, NodeStanding, Sweep, Switch};

/// Where a daemon listens for tools.
pub const DAEMON_SOCKET: &str = "/run/openmosix/omd.sock";
/// Directory of the keepers' sockets, one `PID.sock` each.
pub const KEEPER_DIRECTORY: &str = "/run/openmosix/keeper";
/// Directory of the wardens' sockets, one `SESSION.sock` each.
pub const WARDEN_DIRECTORY: &str = "/run/openmosix/warden";
