//! The cluster's key between nodes: handing a new one out, and fetching what was missed.

use super::Daemon;
use crate::config::Peer;
use crate::discovery::{Discovery, Missed};
use crate::peers;
use model::NodeId;
use net::{ClusterKey, KeyId};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use wire::peer::{PeerAnswer, PeerRequest, SharedKey};

/// How long a node may take to take in a key, or to tell its own.
const PATIENCE: Duration = Duration::from_secs(5);
/// At most one node is asked for its keys in this time, whatever strangers send.
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// The pause before a key is asked for again doubles up to this.
const FETCH_PAUSE_MAX: Duration = Duration::from_secs(600);
/// Keys of which it is remembered that they were asked for.
const ATTEMPTS_MAX: usize = 64;
/// How often a node without any key asks its configured peers.
const BEG_EVERY: Duration = Duration::from_secs(10);
/// Nodes that are told at the same time.
const TOLD_AT_ONCE: usize = 64;

/// Fetches keys when datagrams show that one was missed, and in the beginning if there is none.
pub(super) fn start(daemon: &Arc<Daemon>, missed: Receiver<Missed>) {
    let daemon: Weak<Daemon> = Arc::downgrade(daemon);
    std::thread::spawn(move || {
        let mut attempts = Attempts::default();
        loop {
            let wanted = missed.recv_timeout(BEG_EVERY);
            let Some(daemon) = daemon.upgrade() else { return };
            match wanted {
                Ok(missed) if attempts.is_due(missed.key, Instant::now()) => daemon.fetch_missed(missed),
                Ok(_) => continue,
                Err(RecvTimeoutError::Timeout) if daemon.discovery.keys().is_empty() => {
                    for peer in daemon.peers() {
                        daemon.fetch_keys(peer.id, &peer.address);
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

/// When a key was asked for: another cluster's is never got, and asking for it is to become rare.
#[derive(Default)]
struct Attempts(HashMap<KeyId, (Instant, Duration)>);

impl Attempts {
    /// Whether it is time to ask for this key, which counts as asking.
    fn is_due(&mut self, key: KeyId, now: Instant) -> bool {
        let pause = match self.0.get(&key) {
            Some((next, _)) if now < *next => return false,
            Some((_, pause)) => (*pause * 2).min(FETCH_PAUSE_MAX),
            None => FETCH_PAUSE,
        };
        if self.0.len() >= ATTEMPTS_MAX {
            self.0.clear();
        }
        self.0.insert(key, (now + pause, pause));
        true
    }
}

pub(super) fn shared(discovery: &Discovery) -> Vec<SharedKey> {
    let keys = discovery.keys();
    keys.iter().map(|key| SharedKey { generation: key.generation(), secret: *key.secret() }).collect()
}

impl Daemon {
    /// Asks the node that seals with a key which this one lacks; if nobody at all is known, whoever is where it came from,
    /// and proves to be that node.
    fn fetch_missed(&self, missed: Missed) {
        let peers = self.peers();
        match peers.iter().find(|peer| peer.id == missed.claimed) {
            Some(peer) => self.fetch_keys(peer.id, &peer.address),
            None if peers.is_empty() && self.lets_in(missed.claimed) => {
                self.fetch_keys(missed.claimed, &missed.from.to_string());
            }
            None => {}
        }
    }

    /// Asks a node, which proves who it is, for its keys. Nothing of the datagram that was the occasion is believed.
    fn fetch_keys(&self, node: NodeId, address: &str) {
        let peer = Peer { id: node, name: String::new(), address: address.to_owned(), hint: true };
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
                let tell = |peer: &Peer| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_never_got_is_asked_for_rarely() {
        let mut attempts = Attempts::default();
        let begin = Instant::now();
        let due = |attempts: &mut Attempts, second: u64| {
            attempts.is_due(KeyId([1; 8]), begin + Duration::from_secs(second))
        };
        assert_eq!((0..3600).filter(|second| due(&mut attempts, *second)).count(), 12);
        for key in 2..=255 {
            assert!(attempts.is_due(KeyId([key; 8]), begin));
            assert!(attempts.0.len() <= ATTEMPTS_MAX);
        }
    }
}
