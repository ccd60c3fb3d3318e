//! What nodes say to each other about membership: one message in a datagram, encoded by postcard.

use crate::beacon::{BadRecord, Record, check_incarnation};
use model::NodeId;
use serde::{Deserialize, Serialize};

/// A message about membership. Its numbers on the wire are those of the order here, so new ones are put at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// I am here.
    Beacon {
        /// SHA-256 of the authority's certificate: two clusters may share a network, even a key.
        authority: [u8; 32],
        /// What the sender says of itself.
        record: Record,
        /// Whether who hears it for the first time is to answer with its own.
        answer: bool,
    },
    /// Whom do you know? A node that knows the same answers nothing.
    Ask {
        /// Only nodes with higher ids.
        after: u16,
        /// A sum over all that the asking node knows.
        digest: u64,
    },
    /// A page of what the sender knows, by id.
    Roll {
        /// Records of other nodes.
        records: Vec<Record>,
        /// Where the next page begins, if there is one.
        next: Option<NodeId>,
    },
    /// A message of the failure detector.
    Swim(Vec<u8>),
    /// Your incarnation is older than what I know of you, which no longer lives.
    Stale {
        /// What I know.
        incarnation: u64,
    },
    /// Another machine uses your id, it lives, and it is the younger one.
    Taken {
        /// Its incarnation.
        incarnation: u64,
        /// Its name.
        name: String,
    },
}

/// A message is not of this protocol, or says what cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its bytes mean nothing.
    #[error("its bytes mean nothing: {0}")]
    Bytes(#[from] postcard::Error),
    /// Bytes follow it.
    #[error("{0} bytes follow it")]
    Trailing(usize),
    /// A record in it cannot be.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// It speaks for another node than the one that sends it.
    #[error("it speaks for another node")]
    Impostor,
    /// The failure detector does not understand it.
    #[error("it is no message of the failure detector")]
    Swim,
}

impl Message {
    /// The bytes of a message.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        Ok(postcard::to_stdvec(self)?)
    }

    /// Understands a message; every record in it is one that can be.
    pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
        let (message, rest) = postcard::take_from_bytes::<Message>(bytes)?;
        if !rest.is_empty() {
            return Err(Malformed::Trailing(rest.len()));
        }
        match &message {
            Message::Beacon { record, .. } => record.check()?,
            Message::Roll { records, .. } => records.iter().try_for_each(Record::check)?,
            Message::Taken { name, .. } if !model::is_node_name(name) => return Err(BadRecord::Name.into()),
            Message::Taken { incarnation, .. } | Message::Stale { incarnation } => {
                check_incarnation(*incarnation)?;
            }
            Message::Ask { .. } | Message::Swim(_) => {}
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use model::limits::ADDRESSES_MAX;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let address = (any::<[u8; 4]>(), 1u16..).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        let addresses = proptest::collection::vec(address, 0..=ADDRESSES_MAX);
        (1u16.., 0..crate::INCARNATION_MAX, any::<(u32, u16, bool)>(), "[a-z][a-z0-9-]{0,20}x", addresses)
            .prop_map(|(node, incarnation, (edition, renewal, left), name, addresses)| Record {
                node: NodeId::new(node).unwrap(),
                incarnation,
                edition,
                renewal,
                left,
                name,
                addresses,
            })
            .prop_filter("of somebody", |record| record.check().is_ok())
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (any::<[u8; 32]>(), record(), any::<bool>())
                .prop_map(|(authority, record, answer)| Message::Beacon { authority, record, answer }),
            any::<(u16, u64)>().prop_map(|(after, digest)| Message::Ask { after, digest }),
            (proptest::collection::vec(record(), 0..5), any::<u16>())
                .prop_map(|(records, next)| Message::Roll { records, next: NodeId::new(next) }),
            proptest::collection::vec(any::<u8>(), 0..99).prop_map(Message::Swim),
            (0..crate::INCARNATION_MAX).prop_map(|incarnation| Message::Stale { incarnation }),
            (0..crate::INCARNATION_MAX, "[a-z]{1,9}x")
                .prop_map(|(incarnation, name)| Message::Taken { incarnation, name }),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip_and_nothing_may_follow(message in message()) {
            let mut bytes = message.encode().unwrap();
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
            bytes.push(0);
            prop_assert_eq!(Message::decode(&bytes), Err(Malformed::Trailing(1)));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..1400), kind in 0u8..7) {
            let _ = Message::decode(&bytes);
            let _ = Message::decode(&[&[kind], &bytes[..]].concat());
        }

        #[test]
        fn every_changed_byte_is_survived(message in message(), at: prop::sample::Index, byte: u8) {
            let mut bytes = message.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(other) = Message::decode(&bytes) {
                let again = other.encode().unwrap();
                prop_assert_eq!(Message::decode(&again), Ok(other));
            }
        }
    }

    #[test]
    fn nobody_speaks_of_a_life_that_no_node_comes_to() {
        for incarnation in [crate::INCARNATION_MAX, u64::MAX] {
            let taken = Message::Taken { incarnation, name: "n2".to_owned() };
            for message in [Message::Stale { incarnation }, taken] {
                let bytes = message.encode().unwrap();
                assert_eq!(Message::decode(&bytes), Err(Malformed::Record(BadRecord::Incarnation)));
            }
        }
    }
}
