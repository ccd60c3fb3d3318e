//! From a host back home: the deputy is filled with the process again.
//!
//! The host keeps the process, stopped, until it is told that it lives here. What a failure means is the [`Taker`]'s to
//! say: the word is given when the deputy begins to be emptied, for then there is nothing to go back to.

use super::away::Away;
use super::reception::Reception;
use super::requests::Asker;
use super::stir::{self, Stir};
use super::waiting::Parked;
use super::{Keeper, Place, Trip};
use crate::config::Paths;
use crate::fault::{self, Point};
use crate::held;
use crate::journey::transfer::{self, ImageParts, expect};
use crate::journey::{Error, Inlet, Result};
use control::What;
use image::{Backing, Process, Resume};
use kernel::ptrace;
use migration::{Owner, Taker, TakerInput, Word};
use model::{Destination, Reason, ReasonCode, one_line};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tracee::begin::{self, Begun, Time};
use tracee::clocks::Monotonic;
use tracee::inject::{self, Injector};
use tracee::layout::Files;
use tracee::objects;
use tracee::own_files::OwnFile;
use tracee::pages::Sink;
use tracee::rebuild::{self, Descriptors, Target};
use tracee::socket_time;
use tracee::stop::{self, Stopped};
use wire::session::{self, Kind, Quiesce, Round, Stays};

const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How long the deputy's last calls may take to end.
const QUIET_PATIENCE: Duration = Duration::from_secs(30);

impl Keeper {
    /// Brings a process home. On failure it goes on where it is, or is ended where nobody could tell how far it is.
    pub(super) fn come_home(&mut self, pid: i32, asker: &mut Asker, reception: &Reception) -> Result<Trip> {
        let begun = Instant::now();
        self.refuse_if_held(pid, Destination::Home)?;
        // Threads that sleep in a wait that was begun for them are let go of when the thread that traces them ends.
        let taken = std::thread::scope(|scope| {
            let tracer = std::thread::Builder::new().name("tracer".into());
            let tracer = tracer.spawn_scoped(scope, || self.take_back(pid, asker, reception));
            let tracer = tracer.map_err(Error::io("starting a thread"))?;
            tracer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let TakenBack { freeze, bytes, cpu_ms, parked, asleep } = taken?;
        wait_until_untraced(&asleep);
        let Place::Away(away) = &mut self.place else { return Err(Error::Ending) };
        let _ = away.calls.send(Kind::Release, &[]);
        let _ = fault::at(&self.setup.config.paths, Point::KeeperReleased);
        if let Some(member) = self.members.get_mut(&pid) {
            member.is_back(away.calls.traffic(pid), cpu_ms, parked);
        }
        away.calls.release(pid);
        if self.members.values().all(|member| member.is_home) {
            self.come_away();
        }
        Ok(Trip { freeze, total: begun.elapsed(), bytes })
    }

    /// Makes the deputy the process again, and lets it run. On failure it goes on where it is, or is ended where nobody
    /// could tell how far it is.
    fn take_back(&mut self, pid: i32, asker: &mut Asker, reception: &Reception) -> Result<TakenBack> {
        let Place::Away(away) = &mut self.place else {
            return Err(super::depart::refusal(model::ReasonCode::SameNode.into()));
        };
        tracee::stand_in::know_own();
        // It stands still a little later; nobody here can tell when.
        let frozen_at = Instant::now();
        let stir = quiesce(away, pid, Way::Home)?;
        // What it made before it stood still stays away, and is known by now.
        self.hear_news();
        let Place::Away(away) = &mut self.place else { return Err(Error::Ending) };
        let paths = &self.setup.config.paths;
        let mut taker = Taker::new(Word::Taker);
        // Whatever the deputy still has goes at once when it is filled.
        let put_off = away.calls.put_off_housekeeping(pid);
        let mut stopped = None;
        let filled =
            fault::at(paths, Point::KeeperQuiesced).and_then(|()| still(pid, away, stir)).and_then(|still| {
                let still = stopped.insert(still);
                fault::at(paths, Point::KeeperFlushed)?;
                fill(&mut taker, away, still, (&self.files, paths), asker)
            });
        match filled {
            Ok(Filled { bytes, cpu_ms, mut parked, times }) => {
                reception.is_home(pid, self.setup.config.node.id);
                let asleep = begin_waits(stopped.as_mut(), &times, &mut parked);
                // Once it is let go it may have this CPU for a while.
                let freeze = frozen_at.elapsed();
                drop(stopped.take());
                away.calls.disown(pid);
                // It is whole, and needs nobody.
                held::forget(paths, pid);
                asleep.iter().for_each(|&tid| begin::let_go(tid));
                Ok(TakenBack { freeze, bytes, cpu_ms, parked, asleep })
            }
            Err(error) => {
                match taker.fail() {
                    // It is a deputy as before.
                    Owner::There => {
                        drop(stopped.take());
                        away.calls.take_up_housekeeping(put_off);
                        away.calls.send(Kind::Resume, &[])?;
                    }
                    // Killed by somebody in the middle of it: nothing was lost that it still needed.
                    Owner::Unknown | Owner::Here if self.was_its_end(pid, &error) => {
                        self.part_with(pid, "it has ended");
                        return Err(Error::Ended);
                    }
                    // It is neither a deputy nor a process, and does not run until it is dead.
                    Owner::Unknown | Owner::Here => self.give_up_one(pid, What::Lost, &one_line(&error)),
                }
                Err(error)
            }
        }
    }
}

/// What a process that is home again leaves to be done.
struct TakenBack {
    /// How long it stood still.
    freeze: Duration,
    /// Length of what came.
    bytes: u64,
    /// CPU time that it has used since it left, milliseconds.
    cpu_ms: u64,
    /// Those of its threads whose waits were begun for them.
    parked: Vec<Parked>,
    /// Those among them that were asleep, and traced, when it was let go.
    asleep: Vec<i32>,
}

/// Begins the waits whose times are in these places, for threads of a process that is whole and stands still. Those that
/// sleep are not part of what is stopped any more.
fn begin_waits(stopped: Option<&mut Stopped>, times: &[(i32, Time)], parked: &mut [Parked]) -> Vec<i32> {
    let Some(stopped) = stopped else { return Vec::new() };
    let mut asleep = Vec::new();
    for &(tid, time) in times {
        let Some(parked) = parked.iter_mut().find(|parked| parked.is_of(tid)) else { continue };
        match begin::begin(stopped.pid(), tid, time, parked.left_ns()) {
            Ok(Begun::Sleeps) => {
                parked.sleeps(stopped.pid());
                stopped.give_up(tid);
                asleep.push(tid);
            }
            Ok(Begun::LetGo) => stopped.give_up(tid),
            Ok(Begun::Stands) => {}
            Err(error) => tracing::debug!(tid, %error, "its wait begins anew"),
        }
    }
    asleep
}

/// The end of a tracer's thread is seen by others a little before that of its tracing.
fn wait_until_untraced(tids: &[i32]) {
    let deadline = Instant::now() + STOP_PATIENCE;
    let traced = |tid: &i32| procinfo::status(*tid).is_ok_and(|status| status.tracer != 0);
    while tids.iter().any(traced) && Instant::now() < deadline {
        std::thread::yield_now();
    }
}

impl Keeper {
    /// A deputy that is traced is somebody else's to stop: the remote has to wait. So it has if its deputy is stopped, too,
    /// wherever it is to go: then somebody else would have to let it run.
    pub(super) fn refuse_if_held(&self, pid: i32, to: Destination) -> Result<()> {
        let tracer = procinfo::status(pid).map_err(|_| Error::Ended)?.tracer;
        if tracer == 0 || to != Destination::Home && !Stir::is_wanted(pid) {
            return Ok(());
        }
        Err(super::depart::refusal(Reason::new(ReasonCode::Traced, format!("by process {tracer}"))))
    }
}

/// Where a process goes from its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Home.
    Home,
    /// To the next host.
    Onward,
}

/// Stops every thread of a remote, and waits until they have stopped. The deputy still has work to do.
///
/// What still comes of an earlier attempt, which was given up because its process ended, is passed over.
pub(super) fn quiesce(away: &mut Away, pid: i32, way: Way) -> Result<Stir> {
    let mut stir = Stir::begin(pid)?;
    away.notices.watch(pid)?;
    away.round = away.round.wrapping_add(1);
    let round = away.round;
    away.calls
        .send(Kind::Quiesce, &[&session::encode(&Quiesce { pid, onward: way == Way::Onward, round })])?;
    let deadline = Instant::now() + Duration::from_secs(model::limits::STEP_SECONDS);
    loop {
        let frame = match away.notices.wait(stir::LOOK) {
            Err(Error::Net(net::Error::TimedOut)) if Instant::now() < deadline => {
                stir.look()?;
                continue;
            }
            waited => waited?,
        };
        match Kind::new(frame.kind) {
            Some(Kind::Quiet) if session::decode::<Round>(&frame.payload)?.0.round == round => break,
            Some(Kind::Stays) => {
                let (stays, _) = session::decode::<Stays>(&frame.payload)?;
                if stays.round == round {
                    return Err(Error::Refused(stays.refusal));
                }
            }
            Some(
                Kind::Quiet
                | Kind::MoveOn
                | Kind::Image
                | Kind::Pages
                | Kind::PagesEnd
                | Kind::Sent
                | Kind::Refused,
            ) => {}
            _ => return Err(Error::Unexpected { got: frame.kind, wanted: "the word that it stands still" }),
        }
    }
    // What it wished it will wish again where it goes on.
    away.notices.forget(pid);
    Ok(stir)
}

/// Stops the deputy between two calls, and says so.
fn still(pid: i32, away: &Away, mut stir: Stir) -> Result<Stopped> {
    finish_housekeeping(pid, away, &mut stir)?;
    stir.end();
    let stopped = stop_deputy(pid, away)?;
    // What was caught until now goes first; the deputy catches nothing more.
    away.calls.scan()?;
    away.calls.send(Kind::Flushed, &[])?;
    Ok(stopped)
}

fn finish_housekeeping(pid: i32, away: &Away, stir: &mut Stir) -> Result<()> {
    let deadline = Instant::now() + QUIET_PATIENCE;
    let mut next_look = Instant::now() + stir::LOOK;
    while !away.calls.is_quiet(pid) {
        if Instant::now() > next_look {
            stir.look()?;
            next_look += stir::LOOK;
        }
        if Instant::now() > deadline {
            return Err(tracee::Error::Stuck(pid).into());
        }
        away.calls.scan()?;
        std::thread::yield_now();
    }
    Ok(())
}

/// Stops the deputy's threads where they wait for the next request: only there is no signal half recorded.
fn stop_deputy(pid: i32, away: &Away) -> Result<Stopped> {
    let deadline = Instant::now() + STOP_PATIENCE;
    let handler = away.calls.entries().handler;
    let tids = away.calls.tids(pid);
    for (index, &tid) in tids.iter().enumerate() {
        // Half filled, it must not run without us.
        let seized = ptrace::seize(tid, ptrace::OPTION_EXITKILL).and_then(|()| ptrace::interrupt(tid));
        if let Err(errno) = seized {
            tids[..=index].iter().for_each(|&tid| stop::release_late(tid));
            return Err(kernel_error("seizing the deputy", tid)(errno));
        }
    }
    for (index, &tid) in tids.iter().enumerate() {
        if let Err(error) = stop::stop_in_call(tid, nix::libc::SYS_futex_waitv, handler, deadline) {
            drop(Stopped::adopt(pid, tids[..index].to_vec()));
            tids[index..].iter().for_each(|&tid| stop::release_late(tid));
            return Err(error.into());
        }
    }
    Ok(Stopped::adopt(pid, tids))
}

fn kernel_error(what: &'static str, pid: i32) -> impl FnOnce(kernel::Errno) -> Error {
    move |errno| tracee::Error::Kernel { what, pid, errno }.into()
}

/// Receives the process and fills the deputy with it. On success the threads may run; after a failure the taker knows
/// whose the process is.
fn fill(
    taker: &mut Taker,
    away: &Away,
    stopped: &Stopped,
    (files, paths): (&Files, &Paths),
    asker: &mut Asker,
) -> Result<Filled> {
    let mut inlet = &away.notices;
    let image = receive_image(&mut inlet)?;
    let pid = stopped.pid();
    let tids: BTreeSet<i32> = stopped.tids().iter().copied().collect();
    if image.pid != pid || image.threads.iter().map(|thread| thread.tid).collect::<BTreeSet<_>>() != tids {
        return Err(session::Malformed("image: its threads are not the deputy's").into());
    }
    let tids: Vec<i32> = image.threads.iter().map(|thread| thread.tid).collect();
    fault::at(paths, Point::KeeperFill)?;
    let (injector, descriptors) = enter(away, &image, files, pid)?;
    taker.step(TakerInput::Word)?;
    fault::at(paths, Point::KeeperTaken)?;
    let (filled, registers) = rebuild_in(&injector, &image, &descriptors, &tids, &mut inlet, asker)?;
    let instruction = match inject::find_instruction_in(&image) {
        Some(instruction) => instruction,
        None => {
            let own = injector.base()..injector.base() + inject::AREA_BYTES;
            let mut mappings = procinfo::maps(pid).map_err(Error::io("reading the mappings"))?;
            mappings.retain(|mapping| !own.contains(&mapping.start));
            inject::find_instruction(pid, &mappings)?
        }
    };
    injector.leave(pid, instruction)?;
    for ((thread, &tid), raw) in image.threads.iter().zip(&tids).zip(&registers) {
        rebuild::thread_registers(tid, thread, raw)?;
    }
    match tracee::clocks::Arrival::of(pid, &image.shown) {
        Some(arrival) => arrival.catch_up(),
        // Its home's clocks are the true ones, and there is no way back.
        None => tracing::error!(pid, "its clocks go back: its last host's were ahead of its home's"),
    }
    fault::at(paths, Point::KeeperFilled)?;
    taker.step(TakerInput::Complete)?;
    Ok(filled)
}

fn receive_image(inlet: &mut impl Inlet) -> Result<Process> {
    let mut parts = ImageParts::default();
    loop {
        let frame = expect(inlet, Kind::Image, "the image")?;
        if let Some(image) = parts.take(&frame.payload)? {
            return Ok(image);
        }
    }
}

/// Makes room in the deputy and gives it the files. It still is a deputy after a failure.
fn enter(away: &Away, image: &Process, files: &Files, pid: i32) -> Result<(Injector, Descriptors)> {
    let own = away.calls.own_files();
    let (own, own_open) = own.as_ref().map_or((&[][..], &[][..]), |own| (&own.files, &own.open));
    check_own(image, own)?;
    let mappings = procinfo::maps(pid).map_err(Error::io("reading the mappings"))?;
    let here = mappings.iter().map(|mapping| (mapping.start, mapping.end));
    let there = image.areas.iter().map(|area| (area.start, area.end));
    let vdso = (image.vdso.0, image.vdso.0 + image.vdso.1);
    let hole = inject::find_hole(inject::AREA_BYTES, 4096, here.chain(there).chain([vdso]));
    let base = hole.ok_or_else(|| super::depart::refusal(model::ReasonCode::Limits.into()))?;
    let registers = ptrace::registers(pid).map_err(kernel_error("reading registers", pid))?;
    let snapshot = tracee::capture::Snapshot::take(pid)?;
    let entered = Injector::enter(pid, &registers, away.calls.entries().syscall, base).map_err(Error::from);
    let given = entered.and_then(|injector| {
        let wanted = transfer::files_of(&image.areas, image.executable, files);
        let by_content = wanted.iter().map(|file| file.file.as_fd());
        let open: Vec<_> = by_content.chain(own_open.iter().map(AsFd::as_fd)).collect();
        match tracee::pass::give(&injector, &open) {
            Ok(numbers) => {
                let mut numbers = numbers.into_iter();
                let files = wanted.iter().map(|file| file.id).zip(&mut numbers).collect();
                Ok((injector, Descriptors { files, own: (0..).zip(numbers).collect() }))
            }
            Err(error) => {
                let _ = injector.leave(pid, away.calls.entries().syscall);
                Err(error.into())
            }
        }
    });
    if given.is_err() {
        snapshot.restore()?;
    }
    given
}

/// The files of its own that an image speaks of must be there, and be mapped no more freely than they are open.
fn check_own(image: &Process, own: &[OwnFile]) -> Result<()> {
    let bad = || Error::from(session::Malformed("image: its own files"));
    let files =
        image.objects.iter().map(|object| object.file.map(|number| own.get(number as usize).ok_or_else(bad)));
    let files: Vec<Option<&OwnFile>> = files.map(Option::transpose).collect::<Result<_>>()?;
    for area in &image.areas {
        let Backing::Object { index, .. } = area.backing else { continue };
        let own = files.get(index as usize).copied().flatten();
        if own.is_some_and(|own| !own.is_writable) && i32::from(area.protection) & nix::libc::PROT_WRITE != 0
        {
            return Err(bad());
        }
    }
    Ok(())
}

/// What was put into the deputy.
struct Filled {
    /// Length of what came.
    bytes: u64,
    /// As in [`TakenBack`].
    cpu_ms: u64,
    /// Threads whose waits were begun for them.
    parked: Vec<Parked>,
    /// Threads whose waits are still to be begun, and where their times are.
    times: Vec<(i32, Time)>,
}

/// The process but for its registers, and those with which each thread is to go on.
fn rebuild_in(
    injector: &Injector,
    image: &Process,
    descriptors: &Descriptors,
    tids: &[i32],
    inlet: &mut &super::away::Notices,
    asker: &mut Asker,
) -> Result<(Filled, Vec<ptrace::Registers>)> {
    let pid = injector.pid();
    let stages = rebuild::layout(injector, image, descriptors, Target::Deputy)?;
    close_descriptors(injector, descriptors)?;
    let mut sink = Sink::open(pid)?;
    loop {
        let frame = inlet.take()?;
        match Kind::new(frame.kind) {
            Some(Kind::Pages) => {
                transfer::take_pages(&mut sink, &frame.payload, image, &stages)?;
                inlet.give_back(frame.payload);
            }
            Some(Kind::PagesEnd) => break,
            Some(Kind::Refused) => return Err(Error::Refused(session::decode(&frame.payload)?.0)),
            _ => return Err(Error::Unexpected { got: frame.kind, wanted: "pages" }),
        }
        asker.progress("memory", sink.written(), 0);
    }
    objects::settle(injector, image, &stages)?;
    rebuild::threads(injector, tids, image)?;
    let mut registers = Vec::with_capacity(tids.len());
    let (mut parked, mut times) = (Vec::new(), Vec::new());
    let clock = Monotonic::of(pid);
    for (thread, &tid) in image.threads.iter().zip(tids) {
        let prepared = rebuild::prepare_registers(injector, tid, thread, (clock, Target::Deputy))?;
        let wait = match thread.resume {
            Resume::Timed { until_ns } => Some(Parked::new(tid, &prepared, clock.here(until_ns))),
            Resume::Since { since_ns } => socket_time::total_ns(pid, &thread.registers)
                .map(|total_ns| Parked::by_socket(tid, &prepared, (clock.here(since_ns), total_ns))),
            Resume::Plain | Resume::Rest { .. } => None,
        };
        if let Some(wait) = wait {
            parked.push(wait);
            times.extend(begin::time(&thread.registers).map(|time| (tid, time)));
        }
        registers.push(prepared);
    }
    let cpu_ms = image.used.away.cpu_ms();
    Ok((Filled { bytes: sink.written(), cpu_ms, parked, times }, registers))
}

fn close_descriptors(injector: &Injector, descriptors: &Descriptors) -> Result<()> {
    let mut batch = injector.batch();
    for &number in descriptors.files.values().chain(descriptors.own.values()) {
        batch.call(nix::libc::SYS_close, &[number as u64]);
    }
    Ok(injector.run(injector.pid(), &mut batch).map(drop)?)
}
