//! `ptrace(2)`: seizing, stopping and changing threads.
//!
//! A tracee belongs to the OS thread that seized it: every call here must come from that one thread.

use crate::{Errno, check};
use libc::c_void;
use std::mem::{MaybeUninit, size_of};

pub use libc::user_regs_struct as Registers;

/// A siginfo as the kernel copies it: 128 bytes.
pub type RawSiginfo = [u8; 128];

const NT_X86_XSTATE: usize = 0x202;
const XSTATE_BYTES_MAX: usize = 16 << 10;
const PTRACE_PEEKSIGINFO_SHARED: u32 = 1;

/// Thread options of a seized thread.
pub const OPTION_EXITKILL: usize = libc::PTRACE_O_EXITKILL as usize;
/// Clones are seized too.
pub const OPTION_TRACECLONE: usize = libc::PTRACE_O_TRACECLONE as usize;
/// Processes that are forked are seized as well.
pub const OPTION_TRACEFORK: usize = libc::PTRACE_O_TRACEFORK as usize;
/// As above, for `CLONE_VFORK`.
pub const OPTION_TRACEVFORK: usize = libc::PTRACE_O_TRACEVFORK as usize;
/// Stops at the beginning and end of a call are told as [`CALL`].
pub const OPTION_TRACESYSGOOD: usize = libc::PTRACE_O_TRACESYSGOOD as usize;
/// Seccomp filters are suspended.
pub const OPTION_SUSPEND_SECCOMP: usize = libc::PTRACE_O_SUSPEND_SECCOMP as usize;

/// The number in [`Wait::Signal`] that stands for the beginning or end of a call.
pub const CALL: i32 = libc::SIGTRAP | 0x80;

/// Where a thread's registration for restartable sequences is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RseqConfiguration {
    /// Address of its area, 0 if there is none.
    pub pointer: u64,
    /// Length of the area, bytes.
    pub size: u32,
    /// Signature before abort handlers.
    pub signature: u32,
    /// Flags.
    pub flags: u32,
}

/// What `waitpid` told of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is gone with this exit code.
    Exited(i32),
    /// It was killed by this signal; the flag tells of a core dump.
    Killed(i32, bool),
    /// It is about to handle this signal.
    Signal(i32),
    /// It stopped for `PTRACE_INTERRUPT`, or as a new thread.
    Event,
    /// It takes part in a group stop by this signal.
    GroupStop(i32),
    /// Another event (`PTRACE_EVENT_*`).
    Other(i32),
}

fn call(request: libc::c_uint, tid: i32, address: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: the callers below pass data that is either a plain number or memory valid for the request.
    check(unsafe { libc::ptrace(request, tid, address as *mut c_void, data as *mut c_void) }).map(drop)
}

/// Attaches without stopping.
pub fn seize(tid: i32, options: usize) -> Result<(), Errno> {
    call(libc::PTRACE_SEIZE, tid, 0, options)
}

/// Asks a seized thread to stop; [`wait`] tells when it did.
pub fn interrupt(tid: i32) -> Result<(), Errno> {
    call(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Lets a stopped thread go on, with `signal` delivered if it is not 0.
pub fn resume(tid: i32, signal: i32) -> Result<(), Errno> {
    call(libc::PTRACE_CONT, tid, 0, signal as usize)
}

/// Lets a stopped thread go on until its next call begins, or the call that it is in ends.
pub fn resume_to_call(tid: i32) -> Result<(), Errno> {
    call(libc::PTRACE_SYSCALL, tid, 0, 0)
}

/// Lets a thread in a group stop stay stopped, and tell of its end.
pub fn listen(tid: i32) -> Result<(), Errno> {
    call(libc::PTRACE_LISTEN, tid, 0, 0)
}

/// Runs one instruction, with `signal` delivered before if it is not 0.
pub fn step(tid: i32, signal: i32) -> Result<(), Errno> {
    call(libc::PTRACE_SINGLESTEP, tid, 0, signal as usize)
}

/// Lets go of a stopped thread.
pub fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    call(libc::PTRACE_DETACH, tid, 0, signal as usize)
}

/// Replaces the options given to [`seize`].
pub fn set_options(tid: i32, options: usize) -> Result<(), Errno> {
    call(libc::PTRACE_SETOPTIONS, tid, 0, options)
}

/// General registers of a stopped thread.
pub fn registers(tid: i32) -> Result<Registers, Errno> {
    let mut registers = MaybeUninit::<Registers>::zeroed();
    call(libc::PTRACE_GETREGS, tid, 0, registers.as_mut_ptr() as usize)?;
    // SAFETY: all-zero is a valid value, and the kernel filled it.
    Ok(unsafe { registers.assume_init() })
}

/// Sets the general registers of a stopped thread.
pub fn set_registers(tid: i32, registers: &Registers) -> Result<(), Errno> {
    call(libc::PTRACE_SETREGS, tid, 0, std::ptr::from_ref(registers) as usize)
}

/// The whole extended state (x87 to AVX-512, PKRU) in the uncompacted format.
pub fn extended_state(tid: i32) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; XSTATE_BYTES_MAX];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    call(libc::PTRACE_GETREGSET, tid, NT_X86_XSTATE, &raw mut vector as usize)?;
    bytes.truncate(vector.iov_len);
    Ok(bytes)
}

/// Sets the extended state.
pub fn set_extended_state(tid: i32, state: &[u8]) -> Result<(), Errno> {
    let mut vector = libc::iovec { iov_base: state.as_ptr().cast_mut().cast(), iov_len: state.len() };
    call(libc::PTRACE_SETREGSET, tid, NT_X86_XSTATE, &raw mut vector as usize)
}

/// The blocked signals; during `sigsuspend` and its like, the mask from before.
pub fn signal_mask(tid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    call(libc::PTRACE_GETSIGMASK, tid, size_of::<u64>(), &raw mut mask as usize)?;
    Ok(mask)
}

/// Sets the blocked signals.
pub fn set_signal_mask(tid: i32, mask: u64) -> Result<(), Errno> {
    call(libc::PTRACE_SETSIGMASK, tid, size_of::<u64>(), &raw const mask as usize)
}

/// The siginfo of the signal that a thread is about to handle.
pub fn siginfo(tid: i32) -> Result<RawSiginfo, Errno> {
    let mut info = [0; 128];
    call(libc::PTRACE_GETSIGINFO, tid, 0, info.as_mut_ptr() as usize)?;
    Ok(info)
}

/// Replaces the siginfo of the signal that a thread is about to handle.
pub fn set_siginfo(tid: i32, info: &RawSiginfo) -> Result<(), Errno> {
    call(libc::PTRACE_SETSIGINFO, tid, 0, info.as_ptr() as usize)
}

/// The pending signals of a thread, or those of its whole process.
pub fn pending(tid: i32, shared: bool) -> Result<Vec<RawSiginfo>, Errno> {
    let mut found = Vec::new();
    loop {
        let mut batch = [[0u8; 128]; 32];
        let arguments = libc::ptrace_peeksiginfo_args {
            off: found.len() as u64,
            flags: if shared { PTRACE_PEEKSIGINFO_SHARED } else { 0 },
            nr: batch.len() as i32,
        };
        let (from, into) = ((&raw const arguments).cast_mut(), batch.as_mut_ptr());
        // SAFETY: the arguments and room for `nr` entries are valid for the call.
        let count = check(unsafe { libc::ptrace(libc::PTRACE_PEEKSIGINFO, tid, from, into) })? as usize;
        found.extend_from_slice(&batch[..count]);
        if count < batch.len() {
            return Ok(found);
        }
    }
}

/// The registration for restartable sequences.
pub fn rseq(tid: i32) -> Result<RseqConfiguration, Errno> {
    // struct ptrace_rseq_configuration: u64 pointer, u32 size, u32 signature, u32 flags, u32 pad.
    let mut words = [0u64; 3];
    call(libc::PTRACE_GET_RSEQ_CONFIGURATION, tid, size_of::<[u64; 3]>(), words.as_mut_ptr() as usize)?;
    Ok(RseqConfiguration {
        pointer: words[0],
        size: words[1] as u32,
        signature: (words[1] >> 32) as u32,
        flags: words[2] as u32,
    })
}

/// The message of a [`Wait::Other`] event, such as the tid of a new thread.
pub fn event_message(tid: i32) -> Result<u64, Errno> {
    let mut message = 0u64;
    call(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message as usize)?;
    Ok(message)
}

/// Waits until something happens to thread `tid` (-1: to any), at once `None` if nothing did and `block` is false.
pub fn wait(tid: i32, block: bool) -> Result<Option<(i32, Wait)>, Errno> {
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    loop {
        // SAFETY: status is writable.
        let found = unsafe { libc::waitpid(tid, &raw mut status, flags) };
        match found {
            -1 if Errno::last() == Errno::EINTR => {}
            -1 => return Err(Errno::last()),
            0 => return Ok(None),
            _ => return Ok(Some((found, decode(status)))),
        }
    }
}

fn decode(status: i32) -> Wait {
    if libc::WIFEXITED(status) {
        return Wait::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Wait::Killed(libc::WTERMSIG(status), libc::WCOREDUMP(status));
    }
    let (event, signal) = (status >> 16, libc::WSTOPSIG(status));
    match event {
        0 => Wait::Signal(signal),
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Wait::Event,
        libc::PTRACE_EVENT_STOP => Wait::GroupStop(signal),
        other => Wait::Other(other),
    }
}
