//! Threads that were stopped inside the vDSO.
//!
//! Its code reads the kernel's time data and then adds the offset of its time namespace, in two steps. Between them a
//! process must not move: it would add one machine's offset to another machine's time. (The sequence number that the
//! code checks protects the data from their writer, not from being exchanged.) So such a thread is first led out, one
//! instruction at a time.

use crate::error::{Error, Result};
use kernel::memory;
use kernel::ptrace::{self, RawSiginfo, Wait};
use procinfo::Mapping;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Steps, at most: reading a clock takes some hundred instructions. The other long functions there (random bytes) keep
/// what they know of the kernel's state where it travels along, and may move at any moment.
const STEPS_MAX: u32 = 4000;
const PATIENCE: Duration = Duration::from_secs(2);
/// What stays open: the trap of a step, and what an instruction itself may raise. Those raised while blocked would reset
/// the program's handler.
const OPEN: [i32; 5] = [libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Where the vDSO's code is; empty if there is none.
pub fn code(mappings: &[Mapping]) -> Range<u64> {
    let found = mappings.iter().find(|mapping| mapping.path == "[vdso]");
    found.map_or(0..0, |mapping| mapping.start..mapping.end)
}

/// Leads a stopped thread out of the vDSO, if it is there. It stays stopped and has its own mask.
///
/// A signal that somebody sent may come in between: the thread then stands before its delivery, and the signal is
/// returned; it is the caller's to deliver or to keep.
pub fn lead_out(tid: i32, code: &Range<u64>) -> Result<Option<RawSiginfo>> {
    let registers = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
    // In a system call nothing of the kernel's data is in use.
    if !code.contains(&registers.rip) || registers.orig_rax as i64 >= 0 {
        return Ok(None);
    }
    let mask = ptrace::signal_mask(tid).map_err(Error::kernel("reading the signal mask", tid))?;
    let open = OPEN.iter().fold(0u64, |open, signal| open | 1 << (signal - 1));
    set_mask(tid, mask | !open)?;
    let met = walk(tid, code);
    set_mask(tid, mask)?;
    met
}

fn set_mask(tid: i32, mask: u64) -> Result<()> {
    ptrace::set_signal_mask(tid, mask).map_err(Error::kernel("setting the signal mask", tid))
}

fn walk(tid: i32, code: &Range<u64>) -> Result<Option<RawSiginfo>> {
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..STEPS_MAX {
        let rip = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?.rip;
        let mut next = [0; 2];
        if !code.contains(&rip) || (memory::read_exact(tid, rip, &mut next).is_ok() && next == SYSCALL) {
            return Ok(None);
        }
        ptrace::step(tid, 0).map_err(Error::kernel("stepping", tid))?;
        match crate::stop::wait_until(tid, deadline)? {
            Wait::Exited(_) | Wait::Killed(..) => return Err(Error::Gone(tid)),
            Wait::Signal(signal) if signal != libc::SIGTRAP => {
                let info = ptrace::siginfo(tid).map_err(Error::kernel("reading a signal", tid))?;
                // A fault comes again when the instruction is run again, wherever that is.
                return Ok((crate::fault::code_of(&info) <= 0).then_some(info));
            }
            _ => {}
        }
    }
    tracing::debug!(tid, "a thread stays long in the vdso");
    Ok(None)
}
