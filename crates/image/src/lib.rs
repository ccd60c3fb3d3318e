//! The frozen process: everything that travels when a process moves, except the bytes of its pages.
//!
//! Only plain data. Numbers are the kernel's own; addresses are those of the process. What stays at home with the
//! deputy (descriptors, credentials, children, timers, terminal) is not here.
#![forbid(unsafe_code)]

mod area;
mod process;
mod thread;

pub use area::{Advice, Area, Backing, FileId, Kind, Object};
pub use process::{Clocks, MmFields, Process, Shown, SigAction, Usage, Used};
pub use thread::{Registers, Resume, Rseq, Siginfo, Thread};
