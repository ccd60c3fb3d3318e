//! Tortures that share one lab, one after the other: torture wants it for itself.

use crate::Workshop;
use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use torture::{Ground, Plan, Report};

/// The nodes of the lab.
const NODES: u16 = 3;

/// The lab, made for the first of them, and what all of them together did.
pub struct Ordeals {
    letter: char,
    state: Mutex<State>,
}

struct State {
    ground: Option<Ground>,
    moves: u64,
    count: usize,
}

impl Ordeals {
    /// None yet. The letter tells the lab's name from those of other test programs.
    pub const fn new(letter: char) -> Ordeals {
        Ordeals { letter, state: Mutex::new(State { ground: None, moves: 0, count: 0 }) }
    }

    /// Carries out one.
    pub fn torture(&self, plan: &Plan) -> Result<Report> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ground.is_none() {
            let programs = Workshop::open()?.programs.clone();
            let name = format!("{}{}", self.letter, std::process::id());
            state.ground = Some(Ground::up(&name, NODES, Some(programs))?);
        }
        let report = state.ground.as_mut().context("no lab")?.torture(plan, &|_| {})?;
        state.moves += report.moves;
        state.count += 1;
        Ok(report)
    }

    /// Moves that all of them made.
    pub fn moves(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).moves
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Ends the lab, if there is one, and looks at what all of them together have left in it. A test program ends with what
    /// this gives; `conclusion` is that of its trials.
    pub fn end(&self, conclusion: ExitCode) -> ExitCode {
        match self.take_down() {
            Ok(()) => conclusion,
            Err(error) => {
                eprintln!("torture: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn take_down(&self) -> Result<()> {
        let Some(ground) = self.state.lock().unwrap_or_else(PoisonError::into_inner).ground.take() else {
            return Ok(());
        };
        let remains = ground.remains();
        ground.down()?;
        let moves = self.moves();
        println!("torture: {moves} moves in all");
        ensure!(remains.is_empty(), "after {moves} moves there is left:\n{}", remains.join("\n"));
        Ok(())
    }
}
