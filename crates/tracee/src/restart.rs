//! What becomes of a system call that the freeze interrupted.
//!
//! The kernel leaves an internal code in `rax` (see `include/linux/errno.h`); a process that goes on elsewhere must
//! make the call again by itself, with the time that is left of its timeout. Measured kinds:
//!
//! | `rax` | calls | what is done |
//! |---|---|---|
//! | -512, -513, -514 | read, wait4, ppoll, select, ... | left as it is: the kernel there decides by its pending signals |
//! | -516 | nanosleep, poll, futex with a relative timeout | made again with the time left |
//! | more than 0 | write, writev, sendto, sendmsg, sendfile that gave a part | the rest is given elsewhere, and both are added up |
//! | -EINTR | epoll_wait, rt_sigtimedwait, recv with SO_RCVTIMEO | made again if only the freeze interrupted it |

use crate::rest;
use image::{Registers, Resume};
use kernel::memory;

/// Internal codes of the kernel.
pub const ERESTARTSYS: i64 = -512;
/// Restart whatever the handler's flags.
pub const ERESTARTNOINTR: i64 = -513;
/// Restart if there is no handler.
pub const ERESTARTNOHAND: i64 = -514;
/// Restart by `restart_syscall`.
pub const ERESTART_RESTARTBLOCK: i64 = -516;
const EINTR: i64 = -(libc::EINTR as i64);

/// When a thread began to wait, as far as anybody can know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// Nanoseconds that it has waited so far.
    pub waited_ns: Option<u64>,
    /// The call that it makes, where somebody saw it begin.
    pub nr: Option<i64>,
    /// When the wait ends, where somebody knows: nanoseconds of `CLOCK_MONOTONIC`.
    pub deadline_ns: Option<u64>,
    /// Somebody has watched since it began: it may be a call of that number. Else it is only known as one that goes on by
    /// `restart_syscall`.
    pub is_watched: bool,
    /// A signal has stopped it in its call: `waited_ns` counts from then.
    pub is_stopped: bool,
}

/// The registers and way to go on for a thread stopped with `registers`.
///
/// `signals` tells that a deliverable signal is pending: then a plain `EINTR` is the call's own result. `None` if the thread
/// is to go on with a wait of which nobody knows how much is left.
pub fn settle(pid: i32, registers: &mut Registers, waiting: Waiting, signals: bool) -> Option<Resume> {
    let (ret, entered) = (registers.rax as i64, registers.orig_rax as i64);
    let goes_on = entered == libc::SYS_restart_syscall;
    let nr = if goes_on { waiting.nr.or_else(|| number_before(pid, registers.rip)) } else { Some(entered) };
    let meant = goes_on || waiting.is_watched && waiting.nr == nr;
    // A call that was begun since has nothing to do with it.
    let waiting = Waiting { deadline_ns: waiting.deadline_ns.filter(|_| meant), ..waiting };
    let resume = match (ret, nr) {
        _ if entered < 0 => {
            registers.orig_rax = u64::MAX;
            Resume::Plain
        }
        (ERESTARTNOHAND..=ERESTARTSYS, _) => Resume::Plain,
        (ERESTART_RESTARTBLOCK, Some(nr)) => return interrupted(pid, registers, nr, waiting),
        // Nobody knows which call it was: the program sees that a signal interrupted it.
        (ERESTART_RESTARTBLOCK, None) => {
            registers.rax = EINTR as u64;
            registers.orig_rax = u64::MAX;
            Resume::Plain
        }
        (EINTR, Some(nr)) if !signals && is_interrupted_by_anything(nr) => {
            return interrupted(pid, registers, nr, waiting);
        }
        (1.., Some(nr)) if !signals && rest::is_half_done(pid, registers, nr, registers.rax) => {
            registers.rax = ERESTARTNOINTR as u64;
            Resume::Rest { done: ret.cast_unsigned() }
        }
        _ => {
            registers.orig_rax = u64::MAX;
            Resume::Plain
        }
    };
    Some(resume)
}

/// The call is to be made again, with the time left, unless a handler runs first: then it returns `EINTR`, as it would
/// have done here.
fn interrupted(pid: i32, registers: &mut Registers, nr: i64, waiting: Waiting) -> Option<Resume> {
    registers.rax = ERESTARTNOHAND as u64;
    registers.orig_rax = nr as u64;
    time_left(pid, registers, nr, waiting)
}

/// Calls that return `EINTR` for any stop, not only for signals with a handler.
fn is_interrupted_by_anything(nr: i64) -> bool {
    matches!(
        nr,
        libc::SYS_epoll_wait
            | libc::SYS_epoll_pwait
            | libc::SYS_epoll_pwait2
            | libc::SYS_rt_sigtimedwait
            | libc::SYS_recvfrom
            | libc::SYS_recvmsg
            | libc::SYS_sendto
            | libc::SYS_sendmsg
            | libc::SYS_accept
            | libc::SYS_accept4
            | libc::SYS_connect
            | libc::SYS_read
            | libc::SYS_write
            | libc::SYS_semtimedop
            | libc::SYS_semop
    )
}

/// How much is left of the call's timeout; `None` if nobody knows.
fn time_left(pid: i32, registers: &Registers, nr: i64, waiting: Waiting) -> Option<Resume> {
    if let Some(deadline) = waiting.deadline_ns {
        return Some(Resume::Timed { left_ns: deadline.saturating_sub(now_ns()) });
    }
    let left = |total: Option<u64>| match (total, waiting.waited_ns) {
        (Some(_), _) if waiting.is_stopped => None,
        (Some(total), Some(waited)) => Some(Resume::Timed { left_ns: total.saturating_sub(waited) }),
        (Some(total), None) => Some(Resume::Timed { left_ns: total }),
        (None, _) => Some(Resume::Plain),
    };
    let milliseconds = |value: u64| u64::try_from(value as i32).ok().map(|ms| ms * 1_000_000);
    match nr {
        libc::SYS_nanosleep => sleep_left(pid, registers.rdi, registers.rsi, waiting),
        libc::SYS_clock_nanosleep if registers.rsi & 1 == 0 => {
            sleep_left(pid, registers.rdx, registers.r10, waiting)
        }
        libc::SYS_poll => left(milliseconds(registers.rdx)),
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => left(milliseconds(registers.r10)),
        libc::SYS_epoll_pwait2 => left(timespec(pid, registers.r10)),
        libc::SYS_rt_sigtimedwait => left(timespec(pid, registers.rdx)),
        libc::SYS_semtimedop => left(timespec(pid, registers.r10)),
        libc::SYS_futex if is_relative_futex(registers.rsi) => left(timespec(pid, registers.r10)),
        _ => Some(Resume::Plain),
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither is negative.
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// `FUTEX_WAIT` takes a relative timeout; `FUTEX_WAIT_BITSET` and all others an absolute one.
fn is_relative_futex(operation: u64) -> bool {
    operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u64 == libc::FUTEX_WAIT as u64
}

/// Where the caller wants the remaining time, the kernel has written it when it interrupted the call; that is exact.
fn sleep_left(pid: i32, request: u64, remaining: u64, waiting: Waiting) -> Option<Resume> {
    let is_known = remaining != 0;
    let total = timespec(pid, if is_known { remaining } else { request });
    let waited = match (is_known, waiting.is_stopped) {
        (false, true) => return None,
        (true, false) => 0,
        (false, false) => waiting.waited_ns.unwrap_or(0),
        (true, true) => waiting.waited_ns?,
    };
    Some(total.map_or(Resume::Plain, |total| Resume::Timed { left_ns: total.saturating_sub(waited) }))
}

fn timespec(pid: i32, address: u64) -> Option<u64> {
    if address == 0 {
        return None;
    }
    let mut bytes = [0; 16];
    memory::read_exact(pid, address, &mut bytes).ok()?;
    let (seconds, nanoseconds) = bytes.split_at(8);
    let seconds = u64::from_le_bytes(seconds.try_into().ok()?);
    let nanoseconds = u64::from_le_bytes(nanoseconds.try_into().ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// The number that `mov eax, imm32` loads right before the `syscall` instruction that ends at `rip`.
fn number_before(pid: i32, rip: u64) -> Option<i64> {
    let mut code = [0; 7];
    memory::read_exact(pid, rip.checked_sub(7)?, &mut code).ok()?;
    match code {
        [0xb8, number @ .., 0x0f, 0x05] => Some(i64::from(u32::from_le_bytes(number))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(nr: i64, ret: i64) -> Registers {
        Registers { rip: 0x1000, rax: ret as u64, orig_rax: nr as u64, ..Registers::default() }
    }

    fn check(stop: (i64, i64), signals: bool, expect: (i64, i64, Resume)) {
        let (nr, ret) = stop;
        let mut registers = stopped(nr, ret);
        registers.rdx = 3000;
        registers.r10 = 3000;
        let waiting = Waiting { waited_ns: Some(1_000_000_000), ..Waiting::default() };
        let resume = settle(std::process::id() as i32, &mut registers, waiting, signals).unwrap();
        let found = (registers.orig_rax as i64, registers.rax as i64, resume);
        assert_eq!(found, expect, "call {nr} returned {ret}");
        assert_eq!(registers.rip, 0x1000);
    }

    #[test]
    fn every_kind_of_restart() {
        let left = Resume::Timed { left_ns: 2_000_000_000 };
        check((libc::SYS_read, ERESTARTSYS), false, (libc::SYS_read, ERESTARTSYS, Resume::Plain));
        check((libc::SYS_pause, ERESTARTNOHAND), false, (libc::SYS_pause, ERESTARTNOHAND, Resume::Plain));
        check((libc::SYS_poll, ERESTART_RESTARTBLOCK), false, (libc::SYS_poll, ERESTARTNOHAND, left));
        check((libc::SYS_poll, ERESTART_RESTARTBLOCK), true, (libc::SYS_poll, ERESTARTNOHAND, left));
        check((libc::SYS_epoll_wait, EINTR), false, (libc::SYS_epoll_wait, ERESTARTNOHAND, left));
        check((libc::SYS_epoll_wait, EINTR), true, (-1, EINTR, Resume::Plain));
        check((libc::SYS_read, 17), false, (-1, 17, Resume::Plain));
        check((-1, 17), false, (-1, 17, Resume::Plain));
        check((libc::SYS_nanosleep, EINTR), false, (-1, EINTR, Resume::Plain));
    }

    #[test]
    fn a_known_deadline_is_that_of_a_wait_that_goes_on() {
        let waiting = Waiting {
            waited_ns: Some(1_000_000_000),
            nr: Some(libc::SYS_poll),
            deadline_ns: Some(now_ns() + 60_000_000_000),
            is_watched: false,
            is_stopped: false,
        };
        let settled = |nr, waiting| {
            let mut registers = stopped(nr, ERESTART_RESTARTBLOCK);
            registers.rdx = 5000;
            settle(std::process::id() as i32, &mut registers, waiting, false).unwrap()
        };
        let most_is_left = |resume| match resume {
            Resume::Timed { left_ns } => (50_000_000_000..=60_000_000_000).contains(&left_ns),
            Resume::Plain | Resume::Rest { .. } => false,
        };
        assert!(most_is_left(settled(libc::SYS_restart_syscall, waiting)));
        assert_eq!(settled(libc::SYS_poll, waiting), Resume::Timed { left_ns: 4_000_000_000 });
        let watched = Waiting { is_watched: true, ..waiting };
        assert!(most_is_left(settled(libc::SYS_poll, watched)));
        let another = Waiting { nr: Some(libc::SYS_nanosleep), ..watched };
        assert_eq!(settled(libc::SYS_poll, another), Resume::Timed { left_ns: 4_000_000_000 });
    }

    #[test]
    fn who_is_stopped_in_a_wait_knows_how_much_is_left_or_nobody_does() {
        let pid = std::process::id() as i32;
        let seconds = |left: u64| [left, 0];
        let (request, remaining) = (seconds(60), seconds(40));
        let waited_ns = Some(5_000_000_000);
        let settled = |nr, ret, remaining: u64, is_stopped| {
            let request = request.as_ptr() as u64;
            let mut registers = Registers { rdi: request, rsi: remaining, rdx: 3000, ..stopped(nr, ret) };
            settle(pid, &mut registers, Waiting { waited_ns, is_stopped, ..Waiting::default() }, is_stopped)
        };
        let timed = |seconds: u64| Some(Resume::Timed { left_ns: seconds * 1_000_000_000 });
        let at = remaining.as_ptr() as u64;
        for (nr, ret, remaining, is_stopped, wanted) in [
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, 0, false, timed(55)),
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, at, false, timed(40)),
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, 0, true, None),
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, at, true, timed(35)),
            (libc::SYS_poll, ERESTART_RESTARTBLOCK, 0, true, None),
            (libc::SYS_read, ERESTARTSYS, 0, true, Some(Resume::Plain)),
            // The stop has ended it, and that is what it answers.
            (libc::SYS_epoll_wait, EINTR, 0, true, Some(Resume::Plain)),
        ] {
            assert_eq!(settled(nr, ret, remaining, is_stopped), wanted, "call {nr}, {is_stopped}");
        }
    }
}
