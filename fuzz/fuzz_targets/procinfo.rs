//! The readers of `/proc`: names of files and programs in it are anybody's.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    match which % 3 {
        0 => drop(procinfo::parse_maps(text)),
        1 => drop(procinfo::parse_stat(text)),
        _ => drop(procinfo::parse_status(&String::from_utf8_lossy(text))),
    }
});
