//! Ids, units, limits and reasons: the words every tier shares.
//!
//! Plain data only. Nothing here reads a clock, a file or the network.
#![forbid(unsafe_code)]

#[macro_use]
mod codes;
mod cpu;
mod decay;
mod ids;
pub mod limits;
mod line;
mod mask;
mod reason;
mod stay;

pub use cpu::{BASIC, CpuProfile, CpuUse, HARMLESS, feature_names};
pub use decay::{Decay, DecayRates};
pub use ids::{Destination, NodeId, ParseIdError, ProcessId, Reservation, Session, is_node_name};
pub use line::one_line;
pub use mask::{Mask, MaskNodes, MaskTooLong};
pub use reason::{Reason, ReasonCode, Reasons};
pub use stay::{Hold, Standing, Stay, StayCode};
