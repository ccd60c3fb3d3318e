//! The files of its home that a guest maps and may change: here, shared memory stands for each of them.
//!
//! What the guest has written there is found by comparison: of each page a digest is kept of what the file has. The kernel
//! tells only of the page tables which pages were written, and those forget what was unmapped.

use super::guest::Waits;
use super::{Step, Warden};
use crate::journey::{Error, Outlet, Result};
use forward::Memory as _;
use image::{Backing, Process};
use kernel::notify::Notification;
use model::limits::PAGE_BATCH_BYTES;
use procinfo::Identity;
use std::collections::HashMap;
use std::fs::File;
use tracee::pages::read_page_wise;
use wire::session::{self, GoneOrder, Kind, SyncOrder, Which, WriteBack};

const PAGE: usize = 4096;
const WRITE: u64 = nix::libc::PROT_WRITE as u64;

/// A digest of a page: half of BLAKE3's.
type Digest = [u8; 16];

fn digest(page: &[u8]) -> Digest {
    let mut half = Digest::default();
    half.copy_from_slice(&blake3::hash(page).as_bytes()[..16]);
    half
}

/// Takes stretches of a file, start and length of each, and their bytes.
type Give<'a> = dyn FnMut(Vec<(u64, u64)>, &[u8]) -> Result<()> + 'a;

/// Memory that stands for a file.
#[derive(Debug)]
struct OwnFile {
    /// The file, as its home knows it.
    number: u32,
    identity: Identity,
    /// The memory itself: it stays when the guest has unmapped it, or is dead.
    object: File,
    /// What the file at home has, page by page.
    at_home: Vec<Digest>,
}

/// All of a guest.
#[derive(Debug, Default)]
pub(super) struct OwnFiles(Vec<OwnFile>);

impl OwnFiles {
    /// Those of an image, in a process `pid` that has been filled with it and has not run.
    pub(super) fn find(pid: i32, image: &Process) -> Result<OwnFiles> {
        if image.objects.iter().all(|object| object.file.is_none()) {
            return Ok(OwnFiles::default());
        }
        let mappings = procinfo::maps(pid).map_err(Error::io("reading the mappings"))?;
        let mut found = Vec::new();
        for (object, index) in image.objects.iter().zip(0..) {
            let Some(number) = object.file else { continue };
            let shows =
                |backing: &Backing| matches!(backing, Backing::Object { index: of, .. } if *of == index);
            let area = image.areas.iter().find(|area| shows(&area.backing)).ok_or(Error::Ending)?;
            let here = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&area.start));
            let mapping = here.ok_or(Error::Ending)?;
            let file = File::open(format!("/proc/{pid}/map_files/{}", mapping.file_name()));
            let file = file.map_err(Error::io("opening shared memory"))?;
            let mut own = OwnFile {
                number,
                identity: mapping.identity(),
                object: file,
                at_home: vec![Digest::default(); (object.length / PAGE as u64) as usize],
            };
            own.changes(&mut |_, _| Ok(()))?;
            found.push(own);
        }
        Ok(OwnFiles(found))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each by what is under its mappings here.
    pub(super) fn numbers(&self) -> HashMap<Identity, u32> {
        self.0.iter().map(|own| (own.identity.clone(), own.number)).collect()
    }

    /// Sends home what differs from what is there.
    fn write_back(&mut self, pid: i32, out: &mut impl Outlet) -> Result<()> {
        for own in &mut self.0 {
            let file = own.number;
            own.changes(&mut |ranges, bytes| {
                let header = session::encode(&WriteBack { pid, file, ranges });
                out.put(Kind::WriteBack, &[&header, bytes])
            })?;
        }
        Ok(())
    }
}

impl OwnFile {
    /// Gives what differs from what is at home, in batches; then it is the same.
    fn changes(&mut self, give: &mut Give<'_>) -> Result<()> {
        let mut buffer = vec![0; PAGE_BATCH_BYTES.min(self.at_home.len() * PAGE)];
        let mut at = 0;
        for known in self.at_home.chunks_mut(PAGE_BATCH_BYTES / PAGE) {
            let bytes = &mut buffer[..known.len() * PAGE];
            read_page_wise(&self.object, bytes, at).map_err(Error::io("reading shared memory"))?;
            let (mut ranges, mut length) = (Vec::<(u64, u64)>::new(), 0);
            for (index, known) in known.iter_mut().enumerate() {
                let page = index * PAGE..(index + 1) * PAGE;
                let found = digest(&bytes[page.clone()]);
                if std::mem::replace(known, found) == found {
                    continue;
                }
                let start = at + page.start as u64;
                match ranges.last_mut() {
                    Some((last, count)) if *last + *count == start => *count += PAGE as u64,
                    _ => ranges.push((start, PAGE as u64)),
                }
                // What is the same leaves no gap in what is sent.
                bytes.copy_within(page, length);
                length += PAGE;
            }
            if !ranges.is_empty() {
                give(ranges, &bytes[..length])?;
            }
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Warden {
    /// Sends home what a process has written to its files.
    pub(super) fn write_back(&mut self, pid: i32) -> Step {
        match self.guest.members.get_mut(&pid) {
            Some(member) if !member.own_files.is_empty() => {
                Ok(member.own_files.write_back(pid, &mut self.link)?)
            }
            _ => Ok(()),
        }
    }

    /// A process has ended at home, or is another program there: what it wrote is all that there will be.
    pub(super) fn gone(&mut self, GoneOrder { pid, has_files }: GoneOrder) -> Step {
        if has_files {
            self.write_back(pid)?;
            self.link.put(Kind::WrittenBack, &[&session::encode(&Which { pid })])?;
        }
        self.part_with(pid)
    }

    /// What a call says about the files that memory here stands for. `true` if it has been dealt with; otherwise the table
    /// says what becomes of it.
    pub(super) fn heed_files(&mut self, index: usize, notification: &Notification) -> Step<bool> {
        let member = self.guest.member(index);
        if member.own_files.is_empty() {
            return Ok(false);
        }
        let (pid, [_, _, what, ..]) = (member.image.pid, notification.args);
        match i64::from(notification.nr) {
            nix::libc::SYS_munmap if self.touches_files(index, notification) => self.write_back(pid)?,
            nix::libc::SYS_msync if what & nix::libc::MS_SYNC as u64 != 0 => {
                self.write_back(pid)?;
                let thread = &mut self.guest.threads[index];
                thread.seq = thread.seq.wrapping_add(1);
                let order = SyncOrder { slot: index as u32, seq: thread.seq };
                thread.waits = Waits::Sync { notification: notification.id };
                self.link.put(Kind::Sync, &[&session::encode(&order)])?;
                return Ok(true);
            }
            nix::libc::SYS_madvise if what == nix::libc::MADV_REMOVE as u64 => {
                return self.wish_home(index, notification).map(|()| true);
            }
            // Its home knows whether the file may be written to.
            nix::libc::SYS_mprotect | nix::libc::SYS_pkey_mprotect
                if what & WRITE != 0 && self.touches_files(index, notification) =>
            {
                return self.wish_home(index, notification).map(|()| true);
            }
            // A descriptor of a file, once sent to somebody else, could be used without being opened.
            nix::libc::SYS_sendmsg if !self.sends_control(index, notification) => {}
            nix::libc::SYS_sendmsg | nix::libc::SYS_sendmmsg => {
                return self.wish_home(index, notification).map(|()| true);
            }
            _ => {}
        }
        Ok(false)
    }

    /// Whether a message may have descriptors with it.
    fn sends_control(&self, index: usize, notification: &Notification) -> bool {
        // In `struct msghdr`.
        const CONTROL_LENGTH: u64 = 40;
        let [_, message, ..] = notification.args;
        let mut length = [0; 8];
        let read = self.guest.member(index).memory.read(message.wrapping_add(CONTROL_LENGTH), &mut length);
        read.is_ok() && u64::from_le_bytes(length) != 0
    }

    /// Whether a call is about a stretch of memory in which some stands for a file: its first arguments are start and length.
    fn touches_files(&self, index: usize, notification: &Notification) -> bool {
        let [start, length, ..] = notification.args;
        let member = self.guest.member(index);
        let Ok(mappings) = procinfo::maps(member.pid) else { return true };
        let numbers = member.own_files.numbers();
        let end = start.saturating_add(length);
        mappings.iter().any(|mapping| {
            mapping.start < end && mapping.end > start && numbers.contains_key(&mapping.identity())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_differs_is_given_once() {
        const PAGES: usize = 700;
        let object = tempfile::tempfile().unwrap();
        object.set_len((PAGES * PAGE) as u64).unwrap();
        let at_home = vec![Digest::default(); PAGES];
        let identity = ("00:01".to_owned(), 1);
        let mut own = OwnFile { number: 0, identity, object: object.try_clone().unwrap(), at_home };
        let mut changes = || {
            let mut given = Vec::new();
            let mut give = |ranges: Vec<(u64, u64)>, bytes: &[u8]| {
                let mut rest = bytes;
                for (start, length) in ranges {
                    let (run, behind) = rest.split_at(length as usize);
                    for (page, index) in run.chunks(PAGE).zip(start as usize / PAGE..) {
                        given.push((index, page[0], page[PAGE - 1]));
                    }
                    rest = behind;
                }
                assert!(rest.is_empty());
                Ok(())
            };
            own.changes(&mut give).unwrap();
            given
        };
        assert_eq!(changes().len(), PAGES, "nothing is known of it yet");
        assert_eq!(changes(), []);
        // In two batches, side by side and alone, at both ends of a page.
        for (page, byte) in [(0, 1), (255, 2), (256, 3), (300, 4), (301, 5), (PAGES - 1, 6)] {
            object.write_all_at(&[byte], (page * PAGE) as u64).unwrap();
        }
        object.write_all_at(&[9], (500 * PAGE - 1) as u64).unwrap();
        let wanted =
            [(0, 1, 0), (255, 2, 0), (256, 3, 0), (300, 4, 0), (301, 5, 0), (499, 0, 9), (PAGES - 1, 6, 0)];
        assert_eq!(changes(), wanted);
        object.write_all_at(&[0], 0).unwrap();
        assert_eq!(changes(), [(0, 0, 0)]);
        assert_eq!(changes(), []);
    }
}
