//! The pages of a process: finding, reading and writing them.

use crate::error::{Error, Result};
use image::Area;
use kernel::memory::{self, Forced, Range};
use kernel::pagemap::Pagemap;

const PAGE: usize = 4096;
/// Ranges in one batch: half of what the kernel takes, as two lists share a call's memory.
const RANGES: usize = 512;

/// Pages that travel together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageBatch {
    /// Where they belong, page-aligned.
    pub ranges: Vec<Range>,
    /// Their bytes, one range after another.
    pub bytes: Vec<u8>,
}

/// The pages of a stopped process that exist nowhere else.
#[derive(Debug)]
pub struct Source {
    pid: i32,
    runs: Vec<Range>,
    /// Position: index of the run, bytes of it done.
    at: (usize, u64),
    total: u64,
    forced: Option<Forced>,
}

impl Source {
    /// Finds the pages of the private areas.
    pub fn scan(pid: i32, areas: &[Area]) -> Result<Source> {
        let pagemap = Pagemap::open(pid).map_err(Error::io("opening the pagemap", pid))?;
        let mut runs = Vec::new();
        for area in areas.iter().filter(|area| !area.shared) {
            let found = pagemap.anonymous(area.start, area.end);
            runs.extend(found.map_err(Error::kernel("scanning the pages", pid))?);
        }
        let total = runs.iter().map(|run| run.length).sum();
        Ok(Source { pid, runs, at: (0, 0), total, forced: None })
    }

    /// All bytes, also those already read.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Reads the next batch of at most `bytes` into `batch`; `false` when there is none.
    pub fn next(&mut self, bytes: usize, batch: &mut PageBatch) -> Result<bool> {
        batch.ranges.clear();
        let mut room = bytes as u64;
        while room > 0 && batch.ranges.len() < RANGES {
            let (index, done) = self.at;
            let Some(run) = self.runs.get(index) else { break };
            let length = (run.length - done).min(room);
            batch.ranges.push(Range { start: run.start + done, length });
            room -= length;
            self.at = if done + length == run.length { (index + 1, 0) } else { (index, done + length) };
        }
        let wanted = bytes - room as usize;
        batch.bytes.resize(wanted, 0);
        if wanted == 0 {
            return Ok(false);
        }
        if memory::read(self.pid, &batch.ranges, &mut batch.bytes) != Ok(wanted) {
            self.read_forced(batch)?;
        }
        Ok(true)
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
