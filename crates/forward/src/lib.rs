//! How a call of the remote travels: gathered from its memory, landed in it again.
//!
//! [`gather`] reads everything a call needs out of the guest and packs it into one [`wire::Call`]: one request, one
//! answer. [`Landing::land`] writes the answer's data where the kernel would have written it. Both follow the rows of
//! the table (crate `syscalls`); there is no code per call, only per kind of argument.
//!
//! Pure: the guest's memory is a trait, time is a value. What may block, when to ask again, what to do with signals:
//! that is the warden's.
//!
//! ```text
//! guest's registers ─ row, args ─▶ gather ─▶ Call ──────▶ deputy
//!         ▲                          │                      │
//!         │                          ▼                      ▼
//!         └──── result ◀── land ◀─ Landing ◀──── Reply{ret, data}
//! ```
//!
//! Errors are left to the kernel at home, which alone knows in which order it checks: NULL travels as NULL, and what
//! cannot be read travels as an address that no process can read. Where how far the kernel gets depends on the call, as
//! with memory that ends within an argument, the process goes home.
#![forbid(unsafe_code)]

mod draft;
mod gather;
mod landing;
mod memory;
mod message;
mod oneself;
mod payload;
mod socket;
mod timeout;

pub use gather::{Gathered, gather, gather_from, temporary_mask};
pub use landing::{Chunk, GoOn, Landing};
pub use memory::{Fault, Memory, StringFault};
pub use oneself::describes_oneself;
pub use timeout::{Timeout, TimeoutPlace, Total, timeout, with_remaining};

/// Payload that travels with one call, at most; the rest of the area is for everything else.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Errors of an answer that cannot land.
mod errno {
    pub(crate) const EIO: i32 = 5;
    pub(crate) const EFAULT: i32 = 14;
}
