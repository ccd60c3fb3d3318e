//! What is set for this node, kept in one small file of its state directory.

use crate::Error;
use crate::config::Paths;
use control::{Setting, Standing, Switch};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The file and what is in it.
pub(crate) struct Kept {
    path: PathBuf,
    standing: Mutex<Standing>,
}

impl Kept {
    /// What was set before, or nothing. A file that makes no sense is told and counts as nothing.
    pub(crate) fn load(paths: &Paths) -> Kept {
        let path = paths.state.join("standing.json");
        let standing = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the node's switches are forgotten");
                Standing::default()
            }),
            Err(_) => Standing::default(),
        };
        Kept { path, standing: Mutex::new(standing) }
    }

    /// What is set now.
    pub(crate) fn get(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, switch: Switch) -> bool {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).switches.contains(&switch)
    }

    /// Changes it, in the file and here; where the file cannot be written, nothing is changed.
    pub(crate) fn set(&self, setting: Setting) -> Result<Standing, Error> {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = standing.clone();
        match setting {
            Setting::Switch { switch, on: true } => drop(wanted.switches.insert(switch)),
            Setting::Switch { switch, on: false } => drop(wanted.switches.remove(&switch)),
            Setting::Speed { speed } => wanted.speed = speed,
        }
        if wanted != *standing {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
            }
            let text = serde_json::to_string(&wanted).map_err(|error| Error::Line(error.to_string()))?;
            crate::config::write_file(&self.path, &text, 0o644)?;
            *standing = wanted;
        }
        Ok(standing.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_outlives_the_daemon_and_nonsense_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { state: directory.path().join("state"), ..Paths::default() };
        let kept = Kept::load(&paths);
        assert_eq!(kept.get(), Standing::default());
        kept.set(Setting::Switch { switch: Switch::Block, on: true }).unwrap();
        kept.set(Setting::Switch { switch: Switch::Stay, on: true }).unwrap();
        kept.set(Setting::Switch { switch: Switch::Stay, on: false }).unwrap();
        kept.set(Setting::Speed { speed: Some(2000) }).unwrap();
        let again = Kept::load(&paths);
        assert!(again.is_on(Switch::Block) && !again.is_on(Switch::Stay));
        assert_eq!((again.get(), again.get().speed), (kept.get(), Some(2000)));
        fs::write(&again.path, "{").unwrap();
        assert_eq!(Kept::load(&paths).get(), Standing::default());
        fs::remove_dir_all(&paths.state).unwrap();
        fs::write(&paths.state, "").unwrap();
        again.set(Setting::Speed { speed: None }).unwrap_err();
        assert_eq!(again.get().speed, Some(2000), "what cannot be kept is not changed");
    }
}
