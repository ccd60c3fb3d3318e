//! Waits whose time is that of their socket: `SO_RCVTIMEO`, `SO_SNDTIMEO` (socket(7)).
//!
//! The kernel reads it when the call begins, and nobody else sees it. Such a call ends with `EINTR` at any interruption, by
//! which it is known: one that would wait for ever is restarted.

use crate::begin::{Begun, run_and_leave};
use crate::deputy::take_fd;
use crate::error::{Error, Result};
use crate::own_files::inode_under;
use crate::sharers;
use image::Registers;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};
use std::time::Duration;

/// Which of a socket's two times counts for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `SO_RCVTIMEO`.
    Receive,
    /// `SO_SNDTIMEO`.
    Send,
}

impl Direction {
    /// For a call on its first argument; `None` if no socket's time counts for it.
    pub fn of(nr: i64) -> Option<Direction> {
        match nr {
            libc::SYS_read | libc::SYS_readv | libc::SYS_recvfrom | libc::SYS_recvmsg => {
                Some(Direction::Receive)
            }
            libc::SYS_accept | libc::SYS_accept4 => Some(Direction::Receive),
            libc::SYS_write | libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg => {
                Some(Direction::Send)
            }
            libc::SYS_connect => Some(Direction::Send),
            _ => None,
        }
    }

    /// The number of the option.
    pub fn option(self) -> i32 {
        match self {
            Direction::Receive => libc::SO_RCVTIMEO,
            Direction::Send => libc::SO_SNDTIMEO,
        }
    }

    fn timeout(self) -> Timeout {
        match self {
            Direction::Receive => Timeout::Recv,
            Direction::Send => Timeout::Send,
        }
    }
}

/// For how long at most the call of a thread of process `pid` may wait, nanoseconds; `None` if there is no limit, or no
/// socket.
pub fn total_ns(pid: i32, registers: &Registers) -> Option<u64> {
    let direction = Direction::of(registers.orig_rax.cast_signed())?;
    let socket = take_fd(pid, registers.rdi as i32).ok()?;
    let total = socket_timeout(&socket, direction.timeout()).ok()??;
    u64::try_from(total.as_nanos()).ok()
}

/// As [`crate::begin::begin`], for a call on a socket: it has its own time again when the call sleeps. If another process
/// has the socket, too, it could begin to wait in that moment: then nothing is done.
pub(crate) fn begin(
    pid: i32,
    tid: i32,
    (descriptor, direction): (i32, Direction),
    left_ns: u64,
) -> Result<Begun> {
    let failed = |source: std::io::Error| Error::io("setting the time of a socket", pid)(source);
    let inode = inode_under(pid, &descriptor.to_string()).ok_or(Error::Gone(pid))?;
    if sharers::is_open_elsewhere(pid, inode).map_err(failed)? {
        tracing::debug!(tid, descriptor, "others have this socket: the call has its whole time again");
        return Ok(Begun::Stands);
    }
    let socket = take_fd(pid, descriptor)?;
    let set =
        |time| set_socket_timeout(&socket, direction.timeout(), time).map_err(|errno| failed(errno.into()));
    let own = socket_timeout(&socket, direction.timeout()).map_err(|errno| failed(errno.into()))?;
    // No time at all would be all the time in the world.
    set(Some(Duration::from_nanos(left_ns).max(Duration::from_micros(1))))?;
    run_and_leave(tid, || set(own))
}
