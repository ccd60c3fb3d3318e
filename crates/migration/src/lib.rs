//! The two-phase hand-over of a process, as machines without a kernel or a clock.
//!
//! A process that moves has two copies for a while: the [`Giver`]'s, which has run, and the [`Taker`]'s, which has not.
//! Between them stands *the word*: before it the process is the giver's and after it the taker's. The word travels, so
//! there is a window in which one side cannot know whether it was heard. Whoever stands in that window when something
//! fails must not let the process run: it ends. So it runs on one node at most, whatever happens, and on none only if
//! a failure falls into that window.
//!
//! The keeper has the word on every journey; a warden never decides, it obeys ([`Word`]).
//!
//! ```text
//!               giver                          taker                     the word
//! from home     keeper, Word::Giver            warden, Word::Giver       Commit
//! home          warden, Word::Taker            keeper, Word::Taker       the deputy is emptied; then Release
//! on            keeper for the old host,       new warden, Word::Giver   Commit
//!               Word::Giver
//!               old warden, Word::Taker        (the keeper)              Release or Resume
//! ```
//!
//! The machines say who owns the process, nothing else: a step returns the [`Owner`], and what is to be done follows from
//! it. Which frames carry a step is told in `wire::session`; that a guest does not outlive the connection to its home is
//! the warden's rule, not one of the hand-over.
#![forbid(unsafe_code)]

mod giver;
mod taker;

pub use giver::{Giver, GiverInput, GiverPhase};
pub use taker::{Taker, TakerInput, TakerPhase};

/// Who owns the process as one side knows it: what that side has to do if it hears nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This side: thaw it, and go on.
    Here,
    /// The other side: drop what is here.
    There,
    /// Nobody can tell, or nobody has it whole: end it. None may run it.
    Unknown,
}

/// Which side gives the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The giver: it knows until when the process is its own.
    Giver,
    /// The taker: a giver that has stopped the process waits for what it is told.
    Taker,
}

/// A step that does not belong here; nothing was changed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{input}' does not belong into the phase '{phase}' of a hand-over")]
pub struct OutOfPlace {
    /// What came.
    pub input: &'static str,
    /// The name of the phase it came in.
    pub phase: &'static str,
}
