//! What a peer sends after the handshake: good records with any content, and anything between them.
#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::arbitrary::Unstructured;
use net::fuzz::{Piece, Surroundings};
use std::sync::LazyLock;

const PIECES_MAX: usize = 64;

static SURROUNDINGS: LazyLock<Surroundings> = LazyLock::new(|| Surroundings::new().expect("a handshake"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut source = Unstructured::new(bytes);
    let parts: Vec<(u8, u8, &[u8])> =
        source.arbitrary_iter().into_iter().flatten().map_while(Result::ok).take(PIECES_MAX).collect();
    let pieces: Vec<Piece<'_>> = parts
        .into_iter()
        .map(|(which, kind, bytes)| match which % 4 {
            // Most records hold data; what they hold are frames.
            0 | 1 => Piece::Record(23, bytes),
            2 => Piece::Record(kind, bytes),
            _ => Piece::Raw(bytes),
        })
        .filter(|piece| !matches!(piece, Piece::Record(_, bytes) if bytes.len() > 16 << 10))
        .collect();
    if let Ok(frames) = SURROUNDINGS.receive(&pieces) {
        let sent: usize = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Record(_, b) | Piece::Raw(b) => b.len(),
            })
            .sum();
        let got: usize = frames.iter().map(|frame| frame.payload.len() + 8).sum();
        assert!(got <= sent, "more came than was sent");
    }
});
