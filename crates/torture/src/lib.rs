//! A command run in peace, and once more while it and everything it starts is moved about at random; then both runs
//! are compared.
//!
//! ```text
//! Ground      a lab of its own; both runs are on its first node, with the same paths
//!   Peace     the command, and nobody touches it
//!   Torture   the command; movers pick one of its processes, a destination, and ask the daemon, again and again
//! Report      differences, faults, remains; moves, refusals, home-comings, freezes
//! ```
//!
//! Nothing that the command starts can escape: on the first node of a ground runs nothing else, so whatever appears in
//! its pid namespace belongs to the run. That is why a ground is a lab of its own and never somebody's.
//!
//! Who moves what, and in which order, comes from a seed; when it happens does not, for the machine has its own mind.
#![forbid(unsafe_code)]

mod aspect;
mod compare;
mod crowd;
mod daemon;
mod difference;
mod error;
mod footprint;
mod ground;
mod journal;
mod mask;
mod movers;
mod plan;
mod report;
mod run;
mod tally;
mod tree;

pub use aspect::Aspect;
pub use error::{Error, Result};
pub use ground::Ground;
pub use mask::Mask;
pub use movers::Progress;
pub use plan::Plan;
pub use report::{Freezes, Report};
pub use run::{Ending, Outcome};
