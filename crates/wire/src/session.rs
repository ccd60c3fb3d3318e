//! Frames of a session: a process on its way, and its calls while it is away.
//!
//! ```text
//! keeper ── Hello(Keeper) ─────────────► warden        one channel as long as the process is there
//! source ── Hello(Source) ─────────────► warden        only when it comes from another host than its home
//!
//! move:   Files ► Missing · FilePart* · ClockProbe ► ClockReading · Embody ► Embodied ·
//!         Image* · Pages* · PagesEnd ► Prepared · Commit ► Started
//! away:   Call ► Reply · Signal ► SignalSeen · Cancel · Action · StopSelf · Die · Wish · Status · Hold
//!         Birth ► Reply · EndThread ► Reply · Exec ► Reply if it failed · Lost · Gone
//! back:   Quiesce ► Quiet · Flushed · (then like a move, towards the keeper) · Release | Resume
//! on:     Quiesce ► Quiet · Flushed · MoveOn · (a move, to the next warden) ► Sent · Release | Resume
//! ```
//!
//! The payload of a frame is a header in postcard, its length before it as a `u32`, and then raw bytes where the kind
//! has any. Numbers of kinds are never used again for something else; 0 and the four largest are those of `net`.

use crate::call::Call;
use model::{NodeId, ProcessId, Session};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

mod files;

pub use files::{FileAnswer, FileEntry, FilePart, FileRequest, Files, SyncOrder, WriteBack};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal,)*) => {
        /// The kind of a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Kind { $($(#[doc = $doc])* $name = $number,)* }

        impl Kind {
            /// The kind of this number.
            pub fn new(number: u16) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// [`Hello`]: who opened this connection.
    Hello = 1,
    /// [`Files`]: files that the image will map.
    Files = 2,
    /// [`Files`]: those that the receiver lacks.
    Missing = 3,
    /// [`FilePart`] and bytes of a file.
    FilePart = 4,
    /// [`Part`] and bytes of an image in postcard.
    Image = 5,
    /// [`Pages`] and their bytes.
    Pages = 6,
    /// No more pages. Empty.
    PagesEnd = 7,
    /// [`Prepared`]: the remote stands ready and has not run.
    Prepared = 8,
    /// [`Commit`]: the remote is to run; from here on it owns the process.
    Commit = 9,
    /// [`Started`]: it runs.
    Started = 10,
    /// [`Refusal`]: it cannot be done; everything stays as it was before.
    Refused = 11,
    /// What do your machine's clocks say? Empty.
    ClockProbe = 12,
    /// [`ClockReading`].
    ClockReading = 13,
    /// [`Embody`]: make what an image can be put into, while the process still runs.
    Embody = 14,
    /// It is made. Empty.
    Embodied = 15,
    /// [`CallHeader`] and the call's input.
    Call = 20,
    /// [`ReplyHeader`] and the bytes that come back.
    Reply = 21,
    /// [`SignalHeader`] and a siginfo of 128 bytes.
    Signal = 22,
    /// [`SignalSeen`].
    SignalSeen = 23,
    /// [`CancelCall`].
    Cancel = 24,
    /// [`Action`]: the program changed what a signal does.
    Action = 25,
    /// [`SignalOrder`]: the deputy is to stop itself by this signal; answered by a [`Kind::Reply`] once it goes on.
    StopSelf = 26,
    /// [`SignalOrder`]: the deputy is to die of this signal.
    Die = 27,
    /// [`WishOf`]: the warden asks that a process be brought home.
    Wish = 28,
    /// [`Status`] of the guest.
    Status = 29,
    /// [`Hold`]: the process is stopped at home, or goes on.
    Hold = 30,
    /// [`FileRequest`]: the guest maps a file that is open at home.
    File = 31,
    /// [`FileAnswer`]; the file's parts went before it if it was to be sent.
    FileIs = 32,
    /// [`BirthOrder`]: a thread makes another one or forks; answered by a [`Kind::Reply`] with the tid.
    Birth = 33,
    /// [`ThreadEnd`]: a thread has ended; answered by a [`Kind::Reply`].
    EndThread = 34,
    /// [`ExecOrder`] and the call's input: the process becomes another program, at home; a [`Kind::Reply`] tells that it
    /// did not.
    Exec = 35,
    /// [`Lost`]: a process has ended here without its home's doing, and others of its family have not.
    Lost = 36,
    /// [`Quiesce`]: a process is to stop for a move; answered by [`Kind::Quiet`] or [`Kind::Stays`], or by nothing if it
    /// ends before.
    Quiesce = 40,
    /// [`Round`]: every thread of it has stopped, no call is under way.
    Quiet = 41,
    /// Every signal caught at home before now has been sent. Empty.
    Flushed = 42,
    /// [`MoveOn`]: to another host; sent back when its files are there.
    MoveOn = 43,
    /// [`Sent`]: all of it has been sent.
    Sent = 44,
    /// The process lives elsewhere now: what is here can be dropped. Empty.
    Release = 45,
    /// The move is off: go on here. Empty.
    Resume = 46,
    /// [`GoneOrder`]: the process needs nothing here any more: at home it is dead, or another program.
    Gone = 47,
    /// [`Stays`]: a process does not stop for a move.
    Stays = 48,
    /// [`WriteBack`] and bytes: what a process wrote to a file that it maps, and that stays at home.
    WriteBack = 49,
    /// [`SyncOrder`]: what was written back is to be on the disk; answered by a [`Kind::Reply`].
    Sync = 50,
    /// [`Which`]: the answer to a [`Kind::Gone`] that asks for it: everything has been written back.
    WrittenBack = 51,
    /// [`Ended`]: the guest is dead on its host, and nobody at home has told it to.
    Ended = 60,
}

/// Version of this protocol.
pub const VERSION: u16 = 6;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The keeper; `brings` tells that the image comes over this connection too.
    Keeper {
        /// The image follows here.
        brings: bool,
    },
    /// Another host's warden, which sends the image.
    Source,
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the sender.
    pub version: u16,
    /// The sender.
    pub role: Role,
    /// The process.
    pub process: ProcessId,
}

/// Bytes of something that is too long for one frame, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The last part.
    pub last: bool,
}

/// Where the bytes of pages belong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// The object of the image that they are pages of; none if they are the process's own.
    pub object: Option<u32>,
    /// Start and length of each stretch: addresses in the process, or offsets in the object.
    pub ranges: Vec<(u64, u64)>,
}

/// A process needs nothing any more where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneOrder {
    /// Its pid at home.
    pub pid: i32,
    /// Its home waits for the word that all it has written to its files is there.
    pub has_files: bool,
}

/// A remote that stands ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Its pid on its host.
    pub local_pid: i32,
}

/// One process of a family, by its pid at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// Its pid.
    pub pid: i32,
}

/// A process of a family that has ended on its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its pid at home.
    pub pid: i32,
    /// Why, in words.
    pub cause: String,
}

/// A process is to stop for a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiesce {
    /// Its pid at home.
    pub pid: i32,
    /// It goes to the host that [`MoveOn`] named last, not home.
    pub onward: bool,
    /// The number of this attempt, by which its answer is known from those of earlier ones that were given up.
    pub round: u32,
}

/// An answer to [`Quiesce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// That of the question.
    pub round: u32,
}

/// A process does not stop for a move, and goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// That of the question.
    pub round: u32,
    /// Why.
    pub refusal: Refusal,
}

/// The word that the remote is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Slots that there are at home, also for threads to come.
    pub slots: u32,
    /// Where its threads are served.
    pub threads: Vec<Seat>,
    /// A signal has stopped it at home: it stands still until it hears otherwise ([`Hold`]).
    pub is_stopped: bool,
}

/// A thread and its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Its tid at home.
    pub tid: i32,
    /// Its slot.
    pub slot: u32,
    /// The number of its next signal.
    pub signals: u32,
}

/// What a thread makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Birth {
    /// Another thread of its process.
    Thread,
    /// A process.
    Process {
        /// The signal that tells the parent of its end; 0 for none.
        exit_signal: u8,
        /// Its parent is the maker's parent (`CLONE_PARENT`).
        sibling: bool,
    },
}

/// A thread makes another one or forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthOrder {
    /// Its slot.
    pub slot: u32,
    /// The request's number in the slot.
    pub seq: u32,
    /// Signals of the slot that the guest has seen.
    pub signals_seen: u32,
    /// The slot of the newborn, which nobody uses.
    pub newborn: u32,
    /// What it makes.
    pub birth: Birth,
}

/// A thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadEnd {
    /// Its slot.
    pub slot: u32,
    /// The request's number in the slot.
    pub seq: u32,
}

/// A process becomes another program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOrder {
    /// The call, as any other.
    pub header: CallHeader,
    /// The thread's signal mask, which the new program inherits.
    pub mask: u64,
}

/// A remote that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its pid on its host.
    pub local_pid: i32,
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Reasons, where they are known as such.
    pub reasons: model::Reasons,
    /// One line otherwise.
    pub message: String,
}

/// The clocks of a machine itself, outside of all time namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: i64,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boottime_ns: i64,
}

/// What is known of a process before it is frozen, and does not change. An image that differs gets another body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embody {
    /// Its pid.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// By how much its clock is ahead of the receiver's machine.
    pub monotonic_ns: i64,
    /// As above.
    pub boottime_ns: i64,
}

/// A call for a deputy thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallHeader {
    /// The thread's slot.
    pub slot: u32,
    /// Its number in the slot, one more than the last one's.
    pub seq: u32,
    /// Signals of the slot that the guest has seen.
    pub signals_seen: u32,
    /// The call, its input left empty: that follows as raw bytes.
    pub call: Call,
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyHeader {
    /// The slot.
    pub slot: u32,
    /// The call's number.
    pub seq: u32,
    /// Its result.
    pub ret: i64,
}

/// A signal that the deputy caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalHeader {
    /// The slot of the thread that caught it.
    pub slot: u32,
    /// Its number in the slot.
    pub number: u32,
}

/// Signals of a slot before `tail` have reached the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSeen {
    /// The slot.
    pub slot: u32,
    /// The number of the next signal.
    pub tail: u32,
}

/// A call to be given up if it still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelCall {
    /// The slot.
    pub slot: u32,
    /// The call's number.
    pub seq: u32,
}

/// A new action of a signal; answered by a [`Kind::Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The slot.
    pub slot: u32,
    /// The request's number in the slot.
    pub seq: u32,
    /// Signals of the slot that the guest has seen.
    pub signals_seen: u32,
    /// The signal.
    pub signal: i32,
    /// Handler, flags, restorer, mask.
    pub action: [u64; 4],
}

/// The deputy is to do something to itself by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalOrder {
    /// The slot.
    pub slot: u32,
    /// The request's number in the slot.
    pub seq: u32,
    /// The signal.
    pub signal: i32,
    /// What the program has set for it: handler, flags, restorer, mask.
    pub action: [u64; 4],
}

/// The warden asks that a process be brought home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishOf {
    /// Its pid at home.
    pub pid: i32,
    /// Why.
    pub wish: Wish,
}

/// Why a process is to be brought home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// A call that runs only there.
    Call {
        /// Its number.
        nr: u32,
    },
    /// The host's administrator, or the host itself, sends it away.
    Expelled,
    /// Somebody at home wants a file that it maps and may change.
    Opened,
    /// A signal that would end it with a core dump.
    Signal {
        /// The signal.
        signal: i32,
    },
}

/// What a guest uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its pid at home.
    pub pid: i32,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// CPU time on this host and on earlier ones, since it left its home, milliseconds.
    pub cpu_ms: u64,
}

/// A guest that has ended on its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why, in one line.
    pub cause: String,
}

/// The process is stopped at home (or goes on): so must the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its pid at home.
    pub pid: i32,
    /// Stopped.
    pub stopped: bool,
}

/// To another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveOn {
    /// The host.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Under which name it expects the process.
    pub session: Session,
}

/// How much was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Bytes of pages.
    pub bytes: u64,
}

/// A frame that is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// The header's bytes, ready to be sent before the raw bytes.
pub fn encode<T: Serialize>(header: &T) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    // Writing to memory fails only for types that serde cannot describe, of which there are none here.
    if let Ok(full) = postcard::to_extend(header, std::mem::take(&mut bytes)) {
        bytes = full;
    }
    let length = (bytes.len() as u32).saturating_sub(4);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The header of a payload, and the raw bytes behind it.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<(T, &[u8]), Malformed> {
    let what = std::any::type_name::<T>();
    let (length, rest) = payload.split_first_chunk::<4>().ok_or(Malformed(what))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (header, raw) = rest.split_at_checked(length).ok_or(Malformed(what))?;
    let (value, left) = postcard::take_from_bytes(header).map_err(|_| Malformed(what))?;
    if left.is_empty() { Ok((value, raw)) } else { Err(Malformed(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_and_its_raw_bytes_come_apart_again() {
        let header = ReplyHeader { slot: 3, seq: 4, ret: -11 };
        let mut payload = encode(&header);
        payload.extend_from_slice(b"raw");
        assert_eq!(decode::<ReplyHeader>(&payload), Ok((header, &b"raw"[..])));
        assert!(decode::<ReplyHeader>(&payload[..5]).is_err());
        assert!(decode::<ReplyHeader>(&[255; 40]).is_err());
    }

    #[test]
    fn kinds_have_one_number_each() {
        let kinds: Vec<Kind> = (0..=u16::MAX).filter_map(Kind::new).collect();
        assert!(kinds.iter().all(|&kind| Kind::new(kind as u16) == Some(kind)));
        assert!(kinds.contains(&Kind::Gone) && kinds.len() >= 30);
    }
}
