//! Signals that an instruction raised itself and that wait for their delivery when a thread is stopped.
//!
//! Such a signal need not travel: the thread stands before the instruction, and the fault comes again when it is run
//! again, wherever that is. And it must not stay pending while injected code runs. When that code traps at its end, the
//! kernel looks for a signal that is not blocked among those that instructions raise, finds the trap, and then delivers the
//! first of the kind in the queue, blocked or not (`dequeue_synchronous_signal` in kernel/signal.c): the old fault.

use crate::error::{Error, Result};
use image::Siginfo;
use kernel::ptrace::{self, RawSiginfo};

const FAULTS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// Whether it is raised again when the thread goes on.
pub fn comes_again(info: &Siginfo) -> bool {
    is_fault(info[0] as i32, info[1] as i32)
}

/// `si_code` of a siginfo.
pub(crate) fn code_of(raw: &RawSiginfo) -> i32 {
    i32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]])
}

/// Whether a signal stands in the way of the trap with which injected code has ended.
pub(crate) fn hides_trap(tid: i32, signal: i32) -> Result<bool> {
    if !FAULTS.contains(&signal) {
        return Ok(false);
    }
    let signal_of = |raw: &RawSiginfo| i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
    let pending = ptrace::pending(tid, false).map_err(Error::kernel("reading pending signals", tid))?;
    Ok(pending.iter().any(|raw| signal_of(raw) == libc::SIGTRAP))
}

/// Only the kernel gives positive codes. Broken memory that nobody has touched yet is told of once.
fn is_fault(signal: i32, code: i32) -> bool {
    FAULTS.contains(&signal) && code > 0 && (signal, code) != (libc::SIGBUS, libc::BUS_MCEERR_AO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_sent_does_not_come_again() {
        let info = |signal: i32, code: i32| {
            let mut info = [0; 16];
            (info[0], info[1]) = (signal as u64, code as u32 as u64);
            info
        };
        assert!(comes_again(&info(libc::SIGSEGV, 2)));
        assert!(comes_again(&info(libc::SIGILL, 0x80)));
        assert!(!comes_again(&info(libc::SIGSEGV, 0)));
        assert!(!comes_again(&info(libc::SIGSEGV, libc::SI_TKILL)));
        assert!(!comes_again(&info(libc::SIGTRAP, 1)));
        assert!(!comes_again(&info(libc::SIGBUS, libc::BUS_MCEERR_AO)));
    }
}
