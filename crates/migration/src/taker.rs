//! The side that gets the process.
//!
//! ```text
//!                 complete          word
//! Word::Giver:  ┌──────────► Ready ──────┐
//!       Filling ┤                        ├► Running
//! Word::Taker:  └──────────► Taken ──────┘
//!                   word       │  complete
//!
//! Filling, Ready ──failed──► Dropped          Taken ──failed──► Lost
//! ```
//!
//! A new body is built beside the old one and waits for the word. At home there is only one: the deputy has to be emptied
//! before it can be filled, and from that moment, which is the word, there is nothing to go back to.

use crate::{OutOfPlace, Owner, Word};

/// How far the taker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakerPhase {
    /// The process is arriving.
    Filling,
    /// All of it is here and waits for the giver's word.
    Ready,
    /// The word is given, and not all of it is here: the window.
    Taken,
    /// It runs here, or may.
    Running,
    /// Something failed before the word: what is here is nothing.
    Dropped,
    /// Something failed in the window.
    Lost,
}

impl TakerPhase {
    /// All phases by name, for faults in tests.
    pub const ALL: [(&str, TakerPhase); 6] = [
        ("taker-filling", TakerPhase::Filling),
        ("taker-ready", TakerPhase::Ready),
        ("taker-taken", TakerPhase::Taken),
        ("taker-running", TakerPhase::Running),
        ("taker-dropped", TakerPhase::Dropped),
        ("taker-lost", TakerPhase::Lost),
    ];

    /// Its name in [`TakerPhase::ALL`].
    pub fn name(self) -> &'static str {
        TakerPhase::ALL[self as usize].0
    }
}

/// What happens to a taker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakerInput {
    /// All of the process is here and in its place.
    Complete,
    /// The word: the giver's, or this side's own, said before anything is changed that cannot be undone.
    Word,
}

impl TakerInput {
    fn name(self) -> &'static str {
        match self {
            TakerInput::Complete => "complete",
            TakerInput::Word => "word",
        }
    }
}

/// The machine of the side that gets a process.
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    word: Word,
    phase: TakerPhase,
}

impl Taker {
    /// A taker that has nothing yet.
    pub fn new(word: Word) -> Taker {
        Taker { word, phase: TakerPhase::Filling }
    }

    /// How far it is.
    pub fn phase(&self) -> TakerPhase {
        self.phase
    }

    /// Who owns the process from now on.
    pub fn step(&mut self, input: TakerInput) -> Result<Owner, OutOfPlace> {
        use TakerPhase::{Filling, Ready, Running, Taken};
        self.phase = match (self.phase, input, self.word) {
            (Filling, TakerInput::Complete, Word::Giver) => Ready,
            (Ready, TakerInput::Word, Word::Giver) => Running,
            (Filling, TakerInput::Word, Word::Taker) => Taken,
            (Taken, TakerInput::Complete, Word::Taker) => Running,
            (phase, ..) => return Err(OutOfPlace { input: input.name(), phase: phase.name() }),
        };
        Ok(self.owner())
    }

    /// Something failed here, the giver refused, or the connection is lost: who owns the process then?
    pub fn fail(&mut self) -> Owner {
        use TakerPhase::{Dropped, Filling, Lost, Ready, Running, Taken};
        self.phase = match self.phase {
            Filling | Ready | Dropped => Dropped,
            Taken | Lost => Lost,
            Running => Running,
        };
        self.owner()
    }

    /// Who owns the process as far as is known here.
    pub fn owner(&self) -> Owner {
        use TakerPhase::{Dropped, Filling, Lost, Ready, Running, Taken};
        match self.phase {
            Filling | Ready | Dropped => Owner::There,
            Taken | Lost => Owner::Unknown,
            Running => Owner::Here,
        }
    }
}
