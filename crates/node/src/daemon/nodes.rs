//! What `om nodes` shows: each node is asked itself how it is, and discovery what it thinks of it.

use super::requests::PEER_ANSWER;
use super::{Daemon, figures};
use crate::config::Peer;
use crate::discovery::Seen;
use crate::peers;
use control::{Figures, NodeFound, NodeRow, NodeState};
use membership::{Found, State};
use model::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use wire::peer::NodeInfo;

/// Nodes that are asked at the same time.
const ASKED_AT_ONCE: usize = 256;
/// How often it is looked, while answers are waited for, who has died.
const GLANCE: Duration = Duration::from_millis(50);

impl Daemon {
    pub(super) fn nodes(self: &Arc<Daemon>) -> Vec<NodeRow> {
        let own = self.info();
        let node = &self.setup.config.node;
        let mut rows = vec![NodeRow {
            id: node.id,
            name: node.name.clone(),
            address: node.listen.to_string(),
            addresses: self.discovery.own_addresses(),
            state: NodeState::Alive,
            since_seconds: None,
            found: NodeFound::Own,
            alive: true,
            round_trip_us: 0,
            figures: self.own_figures(&own),
            cpus: own.cpus,
            memory_bytes: own.memory_bytes,
            guests: own.guests,
            kernel: own.kernel,
            version: own.version,
        }];
        let mut peers = self.peers();
        // Who has no address at present, as a machine without a network, is shown all the same.
        let nowhere = self.discovery.view().into_iter().filter(|seen| seen.addresses.is_empty());
        for Seen { id, name, .. } in nowhere {
            if peers.iter().all(|peer| peer.id != id) {
                peers.push(Peer { id, name, address: String::new(), hint: true });
            }
        }
        let mut told = BTreeMap::new();
        for chunk in peers.chunks(ASKED_AT_ONCE) {
            self.ask_all(chunk, &mut told);
        }
        // What is thought of them now, after they have been asked.
        let seen: BTreeMap<NodeId, Seen> =
            self.discovery.view().into_iter().map(|seen| (seen.id, seen)).collect();
        rows.extend(peers.iter().map(|peer| self.node_row(peer, seen.get(&peer.id), told.remove(&peer.id))));
        rows.sort_by_key(|row| row.id);
        rows
    }

    /// Asks nodes how they are. Nobody waits for one that counts as dead, nor for one that comes to count as dead meanwhile:
    /// the thread that asks it ends by itself, after [`PEER_ANSWER`].
    fn ask_all(self: &Arc<Daemon>, peers: &[Peer], told: &mut BTreeMap<NodeId, (NodeInfo, Duration)>) {
        let (tell, answers) = channel();
        let lost = self.lost();
        let mut waited_for = BTreeSet::new();
        for peer in peers.iter().filter(|peer| !lost.contains(&peer.id) && !peer.address.is_empty()) {
            waited_for.insert(peer.id);
            let (daemon, peer, tell) = (self.clone(), peer.clone(), tell.clone());
            std::thread::spawn(move || {
                let ask = |address| peers::info(&daemon.setup, address, peer.id, PEER_ANSWER);
                // Nobody listens where it took too long.
                let _ = tell.send((peer.id, peer.resolve().and_then(ask)));
            });
        }
        drop(tell);
        while !waited_for.is_empty() {
            match answers.recv_timeout(GLANCE) {
                Ok((node, Ok(answer))) => {
                    waited_for.remove(&node);
                    told.insert(node, answer);
                }
                Ok((node, Err(error))) => {
                    waited_for.remove(&node);
                    tracing::debug!(peer = %node, %error, "no answer");
                }
                Err(RecvTimeoutError::Timeout) => {
                    let lost = self.lost();
                    waited_for.retain(|node| !lost.contains(node));
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Those that count as dead, or have left.
    fn lost(&self) -> BTreeSet<NodeId> {
        let view = self.discovery.view().into_iter();
        view.filter(|seen| matches!(seen.state, State::Gone | State::Left)).map(|seen| seen.id).collect()
    }

    fn node_row(&self, peer: &Peer, seen: Option<&Seen>, told: Option<(NodeInfo, Duration)>) -> NodeRow {
        let listed = self.setup.config.peers.iter().any(|listed| listed.id == peer.id && !listed.hint);
        let row = NodeRow {
            id: peer.id,
            name: peer.name.clone(),
            address: peer.address.clone(),
            addresses: seen.map(addresses).unwrap_or_default(),
            state: seen.map_or(NodeState::Unknown, |seen| state(seen.state)),
            since_seconds: seen.map(|seen| seen.since.elapsed().as_secs()),
            found: seen.filter(|_| !listed).map_or(NodeFound::Configured, |seen| found(seen.found)),
            alive: false,
            round_trip_us: 0,
            cpus: 0,
            memory_bytes: 0,
            guests: 0,
            kernel: String::new(),
            version: String::new(),
            figures: Figures::default(),
        };
        match told {
            Some((info, round_trip)) => NodeRow {
                alive: true,
                round_trip_us: round_trip.as_micros() as u64,
                figures: match self.known_of(peer.id) {
                    Some(entry) => figures::of_entry(&entry, figures::of_info(&info)),
                    None => figures::of_info(&info),
                },
                cpus: info.cpus,
                memory_bytes: info.memory_bytes,
                guests: info.guests,
                kernel: info.kernel,
                version: info.version,
                ..row
            },
            None => row,
        }
    }
}

fn addresses(seen: &Seen) -> Vec<String> {
    seen.addresses.iter().map(ToString::to_string).collect()
}

fn state(state: State) -> NodeState {
    match state {
        State::Alive => NodeState::Alive,
        State::Suspect => NodeState::Suspect,
        State::Gone => NodeState::Gone,
        State::Left => NodeState::Left,
    }
}

fn found(found: Found) -> NodeFound {
    match found {
        Found::Multicast => NodeFound::Multicast,
        Found::Seed => NodeFound::Seed,
        Found::Relay => NodeFound::Relay,
    }
}
