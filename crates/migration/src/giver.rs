//! The side that has the process and gives it away.
//!
//! ```text
//!       stopped          prepared          speak           started
//! Whole ───────► Still ───────────► Ready ───────► Given ───────────► Gone
//!   │              │                  │             │ │
//!   └────failed────┴────────┬─────────┘             │ └───failed────► Lost
//!                           ▼                       │
//!                          Kept ◄───returned────────┘ (only if the taker has the word)
//! ```
//!
//! If the taker has the word, `stopped` leads straight to `Given`: from then on the taker may go on with it at any moment.
//! Such a giver that fails at its own work tells the taker and goes on waiting; that is no step. `Kept`, `Gone` and `Lost`
//! are ends: what is said late, of a hand-over that is over, changes nothing.

use crate::{OutOfPlace, Owner, Word};

/// How far the giver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiverPhase {
    /// The process runs here, or may.
    Whole,
    /// It is stopped here and being sent.
    Still,
    /// The taker has all of it and waits for the word.
    Ready,
    /// The word is on its way, or with the taker: the window.
    Given,
    /// The taker runs it.
    Gone,
    /// Something failed before the word, or the taker gave it back: it stays.
    Kept,
    /// Something failed in the window.
    Lost,
}

impl GiverPhase {
    /// All phases by name, for faults in tests.
    pub const ALL: [(&str, GiverPhase); 7] = [
        ("giver-whole", GiverPhase::Whole),
        ("giver-still", GiverPhase::Still),
        ("giver-ready", GiverPhase::Ready),
        ("giver-given", GiverPhase::Given),
        ("giver-gone", GiverPhase::Gone),
        ("giver-kept", GiverPhase::Kept),
        ("giver-lost", GiverPhase::Lost),
    ];

    /// Its name in [`GiverPhase::ALL`].
    pub fn name(self) -> &'static str {
        GiverPhase::ALL[self as usize].0
    }
}

/// What happens to a giver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiverInput {
    /// The process stands still.
    Stopped,
    /// The taker says that it has all of it.
    Prepared,
    /// The word is about to be sent: a sender that fails may still have been heard.
    Speak,
    /// The taker says that it runs there.
    Started,
    /// The taker, who has the word, gives it back.
    Returned,
}

impl GiverInput {
    fn name(self) -> &'static str {
        match self {
            GiverInput::Stopped => "stopped",
            GiverInput::Prepared => "prepared",
            GiverInput::Speak => "speak",
            GiverInput::Started => "started",
            GiverInput::Returned => "returned",
        }
    }
}

/// The machine of the side that gives a process away.
#[derive(Clone, Copy, Debug)]
pub struct Giver {
    word: Word,
    phase: GiverPhase,
}

impl Giver {
    /// A giver whose process runs.
    pub fn new(word: Word) -> Giver {
        Giver { word, phase: GiverPhase::Whole }
    }

    /// How far it is.
    pub fn phase(&self) -> GiverPhase {
        self.phase
    }

    /// Who owns the process from now on.
    pub fn step(&mut self, input: GiverInput) -> Result<Owner, OutOfPlace> {
        use GiverPhase::{Given, Gone, Kept, Ready, Still, Whole};
        self.phase = match (self.phase, input, self.word) {
            (Whole, GiverInput::Stopped, Word::Giver) => Still,
            (Whole, GiverInput::Stopped, Word::Taker) => Given,
            (Still, GiverInput::Prepared, _) => Ready,
            (Ready, GiverInput::Speak, _) => Given,
            (Given, GiverInput::Started, _) => Gone,
            (Given, GiverInput::Returned, Word::Taker) => Kept,
            (phase, ..) => return Err(OutOfPlace { input: input.name(), phase: phase.name() }),
        };
        Ok(self.owner())
    }

    /// Something failed here, the taker refused, or the connection is lost: who owns the process then?
    pub fn fail(&mut self) -> Owner {
        use GiverPhase::{Given, Gone, Kept, Lost, Ready, Still, Whole};
        self.phase = match self.phase {
            Whole | Still | Ready | Kept => Kept,
            Given | Lost => Lost,
            Gone => Gone,
        };
        self.owner()
    }

    /// Who owns the process as far as is known here.
    pub fn owner(&self) -> Owner {
        use GiverPhase::{Given, Gone, Kept, Lost, Ready, Still, Whole};
        match self.phase {
            Whole | Still | Ready | Kept => Owner::Here,
            Given | Lost => Owner::Unknown,
            Gone => Owner::There,
        }
    }
}
