//! The memory layout that the stub and its keeper share.
//!
//! One shared mapping per migrated process: [`Family`] in its first 2 MiB, then one [`Slot`] of 2 MiB for each
//! thread. A slot is aligned to its size, so that code running on its stack finds it by masking the stack pointer.
//! Only touched pages exist; an idle thread costs about 16 kB.
//!
//! ```text
//! slot:  0        header (this struct)
//!        0x2000   data: buffers of the call in progress      DATA_BYTES
//!        0x1c2000 stack of the stub, growing down from 0x200000
//! ```
//!
//! Every word is written by one side only; the pairs `kick`/`asleep` and `bell`/`keeper_asleep` are the doorbells.
//! The protocol is told in docs/decisions/0006-slots-and-futexes.md.
#![no_std]
#![forbid(unsafe_code)]

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

/// Size and alignment of a slot and of the family's part, bytes.
pub const SLOT_BYTES: u64 = 2 << 20;
/// Offset of a slot's data, bytes.
pub const DATA_OFFSET: u64 = 0x2000;
/// Length of a slot's data, bytes.
pub const DATA_BYTES: u64 = 0x1c_0000;
/// Entries of a slot's ring of caught signals.
pub const RING: u32 = 16;
/// The signal that cancels a blocked call; it is neither recorded nor counted.
pub const CANCEL_SIGNAL: i32 = 64;
/// The kernel's mark that the owner of a robust futex died.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// The mark that somebody waits for a robust futex.
pub const WAITERS: u32 = 0x8000_0000;
/// Result of a call that a signal interrupted before it did anything (the kernel's ERESTARTSYS).
pub const INTERRUPTED: i64 = -512;
/// Result of a call that was not executed because a signal came first (the kernel's ERESTARTNOINTR).
pub const NOT_EXECUTED: i64 = -513;
/// Pseudo call: end this thread.
pub const CALL_EXIT_THREAD: u32 = 0x10001;
/// Pseudo call: make a thread or a process that serves another slot. Arguments: flags of `clone(2)`, address of that slot.
pub const CALL_CLONE: u32 = 0x10002;
/// Nanoseconds between two looks of an orphaned stub for a new keeper.
pub const ORPHAN_LOOK_NS: i64 = 50_000_000;
/// Looks of an orphaned stub before it ends its process.
pub const ORPHAN_LOOKS: u32 = 100;

/// One call of a batch, run by `stub_batch`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCall {
    /// System call number.
    pub nr: u64,
    /// Arguments; one of the form [`result_of`] stands for an earlier call's result.
    pub args: [u64; 6],
    /// Result, written by the stub.
    pub ret: i64,
}

/// The upper half of an argument that refers to an earlier result.
pub const RESULT_MARK: u64 = 0xfeed_beef_0000_0000;

/// The argument that stands for the result of the batch's call number `index`.
pub const fn result_of(index: u32) -> u64 {
    RESULT_MARK | index as u64
}

/// A robust list of one entry, kept where its owner's death can still be seen by others.
#[repr(C)]
#[derive(Debug)]
pub struct RobustList {
    /// `robust_list_head`: address of the entry, distance from entry to futex word, pending.
    pub head: [AtomicU64; 3],
    /// `robust_list`: address of the head.
    pub entry: AtomicU64,
}

/// The part of the mapping that belongs to the whole process.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Family {
    /// Counts what stubs want the keeper to see.
    pub bell: AtomicU32,
    /// The keeper sleeps on `bell`.
    pub keeper_asleep: AtomicU32,
    _line0: [u32; 14],
    /// Robust word: the keeper's tid with [`WAITERS`]; [`OWNER_DIED`] once it is dead.
    pub alive: AtomicU32,
    _line1: [u32; 15],
    /// The keeper's robust list, at the keeper's addresses.
    pub robust: RobustList,
}

/// The request in a slot. All addresses in it are already those of the deputy.
#[repr(C)]
#[derive(Debug)]
pub struct Request {
    /// System call number or `CALL_*`.
    pub nr: AtomicU32,
    /// Signals of this slot that the remote has seen; the call runs only if it has seen them all.
    pub signals_seen: AtomicU32,
    /// Arguments.
    pub args: [AtomicU64; 6],
    /// Signal mask while the call runs.
    pub mask: AtomicU64,
}

/// One thread's part of the mapping.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    // Written by the keeper.
    /// Counts what the keeper wants the stub to see.
    pub kick: AtomicU32,
    /// Sequence number of the posted request.
    pub request_seq: AtomicU32,
    /// The request of this number is to be given up.
    pub cancel_seq: AtomicU32,
    /// Signals that the remote has acknowledged.
    pub signal_tail: AtomicU32,
    /// The keeper looks for the reply: the bell need not ring.
    pub attended: AtomicU32,
    _line0: [u32; 11],
    // Written by the stub.
    /// The stub sleeps on `kick`.
    pub asleep: AtomicU32,
    /// Sequence number of the answered request.
    pub reply_seq: AtomicU32,
    /// Signals caught in this slot.
    pub signal_head: AtomicU32,
    /// Robust word: the thread's tid with [`WAITERS`].
    pub owner: AtomicU32,
    /// Cleared by the kernel when the thread is off its stack (`CLONE_CHILD_CLEARTID`).
    pub tid: AtomicU32,
    _line1: [u32; 11],
    /// Result of the answered request.
    pub ret: AtomicI64,
    /// `signal_head` when the request was answered.
    pub signals_at_reply: AtomicU32,
    /// Number of the request last taken.
    pub taken_seq: AtomicU32,
    /// Address of the [`Family`] in the deputy.
    pub family: AtomicU64,
    /// Looks for a new keeper so far.
    pub orphan_looks: AtomicU32,
    _pad: u32,
    /// The thread's robust list, at the deputy's addresses.
    pub robust: RobustList,
    /// Two `futex_waitv` entries.
    pub waiters: [AtomicU64; 6],
    /// The request.
    pub request: Request,
    /// The last caught signals, `siginfo` each.
    pub ring: [[AtomicU64; 16]; RING as usize],
}

const _: () = {
    assert!(size_of::<Slot>() as u64 <= DATA_OFFSET);
    assert!(size_of::<Family>() as u64 <= DATA_OFFSET);
    assert!(size_of::<BatchCall>() == 64);
    assert!(offset_of!(Slot, asleep) == 64 && offset_of!(Slot, ret) == 128);
    assert!(offset_of!(Family, alive) == 64);
    assert!(size_of::<[AtomicU64; 16]>() == 128);
};
