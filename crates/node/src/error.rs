//! What can go wrong in the daemon and its agents.

use std::io;
use std::path::PathBuf;

/// A daemon, an agent or a step of theirs failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried: "read", "write", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it did not work.
        source: io::Error,
    },
    /// The configuration says something that cannot be.
    #[error("use the configuration {}: {detail}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// A listener could not be opened.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address or path.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A node's address could not be looked up.
    #[error("look up the address {address}: {source}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Another daemon works here.
    #[error("start: another daemon answers on {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// A call of the kernel.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it did not work.
        source: io::Error,
    },
    /// A channel to another node.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// A message of another node.
    #[error(transparent)]
    Codec(#[from] wire::peer::CodecError),
    /// Another node answered something else than was asked.
    #[error("understand the node: {0}")]
    Answer(&'static str),
    /// An agent's or a tool's line.
    #[error("understand a line: {0}")]
    Line(String),
    /// Making or joining a cluster; the text names the remedy.
    #[error("{0}")]
    Cluster(String),
    /// A part that this version does not have.
    #[error("{0}")]
    Missing(&'static str),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }

    /// For `map_err` on calls of the kernel.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::System { action, source: source.into() }
    }
}
