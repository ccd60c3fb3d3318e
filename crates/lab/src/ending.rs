//! What ends a lab in the foreground.

use crate::error::{Doing, Result};
use crate::identity::Hold;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;
use std::os::fd::{AsFd, BorrowedFd};

/// The wishes that a lab in the foreground ends by: SIGINT, SIGTERM, SIGHUP, or the end of standard input.
#[derive(Debug)]
pub struct Ending {
    signals: SignalFd,
}

impl Ending {
    /// Holds the signals back from their usual effect, in this thread and those it starts later.
    ///
    /// To be called before the lab is made, so that no signal finds it half known.
    pub fn watch() -> Result<Ending> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        set.thread_block().doing(|| "hold signals back".to_owned())?;
        let signals =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).doing(|| "watch signals".to_owned())?;
        Ok(Ending { signals })
    }

    /// Waits for a wish, or for the process to end by itself.
    pub(crate) fn wait(&self, process: &Hold) {
        // SAFETY: a process without standard input gets EBADF for it, nothing worse.
        let input = unsafe { BorrowedFd::borrow_raw(0) };
        loop {
            let mut waited =
                [self.signals.as_fd(), process.as_fd(), input].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            if poll(&mut waited, PollTimeout::NONE).is_err() {
                continue;
            }
            if waited[0].any() == Some(true) || waited[1].any() == Some(true) {
                return;
            }
            if waited[2].any() == Some(true)
                && !matches!(read(input, &mut [0; 512]), Ok(1..) | Err(Errno::EINTR))
            {
                return;
            }
        }
    }
}
