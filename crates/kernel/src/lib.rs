//! Thin typed wrappers of kernel interfaces that no library has.
//!
//! Each function is one kernel operation: it decides nothing and keeps no state. Errors are the kernel's own
//! ([`Errno`]). What rustix or nix offer is not wrapped again.

pub mod cpu;
pub mod landlock;
pub mod memory;
pub mod notify;
pub mod pagemap;
pub mod proc_events;
pub mod process;
pub mod ptrace;
pub mod sched;
pub mod signal;
pub mod xstate;

pub use nix::errno::Errno;

/// Turns a raw return value of libc into a result.
fn check(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret == -1 { Err(Errno::last()) } else { Ok(ret) }
}
