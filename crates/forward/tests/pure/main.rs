//! Gathering and landing over a guest's memory that is made up.

mod fake;
mod golden;
mod properties;
