//! The process as a whole.

use crate::{Area, FileId, Object, Siginfo, Thread};
use serde::{Deserialize, Serialize};

/// One signal's action: the kernel's `sigaction` in words (handler, flags, restorer, mask).
pub type SigAction = [u64; 4];

/// What the kernel keeps in `mm_struct` besides the areas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of prctl(2), PR_SET_MM")]
pub struct MmFields {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

/// By how much the clocks of a process are ahead of those of a machine: of the one that captured it, and, once it has
/// been sent, of the one that received it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: i64,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boottime_ns: i64,
}

/// What a process's own clocks showed when it was frozen, nanoseconds: where it goes on, none of them may show less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: i64,
    /// `CLOCK_MONOTONIC_COARSE`, which stands still between two ticks of its machine.
    pub coarse_ns: i64,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: i64,
}

/// What a process or a thread has used, as it is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// What its CPU clock (`CLOCK_PROCESS_CPUTIME_ID`, `CLOCK_THREAD_CPUTIME_ID`) showed, nanoseconds: where it goes on, it
    /// may not show less.
    pub clock_ns: u64,
    /// Of that, time on hosts since it was last at home: its home knows nothing of it.
    pub away: Usage,
}

/// What was used on hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_us: u64,
    /// Page faults that needed no disk, and those that did.
    pub faults: [u64; 2],
    /// The most memory that was resident at once, KiB; 0 for a thread.
    pub peak_kib: u64,
}

impl Usage {
    /// CPU time, milliseconds.
    pub fn cpu_ms(self) -> u64 {
        self.user_us.saturating_add(self.system_us) / 1000
    }

    /// This, and what came after it.
    pub fn and(self, later: Usage) -> Usage {
        let [minor, major] = self.faults;
        let [more_minor, more_major] = later.faults;
        Usage {
            user_us: self.user_us.saturating_add(later.user_us),
            system_us: self.system_us.saturating_add(later.system_us),
            faults: [minor.saturating_add(more_minor), major.saturating_add(more_major)],
            peak_kib: self.peak_kib.max(later.peak_kib),
        }
    }
}

/// A frozen process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Thread-group id at home.
    pub pid: i32,
    /// Effective user id at home: what `getuid` shows while away.
    pub uid: u32,
    /// Effective group id at home.
    pub gid: u32,
    /// Address bounds.
    pub mm: MmFields,
    /// The auxiliary vector, verbatim.
    pub auxv: Vec<u8>,
    /// Its executable.
    pub executable: FileId,
    /// Its areas in ascending order, without those the kernel provides.
    pub areas: Vec<Area>,
    /// The shared memory of no file under some of them.
    pub objects: Vec<Object>,
    /// Start of the kernel's data pages before the vDSO, 0 if it has none; and the length from there to its end.
    pub vdso: (u64, u64),
    /// The vDSO's code, at the end of that: a host whose own is another puts it there in its stead.
    pub vdso_code: Vec<u8>,
    /// Hosts let it in because of the code that it has: it makes more at home only.
    pub fixed_code: bool,
    /// Threads, the leader first.
    pub threads: Vec<Thread>,
    /// Actions of signals 1 to 64.
    pub actions: Vec<SigAction>,
    /// Signals pending for the process, oldest first.
    pub pending: Vec<Siginfo>,
    /// Execution domain.
    pub personality: u32,
    /// Its clocks.
    pub clocks: Clocks,
    /// What they showed last.
    pub shown: Shown,
    /// What it has used.
    pub used: Used,
    /// Soft and hard limits that matter where the memory is: address space, data, stack.
    pub limits: [(u64, u64); 3],
}
