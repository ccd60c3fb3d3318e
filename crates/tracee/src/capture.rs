//! From a stopped process to its image.
//!
//! Nothing here changes what the process will see, provided that its threads get back the registers, extended state
//! and mask that [`Snapshot`] holds (by [`Snapshot::restore`], or by being rebuilt).

use crate::clocks::{Monotonic, own_clocks};
use crate::error::{Error, Result};
use crate::fault;
use crate::inject::{Injector, inside};
use crate::layout::Layout;
use crate::registers;
use crate::restart::{self, Stand, Waiting};
use crate::stand_in::StandIn;
use image::{Clocks, MmFields, Process, Rseq, Shown, SigAction, Siginfo, Thread, Used};
use kernel::ptrace::{self, RawSiginfo, Registers};
use kernel::{memory, process};
use model::{Reason, ReasonCode, Reasons};
use std::collections::BTreeMap;

const SIGNALS: usize = 64;
const PR_GET_TID_ADDRESS: u64 = 40;

/// What ptrace shows of a stopped thread, exactly as it was.
#[derive(Clone, Debug)]
pub struct Snapshot {
    tid: i32,
    registers: Registers,
    extended: Vec<u8>,
    mask: u64,
}

impl Snapshot {
    /// Takes it; must come before anything is run in the thread.
    pub fn take(tid: i32) -> Result<Snapshot> {
        Ok(Snapshot {
            tid,
            registers: ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?,
            extended: ptrace::extended_state(tid).map_err(Error::kernel("reading extended state", tid))?,
            mask: ptrace::signal_mask(tid).map_err(Error::kernel("reading the signal mask", tid))?,
        })
    }

    /// Gives the thread back what it had; even an interrupted call then restarts as if nothing had happened.
    pub fn restore(&self) -> Result<()> {
        let tid = self.tid;
        ptrace::set_extended_state(tid, &self.extended)
            .map_err(Error::kernel("setting extended state", tid))?;
        ptrace::set_registers(tid, &self.registers).map_err(Error::kernel("setting registers", tid))?;
        ptrace::set_signal_mask(tid, self.mask).map_err(Error::kernel("setting the signal mask", tid))
    }

    /// The general registers.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// The thread.
    pub fn tid(&self) -> i32 {
        self.tid
    }
}

/// What somebody else must tell about the process.
#[derive(Debug, Default)]
pub struct Known {
    /// Since when the process stands, for the calls that were interrupted by that: nanoseconds of `CLOCK_MONOTONIC`.
    pub stands_since_ns: u64,
    /// Since when threads wait, by tid here.
    pub waiting: BTreeMap<i32, Waiting>,
    /// Tids at home by tid here; empty if they are the same.
    pub home_tids: BTreeMap<i32, i32>,
    /// Whether a signal has stopped the process.
    pub is_stopped: bool,
    /// What stands here for the vDSO of its home, if not this kernel's own.
    pub stand_in: Option<StandIn>,
}

impl Known {
    /// Since when a thread waits. What was seen while the process was stopped tells nothing about one that goes on.
    fn waiting(&self, tid: i32) -> Waiting {
        let unseen = Waiting { is_stopped: self.is_stopped, ..Waiting::default() };
        let seen = self.waiting.get(&tid).copied();
        seen.filter(|seen| self.is_stopped || !seen.is_stopped).unwrap_or(unseen)
    }
}

/// Captures everything but the pages.
pub fn capture(
    injector: &Injector,
    snapshots: &[Snapshot],
    layout: Layout,
    known: &Known,
) -> Result<Process> {
    let pid = injector.pid();
    let facts = ask_process(injector)?;
    let shared = pending(pid, true)?;
    let stand = Stand { since_ns: known.stands_since_ns, clock: Monotonic::of(pid) };
    let mut threads = Vec::with_capacity(snapshots.len());
    for snapshot in snapshots {
        threads.push(thread(injector, snapshot, (&shared, stand), known)?);
    }
    let stat = procinfo::stat(pid).map_err(Error::io("reading stat", pid))?;
    let status = procinfo::status(pid).map_err(Error::io("reading status", pid))?;
    let [
        start_code,
        end_code,
        start_stack,
        start_data,
        end_data,
        start_brk,
        arg_start,
        arg_end,
        env_start,
        env_end,
    ] = stat.memory;
    let leader = threads.first().ok_or(Error::Gone(pid))?.tid;
    Ok(Process {
        pid: leader,
        uid: status.uids[1],
        gid: status.gids[1],
        mm: MmFields {
            start_code,
            end_code,
            start_data,
            end_data,
            start_brk,
            brk: facts.brk,
            start_stack,
            arg_start,
            arg_end,
            env_start,
            env_end,
        },
        auxv: std::fs::read(format!("/proc/{pid}/auxv")).map_err(Error::io("reading auxv", pid))?,
        executable: layout.executable,
        areas: layout.areas,
        objects: layout.objects,
        vdso: layout.vdso,
        vdso_code: layout.vdso_code,
        fixed_code: false,
        threads,
        actions: facts.actions,
        pending: shared,
        personality: facts.personality,
        clocks: facts.clocks,
        shown: facts.shown,
        used: Used { clock_ns: facts.cpu_ns, ..Used::default() },
        limits: facts.limits,
    })
}

struct Facts {
    brk: u64,
    actions: Vec<SigAction>,
    personality: u32,
    clocks: Clocks,
    shown: Shown,
    cpu_ns: u64,
    limits: [(u64, u64); 3],
}

fn ask_process(injector: &Injector) -> Result<Facts> {
    let pid = injector.pid();
    let mut batch = injector.batch();
    let brk = batch.call(libc::SYS_brk, &[0]);
    let personality = batch.call(libc::SYS_personality, &[0xffff_ffff]);
    let clocks = [
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_MONOTONIC_COARSE,
        libc::CLOCK_BOOTTIME,
        libc::CLOCK_PROCESS_CPUTIME_ID,
    ];
    let [monotonic, coarse, boottime, cpu_time] = clocks.map(|clock| {
        let room = batch.room(16);
        batch.call(libc::SYS_clock_gettime, &[clock as u64, room]);
        room
    });
    let limits = [libc::RLIMIT_AS, libc::RLIMIT_DATA, libc::RLIMIT_STACK].map(|resource| {
        let room = batch.room(16);
        batch.call(libc::SYS_prlimit64, &[0, u64::from(resource), 0, room]);
        room
    });
    let actions: Vec<u64> = (1..=SIGNALS as u64)
        .map(|signal| {
            let room = batch.room(32);
            batch.call(libc::SYS_rt_sigaction, &[signal, 0, room, 8]);
            room
        })
        .collect();
    injector.run(pid, &mut batch)?;
    // Read after the process's own clocks were: what it is found to be ahead is never too much.
    let own = own_clocks();
    if let Some(failed) = batch.results().find(|ret| (-4095..0).contains(ret)) {
        return Err(inside("asking for its state", pid, failed));
    }
    let words = |address: u64| [word(batch.bytes(address, 16), 0), word(batch.bytes(address, 16), 8)];
    let [monotonic_ns, coarse_ns, boottime_ns, cpu_ns] =
        [monotonic, coarse, boottime, cpu_time].map(|room| nanoseconds(batch.bytes(room, 16)));
    let shown = Shown { monotonic_ns, coarse_ns, boottime_ns };
    Ok(Facts {
        brk: batch.ret(brk) as u64,
        personality: batch.ret(personality) as u32,
        clocks: Clocks {
            monotonic_ns: shown.monotonic_ns - own.monotonic_ns,
            boottime_ns: shown.boottime_ns - own.boottime_ns,
        },
        shown,
        cpu_ns: cpu_ns as u64,
        limits: limits.map(|address| words(address).into()),
        actions: actions
            .iter()
            .map(|&at| [0, 8, 16, 24].map(|offset| word(batch.bytes(at, 32), offset)))
            .collect(),
    })
}

fn thread(
    injector: &Injector,
    snapshot: &Snapshot,
    (shared, stand): (&[Siginfo], Stand),
    known: &Known,
) -> Result<Thread> {
    let (pid, tid) = (injector.pid(), snapshot.tid);
    let mut private = pending(tid, false)?;
    private.retain(|info| !fault::comes_again(info));
    let deliverable =
        private.iter().chain(shared).any(|info| snapshot.mask >> (signal_of(info) - 1) & 1 == 0);
    let mut batch = injector.batch();
    let (tid_address, stack, cpu_time) = (batch.room(8), batch.room(24), batch.room(16));
    let asked = [
        batch.call(libc::SYS_prctl, &[PR_GET_TID_ADDRESS, tid_address, 0, 0, 0]),
        batch.call(libc::SYS_sigaltstack, &[0, stack]),
        batch.call(libc::SYS_clock_gettime, &[libc::CLOCK_THREAD_CPUTIME_ID as u64, cpu_time]),
    ];
    injector.run(tid, &mut batch)?;
    if let Some(&failed) = asked.iter().find(|&&call| batch.ret(call) != 0) {
        return Err(inside("asking for a thread's state", tid, batch.ret(failed)));
    }
    let rseq = ptrace::rseq(tid).map_err(Error::kernel("reading the rseq registration", tid))?;
    let robust = process::robust_list(tid).map_err(Error::kernel("reading the robust list", tid))?;
    let mut image = registers::from_raw(&snapshot.registers);
    // To a call that any signal ends, a stop is one.
    let signals = deliverable || known.is_stopped;
    let resume = restart::settle(pid, &mut image, (stand, known.waiting(tid)), signals).ok_or_else(|| {
        let detail = format!("thread {tid}: the kernel does not tell how much is left of it");
        Error::Refused(Reasons(vec![Reason::new(ReasonCode::Stopped, detail)]))
    })?;
    if let Some(stand_in) = &known.stand_in {
        stand_in.settle(pid, &mut image.rip, &mut image.rsp)?;
    }
    leave_critical_section(pid, rseq.pointer, &mut image.rip);
    let alternate = batch.bytes(stack, 24);
    Ok(Thread {
        tid: known.home_tids.get(&tid).copied().unwrap_or(tid),
        registers: image,
        extended: registers::extended_to_portable(tid, &snapshot.extended)?,
        mask: snapshot.mask,
        rseq: (rseq.pointer != 0).then_some(Rseq {
            pointer: rseq.pointer,
            size: rseq.size,
            signature: rseq.signature,
        }),
        robust,
        clear_tid: word(batch.bytes(tid_address, 8), 0),
        alternate_stack: [word(alternate, 0), word(alternate, 8), word(alternate, 16)],
        resume,
        pending: private,
        name: procinfo::name(pid, tid).map_err(Error::io("reading a thread's name", tid))?,
        used: Used { clock_ns: nanoseconds(batch.bytes(cpu_time, 16)) as u64, ..Used::default() },
    })
}

/// A thread inside a restartable sequence continues at its abort handler: on another CPU, the sequence has failed.
fn leave_critical_section(pid: i32, rseq: u64, rip: &mut u64) {
    const CS_FIELD: u64 = 8;
    let read = |address: u64| {
        let mut bytes = [0; 8];
        memory::read_exact(pid, address, &mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
    };
    if rseq == 0 {
        return;
    }
    let Some(section) = read(rseq + CS_FIELD).filter(|&address| address != 0) else { return };
    let (Some(start), Some(length), Some(abort)) =
        (read(section + 8), read(section + 16), read(section + 24))
    else {
        return;
    };
    if rip.wrapping_sub(start) < length {
        *rip = abort;
    }
}

fn pending(tid: i32, shared: bool) -> Result<Vec<Siginfo>> {
    let raw = ptrace::pending(tid, shared).map_err(Error::kernel("reading pending signals", tid))?;
    Ok(raw.iter().map(siginfo_words).collect())
}

/// A siginfo in words.
pub fn siginfo_words(raw: &RawSiginfo) -> Siginfo {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(raw.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

/// A siginfo in bytes.
pub fn siginfo_bytes(words: &Siginfo) -> RawSiginfo {
    let mut raw = [0; 128];
    for (bytes, word) in raw.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    raw
}

/// The signal's number in a siginfo, 1 to 64.
pub fn signal_of(info: &Siginfo) -> u32 {
    (info[0] as u32).clamp(1, 64)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A `timespec`.
fn nanoseconds(timespec: &[u8]) -> i64 {
    word(timespec, 0) as i64 * 1_000_000_000 + word(timespec, 8) as i64
}
