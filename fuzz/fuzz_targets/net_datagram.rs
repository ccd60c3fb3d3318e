//! Datagrams: of strangers, and of members that seal whatever they like.
#![no_main]
#![forbid(unsafe_code)]

use model::NodeId;
use net::{ClusterKey, DATAGRAM_PAYLOAD_MAX, DatagramHeader, KeyRing, Seal};
use std::sync::LazyLock;

fn seal(number: u16) -> Seal {
    let ring = KeyRing::new(ClusterKey::from_parts(1, [7; 32]));
    Seal::new(NodeId::new(number).expect("a node"), 1, &ring).expect("a seal")
}

static MEMBER: LazyLock<Seal> = LazyLock::new(|| seal(1));
static OTHER: LazyLock<Seal> = LazyLock::new(|| seal(2));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    if let Some(header) = DatagramHeader::decode(rest) {
        assert_eq!(rest[..30], header.encode());
    }
    // What nobody has sealed is never opened.
    assert!(MEMBER.open(&mut rest.to_vec()).is_err());
    if let Ok(text) = std::str::from_utf8(rest) {
        if let Ok(ring) = KeyRing::parse(text) {
            assert_eq!(KeyRing::parse(&ring.to_text()).expect("our own words"), ring);
        }
    }
    // What a member has sealed is opened once, and as it was.
    let payload = &rest[..rest.len().min(DATAGRAM_PAYLOAD_MAX)];
    let mut datagram = OTHER.seal(*first, payload).expect("it fits");
    let mut again = datagram.clone();
    let opened = MEMBER.open(&mut datagram).expect("a member has sealed it");
    assert_eq!((opened.channel, opened.payload), (*first, payload));
    assert!(MEMBER.open(&mut again).is_err());
});
