//! How a forked part of the lab tells its maker that it is ready, or why it is not.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

/// The one message through a report pipe. A pipe that ends without one tells of a death.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Set up; pids are those of the machine, not of the pid namespace they were sent from.
    Ready {
        /// Of the sender.
        pid: i32,
        /// Of the inits it has started, in the order of the nodes.
        nodes: Vec<i32>,
    },
    /// Not set up.
    Failed(String),
}

impl Report {
    /// Sends the report and closes the pipe.
    pub(crate) fn send(&self, pipe: OwnedFd) -> io::Result<()> {
        File::from(pipe).write_all(&serde_json::to_vec(self)?)
    }

    /// Waits for the report; `None` if the sender died.
    pub(crate) fn receive(pipe: OwnedFd) -> Option<Report> {
        let mut text = Vec::new();
        File::from(pipe).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// This process's pid in the namespace that the mounted `/proc` belongs to.
///
/// To be asked before a node mounts its own: `/proc` is then still the machine's.
pub(crate) fn outside_pid() -> io::Result<i32> {
    let name = fs::read_link("/proc/self")?;
    name.to_str().and_then(|name| name.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
