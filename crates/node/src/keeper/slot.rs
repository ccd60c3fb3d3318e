//! The state of a slot, on the keeper's side.

use crate::spin::Worth;
use std::collections::VecDeque;
use std::ops::AddAssign;
use stub::Post;
use wire::session::{Birth, BirthOrder, CallHeader, ExecOrder, ThreadEnd};

/// What a slot's request is for.
#[derive(Debug)]
pub(super) enum Under {
    /// Nothing is under way.
    Idle,
    /// A call of the remote: its number there, and what comes back.
    Call { seq: u32, call: wire::Call },
    /// Steps one after another, answered as one if the remote waits for it.
    Steps { reply: Option<u32>, left: VecDeque<Post>, current: Post },
    /// The thread makes another one, or a process.
    Birth { seq: u32, newborn: u32, birth: Birth },
    /// The thread ends.
    End { seq: u32 },
    /// The process becomes another program; there is no answer if it does.
    Exec { seq: u32 },
}

/// Calls that were forwarded, and what they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Calls.
    pub(crate) calls: u64,
    /// Bytes of what they were given, and of what they gave back.
    pub(crate) bytes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Traffic) {
        self.calls += more.calls;
        self.bytes += more.bytes;
    }
}

/// Who is served in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    /// The process.
    pub(crate) pid: i32,
    /// The thread.
    pub(crate) tid: i32,
}

/// What happened in a family at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A process was born to another one.
    Born {
        /// Its pid.
        pid: i32,
        /// Whose child the fork made it, whatever its parent is now.
        of: i32,
    },
    /// A process is another program now.
    Execed {
        /// Its pid.
        pid: i32,
    },
    /// A process has ended, or is past everything that it could do.
    Ended {
        /// Its pid.
        pid: i32,
    },
    /// A process is needed at home, for a file that it maps.
    Wanted {
        /// Its pid.
        pid: i32,
        /// Its own call that uses the file; `None` if somebody else wants it.
        nr: Option<u32>,
    },
}

/// A request of the remote that waits until its slot has done its housekeeping.
#[derive(Debug)]
pub(super) enum Queued {
    /// A call and its input.
    Call(CallHeader, Vec<u8>),
    /// A birth.
    Birth(BirthOrder),
    /// Another program, and the call's input.
    Exec(ExecOrder, Vec<u8>),
    /// The end of the slot's thread.
    End(ThreadEnd),
}

impl Queued {
    /// Its number in the slot.
    pub(super) fn seq(&self) -> u32 {
        match self {
            Queued::Call(header, _) => header.seq,
            Queued::Birth(order) => order.seq,
            Queued::Exec(order, _) => order.header.seq,
            Queued::End(end) => end.seq,
        }
    }
}

#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) tenant: Option<Tenant>,
    /// The process of the last tenant, which may still be on the slot's stack.
    pub(super) former: Option<i32>,
    /// The host knows of the tenant: before that, nothing of it may be sent.
    pub(super) announced: bool,
    /// Number of the last request to its stub.
    pub(super) stub_seq: u32,
    pub(super) under: Under,
    pub(super) queued: Option<Queued>,
    /// The number of a call that its process is to make at home, for which it waits.
    pub(super) held_back: Option<u32>,
    /// Calls so far.
    pub(super) traffic: Traffic,
    /// Number of the next signal to be sent.
    pub(super) signals_sent: u32,
    pub(super) attention: Worth,
}

impl SlotState {
    /// A slot that has done nothing yet.
    pub(super) fn of(tenant: Option<Tenant>) -> SlotState {
        SlotState {
            tenant,
            former: None,
            announced: true,
            stub_seq: 0,
            under: Under::Idle,
            queued: None,
            held_back: None,
            traffic: Traffic::default(),
            signals_sent: 0,
            attention: Worth::default(),
        }
    }
}
