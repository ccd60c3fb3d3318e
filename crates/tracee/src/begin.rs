//! Waits whose time stands in the memory of the program, at home.
//!
//! The kernel reads such a time when the call begins, and keeps nothing with which the call could go on after a stop. So the
//! call begins anew, with what is left in the place of the whole time; as soon as its thread sleeps, the program's own time
//! is put back. No other thread of the process runs meanwhile, and the thread itself would stop at the end of its call: so
//! nobody sees it, and no register differs.
//!
//! A thread that sleeps cannot be let go of: `PTRACE_DETACH` wants it stopped, and a stop would end its call. But when a
//! tracer's own thread ends, the kernel lets go of its tracees without touching those that sleep (`exit_ptrace` in
//! `kernel/ptrace.c`). So who calls [`begin`] ends soon afterwards, after [`let_go`].

use crate::error::{Error, Result};
use crate::stop;
use image::Registers;
use kernel::memory::Forced;
use kernel::ptrace::{self, Wait};
use std::time::{Duration, Instant};

/// How long a thread may take to get to its call, and to sleep in it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of a thread whose call was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It sleeps, still traced.
    Sleeps,
    /// The call was over, or did not begin because a signal came first: it was let go of.
    LetGo,
}

/// Where the time is that the call of a thread reads; `None` if it is elsewhere, or there is none.
pub fn place(registers: &Registers) -> Option<u64> {
    let address = match registers.orig_rax as i64 {
        libc::SYS_rt_sigtimedwait => registers.rdx,
        libc::SYS_semtimedop | libc::SYS_epoll_pwait2 => registers.r10,
        libc::SYS_recvmmsg => registers.r8,
        _ => 0,
    };
    (address != 0).then_some(address)
}

/// Lets a thread begin its call with the time that is left. It stands with the registers of a call that is made again, and
/// all others of its process stand too.
///
/// On failure it may still stand, and the time in its memory is its own if that could be written at all.
pub fn begin(tid: i32, address: u64, left_ns: u64) -> Result<Begun> {
    let memory = Forced::open(tid).map_err(Error::io("opening the memory", tid))?;
    let mut own = [0; 16];
    memory.read_exact(address, &mut own).map_err(Error::io("reading the memory", tid))?;
    let mut left = [0; 16];
    left[..8].copy_from_slice(&(left_ns / 1_000_000_000).to_le_bytes());
    left[8..].copy_from_slice(&(left_ns % 1_000_000_000).to_le_bytes());
    memory.write_all(address, &left).map_err(Error::io("writing the memory", tid))?;
    let stopped = run_into(tid);
    memory.write_all(address, &own).map_err(Error::io("writing the memory", tid))?;
    match stopped? {
        None => Ok(Begun::Sleeps),
        Some(signal) => {
            ptrace::detach(tid, signal).map_err(Error::kernel("letting go", tid))?;
            Ok(Begun::LetGo)
        }
    }
}

/// Lets a thread run until it sleeps in its call, or stands before it with a signal, or at its end (with 0).
fn run_into(tid: i32) -> Result<Option<i32>> {
    let deadline = Instant::now() + PATIENCE;
    // It must not die when its tracer's thread ends. And a stop at a call's end whose tracer is gone becomes a signal, of a
    // number that there is not, with this option.
    ptrace::set_options(tid, ptrace::OPTION_TRACESYSGOOD).map_err(Error::kernel("setting options", tid))?;
    ptrace::resume_to_call(tid).map_err(Error::kernel("resuming", tid))?;
    match stop::wait_until(tid, deadline)? {
        Wait::Signal(ptrace::CALL) => {}
        other => return standing(tid, other).map(Some),
    }
    ptrace::resume_to_call(tid).map_err(Error::kernel("resuming", tid))?;
    while Instant::now() < deadline {
        if let Some((_, wait)) = ptrace::wait(tid, false).map_err(Error::kernel("waiting", tid))? {
            return standing(tid, wait).map(Some);
        }
        if procinfo::stat(tid).map_err(Error::io("reading stat", tid))?.state == b'S' {
            break;
        }
        std::thread::yield_now();
    }
    Ok(None)
}

/// The signal with which a thread that stands is to go on, 0 if none.
fn standing(tid: i32, wait: Wait) -> Result<i32> {
    match wait {
        Wait::Exited(_) | Wait::Killed(..) => Err(Error::Gone(tid)),
        Wait::Signal(ptrace::CALL) | Wait::Event | Wait::GroupStop(_) | Wait::Other(_) => Ok(0),
        Wait::Signal(signal) => Ok(signal),
    }
}

/// Lets go of a thread that was asleep, if it stands by now. Otherwise the end of the calling OS thread does it.
pub fn let_go(tid: i32) {
    if let Ok(Some((_, wait))) = ptrace::wait(tid, false)
        && let Ok(signal) = standing(tid, wait)
        && let Err(errno) = ptrace::detach(tid, signal)
    {
        tracing::debug!(tid, %errno, "a thread could not be let go");
    }
}
