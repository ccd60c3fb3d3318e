//! The daemon, the keeper and the warden: where policy and mechanism meet.
//!
//! Three kinds of process, one library, one binary (`omd`):
//! - the **daemon** ([`daemon::run`]) decides and introduces: it answers tools and other daemons, and starts agents;
//! - a **keeper** per migrated process at home, a **warden** per guest. They hold the process; the daemon may die and be
//!   started again without their noticing.
//!
//! The daemon holds no state of any process. It finds its agents by their sockets, each time anew.
#![forbid(unsafe_code)]

pub mod agents;
pub mod cgroup;
pub mod cluster;
pub mod config;
pub mod counts;
mod cpu_use;
pub mod daemon;
mod decay;
pub mod discovery;
pub mod eligibility;
mod error;
pub mod fault;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod held;
mod history;
mod journal;
mod journey;
pub mod keeper;
pub mod machine;
pub mod measure;
pub mod newcomers;
pub mod peers;
pub mod process;
pub mod rules;
mod setup;
mod spin;
mod switches;
pub mod warden;

pub use error::Error;
pub use setup::Setup;
