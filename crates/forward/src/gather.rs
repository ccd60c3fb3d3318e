//! From a guest's registers and memory to a call that can travel.

use crate::draft::{ADDRESSES_END, Draft, Place, Stop, UNREADABLE};
use crate::landing::{GoOn, Landing, OnFault, Target};
use crate::memory::{Memory, StringFault, read_all, read_some, u32_at, u64_at};
use crate::{CHUNK_BYTES, message, payload, socket};
use syscalls::{Arg, Back, Effect, Family, Route, Row, Span, Special, Way, command};
use wire::{Call, OutLen, When};

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// It travels.
    Call {
        /// To the deputy.
        call: Call,
        /// Stays here, for the answer.
        landing: Landing,
    },
    /// It cannot be carried: the process goes home first. Why, in words.
    GoHome(&'static str),
}

/// Bytes of a path with its NUL, at most (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;
/// Bytes of one argument of a new program, at most (`MAX_ARG_STRLEN`).
const STRING_BYTES_MAX: usize = 128 << 10;
/// Arguments that travel, at most; the words of the environment are counted apart.
const STRINGS_MAX: usize = wire::RELOCATIONS_MAX;
/// Bits of a descriptor set that travel, at most: the kernel's default `fs.nr_open`. It looks at no more than there are
/// descriptors in the deputy's table.
const DESCRIPTORS_MAX: u32 = 1 << 20;
/// `MAX_HANDLE_SZ`.
const HANDLE_BYTES_MAX: u32 = 128;
const WRONG_MASK: Stop = Stop("its signal mask is wrong");
/// Bytes of a signal mask.
const MASK_BYTES: u64 = 8;

/// Gathers a call whose route is home.
pub fn gather(row: &Row, args: [u64; 6], memory: &impl Memory) -> Gathered {
    gather_from(row, args, memory, 0)
}

/// Gathers the rest of a call of which earlier chunks have moved `done` bytes; see [`crate::Chunk`].
pub fn gather_from(row: &Row, args: [u64; 6], memory: &impl Memory, done: u64) -> Gathered {
    // The pid matters to no call that travels.
    if !matches!(
        row.route_of(&args, 0),
        Route::Home | Route::HomeBlocking | Route::Special(Special::Prctl | Special::Exec)
    ) {
        return Gathered::GoHome("this call does not travel");
    }
    // What the table does not name stays behind: it may be anything.
    let mut named = [0; 6];
    named[..row.args.len()].copy_from_slice(&args[..row.args.len()]);
    let mut draft = Draft::new(named, done);
    let drafted = (0..row.args.len()).try_for_each(|index| argument(&mut draft, row, index, memory));
    match drafted.and_then(|()| check_chunk(&mut draft, row, &args)).and_then(|()| draft.finish(row.nr)) {
        Ok((call, landing)) => Gathered::Call { call, landing },
        Err(Stop(why)) => Gathered::GoHome(why),
    }
}

/// The signal mask that the call wants for its time, which the forwarded call does not carry: the guest's own kernel
/// decides about its signals.
pub fn temporary_mask(row: &Row, args: &[u64; 6], memory: &impl Memory) -> Option<u64> {
    let index = row.temporary_mask()?;
    let mut address = args[index];
    if row.args[index] == Arg::MaskPair {
        address = u64_at(&read_all(memory, address, 16)?, 0);
    }
    let bytes = read_all(memory, address, MASK_BYTES as usize).filter(|_| address != 0)?;
    Some(u64_at(&bytes, 0))
}

fn argument(draft: &mut Draft, row: &Row, index: usize, memory: &impl Memory) -> Result<(), Stop> {
    match row.args[index] {
        Arg::Operand(family) => {
            let known = command::command(family, draft.args[index - 1] as u32);
            let unknown = Stop(match family {
                Family::Ioctl => "nobody knows what this ioctl takes",
                Family::Fcntl => "nobody knows what this fcntl takes",
                Family::Prctl => "this prctl changes the process where it is",
            });
            carry(draft, index, known.ok_or(unknown)?.operand, memory)
        }
        arg => {
            check_room(row, arg, draft.args[index], memory)?;
            carry(draft, index, arg, memory)
        }
    }
}

/// Carries one argument of a known kind.
fn carry(draft: &mut Draft, index: usize, arg: Arg, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index];
    match arg {
        Arg::Value | Arg::Fd | Arg::Operand(_) | Arg::Timeout(Span::Milliseconds, _) => {
            return Ok(());
        }
        Arg::Offset => {
            // Below zero it is "the current position", or an error.
            if address as i64 >= 0 {
                draft.args[index] = address.saturating_add(draft.done);
            }
            return Ok(());
        }
        Arg::Gives => {
            draft.gives = address.saturating_sub(draft.done);
            draft.args[index] = draft.gives;
            return Ok(());
        }
        // NULL and addresses of the kernel mean the same at home.
        _ if address == 0 || address >= ADDRESSES_END => return Ok(()),
        _ => {}
    }
    match arg {
        Arg::Value | Arg::Fd | Arg::Operand(_) | Arg::Offset | Arg::Gives => Ok(()),
        // Mostly carried with its output already. Without one the kernel may still write it: no pointer of the guest
        // may reach the deputy as it is.
        Arg::Length if draft.is_carried(index) => Ok(()),
        Arg::Length => change(draft, index, 4, When::Success, OnFault::Fail, memory),
        Arg::Path => path(draft, index, memory),
        Arg::Strings => strings(draft, index, memory),
        Arg::Text => string(draft, index, memory),
        Arg::Send(len) => payload::send(draft, index, usize::from(len), memory),
        Arg::Receive(len) => payload::receive(draft, index, usize::from(len), memory),
        Arg::Vector(count, way) => payload::vector(draft, index, usize::from(count), way, memory),
        Arg::Message(way) => message::one(draft, index, way, memory),
        Arg::Messages(count, way) => message::many(draft, index, usize::from(count), way, memory),
        Arg::Address(len) => socket::address(draft, index, usize::from(len), memory),
        Arg::OptionIn(len) => socket::option_in(draft, index, usize::from(len), memory),
        Arg::OptionOut(len) => socket::option_out(draft, index, usize::from(len), memory),
        Arg::In(bytes) => read(draft, index, bytes, memory).map(drop),
        Arg::InMany { count, each, head } => {
            let bytes = counted(draft.args[usize::from(count)], each, head)?;
            read(draft, index, bytes, memory).map(drop)
        }
        Arg::Out(bytes) => fill(draft, index, bytes, OutLen::Fixed(bytes), memory),
        Arg::OutIfPositive(bytes) => {
            fill(draft, index, bytes, OutLen::Result { unit: bytes, max: bytes }, memory)
        }
        Arg::OutMany { count, each } => {
            let bytes = lowered(draft, usize::from(count), each)?;
            fill(draft, index, bytes, OutLen::Result { unit: each, max: bytes }, memory)
        }
        Arg::OutTyped(len) => typed(draft, index, usize::from(len)),
        Arg::InOut(bytes) => change(draft, index, bytes, When::Success, OnFault::Fail, memory),
        Arg::InOutAlways(bytes) => change(draft, index, bytes, When::Always, OnFault::Fail, memory),
        Arg::InOutMany { count, each } => {
            let bytes = counted(draft.args[usize::from(count)], each, 0)?;
            change(draft, index, bytes, When::Success, OnFault::Fail, memory)
        }
        Arg::Timeout(_, Back::Never) => read(draft, index, 16, memory).map(drop),
        Arg::Timeout(_, Back::Always) => change(draft, index, 16, When::Always, OnFault::Ignore, memory),
        Arg::InSized(standard) => sized(draft, index, standard, memory),
        Arg::InHandle => handle(draft, index, Way::Send, memory),
        Arg::OutHandle => handle(draft, index, Way::Receive, memory),
        Arg::FdSet => fd_set(draft, index, memory),
        Arg::Mask => {
            draft.args[index] = 0;
            let size = draft.args[index + 1];
            if size == MASK_BYTES { Ok(()) } else { Err(WRONG_MASK) }
        }
        Arg::MaskPair => {
            draft.args[index] = 0;
            let pair = read_all(memory, address, 16).ok_or(WRONG_MASK)?;
            let wrong = u64_at(&pair, 0) != 0 && u64_at(&pair, 8) != MASK_BYTES;
            if wrong { Err(WRONG_MASK) } else { Ok(()) }
        }
        Arg::SignalEvent => signal_event(draft, index, memory),
    }
}

/// Bytes of an array of a counted length that must travel as a whole.
fn counted(count: u64, each: u32, head: u32) -> Result<u32, Stop> {
    let bytes = count.checked_mul(u64::from(each)).and_then(|bytes| bytes.checked_add(u64::from(head)));
    let bytes = bytes.filter(|&bytes| bytes <= CHUNK_BYTES);
    bytes.map(|bytes| bytes as u32).ok_or(Stop("an array of it is very long"))
}

/// Bytes of an array whose length may be lowered, which is then done in the arguments as well.
fn lowered(draft: &mut Draft, count: usize, each: u32) -> Result<u32, Stop> {
    let most = CHUNK_BYTES / u64::from(each);
    let asked = draft.args[count];
    if asked > most {
        // To some calls this is a negative number, zero or an error, to others a large one; some want it aligned.
        if asked > i32::MAX as u64 || !asked.is_multiple_of(8) {
            return Err(Stop("a length of it is negative or very large"));
        }
        draft.args[count] = most;
    }
    Ok((draft.args[count] * u64::from(each)) as u32)
}

/// How far the kernel gets where memory ends within an argument, each call decides for itself.
pub(crate) const MEMORY_ENDS: Stop = Stop("its memory ends within an argument");

/// Stops where a range begins in memory that is there, and ends in some that is not.
pub(crate) fn check_end(memory: &impl Memory, address: u64, bytes: u64) -> Result<(), Stop> {
    let Some(last) = bytes.checked_sub(1).map(|more| address.saturating_add(more)) else { return Ok(()) };
    let beyond = last >= ADDRESSES_END;
    // Within a page all of it is there, or nothing.
    let cut = address / 4096 != last / 4096 && read_some(memory, last, 1).is_empty();
    if beyond || cut { Err(MEMORY_ENDS) } else { Ok(()) }
}

/// Stops where the call could not tell what it has made: descriptors would be left that nobody knows.
fn check_room(row: &Row, arg: Arg, address: u64, memory: &impl Memory) -> Result<(), Stop> {
    let (Arg::Out(bytes) | Arg::InOutAlways(bytes)) = arg else { return Ok(()) };
    if !row.has(Effect::Descriptors) || address == 0 || address >= ADDRESSES_END {
        return Ok(());
    }
    let before = read_all(memory, address, bytes as usize).ok_or(MEMORY_ENDS)?;
    // The call is about to write there anyway.
    memory.write(address, &before).map_err(|_| Stop("it may not write where its descriptors are to be told"))
}

/// Bytes that the call reads, all or none.
pub(crate) fn read(
    draft: &mut Draft,
    index: usize,
    bytes: u32,
    memory: &impl Memory,
) -> Result<Option<Place>, Stop> {
    let address = draft.args[index];
    let Some(data) = read_all(memory, address, bytes as usize) else {
        if !read_some(memory, address, 1).is_empty() {
            return Err(MEMORY_ENDS);
        }
        draft.unreadable(index);
        return Ok(None);
    };
    let place = draft.input(&data)?;
    draft.point(index, place);
    Ok(Some(place))
}

/// Bytes that the call only writes.
fn fill(draft: &mut Draft, index: usize, bytes: u32, len: OutLen, memory: &impl Memory) -> Result<(), Stop> {
    check_end(memory, draft.args[index], u64::from(bytes))?;
    let place = draft.room(bytes)?;
    draft.out(place, len, When::Success, draft.args[index]);
    draft.point(index, place);
    Ok(())
}

/// Bytes that the call reads and writes.
fn change(
    draft: &mut Draft,
    index: usize,
    bytes: u32,
    when: When,
    fault: OnFault,
    memory: &impl Memory,
) -> Result<(), Stop> {
    let address = draft.args[index];
    if let Some(place) = read(draft, index, bytes, memory)? {
        draft.out_to(place, OutLen::Fixed(bytes), when, Target { fault, ..Target::one(address, bytes) });
    }
    Ok(())
}

/// A path. Of one that is too long its beginning travels, for the kernel at home to say so when it comes to it.
fn path(draft: &mut Draft, index: usize, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index];
    if memory.read_string(address, PATH_BYTES_MAX) != Err(StringFault::TooLong) {
        return string(draft, index, memory);
    }
    let mut beginning = read_some(memory, address, PATH_BYTES_MAX);
    beginning.push(0);
    let place = draft.input(&beginning)?;
    draft.point(index, place);
    Ok(())
}

fn string(draft: &mut Draft, index: usize, memory: &impl Memory) -> Result<(), Stop> {
    match memory.read_string(draft.args[index], PATH_BYTES_MAX) {
        Ok(mut text) => {
            text.push(0);
            let place = draft.input(&text)?;
            draft.point(index, place);
        }
        Err(StringFault::Fault) => draft.unreadable(index),
        Err(StringFault::TooLong) => return Err(Stop("it has a very long string")),
    }
    Ok(())
}

/// `argv` and `envp`. Whatever is wrong with them, the kernel at home finds the same.
fn strings(draft: &mut Draft, index: usize, memory: &impl Memory) -> Result<(), Stop> {
    const TOO_MANY: Stop = Stop("its arguments do not fit into one message");
    let mut pointers = Vec::new();
    loop {
        let at = draft.args[index].saturating_add(8 * pointers.len() as u64);
        let Some(bytes) = read_all(memory, at, 8) else {
            draft.unreadable(index);
            return Ok(());
        };
        match u64_at(&bytes, 0) {
            0 => break,
            pointer if pointers.len() < STRINGS_MAX => pointers.push(pointer),
            _ => return Err(TOO_MANY),
        }
    }
    let array = draft.input(&vec![0; 8 * (pointers.len() + 1)])?;
    for (number, pointer) in (0u32..).zip(pointers) {
        match memory.read_string(pointer, STRING_BYTES_MAX) {
            Ok(mut text) => {
                text.push(0);
                let place = draft.input(&text)?;
                draft.relocate(array, 8 * number, place);
            }
            Err(StringFault::Fault) => draft.patch(array, 8 * number, &UNREADABLE.to_le_bytes()),
            Err(StringFault::TooLong) => return Err(TOO_MANY),
        }
    }
    draft.point(index, array);
    Ok(())
}

/// `struct msgbuf`: a type, then text.
fn typed(draft: &mut Draft, index: usize, len: usize) -> Result<(), Stop> {
    let address = draft.args[index];
    if (draft.args[len] as i64) < 0 {
        draft.unreadable(index);
        return Ok(());
    }
    let bytes = lowered(draft, len, 1)?;
    let place = draft.room(8 + bytes)?;
    draft.out(place, OutLen::Fixed(8), When::Success, address);
    let text = OutLen::Result { unit: 1, max: bytes };
    draft.out(place.plus(8), text, When::Success, address.saturating_add(8));
    draft.point(index, place);
    Ok(())
}

/// A structure that begins with its size, which comes back when the kernel did not like it.
fn sized(draft: &mut Draft, index: usize, standard: u32, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index];
    let Some(head) = read_all(memory, address, 4) else {
        draft.unreadable(index);
        return Ok(());
    };
    let bytes = match u32_at(&head, 0) {
        0 => standard,
        // Beyond a page the kernel reads no more than the size.
        size => size.clamp(4, 4096),
    };
    if let Some(place) = read(draft, index, bytes, memory)? {
        let target = Target { fault: OnFault::Ignore, ..Target::one(address, 4) };
        draft.out_to(place, OutLen::Fixed(4), When::Always, target);
    }
    Ok(())
}

/// `struct file_handle`: how many bytes, a type, the bytes.
fn handle(draft: &mut Draft, index: usize, way: Way, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index];
    let Some(head) = read_all(memory, address, 8) else {
        draft.unreadable(index);
        return Ok(());
    };
    let body = u32_at(&head, 0).min(HANDLE_BYTES_MAX);
    if way == Way::Send {
        return read(draft, index, 8 + body, memory).map(drop);
    }
    let place = draft.input(&[head, vec![0; body as usize]].concat())?;
    let target = Target { fault: OnFault::FailSuccess, ..Target::one(address, 8) };
    draft.out_to(place, OutLen::Fixed(8), When::Always, target);
    if let Place::Input(at) = place {
        draft.out(place.plus(8), OutLen::Word { at, max: body }, When::Success, address.saturating_add(8));
    }
    draft.point(index, place);
    Ok(())
}

/// A set for `select`. Programs may ask for more bits than they have memory for, as the kernel looks only at bits of
/// descriptors that the table has room for: what cannot be read counts as empty.
fn fd_set(draft: &mut Draft, index: usize, memory: &impl Memory) -> Result<(), Stop> {
    let address = draft.args[index];
    let bits = draft.args[0] as i32;
    if bits <= 0 {
        draft.unreadable(index);
        return Ok(());
    }
    let bytes = bits.cast_unsigned().min(DESCRIPTORS_MAX).div_ceil(64) * 8;
    let mut set = read_some(memory, address, bytes as usize);
    let readable = set.len() as u32;
    if readable == 0 {
        draft.unreadable(index);
        return Ok(());
    }
    set.resize(bytes as usize, 0);
    let place = draft.input(&set)?;
    draft.out(place, OutLen::Fixed(readable), When::Success, address);
    draft.point(index, place);
    Ok(())
}

/// `struct sigevent`: a value (8), a signal (4), how to notify (4), and what only threads need.
fn signal_event(draft: &mut Draft, index: usize, memory: &impl Memory) -> Result<(), Stop> {
    const SIGEV_SIGNAL: u32 = 0;
    const SIGEV_NONE: u32 = 1;
    let Some(event) = read_all(memory, draft.args[index], 64) else {
        draft.unreadable(index);
        return Ok(());
    };
    if ![SIGEV_SIGNAL, SIGEV_NONE].contains(&u32_at(&event, 12)) {
        return Err(Stop("its event goes to one thread"));
    }
    let place = draft.input(&event)?;
    draft.point(index, place);
    Ok(())
}

/// Judges a cut payload by what else the call says.
fn check_chunk(draft: &mut Draft, row: &Row, args: &[u64; 6]) -> Result<(), Stop> {
    const MSG_PEEK: u64 = 0x2;
    const MSG_WAITALL: u64 = 0x100;
    let Some(chunk) = &mut draft.chunk else { return Ok(()) };
    match row.name {
        "sendto" if args[4] != 0 => return Err(Stop("its datagram is very long")),
        "recvfrom" | "recvmsg" => {
            let flags = args[if row.name == "recvfrom" { 3 } else { 2 }];
            // A socket answers what is there, unless it shall wait for all of it.
            if flags & (MSG_PEEK | MSG_WAITALL) == MSG_WAITALL {
                chunk.go_on = GoOn::Always;
            } else {
                draft.chunk = None;
            }
        }
        _ => {}
    }
    Ok(())
}
