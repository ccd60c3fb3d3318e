//! A whole cluster in one process, deterministic by seed, around the real code of balancing.
//!
//! The machines, the work and the network are made up ([`engine`], [`workload`], [`network`]); what decides is the broker that
//! the daemon has, and every message is one that it would send. Policies are compared with the same seeds.
//!
//! Left out: input and output, processes that talk or wait for each other, memory that grows, paging that is gradual.
#![forbid(unsafe_code)]

pub mod contender;
pub mod engine;
pub mod kept;
pub mod liar;
pub mod many;
pub mod measure;
pub mod network;
pub mod report;
pub mod rivals;
pub mod scenario;
pub mod size;
pub mod spreading;
pub mod workload;
pub mod world;
