//! Forking: the one place where a process of ours becomes two.

use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, Pid};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Forks; the child runs `body` and ends with the status it returns.
///
/// The creator of a lab may have threads (a test harness has). The child is then the copy of one
/// thread among the memory of all, so `body` may allocate (glibc makes that safe across a fork)
/// but must not print, log or touch anything else another thread may have had locked.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: the child leaves only through `exit_now`, and `body` keeps to the rule above.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => exit_now(catch_unwind(AssertUnwindSafe(body)).unwrap_or(101)),
    }
}

/// Ends this process without running what its memory's other owner has registered for its own end.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit touches no memory of ours.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor above the standard three but `kept`.
///
/// A forked copy holds whatever its creator had open: pipes whose other end waits for an end of
/// file, locks, sockets. The copies' owners in memory must never be dropped afterwards.
pub(crate) fn close_all_but(kept: &[RawFd]) {
    let mut first = 3;
    // Without a copy to sort: this also runs where nothing may be allocated.
    loop {
        let next = kept.iter().copied().filter(|fd| *fd >= first).min();
        let last = next.map_or(RawFd::MAX, |fd| fd - 1);
        if last >= first {
            // SAFETY: the caller gave up everything it did not list.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        match next {
            Some(fd) => first = fd + 1,
            None => return,
        }
    }
}

/// Lets only the standard three descriptors through the next exec.
pub(crate) fn close_all_at_exec() {
    // SAFETY: changes nothing but a flag of each descriptor.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Lets every signal have its usual effect again, whatever our creator ignored, handled or held back.
pub(crate) fn reset_signals() {
    /// `struct kernel_sigaction` all of zeros: the default action, no flags, an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    // By number and past the C library, which keeps two of them for itself. Two cannot be set at all.
    for number in 1..=64 {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: the kernel reads one sigaction with a mask of 8 bytes, and a default runs no code.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), old, 8) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Names this process as `ps` shows it (15 bytes at most).
pub(crate) fn name_process(name: &std::ffi::CStr) {
    // SAFETY: the kernel copies at most 16 bytes of a string that ends in 0.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Lets the kernel kill this process when the thread that forked it ends.
pub(crate) fn die_with_parent() {
    // SAFETY: sets one attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Points the standard descriptors to nowhere, so that nobody waits for a pipe we only inherited.
pub(crate) fn silence() {
    let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") else { return };
    let _ = nix::unistd::dup2_stdin(&null);
    let _ = nix::unistd::dup2_stdout(&null);
    let _ = nix::unistd::dup2_stderr(&null);
}
