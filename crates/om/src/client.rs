//! Talking with the daemon.

use crate::exit::Failure;
use control::{Answer, Event, FailureKind, Progress, Request};
use model::limits::CONTROL_LINE_BYTES_MAX;
use model::{Destination, NodeId};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Quick migrations show no progress.
const QUIET: Duration = Duration::from_millis(500);

/// A connection with the daemon: one question after the other.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Result<Client, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| {
            let remedy = "start it as root: 'systemctl start omd' or 'omd &' (on a new machine 'om init' or 'om join' first)";
            Failure::new(
                FailureKind::Broken,
                format!("the daemon does not answer on {} ({error}); {remedy}", socket.display()),
            )
        })?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Answer, Failure> {
        self.ask_with_progress(request, &mut |_| {}, &mut |_| {})
    }

    /// Asks, and shows how far it is on standard error, where somebody is looking and it takes long enough.
    pub(crate) fn ask_visibly(&mut self, request: &Request) -> Result<Answer, Failure> {
        let start = Instant::now();
        let visible = std::io::stderr().is_terminal();
        let mut shown = false;
        let result = self.ask_with_progress(
            request,
            &mut |progress| {
                if visible && start.elapsed() > QUIET {
                    shown = true;
                    eprint!("\r\x1b[K{}", describe(progress, start.elapsed()));
                }
            },
            &mut |_| {},
        );
        if shown {
            eprint!("\r\x1b[K");
        }
        result
    }

    /// Asks, and shows each step as a line on standard error.
    pub(crate) fn ask_aloud(&mut self, request: &Request) -> Result<Answer, Failure> {
        self.ask_with_progress(request, &mut |_| {}, &mut |text| {
            eprintln!("{}", crate::tables::harmless(text))
        })
    }

    fn ask_with_progress(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(&Progress),
        step: &mut dyn FnMut(&str),
    ) -> Result<Answer, Failure> {
        let left = |error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Broken, format!("the daemon broke off: {error}; its log says why"))
        };
        let mut line = serde_json::to_vec(request).map_err(|error| left(&error))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|error| left(&error))?;
        loop {
            let mut line = Vec::new();
            let limit = CONTROL_LINE_BYTES_MAX as u64 + 1;
            (&mut self.stream).take(limit).read_until(b'\n', &mut line).map_err(|error| left(&error))?;
            if line.is_empty() {
                return Err(left(&"no answer"));
            }
            match serde_json::from_slice(&line).map_err(|error| left(&error))? {
                Event::Progress(how_far) => progress(&how_far),
                Event::Said { text } => step(&text),
                Event::Done { answer } => return Ok(answer),
                Event::Again => return Err(unexpected()),
                Event::Failed { kind, message, reasons } => return Err(Failure { kind, message, reasons }),
            }
        }
    }

    /// A node by its number or name.
    pub(crate) fn node(&mut self, text: &str) -> Result<NodeId, Failure> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        match self.ask(&Request::Find { name: text.to_owned() })? {
            Answer::Found { node } => Ok(node),
            _ => Err(unexpected()),
        }
    }

    /// A node, or home.
    pub(crate) fn destination(&mut self, text: &str) -> Result<Destination, Failure> {
        if text == "home" { Ok(Destination::Home) } else { self.node(text).map(Destination::Node) }
    }
}

/// The daemon answered another question than was asked.
pub(crate) fn unexpected() -> Failure {
    Failure::new(FailureKind::Broken, "the daemon is of another version than this tool; install both anew")
}

fn describe(progress: &Progress, elapsed: Duration) -> String {
    let Progress { phase, done_bytes, total_bytes } = progress;
    let seconds = elapsed.as_secs_f64();
    match total_bytes {
        0 => format!("{phase}: {} MiB ({seconds:.1} s)", done_bytes >> 20),
        total => {
            let percent = done_bytes.saturating_mul(100) / total;
            format!("{phase}: {percent} % of {} MiB ({seconds:.1} s)", total >> 20)
        }
    }
}
