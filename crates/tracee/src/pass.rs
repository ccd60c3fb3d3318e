//! Giving descriptors to a stopped process.
//!
//! There is no call that puts a descriptor into another process. So the process makes a pair of sockets, one end of it
//! is taken out by `pidfd_getfd`, and what is sent there the process receives itself. This needs no path, no network
//! namespace and no rights beyond those of the tracer.

use crate::error::{Error, Result};
use crate::inject::{Injector, inside};
use std::os::fd::{AsFd, BorrowedFd};

/// Descriptors in one message (the kernel's `SCM_MAX_FD` is 253).
const AT_ONCE: usize = 128;
const HEADER_BYTES: usize = 16;

/// Gives copies of `files` to the process; returns their numbers there, in order. All of them are close-on-exec.
pub fn give(injector: &Injector, files: &[BorrowedFd<'_>]) -> Result<Vec<i32>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let pid = injector.pid();
    let mut batch = injector.batch();
    let pair = batch.room(8);
    let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as u64;
    let made = batch.call(libc::SYS_socketpair, &[libc::AF_UNIX as u64, kind, 0, pair]);
    injector.run(pid, &mut batch)?;
    if batch.ret(made) != 0 {
        return Err(inside("making a pair of sockets", pid, batch.ret(made)));
    }
    let number = |at: usize| {
        let bytes = batch.bytes(pair, 8).get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        i32::from_le_bytes(bytes.unwrap_or_default())
    };
    let (theirs, ours) = (number(0), number(4));
    let received = crate::deputy::take_fd(pid, ours).and_then(|socket| {
        let mut numbers = Vec::with_capacity(files.len());
        for chunk in files.chunks(AT_ONCE) {
            send(&socket, chunk).map_err(|errno| Error::Io {
                what: "sending descriptors",
                pid,
                source: errno.into(),
            })?;
            numbers.extend(receive(injector, theirs, chunk.len())?);
        }
        Ok(numbers)
    });
    let mut close = injector.batch();
    close.call(libc::SYS_close, &[theirs as u64]);
    close.call(libc::SYS_close, &[ours as u64]);
    injector.run(pid, &mut close)?;
    received
}

fn send(socket: impl AsFd, files: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(files));
    sendmsg(socket, &[std::io::IoSlice::new(&[0])], &mut control, SendFlags::empty()).map(drop)
}

fn receive(injector: &Injector, socket: i32, count: usize) -> Result<Vec<i32>> {
    let pid = injector.pid();
    let mut batch = injector.batch();
    let byte = batch.room(8);
    let vector: Vec<u8> = [byte, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    let vector = batch.data(&vector);
    let control_bytes = HEADER_BYTES + (4 * count).next_multiple_of(8);
    let control = batch.room(control_bytes);
    let message: Vec<u8> = [0, 0, vector, 1, control, control_bytes as u64, 0]
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    let message = batch.data(&message);
    let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as u64;
    let got = batch.call(libc::SYS_recvmsg, &[socket as u64, message, flags]);
    injector.run(pid, &mut batch)?;
    if batch.ret(got) != 1 {
        return Err(inside("receiving descriptors", pid, batch.ret(got)));
    }
    let bytes = batch.bytes(control, control_bytes);
    let (header, numbers) = bytes.split_at(HEADER_BYTES);
    let length = header.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)) as usize;
    if length != HEADER_BYTES + 4 * count {
        // The process has no room for them all in its table.
        return Err(Error::Refused(model::Reasons(vec![model::ReasonCode::Limits.into()])));
    }
    let number = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().unwrap_or_default());
    Ok(numbers[..4 * count].chunks_exact(4).map(number).collect())
}
