//! What decides where processes go, behind one interface.
//!
//! A policy weighs places; it never acts. Who is asked, who keeps room, what was promised and what must wait is the broker's
//! business and the same for all.

mod mosix;
mod nothing;
mod opportunity;
mod ums;

pub use mosix::{FirstPlace, Mosix};
pub use nothing::Nothing;
pub use opportunity::Opportunity;
pub use ums::Ums;

use crate::job::Job;
use crate::settings::{ASK_BEST, ASK_RANDOM, Settings};
use crate::state::{Place, State};
use rand::Rng;
use std::fmt;
use std::str::FromStr;

/// What a policy sees.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// This node, as it truly is.
    pub here: &'a Place,
    /// The others: as they are believed to be when a shortlist is made, as they said a moment ago when it is decided.
    pub others: &'a [Place],
    /// Nodes in the cluster.
    pub nodes: usize,
    /// CPU time that programs use typically in their lives, seconds.
    pub typical_s: f64,
    /// Slowdowns that a move must gain at least.
    pub theta: f64,
    /// What things cost.
    pub settings: &'a Settings,
}

impl<'a> Scene<'a> {
    /// This node, then the others.
    pub fn places(self) -> impl Iterator<Item = &'a Place> + Clone {
        std::iter::once(self.here).chain(self.others)
    }
}

/// How much a policy asks before it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Not at all: it acts on what it has heard. Measured: with old news this is worse than round robin, since everybody
    /// picks the same best node.
    Never,
    /// The best and some others by chance are asked, and the chosen one keeps room or refuses.
    Ask {
        /// How many of the best.
        best: usize,
        /// How many others by chance.
        random: usize,
    },
}

impl Handshake {
    /// What was found to be enough.
    pub const USUAL: Handshake = Handshake::Ask { best: ASK_BEST, random: ASK_RANDOM };
}

/// Which processes of a node come into question for a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nominees {
    /// Each; the one with the largest gain is taken.
    All,
    /// This one of the list.
    One(usize),
    /// None.
    Nobody,
}

/// A way of deciding.
pub trait Policy: fmt::Debug + Send {
    /// Its name.
    fn name(&self) -> &'static str;

    /// How much is asked before a decision.
    fn handshake(&self) -> Handshake;

    /// Whether processes are moved at all.
    fn moves(&self) -> bool;

    /// Whether an idle node asks busy ones to send it something.
    fn invites(&self) -> bool {
        false
    }

    /// Whether a new program may start here without asking anybody, because nobody can be better.
    fn is_best_here(&self, _scene: &Scene<'_>, _job: &Job) -> bool {
        false
    }

    /// Puts the cost of starting this program at each of the scene's places, in their order, into `costs`. The least is
    /// best; infinity is never.
    fn weigh_starts(&mut self, scene: &Scene<'_>, job: &Job, costs: &mut Vec<f64>, rng: &mut dyn Rng);

    /// Which of these processes of this node come into question. Not asked while the node is content
    /// ([`Policy::is_content`]) and none of its processes talks to another.
    fn nominate(&self, _scene: &Scene<'_>, _jobs: &[Job]) -> Nominees {
        Nominees::All
    }

    /// Puts what a move of this process to each of the scene's other places is worth into `gains`. What is not above 0 is
    /// not worth making.
    fn weigh_moves(&self, scene: &Scene<'_>, job: &Job, gains: &mut Vec<f64>);

    /// Whether a node in this state has no reason to move anything, so that the rest need not be computed. `fastest` is
    /// the highest speed known in the cluster.
    fn is_content(&self, here: &State, fastest: f64) -> bool {
        here.jobs <= here.cpus && !here.thrashes() && here.speed >= fastest
    }
}

/// The policies that an administrator can choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PolicyName {
    /// Unified marginal slowdown.
    #[default]
    Ums,
    /// openMosix's balancing with memory ushering.
    Mosix,
    /// Opportunity cost with moves (E-Mosix).
    Oc,
    /// Opportunity cost for new programs only (E-PVM).
    Epvm,
    /// Nothing goes anywhere by itself.
    None,
}

impl PolicyName {
    /// All of them.
    pub const ALL: [(&'static str, PolicyName); 5] = [
        ("ums", PolicyName::Ums),
        ("mosix", PolicyName::Mosix),
        ("oc", PolicyName::Oc),
        ("epvm", PolicyName::Epvm),
        ("none", PolicyName::None),
    ];

    /// The policy.
    pub fn build(self) -> Box<dyn Policy> {
        match self {
            PolicyName::Ums => Box::new(Ums),
            PolicyName::Mosix => Box::new(Mosix { first: FirstPlace::Home, handshake: Handshake::USUAL }),
            PolicyName::Oc => Box::new(Opportunity::new(true, Handshake::USUAL)),
            PolicyName::Epvm => Box::new(Opportunity::new(false, Handshake::USUAL)),
            PolicyName::None => Box::new(Nothing),
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PolicyName::ALL.iter().find(|(_, policy)| policy == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// The text names no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy(String);

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no policy; there are", self.0)?;
        PolicyName::ALL.iter().try_for_each(|(name, _)| write!(f, " {name}"))
    }
}

impl std::error::Error for UnknownPolicy {}

impl FromStr for PolicyName {
    type Err = UnknownPolicy;
    fn from_str(text: &str) -> Result<PolicyName, UnknownPolicy> {
        PolicyName::ALL
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, policy)| *policy)
            .ok_or_else(|| UnknownPolicy(text.chars().take(40).collect()))
    }
}
