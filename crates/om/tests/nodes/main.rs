//! Real daemons and real tools on the loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agents;
mod cluster;
mod discovery;
mod hostile;
mod screens;
mod session;
mod standing;
mod tools;
mod world;
