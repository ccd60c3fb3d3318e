//! The few rtnetlink requests a lab needs, laid out by hand.
//!
//! A library would bring more code than the half dozen messages here; layouts are those of
//! rtnetlink(7), `linux/if_link.h` and `linux/pkt_sched.h`.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const HEADER_BYTES: usize = 16;
const NLA_F_NESTED: u16 = 1 << 15;

/// A request under construction.
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// A request of a kind (`RTM_*`), with flags beyond those of every request, and its fixed part.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Request {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(fixed);
        Request(bytes)
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute that is a string.
    pub(crate) fn text(self, kind: u16, value: &str) -> Request {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds an attribute which holds `fixed` and then the attributes that `fill` adds.
    pub(crate) fn nested(
        mut self,
        kind: u16,
        fixed: &[u8],
        fill: impl FnOnce(Request) -> Request,
    ) -> Request {
        let start = self.0.len();
        self.0.extend([0; 4]);
        self.0.extend(fixed);
        let mut filled = fill(self);
        let length = (filled.0.len() - start) as u16;
        filled.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.0[start + 2..start + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        filled
    }
}

/// `struct ifinfomsg` for a link by index (0: by attributes), switching it up, or leaving that as it is.
pub(crate) fn link_message(index: u32, up: bool) -> Vec<u8> {
    let flags = if up { libc::IFF_UP as u32 } else { 0 };
    link_change(index, flags, flags)
}

/// The same, switching it off.
pub(crate) fn link_off(index: u32) -> Vec<u8> {
    link_change(index, 0, libc::IFF_UP as u32)
}

fn link_change(index: u32, flags: u32, changed: u32) -> Vec<u8> {
    let mut bytes = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(changed.to_ne_bytes());
    bytes
}

/// A socket into the network namespace in which it was opened.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket into this process's network namespace.
    pub(crate) fn open() -> io::Result<Socket> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Socket(socket(AddressFamily::Netlink, SockType::Raw, flags, None)?))
    }

    /// Opens a socket that tells of, and ends, connections of this process's network namespace (sock_diag(7)).
    pub(crate) fn open_diagnostics() -> io::Result<Socket> {
        let protocol = SockProtocol::NetlinkSockDiag;
        Ok(Socket(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// Sends a request and waits for the kernel's verdict.
    pub(crate) fn call(&self, mut request: Request) -> io::Result<()> {
        let length = (request.0.len() as u32).to_ne_bytes();
        request.0[..4].copy_from_slice(&length);
        send(self.0.as_raw_fd(), &request.0, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let got = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // The verdict is a struct nlmsgerr: after the header, an errno that is negative or 0.
        let verdict =
            answer[..got].get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok());
        match verdict.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
