//! Waits that begin anew at home, with what is left of their time: the kernel keeps nothing with which they could go on
//! after a stop.
//!
//! Of some the time stands in the memory of the program, where the kernel reads it when the call begins. So what is left is
//! put in its place; as soon as the thread sleeps in its call, the program's own time is put back. No other thread of the
//! process runs meanwhile, and the thread itself would stop at the end of its call: so nobody sees it, and no register
//! differs. Of others it is that of their socket ([`crate::socket_time`]).
//!
//! A thread that sleeps cannot be let go of: `PTRACE_DETACH` wants it stopped, and a stop would end its call. But when a
//! tracer's own thread ends, the kernel lets go of its tracees without touching those that sleep (`exit_ptrace` in
//! `kernel/ptrace.c`). So who calls [`begin`] ends soon afterwards, after [`let_go`].

use crate::error::{Error, Result};
use crate::socket_time::{self, Direction};
use crate::stop;
use image::Registers;
use kernel::memory::{self, Forced};
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
    /// It stands still, with registers that tell what is left.
    Stands,
}

/// Where the time is that a call reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// A `struct timespec` at this address, which the kernel only reads.
    Read(u64),
    /// A `struct timespec` at this address, in which the kernel tells how much was left when it interrupted the call.
    Told(u64),
    /// The same with a `struct timeval`.
    ToldTimeval(u64),
    /// Milliseconds in a register (`r10`).
    Milliseconds,
    /// With a socket, that of this descriptor.
    Socket(i32, Direction),
}

/// Where the time is that the call of a thread reads; `None` if the kernel goes on with it by itself, or there is none.
pub fn time(registers: &Registers) -> Option<Time> {
    let there = |address: u64| (address != 0).then_some(address);
    match registers.orig_rax as i64 {
        libc::SYS_rt_sigtimedwait => there(registers.rdx).map(Time::Read),
        libc::SYS_semtimedop | libc::SYS_epoll_pwait2 => there(registers.r10).map(Time::Read),
        libc::SYS_recvmmsg => there(registers.r8).map(Time::Read),
        libc::SYS_ppoll => there(registers.rdx).map(Time::Told),
        libc::SYS_pselect6 => there(registers.r8).map(Time::Told),
        libc::SYS_select => there(registers.r8).map(Time::ToldTimeval),
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => Some(Time::Milliseconds),
        nr => Direction::of(nr).map(|direction| Time::Socket(registers.rdi as i32, direction)),
    }
}

/// Lets a thread of process `pid` begin its call with the time that is left. It stands with the registers of a call that is made again, and
/// all others of its process stand too.
///
/// On failure it may still stand, and the time in its memory is its own if that could be written at all.
pub fn begin(pid: i32, tid: i32, time: Time, left_ns: u64) -> Result<Begun> {
    let seconds = left_ns / 1_000_000_000;
    let fraction = left_ns % 1_000_000_000;
    match time {
        Time::Read(address) => return begin_hidden(tid, address, words(seconds, fraction)),
        Time::Socket(descriptor, direction) => {
            return socket_time::begin(pid, tid, (descriptor, direction), left_ns);
        }
        // Where it may not be written, the kernel would not tell either.
        Time::Told(address) => memory::write_all(tid, address, &words(seconds, fraction))
            .map_err(Error::kernel("writing the memory", tid))?,
        Time::ToldTimeval(address) => {
            memory::write_all(tid, address, &words(seconds, fraction.div_ceil(1000)))
                .map_err(Error::kernel("writing the memory", tid))?
        }
        Time::Milliseconds => {
            let mut raw = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
            raw.r10 = left_ns.div_ceil(1_000_000).min(i32::MAX as u64);
            ptrace::set_registers(tid, &raw).map_err(Error::kernel("setting registers", tid))?;
        }
    }
    Ok(Begun::Stands)
}

fn words(first: u64, second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&second.to_le_bytes());
    bytes
}

/// Lets a thread run into its call with a time in memory that is its own again when it sleeps.
fn begin_hidden(tid: i32, address: u64, left: [u8; 16]) -> Result<Begun> {
    let memory = Forced::open(tid).map_err(Error::io("opening the memory", tid))?;
    let mut own = [0; 16];
    memory.read_exact(address, &mut own).map_err(Error::io("reading the memory", tid))?;
    memory.write_all(address, &left).map_err(Error::io("writing the memory", tid))?;
    run_and_leave(tid, || memory.write_all(address, &own).map_err(Error::io("writing the memory", tid)))
}

/// Lets a thread run into its call, and puts back what was changed for that. It sleeps then, or is let go of.
pub(crate) fn run_and_leave(tid: i32, put_back: impl FnOnce() -> Result<()>) -> Result<Begun> {
    let stopped = run_into(tid);
    put_back()?;
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
