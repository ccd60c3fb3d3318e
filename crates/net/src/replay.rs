//! No datagram is believed twice.
//!
//! A sender numbers its datagrams; a receiver remembers of each sender the highest number and which of the ones just
//! below it have come (the window of RFC 4303, section 3.4.3). The number of senders that are remembered is bounded:
//! beyond it the one that was silent for longest is forgotten.

use model::NodeId;
use std::collections::HashMap;

/// Numbers below the highest that may still come late.
const WINDOW: u64 = u128::BITS as u64;

/// What has come of one sender.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    highest: u64,
    /// Bit `n` stands for `highest - n`.
    seen: u128,
    /// When it was last heard, in datagrams of everybody.
    used: u64,
}

impl Window {
    /// Takes a number in; `false` where it has come before, or may have.
    fn take(&mut self, number: u64) -> bool {
        if self.seen == 0 || number > self.highest {
            let step = number.wrapping_sub(self.highest);
            self.seen = if self.seen == 0 || step >= WINDOW { 1 } else { self.seen << step | 1 };
            self.highest = number;
            return true;
        }
        let age = self.highest - number;
        if age >= WINDOW || self.seen >> age & 1 == 1 {
            return false;
        }
        self.seen |= 1 << age;
        true
    }
}

/// The windows of all senders. A sender that starts anew has a new incarnation, and with it a new window.
#[derive(Debug)]
pub(crate) struct Windows {
    senders: HashMap<(NodeId, u64), Window>,
    max: usize,
    clock: u64,
}

impl Windows {
    /// For at most so many senders.
    pub(crate) fn new(max: usize) -> Windows {
        Windows { senders: HashMap::new(), max, clock: 0 }
    }

    /// Takes a datagram's number in; `false` where it is to be dropped. Only for what is proved to be a member's: a
    /// stranger must not be able to move a window.
    pub(crate) fn take(&mut self, node: NodeId, incarnation: u64, number: u64) -> bool {
        self.clock += 1;
        let sender = (node, incarnation);
        if !self.senders.contains_key(&sender) && self.senders.len() >= self.max {
            let oldest = self.senders.iter().min_by_key(|(_, window)| window.used).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.senders.remove(&oldest);
            }
        }
        let window = self.senders.entry(sender).or_default();
        window.used = self.clock;
        window.take(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn node(number: u16) -> NodeId {
        NodeId::new(number).unwrap()
    }

    proptest! {
        #[test]
        fn nothing_comes_twice_and_nothing_recent_is_lost(
            numbers in proptest::collection::vec(0u64..400, 1..600),
            base in prop_oneof![Just(0u64), Just(u64::MAX - 400), any::<u32>().prop_map(u64::from)],
        ) {
            let mut windows = Windows::new(4);
            let mut came = HashSet::new();
            let mut highest = None;
            for number in numbers {
                let number = base + number;
                let taken = windows.take(node(1), 7, number);
                let recent = highest.is_none_or(|highest: u64| highest.saturating_sub(number) < WINDOW);
                prop_assert_eq!(taken, recent && !came.contains(&number));
                if taken {
                    came.insert(number);
                }
                highest = highest.max(Some(number));
            }
        }
    }

    #[test]
    fn incarnations_and_nodes_have_windows_of_their_own() {
        let mut windows = Windows::new(8);
        for (id, incarnation) in [(1, 1), (1, 2), (2, 1)] {
            assert!(windows.take(node(id), incarnation, 5));
            assert!(!windows.take(node(id), incarnation, 5));
        }
    }

    #[test]
    fn the_silent_are_forgotten_first_and_the_number_is_bounded() {
        let mut windows = Windows::new(3);
        for id in 1..=3 {
            windows.take(node(id), 1, 1);
        }
        windows.take(node(1), 1, 2);
        windows.take(node(4), 1, 1);
        assert_eq!(windows.senders.len(), 3);
        assert!(!windows.take(node(1), 1, 2), "the one that speaks is remembered");
        assert!(!windows.senders.contains_key(&(node(2), 1)), "the silent one is not");
    }
}
