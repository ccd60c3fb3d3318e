//! The calls of a process that is away, on the side of its home.
//!
//! Two threads serve all of its deputy threads: one reads the channel and posts into slots, the other waits for the bell
//! and sends what the slots show. A slot has at most one request under way; its state is under one lock, which is held
//! only for the time of looking and posting.
//!
//! Lock order: slot, then sender.

use super::orders::Taken;
use super::own_files::OwnFiles;
use super::partings::{self, Parting};
use super::slot::{News, Queued, SlotState, Tenant, Traffic, Under};
use crate::journey::transfer::Outlet;
use crate::journey::{Error, Result};
use net::Line;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stub::{Entries, Post, Shared};
use stub_abi::{INTERRUPTED, NOT_EXECUTED};
use wire::session::{self, CallHeader, Commit, Kind, ReplyHeader, Seat, SignalHeader};

/// Bytes that one piece of housekeeping unmaps: a few milliseconds, for which a call may have to wait.
const UNMAP_BYTES: u64 = 32 << 20;
/// How long a reply is waited for by the thread that posted the request.
const ATTENTION: Duration = Duration::from_micros(60);
const BELL_PATIENCE: Duration = Duration::from_secs(1);
/// How often a process that ends or becomes another program is looked at, where nothing else tells.
const PARTING_PATIENCE: Duration = Duration::from_millis(20);
const ALL_BLOCKED: u64 = u64::MAX;

/// The deputy's calls.
pub(crate) struct Calls {
    pub(super) shared: Shared,
    /// The process that was moved here; the others are its descendants.
    pub(super) first: i32,
    pub(super) entries: Entries,
    pub(super) slots: Vec<Mutex<SlotState>>,
    /// Slots from this one on have never been used.
    pub(super) used: AtomicU32,
    sender: Mutex<Option<Line>>,
    /// Slots whose process may end or become another program at any moment.
    pub(super) partings: Mutex<Vec<(u32, Parting)>>,
    /// Held while a process leaves its slots: only one finds it there.
    releasing: Mutex<()>,
    news: Mutex<VecDeque<News>>,
    /// Rings when there are news.
    stir: OwnedFd,
    housekeeping: Mutex<VecDeque<(u64, u64)>>,
    /// Calls of threads that have ended, by process.
    traffic: Mutex<BTreeMap<i32, Traffic>>,
    ending: AtomicBool,
    /// The files that the first process maps and may change.
    pub(super) own_files: Mutex<Option<Arc<OwnFiles>>>,
    /// There are some: a call need not ask.
    pub(super) has_own_files: AtomicBool,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// Calls over a deputy's slots; thread `n` of `tids` serves slot `n`.
    pub(crate) fn new(shared: Shared, pid: i32, tids: &[i32], entries: Entries) -> Result<Calls> {
        let stir = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| Error::Io { what: "making an event", source: errno.into() })?;
        let tenants = tids.iter().map(|&tid| Some(Tenant { pid, tid })).chain(std::iter::repeat(None));
        for index in 0..tids.len() as u32 {
            shared.occupy(index, true);
        }
        Ok(Calls {
            slots: tenants
                .take(shared.count() as usize)
                .map(|tenant| Mutex::new(SlotState::of(tenant)))
                .collect(),
            used: AtomicU32::new(tids.len() as u32),
            shared,
            first: pid,
            entries,
            sender: Mutex::new(None),
            partings: Mutex::default(),
            releasing: Mutex::default(),
            news: Mutex::default(),
            stir,
            housekeeping: Mutex::default(),
            traffic: Mutex::default(),
            ending: AtomicBool::new(false),
            own_files: Mutex::default(),
            has_own_files: AtomicBool::new(false),
        })
    }

    /// Becomes readable when there are news.
    pub(crate) fn stir(&self) -> BorrowedFd<'_> {
        self.stir.as_fd()
    }

    /// The next news of the family.
    pub(crate) fn news(&self) -> Option<News> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.stir, &mut count);
        let mut news = lock(&self.news);
        let next = news.pop_front();
        if !news.is_empty() {
            let _ = rustix::io::write(&self.stir, &1u64.to_ne_bytes());
        }
        next
    }

    pub(super) fn tell(&self, news: News) {
        lock(&self.news).push_back(news);
        let _ = rustix::io::write(&self.stir, &1u64.to_ne_bytes());
    }

    pub(super) fn used(&self) -> std::ops::Range<u32> {
        0..self.used.load(SeqCst)
    }

    /// Frames for the warden go here from now on; `None` while there is none.
    pub(crate) fn connect(&self, line: Option<Line>) {
        *lock(&self.sender) = line;
        self.shared.ring();
    }

    /// Takes the line back: nothing is sent until the next [`Calls::connect`].
    pub(crate) fn disconnect(&self) -> Option<Line> {
        lock(&self.sender).take()
    }

    /// What a host must know before it lets the threads of a process run.
    pub(crate) fn commit(&self, pid: i32, is_stopped: bool) -> Commit {
        Commit { slots: self.shared.count(), threads: self.seats(pid), is_stopped }
    }

    fn seats(&self, pid: i32) -> Vec<Seat> {
        let seat = |slot: u32| {
            let state = lock(self.slots.get(slot as usize)?);
            let tenant = state.tenant.filter(|tenant| tenant.pid == pid)?;
            Some(Seat { tid: tenant.tid, slot, signals: state.signals_sent })
        };
        self.used().filter_map(seat).collect()
    }

    /// Who is served in a slot.
    pub(crate) fn tenant(&self, index: u32) -> Option<Tenant> {
        lock(self.slots.get(index as usize)?).tenant
    }

    /// A process needs its slots no more: it is at home, dead, or another program. Whether it had any.
    pub(crate) fn release(&self, pid: i32) -> bool {
        let _alone = lock(&self.releasing);
        let mut lived_here = false;
        for index in self.used() {
            let Ok(mut slot) = self.slot(index).map(lock) else { break };
            // Of the last thread of a process, the kernel does not tell that it is off its stack.
            if slot.tenant.map(|tenant| tenant.pid).or(slot.former) == Some(pid) {
                lived_here |= slot.tenant.is_some();
                *slot = SlotState::of(None);
                self.shared.occupy(index, false);
                // Whoever lives here next has not asked for what the last one did.
                self.stays(index);
            }
        }
        lock(&self.traffic).remove(&pid);
        if pid == self.first {
            lock(&self.housekeeping).clear();
        }
        lived_here
    }

    /// Ends the thread in [`Calls::serve_slots`].
    pub(crate) fn end(&self) {
        self.ending.store(true, SeqCst);
        self.shared.ring();
    }

    /// Sends one frame to the warden.
    pub(crate) fn send(&self, kind: Kind, parts: &[&[u8]]) -> Result<()> {
        match lock(&self.sender).as_mut() {
            Some(line) => line.put(kind, parts),
            None => Err(Error::Ending),
        }
    }

    /// What a process has forwarded so far.
    pub(crate) fn traffic(&self, pid: i32) -> Traffic {
        let of_slot = |index: u32| {
            let slot = lock(self.slots.get(index as usize)?);
            slot.tenant.filter(|tenant| tenant.pid == pid).map(|_| slot.traffic)
        };
        let mut sum = lock(&self.traffic).get(&pid).copied().unwrap_or_default();
        self.used().filter_map(of_slot).for_each(|traffic| sum += traffic);
        sum
    }

    /// The tids of a process, the leader first.
    pub(crate) fn tids(&self, pid: i32) -> Vec<i32> {
        let mut tids: Vec<i32> = self.seats(pid).iter().map(|seat| seat.tid).collect();
        tids.sort_by_key(|&tid| (tid != pid, tid));
        tids
    }

    /// Entry points of the deputy's stub.
    pub(crate) fn entries(&self) -> Entries {
        self.entries
    }

    /// Unmaps these ranges of the deputy bit by bit, whenever its leader has nothing else to do.
    pub(crate) fn unmap_in_time(&self, ranges: impl IntoIterator<Item = (u64, u64)>) {
        let mut queue = lock(&self.housekeeping);
        for (start, length) in ranges {
            let mut at = start;
            let end = start + length;
            // A gap of half the address space is one cheap step; only what may hold memory is cut.
            let step = if length > 1 << 40 { length } else { UNMAP_BYTES };
            while at < end {
                queue.push_back((at, step.min(end - at)));
                at += step.min(end - at);
            }
        }
        drop(queue);
        self.shared.ring();
    }

    /// What is still to be unmapped of a process's deputy, which will not be done unless it is given back.
    pub(super) fn put_off_housekeeping(&self, pid: i32) -> VecDeque<(u64, u64)> {
        if pid == self.first { std::mem::take(&mut *lock(&self.housekeeping)) } else { VecDeque::new() }
    }

    /// It is to be done after all.
    pub(super) fn take_up_housekeeping(&self, mut pieces: VecDeque<(u64, u64)>) {
        lock(&self.housekeeping).append(&mut pieces);
        self.shared.ring();
    }

    pub(super) fn slot(&self, index: u32) -> Result<&Mutex<SlotState>> {
        self.slots.get(index as usize).ok_or_else(|| session::Malformed("slot").into())
    }

    pub(super) fn take_call(&self, header: CallHeader, input: &[u8]) -> Result<Taken> {
        let index = header.slot;
        let posted = {
            let mut slot = lock(self.slot(index)?);
            // Its process is no more, and its host has not heard of that yet.
            let Some(tenant) = slot.tenant else { return Ok(Taken::Done) };
            match slot.under {
                Under::Idle | Under::Steps { reply: None, .. }
                    if self.uses_own_files(tenant, &header.call) =>
                {
                    slot.held_back = Some(header.seq);
                    self.tell(News::Wanted { pid: tenant.pid, nr: Some(header.call.nr) });
                    return Ok(Taken::Done);
                }
                Under::Idle => {
                    self.post_call(&mut slot, header, input)?;
                    let attended = slot.attention.is_worth_it();
                    self.shared.attend(index, attended);
                    if attended { Taken::Attended { index, seq: slot.stub_seq } } else { Taken::Done }
                }
                Under::Steps { reply: None, .. } if slot.queued.is_none() => {
                    slot.queued = Some(Queued::Call(header, input.to_vec()));
                    return Ok(Taken::Done);
                }
                _ => return Err(session::Malformed("call while another is under way").into()),
            }
        };
        self.shared.kick(index);
        Ok(posted)
    }

    /// Waits a moment for the reply to a call that was just posted, and sends it. Most calls are done at once, and the
    /// thread that posted one is the one to send its reply with the fewest switches. Calls that block are left to
    /// [`Calls::serve_slots`].
    pub(crate) fn attend(&self, index: u32, seq: u32) -> Result<()> {
        let begun = Instant::now();
        let mut came = self.shared.has_replied(index, seq);
        while !came && begun.elapsed() < ATTENTION {
            // On one CPU this is what lets the stub run; a sleep would need a timer, which costs more than the call.
            std::thread::yield_now();
            came = self.shared.has_replied(index, seq);
        }
        self.shared.attend(index, false);
        lock(self.slot(index)?).attention.learn(came && begun.elapsed() < ATTENTION);
        // Also if it did not come: it may have since, and rung for nobody.
        self.scan_slot(index).map(drop)
    }

    pub(super) fn post_call(&self, slot: &mut SlotState, header: CallHeader, input: &[u8]) -> Result<()> {
        let (index, seq) = (header.slot, header.seq);
        let (post, call) = self.lay_out(header, input)?;
        let ends = partings::ends_its_process(call.nr);
        slot.under = Under::Call { seq, call };
        slot.traffic += Traffic { calls: 1, bytes: input.len() as u64 };
        if ends {
            self.may_part(index, Parting::End);
        }
        self.post(index, slot, &post);
        if ends {
            // Whoever sleeps watches only what was in the list when it went to sleep.
            self.shared.ring();
        }
        Ok(())
    }

    /// Puts a request into a slot; [`Shared::kick`] is still due.
    pub(super) fn post(&self, index: u32, slot: &mut SlotState, post: &Post) {
        slot.stub_seq = slot.stub_seq.wrapping_add(1);
        self.shared.post(index, slot.stub_seq, post);
    }

    /// Writes a call's buffers into its slot; what is then to be posted, and what comes back.
    pub(super) fn lay_out(&self, header: CallHeader, input: &[u8]) -> Result<(Post, wire::Call)> {
        let CallHeader { slot: index, signals_seen, mut call, .. } = header;
        call.input = input.to_vec();
        call.validate().map_err(|_| session::Malformed("call"))?;
        let base = self.shared.data_address(index);
        self.shared.write_data(index, 0, &call.input);
        for &at in &call.relocations {
            let word = call.input.get(at as usize..at as usize + 8).and_then(|bytes| bytes.try_into().ok());
            let offset = u64::from_le_bytes(word.unwrap_or_default());
            self.shared.write_data(index, at, &base.wrapping_add(offset).to_le_bytes());
        }
        let mut args = call.args;
        for (bit, arg) in args.iter_mut().enumerate() {
            if call.pointers >> bit & 1 == 1 {
                *arg = base.wrapping_add(*arg);
            }
        }
        call.input = Vec::new();
        let mask = call.blocked & wire::TERMINAL_SIGNALS;
        let post = Post { nr: call.nr, args, signals_seen, mask };
        Ok((post, call))
    }

    pub(super) fn begin_steps(
        &self,
        index: u32,
        slot: &mut SlotState,
        reply: Option<u32>,
        mut steps: VecDeque<Post>,
    ) -> Result<()> {
        let Some(current) = steps.pop_front() else { return Ok(()) };
        match &mut slot.under {
            Under::Idle => {
                slot.under = Under::Steps { reply, left: steps, current };
                self.post_step(index, slot);
                Ok(())
            }
            // Housekeeping is under way: this goes on behind it.
            Under::Steps { reply: waiting @ None, left, .. } => {
                left.push_back(current);
                left.append(&mut steps);
                *waiting = reply;
                Ok(())
            }
            _ => Err(session::Malformed("order while a call is under way").into()),
        }
    }

    fn post_step(&self, index: u32, slot: &mut SlotState) {
        let Under::Steps { current, .. } = &slot.under else { return };
        let current = *current;
        self.post_alone(index, slot, &current);
    }

    /// Posts what is no call of the program: signals that it has not seen do not hold it up.
    pub(super) fn post_alone(&self, index: u32, slot: &mut SlotState, post: &Post) {
        let post = Post { signals_seen: self.shared.look(index).signal_head, ..*post };
        self.post(index, slot, &post);
    }

    /// Sends what the slots show, until [`Calls::end`] or until the connection fails.
    pub(crate) fn serve_slots(&self) -> Result<()> {
        while !self.ending.load(SeqCst) {
            let heard = self.shared.bell();
            if !self.scan()? && !self.look_for_partings() {
                let mut watched: Vec<u32> = lock(&self.partings).iter().map(|&(index, _)| index).collect();
                // The first one's death is seen at once.
                watched.push(0);
                let patience = if watched.len() > 1 { PARTING_PATIENCE } else { BELL_PATIENCE };
                self.shared.sleep(heard, &watched, patience);
            }
        }
        Ok(())
    }

    /// Looks at every slot once; `true` if something was found. A signal is sent before a reply that came after it.
    pub(crate) fn scan(&self) -> Result<bool> {
        let mut found = false;
        for index in self.used() {
            found |= self.scan_slot(index)?;
        }
        Ok(found)
    }

    pub(super) fn scan_slot(&self, index: u32) -> Result<bool> {
        let mut slot = lock(self.slot(index)?);
        let Some(tenant) = slot.tenant.filter(|_| slot.announced && lock(&self.sender).is_some()) else {
            return Ok(false);
        };
        let look = self.shared.look(index);
        let mut found = false;
        while slot.signals_sent != look.signal_head {
            let number = slot.signals_sent;
            let info = tracee::capture::siginfo_bytes(&self.shared.signal(index, number));
            let header = session::encode(&SignalHeader { slot: index, number });
            self.send(Kind::Signal, &[&header, &info])?;
            slot.signals_sent = number.wrapping_add(1);
            found = true;
        }
        if look.reply_seq != slot.stub_seq {
            return Ok(found);
        }
        let mut reply = None;
        let mut newborn = None;
        match std::mem::replace(&mut slot.under, Under::Idle) {
            Under::Idle if !self.keep_house(index, &mut slot) => return Ok(found),
            Under::Idle => {}
            Under::Call { seq, call } => {
                if partings::ends_its_process(call.nr) {
                    // A signal came first.
                    self.stays(index);
                }
                let data =
                    if look.ret == NOT_EXECUTED { Vec::new() } else { self.collect(index, &call, look.ret) };
                slot.traffic.bytes += data.len() as u64;
                reply = Some((seq, look.ret, data));
            }
            Under::Steps { reply, left, current } if [INTERRUPTED, NOT_EXECUTED].contains(&look.ret) => {
                slot.under = Under::Steps { reply, left, current };
                self.post_step(index, &mut slot);
            }
            Under::Steps { reply: waiting, mut left, .. } => match left.pop_front() {
                Some(current) => {
                    slot.under = Under::Steps { reply: waiting, left, current };
                    self.post_step(index, &mut slot);
                }
                None => reply = waiting.map(|seq| (seq, look.ret, Vec::new())),
            },
            Under::Birth { seq, newborn: index, birth } => {
                newborn = Some((index, birth));
                reply = Some((seq, look.ret, Vec::new()));
            }
            Under::End { seq } => {
                *lock(&self.traffic).entry(tenant.pid).or_default() += slot.traffic;
                slot.former = slot.tenant.take().map(|tenant| tenant.pid);
                slot.traffic = Traffic::default();
                reply = Some((seq, look.ret, Vec::new()));
            }
            Under::Exec { seq } => {
                self.stays(index);
                reply = Some((seq, look.ret, Vec::new()));
            }
        }
        if matches!(slot.under, Under::Idle)
            && let Some(queued) = slot.queued.take()
        {
            self.post_queued(&mut slot, queued)?;
        }
        let posted = !matches!(slot.under, Under::Idle);
        if let Some((newborn, birth)) = newborn {
            self.welcome(tenant, newborn, birth, look.ret)?;
        }
        // Under the lock: once a slot has been released, nothing of its tenant is sent any more.
        if let Some((seq, ret, data)) = reply {
            self.reply(index, seq, ret, &data)?;
        }
        drop(slot);
        if posted {
            self.shared.kick(index);
        }
        if let Some((newborn, _)) = newborn {
            lock(self.slot(newborn)?).announced = true;
            // What it did until now has been overlooked.
            self.scan_slot(newborn)?;
        }
        Ok(true)
    }

    /// What comes back of a call, read straight out of its slot.
    fn collect(&self, index: u32, call: &wire::Call, ret: i64) -> Vec<u8> {
        let word = |at: u32, size: usize| {
            let mut bytes = [0; 8];
            self.shared.read_data(index, at, bytes.get_mut(..size)?);
            Some(u64::from_le_bytes(bytes))
        };
        let mut data = Vec::new();
        for out in call.outs.iter().filter(|out| out.returns(ret)) {
            let from = data.len();
            data.resize(from + out.len.resolve_with(ret, word), 0);
            self.shared.read_data(index, out.offset, &mut data[from..]);
        }
        data
    }

    /// The next piece of what is to be unmapped.
    pub(super) fn chore(&self) -> Option<Post> {
        let (start, length) = lock(&self.housekeeping).pop_front()?;
        let args = [start, length, 0, 0, 0, 0];
        Some(Post { nr: nix::libc::SYS_munmap as u32, args, signals_seen: 0, mask: ALL_BLOCKED })
    }

    /// Unmaps the next piece if this is a slot of the first process and there is one.
    fn keep_house(&self, index: u32, slot: &mut SlotState) -> bool {
        if slot.tenant.is_none_or(|tenant| tenant.pid != self.first) {
            return false;
        }
        let Some(current) = self.chore() else { return false };
        slot.under = Under::Steps { reply: None, left: VecDeque::new(), current };
        self.post_step(index, slot);
        true
    }

    pub(super) fn reply(&self, index: u32, seq: u32, ret: i64, data: &[u8]) -> Result<()> {
        let header = session::encode(&ReplyHeader { slot: index, seq, ret });
        self.send(Kind::Reply, &[&header, data])
    }

    /// No request of this process is under way in any slot, and no housekeeping is left.
    pub(crate) fn is_quiet(&self, pid: i32) -> bool {
        let idle = |slot: &Mutex<SlotState>| {
            let slot = lock(slot);
            slot.tenant.is_none_or(|tenant| tenant.pid != pid) || matches!(slot.under, Under::Idle)
        };
        let clean = pid != self.first || lock(&self.housekeeping).is_empty();
        clean && self.used().all(|index| self.slots.get(index as usize).is_none_or(idle))
    }
}

impl Outlet for &Calls {
    fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<()> {
        self.send(kind, parts)
    }
}
