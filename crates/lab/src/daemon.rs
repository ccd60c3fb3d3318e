//! Waiting for a node's daemon from outside of the node.

use crate::error::{Error, Result};
use crate::init::{DAEMON_LOG, LOG_MARK};
use crate::state::NodeState;
use control::{Answer, DAEMON_SOCKET, Event, NodeState as Opinion, Request};
use model::limits::CONTROL_LINE_BYTES_MAX;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Seek, SeekFrom, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Seconds a daemon has to come up.
const ANSWER_SECONDS_MAX: u64 = 10;
/// Seconds the daemons have to find each other.
const COMPANY_SECONDS_MAX: u64 = 30;
/// Bytes of its log that an error quotes, at most.
const QUOTE_BYTES_MAX: i64 = 600;

/// Waits until the node's daemon accepts connections.
pub(crate) fn await_answer(node: &NodeState) -> Result<()> {
    let socket = node.seen_from_outside(DAEMON_SOCKET);
    let deadline = Instant::now() + Duration::from_secs(ANSWER_SECONDS_MAX);
    // The kernel tells nobody when a socket begins to listen; 20 ms are no delay to a person.
    while UnixStream::connect(&socket).is_err() {
        let log = log_end(&node.seen_from_outside(DAEMON_LOG));
        if Instant::now() > deadline || log.contains(LOG_MARK) {
            return Err(Error::DaemonSilent { node: node.name.clone(), log });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until the node's daemon has found all the others, and they answer it.
pub(crate) fn await_company(node: &NodeState, count: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(COMPANY_SECONDS_MAX);
    // Nobody is told when a daemon finds another one; 20 ms are no delay to a person.
    while company(&node.seen_from_outside(DAEMON_SOCKET)).is_none_or(|found| found < count) {
        if Instant::now() > deadline {
            let log = log_end(&node.seen_from_outside(DAEMON_LOG));
            return Err(Error::Lonely { node: node.name.clone(), log });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// How many nodes a daemon knows that answer, with itself.
fn company(socket: &Path) -> Option<usize> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX))).ok()?;
    let mut line = serde_json::to_vec(&Request::Nodes).ok()?;
    line.push(b'\n');
    stream.write_all(&line).ok()?;
    let mut answer = Vec::new();
    BufReader::new(stream).take(CONTROL_LINE_BYTES_MAX as u64).read_until(b'\n', &mut answer).ok()?;
    match serde_json::from_slice(&answer).ok()? {
        Event::Done { answer: Answer::Nodes { nodes } } => {
            Some(nodes.iter().filter(|row| row.alive && row.state == Opinion::Alive).count())
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Plan};
    use crate::{Daemons, Lab, STATE_DIRECTORY, Spec};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    /// A lab whose daemon is a script; "player" is this test program, which the script may run.
    fn planned(test: &str, script: &str) -> Option<(Plan, TempDir)> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: a lab needs root");
            return None;
        }
        let programs = tempfile::tempdir().unwrap();
        fs::copy(std::env::current_exe().unwrap(), programs.path().join("player")).unwrap();
        fs::write(programs.path().join("omd"), script).unwrap();
        fs::set_permissions(programs.path().join("omd"), Permissions::from_mode(0o755)).unwrap();
        let mut spec = Spec::new(format!("{test}-{}", std::process::id()), 2);
        spec.programs = Some(programs.path().to_owned());
        spec.daemons = Daemons::Bare;
        let mut plan = plan::plan(&spec).unwrap();
        plan.daemons = Daemons::Started;
        for node in &mut plan.nodes {
            node.files =
                vec![("omd.toml", 0o644, format!("of {}", node.name)), ("node.key", 0o600, String::new())];
        }
        Some((plan, programs))
    }

    fn a_row(number: u16) -> control::NodeRow {
        control::NodeRow {
            id: model::NodeId::new(number).unwrap(),
            name: format!("n{number}"),
            address: String::new(),
            addresses: Vec::new(),
            state: Opinion::Alive,
            since_seconds: None,
            found: control::NodeFound::Multicast,
            alive: true,
            round_trip_us: 0,
            cpus: 1,
            memory_bytes: 0,
            guests: 0,
            kernel: String::new(),
            version: String::new(),
            figures: control::Figures::default(),
        }
    }

    #[test]
    fn plays_a_daemon() {
        if std::env::var_os("LAB_PLAYS_A_DAEMON").is_some() {
            println!("configured: {}", fs::read_to_string("/etc/openmosix/omd.toml").unwrap());
            fs::create_dir_all("/run/openmosix").unwrap();
            let listener = UnixListener::bind(DAEMON_SOCKET).unwrap();
            let nodes = vec![a_row(1), a_row(2)];
            let answer = serde_json::to_string(&Event::Done { answer: Answer::Nodes { nodes } }).unwrap();
            loop {
                let (mut tool, _) = listener.accept().unwrap();
                let mut asked = String::new();
                // Who only looks whether it answers hangs up.
                let _ = BufReader::new(&tool).read_line(&mut asked);
                let _ = writeln!(tool, "{answer}");
            }
        }
    }

    #[test]
    fn daemons_are_configured_started_and_waited_for() {
        let script = "#!/bin/sh\nexport LAB_PLAYS_A_DAEMON=1\n\
            exec /opt/openmosix/bin/player --exact daemon::tests::plays_a_daemon --nocapture";
        let Some((plan, _programs)) = planned("daemon", script) else { return };
        let lab = Lab::up_as_planned(plan).unwrap();
        for node in &lab.state().nodes {
            assert!(UnixStream::connect(node.seen_from_outside(DAEMON_SOCKET)).is_ok());
            assert!(
                log_end(&node.seen_from_outside(DAEMON_LOG))
                    .contains(&format!("configured: of {}", node.name))
            );
            let key = fs::metadata(node.seen_from_outside("/etc/openmosix/node.key")).unwrap();
            assert_eq!(key.permissions().mode() & 0o777, 0o600);
        }
        // A daemon that dies later is noted, and the node goes on without it.
        let kill = "kill -9 $(grep -l daemon /proc/[0-9]*/comm | grep -o '[0-9]*')";
        let kill = kill.replace("daemon", "player");
        assert!(lab.exec("n1", ["sh", "-c", &kill]).unwrap().status().unwrap().success());
        let log = lab.state().nodes[0].seen_from_outside(DAEMON_LOG);
        while !log_end(&log).contains("omd was killed by SIGKILL") {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(lab.exec("n1", ["true"]).unwrap().status().unwrap().success());
    }

    #[test]
    fn a_daemon_that_dies_at_once_takes_the_lab_down() {
        let script = "#!/bin/sh\necho cannot find my shoes >&2; exit 3";
        let Some((plan, _programs)) = planned("shoes", script) else { return };
        let name = plan.name.clone();
        let error = Lab::up_as_planned(plan).unwrap_err().to_string();
        assert!(
            error.contains("cannot find my shoes") && error.contains("omd ended with status 3"),
            "{error}"
        );
        assert!(!Path::new(STATE_DIRECTORY).join(name).exists());
    }
}
