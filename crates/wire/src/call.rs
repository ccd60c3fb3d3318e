//! One system call on its way to the deputy, and its answer.
//!
//! The deputy's stub is dumb. It copies [`Call::input`] to the start of a shared *area*, turns offsets into addresses
//! where [`Call::pointers`] and [`Call::relocations`] say so, executes the call, and sends back the bytes that
//! [`Call::outs`] name. What the call means is known to the remote's side alone (crate `forward`).

use serde::{Deserialize, Serialize};

/// Bytes of the area that a call's buffers share, at most.
pub const AREA_BYTES_MAX: u32 = 1_835_008;
/// Output ranges of one call, at most.
pub const OUTS_MAX: usize = 64;
/// Pointers inside the input, at most: four full vectors of the kernel's 1024 segments.
pub const RELOCATIONS_MAX: usize = 4096;
/// The largest errno; -4095..=-1 are errors (the kernel's `IS_ERR_VALUE`).
const ERRNO_MAX: i64 = 4095;

/// One system call to be executed by the deputy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The call's number.
    pub nr: u32,
    /// Its arguments, as the kernel takes them.
    pub args: [u64; 6],
    /// Bit i: `args[i]` is an offset into the area; the stub adds the area's address.
    pub pointers: u8,
    /// Offsets (8-aligned, rising) of u64 words in the input that are themselves offsets into the area.
    pub relocations: Vec<u32>,
    /// The first bytes of the area: everything the call reads, and what it both reads and writes.
    pub input: Vec<u8>,
    /// Bytes of the area in use: the input, then space that the call only writes.
    pub area_len: u32,
    /// What comes back.
    pub outs: Vec<Out>,
    /// Which of [`TERMINAL_SIGNALS`] are blocked while it runs, as bits of a signal mask: the kernel lets who blocks them
    /// change a terminal from the background.
    pub blocked: u64,
}

/// `SIGTTIN` and `SIGTTOU`, as bits of a signal mask.
pub const TERMINAL_SIGNALS: u64 = 1 << (21 - 1) | 1 << (22 - 1);

/// A range of the area that comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// Where it begins.
    pub offset: u32,
    /// How long it is once the call has returned.
    pub len: OutLen,
    /// After which results it comes back.
    pub when: When,
}

/// After which results an [`Out`] comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// Only when the call succeeded.
    Success,
    /// Also when it failed: the kernel writes the time that is left even on `EINTR`.
    Always,
}

/// The length of an [`Out`], as a rule over what the call left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutLen {
    /// So many bytes.
    Fixed(u32),
    /// The result times `unit`; nothing for results that are not positive.
    Result {
        /// Bytes for each unit of the result.
        unit: u32,
        /// Bytes, at most.
        max: u32,
    },
    /// As many bytes as the u32 at this offset says after the call.
    Word {
        /// Offset of the u32, 4-aligned.
        at: u32,
        /// Bytes, at most.
        max: u32,
    },
    /// As many bytes as the u64 at this offset says after the call.
    Word64 {
        /// Offset of the u64, 8-aligned.
        at: u32,
        /// Bytes, at most.
        max: u32,
    },
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What the kernel returned: a result, or a negative errno.
    pub ret: i64,
    /// The bytes of the outs, one after another.
    pub data: Vec<u8>,
}

/// A call that no honest peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The area is larger than any.
    #[error("call {nr}: an area of {bytes} bytes")]
    Area {
        /// The call's number.
        nr: u32,
        /// The bytes it claims.
        bytes: u32,
    },
    /// The input does not fit into the area.
    #[error("call {nr}: {bytes} bytes of input exceed its area")]
    Input {
        /// The call's number.
        nr: u32,
        /// Bytes of input.
        bytes: usize,
    },
    /// A pointer argument leaves the area, or is no argument.
    #[error("call {nr}: argument {index} points outside of its area")]
    Pointer {
        /// The call's number.
        nr: u32,
        /// Which argument.
        index: u8,
    },
    /// A relocation is not aligned, not rising, outside of the input, or points outside of the area.
    #[error("call {nr}: a wrong relocation at {at}")]
    Relocation {
        /// The call's number.
        nr: u32,
        /// Its offset.
        at: u32,
    },
    /// An output range or the word of its length leaves the area.
    #[error("call {nr}: output {index} leaves its area")]
    Out {
        /// The call's number.
        nr: u32,
        /// Which of the outs.
        index: usize,
    },
    /// More relocations, more outs, or more bytes of outs than any call needs.
    #[error("call {nr}: too many {what}")]
    TooMany {
        /// The call's number.
        nr: u32,
        /// Of what.
        what: &'static str,
    },
}

/// Whether a raw result is an errno.
pub fn is_error(ret: i64) -> bool {
    (-ERRNO_MAX..0).contains(&ret)
}

impl OutLen {
    /// Bytes, at most.
    pub fn max(&self) -> u32 {
        match *self {
            OutLen::Fixed(bytes) => bytes,
            OutLen::Result { max, .. } | OutLen::Word { max, .. } | OutLen::Word64 { max, .. } => max,
        }
    }

    /// The length, given the call's result and the area after the call. Words outside of the area count as 0.
    pub fn resolve(&self, ret: i64, area: &[u8]) -> usize {
        self.resolve_with(ret, |at, size| {
            let mut word = [0; 8];
            let bytes = area.get(at as usize..at as usize + size)?;
            word.get_mut(..size)?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(word))
        })
    }

    /// As [`OutLen::resolve`], for one who has not the area but knows how to find a word of 4 or 8 bytes of it.
    pub fn resolve_with(&self, ret: i64, word: impl Fn(u32, usize) -> Option<u64>) -> usize {
        let (wanted, max) = match *self {
            OutLen::Fixed(bytes) => (u64::from(bytes), bytes),
            OutLen::Result { unit, max } => ((ret.max(0) as u64).saturating_mul(u64::from(unit)), max),
            OutLen::Word { at, max } => (word(at, 4).unwrap_or(0), max),
            OutLen::Word64 { at, max } => (word(at, 8).unwrap_or(0), max),
        };
        wanted.min(u64::from(max)) as usize
    }

    /// Offset and size of the word that tells the length.
    fn word(&self) -> Option<(u32, u32)> {
        match *self {
            OutLen::Fixed(_) | OutLen::Result { .. } => None,
            OutLen::Word { at, .. } => Some((at, 4)),
            OutLen::Word64 { at, .. } => Some((at, 8)),
        }
    }
}

impl Out {
    /// Whether it comes back after this result.
    pub fn returns(&self, ret: i64) -> bool {
        self.when == When::Always || !is_error(ret)
    }
}

impl Call {
    /// Checks a call that came over the network: after this the stub may execute it blindly within its area.
    ///
    /// It does not judge which call it is, nor lengths among the arguments: a hostile host can make the deputy do what
    /// the deputy's own rights allow, and no more.
    pub fn validate(&self) -> Result<(), CallError> {
        let nr = self.nr;
        let area = u64::from(self.area_len);
        if self.area_len > AREA_BYTES_MAX {
            return Err(CallError::Area { nr, bytes: self.area_len });
        }
        if self.input.len() as u64 > area {
            return Err(CallError::Input { nr, bytes: self.input.len() });
        }
        for index in 0..8u8 {
            let inside = self.args.get(usize::from(index)).is_some_and(|&offset| offset <= area);
            if self.pointers & (1 << index) != 0 && !inside {
                return Err(CallError::Pointer { nr, index });
            }
        }
        self.validate_relocations()?;
        self.validate_outs()
    }

    fn validate_relocations(&self) -> Result<(), CallError> {
        if self.relocations.len() > RELOCATIONS_MAX {
            return Err(CallError::TooMany { nr: self.nr, what: "relocations" });
        }
        // Strictly rising, so that no word is relocated twice.
        let mut free = 0;
        for &at in &self.relocations {
            let word = self.input.get(at as usize..at as usize + 8).and_then(|word| word.try_into().ok());
            let inside = word.is_some_and(|word| u64::from_le_bytes(word) <= u64::from(self.area_len));
            if at % 8 != 0 || at < free || !inside {
                return Err(CallError::Relocation { nr: self.nr, at });
            }
            free = at + 8;
        }
        Ok(())
    }

    fn validate_outs(&self) -> Result<(), CallError> {
        if self.outs.len() > OUTS_MAX {
            return Err(CallError::TooMany { nr: self.nr, what: "outs" });
        }
        let fits = |offset: u32, len: u32| u64::from(offset) + u64::from(len) <= u64::from(self.area_len);
        let mut total = 0;
        for (index, out) in self.outs.iter().enumerate() {
            let word_fits = out.len.word().is_none_or(|(at, size)| at % size == 0 && fits(at, size));
            if !fits(out.offset, out.len.max()) || !word_fits {
                return Err(CallError::Out { nr: self.nr, index });
            }
            total += u64::from(out.len.max());
        }
        if total > u64::from(AREA_BYTES_MAX) {
            return Err(CallError::TooMany { nr: self.nr, what: "bytes of outs" });
        }
        Ok(())
    }

    /// The answer's data, from the result and the area after the call. Only for a validated call.
    pub fn collect(&self, ret: i64, area: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        for out in self.outs.iter().filter(|out| out.returns(ret)) {
            let begin = out.offset as usize;
            let range = begin..begin + out.len.resolve(ret, area);
            // A validated call never misses; zeros keep the lengths right for one that does.
            match area.get(range.clone()) {
                Some(bytes) => data.extend_from_slice(bytes),
                None => data.resize(data.len() + range.len(), 0),
            }
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recv() -> Call {
        let word = OutLen::Word { at: 8, max: 16 };
        Call {
            nr: 45,
            args: [3, 16, 32, 0, 0, 8],
            pointers: 0b10_0010,
            relocations: vec![0],
            input: vec![16, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
            area_len: 64,
            blocked: 0,
            outs: vec![
                Out { offset: 16, len: OutLen::Result { unit: 1, max: 32 }, when: When::Success },
                Out { offset: 8, len: OutLen::Fixed(4), when: When::Always },
                Out { offset: 48, len: word, when: When::Success },
            ],
        }
    }

    #[test]
    fn an_honest_call_is_valid() {
        assert_eq!(recv().validate(), Ok(()));
        assert_eq!(Call::default().validate(), Ok(()));
    }

    #[test]
    fn hostile_calls_are_named() {
        type Spoil = fn(&mut Call);
        let spoils: &[(Spoil, &str)] = &[
            (|call| call.area_len = AREA_BYTES_MAX + 1, "area"),
            (|call| call.area_len = 8, "input"),
            (|call| call.args[1] = 65, "points outside"),
            (|call| call.pointers |= 0x80, "points outside"),
            (|call| call.relocations = vec![4], "relocation"),
            (|call| call.relocations = vec![0, 0], "relocation"),
            (|call| call.relocations = vec![16], "relocation"),
            (|call| call.relocations = vec![!7], "relocation"),
            (|call| call.input[0] = 65, "relocation"),
            (|call| call.relocations = vec![0; RELOCATIONS_MAX + 1], "relocations"),
            (|call| call.outs[0].offset = 33, "output 0"),
            (|call| call.outs[0].offset = u32::MAX, "output 0"),
            (|call| call.outs[2].len = OutLen::Word { at: 62, max: 1 }, "output 2"),
            (|call| call.outs[2].len = OutLen::Word64 { at: 60, max: 1 }, "output 2"),
            (|call| call.outs = vec![call.outs[1]; OUTS_MAX + 1], "outs"),
        ];
        for (index, (spoil, words)) in spoils.iter().enumerate() {
            let mut call = recv();
            spoil(&mut call);
            let error = call.validate().expect_err("a hostile call").to_string();
            assert!(error.contains(words), "{index}: {error}");
        }
    }

    #[test]
    fn collect_takes_what_the_result_says() {
        let call = recv();
        let mut area: Vec<u8> = (0..64).collect();
        area[8..12].copy_from_slice(&2u32.to_le_bytes());
        assert_eq!(call.collect(3, &area), [16, 17, 18, 2, 0, 0, 0, 48, 49]);
        assert_eq!(call.collect(-4, &area), [2, 0, 0, 0], "only what is written on errors too");
        area[8..12].copy_from_slice(&999u32.to_le_bytes());
        assert_eq!(call.collect(0, &area).len(), 4 + 16, "never more than the maximum");
        assert_eq!(call.collect(i64::MAX, &area).len(), 32 + 4 + 16);
    }
}
