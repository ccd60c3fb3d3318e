//! Talking to the daemon.

use super::Trip;
use crate::journey::Error;
use control::{AgentRequest, Answer, Event, FailureKind, KeeperStatus, Progress, Sake};
use model::NodeId;
use model::limits::CONTROL_LINE_BYTES_MAX;
use serde::Serialize;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Who asked for something, and hears of it.
#[derive(Debug)]
pub(super) struct Asker {
    stream: Option<UnixStream>,
    sake: Sake,
    last_progress: Instant,
}

impl Asker {
    /// Nobody asked.
    pub(super) fn nobody() -> Asker {
        Asker { stream: None, sake: Sake::People, last_progress: Instant::now() }
    }

    /// Reads the one request of a connection.
    pub(super) fn receive(stream: UnixStream) -> Option<(Asker, AgentRequest)> {
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let mut line = String::new();
        BufReader::new((&stream).take(CONTROL_LINE_BYTES_MAX as u64)).read_line(&mut line).ok()?;
        let mut asker = Asker { stream: Some(stream), ..Asker::nobody() };
        match serde_json::from_str(&line) {
            Ok(request) => {
                if let AgentRequest::MoveTo { sake, .. } | AgentRequest::BringHome { sake, .. } = &request {
                    asker.sake = *sake;
                }
                Some((asker, request))
            }
            Err(error) => {
                asker.refuse(&error.to_string());
                None
            }
        }
    }

    /// For whose sake a move is asked for.
    pub(super) fn sake(&self) -> Sake {
        self.sake
    }

    fn say(&mut self, line: &impl Serialize) {
        let Some(stream) = &mut self.stream else { return };
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        if stream.write_all(text.as_bytes()).is_err() {
            // Whoever asked has gone; the work goes on without an audience.
            self.stream = None;
        }
    }

    /// Tells that the order was taken: the first line of every answer to one.
    pub(super) fn taken(&mut self) {
        self.say(&Event::Progress(Progress { phase: "taken".to_owned(), done_bytes: 0, total_bytes: 0 }));
    }

    /// Tells how far long work is, now and then.
    pub(super) fn progress(&mut self, phase: &str, done_bytes: u64, total_bytes: u64) {
        if self.last_progress.elapsed() >= PROGRESS_EVERY {
            self.last_progress = Instant::now();
            self.say(&Event::Progress(Progress { phase: phase.to_owned(), done_bytes, total_bytes }));
        }
    }

    pub(super) fn statuses(&mut self, statuses: &[KeeperStatus]) {
        self.say(&statuses);
    }

    /// Tells that the process is at home, and that a keeper of its own is to do the rest.
    pub(super) fn again(&mut self) {
        self.say(&Event::Again);
    }

    pub(super) fn moved(&mut self, pid: i32, node: NodeId, trip: &Trip) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (freeze_us, total_us) = (micros(trip.freeze), micros(trip.total));
        self.say(&Event::Done {
            answer: Answer::Moved { pid, node, freeze_us, total_us, bytes: trip.bytes },
        });
    }

    pub(super) fn refuse(&mut self, message: &str) {
        let message = message.to_owned();
        self.say(&Event::Failed { kind: FailureKind::BadRequest, message, reasons: Vec::new() });
    }

    pub(super) fn failed(&mut self, pid: i32, node: NodeId, error: &Error) {
        let refusal = error.to_refusal();
        let kind = match error {
            Error::Ended | Error::Process(tracee::Error::Gone(_)) => FailureKind::NotFound,
            _ if refusal.reasons.0.is_empty() => FailureKind::Broken,
            _ => FailureKind::Refused,
        };
        let message = match kind {
            FailureKind::Refused => {
                format!("process {pid} cannot move to node {node}: {}", refusal.reasons)
            }
            _ => format!("process {pid} was not moved to node {node}: {}", refusal.message),
        };
        self.say(&Event::Failed { kind, message, reasons: refusal.reasons.0 });
    }
}
