//! What can go wrong with another process.

use kernel::Errno;

/// A failed operation on another process. What state the process is in is told at each operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process ended meanwhile.
    #[error("process {0} has ended")]
    Gone(i32),
    /// The kernel refused.
    #[error("{what} of process {pid}")]
    Kernel {
        /// The operation.
        what: &'static str,
        /// The process or thread.
        pid: i32,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// A file could not be read or written.
    #[error("{what} of process {pid}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A thread did not stop in time.
    #[error("thread {0} did not stop in time")]
    Stuck(i32),
    /// A call inside the process failed.
    #[error("{what} inside process {pid}")]
    Inside {
        /// The operation.
        what: &'static str,
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// Code inside the process trapped where it should not.
    #[error("the code inside process {pid} ended with signal {signal}")]
    Trapped {
        /// The process.
        pid: i32,
        /// The signal.
        signal: i32,
    },
    /// The process cannot be moved after all.
    #[error("{0}")]
    Refused(#[from] model::Reasons),
}

impl Error {
    /// For `map_err`: a refusal of the kernel.
    pub(crate) fn kernel(what: &'static str, pid: i32) -> impl FnOnce(Errno) -> Error {
        move |errno| if errno == Errno::ESRCH { Error::Gone(pid) } else { Error::Kernel { what, pid, errno } }
    }

    /// For `map_err`: a failed read or write.
    pub(crate) fn io(what: &'static str, pid: i32) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { what, pid, source }
    }
}

/// Result of an operation on another process.
pub type Result<T> = std::result::Result<T, Error>;
