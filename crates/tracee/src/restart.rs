//! What becomes of a system call that the freeze interrupted.
//!
//! The kernel leaves an internal code in `rax` (see `include/linux/errno.h`); a process that goes on elsewhere must
//! make the call again by itself, with the time that is left of its timeout. Measured kinds:
//!
//! | `rax` | calls | what is done |
//! |---|---|---|
//! | -512, -513, -514 | read, wait4, pause, ... | left as it is: the kernel there decides by its pending signals |
//! | -514 | select, pselect6, ppoll | the same, with the time left: the kernel has written it for the program |
//! | -516 | nanosleep, poll, futex with a relative timeout | made again with the time left |
//! | more than 0 | write, writev, sendto, sendmsg, sendfile that gave a part | the rest is given elsewhere, and both are added up |
//! | -EINTR | epoll_wait, rt_sigtimedwait | made again with the time left, if only the freeze interrupted it |
//! | -EINTR | recv, accept, send with a time of their socket | the same, with what is left of that |

use crate::clocks::Monotonic;
use crate::rest;
use crate::socket_time::Direction;
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
    /// Since when it has slept, or has been stopped: nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: Option<u64>,
    /// The call that it makes, where somebody saw it begin.
    pub nr: Option<i64>,
    /// When the wait ends, where somebody knows: nanoseconds of `CLOCK_MONOTONIC`.
    pub deadline_ns: Option<u64>,
    /// Somebody has watched since it began: it may be a call of that number. Else it is only known as one that goes on by
    /// `restart_syscall`.
    pub is_watched: bool,
    /// A signal has stopped it in its call: `since_ns` is when.
    pub is_stopped: bool,
}

/// How a whole process stands still.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    /// Since when all its threads do: nanoseconds of `CLOCK_MONOTONIC`. No call was interrupted later.
    pub since_ns: u64,
    /// That clock as the process sees it.
    pub clock: Monotonic,
}

/// The registers and way to go on for a thread stopped with `registers`.
///
/// `signals` tells that a deliverable signal is pending: then a plain `EINTR` is the call's own result. `None` if the thread
/// is to go on with a wait of which nobody knows how much is left.
pub fn settle(
    pid: i32,
    registers: &mut Registers,
    (stand, waiting): (Stand, Waiting),
    signals: bool,
) -> Option<Resume> {
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
        (ERESTARTNOHAND, Some(nr)) => told(pid, registers, nr, (stand, waiting)),
        (ERESTARTNOHAND..=ERESTARTSYS, _) => Resume::Plain,
        (ERESTART_RESTARTBLOCK, Some(nr)) => return interrupted(pid, registers, nr, (stand, waiting)),
        // Nobody knows which call it was: the program sees that a signal interrupted it.
        (ERESTART_RESTARTBLOCK, None) => {
            registers.rax = EINTR as u64;
            registers.orig_rax = u64::MAX;
            Resume::Plain
        }
        (EINTR, Some(nr)) if !signals && is_interrupted_by_anything(nr) => {
            return interrupted(pid, registers, nr, (stand, waiting));
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
fn interrupted(
    pid: i32,
    registers: &mut Registers,
    nr: i64,
    (stand, waiting): (Stand, Waiting),
) -> Option<Resume> {
    registers.rax = ERESTARTNOHAND as u64;
    registers.orig_rax = nr as u64;
    if Direction::of(nr).is_some() {
        let since_ns = stand.clock.there(waiting.since_ns.unwrap_or(stand.since_ns));
        return Some(Resume::Since { since_ns });
    }
    let end = end(pid, registers, nr, (stand, waiting))?;
    Some(end.map_or(Resume::Plain, |end_ns| Resume::Timed { until_ns: stand.clock.there(end_ns) }))
}

/// A call for which the kernel has written how much was left when it interrupted it: that is how it goes on by itself.
fn told(pid: i32, registers: &Registers, nr: i64, (stand, waiting): (Stand, Waiting)) -> Resume {
    let left = match nr {
        libc::SYS_select => timeval(pid, registers.r8),
        libc::SYS_pselect6 => timespec(pid, registers.r8),
        libc::SYS_ppoll => timespec(pid, registers.rdx),
        _ => None,
    };
    let interrupted_ns = if waiting.is_stopped { waiting.since_ns } else { Some(stand.since_ns) };
    let until = left.zip(interrupted_ns).map(|(left, at)| stand.clock.there(at.saturating_add(left)));
    until.map_or(Resume::Plain, |until_ns| Resume::Timed { until_ns })
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

/// When the call's time ends on this process's clock, if it has any; `None` if nobody knows.
fn end(pid: i32, registers: &Registers, nr: i64, (stand, waiting): (Stand, Waiting)) -> Option<Option<u64>> {
    if waiting.deadline_ns.is_some() {
        return Some(waiting.deadline_ns);
    }
    // Whom nobody saw waiting has begun at the end.
    let began_ns = waiting.since_ns.unwrap_or(stand.since_ns);
    let after = |total: Option<u64>| match total {
        Some(_) if waiting.is_stopped => None,
        total => Some(total.map(|total| began_ns.saturating_add(total))),
    };
    let milliseconds = |value: u64| u64::try_from(value as i32).ok().map(|ms| ms * 1_000_000);
    match nr {
        libc::SYS_nanosleep => end_of_sleep(pid, (registers.rdi, registers.rsi), (stand, waiting)),
        libc::SYS_clock_nanosleep if registers.rsi & 1 == 0 => {
            end_of_sleep(pid, (registers.rdx, registers.r10), (stand, waiting))
        }
        libc::SYS_poll => after(milliseconds(registers.rdx)),
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => after(milliseconds(registers.r10)),
        libc::SYS_epoll_pwait2 => after(timespec(pid, registers.r10)),
        libc::SYS_rt_sigtimedwait => after(timespec(pid, registers.rdx)),
        libc::SYS_semtimedop => after(timespec(pid, registers.r10)),
        libc::SYS_futex if is_relative_futex(registers.rsi) => after(timespec(pid, registers.r10)),
        _ => Some(None),
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
fn end_of_sleep(
    pid: i32,
    (request, remaining): (u64, u64),
    (stand, waiting): (Stand, Waiting),
) -> Option<Option<u64>> {
    let is_known = remaining != 0;
    let total = timespec(pid, if is_known { remaining } else { request });
    let from_ns = match (is_known, waiting.is_stopped) {
        (false, true) => return None,
        (true, false) => stand.since_ns,
        (false, false) => waiting.since_ns.unwrap_or(stand.since_ns),
        (true, true) => waiting.since_ns?,
    };
    Some(total.map(|total| from_ns.saturating_add(total)))
}

/// Nanoseconds of a `struct timespec`; `None` if there is none, or it is of no use.
fn timespec(pid: i32, address: u64) -> Option<u64> {
    let (seconds, nanoseconds) = pair(pid, address)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Nanoseconds of a `struct timeval`; `None` if there is none, or it is of no use.
fn timeval(pid: i32, address: u64) -> Option<u64> {
    let (seconds, microseconds) = pair(pid, address)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(microseconds.checked_mul(1000)?)
}

fn pair(pid: i32, address: u64) -> Option<(u64, u64)> {
    if address == 0 {
        return None;
    }
    let mut bytes = [0; 16];
    memory::read_exact(pid, address, &mut bytes).ok()?;
    let (first, second) = bytes.split_at(8);
    Some((u64::from_le_bytes(first.try_into().ok()?), u64::from_le_bytes(second.try_into().ok()?)))
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

    const SECOND: u64 = 1_000_000_000;
    const STAND: Stand = Stand { since_ns: 10 * SECOND, clock: Monotonic::SAME };

    fn until(seconds: i64) -> Resume {
        Resume::Timed { until_ns: seconds * SECOND.cast_signed() }
    }

    fn stopped(nr: i64, ret: i64) -> Registers {
        Registers { rip: 0x1000, rax: ret as u64, orig_rax: nr as u64, ..Registers::default() }
    }

    fn check(stop: (i64, i64), signals: bool, expect: (i64, i64, Resume)) {
        let (nr, ret) = stop;
        let mut registers = stopped(nr, ret);
        registers.rdx = 3000;
        registers.r10 = 3000;
        let waiting = Waiting { since_ns: Some(9 * SECOND), ..Waiting::default() };
        let resume = settle(std::process::id() as i32, &mut registers, (STAND, waiting), signals).unwrap();
        let found = (registers.orig_rax as i64, registers.rax as i64, resume);
        assert_eq!(found, expect, "call {nr} returned {ret}");
        assert_eq!(registers.rip, 0x1000);
    }

    #[test]
    fn every_kind_of_restart() {
        let left = until(12);
        check((libc::SYS_read, ERESTARTSYS), false, (libc::SYS_read, ERESTARTSYS, Resume::Plain));
        check((libc::SYS_pause, ERESTARTNOHAND), false, (libc::SYS_pause, ERESTARTNOHAND, Resume::Plain));
        check((libc::SYS_poll, ERESTART_RESTARTBLOCK), false, (libc::SYS_poll, ERESTARTNOHAND, left));
        check((libc::SYS_poll, ERESTART_RESTARTBLOCK), true, (libc::SYS_poll, ERESTARTNOHAND, left));
        check((libc::SYS_epoll_wait, EINTR), false, (libc::SYS_epoll_wait, ERESTARTNOHAND, left));
        check((libc::SYS_epoll_wait, EINTR), true, (-1, EINTR, Resume::Plain));
        let since = Resume::Since { since_ns: 9 * SECOND.cast_signed() };
        check((libc::SYS_recvfrom, EINTR), false, (libc::SYS_recvfrom, ERESTARTNOHAND, since));
        check((libc::SYS_recvfrom, EINTR), true, (-1, EINTR, Resume::Plain));
        check((libc::SYS_read, 17), false, (-1, 17, Resume::Plain));
        check((-1, 17), false, (-1, 17, Resume::Plain));
        check((libc::SYS_nanosleep, EINTR), false, (-1, EINTR, Resume::Plain));
    }

    #[test]
    fn a_known_deadline_is_that_of_a_wait_that_goes_on() {
        let waiting = Waiting {
            since_ns: Some(9 * SECOND),
            nr: Some(libc::SYS_poll),
            deadline_ns: Some(70 * SECOND),
            is_watched: false,
            is_stopped: false,
        };
        let settled = |nr, waiting| {
            let mut registers = stopped(nr, ERESTART_RESTARTBLOCK);
            registers.rdx = 5000;
            settle(std::process::id() as i32, &mut registers, (STAND, waiting), false).unwrap()
        };
        assert_eq!(settled(libc::SYS_restart_syscall, waiting), until(70));
        assert_eq!(settled(libc::SYS_poll, waiting), until(14));
        let watched = Waiting { is_watched: true, ..waiting };
        assert_eq!(settled(libc::SYS_poll, watched), until(70));
        let another = Waiting { nr: Some(libc::SYS_nanosleep), ..watched };
        assert_eq!(settled(libc::SYS_poll, another), until(14));
        // Nobody saw when it began: that is when it was stopped, at the latest.
        assert_eq!(settled(libc::SYS_poll, Waiting::default()), until(15));
    }

    #[test]
    fn what_the_kernel_told_is_left_counts_from_the_stop() {
        let pid = std::process::id() as i32;
        let left = [3u64, 500_000];
        let settled = |nr, waiting| {
            let at = left.as_ptr() as u64;
            let time = if nr == libc::SYS_ppoll { (at, 0) } else { (0, at) };
            let mut registers = Registers { rdx: time.0, r8: time.1, ..stopped(nr, ERESTARTNOHAND) };
            let resume = settle(pid, &mut registers, (STAND, waiting), false);
            assert_eq!((registers.orig_rax as i64, registers.rax as i64), (nr, ERESTARTNOHAND));
            resume.unwrap()
        };
        let after = |nanoseconds: i64| Resume::Timed { until_ns: 13 * SECOND.cast_signed() + nanoseconds };
        let seen = Waiting { since_ns: Some(2 * SECOND), ..Waiting::default() };
        assert_eq!(settled(libc::SYS_select, seen), after(500_000_000));
        assert_eq!(settled(libc::SYS_pselect6, seen), after(500_000));
        assert_eq!(settled(libc::SYS_ppoll, seen), after(500_000));
        let before = Waiting { is_stopped: true, ..seen };
        assert_eq!(settled(libc::SYS_ppoll, before), Resume::Timed { until_ns: 5_000_500_000 });
        assert_eq!(settled(libc::SYS_ppoll, Waiting { since_ns: None, ..before }), Resume::Plain);
        assert_eq!(settled(libc::SYS_pause, seen), Resume::Plain);
        // It waits for ever.
        let mut registers = stopped(libc::SYS_select, ERESTARTNOHAND);
        assert_eq!(settle(pid, &mut registers, (STAND, seen), false), Some(Resume::Plain));
    }

    #[test]
    fn who_is_stopped_in_a_wait_knows_how_much_is_left_or_nobody_does() {
        let pid = std::process::id() as i32;
        let seconds = |left: u64| [left, 0];
        let (request, remaining) = (seconds(60), seconds(40));
        let since_ns = Some(5 * SECOND);
        let settled = |nr, ret, remaining: u64, is_stopped| {
            let request = request.as_ptr() as u64;
            let mut registers = Registers { rdi: request, rsi: remaining, rdx: 3000, ..stopped(nr, ret) };
            let waiting = Waiting { since_ns, is_stopped, ..Waiting::default() };
            settle(pid, &mut registers, (STAND, waiting), is_stopped)
        };
        let timed = |seconds: i64| Some(until(seconds));
        let at = remaining.as_ptr() as u64;
        for (nr, ret, remaining, is_stopped, wanted) in [
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, 0, false, timed(65)),
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, at, false, timed(50)),
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, 0, true, None),
            (libc::SYS_nanosleep, ERESTART_RESTARTBLOCK, at, true, timed(45)),
            (libc::SYS_poll, ERESTART_RESTARTBLOCK, 0, true, None),
            (libc::SYS_read, ERESTARTSYS, 0, true, Some(Resume::Plain)),
            // The stop has ended it, and that is what it answers.
            (libc::SYS_epoll_wait, EINTR, 0, true, Some(Resume::Plain)),
        ] {
            assert_eq!(settled(nr, ret, remaining, is_stopped), wanted, "call {nr}, {is_stopped}");
        }
    }
}
