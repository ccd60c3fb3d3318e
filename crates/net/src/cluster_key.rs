//! The cluster's key: what a datagram between nodes is sealed with.
//!
//! All members hold the same key, so a datagram proves that its sender is *a* member. Which one is only said, not
//! proved: what must be proved is asked on a [`crate::Channel`]. Keys have generations; a ring holds the newest and the
//! one before it, so that a key can be exchanged while everybody talks.

use crate::{Error, sha256};
use std::fmt;
use std::path::Path;

/// File with the cluster's keys, in an identity's directory; readable by nobody else.
pub const CLUSTER_KEY_FILE: &str = "cluster.key";

/// Keys that are believed at the same time: the newest and the one before it.
pub const KEY_GENERATIONS: usize = 2;

/// The public name of a key: tells nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// One generation of the cluster's key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey {
    generation: u32,
    secret: [u8; 32],
}

impl ClusterKey {
    /// Makes a key from the system's randomness.
    pub fn create(generation: u32) -> Result<ClusterKey, Error> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret)
            .map_err(|_| Error::identity("a new cluster key", "the system has no randomness"))?;
        Ok(ClusterKey { generation, secret })
    }

    /// A key that came from another member.
    pub fn from_parts(generation: u32, secret: [u8; 32]) -> ClusterKey {
        ClusterKey { generation, secret }
    }

    /// Its number; a newer key has a higher one.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The secret itself.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Its name on the wire: the first bytes of a hash that nothing else is made of.
    pub fn id(&self) -> KeyId {
        let mut text = b"openMosix: the name of a cluster key ".to_vec();
        text.extend_from_slice(&self.secret);
        let mut id = [0; 8];
        id.copy_from_slice(&sha256(&text)[..8]);
        KeyId(id)
    }

    /// Two keys of one generation, made on two nodes at the same time, have an order, too: all agree on one of them.
    fn rank(&self) -> (u32, KeyId) {
        (self.generation, self.id())
    }
}

impl fmt::Debug for ClusterKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey(generation {}, {})", self.generation, self.id())
    }
}

/// The newest key and the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    /// Newest first; never empty.
    keys: Vec<ClusterKey>,
}

impl KeyRing {
    /// A ring with its first key.
    pub fn new(key: ClusterKey) -> KeyRing {
        KeyRing { keys: vec![key] }
    }

    /// The key to seal with.
    pub fn current(&self) -> &ClusterKey {
        &self.keys[0]
    }

    /// All keys, newest first.
    pub fn keys(&self) -> &[ClusterKey] {
        &self.keys
    }

    /// Takes a key in at its place; `false` where the ring stays as it is.
    pub fn take(&mut self, key: ClusterKey) -> bool {
        let before = self.keys.clone();
        if !self.keys.contains(&key) {
            self.keys.push(key);
            self.keys.sort_by_key(|key| std::cmp::Reverse(key.rank()));
            self.keys.truncate(KEY_GENERATIONS);
        }
        self.keys != before
    }

    /// Believes the newest key alone from now on.
    pub fn forget_previous(&mut self) {
        self.keys.truncate(1);
    }

    /// The text of a key file.
    pub fn to_text(&self) -> String {
        let mut text =
            "# The cluster's key: generation and secret, the newest first. Nobody else may read it.\n"
                .to_owned();
        for key in &self.keys {
            text.push_str(&format!("{} ", key.generation));
            text.extend(key.secret.iter().map(|byte| format!("{byte:02x}")));
            text.push('\n');
        }
        text
    }

    /// Reads the text of a key file; the error never shows what stands in it.
    pub fn parse(text: &str) -> Result<KeyRing, Error> {
        let wrong = |number: usize| {
            Error::identity(CLUSTER_KEY_FILE, format!("line {number} is not a generation and 64 hex digits"))
        };
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.push(parse_line(line).ok_or_else(|| wrong(index + 1))?);
        }
        keys.sort_by_key(|key| std::cmp::Reverse(key.rank()));
        keys.truncate(KEY_GENERATIONS);
        if keys.is_empty() {
            return Err(Error::identity(CLUSTER_KEY_FILE, "there is no key in it"));
        }
        Ok(KeyRing { keys })
    }

    /// The ring of an identity's directory; `None` where there is no key file.
    pub fn load(directory: &Path) -> Result<Option<KeyRing>, Error> {
        let path = directory.join(CLUSTER_KEY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => KeyRing::parse(&text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::identity(path.display().to_string(), error)),
        }
    }
}

fn parse_line(line: &str) -> Option<ClusterKey> {
    let (generation, digits) = line.split_once(' ')?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = [0; 32];
    for (byte, pair) in secret.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(ClusterKey { generation: generation.parse().ok()?, secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(generation: u32, byte: u8) -> ClusterKey {
        ClusterKey::from_parts(generation, [byte; 32])
    }

    #[test]
    fn a_ring_survives_its_file_and_shows_no_secret() {
        let mut ring = KeyRing::new(ClusterKey::create(1).unwrap());
        assert!(ring.take(key(2, 0xab)));
        assert_eq!(KeyRing::parse(&ring.to_text()).unwrap(), ring);
        assert!(!format!("{ring:?}").contains("abab"));
        for text in ["", "# nothing\n", "1 xyz", "1\n", "x 00", &format!("1 {}", "+f".repeat(32))] {
            assert!(KeyRing::parse(text).is_err(), "{text}");
        }
        let secret = "ab".repeat(31);
        assert!(!KeyRing::parse(&format!("1 {secret}")).unwrap_err().to_string().contains("abab"));
    }

    #[test]
    fn two_generations_are_believed_and_the_newest_is_used() {
        let mut ring = KeyRing::new(key(1, 1));
        assert!(!ring.take(key(1, 1)));
        assert!(ring.take(key(2, 2)) && ring.take(key(3, 3)));
        assert_eq!(ring.keys(), [key(3, 3), key(2, 2)]);
        assert!(!ring.take(key(1, 1)), "an old key does not come back");
        ring.forget_previous();
        assert_eq!(ring.keys(), [key(3, 3)]);
    }

    #[test]
    fn two_keys_made_at_the_same_time_are_ranked_alike_by_all() {
        let mut first = KeyRing::new(key(2, 1));
        let mut second = KeyRing::new(key(2, 9));
        first.take(key(2, 9));
        second.take(key(2, 1));
        assert_eq!(first, second);
    }
}
