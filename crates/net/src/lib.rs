//! Authenticated, encrypted channels between nodes.
//!
//! A connection begins with a [`Preamble`] of 24 plain bytes, which only says where the connection belongs, and goes on
//! with TLS 1.3. Both sides show certificates of the cluster's own [`Authority`]; a node's identity is the
//! URI `openmosix://CLUSTER/node/ID` in its certificate, never a host name or an address. What then travels are frames:
//! a kind and a payload of at most [`model::limits::FRAME_BYTES_MAX`] bytes.
//!
//! # Why the record layer is here
//! rustls does the handshake, the certificates and the key schedule. The records after it are sealed and opened by
//! `record`, with the keys that rustls hands out for this very purpose (its `kernel` module, made for kernel TLS).
//! A rustls connection is one object: sender and receiver would have to share it under a lock, and its buffers copy
//! each byte three times. With the keys taken out, the two halves of a channel share nothing that a frame needs: one
//! thread encrypts straight from the caller's buffers while another decrypts in place. The tests hold this layer against an
//! unmodified rustls connection, both ways, key updates included.
//!
//! # Datagrams
//! What is small, frequent and may be lost travels as UDP packets that a [`Seal`] closes with the cluster's key
//! ([`KeyRing`]); a window for each sender keeps any of them from being believed twice.
//!
//! # What it is not
//! No message is known here (`wire` has them), and nobody is authorised: the owner of a channel compares
//! [`Channel::peer`] with what it expects of that node.
#![forbid(unsafe_code)]

mod authority;
mod channel;
mod cluster_key;
mod datagram;
mod error;
mod frame;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod handshake;
mod identity;
#[cfg(test)]
mod interop;
mod join;
mod ledger;
mod line;
mod preamble;
mod pulse;
mod reader;
mod receive;
mod record;
mod replay;
mod send;
mod verify;

pub use authority::{Authority, CertificateRequest, Issued, fingerprint, sha256};
pub use channel::Channel;
pub use cluster_key::{CLUSTER_KEY_FILE, ClusterKey, KEY_GENERATIONS, KeyId, KeyRing};
pub use datagram::{DATAGRAM_OVERHEAD, DATAGRAM_PAYLOAD_MAX, DatagramHeader, Dropped, Opened, Seal};
pub use error::Error;
pub use frame::Frame;
pub use identity::{CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, Identity, KEY_FILE};
pub use join::{accept_join, connect_join};
pub use line::{Dial, Event, Line, Listener};
pub use preamble::{PREAMBLE_BYTES, Preamble, Route, read_preamble};
pub use reader::Reader;
pub use receive::Receiver;
pub use send::Sender;

#[cfg(test)]
mod tests {
    /// Without it every process that makes a connection takes a tenth of a second of a CPU first: docs/decisions/0018.
    #[test]
    fn the_build_takes_its_seeds_from_the_kernel() {
        assert_eq!(option_env!("AWS_LC_SYS_NO_JITTER_ENTROPY"), Some("1"), "it is set in .cargo/config.toml");
    }
}
