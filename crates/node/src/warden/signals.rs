//! Signals: from the deputy, which catches them all, to the guest, whose own kernel decides what they do.
//!
//! The kernel lets nobody queue a siginfo that says that the kernel or somebody else has sent it. So a stand-in is queued that
//! carries the true one, and when the guest is about to handle it, that takes its place. Nothing has to be remembered: which of
//! several signals of a kind are merged, and which siginfo is kept then, is the guest's kernel's to say, as it would be at home.

use super::guest::Waits;
use super::{Step, Warden};
use crate::journey::Outlet;
use image::Siginfo;
use kernel::{ptrace, signal};
use tracee::capture::{siginfo_bytes, siginfo_words, signal_of};
use wire::session::{self, Kind, SignalHeader, SignalOrder, SignalSeen, Wish};

const SI_TKILL: i32 = -6;
/// `si_code` of a stand-in, `SI_SIGIO`: one that may be queued, and of which the kernel leaves every other byte as it is. (Of
/// most others it adapts sender and user to the receiver's namespaces.) It makes none by itself in a guest, which has no
/// descriptors, and what a program queues with this code goes through its home and is wrapped like all others.
const STAND_IN: u32 = -5_i32 as u32;

/// Where a siginfo that one queues has room that no kernel and no program looks at: behind the value, and within what a kernel
/// keeps of it. In words.
const ROOM: usize = 5;
/// Stands there if the signal was queued for one thread alone. A siginfo does not tell that by itself, and the deputy's
/// thread, which catches it, would have caught one for its process as well.
const FOR_ONE_THREAD: u64 = u64::from_le_bytes(*b"1 thread");

/// What an unhandled signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Default {
    Ignore,
    Stop,
    End,
    Core,
}

fn default_of(signal: i32) -> Default {
    match signal {
        libc_signal::CHLD | libc_signal::CONT | libc_signal::URG | libc_signal::WINCH => Default::Ignore,
        libc_signal::STOP | libc_signal::TSTP | libc_signal::TTIN | libc_signal::TTOU => Default::Stop,
        libc_signal::QUIT
        | libc_signal::ILL
        | libc_signal::TRAP
        | libc_signal::ABRT
        | libc_signal::BUS
        | libc_signal::FPE
        | libc_signal::SEGV
        | libc_signal::XCPU
        | libc_signal::XFSZ
        | libc_signal::SYS => Default::Core,
        _ => Default::End,
    }
}

/// Numbers of signals, short.
mod libc_signal {
    use nix::libc;
    pub(super) const QUIT: i32 = libc::SIGQUIT;
    pub(super) const ILL: i32 = libc::SIGILL;
    pub(super) const TRAP: i32 = libc::SIGTRAP;
    pub(super) const ABRT: i32 = libc::SIGABRT;
    pub(super) const BUS: i32 = libc::SIGBUS;
    pub(super) const FPE: i32 = libc::SIGFPE;
    pub(super) const SEGV: i32 = libc::SIGSEGV;
    pub(super) const CHLD: i32 = libc::SIGCHLD;
    pub(super) const CONT: i32 = libc::SIGCONT;
    pub(super) const STOP: i32 = libc::SIGSTOP;
    pub(super) const TSTP: i32 = libc::SIGTSTP;
    pub(super) const TTIN: i32 = libc::SIGTTIN;
    pub(super) const TTOU: i32 = libc::SIGTTOU;
    pub(super) const URG: i32 = libc::SIGURG;
    pub(super) const XCPU: i32 = libc::SIGXCPU;
    pub(super) const XFSZ: i32 = libc::SIGXFSZ;
    pub(super) const WINCH: i32 = libc::SIGWINCH;
    pub(super) const SYS: i32 = libc::SIGSYS;
}

/// `si_code` of a siginfo.
fn code_of(info: &Siginfo) -> i32 {
    info[1] as u32 as i32
}

/// A siginfo that may be queued, and carries this one: its code in the padding behind the code.
fn stand_in_for(info: &Siginfo) -> Siginfo {
    let mut stand_in = *info;
    stand_in[1] = u64::from(STAND_IN) | info[1] << 32;
    stand_in
}

/// The true siginfo of a stand-in; others are what they are.
pub(super) fn reveal(mut info: Siginfo) -> Siginfo {
    if info[1] as u32 == STAND_IN {
        info[1] >>= 32;
    }
    info
}

/// Whether it was sent to one thread rather than to the process, as far as that can be told; and what that thread gets.
///
/// It cannot be told of what a program outside of the family has queued for one thread.
pub(super) fn addressed(mut info: Siginfo) -> (bool, Siginfo) {
    let is_marked = info[ROOM] == FOR_ONE_THREAD;
    if is_marked {
        info[ROOM] = 0;
    }
    (is_marked || code_of(&info) == SI_TKILL, info)
}

impl Warden {
    /// Takes a signal that the deputy caught.
    pub(super) fn take_signal(&mut self, payload: &[u8]) -> Step {
        let (header, raw) = session::decode::<SignalHeader>(payload)?;
        let index = header.slot as usize;
        let raw: &[u8; 128] = raw.try_into().map_err(|_| session::Malformed("signal"))?;
        let Some(thread) = self.guest.threads.get_mut(index) else {
            return Err(session::Malformed("signal for nobody").into());
        };
        let of = thread.of;
        if header.number != thread.signals_seen {
            return Err(session::Malformed("signal out of order").into());
        }
        thread.signals_seen = header.number.wrapping_add(1);
        let seen = SignalSeen { slot: header.slot, tail: thread.signals_seen };
        self.link.put(Kind::SignalSeen, &[&session::encode(&seen)])?;
        let info = siginfo_words(raw);
        if let Some(leaving) = &mut self.leaving
            && leaving.pid == of
            && leaving.is_quiet
        {
            leaving.late.push((index, info));
            return Ok(());
        }
        self.queue(index, &info)
    }

    /// A thread queues a signal for one thread: if that lives here, its siginfo is to tell so when it comes back.
    pub(super) fn mark_directed(&self, call: &mut wire::Call) {
        const WORD: usize = 8;
        if !self.guest.members.contains_key(&(call.args[0] as u32 as i32)) || call.pointers & 1 << 3 == 0 {
            return;
        }
        let at = call.args[3] as usize + ROOM * WORD;
        if let Some(room) = call.input.get_mut(at..at + WORD) {
            room.copy_from_slice(&FOR_ONE_THREAD.to_le_bytes());
        }
    }

    /// Queues a stand-in in the guest for a signal that a deputy's thread caught.
    pub(super) fn queue(&mut self, index: usize, info: &Siginfo) -> Step {
        let (directed, info) = addressed(*info);
        if directed {
            return self.queue_for(index, Some(self.guest.threads[index].tid), &info);
        }
        self.queue_for(index, None, &info)?;
        let of = self.guest.threads[index].of;
        if self.guest.threads.of(of).len() > 1 { self.wake_receiver(index) } else { Ok(()) }
    }

    /// Queues a stand-in for a signal that a thread had begun to take: nobody else takes it, and what its process was sent
    /// since comes later. (What this thread alone was sent of the same number comes before it: a queue has one end.)
    pub(super) fn give_back(&mut self, index: usize, info: &Siginfo) -> Step {
        self.queue_for(index, Some(self.guest.threads[index].tid), info)
    }

    fn queue_for(&mut self, index: usize, thread: Option<i32>, info: &Siginfo) -> Step {
        let pid = self.guest.member(index).pid;
        let stand_in = siginfo_bytes(&stand_in_for(info));
        match signal::queue(pid, thread, signal_of(info) as i32, &stand_in) {
            Ok(()) | Err(kernel::Errno::ESRCH) => Ok(()),
            Err(errno) => Err(self.broken("queueing a signal", pid)(errno)),
        }
    }

    /// The deputy thread that caught a process's signal need not be the one whose counterpart takes it here. If that one
    /// waits for a call of its own, the call must be interrupted, as its kernel would have done.
    fn wake_receiver(&mut self, caught_by: usize) -> Step {
        for index in self.guest.threads.of(self.guest.threads[caught_by].of) {
            let Ok(status) = procinfo::status(self.guest.threads[index].tid) else { continue };
            let own_mask = match &self.guest.threads[index].waits {
                Waits::Call { outstanding, .. } => outstanding.mask,
                _ => None,
            };
            if status.shared_pending & !own_mask.unwrap_or(status.blocked) & !status.ignored == 0 {
                continue;
            }
            if index != caught_by {
                self.cancel(index)?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// A thread is about to take a signal.
    pub(super) fn deliver(&mut self, index: usize, signal: i32) -> Step {
        let tid = self.guest.threads[index].tid;
        let raw = match ptrace::siginfo(tid) {
            Ok(raw) => raw,
            Err(kernel::Errno::ESRCH) => return Ok(()),
            Err(errno) => return Err(self.broken("reading a signal", tid)(errno)),
        };
        let info = reveal(siginfo_words(&raw));
        if matches!(self.guest.threads[index].waits, Waits::Delivery(_)) {
            // It is taken when the newborn is there; the thread stands where it can be.
            if !tracee::fault::comes_again(&info) {
                self.guest.threads[index].stash.push(info);
            }
            return self.deliver_newborn(index);
        }
        if self.leaves(index) {
            // It travels with the process and is taken at its destination, or is raised there again.
            let thread = &mut self.guest.threads[index];
            if !tracee::fault::comes_again(&info) {
                thread.stash.push(info);
            }
            thread.parked = true;
            return Ok(());
        }
        let Ok(status) = procinfo::status(tid) else { return Ok(()) };
        let bit = 1u64 << (signal - 1);
        let what = match (status.caught & bit != 0, status.ignored & bit != 0) {
            (true, _) => None,
            (false, true) => Some(Default::Ignore),
            (false, false) => Some(default_of(signal)),
        };
        match what {
            None | Some(Default::Ignore) => {
                if what.is_none() {
                    self.make_unheard_again(index)?;
                    self.leave_half_done(index)?;
                }
                if let Some(stand_in) = &self.guest.stand_in {
                    stand_in.settle_before_handler(self.guest.member(index).pid, tid)?;
                }
                let set = ptrace::set_siginfo(tid, &siginfo_bytes(&info));
                if let Err(errno) = set
                    && errno != kernel::Errno::ESRCH
                {
                    return Err(self.broken("setting a signal", tid)(errno));
                }
                self.resume(index, signal)
            }
            Some(Default::Stop) => self.order(index, Kind::StopSelf, signal),
            Some(Default::End) => self.order(index, Kind::Die, signal),
            Some(Default::Core) => {
                // It dies at home, natively and with all its memory: the core dump and the status are its own.
                let thread = &mut self.guest.threads[index];
                thread.stash.push(info);
                thread.parked = true;
                self.ask_home(index, Wish::Signal { signal })
            }
        }
    }

    /// The deputy is to stop or die by a signal; the thread stays where it is.
    fn order(&mut self, index: usize, kind: Kind, signal: i32) -> Step {
        self.report_of(self.guest.threads[index].of)?;
        let thread = &mut self.guest.threads[index];
        thread.seq = thread.seq.wrapping_add(1);
        thread.parked = true;
        thread.waits = if kind == Kind::StopSelf { Waits::Stop } else { Waits::Death };
        let seq = thread.seq;
        let action = self.guest.member(index).actions.get(signal as usize - 1).copied().unwrap_or_default();
        let order = SignalOrder { slot: index as u32, seq, signal, action };
        Ok(self.link.put(kind, &[&session::encode(&order)])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_carries_all_of_a_siginfo() {
        let info = |signal: u64, code: i32, rest: [u64; 4]| {
            let mut info: Siginfo = [0; 16];
            info[0] = signal | 7 << 32;
            info[1] = u64::from(code as u32);
            info[2..6].copy_from_slice(&rest);
            info
        };
        // A child's end, a fault, a queued one, one of a timer, and one that looks like a stand-in.
        for (signal, code) in [(17, 1), (11, 0x80), (34, -1), (35, -2), (29, -5), (63, i32::MIN)] {
            let sent = info(signal, code, [u64::MAX, 1, 1 << 63, 42]);
            let stand_in = stand_in_for(&sent);
            assert_eq!(code_of(&stand_in), STAND_IN as i32);
            assert_eq!(reveal(stand_in), sent);
        }
        let own = info(11, 1, [0x1000, 0, 0, 0]);
        assert_eq!(reveal(own), own);
    }
}
