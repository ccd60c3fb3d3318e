//! The cluster's key between nodes: handing a new one out, and fetching what was missed.

use super::Daemon;
use crate::discovery::Discovery;
use crate::peers;
use model::NodeId;
use net::ClusterKey;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;
use wire::peer::{PeerAnswer, PeerRequest, SharedKey};

/// How long a node may take to take in a key, or to tell its own.
const PATIENCE: Duration = Duration::from_secs(5);
/// At most one node is asked for its keys in this time, whatever strangers send.
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// How often a node without any key asks its configured peers.
const BEG_EVERY: Duration = Duration::from_secs(10);
/// Nodes that are told at the same time.
const TOLD_AT_ONCE: usize = 64;

/// Fetches keys when datagrams show that one was missed, and in the beginning if there is none.
pub(super) fn start(daemon: &Arc<Daemon>, missed: Receiver<NodeId>) {
    let daemon: Weak<Daemon> = Arc::downgrade(daemon);
    std::thread::spawn(move || {
        loop {
            let wanted = missed.recv_timeout(BEG_EVERY);
            let Some(daemon) = daemon.upgrade() else { return };
            match wanted {
                Ok(node) => daemon.fetch_keys(node),
                Err(RecvTimeoutError::Timeout) if daemon.discovery.keys().is_empty() => {
                    for peer in daemon.peers() {
                        daemon.fetch_keys(peer.id);
                    }
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            daemon.discovery.begin();
            drop(daemon);
            std::thread::sleep(FETCH_PAUSE);
        }
    });
}

pub(super) fn shared(discovery: &Discovery) -> Vec<SharedKey> {
    let keys = discovery.keys();
    keys.iter().map(|key| SharedKey { generation: key.generation(), secret: *key.secret() }).collect()
}

impl Daemon {
    /// Asks a node, which proves who it is, for its keys. Nothing of the datagram that was the occasion is believed.
    fn fetch_keys(&self, node: NodeId) {
        let Some(peer) = self.peer(node) else { return };
        let answer = peer
            .resolve()
            .and_then(|address| peers::ask(&self.setup, address, node, &PeerRequest::ClusterKeys, PATIENCE));
        match answer {
            Ok(PeerAnswer::ClusterKeys(keys)) => {
                for key in keys.into_iter().take(net::KEY_GENERATIONS) {
                    self.adopt_key(node, &key);
                }
            }
            Ok(_) => tracing::warn!(%node, "asked for the cluster key, it answers with something else"),
            Err(error) => tracing::debug!(%node, %error, "cannot fetch the cluster key"),
        }
    }

    /// Takes in a key that a node has given.
    pub(super) fn adopt_key(&self, from: NodeId, key: &SharedKey) {
        match self.discovery.adopt(ClusterKey::from_parts(key.generation, key.secret)) {
            Ok(true) => {
                self.counts.keys_fetched.add();
                tracing::info!(%from, generation = key.generation, "took in its cluster key");
                self.discovery.begin();
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%from, %error, "cannot use its cluster key"),
        }
    }

    /// Hands a key to all nodes; those that have it now, and those that were not reached and will fetch it themselves.
    pub(super) fn hand_out_key(&self, key: &ClusterKey) -> (Vec<NodeId>, Vec<NodeId>) {
        let request =
            PeerRequest::NewClusterKey(SharedKey { generation: key.generation(), secret: *key.secret() });
        let (mut told, mut missed) = (Vec::new(), Vec::new());
        let peers = self.peers();
        for chunk in peers.chunks(TOLD_AT_ONCE) {
            std::thread::scope(|scope| {
                let tell = |peer: &crate::config::Peer| {
                    let address = peer.resolve()?;
                    peers::ask(&self.setup, address, peer.id, &request, PATIENCE)
                };
                let asked: Vec<_> =
                    chunk.iter().map(|peer| (peer.id, scope.spawn(move || tell(peer)))).collect();
                for (id, asked) in asked {
                    match asked.join() {
                        Ok(Ok(PeerAnswer::Noted)) => told.push(id),
                        _ => missed.push(id),
                    }
                }
            });
        }
        (told, missed)
    }
}
