//! `struct msghdr`: a name, a vector, control data. Descriptors in control data are home's, and travel verbatim.

use crate::CHUNK_BYTES;
use crate::draft::{Draft, Place, Stop, UNREADABLE};
use crate::landing::{Segment, Target};
use crate::memory::{Memory, read_all, u32_at, u64_at};
use crate::payload::{self, SEGMENTS_MAX};
use crate::socket::ADDRESS_BYTES_MAX;
use syscalls::Way;
use wire::{OutLen, When};

// Offsets of the fields, and the structure's size.
const NAME: u32 = 0;
const NAME_LEN: u32 = 8;
const VECTOR: u32 = 16;
const VECTOR_LEN: u32 = 24;
const CONTROL: u32 = 32;
const CONTROL_LEN: u32 = 40;
const FLAGS: u32 = 48;
const HEADER_BYTES: u32 = 56;
// `struct mmsghdr` has the message's length behind it.
const DONE_LEN: u32 = 56;
const ENTRY_BYTES: u32 = 64;

/// Control data that travels, bytes, at most.
const CONTROL_BYTES_MAX: u64 = 64 << 10;
/// Messages of one call, at most: each takes four outs, and a call may do fewer than it was asked for.
const MESSAGES_MAX: u64 = 15;

/// Where the payload's length stands after the call.
#[derive(Clone, Copy)]
enum Counted {
    /// It is the result.
    ByResult,
    /// In the entry; this is the entry's number.
    InEntry(i64),
}

/// The message of `sendmsg` and `recvmsg`.
pub(crate) fn one(draft: &mut Draft, index: usize, way: Way, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index];
    let Some(header) = read_all(memory, address, HEADER_BYTES as usize) else {
        draft.unreadable(index);
        return Ok(());
    };
    let place = draft.input(&header)?;
    draft.point(index, place);
    header_parts(draft, &header, place, address, way, CHUNK_BYTES, Counted::ByResult, memory)?;
    let speaks = u64_at(&header, NAME as usize) != 0 || u64_at(&header, CONTROL as usize) != 0;
    if way == Way::Send && draft.chunk.is_some() && draft.done == 0 && speaks {
        return Err(Stop("its message is very long"));
    }
    Ok(())
}

/// The messages of `sendmmsg` and `recvmmsg`.
pub(crate) fn many(
    draft: &mut Draft,
    index: usize,
    count: usize,
    way: Way,
    memory: &impl Memory,
) -> Result<(), Stop> {
    let address = draft.args[index];
    let asked = u64::from(draft.args[count] as u32);
    let taken = asked.min(MESSAGES_MAX);
    let Some(mut entries) = read_all(memory, address, (taken * u64::from(ENTRY_BYTES)) as usize) else {
        draft.unreadable(index);
        return Ok(());
    };
    // A length left from an earlier call must not be taken for one of this.
    for entry in entries.chunks_exact_mut(ENTRY_BYTES as usize) {
        entry[DONE_LEN as usize..DONE_LEN as usize + 4].fill(0);
    }
    draft.args[count] = taken;
    let place = draft.input(&entries)?;
    draft.point(index, place);
    let mut budget = CHUNK_BYTES;
    for (number, entry) in (0..).zip(entries.chunks_exact(ENTRY_BYTES as usize)) {
        let offset = number as u32 * ENTRY_BYTES;
        let (place, address) = (place.plus(offset), address.saturating_add(u64::from(offset)));
        let used = header_parts(draft, entry, place, address, way, budget, Counted::InEntry(number), memory)?;
        draft.gives = 0;
        if draft.chunk.take().is_some() {
            return Err(Stop("its messages are very long"));
        }
        budget -= u64::from(used);
    }
    Ok(())
}

/// What a header points to, and what of it comes back. Answers the payload's bytes.
#[expect(
    clippy::too_many_arguments,
    reason = "a header, where it is on both sides, and how its payload is counted"
)]
fn header_parts(
    draft: &mut Draft,
    header: &[u8],
    place: Place,
    address: u64,
    way: Way,
    budget: u64,
    counted: Counted,
    memory: &impl Memory,
) -> Result<u32, Stop> {
    let word = |at: u32| u64_at(header, at as usize);
    let least = match counted {
        Counted::ByResult => i64::MIN,
        Counted::InEntry(number) => number + 1,
    };
    if word(VECTOR_LEN) > SEGMENTS_MAX {
        return Err(payload::TOO_MUCH);
    }
    if word(CONTROL) != 0 && word(CONTROL_LEN) > CONTROL_BYTES_MAX {
        return Err(Stop("its control data is very long"));
    }
    let name_len = u32_at(header, NAME_LEN as usize);
    let name = Part { at: NAME, address: word(NAME), len: name_len.min(ADDRESS_BYTES_MAX) };
    let control = Part { at: CONTROL, address: word(CONTROL), len: word(CONTROL_LEN) as u32 };
    let name = if (name_len as i32) < 0 { Part { len: 0, ..name } } else { name };
    if way == Way::Send {
        name.send(draft, place, memory)?;
        if draft.done == 0 {
            control.send(draft, place, memory)?;
        } else {
            // It went with the first byte.
            draft.patch(place, CONTROL, &[0; 16]);
        }
    } else {
        comes_back(draft, place, address, counted, least);
        let Place::Input(at) = place else { return Ok(0) };
        name.receive(draft, place, OutLen::Word { at: at + NAME_LEN, max: name.len }, least)?;
        control.receive(draft, place, OutLen::Word64 { at: at + CONTROL_LEN, max: control.len }, least)?;
    }
    if let (Way::Send, Counted::InEntry(_)) = (way, counted) {
        let target = Target { least, ..Target::one(address.saturating_add(u64::from(DONE_LEN)), 4) };
        draft.out_to(place.plus(DONE_LEN), OutLen::Fixed(4), When::Success, target);
    }
    vector(draft, header, place, way, budget, counted, memory)
}

/// The header's vector, and its payload coming back.
fn vector(
    draft: &mut Draft,
    header: &[u8],
    place: Place,
    way: Way,
    budget: u64,
    counted: Counted,
    memory: &impl Memory,
) -> Result<u32, Stop> {
    let (address, count) = (u64_at(header, VECTOR as usize), u64_at(header, VECTOR_LEN as usize));
    let Some(packed) = payload::pack(draft, address, count, way, budget, memory)? else {
        draft.patch(place, VECTOR, &UNREADABLE.to_le_bytes());
        return Ok(0);
    };
    draft.relocate(place, VECTOR, packed.place);
    draft.patch(place, VECTOR_LEN, &u64::from(packed.count).to_le_bytes());
    if let (Some(room), Place::Input(at)) = (packed.room, place) {
        let max = packed.bytes;
        match counted {
            Counted::ByResult => draft.payload(room, OutLen::Result { unit: 1, max }, packed.segments),
            Counted::InEntry(number) => {
                let target = Target { segments: packed.segments, least: number + 1, ..Target::payload() };
                draft.out_to(room, OutLen::Word { at: at + DONE_LEN, max }, When::Success, target);
            }
        }
    }
    Ok(packed.bytes)
}

/// The fields of a header that the kernel writes: the name's length, the control data's length, the flags. They come
/// back in one piece, of which the guest gets only these.
fn comes_back(draft: &mut Draft, place: Place, address: u64, counted: Counted, least: i64) {
    let field = |at: u32, len| Segment { address: Some(address.saturating_add(u64::from(at))), len };
    let gap = |from, to| Segment { address: None, len: to - from };
    let mut segments =
        vec![field(NAME_LEN, 4), gap(NAME_LEN + 4, CONTROL_LEN), field(CONTROL_LEN, 8), field(FLAGS, 4)];
    let mut end = FLAGS + 4;
    if let Counted::InEntry(_) = counted {
        segments.extend([gap(end, DONE_LEN), field(DONE_LEN, 4)]);
        end = DONE_LEN + 4;
    }
    let target = Target { segments, least, ..Target::one(0, 0) };
    draft.out_to(place.plus(NAME_LEN), OutLen::Fixed(end - NAME_LEN), When::Success, target);
}

/// A name or control data.
#[derive(Clone, Copy)]
struct Part {
    /// Where the header points to it.
    at: u32,
    address: u64,
    len: u32,
}

impl Part {
    /// Whether there is nothing to carry. A pointer to nothing is still more than NULL to some calls: it then points
    /// to the header, so that no pointer of the guest reaches the deputy as it is.
    fn is_empty(self, draft: &mut Draft, header: Place) -> bool {
        if self.address != 0 && self.len == 0 {
            draft.relocate(header, self.at, header);
        }
        self.address == 0 || self.len == 0
    }

    fn send(self, draft: &mut Draft, header: Place, memory: &impl Memory) -> Result<(), Stop> {
        if self.is_empty(draft, header) {
            return Ok(());
        }
        match read_all(memory, self.address, self.len as usize) {
            Some(bytes) => {
                let place = draft.input(&bytes)?;
                draft.relocate(header, self.at, place);
            }
            None => draft.patch(header, self.at, &UNREADABLE.to_le_bytes()),
        }
        Ok(())
    }

    fn receive(self, draft: &mut Draft, header: Place, len: OutLen, least: i64) -> Result<(), Stop> {
        if self.is_empty(draft, header) {
            return Ok(());
        }
        let place = draft.room(self.len)?;
        draft.relocate(header, self.at, place);
        draft.out_to(place, len, When::Success, Target { least, ..Target::one(self.address, self.len) });
        Ok(())
    }
}
