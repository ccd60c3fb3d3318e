//! Pages from elsewhere: they go into the areas of their image, and nowhere else.
#![no_main]
#![forbid(unsafe_code)]

use image::{Advice, Area, Backing, FileId, Kind, MmFields, Process};

fn image(areas: &[(u16, u16)]) -> Process {
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
        pid: 2,
        uid: 0,
        gid: 0,
        mm: MmFields::default(),
        auxv: Vec::new(),
        executable: FileId([0; 32]),
        areas: areas.collect(),
        vdso: (0, 0),
        vdso_hash: [0; 32],
        threads: Vec::new(),
        actions: Vec::new(),
        pending: Vec::new(),
        personality: 0,
        clocks: image::Clocks::default(),
        shown: image::Shown::default(),
        limits: [(0, 0); 3],
    }
}

libfuzzer_sys::fuzz_target!(|input: (Vec<(u16, u16)>, Vec<(u64, u16)>, &[u8])| {
    let (areas, ranges, raw) = input;
    let image = image(&areas);
    let mut frames = vec![raw.to_vec()];
    // One that is well-formed, so that the areas are what decides.
    let ranges: Vec<(u64, u64)> = ranges.iter().map(|&(start, length)| (start, u64::from(length))).collect();
    let total: u64 = ranges.iter().map(|(_, length)| length).sum();
    if total < 1 << 20 {
        let mut frame = wire::session::encode(&wire::session::Pages(ranges));
        frame.resize(frame.len() + total as usize, 0);
        frames.push(frame);
    }
    for frame in frames {
        for (start, length) in node::fuzz::pages(&frame, &image).unwrap_or_default() {
            let mut at = start;
            while at < start + length {
                let area = image.areas.iter().find(|area| area.start <= at && at < area.end);
                at = area.expect("an area").end;
            }
        }
    }
});
