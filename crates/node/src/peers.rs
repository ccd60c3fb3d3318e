//! Asking other nodes.

use crate::{Error, Setup};
use model::NodeId;
use net::{Channel, Route};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use wire::peer::{self, KIND_PEER_ANSWER, KIND_PEER_REQUEST, NodeInfo, PeerAnswer, PeerRequest};

/// Asks one node one thing, on a connection of its own, all within about `timeout`.
pub fn ask(
    setup: &Setup,
    address: SocketAddr,
    expect: NodeId,
    request: &PeerRequest,
    timeout: Duration,
) -> Result<PeerAnswer, Error> {
    let deadline = Instant::now() + timeout;
    let mut channel = Channel::connect(&setup.identity, address, Route::Control, expect, timeout)?;
    exchange(&mut channel, request, deadline.saturating_duration_since(Instant::now()))
}

/// Asks a node how it is, and measures how long a question takes once the connection stands.
pub fn info(
    setup: &Setup,
    address: SocketAddr,
    expect: NodeId,
    timeout: Duration,
) -> Result<(NodeInfo, Duration), Error> {
    let deadline = Instant::now() + timeout;
    let mut channel = Channel::connect(&setup.identity, address, Route::Control, expect, timeout)?;
    let start = Instant::now();
    match exchange(&mut channel, &PeerRequest::Info, deadline.saturating_duration_since(start))? {
        PeerAnswer::Info(info) => Ok((info, start.elapsed())),
        _ => Err(Error::Answer("it does not say how it is")),
    }
}

fn exchange(channel: &mut Channel, request: &PeerRequest, left: Duration) -> Result<PeerAnswer, Error> {
    // A time limit of zero would mean none.
    channel.set_timeout(Some(left.max(Duration::from_millis(1))))?;
    channel.send(KIND_PEER_REQUEST, &[&peer::encode(request)?])?;
    let frame = channel.recv()?;
    if frame.kind != KIND_PEER_ANSWER {
        return Err(Error::Answer("it answers with something else"));
    }
    Ok(peer::decode(&frame.payload)?)
}
