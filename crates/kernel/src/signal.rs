//! Sending signals with a siginfo.

use crate::ptrace::RawSiginfo;
use crate::{Errno, check};

/// Sends a signal to a process (`thread` none) or to one of its threads, with the siginfo given.
///
/// The kernel refuses a non-negative `si_code` for other processes than one's own (`EPERM`).
pub fn queue(pid: i32, thread: Option<i32>, signal: i32, info: &RawSiginfo) -> Result<(), Errno> {
    let info = info.as_ptr();
    // SAFETY: the info has the kernel's 128 bytes.
    let ret = unsafe {
        match thread {
            Some(tid) => libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, info),
            None => libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, info),
        }
    };
    check(ret).map(drop)
}

/// Sends a plain signal to a process.
pub fn send(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: two numbers.
    check(i64::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// Sends a plain signal to one thread.
pub fn send_thread(pid: i32, tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: three numbers.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}
