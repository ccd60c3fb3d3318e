//! Socket addresses and options: outputs whose length goes in and out beside them.

use crate::draft::{ADDRESSES_END, Draft, Place, Stop};
use crate::gather::read;
use crate::memory::{Memory, read_all, read_some, u32_at};
use syscalls::command::socket_option_is_plain;
use wire::{OutLen, When};

/// Bytes of the largest socket address (`struct sockaddr_storage`).
pub(crate) const ADDRESS_BYTES_MAX: u32 = 128;
/// Bytes of a socket option's value, at most.
const OPTION_BYTES_MAX: u32 = 64 << 10;
const POINTERS_INSIDE: Stop = Stop("nobody knows what this socket option takes");

/// Carries the length that belongs to an output: its place and value. `None`: left to the kernel.
fn length(
    draft: &mut Draft,
    index: usize,
    max: u32,
    memory: &impl Memory,
) -> Result<Option<(u32, u32)>, Stop> {
    let address = draft.args[index];
    if address == 0 || address >= ADDRESSES_END {
        return Ok(None);
    }
    let Some(bytes) = read_all(memory, address, 4) else {
        draft.unreadable(index);
        return Ok(None);
    };
    // A negative length is an error to the kernel and no room to us.
    let len = u32_at(&bytes, 0);
    let room = if (len as i32) < 0 { 0 } else { len.min(max) };
    let place = draft.input(&bytes)?;
    if room < len && room > 0 {
        draft.patch(place, 0, &room.to_le_bytes());
    }
    draft.point(index, place);
    draft.out(place, OutLen::Fixed(4), When::Success, address);
    let Place::Input(at) = place else { return Ok(None) };
    Ok(Some((at, room)))
}

/// An address that comes back.
pub(crate) fn address(draft: &mut Draft, index: usize, len: usize, memory: &impl Memory) -> Result<(), Stop> {
    let to = draft.args[index];
    let Some((at, max)) = length(draft, len, ADDRESS_BYTES_MAX, memory)? else {
        draft.unreadable(index);
        return Ok(());
    };
    let place = draft.room(max)?;
    draft.out(place, OutLen::Word { at, max }, When::Success, to);
    draft.point(index, place);
    Ok(())
}

/// The value of an option going in. Level and name are the arguments before.
pub(crate) fn option_in(
    draft: &mut Draft,
    index: usize,
    len: usize,
    memory: &impl Memory,
) -> Result<(), Stop> {
    check_option(draft, index)?;
    let bytes = draft.args[len] as u32;
    // A negative length: the kernel refuses it before it reads.
    if (bytes as i32) < 0 {
        draft.unreadable(index);
        return Ok(());
    }
    if bytes > OPTION_BYTES_MAX {
        return Err(POINTERS_INSIDE);
    }
    read(draft, index, bytes, memory).map(drop)
}

/// The value of an option coming back. Some options read it first.
pub(crate) fn option_out(
    draft: &mut Draft,
    index: usize,
    len: usize,
    memory: &impl Memory,
) -> Result<(), Stop> {
    check_option(draft, index)?;
    let to = draft.args[index];
    let Some((at, max)) = length(draft, len, OPTION_BYTES_MAX, memory)? else {
        draft.unreadable(index);
        return Ok(());
    };
    let mut value = read_some(memory, to, max as usize);
    value.resize(max as usize, 0);
    let place = draft.input(&value)?;
    draft.out(place, OutLen::Word { at, max }, When::Success, to);
    draft.point(index, place);
    Ok(())
}

fn check_option(draft: &Draft, index: usize) -> Result<(), Stop> {
    let plain = socket_option_is_plain(draft.args[index - 2] as u32, draft.args[index - 1] as u32);
    if plain { Ok(()) } else { Err(POINTERS_INSIDE) }
}
