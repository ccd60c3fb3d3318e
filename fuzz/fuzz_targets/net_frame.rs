//! A frame's header: what is accepted has one spelling and is not too long.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|bytes: [u8; 8]| {
    if let Ok((_, length)) = net::fuzz::frame_header(bytes) {
        assert!(length <= model::limits::FRAME_BYTES_MAX);
    }
});
