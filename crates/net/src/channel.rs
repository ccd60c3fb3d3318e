//! Making a channel.

use crate::frame::{KIND_UNKNOWN, KIND_WELCOME};
use crate::handshake::{self, Keys};
use crate::receive::Receiver;
use crate::send::Sender;
use crate::{Error, Identity, Preamble, Route, verify};
use model::NodeId;
use model::limits::CONNECTION_SILENCE_SECONDS;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// An open channel to a node whose identity is proved.
pub struct Channel {
    peer: NodeId,
    sender: Sender,
    receiver: Receiver,
}

impl Channel {
    /// Connects to a node and makes sure that it is the expected one, all within `timeout`.
    ///
    /// When this returns, the other side has accepted this node, too: a TLS 1.3 client could otherwise believe for a
    /// while in a channel that the server refused.
    pub fn connect(
        identity: &Identity,
        address: SocketAddr,
        route: Route,
        expect: NodeId,
        timeout: Duration,
    ) -> Result<Channel, Error> {
        let deadline = Instant::now() + timeout;
        let socket = TcpStream::connect_timeout(&address, timeout)?;
        tune(&socket)?;
        let preamble = Preamble { route }.encode();
        let keys = handshake::client(identity.client.clone(), &socket, &preamble, deadline)?;
        let found = peer_of(identity, &keys)?;
        if found != expect {
            return Err(Error::WrongPeer { expected: expect, found });
        }
        let (sender, receiver) = welcomed(socket, keys, deadline)?;
        Ok(Channel { peer: found, sender, receiver })
    }

    /// Accepts a connection whose preamble was read (see [`crate::read_preamble`]), within `timeout`.
    pub fn accept(identity: &Identity, socket: TcpStream, timeout: Duration) -> Result<Channel, Error> {
        let deadline = Instant::now() + timeout;
        tune(&socket)?;
        let keys = handshake::server(identity.server.clone(), &socket, deadline)?;
        let peer = peer_of(identity, &keys)?;
        let (sender, receiver) = welcome(socket, keys)?;
        Ok(Channel { peer, sender, receiver })
    }

    /// Accepts a connection for a session that nobody here serves, and says so to whoever asks to go on with it.
    pub fn deny(identity: &Identity, socket: TcpStream, timeout: Duration) -> Result<(), Error> {
        let mut channel = Channel::accept(identity, socket, timeout)?;
        channel.set_timeout(Some(timeout))?;
        // It speaks first. Closing with its words unread would reset the connection, and ours be lost.
        channel.recv()?;
        channel.send(KIND_UNKNOWN, &[])
    }

    /// Who is on the other side.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The two halves, to be used in two threads if need be.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Sends one frame; see [`Sender::send`].
    pub fn send(&mut self, kind: u16, parts: &[&[u8]]) -> Result<(), Error> {
        self.sender.send(kind, parts)
    }

    /// Waits for one frame; see [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<crate::Frame, Error> {
        self.receiver.recv()
    }

    /// See [`Receiver::set_timeout`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.receiver.set_timeout(timeout)
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel(node {})", self.peer)
    }
}

/// Small frames leave at once, and a peer that vanished is noticed soon, also while nothing is sent.
pub(crate) fn tune(socket: &TcpStream) -> Result<(), Error> {
    use rustix::net::sockopt;
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(CONNECTION_SILENCE_SECONDS / 3))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(CONNECTION_SILENCE_SECONDS / 5))?;
    sockopt::set_tcp_keepcnt(socket, 4)?;
    sockopt::set_tcp_user_timeout(socket, CONNECTION_SILENCE_SECONDS as u32 * 1000)?;
    Ok(())
}

fn peer_of(identity: &Identity, keys: &Keys) -> Result<NodeId, Error> {
    let certificate = keys
        .certificate
        .as_ref()
        .ok_or_else(|| Error::Handshake("the peer showed no certificate".to_owned()))?;
    let (cluster, node) = verify::node_of(certificate)?;
    if cluster != identity.cluster() {
        return Err(Error::Handshake(format!("the peer is of the cluster '{cluster}'")));
    }
    Ok(node)
}

fn halves(socket: TcpStream, keys: Keys) -> Result<(Sender, Receiver), Error> {
    socket.set_write_timeout(Some(Duration::from_secs(CONNECTION_SILENCE_SECONDS)))?;
    socket.set_read_timeout(None)?;
    let socket = Arc::new(socket);
    let schedule = Arc::new(keys.schedule);
    let update_wanted = Arc::new(AtomicBool::new(false));
    Ok((
        Sender::new(socket.clone(), keys.sealing, schedule.clone(), update_wanted.clone()),
        Receiver::new(socket, keys.opening, schedule, update_wanted),
    ))
}

/// The server's last word of the handshake.
pub(crate) fn welcome(socket: TcpStream, keys: Keys) -> Result<(Sender, Receiver), Error> {
    let (mut sender, receiver) = halves(socket, keys)?;
    sender.send(KIND_WELCOME, &[])?;
    Ok((sender, receiver))
}

/// Waits for the server's last word of the handshake.
pub(crate) fn welcomed(
    socket: TcpStream,
    keys: Keys,
    deadline: Instant,
) -> Result<(Sender, Receiver), Error> {
    let (sender, mut receiver) = halves(socket, keys)?;
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::TimedOut);
    }
    receiver.set_timeout(Some(left))?;
    let frame = receiver.recv()?;
    if frame.kind != KIND_WELCOME || !frame.payload.is_empty() {
        return Err(Error::Malformed("no welcome"));
    }
    receiver.set_timeout(None)?;
    Ok((sender, receiver))
}
