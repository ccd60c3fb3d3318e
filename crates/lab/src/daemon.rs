//! Waiting for a node's daemon from outside of the node.

use crate::error::{Error, Result};
use crate::init::DAEMON_LOG;
use crate::state::NodeState;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where the daemon listens, inside the node.
const SOCKET: &str = "/run/openmosix/omd.sock";
/// Seconds a daemon has to come up.
const ANSWER_SECONDS_MAX: u64 = 10;
/// Bytes of its log that an error quotes, at most.
const QUOTE_BYTES_MAX: i64 = 600;

/// A path of the node's, seen from outside.
fn outside(node: &NodeState, path: &str) -> PathBuf {
    let root = Path::new("/proc").join(node.init.pid.to_string()).join("root");
    root.join(path.trim_start_matches('/'))
}

/// Waits until the node's daemon accepts connections.
pub(crate) fn await_answer(node: &NodeState) -> Result<()> {
    let socket = outside(node, SOCKET);
    let deadline = Instant::now() + Duration::from_secs(ANSWER_SECONDS_MAX);
    // The kernel tells nobody when a socket begins to listen; 20 ms are no delay to a person.
    while UnixStream::connect(&socket).is_err() {
        let log = || log_end(&outside(node, DAEMON_LOG));
        if Instant::now() > deadline || log().contains("init: ") {
            return Err(Error::DaemonSilent {
                node: node.name.clone(),
                seconds: ANSWER_SECONDS_MAX,
                log: log(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The end of a log, on one line.
fn log_end(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        // A log shorter than the quote is read from its beginning.
        let _ = file.seek(SeekFrom::End(-QUOTE_BYTES_MAX));
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "(nothing)".to_owned() } else { lines.join(" | ") }
}
