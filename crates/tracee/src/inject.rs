//! Running batches of system calls inside a stopped process.
//!
//! One `mmap` is run by single-stepping a `syscall` instruction that the process already has; it makes room for the
//! blob, and from then on a call costs a fraction of a microsecond instead of two stops.
//!
//! ```text
//! area:  0          the blob
//!        0x1_0000   stack of the batch, growing down from 0x2_0000
//!        0x2_0000   calls
//!        0x22_0000  data of the calls
//! ```

use crate::capture::Snapshot;
use crate::errand::{Errand, Halt, MASK, Pace};
use crate::error::{Error, Result};
use image::Process;
use kernel::ptrace::{self, Registers};
use kernel::{Errno, memory};
use procinfo::Mapping;
use std::time::{Duration, Instant};
use stub::{Blob, Entries};
use stub_abi::BatchCall;

const STACK_TOP: u64 = 0x2_0000;
const CALLS: u64 = 0x2_0000;
const CALL_BYTES: u64 = size_of::<BatchCall>() as u64;
const HEAP: u64 = 0x22_0000;
const HEAP_BYTES: u64 = 0x1e_0000;
/// Length of the area, bytes.
pub const AREA_BYTES: u64 = HEAP + HEAP_BYTES;
/// Calls in one batch, at most.
pub const CALLS_MAX: usize = ((HEAP - CALLS) / CALL_BYTES) as usize;
const PAGE: u64 = 4096;
/// Time a batch may take before the process counts as stuck: unmapping or mapping many gigabytes takes a while.
const PATIENCE: Duration = Duration::from_secs(30);
/// Above everything a process can map.
pub const TASK_END: u64 = 0x7fff_ffff_f000;

/// Calls to be run inside a process, with their data.
#[derive(Debug)]
pub struct Batch {
    base: u64,
    calls: Vec<BatchCall>,
    heap: Vec<u8>,
}

impl Batch {
    /// Adds a call; returns its index.
    pub fn call(&mut self, nr: i64, args: &[u64]) -> u32 {
        let mut call = BatchCall { nr: nr as u64, ret: i64::MIN, ..BatchCall::default() };
        call.args[..args.len()].copy_from_slice(args);
        self.calls.push(call);
        self.calls.len() as u32 - 1
    }

    /// Adds data; returns its address in the process.
    pub fn data(&mut self, bytes: &[u8]) -> u64 {
        let address = self.base + HEAP + self.heap.len() as u64;
        self.heap.extend_from_slice(bytes);
        self.heap.resize(self.heap.len().next_multiple_of(16), 0);
        address
    }

    /// Adds zeroed room for a result; returns its address in the process.
    pub fn room(&mut self, bytes: usize) -> u64 {
        self.data(&vec![0; bytes])
    }

    /// The result of a call.
    pub fn ret(&self, index: u32) -> i64 {
        self.calls[index as usize].ret
    }

    /// All results.
    pub fn results(&self) -> impl Iterator<Item = i64> + '_ {
        self.calls.iter().map(|call| call.ret)
    }

    /// Number of calls so far.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// No call yet.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether another few calls fit.
    pub fn has_room(&self, calls: usize, bytes: usize) -> bool {
        self.calls.len() + calls <= CALLS_MAX && (self.heap.len() + bytes + 16 * calls) as u64 <= HEAP_BYTES
    }

    /// The data at an address that [`Batch::data`] or [`Batch::room`] gave, after the run.
    pub fn bytes(&self, address: u64, length: usize) -> &[u8] {
        let at = (address - self.base - HEAP) as usize;
        &self.heap[at..at + length]
    }
}

/// The blob inside a stopped process.
#[derive(Debug)]
pub struct Injector {
    pid: i32,
    base: u64,
    entries: Entries,
    registers: Registers,
}

impl Injector {
    /// Maps the blob at `base`, which must be free, using the `syscall` instruction at `instruction`. The leader's
    /// registers and mask are changed; the caller restores them.
    pub fn enter(pid: i32, registers: &Registers, instruction: u64, base: u64) -> Result<Injector> {
        let protection = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
        let flags =
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE)
                as u64;
        let args = [base, AREA_BYTES, protection, flags, u64::MAX, 0];
        let got = step_syscall(pid, registers, instruction, libc::SYS_mmap, args)?;
        if got as u64 != base {
            return Err(inside("mapping the stub", pid, got));
        }
        let blob = Blob::at(base);
        memory::write_all(pid, base, &blob.bytes).map_err(Error::kernel("writing the stub", pid))?;
        Ok(Injector { pid, base, entries: blob.entries, registers: *registers })
    }

    /// Where the area is.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Entry points of the blob.
    pub fn entries(&self) -> Entries {
        self.entries
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Top of the batch's stack.
    pub fn stack_top(&self) -> u64 {
        self.base + STACK_TOP
    }

    /// An empty batch for this process.
    pub fn batch(&self) -> Batch {
        Batch { base: self.base, calls: Vec::new(), heap: Vec::new() }
    }

    /// Runs the batch in thread `tid`, which is stopped, and fetches its results and data.
    ///
    /// New threads that it makes under `PTRACE_O_TRACECLONE` are returned, in order, by their tids here.
    pub fn run(&self, tid: i32, batch: &mut Batch) -> Result<Vec<i32>> {
        let calls = self.base + CALLS;
        let mut bytes = Vec::with_capacity(batch.calls.len() * CALL_BYTES as usize);
        for call in &batch.calls {
            for word in [call.nr].iter().chain(&call.args).chain(&[call.ret as u64]) {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        let write = |address, data: &[u8]| {
            memory::write_all(self.pid, address, data).map_err(Error::kernel("writing a batch", self.pid))
        };
        write(calls, &bytes)?;
        if !batch.heap.is_empty() {
            write(self.base + HEAP, &batch.heap)?;
        }
        let registers = Registers {
            rip: self.entries.batch,
            rdi: calls,
            rsi: batch.calls.len() as u64,
            rsp: self.stack_top(),
            orig_rax: u64::MAX,
            ..self.registers
        };
        ptrace::set_signal_mask(tid, MASK).map_err(Error::kernel("blocking the signals", tid))?;
        ptrace::set_registers(tid, &registers).map_err(Error::kernel("setting registers", tid))?;
        let born = run_to_trap(tid, self.entries.batch)?;
        let read = |address, into: &mut [u8]| {
            memory::read_exact(self.pid, address, into).map_err(Error::kernel("reading a batch", self.pid))
        };
        read(calls, &mut bytes)?;
        for (call, bytes) in batch.calls.iter_mut().zip(bytes.chunks_exact(CALL_BYTES as usize)) {
            let ret = &bytes[bytes.len() - 8..];
            call.ret = i64::from_le_bytes(ret.try_into().unwrap_or_default());
        }
        if !batch.heap.is_empty() {
            read(self.base + HEAP, &mut batch.heap)?;
        }
        Ok(born)
    }

    /// Gives the leader back what it was stopped with, and leaves the blob for later batches: should its tracer die now,
    /// it goes on as if nothing had happened.
    pub fn rest(&self, leader: &Snapshot) -> Result<()> {
        leader.restore()?;
        let tid = leader.tid();
        // It stands in the trap that ended the last batch, which without a tracer it would die of.
        ptrace::interrupt(tid)
            .and_then(|()| ptrace::resume(tid, 0))
            .map_err(Error::kernel("resting", tid))?;
        crate::stop::stop_one(tid, Instant::now() + PATIENCE).map(drop)
    }

    /// Unmaps the area by the `syscall` instruction at `instruction`, which lies elsewhere.
    pub fn leave(self, tid: i32, instruction: u64) -> Result<()> {
        self.unmap(tid, instruction)
    }

    /// As [`Injector::leave`]; the injector is of no use afterwards.
    pub fn unmap(&self, tid: i32, instruction: u64) -> Result<()> {
        let args = [self.base, AREA_BYTES, 0, 0, 0, 0];
        match step_syscall(tid, &self.registers, instruction, libc::SYS_munmap, args)? {
            0 => Ok(()),
            got => Err(inside("unmapping the stub", self.pid, got)),
        }
    }
}

pub(crate) fn inside(what: &'static str, pid: i32, ret: i64) -> Error {
    Error::Inside { what, pid, errno: Errno::from_raw(i32::try_from(-ret).unwrap_or(0)) }
}

/// Runs one call by stepping over the `syscall` instruction at `instruction`; changes the thread's registers and mask.
pub(crate) fn step_syscall(
    tid: i32,
    from: &Registers,
    instruction: u64,
    nr: i64,
    args: [u64; 6],
) -> Result<i64> {
    let [rdi, rsi, rdx, r10, r8, r9] = args;
    let registers = Registers {
        rip: instruction,
        rax: nr as u64,
        orig_rax: u64::MAX,
        rdi,
        rsi,
        rdx,
        r10,
        r8,
        r9,
        ..*from
    };
    ptrace::set_signal_mask(tid, MASK).map_err(Error::kernel("blocking the signals", tid))?;
    ptrace::set_registers(tid, &registers).map_err(Error::kernel("setting registers", tid))?;
    let mut errand = Errand::begin(tid, PATIENCE);
    loop {
        if errand.go_on(Pace::Step)? != Halt::Trap {
            continue;
        }
        let now = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
        if now.rip != instruction {
            return Ok(now.rax as i64);
        }
    }
}

/// Runs from `start` to the trap there is at the end of it.
fn run_to_trap(tid: i32, start: u64) -> Result<Vec<i32>> {
    let mut errand = Errand::begin(tid, PATIENCE);
    let mut born = Vec::new();
    loop {
        match errand.go_on(Pace::Run)? {
            // One that its program had raised, or a step, and that was not told yet, comes first.
            Halt::Trap if stands_at(tid)? == start => {}
            Halt::Trap => return Ok(born),
            Halt::Born(child) => born.push(child),
            Halt::Other => {}
        }
    }
}

fn stands_at(tid: i32) -> Result<u64> {
    ptrace::registers(tid).map(|now| now.rip).map_err(Error::kernel("reading registers", tid))
}

/// Finds a `syscall` instruction: in the vDSO, else in any executable mapping.
pub fn find_instruction(pid: i32, mappings: &[Mapping]) -> Result<u64> {
    let executable =
        mappings.iter().filter(|mapping| mapping.protection & 5 == 5 && mapping.path != "[vsyscall]");
    let (vdso, others): (Vec<_>, Vec<_>) = executable.partition(|mapping| mapping.path == "[vdso]");
    for mapping in vdso.into_iter().chain(others) {
        let mut bytes = vec![0; mapping.length().min(4 << 20) as usize];
        if memory::read_exact(pid, mapping.start, &mut bytes).is_err() {
            continue;
        }
        if let Some(at) = bytes.windows(2).position(|pair| pair == [0x0f, 0x05]) {
            return Ok(mapping.start + at as u64);
        }
    }
    Err(Error::Kernel { what: "finding a syscall instruction", pid, errno: Errno::ENOENT })
}

/// As [`find_instruction`], for a process that stands with this image and has the vDSO that it says: nobody needs to look at
/// its mappings for that.
pub fn find_instruction_in(image: &Process) -> Option<u64> {
    let at = image.vdso_code.windows(2).position(|pair| pair == [0x0f, 0x05])?;
    Some(crate::stand_in::code_of(image).start + at as u64)
}

/// A hole of `length` bytes, aligned to `alignment`, that is free in all the layouts given as `(start, end)`.
pub fn find_hole<'a>(
    length: u64,
    alignment: u64,
    taken: impl Iterator<Item = (u64, u64)> + Clone + 'a,
) -> Option<u64> {
    // Low enough to stay clear of stacks and libraries, which grow down from the top; a gap around keeps the guards.
    let mut candidate = 0x1000_0000_0000_u64.next_multiple_of(alignment);
    while candidate + length < TASK_END {
        let gap = 256 * PAGE;
        let clash =
            taken.clone().filter(|&(start, end)| start < candidate + length + gap && end + gap > candidate);
        match clash.map(|(_, end)| end).max() {
            None => return Some(candidate),
            Some(end) => candidate = (end + 2 * gap).next_multiple_of(alignment),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_clears_every_layout() {
        let taken = [(0x1000_0000_0000, 0x1000_0040_0000), (0x1000_0100_0000, 0x1000_0200_0000)];
        let hole = find_hole(AREA_BYTES, 2 << 20, taken.iter().copied()).unwrap();
        assert_eq!(hole % (2 << 20), 0);
        assert!(taken.iter().all(|&(start, end)| end <= hole || hole + AREA_BYTES <= start));
        assert_eq!(find_hole(1 << 46, 4096, [(0, TASK_END)].into_iter()), None);
    }
}
