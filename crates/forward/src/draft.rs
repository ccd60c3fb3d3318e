//! A call while it is being gathered: two arenas that become one area.
//!
//! What the call reads is packed from the area's beginning on, as that part travels. What it only writes comes behind,
//! and where that begins is known only at the end; until then pointers are [`Place`]s.

use crate::landing::{Chunk, Landing, Segment, Target};
use wire::{AREA_BYTES_MAX, Call, Out, OutLen, RELOCATIONS_MAX, When};

/// Why a call does not travel.
///
/// It never is an errno of ours: which of several errors a call answers, only the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop(pub(crate) &'static str);

/// A place in the area to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In the part that travels.
    Input(u32),
    /// In the part that is only written.
    Output(u32),
}

impl Place {
    /// So many bytes further.
    pub(crate) fn plus(self, bytes: u32) -> Place {
        match self {
            Place::Input(at) => Place::Input(at + bytes),
            Place::Output(at) => Place::Output(at + bytes),
        }
    }
}

/// An address that no process can read: the kernel at home answers it as it answers any bad pointer.
pub(crate) const UNREADABLE: u64 = 1 << 63;
/// The first address that no process has (`TASK_SIZE_MAX` with four levels of page tables; nobody asks for five here).
pub(crate) const ADDRESSES_END: u64 = 0x7fff_ffff_f000;

/// Outputs of this size may be read with `O_DIRECT`, which wants aligned memory. Space that does not travel is cheap.
const DIRECT_BYTES: u32 = 512;
const PAGE: u32 = 4096;
const TOO_LARGE: Stop = Stop("its buffers do not fit into one message");

#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) args: [u64; 6],
    /// Bytes of the payload that earlier chunks have moved.
    pub(crate) done: u64,
    pub(crate) chunk: Option<Chunk>,
    /// Bytes of payload that the call gives away.
    pub(crate) gives: u64,
    pointers: [Option<Place>; 6],
    relocations: Vec<(u32, Place)>,
    input: Vec<u8>,
    output_len: u32,
    outs: Vec<(Place, OutLen, When, Target)>,
    paged: bool,
}

impl Draft {
    /// A call with these arguments; earlier chunks have moved `done` bytes of its payload.
    pub(crate) fn new(args: [u64; 6], done: u64) -> Draft {
        Draft { args, done, ..Draft::default() }
    }

    /// Bytes that travel with the call.
    pub(crate) fn input(&mut self, bytes: &[u8]) -> Result<Place, Stop> {
        let at = self.input.len().next_multiple_of(8);
        self.input.resize(at, 0);
        self.input.extend_from_slice(bytes);
        self.check_size()?;
        Ok(Place::Input(at as u32))
    }

    /// Room that the call writes.
    pub(crate) fn room(&mut self, bytes: u32) -> Result<Place, Stop> {
        let direct = bytes >= DIRECT_BYTES;
        self.paged |= direct;
        let at = self.output_len.next_multiple_of(if direct { PAGE } else { 8 });
        self.output_len = at.checked_add(bytes).filter(|&end| end <= AREA_BYTES_MAX).ok_or(TOO_LARGE)?;
        self.check_size()?;
        Ok(Place::Output(at))
    }

    fn check_size(&self) -> Result<(), Stop> {
        // Rounded up as `finish` may round it.
        let input = (self.input.len() as u64).next_multiple_of(u64::from(PAGE));
        let fits = input + u64::from(self.output_len) <= u64::from(AREA_BYTES_MAX);
        if fits { Ok(()) } else { Err(TOO_LARGE) }
    }

    /// Makes an argument point there.
    pub(crate) fn point(&mut self, arg: usize, place: Place) {
        self.pointers[arg] = Some(place);
    }

    /// Makes an argument a pointer that cannot be read.
    pub(crate) fn unreadable(&mut self, arg: usize) {
        self.args[arg] = UNREADABLE;
    }

    /// Whether an argument has found its place.
    pub(crate) fn is_carried(&self, arg: usize) -> bool {
        self.pointers[arg].is_some()
    }

    /// Makes the word at an offset of a place in the input point elsewhere in the area.
    pub(crate) fn relocate(&mut self, base: Place, offset: u32, to: Place) {
        if let Place::Input(at) = base.plus(offset) {
            self.relocations.push((at, to));
        }
    }

    /// Overwrites a word of the input.
    pub(crate) fn patch(&mut self, base: Place, offset: u32, bytes: &[u8]) {
        if let Place::Input(at) = base.plus(offset) {
            self.input[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Brings a range of the area back to one range of the guest.
    pub(crate) fn out(&mut self, place: Place, len: OutLen, when: When, address: u64) {
        self.out_to(place, len, when, Target::one(address, len.max()));
    }

    /// Brings a range of the area back to several ranges of the guest.
    pub(crate) fn out_to(&mut self, place: Place, len: OutLen, when: When, target: Target) {
        self.outs.push((place, len, when, target));
    }

    /// Brings back payload, which may be cut short by memory that ends.
    pub(crate) fn payload(&mut self, place: Place, len: OutLen, segments: Vec<Segment>) {
        self.out_to(place, len, When::Success, Target { segments, ..Target::payload() });
    }

    /// The call, and where its answer lands.
    pub(crate) fn finish(self, nr: u32) -> Result<(Call, Landing), Stop> {
        if self.relocations.len() > RELOCATIONS_MAX || self.outs.len() > wire::OUTS_MAX {
            return Err(TOO_LARGE);
        }
        let align = if self.paged { PAGE } else { 8 };
        let output_at = if self.output_len == 0 {
            self.input.len() as u32
        } else {
            (self.input.len() as u32).next_multiple_of(align)
        };
        let offset = |place| match place {
            Place::Input(at) => at,
            Place::Output(at) => output_at + at,
        };
        let mut call = Call {
            nr,
            args: self.args,
            input: self.input,
            area_len: output_at + self.output_len,
            ..Call::default()
        };
        for (index, place) in self.pointers.into_iter().enumerate() {
            if let Some(place) = place {
                call.args[index] = u64::from(offset(place));
                call.pointers |= 1 << index;
            }
        }
        let mut relocations = self.relocations;
        relocations.sort_by_key(|&(at, _)| at);
        for (at, to) in relocations {
            call.input[at as usize..at as usize + 8].copy_from_slice(&u64::from(offset(to)).to_le_bytes());
            call.relocations.push(at);
        }
        let mut targets = Vec::with_capacity(self.outs.len());
        for (place, len, when, target) in self.outs {
            call.outs.push(Out { offset: offset(place), len, when });
            targets.push(target);
        }
        let landing = Landing::new(call.outs.iter().copied().zip(targets).collect(), self.chunk, self.gives);
        Ok((call, landing))
    }
}
