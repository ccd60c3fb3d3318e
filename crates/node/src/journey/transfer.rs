//! A process on the wire: its files, its image, its pages.

use super::cache::{Cache, Incoming};
use super::{Error, Result};
use image::{Area, Backing, Clocks, FileId, Process};
use kernel::memory::Range;
use model::limits::{FRAME_BYTES_MAX, PAGE_BATCH_BYTES};
use model::{Reason, ReasonCode, Reasons};
use net::{Frame, Receiver};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;
use tracee::layout::{Files, MappedFile};
use tracee::objects::Stage;
use tracee::pages::{PageBatch, Sink, Source, is_zero};
use wire::session::{self, FileEntry, FilePart, Kind, Pages, Part};

const PART_BYTES: usize = 1 << 20;
/// How long to wait for the last words of a side that has closed.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// An image larger than this is no honest one.
const IMAGE_BYTES_MAX: usize = 64 << 20;
/// More than any kernel provides around its vDSO, with room to grow.
const VDSO_BYTES_MAX: u64 = 1 << 20;
/// Ranges in one batch of pages, at most: what two ends' lists may hold.
const RANGES_MAX: usize = kernel::memory::RANGES_MAX;

/// Batches of pages that wait between two threads, at most.
const BATCHES_AHEAD: usize = 3;

/// Where frames go.
pub(crate) trait Outlet {
    /// Sends one frame.
    fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<()>;

    /// Sends one frame of a header and a body, whose buffer may be kept: then there is another one in its place, with
    /// anything in it.
    fn put_whole(&mut self, kind: Kind, header: &[u8], body: &mut Vec<u8>) -> Result<()> {
        self.put(kind, &[header, body])
    }
}

impl Outlet for net::Sender {
    fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<()> {
        Ok(self.send(kind as u16, parts)?)
    }
}

/// Where frames come from.
pub(crate) trait Inlet {
    /// Waits for the next frame.
    fn take(&mut self) -> Result<Frame>;
}

impl Inlet for net::Receiver {
    fn take(&mut self) -> Result<Frame> {
        Ok(self.recv()?)
    }
}

/// Waits for a frame of one kind; a refusal instead of it is an error of its own.
pub(crate) fn expect(inlet: &mut impl Inlet, kind: Kind, wanted: &'static str) -> Result<Frame> {
    let frame = inlet.take()?;
    match Kind::new(frame.kind) {
        Some(found) if found == kind => Ok(frame),
        Some(Kind::Refused) => Err(Error::Refused(session::decode(&frame.payload)?.0)),
        Some(Kind::Gone) => Err(Error::Ended),
        _ => Err(Error::Unexpected { got: frame.kind, wanted }),
    }
}

/// The files that areas map, each once, with the executable.
pub(crate) fn files_of(areas: &[Area], executable: FileId, files: &Files) -> Vec<MappedFile> {
    let mapped = areas.iter().filter_map(|area| match &area.backing {
        Backing::File { id, .. } => Some(*id),
        Backing::Anonymous | Backing::Object { .. } => None,
    });
    let ids: BTreeMap<_, ()> = mapped.chain([executable]).map(|id| (id, ())).collect();
    ids.keys().filter_map(|id| files.get(id).cloned()).collect()
}

/// A refusal that came while we were sending, without waiting for one.
pub(crate) fn listen(receiver: &mut Receiver) -> Result<()> {
    match receiver.try_recv()? {
        None => Ok(()),
        Some(frame) if Kind::new(frame.kind) == Some(Kind::Refused) => {
            Err(Error::Refused(session::decode(&frame.payload)?.0))
        }
        Some(frame) => Err(Error::Unexpected { got: frame.kind, wanted: "nothing yet" }),
    }
}

/// Where the connection broke: what the other side said before it closed, if it said anything.
pub(crate) fn heard<T>(receiver: &mut Receiver, outcome: Result<T>) -> Result<T> {
    let Err(Error::Net(_)) = &outcome else { return outcome };
    // Whatever it said is here already; only a connection that lingers must not hold us up.
    receiver.set_timeout(Some(LAST_WORDS))?;
    match expect(receiver, Kind::Refused, "its last words") {
        Ok(frame) => Err(Error::Refused(session::decode(&frame.payload)?.0)),
        Err(refused @ Error::Refused(_)) => Err(refused),
        Err(_) => outcome,
    }
}

/// Offers files and sends those that the other side lacks. `progress` is told bytes done and bytes in all.
pub(crate) fn send_files(
    out: &mut impl Outlet,
    receiver: &mut Receiver,
    files: &[MappedFile],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let sent = send_missing_files(out, receiver, files, progress);
    heard(receiver, sent)
}

fn send_missing_files(
    out: &mut impl Outlet,
    receiver: &mut Receiver,
    files: &[MappedFile],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let entries = files.iter().map(|file| FileEntry { id: file.id, length: file.length }).collect();
    out.put(Kind::Files, &[&session::encode(&session::Files(entries))])?;
    let frame = expect(receiver, Kind::Missing, "the list of missing files")?;
    let (missing, _) = session::decode::<session::Files>(&frame.payload)?;
    if missing.0.len() > files.len() {
        return Err(
            session::Malformed("list of missing files: it is longer than that of those offered").into()
        );
    }
    // The lengths are the other side's words; only a bar of progress is made of them.
    let total = missing.0.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.length));
    let mut done = 0;
    for entry in missing.0 {
        let file = files.iter().find(|file| file.id == entry.id);
        let file = file.ok_or(Error::Unexpected { got: frame.kind, wanted: "a file that was offered" })?;
        send_file(out, file, &mut |bytes| {
            done += bytes;
            progress(done, total);
            listen(receiver)
        })?;
    }
    Ok(())
}

/// Sends a file in parts; after each, `sent` is told its bytes. Refused is one that is not any more what it was known by;
/// the other side throws away what it has got of it.
pub(crate) fn send_file(
    out: &mut impl Outlet,
    file: &MappedFile,
    sent: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; PART_BYTES];
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    loop {
        let got = file.file.read_at(&mut buffer, at).map_err(Error::io("reading a mapped file"))?;
        at += got as u64;
        hasher.update(&buffer[..got]);
        let last = got == 0 || at >= file.length;
        out.put(Kind::FilePart, &[&session::encode(&FilePart { id: file.id, last }), &buffer[..got]])?;
        if last && hasher.finalize().as_bytes() != &file.id.0 {
            return Err(changes(file));
        }
        sent(got as u64)?;
        if last {
            return Ok(());
        }
    }
}

/// The refusal of a file that somebody writes to.
fn changes(file: &MappedFile) -> Error {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", file.file.as_raw_fd())).unwrap_or_default();
    let detail = format!("{}: it changes while it is read", name.display());
    let reasons = Reasons(vec![Reason::new(ReasonCode::Unreadable, detail)]);
    Error::Refused(session::Refusal { message: reasons.to_string(), reasons })
}

/// Of the files offered, those that the cache lacks.
pub(crate) fn lacking(offered: &session::Files, cache: &Cache) -> session::Files {
    session::Files(offered.0.iter().filter(|entry| cache.get(&entry.id).is_none()).copied().collect())
}

/// Takes in one part of a file; `incoming` holds the file between its parts.
pub(crate) fn take_file_part(cache: &Cache, incoming: &mut Option<Incoming>, payload: &[u8]) -> Result<()> {
    let (part, bytes) = session::decode::<FilePart>(payload)?;
    let mut file = match incoming.take() {
        Some(file) if file.id() == part.id => file,
        _ => cache.receive(part.id)?,
    };
    file.write(bytes)?;
    if part.last {
        return file.finish();
    }
    *incoming = Some(file);
    Ok(())
}

/// By how much this process's clocks are ahead of the receiver's machine, at least.
///
/// The receiver's reading lies between the question and the answer; it is compared with the time of the question, so
/// that a guest's clocks are set late rather than early: coming home they may jump forwards, never back.
pub(crate) fn compare_clocks(out: &mut impl Outlet, inlet: &mut impl Inlet) -> Result<Clocks> {
    const QUESTIONS: usize = 5;
    let mut best: Option<Clocks> = None;
    for _ in 0..QUESTIONS {
        let asked = tracee::clocks::own_clocks();
        out.put(Kind::ClockProbe, &[])?;
        let frame = expect(inlet, Kind::ClockReading, "a reading of its clocks")?;
        let (reading, _) = session::decode::<session::ClockReading>(&frame.payload)?;
        let ahead = Clocks {
            // A reading may be any number; what comes of a wild one the receiver's kernel refuses.
            monotonic_ns: asked.monotonic_ns.saturating_sub(reading.monotonic_ns),
            boottime_ns: asked.boottime_ns.saturating_sub(reading.boottime_ns),
        };
        // All are too small by the time the question took: the largest is the nearest.
        best = Some(best.filter(|best| best.monotonic_ns > ahead.monotonic_ns).unwrap_or(ahead));
    }
    best.ok_or(Error::Ending)
}

/// Lets the receiver make a body for process `pid`, which may still run; `known_as` are its pid, user and group at home,
/// and `ahead` is what [`compare_clocks`] found. Namespaces take milliseconds to make.
pub(crate) fn make_body(
    out: &mut impl Outlet,
    inlet: &mut impl Inlet,
    pid: i32,
    known_as: (i32, u32, u32),
    ahead: Clocks,
) -> Result<()> {
    let own = tracee::clocks::clock_offsets("self");
    let its = tracee::clocks::clock_offsets(&pid.to_string());
    let (pid, uid, gid) = known_as;
    let embody = session::Embody {
        pid,
        uid,
        gid,
        monotonic_ns: ahead.monotonic_ns.saturating_add(its.monotonic_ns - own.monotonic_ns),
        boottime_ns: ahead.boottime_ns.saturating_add(its.boottime_ns - own.boottime_ns),
    };
    out.put(Kind::Embody, &[&session::encode(&embody)])?;
    expect(inlet, Kind::Embodied, "the word that there is a body").map(drop)
}

/// Sends an image; `ahead` is what [`compare_clocks`] found.
pub(crate) fn send_image(out: &mut impl Outlet, image: &mut Process, ahead: Clocks) -> Result<()> {
    image.clocks.monotonic_ns += ahead.monotonic_ns;
    image.clocks.boottime_ns += ahead.boottime_ns;
    let image = &*image;
    let bytes = postcard::to_stdvec(image).map_err(|_| session::Malformed("image"))?;
    let mut chunks = bytes.chunks(PART_BYTES).peekable();
    while let Some(chunk) = chunks.next() {
        let part = Part { last: chunks.peek().is_none() };
        out.put(Kind::Image, &[&session::encode(&part), chunk])?;
    }
    Ok(())
}

/// Gathers an image from its parts.
#[derive(Debug, Default)]
pub(crate) struct ImageParts(Vec<u8>);

impl ImageParts {
    /// Takes one part; the image, once it was the last.
    pub(crate) fn take(&mut self, payload: &[u8]) -> Result<Option<Process>> {
        let (part, bytes) = session::decode::<Part>(payload)?;
        if self.0.len() + bytes.len() > IMAGE_BYTES_MAX {
            return Err(session::Malformed("image: it is too large").into());
        }
        self.0.extend_from_slice(bytes);
        if !part.last {
            return Ok(None);
        }
        let image: Process = postcard::from_bytes(&self.0).map_err(|_| session::Malformed("image"))?;
        check_image(&image)?;
        Ok(Some(image))
    }
}

/// What the rest takes for granted about an image.
fn check_image(image: &Process) -> Result<()> {
    let bad = |what: &'static str| Err(session::Malformed(what).into());
    if image.threads.first().map(|thread| thread.tid) != Some(image.pid) || image.pid <= 1 {
        return bad("image: its first thread is not its leader");
    }
    if image.threads.len() > model::limits::THREADS_MAX || image.areas.len() > model::limits::VMAS_MAX {
        return bad("image: more threads or areas than can be moved");
    }
    let (vdso, length) = image.vdso;
    if vdso.checked_add(length).is_none_or(|end| end > tracee::inject::TASK_END) {
        return bad("image: the place of its vDSO");
    }
    let code = image.vdso_code.len() as u64;
    let is_whole = [vdso, length, code].iter().all(|number| number.is_multiple_of(4096));
    if !is_whole || code > length || length > VDSO_BYTES_MAX {
        return bad("image: its vDSO");
    }
    if image.actions.len() != 64 || image.auxv.len() > 4096 {
        return bad("image: its actions or auxiliary vector");
    }
    let mut from = 0;
    for area in &image.areas {
        let aligned = area.start.is_multiple_of(4096) && area.end.is_multiple_of(4096);
        if !aligned || area.start < from || area.end <= area.start || area.end > tracee::inject::TASK_END {
            return bad("image: its areas");
        }
        from = area.end;
    }
    check_objects(image)
}

/// Each object has an area, and its areas are what they must be to be placed.
fn check_objects(image: &Process) -> Result<()> {
    let page = |number: u64| number.is_multiple_of(4096);
    let mut shown = vec![false; image.objects.len()];
    for area in &image.areas {
        let good = match area.backing {
            Backing::Anonymous => !area.shared,
            Backing::File { .. } => true,
            Backing::Object { index, offset } => {
                let known = shown.get_mut(index as usize).map(|shown| *shown = true).is_some();
                let end = offset.checked_add(area.length());
                known && area.shared && page(offset) && end.is_some_and(|end| end <= tracee::inject::TASK_END)
            }
        };
        if !good {
            return Err(session::Malformed("image: its shared areas").into());
        }
    }
    let whole = |object: &image::Object| {
        object.length > 0 && page(object.length) && object.length <= tracee::inject::TASK_END
    };
    if !(shown.iter().all(|shown| *shown) && image.objects.iter().all(whole)) {
        return Err(session::Malformed("image: its objects").into());
    }
    Ok(())
}

/// Sends all pages of a source; an error of `progress` ends it.
///
/// Pages that are all zero and in no file need not travel: fresh memory is zero. Another thread reads the next batches
/// while one is encrypted and sent, where there is a CPU for it.
pub(crate) fn send_pages(
    out: &mut impl Outlet,
    source: &mut Source,
    image: &Process,
    progress: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<u64> {
    let total = source.total();
    let (mut done, mut sent) = (0, 0);
    let mut put = |batch: &mut PageBatch| -> Result<()> {
        let bytes = batch.bytes.len() as u64;
        done += bytes;
        if !(is_zero(&batch.bytes) && in_no_file(image, batch)) {
            let ranges = batch.ranges.iter().map(|range| (range.start, range.length)).collect();
            let pages = Pages { object: batch.object, ranges };
            out.put_whole(Kind::Pages, &session::encode(&pages), &mut batch.bytes)?;
            sent += bytes;
        }
        progress(done, total)
    };
    if has_spare_cpu() && total > PAGE_BATCH_BYTES as u64 {
        std::thread::scope(|scope| {
            let (full, batches) = mpsc::sync_channel::<tracee::Result<PageBatch>>(BATCHES_AHEAD);
            let (empty, spare) = mpsc::channel::<PageBatch>();
            scope.spawn(move || {
                loop {
                    let mut batch = spare.try_recv().unwrap_or_default();
                    let read = match source.next(PAGE_BATCH_BYTES, &mut batch) {
                        Ok(true) => Ok(batch),
                        Ok(false) => return,
                        Err(error) => Err(error),
                    };
                    if full.send(read).is_err() {
                        return;
                    }
                }
            });
            for batch in batches {
                let mut batch = batch?;
                put(&mut batch)?;
                // The reader may have read its last.
                let _ = empty.send(batch);
            }
            Ok::<(), Error>(())
        })?;
    } else {
        let mut batch = PageBatch::default();
        while source.next(PAGE_BATCH_BYTES, &mut batch)? {
            put(&mut batch)?;
        }
    }
    out.put(Kind::PagesEnd, &[])?;
    Ok(sent)
}

/// Whether two threads of this process can run at once.
fn has_spare_cpu() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() > 1)
}

/// Takes all pages up to their end. Another thread receives and decrypts while this one writes, where there is a CPU
/// for it.
pub(crate) fn receive_pages(
    receiver: &mut Receiver,
    sink: &mut Sink,
    image: &Process,
    stages: &[Option<Stage>],
) -> Result<()> {
    let take = |sink: &mut Sink, number: u16, payload: &[u8]| match Kind::new(number) {
        Some(Kind::Pages) => take_pages(sink, payload, image, stages).map(|()| true),
        Some(Kind::PagesEnd) => Ok(false),
        _ => Err(Error::Unexpected { got: number, wanted: "pages" }),
    };
    let mut payload = Vec::new();
    // The first frame here: most programs' pages fit into few.
    let number = receiver.recv_into(&mut payload)?;
    if !take(sink, number, &payload)? {
        return Ok(());
    }
    if !has_spare_cpu() {
        loop {
            let number = receiver.recv_into(&mut payload)?;
            if !take(sink, number, &payload)? {
                return Ok(());
            }
        }
    }
    std::thread::scope(|scope| {
        let (full, frames) = mpsc::sync_channel::<Result<Frame>>(BATCHES_AHEAD);
        let (empty, spare) = mpsc::channel::<Vec<u8>>();
        scope.spawn(move || {
            loop {
                let mut payload = spare.try_recv().unwrap_or_default();
                let frame = receiver.recv_into(&mut payload).map(|kind| Frame { kind, payload });
                let last = !matches!(&frame, Ok(frame) if frame.kind == Kind::Pages as u16);
                if full.send(frame.map_err(Error::from)).is_err() || last {
                    return;
                }
            }
        });
        for frame in frames {
            let frame = frame?;
            if !take(sink, frame.kind, &frame.payload)? {
                return Ok(());
            }
            let _ = empty.send(frame.payload);
        }
        Err(Error::Ending)
    })
}

/// Whether these pages are zero where nobody writes them.
fn in_no_file(image: &Process, batch: &PageBatch) -> bool {
    batch.object.is_some()
        || batch.ranges.iter().all(|range| {
            let index = image.areas.partition_point(|area| area.end <= range.start);
            image.areas.get(index).is_some_and(|area| area.backing == Backing::Anonymous)
        })
}

/// Writes a batch of pages where it belongs: into areas and objects of the image, and nowhere else. The objects are at
/// their `stages`.
pub(crate) fn take_pages(
    sink: &mut Sink,
    payload: &[u8],
    image: &Process,
    stages: &[Option<Stage>],
) -> Result<()> {
    let (pages, bytes) = read_pages(payload, image)?;
    let origin = match pages.object {
        None => 0,
        Some(index) => {
            // An object whose file is here has no stage, and takes no pages.
            let stage = stages.get(index as usize).copied().flatten();
            stage.ok_or(session::Malformed("batch of pages"))?.start
        }
    };
    let ranges: Vec<Range> =
        pages.ranges.iter().map(|&(start, length)| Range { start: origin + start, length }).collect();
    Ok(sink.write(&ranges, bytes)?)
}

/// Where a batch of pages belongs, and its bytes.
///
/// The process that is filled has more than its areas: the code that fills it, which runs before there is a filter.
/// A peer that could write there would run calls of its own in a body without one.
pub(crate) fn read_pages<'a>(payload: &'a [u8], image: &Process) -> Result<(Pages, &'a [u8])> {
    let (pages, bytes) = session::decode::<Pages>(payload)?;
    let total = pages.ranges.iter().try_fold(0u64, |sum, (_, length)| sum.checked_add(*length));
    if pages.ranges.len() > RANGES_MAX || total != Some(bytes.len() as u64) || bytes.len() > FRAME_BYTES_MAX {
        return Err(session::Malformed("batch of pages").into());
    }
    let object = pages.object.map(|index| {
        image.objects.get(index as usize).ok_or(session::Malformed("batch of pages: of no object"))
    });
    let object = object.transpose()?;
    let within = |&(start, length): &(u64, u64)| match object {
        None => is_within(&Range { start, length }, &image.areas),
        Some(object) => start.checked_add(length).is_some_and(|end| end <= object.length),
    };
    if !pages.ranges.iter().all(within) {
        return Err(session::Malformed("batch of pages: some belong to no area").into());
    }
    Ok((pages, bytes))
}

/// Whether every byte of a range is in one of the areas, which are in ascending order.
fn is_within(range: &Range, areas: &[Area]) -> bool {
    let Some(end) = range.start.checked_add(range.length) else { return false };
    let mut at = range.start;
    for area in &areas[areas.partition_point(|area| area.end <= at)..] {
        if at >= end || area.start > at {
            break;
        }
        at = area.end;
    }
    at >= end
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Advice;

    fn area(start: u64, end: u64) -> Area {
        Area {
            start,
            end,
            protection: 3,
            shared: false,
            backing: Backing::Anonymous,
            kind: image::Kind::Plain,
            unreserved: false,
            charged: true,
            advice: Advice::default(),
        }
    }

    fn image(areas: Vec<Area>, objects: Vec<image::Object>) -> Process {
        Process { areas, objects, ..Process::default() }
    }

    #[test]
    fn pages_go_into_areas_and_nowhere_else() {
        let areas = vec![area(0x1000, 0x3000), area(0x3000, 0x4000), area(0x8000, 0x9000)];
        let image = image(areas, vec![image::Object { length: 0x2000, file: None }]);
        let cases = [
            (0x1000, 0x1000, true),
            (0x1000, 0x3000, true),
            (0x2fff, 2, true),
            (0x8000, 0x1000, true),
            (0x8000, 0x1001, false),
            (0x3000, 0x6000, false),
            (0, 0x1000, false),
            (0x5000, 0x1000, false),
            (0x7fff, 2, false),
            (0x9000, 1, false),
            (0xffff_ffff_ffff_f000, 0x1000, false),
            (0xffff_ffff_ffff_f000, 0x2000, false),
        ];
        let of_object = [
            (0, 0, 0x2000, true),
            (0, 0x1000, 0x1000, true),
            (0, 0x1000, 0x1001, false),
            (0, 0x2000, 1, false),
            (0, u64::MAX, 1, false),
            (1, 0, 0x1000, false),
        ];
        let own = cases.map(|(start, length, good)| (None, start, length, good));
        let of_object = of_object.map(|(object, start, length, good)| (Some(object), start, length, good));
        for (object, start, length, good) in own.into_iter().chain(of_object) {
            let mut payload = session::encode(&Pages { object, ranges: vec![(start, length)] });
            payload.resize(payload.len() + length as usize, 0);
            assert_eq!(read_pages(&payload, &image).is_ok(), good, "{object:?} {start:x} {length:x}");
        }
        let refused = |ranges| {
            let payload = session::encode(&Pages { object: None, ranges });
            read_pages(&payload, &image).is_err()
        };
        assert!(refused(vec![(0x1000, u64::MAX), (0x1000, 1)]));
        assert!(refused(vec![(0x1000, 0x1000)]), "there are no bytes");
    }
}
