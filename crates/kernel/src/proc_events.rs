//! The process events of the kernel's connector (`linux/cn_proc.h`): who forks, and who becomes another program.
//!
//! They exist only in the pid and network namespace that the machine starts with, and only for root; elsewhere the kernel
//! takes the request and stays silent. So it counts as there only when it has answered.

use crate::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send, socket_with,
};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// `CN_IDX_PROC` and `CN_VAL_PROC`.
const PROC: [u32; 2] = [1, 1];
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// Bytes of `nlmsghdr` and of `cn_msg`.
const HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
/// Where the event begins in a datagram, and where what is particular to its kind does.
const EVENT: usize = HEADER + CONNECTOR_HEADER;
const DETAIL: usize = EVENT + 16;
/// More than any of these datagrams has.
const DATAGRAM_BYTES: usize = 512;
/// How long the kernel may take for its answer to the request.
const ANSWER: Duration = Duration::from_millis(300);

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcEvent {
    /// A process was born (threads are not told of).
    Forked {
        /// Its pid.
        pid: i32,
    },
    /// A process became another program.
    Executed {
        /// Its pid.
        pid: i32,
    },
    /// The kernel takes the request to listen.
    Listening,
    /// Something that is of no interest here.
    Other,
}

/// A stream of events.
#[derive(Debug)]
pub struct ProcEvents {
    socket: OwnedFd,
}

impl ProcEvents {
    /// Begins to listen; an error where there are no events, whatever the reason.
    pub fn listen() -> Result<ProcEvents, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR)).map_err(errno)?;
        bind(&socket, &SocketAddrNetlink::new(0, PROC[0])).map_err(errno)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER)).map_err(errno)?;
        send(&socket, &request(), SendFlags::empty()).map_err(errno)?;
        let events = ProcEvents { socket };
        // Events of others may come before the answer, but not for ever: the answer is on its way already.
        for _ in 0..1024 {
            match events.next()? {
                Some(ProcEvent::Listening) => return Ok(events),
                Some(_) => {}
                None => break,
            }
        }
        Err(Errno::EOPNOTSUPP)
    }

    /// How long [`ProcEvents::next`] waits.
    pub fn set_patience(&self, patience: Duration) -> Result<(), Errno> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(patience)).map_err(errno)
    }

    /// The next event; none if nothing happened in time. `ENOBUFS` says that events were lost.
    pub fn next(&self) -> Result<Option<ProcEvent>, Errno> {
        let mut buffer = [0; DATAGRAM_BYTES];
        match recvfrom(&self.socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _, sender)) => {
                let kernel = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
                // Any process with the right to may send to this socket, but only the kernel has the port 0.
                let from_kernel = kernel.is_some_and(|sender| sender.pid() == 0);
                Ok(Some(if from_kernel { parse(&buffer[..length]) } else { ProcEvent::Other }))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// `nlmsghdr`, `cn_msg`, `PROC_CN_MCAST_LISTEN`.
fn request() -> Vec<u8> {
    let length = (EVENT + 4) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(DONE.to_ne_bytes());
    // Flags, sequence, port.
    bytes.extend([0; 10]);
    PROC.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    // Sequence and acknowledgement.
    bytes.extend([0; 8]);
    bytes.extend(4_u16.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(LISTEN.to_ne_bytes());
    bytes
}

/// The event in a datagram: `proc_event` behind both headers.
fn parse(datagram: &[u8]) -> ProcEvent {
    let word = |at: usize| -> Option<u32> {
        let bytes = datagram.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let event = || -> Option<ProcEvent> {
        if [word(HEADER)?, word(HEADER + 4)?] != PROC {
            return None;
        }
        let pid = |at: usize| word(at).map(|pid| pid as i32);
        match word(EVENT)? {
            // PROC_EVENT_NONE: the answer to a request, with its error.
            0 => (word(DETAIL)? == 0).then_some(ProcEvent::Listening),
            // PROC_EVENT_FORK: parent's tid and pid, child's tid and pid; both are the same for a process.
            1 => {
                let (tid, pid) = (pid(DETAIL + 8)?, pid(DETAIL + 12)?);
                (tid == pid).then_some(ProcEvent::Forked { pid })
            }
            // PROC_EVENT_EXEC: tid, pid.
            2 => Some(ProcEvent::Executed { pid: pid(DETAIL + 4)? }),
            _ => None,
        }
    };
    event().unwrap_or(ProcEvent::Other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    fn datagram(what: u32, detail: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        PROC.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend([0; 12]);
        bytes.extend(what.to_ne_bytes());
        bytes.extend([0; 12]);
        detail.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn events_are_understood_and_nonsense_is_not() {
        for (what, detail, event) in [
            (0, &[0][..], ProcEvent::Listening),
            (0, &[1], ProcEvent::Other),
            (1, &[7, 7, 9, 9], ProcEvent::Forked { pid: 9 }),
            // A thread.
            (1, &[7, 7, 9, 7], ProcEvent::Other),
            (2, &[9, 8], ProcEvent::Executed { pid: 8 }),
            (0x8000_0000, &[9, 9, 0, 0], ProcEvent::Other),
        ] {
            let bytes = datagram(what, detail);
            assert_eq!(parse(&bytes), event, "{what} {detail:?}");
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), ProcEvent::Other);
            }
        }
        let mut other = datagram(2, &[9, 9]);
        other[HEADER] = 77;
        assert_eq!(parse(&other), ProcEvent::Other);
        assert_eq!(request().len(), 40);
    }

    #[test]
    fn a_program_that_begins_is_told_of() {
        let events = match ProcEvents::listen() {
            Ok(events) => events,
            Err(error) => return println!("skipped: no process events here: {}", error.desc()),
        };
        events.set_patience(Duration::from_millis(100)).unwrap();
        let child = Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        drop(child.wait_with_output());
        let deadline = Instant::now() + Duration::from_secs(10);
        let (mut forked, mut executed) = (false, false);
        while !(forked && executed) {
            assert!(Instant::now() < deadline, "forked {forked}, executed {executed}");
            match events.next() {
                Ok(Some(ProcEvent::Forked { pid: born })) if born == pid => forked = true,
                Ok(Some(ProcEvent::Executed { pid: born })) if born == pid => executed = true,
                Ok(_) => {}
                Err(error) => assert_eq!(error, Errno::ENOBUFS),
            }
        }
    }
}
