//! From an image to a process: the layout, the threads, and what each of them had.
//!
//! The same code fills a fresh body on a host and the hollow deputy at home; what differs is [`Target`].
//!
//! Order, each step proven necessary: drop everything · place the vDSO · make the objects · map the areas · tell the kernel
//! the bounds · (pages) · place the objects' areas · per thread: clear_tid, rseq, robust list, alternate stack · actions · registers.

use crate::capture::siginfo_bytes;
use crate::clocks::Monotonic;
use crate::errand::{Errand, Halt, Pace};
use crate::error::{Error, Result};
use crate::inject::{Batch, Injector, TASK_END, inside};
use crate::objects::{self, OwnFiles, Stage};
use crate::stand_in::{self, StandIn};
use crate::{registers, restart};
use image::{Advice, Area, Backing, FileId, Kind, Process, Resume, Thread};
use kernel::memory;
use kernel::process::mm_map_bytes;
use kernel::ptrace;
use linux_raw_sys::prctl::prctl_mm_map;
use std::collections::HashMap;
use std::time::Duration;

const ARCH_MAP_VDSO_64: u64 = 0x2003;
const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
const LOWEST: u64 = 0x1000;
const CALLS_PER_AREA: usize = 10;
const SYSCALL_BYTES: u64 = 2;
const TRAP_BYTES: u64 = 1;

/// What an image is rebuilt in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A fresh body on a host: it gets the executable's name too.
    Body,
    /// The hollow deputy at home: it has kept its executable and its settings.
    Deputy,
}

/// Descriptors inside the process that is rebuilt.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// Of files, by their content.
    pub files: HashMap<FileId, i32>,
    /// Of the files that objects stand for.
    pub own: OwnFiles,
}

/// Drops everything but the injector's area and maps the image's areas. The objects wait at the stages that are returned for
/// their pages, and then for [`objects::settle`]; those whose files are here have none.
///
/// On failure the target is of no use any more.
pub fn layout(
    injector: &Injector,
    image: &Process,
    Descriptors { files, own }: &Descriptors,
    target: Target,
) -> Result<Vec<Option<Stage>>> {
    if target == Target::Body {
        crate::frames::check(image)?;
    }
    let pid = injector.pid();
    let (base, end) = (injector.base(), injector.base() + crate::inject::AREA_BYTES);
    let mut batch = injector.batch();
    let mut expect: Vec<Expected> = Vec::new();
    expect.push((batch.call(libc::SYS_munmap, &[LOWEST, base - LOWEST]), 0, "unmapping"));
    expect.push((batch.call(libc::SYS_munmap, &[end, TASK_END - end]), 0, "unmapping"));
    let foreign = StandIn::of(image)?;
    let (vdso, _) = image.vdso;
    if let Some(foreign) = &foreign {
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64;
        for (range, protection) in foreign.parts() {
            let args = [range.start, range.end - range.start, protection, flags, u64::MAX, 0];
            let call = batch.call(libc::SYS_mmap, &args);
            expect.push((call, range.start as i64, "placing the vDSO of its home"));
        }
    } else if vdso != 0 {
        // The call returns the address of the code, which lies behind the data pages.
        expect.push((
            batch.call(libc::SYS_arch_prctl, &[ARCH_MAP_VDSO_64, vdso]),
            i64::MIN,
            "placing the vDSO",
        ));
    }
    let stages = objects::make(injector, (image, own), &mut batch, &mut expect)?;
    for area in &image.areas {
        make_room(injector, &mut batch, &mut expect)?;
        let Some(call) = map(&mut batch, area, files)? else { continue };
        expect.push((call, area.start as i64, "mapping"));
        if mapped_as(area) != area.protection {
            let args = [area.start, area.length(), u64::from(area.protection)];
            expect.push((batch.call(libc::SYS_mprotect, &args), 0, "protecting"));
        }
        advise(&mut batch, area);
    }
    let bounds = mm_map(&mut batch, image, files, target)?;
    expect.push((bounds, 0, "setting the memory bounds"));
    run_and_check(injector, &mut batch, &expect)?;
    if let Some(foreign) = &foreign {
        foreign.fill(pid, &image.vdso_code)?;
        return Ok(stages);
    }
    let mut placed = vec![0; image.vdso_code.len()];
    let code = stand_in::code_of(image);
    if vdso != 0 && (memory::read_exact(pid, code.start, &mut placed).is_err() || placed != image.vdso_code) {
        return Err(stand_in::another());
    }
    Ok(stages)
}

/// Adds the calls that give an area its settings.
pub(crate) fn advise(batch: &mut Batch, area: &Area) {
    for (bit, advice, _) in Advice::TABLE {
        if area.advice.0 & bit != 0 {
            batch.call(libc::SYS_madvise, &[area.start, area.length(), advice as u64]);
        }
    }
}

/// A call of a batch, what it must give, or `i64::MIN` if it just must not fail, and what it does.
pub(crate) type Expected = (u32, i64, &'static str);

/// Runs a batch that has no room for the calls of another area, and begins a new one.
pub(crate) fn make_room(injector: &Injector, batch: &mut Batch, expect: &mut Vec<Expected>) -> Result<()> {
    if !batch.has_room(CALLS_PER_AREA, 0) {
        run_and_check(injector, batch, expect)?;
        *batch = injector.batch();
        expect.clear();
    }
    Ok(())
}

/// Runs a batch, all of whose calls must give what is expected.
pub(crate) fn run_and_check(injector: &Injector, batch: &mut Batch, expect: &[Expected]) -> Result<()> {
    injector.run(injector.pid(), batch)?;
    for &(call, wanted, what) in expect {
        let ret = batch.ret(call);
        let failed = if wanted == i64::MIN { (-4095..0).contains(&ret) } else { ret != wanted };
        if failed {
            return Err(inside(what, injector.pid(), ret));
        }
    }
    Ok(())
}

/// The protection with which an area begins. The kernel charges for what is mapped writable, whatever becomes of it, and
/// keeps areas apart that are charged differently.
fn mapped_as(area: &Area) -> u8 {
    const EXECUTABLE: u8 = libc::PROT_EXEC as u8;
    if area.charged && area.protection & EXECUTABLE == 0 {
        area.protection | libc::PROT_WRITE as u8
    } else {
        area.protection
    }
}

/// Adds the call that maps an area; that of an object comes from its stage.
fn map(batch: &mut Batch, area: &Area, files: &HashMap<FileId, i32>) -> Result<Option<u32>> {
    let (flags, fd, offset) = match &area.backing {
        Backing::Anonymous => (libc::MAP_ANONYMOUS, u64::MAX, 0),
        Backing::Object { .. } => return Ok(None),
        Backing::File { id, offset } => {
            let missing =
                Error::Kernel { what: "finding a mapped file", pid: 0, errno: kernel::Errno::ENOENT };
            (0, *files.get(id).ok_or(missing)? as u64, *offset)
        }
    };
    let sharing = if area.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let grows = if area.kind == Kind::Stack { libc::MAP_GROWSDOWN } else { 0 };
    let unreserved = if area.unreserved { libc::MAP_NORESERVE } else { 0 };
    let flags = flags | sharing | grows | unreserved | libc::MAP_FIXED;
    let args = [area.start, area.length(), u64::from(mapped_as(area)), flags as u64, fd, offset];
    Ok(Some(batch.call(libc::SYS_mmap, &args)))
}

fn mm_map(batch: &mut Batch, image: &Process, files: &HashMap<FileId, i32>, target: Target) -> Result<u32> {
    let mm = &image.mm;
    let auxv = batch.data(&image.auxv);
    let executable = match target {
        // At home the kernel still knows the executable, and naming another is refused while it is mapped.
        Target::Deputy => u32::MAX,
        Target::Body => files.get(&image.executable).map_or(u32::MAX, |&fd| fd as u32),
    };
    let map = prctl_mm_map {
        start_code: mm.start_code,
        end_code: mm.end_code,
        start_data: mm.start_data,
        end_data: mm.end_data,
        start_brk: mm.start_brk,
        brk: mm.brk,
        start_stack: mm.start_stack,
        arg_start: mm.arg_start,
        arg_end: mm.arg_end,
        env_start: mm.env_start,
        env_end: mm.env_end,
        auxv: auxv as *mut u64,
        auxv_size: image.auxv.len() as u32,
        exe_fd: executable,
    };
    let bytes = mm_map_bytes(&map);
    let address = batch.data(&bytes);
    Ok(batch.call(libc::SYS_prctl, &[PR_SET_MM, PR_SET_MM_MAP, address, bytes.len() as u64, 0]))
}

/// Gives a thread what the kernel kept for it. The extended state and registers come last, by [`thread_registers`].
fn thread_state(injector: &Injector, tid: i32, thread: &Thread) -> Result<()> {
    let mut batch = injector.batch();
    batch.call(libc::SYS_set_tid_address, &[thread.clear_tid]);
    let mut expect = Vec::new();
    if let Some(rseq) = thread.rseq {
        let args = [rseq.pointer, u64::from(rseq.size), 0, u64::from(rseq.signature)];
        expect.push((batch.call(libc::SYS_rseq, &args), 0, "registering rseq"));
    }
    if thread.robust.0 != 0 {
        let args = [thread.robust.0, thread.robust.1];
        expect.push((batch.call(libc::SYS_set_robust_list, &args), 0, "setting the robust list"));
    }
    // A thread that runs on its alternate stack is given it as usable; the kernel finds out by itself that it is used.
    let [stack, flags, size] = thread.alternate_stack;
    let bytes: Vec<u8> =
        [stack, flags & !(libc::SS_ONSTACK as u64), size].iter().flat_map(|w| w.to_le_bytes()).collect();
    let stack = batch.data(&bytes);
    expect.push((batch.call(libc::SYS_sigaltstack, &[stack, 0]), 0, "setting the alternate stack"));
    let mut name = thread.name.clone().into_bytes();
    name.resize(16, 0);
    let name = batch.data(&name);
    batch.call(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name, 0, 0, 0]);
    injector.run(tid, &mut batch)?;
    for (call, wanted, what) in expect {
        if batch.ret(call) != wanted {
            return Err(inside(what, tid, batch.ret(call)));
        }
    }
    Ok(())
}

/// Sets the actions of all signals. Runs in the leader and must be the last batch: the trap at its end would reset a
/// blocked SIGTRAP's action.
fn actions(injector: &Injector, image: &Process) -> Result<()> {
    let mut batch = injector.batch();
    let mut calls = Vec::new();
    for (signal, action) in (1u64..).zip(&image.actions) {
        if signal == libc::SIGKILL as u64 || signal == libc::SIGSTOP as u64 {
            continue;
        }
        let bytes: Vec<u8> = action.iter().flat_map(|word| word.to_le_bytes()).collect();
        let action = batch.data(&bytes);
        calls.push(batch.call(libc::SYS_rt_sigaction, &[signal, action, 0, 8]));
    }
    injector.run(injector.pid(), &mut batch)?;
    match calls.iter().find(|&&call| batch.ret(call) != 0) {
        Some(&call) => Err(inside("setting an action", injector.pid(), batch.ret(call))),
        None => Ok(()),
    }
}

/// To whom a pending signal is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directed {
    /// To the process.
    Process,
    /// To the thread.
    Thread,
}

/// Queues pending signals from inside, where the kernel takes any siginfo. All signals are blocked meanwhile. `own` are
/// pid and tid as the thread itself knows them.
pub fn pending(
    injector: &Injector,
    tid: i32,
    own: (i32, i32),
    infos: &[image::Siginfo],
    directed: Directed,
) -> Result<()> {
    let (pid_inside, tid_inside) = own;
    for chunk in infos.chunks(1024) {
        let mut batch = injector.batch();
        for info in chunk {
            let address = batch.data(&siginfo_bytes(info));
            let signal = u64::from(crate::capture::signal_of(info));
            match directed {
                Directed::Thread => {
                    let args = [pid_inside as u64, tid_inside as u64, signal, address];
                    batch.call(libc::SYS_rt_tgsigqueueinfo, &args)
                }
                Directed::Process => {
                    batch.call(libc::SYS_rt_sigqueueinfo, &[pid_inside as u64, signal, address])
                }
            };
        }
        injector.run(tid, &mut batch)?;
        if let Some(failed) = batch.results().find(|&ret| ret != 0) {
            return Err(inside("queueing a pending signal", tid, failed));
        }
    }
    Ok(())
}

/// Everything of all threads except their registers, then the actions, then the pending signals.
///
/// A process with one thread gets its shared signals thread-directed: those are dequeued before any that arrived at the
/// process since, so the order stays right.
pub fn threads(injector: &Injector, tids: &[i32], image: &Process) -> Result<()> {
    for (thread, &tid) in image.threads.iter().zip(tids) {
        thread_state(injector, tid, thread)?;
    }
    actions(injector, image)?;
    for (thread, &tid) in image.threads.iter().zip(tids) {
        pending(injector, tid, (image.pid, thread.tid), &thread.pending, Directed::Thread)?;
    }
    let directed = if image.threads.len() == 1 { Directed::Thread } else { Directed::Process };
    pending(injector, injector.pid(), (image.pid, image.pid), &image.pending, directed)
}

/// The registers with which a thread will go on, computed while the stub is still there.
///
/// A sleep that the kernel can go on with is begun with the time that is left on the process's `clock` and interrupted at
/// once, so that the kernel itself keeps the deadline; the program's registers and memory show no trace of it. On a host
/// that is done only for calls that run there; for the others the warden keeps the time.
pub fn prepare_registers(
    injector: &Injector,
    tid: i32,
    thread: &Thread,
    (clock, target): (Monotonic, Target),
) -> Result<ptrace::Registers> {
    let mut raw = registers::to_raw(&thread.registers);
    if let Resume::Timed { until_ns } = thread.resume
        && is_parked(thread.registers.orig_rax as i64, target)
    {
        park(injector, tid, thread, clock.here(until_ns), &mut raw)?;
    }
    Ok(raw)
}

/// Whether the kernel itself goes on with this wait: it runs there, and can be begun with the time that is left.
pub fn is_parked(nr: i64, target: Target) -> bool {
    match nr {
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep | libc::SYS_futex => true,
        libc::SYS_poll => target == Target::Deputy,
        _ => false,
    }
}

/// The last step of a thread: extended state, registers, mask. It stays stopped.
pub fn thread_registers(tid: i32, thread: &Thread, raw: &ptrace::Registers) -> Result<()> {
    if !thread.extended.is_empty() {
        registers::set_portable_extended(tid, &thread.extended)?;
    }
    ptrace::set_registers(tid, raw).map_err(Error::kernel("setting registers", tid))?;
    ptrace::set_signal_mask(tid, thread.mask).map_err(Error::kernel("setting the signal mask", tid))
}

/// Begins the timed call with what is left of its time, at the stub's own instruction, and interrupts it.
fn park(
    injector: &Injector,
    tid: i32,
    thread: &Thread,
    deadline_ns: u64,
    raw: &mut ptrace::Registers,
) -> Result<()> {
    let nr = thread.registers.orig_rax;
    let left_ns = deadline_ns.saturating_sub(restart::now_ns());
    let mut batch = injector.batch();
    let time: Vec<u8> =
        [left_ns / 1_000_000_000, left_ns % 1_000_000_000].iter().flat_map(|w| w.to_le_bytes()).collect();
    let time = batch.data(&time);
    injector.run(tid, &mut batch)?;
    let entries = injector.entries();
    let mut begun = ptrace::Registers {
        rax: nr,
        orig_rax: u64::MAX,
        rip: entries.syscall,
        rsp: injector.stack_top(),
        ..*raw
    };
    match nr as i64 {
        libc::SYS_nanosleep => begun.rdi = time,
        libc::SYS_clock_nanosleep => begun.rdx = time,
        libc::SYS_futex => begun.r10 = time,
        _ => begun.rdx = left_ns.div_ceil(1_000_000),
    }
    ptrace::set_registers(tid, &begun).map_err(Error::kernel("setting registers", tid))?;
    let now = interrupted(tid, entries.syscall)?;
    let blocked = now.rax as i64 == restart::ERESTART_RESTARTBLOCK;
    // Otherwise it was over before it could be interrupted, and this is its result.
    raw.rax = now.rax;
    raw.orig_rax = if blocked { nr } else { u64::MAX };
    Ok(())
}

/// Lets a thread make the call at `instruction`, behind which a trap lies, and interrupts it there; its registers then.
fn interrupted(tid: i32, instruction: u64) -> Result<ptrace::Registers> {
    let behind_trap = instruction + (SYSCALL_BYTES + TRAP_BYTES);
    let mut errand = Errand::begin(tid, Duration::from_secs(5));
    loop {
        let halt = errand.go_on(Pace::IntoCall)?;
        let now = ptrace::registers(tid).map_err(Error::kernel("reading registers", tid))?;
        // It may stand for something else before it has begun, and with its trap raised and not yet told.
        let is_between = now.rip == instruction || now.rip == behind_trap && halt != Halt::Trap;
        if !is_between && !errand.owes_a_signal() {
            return Ok(now);
        }
    }
}
