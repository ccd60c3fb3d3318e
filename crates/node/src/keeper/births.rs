//! Threads and processes that come and go while their family is away, on the side of its home.
//!
//! A newborn gets a slot that its host chose. Its deputy is made by the stub of its maker, on the newborn's own stack,
//! and serves that slot from its first instruction on. A thread that has ended leaves its slot; the kernel tells when it
//! is off the stack. How a process leaves its slots is told in [`super::partings`].

use super::calls::{Calls, lock};
use super::partings::Parting;
use super::slot::{News, Queued, SlotState, Tenant, Under};
use crate::journey::Result;
use nix::libc;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use stub::Post;
use stub_abi::{CALL_CLONE, CALL_EXIT_THREAD};
use wire::session::{self, Birth, BirthOrder, ExecOrder, ThreadEnd};

/// How long a thread that has ended may take to leave its stack.
const VACATING: Duration = Duration::from_secs(1);
const ALL_BLOCKED: u64 = u64::MAX;
/// What the threads of a process share.
const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_CHILD_CLEARTID;

impl Calls {
    /// Takes a request that is no plain call. The slot's thread may be doing housekeeping: then it waits for that.
    pub(super) fn take_request(&self, index: u32, request: Queued) -> Result<()> {
        let mut slot = lock(self.slot(index)?);
        match slot.under {
            // Its process is no more, and its host has not heard of that yet.
            _ if slot.tenant.is_none() => return Ok(()),
            Under::Idle => {
                let forks =
                    matches!(&request, Queued::Birth(BirthOrder { birth: Birth::Process { .. }, .. }));
                // A fork would copy what is still to be dropped.
                let chores: VecDeque<Post> =
                    if forks { std::iter::from_fn(|| self.chore()).collect() } else { VecDeque::new() };
                if chores.is_empty() {
                    self.post_queued(&mut slot, request)?;
                } else {
                    slot.queued = Some(request);
                    self.begin_steps(index, &mut slot, None, chores)?;
                }
            }
            Under::Steps { reply: None, .. } if slot.queued.is_none() => slot.queued = Some(request),
            _ => return Err(session::Malformed("request while another is under way").into()),
        }
        drop(slot);
        self.shared.kick(index);
        Ok(())
    }

    /// Posts a request whose turn has come.
    pub(super) fn post_queued(&self, slot: &mut SlotState, request: Queued) -> Result<()> {
        match request {
            Queued::Call(header, input) => self.post_call(slot, header, &input),
            Queued::Birth(order) => self.post_birth(slot, &order),
            Queued::Exec(order, input) => self.post_exec(slot, order, &input),
            Queued::End(ThreadEnd { slot: index, seq }) => {
                let end = post(CALL_EXIT_THREAD, [0; 6]);
                slot.under = Under::End { seq };
                self.post_alone(index, slot, &end);
                Ok(())
            }
        }
    }

    /// Waits until the last thread that was served in a slot is off its stack. No slot may be held meanwhile: that it is
    /// dead is told by somebody else.
    pub(super) fn await_vacancy(&self, index: u32) -> Result<()> {
        self.slot(index)?;
        let deadline = Instant::now() + VACATING;
        while !self.shared.is_vacant(index) {
            if Instant::now() > deadline {
                return Err(session::Malformed("birth into a slot that was not left").into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn post_birth(&self, slot: &mut SlotState, order: &BirthOrder) -> Result<()> {
        if order.newborn == order.slot {
            return Err(session::Malformed("birth into the maker's own slot").into());
        }
        let mut newborn = lock(self.slot(order.newborn)?);
        if newborn.tenant.is_some() {
            return Err(session::Malformed("birth into a slot that is in use").into());
        }
        *newborn = SlotState::of(None);
        self.shared.renew(order.newborn);
        self.shared.occupy(order.newborn, true);
        self.used.fetch_max(order.newborn + 1, SeqCst);
        let flags = match order.birth {
            Birth::Thread => THREAD as u64,
            Birth::Process { exit_signal, sibling } => {
                u64::from(exit_signal) | if sibling { libc::CLONE_PARENT as u64 } else { 0 }
            }
        };
        let make = Post {
            signals_seen: order.signals_seen,
            ..post(CALL_CLONE, [flags, self.shared.slot_address(order.newborn), 0, 0, 0, 0])
        };
        slot.under = Under::Birth { seq: order.seq, newborn: order.newborn, birth: order.birth };
        self.post(order.slot, slot, &make);
        Ok(())
    }

    /// A newborn gets its slot, and the keeper hears of it before anybody else. Or there is none.
    pub(super) fn welcome(&self, maker: Tenant, newborn: u32, birth: Birth, ret: i64) -> Result<()> {
        let Ok(tid @ 1..) = i32::try_from(ret) else {
            self.shared.occupy(newborn, false);
            return Ok(());
        };
        let pid = if birth == Birth::Thread { maker.pid } else { tid };
        let mut slot = lock(self.slot(newborn)?);
        slot.tenant = Some(Tenant { pid, tid });
        slot.announced = false;
        if pid != maker.pid {
            self.tell(News::Born { pid, of: maker.pid });
        }
        Ok(())
    }

    fn post_exec(&self, slot: &mut SlotState, order: ExecOrder, input: &[u8]) -> Result<()> {
        let (index, seq) = (order.header.slot, order.header.seq);
        let (call, _) = self.lay_out(order.header, input)?;
        slot.under = Under::Exec { seq };
        self.may_part(index, Parting::Exec);
        // With the program's own mask: what it lets through comes first, and the new program inherits it.
        self.post(index, slot, &Post { mask: order.mask, ..call });
        // Whoever sleeps watches only what was in the list when it went to sleep.
        self.shared.ring();
        Ok(())
    }
}

fn post(nr: u32, args: [u64; 6]) -> Post {
    Post { nr, args, signals_seen: 0, mask: ALL_BLOCKED }
}
