//! What keeps a torture from being carried out. A command that was harmed by it is no error but a [`crate::Report`].

use std::io;
use std::time::Duration;

/// A torture that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// A lab without a second node has nowhere to move to.
    #[error("{0} nodes: to be moved about a command needs at least 2, so give --nodes 2 or more")]
    TooFewNodes(u16),
    /// There is nothing to run.
    #[error("no command: name one behind --")]
    NoCommand,
    /// The command does not even end in peace.
    #[error("the command did not end in {0:?} although nobody moved it: give it more time with --time-limit")]
    TooSlow(Duration),
    /// The command prints without end.
    #[error("the command printed more than {0} bytes: let it print less")]
    TooMuchOutput(usize),
    /// A pattern that is none.
    #[error("'{pattern}' is no pattern: {source}")]
    Pattern {
        /// What was written.
        pattern: String,
        /// Why it is none.
        source: Box<regex::Error>,
    },
    /// Something of the system.
    #[error("failed to {doing}: {source}")]
    System {
        /// What was being done.
        doing: String,
        /// Why it did not work.
        source: io::Error,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) trait Doing<T> {
    /// Names what was being done when it failed.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::System { doing: what(), source })
    }
}
