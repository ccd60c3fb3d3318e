//! CPU time and the like: a guest is told what it has used everywhere, as one process on one machine.
//!
//! Its home knows what was used there; its image brings what was used on earlier hosts; this kernel counts the rest. No kernel
//! can be told what was used elsewhere, so once the process is at home its home's count is all that it sees.

use super::guest::{Guest, Outstanding};
use super::{Step, Warden};
use crate::journey::Outlet as _;
use forward::Memory;
use image::{Usage, Used};
use kernel::notify::Notification;
use nix::libc;
use tracee::clocks::Whose;
use wire::session::{self, Kind, Status};

const EFAULT: i64 = -(libc::EFAULT as i64);
/// Microseconds of a clock tick, in which `times(2)` and `/proc` count.
const TICK_US: u64 = 10_000;
const PAGE: u64 = 4096;
const NS: u64 = 1_000_000_000;
const US: u64 = 1_000_000;

/// What a process or a thread uses here.
fn used_here(whose: Whose) -> Used {
    let (stat, peak_kib) = match whose {
        Whose::Process(pid) => {
            (procinfo::stat(pid), procinfo::status(pid).map_or(0, |status| status.peak_kb))
        }
        Whose::Thread(tid) => (procinfo::thread_stat(tid, tid), 0),
    };
    let away = stat.map_or(Usage::default(), |stat| Usage {
        user_us: stat.cpu_ticks.saturating_sub(stat.system_ticks).saturating_mul(TICK_US),
        system_us: stat.system_ticks.saturating_mul(TICK_US),
        faults: stat.faults,
        peak_kib,
    });
    Used { clock_ns: whose.cpu_ns(), away }
}

impl Guest {
    /// By numbers of its home: who that is here, and what it had used before. `None` if it is not here.
    fn account(&self, whose: Whose) -> Option<(Whose, Used)> {
        match whose {
            Whose::Process(pid) => {
                self.members.get(&pid).map(|member| (Whose::Process(member.pid), member.used_before))
            }
            Whose::Thread(tid) => {
                let mut threads = self.threads.iter().filter(|thread| thread.tid != 0);
                let thread = threads.find(|thread| thread.home_tid == tid)?;
                Some((Whose::Thread(thread.tid), thread.used_before))
            }
        }
    }

    /// What a process or a thread, by its number at home, has used; nothing if it is not here.
    pub(super) fn used(&self, whose: Whose) -> Used {
        self.account(whose).map_or(Used::default(), |(here, before)| {
            let now = used_here(here);
            Used { clock_ns: before.clock_ns.saturating_add(now.clock_ns), away: before.away.and(now.away) }
        })
    }
}

/// Resident memory of a process here, bytes, and its CPU time here, milliseconds; nothing if it is gone.
pub(super) fn memory_and_cpu(pid: i32) -> (u64, u64) {
    procinfo::stat(pid).map_or((0, 0), |stat| {
        (stat.resident_pages.saturating_mul(PAGE), stat.cpu_ticks.saturating_mul(TICK_US) / 1000)
    })
}

impl Warden {
    /// Tells its home what a process, by its pid there, has used since it left it.
    pub(super) fn report_of(&mut self, pid: i32) -> Step {
        let Some(member) = self.guest.members.get(&pid) else { return Ok(()) };
        let (memory_bytes, _) = memory_and_cpu(member.pid);
        let cpu_ms = self.guest.used(Whose::Process(pid)).away.cpu_ms();
        Ok(self.link.put(Kind::Status, &[&session::encode(&Status { pid, memory_bytes, cpu_ms })])?)
    }

    /// Answers what a CPU clock shows. One of somebody else, or of a device, is for its home to read.
    pub(super) fn tell_cpu_time(&mut self, index: usize, notification: &Notification) -> Step {
        let [number, address, ..] = notification.args;
        let thread = &self.guest.threads[index];
        let whose = Whose::of_clock(number as u32 as i32, thread.of, thread.home_tid);
        let Some((here, before)) = whose.and_then(|whose| self.guest.account(whose)) else {
            return self.wish_home(index, notification);
        };
        let now = before.clock_ns.saturating_add(here.cpu_ns());
        let mut time = [0; 16];
        put(&mut time, 0, now / NS);
        put(&mut time, 8, now % NS);
        let written = self.guest.member(index).memory.write(address, &time);
        self.answer(index, notification.id, if written.is_ok() { 0 } else { EFAULT })
    }

    /// Adds what was used on hosts to what its home says that it has used; `None` if the call does not ask for that.
    pub(super) fn with_usage_away(&self, index: usize, call: &Outstanding, data: &[u8]) -> Option<Vec<u8>> {
        let thread = &self.guest.threads[index];
        let of_process = || self.guest.used(Whose::Process(thread.of)).away;
        let (add, away): (fn(&mut [u8], &Usage), Usage) =
            match (i64::from(call.row.nr), call.args[0] as u32 as i32) {
                (libc::SYS_times, _) => (add_to_times, of_process()),
                (libc::SYS_getrusage, libc::RUSAGE_SELF) => (add_to_rusage, of_process()),
                (libc::SYS_getrusage, libc::RUSAGE_THREAD) => {
                    let of_thread = self.guest.used(Whose::Thread(thread.home_tid)).away;
                    // A thread is told the peak of its process.
                    (add_to_rusage, Usage { peak_kib: of_process().peak_kib, ..of_thread })
                }
                _ => return None,
            };
        let mut data = data.to_vec();
        add(&mut data, &away);
        Some(data)
    }
}

/// `struct tms`: ticks in user mode, in the kernel.
fn add_to_times(tms: &mut [u8], away: &Usage) {
    for (at, more_us) in [(0, away.user_us), (8, away.system_us)] {
        put(tms, at, get(tms, at).saturating_add(more_us / TICK_US));
    }
}

/// `struct rusage`.
fn add_to_rusage(rusage: &mut [u8], away: &Usage) {
    const SYSTEM_TIME: usize = 16;
    const PEAK_KIB: usize = 32;
    const MINOR_FAULTS: usize = 64;
    const MAJOR_FAULTS: usize = 72;
    for (at, more_us) in [(0, away.user_us), (SYSTEM_TIME, away.system_us)] {
        let sum_us =
            get(rusage, at).saturating_mul(US).saturating_add(get(rusage, at + 8)).saturating_add(more_us);
        put(rusage, at, sum_us / US);
        put(rusage, at + 8, sum_us % US);
    }
    put(rusage, PEAK_KIB, get(rusage, PEAK_KIB).max(away.peak_kib));
    for (at, more) in [(MINOR_FAULTS, away.faults[0]), (MAJOR_FAULTS, away.faults[1])] {
        put(rusage, at, get(rusage, at).saturating_add(more));
    }
}

/// The word at a place; 0 where there is none.
fn get(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

/// Sets the word at a place, if there is one.
fn put(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(word) = bytes.get_mut(at..at + 8) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Usage = Usage { user_us: 1_700_000, system_us: 30_000, faults: [5, 1], peak_kib: 9000 };

    #[test]
    fn what_was_used_away_is_added() {
        let mut rusage = [0; 144];
        for (at, value) in [(0, 2), (8, 400_000), (16, 0), (24, 990_000), (32, 8000), (64, 100), (128, 7)] {
            put(&mut rusage, at, value);
        }
        add_to_rusage(&mut rusage, &AWAY);
        let found = [0, 8, 16, 24, 32, 64, 72, 128].map(|at| get(&rusage, at));
        assert_eq!(found, [4, 100_000, 1, 20_000, 9000, 105, 1, 7]);
        let mut tms = [0; 32];
        put(&mut tms, 0, 3);
        add_to_times(&mut tms, &AWAY);
        assert_eq!([0, 8, 16, 24].map(|at| get(&tms, at)), [173, 3, 0, 0]);
    }

    #[test]
    fn an_answer_that_is_too_short_or_too_large_does_no_harm() {
        add_to_rusage(&mut [0xff; 30], &AWAY);
        let mut rusage = [0xff; 144];
        add_to_rusage(&mut rusage, &Usage { user_us: u64::MAX, faults: [u64::MAX; 2], ..AWAY });
        assert_eq!(get(&rusage, 0), u64::MAX / US);
    }

    #[test]
    fn this_process_has_used_something() {
        let pid = std::process::id() as i32;
        let (process, thread) = (used_here(Whose::Process(pid)), used_here(Whose::Thread(pid)));
        assert!(process.away.peak_kib > 0 && thread.away.peak_kib == 0);
        assert!(process.clock_ns >= thread.clock_ns && thread.clock_ns > 0);
        assert!(process.away.faults[0] > 0);
    }
}
