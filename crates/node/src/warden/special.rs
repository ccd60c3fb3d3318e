//! Calls with a treatment of their own.

use super::guest::{Sleep, Waits};
use super::{Step, Warden};
use crate::journey::{Error, Outlet, transfer};
use forward::Memory;
use image::SigAction;
use kernel::notify::{Notification, Verdict};
use model::one_line;
use std::os::fd::AsFd;
use syscalls::{PrctlRoute, Row, Special};
use wire::session::{self, Action, FileAnswer, FileRequest, Kind};

const MAP_TYPE: u64 = 0x0f;
const MAP_SHARED: u64 = 0x01;
const MAP_PRIVATE: u64 = 0x02;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_LOCKED: u64 = 0x2000;

impl Warden {
    pub(super) fn special(
        &mut self,
        index: usize,
        notification: &Notification,
        row: &'static Row,
        special: Special,
    ) -> Step {
        match special {
            Special::Sleep => self.sleep(index, notification, row),
            Special::Sigaction => self.set_action(index, notification),
            Special::Mmap => self.map(index, notification),
            Special::Birth => self.conceive(index, notification),
            Special::Exec => self.exec(index, notification, row),
            Special::ExitThread if self.guest.threads.of(self.guest.threads[index].of).len() > 1 => {
                self.exit_thread(index, notification)
            }
            Special::ExitThread | Special::ExitGroup => self.exit(index, notification),
            Special::CpuTime => self.tell_cpu_time(index, notification),
            Special::Prctl => match syscalls::prctl_route(notification.args[0] as u32) {
                PrctlRoute::Home => self.forward(index, notification, row),
                _ => self.wish_home(index, notification),
            },
        }
    }

    /// The process ends at home, with its status; that the deputy is gone ends the guest too.
    fn exit(&mut self, index: usize, notification: &Notification) -> Step {
        let pid = self.guest.threads[index].of;
        self.write_back(pid)?;
        self.report_of(pid)?;
        let thread = &mut self.guest.threads[index];
        thread.seq = thread.seq.wrapping_add(1);
        thread.waits = Waits::Exit { notification: notification.id };
        let mut call = wire::Call { nr: notification.nr as u32, ..wire::Call::default() };
        call.args[0] = notification.args[0];
        let header = session::CallHeader {
            slot: index as u32,
            seq: thread.seq,
            signals_seen: thread.signals_seen,
            call,
        };
        Ok(self.link.put(Kind::Call, &[&session::encode(&header)])?)
    }

    /// A sleep runs here; when it ends is known, for the case that the process moves in the middle of it.
    fn sleep(&mut self, index: usize, notification: &Notification, row: &Row) -> Step {
        let timeout = forward::timeout(row, &notification.args, &self.guest.member(index).memory);
        let thread = &mut self.guest.threads[index];
        thread.ends = None;
        if let Some(forward::Timeout { total: forward::Total::Finite(total), .. }) = timeout {
            let total_ns = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
            let deadline_ns = tracee::restart::now_ns().saturating_add(total_ns);
            thread.sleep = Some(Sleep::new(i64::from(notification.nr), deadline_ns, None));
        }
        self.answer_raw(notification.id, Verdict::Continue)
    }

    /// A new action is set here, but home must know of it first where that makes a difference there.
    fn set_action(&mut self, index: usize, notification: &Notification) -> Step {
        let [signal, address, ..] = notification.args;
        let mut bytes = [0; 32];
        let valid =
            (1..=64).contains(&signal) && self.guest.member(index).memory.read(address, &mut bytes).is_ok();
        let known =
            valid.then(|| self.guest.member(index).actions.get(signal as usize - 1).copied()).flatten();
        let Some(known) = known else {
            return self.answer_raw(notification.id, Verdict::Continue);
        };
        let mut action: SigAction = [0; 4];
        for (word, bytes) in action.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        let signal = signal as i32;
        if at_home(signal, &known) == at_home(signal, &action) {
            if let Some(known) = self.guest.member_mut(index).actions.get_mut(signal as usize - 1) {
                *known = action;
            }
            return self.answer_raw(notification.id, Verdict::Continue);
        }
        let thread = &mut self.guest.threads[index];
        thread.seq = thread.seq.wrapping_add(1);
        thread.waits = Waits::Action { notification: notification.id, signal, action };
        let (slot, seq, signals_seen) = (index as u32, thread.seq, thread.signals_seen);
        let order = Action { slot, seq, signals_seen, signal, action };
        Ok(self.link.put(Kind::Action, &[&session::encode(&order)])?)
    }

    /// A private mapping of a file gets a copy of the file, and shared memory of no file is made here; everything else that
    /// is not plain memory goes home.
    fn map(&mut self, index: usize, notification: &Notification) -> Step {
        let [_, _, _, flags, descriptor, _] = notification.args;
        let kind = flags & (MAP_TYPE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_LOCKED);
        if kind == MAP_SHARED | MAP_ANONYMOUS && self.guest.may_make_object(index) {
            return self.answer_raw(notification.id, Verdict::Continue);
        }
        let private = flags & MAP_TYPE == MAP_PRIVATE && flags & (MAP_ANONYMOUS | MAP_HUGETLB) == 0;
        let Ok(descriptor) = i32::try_from(descriptor as u32) else {
            return self.wish_home(index, notification);
        };
        if !private || descriptor < 0 {
            return self.wish_home(index, notification);
        }
        self.guest.threads[index].waits =
            Waits::File { notification: notification.id, descriptor, sent: false };
        let request = FileRequest { slot: index as u32, descriptor, send: false };
        Ok(self.link.put(Kind::File, &[&session::encode(&request)])?)
    }

    /// Takes in a part of a file that a thread wants to map. That somebody writes to it, or that the disk has no room for it,
    /// is no reason to lose the guest: the answer that follows finds that the file is not there.
    pub(super) fn take_file_part(&mut self, payload: &[u8]) -> Step {
        match transfer::take_file_part(&self.cache, &mut self.incoming, payload) {
            Err(error @ (Error::Io { .. } | Error::Changed)) => {
                tracing::warn!(error = one_line(&error), "a file that the guest maps has no place here");
                Ok(())
            }
            taken => Ok(taken?),
        }
    }

    /// The keeper says what is under a descriptor that a thread wants to map.
    pub(super) fn take_file_answer(&mut self, payload: &[u8]) -> Step {
        let (answer, _) = session::decode::<FileAnswer>(payload)?;
        let index = answer.slot as usize;
        // It may have ended meanwhile.
        let Some(thread) = self.guest.threads.get_mut(index) else { return Ok(()) };
        let Waits::File { notification, descriptor, sent } = thread.waits else {
            // The process is on its way elsewhere, and the thread will ask again there.
            return Ok(());
        };
        let Some(entry) = answer.file else {
            // Perhaps no file at all: its home knows what to answer.
            return self.wish(index, notification, nix::libc::SYS_mmap as u32);
        };
        match self.cache.get(&entry.id) {
            Some(file) => {
                thread.waits = Waits::Nothing;
                let placed = self.guest.listener.place_fd(notification, file.as_fd(), descriptor);
                self.files
                    .assume(entry.id, file)
                    .map_err(crate::journey::Error::io("opening a file of the cache"))?;
                match placed {
                    Ok(()) => self.answer_raw(notification, Verdict::Continue),
                    // Its number is beyond what the guest may have here.
                    Err(_) => self.wish(index, notification, nix::libc::SYS_mmap as u32),
                }
            }
            // It was sent, and there was no room for it.
            None if sent => self.wish(index, notification, nix::libc::SYS_mmap as u32),
            None => {
                thread.waits = Waits::File { notification, descriptor, sent: true };
                let request = FileRequest { slot: answer.slot, descriptor, send: true };
                Ok(self.link.put(Kind::File, &[&session::encode(&request)])?)
            }
        }
    }
}

/// What an action means at home, apart from addresses that only home knows.
fn at_home(signal: i32, action: &SigAction) -> SigAction {
    let entries = stub::Entries { batch: 0, deputy: 0, syscall: 0, restorer: 0, handler: 2 };
    tracee::deputy::home_action(signal, action, &entries)
}
