//! The guest programs in many worlds.
//!
//! A *guest* (in `guests/`) is a small program that verifies itself. A [`World`] says how it is moved about while it
//! runs. A [`Run`] is one guest in one [`Place`]: natively on this machine, or on a node of a [`Cluster`]. The guest
//! must not notice the difference: what it prints, its exit status and its files are compared with a native run.
//!
//! A [`Workload`] is an ordinary program at work, for torture.
//!
//! [`compat`] has the tests of other projects, likewise.
//!
//! The crate calls `om` as a user does, by its command line; it shares no code with what it tests but the words, and the
//! crate `torture`, which asks daemons as a tool does.
#![forbid(unsafe_code)]

mod catalog;
mod cluster;
pub mod compat;
mod counting;
mod crowd;
mod journey;
pub mod machine;
mod needs;
mod om;
mod ordeals;
mod patience;
mod place;
mod run;
mod source;
mod stream;
mod terminal;
mod trial;
mod trouble;
mod workload;
mod workshop;
mod world;

pub use catalog::{Feed, GUESTS, Guest, HALF_DONE, HALF_JUMP, RESTARTS, guest, restart};
pub use cluster::Cluster;
pub use counting::Counting;
pub use crowd::{Crowd, is_even};
pub use journey::{Finished, data, native, travel};
pub use needs::missing;
pub use om::{Move, Refusal, find};
pub use ordeals::Ordeals;
pub use patience::{looked_for, wait_until};
pub use place::{Place, Said};
pub use run::{Input, Run};
pub use source::of as package_source;
pub use stream::Stream;
pub use trial::{is_long, main, trial};
pub use workload::{Bring, MIX, WORKLOADS, Workload};
pub use workshop::{Workshop, faulty_programs};
pub use world::{Stop, World};

use std::time::Duration;

/// How long anything that should happen at once may take, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a guest may run, moves and all.
pub const RUN_MAX: Duration = Duration::from_secs(180);
