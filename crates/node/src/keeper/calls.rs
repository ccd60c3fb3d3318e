//! The calls of a process that is away, on the side of its home.
//!
//! Two threads serve all of its deputy threads: one reads the channel and posts into slots, the other waits for the bell
//! and sends what the slots show. A slot has at most one request under way; its state is under one lock, which is held
//! only for the time of looking and posting.
//!
//! Lock order: slot, then sender.

use crate::journey::transfer::Outlet;
use crate::journey::{Error, Result};
use net::Line;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stub::{Entries, Post, Shared};
use stub_abi::{INTERRUPTED, NOT_EXECUTED};
use tracee::deputy::home_action;
use wire::session::{
    self, Action, CallHeader, CancelCall, Kind, ReplyHeader, SignalHeader, SignalOrder, SignalSeen,
};

/// Bytes that one piece of housekeeping unmaps: a few milliseconds, for which a call may have to wait.
const UNMAP_BYTES: u64 = 32 << 20;
const BELL_PATIENCE: Duration = Duration::from_secs(1);
const ALL_BLOCKED: u64 = u64::MAX;
const NONE_BLOCKED: u64 = 0;

/// What a slot's request is for.
#[derive(Debug)]
enum Under {
    /// Nothing is under way.
    Idle,
    /// A call of the remote: its number there, and what comes back.
    Call { seq: u32, call: wire::Call },
    /// Steps one after another, answered as one if the remote waits for it.
    Steps { reply: Option<u32>, left: VecDeque<Post>, current: Post },
}

#[derive(Debug)]
struct SlotState {
    stub_seq: u32,
    under: Under,
    queued: Option<(CallHeader, Vec<u8>)>,
    signals_sent: u32,
}

/// The deputy's calls.
pub(crate) struct Calls {
    shared: Shared,
    pid: i32,
    tids: Vec<i32>,
    entries: Entries,
    slots: Vec<Mutex<SlotState>>,
    sender: Mutex<Option<Line>>,
    housekeeping: Mutex<VecDeque<(u64, u64)>>,
    forwarded: AtomicU64,
    ending: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// Calls over a deputy's slots; thread `n` of `tids` serves slot `n`.
    pub(crate) fn new(shared: Shared, pid: i32, tids: Vec<i32>, entries: Entries) -> Calls {
        let idle =
            || Mutex::new(SlotState { stub_seq: 0, under: Under::Idle, queued: None, signals_sent: 0 });
        Calls {
            slots: tids.iter().map(|_| idle()).collect(),
            shared,
            pid,
            tids,
            entries,
            sender: Mutex::new(None),
            housekeeping: Mutex::default(),
            forwarded: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        }
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

    /// For each slot, the number of the next signal to be sent.
    pub(crate) fn signals_sent(&self) -> Vec<u32> {
        self.slots.iter().map(|slot| lock(slot).signals_sent).collect()
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

    /// Calls forwarded so far.
    pub(crate) fn forwarded(&self) -> u64 {
        self.forwarded.load(SeqCst)
    }

    /// The deputy's tids.
    pub(crate) fn tids(&self) -> &[i32] {
        &self.tids
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

    fn slot(&self, index: u32) -> Result<&Mutex<SlotState>> {
        self.slots.get(index as usize).ok_or_else(|| session::Malformed("slot").into())
    }

    /// Takes a frame of the warden; `false` if it is not about calls.
    pub(crate) fn take(&self, kind: Kind, payload: &[u8]) -> Result<bool> {
        match kind {
            Kind::Call => {
                let (header, input) = session::decode::<CallHeader>(payload)?;
                self.take_call(header, input)?;
            }
            Kind::SignalSeen => {
                let (seen, _) = session::decode::<SignalSeen>(payload)?;
                let slot = lock(self.slot(seen.slot)?);
                if seen.tail.wrapping_sub(slot.signals_sent) as i32 > 0 {
                    return Err(session::Malformed("acknowledgement of a signal that was not sent").into());
                }
                self.shared.acknowledge(seen.slot, seen.tail);
            }
            Kind::Cancel => {
                let (cancel, _) = session::decode::<CancelCall>(payload)?;
                let mut slot = lock(self.slot(cancel.slot)?);
                if slot.queued.take_if(|(header, _)| header.seq == cancel.seq).is_some() {
                    self.reply(cancel.slot, cancel.seq, NOT_EXECUTED, &[])?;
                } else if matches!(slot.under, Under::Call { seq, .. } if seq == cancel.seq) {
                    self.shared.cancel(cancel.slot, slot.stub_seq);
                }
            }
            Kind::Action => {
                let (action, _) = session::decode::<Action>(payload)?;
                check_signal(action.signal)?;
                let mut slot = lock(self.slot(action.slot)?);
                let step = self.set_action(
                    action.slot,
                    0,
                    action.signal,
                    &self.at_home(action.signal, &action.action),
                );
                self.begin_steps(action.slot, &mut slot, Some(action.seq), [step].into())?;
            }
            Kind::StopSelf | Kind::Die => {
                let (order, _) = session::decode::<SignalOrder>(payload)?;
                check_signal(order.signal)?;
                let mut slot = lock(self.slot(order.slot)?);
                let tid = self.tids[order.slot as usize];
                let kill = Post {
                    nr: nix::libc::SYS_tgkill as u32,
                    args: [self.pid as u64, tid as u64, order.signal as u64, 0, 0, 0],
                    flags: 0,
                    signals_seen: 0,
                    mask: NONE_BLOCKED,
                };
                let mut steps = VecDeque::from([self.set_action(order.slot, 0, order.signal, &[0; 4]), kill]);
                if kind == Kind::StopSelf {
                    let action = self.at_home(order.signal, &order.action);
                    steps.push_back(self.set_action(order.slot, 64, order.signal, &action));
                }
                let reply = (kind == Kind::StopSelf).then_some(order.seq);
                self.begin_steps(order.slot, &mut slot, reply, steps)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn at_home(&self, signal: i32, action: &[u64; 4]) -> [u64; 4] {
        home_action(signal, action, &self.entries)
    }

    /// A step that sets an action; its argument lies at `offset` of the slot's data, which nobody uses meanwhile.
    fn set_action(&self, index: u32, offset: u32, signal: i32, action: &[u64; 4]) -> Post {
        let bytes: Vec<u8> = action.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.shared.write_data(index, offset, &bytes);
        let address = self.shared.data_address(index) + u64::from(offset);
        Post {
            nr: nix::libc::SYS_rt_sigaction as u32,
            args: [signal as u64, address, 0, 8, 0, 0],
            flags: 0,
            signals_seen: 0,
            mask: ALL_BLOCKED,
        }
    }

    fn take_call(&self, header: CallHeader, input: &[u8]) -> Result<()> {
        let index = header.slot;
        let mut slot = lock(self.slot(index)?);
        match slot.under {
            Under::Idle => self.post_call(&mut slot, header, input),
            Under::Steps { reply: None, .. } if slot.queued.is_none() => {
                slot.queued = Some((header, input.to_vec()));
                Ok(())
            }
            _ => Err(session::Malformed("call while another is under way").into()),
        }
    }

    fn post_call(&self, slot: &mut SlotState, header: CallHeader, input: &[u8]) -> Result<()> {
        let CallHeader { slot: index, seq, signals_seen, mut call } = header;
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
        let post = Post { nr: call.nr, args, flags: 0, signals_seen, mask: NONE_BLOCKED };
        slot.stub_seq = slot.stub_seq.wrapping_add(1);
        slot.under = Under::Call { seq, call };
        self.forwarded.fetch_add(1, SeqCst);
        self.shared.post(index, slot.stub_seq, &post);
        Ok(())
    }

    fn begin_steps(
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
        // A step is no call of the program: signals that it has not seen do not hold it up.
        let post = Post { signals_seen: self.shared.look(index).signal_head, ..*current };
        slot.stub_seq = slot.stub_seq.wrapping_add(1);
        self.shared.post(index, slot.stub_seq, &post);
    }

    /// Sends what the slots show, until [`Calls::end`] or until the connection fails.
    pub(crate) fn serve_slots(&self) -> Result<()> {
        while !self.ending.load(SeqCst) {
            let heard = self.shared.bell();
            if !self.scan()? {
                self.shared.sleep(heard, BELL_PATIENCE);
            }
        }
        Ok(())
    }

    /// Looks at every slot once; `true` if something was found. A signal is sent before a reply that came after it.
    pub(crate) fn scan(&self) -> Result<bool> {
        let mut found = false;
        for index in 0..self.slots.len() as u32 {
            found |= self.scan_slot(index)?;
        }
        Ok(found)
    }

    fn scan_slot(&self, index: u32) -> Result<bool> {
        let mut slot = lock(self.slot(index)?);
        if lock(&self.sender).is_none() {
            return Ok(false);
        }
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
        match std::mem::replace(&mut slot.under, Under::Idle) {
            Under::Idle => return Ok(found | self.keep_house(index, &mut slot)),
            Under::Call { seq, call } => {
                let data =
                    if look.ret == NOT_EXECUTED { Vec::new() } else { self.collect(index, &call, look.ret) };
                self.reply(index, seq, look.ret, &data)?;
            }
            Under::Steps { reply, left, current } if [INTERRUPTED, NOT_EXECUTED].contains(&look.ret) => {
                slot.under = Under::Steps { reply, left, current };
                self.post_step(index, &mut slot);
            }
            Under::Steps { reply, mut left, .. } => match left.pop_front() {
                Some(current) => {
                    slot.under = Under::Steps { reply, left, current };
                    self.post_step(index, &mut slot);
                }
                None => {
                    if let Some(seq) = reply {
                        self.reply(index, seq, look.ret, &[])?;
                    }
                }
            },
        }
        if matches!(slot.under, Under::Idle)
            && let Some((header, input)) = slot.queued.take()
        {
            self.post_call(&mut slot, header, &input)?;
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

    /// Unmaps the next piece if this is the leader's slot and there is one.
    fn keep_house(&self, index: u32, slot: &mut SlotState) -> bool {
        if index != 0 {
            return false;
        }
        let Some((start, length)) = lock(&self.housekeeping).pop_front() else { return false };
        let current = Post {
            nr: nix::libc::SYS_munmap as u32,
            args: [start, length, 0, 0, 0, 0],
            flags: 0,
            signals_seen: 0,
            mask: ALL_BLOCKED,
        };
        slot.under = Under::Steps { reply: None, left: VecDeque::new(), current };
        self.post_step(index, slot);
        true
    }

    fn reply(&self, index: u32, seq: u32, ret: i64, data: &[u8]) -> Result<()> {
        let header = session::encode(&ReplyHeader { slot: index, seq, ret });
        self.send(Kind::Reply, &[&header, data])
    }

    /// No request is under way in any slot, and no housekeeping is left.
    pub(crate) fn is_quiet(&self) -> bool {
        let idle = |slot: &Mutex<SlotState>| matches!(lock(slot).under, Under::Idle);
        lock(&self.housekeeping).is_empty() && self.slots.iter().all(idle)
    }
}

impl Outlet for &Calls {
    fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<()> {
        self.send(kind, parts)
    }
}

fn check_signal(signal: i32) -> Result<()> {
    if (1..=64).contains(&signal) { Ok(()) } else { Err(session::Malformed("signal number").into()) }
}
