//! Other machines on the TCP port: a preamble, then a channel, a warden's connection, or a wish to join.

use super::balancing::Told;
use super::{Daemon, keys};
use crate::{Error, agents, cluster};
use model::NodeId;
use model::limits::{HANDSHAKE_SECONDS, PEER_SILENCE_SECONDS};
use net::{Channel, Receiver, Route, Sender, read_preamble};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wire::peer::{
    self, Binding, JoinAnswer, JoinRequest, KIND_JOIN_ANSWER, KIND_JOIN_REQUEST, KIND_PEER_ANSWER,
    KIND_PEER_REQUEST, NodeAddress, PeerAnswer, PeerRequest,
};

const HANDSHAKE: Duration = Duration::from_secs(HANDSHAKE_SECONDS);
const SILENCE: Duration = Duration::from_secs(PEER_SILENCE_SECONDS);
const REST: Duration = Duration::from_millis(100);

/// How often the log mentions that an address makes connections which come to nothing.
const MENTION_EVERY: Duration = Duration::from_secs(600);
/// Addresses that are remembered for it. If there are more, the others are not mentioned.
const MENTIONED_MAX: usize = 64;

/// Strangers that the log has mentioned. Somebody who tries again and again, as a node of another cluster does, is one line.
#[derive(Default)]
struct Mentioned(HashMap<IpAddr, Instant>);

impl Mentioned {
    /// Whether this one is to be mentioned, which counts as doing so.
    fn is_due(&mut self, from: IpAddr, now: Instant) -> bool {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < MENTION_EVERY);
        if self.0.contains_key(&from) || self.0.len() >= MENTIONED_MAX {
            return false;
        }
        self.0.insert(from, now);
        true
    }
}

pub(super) fn serve(daemon: &Arc<Daemon>, listener: &TcpListener) {
    let mentioned = Arc::new(Mutex::new(Mentioned::default()));
    loop {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                std::thread::sleep(REST);
                continue;
            }
        };
        daemon.counts.peer_connections.add();
        let Some(slot) = daemon.connections.take() else {
            daemon.counts.peer_turned_away.add();
            continue;
        };
        let (daemon, mentioned) = (daemon.clone(), mentioned.clone());
        std::thread::spawn(move || {
            if let Err(error) = route(&daemon, stream, from) {
                let mut mentioned = mentioned.lock().unwrap_or_else(PoisonError::into_inner);
                match mentioned.is_due(from.ip(), Instant::now()) {
                    true => {
                        tracing::warn!(%from, %error, "connection dropped; more of them from there are not mentioned for a while")
                    }
                    false => tracing::debug!(%from, %error, "connection dropped"),
                }
            }
            drop(slot);
        });
    }
}

fn route(daemon: &Arc<Daemon>, mut stream: TcpStream, from: SocketAddr) -> Result<(), Error> {
    let preamble = read_preamble(&mut stream, HANDSHAKE).inspect_err(|_| daemon.counts.peer_garbage.add())?;
    match preamble.route {
        Route::Session(session) => {
            let path = daemon.setup.config.paths.wardens().join(format!("{session}.sock"));
            match agents::hand_over(&path, &stream) {
                Ok(()) => daemon.counts.sessions_routed.add(),
                Err(error) => {
                    daemon.counts.sessions_unknown.add();
                    tracing::warn!(%from, %error, "a connection for a guest that is not here");
                    Channel::deny(&daemon.setup.identity, stream, HANDSHAKE)?;
                }
            }
            Ok(())
        }
        Route::Control => {
            let channel = Channel::accept(&daemon.setup.identity, stream, HANDSHAKE)
                .inspect_err(|_| daemon.counts.peer_handshakes_failed.add())?;
            answer_peer(daemon, channel)
        }
        Route::Join => {
            let (sender, receiver) = net::accept_join(&daemon.setup.identity, stream, HANDSHAKE)
                .inspect_err(|_| daemon.counts.peer_handshakes_failed.add())?;
            answer_join(daemon, sender, receiver, from)
        }
    }
}

fn answer_peer(daemon: &Daemon, mut channel: Channel) -> Result<(), Error> {
    let peer = channel.peer();
    if !daemon.lets_in(peer) {
        daemon.counts.peer_strangers.add();
        tracing::warn!(%peer, "a node that the configuration does not let in");
        return Ok(());
    }
    channel.set_timeout(Some(SILENCE))?;
    loop {
        let frame = match channel.recv() {
            Ok(frame) => frame,
            // Nobody has to say goodbye on a connection without state.
            Err(net::Error::Closed | net::Error::Io(_) | net::Error::TimedOut) => return Ok(()),
            Err(error) => {
                daemon.counts.peer_garbage.add();
                return Err(error.into());
            }
        };
        if frame.kind != KIND_PEER_REQUEST {
            daemon.counts.peer_garbage.add();
            return Err(Error::Answer("it sends something that is no request"));
        }
        let request = peer::decode(&frame.payload).inspect_err(|_| daemon.counts.peer_garbage.add())?;
        daemon.counts.peer_requests.add();
        let answer = daemon.answer_peer(peer, request);
        channel.send(KIND_PEER_ANSWER, &[&peer::encode(&answer)?])?;
    }
}

impl Daemon {
    fn answer_peer(&self, peer: NodeId, request: PeerRequest) -> PeerAnswer {
        match request {
            PeerRequest::Info => PeerAnswer::Info(self.info()),
            PeerRequest::Offer(offer) => self.answer_offer(peer, &offer),
            PeerRequest::Relocate(wish) => self.answer_relocation(peer, &wish),
            PeerRequest::Introduce(node) => {
                let _guard = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
                let node =
                    crate::config::Peer { id: node.id, name: node.name, address: node.address, hint: true };
                if let Err(error) = self.add_peer(&node) {
                    tracing::warn!(%peer, error = %error, "cannot take in the node it introduces");
                }
                PeerAnswer::Noted
            }
            PeerRequest::ClusterKeys => PeerAnswer::ClusterKeys(keys::shared(&self.discovery)),
            PeerRequest::Bind(Binding { pid, bonds }) => {
                if let Some(balancing) = self.balancing.get() {
                    balancing.tell(Told::Bound { home: peer, pid, bonds });
                }
                PeerAnswer::Noted
            }
            PeerRequest::NewClusterKey(key) => {
                self.adopt_key(peer, &key);
                PeerAnswer::Noted
            }
        }
    }
}

fn answer_join(
    daemon: &Arc<Daemon>,
    mut sender: Sender,
    mut receiver: Receiver,
    from: SocketAddr,
) -> Result<(), Error> {
    receiver.set_timeout(Some(HANDSHAKE))?;
    let frame = receiver.recv().inspect_err(|_| daemon.counts.peer_garbage.add())?;
    if frame.kind != KIND_JOIN_REQUEST {
        daemon.counts.peer_garbage.add();
        return Err(Error::Answer("it sends something that is no wish to join"));
    }
    let request: JoinRequest =
        peer::decode(&frame.payload).inspect_err(|_| daemon.counts.peer_garbage.add())?;
    let answer = daemon.redeem(&request, from).unwrap_or_else(|error| {
        daemon.counts.joins_refused.add();
        tracing::warn!(%from, error = %error, "a machine may not join");
        JoinAnswer::Refused(error.to_string())
    });
    sender.send(KIND_JOIN_ANSWER, &[&peer::encode(&answer)?])?;
    sender.close()?;
    if let JoinAnswer::Joined { node, .. } = answer {
        daemon.counts.joins_accepted.add();
        introduce(daemon, node);
    }
    Ok(())
}

impl Daemon {
    fn redeem(&self, request: &JoinRequest, from: SocketAddr) -> Result<JoinAnswer, Error> {
        let _guard = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        let peers = self.peers();
        let redeemed = cluster::redeem(&self.setup, &peers, request, from.ip())?;
        self.add_peer(&redeemed.peer)?;
        redeemed.invitation.mark_used()?;
        let node = &self.setup.config.node;
        let own = NodeAddress { id: node.id, name: node.name.clone(), address: String::new() };
        let others =
            peers.into_iter().map(|peer| NodeAddress { id: peer.id, name: peer.name, address: peer.address });
        Ok(JoinAnswer::Joined {
            node: redeemed.peer.id,
            name: redeemed.peer.name,
            ca_pem: redeemed.ca_pem,
            cert_pem: redeemed.cert_pem,
            peers: std::iter::once(own).chain(others).collect(),
            keys: keys::shared(&self.discovery),
        })
    }
}

/// Tells the other nodes of a new one; who does not hear it now can be told by hand.
fn introduce(daemon: &Daemon, node: NodeId) {
    let Some(new) = daemon.peer(node) else { return };
    let request = PeerRequest::Introduce(NodeAddress { id: new.id, name: new.name, address: new.address });
    for peer in daemon.peers().iter().filter(|peer| peer.id != node) {
        let told = peer
            .resolve()
            .and_then(|address| crate::peers::ask(&daemon.setup, address, peer.id, &request, HANDSHAKE));
        if let Err(error) = told {
            tracing::warn!(peer = %peer.id, new = %node, error = %error, "cannot tell it of the new node");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_mentioned_once_in_a_while_and_many_are_not() {
        let (mut mentioned, now) = (Mentioned::default(), Instant::now());
        let address = |number: u16| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
        assert!(mentioned.is_due(address(0), now) && !mentioned.is_due(address(0), now));
        assert!(mentioned.is_due(address(0), now + MENTION_EVERY));
        let due = (1..500).filter(|number| mentioned.is_due(address(*number), now + MENTION_EVERY)).count();
        assert_eq!(due, MENTIONED_MAX - 1);
    }
}
