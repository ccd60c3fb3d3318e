//! A whole virtual cluster on one machine, for trying out, teaching and testing.
//!
//! A *lab* is a supervisor with a bridge, and *nodes*: each with pid, mount, network, uts, ipc,
//! cgroup and time namespaces of its own, joined by one virtual cable each. A file in `/tmp` of n1
//! does not exist on n2, a pid of n1 means nothing on n2, and the clocks of the two differ.
//!
//! It is not a wall: root in a node can do to the machine what root can do.
//!
//! A lab is gone when its supervisor is, and a [`Lab`] takes its lab with it; which process holds
//! which is told in `keeper.rs`. How a command gets into a node is told in `entry.rs`.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lab = lab::Lab::up(&lab::Spec::new("try", 2))?;
//! let output = lab.exec("n1", ["hostname"])?.output()?;
//! assert_eq!(output.stdout, b"n1\n");
//! # Ok(()) }
//! ```

mod accounts;
mod cgroup;
mod credentials;
mod cut;
mod daemon;
mod deal;
mod ending;
mod entry;
mod error;
mod fork;
mod house;
mod identity;
mod init;
mod keeper;
mod lab;
mod netlink;
mod plan;
mod relay;
mod report;
mod session;
mod shared;
mod spec;
mod state;
mod supervisor;
mod terminal;
mod wiring;

pub use cut::Cable;
pub use ending::Ending;
pub use entry::{Entry, Terminal};
pub use error::{Error, Result};
pub use lab::Lab;
pub use spec::{CpuShare, Daemons, Memory, NODES_MAX, Rate, Spec};
pub use state::{NodeState, STATE_DIRECTORY, State};
