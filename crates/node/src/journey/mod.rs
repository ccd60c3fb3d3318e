//! What keeper and warden do alike: sending a process, receiving one, and the files that travel with it.

pub(crate) mod cache;
pub(crate) mod error;
pub(crate) mod line;
pub(crate) mod transfer;

pub(crate) use error::{Error, Result};
pub(crate) use transfer::{Inlet, Outlet};
