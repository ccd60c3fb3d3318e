//! The guest: its threads and what each of them is about.

use super::memory::GuestMemory;
use forward::{Landing, Timeout};
use image::{Process, SigAction, Siginfo};
use kernel::notify::Listener;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use syscalls::Row;
use wire::Call;

/// A forwarded call that has not been answered yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) row: &'static Row,
    pub(super) args: [u64; 6],
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
    /// It has been told to give up.
    pub(super) cancelled: bool,
    /// It asks, for another call, whether the descriptor can be positioned.
    pub(super) asks_position: Option<Box<Outstanding>>,
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
    /// For a file that it maps.
    File { notification: u64, descriptor: i32 },
    /// For its end; an answer tells that a signal came first.
    Exit { notification: u64 },
    /// To die at home of this signal.
    Death,
}

/// A local sleep that somebody saw begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sleep {
    pub(super) nr: i64,
    pub(super) since: Instant,
    /// What had passed before `since`.
    pub(super) before: Duration,
}

/// A thread of the guest. Its index is its slot.
#[derive(Debug)]
pub(super) struct Thread {
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
    /// What is left of the timeout of the call that it will make next.
    pub(super) left: Option<(i64, Duration)>,
}

/// The guest.
#[derive(Debug)]
pub(super) struct Guest {
    /// Its pid on this node.
    pub(super) pid: i32,
    /// Pid of its namespace's init on this node.
    pub(super) init: i32,
    /// What it came with; areas and threads are as they were then.
    pub(super) image: Process,
    pub(super) threads: Vec<Thread>,
    pub(super) by_tid: HashMap<i32, usize>,
    pub(super) listener: Listener,
    pub(super) memory: GuestMemory,
    /// Actions of signals 1 to 64, as the program set them.
    pub(super) actions: Vec<SigAction>,
    /// True siginfos of signals on their way, by the number that their stand-ins carry.
    pub(super) infos: HashMap<u32, Siginfo>,
    pub(super) next_info: u32,
}

impl Guest {
    /// The guest's threads with these tids here, in the order of its image.
    pub(super) fn new(pid: i32, init: i32, tids: &[i32], mut image: Process, listener: Listener) -> Guest {
        let threads: Vec<Thread> = image
            .threads
            .iter()
            .zip(tids)
            .map(|(thread, &tid)| Thread {
                tid,
                home_tid: thread.tid,
                waits: Waits::Nothing,
                seq: 0,
                signals_seen: 0,
                parked: true,
                interrupted: false,
                stash: Vec::new(),
                sleep: None,
                remade: None,
                left: None,
            })
            .collect();
        image.areas = Vec::new();
        Guest {
            by_tid: threads.iter().enumerate().map(|(index, thread)| (thread.tid, index)).collect(),
            memory: GuestMemory(pid),
            actions: image.actions.clone(),
            pid,
            init,
            image,
            threads,
            listener,
            infos: HashMap::new(),
            next_info: 0,
        }
    }

    /// All threads are stopped and wait for nobody.
    pub(super) fn is_quiet(&self) -> bool {
        self.threads.iter().all(|thread| thread.parked && matches!(thread.waits, Waits::Nothing))
    }
}
