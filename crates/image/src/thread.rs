//! Threads.

use crate::Used;
use serde::{Deserialize, Serialize};

/// A siginfo as the kernel lays it out: 128 bytes in words.
pub type Siginfo = [u64; 16];

/// The general registers of x86-64, in the order of the kernel's `user_regs_struct`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the registers' own")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// A registration for restartable sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rseq {
    /// Address of its area.
    pub pointer: u64,
    /// Length of the area, bytes.
    pub size: u32,
    /// Signature before abort handlers.
    pub signature: u32,
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resume {
    /// With the registers as they are; a call that was interrupted is simply made again.
    #[default]
    Plain,
    /// By making a call again whose time ends at this moment.
    ///
    /// The registers are those of a thread whose call the kernel interrupted: the call's number in `orig_rax`, and -514 in
    /// `rax`.
    Timed {
        /// What the process's own `CLOCK_MONOTONIC` shows then, nanoseconds. It goes on while the process moves, and so
        /// does the time of its waits.
        until_ns: i64,
    },
    /// By making a call again that began at this moment, and may wait for as long as its socket says (`SO_RCVTIMEO`,
    /// `SO_SNDTIMEO`).
    ///
    /// The registers are as for `Timed`.
    Since {
        /// What the process's own `CLOCK_MONOTONIC` showed then, nanoseconds.
        since_ns: i64,
    },
    /// By making a call again that has given away a part of its payload already, and now gives the rest.
    ///
    /// The registers are those of a thread whose call is made again whatever comes: its number in `orig_rax`, and -513 in
    /// `rax`.
    Rest {
        /// Bytes that have been given.
        done: u64,
    },
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its tid at home.
    pub tid: i32,
    /// General registers, ready to go on with.
    pub registers: Registers,
    /// Extended state in the portable form of `kernel::xstate`: every CPU lays it out in its own way.
    pub extended: Vec<u8>,
    /// Blocked signals.
    pub mask: u64,
    /// Restartable sequences.
    pub rseq: Option<Rseq>,
    /// Robust futex list: head and length; head 0 if there is none.
    pub robust: (u64, u64),
    /// Where the kernel writes 0 when the thread ends.
    pub clear_tid: u64,
    /// Alternate signal stack: `stack_t` in words.
    pub alternate_stack: [u64; 3],
    /// How it goes on.
    pub resume: Resume,
    /// Signals pending for it alone, oldest first.
    pub pending: Vec<Siginfo>,
    /// Its name.
    pub name: String,
    /// What it has used.
    pub used: Used,
}
