//! Hollowing out: the original process becomes the deputy of its remote.
//!
//! Everything that may fail comes first ([`prepare`]), while the process could still go on by itself; what is left
//! ([`become_deputy`]) changes the process's own state and cannot be refused.

use crate::error::{Error, Result};
use crate::inject::{AREA_BYTES, Injector, TASK_END, inside};
use image::{Process, SigAction};
use kernel::ptrace;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::os::fd::OwnedFd;
use stub::Blob;
use stub_abi::{DATA_BYTES, DATA_OFFSET, SLOT_BYTES, result_of};

const PAGE: u64 = 4096;
const SA_SIGINFO: u64 = 4;
const SA_NOCLDSTOP: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESTART: u64 = 0x1000_0000;
const HANDLER_IGNORE: u64 = 1;

/// The slots of a deputy: where they are in it, and the memory behind them.
#[derive(Debug)]
pub struct Slots {
    /// Address of the family in the deputy.
    pub base: u64,
    /// Number of slots.
    pub count: u32,
    /// The shared memory.
    pub memory: OwnedFd,
}

/// Length of a mapping with `count` slots, bytes.
pub fn slots_bytes(count: u32) -> u64 {
    SLOT_BYTES * (1 + u64::from(count))
}

/// Maps `count` slots at `base` (aligned to [`SLOT_BYTES`]) in the stopped process, and opens their memory here. The
/// process keeps no descriptor.
pub fn prepare(injector: &Injector, base: u64, count: u32) -> Result<Slots> {
    let pid = injector.pid();
    let length = slots_bytes(count);
    let mut batch = injector.batch();
    let name = batch.data(b"openmosix\0");
    let fd = batch.call(libc::SYS_memfd_create, &[name, u64::from(libc::MFD_CLOEXEC)]);
    let sized = batch.call(libc::SYS_ftruncate, &[result_of(fd), length]);
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE) as u64;
    let mapped = batch.call(libc::SYS_mmap, &[base, length, protection, flags, result_of(fd), 0]);
    injector.run(pid, &mut batch)?;
    let number = batch.ret(fd);
    if number < 0 {
        return Err(inside("making the slots", pid, number));
    }
    let taken = take_fd(pid, number as i32);
    let mut close = injector.batch();
    close.call(libc::SYS_close, &[number as u64]);
    injector.run(pid, &mut close)?;
    for (call, wanted, what) in [(sized, 0, "sizing the slots"), (mapped, base as i64, "mapping the slots")] {
        if batch.ret(call) != wanted {
            return Err(inside(what, pid, batch.ret(call)));
        }
    }
    Ok(Slots { base, count, memory: taken? })
}

/// A copy of another process's descriptor.
pub fn take_fd(pid: i32, number: i32) -> Result<OwnedFd> {
    let taken = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH).and_then(|pid| {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
    });
    taken.map_err(|errno| Error::Io { what: "taking a descriptor", pid, source: errno.into() })
}

/// Undoes [`prepare`] in a process that goes on by itself after all.
pub fn discard(injector: &Injector, slots: &Slots) -> Result<()> {
    let mut batch = injector.batch();
    batch.call(libc::SYS_munmap, &[slots.base, slots_bytes(slots.count)]);
    injector.run(injector.pid(), &mut batch).map(drop)
}

/// Address of a slot in the deputy.
pub fn slot_address(base: u64, slot: u32) -> u64 {
    base + SLOT_BYTES * (1 + u64::from(slot))
}

/// Address of a slot's data in the deputy.
pub fn data_address(base: u64, slot: u32) -> u64 {
    slot_address(base, slot) + DATA_OFFSET
}

/// Bytes of data in a slot.
pub const SLOT_DATA: u64 = DATA_BYTES;

/// What a signal's action must be at home while the process is away.
///
/// Whatever is not ignored is caught and told to the remote, whose own kernel decides: also what means nothing by default,
/// for where the program blocks it, it stays pending. What the program ignores stays ignored, as the kernel itself looks at
/// that: for children, terminals and `wait`.
pub fn home_action(signal: i32, action: &SigAction, entries: &stub::Entries) -> SigAction {
    let [handler, flags, _, _] = *action;
    let children = if signal == libc::SIGCHLD { flags & (SA_NOCLDSTOP | SA_NOCLDWAIT) } else { 0 };
    if handler == HANDLER_IGNORE {
        return [HANDLER_IGNORE, SA_RESTORER | children, entries.restorer, 0];
    }
    let flags = SA_SIGINFO | SA_RESTORER | SA_RESTART | children;
    [entries.handler, flags, entries.restorer, u64::MAX]
}

/// The action that catches a signal whatever the program thinks of it; the cancel signal has it always.
pub fn catch_all(entries: &stub::Entries) -> SigAction {
    [entries.handler, SA_SIGINFO | SA_RESTORER | SA_RESTART, entries.restorer, u64::MAX]
}

/// Turns the stopped process into its own deputy: thread `n` serves slot `n`. On success every thread is about to enter
/// the stub's loop, with all signals blocked, and still stopped. The slots must be written (family address) already.
pub fn become_deputy(injector: &Injector, tids: &[i32], image: &Process, slots: &Slots) -> Result<()> {
    let pid = injector.pid();
    let entries = injector.entries();
    let mut batch = injector.batch();
    for (signal, action) in (1..).zip(&image.actions) {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let action = if signal == stub_abi::CANCEL_SIGNAL {
            catch_all(&entries)
        } else {
            home_action(signal, action, &entries)
        };
        let bytes: Vec<u8> = action.iter().flat_map(|word| word.to_le_bytes()).collect();
        let action = batch.data(&bytes);
        batch.call(libc::SYS_rt_sigaction, &[signal as u64, action, 0, 8]);
    }
    injector.run(pid, &mut batch)?;
    if let Some(failed) = batch.results().find(|&ret| ret != 0) {
        return Err(inside("catching the signals", pid, failed));
    }
    for ((slot, thread), &tid) in (0u32..).zip(&image.threads).zip(tids) {
        let mut batch = injector.batch();
        if let Some(rseq) = thread.rseq {
            const UNREGISTER: u64 = 1;
            let args = [rseq.pointer, u64::from(rseq.size), UNREGISTER, u64::from(rseq.signature)];
            batch.call(libc::SYS_rseq, &args);
        }
        // The kernel tells by this word that the thread is off its stack.
        let off = slot_address(slots.base, slot) + std::mem::offset_of!(stub_abi::Slot, tid) as u64;
        batch.call(libc::SYS_set_tid_address, &[off]);
        let disabled: Vec<u8> =
            [0, libc::SS_DISABLE as u64, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
        let disabled = batch.data(&disabled);
        batch.call(libc::SYS_sigaltstack, &[disabled, 0]);
        injector.run(tid, &mut batch)?;
    }
    for (slot, &tid) in (0u32..).zip(tids) {
        let address = slot_address(slots.base, slot);
        let registers = ptrace::Registers {
            rip: entries.deputy,
            rdi: address,
            rsp: address + SLOT_BYTES - 64,
            rbp: 0,
            orig_rax: u64::MAX,
            ..ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?
        };
        ptrace::set_registers(tid, &registers).map_err(Error::kernel("setting registers", tid))?;
        ptrace::set_signal_mask(tid, u64::MAX).map_err(Error::kernel("blocking the signals", tid))?;
    }
    Ok(())
}

/// The calls that drop what the deputy does not need, as `(address, length)` to unmap: everything but the blob, the
/// slots, and the pages of the command line, which `ps` reads.
pub fn dispensable(base: u64, slots: &Slots, image: &Process) -> Vec<(u64, u64)> {
    let down = |address: u64| address & !(PAGE - 1);
    let up = |address: u64| address.next_multiple_of(PAGE);
    let mut kept = vec![
        (base, base + Blob::len()),
        (slots.base, slots.base + slots_bytes(slots.count)),
        (down(image.mm.arg_start), up(image.mm.env_end.max(image.mm.arg_end))),
    ];
    kept.sort_unstable();
    let mut gaps = Vec::new();
    let mut from = PAGE;
    for (start, end) in kept {
        if start > from {
            gaps.push((from, start - from));
        }
        from = from.max(end);
    }
    gaps.push((from, TASK_END - from));
    gaps
}

/// Length of the area at first, of which only the blob stays.
pub const INJECTED_BYTES: u64 = AREA_BYTES;
