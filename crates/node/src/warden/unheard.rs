//! Calls that a signal ended before the warden heard of them.
//!
//! From the moment in which the warden takes a notification, only a signal that kills ends the guest's wait for the answer
//! (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`). Before, any signal does, and the kernel then treats the call like one that
//! waited and was interrupted: after a handler without `SA_RESTART` it would answer `EINTR`, which many calls never do. But
//! it has not begun. So it is made again, whatever comes.

use super::guest::Thread;
use super::{Step, Warden};
use image::Registers;
use kernel::{Errno, ptrace};
use stub_abi::{INTERRUPTED, NOT_EXECUTED};
use syscalls::{Route, Special};
use tracee::registers;

/// Has the call of a thread that stands with these registers made again, if it is one of which nobody here has heard;
/// `false` if it is none.
pub(super) fn make_again(registers: &mut Registers, thread: &Thread) -> bool {
    let Registers { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
    let row = u32::try_from(registers.orig_rax).ok().and_then(syscalls::row);
    let route = row.map_or(Route::GoHome, |row| row.route_of(&[rdi, rsi, rdx, r10, r8, r9], thread.of));
    // What runs here may wait here, and be interrupted.
    let runs_here = matches!(route, Route::Local | Route::Special(Special::Sleep));
    let is_call = registers.orig_rax.cast_signed() >= 0;
    let heard =
        thread.given_up || thread.remade.is_some_and(|(nr, _)| nr == registers.orig_rax.cast_signed());
    let unheard = registers.rax.cast_signed() == INTERRUPTED && is_call && !runs_here && !heard;
    if unheard {
        registers.rax = NOT_EXECUTED.cast_unsigned();
    }
    unheard
}

impl Warden {
    /// The handler of a signal is about to run in a thread.
    pub(super) fn make_unheard_again(&mut self, index: usize) -> Step {
        let thread = &mut self.guest.threads[index];
        let tid = thread.tid;
        let made = ptrace::registers(tid).and_then(|raw| {
            let mut registers = registers::from_raw(&raw);
            if !make_again(&mut registers, thread) {
                return Ok(());
            }
            ptrace::set_registers(tid, &registers::to_raw(&registers))
        });
        thread.given_up = false;
        match made {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(self.broken("making a call again", tid)(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_of_others_that_nobody_heard_of() {
        let rows = [
            ("kill", 62, false, None, true),
            ("read", 0, false, None, true),
            ("fork", 57, false, None, true),
            ("a call of the future", 5000, false, None, true),
            ("read, told to be interrupted", 0, true, None, false),
            ("read, interrupted by a move", 0, false, Some((0, INTERRUPTED)), false),
            ("pause", 34, false, None, false),
            ("nanosleep", 35, false, None, false),
            ("no call", -1, false, None, false),
        ];
        for (what, nr, given_up, remade, expected) in rows {
            let thread = Thread { given_up, remade, ..Thread::new(7, 8, 9) };
            let standing = Registers { rax: INTERRUPTED as u64, orig_rax: nr as u64, ..Registers::default() };
            let mut registers = standing;
            assert_eq!(make_again(&mut registers, &thread), expected, "{what}");
            let rax = if expected { NOT_EXECUTED } else { INTERRUPTED };
            assert_eq!(registers, Registers { rax: rax as u64, ..standing }, "{what}");
        }
        let mut answered = Registers { rax: 5, orig_rax: 0, ..Registers::default() };
        assert!(!make_again(&mut answered, &Thread::new(7, 8, 9)));
    }
}
