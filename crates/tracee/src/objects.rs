//! Shared memory, in the process that is rebuilt.
//!
//! An object is made whole, writable and in one piece, at its *stage*; there its pages are written; then its areas are
//! moved from the stage to their places and get their protection. The naive order, areas first, fails twice: not even a
//! tracer can write to a shared area that is read-only, and pages that no area shows at the moment would be lost.
//!
//! For an object whose areas show all of it, once and in a row, as nearly all do, the stage is the place. One that stands
//! for a file has no stage where the file itself is: at home its areas show the file.

use crate::error::{Error, Result};
use crate::inject::{AREA_BYTES, Batch, Injector, TASK_END, find_hole};
use crate::layout;
use crate::rebuild::{Expected, advise, make_room, run_and_check};
use image::{Area, Backing, Object, Process};
use procinfo::Mapping;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;

/// Stages begin where a page table does: the kernel moves whole tables then.
const ALIGNMENT: u64 = 2 << 20;
const WRITABLE: u8 = (libc::PROT_READ | libc::PROT_WRITE) as u8;

/// Where an object is while its pages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// First address.
    pub start: u64,
    /// Length of what is mapped, bytes: all of the object, and as much behind its end as areas reach.
    length: u64,
    /// Its areas are there already.
    in_place: bool,
}

/// What the objects of a process take of the memory, bytes: also what others wrote who have ended, which is not in the
/// page tables of the process, and what has been swapped out.
pub fn bytes(pid: i32) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let mappings = procinfo::shared_anonymous(pid).unwrap_or_default();
    let mut known = BTreeSet::new();
    let objects = mappings.iter().filter(|mapping| known.insert(mapping.identity()));
    let blocks =
        |mapping: &Mapping| std::fs::metadata(layout::link(pid, mapping)).map_or(0, |data| data.blocks());
    objects.map(blocks).sum::<u64>() * BLOCK_BYTES
}

/// The areas of an object in ascending order, each with its offset in the object.
type Shown<'a> = Vec<(&'a Area, u64)>;

/// The areas of each object.
fn shown(image: &Process) -> Vec<Shown<'_>> {
    let mut shown = vec![Vec::new(); image.objects.len()];
    for area in &image.areas {
        if let Backing::Object { index, offset } = area.backing
            && let Some(areas) = shown.get_mut(index as usize)
        {
            areas.push((area, offset));
        }
    }
    shown
}

/// Descriptors, in the process that is rebuilt, of the files that objects stand for, by their numbers.
pub type OwnFiles = HashMap<u32, i32>;

/// The descriptor of the file that an object stands for, where that is.
fn file_here(object: &Object, own: &OwnFiles) -> Option<i32> {
    own.get(&object.file?).copied()
}

/// A stage for each object whose file is not here, clear of the areas, of each other, and of what is `taken` besides; `None`
/// if there is no room. Those that are not in place stand in a row.
fn plan(image: &Process, own: &OwnFiles, taken: (u64, u64)) -> Option<Vec<Option<Stage>>> {
    let mut stages: Vec<Option<Stage>> = Vec::with_capacity(image.objects.len());
    // Until the place of the row is known, their starts count from its beginning.
    let mut row = 0u64;
    for (object, areas) in image.objects.iter().zip(shown(image)) {
        if file_here(object, own).is_some() {
            stages.push(None);
            continue;
        }
        let reach = areas.iter().map(|(area, offset)| offset + area.length()).max().unwrap_or(0);
        let length = object.length.max(reach);
        let stage = match in_a_row(&areas) {
            Some((start, whole)) if whole == object.length => Stage { start, length, in_place: true },
            _ => {
                let start = row;
                row = row.checked_add(length)?.checked_next_multiple_of(ALIGNMENT)?;
                Stage { start, length, in_place: false }
            }
        };
        stages.push(Some(stage));
    }
    if row == 0 {
        return Some(stages);
    }
    let areas = image.areas.iter().map(|area| (area.start, area.end));
    let vdso = (image.vdso.0, image.vdso.0 + image.vdso.1);
    let begin = (row < TASK_END).then(|| find_hole(row, ALIGNMENT, areas.chain([vdso, taken])))??;
    stages.iter_mut().flatten().filter(|stage| !stage.in_place).for_each(|stage| stage.start += begin);
    Some(stages)
}

/// Start and length of the areas, if they show an object from its beginning and without a gap, and nothing of it twice.
fn in_a_row(areas: &[(&Area, u64)]) -> Option<(u64, u64)> {
    let (&(first, 0), others) = areas.split_first()? else { return None };
    let end = others.iter().try_fold(first.end, |end, (area, offset)| {
        (area.start == end && *offset == end - first.start).then_some(area.end)
    })?;
    Some((first.start, end - first.start))
}

/// Whether areas of an object show some of it twice.
fn overlap(areas: &[(&Area, u64)]) -> bool {
    let mut parts: Vec<(u64, u64)> =
        areas.iter().map(|(area, offset)| (*offset, offset + area.length())).collect();
    parts.sort_unstable();
    parts.windows(2).any(|pair| pair[1].0 < pair[0].1)
}

/// Adds the calls that make the objects, or map the files that they stand for. Before them everything but the stub is
/// unmapped.
pub(crate) fn make(
    injector: &Injector,
    (image, own): (&Process, &OwnFiles),
    batch: &mut Batch,
    expect: &mut Vec<Expected>,
) -> Result<Vec<Option<Stage>>> {
    let stub = (injector.base(), injector.base() + AREA_BYTES);
    let stages = plan(image, own, stub).ok_or(Error::Kernel {
        what: "finding room for shared memory",
        pid: injector.pid(),
        errno: kernel::Errno::ENOMEM,
    })?;
    for ((stage, object), areas) in stages.iter().zip(&image.objects).zip(shown(image)) {
        let Some(stage) = stage else {
            map_file(injector, file_here(object, own).unwrap_or(-1), &areas, batch, expect)?;
            continue;
        };
        make_room(injector, batch, expect)?;
        let unreserved = areas.iter().any(|(area, _)| area.unreserved);
        let unreserved = if unreserved { libc::MAP_NORESERVE } else { 0 };
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED | unreserved;
        let args = [stage.start, object.length, u64::from(WRITABLE), flags as u64, u64::MAX, 0];
        expect.push((batch.call(libc::SYS_mmap, &args), stage.start as i64, "making shared memory"));
        if stage.length > object.length {
            let grown = batch.call(libc::SYS_mremap, &[stage.start, object.length, stage.length, 0]);
            expect.push((grown, stage.start as i64, "reaching behind shared memory"));
        }
    }
    Ok(stages)
}

/// Adds the calls that map a file where an object was.
fn map_file(
    injector: &Injector,
    descriptor: i32,
    areas: &[(&Area, u64)],
    batch: &mut Batch,
    expect: &mut Vec<Expected>,
) -> Result<()> {
    for (area, offset) in areas {
        make_room(injector, batch, expect)?;
        let unreserved = if area.unreserved { libc::MAP_NORESERVE } else { 0 };
        let flags = (libc::MAP_SHARED | libc::MAP_FIXED | unreserved) as u64;
        let args = [area.start, area.length(), u64::from(area.protection), flags, descriptor as u64, *offset];
        expect.push((batch.call(libc::SYS_mmap, &args), area.start as i64, "mapping a file of its own"));
        advise(batch, area);
    }
    Ok(())
}

/// Brings the areas of the objects to their places, with their protection and settings. Comes when all pages are written.
pub fn settle(injector: &Injector, image: &Process, stages: &[Option<Stage>]) -> Result<()> {
    if stages.iter().all(Option::is_none) {
        return Ok(());
    }
    let (mut batch, mut expect) = (injector.batch(), Vec::new());
    for (stage, areas) in stages.iter().zip(shown(image)) {
        let Some(stage) = stage else { continue };
        let twice = overlap(&areas);
        for (area, offset) in areas {
            make_room(injector, &mut batch, &mut expect)?;
            if !stage.in_place {
                // Of shared memory, no old length means another area that shows the same (mremap(2)).
                let length = if twice { 0 } else { area.length() };
                let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
                let args = [stage.start + offset, length, area.length(), flags, area.start];
                let placed = batch.call(libc::SYS_mremap, &args);
                expect.push((placed, area.start as i64, "placing shared memory"));
            }
            if area.protection != WRITABLE {
                let args = [area.start, area.length(), u64::from(area.protection)];
                expect.push((batch.call(libc::SYS_mprotect, &args), 0, "protecting shared memory"));
            }
            advise(&mut batch, area);
        }
        if !stage.in_place {
            make_room(injector, &mut batch, &mut expect)?;
            // What no area shows lives on in the object.
            let left = batch.call(libc::SYS_munmap, &[stage.start, stage.length]);
            expect.push((left, 0, "leaving the stage"));
        }
    }
    run_and_check(injector, &mut batch, &expect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Advice, Kind};

    const PAGE: u64 = 4096;
    const STUB: (u64, u64) = (0x1000_0000_0000, 0x1000_0040_0000);

    /// An area in pages: address, length, offset in its object.
    type InPages = (u64, u64, u64);

    fn image(pages: u64, areas: &[InPages]) -> Process {
        let area = |&(at, length, offset): &InPages| Area {
            start: at * PAGE,
            end: (at + length) * PAGE,
            protection: WRITABLE,
            shared: true,
            backing: Backing::Object { index: 0, offset: offset * PAGE },
            kind: Kind::Plain,
            unreserved: false,
            charged: false,
            advice: Advice::default(),
        };
        Process {
            areas: areas.iter().map(area).collect(),
            objects: vec![Object { length: pages * PAGE, file: None }],
            ..Process::default()
        }
    }

    /// The stages of objects that stand for no file.
    fn staged(image: &Process) -> Vec<Stage> {
        plan(image, &OwnFiles::new(), STUB).unwrap().into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn a_file_has_no_stage_where_it_is() {
        let mut image = image(8, &[(100, 8, 0)]);
        image.objects[0].file = Some(7);
        let stages = |own: &[(u32, i32)]| plan(&image, &own.iter().copied().collect(), STUB).unwrap();
        assert_eq!(stages(&[(7, 3)]), [None]);
        for elsewhere in [&[][..], &[(6, 3)]] {
            assert!(stages(elsewhere)[0].is_some_and(|stage| stage.in_place));
        }
    }

    #[test]
    fn what_is_shown_once_and_whole_is_made_in_its_place() {
        let cases: [(&[InPages], bool, bool); 8] = [
            (&[(100, 8, 0)], true, false),
            (&[(100, 3, 0), (103, 1, 3), (104, 4, 4)], true, false),
            // The end, the beginning or the middle is not mapped any more.
            (&[(100, 7, 0)], false, false),
            (&[(101, 7, 1)], false, false),
            (&[(100, 3, 0), (104, 4, 4)], false, false),
            // It has been moved apart, shown twice, or made to reach beyond its end.
            (&[(100, 4, 4), (200, 4, 0)], false, false),
            (&[(100, 8, 0), (200, 2, 3)], false, true),
            (&[(100, 9, 0)], false, false),
        ];
        for (areas, in_place, twice) in cases {
            let image = image(8, areas);
            let stages = staged(&image);
            assert_eq!(stages.len(), 1);
            assert_eq!(stages[0].in_place, in_place, "{areas:?}");
            assert_eq!(overlap(&shown(&image)[0]), twice, "{areas:?}");
            assert_eq!(
                stages[0].length,
                areas.iter().map(|(_, length, offset)| offset + length).max().unwrap().max(8) * PAGE
            );
            if in_place {
                assert_eq!(stages[0].start, 100 * PAGE);
            } else {
                assert!(stages[0].start >= STUB.1 || stages[0].start + stages[0].length <= STUB.0);
            }
        }
    }

    #[test]
    fn stages_are_clear_of_everything_and_of_each_other() {
        let mut image = image(8, &[(100, 7, 0), (200, 7, 1), (300, 8, 0)]);
        image.objects = vec![Object { length: 8 * PAGE, file: None }; 3];
        for (area, index) in image.areas.iter_mut().zip([0, 2, 1]) {
            if let Backing::Object { index: of, .. } = &mut area.backing {
                *of = index;
            }
        }
        let stages = staged(&image);
        assert_eq!(stages.iter().map(|stage| stage.in_place).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(stages[1].start, 300 * PAGE);
        assert!(stages[0].start >= STUB.1 || stages[2].start + 8 * PAGE <= STUB.0);
        assert!(stages[0].start + 8 * PAGE <= stages[2].start);
        // Whatever somebody says of their lengths, there is an answer at once.
        for length in [TASK_END, 1 << 46] {
            image.objects.iter_mut().for_each(|object| object.length = length);
            assert_eq!(plan(&image, &OwnFiles::new(), STUB), None, "{length:x}");
        }
    }
}
