//! What nodes tell each other of their load, and how they agree where a process goes.
//!
//! ```text
//! spread:     Gossip                                       to somebody by chance, unasked
//! agreement:  Ask ► Tell · Reserve ► Granted | Refused · Release | Froze
//! idle:       Invite                                       "I have room: look at me"
//! ```
//!
//! One datagram holds one message in postcard. All numbers are whole, so that none of them can be "not a number"; what
//! is absurd nevertheless is judged by whoever uses it (`balance::entry`). No time of day travels: an entry tells how old
//! it is, and every holder adds the time it has held it, so no clock needs to agree with another.

use bitflags::bitflags;
use model::NodeId;
use model::limits::{BALANCE_BYTES_MAX, GOSSIP_ENTRIES_MAX, MOVES_PER_MINUTE_MAX};
pub use model::limits::{LOAD_PER_CPU, SPEED_STANDARD};
use serde::{Deserialize, Serialize};

/// Classes of age in [`Entry::ages`].
pub const AGE_CLASSES: usize = 12;

bitflags! {
    /// What the administrator of a node has switched.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(from = "u8", into = "u8")]
    pub struct Switches: u8 {
        /// Nothing moves away from here by itself.
        const STAY = 1;
        /// Processes of this node do not move away by themselves; guests may.
        const LSTAY = 2;
        /// No guest may come.
        const BLOCK = 4;
        /// Neither tells nor gathers load information.
        const QUIET = 8;
        /// Takes no guests at all, by configuration.
        const NO_GUESTS = 16;
    }
}

impl From<u8> for Switches {
    /// Unknown bits are of a newer version and mean nothing here.
    fn from(bits: u8) -> Switches {
        Switches::from_bits_truncate(bits)
    }
}

impl From<Switches> for u8 {
    fn from(switches: Switches) -> u8 {
        switches.bits()
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who.
    pub node: NodeId,
    /// Which start of its daemon: larger is later.
    pub boot: u32,
    /// Milliseconds since that start, by its own clock: of two entries of one start the larger is newer.
    pub stamp_ms: u64,
    /// Speed of one of its CPUs; the standard CPU has [`SPEED_STANDARD`].
    pub speed: u32,
    /// Hundredths of CPUs that it may use.
    pub cpus_hundredths: u32,
    /// Hundredths of runnable processes, those that are promised room included.
    pub jobs_hundredths: u32,
    /// Load as it is told to others, [`LOAD_PER_CPU`] for each standard CPU that is busy: rises at once, falls slowly.
    pub load: u32,
    /// All its memory, kB.
    pub memory_total_kb: u64,
    /// Memory that nothing uses, not even a cache, kB.
    pub memory_free_kb: u64,
    /// Memory that processes may fill, kB.
    pub memory_usable_kb: u64,
    /// Memory that processes have filled, swapped out or been promised, kB: may be more than is usable.
    pub memory_taken_kb: u64,
    /// Thousandths of the time in which everybody waited for memory (PSI `full avg10`).
    pub pressure_thousandths: u16,
    /// Thousandths of the CPUs in use.
    pub utilisation_thousandths: u16,
    /// Milliseconds until its link to the others is free of moves that have begun.
    pub link_busy_ms: u32,
    /// What its administrator has switched.
    pub switches: Switches,
    /// Class of its CPU's features: nodes of one class can run each other's processes.
    pub cpu_class: u64,
    /// Kernel release as three numbers in one: `major << 24 | minor << 16 | patch`.
    pub kernel: u32,
    /// Guests on it.
    pub guests: u16,
    /// Guests it takes at most.
    pub guests_max: u16,
    /// How many of its processes have used how much CPU time, by classes (`balance::ages`).
    pub ages: [u8; AGE_CLASSES],
}

/// An entry that is passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aged {
    /// Milliseconds since its node made it, as far as its holders could tell.
    pub age_ms: u32,
    /// It.
    pub entry: Entry,
}

/// What is to happen to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Errand {
    /// It is to start there, while it is tiny.
    Start,
    /// It is to move there, with its memory.
    Move,
}

/// The process that is to go somewhere, as far as the other node must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// What is to happen to it.
    pub errand: Errand,
    /// Its home.
    pub home: NodeId,
    /// Memory it has, or is expected to have, kB.
    pub memory_kb: u64,
    /// CPU time it has used, milliseconds of the standard CPU.
    pub age_ms: u64,
    /// Hundredths of CPUs it keeps busy.
    pub width_hundredths: u32,
    /// Milliseconds since its latest moves: at most [`MOVES_PER_MINUTE_MAX`], none older than a minute.
    pub moves_ms: Vec<u32>,
}

/// A node's state as somebody saw it who wants room there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// [`Entry::jobs_hundredths`].
    pub jobs_hundredths: u32,
    /// [`Entry::memory_taken_kb`].
    pub memory_taken_kb: u64,
}

/// Why room is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// More is going on here than was seen: decide again.
    Changed,
    /// No guests now.
    NoGuests,
    /// As many guests as may be.
    Full,
    /// The link is busy with other moves for too long.
    LinkBusy,
    /// It has moved too often lately.
    Restless,
}

/// What is said in one datagram. The number of a question is its asker's, and its answers carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Load information, the sender's own first.
    Gossip(Vec<Aged>),
    /// How are you really? A process looks for a place.
    Ask {
        /// The question.
        number: u32,
    },
    /// To [`Message::Ask`].
    Tell {
        /// The question.
        number: u32,
        /// The truth of this moment.
        entry: Entry,
    },
    /// Keep room for this process.
    Reserve {
        /// The question.
        number: u32,
        /// What the decision rests on.
        seen: Seen,
        /// The process.
        job: Brief,
        /// For how long, milliseconds.
        hold_ms: u32,
    },
    /// Room is kept.
    Granted {
        /// The question.
        number: u32,
        /// For how long, milliseconds.
        hold_ms: u32,
    },
    /// It is not.
    Refused {
        /// The question.
        number: u32,
        /// Why.
        why: Refusal,
        /// The truth of this moment.
        entry: Entry,
    },
    /// The room is not needed after all.
    Release {
        /// The question.
        number: u32,
    },
    /// The sender has room and nothing to do.
    Invite {
        /// Its state.
        entry: Entry,
    },
    /// A process has come by this promise; only who moved it knows how long it stood still for that.
    Froze {
        /// The question.
        number: u32,
        /// For how long, milliseconds.
        frozen_ms: u32,
    },
}

/// A datagram holds no message of this protocol, or one beyond its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalanceError {
    /// Larger than [`BALANCE_BYTES_MAX`].
    #[error("handle a message about load of {0} bytes: it is too large")]
    TooLarge(usize),
    /// Its bytes mean nothing.
    #[error("understand a message about load: {0}")]
    Malformed(#[from] postcard::Error),
    /// Bytes follow it.
    #[error("understand a message about load: {0} bytes follow it")]
    Trailing(usize),
    /// A list in it is longer than allowed.
    #[error("accept a message about load: a list of {0} is too long")]
    TooMany(usize),
}

/// The bytes of a message.
pub fn encode(message: &Message) -> Result<Vec<u8>, BalanceError> {
    check(message)?;
    let mut buffer = [0; BALANCE_BYTES_MAX];
    match postcard::to_slice(message, &mut buffer) {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(postcard::Error::SerializeBufferFull) => {
            Err(BalanceError::TooLarge(postcard::experimental::serialized_size(message)?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The message in a datagram.
pub fn decode(bytes: &[u8]) -> Result<Message, BalanceError> {
    if bytes.len() > BALANCE_BYTES_MAX {
        return Err(BalanceError::TooLarge(bytes.len()));
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => check(&message).map(|()| message),
        (_, rest) => Err(BalanceError::Trailing(rest.len())),
    }
}

fn check(message: &Message) -> Result<(), BalanceError> {
    let (length, max) = match message {
        Message::Gossip(entries) => (entries.len(), GOSSIP_ENTRIES_MAX),
        Message::Reserve { job, .. } => (job.moves_ms.len(), MOVES_PER_MINUTE_MAX),
        _ => return Ok(()),
    };
    if length > max { Err(BalanceError::TooMany(length)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest entry of a node that exists: what its operating system counts, and no absurd numbers.
    fn large() -> Entry {
        Entry {
            node: NodeId::try_from(60_000).unwrap(),
            boot: u32::MAX,
            stamp_ms: 1 << 40,
            speed: 200_000,
            cpus_hundredths: 100_000,
            jobs_hundredths: 1_000_000,
            load: 2_000_000,
            memory_total_kb: 1 << 32,
            memory_free_kb: 1 << 32,
            memory_usable_kb: 1 << 32,
            memory_taken_kb: 1 << 32,
            pressure_thousandths: 1000,
            utilisation_thousandths: 1000,
            link_busy_ms: 60_000,
            switches: Switches::all(),
            cpu_class: u64::MAX,
            kernel: 7 << 24 | 12 << 16 | 200,
            guests: 4096,
            guests_max: 4096,
            ages: [255; AGE_CLASSES],
        }
    }

    #[test]
    fn the_largest_message_fits_into_a_datagram() {
        let aged = Aged { age_ms: 60_000, entry: large() };
        let message = Message::Gossip(vec![aged.clone(); GOSSIP_ENTRIES_MAX]);
        let bytes = encode(&message).unwrap();
        assert_eq!(decode(&bytes), Ok(message));
        let absurd = Entry { memory_total_kb: u64::MAX, memory_free_kb: u64::MAX, ..large() };
        let absurd = Message::Gossip(vec![Aged { age_ms: u32::MAX, entry: absurd }; GOSSIP_ENTRIES_MAX]);
        let bytes = postcard::to_stdvec(&absurd).unwrap().len();
        assert!(bytes > BALANCE_BYTES_MAX);
        assert_eq!(encode(&absurd), Err(BalanceError::TooLarge(bytes)));
        let more = Message::Gossip(vec![aged; GOSSIP_ENTRIES_MAX + 1]);
        assert_eq!(encode(&more), Err(BalanceError::TooMany(GOSSIP_ENTRIES_MAX + 1)));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let brief = Brief {
            errand: Errand::Move,
            home: NodeId::try_from(3).unwrap(),
            memory_kb: 1 << 20,
            age_ms: 12_000,
            width_hundredths: 100,
            moves_ms: vec![100, 2000],
        };
        let seen = Seen { jobs_hundredths: 300, memory_taken_kb: 1 << 22 };
        let reserve = Message::Reserve { number: 7, seen, job: brief, hold_ms: 10_000 };
        for message in [reserve, Message::Refused { number: 7, why: Refusal::Changed, entry: large() }] {
            let mut bytes = encode(&message).unwrap();
            for end in 0..bytes.len() {
                assert!(decode(&bytes[..end]).is_err());
            }
            for index in 0..bytes.len() {
                for value in 0..=255 {
                    let mut changed = bytes.clone();
                    changed[index] = value;
                    let _ = decode(&changed);
                }
            }
            bytes.push(0);
            assert_eq!(decode(&bytes), Err(BalanceError::Trailing(1)));
        }
        assert!(decode(&vec![0; BALANCE_BYTES_MAX + 1]).is_err());
    }
}
