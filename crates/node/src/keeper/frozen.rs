//! A process on its way out, stopped at home.
//!
//! ```text
//! bound (the stub works in it) ──captured──► resting ──the remote is ready──► bound ──the word──► (a deputy)
//! ```
//! Bound, it dies with its keeper, for nobody could take out what was put in. Resting, it has all that it was stopped
//! with: it goes on at home if its keeper dies, however long the transfer takes.

use super::depart::{no_room, refusal};
use super::waiting::Seen;
use crate::journey::{Error, Result};
use image::Process;
use kernel::ptrace;
use migration::{Giver, GiverInput, Owner};
use model::ReasonCode;
use procinfo::Mapping;
use std::time::Duration;
use tracee::capture::{self, Known, Snapshot};
use tracee::deputy::{self, Slots};
use tracee::inject::{self, Injector};
use tracee::layout::{self, Files};
use tracee::own_files::{self, OwnFile};
use tracee::restart;
use tracee::sharers::Look;
use tracee::stop::{By, Stopped};

/// How long threads may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Code segment of 64-bit user code.
const CODE_64: u64 = 0x33;

/// The process, stopped at home with the stub inside; dropped, it goes on unharmed if it is still owned here.
pub(super) struct Frozen<'a> {
    /// Whose it is.
    pub(super) giver: &'a mut Giver,
    pub(super) stopped: Option<Stopped>,
    snapshots: Vec<Snapshot>,
    pub(super) injector: Option<Injector>,
    pub(super) slots: Option<Slots>,
    instruction: u64,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if self.giver.fail() != Owner::Here {
            // It is no deputy yet, and must not run as a process any more: whoever hears of the failure says why it ended.
            if let Some(stopped) = &self.stopped {
                let _ = kernel::signal::send(stopped.pid(), nix::libc::SIGKILL);
            }
            return;
        }
        let _ = self.bind();
        let Some(stopped) = &self.stopped else { return };
        if let Some(injector) = self.injector.take() {
            if let Some(slots) = &self.slots {
                let _ = deputy::discard(&injector, slots);
            }
            let _ = injector.leave(stopped.pid(), self.instruction);
        }
        for snapshot in &self.snapshots {
            match snapshot.restore() {
                Ok(()) => {}
                // Killed meanwhile: it needs no state any more.
                Err(tracee::Error::Gone(tid)) => tracing::debug!(tid, "a thread ended while it was frozen"),
                Err(error) => {
                    tracing::error!(tid = snapshot.tid(), %error, "a thread could not be given back its state");
                }
            }
        }
    }
}

impl<'a> Frozen<'a> {
    /// Nothing is stopped yet.
    pub(super) fn new(giver: &'a mut Giver) -> Frozen<'a> {
        Frozen { giver, stopped: None, snapshots: Vec::new(), injector: None, slots: None, instruction: 0 }
    }

    /// Stops the process and captures it; then it rests. What was read of it `before`, and the look at others, are a moment
    /// old.
    pub(super) fn freeze(
        &mut self,
        pid: i32,
        (before, mut look, own): (&[Mapping], Look, &[OwnFile]),
        seen: &Seen,
        files: &mut Files,
    ) -> Result<Process> {
        let stopped = Stopped::freeze(pid, STOP_PATIENCE)?;
        let stands_since_ns = restart::now_ns();
        let tids = stopped.tids().to_vec();
        self.stopped = Some(stopped);
        self.bind()?;
        if let Some(stopped) = &self.stopped {
            stopped.leave_vdso(&tracee::vdso::code(before))?;
        }
        self.giver.step(GiverInput::Stopped)?;
        for &tid in &tids {
            self.snapshots.push(Snapshot::take(tid)?);
        }
        if self.snapshots.iter().any(|snapshot| snapshot.registers().cs != CODE_64) {
            return Err(refusal(ReasonCode::Architecture.into()));
        }
        let waiting = self.snapshots.iter().filter_map(|snapshot| {
            Some((snapshot.tid(), seen.of(pid, snapshot.registers(), snapshot.tid())?))
        });
        let waiting = waiting.collect();
        let mappings = layout::refresh(pid, before)?;
        own_files::refuse_others(pid, before, &mappings, own)?;
        look.refuse(pid, &mappings, own)?;
        let layout = layout::read(pid, &mappings, files)?;
        self.instruction = inject::find_instruction(pid, &mappings)?;
        let taken = mappings.iter().map(|mapping| (mapping.start, mapping.end));
        let base = inject::find_hole(inject::AREA_BYTES, 4096, taken).ok_or_else(no_room)?;
        let Some(leader) = self.snapshots.first() else { return Err(Error::Ended) };
        let is_stopped = self.is_stopped();
        let injector =
            self.injector.insert(Injector::enter(pid, leader.registers(), self.instruction, base)?);
        let known = Known { stands_since_ns, waiting, is_stopped, ..Known::default() };
        let mut image = capture::capture(injector, &self.snapshots, layout, &known)?;
        // What is pending stays pending here: the deputy catches it as soon as it begins, and sends it on.
        image.pending.clear();
        for thread in &mut image.threads {
            thread.pending.clear();
        }
        injector.rest(leader)?;
        self.set_options(0)?;
        Ok(image)
    }

    /// Whether a signal had stopped it before it was stopped here: then it will be stopped when it is let go.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.as_ref().is_some_and(|stopped| stopped.by() == By::Signal)
    }

    /// From now on it dies with its keeper: the stub is to work in it.
    pub(super) fn bind(&self) -> Result<()> {
        self.set_options(ptrace::OPTION_EXITKILL)
    }

    fn set_options(&self, options: usize) -> Result<()> {
        for &tid in self.stopped.iter().flat_map(Stopped::tids) {
            ptrace::set_options(tid, options).map_err(|errno| tracee::Error::Kernel {
                what: "binding it to its keeper",
                pid: tid,
                errno,
            })?;
        }
        Ok(())
    }
}
