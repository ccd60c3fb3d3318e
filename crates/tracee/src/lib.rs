//! Seizing, capturing, rebuilding and hollowing out a process.
//!
//! Mechanism only: each function does one step to another process and says in what state it leaves it. Who calls them
//! in what order, and what is told to the other node meanwhile, is the keeper's and the warden's business.

pub mod begin;
pub mod birth;
pub mod body;
pub mod capture;
pub mod clocks;
mod code;
mod constraints;
pub mod deputy;
mod errand;
mod error;
pub mod fault;
mod frames;
pub mod guest;
pub mod inject;
pub mod layout;
pub mod objects;
pub mod own_files;
pub mod pages;
pub mod pass;
pub mod rebuild;
pub mod registers;
mod rest;
pub mod restart;
pub mod sharers;
pub mod socket_time;
pub mod stand_in;
pub mod stir;
pub mod stop;
mod unwind;
pub mod vdso;

pub use code::whole_code;
pub use constraints::constraints;
pub use error::{Error, Result};
