//! The policies that are compared, by name.

use crate::rivals::{LeastLoaded, Random, RoundRobin};
use balance::policy::{FirstPlace, Handshake, Mosix, Nothing, Opportunity, Policy, Ums};

/// A policy in a comparison: each node has one of its own.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Whether it looks at what it hears of others at all.
    pub informed: bool,
    /// Makes one.
    pub build: fn() -> Box<dyn Policy>,
}

/// All of them. Those by gossip alone are as they were published; the others have our handshake.
pub const CONTENDERS: [Contender; 14] = [
    contender("ums", "unified marginal slowdown: ours", true, || Box::new(Ums)),
    contender("none", "everything stays at home", false, || Box::new(Nothing)),
    contender("random", "starts anywhere", true, || Box::new(Random)),
    contender("rr", "starts round robin (PVM)", true, || Box::new(RoundRobin::default())),
    contender("ll", "starts on the least loaded, by gossip alone", true, || Box::new(LeastLoaded::GOSSIP)),
    contender("ll-ask", "starts on the least loaded, asking", true, || Box::new(LeastLoaded::ASKING)),
    contender("two", "starts on the better of two by chance and home", true, || {
        Box::new(LeastLoaded::TWO_CHOICES)
    }),
    contender("mosix", "openMosix: starts at home, balances by gossip", true, || {
        Box::new(Mosix { first: FirstPlace::Home, handshake: Handshake::Never })
    }),
    contender("mosix-ask", "openMosix with our handshake", true, || {
        Box::new(Mosix { first: FirstPlace::Home, handshake: Handshake::USUAL })
    }),
    contender("mosix-ll", "openMosix that starts on the least loaded", true, || {
        Box::new(Mosix { first: FirstPlace::LeastLoaded, handshake: Handshake::Never })
    }),
    contender("epvm", "opportunity cost without moves, by gossip", true, || {
        Box::new(Opportunity::new(false, Handshake::Never))
    }),
    contender("epvm-ask", "opportunity cost without moves, asking", true, || {
        Box::new(Opportunity::new(false, Handshake::USUAL))
    }),
    contender("emosix", "opportunity cost with moves, by gossip", true, || {
        Box::new(Opportunity::new(true, Handshake::Never))
    }),
    contender("emosix-ask", "opportunity cost with moves, asking", true, || {
        Box::new(Opportunity::new(true, Handshake::USUAL))
    }),
];

const fn contender(
    name: &'static str,
    about: &'static str,
    informed: bool,
    build: fn() -> Box<dyn Policy>,
) -> Contender {
    Contender { name, about, informed, build }
}

/// The one of this name.
pub fn named(name: &str) -> Option<&'static Contender> {
    CONTENDERS.iter().find(|contender| contender.name == name)
}
