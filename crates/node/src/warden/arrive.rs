//! A process arrives: files, image, pages; then it stands ready until its keeper gives the word.
//!
//! Here the warden is the [`Taker`]: before the word the process is not its own, so whatever fails, what there is of it is
//! dropped. After the word a guest that cannot be served is dropped too: its sender has let go of it.

use super::connections::{self, Guestbook, Wanted};
use super::guest::{Guest, Sleep, Thread};
use super::half_done::HalfDone;
use super::own_files::OwnFiles;
use super::reception::Reception;
use super::wall::Wall;
use crate::Setup;
use crate::fault::{self, Point};
use crate::journey::cache::Cache;
use crate::journey::line::{self, Link};
use crate::journey::transfer::{self, ImageParts};
use crate::journey::{Error, Outlet, Result};
use image::{FileId, Process, Resume};
use kernel::ptrace;
use migration::{Taker, TakerInput, Word};
use model::limits::PEER_SILENCE_SECONDS;
use model::{NodeId, Session};
use net::Line;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use syscalls::filter;
use tracee::body::{self, Body, FIRST_FILE, Plan};
use tracee::clocks::{Arrival, Monotonic};
use tracee::inject::{self, Injector};
use tracee::objects::{self, Stage};
use tracee::pages::Sink;
use tracee::rebuild::{self, Descriptors, Target};
use tracee::{guest, layout, restart};
use wire::session::{self, Commit, Embody, Kind, Prepared, Role, Started};

/// How long a refused sender may take to hear it.
const FAREWELL: Duration = Duration::from_secs(5);

/// A process that has arrived and runs.
pub(super) struct Arrived {
    pub(super) guest: Guest,
    pub(super) link: Link,
    pub(super) reception: Reception,
    pub(super) files: layout::Files,
    pub(super) cache: Cache,
}

/// What there is of a body before it may run; dropped, it is killed.
struct Unfinished {
    body: Body,
    injector: Injector,
    tids: Vec<i32>,
    image: Process,
    stages: Vec<Option<Stage>>,
    sink: Sink,
    armed: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.armed {
            body::kill(self.body.init);
        }
    }
}

/// Receives a process and sets it going. On failure nothing of it is left here, and the sender has been told.
pub(super) fn arrive(
    setup: &Setup,
    home: NodeId,
    session: Session,
    listener: &UnixListener,
) -> Result<Arrived> {
    let mut keeper = meet(setup, listener, None, |book| {
        book.peer == home && matches!(book.hello.role, Role::Keeper { .. })
    })?;
    fault::at(&setup.config.paths, Point::WardenMet)?;
    let silence = Some(Duration::from_secs(PEER_SILENCE_SECONDS));
    keeper.receiver.set_timeout(silence)?;
    tracee::stand_in::know_own();
    let cache = Cache::open(&setup.config.paths.cache)?;
    let mut files = layout::Files::default();
    let received = if keeper.hello.role == (Role::Keeper { brings: true }) {
        let received = receive(setup, session, &cache, &mut files, &mut keeper);
        tell(&mut keeper, received)
    } else {
        let mut source = meet(setup, listener, Some(&keeper), |book| book.hello.role == Role::Source)?;
        source.receiver.set_timeout(silence)?;
        let received = receive(setup, session, &cache, &mut files, &mut source);
        let received = tell(&mut source, received);
        tell(&mut keeper, received)
    };
    let unfinished = received?;
    let finished = finish(unfinished);
    let Ready { mut guest, tids, clocks } = tell(&mut keeper, finished)?;
    let line = attach(&mut guest, setup, home, session, listener, keeper);
    let begun = line.and_then(|(mut link, reception)| {
        begin(setup, &mut guest, (&tids, &clocks), &mut link)?;
        Ok((link, reception))
    });
    if let Some((_, member)) = guest.members.first_key_value() {
        files.own(member.own_files.numbers());
    }
    match begun {
        Ok((link, reception)) => Ok(Arrived { guest, link, reception, files, cache }),
        Err(error) => {
            body::kill(guest.init);
            Err(error)
        }
    }
}

/// Says that the guest is ready. From here on a cut is survived, on both sides: it must not come between them and the
/// word.
fn attach(
    guest: &mut Guest,
    setup: &Setup,
    home: NodeId,
    session: Session,
    listener: &UnixListener,
    mut keeper: Guestbook,
) -> Result<(Link, Reception)> {
    let (&pid, member) = guest.members.first_key_value().ok_or(Error::Ending)?;
    let prepared = session::encode(&Prepared { local_pid: member.pid });
    keeper.sender.put(Kind::Prepared, &[&prepared])?;
    let (line, reader) = Line::called((keeper.sender, keeper.receiver), session, line::log(pid))?;
    let line = Arc::new(line);
    let reception = Reception::open(listener, setup.identity.clone(), home, &line)
        .map_err(Error::io("beginning to answer the daemon"))?;
    Ok((Link::new(line, reader), reception))
}

/// Tells the other side of a failure, and waits until it has heard: closing with unread frames would reset the
/// connection, and the word be lost.
fn tell<T>(book: &mut Guestbook, outcome: Result<T>) -> Result<T> {
    outcome.inspect_err(|error| {
        let told = book.sender.put(Kind::Refused, &[&session::encode(&error.to_refusal())]);
        let deadline = Instant::now() + FAREWELL;
        if told.is_ok() && book.receiver.set_timeout(Some(FAREWELL)).is_ok() {
            while Instant::now() < deadline && book.receiver.recv().is_ok() {}
        }
    })
}

/// Waits for the connection that is due; others are turned away. Whoever has announced it, if somebody has, says nothing
/// meanwhile: a word, or the end of that connection, means that it will not come.
fn meet(
    setup: &Setup,
    listener: &UnixListener,
    announced_by: Option<&Guestbook>,
    due: impl Fn(&Guestbook) -> bool,
) -> Result<Guestbook> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = Instant::now() + Duration::from_secs(PEER_SILENCE_SECONDS);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(announced_by.map(|book| PollFd::new(book.receiver.as_fd(), PollFlags::POLLIN)));
        let ready = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        if left.is_zero() || ready == Ok(0) {
            return Err(net::Error::TimedOut.into());
        }
        if fds.get(1).is_some_and(|fd| fd.any() == Some(true)) {
            return Err(Error::Ended);
        }
        let Some(Wanted::Connection(socket)) = connections::accept(listener) else { continue };
        match connections::welcome(&setup.identity, socket) {
            Ok(book) if due(&book) => return Ok(book),
            Ok(book) => tracing::warn!(peer = %book.peer, "a connection that is not due"),
            Err(error) => tracing::warn!(%error, "a connection that came to nothing"),
        }
    }
}

fn receive(
    setup: &Setup,
    session: Session,
    cache: &Cache,
    files: &mut layout::Files,
    from: &mut Guestbook,
) -> Result<Unfinished> {
    let mut parts = ImageParts::default();
    let mut incoming = None;
    let mut offered_ids = BTreeSet::new();
    let mut early: Option<Empty> = None;
    let mut unfinished: Option<Unfinished> = None;
    let mut payload = Vec::new();
    loop {
        let number = from.receiver.recv_into(&mut payload)?;
        match (Kind::new(number), &mut unfinished) {
            (Some(Kind::Files), None) => {
                let (offered, _) = session::decode::<session::Files>(&payload)?;
                offered_ids.extend(offered.0.iter().map(|entry| entry.id));
                let missing = transfer::lacking(&offered, cache);
                from.sender.put(Kind::Missing, &[&session::encode(&missing)])?;
            }
            (Some(Kind::FilePart), None) => transfer::take_file_part(cache, &mut incoming, &payload)?,
            (Some(Kind::ClockProbe), None) => {
                from.sender.put(Kind::ClockReading, &[&session::encode(&machine_clocks())])?;
            }
            (Some(Kind::Embody), None) => {
                let (wanted, _) = session::decode::<Embody>(&payload)?;
                drop(early.take());
                fault::at(&setup.config.paths, Point::WardenBody)?;
                early = Some(Empty::make(setup, session, cache, files, wanted, &offered_ids)?);
                from.sender.put(Kind::Embodied, &[])?;
            }
            (Some(Kind::Image), None) => {
                if let Some(image) = parts.take(&payload)? {
                    let body = embody(setup, session, cache, files, image, early.take())?;
                    let body = unfinished.insert(body);
                    fault::at(&setup.config.paths, Point::WardenImage)?;
                    let Unfinished { sink, image, stages, .. } = &mut *body;
                    let received = transfer::receive_pages(&mut from.receiver, sink, image, stages);
                    received.map_err(|error| cause(error, body.body.pid))?;
                    fault::at(&setup.config.paths, Point::WardenPages)?;
                    break;
                }
            }
            _ => return Err(Error::Unexpected { got: number, wanted: "a part of a process" }),
        }
    }
    unfinished.ok_or(Error::Ending)
}

/// Why a body could not be filled. One that has not run yet is ended by nobody but a kernel that runs out of memory.
fn cause(error: Error, pid: i32) -> Error {
    if procinfo::stat(pid).is_ok_and(|stat| stat.state != b'Z' && stat.state != b'X') {
        return error;
    }
    let detail = "the kernel ended the guest while it arrived";
    let reasons = model::Reasons(vec![model::Reason::new(model::ReasonCode::Memory, detail)]);
    Error::Refused(session::Refusal { message: reasons.to_string(), reasons })
}

/// A body with nothing in it; dropped, it is killed.
struct Empty {
    body: Body,
    made_for: Embody,
    files: Vec<(FileId, File)>,
    armed: bool,
}

impl Drop for Empty {
    fn drop(&mut self) {
        if self.armed {
            body::kill(self.body.init);
        }
    }
}

impl Empty {
    /// Makes one that has these files open.
    fn make(
        setup: &Setup,
        session: Session,
        cache: &Cache,
        known: &mut layout::Files,
        made_for: Embody,
        wanted: &BTreeSet<FileId>,
    ) -> Result<Empty> {
        if made_for.pid <= 1 {
            return Err(session::Malformed("pid").into());
        }
        let mut files: Vec<(FileId, File)> = Vec::new();
        for &id in wanted {
            let file = cache.get(&id).ok_or_else(|| {
                Error::Refused(session::Refusal {
                    reasons: model::Reasons::default(),
                    message: format!("the file {id} did not come along"),
                })
            })?;
            let copy = file.try_clone().map_err(Error::io("opening a file of the cache"))?;
            known.assume(id, copy).map_err(Error::io("opening a file of the cache"))?;
            files.push((id, file));
        }
        let borrowed: Vec<_> = files.iter().map(|(_, file)| file.as_fd()).collect();
        let void = setup.config.paths.run.join("void");
        std::fs::create_dir_all(&void).map_err(Error::io("making an empty directory"))?;
        let host_id = setup.config.guests.uid_base
            + u32::from_le_bytes([session.0[0], session.0[1], session.0[2] & 15, 0]);
        let wall = Wall::put_up(setup, session).map_err(|error| {
            let message = format!("failed to {error}");
            Error::Refused(session::Refusal { reasons: model::Reasons::default(), message })
        })?;
        let plan = Plan {
            pid: made_for.pid,
            ids: (made_for.uid, made_for.gid),
            host_ids: (host_id, host_id),
            clock_offsets: (made_for.monotonic_ns, made_for.boottime_ns),
            groups: &wall.doors(),
            landlock: wall.landlock,
            void: &void,
            files: &borrowed,
        };
        let body = body::create(&plan)?;
        Ok(Empty { body, made_for, files, armed: true })
    }

    /// Whether the process may live in it: of the clocks, the earlier reading is the exact one, and the later can only
    /// have been late.
    fn suits(&self, wanted: &Embody, files: &BTreeSet<FileId>) -> bool {
        let late = |early: i64, now: i64| (-1_000_000..1_000_000_000).contains(&early.saturating_sub(now));
        let made = &self.made_for;
        (made.pid, made.uid, made.gid) == (wanted.pid, wanted.uid, wanted.gid)
            && late(made.monotonic_ns, wanted.monotonic_ns)
            && late(made.boottime_ns, wanted.boottime_ns)
            && files.iter().all(|id| self.files.iter().any(|(known, _)| known == id))
    }
}

/// Gives a body the image's layout and threads: the one that was made early, if it suits.
fn embody(
    setup: &Setup,
    session: Session,
    cache: &Cache,
    known: &mut layout::Files,
    image: Process,
    early: Option<Empty>,
) -> Result<Unfinished> {
    let mut wanted: BTreeSet<FileId> = image.areas.iter().filter_map(|area| area.file()).collect();
    wanted.insert(image.executable);
    let described = Embody {
        pid: image.pid,
        uid: image.uid,
        gid: image.gid,
        monotonic_ns: image.clocks.monotonic_ns,
        boottime_ns: image.clocks.boottime_ns,
    };
    let mut empty = match early.filter(|empty| empty.suits(&described, &wanted)) {
        Some(empty) => empty,
        None => {
            tracing::debug!(pid = image.pid, "no body that suits was made early");
            Empty::make(setup, session, cache, known, described, &wanted)?
        }
    };
    let Furnished { injector, tids, stages, sink } = furnish(&empty.body, &image, &empty.files)?;
    empty.armed = false;
    let body = empty.body;
    Ok(Unfinished { body, injector, tids, image, stages, sink, armed: true })
}

/// A body with its layout and its threads.
struct Furnished {
    injector: Injector,
    tids: Vec<i32>,
    stages: Vec<Option<Stage>>,
    sink: Sink,
}

fn furnish(body: &Body, image: &Process, open: &[(FileId, File)]) -> Result<Furnished> {
    let pid = body.pid;
    let mappings = procinfo::maps(pid).map_err(Error::io("reading the mappings"))?;
    let here = mappings.iter().map(|mapping| (mapping.start, mapping.end));
    let there = image.areas.iter().map(|area| (area.start, area.end));
    let vdso = (image.vdso.0, image.vdso.0 + image.vdso.1);
    let hole = inject::find_hole(inject::AREA_BYTES, 4096, here.chain(there).chain([vdso]));
    let base = hole.ok_or_else(|| {
        Error::Refused(session::Refusal {
            reasons: model::Reasons(vec![model::ReasonCode::Limits.into()]),
            message: "no room for the stub".into(),
        })
    })?;
    let registers = ptrace::registers(pid).map_err(|errno| tracee::Error::Kernel {
        what: "reading registers",
        pid,
        errno,
    })?;
    let instruction = inject::find_instruction(pid, &mappings)?;
    let injector = Injector::enter(pid, &registers, instruction, base)?;
    let files = open.iter().map(|(id, _)| *id).zip(FIRST_FILE..).collect();
    let descriptors = Descriptors { files, ..Descriptors::default() };
    let stages = rebuild::layout(&injector, image, &descriptors, Target::Body)?;
    let home_tids: Vec<i32> = image.threads.iter().map(|thread| thread.tid).collect();
    let tids = guest::make_threads(&injector, &home_tids)?;
    Ok(Furnished { injector, tids, stages, sink: Sink::open(pid)? })
}

/// The machine's own clocks. A node may itself live in a time namespace: then those that this process sees are others.
fn machine_clocks() -> session::ClockReading {
    let (seen, own) = (tracee::clocks::own_clocks(), tracee::clocks::clock_offsets("self"));
    session::ClockReading {
        monotonic_ns: seen.monotonic_ns - own.monotonic_ns,
        boottime_ns: seen.boottime_ns - own.boottime_ns,
    }
}

/// A guest that stands ready and has not run.
struct Ready {
    guest: Guest,
    /// Its threads on this host, in the order of the image.
    tids: Vec<i32>,
    clocks: Arrival,
}

/// Everything that the kernel keeps for the threads, then the wall.
fn finish(mut unfinished: Unfinished) -> Result<Ready> {
    let Unfinished { body, injector, tids, image, stages, .. } = &unfinished;
    let pid = body.pid;
    objects::settle(injector, image, stages)?;
    let own_files = OwnFiles::find(pid, image)?;
    rebuild::threads(injector, tids, image)?;
    let mut registers = Vec::with_capacity(tids.len());
    let clock = Monotonic::of(pid);
    for (thread, &tid) in image.threads.iter().zip(tids) {
        registers.push(rebuild::prepare_registers(injector, tid, thread, (clock, Target::Body))?);
    }
    let code = if image.fixed_code { filter::Code::Fixed } else { filter::Code::Grows };
    let files = if own_files.is_empty() { filter::Files::None } else { filter::Files::Some };
    let filter: Vec<_> = filter::program(image.pid, code, files)
        .iter()
        .map(|instruction| (instruction.code, instruction.jt, instruction.jf, instruction.k))
        .collect();
    let listener = guest::wall_in(injector, tids, &filter)?;
    if let Err(errno) = listener.wake_synchronously() {
        tracing::debug!(%errno, "the kernel cannot wake guests synchronously");
    }
    limit(pid, image);
    let mappings = procinfo::maps(pid).map_err(Error::io("reading the mappings"))?;
    let own = (injector.base(), injector.base() + inject::AREA_BYTES);
    let theirs: Vec<_> =
        mappings.into_iter().filter(|mapping| mapping.start >= own.1 || mapping.end <= own.0).collect();
    let instruction = inject::find_instruction(pid, &theirs)?;
    // With files of its own it would ask for that.
    let suspended = ptrace::OPTION_EXITKILL | ptrace::OPTION_SUSPEND_SECCOMP;
    set_options(pid, suspended)?;
    injector.unmap(pid, instruction)?;
    set_options(pid, ptrace::OPTION_EXITKILL)?;
    for ((thread, &tid), raw) in image.threads.iter().zip(tids).zip(&registers) {
        rebuild::thread_registers(tid, thread, raw)?;
    }
    let clocks = Arrival::of(pid, &image.shown).ok_or_else(|| {
        let message = "its clocks would go back: those of the two nodes could not be compared".to_owned();
        Error::Refused(session::Refusal { reasons: model::Reasons::default(), message })
    })?;
    unfinished.armed = false;
    let image = unfinished.image.clone();
    let guest = Guest::new(pid, unfinished.body.init, image, own_files, listener);
    Ok(Ready { guest, tids: std::mem::take(&mut unfinished.tids), clocks })
}

fn set_options(tid: i32, options: usize) -> Result<()> {
    let failed = |errno| tracee::Error::Kernel { what: "suspending the filter", pid: tid, errno };
    Ok(ptrace::set_options(tid, options).map_err(failed)?)
}

/// The limits on memory are those of home; core dumps are written there, if anywhere.
fn limit(pid: i32, image: &Process) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let value = |limit: u64| (limit != u64::MAX).then_some(limit);
    let [space, data, stack] = image.limits;
    let limits =
        [(Resource::As, space), (Resource::Data, data), (Resource::Stack, stack), (Resource::Core, (0, 0))];
    for (resource, (soft, hard)) in limits {
        let limit = Rlimit { current: value(soft), maximum: value(hard) };
        if let Err(errno) = prlimit(Pid::from_raw(pid), resource, limit) {
            tracing::debug!(pid, ?resource, %errno, "a limit of home could not be set here");
        }
    }
}

/// A thread as it arrived. What it was about when it was stopped: a local sleep goes on by itself, a forwarded call will
/// be made again and is watched from here.
fn thread(of: i32, tid: i32, image: &image::Thread, clock: Monotonic) -> Thread {
    let mut thread = Thread::new(of, tid, image.tid);
    thread.used_before = image.used;
    let registers = &image.registers;
    let (nr, code) = (registers.orig_rax as i64, registers.rax as i64);
    if nr >= 0 && (-514..=-512).contains(&code) {
        thread.remade = Some((nr, code));
    }
    match image.resume {
        Resume::Timed { until_ns } if rebuild::is_parked(nr, Target::Body) => {
            let place = Some((registers.rip, registers.rsp));
            thread.sleep = Some(Sleep::new(nr, clock.here(until_ns), place));
        }
        Resume::Timed { until_ns } => {
            let left = Duration::from_nanos(clock.here(until_ns).saturating_sub(restart::now_ns()));
            thread.ends = Instant::now().checked_add(left).map(|end| (nr, end));
        }
        Resume::Since { since_ns } => {
            let passed = Duration::from_nanos(restart::now_ns().saturating_sub(clock.here(since_ns)));
            thread.began = Instant::now().checked_sub(passed).map(|began| (nr, began));
        }
        Resume::Rest { done } => thread.half_done = Some(HalfDone::of(registers, done)),
        Resume::Plain => {}
    }
    thread
}

/// Waits for the word and lets the guest run.
fn begin(
    setup: &Setup,
    guest: &mut Guest,
    (tids, clocks): (&[i32], &Arrival),
    link: &mut Link,
) -> Result<()> {
    let (&pid, member) = guest.members.first_key_value().ok_or(Error::Ending)?;
    let local_pid = member.pid;
    let clock = Monotonic::of(local_pid);
    let threads: Vec<Thread> =
        member.image.threads.iter().zip(tids).map(|(image, &tid)| thread(pid, tid, image, clock)).collect();
    let mut taker = Taker::new(Word::Giver);
    taker.step(TakerInput::Complete)?;
    fault::at(&setup.config.paths, Point::WardenPrepared)?;
    let frame = transfer::expect(link, Kind::Commit, "the word to begin")?;
    let (commit, _) = session::decode::<Commit>(&frame.payload)?;
    let unseated = || session::Malformed("word to begin");
    guest.slots = commit.slots as usize;
    taker.step(TakerInput::Word)?;
    fault::at(&setup.config.paths, Point::WardenCommitted)?;
    // The word took its time, in which they have gone on.
    clocks.catch_up();
    if let Some(member) = guest.members.get_mut(&pid) {
        member.held = commit.is_stopped;
    }
    for mut thread in threads {
        let seat = commit.threads.iter().find(|seat| seat.tid == thread.home_tid).ok_or_else(unseated)?;
        if seat.slot >= commit.slots || seat.slot >= model::limits::FAMILY_THREADS_MAX {
            return Err(unseated().into());
        }
        thread.signals_seen = seat.signals;
        thread.parked = commit.is_stopped;
        let tid = thread.tid;
        guest.settle(seat.slot as usize, thread);
        if commit.is_stopped {
            continue;
        }
        ptrace::resume(tid, 0).map_err(|errno| tracee::Error::Kernel {
            what: "beginning",
            pid: tid,
            errno,
        })?;
    }
    link.put(Kind::Started, &[&session::encode(&Started { local_pid })])?;
    fault::at(&setup.config.paths, Point::WardenStarted)
}
