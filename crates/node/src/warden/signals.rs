//! Signals: from the deputy, which catches them all, to the guest, whose own kernel decides what they do.
//!
//! The kernel lets nobody queue a siginfo of another process's making, so a stand-in is queued that carries a number,
//! and when the guest is about to handle it, the true siginfo takes its place.

use super::guest::Waits;
use super::{Step, Warden};
use crate::journey::Outlet;
use image::Siginfo;
use kernel::{ptrace, signal};
use tracee::capture::{siginfo_bytes, siginfo_words, signal_of};
use wire::session::{self, Kind, SignalHeader, SignalOrder, SignalSeen, Wish};

const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;
/// Marks a stand-in: no program can send this value, as every signal from outside goes through here.
const STAND_IN: u64 = 0x6f6d_7369_6700_0000 & !0xffff_ffff | 1 << 63;
const FIRST_REAL_TIME: u32 = 32;
const REAL_TIME: u64 = 1 << 31;

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

/// Sent to one thread rather than to the process.
pub(super) fn is_directed(info: &Siginfo) -> bool {
    code_of(info) == SI_TKILL
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

    /// Queues a stand-in for a signal in the guest.
    pub(super) fn queue(&mut self, index: usize, info: &Siginfo) -> Step {
        let number = self.remember(index, info);
        let signal = signal_of(info);
        let mut stand_in: Siginfo = [0; 16];
        // struct siginfo: si_signo, si_errno | si_code, pad | si_pid, si_uid | si_value.
        stand_in[0] = u64::from(signal);
        stand_in[1] = u64::from(SI_QUEUE as u32);
        stand_in[3] = STAND_IN | number;
        let directed = is_directed(info);
        let thread = directed.then(|| self.guest.threads[index].tid);
        let (pid, of) = (self.guest.member(index).pid, self.guest.threads[index].of);
        let queued = signal::queue(pid, thread, signal as i32, &siginfo_bytes(&stand_in));
        if let Err(errno) = queued
            && errno != kernel::Errno::ESRCH
        {
            return Err(self.broken("queueing a signal", pid)(errno));
        }
        if !directed && self.guest.threads.of(of).len() > 1 { self.wake_receiver(index) } else { Ok(()) }
    }

    /// The number under which a signal's siginfo is kept. Of a standard signal that is pending already, the kernel keeps
    /// the first siginfo, and so do we.
    fn remember(&mut self, index: usize, info: &Siginfo) -> u64 {
        let signal = signal_of(info);
        let number = if signal >= FIRST_REAL_TIME {
            self.guest.next_info = self.guest.next_info.wrapping_add(1) & !REAL_TIME;
            self.guest.next_info | REAL_TIME
        } else {
            // Pids and slots are below these bounds.
            let queue =
                if is_directed(info) { 1 << 23 | index as u64 } else { self.guest.threads[index].of as u64 };
            queue << 8 | u64::from(signal)
        };
        let pending = self.guest.infos.contains_key(&number) && self.is_pending(index, info);
        if !pending {
            self.guest.infos.insert(number, *info);
        }
        number
    }

    fn is_pending(&self, index: usize, info: &Siginfo) -> bool {
        let tid =
            if is_directed(info) { self.guest.threads[index].tid } else { self.guest.member(index).pid };
        let Ok(status) = procinfo::status(tid) else { return false };
        let pending = if is_directed(info) { status.pending } else { status.shared_pending };
        pending >> (signal_of(info) - 1) & 1 == 1
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

    /// The true siginfo of a stand-in; others are what they are.
    pub(super) fn reveal(&mut self, info: Siginfo) -> Siginfo {
        if code_of(&info) == SI_QUEUE && info[3] & !0xffff_ffff == STAND_IN {
            return self.guest.infos.remove(&(info[3] & 0xffff_ffff)).unwrap_or(info);
        }
        info
    }

    /// A thread is about to take a signal.
    pub(super) fn deliver(&mut self, index: usize, signal: i32) -> Step {
        let tid = self.guest.threads[index].tid;
        let raw = match ptrace::siginfo(tid) {
            Ok(raw) => raw,
            Err(kernel::Errno::ESRCH) => return Ok(()),
            Err(errno) => return Err(self.broken("reading a signal", tid)(errno)),
        };
        let info = self.reveal(siginfo_words(&raw));
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
