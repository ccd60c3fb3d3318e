//! Looking at all processes again and again: one open directory and one buffer for all of it.

use crate::glance::{Glance, parse_anonymous_pages, parse_glance, parse_schedstat};
use crate::malformed;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, RawDir, open, openat};
use std::io;
use std::mem::MaybeUninit;

/// Bytes of one of the files that are read here; all of them are one line.
const LINE_BYTES_MAX: usize = 1024;
/// Bytes of a listing that are taken at a time.
const LISTING_BYTES: usize = 32 << 10;

/// The processes that this one's `/proc` shows: those of its pid namespace.
#[derive(Debug)]
pub struct Walk {
    proc: OwnedFd,
}

impl Walk {
    /// Opens `/proc`.
    pub fn open() -> io::Result<Walk> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Walk { proc: open("/proc", flags, Mode::empty())? })
    }

    /// The pids of all processes, at most `max` of them.
    pub fn pids(&self, max: usize) -> io::Result<Vec<i32>> {
        numbers(&self.proc, ".", max)
    }

    /// The tids of a process, at most `max` of them.
    pub fn tids(&self, pid: i32, max: usize) -> io::Result<Vec<i32>> {
        numbers(&self.proc, &format!("{pid}/task"), max)
    }

    /// One look at a process.
    pub fn glance(&self, pid: i32) -> io::Result<Glance> {
        self.line(&format!("{pid}/stat"), parse_glance)
    }

    /// One look at a thread; its CPU time is its own.
    pub fn glance_at_thread(&self, pid: i32, tid: i32) -> io::Result<Glance> {
        self.line(&format!("{pid}/task/{tid}/stat"), parse_glance)
    }

    /// CPU time of a process's first thread and its waiting for a CPU, nanoseconds, where the kernel keeps them.
    pub fn schedstat(&self, pid: i32) -> Option<(u64, u64)> {
        self.line(&format!("{pid}/schedstat"), |text| Ok(parse_schedstat(text))).ok().flatten()
    }

    /// Resident pages of a process that are in no file.
    pub fn anonymous_pages(&self, pid: i32) -> Option<u64> {
        self.line(&format!("{pid}/statm"), |text| Ok(parse_anonymous_pages(text))).ok().flatten()
    }

    /// The pid that was given last in this pid namespace: as long as it stays, nothing new has begun.
    pub fn last_pid(&self) -> io::Result<i32> {
        self.line("loadavg", parse_last_pid)
    }

    fn line<T>(&self, path: &str, parse: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        let file = openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffer = [0; LINE_BYTES_MAX];
        let length = rustix::io::read(&file, &mut buffer)?;
        parse(&buffer[..length])
    }
}

fn numbers(proc: &OwnedFd, path: &str, max: usize) -> io::Result<Vec<i32>> {
    // Opened anew each time: a listing begins where the last one ended.
    let directory = openat(proc, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
    let mut entries = RawDir::new(&directory, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?;
        if let Some(number) = name.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
            found.push(number);
            if found.len() == max {
                break;
            }
        }
    }
    Ok(found)
}

/// The last word of a text like `/proc/loadavg`.
fn parse_last_pid(text: &[u8]) -> io::Result<i32> {
    let text = std::str::from_utf8(text).map_err(|_| malformed("loadavg"))?;
    let word = text.split_ascii_whitespace().nth(4);
    word.and_then(|word| word.parse().ok()).ok_or_else(|| malformed("loadavg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_this_process_and_its_threads() {
        let walk = Walk::open().unwrap();
        let pid = std::process::id() as i32;
        assert!(walk.pids(usize::MAX).unwrap().contains(&pid));
        assert_eq!(walk.pids(1).unwrap().len(), 1);
        let tids = walk.tids(pid, usize::MAX).unwrap();
        assert!(tids.contains(&pid) && tids.len() > 1, "the harness has threads");
        assert_eq!(
            walk.glance(pid).unwrap().start_ticks,
            walk.glance_at_thread(pid, pid).unwrap().start_ticks
        );
        assert!(walk.anonymous_pages(pid).unwrap() > 0);
        assert!(walk.glance(i32::MAX).is_err());
        assert_eq!(walk.schedstat(i32::MAX), None);
    }

    #[test]
    fn a_new_process_changes_the_last_pid() {
        let walk = Walk::open().unwrap();
        let before = walk.last_pid().unwrap();
        let child = std::process::Command::new("true").spawn().unwrap();
        assert_ne!(walk.last_pid().unwrap(), before);
        drop(child.wait_with_output());
        assert!(parse_last_pid(b"0.1 0.2 0.3 1/2").is_err());
        assert_eq!(parse_last_pid(b"0.1 0.2 0.3 1/2 77\n").unwrap(), 77);
    }
}
