//! Sealed datagrams: one UDP packet, from a member to members.
//!
//! ```text
//! 0     2        3          4       12    14           22       30     42
//! "OM"  version  0          key id  node  incarnation  counter  nonce  sealed: channel, payload; tag
//! ```
//! Numbers are big-endian. Everything in front of the sealed part is authenticated with it. AES-256-GCM-SIV with a
//! random nonce (RFC 8452): should two nodes ever draw the same one, nothing but the equality of two equal datagrams
//! shows. Whoever has no key learns who sends, how much, and when; nothing else, and he is never answered.

use crate::replay::Windows;
use crate::{ClusterKey, Error, KeyId, KeyRing};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use model::NodeId;
use model::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SENDERS_MAX};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

const MAGIC: [u8; 2] = *b"OM";
const VERSION: u8 = 1;
const NONCE_AT: usize = 30;
const SEALED_AT: usize = NONCE_AT + 12;
const TAG_BYTES: usize = 16;

/// Bytes of a datagram beside its payload.
pub const DATAGRAM_OVERHEAD: usize = SEALED_AT + 1 + TAG_BYTES;
/// Bytes of payload that one datagram carries, at most.
pub const DATAGRAM_PAYLOAD_MAX: usize = DATAGRAM_BYTES_MAX - DATAGRAM_OVERHEAD;

/// The plain part of a datagram. Nothing in it is to be believed before the rest was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHeader {
    /// What it is sealed with.
    pub key: KeyId,
    /// Who sends it.
    pub node: NodeId,
    /// Which life of the sender: a daemon that starts anew has a higher one.
    pub incarnation: u64,
    /// How many datagrams the sender has sent before.
    pub counter: u64,
}

impl DatagramHeader {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; NONCE_AT] {
        let mut bytes = [0; NONCE_AT];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[4..12].copy_from_slice(&self.key.0);
        bytes[12..14].copy_from_slice(&self.node.get().to_be_bytes());
        bytes[14..22].copy_from_slice(&self.incarnation.to_be_bytes());
        bytes[22..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// Reads the beginning of a datagram; exactly one spelling is accepted.
    pub fn decode(bytes: &[u8]) -> Option<DatagramHeader> {
        let (head, _) = bytes.split_first_chunk::<NONCE_AT>()?;
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&head[at..at + 8]);
            number
        };
        if head[..2] != MAGIC || head[2] != VERSION || head[3] != 0 {
            return None;
        }
        Some(DatagramHeader {
            key: KeyId(number(4)),
            node: NodeId::new(u16::from_be_bytes([head[12], head[13]]))?,
            incarnation: u64::from_be_bytes(number(14)),
            counter: u64::from_be_bytes(number(22)),
        })
    }
}

/// Why a datagram is dropped. Nothing is answered to any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It is no datagram of this protocol, or of another version.
    #[error("it is no datagram of this protocol")]
    Foreign,
    /// It is sealed with a key that this node does not have.
    #[error("it is sealed with the key {key}, which this node does not have")]
    UnknownKey {
        /// The key's name.
        key: KeyId,
        /// Who sends it, as it says: not proved.
        claimed: NodeId,
    },
    /// It was not sealed by a member, or was changed on its way.
    #[error("it is forged")]
    Forged,
    /// It came before, or too late.
    #[error("it came before")]
    Replayed,
}

/// An opened datagram: it was sealed by a member, and is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The plain part.
    pub header: DatagramHeader,
    /// Whom it is for on this node.
    pub channel: u8,
    /// What it says.
    pub payload: &'a [u8],
}

/// Seals what this node sends and opens what it receives. To be shared by threads.
pub struct Seal {
    node: NodeId,
    incarnation: AtomicU64,
    counter: AtomicU64,
    keys: RwLock<Vec<(KeyId, RandomizedNonceKey)>>,
    windows: Mutex<Windows>,
}

impl Seal {
    /// For a node in one of its lives.
    pub fn new(node: NodeId, incarnation: u64, ring: &KeyRing) -> Result<Seal, Error> {
        Ok(Seal {
            node,
            incarnation: AtomicU64::new(incarnation),
            counter: AtomicU64::new(0),
            keys: RwLock::new(prepare(ring)?),
            windows: Mutex::new(Windows::new(DATAGRAM_SENDERS_MAX)),
        })
    }

    /// Uses these keys from now on.
    pub fn set_keys(&self, ring: &KeyRing) -> Result<(), Error> {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = prepare(ring)?;
        Ok(())
    }

    /// Goes on as another life of this node.
    pub fn set_incarnation(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
    }

    /// A datagram for all members; its payload has at most [`DATAGRAM_PAYLOAD_MAX`] bytes.
    pub fn seal(&self, channel: u8, payload: &[u8]) -> Result<Vec<u8>, Error> {
        if payload.len() > DATAGRAM_PAYLOAD_MAX {
            return Err(Error::TooLarge(payload.len() as u64));
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some((id, key)) = keys.first() else { return Err(Error::identity("the cluster's key", "none")) };
        let header = DatagramHeader {
            key: *id,
            node: self.node,
            incarnation: self.incarnation.load(Ordering::Relaxed),
            counter: self.counter.fetch_add(1, Ordering::Relaxed),
        };
        let head = header.encode();
        let mut sealed = Vec::with_capacity(1 + payload.len() + TAG_BYTES);
        sealed.push(channel);
        sealed.extend_from_slice(payload);
        let nonce = key
            .seal_in_place_append_tag(Aad::from(head), &mut sealed)
            .map_err(|_| Error::identity("the cluster's key", "sealing failed"))?;
        let mut datagram = Vec::with_capacity(SEALED_AT + sealed.len());
        datagram.extend_from_slice(&head);
        datagram.extend_from_slice(nonce.as_ref());
        datagram.extend_from_slice(&sealed);
        Ok(datagram)
    }

    /// Opens a datagram in place.
    pub fn open<'a>(&self, datagram: &'a mut [u8]) -> Result<Opened<'a>, Dropped> {
        if datagram.len() < DATAGRAM_OVERHEAD || datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Dropped::Foreign);
        }
        let header = DatagramHeader::decode(datagram).ok_or(Dropped::Foreign)?;
        let (front, sealed) = datagram.split_at_mut(SEALED_AT);
        let (head, nonce) = front.split_at(NONCE_AT);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let (_, key) = keys
            .iter()
            .find(|(id, _)| *id == header.key)
            .ok_or(Dropped::UnknownKey { key: header.key, claimed: header.node })?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Dropped::Foreign)?;
        let plain: &'a [u8] =
            key.open_in_place(nonce, Aad::from(head), sealed).map_err(|_| Dropped::Forged)?;
        let (channel, payload) = plain.split_first().ok_or(Dropped::Forged)?;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if !windows.take(header.node, header.incarnation, header.counter) {
            return Err(Dropped::Replayed);
        }
        Ok(Opened { header, channel: *channel, payload })
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seal(node {})", self.node)
    }
}

fn prepare(ring: &KeyRing) -> Result<Vec<(KeyId, RandomizedNonceKey)>, Error> {
    let one = |key: &ClusterKey| {
        let prepared = RandomizedNonceKey::new(&AES_256_GCM_SIV, key.secret())
            .map_err(|_| Error::identity("the cluster's key", "the cipher refuses it"))?;
        Ok((key.id(), prepared))
    };
    ring.keys().iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(generation: u32, byte: u8) -> KeyRing {
        KeyRing::new(ClusterKey::from_parts(generation, [byte; 32]))
    }

    fn seal(node: u16, incarnation: u64, ring: &KeyRing) -> Seal {
        Seal::new(NodeId::new(node).unwrap(), incarnation, ring).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_once(channel: u8, payload in proptest::collection::vec(any::<u8>(), 0..=DATAGRAM_PAYLOAD_MAX)) {
            let (sender, receiver) = (seal(1, 9, &ring(1, 7)), seal(2, 9, &ring(1, 7)));
            let datagram = sender.seal(channel, &payload).unwrap();
            prop_assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
            let mut first = datagram.clone();
            let opened = receiver.open(&mut first).unwrap();
            prop_assert_eq!((opened.channel, opened.payload), (channel, &payload[..]));
            prop_assert_eq!((opened.header.node.get(), opened.header.incarnation), (1, 9));
            let mut again = datagram;
            prop_assert_eq!(receiver.open(&mut again), Err(Dropped::Replayed));
        }

        #[test]
        fn every_changed_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index, bit in 0u32..8) {
            let (sender, receiver) = (seal(1, 9, &ring(1, 7)), seal(2, 9, &ring(1, 7)));
            let mut datagram = sender.seal(0, &payload).unwrap();
            let at = at.index(datagram.len());
            datagram[at] ^= 1u8 << bit;
            prop_assert!(receiver.open(&mut datagram).is_err());
        }

        #[test]
        fn strangers_bytes_are_dropped(bytes in proptest::collection::vec(any::<u8>(), 0..1600), valid_head: bool) {
            let receiver = seal(2, 9, &ring(1, 7));
            let mut bytes = bytes;
            if valid_head && bytes.len() > NONCE_AT {
                let header = DatagramHeader {
                    key: ring(1, 7).current().id(), node: NodeId::new(3).unwrap(), incarnation: 1, counter: 1,
                };
                bytes[..NONCE_AT].copy_from_slice(&header.encode());
            }
            let dropped = receiver.open(&mut bytes).map(|_| ()).unwrap_err();
            prop_assert_ne!(dropped, Dropped::Replayed);
        }

        #[test]
        fn headers_have_one_spelling(bytes: [u8; NONCE_AT], valid: bool) {
            let mut bytes = bytes;
            if valid {
                bytes[..4].copy_from_slice(b"OM\x01\0");
            }
            if let Some(header) = DatagramHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }

    #[test]
    fn without_the_key_nothing_is_learnt() {
        let sender = seal(1, 9, &ring(1, 7));
        let stranger = seal(2, 9, &ring(1, 8));
        let mut datagram = sender.seal(0, b"secret words").unwrap();
        assert!(!datagram.windows(6).any(|window| window == b"secret"));
        let key = ring(1, 7).current().id();
        let claimed = NodeId::new(1).unwrap();
        assert_eq!(stranger.open(&mut datagram), Err(Dropped::UnknownKey { key, claimed }));
        assert!(sender.seal(0, &[0; DATAGRAM_PAYLOAD_MAX + 1]).is_err());
    }

    #[test]
    fn a_key_is_exchanged_while_everybody_talks() {
        let (mut first, mut second) = (ring(1, 1), ring(1, 1));
        let (a, b) = (seal(1, 1, &first), seal(2, 1, &second));
        let new = ClusterKey::from_parts(2, [2; 32]);
        first.take(new.clone());
        a.set_keys(&first).unwrap();
        let mut from_new = a.seal(0, b"x").unwrap();
        assert!(matches!(b.open(&mut from_new.clone()), Err(Dropped::UnknownKey { .. })));
        assert!(a.open(&mut b.seal(0, b"y").unwrap()).is_ok(), "the key before is still believed");
        second.take(new);
        b.set_keys(&second).unwrap();
        assert!(b.open(&mut from_new).is_ok());
        first.forget_previous();
        a.set_keys(&first).unwrap();
        let old = seal(3, 1, &ring(1, 1));
        assert!(matches!(a.open(&mut old.seal(0, b"z").unwrap()), Err(Dropped::UnknownKey { .. })));
    }

    #[test]
    fn a_stranger_cannot_move_a_window() {
        let (sender, receiver) = (seal(1, 9, &ring(1, 7)), seal(2, 9, &ring(1, 7)));
        let mut good = sender.seal(0, b"good").unwrap();
        let mut forged = good.clone();
        forged[22..30].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(receiver.open(&mut forged), Err(Dropped::Forged));
        assert!(receiver.open(&mut good).is_ok());
    }
}
