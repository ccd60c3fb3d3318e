//! What `om nodes` shows: each node is asked itself how it is, and discovery what it thinks of it.

use super::requests::PEER_ANSWER;
use super::{Daemon, figures};
use crate::config::Peer;
use crate::discovery::Seen;
use crate::peers;
use control::{Figures, NodeFound, NodeRow, NodeState};
use membership::{Found, State};
use model::NodeId;
use std::collections::BTreeMap;

/// Nodes that are asked at the same time.
const ASKED_AT_ONCE: usize = 256;

impl Daemon {
    pub(super) fn nodes(&self) -> Vec<NodeRow> {
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
        let peers = self.peers();
        let seen: BTreeMap<NodeId, Seen> =
            self.discovery.view().into_iter().map(|seen| (seen.id, seen)).collect();
        for chunk in peers.chunks(ASKED_AT_ONCE) {
            std::thread::scope(|scope| {
                let ask = |peer| self.node_row(peer, seen.get(&peer.id));
                let asked: Vec<_> = chunk.iter().map(|peer| scope.spawn(move || ask(peer))).collect();
                rows.extend(asked.into_iter().filter_map(|row| row.join().ok()));
            });
        }
        rows.sort_by_key(|row| row.id);
        rows
    }

    fn node_row(&self, peer: &Peer, seen: Option<&Seen>) -> NodeRow {
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
        let answer =
            peer.resolve().and_then(|address| peers::info(&self.setup, address, peer.id, PEER_ANSWER));
        match answer {
            Ok((info, round_trip)) => NodeRow {
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
            Err(error) => {
                tracing::debug!(peer = %peer.id, error = %error, "no answer");
                row
            }
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
