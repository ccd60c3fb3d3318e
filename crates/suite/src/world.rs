//! The worlds a guest is run in.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::time::Duration;

/// A node of the lab, as a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The node where the guest was started.
    Home,
    /// The second node.
    N2,
    /// The third node.
    N3,
}

impl Stop {
    /// How `om migrate` is told.
    pub fn name(self) -> &'static str {
        match self {
            Stop::Home => "home",
            Stop::N2 => "n2",
            Stop::N3 => "n3",
        }
    }
}

/// How a guest is moved while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Not at all, and without any daemon: what every other world is compared with.
    Native,
    /// Away, and it ends there.
    Once,
    /// Away and home.
    OutAndHome,
    /// Away, to the third node directly, and home.
    Tour,
    /// Anywhere, as chance will.
    Shuttle {
        /// How often.
        moves: u32,
        /// What chance is made of.
        seed: u64,
    },
}

impl World {
    /// The moves, each with the time to let the guest run before it.
    pub fn moves(self) -> Vec<(Duration, Stop)> {
        let pause = Duration::from_millis(250);
        match self {
            World::Native => Vec::new(),
            World::Once => vec![(pause, Stop::N2)],
            World::OutAndHome => vec![(pause, Stop::N2), (pause, Stop::Home)],
            World::Tour => vec![(pause, Stop::N2), (pause, Stop::N3), (pause, Stop::Home)],
            World::Shuttle { moves, seed } => shuttle(moves, seed),
        }
    }
}

fn shuttle(moves: u32, seed: u64) -> Vec<(Duration, Stop)> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut at = Stop::Home;
    let mut next = || {
        let others: Vec<Stop> =
            [Stop::Home, Stop::N2, Stop::N3].into_iter().filter(|stop| *stop != at).collect();
        at = others[random.random_range(0..others.len())];
        (Duration::from_millis(random.random_range(0..300)), at)
    };
    (0..moves).map(|_| next()).collect()
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            World::Native => f.write_str("native"),
            World::Once => f.write_str("once"),
            World::OutAndHome => f.write_str("out-and-home"),
            World::Tour => f.write_str("tour"),
            World::Shuttle { moves, seed } => write!(f, "shuttle-{moves}-{seed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuttle_never_goes_where_it_is_and_repeats_itself() {
        let moves = World::Shuttle { moves: 200, seed: 9 }.moves();
        assert_eq!(moves, World::Shuttle { moves: 200, seed: 9 }.moves());
        assert_ne!(moves.first().map(|(_, stop)| *stop), Some(Stop::Home));
        assert!(moves.windows(2).all(|pair| pair[0].1 != pair[1].1));
    }
}
