//! Naming a process so that a reused pid is never mistaken for it.

use model::ProcessId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A hold on a process that is known to be the one meant.
pub(crate) struct Hold(OwnedFd);

/// The identity of a running process, as seen from here; `None` if there is none of this pid.
pub(crate) fn identify(pid: i32) -> Option<ProcessId> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold blanks and brackets, so fields are counted from its last bracket.
    let (_, fields) = stat.rsplit_once(") ")?;
    let start_ticks = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(ProcessId { pid, start_ticks })
}

/// Holds the process, if it still runs.
pub(crate) fn hold(process: ProcessId) -> Option<Hold> {
    let pid = rustix::process::Pid::from_raw(process.pid)?;
    let held = Hold(pidfd_open(pid, PidfdFlags::empty()).ok()?);
    // Only now: whatever bears the pid at this moment is what the descriptor holds.
    (identify(process.pid) == Some(process) && !held.ended_within(Some(0))).then_some(held)
}

impl Hold {
    /// A hold on a child of ours, which cannot have been replaced.
    pub(crate) fn on_child(pid: nix::unistd::Pid) -> io::Result<Hold> {
        let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Hold(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Kills the process; nothing happens if it is dead already.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }

    /// Waits for the process to end, for so many milliseconds at most; `None` is for ever.
    pub(crate) fn ended_within(&self, milliseconds: Option<u16>) -> bool {
        let timeout = milliseconds.map_or(PollTimeout::NONE, PollTimeout::from);
        loop {
            let mut waited = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waited, timeout) {
                Err(Errno::EINTR) => {}
                outcome => return outcome.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

impl AsFd for Hold {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Hold> for OwnedFd {
    fn from(hold: Hold) -> OwnedFd {
        hold.0
    }
}
