//! Connections of the session, handed over by the daemon.

use crate::journey::{Error, Outlet, Result, transfer::expect};
use control::{AgentRequest, Event, FailureKind, WardenStatus};
use model::NodeId;
use model::limits::{CONTROL_LINE_BYTES_MAX, HANDSHAKE_SECONDS};
use net::{Channel, Identity, Receiver, Sender};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use wire::session::{self, Hello, Kind};

const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon wants.
pub(super) enum Wanted {
    /// To hand over a connection of another node.
    Connection(TcpStream),
    /// To know how the guest is; the answer goes there.
    Status(UnixStream),
    /// A guest to leave, by its pid at home.
    Leave(UnixStream, i32),
}

/// Takes one request of the daemon. `None` if it makes no sense.
pub(super) fn accept(listener: &UnixListener) -> Option<Wanted> {
    let (mut stream, _) = listener.accept().ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let (line, connection) = read_line(&stream)?;
    match (serde_json::from_str(&line), connection) {
        (Ok(AgentRequest::Connection), Some(fd)) => Some(Wanted::Connection(TcpStream::from(fd))),
        (Ok(AgentRequest::Status), None) => Some(Wanted::Status(stream)),
        (Ok(AgentRequest::BringHome { pid, .. }), None) => Some(Wanted::Leave(stream, pid)),
        _ => {
            let message = "a warden cannot do this".to_owned();
            say(&mut stream, &Event::Failed { kind: FailureKind::BadRequest, message, reasons: Vec::new() });
            None
        }
    }
}

fn read_line(stream: &UnixStream) -> Option<(String, Option<OwnedFd>)> {
    let mut line = Vec::new();
    let mut connection = None;
    while !line.ends_with(b"\n") && line.len() < CONTROL_LINE_BYTES_MAX {
        let mut bytes = [0; 1024];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .ok()?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                connection = fds.last();
            }
        }
        if got.bytes == 0 {
            return None;
        }
        line.extend_from_slice(&bytes[..got.bytes]);
    }
    Some((String::from_utf8(line).ok()?, connection))
}

/// Sends a line to the daemon, which may have gone.
pub(super) fn say(stream: &mut UnixStream, line: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(line) {
        let _ = stream.write_all((text + "\n").as_bytes());
    }
}

/// Answers a question after the guests.
pub(super) fn say_statuses(stream: &mut UnixStream, statuses: &[WardenStatus]) {
    say(stream, &statuses);
}

/// A connection whose other end has said who it is.
pub(super) struct Guestbook {
    pub(super) peer: NodeId,
    pub(super) hello: Hello,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

/// Makes the channel secure and hears who is there.
pub(super) fn welcome(identity: &Identity, socket: TcpStream) -> Result<Guestbook> {
    let channel = Channel::accept(identity, socket, Duration::from_secs(HANDSHAKE_SECONDS))?;
    let peer = channel.peer();
    let (mut sender, mut receiver) = channel.split();
    receiver.set_timeout(Some(PATIENCE))?;
    let frame = expect(&mut receiver, Kind::Hello, "a greeting")?;
    receiver.set_timeout(None)?;
    let (hello, _) = session::decode::<Hello>(&frame.payload)?;
    if hello.version != session::VERSION {
        let (theirs, ours) = (hello.version, session::VERSION);
        let message =
            format!("the host speaks version {ours} of the protocol, and this node version {theirs}");
        let refusal = session::Refusal { reasons: model::Reasons::default(), message };
        sender.put(Kind::Refused, &[&session::encode(&refusal)])?;
        return Err(Error::Unexpected { got: hello.version, wanted: "another version of the protocol" });
    }
    Ok(Guestbook { peer, hello, sender, receiver })
}
