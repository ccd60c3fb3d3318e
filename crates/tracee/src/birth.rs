//! A stopped guest's thread makes a thread or a process, with the tid that its counterpart at home has been given.
//!
//! The call is run at the guest's own `syscall` instruction, with its filter suspended for this one step. The newborn is
//! caught before its first instruction, and gets what a newborn has: its maker's registers, with 0 as the result.

use crate::errand::{Errand, Halt, MASK, Pace};
use crate::error::{Error, Result};
use crate::inject::inside;
use kernel::memory;
use kernel::ptrace::{self, Registers};
use std::time::{Duration, Instant};

/// The order of the words is that of `struct clone_args`.
const WORDS: usize = 11;
/// Arguments, and the tid they point to.
const SCRATCH_BYTES: u64 = 8 * (WORDS as u64 + 1);
/// So far below the stack pointer nothing lives: the red zone has 128 bytes.
const BELOW: u64 = 1024;
/// Time in which the newborn is there, and in which it stops.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Flags of `clone3(2)`, without an exit signal.
    pub flags: u64,
    /// Stack pointer of the newborn; 0 for the maker's own.
    pub stack: u64,
    /// Where the maker finds the tid.
    pub parent_tid: u64,
    /// Where the newborn finds it.
    pub child_tid: u64,
    /// Thread pointer, with `CLONE_SETTLS`.
    pub tls: u64,
    /// Address behind the guest's `syscall` instruction.
    pub after: u64,
}

/// What was born: everybody is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Born {
    /// Its tid on this host.
    pub tid: i32,
}

/// Where the arguments can lie for a moment.
fn scratch(tid: i32, rsp: u64, stack: u64) -> Option<u64> {
    let below = |pointer: u64| (pointer > 2 * BELOW).then(|| (pointer - BELOW) & !15);
    // Below the newborn's stack pointer, which nobody uses yet; below the own one.
    [below(stack), below(rsp)].into_iter().flatten().find(|&address| {
        let mut bytes = [0; SCRATCH_BYTES as usize];
        memory::read_exact(tid, address, &mut bytes).is_ok()
            && memory::write_all(tid, address, &bytes).is_ok()
    })
}

/// Lets thread `maker`, which is stopped in or behind the call that wants it, bear a thread or process with tid `tid` in
/// the guest's namespace. On success the maker is stopped with the tid as the call's result, and the newborn is seized
/// and stopped. On failure the maker is stopped, with its registers in disorder.
pub fn bear(maker: i32, birth: &Birth, tid: i32) -> Result<Born> {
    let before = ptrace::registers(maker).map_err(Error::kernel("reading registers", maker))?;
    let mask = ptrace::signal_mask(maker).map_err(Error::kernel("reading the signal mask", maker))?;
    let address = scratch(maker, before.rsp, birth.stack).ok_or(Error::Kernel {
        what: "finding room for a call",
        pid: maker,
        errno: kernel::Errno::EFAULT,
    })?;
    let mut saved = [0; SCRATCH_BYTES as usize];
    memory::read_exact(maker, address, &mut saved).map_err(Error::kernel("reading the stack", maker))?;
    let [stack, stack_size] = if birth.stack == 0 { [0, 0] } else { [birth.stack - 16, 16] };
    let words: [u64; WORDS + 1] = [
        birth.flags,
        0,
        birth.child_tid,
        birth.parent_tid,
        0,
        stack,
        stack_size,
        birth.tls,
        address + 8 * WORDS as u64,
        1,
        0,
        tid as u64,
    ];
    let arguments: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory::write_all(maker, address, &arguments).map_err(Error::kernel("writing the stack", maker))?;
    let options = ptrace::OPTION_EXITKILL
        | ptrace::OPTION_SUSPEND_SECCOMP
        | ptrace::OPTION_TRACECLONE
        | ptrace::OPTION_TRACEFORK
        | ptrace::OPTION_TRACEVFORK;
    ptrace::set_options(maker, options).map_err(Error::kernel("suspending the filter", maker))?;
    ptrace::set_signal_mask(maker, MASK).map_err(Error::kernel("blocking the signals", maker))?;
    let call = Registers {
        rip: birth.after - 2,
        rax: libc::SYS_clone3 as u64,
        orig_rax: u64::MAX,
        rdi: address,
        rsi: 8 * WORDS as u64,
        ..before
    };
    ptrace::set_registers(maker, &call).map_err(Error::kernel("setting registers", maker))?;
    let born = step_over(maker, birth.after)?;
    memory::write_all(maker, address, &saved).map_err(Error::kernel("writing the stack", maker))?;
    crate::stop::stop_one(born, Instant::now() + PATIENCE)?;
    if birth.flags & libc::CLONE_VM as u64 == 0 {
        memory::write_all(born, address, &saved).map_err(Error::kernel("writing the stack", born))?;
    }
    let after = Registers { rip: birth.after, rax: tid as u64, orig_rax: u64::MAX, ..before };
    let newborn = Registers {
        rax: 0,
        rsp: if birth.stack == 0 { before.rsp } else { birth.stack },
        fs_base: if birth.flags & libc::CLONE_SETTLS as u64 == 0 { before.fs_base } else { birth.tls },
        ..after
    };
    for (tid, registers) in [(born, newborn), (maker, after)] {
        ptrace::set_registers(tid, &registers).map_err(Error::kernel("setting registers", tid))?;
        ptrace::set_signal_mask(tid, mask).map_err(Error::kernel("setting the signal mask", tid))?;
        // A newborn inherits that its filter is suspended: it must not run like that.
        ptrace::set_options(tid, ptrace::OPTION_EXITKILL)
            .map_err(Error::kernel("resuming the filter", tid))?;
    }
    Ok(Born { tid: born })
}

/// Steps over the call; returns the newborn's tid on this host.
fn step_over(maker: i32, after: u64) -> Result<i32> {
    let mut errand = Errand::begin(maker, PATIENCE);
    let mut born = None;
    loop {
        match errand.go_on(Pace::Step)? {
            Halt::Born(tid) => born = Some(tid),
            Halt::Other => {}
            Halt::Trap => {
                let now = ptrace::registers(maker).map_err(Error::kernel("reading registers", maker))?;
                match born {
                    _ if now.rip != after => {}
                    Some(born) => return Ok(born),
                    None => return Err(inside("cloning", maker, now.rax as i64)),
                }
            }
        }
    }
}
