//! The pages of a process: finding, reading and writing them.

use crate::error::{Error, Result};
use image::{Backing, Process};
use kernel::memory::{self, Forced, Range};
use kernel::pagemap::Pagemap;
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGE: usize = 4096;
/// Ranges in one batch: half of what the kernel takes, as two lists share a call's memory.
const RANGES: usize = 512;

/// Pages that travel together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageBatch {
    /// The object that they are pages of; none if they are the process's own.
    pub object: Option<u32>,
    /// Where they belong, page-aligned: addresses in the process, or offsets in the object.
    pub ranges: Vec<Range>,
    /// Their bytes, one range after another.
    pub bytes: Vec<u8>,
}

/// A stretch of pages, in the process or in an object.
#[derive(Debug)]
struct Run {
    object: Option<u32>,
    range: Range,
}

/// Which objects' pages belong to those of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// All.
    All,
    /// Those that stand for no file: where the process goes, the files are.
    OfNoFile,
}

/// The pages of a stopped process that exist nowhere else.
#[derive(Debug)]
pub struct Source {
    pid: i32,
    runs: Vec<Run>,
    /// Through which the objects of its image are read.
    windows: Vec<(u64, u64)>,
    /// The object that was read last: there may be more of them than files that may be open.
    open: Option<(u32, File)>,
    /// Position: index of the run, bytes of it done.
    at: (usize, u64),
    total: u64,
    forced: Option<Forced>,
}

impl Source {
    /// Finds the pages of the private areas, and those of the objects: an object's pages are its own, whoever wrote them
    /// and whatever the process has in its page tables.
    pub fn scan(pid: i32, image: &Process, which: Objects) -> Result<Source> {
        let pagemap = Pagemap::open(pid).map_err(Error::io("opening the pagemap", pid))?;
        let mut runs = Vec::new();
        for area in image.areas.iter().filter(|area| !area.shared) {
            let found = pagemap.anonymous(area.start, area.end);
            let found = found.map_err(Error::kernel("scanning the pages", pid))?;
            runs.extend(found.into_iter().map(|range| Run { object: None, range }));
        }
        let windows = windows(image);
        for ((&window, object), index) in windows.iter().zip(&image.objects).zip(0..) {
            if which == Objects::OfNoFile && object.file.is_some() {
                continue;
            }
            let object = open_object(pid, window)?;
            let found = written(&object).map_err(Error::io("scanning shared memory", pid))?;
            runs.extend(found.into_iter().map(|range| Run { object: Some(index), range }));
        }
        let total = runs.iter().map(|run| run.range.length).sum();
        Ok(Source { pid, runs, windows, open: None, at: (0, 0), total, forced: None })
    }

    /// All bytes, also those already read.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Reads the next batch of at most `bytes` into `batch`; `false` when there is none.
    pub fn next(&mut self, bytes: usize, batch: &mut PageBatch) -> Result<bool> {
        batch.ranges.clear();
        batch.object = self.runs.get(self.at.0).and_then(|run| run.object);
        let mut room = bytes as u64;
        while room > 0 && batch.ranges.len() < RANGES {
            let (index, done) = self.at;
            let Some(Run { range, .. }) = self.runs.get(index).filter(|run| run.object == batch.object)
            else {
                break;
            };
            let length = (range.length - done).min(room);
            batch.ranges.push(Range { start: range.start + done, length });
            room -= length;
            self.at = if done + length == range.length { (index + 1, 0) } else { (index, done + length) };
        }
        let wanted = bytes - room as usize;
        batch.bytes.resize(wanted, 0);
        if wanted == 0 {
            return Ok(false);
        }
        match batch.object {
            Some(index) => self.read_object(index, batch)?,
            None if memory::read(self.pid, &batch.ranges, &mut batch.bytes) == Ok(wanted) => {}
            None => self.read_forced(batch)?,
        }
        Ok(true)
    }

    fn read_object(&mut self, index: u32, batch: &mut PageBatch) -> Result<()> {
        let object = match self.open.take() {
            Some((open, object)) if open == index => object,
            _ => open_object(self.pid, self.windows.get(index as usize).copied().unwrap_or_default())?,
        };
        let mut rest = &mut batch.bytes[..];
        for range in &batch.ranges {
            let (bytes, behind) = rest.split_at_mut(range.length as usize);
            read_page_wise(&object, bytes, range.start)
                .map_err(Error::io("reading shared memory", self.pid))?;
            rest = behind;
        }
        self.open = Some((index, object));
        Ok(())
    }

    /// Pages that the process itself may not read, such as those of a guarded stack.
    fn read_forced(&mut self, batch: &mut PageBatch) -> Result<()> {
        if self.forced.is_none() {
            self.forced = Some(Forced::open(self.pid).map_err(Error::io("opening the memory", self.pid))?);
        }
        let Some(forced) = &self.forced else { return Ok(()) };
        let mut at = 0;
        for range in &batch.ranges {
            let bytes = &mut batch.bytes[at..at + range.length as usize];
            forced.read_exact(range.start, bytes).map_err(Error::io("reading the memory", self.pid))?;
            at += bytes.len();
        }
        Ok(())
    }
}

/// For each object start and end of an area that shows some of it.
fn windows(image: &Process) -> Vec<(u64, u64)> {
    let mut windows = vec![(0, 0); image.objects.len()];
    for area in &image.areas {
        if let Backing::Object { index, .. } = area.backing
            && let Some(window) = windows.get_mut(index as usize)
        {
            *window = (area.start, area.end);
        }
    }
    windows
}

fn open_object(pid: i32, (start, end): (u64, u64)) -> Result<File> {
    let opened = File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}"));
    opened.map_err(Error::io("opening shared memory", pid))
}

/// The stretches of an object that are there, in whole pages: in memory, swapped out, or on a disk. The others are zero.
fn written(object: &File) -> std::io::Result<Vec<Range>> {
    let mut runs: Vec<Range> = Vec::new();
    let mut at = 0;
    loop {
        let start = match seek(object, SeekFrom::Data(at)) {
            // Nothing is behind it.
            Err(rustix::io::Errno::NXIO) => return Ok(runs),
            found => found?,
        };
        // A file ends where it likes, and its system may have smaller blocks.
        let start = start / PAGE as u64 * PAGE as u64;
        at = seek(object, SeekFrom::Hole(start.max(at)))?.next_multiple_of(PAGE as u64);
        match runs.last_mut() {
            Some(last) if last.start + last.length >= start => last.length = at - last.start,
            _ => runs.push(Range { start, length: at - start }),
        }
    }
}

/// Reads whole pages of an object; of a page that a file ends in, the rest is zero.
pub fn read_page_wise(object: &File, mut bytes: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let got = match object.read_at(bytes, at) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            got => got?,
        };
        if got == 0 {
            bytes.fill(0);
            return Ok(());
        }
        bytes = &mut bytes[got..];
        at += got as u64;
    }
    Ok(())
}

/// Where pages are put.
#[derive(Debug)]
pub struct Sink {
    pid: i32,
    forced: Forced,
    written: u64,
}

impl Sink {
    /// Opens the memory of a stopped process.
    pub fn open(pid: i32) -> Result<Sink> {
        let forced = Forced::open(pid).map_err(Error::io("opening the memory", pid))?;
        Ok(Sink { pid, forced, written: 0 })
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes pages, whatever the protection of their areas.
    pub fn write(&mut self, ranges: &[Range], bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if memory::write(self.pid, ranges, bytes) == Ok(bytes.len()) {
            return Ok(());
        }
        let mut at = 0;
        for range in ranges {
            let length = range.length as usize;
            // Writing them again where the first attempt already did is harmless: the process does not run.
            let chunk = bytes.get(at..at + length).unwrap_or_default();
            self.forced.write_all(range.start, chunk).map_err(Error::io("writing the memory", self.pid))?;
            at += length;
        }
        Ok(())
    }
}

/// Whether a page-aligned stretch is all zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|page| {
        // Folding instead of a search for the first other byte: the loop has no exit and becomes vector code.
        let (head, words, tail) = (page.len() / 64 * 64, page.chunks_exact(64), 0u8);
        let folded = words.fold([0u8; 64], |mut sum, chunk| {
            sum.iter_mut().zip(chunk).for_each(|(sum, byte)| *sum |= byte);
            sum
        });
        folded.iter().fold(tail, |sum, byte| sum | byte) == 0 && page[head..].iter().all(|&byte| byte == 0)
    })
}
