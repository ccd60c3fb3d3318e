//! Shared memory of no file, as it is found in a process that stands still.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use image::{Backing, Object, Process};
use kernel::process::{Side, clone_with_tid, exit_now};
use rustix::mm::{MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use rustix::mm::{mmap_anonymous, mprotect, mremap, munmap};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::ffi::c_void;
use std::ptr::null_mut;
use tracee::layout::{self, Files, Layout};
use tracee::objects;
use tracee::pages::{Objects, PageBatch, Source};

const PAGE: usize = 4096;
const PAGES: usize = 16;

/// Shared memory; it stays until the process ends.
fn shared(pages: usize) -> *mut u8 {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping.
    let start = unsafe { mmap_anonymous(null_mut(), pages * PAGE, protection, MapFlags::SHARED) };
    start.unwrap().cast()
}

/// Its page of this number.
fn page(start: *mut u8, number: usize) -> *mut c_void {
    start.wrapping_add(number * PAGE).cast()
}

/// A child that does nothing; it ends when this is dropped.
struct Still(Pid);

impl Still {
    fn make() -> Still {
        // SAFETY: the child makes calls of the kernel only.
        match unsafe { clone_with_tid(0, libc::SIGCHLD, None) }.unwrap() {
            Side::Child => loop {
                nix::unistd::pause();
            },
            Side::Parent(pid) => Still(Pid::from_raw(pid).unwrap()),
        }
    }

    fn layout(&self) -> Layout {
        let pid = self.0.as_raw_nonzero().get();
        let mappings = procinfo::maps_with_flags(pid).unwrap();
        layout::read(pid, &mappings, &mut Files::default()).unwrap()
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
        let _ = waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// Has a child write one byte of a page, and end.
fn write_by_child(at: *mut c_void, byte: u8) {
    // SAFETY: the child writes to memory that it may write to, and makes calls of the kernel only.
    match unsafe { clone_with_tid(0, libc::SIGCHLD, None) }.unwrap() {
        Side::Child => {
            // SAFETY: the page is mapped and writable, and nobody refers to it.
            unsafe { at.cast::<u8>().write_volatile(byte) };
            exit_now(0);
        }
        Side::Parent(pid) => {
            waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
        }
    }
}

/// The areas that show the object of the one at `start`, as pages: place after `start`, length, offset, protection.
fn shown(layout: &Layout, start: *mut u8) -> (Object, Vec<(usize, usize, usize, u8)>) {
    let index = |backing: &Backing| match backing {
        Backing::Object { index, .. } => Some(*index),
        _ => None,
    };
    let first = layout.areas.iter().find(|area| (area.start..area.end).contains(&(start as u64))).unwrap();
    let object = index(&first.backing).expect("an object");
    let areas = layout.areas.iter().filter_map(|area| match area.backing {
        Backing::Object { index, offset } if index == object => {
            assert!(area.shared && !area.charged);
            let pages = |bytes: u64| bytes as usize / PAGE;
            let place = pages(area.start.wrapping_sub(start as u64));
            Some((place, pages(area.length()), pages(offset), area.protection))
        }
        _ => None,
    });
    (layout.objects[object as usize], areas.collect())
}

#[test]
fn an_object_is_found_by_all_areas_that_show_it() {
    let (split, trimmed, twice) = (shared(PAGES), shared(PAGES), shared(PAGES));
    let other = shared(PAGES);
    // SAFETY: all of it is this test's own memory, to which nothing refers.
    let again = unsafe {
        mprotect(page(split, 4), 2 * PAGE, MprotectFlags::READ).unwrap();
        munmap(page(trimmed, 0), PAGE).unwrap();
        munmap(page(trimmed, 12), 4 * PAGE).unwrap();
        mremap(page(twice, 0), 0, 4 * PAGE, MremapFlags::MAYMOVE).unwrap()
    };
    let layout = Still::make().layout();
    let whole = Object { length: (PAGES * PAGE) as u64, file: None };
    assert_eq!(shown(&layout, split), (whole, vec![(0, 4, 0, 3), (4, 2, 4, 1), (6, 10, 6, 3)]));
    assert_eq!(shown(&layout, page(trimmed, 1).cast()), (whole, vec![(0, 11, 1, 3)]));
    let (object, mut areas) = shown(&layout, twice);
    areas.sort_unstable_by_key(|(_, length, ..)| *length);
    let place = (again as usize).wrapping_sub(twice as usize) / PAGE;
    assert_eq!((object, areas), (whole, vec![(place, 4, 0, 3), (0, PAGES, 0, 3)]));
    assert_eq!(shown(&layout, other).1, [(0, PAGES, 0, 3)]);
}

#[test]
fn the_pages_of_an_object_are_its_own_whoever_wrote_them() {
    let start = shared(PAGES);
    let hidden = page(start, 15);
    // SAFETY: this test's own memory.
    unsafe { page(start, 2).cast::<u8>().write_volatile(2) };
    write_by_child(page(start, 7), 7);
    write_by_child(page(start, 8), 8);
    write_by_child(hidden, 15);
    // SAFETY: as above; nothing refers to it.
    unsafe { munmap(hidden, PAGE) }.unwrap();
    let still = Still::make();
    let pid = still.0.as_raw_nonzero().get();
    assert!(objects::bytes(pid) >= 4 * PAGE as u64, "none of it is in its page tables");
    assert_eq!(procinfo::status(pid).unwrap().shared_kb, 0);
    let layout = still.layout();
    let wanted = layout.areas.iter().find_map(|area| match area.backing {
        Backing::Object { index, .. } if area.start == start as u64 => Some(index),
        _ => None,
    });
    let image = process(layout);
    let mut source = Source::scan(pid, &image, Objects::All).unwrap();
    let mut batch = PageBatch::default();
    let mut found = Vec::new();
    // Batches of three pages: stretches are cut, and those of different objects stay apart.
    while source.next(3 * PAGE, &mut batch).unwrap() {
        let mut bytes = batch.bytes.chunks(PAGE);
        let ranges = batch.ranges.iter();
        let pages = ranges.flat_map(|range| (range.start..range.start + range.length).step_by(PAGE));
        for at in pages {
            let bytes = bytes.next().unwrap();
            if batch.object == wanted {
                found.push((at as usize / PAGE, bytes[0]));
                assert!(bytes[1..].iter().all(|&byte| byte == 0));
            }
        }
        assert!(bytes.next().is_none());
    }
    assert_eq!(found, [(2, 2), (7, 7), (8, 8), (15, 15)]);
}

fn process(layout: Layout) -> Process {
    Process {
        areas: layout.areas,
        objects: layout.objects,
        vdso: layout.vdso,
        vdso_code: layout.vdso_code,
        ..Process::default()
    }
}
