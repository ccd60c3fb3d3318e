//! The guest leaves: home, or on to another host.
//!
//! First it stands still: every thread stopped, no call under way. It is captured while its deputy is stopped at home, and
//! sent when every signal that was caught until then is here. It stays here, stopped, until the keeper says that it lives
//! elsewhere, or that it is to go on: the warden is the [`Giver`], and the word is the keeper's. If the keeper is lost
//! meanwhile, the guest must not go on.

use super::guest::Waits;
use super::half_done::HalfDone;
use super::signals::{addressed, reveal};
use super::{Step, Warden};
use crate::fault::{self, Point};
use crate::journey::transfer::{self, files_of};
use crate::journey::{Error, Outlet, Result};
use image::{Clocks, Process, Resume, Siginfo};
use kernel::ptrace;
use migration::{Giver, GiverInput, Word};
use net::{Channel, Receiver, Route, Sender};
use procinfo::Mapping;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stub_abi::NOT_EXECUTED;
use tracee::capture::{self, Known, Snapshot};
use tracee::clocks::{Monotonic, Whose};
use tracee::inject::{self, Injector};
use tracee::layout;
use tracee::pages::{Objects, Source};
use tracee::restart::{self, Waiting};
use wire::session::{self, Hello, Kind, MoveOn, Quiesce, Refusal, Role, Round, Sent, Stays};

/// How long a process may be held up by what it has made with `vfork`.
const VFORK_PATIENCE: Duration = Duration::from_secs(1);
/// What a guest may run between two times in which its warden has its CPU.
const TURN: Duration = Duration::from_micros(50);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The kernel's ERESTARTNOHAND.
const RESTART_WITHOUT_HANDLER: i64 = -514;

/// A guest on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Which of the family, by pid at home.
    pub(super) pid: i32,
    round: u32,
    since: Instant,
    /// Whose it is; in the keeper's hands from the start.
    giver: Giver,
    /// The mappings when it was told to stop.
    before: Vec<Mapping>,
    /// The keeper knows that it stands still.
    pub(super) is_quiet: bool,
    /// Signals that came after that, with the slot that caught each.
    pub(super) late: Vec<(usize, Siginfo)>,
    /// What is to be sent, or why it cannot be.
    image: Option<Result<Process>>,
    /// What undoes the capture.
    captured: Option<Captured>,
}

/// The channel to the next host.
pub(super) struct Onward {
    sender: Sender,
    /// Open as long as the sender is.
    _receiver: Receiver,
    /// By how much this process's clocks are ahead of that machine's.
    ahead: Clocks,
}

#[derive(Debug)]
struct Captured {
    injector: Injector,
    snapshots: Vec<Snapshot>,
    instruction: u64,
}

impl Warden {
    /// The files go ahead to the next host while the guest runs.
    pub(super) fn prepare_onward(&mut self, payload: &[u8]) -> Step {
        let (order, _) = session::decode::<MoveOn>(payload)?;
        match self.send_files_ahead(&order) {
            Ok(onward) => {
                self.onward = Some(onward);
                Ok(self.link.put(Kind::MoveOn, &[&session::encode(&order)])?)
            }
            Err(error) => Ok(self.link.put(Kind::Refused, &[&session::encode(&error.to_refusal())])?),
        }
    }

    fn send_files_ahead(&mut self, order: &MoveOn) -> Result<Onward> {
        fault::at(&self.setup.config.paths, Point::WardenOnward)?;
        let route = Route::Session(order.session);
        let channel =
            Channel::connect(&self.setup.identity, order.address, route, order.node, CONNECT_PATIENCE)?;
        let (mut sender, mut receiver): (Sender, Receiver) = channel.split();
        let (_, member) = self.guest.members.first_key_value().ok_or(Error::Ending)?;
        let process = model::ProcessId { pid: member.image.pid, start_ticks: 0 };
        let hello = Hello { version: session::VERSION, role: Role::Source, process };
        sender.put(Kind::Hello, &[&session::encode(&hello)])?;
        let pid = member.pid;
        let mappings = procinfo::maps(pid).map_err(Error::io("reading the mappings"))?;
        let layout = layout::read_early(pid, &mappings, &mut self.files)?;
        let files = files_of(&layout.areas, layout.executable, &self.files);
        transfer::send_files(&mut sender, &mut receiver, &files, &mut |_, _| {})?;
        let ahead = transfer::compare_clocks(&mut sender, &mut receiver)?;
        let image = &member.image;
        let known_as = (image.pid, image.uid, image.gid);
        transfer::make_body(&mut sender, &mut receiver, pid, known_as, ahead)?;
        Ok(Onward { sender, _receiver: receiver, ahead })
    }

    /// Whether the process of a thread is on its way out.
    pub(super) fn leaves(&self, index: usize) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.pid == self.guest.threads[index].of)
    }

    fn refuse_to_leave(&mut self, round: u32, reason: model::Reason) -> Step {
        // The way that was prepared leads nowhere.
        self.onward = None;
        let reasons = model::Reasons(vec![reason]);
        let refusal = Refusal { message: reasons.to_string(), reasons };
        Ok(self.link.put(Kind::Stays, &[&session::encode(&Stays { round, refusal })])?)
    }

    /// Tells every thread of a process to stop.
    pub(super) fn begin_leaving(&mut self, Quiesce { pid, onward, round }: Quiesce) -> Step {
        if !onward {
            // The way that was prepared is not taken.
            self.onward = None;
        }
        if self.guest.threads.of(pid).is_empty() {
            // It has just ended, or become another program at home.
            return self.refuse_to_leave(round, model::ReasonCode::NoSuchProcess.into());
        }
        fault::at(&self.setup.config.paths, Point::WardenQuiesce)?;
        let here = self.guest.members.get(&pid).map_or(0, |member| member.pid);
        let before = procinfo::maps_with_flags(here).unwrap_or_default();
        // It may have stood still for that, for want of a CPU, and shall not for both in one piece.
        std::thread::sleep(TURN);
        let mut giver = Giver::new(Word::Taker);
        giver.step(GiverInput::Stopped)?;
        self.leaving = Some(Leaving {
            pid,
            round,
            since: Instant::now(),
            giver,
            before,
            is_quiet: false,
            late: Vec::new(),
            image: None,
            captured: None,
        });
        for index in self.guest.threads.of(pid) {
            self.interrupt(index)?;
            match self.guest.threads[index].waits {
                Waits::Call { .. } => self.cancel(index)?,
                Waits::Home { notification } | Waits::File { notification, .. } => {
                    self.answer(index, notification, NOT_EXECUTED)?;
                }
                // What waits for its home hears from it soon; the rest ends by itself.
                Waits::Nothing
                | Waits::Action { .. }
                | Waits::Sync { .. }
                | Waits::Exit { .. }
                | Waits::Exec { .. }
                | Waits::Birth(_)
                | Waits::Delivery(_)
                | Waits::Vfork { .. }
                | Waits::Ending
                | Waits::Buried
                | Waits::Stop
                | Waits::Death => {}
            }
        }
        Ok(())
    }

    /// Says so once the guest stands still.
    pub(super) fn advance_leaving(&mut self) -> Step {
        if let Some(leaving) = &mut self.leaving
            && !leaving.is_quiet
            && self.guest.is_quiet(leaving.pid)
        {
            leaving.is_quiet = true;
            let (pid, round) = (leaving.pid, Round { round: leaving.round });
            self.write_back(pid)?;
            self.link.put(Kind::Quiet, &[&session::encode(&round)])?;
            // Only signals can still come.
            if let Some(mut leaving) = self.leaving.take() {
                leaving.image = Some(self.capture(&mut leaving));
                self.leaving = Some(leaving);
            }
            return Ok(());
        }
        // Mostly what was made with `vfork` becomes another program at once. If not, it may itself need what is held up
        // by this.
        let overdue = |leaving: &Leaving| !leaving.is_quiet && leaving.since.elapsed() > VFORK_PATIENCE;
        if let Some((pid, round)) = self
            .leaving
            .as_ref()
            .filter(|leaving| overdue(leaving))
            .map(|leaving| (leaving.pid, leaving.round))
            && self
                .guest
                .threads
                .iter()
                .any(|thread| thread.of == pid && matches!(thread.waits, Waits::Vfork { .. }))
        {
            self.stay()?;
            let why = "it waits for a process that it has made with vfork";
            return self.refuse_to_leave(round, model::Reason::new(model::ReasonCode::Busy, why));
        }
        Ok(())
    }

    /// Every signal caught before now is here: the guest is sent.
    pub(super) fn flushed(&mut self) -> Step {
        // It may have ended since it stood still.
        let Some(leaving) = &mut self.leaving else {
            let refusal = Error::Ended.to_refusal();
            return Ok(self.link.put(Kind::Refused, &[&session::encode(&refusal)])?);
        };
        let late = std::mem::take(&mut leaving.late);
        let (pid, image) = (leaving.pid, leaving.image.take());
        let Some(image) = image else { return Err(session::Malformed("sent before it stood still").into()) };
        let mut onward = self.onward.take();
        let here = self.guest.members.get(&pid).map_or(0, |member| member.pid);
        let captured = image.and_then(|mut image| {
            self.add_late(&mut image, &late);
            fault::at(&self.setup.config.paths, Point::WardenCaptured).map(|()| image)
        });
        let sent = captured.and_then(|image| match &mut onward {
            Some(onward) => send(&mut onward.sender, image, (onward.ahead, Objects::All), here),
            // At home its clocks are those of its home again, and its files are there.
            None => send(&mut self.link, image, (Clocks::default(), Objects::OfNoFile), here),
        });
        // What comes of it if it stays: they have not been taken from it.
        if let Some(leaving) = &mut self.leaving {
            leaving.late = late;
        }
        let sent =
            sent.and_then(|bytes| fault::at(&self.setup.config.paths, Point::WardenSent).map(|()| bytes));
        match sent {
            Ok(bytes) if onward.is_some() => {
                // The connection stays open until the process is released or stays.
                self.onward = onward;
                Ok(self.link.put(Kind::Sent, &[&session::encode(&Sent { bytes })])?)
            }
            Ok(_) => Ok(()),
            Err(error) => Ok(self.link.put(Kind::Refused, &[&session::encode(&error.to_refusal())])?),
        }
    }

    fn capture(&mut self, leaving: &mut Leaving) -> Result<Process> {
        let slots = self.guest.threads.of(leaving.pid);
        let pid = self.guest.members.get(&leaving.pid).ok_or(Error::Ending)?.pid;
        let failed = |what: &'static str, pid: i32| move |errno| tracee::Error::Kernel { what, pid, errno };
        let code = tracee::vdso::code(&leaving.before);
        for &index in &slots {
            while let Some(info) = tracee::vdso::lead_out(self.guest.threads[index].tid, &code)? {
                let info = reveal(capture::siginfo_words(&info));
                self.guest.threads[index].stash.push(info);
            }
        }
        let mut snapshots = Vec::with_capacity(slots.len());
        for &index in &slots {
            snapshots.push(Snapshot::take(self.guest.threads[index].tid)?);
        }
        let mappings = layout::refresh(pid, &leaving.before)?;
        let mut layout = layout::read(pid, &mappings, &mut self.files)?;
        if self.guest.stand_in.is_some() {
            let first = slots.first().copied().ok_or(Error::Ending)?;
            let image = &self.guest.member(first).image;
            layout.leave_out(image.vdso, &image.vdso_code)?;
        }
        let instruction = inject::find_instruction(pid, &mappings)?;
        let taken = mappings.iter().map(|mapping| (mapping.start, mapping.end));
        let hole = inject::find_hole(inject::AREA_BYTES, 4096, taken);
        let base =
            hole.ok_or(tracee::Error::Kernel { what: "finding a hole", pid, errno: kernel::Errno::ENOMEM })?;
        for thread in slots.iter().map(|&index| &self.guest.threads[index]) {
            let options = ptrace::OPTION_EXITKILL | ptrace::OPTION_SUSPEND_SECCOMP;
            ptrace::set_options(thread.tid, options).map_err(failed("suspending the filter", thread.tid))?;
        }
        let leader = snapshots.first().ok_or(tracee::Error::Gone(pid))?;
        let injector = Injector::enter(pid, leader.registers(), instruction, base)?;
        let image = self.describe(&injector, &snapshots, layout, &slots);
        leaving.captured = Some(Captured { injector, snapshots, instruction });
        image
    }

    fn describe(
        &mut self,
        injector: &Injector,
        snapshots: &[Snapshot],
        layout: layout::Layout,
        slots: &[usize],
    ) -> Result<Process> {
        let (stands_since_ns, stand_in) = (restart::now_ns(), self.guest.stand_in.clone());
        let mut known = Known { stands_since_ns, stand_in, ..Known::default() };
        let mut waiting = BTreeMap::new();
        for thread in slots.iter().map(|&index| &self.guest.threads[index]) {
            known.home_tids.insert(thread.tid, thread.home_tid);
            let stands = snapshots.iter().find(|snapshot| snapshot.tid() == thread.tid);
            if let Some(sleep) = thread.sleep
                && stands.is_some_and(|snapshot| sleep.is_at(snapshot.registers()))
            {
                let (nr, deadline_ns) = (Some(sleep.nr), Some(sleep.deadline_ns));
                let watched = Waiting { nr, deadline_ns, is_watched: true, ..Waiting::default() };
                waiting.insert(thread.tid, watched);
            }
        }
        known.waiting = waiting;
        let mut image = capture::capture(injector, snapshots, layout, &known)?;
        // Whom it belongs to and what it may use is known from home; here it is somebody else.
        let first = slots.first().copied().ok_or(Error::Ending)?;
        let member = self.guest.member_mut(first);
        image.uid = member.image.uid;
        image.gid = member.image.gid;
        image.limits = member.image.limits;
        image.fixed_code = member.image.fixed_code;
        let pid = member.image.pid;
        let clock = Monotonic::of(member.pid);
        // The kernel resets some actions by itself (`SA_RESETHAND`), so it is the kernel's that travel.
        member.actions.clone_from(&image.actions);
        image.pending = image.pending.iter().map(|info| reveal(*info)).collect();
        image.used = self.guest.used(Whose::Process(pid));
        // At home it is only noted down, for all of them: its home's count is what is shown there.
        if self.onward.is_some() {
            for thread in &mut image.threads {
                thread.used = self.guest.used(Whose::Thread(thread.tid));
            }
        }
        for (thread, &index) in image.threads.iter_mut().zip(slots) {
            let stash = self.guest.threads[index].stash.clone();
            let pending: Vec<Siginfo> = thread.pending.iter().map(|info| reveal(*info)).collect();
            thread.pending = stash.into_iter().chain(pending).collect();
            super::unheard::make_again(&mut thread.registers, &self.guest.threads[index]);
            if let Some((nr, end)) = self.guest.threads[index].ends {
                make_again(thread, nr, Resume::Timed { until_ns: until(end, clock) });
            }
            if let Some((nr, began)) = self.guest.threads[index].began {
                make_again(thread, nr, Resume::Since { since_ns: since(began, clock) });
            }
            if let Some(half_done) = self.guest.threads[index].half_done {
                give_the_rest(thread, half_done, self.onward.is_some());
            }
        }
        Ok(image)
    }

    /// Adds the signals that came after the capture.
    fn add_late(&self, image: &mut Process, late: &[(usize, Siginfo)]) {
        for &(index, info) in late {
            let home_tid = self.guest.threads[index].home_tid;
            let thread = image.threads.iter_mut().find(|thread| thread.tid == home_tid);
            let (is_directed, info) = addressed(info);
            match thread.filter(|_| is_directed) {
                Some(thread) => thread.pending.push(info),
                None => image.pending.push(info),
            }
        }
    }

    /// The process lives elsewhere: what is here can be dropped.
    pub(super) fn released(&mut self) -> Step {
        let Some(leaving) = &mut self.leaving else { return Ok(()) };
        leaving.giver.step(GiverInput::Started)?;
        fault::at(&self.setup.config.paths, Point::WardenRelease)?;
        let pid = leaving.pid;
        self.leaving = None;
        self.part_with(pid)
    }

    /// The move is off: the guest goes on as if nothing had happened.
    pub(super) fn stay(&mut self) -> Step {
        let Some(mut leaving) = self.leaving.take() else { return Ok(()) };
        leaving.giver.step(GiverInput::Returned)?;
        fault::at(&self.setup.config.paths, Point::WardenResume)?;
        self.onward = None;
        if let Some(captured) = leaving.captured {
            captured.injector.unmap(captured.injector.pid(), captured.instruction)?;
            for snapshot in &captured.snapshots {
                snapshot.restore()?;
            }
        }
        let slots = self.guest.threads.of(leaving.pid);
        for &index in &slots {
            let tid = self.guest.threads[index].tid;
            ptrace::set_options(tid, ptrace::OPTION_EXITKILL)
                .map_err(self.broken("resuming the filter", tid))?;
            for info in std::mem::take(&mut self.guest.threads[index].stash) {
                self.give_back(index, &info)?;
            }
        }
        for (index, info) in leaving.late {
            self.queue(index, &info)?;
        }
        for index in slots {
            let waits = matches!(self.guest.threads[index].waits, Waits::Vfork { .. } | Waits::Delivery(_));
            if !self.guest.member(index).held && !waits && self.guest.threads[index].parked {
                self.resume(index, 0)?;
            }
        }
        Ok(())
    }
}

fn send(
    sender: &mut impl Outlet,
    mut image: Process,
    (ahead, objects): (Clocks, Objects),
    pid: i32,
) -> Result<u64> {
    transfer::send_image(sender, &mut image, ahead)?;
    let mut source = Source::scan(pid, &image, objects)?;
    transfer::send_pages(sender, &mut source, &image, &mut |_, _| Ok(()))
}

/// What the guest's clock shows when a time has come.
fn until(end: Instant, clock: Monotonic) -> i64 {
    let left = end.saturating_duration_since(Instant::now());
    clock.there(restart::now_ns().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
}

/// What the guest's clock showed at a moment that is past.
fn since(began: Instant, clock: Monotonic) -> i64 {
    let passed = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    clock.there(restart::now_ns().saturating_sub(passed))
}

/// A forwarded call that was given up is made again at the destination, until its time ends.
fn make_again(thread: &mut image::Thread, nr: i64, resume: Resume) {
    let registers = &mut thread.registers;
    if registers.orig_rax as i64 == nr && (-514..=-512).contains(&(registers.rax as i64)) {
        registers.rax = RESTART_WITHOUT_HANDLER as u64;
        thread.resume = resume;
    }
}

/// A call that is half done gives the rest on the next host. At home it must answer what it has given until now.
fn give_the_rest(thread: &mut image::Thread, half_done: HalfDone, goes_on: bool) {
    if !goes_on {
        half_done.answer(&mut thread.registers);
    } else if half_done.make_again(&mut thread.registers) {
        thread.resume = Resume::Rest { done: half_done.done };
    }
}
