//! Calls executed for real, directly and through the forwarder, on files, pipes, sockets and the process itself: what
//! the program sees must be the same.

mod files;
mod process;
mod streams;
mod world;
