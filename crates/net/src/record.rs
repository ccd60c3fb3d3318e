//! TLS 1.3 application records (RFC 8446, section 5): sealing and opening with keys that rustls agreed on.
//!
//! ```text
//! 23  3 3  length (BE)   { content, content type, tag } sealed; the five bytes in front are the associated data
//! ```
//! The nonce is the key's IV xor the record's number, so that a record that is lost, repeated or moved does not open.

use crate::Error;
use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use rustls::kernel::KernelConnection;
use std::sync::{Mutex, PoisonError};

/// Plain bytes in one record, at most.
pub(crate) const CONTENT_BYTES_MAX: usize = 16 << 10;
pub(crate) const HEADER_BYTES: usize = 5;
const TAG_BYTES: usize = 16;
/// What a record adds to its content.
const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// How long so many plain bytes are as records.
pub(crate) const fn sealed_bytes(plain: usize) -> usize {
    plain + plain.div_ceil(CONTENT_BYTES_MAX) * OVERHEAD_BYTES
}

/// Length field of a record, at most: RFC 8446 leaves 256 bytes for type, padding and tag.
pub(crate) const LENGTH_MAX: usize = CONTENT_BYTES_MAX + 256;

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// Records under one key. RFC 8446 section 5.5 allows AES-GCM 2^24.5 of them.
pub(crate) const RECORDS_PER_KEY: u64 = 1 << 23;

/// What is left of the handshake: the key schedule, asked by either half when a key is used up.
pub(crate) enum KeySchedule {
    Client(Mutex<KernelConnection<rustls::client::ClientConnectionData>>),
    Server(Mutex<KernelConnection<rustls::server::ServerConnectionData>>),
}

impl KeySchedule {
    /// The next key to send with.
    pub(crate) fn next_sealing(&self) -> Result<RecordKey, Error> {
        let next = match self {
            KeySchedule::Client(keys) => {
                keys.lock().unwrap_or_else(PoisonError::into_inner).update_tx_secret()
            }
            KeySchedule::Server(keys) => {
                keys.lock().unwrap_or_else(PoisonError::into_inner).update_tx_secret()
            }
        };
        RecordKey::new(next.map_err(|_| Error::Malformed("no next key"))?)
    }

    /// The next key to receive with.
    pub(crate) fn next_opening(&self) -> Result<RecordKey, Error> {
        let next = match self {
            KeySchedule::Client(keys) => {
                keys.lock().unwrap_or_else(PoisonError::into_inner).update_rx_secret()
            }
            KeySchedule::Server(keys) => {
                keys.lock().unwrap_or_else(PoisonError::into_inner).update_rx_secret()
            }
        };
        RecordKey::new(next.map_err(|_| Error::Malformed("no next key"))?)
    }
}

/// A key of one direction, and how many records it has seen. Never used for two directions or by two owners.
pub(crate) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl RecordKey {
    pub(crate) fn new((number, secrets): (u64, ConnectionTrafficSecrets)) -> Result<RecordKey, Error> {
        let unusable = || Error::Handshake("the keys are of an unknown kind".to_owned());
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(unusable()),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?;
        let iv = iv.as_ref().try_into().map_err(|_| unusable())?;
        Ok(RecordKey { key: LessSafeKey::new(key), iv, number })
    }

    /// Records sealed or opened so far.
    pub(crate) fn records(&self) -> u64 {
        self.number
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Appends one record to `out`; `fill` appends exactly `length` bytes of content, at most [`CONTENT_BYTES_MAX`].
    pub(crate) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        content_type: u8,
        length: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let start = out.len();
        out.reserve(length + OVERHEAD_BYTES);
        let [high, low] = ((length + 1 + TAG_BYTES) as u16).to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        out.extend_from_slice(&header);
        fill(out);
        debug_assert_eq!(out.len(), start + HEADER_BYTES + length);
        out.push(content_type);
        let nonce = self.next_nonce();
        let content = out.get_mut(start + HEADER_BYTES..).unwrap_or_default();
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), content)
            .map_err(|_| Error::Malformed("a record that cannot be sealed"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens a whole record in place; gives the content's type and its length, from [`HEADER_BYTES`] on.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(u8, usize), Error> {
        let Some((header, sealed)) = record.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(Error::Malformed("a record without a header"));
        };
        let nonce = self.next_nonce();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(&header[..]), sealed)
            .map_err(|_| Error::Malformed("a record that was not sealed by the peer"))?;
        // The type is the last byte that is not padding.
        let Some(end) = plain.iter().rposition(|&byte| byte != 0) else {
            return Err(Error::Malformed("a record without a type"));
        };
        if end > CONTENT_BYTES_MAX {
            return Err(Error::Malformed("a record with too much content"));
        }
        Ok((plain[end], end))
    }
}

/// The length of the record that begins here, header included; `None` while that is not known.
pub(crate) fn record_bytes(start: &[u8]) -> Result<Option<usize>, Error> {
    let Some(&[content_type, _, _, high, low]) = start.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if content_type != DATA || length > LENGTH_MAX {
        return Err(Error::Malformed("no record of TLS 1.3"));
    }
    Ok(Some(HEADER_BYTES + length))
}
