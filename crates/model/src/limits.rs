//! Named bounds: every queue, buffer and message of the project has one here.

/// Default TCP port of node-to-node connections (openMosix's migration port).
pub const PORT_TCP: u16 = 4660;

/// Largest payload of one frame between nodes, bytes.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Bytes of memory pages that travel in one frame, at most.
pub const PAGE_BATCH_BYTES: usize = 1 << 20;

/// Threads that one migrating process may have.
pub const THREADS_MAX: usize = 1024;

/// Threads that a migrated process and everything it forks while away may have together, there.
pub const FAMILY_THREADS_MAX: u32 = 2048;

/// Virtual memory areas that one migrating process may have (the kernel's own default is 65530).
pub const VMAS_MAX: usize = 65_530;

/// Bytes of the files that a process maps shared and may change, all in all, with which it may move: each of their pages is
/// looked at when they are written back.
pub const OWN_FILES_BYTES_MAX: u64 = 256 << 20;

/// Bytes of one control message (a line of JSON), at most.
pub const CONTROL_LINE_BYTES_MAX: usize = 256 << 10;

/// Seconds that a peer may take for a TLS handshake.
pub const HANDSHAKE_SECONDS: u64 = 5;

/// Seconds without any byte from a peer that owes one, before the connection counts as dead.
pub const PEER_SILENCE_SECONDS: u64 = 30;

/// Connections that a daemon serves at once, before it turns new ones away.
pub const CONNECTIONS_MAX: usize = 256;

/// Bytes of one message between daemons, at most: they are questions and answers, never data.
pub const PEER_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Nodes that one cluster's configuration may name.
pub const PEERS_MAX: usize = 1024;

/// Tools that a daemon serves at once, before it turns new ones away.
pub const TOOLS_MAX: usize = 64;

/// Seconds that a daemon waits for another node's answer to a question of a tool.
pub const PEER_ANSWER_SECONDS: u64 = 2;

/// Seconds that a daemon waits for an agent's status.
pub const AGENT_ANSWER_SECONDS: u64 = 2;

/// Seconds without a line from a keeper that moves a process, before the request counts as broken.
pub const AGENT_SILENCE_SECONDS: u64 = 120;

/// Seconds that an invitation to the cluster is valid.
pub const INVITATION_SECONDS: u64 = 3600;

/// Seconds without any progress after which the kernel gives up a connection: the limit of a move that is cut before its
/// process is handed over, which stands still so long.
pub const CONNECTION_SILENCE_SECONDS: u64 = 10;

/// Bytes of frames that one end of a session keeps because the other has not acknowledged them.
pub const UNACKNOWLEDGED_BYTES_MAX: usize = 8 << 20;

/// Frames that one end of a session keeps because the other has not acknowledged them.
pub const UNACKNOWLEDGED_FRAMES_MAX: usize = 4096;

/// Frames after which the next frame takes an acknowledgement along.
pub const ACKNOWLEDGE_FRAMES: u64 = 32;

/// Bytes after which the next frame takes an acknowledgement along.
pub const ACKNOWLEDGE_BYTES: u64 = 768 << 10;

/// Seconds without a frame to send after which an end of a session shows that it lives.
pub const HEARTBEAT_SECONDS: u64 = 2;

/// Seconds without any byte after which a session's connection counts as cut.
pub const LINE_SILENCE_SECONDS: u64 = 6;

/// Seconds for which a session outlives its connection.
pub const RESUME_SECONDS: u64 = 30;

/// Seconds for which a host waits for a connection to come back: its home may notice the cut later than the host does.
pub const RESUME_HOST_SECONDS: u64 = RESUME_SECONDS + LINE_SILENCE_SECONDS + 4;

/// Seconds that one attempt to connect again may take.
pub const RESUME_ATTEMPT_SECONDS: u64 = 3;

/// Milliseconds before the second attempt to connect again; each pause is twice the one before.
pub const RESUME_PAUSE_MS_MIN: u64 = 50;

/// Milliseconds between two attempts to connect again, at most.
pub const RESUME_PAUSE_MS_MAX: u64 = 1000;

/// Seconds that an end of a session which is over waits for the other to hang up.
pub const PARTING_SECONDS: u64 = 2;

/// Seconds that a step of a move may take on the other side, a cut on the way included.
pub const STEP_SECONDS: u64 = 60 + RESUME_HOST_SECONDS;

/// Bytes of one message about balancing, at most: it fits into a sealed datagram of [`DATAGRAM_BYTES_MAX`].
pub const BALANCE_BYTES_MAX: usize = 1360;

/// Nodes that one message of load information tells of.
pub const GOSSIP_ENTRIES_MAX: usize = 14;

/// Nodes of which a node keeps load information: twice what a message tells, since the newer half is passed on.
pub const WINDOW_ENTRIES_MAX: usize = 2 * GOSSIP_ENTRIES_MAX;

/// Nodes that a process' cluster mask may name.
pub const MASK_NODES_MAX: usize = 256;

/// Programs whose behaviour a node remembers.
pub const PROGRAMS_MAX: usize = 4096;

/// Processes of one node that balancing looks at.
pub const JOBS_MAX: usize = 4096;

/// Promises of room that a node has given and that have neither been used nor expired.
pub const RESERVATIONS_MAX: usize = 512;

/// Promises of room that one node may hold at another at the same time.
pub const RESERVATIONS_PER_NODE_MAX: usize = 64;

/// New programs for which a node is looking for a place at the same time; the next ones start at home.
pub const PLACEMENTS_MAX: usize = 256;

/// Nodes whose files a process is remembered to use.
pub const TALK_NODES_MAX: usize = 4;

/// Moves of one process within a minute that balancing makes, at most; people may order more.
pub const MOVES_PER_MINUTE_MAX: usize = 6;

/// Default UDP port of the groups in which nodes announce themselves. Each node is reached by UDP on the port on which it
/// listens by TCP.
pub const PORT_DISCOVERY: u16 = 4660;

/// Bytes of one datagram between nodes, at most: fits into one packet of every usual network, tunnels included.
pub const DATAGRAM_BYTES_MAX: usize = 1400;

/// Senders of datagrams whose last numbers a node remembers: every node in its present and its former life.
pub const DATAGRAM_SENDERS_MAX: usize = 2 * PEERS_MAX;

/// Addresses that a node announces of itself, at most.
pub const ADDRESSES_MAX: usize = 8;

/// Bytes of a node's name, at most.
pub const NAME_BYTES_MAX: usize = 64;

/// Addresses that a node is told to look for others at, at most.
pub const SEEDS_MAX: usize = 64;

/// Processes of one node that are measured; the rest counts only in the sums that the kernel makes.
pub const PROCESSES_MEASURED_MAX: usize = 16_384;

/// Threads of one process that are looked at; of more, the share that is runnable is taken for all.
pub const THREADS_LOOKED_AT_MAX: usize = 256;

/// Patterns in one list of the rules for automatic moves.
pub const RULE_PATTERNS_MAX: usize = 256;

/// Ancestors of a process that are asked what it inherits.
pub const ANCESTORS_MAX: usize = 64;

/// Speed of one standard CPU: ten times openMosix's number, which leaves room for slow ones.
pub const SPEED_STANDARD: u32 = 10_000;

/// Speeds of a CPU that are believed and can be set.
pub const SPEEDS: std::ops::RangeInclusive<u32> = 10..=10_000_000;

/// The load of one standard CPU that is fully busy.
pub const LOAD_PER_CPU: u32 = 100;
