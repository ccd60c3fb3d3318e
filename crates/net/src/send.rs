//! The sending half of a channel.

use crate::Error;
use crate::frame::{HEADER_BYTES, Header, KIND_SEEN};
use crate::record::{self, CONTENT_BYTES_MAX, KeySchedule, RecordKey};
use rustix::net::SendFlags;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sealed bytes that are gathered before they are written: large enough that a system call costs little, small enough
/// that the network works while the rest of a large frame is being encrypted.
const GATHER_BYTES: usize = 256 << 10;

/// TLS 1.3 `KeyUpdate`, not asking for one in return.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
/// TLS 1.3 alert: warning, close_notify.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// A number of frames on the wire, as its own frame.
const SEEN_BYTES: usize = HEADER_BYTES + 8;

/// The sending half of a channel. Dropping it says nothing to the peer; [`Sender::close`] does.
pub struct Sender {
    socket: Arc<TcpStream>,
    key: RecordKey,
    schedule: Arc<KeySchedule>,
    /// The receiver read the peer's wish for a new key.
    update_wanted: Arc<AtomicBool>,
    records_per_key: u64,
    out: Vec<u8>,
}

impl Sender {
    pub(crate) fn new(
        socket: Arc<TcpStream>,
        key: RecordKey,
        schedule: Arc<KeySchedule>,
        update_wanted: Arc<AtomicBool>,
    ) -> Sender {
        Sender {
            socket,
            key,
            schedule,
            update_wanted,
            records_per_key: record::RECORDS_PER_KEY,
            out: Vec::new(),
        }
    }

    /// Sends one frame whose payload is the parts in a row, and returns when the kernel has all of it.
    ///
    /// Blocks while the peer does not read, at most [`model::limits::CONNECTION_SILENCE_SECONDS`] without any progress. After an
    /// error part of the frame may have gone out: the channel is of no more use.
    pub fn send(&mut self, kind: u16, parts: &[&[u8]]) -> Result<(), Error> {
        self.send_with(None, kind, parts)
    }

    /// Sends one frame, and in front of it, in the same record, how many frames of the session were received.
    pub(crate) fn send_with(&mut self, seen: Option<u64>, kind: u16, parts: &[&[u8]]) -> Result<(), Error> {
        let length = parts.iter().map(|part| part.len()).sum();
        let mut head = [0; SEEN_BYTES + HEADER_BYTES];
        let start = if seen.is_some() { 0 } else { SEEN_BYTES };
        head[..SEEN_BYTES].copy_from_slice(&seen_frame(seen.unwrap_or_default())?);
        head[SEEN_BYTES..].copy_from_slice(&Header::new(kind, length)?.encode());
        let head = head.get(start..).unwrap_or_default();
        let mut left = head.len() + length;
        // Growing by and by would copy what was sealed, and touch fresh memory each time.
        self.out.reserve(record::sealed_bytes(left).min(GATHER_BYTES));
        let mut rest = Parts { head, parts };
        while left > 0 {
            let content = left.min(CONTENT_BYTES_MAX);
            self.renew_key()?;
            self.key.seal(&mut self.out, record::DATA, content, |out| rest.take(content, out))?;
            left -= content;
            if self.out.len() + CONTENT_BYTES_MAX > GATHER_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Says goodbye and closes this direction; the peer reads [`Error::Closed`] after all that was sent.
    pub fn close(mut self) -> Result<(), Error> {
        self.key.seal(&mut self.out, record::ALERT, CLOSE_NOTIFY.len(), |out| out.extend(CLOSE_NOTIFY))?;
        self.flush()?;
        match self.socket.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != std::io::ErrorKind::NotConnected => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Ends this direction after all that was sent; the peer reads the end of it, whatever that means to it.
    pub(crate) fn finish(self) {
        // It fails only where the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Breaks the connection for both halves at once, also for a receiver that waits in another thread.
    pub fn abort(&self) {
        // It fails only where the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn renew_key(&mut self) -> Result<(), Error> {
        if self.key.records() < self.records_per_key && !self.update_wanted.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.update_wanted.store(false, Ordering::Relaxed);
        self.key.seal(&mut self.out, record::HANDSHAKE, KEY_UPDATE.len(), |out| out.extend(KEY_UPDATE))?;
        self.key = self.schedule.next_sealing()?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut written = 0;
        while let Some(rest) = self.out.get(written..)
            && !rest.is_empty()
        {
            match rustix::net::send(&*self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.out.clear();
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn set_records_per_key(&mut self, records: u64) {
        self.records_per_key = records;
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn seen_frame(received: u64) -> Result<[u8; SEEN_BYTES], Error> {
    let mut bytes = [0; SEEN_BYTES];
    bytes[..HEADER_BYTES].copy_from_slice(&Header::new(KIND_SEEN, 8)?.encode());
    bytes[HEADER_BYTES..].copy_from_slice(&received.to_le_bytes());
    Ok(bytes)
}

/// The header and the caller's buffers, as one run of bytes.
struct Parts<'a> {
    head: &'a [u8],
    parts: &'a [&'a [u8]],
}

impl Parts<'_> {
    fn take(&mut self, mut count: usize, out: &mut Vec<u8>) {
        loop {
            let here = count.min(self.head.len());
            let (taken, rest) = self.head.split_at(here);
            out.extend_from_slice(taken);
            self.head = rest;
            count -= here;
            if count == 0 {
                return;
            }
            let Some((next, parts)) = self.parts.split_first() else { return };
            self.head = next;
            self.parts = parts;
        }
    }
}
