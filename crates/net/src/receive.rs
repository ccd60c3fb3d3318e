//! The receiving half of a channel.

use crate::Error;
use crate::frame::{Frame, HEADER_BYTES, Header};
use crate::record::{self, KeySchedule, RecordKey};
use rustix::net::RecvFlags;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Room for sealed bytes: one read may bring sixteen full records.
const BUFFER_BYTES: usize = 16 * (record::HEADER_BYTES + record::LENGTH_MAX);

/// Records without data in a row, before the peer counts as hostile.
const EMPTY_RECORDS_MAX: u32 = 32;

/// Payload capacity kept for the next frame, so that one large frame does not cost memory for ever.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// The receiving half of a channel.
pub struct Receiver {
    socket: Arc<TcpStream>,
    key: RecordKey,
    schedule: Arc<KeySchedule>,
    update_wanted: Arc<AtomicBool>,
    buffer: Box<[u8]>,
    /// Sealed bytes in the buffer.
    sealed: Range<usize>,
    /// Opened bytes in the buffer, in front of the sealed ones.
    opened: Range<usize>,
    empty_records: u32,
    partial: Partial,
    bytes_read: u64,
}

/// Breaks a connection for both of its halves, wherever they are.
#[derive(Clone, Debug)]
pub(crate) struct Cord(Arc<TcpStream>);

impl Cord {
    pub(crate) fn pull(&self) {
        // It fails only where the connection is gone already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The frame that is arriving.
#[derive(Default)]
struct Partial {
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    payload: Vec<u8>,
}

/// How a read treats an empty socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Block,
    Never,
}

impl Receiver {
    pub(crate) fn new(
        socket: Arc<TcpStream>,
        key: RecordKey,
        schedule: Arc<KeySchedule>,
        update_wanted: Arc<AtomicBool>,
    ) -> Receiver {
        Receiver {
            socket,
            key,
            schedule,
            update_wanted,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            sealed: 0..0,
            opened: 0..0,
            empty_records: 0,
            partial: Partial::default(),
            bytes_read: 0,
        }
    }

    pub(crate) fn cord(&self) -> Cord {
        Cord(Arc::clone(&self.socket))
    }

    /// Bytes that have come in so far: a frame may be long in coming.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Waits for the next frame.
    pub fn recv(&mut self) -> Result<Frame, Error> {
        let mut payload = Vec::new();
        let kind = self.recv_into(&mut payload)?;
        Ok(Frame { kind, payload })
    }

    /// Like [`Receiver::recv`], into a buffer of the caller: its content is replaced, its memory serves a later frame.
    pub fn recv_into(&mut self, payload: &mut Vec<u8>) -> Result<u16, Error> {
        match self.next(payload, Wait::Block)? {
            Some(kind) => Ok(kind),
            None => Err(Error::TimedOut),
        }
    }

    /// The next frame if all of it is here, without waiting.
    ///
    /// After `None` nothing is left that `poll` on the socket would not report.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, Error> {
        let mut payload = Vec::new();
        Ok(self.next(&mut payload, Wait::Never)?.map(|kind| Frame { kind, payload }))
    }

    /// Whether bytes have been read that belong to a frame not yet given out. If none have, `poll` tells of the next.
    pub fn holds_bytes(&self) -> bool {
        !self.opened.is_empty() || !self.sealed.is_empty()
    }

    /// Like [`Receiver::try_recv`], into a buffer of the caller, which is untouched on `None`.
    pub fn try_recv_into(&mut self, payload: &mut Vec<u8>) -> Result<Option<u16>, Error> {
        self.next(payload, Wait::Never)
    }

    /// Limits how long [`Receiver::recv`] waits for any byte before it fails with [`Error::TimedOut`]; it may be called
    /// again after that. `None` waits for ever: a dead peer is then found by keepalive.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        Ok(self.socket.set_read_timeout(timeout)?)
    }

    fn next(&mut self, payload: &mut Vec<u8>, wait: Wait) -> Result<Option<u16>, Error> {
        loop {
            if self.take_opened(payload)? {
                let header = Header::decode(&self.partial.header)?;
                self.partial.header_filled = 0;
                return Ok(Some(header.kind));
            }
            if !self.open_record()? && !self.read(wait)? {
                return Ok(None);
            }
        }
    }

    /// Moves opened bytes into the frame; `true` when the frame is whole and in `payload`.
    fn take_opened(&mut self, payload: &mut Vec<u8>) -> Result<bool, Error> {
        let partial = &mut self.partial;
        let opened = self.buffer.get(self.opened.clone()).unwrap_or_default();
        let head = opened.len().min(HEADER_BYTES - partial.header_filled);
        partial.header[partial.header_filled..partial.header_filled + head].copy_from_slice(&opened[..head]);
        partial.header_filled += head;
        self.opened.start += head;
        if partial.header_filled < HEADER_BYTES {
            return Ok(false);
        }
        // The header is decoded once per record; it is eight bytes. A peer that announces much and sends little costs
        // no memory: untouched pages are none.
        let header = Header::decode(&partial.header)?;
        partial.payload.reserve_exact(header.length - partial.payload.len());
        let body = &opened[head..];
        let count = body.len().min(header.length - partial.payload.len());
        partial.payload.extend_from_slice(&body[..count]);
        self.opened.start += count;
        if partial.payload.len() < header.length {
            return Ok(false);
        }
        std::mem::swap(payload, &mut partial.payload);
        partial.payload.clear();
        partial.payload.shrink_to(KEPT_BYTES_MAX);
        Ok(true)
    }

    /// Opens the next record if all of it is in the buffer. Only called when no opened bytes are left.
    fn open_record(&mut self) -> Result<bool, Error> {
        let sealed = self.buffer.get_mut(self.sealed.clone()).unwrap_or_default();
        let Some(length) = record::record_bytes(sealed)? else { return Ok(false) };
        let Some(sealed) = sealed.get_mut(..length) else { return Ok(false) };
        let (content_type, content) = self.key.open(sealed)?;
        let start = self.sealed.start + record::HEADER_BYTES;
        self.sealed.start += length;
        if content_type == record::DATA && content > 0 {
            self.empty_records = 0;
            self.opened = start..start + content;
            return Ok(true);
        }
        self.empty_records += 1;
        if self.empty_records > EMPTY_RECORDS_MAX {
            return Err(Error::Malformed("records without data"));
        }
        match (content_type, &sealed[record::HEADER_BYTES..record::HEADER_BYTES + content]) {
            (record::DATA, _) => {}
            (record::ALERT, [_, 0]) => return Err(Error::Closed),
            (record::ALERT, [_, code]) => return Err(alert(*code)),
            (record::HANDSHAKE, [24, 0, 0, 1, wanted @ (0 | 1)]) => {
                if *wanted == 1 {
                    self.update_wanted.store(true, Ordering::Relaxed);
                }
                self.key = self.schedule.next_opening()?;
            }
            // A session ticket: sessions are not resumed here.
            (record::HANDSHAKE, [4, ..]) => {}
            _ => return Err(Error::Malformed("a record of an unknown type")),
        }
        Ok(true)
    }

    /// Reads what the socket has; `false` when it has nothing.
    fn read(&mut self, wait: Wait) -> Result<bool, Error> {
        if self.sealed.is_empty() {
            self.sealed = 0..0;
        } else if self.buffer.len() - self.sealed.end < record::HEADER_BYTES + record::LENGTH_MAX {
            self.buffer.copy_within(self.sealed.clone(), 0);
            self.sealed = 0..self.sealed.len();
        }
        let flags = match wait {
            Wait::Block => RecvFlags::empty(),
            Wait::Never => RecvFlags::DONTWAIT,
        };
        let room = self.buffer.get_mut(self.sealed.end..).unwrap_or_default();
        loop {
            match rustix::net::recv(&*self.socket, &mut *room, flags) {
                Ok((_, 0)) => return Err(Error::cut()),
                Ok((_, count)) => {
                    self.sealed.end += count;
                    self.bytes_read += count as u64;
                    return Ok(true);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An alert other than a goodbye: the peer gave up.
fn alert(code: u8) -> Error {
    Error::Handshake(format!("the peer gave up: {:?}", rustls::AlertDescription::from(code)))
}
