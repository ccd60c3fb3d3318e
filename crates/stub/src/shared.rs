//! The keeper's end of the slots.
//!
//! Everything here may be used from several threads of the keeper at once; who may use which slot when is a matter of
//! the sequence numbers: between a post and its reply, a slot's data belongs to the stub.

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;
use stub_abi::{CANCEL_SIGNAL, DATA_BYTES, DATA_OFFSET, Family, OWNER_DIED, RING, SLOT_BYTES, Slot, WAITERS};

const FUTEX2_SIZE_U32: u32 = 2;
/// Slots whose owners' deaths are waited for, at most: the kernel takes 128 words, and one is the bell.
const WATCHED_MAX: usize = 127;

/// A call for the stub. All addresses are the deputy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post {
    /// System call number or `stub_abi::CALL_*`.
    pub nr: u32,
    /// Arguments.
    pub args: [u64; 6],
    /// Signals of the slot that the remote has seen.
    pub signals_seen: u32,
    /// Signal mask while the call runs.
    pub mask: u64,
}

/// What a slot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Number of the last answered request.
    pub reply_seq: u32,
    /// Its result.
    pub ret: i64,
    /// Signals caught before it was answered.
    pub signals_at_reply: u32,
    /// Signals caught so far.
    pub signal_head: u32,
}

/// The shared memory of one family.
#[derive(Debug)]
pub struct Shared {
    memory: NonNull<u8>,
    length: usize,
    base: u64,
    count: u32,
}

// SAFETY: all words are atomics, and data is copied only by the side that the protocol lets have it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps the memory that lies at `base` in the deputy and has `count` slots.
    pub fn map(memory: impl AsFd, base: u64, count: u32) -> std::io::Result<Shared> {
        let length = (SLOT_BYTES * (1 + u64::from(count))) as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, memory, 0) }?;
        let memory = NonNull::new(at.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Shared { memory, length, base, count })
    }

    /// Number of slots.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Address of the family in the deputy.
    pub fn base(&self) -> u64 {
        self.base
    }

    fn family(&self) -> &Family {
        // SAFETY: the mapping begins with the family and lives as long as self; all its words are atomics.
        unsafe { self.memory.cast::<Family>().as_ref() }
    }

    fn slot(&self, index: u32) -> &Slot {
        assert!(index < self.count, "slot {index} of {}", self.count);
        // SAFETY: slot `index` lies inside the mapping, which lives as long as self; all its words are atomics.
        unsafe { self.memory.add((SLOT_BYTES * (1 + u64::from(index))) as usize).cast::<Slot>().as_ref() }
    }

    /// Writes what the stubs of the first `count` slots need before their first step.
    pub fn prepare(&self, count: u32) {
        for index in 0..count {
            self.slot(index).family.store(self.base, SeqCst);
        }
    }

    /// Address of a slot in the deputy.
    pub fn slot_address(&self, index: u32) -> u64 {
        self.base + SLOT_BYTES * (1 + u64::from(index))
    }

    /// Whether nobody runs on the slot's stack any more. Only known of threads, not of whole processes.
    pub fn is_vacant(&self, index: u32) -> bool {
        self.slot(index).tid.load(SeqCst) == 0
    }

    /// Makes a vacant slot ready for a new thread, whose requests, replies and signals count from 0.
    pub fn renew(&self, index: u32) {
        let slot = self.slot(index);
        let words = [
            &slot.kick,
            &slot.request_seq,
            &slot.cancel_seq,
            &slot.signal_tail,
            &slot.attended,
            &slot.asleep,
            &slot.reply_seq,
            &slot.signal_head,
            &slot.owner,
            &slot.taken_seq,
            &slot.orphan_looks,
        ];
        for word in words {
            word.store(0, SeqCst);
        }
        slot.family.store(self.base, SeqCst);
    }

    /// Says whether somebody runs on the slot's stack; the kernel takes it back when a thread ends.
    pub fn occupy(&self, index: u32, occupied: bool) {
        self.slot(index).tid.store(u32::from(occupied), SeqCst);
    }

    /// Makes the calling thread the keeper: its death, however it comes, wakes the stubs. It must live as long as the
    /// keeper does, and use no robust mutex of libc.
    pub fn claim(&self) -> std::io::Result<()> {
        let robust = &self.family().robust;
        let (head, entry) = (robust.head.as_ptr() as u64, std::ptr::from_ref(&robust.entry) as u64);
        robust.entry.store(head, Relaxed);
        robust.head[0].store(entry, Relaxed);
        robust.head[1].store((std::ptr::from_ref(&self.family().alive) as u64).wrapping_sub(entry), Relaxed);
        robust.head[2].store(0, Relaxed);
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        self.family().alive.store(tid | WAITERS, SeqCst);
        // SAFETY: the list lies in the mapping, which the keeper never unmaps while it lives.
        let set = unsafe { libc::syscall(libc::SYS_set_robust_list, head, 24) };
        if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    /// Posts request number `seq`, the successor of the last one, to a slot. Its thread takes it after [`Shared::kick`].
    pub fn post(&self, index: u32, seq: u32, post: &Post) {
        let slot = self.slot(index);
        let request = &slot.request;
        request.nr.store(post.nr, Relaxed);
        for (word, arg) in request.args.iter().zip(post.args) {
            word.store(arg, Relaxed);
        }
        request.signals_seen.store(post.signals_seen, Relaxed);
        request.mask.store(post.mask, Relaxed);
        slot.request_seq.store(seq, SeqCst);
    }

    /// Wakes the thread of a slot for what was written there. Better done without a lock: the thread may run at once.
    pub fn kick(&self, index: u32) {
        let slot = self.slot(index);
        slot.kick.fetch_add(1, SeqCst);
        if slot.asleep.swap(0, SeqCst) != 0 {
            futex_wake(&slot.kick);
        }
    }

    /// Gives up request `seq` if it is still running.
    pub fn cancel(&self, index: u32, seq: u32) {
        let slot = self.slot(index);
        if slot.request_seq.load(SeqCst) == seq && slot.reply_seq.load(SeqCst) != seq {
            slot.cancel_seq.store(seq, SeqCst);
            self.poke(index);
        }
    }

    /// Interrupts whatever the slot's thread is blocked in.
    pub fn poke(&self, index: u32) {
        let tid = self.owner(index);
        if let Some(tid) = tid {
            // SAFETY: numbers only; the thread may be gone, which is no failure.
            unsafe { libc::syscall(libc::SYS_tkill, tid, CANCEL_SIGNAL) };
        }
    }

    /// The thread that serves the slot; `None` if there is none or it died.
    pub fn owner(&self, index: u32) -> Option<i32> {
        match self.slot(index).owner.load(SeqCst) {
            0 => None,
            word if word & OWNER_DIED != 0 => None,
            word => Some((word & !WAITERS) as i32),
        }
    }

    /// Whether the thread that served the slot has died.
    pub fn owner_died(&self, index: u32) -> bool {
        self.slot(index).owner.load(SeqCst) & OWNER_DIED != 0
    }

    /// What the slot shows. The reply is read before the signals: a signal caught before a reply is seen with it.
    pub fn look(&self, index: u32) -> Look {
        let slot = self.slot(index);
        let reply_seq = slot.reply_seq.load(SeqCst);
        Look {
            reply_seq,
            ret: slot.ret.load(Relaxed),
            signals_at_reply: slot.signals_at_reply.load(Relaxed),
            signal_head: slot.signal_head.load(SeqCst),
        }
    }

    /// The caught signal of this number.
    pub fn signal(&self, index: u32, number: u32) -> [u64; 16] {
        let entry = &self.slot(index).ring[(number % RING) as usize];
        std::array::from_fn(|word| entry[word].load(Relaxed))
    }

    /// Makes room in the slot's ring: the remote has signals before `tail`.
    pub fn acknowledge(&self, index: u32, tail: u32) {
        let slot = self.slot(index);
        if slot.signal_tail.swap(tail, SeqCst) != tail {
            self.kick(index);
        }
    }

    /// From now on the reply of a slot does not ring the bell: somebody looks for it. To be said before the request is
    /// kicked; after it has been taken back, a last look is due.
    pub fn attend(&self, index: u32, attended: bool) {
        self.slot(index).attended.store(u32::from(attended), SeqCst);
    }

    /// Whether request `seq` has been answered.
    pub fn has_replied(&self, index: u32, seq: u32) -> bool {
        self.slot(index).reply_seq.load(SeqCst) == seq
    }

    /// Address of a slot's data in the deputy.
    pub fn data_address(&self, index: u32) -> u64 {
        self.base + SLOT_BYTES * (1 + u64::from(index)) + DATA_OFFSET
    }

    /// Copies bytes into a slot's data. Only while no request of the slot is posted.
    pub fn write_data(&self, index: u32, offset: u32, bytes: &[u8]) {
        assert!(offset as u64 + bytes.len() as u64 <= DATA_BYTES, "data beyond the slot");
        // SAFETY: inside the slot; the protocol gives the data to the keeper now.
        unsafe {
            self.data(index)
                .add(offset as usize)
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len())
        };
    }

    /// Copies bytes out of a slot's data. Only while no request of the slot runs.
    pub fn read_data(&self, index: u32, offset: u32, into: &mut [u8]) {
        assert!(offset as u64 + into.len() as u64 <= DATA_BYTES, "data beyond the slot");
        // SAFETY: as in write_data.
        unsafe {
            self.data(index)
                .add(offset as usize)
                .copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len())
        };
    }

    fn data(&self, index: u32) -> NonNull<u8> {
        // SAFETY: inside the mapping; slot() checks the index.
        unsafe { NonNull::from(self.slot(index)).cast::<u8>().add(DATA_OFFSET as usize) }
    }

    /// The bell's count; what [`Shared::sleep`] compares with.
    pub fn bell(&self) -> u32 {
        self.family().bell.load(SeqCst)
    }

    /// Sleeps until the bell has rung since `heard`, the owner of one of these slots dies, or the time is up.
    pub fn sleep(&self, heard: u32, watched: &[u32], patience: Duration) {
        let family = self.family();
        family.keeper_asleep.swap(1, SeqCst);
        let mut waiters = vec![libc_waiter(heard, family.bell.as_ptr())];
        for &index in watched.iter().take(WATCHED_MAX) {
            let owner = &self.slot(index).owner;
            let seen = owner.load(SeqCst);
            // A dead owner's word never changes again: do not wait for it.
            if seen & OWNER_DIED == 0 && seen != 0 {
                waiters.push(libc_waiter(seen, owner.as_ptr()));
            }
        }
        let until = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let total = Duration::new(until.tv_sec as u64, until.tv_nsec as u32) + patience;
        let until =
            libc::timespec { tv_sec: total.as_secs() as i64, tv_nsec: i64::from(total.subsec_nanos()) };
        if self.bell() == heard {
            // SAFETY: the waiters and the time are valid for the call; an early return is no failure.
            unsafe {
                libc::syscall(
                    libc::SYS_futex_waitv,
                    waiters.as_ptr(),
                    waiters.len(),
                    0,
                    &raw const until,
                    libc::CLOCK_MONOTONIC,
                )
            };
        }
        family.keeper_asleep.store(0, SeqCst);
    }

    /// Wakes a keeper's thread in [`Shared::sleep`].
    pub fn ring(&self) {
        self.family().bell.fetch_add(1, SeqCst);
        futex_wake(&self.family().bell);
    }
}

fn libc_waiter(value: u32, word: *const u32) -> [u64; 3] {
    // struct futex_waitv: u64 value, u64 address, u32 flags, u32 reserved.
    [u64::from(value), word as u64, u64::from(FUTEX2_SIZE_U32)]
}

fn futex_wake(word: &std::sync::atomic::AtomicU32) {
    // SAFETY: the word is mapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1, 0, 0, 0) };
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: nothing of the mapping is referred to any more.
        let unmapped = unsafe { munmap(self.memory.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}
