//! What members say about membership, in any order and in anybody's name: understood again as it was said, and survived.
#![no_main]
#![forbid(unsafe_code)]

use membership::{Effect, Input, Membership, Message, Sender, Settings, Via};
use model::NodeId;
use model::limits::{DATAGRAM_BYTES_MAX, PEERS_MAX};
use std::time::Duration;

/// Messages of one input, at most.
const MESSAGES_MAX: usize = 64;

fn machine() -> Membership {
    let settings = Settings {
        authority: [1; 32],
        node: NodeId::new(1).expect("a node"),
        incarnation: 1000,
        name: "n1".to_owned(),
        beacon_every: Duration::from_secs(5),
        death_known_within: Duration::from_secs(10),
        payload_max: 1341,
    };
    Membership::new(settings, 7)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::decode(bytes) {
        let again = message.encode().expect("what came in a message fits into one");
        assert_eq!(Message::decode(&again).expect("our own words"), message);
    }
    // The same bytes as a conversation: who, which life, how long until then, how many bytes, and these.
    let mut machine = machine();
    let mut now = Duration::from_secs(1);
    let mut effects = Vec::new();
    machine.step(now, Input::Addresses(vec!["10.0.0.1:4660".parse().expect("an address")]), &mut effects);
    let mut rest = bytes;
    for _ in 0..MESSAGES_MAX {
        let Some((&[node, life, pause, length], tail)) = rest.split_first_chunk::<4>() else { break };
        let (payload, tail) = tail.split_at(tail.len().min(usize::from(length)));
        rest = tail;
        now += Duration::from_millis(u64::from(pause) * 8);
        let sender = Sender {
            node: NodeId::new(u16::from(node) + 1).expect("a node"),
            incarnation: 990 + u64::from(life),
            from: "10.0.0.2:4660".parse().expect("an address"),
            via: if life % 2 == 0 { Via::Multicast } else { Via::Unicast },
        };
        machine.step(now, Input::Datagram { sender, payload }, &mut effects);
        if machine.wake() <= now {
            machine.step(now, Input::Tick, &mut effects);
        }
        for effect in effects.drain(..) {
            if let Effect::Send { payload, .. } | Effect::Announce { payload } = effect {
                assert!(payload.len() < DATAGRAM_BYTES_MAX);
                Message::decode(&payload).expect("our own words");
            }
        }
        assert!(machine.entries().count() <= PEERS_MAX);
    }
});
