//! Calls that may wait for as long as their socket says (`SO_RCVTIMEO`, `SO_SNDTIMEO`), and began before their process came
//! here.
//!
//! The deputy's kernel would let them have the whole time again. So home is asked for how long they may wait, and who has
//! waited for so long is told to give up, and answered what the kernel answers then.

use super::calls::{EINTR, RESTART_ALWAYS, RESTART_BY_HANDLER};
use super::guest::{Outstanding, Question, Waits};
use super::{Step, Warden};
use forward::{Fault, Gathered, Memory, StringFault};
use std::cell::Cell;
use std::time::{Duration, Instant};
use tracee::socket_time::Direction;

/// A `struct timeval`, and the length of it, as memory that a call names: at made-up addresses.
#[derive(Debug)]
pub(super) struct Scratch(Cell<[u8; TIMEVAL + 8]>);

/// How long a call whose time is over may take to look for what is there.
const LOOK: Duration = Duration::from_millis(10);
const TIMEVAL: usize = 16;
/// Where it is.
const ADDRESS: u64 = 0x1000;

impl Scratch {
    fn new() -> Scratch {
        let mut bytes = [0; TIMEVAL + 8];
        bytes[TIMEVAL] = TIMEVAL as u8;
        Scratch(Cell::new(bytes))
    }

    /// What was written there; `None` if that is no time.
    fn time(&self) -> Option<Duration> {
        let bytes = self.0.get();
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Duration::from_secs(word(0)?).checked_add(Duration::from_micros(word(8)?))
    }

    fn range(address: u64, length: usize) -> Result<std::ops::Range<usize>, Fault> {
        let begin =
            address.checked_sub(ADDRESS).and_then(|at| usize::try_from(at).ok()).ok_or(Fault { done: 0 })?;
        let end = begin.checked_add(length).filter(|end| *end <= TIMEVAL + 8).ok_or(Fault { done: 0 })?;
        Ok(begin..end)
    }
}

impl Memory for Scratch {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        let range = Scratch::range(address, into.len())?;
        into.copy_from_slice(&self.0.get()[range]);
        Ok(())
    }

    fn read_string(&self, _: u64, _: usize) -> Result<Vec<u8>, StringFault> {
        Err(StringFault::Fault)
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Fault> {
        let range = Scratch::range(address, from.len())?;
        let mut bytes = self.0.get();
        bytes[range].copy_from_slice(from);
        self.0.set(bytes);
        Ok(())
    }
}

impl Outstanding {
    /// It is about to be sent. However late that is, it must have looked for what is there before it is given up.
    pub(super) fn grant_a_look(&mut self) {
        self.limit = self.limit.map(|limit| limit.max(Instant::now() + LOOK));
    }

    /// Whether it has waited for as long as it may.
    pub(super) fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| limit <= Instant::now())
    }

    /// What the kernel answers then.
    pub(super) fn out_of_time(&self) -> i64 {
        let connects = i64::from(self.row.nr) == nix::libc::SYS_connect;
        -i64::from(if connects { nix::libc::EINPROGRESS } else { nix::libc::EAGAIN })
    }
}

impl Warden {
    /// Asks for how long a call may wait; then it is sent.
    pub(super) fn ask_socket_time(
        &mut self,
        index: usize,
        notification: u64,
        original: Box<Outstanding>,
    ) -> Step {
        let Some(direction) = Direction::of(i64::from(original.row.nr)) else {
            return self.send_call(index, notification, original);
        };
        let length = ADDRESS + TIMEVAL as u64;
        let (level, option) = (nix::libc::SOL_SOCKET as u64, direction.option() as u64);
        let args = [original.args[0], level, option, ADDRESS, length, 0];
        let scratch = Scratch::new();
        let row = syscalls::row(nix::libc::SYS_getsockopt as u32);
        match row.map(|row| (row, forward::gather(row, args, &scratch))) {
            Some((row, Gathered::Call { call, landing })) => {
                let question = Outstanding {
                    row,
                    args,
                    rip: original.rip,
                    call,
                    landing,
                    done: 0,
                    since: original.since,
                    timeout: None,
                    mask: None,
                    remade: None,
                    seen: 0,
                    cancelled: false,
                    timed_by_socket: false,
                    limit: None,
                    question: Some(Question::SocketTime(original, scratch)),
                };
                self.send_call(index, notification, Box::new(question))
            }
            _ => self.send_call(index, notification, original),
        }
    }

    /// How long that is, if home could tell: no time means no limit.
    pub(super) fn socket_time_known(
        &mut self,
        index: usize,
        notification: u64,
        mut original: Box<Outstanding>,
        (ret, scratch): (i64, &Scratch),
    ) -> Step {
        // What was to interrupt it may have come too late for the question, and would not interrupt the call.
        if self.must_give_way(index, original.mask) {
            return self.interrupted(index, notification, original, RESTART_ALWAYS);
        }
        if [RESTART_BY_HANDLER, RESTART_ALWAYS, EINTR].contains(&ret) {
            return self.ask_socket_time(index, notification, original);
        }
        let total = scratch.time().filter(|total| ret == 0 && !total.is_zero());
        original.limit = total.and_then(|total| original.since.checked_add(total));
        original.grant_a_look();
        self.has_limits |= original.limit.is_some();
        self.send_call(index, notification, original)
    }

    /// How long it is until somebody has waited for as long as he may.
    pub(super) fn next_limit(&self) -> Option<Duration> {
        if !self.has_limits {
            return None;
        }
        let limits = self.guest.threads.iter().filter_map(|thread| match &thread.waits {
            Waits::Call { outstanding, .. } if !outstanding.cancelled => outstanding.limit,
            _ => None,
        });
        limits.min().map(|limit| limit.saturating_duration_since(Instant::now()))
    }

    /// Tells the deputy to give up what has waited for as long as it may.
    pub(super) fn heed_limits(&mut self) -> Step {
        if !self.has_limits {
            return Ok(());
        }
        let limited = |thread: &super::guest::Thread| matches!(&thread.waits, Waits::Call { outstanding, .. } if outstanding.limit.is_some());
        let over = |thread: &super::guest::Thread| matches!(&thread.waits, Waits::Call { outstanding, .. } if outstanding.is_over());
        self.has_limits = self.guest.threads.iter().any(limited);
        for index in self.guest.threads.slots_where(over) {
            self.cancel(index)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_through_made_up_memory() {
        let scratch = Scratch::new();
        let row = syscalls::row(nix::libc::SYS_getsockopt as u32).unwrap();
        let args = [7, nix::libc::SOL_SOCKET as u64, nix::libc::SO_RCVTIMEO as u64, ADDRESS, ADDRESS + 16, 0];
        let Gathered::Call { call, landing } = forward::gather(row, args, &scratch) else {
            panic!("it would go home")
        };
        assert_eq!(call.args[0], 7);
        // As the deputy collects them: the length first.
        let mut data = vec![16, 0, 0, 0];
        data.extend_from_slice(&3u64.to_le_bytes());
        data.extend_from_slice(&200u64.to_le_bytes());
        assert_eq!(landing.land(0, &data, &scratch), 0);
        assert_eq!(scratch.time(), Some(Duration::new(3, 200_000)));
        assert_eq!(scratch.write(ADDRESS + 20, &[0; 8]), Err(Fault { done: 0 }));
        assert_eq!(scratch.read(ADDRESS - 1, &mut [0]), Err(Fault { done: 0 }));
    }
}
