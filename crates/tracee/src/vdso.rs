//! Threads that were stopped inside the vDSO.
//!
//! Its code reads the kernel's time data and then adds the offset of its time namespace, in two steps. Between them a
//! process must not move: it would add one machine's offset to another machine's time. (The sequence number that the
//! code checks protects the data from their writer, not from being exchanged.) So such a thread is first led out: it runs
//! to its end of the function, which then returns to a trap. Where the return address is not known for sure, it is led one
//! instruction at a time; reading a clock takes some fifty, and each is two switches between processes, a millisecond in all.

use crate::error::{Error, Result};
use crate::unwind;
use kernel::memory;
use kernel::ptrace::{self, RawSiginfo, Registers, Wait};
use procinfo::Mapping;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Steps, at most: reading a clock takes some hundred instructions. The other long functions there (random bytes) keep
/// what they know of the kernel's state where it travels along, and may move at any moment.
const STEPS_MAX: u32 = 4000;
const PATIENCE: Duration = Duration::from_secs(2);
/// What stays open: the trap of a step, and what an instruction itself may raise. Those raised while blocked would reset
/// the program's handler.
const OPEN: [i32; 5] = [libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// The instruction that traps. Any byte of code will do, also one that belongs to another instruction.
const TRAP: u8 = 0xcc;
/// How long a thread may take to the end of a function that never waits; else it is in a system call by now.
const RETURN_PATIENCE: Duration = Duration::from_millis(50);
/// Functions of the vDSO that call each other, at most.
const DEPTH_MAX: u32 = 4;

/// Where the vDSO's code is; empty if there is none.
pub fn code(mappings: &[Mapping]) -> Range<u64> {
    let found = mappings.iter().find(|mapping| mapping.path == "[vdso]");
    found.map_or(0..0, |mapping| mapping.start..mapping.end)
}

/// Leads a stopped thread out of the vDSO, if it is there. It stays stopped and has its own mask.
///
/// A signal that somebody sent may come in between: the thread then stands before its delivery, and the signal is
/// returned; it is the caller's to deliver or to keep.
///
/// Meanwhile a word on its stack is another: if its tracer dies, so must it.
pub fn lead_out(tid: i32, code: &Range<u64>) -> Result<Option<RawSiginfo>> {
    let registers = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
    // In a system call nothing of the kernel's data is in use.
    if !code.contains(&registers.rip) || registers.orig_rax as i64 >= 0 {
        return Ok(None);
    }
    let mask = ptrace::signal_mask(tid).map_err(Error::kernel("reading the signal mask", tid))?;
    let open = OPEN.iter().fold(0u64, |open, signal| open | 1 << (signal - 1));
    set_mask(tid, mask | !open)?;
    let met = return_to_traps(tid, code).and_then(|met| match met {
        Met::Signal(info) => Ok(info),
        Met::Nothing => walk(tid, code),
    });
    set_mask(tid, mask)?;
    met
}

/// What a thread met on its way.
enum Met {
    Nothing,
    /// A signal, which is told if somebody sent it: the thread stands before its delivery.
    Signal(Option<RawSiginfo>),
}

/// Lets the functions of the vDSO in which a thread is return, one after another, as far as it is known where to.
fn return_to_traps(tid: i32, code: &Range<u64>) -> Result<Met> {
    let mut image = vec![0; (code.end - code.start) as usize];
    memory::read_exact(tid, code.start, &mut image).map_err(Error::kernel("reading the vDSO", tid))?;
    let Some(trap) = image.iter().position(|&byte| byte == TRAP) else { return Ok(Met::Nothing) };
    let trap = code.start + trap as u64;
    for _ in 0..DEPTH_MAX {
        let registers = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
        if !code.contains(&registers.rip) {
            break;
        }
        let Some(slot) = unwind::return_slot(&image, code.start, &registers) else { break };
        let mut address = [0; 8];
        if memory::read_exact(tid, slot, &mut address).is_err() {
            break;
        }
        let write = |word: [u8; 8]| {
            memory::write_all(tid, slot, &word).map_err(Error::kernel("writing a return address", tid))
        };
        write(trap.to_le_bytes())?;
        let ran = run_to(tid, trap);
        // Also where it has returned: the word is below its stack then, and was what it is.
        write(address)?;
        match ran? {
            Ran::ToTrap(now) => {
                let registers = Registers { rip: u64::from_le_bytes(address), ..now };
                ptrace::set_registers(tid, &registers).map_err(Error::kernel("setting registers", tid))?;
            }
            Ran::Elsewhere => break,
            Ran::Signal(info) => return Ok(Met::Signal(info)),
        }
    }
    Ok(Met::Nothing)
}

/// Where a thread got to.
enum Ran {
    /// To the trap, with these registers.
    ToTrap(Registers),
    /// It was interrupted on its way.
    Elsewhere,
    /// As in [`Met`].
    Signal(Option<RawSiginfo>),
}

fn run_to(tid: i32, trap: u64) -> Result<Ran> {
    let mut deadline = Instant::now() + RETURN_PATIENCE;
    let mut is_late = false;
    loop {
        if !is_late {
            ptrace::resume(tid, 0).map_err(Error::kernel("resuming", tid))?;
        }
        match crate::stop::wait_until(tid, deadline) {
            Ok(Wait::Exited(_) | Wait::Killed(..)) => return Err(Error::Gone(tid)),
            Ok(Wait::Signal(signal)) => {
                let now = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
                let info = sent(tid)?;
                return Ok(match info {
                    None if signal == libc::SIGTRAP && now.rip == trap + 1 => Ran::ToTrap(now),
                    info => Ran::Signal(info),
                });
            }
            Ok(_) if is_late => {
                let now = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
                if now.rip != trap + 1 {
                    return Ok(Ran::Elsewhere);
                }
                // It got there at the last moment, and the trap is about to be told.
                is_late = false;
            }
            // By what had been about to stop it.
            Ok(_) => {}
            Err(Error::Stuck(_)) if !is_late => {
                ptrace::interrupt(tid).map_err(Error::kernel("interrupting", tid))?;
                (is_late, deadline) = (true, Instant::now() + PATIENCE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The signal that a thread is about to handle, if somebody sent it. A fault comes again when the instruction is run
/// again, wherever that is.
fn sent(tid: i32) -> Result<Option<RawSiginfo>> {
    let info = ptrace::siginfo(tid).map_err(Error::kernel("reading a signal", tid))?;
    Ok((crate::fault::code_of(&info) <= 0).then_some(info))
}

fn set_mask(tid: i32, mask: u64) -> Result<()> {
    ptrace::set_signal_mask(tid, mask).map_err(Error::kernel("setting the signal mask", tid))
}

fn walk(tid: i32, code: &Range<u64>) -> Result<Option<RawSiginfo>> {
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..STEPS_MAX {
        let rip = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?.rip;
        let mut next = [0; 2];
        if !code.contains(&rip) || (memory::read_exact(tid, rip, &mut next).is_ok() && next == SYSCALL) {
            return Ok(None);
        }
        ptrace::step(tid, 0).map_err(Error::kernel("stepping", tid))?;
        match crate::stop::wait_until(tid, deadline)? {
            Wait::Exited(_) | Wait::Killed(..) => return Err(Error::Gone(tid)),
            Wait::Signal(signal) => {
                let info = sent(tid)?;
                if signal != libc::SIGTRAP || info.is_some() {
                    return Ok(info);
                }
            }
            _ => {}
        }
    }
    tracing::debug!(tid, "a thread stays long in the vdso");
    Ok(None)
}
