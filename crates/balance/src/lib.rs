//! Who knows what of whom, what a place costs, and where a process goes, as machines without a world.
//!
//! ```text
//!  what nodes say          what a place costs            who goes where
//!  entry  judged           state   a node                policy  weighs places: ums, mosix, oc, none
//!  window spread           job     a process             broker  asks, keeps room, decides
//!  load   counted          cost    C and G               rules   who may go at all
//!                          ages    W
//!                          stats, history: what is known of processes and programs
//! ```
//!
//! Time and chance are arguments; nothing here reads a clock, a file or the network. The simulator (`sim`) and the daemon
//! run the same code. Sources of the formulas are named where they stand.
#![forbid(unsafe_code)]

mod ages;
mod broker;
pub mod cost;
mod entry;
mod history;
mod job;
pub mod load;
pub mod policy;
mod rules;
pub mod settings;
mod state;
mod stats;
pub mod window;

pub use ages::Ages;
pub use broker::{Action, Broker, Event, LocalJob, Machine, Outcome, Sample, Tables, Ticket};
pub use entry::{Absurd, Sound};
pub use history::{History, NoHistory, Prediction, ProgramKey, Run, Typical};
pub use job::{Job, JobId, Talk};
pub use rules::{Bounds, Classes, Hold, may_go, may_leave};
pub use settings::Settings;
pub use state::{Link, Place, State};
pub use stats::{Activity, Stats};
