//! Whom this node knew: a daemon that is started again looks for the others where they were, and can name them at once.
//!
//! It lies where the sockets are, so that it does not outlive the machine's next start. What is in it is only a hint.

use super::Seen;
use crate::Error;
use crate::config::{Paths, Peer, write_file};
use membership::State;
use model::limits::PEERS_MAX;
use std::path::PathBuf;

fn path(paths: &Paths) -> PathBuf {
    paths.run.join("nodes.json")
}

/// Those whom the last daemon knew.
pub(super) fn load(paths: &Paths) -> Vec<Peer> {
    let text = std::fs::read(path(paths)).unwrap_or_default();
    let mut peers: Vec<Peer> = serde_json::from_slice(&text).unwrap_or_default();
    peers.retain(|peer| model::is_node_name(&peer.name));
    peers.truncate(PEERS_MAX);
    peers.into_iter().map(|peer| Peer { hint: true, ..peer }).collect()
}

/// What is worth remembering of a view.
pub(super) fn worth(view: &[Seen]) -> Vec<Peer> {
    view.iter().filter(|seen| seen.state != State::Left).filter_map(crate::peers::of_seen).collect()
}

/// Writes it down.
pub(super) fn store(paths: &Paths, peers: &[Peer]) -> Result<(), Error> {
    let text = serde_json::to_string(peers).map_err(|error| Error::Line(error.to_string()))?;
    write_file(&path(paths), &text, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::NodeId;

    #[test]
    fn what_is_remembered_is_a_hint_and_nonsense_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { run: directory.path().to_owned(), ..Paths::default() };
        assert_eq!(load(&paths), []);
        let peer = |name: &str| Peer {
            id: NodeId::new(2).unwrap(),
            name: name.to_owned(),
            address: "10.0.0.2:4660".to_owned(),
            hint: false,
        };
        store(&paths, &[peer("n2"), peer("a b")]).unwrap();
        assert_eq!(load(&paths), [Peer { hint: true, ..peer("n2") }]);
        std::fs::write(path(&paths), "[{").unwrap();
        assert_eq!(load(&paths), []);
    }
}
