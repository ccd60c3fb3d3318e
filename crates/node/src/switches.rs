//! The switches of this node, kept in one small file of its state directory.

use crate::Error;
use crate::config::Paths;
use control::Switch;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The file and what is in it.
pub(crate) struct Switched {
    path: PathBuf,
    on: Mutex<BTreeSet<Switch>>,
}

impl Switched {
    /// What was switched before, or nothing. A file that makes no sense is told and counts as nothing.
    pub(crate) fn load(paths: &Paths) -> Switched {
        let path = paths.state.join("switches.json");
        let on = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the node's switches are forgotten");
                BTreeSet::new()
            }),
            Err(_) => BTreeSet::new(),
        };
        Switched { path, on: Mutex::new(on) }
    }

    /// The switches that are on.
    pub(crate) fn get(&self) -> BTreeSet<Switch> {
        self.lock().clone()
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, switch: Switch) -> bool {
        self.lock().contains(&switch)
    }

    /// Turns a switch, in the file and here; gives whether that changed it. Where the file cannot be written, nothing is
    /// changed.
    pub(crate) fn set(&self, switch: Switch, on: bool) -> Result<bool, Error> {
        let mut switched = self.lock();
        let mut wanted = switched.clone();
        let changes = if on { wanted.insert(switch) } else { wanted.remove(&switch) };
        if changes {
            crate::config::keep_json(&self.path, &wanted, 0o644)?;
            *switched = wanted;
        }
        Ok(changes)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Switch>> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_switched_outlives_the_daemon_and_nonsense_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { state: directory.path().join("state"), ..Paths::default() };
        let switched = Switched::load(&paths);
        assert_eq!(switched.get(), BTreeSet::new());
        assert!(switched.set(Switch::Block, true).unwrap() && !switched.set(Switch::Block, true).unwrap());
        switched.set(Switch::Stay, true).unwrap();
        switched.set(Switch::Stay, false).unwrap();
        let again = Switched::load(&paths);
        assert!(again.is_on(Switch::Block) && !again.is_on(Switch::Stay));
        assert_eq!(again.get(), switched.get());
        fs::write(&again.path, "{").unwrap();
        assert_eq!(Switched::load(&paths).get(), BTreeSet::new());
        fs::remove_dir_all(&paths.state).unwrap();
        fs::write(&paths.state, "").unwrap();
        again.set(Switch::Block, false).unwrap_err();
        assert!(again.is_on(Switch::Block), "what cannot be kept is not changed");
    }
}
