//! Pages from elsewhere: they go into the areas and objects of their image, and nowhere else.
#![no_main]
#![forbid(unsafe_code)]

use image::{Advice, Area, Backing, Kind, Object, Process};

fn image(areas: &[(u16, u16)], objects: &[u16]) -> Process {
    let mut from = 0u64;
    let areas = areas.iter().map(|&(gap, pages)| {
        let start = from + u64::from(gap) * 4096;
        from = start + (u64::from(pages) + 1) * 4096;
        Area {
            start,
            end: from,
            protection: 3,
            shared: false,
            backing: Backing::Anonymous,
            kind: Kind::Plain,
            unreserved: false,
            charged: false,
            advice: Advice::default(),
        }
    });
    Process {
        areas: areas.collect(),
        objects: objects.iter().map(|&pages| Object { length: (u64::from(pages) + 1) * 4096, file: None }).collect(),
        ..Process::default()
    }
}

type Input<'a> = (Vec<(u16, u16)>, Vec<u16>, Option<u32>, Vec<(u64, u16)>, &'a [u8]);

libfuzzer_sys::fuzz_target!(|input: Input<'_>| {
    let (areas, objects, object, ranges, raw) = input;
    let image = image(&areas, &objects);
    let mut frames = vec![raw.to_vec()];
    // One that is well-formed, so that the areas are what decides.
    let ranges: Vec<(u64, u64)> = ranges.iter().map(|&(start, length)| (start, u64::from(length))).collect();
    let total: u64 = ranges.iter().map(|(_, length)| length).sum();
    if total < 1 << 20 {
        let mut frame = wire::session::encode(&wire::session::Pages { object, ranges });
        frame.resize(frame.len() + total as usize, 0);
        frames.push(frame);
    }
    for frame in frames {
        let pages = node::fuzz::pages(&frame, &image).unwrap_or_default();
        let object = pages.object.map(|index| image.objects[index as usize]);
        for (start, length) in pages.ranges {
            if let Some(object) = object {
                assert!(start <= object.length && length <= object.length - start);
                continue;
            }
            let mut at = start;
            while at < start + length {
                let area = image.areas.iter().find(|area| area.start <= at && at < area.end);
                at = area.expect("an area").end;
            }
        }
    }
});
