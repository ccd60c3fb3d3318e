//! Why a process cannot move: openMosix's `cantmove`, as codes and words.

use serde::{Deserialize, Serialize};
use std::fmt;

codes! {
    /// A machine-readable reason why a process cannot move now; its words complete "the process cannot move: ...".
    ReasonCode

    NoSuchProcess = "no-such-process", "no process has this pid";
    Zombie = "zombie", "it has ended and waits for its parent";
    KernelThread = "kernel-thread", "it is a thread of the kernel";
    Init = "init", "it is pid 1, on which its whole system rests";
    OwnDaemon = "own-daemon", "it belongs to the cluster itself";
    NotOwner = "not-owner", "it belongs to another user";
    SameNode = "same-node", "it is there already";
    UnknownNode = "unknown-node", "the cluster has no such node";
    DeadNode = "dead-node", "the node does not answer";
    Guest = "guest", "it is a guest here: it is moved from its home node";
    Refused = "refused", "the node takes no guests now";
    Busy = "busy", "it is being moved already";
    Traced = "traced", "it is being traced by a debugger";
    Architecture = "architecture", "it runs 32-bit or x32 code";
    IoUring = "io-uring", "it uses io_uring";
    Aio = "aio", "it uses kernel asynchronous I/O";
    Userfaultfd = "userfaultfd", "it uses userfaultfd";
    SharedMemory = "shared-memory", "it shares writable memory";
    SharedMapping = "shared-mapping", "it maps a file that others may change";
    DeviceMapping = "device-mapping", "it maps a device or another special file";
    SharesMemoryMap = "shares-memory-map", "it shares its whole memory with another process";
    VforkParent = "vfork-parent", "it waits for a child of vfork";
    RealTime = "real-time", "it has a real-time scheduling class";
    IoPorts = "io-ports", "it has access to I/O ports";
    Seccomp = "seccomp", "it has a system-call filter of its own";
    UserDispatch = "user-dispatch", "it dispatches its own system calls";
    HugePages = "huge-pages", "it maps pages of hugetlbfs";
    SecretMemory = "secret-memory", "it has memory that nobody may read";
    SealedMemory = "sealed-memory", "it has memory that may not be unmapped";
    LockedMemory = "locked-memory", "it locks memory";
    CpuTimer = "cpu-timer", "it has a timer that counts CPU time";
    PosixTimer = "posix-timer", "it has a timer that signals one thread";
    Signalfd = "signalfd", "it reads signals from a file descriptor";
    Namespaces = "namespaces", "it lives in a pid or time namespace of its own";
    Limits = "limits", "its own resource limits leave no room for the stub";
    TooLarge = "too-large", "it has more threads or mappings than can be moved";
    CpuFeatures = "cpu-features", "the node's CPU lacks a feature it may be using";
    Kernel = "kernel", "the node's kernel lacks something it needs";
    Memory = "memory", "the node has not enough free memory";
    Disk = "disk", "the node has no room for the files it maps";
    Unreadable = "unreadable", "a file it maps cannot be read";
    Stuck = "stuck", "a thread of it did not stop in time";
    Stopped = "stopped", "it was stopped in the middle of a wait that has an end: continue it first";
    Locked = "locked", "its owner locked it to where it is";
}

/// One reason, with what it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Reason {
    /// The kind.
    pub code: ReasonCode,
    /// The mapping, descriptor, thread or attribute it comes from; empty where the code says all.
    pub detail: String,
}

impl Reason {
    /// A reason with its source.
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Reason {
        Reason { code, detail: detail.into() }
    }
}

impl From<ReasonCode> for Reason {
    fn from(code: ReasonCode) -> Reason {
        Reason { code, detail: String::new() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.words())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        write!(f, " [{}]", self.code.code())
    }
}

/// All reasons at once: a refusal never lists only the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Reasons(pub Vec<Reason>);

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_spelled_like_their_variants() {
        let codes: HashSet<_> = ReasonCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes.len(), ReasonCode::ALL.len());
        for code in ReasonCode::ALL {
            let plain = code.code().replace('-', "");
            assert_eq!(plain, format!("{code:?}").to_lowercase());
        }
    }
}
