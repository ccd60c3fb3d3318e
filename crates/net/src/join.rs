//! The one connection that is not between two nodes: a machine joins the cluster.
//!
//! It has no certificate yet. It knows the authority by the fingerprint in its invitation; the server knows it by the
//! invitation's secret, which travels inside this channel.

use crate::channel::{tune, welcome, welcomed};
use crate::{Error, Identity, Preamble, Receiver, Route, Sender, handshake, identity, verify};
use model::NodeId;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Connects to a node of the cluster whose authority has this fingerprint, and says which node answered.
pub fn connect_join(
    address: SocketAddr,
    fingerprint: [u8; 32],
    timeout: Duration,
) -> Result<(NodeId, Sender, Receiver), Error> {
    let deadline = Instant::now() + timeout;
    let config = identity::joining_client(fingerprint)?;
    let socket = TcpStream::connect_timeout(&address, timeout)?;
    tune(&socket)?;
    let keys = handshake::client(config, &socket, &Preamble { route: Route::Join }.encode(), deadline)?;
    let certificate = keys
        .certificate
        .as_ref()
        .ok_or_else(|| Error::Handshake("the peer showed no certificate".to_owned()))?;
    let (_, node) = verify::node_of(certificate)?;
    let (sender, receiver) = welcomed(socket, keys, deadline)?;
    Ok((node, sender, receiver))
}

/// Accepts a connection of [`Route::Join`] whose preamble was read. **Nobody knows who is there.**
pub fn accept_join(
    identity: &Identity,
    socket: TcpStream,
    timeout: Duration,
) -> Result<(Sender, Receiver), Error> {
    let deadline = Instant::now() + timeout;
    tune(&socket)?;
    let keys = handshake::server(identity.join_server.clone(), &socket, deadline)?;
    welcome(socket, keys)
}
