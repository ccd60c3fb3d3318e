//! Relative timeouts: a call that is asked again waits only for the time that is left.

use crate::memory::{Memory, read_all, u64_at};
use std::time::Duration;
use syscalls::{Arg, Row, Span};
use wire::Call;

/// How long a call wants to wait, and where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// How long, counted from the beginning of the call.
    pub total: Total,
    /// Where that stands.
    pub place: TimeoutPlace,
}

/// A span of time that may have no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// For ever.
    Infinite,
    /// So long.
    Finite(Duration),
}

/// Which argument tells a timeout, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutPlace {
    /// Which argument.
    pub arg: u8,
    /// How it is written.
    pub span: Span,
}

fn place(row: &Row) -> Option<TimeoutPlace> {
    let arg = row.timeout()?;
    match row.args[arg] {
        Arg::Timeout(span, _) => Some(TimeoutPlace { arg: arg as u8, span }),
        _ => None,
    }
}

/// The relative timeout of a call; `None` if it has none, or one that the kernel will refuse.
///
/// Also for the sleeping calls that are never forwarded, and for `futex`, where it counts only if the route says
/// [`syscalls::Special::Sleep`].
pub fn timeout(row: &Row, args: &[u64; 6], memory: &impl Memory) -> Option<Timeout> {
    let place = place(row)?;
    let value = args[usize::from(place.arg)];
    let total = match place.span {
        Span::Milliseconds => match u64::try_from(value as i32) {
            Ok(milliseconds) => Total::Finite(Duration::from_millis(milliseconds)),
            Err(_) => Total::Infinite,
        },
        _ if value == 0 => Total::Infinite,
        Span::Timeval => Total::Finite(read_pair(memory, value).and_then(|(seconds, micros)| {
            let (carry, micros) = (micros / 1_000_000, micros % 1_000_000);
            Some(Duration::new(seconds.checked_add(carry)?, micros as u32 * 1000))
        })?),
        Span::Timespec => Total::Finite(read_pair(memory, value).and_then(|(seconds, nanos)| {
            (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos as u32))
        })?),
    };
    Some(Timeout { total, place })
}

/// Seconds and fractions, neither negative.
fn read_pair(memory: &impl Memory, address: u64) -> Option<(u64, u64)> {
    let bytes = read_all(memory, address, 16)?;
    let natural = |at| u64::try_from(u64_at(&bytes, at) as i64).ok();
    Some((natural(0)?, natural(8)?))
}

/// Rewrites the timeout of a gathered call that is to be sent again. Fractions are rounded up: a wait may be too long
/// by less than its unit, never too short.
pub fn with_remaining(call: &mut Call, row: &Row, remaining: Duration) {
    let Some(TimeoutPlace { arg, span }) = place(row) else { return };
    let value = call.args[usize::from(arg)];
    let fraction = match span {
        Span::Milliseconds => {
            let milliseconds = remaining.as_nanos().div_ceil(1_000_000);
            call.args[usize::from(arg)] = milliseconds.min(i32::MAX as u128) as u64;
            return;
        }
        Span::Timeval => u64::from(remaining.subsec_nanos().div_ceil(1000)),
        Span::Timespec => u64::from(remaining.subsec_nanos()),
    };
    let begin = value as usize;
    if call.pointers & (1 << arg) == 0 {
        return;
    }
    if let Some(bytes) = begin.checked_add(16).and_then(|end| call.input.get_mut(begin..end)) {
        bytes[..8].copy_from_slice(&(remaining.as_secs().min(i64::MAX as u64)).to_le_bytes());
        bytes[8..].copy_from_slice(&fraction.to_le_bytes());
    }
}
