//! The kernel's news of the guest's threads: stops, signals, ends.

use super::guest::Waits;
use super::{End, Step, Stop, Warden};
use kernel::Errno;
use kernel::ptrace::{self, Wait};

impl Warden {
    /// Deals with everything that happened to the guest's threads.
    pub(super) fn take_news(&mut self) -> Step {
        loop {
            match ptrace::wait(-1, false) {
                Ok(Some((tid, wait))) => self.take_wait(tid, wait)?,
                Ok(None) | Err(Errno::ECHILD) => return Ok(()),
                Err(errno) => return Err(self.broken("watching the guests", self.guest.init)(errno)),
            }
        }
    }

    fn take_wait(&mut self, tid: i32, wait: Wait) -> Step {
        if tid == self.guest.init {
            return Err(Stop::End(End::Died));
        }
        // Those that make threads see to them at once; others are dead already.
        let Some(&index) = self.guest.by_tid.get(&tid) else { return Ok(()) };
        // Any stop uses an interrupt up.
        self.guest.threads[index].interrupted = false;
        match wait {
            Wait::Exited(_) | Wait::Killed(..) => self.thread_ended(index),
            Wait::Signal(signal) => {
                self.deliver(index, signal)?;
                self.stop_again(tid)
            }
            Wait::Event => {
                if matches!(self.guest.threads[index].waits, Waits::Delivery(_)) {
                    return self.deliver_newborn(index);
                }
                if matches!(self.guest.threads[index].waits, Waits::Vfork { .. }) {
                    return Ok(());
                }
                if self.guest.member(index).held || self.leaves(index) {
                    self.guest.threads[index].parked = true;
                    Ok(())
                } else {
                    self.resume(index, 0)
                }
            }
            // The guest's own group stops are those of its home; what its kernel thinks of them does not matter.
            Wait::GroupStop(_) | Wait::Other(_) => {
                self.resume(index, 0)?;
                self.stop_again(tid)
            }
        }
    }

    /// A thread has gone on, and is to stand still.
    fn stop_again(&mut self, tid: i32) -> Step {
        match self.guest.by_tid.get(&tid) {
            Some(&index) if self.guest.member(index).held || self.leaves(index) => self.interrupt(index),
            _ => Ok(()),
        }
    }

    /// Lets a stopped thread go on.
    pub(super) fn resume(&mut self, index: usize, signal: i32) -> Step {
        let thread = &mut self.guest.threads[index];
        thread.parked = false;
        let tid = thread.tid;
        match ptrace::resume(tid, signal) {
            // It was killed meanwhile; the news of it will come.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(self.broken("resuming", tid)(errno)),
        }
    }

    /// Asks a running thread to stop.
    pub(super) fn interrupt(&mut self, index: usize) -> Step {
        let thread = &mut self.guest.threads[index];
        if thread.parked || thread.interrupted {
            return Ok(());
        }
        thread.interrupted = true;
        let tid = thread.tid;
        match ptrace::interrupt(tid) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(self.broken("interrupting", tid)(errno)),
        }
    }

    /// The process was stopped at home, or goes on there.
    pub(super) fn hold(&mut self, pid: i32, stopped: bool) -> Step {
        let Some(member) = self.guest.members.get_mut(&pid) else { return Ok(()) };
        member.held = stopped;
        for index in self.guest.threads.of(pid) {
            if stopped {
                self.interrupt(index)?;
            } else if !self.leaves(index) && self.guest.threads[index].parked {
                let waits = &self.guest.threads[index].waits;
                // A thread that stopped itself goes on when its deputy says so, and one that has made a process with
                // `vfork` when that needs its memory no more.
                if !matches!(waits, Waits::Stop | Waits::Death | Waits::Vfork { .. }) {
                    self.resume(index, 0)?;
                }
            }
        }
        Ok(())
    }

    /// For `map_err`: a failed operation on the guest.
    pub(super) fn broken(&self, what: &'static str, pid: i32) -> impl Fn(Errno) -> Stop + use<> {
        move |errno| Stop::Failed(tracee::Error::Kernel { what, pid, errno }.into())
    }
}
