//! What a guest has printed so far, readable while it goes on printing.

use anyhow::{Result, bail};
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that one stream may hold; a guest that prints more is mad.
const BYTES_MAX: usize = 256 << 20;

/// A growing text, filled by a thread of its own.
pub struct Stream {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    /// Reads everything from a pipe or a terminal until its end.
    pub fn of(mut source: impl Read + Send + 'static) -> Arc<Stream> {
        let stream = Arc::new(Stream { state: Mutex::default(), grown: Condvar::new() });
        let filled = Arc::clone(&stream);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                // A terminal whose last user has gone answers EIO: that is its end.
                let count = source.read(&mut buffer).unwrap_or(0);
                let mut state = filled.lock();
                state.ended = count == 0 || state.bytes.len() > BYTES_MAX;
                state.bytes.extend_from_slice(&buffer[..count]);
                filled.grown.notify_all();
                if state.ended {
                    return;
                }
            }
        });
        stream
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Everything so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// How many bytes have come.
    pub fn length(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Waits until this text has come after the position, and returns the position behind it.
    pub fn wait_for(&self, text: &str, from: usize, patience: Duration) -> Result<usize> {
        let found = self.wait_until(patience, |state| {
            let rest = state.bytes.get(from..).unwrap_or_default();
            rest.windows(text.len())
                .position(|window| window == text.as_bytes())
                .map(|at| from + at + text.len())
        });
        match found {
            Some(at) => Ok(at),
            None => bail!("waited in vain for {text:?} after: {}", self.tail(from)),
        }
    }

    /// Waits until there are this many bytes.
    pub fn wait_length(&self, length: usize, patience: Duration) -> Result<()> {
        match self.wait_until(patience, |state| (state.bytes.len() >= length).then_some(())) {
            Some(()) => Ok(()),
            None => bail!("waited in vain for {length} bytes, {} came", self.length()),
        }
    }

    /// Waits for the end of the stream; false if it did not come in time.
    pub fn wait_end(&self, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.ended.then_some(())).is_some()
    }

    /// Polls a condition whenever the stream grows; gives up at its end or when the time is over.
    fn wait_until<T>(&self, patience: Duration, condition: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(found) = condition(&state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if state.ended {
                return None;
            }
            state = self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn tail(&self, from: usize) -> String {
        let state = self.lock();
        let begin = from.max(state.bytes.len().saturating_sub(2000));
        String::from_utf8_lossy(state.bytes.get(begin..).unwrap_or_default()).into_owned()
    }
}
