//! The guests of a family: their threads and what each of them is about.

use super::half_done::HalfDone;
use super::memory::GuestMemory;
use super::own_files::OwnFiles;
use super::socket_time::Scratch;
use forward::{Landing, Timeout};
use image::{Process, SigAction, Siginfo, Used};
use kernel::notify::Listener;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;
use syscalls::Row;
use tracee::stand_in::StandIn;
use wire::{Call, session};

/// A forwarded call that has not been answered yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) row: &'static Row,
    pub(super) args: [u64; 6],
    /// Address behind its instruction.
    pub(super) rip: u64,
    pub(super) call: Call,
    pub(super) landing: Landing,
    /// Bytes that earlier chunks have moved.
    pub(super) done: u64,
    /// When the guest made it.
    pub(super) since: Instant,
    pub(super) timeout: Option<Timeout>,
    /// Signal mask that it wants for its time.
    pub(super) mask: Option<u64>,
    /// It was begun before the last move: the kernel's code for its interruption then.
    pub(super) remade: Option<i64>,
    /// Signals of its slot that had been seen when it was sent.
    pub(super) seen: u32,
    /// It has been told to give up.
    pub(super) cancelled: bool,
    /// How long it may wait is its socket's to say.
    pub(super) timed_by_socket: bool,
    /// When that is over, if it is known here.
    pub(super) limit: Option<Instant>,
    /// It asks something for another call.
    pub(super) question: Option<Question>,
}

/// What is asked at home before another call goes on.
#[derive(Debug)]
pub(super) enum Question {
    /// Whether its descriptor can be positioned.
    Position(Box<Outstanding>),
    /// For how long at most it may wait.
    SocketTime(Box<Outstanding>, Scratch),
}

/// What a thread waits for.
#[derive(Debug)]
pub(super) enum Waits {
    /// For nobody: it runs, or sleeps in a call of its own.
    Nothing,
    /// For its deputy.
    Call { notification: u64, outstanding: Box<Outstanding> },
    /// For its home to know a new action.
    Action { notification: u64, signal: i32, action: SigAction },
    /// For its home to stop and go on again.
    Stop,
    /// To be brought home, where it makes the call again.
    Home { notification: u64 },
    /// For a file that it maps; whether its bytes were asked for.
    File { notification: u64, descriptor: i32, sent: bool },
    /// For its end; an answer tells that a signal came first.
    Exit { notification: u64 },
    /// For its home to make another program of its process; an answer tells that it could not.
    Exec { notification: u64 },
    /// For the tid of a newborn.
    Birth(Box<Labour>),
    /// For its stop, to bear the newborn here too.
    Delivery(Box<Labour>),
    /// For what it has written to a file to be on the disk at home.
    Sync { notification: u64 },
    /// Stopped, until the process that it has made with `vfork` needs its memory no more.
    Vfork { child: i32 },
    /// It has ended, or is about to.
    Ending,
    /// It has ended, and waits for its deputy to do so.
    Buried,
    /// To die at home of this signal.
    Death,
}

/// A birth under way.
#[derive(Clone, Debug)]
pub(super) struct Labour {
    pub(super) notification: u64,
    pub(super) birth: tracee::birth::Birth,
    pub(super) kind: session::Birth,
    /// The maker waits until the newborn ends or becomes another program.
    pub(super) vfork: bool,
    /// Its slot.
    pub(super) slot: usize,
    /// Its tid at home, once it has one.
    pub(super) tid: Option<i32>,
}

/// A thread is awake by so long after its time, nanoseconds.
const WAKING_NS: u64 = 1_000_000_000;

/// A local sleep whose end is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sleep {
    pub(super) nr: i64,
    /// When it ends: nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) deadline_ns: u64,
    /// Instruction and stack pointer of one that was begun for the thread when it came: not all calls that may follow it
    /// are told of.
    place: Option<(u64, u64)>,
}

impl Sleep {
    /// One that ends then.
    pub(super) fn new(nr: i64, deadline_ns: u64, place: Option<(u64, u64)>) -> Sleep {
        Sleep { nr, deadline_ns, place }
    }

    /// Whether a thread with these registers may be in it. One in whose place the thread sleeps beyond its end is another.
    pub(super) fn is_at(&self, registers: &kernel::ptrace::Registers) -> bool {
        self.place.is_none_or(|place| {
            let late = tracee::restart::now_ns().saturating_sub(self.deadline_ns);
            place == (registers.rip, registers.rsp) && late < WAKING_NS
        })
    }
}

/// A thread of the guest. Its index is its slot.
#[derive(Debug)]
pub(super) struct Thread {
    /// Its process, by pid at home.
    pub(super) of: i32,
    /// Its tid on this node.
    pub(super) tid: i32,
    /// Its tid at home.
    pub(super) home_tid: i32,
    pub(super) waits: Waits,
    /// Number of its last request.
    pub(super) seq: u32,
    /// Number of the next signal of its slot.
    pub(super) signals_seen: u32,
    /// It is stopped and stays so.
    pub(super) parked: bool,
    /// It has been asked to stop.
    pub(super) interrupted: bool,
    /// Signals taken from it on its way to a stop, oldest first.
    pub(super) stash: Vec<Siginfo>,
    pub(super) sleep: Option<Sleep>,
    /// The call that it will make again because the move interrupted it, and the kernel's code for its interruption.
    pub(super) remade: Option<(i64, i64)>,
    /// It was told that its call was interrupted: what a handler then means for it is its kernel's to say.
    pub(super) given_up: bool,
    /// When the time of the call that it will make again is over.
    pub(super) ends: Option<(i64, Instant)>,
    /// When the call began that it will make again, and that may wait for as long as its socket says.
    pub(super) began: Option<(i64, Instant)>,
    /// The call that it will make again to give the rest of what it gives.
    pub(super) half_done: Option<HalfDone>,
    /// What it had used before it came here.
    pub(super) used_before: Used,
}

impl Thread {
    /// A thread that stands ready and has done nothing yet.
    pub(super) fn new(of: i32, tid: i32, home_tid: i32) -> Thread {
        Thread {
            of,
            tid,
            home_tid,
            waits: Waits::Nothing,
            seq: 0,
            signals_seen: 0,
            parked: true,
            interrupted: false,
            stash: Vec::new(),
            sleep: None,
            remade: None,
            given_up: false,
            ends: None,
            began: None,
            half_done: None,
            used_before: Used::default(),
        }
    }

    /// A handler runs: whatever call comes next is another one, also if it looks the same.
    pub(super) fn forget_its_call(&mut self) {
        (self.remade, self.ends, self.began, self.half_done) = (None, None, None, None);
    }
}

/// The threads of a family by slot. A slot that nobody lives in must not be asked for.
#[derive(Debug, Default)]
pub(super) struct Threads(Vec<Option<Thread>>);

impl Threads {
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Thread> {
        self.0.get_mut(slot)?.as_mut()
    }

    pub(super) fn put(&mut self, slot: usize, thread: Thread) {
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(thread);
    }

    pub(super) fn remove(&mut self, slot: usize) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = None;
        }
        while self.0.last().is_some_and(Option::is_none) {
            self.0.pop();
        }
    }

    /// The first slot that nobody lives in.
    pub(super) fn vacancy(&self) -> usize {
        self.0.iter().position(Option::is_none).unwrap_or(self.0.len())
    }

    /// The slots of the threads of which this holds.
    pub(super) fn slots_where(&self, holds: impl Fn(&Thread) -> bool) -> Vec<usize> {
        let filled = self.0.iter().enumerate();
        filled.filter(|(_, thread)| thread.as_ref().is_some_and(&holds)).map(|(slot, _)| slot).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Thread> {
        self.0.iter().flatten()
    }

    /// The slots of a process, its leader's first.
    pub(super) fn of(&self, pid: i32) -> Vec<usize> {
        let of = |(slot, thread): (usize, &Option<Thread>)| {
            thread.as_ref().filter(|thread| thread.of == pid).map(|thread| (thread.home_tid != pid, slot))
        };
        let mut slots: Vec<(bool, usize)> = self.0.iter().enumerate().filter_map(of).collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }
}

impl std::ops::Index<usize> for Threads {
    type Output = Thread;

    fn index(&self, slot: usize) -> &Thread {
        self.0[slot].as_ref().unwrap_or_else(|| panic!("nobody lives in slot {slot}"))
    }
}

impl std::ops::IndexMut<usize> for Threads {
    fn index_mut(&mut self, slot: usize) -> &mut Thread {
        self.0[slot].as_mut().unwrap_or_else(|| panic!("nobody lives in slot {slot}"))
    }
}

/// One process of the family.
#[derive(Debug)]
pub(super) struct Member {
    /// Its pid on this node.
    pub(super) pid: i32,
    /// What it came with, or its maker; areas and threads are as they were then.
    pub(super) image: Process,
    pub(super) memory: GuestMemory,
    /// Actions of signals 1 to 64, as the program set them.
    pub(super) actions: Vec<SigAction>,
    /// It has, or may have, shared memory that it alone uses: a child would share it.
    pub(super) has_objects: bool,
    /// The files of its home that it maps and may change.
    pub(super) own_files: OwnFiles,
    /// It is stopped at home.
    pub(super) held: bool,
    /// Calls that went home.
    pub(super) forwarded: u64,
    /// Bytes that they have carried.
    pub(super) carried_bytes: u64,
    /// What it had used before it came here.
    pub(super) used_before: Used,
}

/// A family of guests.
#[derive(Debug)]
pub(super) struct Guest {
    /// Pid of its namespace's init on this node.
    pub(super) init: i32,
    pub(super) threads: Threads,
    pub(super) by_tid: HashMap<i32, usize>,
    /// Its processes, by pid at home.
    pub(super) members: BTreeMap<i32, Member>,
    /// Processes that their home has let go of before they were born here.
    pub(super) dead_before_birth: BTreeSet<i32>,
    /// Slots that there are at home.
    pub(super) slots: usize,
    pub(super) listener: Listener,
    /// What stands here for the vDSO of their home, if not this kernel's own.
    pub(super) stand_in: Option<StandIn>,
}

impl Guest {
    /// A family of one process. Its threads move in with [`Guest::settle`].
    pub(super) fn new(
        pid: i32,
        init: i32,
        mut image: Process,
        own_files: OwnFiles,
        listener: Listener,
    ) -> Guest {
        image.areas = Vec::new();
        // It was understood when the process was built.
        let stand_in = StandIn::of(&image).unwrap_or_default();
        let actions = image.actions.clone();
        let member = Member {
            pid,
            memory: GuestMemory(pid),
            actions,
            has_objects: !image.objects.is_empty(),
            own_files,
            held: false,
            forwarded: 0,
            carried_bytes: 0,
            used_before: image.used,
            image,
        };
        Guest {
            init,
            threads: Threads::default(),
            by_tid: HashMap::new(),
            members: BTreeMap::from([(member.image.pid, member)]),
            dead_before_birth: BTreeSet::new(),
            slots: 0,
            listener,
            stand_in,
        }
    }

    /// A thread moves into its slot.
    pub(super) fn settle(&mut self, slot: usize, thread: Thread) {
        self.by_tid.insert(thread.tid, slot);
        self.threads.put(slot, thread);
    }

    /// A thread leaves its slot.
    pub(super) fn vacate(&mut self, slot: usize) {
        if let Some(thread) = self.threads.get_mut(slot) {
            let tid = thread.tid;
            // Its tid may belong to another one by now.
            if self.by_tid.get(&tid) == Some(&slot) {
                self.by_tid.remove(&tid);
            }
            self.threads.remove(slot);
        }
    }

    /// The process of the thread in a slot.
    pub(super) fn member(&self, slot: usize) -> &Member {
        let pid = self.threads[slot].of;
        self.members.get(&pid).unwrap_or_else(|| panic!("thread in slot {slot} has no process"))
    }

    /// As [`Guest::member`].
    pub(super) fn member_mut(&mut self, slot: usize) -> &mut Member {
        let pid = self.threads[slot].of;
        self.members.get_mut(&pid).unwrap_or_else(|| panic!("thread in slot {slot} has no process"))
    }

    /// The process of the thread in a slot, or whoever runs on the same memory, is about to make shared memory that it
    /// alone uses. `false` if one of them is just making a process: that one would have it too.
    pub(super) fn may_make_object(&mut self, slot: usize) -> bool {
        let of = self.threads[slot].of;
        let is_vfork = |thread: &Thread| matches!(thread.waits, Waits::Vfork { .. });
        let makes = |thread: &Thread| match &thread.waits {
            Waits::Birth(labour) | Waits::Delivery(labour) => labour.kind != session::Birth::Thread,
            _ => false,
        };
        if self.threads.iter().any(|thread| thread.of == of && makes(thread)) {
            return false;
        }
        // Who runs on whose memory for a moment need not be known exactly: what is noted in vain makes a process come home
        // once too often.
        let all = self.threads.iter().any(is_vfork);
        for (&pid, member) in &mut self.members {
            member.has_objects |= all || pid == of;
        }
        true
    }

    /// All threads of a process are stopped and wait for nobody.
    pub(super) fn is_quiet(&self, pid: i32) -> bool {
        let still = |thread: &Thread| thread.parked && matches!(thread.waits, Waits::Nothing);
        self.threads.iter().filter(|thread| thread.of == pid).all(still)
    }
}
