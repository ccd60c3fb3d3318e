//! The blob that runs inside other processes: it executes batches of system calls, and it is the deputy's loop.
//!
//! It is dumb on purpose: it knows neither what a call means nor where it came from. It has no libc, no thread-local
//! storage, no heap; it lives in one mapping and on the stack of its slot. It starts with all signals blocked, and
//! they stay blocked except inside the *window* around one system call.
//!
//! The window is what makes restarts exact. The handler has `SA_RESTART`, so when a signal interrupts the call, the
//! kernel itself has put the saved instruction pointer back on the `syscall` instruction exactly when the call was
//! restartable. Found there, it is moved to `window_cancel`, which answers [`stub_abi::INTERRUPTED`]; found behind it,
//! the call had its result (also `EINTR`), and that is the answer. Found before it, or there before the call was begun, it is
//! moved to `window_unbegun`, which answers [`stub_abi::NOT_EXECUTED`]: such a call must not be told that it was interrupted,
//! for many never are. Whether it was begun, `rcx` tells: the instruction itself has put its return address there.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};
use stub_abi::{
    BatchCall, CALL_CLONE, CALL_EXIT_THREAD, CANCEL_SIGNAL, Family, NOT_EXECUTED, ORPHAN_LOOK_NS, ORPHAN_LOOKS,
    OWNER_DIED, RESULT_MARK, RING, SLOT_BYTES, Slot, WAITERS,
};

global_asm!(
    r#"
.intel_syntax noprefix
.section .text.entry,"ax",@progbits
.globl stub_batch
stub_batch:
    call batch
    int3
.globl stub_deputy
stub_deputy:
    call deputy
    int3
.globl stub_syscall
stub_syscall:
    syscall
    int3
.globl stub_restorer
stub_restorer:
    mov eax, 15
    syscall
.globl stub_handler
stub_handler:
    jmp handler

/* i64 window(const u64 call[7], const u64 *mask): opens the mask, runs the call, blocks everything again. */
.globl window
.hidden window
window:
    push rdi
.globl window_start
.hidden window_start
window_start:
    mov eax, 14
    mov edi, 2
    xor edx, edx
    mov r10d, 8
    syscall
    mov r11, [rsp]
    mov rax, [r11]
    mov rdi, [r11+8]
    mov rsi, [r11+16]
    mov rdx, [r11+24]
    mov r10, [r11+32]
    mov r8,  [r11+40]
    mov r9,  [r11+48]
.globl window_call
.hidden window_call
window_call:
    syscall
.globl window_end
.hidden window_end
window_end:
    add rsp, 8
    push rax
    mov eax, 14
    mov edi, 2
    lea rsi, [rip+full_mask]
    xor edx, edx
    mov r10d, 8
    syscall
    pop rax
    ret
.globl window_cancel
.hidden window_cancel
window_cancel:
    mov rax, -512
    jmp window_end
.globl window_unbegun
.hidden window_unbegun
window_unbegun:
    mov rax, -513
    jmp window_end
.balign 8
full_mask: .quad -1

/* i64 give_birth(u64 flags, void *stack, u32 *clear_tid, Slot *slot): the newborn serves that slot, on that stack. */
.globl give_birth
.hidden give_birth
give_birth:
    mov r9, rcx
    mov r10, rdx
    xor edx, edx
    xor r8d, r8d
    mov eax, 56
    syscall
    test rax, rax
    jz 3f
    ret
3:  xor ebp, ebp
    mov rdi, r9
    call deputy
    int3

.section .text.mem,"ax",@progbits
.globl memcpy
.hidden memcpy
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
.globl memset
.hidden memset
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
.globl memcmp
.hidden memcmp
memcmp:
    xor eax, eax
    mov rcx, rdx
    test rcx, rcx
    repe cmpsb
    je 2f
    movzx eax, byte ptr [rdi-1]
    movzx ecx, byte ptr [rsi-1]
    sub eax, ecx
2:  ret
.globl bcmp
.hidden bcmp
bcmp:
    jmp memcmp
"#
);

const SYS_KILL: u64 = 62;
const SYS_EXIT: u64 = 60;
const SYS_GETPID: u64 = 39;
const SYS_GETTID: u64 = 186;
const SYS_FUTEX: u64 = 202;
const SYS_SET_ROBUST_LIST: u64 = 273;
const SYS_FUTEX_WAITV: u64 = 449;
const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
const FUTEX2_SIZE_U32: u64 = 2;
const SIGKILL: u64 = 9;
/// Saved instruction pointer and signal mask in the `ucontext` of x86-64, in words.
const UC_RCX: usize = 5 + 14;
const UC_RIP: usize = 5 + 16;
const UC_SIGMASK: usize = 37;

// SAFETY: both are defined in assembly in this file, with these signatures.
unsafe extern "C" {
    fn window(call: *const u64, mask: *const u64) -> i64;
    fn give_birth(flags: u64, stack: u64, clear_tid: *const AtomicU32, slot: *const Slot) -> i64;
}

fn syscall(nr: u64, args: [u64; 6]) -> i64 {
    let ret: i64;
    // SAFETY: what a call may do to this process is decided by whoever posted it; the registers are those of the ABI.
    unsafe {
        asm!("syscall", inlateout("rax") nr as i64 => ret, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
             in("r10") args[3], in("r8") args[4], in("r9") args[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

/// Addresses in the window.
struct Marks {
    start: u64,
    call: u64,
    end: u64,
    cancel: u64,
    unbegun: u64,
}

impl Marks {
    /// Without a table that would need relocating.
    fn new() -> Marks {
        let (start, call, end, cancel, unbegun): (u64, u64, u64, u64, u64);
        // SAFETY: `lea` only computes addresses.
        unsafe {
            asm!("lea {0}, [rip+window_start]", "lea {1}, [rip+window_call]", "lea {2}, [rip+window_end]",
                 "lea {3}, [rip+window_cancel]", "lea {4}, [rip+window_unbegun]",
                 out(reg) start, out(reg) call, out(reg) end, out(reg) cancel, out(reg) unbegun,
                 options(nomem, nostack));
        }
        Marks { start, call, end, cancel, unbegun }
    }
}

/// Runs `count` calls one after another; an argument may stand for an earlier result.
///
/// # Safety
/// `calls` points to `count` calls that nobody else uses meanwhile.
// SAFETY: nothing else here has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn batch(calls: *mut BatchCall, count: u64) {
    for index in 0..count as usize {
        // SAFETY: index < count.
        let call = unsafe { &mut *calls.add(index) };
        let mut args = call.args;
        for arg in &mut args {
            if *arg >> 32 << 32 == RESULT_MARK {
                // SAFETY: whoever wrote the batch refers to an earlier call of it.
                *arg = unsafe { (*calls.add((*arg & 0xffff_ffff) as usize)).ret } as u64;
            }
        }
        call.ret = syscall(call.nr, args);
    }
}

fn ring_bell(slot: &Slot) {
    // SAFETY: the keeper wrote the address of the family, which lives as long as the slot.
    let family = unsafe { &*(slot.family.load(Relaxed) as *const Family) };
    family.bell.fetch_add(1, SeqCst);
    if family.keeper_asleep.load(SeqCst) != 0 {
        syscall(SYS_FUTEX, [address(&family.bell), FUTEX_WAKE, 1, 0, 0, 0]);
    }
}

fn address(word: &AtomicU32) -> u64 {
    word as *const AtomicU32 as u64
}

/// Catches every signal: records it, and leaves the window if it was open. `uc_sigmask` is set to all, so that at most
/// one signal is caught per window and the rest stays, counted and ordered, in the kernel's queue.
///
/// # Safety
/// Called by the kernel on the stack of a slot, with valid `info` and `context`.
// SAFETY: nothing else here has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn handler(signal: i32, info: *const u64, context: *mut u64) {
    let sp: u64;
    // SAFETY: reads the stack pointer.
    unsafe { asm!("mov {0}, rsp", out(reg) sp, options(nomem, nostack)) };
    // SAFETY: the stub runs on its slot's stack only, and slots are aligned to their size.
    let slot = unsafe { &*((sp & !(SLOT_BYTES - 1)) as *const Slot) };
    if signal != CANCEL_SIGNAL {
        let head = slot.signal_head.load(Relaxed);
        // A mask instead of a remainder: no bounds check, no panic path in a signal handler.
        let entry = &slot.ring[(head & (RING - 1)) as usize];
        for (index, word) in entry.iter().enumerate() {
            // SAFETY: a siginfo has 128 bytes.
            word.store(unsafe { info.add(index).read() }, Relaxed);
        }
        slot.signal_head.store(head.wrapping_add(1), SeqCst);
        ring_bell(slot);
    }
    let marks = Marks::new();
    // SAFETY: the kernel's ucontext is writable and has these words.
    unsafe {
        let rip = context.add(UC_RIP);
        let at = rip.read();
        if (marks.start..marks.end).contains(&at) {
            let begun = at == marks.call && context.add(UC_RCX).read() == marks.end;
            rip.write(if begun { marks.cancel } else { marks.unbegun });
        }
        context.add(UC_SIGMASK).write(u64::MAX);
    }
}

fn ring_full(slot: &Slot) -> bool {
    slot.signal_head.load(SeqCst).wrapping_sub(slot.signal_tail.load(SeqCst)) >= RING - 1
}

/// The keeper died and no other took its place in time: the process ends, and visibly so.
fn end_orphan() -> ! {
    let pid = syscall(SYS_GETPID, [0; 6]) as u64;
    loop {
        syscall(SYS_KILL, [pid, SIGKILL, 0, 0, 0, 0]);
    }
}

fn wait_for_request(slot: &Slot, taken: u32) {
    // SAFETY: as in ring_bell.
    let family = unsafe { &*(slot.family.load(Relaxed) as *const Family) };
    while slot.request_seq.load(SeqCst) == taken {
        let kick = slot.kick.load(SeqCst);
        slot.asleep.swap(1, SeqCst);
        if slot.request_seq.load(SeqCst) != taken {
            break;
        }
        let alive = family.alive.load(SeqCst);
        if alive & OWNER_DIED != 0 {
            // The kernel woke one of us: wake the others, then look for a new keeper for a while.
            syscall(SYS_FUTEX, [address(&family.alive), FUTEX_WAKE, i32::MAX as u64, 0, 0, 0]);
            let looks = slot.orphan_looks.load(Relaxed) + 1;
            slot.orphan_looks.store(looks, Relaxed);
            if looks > ORPHAN_LOOKS {
                end_orphan();
            }
            let pause = [0, ORPHAN_LOOK_NS];
            syscall(SYS_FUTEX, [address(&slot.kick), FUTEX_WAIT, u64::from(kick), pause.as_ptr() as u64, 0, 0]);
            continue;
        }
        slot.orphan_looks.store(0, Relaxed);
        let entries =
            [u64::from(kick), address(&slot.kick), FUTEX2_SIZE_U32, u64::from(alive), address(&family.alive), FUTEX2_SIZE_U32];
        for (word, value) in slot.waiters.iter().zip(entries) {
            word.store(value, Relaxed);
        }
        let call = [SYS_FUTEX_WAITV, slot.waiters.as_ptr() as u64, 2, 0, 0, 0, 0];
        let closed = ring_full(slot);
        if closed {
            syscall(call[0], [call[1], 2, 0, 0, 0, 0]);
        } else {
            let open = 0u64;
            // SAFETY: both pointers are valid for the call; the slot's words outlive it.
            unsafe { window(call.as_ptr(), &open) };
        }
    }
    slot.asleep.store(0, SeqCst);
}

fn arm_robust_list(slot: &Slot) {
    let head = slot.robust.head.as_ptr() as u64;
    let entry = &slot.robust.entry as *const AtomicU64 as u64;
    slot.robust.entry.store(head, Relaxed);
    slot.robust.head[0].store(entry, Relaxed);
    slot.robust.head[1].store(address(&slot.owner).wrapping_sub(entry), Relaxed);
    slot.robust.head[2].store(0, Relaxed);
    let tid = syscall(SYS_GETTID, [0; 6]) as u32;
    slot.owner.store(tid | WAITERS, SeqCst);
    syscall(SYS_SET_ROBUST_LIST, [head, 24, 0, 0, 0, 0]);
}

fn answer(slot: &Slot, seq: u32, ret: i64) {
    let result: &AtomicI64 = &slot.ret;
    result.store(ret, Relaxed);
    slot.signals_at_reply.store(slot.signal_head.load(SeqCst), Relaxed);
    slot.reply_seq.store(seq, SeqCst);
    if slot.attended.load(SeqCst) == 0 {
        ring_bell(slot);
    }
}

/// A deputy thread: waits for requests, runs them, answers.
///
/// # Safety
/// Entered with all signals blocked, on the stack of `slot`, which is prepared and not used by another thread.
// SAFETY: nothing else here has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn deputy(slot: &Slot) -> ! {
    arm_robust_list(slot);
    // The keeper watches the owner words it finds when it goes to sleep: it must look again now.
    ring_bell(slot);
    let mut taken = slot.taken_seq.load(Relaxed);
    loop {
        wait_for_request(slot, taken);
        let seq = slot.request_seq.load(SeqCst);
        taken = seq;
        slot.taken_seq.store(seq, SeqCst);
        let request = &slot.request;
        let nr = request.nr.load(Relaxed);
        if nr == CALL_EXIT_THREAD {
            answer(slot, seq, 0);
            syscall(SYS_EXIT, [0; 6]);
        }
        let unseen = request.signals_seen.load(Relaxed) != slot.signal_head.load(SeqCst);
        let cancelled = slot.cancel_seq.load(SeqCst) == seq;
        let ret = if unseen || cancelled || ring_full(slot) {
            NOT_EXECUTED
        } else if nr == CALL_CLONE {
            let (flags, other) = (request.args[0].load(Relaxed), request.args[1].load(Relaxed));
            // SAFETY: the keeper prepared that slot and gives it to nobody else. Its memory is shared, so that also a
            // forked child finds its stack untouched by this thread.
            unsafe {
                let newborn = &*(other as *const Slot);
                give_birth(flags, other + SLOT_BYTES - 64, &newborn.tid, newborn)
            }
        } else {
            let mut call = [u64::from(nr); 7];
            for (word, arg) in call[1..].iter_mut().zip(&request.args) {
                *word = arg.load(Relaxed);
            }
            let mask = request.mask.load(Relaxed);
            // SAFETY: call and mask live on this stack; what the call does is its sender's business.
            unsafe { window(call.as_ptr(), &mask) }
        };
        answer(slot, seq, ret);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    end_orphan()
}
