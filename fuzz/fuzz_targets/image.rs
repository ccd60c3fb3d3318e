//! A frozen process that comes from elsewhere: what is accepted keeps what the rest takes for granted.
#![no_main]
#![forbid(unsafe_code)]

use wire::session::{Part, encode};

const TASK_END: u64 = 0x7fff_ffff_f000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut payload = encode(&Part { last: true });
    payload.extend_from_slice(bytes);
    let Some(image) = node::fuzz::image(&payload) else { return };
    assert!(image.pid > 1 && image.threads[0].tid == image.pid && image.actions.len() == 64);
    assert!(image.areas.iter().all(|area| area.start < area.end && area.end <= TASK_END));
    assert!(image.areas.windows(2).all(|pair| pair[0].end <= pair[1].start));
    for area in &image.areas {
        if let image::Backing::Object { index, offset } = area.backing {
            assert!((index as usize) < image.objects.len() && offset + area.length() <= TASK_END && area.shared);
        }
    }
    assert!(image.vdso.0 + image.vdso.1 <= TASK_END);
});
