//! The other nodes: who they are, and asking them.

use crate::config::Peer;
use crate::discovery::Seen;
use crate::{Error, Setup};
use model::NodeId;
use net::{Channel, Route};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use wire::peer::{self, KIND_PEER_ANSWER, KIND_PEER_REQUEST, NodeInfo, PeerAnswer, PeerRequest};

/// Everybody, by id. What is listed wins, but a hint only where nothing was found; what is refused is left out.
pub fn merge(listed: Vec<Peer>, found: &[Seen], refuse: &[NodeId]) -> Vec<Peer> {
    let mut peers: BTreeMap<NodeId, Peer> =
        found.iter().filter_map(|seen| Some((seen.id, of_seen(seen)?))).collect();
    for peer in listed {
        if !peer.hint || !peers.contains_key(&peer.id) {
            peers.insert(peer.id, peer);
        }
    }
    refuse.iter().for_each(|node| drop(peers.remove(node)));
    peers.into_values().collect()
}

pub(crate) fn of_seen(seen: &Seen) -> Option<Peer> {
    let address = seen.addresses.first()?.to_string();
    Some(Peer { id: seen.id, name: seen.name.clone(), address, hint: false })
}

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
