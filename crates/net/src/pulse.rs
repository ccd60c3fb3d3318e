//! The thread of a line: signs of life, acknowledgements that nothing takes along, and connecting again.

use crate::frame::{KIND_RESUME, KIND_UNKNOWN};
use crate::ledger::Greeting;
use crate::line::{Dial, Shared, State};
use crate::{Channel, Error, Route};
use model::limits::{
    HEARTBEAT_SECONDS, RESUME_ATTEMPT_SECONDS, RESUME_HOST_SECONDS, RESUME_PAUSE_MS_MAX, RESUME_PAUSE_MS_MIN,
    RESUME_SECONDS,
};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
const ATTEMPT: Duration = Duration::from_secs(RESUME_ATTEMPT_SECONDS);
/// How often it is looked whether a sign of life is due.
const TICK: Duration = Duration::from_secs(1);
/// Between two tries to send an acknowledgement that is due, while somebody else writes: it takes it along.
const BREATH: Duration = Duration::from_millis(1);

pub(crate) fn start(shared: Arc<Shared>) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name("line".into());
    thread.spawn(move || live(&shared)).map_err(Error::Io)?;
    Ok(())
}

fn live(shared: &Shared) {
    loop {
        let state = shared.desk().state.clone();
        match state {
            State::Over(_) => return,
            State::Up => beat(shared),
            State::Cut { since } => match &shared.dial {
                Some(dial) => connect_again(shared, dial, since),
                None => await_connection(shared, since),
            },
        }
    }
}

/// Waits until something is to be done, and does it.
fn beat(shared: &Shared) {
    let idle = |desk: &mut crate::line::Desk| matches!(desk.state, State::Up) && !desk.must_tell;
    let waited = shared.changed.wait_timeout_while(shared.desk(), TICK, idle);
    let (desk, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if !matches!(desk.state, State::Up) {
        return;
    }
    let must_tell = desk.must_tell;
    drop(desk);
    if !must_tell {
        return shared.tell_peer(HEARTBEAT);
    }
    shared.tell_peer(Duration::ZERO);
    if shared.desk().must_tell {
        std::thread::sleep(BREATH);
    }
}

/// The other side connects: all there is to do is to give up in time.
fn await_connection(shared: &Shared, since: Instant) {
    let limit = Duration::from_secs(RESUME_HOST_SECONDS);
    let left = limit.saturating_sub(since.elapsed());
    if left.is_zero() {
        return shared
            .end(&format!("its connection was cut and did not come back within {} s", limit.as_secs()));
    }
    let cut = |desk: &mut crate::line::Desk| matches!(desk.state, State::Cut { since: now } if now == since);
    drop(shared.changed.wait_timeout_while(shared.desk(), left, cut).unwrap_or_else(PoisonError::into_inner));
}

/// Connects until it works or makes no more sense.
fn connect_again(shared: &Shared, dial: &Dial, since: Instant) {
    let limit = Duration::from_secs(RESUME_SECONDS);
    let mut pause = Duration::from_millis(RESUME_PAUSE_MS_MIN);
    loop {
        let error = match attempt(shared, dial) {
            Ok(()) => return,
            Err(Error::UnknownSession) => {
                return shared.end(&format!(
                    "node {} does not know it any more: who served it there has ended",
                    dial.peer
                ));
            }
            Err(error) => error,
        };
        if since.elapsed() >= limit {
            return shared.end(&format!(
                "its connection was cut and did not come back within {} s: failed to {error}",
                limit.as_secs()
            ));
        }
        let cut = |desk: &mut crate::line::Desk| matches!(desk.state, State::Cut { .. });
        let waited = shared.changed.wait_timeout_while(shared.desk(), pause, cut);
        if !matches!(waited.unwrap_or_else(PoisonError::into_inner).0.state, State::Cut { .. }) {
            return;
        }
        pause = (pause * 2).min(Duration::from_millis(RESUME_PAUSE_MS_MAX));
    }
}

fn attempt(shared: &Shared, dial: &Dial) -> Result<(), Error> {
    let route = Route::Session(shared.session);
    let channel = Channel::connect(&dial.identity, dial.address, route, dial.peer, ATTEMPT)?;
    let (mut sender, mut receiver) = channel.split();
    let greeting = {
        // The reader has let go of the old connection, which is how it came to be cut: nothing more arrives there.
        let mut desk = shared.desk();
        Greeting {
            session: shared.session.0,
            generation: desk.generation.next(),
            received: desk.inbox.tell(),
        }
    };
    sender.send(KIND_RESUME, &[&greeting.encode()])?;
    receiver.set_timeout(Some(ATTEMPT))?;
    let frame = receiver.recv()?;
    if frame.kind == KIND_UNKNOWN {
        return Err(Error::UnknownSession);
    }
    let answer = Greeting::decode(&frame.payload).filter(|answer| {
        frame.kind == KIND_RESUME
            && answer.session == greeting.session
            && answer.generation == greeting.generation
    });
    let answer = answer.ok_or(Error::Malformed("no answer to a greeting"))?;
    receiver.set_timeout(Some(Duration::from_secs(model::limits::LINE_SILENCE_SECONDS)))?;
    shared.resume((sender, receiver), &answer)
}
