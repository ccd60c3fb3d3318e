//! Named bounds: every queue, buffer and message of the project has one here.

/// Default TCP port of node-to-node connections (openMosix's migration port).
pub const PORT_TCP: u16 = 4660;

/// Largest payload of one frame between nodes, bytes.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Bytes of memory pages that travel in one frame, at most.
pub const PAGE_BATCH_BYTES: usize = 1 << 20;

/// Threads that one migrating process may have.
pub const THREADS_MAX: usize = 1024;

/// Virtual memory areas that one migrating process may have (the kernel's own default is 65530).
pub const VMAS_MAX: usize = 65_530;

/// Bytes of one control message (a line of JSON), at most.
pub const CONTROL_LINE_BYTES_MAX: usize = 256 << 10;

/// Seconds that a peer may take for a TLS handshake.
pub const HANDSHAKE_SECONDS: u64 = 5;

/// Seconds without any byte from a peer that owes one, before the connection counts as dead.
pub const PEER_SILENCE_SECONDS: u64 = 30;

/// Connections that a daemon serves at once, before it turns new ones away.
pub const CONNECTIONS_MAX: usize = 256;
