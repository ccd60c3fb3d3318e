//! A call from a hostile host: once it is valid, everything the stub is told to touch lies in its area.
#![no_main]
#![forbid(unsafe_code)]

use wire::{AREA_BYTES_MAX, Call};

libfuzzer_sys::fuzz_target!(|input: (i64, u8, &[u8])| {
    let (ret, filler, bytes) = input;
    let Ok(call) = postcard::from_bytes::<Call>(bytes) else { return };
    if call.validate().is_err() {
        return;
    }
    assert!(call.area_len <= AREA_BYTES_MAX && call.input.len() <= call.area_len as usize);
    let area_len = u64::from(call.area_len);
    for (index, &arg) in call.args.iter().enumerate() {
        assert!(call.pointers & (1 << index) == 0 || arg <= area_len);
    }
    for &at in &call.relocations {
        let word = call.input[at as usize..at as usize + 8].try_into().expect("8 bytes");
        assert!(u64::from_le_bytes(word) <= area_len);
    }
    let mut area = call.input.clone();
    area.resize(call.area_len as usize, filler);
    let most: usize = call.outs.iter().map(|out| out.len.max() as usize).sum();
    assert!(call.collect(ret, &area).len() <= most);
});
