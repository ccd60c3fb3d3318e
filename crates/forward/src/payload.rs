//! Bulk data: what is read and written, in one piece or in many.

use crate::CHUNK_BYTES;
use crate::draft::{ADDRESSES_END, Draft, Place, Stop, UNREADABLE};
use crate::gather::{MEMORY_ENDS, check_end};
use crate::landing::{Chunk, GoOn, Segment};
use crate::memory::{Memory, read_all, read_some, u64_at};
use syscalls::Way;
use wire::OutLen;

/// Segments of one vector, at most (`UIO_MAXIOV`).
pub(crate) const SEGMENTS_MAX: u64 = 1024;
/// Bytes of one `struct iovec`.
const SEGMENT_BYTES: u32 = 16;

/// More than any kernel takes: it says what it thinks of it.
pub(crate) const TOO_MUCH: Stop = Stop("a length of it is negative or very large");

/// Data to be written. Some files take what can be read of it, others nothing, and others do not even look: where not
/// all can be read, home decides.
pub(crate) fn send(draft: &mut Draft, index: usize, len: usize, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index].saturating_add(draft.done);
    let wanted = draft.args[len].saturating_sub(draft.done);
    if (wanted as i64) < 0 {
        return Err(TOO_MUCH);
    }
    let asked = wanted.min(CHUNK_BYTES);
    let data = read_all(memory, address, asked as usize).ok_or(MEMORY_ENDS)?;
    if asked < wanted {
        draft.chunk = Some(Chunk { asked, wanted, go_on: GoOn::Always });
    }
    draft.args[len] = data.len() as u64;
    draft.gives = data.len() as u64;
    let place = draft.input(&data)?;
    draft.point(index, place);
    Ok(())
}

/// Room for data to be read.
pub(crate) fn receive(draft: &mut Draft, index: usize, len: usize, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index].saturating_add(draft.done);
    let wanted = draft.args[len].saturating_sub(draft.done);
    if (wanted as i64) < 0 {
        return Err(TOO_MUCH);
    }
    let asked = wanted.min(CHUNK_BYTES);
    check_end(memory, address, asked)?;
    if asked < wanted {
        draft.chunk = Some(Chunk { asked, wanted, go_on: GoOn::IfSeekable });
    }
    draft.args[len] = asked;
    let place = draft.room(asked as u32)?;
    let segment = Segment { address: Some(address), len: asked as u32 };
    draft.payload(place, OutLen::Result { unit: 1, max: asked as u32 }, vec![segment]);
    draft.point(index, place);
    Ok(())
}

/// An argument that is a vector.
pub(crate) fn vector(
    draft: &mut Draft,
    index: usize,
    count: usize,
    way: Way,
    memory: &impl Memory,
) -> Result<(), Stop> {
    if draft.args[count] > SEGMENTS_MAX {
        return Err(TOO_MUCH);
    }
    let Some(packed) = pack(draft, draft.args[index], draft.args[count], way, CHUNK_BYTES, memory)? else {
        draft.unreadable(index);
        return Ok(());
    };
    if let Some(room) = packed.room {
        draft.payload(room, OutLen::Result { unit: 1, max: packed.bytes }, packed.segments);
    }
    draft.args[count] = u64::from(packed.count);
    draft.point(index, packed.place);
    Ok(())
}

/// A vector in the area.
pub(crate) struct Packed {
    /// The array.
    pub(crate) place: Place,
    /// Its elements.
    pub(crate) count: u32,
    /// Where received data will be, in one piece.
    pub(crate) room: Option<Place>,
    /// Where it goes.
    pub(crate) segments: Vec<Segment>,
    /// Bytes of all elements.
    pub(crate) bytes: u32,
}

/// Packs a vector, or its first `budget` bytes. The elements stay as they are, for some files treat them one by one;
/// but what they point to lies in one piece, so that one output rule is enough. `None`: it cannot be read.
pub(crate) fn pack(
    draft: &mut Draft,
    address: u64,
    count: u64,
    way: Way,
    budget: u64,
    memory: &impl Memory,
) -> Result<Option<Packed>, Stop> {
    let Some(array) = read_all(memory, address, (count * u64::from(SEGMENT_BYTES)) as usize) else {
        return Ok(None);
    };
    let list = Elements::read(&array, draft.done, budget)?;
    if list.asked < list.wanted {
        let go_on = if way == Way::Send { GoOn::Always } else { GoOn::IfSeekable };
        draft.chunk = Some(Chunk { asked: list.asked, wanted: list.wanted, go_on });
    }
    match way {
        Way::Send => pack_data(draft, &list.elements, memory),
        Way::Receive => pack_room(draft, &list.elements),
    }
    .map(Some)
}

/// Elements of a vector: address and length.
struct Elements {
    elements: Vec<(u64, u64)>,
    asked: u64,
    wanted: u64,
}

impl Elements {
    /// Skips `done` bytes and takes at most `budget`.
    fn read(array: &[u8], mut done: u64, budget: u64) -> Result<Elements, Stop> {
        let mut list = Elements { elements: Vec::new(), asked: 0, wanted: 0 };
        for element in array.chunks_exact(SEGMENT_BYTES as usize) {
            let (base, len) = (u64_at(element, 0), u64_at(element, 8));
            if (len as i64) < 0 {
                return Err(TOO_MUCH);
            }
            let skipped = done.min(len);
            done -= skipped;
            let (base, len) = (base.saturating_add(skipped), len - skipped);
            list.wanted = list.wanted.saturating_add(len);
            let now = len.min(budget - list.asked);
            // An empty element travels too, unless it is what skipping or cutting left.
            if now > 0 || (len == 0 && skipped == 0) {
                list.elements.push((base, now));
            }
            list.asked += now;
        }
        Ok(list)
    }
}

fn pack_data(draft: &mut Draft, elements: &[(u64, u64)], memory: &impl Memory) -> Result<Packed, Stop> {
    let mut data = Vec::new();
    let mut parts: Vec<(u64, Option<u32>)> = Vec::new();
    for &(base, len) in elements {
        let bytes = if len == 0 { Vec::new() } else { read_some(memory, base, len as usize) };
        let short = bytes.len() < len as usize;
        if bytes.is_empty() && short {
            // At the very beginning the kernel shall see it, later it ends the data.
            if data.is_empty() {
                parts.push((len, None));
            }
            break;
        }
        parts.push((bytes.len() as u64, Some(data.len() as u32)));
        data.extend_from_slice(&bytes);
        if short {
            break;
        }
    }
    if data.len() < elements.iter().map(|&(_, len)| len as usize).sum() {
        draft.chunk = None;
    }
    draft.gives = data.len() as u64;
    let base = draft.input(&data)?;
    let place = array(draft, base, &parts)?;
    Ok(Packed {
        place,
        count: parts.len() as u32,
        room: None,
        segments: Vec::new(),
        bytes: data.len() as u32,
    })
}

fn pack_room(draft: &mut Draft, elements: &[(u64, u64)]) -> Result<Packed, Stop> {
    let bytes = elements.iter().map(|&(_, len)| len as u32).sum();
    let room = draft.room(bytes)?;
    let mut parts = Vec::new();
    let mut segments = Vec::new();
    let mut at = 0;
    for &(base, len) in elements {
        let bad = len > 0 && (base == 0 || base >= ADDRESSES_END);
        parts.push((len, (!bad).then_some(at)));
        segments.push(Segment { address: (!bad).then_some(base), len: len as u32 });
        at += len as u32;
    }
    let place = array(draft, room, &parts)?;
    Ok(Packed { place, count: parts.len() as u32, room: Some(room), segments, bytes })
}

/// Writes the array: lengths, and where in `base` each begins; `None` for what cannot be reached.
fn array(draft: &mut Draft, base: Place, parts: &[(u64, Option<u32>)]) -> Result<Place, Stop> {
    let mut bytes = Vec::with_capacity(parts.len() * SEGMENT_BYTES as usize);
    for &(len, _) in parts {
        bytes.extend_from_slice(&UNREADABLE.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
    }
    let place = draft.input(&bytes)?;
    for (index, &(_, at)) in parts.iter().enumerate() {
        if let Some(at) = at {
            draft.relocate(place, index as u32 * SEGMENT_BYTES, base.plus(at));
        }
    }
    Ok(place)
}
