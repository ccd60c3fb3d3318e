//! What seldom happens to a warden, seen through one descriptor.
//!
//! A forwarded call has two waits in it, and each costs by the descriptor; one that is limited in time arms a timer
//! besides. So the warden waits for ever, and only for what happens with every call and for this: everything else is
//! watched here, the clock too.
//!
//! The calls' own descriptors stay outside: the kernel wakes whoever polls a guest's listener on the guest's CPU, but not
//! whoever waits for it through an epoll instance.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What there is to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The line has another connection, or is over.
    pub(super) line: bool,
    /// The kernel has news of the guest's threads.
    pub(super) news: bool,
    /// The daemon asks something.
    pub(super) daemon: bool,
    /// Another period is over.
    pub(super) due: bool,
}

/// The watch over it.
#[derive(Debug)]
pub(super) struct Lookout {
    epoll: Epoll,
    clock: OwnedFd,
}

const LINE: u64 = 0;
const NEWS: u64 = 1;
const DAEMON: u64 = 2;
const CLOCK: u64 = 3;
const COUNT: usize = 4;

impl Lookout {
    /// Watches these for being readable, and a clock: it strikes at once, and then once in every period.
    pub(super) fn new(
        line: BorrowedFd<'_>,
        news: BorrowedFd<'_>,
        daemon: BorrowedFd<'_>,
        period: Duration,
    ) -> std::io::Result<Lookout> {
        let clock =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = Timespec { tv_sec: period.as_secs() as i64, tv_nsec: i64::from(period.subsec_nanos()) };
        let at_once = Timespec { tv_sec: 0, tv_nsec: 1 };
        let beats = Itimerspec { it_interval: period, it_value: at_once };
        timerfd_settime(&clock, TimerfdTimerFlags::empty(), &beats)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (fd, which) in [(line, LINE), (news, NEWS), (daemon, DAEMON), (clock.as_fd(), CLOCK)] {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, which))?;
        }
        Ok(Lookout { epoll, clock })
    }

    /// What is there now. The clock's stroke is taken by that; whatever else is there stays until it is dealt with.
    pub(super) fn look(&self) -> std::io::Result<Seen> {
        let mut events = [EpollEvent::empty(); COUNT];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        let seen = |which| events.iter().take(count).any(|event| event.data() == which);
        let due = seen(CLOCK) && rustix::io::read(&self.clock, &mut [0; 8]).is_ok();
        Ok(Seen { line: seen(LINE), news: seen(NEWS), daemon: seen(DAEMON), due })
    }
}

impl AsFd for Lookout {
    /// Becomes readable when there is something to be seen.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use rustix::event::{EventfdFlags, eventfd};

    const HOUR: Duration = Duration::from_secs(3600);

    fn is_readable(lookout: &Lookout, timeout: PollTimeout) -> bool {
        poll(&mut [PollFd::new(lookout.as_fd(), PollFlags::POLLIN)], timeout).unwrap() > 0
    }

    #[test]
    fn each_is_seen_until_it_is_dealt_with() {
        let fds: [OwnedFd; 3] = std::array::from_fn(|_| eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        let lookout = Lookout::new(fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd(), HOUR).unwrap();
        assert!(is_readable(&lookout, PollTimeout::NONE), "the clock strikes at once");
        assert_eq!(lookout.look().unwrap(), Seen { due: true, ..Seen::default() });
        let alone = [
            Seen { line: true, ..Seen::default() },
            Seen { news: true, ..Seen::default() },
            Seen { daemon: true, ..Seen::default() },
        ];
        for (fd, seen) in fds.iter().zip(alone) {
            assert!(!is_readable(&lookout, PollTimeout::ZERO));
            rustix::io::write(fd, &1u64.to_ne_bytes()).unwrap();
            for _ in 0..2 {
                assert!(is_readable(&lookout, PollTimeout::ZERO));
                assert_eq!(lookout.look().unwrap(), seen);
            }
            rustix::io::read(fd, &mut [0; 8]).unwrap();
            assert_eq!(lookout.look().unwrap(), Seen::default());
        }
    }

    #[test]
    fn the_clock_strikes_again_and_again() {
        let fd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let others =
            [eventfd(0, EventfdFlags::NONBLOCK).unwrap(), eventfd(0, EventfdFlags::NONBLOCK).unwrap()];
        let period = Duration::from_millis(1);
        let lookout = Lookout::new(fd.as_fd(), others[0].as_fd(), others[1].as_fd(), period).unwrap();
        for _ in 0..3 {
            assert!(is_readable(&lookout, PollTimeout::NONE));
            assert_eq!(lookout.look().unwrap(), Seen { due: true, ..Seen::default() });
        }
    }
}
