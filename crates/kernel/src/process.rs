//! Making processes with chosen pids, and asking for what only a system call tells.

use crate::{Errno, check};
use std::mem::{size_of, size_of_val};

/// What the caller of [`clone_with_tid`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The parent; the child has this pid in the caller's namespace.
    Parent(i32),
    /// The child.
    Child,
}

/// `clone3` without a new stack, as `fork` does it, with `flags` and, where `tid` is given, with that pid in the pid
/// namespace of the caller's children.
///
/// # Safety
/// As with `fork`: the child of a process with several threads may call only what is async-signal-safe.
pub unsafe fn clone_with_tid(flags: u64, exit_signal: i32, tid: Option<i32>) -> Result<Side, Errno> {
    let tids = [tid.unwrap_or(0)];
    let arguments = libc::clone_args {
        flags,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: exit_signal as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: if tid.is_some() { tids.as_ptr() as u64 } else { 0 },
        set_tid_size: u64::from(tid.is_some()),
        cgroup: 0,
    };
    // SAFETY: the arguments are valid; no stack is given, so the child goes on with a copy of this one.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match check(ret)? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as i32)),
    }
}

/// The head and length of a thread's list of robust futexes.
pub fn robust_list(tid: i32) -> Result<(u64, u64), Errno> {
    let (mut head, mut length) = (0u64, 0u64);
    // SAFETY: both words are writable.
    check(unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut length) })?;
    Ok((head, length))
}

/// Ends the calling process at once, without anything that libc does at exit.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Unregisters the caller's restartable sequences; a forked child must, before its memory is unmapped.
///
/// # Safety
/// The calling thread must not use libc's per-CPU features afterwards.
pub unsafe fn unregister_rseq() {
    // SAFETY: glibc defines both with these types (`sys/rseq.h`).
    unsafe extern "C" {
        static __rseq_offset: isize;
        static __rseq_size: u32;
    }
    const UNREGISTER: i32 = 1;
    const SIGNATURE: u32 = 0x5305_3053;
    // SAFETY: libc's own words; the kernel refuses an area that is not registered.
    unsafe {
        if __rseq_size == 0 {
            return;
        }
        let thread_pointer: usize;
        std::arch::asm!("mov {0}, fs:0", out(reg) thread_pointer, options(nostack, readonly));
        let area = thread_pointer.wrapping_add_signed(__rseq_offset);
        // glibc registers 32 bytes, however few of them it says it uses.
        libc::syscall(libc::SYS_rseq, area, 32, UNREGISTER, SIGNATURE);
    }
}

/// `prctl_mm_map` as `PR_SET_MM_MAP` takes it, as bytes for another process.
pub fn mm_map_bytes(map: &linux_raw_sys::prctl::prctl_mm_map) -> Vec<u8> {
    let from = std::ptr::from_ref(map).cast::<u8>();
    // SAFETY: a C struct without padding between its words; its length is that of the type.
    unsafe { std::slice::from_raw_parts(from, size_of::<linux_raw_sys::prctl::prctl_mm_map>()) }.to_vec()
}

/// Whether two processes have the same memory (`kcmp(2)`, `KCMP_VM`).
pub fn share_memory(one: i32, other: i32) -> Result<bool, Errno> {
    const KCMP_VM: i32 = 1;
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) }).map(|order| order == 0)
}

/// A lease on an open file (`fcntl(2)`, `F_SETLEASE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Granted while nobody has the file open for writing; broken when somebody opens it so.
    Read,
    /// None.
    None,
}

/// Sets the caller's lease.
pub fn set_lease(file: std::os::fd::BorrowedFd<'_>, lease: Lease) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let kind = match lease {
        Lease::Read => libc::F_RDLCK,
        Lease::None => libc::F_UNLCK,
    };
    // SAFETY: numbers only.
    check(libc::c_long::from(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) })).map(drop)
}
