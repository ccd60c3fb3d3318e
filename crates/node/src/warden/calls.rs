//! The guest's calls: from its notification to the deputy and back.

use super::guest::{Outstanding, Question, Waits};
use super::half_done::HalfDone;
use super::{Step, Warden};
use crate::journey::Outlet;
use forward::{Gathered, GoOn, Total};
use kernel::notify::{Notification, Verdict};
use std::time::{Duration, Instant};
use stub_abi::{INTERRUPTED, NOT_EXECUTED};
use syscalls::{Route, Row, filter};
use tracee::socket_time::Direction;
use wire::session::{self, CallHeader, CancelCall, Kind, ReplyHeader, Wish, WishOf};

/// The kernel's ERESTARTSYS: restarted if the handler of the signal says so.
pub(super) const RESTART_BY_HANDLER: i64 = INTERRUPTED;
/// The kernel's ERESTARTNOINTR: restarted in any case.
pub(super) const RESTART_ALWAYS: i64 = NOT_EXECUTED;
/// The kernel's ERESTARTNOHAND: restarted unless a handler runs.
const RESTART_WITHOUT_HANDLER: i64 = -514;
pub(super) const EINTR: i64 = -(nix::libc::EINTR as i64);
pub(super) const ENOSYS: i64 = -(nix::libc::ENOSYS as i64);
const PATH_BYTES_MAX: usize = 4096;

/// What a thread's pending signals mean for an interrupted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    /// None that could be delivered: on one machine the call would not have been interrupted.
    None,
    /// One for which the program has a handler.
    Handled,
    /// One without a handler: the call goes on afterwards.
    Unhandled,
    /// One that only the call's own mask lets through: nothing but the call itself can treat it rightly.
    OnlyInside,
}

impl Warden {
    /// Takes the next call of the guest.
    pub(super) fn take_notification(&mut self) -> Step {
        let received = self.guest.listener.receive();
        let Some(notification) = received.map_err(self.broken("receiving a call", self.guest.init))? else {
            return Ok(());
        };
        let Some(&index) = self.guest.by_tid.get(&notification.tid) else {
            return self.answer_raw(notification.id, Verdict::Return(ENOSYS));
        };
        self.guest.threads[index].sleep = None;
        self.guest.threads[index].given_up = false;
        self.expect_half_done(index, &notification);
        if let Waits::Delivery(labour) = &mut self.guest.threads[index].waits {
            // A signal came first and the call is made again: the stop that was asked for is still to come.
            labour.notification = notification.id;
            return self.answer_undone(index, notification.id);
        }
        if self.leaves(index) {
            let code = self.code_of(index, &notification);
            return self.answer_raw(notification.id, Verdict::Return(code));
        }
        if self.heed_files(index, &notification)? {
            return Ok(());
        }
        let row = u32::try_from(notification.nr).ok().and_then(syscalls::row);
        let makes_code = |row: &&Row| {
            self.guest.member(index).image.fixed_code && filter::makes_code(row.nr, &notification.args)
        };
        let route = row
            .filter(|row| !makes_code(row))
            .map_or(Route::GoHome, |row| row.route_of(&notification.args, self.guest.threads[index].of));
        match (row, route) {
            (Some(row), Route::Home | Route::HomeBlocking) => self.forward(index, &notification, row),
            (Some(row), Route::Special(special)) => self.special(index, &notification, row, special),
            (_, Route::Obsolete) => self.answer_raw(notification.id, Verdict::Return(ENOSYS)),
            (Some(row), Route::Local) if filter::is_about_files(row.nr) => {
                self.answer_raw(notification.id, Verdict::Continue)
            }
            // A call that the filter lets pass is never notified; if one is, its home knows best.
            _ => self.wish_home(index, &notification),
        }
    }

    /// Sends a call home.
    pub(super) fn forward(&mut self, index: usize, notification: &Notification, row: &'static Row) -> Step {
        let (args, memory) = (notification.args, self.guest.member(index).memory);
        if self.looks_at_itself(index, row, &args) {
            return self.wish_home(index, notification);
        }
        let mask = forward::temporary_mask(row, &args, &memory);
        // What the call's own mask lets through would end it before it waits, and no deputy knows of it any more.
        if mask.is_some() && self.interruption(index, mask) == Interruption::OnlyInside {
            return self.wish_home(index, notification);
        }
        let done = self.guest.threads[index].half_done.take().map_or(0, |half_done| half_done.done);
        let (call, landing) = match forward::gather_from(row, args, &memory, done) {
            Gathered::Call { call, landing } => (call, landing),
            Gathered::GoHome(_) if done > 0 => return self.answer(index, notification.id, done as i64),
            Gathered::GoHome(_) => return self.wish_home(index, notification),
        };
        let mut call = call;
        if changes_terminal(row.nr, &args) {
            let status = procinfo::status(self.guest.threads[index].tid);
            call.blocked =
                status.map_or(0, |status| (status.blocked | status.ignored) & wire::TERMINAL_SIGNALS);
        }
        if i64::from(row.nr) == nix::libc::SYS_rt_tgsigqueueinfo {
            self.mark_directed(&mut call);
        }
        let timeout = forward::timeout(row, &args, &memory);
        let ends = self.guest.threads[index].ends.take();
        let remade =
            self.guest.threads[index].remade.take().filter(|(nr, _)| *nr == i64::from(notification.nr));
        let mut since = Instant::now();
        if let (Some((nr, end)), Some(Total::Finite(total))) = (ends, timeout.map(|timeout| timeout.total))
            && nr == i64::from(notification.nr)
        {
            let left = end.saturating_duration_since(since);
            since = since.checked_sub(total.saturating_sub(left)).unwrap_or(since);
            forward::with_remaining(&mut call, row, left);
        }
        let began =
            self.guest.threads[index].began.take().filter(|(nr, _)| *nr == i64::from(notification.nr));
        if let Some((_, began)) = began {
            since = began;
        }
        let outstanding = Outstanding {
            row,
            args,
            rip: notification.rip,
            call,
            landing,
            done,
            seen: 0,
            since,
            timeout,
            mask,
            remade: remade.map(|(_, code)| code),
            cancelled: false,
            timed_by_socket: began.is_some(),
            limit: None,
            question: None,
        };
        if outstanding.timed_by_socket {
            return self.ask_socket_time(index, notification.id, Box::new(outstanding));
        }
        self.send_call(index, notification.id, Box::new(outstanding))
    }

    /// Whether the call names something that its home would answer wrongly about the process.
    fn looks_at_itself(&self, index: usize, row: &Row, args: &[u64; 6]) -> bool {
        use forward::Memory;
        let Some(path) = row.path().and_then(|index| args.get(index)) else { return false };
        let member = self.guest.member(index);
        let path = member.memory.read_string(*path, PATH_BYTES_MAX);
        path.is_ok_and(|path| forward::describes_oneself(&path, member.image.pid))
    }

    /// Sends the call of a thread and lets the thread wait for it.
    pub(super) fn send_call(
        &mut self,
        index: usize,
        notification: u64,
        mut outstanding: Box<Outstanding>,
    ) -> Step {
        let member = self.guest.member_mut(index);
        member.forwarded += 1;
        member.carried_bytes += outstanding.call.input.len() as u64;
        let thread = &mut self.guest.threads[index];
        thread.seq = thread.seq.wrapping_add(1);
        outstanding.seen = thread.signals_seen;
        let mut call = outstanding.call.clone();
        let input = std::mem::take(&mut call.input);
        let header =
            CallHeader { slot: index as u32, seq: thread.seq, signals_seen: thread.signals_seen, call };
        thread.waits = Waits::Call { notification, outstanding };
        Ok(self.link.put(Kind::Call, &[&session::encode(&header), &input])?)
    }

    /// The process is to come home and make this call there.
    pub(super) fn wish_home(&mut self, index: usize, notification: &Notification) -> Step {
        self.wish(index, notification.id, notification.nr as u32)
    }

    /// As [`Warden::wish_home`], for call `nr`.
    pub(super) fn wish(&mut self, index: usize, notification: u64, nr: u32) -> Step {
        self.guest.threads[index].waits = Waits::Home { notification };
        self.ask_home(index, Wish::Call { nr })
    }

    /// Asks that the process of a thread be brought home.
    pub(super) fn ask_home(&mut self, index: usize, wish: Wish) -> Step {
        let pid = self.guest.threads[index].of;
        Ok(self.link.put(Kind::Wish, &[&session::encode(&WishOf { pid, wish })])?)
    }

    /// Answers a call of a thread, which waits for nothing any more.
    pub(super) fn answer(&mut self, index: usize, notification: u64, ret: i64) -> Step {
        self.guest.threads[index].waits = Waits::Nothing;
        self.answer_raw(notification, Verdict::Return(ret))
    }

    pub(super) fn answer_raw(&mut self, notification: u64, verdict: Verdict) -> Step {
        let sent = self.guest.listener.send(notification, verdict);
        // A thread that was killed meanwhile needs no answer.
        sent.map(drop).map_err(self.broken("answering a call", self.guest.init))
    }

    /// Takes the deputy's answer.
    pub(super) fn take_reply(&mut self, payload: &[u8]) -> Step {
        let (reply, data) = session::decode::<ReplyHeader>(payload)?;
        let index = reply.slot as usize;
        let Some(thread) = self.guest.threads.get_mut(index).filter(|thread| thread.seq == reply.seq) else {
            let thread = self.guest.threads.get_mut(index);
            tracing::debug!(?reply, ?thread, "a reply to nothing");
            return Err(session::Malformed("reply to nothing").into());
        };
        match std::mem::replace(&mut thread.waits, Waits::Nothing) {
            Waits::Call { notification, outstanding } => {
                self.guest.member_mut(index).carried_bytes += data.len() as u64;
                self.finish(index, notification, outstanding, reply.ret, data)
            }
            Waits::Action { notification, signal, action } => {
                if let Some(known) = self.guest.member_mut(index).actions.get_mut((signal - 1) as usize) {
                    *known = action;
                }
                self.answer_raw(notification, Verdict::Continue)
            }
            // What it asked for otherwise, this kernel answers.
            Waits::Sync { notification } if reply.ret == 0 => {
                self.answer_raw(notification, Verdict::Continue)
            }
            Waits::Sync { notification } => self.answer(index, notification, reply.ret),
            Waits::Exit { notification } => self.answer_restart(index, notification, RESTART_ALWAYS),
            Waits::Exec { notification } => self.exec_failed(index, notification, reply.ret),
            Waits::Birth(labour) => self.labour(index, labour, reply.ret),
            Waits::Buried => {
                self.guest.vacate(index);
                Ok(())
            }
            // It was stopped at home, and goes on.
            Waits::Stop if !self.leaves(index) => self.resume(index, 0),
            Waits::Stop => Ok(()),
            other => {
                self.guest.threads[index].waits = other;
                Err(session::Malformed("reply to something else").into())
            }
        }
    }

    fn finish(
        &mut self,
        index: usize,
        notification: u64,
        outstanding: Box<Outstanding>,
        ret: i64,
        data: &[u8],
    ) -> Step {
        match outstanding.question {
            Some(Question::Position(original)) => {
                return self.position_known(index, notification, original, ret);
            }
            Some(Question::SocketTime(original, scratch)) => {
                let landed = outstanding.landing.land(ret, data, &scratch);
                return self.socket_time_known(index, notification, original, (landed, &scratch));
            }
            None => {}
        }
        if [RESTART_BY_HANDLER, RESTART_ALWAYS, EINTR].contains(&ret) {
            if ret != RESTART_ALWAYS {
                // The kernel has written the time that is left, where it does so.
                outstanding.landing.land(ret, data, &self.guest.member(index).memory);
            }
            return self.interrupted(index, notification, outstanding, ret);
        }
        let memory = self.guest.member(index).memory;
        let adjusted = self.with_usage_away(index, &outstanding, data);
        let landed = outstanding.landing.land(ret, adjusted.as_deref().unwrap_or(data), &memory);
        let disturbed = outstanding.cancelled || outstanding.seen != self.guest.threads[index].signals_seen;
        if disturbed && outstanding.landing.is_half_done(landed) {
            let moved = Box::new(Outstanding { done: outstanding.done + landed as u64, ..*outstanding });
            return self.give_way(index, notification, moved);
        }
        let (done, chunk) = (outstanding.done, outstanding.landing.chunk());
        let full =
            chunk.filter(|chunk| landed > 0 && landed as u64 == chunk.asked && chunk.wanted > chunk.asked);
        match full {
            Some(chunk) => {
                let moved = Box::new(Outstanding { done: done + landed as u64, ..*outstanding });
                // What was to interrupt it came just too late, and would not interrupt the next chunk.
                let gives_way = disturbed && self.must_give_way(index, moved.mask);
                match chunk.go_on {
                    GoOn::Always if !gives_way => self.next_chunk(index, notification, moved),
                    GoOn::Always | GoOn::IfSeekable => self.ask_position(index, notification, moved),
                }
            }
            None if done > 0 && landed < 0 => self.answer(index, notification, done as i64),
            None => self.answer(index, notification, if landed < 0 { landed } else { landed + done as i64 }),
        }
    }

    /// Whether a call that is half done and would wait for more has to end, or to be made again.
    pub(super) fn must_give_way(&self, index: usize, mask: Option<u64>) -> bool {
        self.leaves(index) || self.interruption(index, mask) != Interruption::None
    }

    /// A call has given a part, and would wait for more if the warden or a signal did not interrupt it. Only a signal that
    /// the program handles is a reason to answer that part; what was interrupted for anything else gives the rest.
    fn give_way(&mut self, index: usize, notification: u64, outstanding: Box<Outstanding>) -> Step {
        match self.interruption(index, outstanding.mask) {
            Interruption::Handled => self.answer(index, notification, outstanding.done as i64),
            _ if !outstanding.landing.gives() => self.answer(index, notification, outstanding.done as i64),
            Interruption::None if !self.leaves(index) => self.next_chunk(index, notification, outstanding),
            // It is made again where the thread is then; at home nobody could add up what it gives.
            _ => {
                let Outstanding { row, args, rip, done, .. } = *outstanding;
                self.guest.threads[index].half_done =
                    Some(HalfDone { nr: i64::from(row.nr), args, rip, done });
                self.answer_restart(index, notification, RESTART_ALWAYS)
            }
        }
    }

    fn next_chunk(&mut self, index: usize, notification: u64, outstanding: Box<Outstanding>) -> Step {
        let Outstanding { row, args, done, .. } = *outstanding;
        match forward::gather_from(row, args, &self.guest.member(index).memory, done) {
            Gathered::Call { call, landing } => {
                let next = Outstanding { call, landing, cancelled: false, ..*outstanding };
                self.send_call(index, notification, Box::new(next))
            }
            Gathered::GoHome(_) => self.answer(index, notification, done as i64),
        }
    }

    /// A stream may have given all it has: asking again could wait for ever. Files can be positioned, streams cannot.
    fn ask_position(&mut self, index: usize, notification: u64, outstanding: Box<Outstanding>) -> Step {
        let args = [outstanding.args[0], 0, nix::libc::SEEK_CUR as u64, 0, 0, 0];
        let Some(row) = syscalls::row(nix::libc::SYS_lseek as u32) else {
            return self.answer(index, notification, outstanding.done as i64);
        };
        match forward::gather(row, args, &self.guest.member(index).memory) {
            Gathered::Call { call, landing } => {
                let question = Outstanding {
                    row,
                    args,
                    rip: outstanding.rip,
                    call,
                    landing,
                    done: 0,
                    seen: 0,
                    since: outstanding.since,
                    timeout: None,
                    mask: None,
                    remade: None,
                    cancelled: false,
                    timed_by_socket: false,
                    limit: None,
                    question: Some(Question::Position(outstanding)),
                };
                self.send_call(index, notification, Box::new(question))
            }
            _ => self.answer(index, notification, outstanding.done as i64),
        }
    }

    fn position_known(
        &mut self,
        index: usize,
        notification: u64,
        original: Box<Outstanding>,
        ret: i64,
    ) -> Step {
        match ret {
            // A signal or the warden came first: the question is asked again.
            RESTART_BY_HANDLER | RESTART_ALWAYS | EINTR => self.ask_position(index, notification, original),
            // A file answers at once, so even a move waits for the rest of it.
            0.. => self.next_chunk(index, notification, original),
            _ => self.give_way(index, notification, original),
        }
    }

    /// A call came back without having done anything, because a signal or the warden interrupted it.
    pub(super) fn interrupted(
        &mut self,
        index: usize,
        notification: u64,
        outstanding: Box<Outstanding>,
        ret: i64,
    ) -> Step {
        let interruption = self.interruption(index, outstanding.mask);
        let mut outstanding = outstanding;
        // Only a call that its socket limits ends so, if no signal is heard.
        outstanding.timed_by_socket |= ret == EINTR && Direction::of(i64::from(outstanding.row.nr)).is_some();
        let unheard = matches!(interruption, Interruption::None | Interruption::Unhandled);
        if unheard && ret != RESTART_ALWAYS && outstanding.done == 0 && outstanding.is_over() {
            return self.answer(index, notification, outstanding.out_of_time());
        }
        if outstanding.done > 0 {
            return match ret {
                _ if !self.must_give_way(index, outstanding.mask) => {
                    self.send_again(index, notification, outstanding)
                }
                // It has not begun: what takes all without waiting shall still be given it.
                RESTART_ALWAYS => self.ask_position(index, notification, outstanding),
                _ => self.give_way(index, notification, outstanding),
            };
        }
        let code = code_after(ret, outstanding.remade);
        match interruption {
            Interruption::Handled if ret == EINTR => self.answer(index, notification, ret),
            Interruption::Handled => self.answer_restart(index, notification, code),
            Interruption::OnlyInside => {
                if self.leaves(index) {
                    return self.answer(index, notification, RESTART_ALWAYS);
                }
                self.wish(index, notification, outstanding.row.nr)
            }
            Interruption::Unhandled => self.restart(index, notification, &outstanding, RESTART_ALWAYS),
            // The thread has been told to stop, and does so before it could see the code.
            Interruption::None if self.leaves(index) => self.restart(index, notification, &outstanding, code),
            Interruption::None => self.send_again(index, notification, outstanding),
        }
    }

    fn send_again(&mut self, index: usize, notification: u64, mut outstanding: Box<Outstanding>) -> Step {
        if let Some(left) = left_of(&outstanding) {
            forward::with_remaining(&mut outstanding.call, outstanding.row, left);
        }
        outstanding.cancelled = false;
        outstanding.grant_a_look();
        self.send_call(index, notification, outstanding)
    }

    /// The guest makes the call again by itself, with what is left of its time.
    fn restart(&mut self, index: usize, notification: u64, outstanding: &Outstanding, code: i64) -> Step {
        let nr = i64::from(outstanding.row.nr);
        let end = left_of(outstanding).and_then(|left| Instant::now().checked_add(left));
        self.guest.threads[index].ends = end.map(|end| (nr, end));
        self.guest.threads[index].began = outstanding.timed_by_socket.then_some((nr, outstanding.since));
        self.answer_restart(index, notification, code)
    }

    /// Answers with one of the kernel's restart codes. Those are understood only on the way to a stop or a signal, and
    /// another thread may take the signal first: so the thread is made to stop.
    pub(super) fn answer_restart(&mut self, index: usize, notification: u64, code: i64) -> Step {
        self.interrupt(index)?;
        self.guest.threads[index].given_up = code != RESTART_ALWAYS;
        self.answer(index, notification, code)
    }

    /// The code with which a call is given up before it was even sent.
    fn code_of(&mut self, index: usize, notification: &Notification) -> i64 {
        let remade = self.guest.threads[index].remade;
        remade.filter(|(nr, _)| *nr == i64::from(notification.nr)).map_or(RESTART_ALWAYS, |(_, code)| code)
    }

    fn interruption(&self, index: usize, mask: Option<u64>) -> Interruption {
        let Ok(status) = procinfo::status(self.guest.threads[index].tid) else { return Interruption::None };
        let pending = (status.pending | status.shared_pending) & !status.ignored;
        let inside = pending & !mask.unwrap_or(status.blocked);
        if inside == 0 {
            Interruption::None
        } else if inside & !status.blocked == 0 {
            Interruption::OnlyInside
        } else if inside & !status.blocked & status.caught != 0 {
            Interruption::Handled
        } else {
            Interruption::Unhandled
        }
    }

    /// Tells the deputy to give up the call of a thread.
    pub(super) fn cancel(&mut self, index: usize) -> Step {
        let thread = &mut self.guest.threads[index];
        let seq = thread.seq;
        let Waits::Call { outstanding, .. } = &mut thread.waits else { return Ok(()) };
        if outstanding.cancelled {
            return Ok(());
        }
        outstanding.cancelled = true;
        let cancel = CancelCall { slot: index as u32, seq };
        Ok(self.link.put(Kind::Cancel, &[&session::encode(&cancel)])?)
    }
}

/// Whether a call may be one that only the foreground may make, or who blocks `SIGTTOU`: the `ioctl`s of terminals.
fn changes_terminal(nr: u32, args: &[u64; 6]) -> bool {
    const OF_TERMINALS: std::ops::RangeInclusive<u32> = 0x5401..=0x545f;
    i64::from(nr) == nix::libc::SYS_ioctl && OF_TERMINALS.contains(&(args[1] as u32))
}

/// The kernel's code for a call that the deputy gave back undone. A call that was under way before the move must not
/// become one that was never begun: a signal that comes now interrupts it.
fn code_after(ret: i64, remade: Option<i64>) -> i64 {
    match ret {
        EINTR => RESTART_WITHOUT_HANDLER,
        RESTART_ALWAYS => remade.unwrap_or(RESTART_ALWAYS),
        other => other,
    }
}

/// How much of a call's timeout is left; `None` if it has none.
fn left_of(outstanding: &Outstanding) -> Option<Duration> {
    match outstanding.timeout?.total {
        Total::Finite(total) => Some(total.saturating_sub(outstanding.since.elapsed())),
        Total::Infinite => None,
    }
}
