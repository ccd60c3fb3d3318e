//! Which CPUs run whose programs.
//!
//! Nodes announce the class of their CPUs, a hash of what a program can see of them. That two classes differ says nothing
//! about which of them runs the other's programs. So one node of each class is asked for its profile, once, and the broker
//! is told of the pairs that fit, by the same rule that a move by hand goes by.

use model::{CpuProfile, NodeId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Classes that are known at most; others are no candidates.
const CLASSES_MAX: usize = 32;
/// A node that did not answer, or is not what it announces, is asked again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// What is known of the classes that there are.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    profiles: BTreeMap<u64, CpuProfile>,
    /// Who was asked in vain so far, and when.
    asked: BTreeMap<NodeId, Instant>,
    /// One is being asked.
    asking: bool,
}

impl Kinds {
    /// Somebody to ask, of a class that is not known: the caller asks, and tells the answer to [`Kinds::answered`].
    pub(super) fn wants(
        &mut self,
        now: Instant,
        announced: impl Iterator<Item = (NodeId, u64)>,
    ) -> Option<NodeId> {
        if self.asking || self.profiles.len() >= CLASSES_MAX {
            return None;
        }
        self.asked.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let mut unknown = announced
            .filter(|(_, class)| !self.profiles.contains_key(class))
            .map(|(node, _)| node)
            .filter(|node| !self.asked.contains_key(node));
        let node = unknown.next()?;
        self.asked.insert(node, now);
        self.asking = true;
        Some(node)
    }

    /// The one that was asked has answered, or has not: the pairs of classes, program and host, that are known to fit by it.
    pub(super) fn answered(&mut self, profile: Option<CpuProfile>) -> Vec<(u64, u64)> {
        self.asking = false;
        profile.map(|profile| self.learn(profile)).unwrap_or_default()
    }

    /// Takes in a profile.
    pub(super) fn learn(&mut self, profile: CpuProfile) -> Vec<(u64, u64)> {
        let class = class_of(&profile);
        if self.profiles.contains_key(&class) || self.profiles.len() >= CLASSES_MAX {
            return Vec::new();
        }
        let runs = |host: &CpuProfile, program: &CpuProfile| host.missing_for(program).is_empty();
        let mut pairs = Vec::new();
        for (other, known) in &self.profiles {
            pairs.extend(runs(&profile, known).then_some((*other, class)));
            pairs.extend(runs(known, &profile).then_some((class, *other)));
        }
        self.profiles.insert(class, profile);
        pairs
    }
}

/// A number that two nodes have in common exactly if their CPUs have everything in common that a program may look at. Also
/// daemons of different builds must come to the same one.
pub(super) fn class_of(cpu: &CpuProfile) -> u64 {
    let bytes = postcard::to_stdvec(cpu).unwrap_or_default();
    let hash = blake3::hash(&bytes);
    hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16) -> NodeId {
        NodeId::new(number).unwrap()
    }

    /// SSE3 and what else is in the first word, with a register area of so many bytes.
    fn profile(word: u32, area: u32) -> CpuProfile {
        CpuProfile::new([word, 0, 0, 0, 0, 0, 0, 0, 0], 7, area)
    }

    #[test]
    fn more_runs_less_and_other_areas_run_nothing() {
        let [old, new, wide] = [profile(1, 832), profile(1 | 1 << 28, 832), profile(1 | 1 << 28, 2696)];
        let mut kinds = Kinds::default();
        assert_eq!(kinds.learn(old.clone()), []);
        assert_eq!(kinds.learn(new.clone()), [(class_of(&old), class_of(&new))]);
        assert_eq!(kinds.learn(wide), []);
        assert_eq!(kinds.learn(new), [], "it is known already");
        // Neither has all that the other has.
        assert_eq!(kinds.learn(profile(1 << 9, 832)), []);
    }

    #[test]
    fn each_class_is_asked_for_once() {
        let [own, other] = [profile(1, 832), profile(1 | 1 << 28, 832)];
        let mut kinds = Kinds::default();
        kinds.learn(own.clone());
        let announced = || {
            let classes = [class_of(&own), class_of(&other), class_of(&other), 7];
            (1..).map(node).zip(classes)
        };
        let now = Instant::now();
        assert_eq!(kinds.wants(now, announced()), Some(node(2)));
        assert_eq!(kinds.wants(now, announced()), None, "one after the other");
        assert_eq!(kinds.answered(None), []);
        assert_eq!(kinds.wants(now, announced()), Some(node(3)));
        assert_eq!(kinds.answered(Some(other.clone())), [(class_of(&own), class_of(&other))]);
        // One that is not what it announces is asked again and again, but seldom.
        assert_eq!(kinds.wants(now, announced()), Some(node(4)));
        assert_eq!(kinds.answered(Some(other.clone())), []);
        assert_eq!(kinds.wants(now, announced()), None);
        assert_eq!(kinds.wants(now + AGAIN, announced()), Some(node(4)));
    }

    #[test]
    fn a_crowd_of_classes_has_a_bound() {
        let mut kinds = Kinds::default();
        let pairs =
            (1..=2 * CLASSES_MAX as u32).map(|area| kinds.learn(profile(1, area)).len()).sum::<usize>();
        assert_eq!((kinds.profiles.len(), pairs), (CLASSES_MAX, 0));
        assert_eq!(kinds.wants(Instant::now(), std::iter::once((node(1), 3))), None);
    }
}
