//! Tools on the unix socket: lines in, lines out, each caller known by the kernel's word.

use super::{Daemon, lines};
use crate::Error;
use control::{Event, FailureKind, Request};
use model::ReasonCode;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use std::io::{BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

/// How long a tool may take for a line, and for reading ours.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the listener rests when the system has no descriptors left.
const REST: Duration = Duration::from_millis(100);

pub(super) fn serve(daemon: &Arc<Daemon>, listener: &UnixListener) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a tool");
                std::thread::sleep(REST);
                continue;
            }
        };
        // Not by a type that wants a pid: a caller from another pid namespace, like one outside of a lab's node, has none
        // here and is somebody all the same.
        let Ok(caller) = getsockopt(&stream, PeerCredentials) else { continue };
        let uid = caller.uid();
        let places = if uid == 0 { &daemon.root_tools } else { &daemon.tools };
        let Some(slot) = places.take() else {
            daemon.counts.tool_turned_away.add();
            // It has asked nothing yet, so there is room for this line: nobody can hold us up here.
            let busy = failed(FailureKind::Refused, "the daemon serves too many tools at once; try again");
            let _ = write(&stream, &busy);
            continue;
        };
        let daemon = daemon.clone();
        std::thread::spawn(move || {
            if let Err(error) = converse(&daemon, uid, &stream) {
                tracing::debug!(error = %error, "a tool left");
            }
            drop(slot);
        });
    }
}

fn converse(daemon: &Arc<Daemon>, uid: u32, stream: &UnixStream) -> Result<(), Error> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(Error::system("limit a tool's time"))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(Error::system("limit a tool's time"))?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = match lines::read(&mut reader) {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => serde_json::from_slice::<Request>(&line).map_err(|error| error.to_string()),
            Err(Error::Line(text)) => Err(text),
            Err(error) => return Err(error),
        };
        match request {
            Ok(request) => {
                daemon.counts.tool_requests.add();
                daemon.answer(uid, request, &mut |event| write(stream, event))?;
            }
            Err(text) => {
                daemon.counts.tool_garbage.add();
                tracing::warn!(uid, "a tool sent no request");
                let text = format!("the request is not understood: {}", text.replace('\n', " "));
                return write(stream, &failed(FailureKind::BadRequest, &text));
            }
        }
    }
}

fn write(mut stream: &UnixStream, event: &Event) -> Result<(), Error> {
    let mut line = serde_json::to_vec(event).map_err(|error| Error::Line(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(Error::system("answer a tool"))
}

/// A failure for one reason that a script can tell.
pub(super) fn failed_for(code: ReasonCode, kind: FailureKind, message: &str) -> Event {
    Event::Failed { kind, message: message.to_owned(), reasons: vec![code.into()] }
}

/// A failure without reasons.
pub(super) fn failed(kind: FailureKind, message: &str) -> Event {
    Event::Failed { kind, message: message.to_owned(), reasons: Vec::new() }
}
