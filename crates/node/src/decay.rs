//! How fast statistics decay on this node, kept in one small file of its state directory.

use crate::Error;
use crate::config::Paths;
use model::DecayRates;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The file and what is in it.
pub(crate) struct Decays {
    path: PathBuf,
    rates: Mutex<DecayRates>,
}

impl Decays {
    /// What was set before, or what is usual. A file that makes no sense is told and counts as nothing.
    pub(crate) fn load(paths: &Paths) -> Decays {
        let path = paths.state.join("decay.json");
        let rates = fs::read(&path).ok().and_then(|text| {
            let read = serde_json::from_slice::<DecayRates>(&text).map_err(|error| error.to_string());
            let sound =
                read.and_then(|rates| if rates.is_sound() { Ok(rates) } else { Err(format!("{rates:?}")) });
            sound
                .inspect_err(
                    |error| tracing::warn!(path = %path.display(), error, "statistics decay as usual"),
                )
                .ok()
        });
        Decays { path, rates: Mutex::new(rates.unwrap_or_default()) }
    }

    /// What is set.
    pub(crate) fn get(&self) -> DecayRates {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it, in the file and here. Where the file cannot be written, nothing is changed.
    pub(crate) fn set(&self, rates: DecayRates) -> Result<(), Error> {
        let mut set = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        crate::config::keep_json(&self.path, &rates, 0o644)?;
        *set = rates;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_outlive_the_daemon_and_nonsense_is_as_usual() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { state: directory.path().join("state"), ..Paths::default() };
        let decays = Decays::load(&paths);
        assert_eq!(decays.get(), DecayRates::default());
        let rates = DecayRates { interval_s: 5, slow: 900, fast: 800 };
        decays.set(rates).unwrap();
        assert_eq!(Decays::load(&paths).get(), rates);
        for nonsense in ["{", r#"{"interval_s":0,"slow":1,"fast":1}"#] {
            fs::write(&decays.path, nonsense).unwrap();
            assert_eq!(Decays::load(&paths).get(), DecayRates::default(), "{nonsense}");
        }
    }
}
