//! From home to a host.
//!
//! What a failure means is the [`Giver`]'s to say: while the process is owned here it goes on as if nothing had happened,
//! for [`Frozen`] undoes itself; from the word on it must not, and ends if nobody answers.

use super::calls::Calls;
use super::frozen::Frozen;
use super::own_files::OwnFiles;
use super::requests::Asker;
use super::{Goal, Keeper, Place, Trip, away};
use crate::fault::{self, Point};
use crate::journey::transfer::{self, expect, files_of};
use crate::journey::{Error, Outlet, Result, line};
use crate::rules::standing;
use crate::{cpu_use, held, machine, peers};
use migration::{Giver, GiverInput, Word};
use model::{CpuProfile, Reason, ReasonCode, Reasons, Session};
use net::{Channel, Dial, Line, Reader, Receiver, Route, Sender};
use procinfo::Mapping;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stub::Shared;
use tracee::deputy::{self, Slots};
use tracee::inject::{self, Injector};
use tracee::own_files;
use tracee::pages::{Objects, Source};
use tracee::sharers::Look;
use tracee::{layout, objects};
use wire::peer::{Offer, PeerAnswer, PeerRequest};
use wire::session::{self, Hello, Kind, Role, Started};

const ASK_PATIENCE: Duration = Duration::from_secs(10);
/// Slots for threads to come, where there is no room for more.
const SPARE_SLOTS: u32 = 16;

impl Keeper {
    /// Moves the process from home to a host. On failure it goes on at home, or has ended if it may no longer.
    pub(super) fn depart(&mut self, pid: i32, goal: Goal, asker: &mut Asker) -> Result<Trip> {
        let mut giver = Giver::new(Word::Giver);
        let given = self.give(&mut giver, pid, goal, asker);
        given.map_err(|error| {
            // What was frozen dies with its keeper's hold on it: only the error itself tells.
            let has_ended = super::failure::tells_its_end(&error);
            let error = self.abide_by(pid, giver.fail(), (error, has_ended));
            held::forget(&self.setup.config.paths, pid);
            error
        })
    }

    fn give(&mut self, giver: &mut Giver, pid: i32, goal: Goal, asker: &mut Asker) -> Result<Trip> {
        let node = goal.node;
        let begun = Instant::now();
        refuse_if(crate::eligibility::lasting_constraints(pid))?;
        let session = self.offer(pid, goal)?;
        fault::at(&self.setup.config.paths, Point::KeeperOffered)?;
        let mut host = self.connect(pid, goal, session, Role::Keeper { brings: true })?;
        let (sender, receiver) = (&mut host.halves.0, &mut host.halves.1);
        let before = procinfo::maps_with_flags(pid).map_err(Error::io("reading the mappings"))?;
        let own = own_files::find(pid, &before).map_err(|reasons| refused(Reasons(reasons)))?;
        self.files.own(own.iter().map(|own| own.identity.clone()).zip(0..).collect());
        // Who opens one of them from here on waits, and whoever has is found when everybody is looked at.
        let own = if own.is_empty() { None } else { Some(OwnFiles::new(pid, own)?) };
        let early = layout::read_early(pid, &before, &mut self.files)?;
        let mut offered = files_of(&early.areas, early.executable, &self.files);
        transfer::send_files(sender, receiver, &offered, &mut |done, total| {
            asker.progress("files", done, total);
        })?;
        fault::at(&self.setup.config.paths, Point::KeeperFiles)?;
        let ahead = transfer::compare_clocks(sender, receiver)?;
        let status = procinfo::status(pid).map_err(|_| Error::Ended)?;
        let known_as = (pid, status.uids[1], status.gids[1]);
        transfer::make_body(sender, receiver, pid, known_as, ahead)?;
        fault::at(&self.setup.config.paths, Point::KeeperBody)?;
        let member = self.members.get(&pid).ok_or(Error::Ended)?;
        let seen = super::waiting::observe(pid, &member.parked);
        let process = member.process();
        let hold = || held::note(&self.setup.config.paths, process, node).map_err(|_| Error::Ending);
        // While the stub works in it, its keeper's death is its own.
        hold()?;

        let mut look = Look::default();
        let files = own.as_ref().map_or(&[][..], |own| &own.files);
        look.refuse(pid, &before, files)?;
        let frozen_at = Instant::now();
        let mut frozen = Frozen::new(giver);
        let mut image = frozen.freeze(pid, (&before, look, files), &seen, &mut self.files)?;
        image.fixed_code = self.needed.is_some();
        held::forget(&self.setup.config.paths, pid);
        fault::at(&self.setup.config.paths, Point::KeeperFrozen)?;
        let late: Vec<_> = files_of(&image.areas, image.executable, &self.files)
            .into_iter()
            .filter(|file| !offered.iter().any(|known| known.id == file.id))
            .collect();
        if !late.is_empty() {
            transfer::send_files(sender, receiver, &late, &mut |_, _| {})?;
            offered.extend(late);
        }
        let sent = transfer::send_image(sender, &mut image, ahead);
        transfer::heard(receiver, sent)?;
        fault::at(&self.setup.config.paths, Point::KeeperImage)?;
        let mut source = Source::scan(pid, &image, Objects::All)?;
        let sent = transfer::send_pages(sender, &mut source, &image, &mut |done, total| {
            asker.progress("memory", done, total);
            transfer::listen(receiver)
        });
        let bytes = transfer::heard(receiver, sent)?;
        fault::at(&self.setup.config.paths, Point::KeeperPages)?;
        let (mut line, mut reader) = host.attach()?;
        frozen.giver.step(GiverInput::Prepared)?;
        fault::at(&self.setup.config.paths, Point::KeeperPrepared)?;

        // And from here on, for good.
        hold()?;
        frozen.bind()?;
        let Some(injector) = &frozen.injector else { return Err(Error::Ending) };
        let tids: Vec<i32> = image.threads.iter().map(|thread| thread.tid).collect();
        let slots = make_slots(&before, injector, tids.len() as u32)?;
        let shared =
            Shared::map(&slots.memory, slots.base, slots.count).map_err(Error::io("mapping the slots"))?;
        frozen.slots = Some(slots);
        shared.prepare(tids.len() as u32);
        shared.claim().map_err(Error::io("becoming the keeper"))?;
        let calls = Arc::new(Calls::new(shared, pid, &tids, injector.entries())?);
        // It may have let go of them since.
        let has_files = image.objects.iter().any(|object| object.file.is_some());
        if let Some(own) = own.filter(|_| has_files) {
            calls.own(own)?;
        }
        let Some(slots) = frozen.slots.take() else { return Err(Error::Ending) };
        frozen.giver.step(GiverInput::Speak)?;
        let is_stopped = frozen.is_stopped();
        line.put(Kind::Commit, &[&session::encode(&calls.commit(pid, is_stopped))])?;
        fault::at(&self.setup.config.paths, Point::KeeperCommitted)?;
        // Until the word it could have gone on here. What the remote asks for meanwhile waits.
        deputy::become_deputy(injector, &tids, &image, &slots)?;
        fault::at(&self.setup.config.paths, Point::KeeperHollow)?;
        let base = injector.base();
        frozen.injector = None;
        drop(frozen.stopped.take());
        let started = expect(&mut reader, Kind::Started, "the word that the remote runs")?;
        session::decode::<Started>(&started.payload)?;
        frozen.giver.step(GiverInput::Started)?;
        fault::at(&self.setup.config.paths, Point::KeeperStarted)?;
        let freeze = frozen_at.elapsed();
        calls.connect(Some(line));
        let own = image.areas.iter().filter(|area| area.file().is_none());
        let gaps = deputy::dispensable(base, &slots, &image);
        calls.unmap_in_time(within(own.map(|area| (area.start, area.length())), &gaps));
        calls.unmap_in_time(gaps);
        let notices = away::listen(pid, Arc::clone(&calls), reader)?;
        let server = {
            let calls = Arc::clone(&calls);
            let serve = move || {
                if let Err(error) = calls.serve_slots() {
                    tracing::debug!(%error, "no more answers can be sent");
                }
            };
            std::thread::Builder::new()
                .name("slots".into())
                .spawn(serve)
                .map_err(Error::io("starting a thread"))?
        };
        self.place =
            Place::Away(Box::new(away::Away { node, calls, notices, round: 0, _slots: slots, server }));
        if let Some(member) = self.members.get_mut(&pid) {
            member.is_off();
            member.is_known_as(is_stopped);
        }
        Ok(Trip { freeze, total: begun.elapsed(), bytes })
    }

    /// Asks a node to take the process; for all of this node's CPU first, and where that is too much, for what the process
    /// may be using of it.
    pub(super) fn offer(&mut self, pid: i32, goal: Goal) -> Result<Session> {
        let own = kernel::cpu::profile();
        if let Place::Away(_) = &self.place {
            let cpu = self.needed.clone().unwrap_or(own);
            return self.offer_for(pid, goal, cpu)?.map_err(refused);
        }
        self.needed = None;
        let refusal = match self.offer_for(pid, goal, own.clone())? {
            Ok(session) => return Ok(session),
            Err(refusal) => refusal,
        };
        let needed = match refusal.0.iter().any(|reason| reason.code == ReasonCode::CpuFeatures) {
            true => cpu_use::needed_by(pid, &own),
            false => None,
        };
        let Some(needed) = needed else { return Err(refused(refusal)) };
        let session = self.offer_for(pid, goal, needed.clone())?.map_err(refused)?;
        self.needed = Some(needed);
        Ok(session)
    }

    /// The node's answer to an offer.
    fn offer_for(
        &self,
        pid: i32,
        goal: Goal,
        cpu: CpuProfile,
    ) -> Result<std::result::Result<Session, Reasons>> {
        let Goal { node, address, reservation } = goal;
        let member = self.members.get(&pid).ok_or(Error::Ended)?;
        let (stat, status) = (procinfo::stat(pid), procinfo::status(pid));
        let (Ok(stat), Ok(status)) = (stat, status) else { return Err(Error::Ended) };
        let memory_bytes = match &self.place {
            Place::Home => {
                (stat.resident_pages * 4096).saturating_sub(status.shared_kb << 10) + objects::bytes(pid)
            }
            Place::Away(_) => member.usage.memory_bytes,
        };
        let offer = Offer {
            home: self.setup.config.node.id,
            process: member.process(),
            name: procinfo::name(pid, pid).unwrap_or_default(),
            uid: status.uids[1],
            threads: procinfo::threads(pid).map_or(1, |tids| tids.len() as u32),
            memory_bytes,
            cpu,
            kernel: machine::kernel(),
            reservation,
            bonds: standing::bonds(&self.setup.config.paths, member.process()),
        };
        match peers::ask(&self.setup, address, node, &PeerRequest::Offer(offer), ASK_PATIENCE) {
            Ok(PeerAnswer::Accepted { session }) => Ok(Ok(session)),
            Ok(PeerAnswer::Refused(reasons)) => Ok(Err(reasons)),
            Ok(_) => Err(Error::Unexpected { got: 0, wanted: "an answer to an offer" }),
            Err(error) => Err(refusal(Reason::new(ReasonCode::DeadNode, format!("node {node}: {error}")))),
        }
    }

    /// Opens a connection to a warden and says who is there.
    pub(super) fn connect(
        &self,
        pid: i32,
        Goal { node, address, .. }: Goal,
        session: Session,
        role: Role,
    ) -> Result<Host> {
        let channel =
            Channel::connect(&self.setup.identity, address, Route::Session(session), node, ASK_PATIENCE)?;
        let (mut sender, receiver) = channel.split();
        let process = self.members.get(&pid).ok_or(Error::Ended)?.process();
        let hello = Hello { version: session::VERSION, role, process };
        sender.put(Kind::Hello, &[&session::encode(&hello)])?;
        let dial = Dial { identity: self.setup.identity.clone(), address, peer: node };
        Ok(Host { dial, pid, session, halves: (sender, receiver) })
    }
}

/// A warden that is about to say that it is ready.
pub(super) struct Host {
    dial: Dial,
    pid: i32,
    session: Session,
    /// The connection to it.
    pub(super) halves: (Sender, Receiver),
}

impl Host {
    /// Hears that it is ready. From here on a cut is survived: it must not come between both sides and the word.
    pub(super) fn attach(mut self) -> Result<(Line, Reader)> {
        expect(&mut self.halves.1, Kind::Prepared, "the word that the remote is ready")?;
        Ok(Line::calling(self.halves, self.session, self.dial, line::log(self.pid))?)
    }
}

pub(super) fn no_room() -> Error {
    refusal(Reason::new(ReasonCode::Limits, "its address space is full"))
}

pub(super) fn refusal(reason: Reason) -> Error {
    refused(Reasons(vec![reason]))
}

fn refused(reasons: Reasons) -> Error {
    tracee::Error::Refused(reasons).into()
}

fn refuse_if(reasons: Vec<Reason>) -> Result<()> {
    if reasons.is_empty() { Ok(()) } else { Err(refused(Reasons(reasons))) }
}

/// Makes the slots, clear of the program and of the stub: as many as a family may ever need, if its address space has
/// room for them and may have them, else as many as there are threads now. Only those in use cost memory.
fn make_slots(mappings: &[Mapping], injector: &Injector, threads: u32) -> Result<Slots> {
    let stub = (injector.base(), injector.base() + inject::AREA_BYTES);
    let taken = mappings.iter().map(|mapping| (mapping.start, mapping.end)).chain([stub]);
    let mut outcome = Err(no_room());
    for count in [model::limits::FAMILY_THREADS_MAX, threads + SPARE_SLOTS, threads] {
        let length = deputy::slots_bytes(count);
        let base = inject::find_hole(length, stub_abi::SLOT_BYTES, taken.clone()).ok_or_else(no_room)?;
        outcome = deputy::prepare(injector, base, count).map_err(Error::from);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The parts of the ranges that lie in the gaps.
fn within<'a>(
    ranges: impl Iterator<Item = (u64, u64)> + 'a,
    gaps: &'a [(u64, u64)],
) -> impl Iterator<Item = (u64, u64)> + 'a {
    ranges.flat_map(move |(start, length)| {
        gaps.iter().filter_map(move |&(gap, gap_length)| {
            let (from, to) = (start.max(gap), (start + length).min(gap + gap_length));
            (from < to).then(|| (from, to - from))
        })
    })
}
