//! Calls that have given a part of their payload, and are to be made again for the rest.
//!
//! Between its interruption and its repetition a thread executes nothing but the call's own instruction, unless the handler
//! of a signal runs. So what is known of it ends with the next call of the thread and with the next handler: a later call
//! may look the same in every register.

use super::{Step, Warden};
use image::Registers;
use kernel::notify::Notification;
use kernel::{Errno, ptrace};
use tracee::registers;

/// Bytes of the instruction `syscall`.
const INSTRUCTION_BYTES: u64 = 2;

/// What is known of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HalfDone {
    pub(super) nr: i64,
    pub(super) args: [u64; 6],
    /// Address behind its instruction.
    pub(super) rip: u64,
    /// Bytes that have been given.
    pub(super) done: u64,
}

impl HalfDone {
    /// The call that a thread with these registers is to make again.
    pub(super) fn of(registers: &Registers, done: u64) -> HalfDone {
        HalfDone { nr: registers.orig_rax as i64, args: arguments(registers), rip: registers.rip, done }
    }

    /// Whether this is its repetition.
    fn is(&self, notification: &Notification) -> bool {
        (self.nr, self.args, self.rip) == (i64::from(notification.nr), notification.args, notification.rip)
    }

    /// Whether a thread with these registers is about to make it again: the kernel has still to restart it, or has set it
    /// back in front of the instruction.
    fn is_at(&self, registers: &Registers) -> bool {
        let (result, entered) = (registers.rax as i64, registers.orig_rax as i64);
        let interrupted = (-514..=-512).contains(&result) && (entered, registers.rip) == (self.nr, self.rip);
        let set_back = (result, registers.rip) == (self.nr, self.rip.wrapping_sub(INSTRUCTION_BYTES));
        (interrupted || set_back) && arguments(registers) == self.args
    }

    /// Makes it answer what it has given; `false` if the thread is not there.
    pub(super) fn answer(&self, registers: &mut Registers) -> bool {
        let is_there = self.is_at(registers);
        if is_there {
            (registers.rax, registers.orig_rax, registers.rip) = (self.done, u64::MAX, self.rip);
        }
        is_there
    }

    /// Makes it one that is made again whatever comes; `false` if the thread is not there.
    pub(super) fn make_again(&self, registers: &mut Registers) -> bool {
        let is_there = self.is_at(registers);
        if is_there {
            let code = super::calls::RESTART_ALWAYS.cast_unsigned();
            (registers.rax, registers.orig_rax, registers.rip) = (code, self.nr as u64, self.rip);
        }
        is_there
    }
}

fn arguments(registers: &Registers) -> [u64; 6] {
    let Registers { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
    [rdi, rsi, rdx, r10, r8, r9]
}

impl Warden {
    /// A thread makes a call: what was known of one that was half done is known of this one, or of none any more.
    pub(super) fn expect_half_done(&mut self, index: usize, notification: &Notification) {
        let thread = &mut self.guest.threads[index];
        thread.half_done = thread.half_done.filter(|known| known.is(notification));
    }

    /// The handler of a signal is about to run in a thread: a call that is half done answers what it has given.
    pub(super) fn leave_half_done(&mut self, index: usize) -> Step {
        let thread = &mut self.guest.threads[index];
        let (tid, half_done) = (thread.tid, thread.half_done);
        thread.forget_its_call();
        let Some(half_done) = half_done else { return Ok(()) };
        let answered = ptrace::registers(tid).and_then(|raw| {
            let mut registers = registers::from_raw(&raw);
            if !half_done.answer(&mut registers) {
                return Ok(());
            }
            ptrace::set_registers(tid, &registers::to_raw(&registers))
        });
        match answered {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(self.broken("answering a call that is half done", tid)(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: HalfDone = HalfDone { nr: 1, args: [3, 0x5000, 100_000, 0, 0, 0], rip: 0x1002, done: 4096 };

    fn standing(rax: i64, orig_rax: i64, rip: u64) -> Registers {
        Registers {
            rax: rax as u64,
            orig_rax: orig_rax as u64,
            rip,
            rdi: 3,
            rsi: 0x5000,
            rdx: 100_000,
            ..Registers::default()
        }
    }

    #[test]
    fn it_is_where_its_instruction_comes_next_and_nowhere_else() {
        let another_buffer = Registers { rsi: 0x6000, ..standing(-513, 1, 0x1002) };
        let rows = [
            ("interrupted", standing(-513, 1, 0x1002), true),
            ("interrupted before anybody saw it", standing(-512, 1, 0x1002), true),
            ("set back", standing(1, 1, 0x1000), true),
            ("set back, then stopped outside of any call", standing(1, -1, 0x1000), true),
            ("answered", standing(4096, 1, 0x1002), false),
            ("answered, another call's number", standing(-513, 20, 0x1002), false),
            ("elsewhere", standing(-513, 1, 0x2002), false),
            ("in a handler", standing(10, -1, 0x7000), false),
            ("another buffer", another_buffer, false),
        ];
        for (what, registers, expected) in rows {
            let (mut answered, mut again) = (registers, registers);
            assert_eq!(WRITE.answer(&mut answered), expected, "{what}");
            assert_eq!(WRITE.make_again(&mut again), expected, "{what}");
            if expected {
                assert_eq!(
                    (answered.rax, answered.orig_rax, answered.rip),
                    (4096, u64::MAX, 0x1002),
                    "{what}"
                );
                assert_eq!((again.rax as i64, again.orig_rax, again.rip), (-513, 1, 0x1002), "{what}");
            } else {
                assert_eq!((answered, again), (registers, registers), "{what}");
            }
        }
    }
}
