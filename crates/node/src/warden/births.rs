//! Threads and processes that come and go here: made at home first, for there they get their tids, and then here.
//!
//! ```text
//! Birth ──tid──► Delivery ──stop──► (the maker and the newborn run)
//!                                └► Vfork: the maker stands still until the newborn needs its memory no more
//! Ending ──gone here──► Buried ──gone at home──► (its slot is vacant)
//! ```
//! A thread ends here first and at home second, so that nobody gets its tid in between. A process ends, and becomes
//! another program, at home; that its home lets go of it ends it here.

use super::calls::RESTART_ALWAYS;
use super::guest::{Labour, Member, Thread, Waits};
use super::own_files::OwnFiles;
use super::{End, Step, Stop, Warden};
use crate::journey::Outlet;
use forward::{Gathered, Memory};
use kernel::notify::{Notification, Verdict};
use kernel::ptrace;
use model::one_line;
use nix::libc;
use stub_abi::{INTERRUPTED, NOT_EXECUTED};
use syscalls::Row;
use tracee::birth::{self, Birth};
use wire::session::{self, BirthOrder, CallHeader, ExecOrder, Kind, Lost, ThreadEnd};

const ENOMEM: i64 = -(libc::ENOMEM as i64);
/// The part of the flags of `clone(2)` that is the exit signal.
const EXIT_SIGNAL: u64 = 0xff;
const VM: u64 = libc::CLONE_VM as u64;
const VFORK: u64 = libc::CLONE_VFORK as u64;
const SIBLING: u64 = libc::CLONE_PARENT as u64;
/// What the threads of a process share.
const THREAD: u64 =
    VM | (libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
/// What is done where the memory is.
const IN_MEMORY: u64 =
    (libc::CLONE_SETTLS | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::CLONE_CHILD_SETTID)
        as u64;
/// What makes no difference.
const IDLE: u64 = (libc::CLONE_SYSVSEM | libc::CLONE_DETACHED | libc::CLONE_UNTRACED) as u64;

/// What a thread asks for.
struct Wanted {
    birth: Birth,
    kind: session::Birth,
    vfork: bool,
}

impl Wanted {
    /// The newborn is another process.
    fn is_process(&self) -> bool {
        self.kind != session::Birth::Thread
    }

    /// The newborn gets a memory of its own, in which what is shared is shared with its maker.
    fn shares_objects(&self) -> bool {
        self.is_process() && self.birth.flags & VM == 0
    }
}

impl Warden {
    /// A thread makes a thread or a process. What cannot be made here is made at home, after coming home.
    pub(super) fn conceive(&mut self, index: usize, notification: &Notification) -> Step {
        let memory = self.guest.member(index).memory;
        let Some(wanted) = understand(notification, &memory) else {
            return self.wish_home(index, notification);
        };
        // Two processes that share memory must be on the same node, and there is none but their home that knows of both.
        // So must two that have the same file.
        let member = self.guest.member(index);
        if wanted.shares_objects() && member.has_objects
            || wanted.is_process() && !member.own_files.is_empty()
        {
            return self.wish_home(index, notification);
        }
        let slot = self.guest.threads.vacancy();
        if slot >= self.guest.slots {
            return self.wish_home(index, notification);
        }
        let thread = &mut self.guest.threads[index];
        thread.seq = thread.seq.wrapping_add(1);
        let (of, seq, signals_seen) = (thread.of, thread.seq, thread.signals_seen);
        thread.waits = Waits::Birth(Box::new(Labour {
            notification: notification.id,
            birth: wanted.birth,
            kind: wanted.kind,
            vfork: wanted.vfork,
            slot,
            tid: None,
        }));
        // The slot is taken from now on.
        let mut unborn = Thread::new(of, 0, 0);
        unborn.waits = Waits::Buried;
        self.guest.threads.put(slot, unborn);
        let order =
            BirthOrder { slot: index as u32, seq, signals_seen, newborn: slot as u32, birth: wanted.kind };
        Ok(self.link.put(Kind::Birth, &[&session::encode(&order)])?)
    }

    /// The home has answered: there is a tid, or there is none.
    pub(super) fn labour(&mut self, index: usize, mut labour: Box<Labour>, ret: i64) -> Step {
        let notification = labour.notification;
        match i32::try_from(ret) {
            Ok(tid @ 1..) => {
                labour.tid = Some(tid);
                self.guest.threads[index].waits = Waits::Delivery(labour);
                self.answer_undone(index, notification)
            }
            _ => {
                self.guest.threads.remove(labour.slot);
                if [INTERRUPTED, NOT_EXECUTED].contains(&ret) {
                    return self.answer_restart(index, notification, RESTART_ALWAYS);
                }
                self.answer(index, notification, ret)
            }
        }
    }

    /// Makes a thread leave its call without a result, and stop. What it waits for stays.
    pub(super) fn answer_undone(&mut self, index: usize, notification: u64) -> Step {
        self.interrupt(index)?;
        self.answer_raw(notification, Verdict::Return(RESTART_ALWAYS))
    }

    /// The maker stands still: the newborn is made here too.
    pub(super) fn deliver_newborn(&mut self, index: usize) -> Step {
        let Waits::Delivery(labour) = std::mem::replace(&mut self.guest.threads[index].waits, Waits::Nothing)
        else {
            return Ok(());
        };
        let thread = &mut self.guest.threads[index];
        thread.interrupted = false;
        thread.parked = true;
        let (maker, of) = (thread.tid, thread.of);
        let Some(home_tid) = labour.tid else { return Ok(()) };
        match birth::bear(maker, &labour.birth, home_tid) {
            Ok(born) => self.take_in(index, &labour, born.tid, home_tid)?,
            Err(tracee::Error::Gone(_)) => {}
            Err(error) => {
                tracing::warn!(
                    pid = of,
                    tid = home_tid,
                    error = one_line(&error),
                    "a newborn could not be made here"
                );
                self.miscarry(index, &labour, home_tid)?;
            }
        }
        for info in std::mem::take(&mut self.guest.threads[index].stash) {
            self.give_back(index, &info)?;
        }
        if labour.vfork && self.guest.members.contains_key(&home_tid) {
            self.guest.threads[index].waits = Waits::Vfork { child: home_tid };
            return Ok(());
        }
        if self.guest.member(index).held || self.leaves(index) { Ok(()) } else { self.resume(index, 0) }
    }

    /// A newborn gets its place, and runs unless its process stands still.
    fn take_in(&mut self, index: usize, labour: &Labour, tid: i32, home_tid: i32) -> Step {
        let maker = self.guest.member(index);
        let pid = if labour.kind == session::Birth::Thread { maker.image.pid } else { home_tid };
        if labour.kind != session::Birth::Thread {
            let mut image = maker.image.clone();
            image.pid = home_tid;
            let actions = maker.actions.clone();
            // Only on the memory of its maker.
            let has_objects = maker.has_objects;
            let memory = super::memory::GuestMemory(tid);
            let member = Member {
                pid: tid,
                memory,
                actions,
                has_objects,
                own_files: OwnFiles::default(),
                held: false,
                forwarded: 0,
                carried_bytes: 0,
                used_before: image::Used::default(),
                image,
            };
            self.guest.members.insert(home_tid, member);
        }
        self.guest.settle(labour.slot, Thread::new(pid, tid, home_tid));
        if pid == home_tid && self.guest.dead_before_birth.remove(&pid) {
            return self.part_with(pid);
        }
        if self.guest.member(labour.slot).held || self.leaves(labour.slot) {
            return Ok(());
        }
        self.resume(labour.slot, 0)
    }

    /// There is a newborn at home and none here. The maker hears that there is no memory for one.
    fn miscarry(&mut self, index: usize, labour: &Labour, home_tid: i32) -> Step {
        let tid = self.guest.threads[index].tid;
        let before = ptrace::registers(tid).map_err(self.broken("reading registers", tid))?;
        let after =
            ptrace::Registers { rip: labour.birth.after, rax: ENOMEM as u64, orig_rax: u64::MAX, ..before };
        ptrace::set_registers(tid, &after).map_err(self.broken("setting registers", tid))?;
        ptrace::set_options(tid, ptrace::OPTION_EXITKILL).map_err(self.broken("resuming the filter", tid))?;
        if labour.kind == session::Birth::Thread {
            self.bury(labour.slot)
        } else {
            self.guest.threads.remove(labour.slot);
            let lost = Lost { pid: home_tid, cause: "it could not be made there".to_owned() };
            Ok(self.link.put(Kind::Lost, &[&session::encode(&lost)])?)
        }
    }

    /// A thread ends, and its process goes on. The process of a leader that has ended cannot be moved any more, so that
    /// one ends at home.
    pub(super) fn exit_thread(&mut self, index: usize, notification: &Notification) -> Step {
        if self.guest.threads[index].home_tid == self.guest.threads[index].of {
            return self.wish_home(index, notification);
        }
        self.guest.threads[index].waits = Waits::Ending;
        self.answer_raw(notification.id, Verdict::Continue)
    }

    /// The kernel says that a thread is gone.
    pub(super) fn thread_ended(&mut self, index: usize) -> Step {
        let thread = &self.guest.threads[index];
        let (tid, pid) = (thread.tid, thread.of);
        match thread.waits {
            Waits::Ending => {
                self.guest.by_tid.remove(&tid);
                self.bury(index)
            }
            _ => self.lose(pid),
        }
    }

    /// Tells the home that a thread is no more.
    fn bury(&mut self, index: usize) -> Step {
        let thread = &mut self.guest.threads[index];
        thread.waits = Waits::Buried;
        thread.seq = thread.seq.wrapping_add(1);
        let end = ThreadEnd { slot: index as u32, seq: thread.seq };
        Ok(self.link.put(Kind::EndThread, &[&session::encode(&end)])?)
    }

    /// A process has ended here without its home's doing: its home ends it.
    fn lose(&mut self, pid: i32) -> Step {
        if self.guest.members.len() == 1 {
            return Err(Stop::End(End::Died));
        }
        let lost = Lost { pid, cause: super::wall::cause(self.session).to_owned() };
        self.link.put(Kind::Lost, &[&session::encode(&lost)])?;
        self.part_with(pid)
    }

    /// A process needs nothing here any more. The last one ends the warden.
    pub(super) fn part_with(&mut self, pid: i32) -> Step {
        let Some(member) = self.guest.members.remove(&pid) else {
            // It was born and died at home before it was born here.
            if self.guest.dead_before_birth.len() < model::limits::FAMILY_THREADS_MAX as usize {
                self.guest.dead_before_birth.insert(pid);
            }
            return Ok(());
        };
        if self.leaving.as_ref().is_some_and(|leaving| leaving.pid == pid) {
            self.leaving = None;
        }
        if self.sent_away.as_ref().is_some_and(|&(_, asked, _)| asked == pid) {
            self.answer_leave(None);
        }
        if self.guest.members.is_empty() {
            return Err(Stop::End(End::Gone));
        }
        tracing::debug!(pid, "a guest is gone");
        let slots = self.guest.threads.of(pid);
        let tids: Vec<i32> = slots.iter().map(|&slot| self.guest.threads[slot].tid).collect();
        tracee::body::end(member.pid, &tids);
        for slot in slots {
            self.guest.vacate(slot);
        }
        self.let_makers_go_on(pid)
    }

    /// Whoever has made this process with `vfork` has its memory for itself again.
    fn let_makers_go_on(&mut self, child: i32) -> Step {
        let waits = |thread: &Thread| matches!(thread.waits, Waits::Vfork { child: of } if of == child);
        for index in self.guest.threads.slots_where(waits) {
            self.guest.threads[index].waits = Waits::Nothing;
            if !self.guest.member(index).held && !self.leaves(index) {
                self.resume(index, 0)?;
            }
        }
        Ok(())
    }

    /// The process becomes another program: at home, with the thread's mask.
    pub(super) fn exec(&mut self, index: usize, notification: &Notification, row: &'static Row) -> Step {
        let memory = self.guest.member(index).memory;
        let call = match forward::gather(row, notification.args, &memory) {
            Gathered::Call { call, .. } => call,
            Gathered::GoHome(_) => return self.wish_home(index, notification),
        };
        let tid = self.guest.threads[index].tid;
        let Ok(status) = procinfo::status(tid) else { return Ok(()) };
        // What is blocked stays pending in the new program: natively nothing else is so exact.
        if (status.pending | status.shared_pending) & status.blocked & !status.ignored != 0 {
            return self.wish_home(index, notification);
        }
        // The new program may have it open still.
        self.write_back(self.guest.threads[index].of)?;
        let thread = &mut self.guest.threads[index];
        thread.seq = thread.seq.wrapping_add(1);
        thread.waits = Waits::Exec { notification: notification.id };
        let (slot, seq, signals_seen) = (index as u32, thread.seq, thread.signals_seen);
        let mut call = call;
        let input = std::mem::take(&mut call.input);
        let header = CallHeader { slot, seq, signals_seen, call };
        let order = ExecOrder { header, mask: status.blocked };
        Ok(self.link.put(Kind::Exec, &[&session::encode(&order), &input])?)
    }

    /// It is the same program as before.
    pub(super) fn exec_failed(&mut self, index: usize, notification: u64, ret: i64) -> Step {
        if [INTERRUPTED, NOT_EXECUTED].contains(&ret) {
            return self.answer_restart(index, notification, RESTART_ALWAYS);
        }
        self.answer(index, notification, ret)
    }
}

/// The arguments of `clone3(2)` as far as they are known here.
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    tls: u64,
}

/// What a call asks for; `None` if it is something that can only be made at home.
fn understand(notification: &Notification, memory: &impl Memory) -> Option<Wanted> {
    let args = notification.args;
    let CloneArguments { flags, child_tid, parent_tid, exit_signal, stack, tls } =
        match i64::from(notification.nr) {
            libc::SYS_fork => CloneArguments { exit_signal: libc::SIGCHLD as u64, ..Default::default() },
            libc::SYS_vfork => {
                CloneArguments { flags: VM | VFORK, exit_signal: libc::SIGCHLD as u64, ..Default::default() }
            }
            libc::SYS_clone => CloneArguments {
                flags: args[0] & 0xffff_ffff & !EXIT_SIGNAL,
                exit_signal: args[0] & EXIT_SIGNAL,
                stack: args[1],
                parent_tid: args[2],
                child_tid: args[3],
                tls: args[4],
            },
            libc::SYS_clone3 => clone3(args[0], args[1], memory)?,
            _ => return None,
        };
    let what = flags & !(IN_MEMORY | IDLE);
    let (kind, kept) = match what & !SIBLING {
        THREAD if exit_signal == 0 => (session::Birth::Thread, flags & !(libc::CLONE_DETACHED as u64)),
        0 | VFORK => (process(exit_signal, what)?, flags & IN_MEMORY),
        both if both == VM | VFORK => (process(exit_signal, what)?, flags & IN_MEMORY | VM),
        _ => return None,
    };
    // Here the newborn is the warden's child, and nobody is told of its end.
    let kept = if kind == session::Birth::Thread { kept } else { kept | SIBLING };
    Some(Wanted {
        birth: Birth { flags: kept, stack, parent_tid, child_tid, tls, after: notification.rip },
        kind,
        vfork: what & VFORK != 0,
    })
}

fn process(exit_signal: u64, flags: u64) -> Option<session::Birth> {
    let exit_signal = u8::try_from(exit_signal).ok().filter(|&signal| signal <= 64)?;
    Some(session::Birth::Process { exit_signal, sibling: flags & SIBLING != 0 })
}

/// Reads `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
/// set_tid_size, cgroup. The last three are none of ours.
fn clone3(address: u64, size: u64, memory: &impl Memory) -> Option<CloneArguments> {
    const FIRST_WORDS: usize = 8;
    const ALL_WORDS: usize = 11;
    let words = usize::try_from(size / 8).ok().filter(|words| (FIRST_WORDS..=ALL_WORDS).contains(words))?;
    let mut bytes = [0; 8 * ALL_WORDS];
    memory.read(address, bytes.get_mut(..8 * words)?).ok()?;
    let word = |index: usize| {
        let bytes = bytes.get(8 * index..8 * index + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    if (FIRST_WORDS..ALL_WORDS).any(|index| word(index) != 0)
        || word(0) & EXIT_SIGNAL != 0
        || !size.is_multiple_of(8)
    {
        return None;
    }
    Some(CloneArguments {
        flags: word(0),
        child_tid: word(2),
        parent_tid: word(3),
        exit_signal: word(4),
        stack: if word(5) == 0 { 0 } else { word(5).checked_add(word(6))? },
        tls: word(7),
    })
}
