//! The guest leaves: home, or on to another host.
//!
//! First it stands still: every thread stopped, no call under way, every signal caught until then here. Then it is
//! captured and sent. It stays here, stopped, until the keeper says that it lives elsewhere, or that it is to go on: the
//! warden is the [`Giver`], and the word is the keeper's. If the keeper is lost meanwhile, the guest must not go on.

use super::guest::Waits;
use super::signals::is_directed;
use super::{End, Step, Stop, Warden};
use crate::fault::{self, Point};
use crate::journey::transfer::{self, files_of};
use crate::journey::{Error, Outlet, Result};
use image::{Clocks, Process, Resume, Siginfo};
use kernel::ptrace;
use migration::{Giver, GiverInput, Word};
use net::{Channel, Receiver, Route, Sender};
use procinfo::Mapping;
use std::collections::BTreeMap;
use std::time::Duration;
use stub_abi::NOT_EXECUTED;
use tracee::capture::{self, Known, Snapshot};
use tracee::inject::{self, Injector};
use tracee::layout;
use tracee::pages::Source;
use tracee::restart::Waiting;
use wire::session::{self, Hello, Kind, MoveOn, Refusal, Role, Sent};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The kernel's ERESTARTNOHAND.
const RESTART_WITHOUT_HANDLER: i64 = -514;

/// A guest on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Whose it is; in the keeper's hands from the start.
    giver: Giver,
    /// The mappings when it was told to stop.
    before: Vec<Mapping>,
    /// The keeper knows that it stands still.
    pub(super) is_quiet: bool,
    /// Signals that came after that, with the slot that caught each.
    pub(super) late: Vec<(usize, Siginfo)>,
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
                Ok(self.link.put(Kind::MoveOn, &[])?)
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
        let process = model::ProcessId { pid: self.guest.image.pid, start_ticks: 0 };
        let hello = Hello { version: session::VERSION, role: Role::Source, process };
        sender.put(Kind::Hello, &[&session::encode(&hello)])?;
        let pid = self.guest.pid;
        let mappings = procinfo::maps(pid).map_err(Error::io("reading the mappings"))?;
        let layout = layout::read(pid, &mappings, &mut self.files)?;
        let files = files_of(&layout.areas, layout.executable, &self.files);
        transfer::send_files(&mut sender, &mut receiver, &files, &mut |_, _| {})?;
        let ahead = transfer::compare_clocks(&mut sender, &mut receiver)?;
        let image = &self.guest.image;
        let known_as = (image.pid, image.uid, image.gid);
        transfer::make_body(&mut sender, &mut receiver, pid, known_as, ahead)?;
        Ok(Onward { sender, _receiver: receiver, ahead })
    }

    /// Tells every thread to stop.
    pub(super) fn begin_leaving(&mut self) -> Step {
        if self.guest.threads.iter().any(|thread| matches!(thread.waits, Waits::Stop)) {
            let reasons = model::Reasons(vec![model::ReasonCode::Stopped.into()]);
            let refusal = Refusal { message: reasons.to_string(), reasons };
            return Ok(self.link.put(Kind::Refused, &[&session::encode(&refusal)])?);
        }
        fault::at(&self.setup.config.paths, Point::WardenQuiesce)?;
        let before = procinfo::maps_with_flags(self.guest.pid).unwrap_or_default();
        let mut giver = Giver::new(Word::Taker);
        giver.step(GiverInput::Stopped)?;
        self.leaving = Some(Leaving { giver, before, is_quiet: false, late: Vec::new(), captured: None });
        for index in 0..self.guest.threads.len() {
            self.interrupt(index)?;
            match self.guest.threads[index].waits {
                Waits::Call { .. } => self.cancel(index)?,
                Waits::Home { notification } | Waits::File { notification, .. } => {
                    self.answer(index, notification, NOT_EXECUTED)?;
                }
                Waits::Nothing | Waits::Action { .. } | Waits::Exit { .. } | Waits::Stop | Waits::Death => {}
            }
        }
        Ok(())
    }

    /// Says so once the guest stands still.
    pub(super) fn advance_leaving(&mut self) -> Step {
        let quiet = self.guest.is_quiet();
        if let Some(leaving) = &mut self.leaving
            && !leaving.is_quiet
            && quiet
        {
            leaving.is_quiet = true;
            self.link.put(Kind::Quiet, &[])?;
        }
        Ok(())
    }

    /// Every signal caught before now is here: captures the guest and sends it.
    pub(super) fn flushed(&mut self) -> Step {
        let Some(mut leaving) = self.leaving.take() else {
            return Err(session::Malformed("word that nobody waits for").into());
        };
        let mut onward = self.onward.take();
        let captured = self.capture(&mut leaving);
        let captured = captured
            .and_then(|image| fault::at(&self.setup.config.paths, Point::WardenCaptured).map(|()| image));
        let sent = captured.and_then(|image| match &mut onward {
            Some(onward) => send(&mut onward.sender, image, onward.ahead, self.guest.pid),
            // At home its clocks are those of its home again.
            None => send(&mut self.link, image, Clocks::default(), self.guest.pid),
        });
        self.leaving = Some(leaving);
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
        let pid = self.guest.pid;
        let failed = |what: &'static str, pid: i32| move |errno| tracee::Error::Kernel { what, pid, errno };
        let mut snapshots = Vec::with_capacity(self.guest.threads.len());
        for thread in &self.guest.threads {
            snapshots.push(Snapshot::take(thread.tid)?);
        }
        let mappings = layout::refresh(pid, &leaving.before)?;
        let layout = layout::read(pid, &mappings, &mut self.files)?;
        let instruction = inject::find_instruction(pid, &mappings)?;
        let taken = mappings.iter().map(|mapping| (mapping.start, mapping.end));
        let hole = inject::find_hole(inject::AREA_BYTES, 4096, taken);
        let base =
            hole.ok_or(tracee::Error::Kernel { what: "finding a hole", pid, errno: kernel::Errno::ENOMEM })?;
        for thread in &self.guest.threads {
            let options = ptrace::OPTION_EXITKILL | ptrace::OPTION_SUSPEND_SECCOMP;
            ptrace::set_options(thread.tid, options).map_err(failed("suspending the filter", thread.tid))?;
        }
        let leader = snapshots.first().ok_or(tracee::Error::Gone(pid))?;
        let injector = Injector::enter(pid, leader.registers(), instruction, base)?;
        let image = self.describe(&injector, &snapshots, layout, std::mem::take(&mut leaving.late));
        leaving.captured = Some(Captured { injector, snapshots, instruction });
        image
    }

    fn describe(
        &mut self,
        injector: &Injector,
        snapshots: &[Snapshot],
        layout: layout::Layout,
        late: Vec<(usize, Siginfo)>,
    ) -> Result<Process> {
        let mut known = Known::default();
        let mut waiting = BTreeMap::new();
        for thread in &self.guest.threads {
            known.home_tids.insert(thread.tid, thread.home_tid);
            if let Some(sleep) = thread.sleep {
                let waited = sleep.before + sleep.since.elapsed();
                let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
                waiting.insert(thread.tid, Waiting { waited_ns: Some(waited_ns), nr: Some(sleep.nr) });
            }
        }
        known.waiting = waiting;
        let mut image = capture::capture(injector, snapshots, layout, &known)?;
        // Whom it belongs to and what it may use is known from home; here it is somebody else.
        image.uid = self.guest.image.uid;
        image.gid = self.guest.image.gid;
        image.limits = self.guest.image.limits;
        image.actions = self.actions(&image);
        image.pending = image.pending.iter().map(|info| self.reveal(*info)).collect();
        for index in 0..image.threads.len() {
            let stash = self.guest.threads[index].stash.clone();
            let pending: Vec<Siginfo> =
                image.threads[index].pending.iter().map(|info| self.reveal(*info)).collect();
            image.threads[index].pending = stash.into_iter().chain(pending).collect();
            if let Some((nr, left)) = self.guest.threads[index].left {
                make_again(&mut image.threads[index], nr, left);
            }
        }
        for (index, info) in late {
            match image.threads.get_mut(index).filter(|_| is_directed(&info)) {
                Some(thread) => thread.pending.push(info),
                None => image.pending.push(info),
            }
        }
        Ok(image)
    }

    /// The kernel resets some actions by itself (`SA_RESETHAND`), so it is the kernel's that travel.
    fn actions(&mut self, image: &Process) -> Vec<image::SigAction> {
        self.guest.actions.clone_from(&image.actions);
        image.actions.clone()
    }

    /// The process lives elsewhere: what is here can be dropped.
    pub(super) fn released(&mut self) -> Step {
        let Some(leaving) = &mut self.leaving else {
            return Err(session::Malformed("word that nobody waits for").into());
        };
        leaving.giver.step(GiverInput::Started)?;
        fault::at(&self.setup.config.paths, Point::WardenRelease)?;
        Err(Stop::End(End::Gone))
    }

    /// The move is off: the guest goes on as if nothing had happened.
    pub(super) fn stay(&mut self) -> Step {
        let Some(mut leaving) = self.leaving.take() else {
            return Err(session::Malformed("word that nobody waits for").into());
        };
        leaving.giver.step(GiverInput::Returned)?;
        fault::at(&self.setup.config.paths, Point::WardenResume)?;
        self.onward = None;
        if let Some(captured) = leaving.captured {
            captured.injector.unmap(self.guest.pid, captured.instruction)?;
            for snapshot in &captured.snapshots {
                snapshot.restore()?;
            }
        }
        for index in 0..self.guest.threads.len() {
            let tid = self.guest.threads[index].tid;
            ptrace::set_options(tid, ptrace::OPTION_EXITKILL)
                .map_err(self.broken("resuming the filter", tid))?;
            for info in std::mem::take(&mut self.guest.threads[index].stash) {
                self.queue(index, &info)?;
            }
        }
        for (index, info) in leaving.late {
            self.queue(index, &info)?;
        }
        for index in 0..self.guest.threads.len() {
            if !self.held {
                self.resume(index, 0)?;
            }
        }
        Ok(())
    }
}

fn send(sender: &mut impl Outlet, mut image: Process, ahead: Clocks, pid: i32) -> Result<u64> {
    transfer::send_image(sender, &mut image, ahead)?;
    let mut source = Source::scan(pid, &image.areas)?;
    transfer::send_pages(sender, &mut source, &image, &mut |_, _| Ok(()))
}

/// A forwarded call that was given up is made again at the destination, with what is left of its time.
fn make_again(thread: &mut image::Thread, nr: i64, left: Duration) {
    let registers = &mut thread.registers;
    if registers.orig_rax as i64 == nr && (-514..=-512).contains(&(registers.rax as i64)) {
        registers.rax = RESTART_WITHOUT_HANDLER as u64;
        thread.resume = Resume::Timed { left_ns: u64::try_from(left.as_nanos()).unwrap_or(u64::MAX) };
    }
}
