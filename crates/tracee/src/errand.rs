//! A thread on an errand: it runs code that is not its program's, and what others do to its process goes on meanwhile.
//!
//! All signals are blocked then but two that cannot be. A stop by `SIGSTOP` takes its course: the kernel counts the
//! thread as stopped, tells the parent, and leaves it to the tracer whether the thread runs; it does, to the end of its
//! errand, and falls asleep when it is let go, unless `SIGCONT` came first. And a trap that somebody *sent* is not the one
//! with which the errand ends: it is sent again when that is done.

use crate::error::{Error, Result};
use crate::fault;
use kernel::ptrace::{self, Wait};
use std::time::{Duration, Instant};

/// Everything is blocked during an errand, except the trap it ends with.
pub(crate) const MASK: u64 = !(1 << (libc::SIGTRAP - 1));

/// How long a thread may take to get to a call, and to sleep in it.
const SETTLING: Duration = Duration::from_secs(1);

/// Why a thread stopped on its errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// By the trap: the errand or a step of it is done.
    Trap,
    /// It has made this thread or process.
    Born(i32),
    /// By something that has nothing to do with it: it is to go on.
    Other,
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// By one instruction.
    Step,
    /// To the trap.
    Run,
    /// Into a call that it sleeps in, to be interrupted there.
    IntoCall,
}

/// A stopped thread that is to run other code.
pub(crate) struct Errand {
    tid: i32,
    deadline: Instant,
    /// The signal it goes on with, or 0.
    signal: i32,
    traps: Traps,
}

/// Traps that somebody sent meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traps {
    to_process: bool,
    to_thread: bool,
}

impl Errand {
    /// Begins; after so long the process counts as stuck. The thread's registers and mask ([`MASK`]) are the caller's to set.
    pub(crate) fn begin(tid: i32, patience: Duration) -> Errand {
        Errand { tid, deadline: Instant::now() + patience, signal: 0, traps: Traps::default() }
    }

    /// Lets the thread go on until it stops.
    pub(crate) fn go_on(&mut self, pace: Pace) -> Result<Halt> {
        let tid = self.tid;
        // Also one that stands again and again is stuck.
        if Instant::now() >= self.deadline {
            return Err(Error::Stuck(tid));
        }
        let signal = std::mem::take(&mut self.signal);
        match pace {
            Pace::Step => ptrace::step(tid, signal).map_err(Error::kernel("stepping", tid))?,
            Pace::Run => ptrace::resume(tid, signal).map_err(Error::kernel("resuming", tid))?,
            Pace::IntoCall => {
                ptrace::resume(tid, signal).map_err(Error::kernel("resuming", tid))?;
                // Once it stands, an interrupt would stop it the next time it is to go on.
                if !crate::stop::comes_to_stand(tid, Instant::now() + SETTLING)? {
                    ptrace::interrupt(tid).map_err(Error::kernel("interrupting", tid))?;
                }
            }
        }
        match crate::stop::wait_until(tid, self.deadline)? {
            Wait::Exited(_) | Wait::Killed(..) => Err(Error::Gone(tid)),
            Wait::Signal(libc::SIGTRAP) => self.trapped(),
            Wait::Signal(libc::SIGSTOP) => {
                self.signal = libc::SIGSTOP;
                Ok(Halt::Other)
            }
            // Not delivered: it comes again.
            Wait::Signal(signal) if fault::hides_trap(tid, signal)? => Ok(Halt::Other),
            Wait::Signal(signal) => Err(Error::Trapped { pid: tid, signal }),
            Wait::Other(libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK) => {
                let born =
                    ptrace::event_message(tid).map_err(Error::kernel("asking for the newborn", tid))?;
                Ok(Halt::Born(born as i32))
            }
            Wait::Event | Wait::GroupStop(_) | Wait::Other(_) => Ok(Halt::Other),
        }
    }

    /// Whether it stands before a signal that it takes when it goes on.
    pub(crate) fn owes_a_signal(&self) -> bool {
        self.signal != 0
    }

    fn trapped(&mut self) -> Result<Halt> {
        let info = ptrace::siginfo(self.tid).map_err(Error::kernel("reading a signal", self.tid))?;
        match fault::code_of(&info) {
            // Only the kernel gives positive codes.
            1.. => return Ok(Halt::Trap),
            libc::SI_TKILL => self.traps.to_thread = true,
            _ => self.traps.to_process = true,
        }
        Ok(Halt::Other)
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        // It fails only if the process is gone.
        if self.traps == Traps::default() {
            return;
        }
        let Ok(status) = procinfo::status(self.tid) else { return };
        if self.traps.to_thread {
            let _ = kernel::signal::send_thread(status.tgid, self.tid, libc::SIGTRAP);
        }
        if self.traps.to_process {
            let _ = kernel::signal::send(status.tgid, libc::SIGTRAP);
        }
    }
}
