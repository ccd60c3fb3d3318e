//! The cluster's key on this node: read, taken in, exchanged, kept where nobody else can read it.

use super::Discovery;
use crate::Error;
use crate::config::write_file;
use net::{CLUSTER_KEY_FILE, ClusterKey, KeyRing, Seal};
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long the key before the present one is still believed: everybody has heard of the new one by then, or fetches it.
const GRACE: Duration = Duration::from_secs(600);

/// The keys, and since when the present one is in use.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) ring: Option<KeyRing>,
    since: Instant,
}

impl Held {
    /// Those of an identity's directory. What cannot be read is as good as none: another node gives it again.
    pub(super) fn load(directory: &Path) -> Held {
        let ring = KeyRing::load(directory).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot use the cluster key");
            None
        });
        Held { ring, since: Instant::now() }
    }
}

/// Writes the key file, from its first byte on readable by nobody else.
pub(crate) fn store(directory: &Path, ring: &KeyRing) -> Result<(), Error> {
    write_file(&directory.join(CLUSTER_KEY_FILE), &ring.to_text(), 0o600)
}

impl Discovery {
    /// The keys that this node believes, newest first; none where it has none yet.
    pub(crate) fn keys(&self) -> Vec<ClusterKey> {
        let held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        held.ring.as_ref().map(|ring| ring.keys().to_vec()).unwrap_or_default()
    }

    /// Takes in a key that a member gave; whether it was news. Where it cannot be kept it is used until the daemon ends.
    pub(crate) fn adopt(&self, key: ClusterKey) -> Result<bool, Error> {
        let mut held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ring = held.ring.clone();
        let news = match &mut ring {
            Some(ring) => ring.take(key),
            None => {
                ring = Some(KeyRing::new(key));
                true
            }
        };
        let (true, Some(ring)) = (news, ring) else { return Ok(false) };
        tracing::info!(key = ?ring.current(), "a new cluster key");
        if let Err(error) = store(&self.0.directory, &ring) {
            tracing::warn!(%error, "cannot keep the new cluster key; it is used until this daemon ends");
        }
        self.use_ring(&mut held, ring)?;
        Ok(true)
    }

    /// Makes the next key and uses it; on failure the present one stays in use.
    pub(crate) fn rotate(&self) -> Result<ClusterKey, Error> {
        let mut held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = held.ring.as_ref().map_or(0, |ring| ring.current().generation());
        let next = generation.checked_add(1).ok_or_else(|| {
            Error::Cluster(
                "the cluster key has no next generation: make a new cluster with 'om init'".to_owned(),
            )
        })?;
        let key = ClusterKey::create(next)?;
        let mut ring = held.ring.clone().unwrap_or_else(|| KeyRing::new(key.clone()));
        ring.take(key.clone());
        store(&self.0.directory, &ring)?;
        self.use_ring(&mut held, ring)?;
        Ok(key)
    }

    /// Believes the key before the present one no longer, once its time is over.
    pub(super) fn age_keys(&self) {
        let mut held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ring) = held.ring.as_ref().filter(|ring| ring.keys().len() > 1) else { return };
        if held.since.elapsed() < GRACE {
            return;
        }
        let mut ring = ring.clone();
        ring.forget_previous();
        let kept = store(&self.0.directory, &ring).and_then(|()| self.use_ring(&mut held, ring));
        if let Err(error) = kept {
            tracing::warn!(%error, "cannot forget the cluster's former key");
            held.since = Instant::now();
        }
    }

    fn use_ring(&self, held: &mut Held, ring: KeyRing) -> Result<(), Error> {
        if let Some(seal) = self.0.seal.get() {
            seal.set_keys(&ring)?;
        }
        (held.ring, held.since) = (Some(ring), Instant::now());
        Ok(())
    }

    /// The seal of this life, made with the first key that there is.
    pub(super) fn seal(&self, incarnation: u64) -> Result<Option<&Seal>, Error> {
        let held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ring) = &held.ring else { return Ok(None) };
        let seal = Seal::new(self.0.own, incarnation, ring)?;
        Ok(Some(self.0.seal.get_or_init(|| seal)))
    }
}
