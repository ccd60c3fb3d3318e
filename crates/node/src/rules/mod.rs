//! Which processes may be moved automatically: by default programs of people and of `mosrun`.
//!
//! ```text
//! Subject (what it is) ──┐
//! Standing (what was said about it, or its ancestors) ──┼─► Rules::stays ──► every reason against
//! omd.toml [balance] ────┘
//! ```
//! Only *whether*, never *where to*. People move what they like: nothing here binds them.

mod judge;
mod pattern;
mod programs;
mod settings;
pub(crate) mod standing;
mod subject;

pub use judge::Rules;
pub(crate) use settings::TEMPLATE;
pub use settings::{Balance, Policy};
pub use subject::Subject;
