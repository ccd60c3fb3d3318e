//! Who is in the cluster, where each node is reached, and whether it lives.
//!
//! A machine without clock, sockets or chance: [`Membership::step`] takes the time, a datagram that was opened, or news
//! of the own addresses, and answers with [`Effect`]s. Datagrams come from members, whoever seals them sees to that;
//! *which* member sends one is only said in it, so nothing here gives anybody a right.
//!
//! ```text
//!  multicast, seeds        any member                     everybody
//!       │ Beacon             │ Ask, Roll                     │ Swim
//!       ▼                    ▼                               ▼
//!  ┌──────────┐  records ┌────────┐  who lives          ┌─────────┐
//!  │  beacon  ├─────────►│ roster │◄────────────────────┤  foca   │
//!  └──────────┘          └────────┘                     └─────────┘
//! ```
//! A node says of itself a [`Record`]: its id, name and addresses. Records come in *beacons*, which nodes send to the
//! groups of their networks and to the addresses they were told, and in pages of another node's *roll*: so who hears no
//! beacons learns everybody through any known member. Whether a node lives is found out by SWIM with suspicion (A. Das,
//! I. Gupta, A. Motivala, 2002), whose implementation is the crate `foca`.
//!
//! # Incarnations
//! Each life of a daemon has an *incarnation*, a number that rises from life to life, and of what is said of a node only
//! what the highest one says counts. A node that comes back with other addresses is therefore the same node. If two
//! machines use one id, both of their incarnations go on talking, and that is how it is noticed: the younger one is kept,
//! the elder one steps aside, and both are named.
#![forbid(unsafe_code)]

mod beacon;
mod machine;
mod message;
mod rival;
mod roster;
mod step;
mod swim;

pub use beacon::{BadRecord, INCARNATION_MAX, Record};
pub use machine::Membership;
pub use message::{Malformed, Message};
pub use roster::{Entry, Found, Place, State};
pub use step::{Effect, Event, Input, Sender, Settings, Via};
