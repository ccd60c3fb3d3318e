//! Writing an answer where the kernel would have written it.

use crate::errno;
use crate::memory::Memory;
use wire::{Out, OutLen, When, is_error};

/// Where the data of a call's answer goes: known when the call is gathered, used when its answer is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// What comes back, and where it goes.
    outs: Vec<(Out, Target)>,
    chunk: Option<Chunk>,
    /// Bytes of payload that the call gives away; 0 if it is not of that kind.
    gives: u64,
}

/// A payload larger than one message: the call asks for its beginning only.
///
/// While chunks come back full (`ret == asked`), go on with [`crate::gather_from`] and the bytes done so far. An error
/// after some progress is no error: answer what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes that this call moves, at most.
    pub asked: u64,
    /// Bytes that the guest wants moved, without those already done.
    pub wanted: u64,
    /// When to go on at all.
    pub go_on: GoOn,
}

/// When to go on after a full chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoOn {
    /// Always: the kernel would go on as well.
    Always,
    /// If the descriptor can be positioned (`lseek(fd, 0, SEEK_CUR)` succeeds). A pipe, socket or terminal may answer
    /// less than it was asked for, and asking again could wait for ever.
    IfSeekable,
}

/// Where one out goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its bytes, one segment after another.
    pub(crate) segments: Vec<Segment>,
    /// Results below this one leave it alone.
    pub(crate) least: i64,
    /// What happens where the guest's memory cannot be written.
    pub(crate) fault: OnFault,
}

/// Consecutive bytes of an out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where they go in the guest; `None`: nowhere.
    pub(crate) address: Option<u64>,
    /// How many.
    pub(crate) len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFault {
    /// The call answers `EFAULT`.
    Fail,
    /// The call answers `EFAULT` where it would have succeeded.
    FailSuccess,
    /// The call answers how many bytes arrived.
    Shorten,
    /// Nothing: the kernel does not mind either.
    Ignore,
}

impl Target {
    pub(crate) fn one(address: u64, len: u32) -> Target {
        Target {
            segments: vec![Segment { address: Some(address), len }],
            least: i64::MIN,
            fault: OnFault::Fail,
        }
    }

    pub(crate) fn payload() -> Target {
        Target { segments: Vec::new(), least: i64::MIN, fault: OnFault::Shorten }
    }

    /// Writes the bytes; the number of those that arrived, if not all did.
    fn write(&self, mut bytes: &[u8], memory: &impl Memory) -> Result<(), usize> {
        let mut arrived = 0;
        for segment in &self.segments {
            let (now, rest) = bytes.split_at(bytes.len().min(segment.len as usize));
            if let Some(address) = segment.address
                && !now.is_empty()
            {
                memory.write(address, now).map_err(|fault| arrived + fault.done)?;
            }
            (arrived, bytes) = (arrived + now.len(), rest);
        }
        Ok(())
    }
}

impl Landing {
    pub(crate) fn new(outs: Vec<(Out, Target)>, chunk: Option<Chunk>, gives: u64) -> Landing {
        Landing { outs, chunk, gives }
    }

    /// Whether the call moves only the beginning of what the guest wants moved.
    pub fn chunk(&self) -> Option<Chunk> {
        self.chunk
    }

    /// Whether it gives payload away that can be given in parts.
    pub fn gives(&self) -> bool {
        self.gives > 0
    }

    /// Whether the call gave away only a part of what it carried, which an interruption makes it do: the rest can be
    /// given by [`crate::gather_from`].
    pub fn is_half_done(&self, landed: i64) -> bool {
        landed > 0 && landed.cast_unsigned() < self.gives
    }

    /// Writes the answer's data into the guest's memory and returns the call's result for the guest.
    ///
    /// The data is what [`wire::Call::collect`] made. Data of another length than the result implies is a broken
    /// deputy's: the guest sees `EIO`. Whatever the data, only ranges that the guest named are written.
    pub fn land(&self, ret: i64, data: &[u8], memory: &impl Memory) -> i64 {
        let mut rest = data;
        let mut words: Vec<(u32, &[u8])> = Vec::new();
        let mut result = ret;
        let mut stopped = false;
        for (out, target) in &self.outs {
            if !out.returns(ret) {
                continue;
            }
            let len = out.len.resolve_with(ret, |at, size| find_word(&words, at, size));
            let Some((bytes, behind)) = rest.split_at_checked(len) else {
                return -i64::from(errno::EIO);
            };
            rest = behind;
            if matches!(out.len, OutLen::Fixed(_)) {
                words.push((out.offset, bytes));
            }
            if stopped || ret < target.least {
                continue;
            }
            if let Err(arrived) = target.write(bytes, memory) {
                // So does the kernel.
                stopped = target.fault == OnFault::Fail;
                result = match target.fault {
                    OnFault::Ignore => result,
                    // What is written even when the call fails is written last, and decides.
                    OnFault::Fail if out.when == When::Always => -i64::from(errno::EFAULT),
                    _ if is_error(result) => result,
                    OnFault::Shorten if arrived > 0 => arrived as i64,
                    OnFault::Shorten | OnFault::Fail | OnFault::FailSuccess => -i64::from(errno::EFAULT),
                };
            }
        }
        if rest.is_empty() { result } else { -i64::from(errno::EIO) }
    }
}

/// A word of the area, found among the ranges that have come back already.
fn find_word(known: &[(u32, &[u8])], at: u32, size: usize) -> Option<u64> {
    known.iter().find_map(|&(offset, bytes)| {
        let begin = at.checked_sub(offset)? as usize;
        let mut word = [0; 8];
        word.get_mut(..size)?.copy_from_slice(bytes.get(begin..begin + size)?);
        Some(u64::from_le_bytes(word))
    })
}
