//! One row per system call: what it takes, where it runs, what else it does.
//!
//! Everything that must know the calls is derived from [`row`]s: the seccomp filter of a guest ([`filter`]), the
//! marshalling of a forwarded call (crate `forward`), and the page of what is supported ([`page`]). This is data and
//! rules over data; nothing here executes a call.
//!
//! A number without a row is one that came after this table: its caller brings the process home, where the call runs
//! natively. So a missing row costs speed, never correctness.
#![forbid(unsafe_code)]

mod arg;
pub mod command;
mod condition;
pub mod filter;
pub mod page;
mod route;
mod table;

pub use arg::{Arg, Back, Family, Span, Way};
pub use command::{PrctlRoute, prctl_route};
pub use condition::{Condition, Test};
pub use route::{Case, Effect, Route, Row, Special};
pub use table::{row, rows};
