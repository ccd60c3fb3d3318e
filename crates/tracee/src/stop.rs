//! Stopping all threads of a process.

use crate::error::{Error, Result};
use kernel::Errno;
use kernel::ptrace::{self, Wait};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long the threads may take to leave the vDSO.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// A process all of whose threads are stopped and seized by the calling OS thread.
///
/// Dropping it lets the process go on unharmed, as if nothing had happened, as long as every thread has the registers
/// and signal mask it was stopped with. One that a signal has stopped, and none has continued since, is stopped as before.
#[derive(Debug)]
pub struct Stopped {
    pid: i32,
    tids: Vec<i32>,
    by: By,
}

/// What a thread, or a process, stands still by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By its tracer alone.
    Tracer,
    /// Also by a signal like `SIGSTOP`, which has stopped its process.
    Signal,
}

impl Stopped {
    /// Stops every thread of `pid`, also those that are born meanwhile.
    ///
    /// On failure the process goes on as before.
    pub fn freeze(pid: i32, patience: Duration) -> Result<Stopped> {
        let deadline = Instant::now() + patience;
        let mut stopped = Stopped { pid, tids: Vec::new(), by: By::Tracer };
        let mut known = BTreeSet::new();
        loop {
            let tids = procinfo::threads(pid).map_err(|_| Error::Gone(pid))?;
            let fresh: Vec<i32> = tids.into_iter().filter(|tid| !known.contains(tid)).collect();
            if fresh.is_empty() {
                break;
            }
            let mut seized = Vec::new();
            for tid in fresh {
                known.insert(tid);
                // A thread that ended since it was listed is no failure (it is simply not there).
                match ptrace::seize(tid, 0).and_then(|()| ptrace::interrupt(tid)) {
                    Ok(()) => seized.push(tid),
                    Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(Error::Kernel { what: "seizing a thread", pid: tid, errno }),
                }
            }
            for (index, &tid) in seized.iter().enumerate() {
                match stop_one(tid, deadline) {
                    Ok(by) => {
                        stopped.tids.push(tid);
                        if by == By::Signal {
                            stopped.by = by;
                        }
                    }
                    Err(Error::Gone(_)) => {}
                    Err(error) => {
                        // The rest is seized and about to stop: let go of it too.
                        seized[index..].iter().for_each(|&tid| release_late(tid));
                        return Err(error);
                    }
                }
            }
        }
        // The leader first, the rest in the order of their birth.
        stopped.tids.sort_by_key(|&tid| (tid != pid, tid));
        if stopped.tids.first() != Some(&pid) {
            return Err(Error::Gone(pid));
        }
        Ok(stopped)
    }

    /// Leads the threads out of the vDSO, whose code must not be interrupted by a move.
    ///
    /// On failure the threads are stopped as before.
    pub fn leave_vdso(&self, code: &Range<u64>) -> Result<()> {
        let deadline = Instant::now() + LEAVE_PATIENCE;
        for &tid in &self.tids {
            // A signal that comes meanwhile is delivered here, where it was sent.
            while let Some(info) = crate::vdso::lead_out(tid, code)? {
                again(tid, i32::from(info[0]))?;
                stop_one(tid, deadline)?;
            }
        }
        Ok(())
    }

    /// Takes over threads that are known to be stopped and seized.
    pub fn adopt(pid: i32, tids: Vec<i32>) -> Stopped {
        Stopped { pid, tids, by: By::Tracer }
    }

    /// What it stood still by when it was stopped here.
    pub fn by(&self) -> By {
        self.by
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its threads, the leader first.
    pub fn tids(&self) -> &[i32] {
        &self.tids
    }

    /// A thread of it is somebody else's to let go of.
    pub fn give_up(&mut self, tid: i32) {
        self.tids.retain(|&known| known != tid);
    }

    /// Gives up the guard: the threads stay stopped.
    pub fn into_tids(mut self) -> Vec<i32> {
        std::mem::take(&mut self.tids)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for &tid in &self.tids {
            if let Err(errno) = ptrace::detach(tid, 0) {
                tracing::debug!(tid, %errno, "a thread could not be let go");
            }
        }
    }
}

/// Waits until an interrupted thread stops for the interrupt.
///
/// The first stop may be that of a signal on its way, and *any* stop uses the interrupt up. Taken for the wanted stop,
/// it would lose the signal: so the signal is delivered and the thread interrupted again.
pub fn stop_one(tid: i32, deadline: Instant) -> Result<By> {
    loop {
        match wait_until(tid, deadline)? {
            Wait::Event => return Ok(By::Tracer),
            Wait::GroupStop(_) => return Ok(By::Signal),
            Wait::Exited(_) | Wait::Killed(..) => return Err(Error::Gone(tid)),
            Wait::Signal(signal) => again(tid, signal)?,
            Wait::Other(_) => again(tid, 0)?,
        }
    }
}

/// Stops a thread where it waits in call `nr`, with no signal on its way to the handler that catches them all.
///
/// A thread that stands before the handler's first instruction still shows the number of the call that its signal has
/// interrupted; and of that signal nobody else knows any more.
pub fn stop_in_call(tid: i32, nr: i64, handler: u64, deadline: Instant) -> Result<()> {
    loop {
        stop_one(tid, deadline)?;
        let registers = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
        if registers.orig_rax.cast_signed() == nr && registers.rip != handler {
            return Ok(());
        }
        ptrace::resume(tid, 0).map_err(Error::kernel("resuming", tid))?;
        // Interrupted at once, or while it stands, it would stop again before it has run at all.
        if !comes_to_stand(tid, deadline)? {
            ptrace::interrupt(tid).map_err(Error::kernel("interrupting", tid))?;
        }
    }
}

/// Waits until a resumed thread stands, or sleeps; whether it stands.
pub(crate) fn comes_to_stand(tid: i32, deadline: Instant) -> Result<bool> {
    while Instant::now() < deadline {
        match procinfo::stat(tid).map_err(Error::io("reading stat", tid))?.state {
            b'S' | b'D' => return Ok(false),
            b't' => return Ok(true),
            _ => std::thread::yield_now(),
        }
    }
    Ok(false)
}

fn again(tid: i32, signal: i32) -> Result<()> {
    ptrace::resume(tid, signal).and_then(|()| ptrace::interrupt(tid)).map_err(Error::kernel("stopping", tid))
}

/// Waits for a thread, but not beyond the deadline.
pub fn wait_until(tid: i32, deadline: Instant) -> Result<Wait> {
    let mut looks = 0u32;
    loop {
        match ptrace::wait(tid, false) {
            Ok(Some((_, wait))) => return Ok(wait),
            Ok(None) if Instant::now() >= deadline => return Err(Error::Stuck(tid)),
            // A stop takes microseconds; only an uninterruptible thread takes longer.
            Ok(None) => {
                looks += 1;
                if looks < 200 {
                    std::thread::yield_now()
                } else {
                    std::thread::sleep(Duration::from_micros(200))
                }
            }
            Err(Errno::ECHILD | Errno::ESRCH) => return Err(Error::Gone(tid)),
            Err(errno) => return Err(Error::Kernel { what: "waiting", pid: tid, errno }),
        }
    }
}

/// Lets go of a thread that was interrupted but has not been seen to stop.
pub fn release_late(tid: i32) {
    let deadline = Instant::now() + Duration::from_millis(100);
    if stop_one(tid, deadline).is_ok() {
        let _ = ptrace::detach(tid, 0);
    }
}
