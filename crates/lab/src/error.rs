//! What can go wrong with a lab.

use std::io;
use std::path::PathBuf;

/// A lab that could not be made, found, entered or taken down.
///
/// Every text is one line which names the thing and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only root may make namespaces.
    #[error("a lab needs root: run it with sudo")]
    NotRoot,
    /// The name would not be a directory name.
    #[error("'{0}' is no name for a lab: use 1 to 32 small letters, digits and hyphens")]
    BadName(String),
    /// A word of the specification says nothing.
    #[error("'{text}' is not {wanted}")]
    BadWord {
        /// What was written.
        text: String,
        /// What was wanted there.
        wanted: &'static str,
    },
    /// The number of nodes is out of range.
    #[error("{0} nodes: a lab has 1 to {max} nodes", max = crate::spec::NODES_MAX)]
    BadNodeCount(u16),
    /// A list that is neither for one nor for every node.
    #[error("{what} lists {given} values for {nodes} nodes: give one for all, or one each")]
    BadList {
        /// The option.
        what: &'static str,
        /// Values in the list.
        given: usize,
        /// Nodes in the lab.
        nodes: u16,
    },
    /// A node wants more CPUs than there are.
    #[error("a node of {wanted} CPUs: this machine lets you use {available}, so give it fewer with --cpus")]
    TooManyCpus {
        /// CPUs asked for.
        wanted: usize,
        /// CPUs there.
        available: usize,
    },
    /// The lab exists.
    #[error("lab '{0}' is up already: take it down with 'om lab --name {0} down', or choose another --name")]
    AlreadyUp(String),
    /// The lab does not exist.
    #[error("no lab '{0}' is up: see 'om lab ls', or start it with 'om lab up --name {0}'")]
    NoSuchLab(String),
    /// The lab has no such node.
    #[error("lab '{lab}' has no node '{node}': it has {known}")]
    NoSuchNode {
        /// The lab.
        lab: String,
        /// The node asked for.
        node: String,
        /// The nodes there are.
        known: String,
    },
    /// The node's init is gone.
    #[error("node {node} of lab '{lab}' is dead: take the lab down and up again")]
    DeadNode {
        /// The lab.
        lab: String,
        /// The node.
        node: String,
    },
    /// The node's own passwd does not know the user.
    #[error("node {node} knows no user '{user}'")]
    NoSuchUser {
        /// The node.
        node: String,
        /// The user asked for.
        user: String,
    },
    /// No command was given.
    #[error("no command given to run in the node")]
    NoCommand,
    /// The kernel offers no way to limit.
    #[error("this system has no cgroup controller '{controller}': leave out {option}")]
    NoController {
        /// The controller.
        controller: &'static str,
        /// What needs it.
        option: &'static str,
    },
    /// One step failed; whatever was half made is taken down again.
    #[error("failed to {doing}: {source}")]
    Step {
        /// The operation and its subject.
        doing: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The supervisor or a node's init could not set up its part.
    #[error("{0}")]
    Setup(String),
    /// Not a setting of the daemon's.
    #[error("'{0}' is no setting; one looks like guests.max=8")]
    BadSetting(String),
    /// The supervisor ended before it had said anything.
    #[error("the supervisor of lab '{0}' died while it was being set up")]
    SupervisorDied(String),
    /// The state file is not ours.
    #[error("failed to read {path}: {source}: take the lab down and up again")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// No certificates for the daemons.
    #[error("failed to make the cluster's certificates: {0}")]
    Credentials(#[from] net::Error),
    /// There is no daemon to start.
    #[error("no daemon at {0}: build it, or start the lab with --bare")]
    NoDaemon(PathBuf),
    /// A daemon did not find the others in time.
    #[error("the daemon of {node} does not find the other nodes; its log ends with: {log}")]
    Lonely {
        /// The node.
        node: String,
        /// The end of its log.
        log: String,
    },
    /// A daemon did not come up, or not in time.
    #[error("the daemon of {node} does not answer; its log ends with: {log}")]
    DaemonSilent {
        /// The node.
        node: String,
        /// The end of its log.
        log: String,
    },
}

/// The result of anything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was being done when the kernel refused.
pub(crate) trait Doing<T> {
    /// Turns a kernel's error into [`Error::Step`]; `what` completes "failed to ...".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Step { doing: what(), source: error.into() })
    }
}
