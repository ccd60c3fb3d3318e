//! From one host to another, directly.
//!
//! The old host sends the process itself; the keeper only introduces the two, gives the word, and lets the calls go to
//! the new one. What a failure means is the [`Giver`]'s to say, which the keeper is for the old host.

use super::depart::Host;
use super::homecoming::{Way, quiesce};
use super::requests::Asker;
use super::{Goal, Keeper, Place, Trip, away};
use crate::config::Paths;
use crate::fault::{self, Point};
use crate::journey::transfer::expect;
use crate::journey::{Error, Outlet, Result};
use migration::{Giver, GiverInput, Owner, Word};
use model::{Destination, NodeId, ReasonCode};
use net::Line;
use std::sync::Arc;
use std::time::Instant;
use wire::session::{self, Kind, MoveOn, Role, Sent};

impl Keeper {
    /// Moves a process, which is alone there, from its host to another. `None` if it has just forked and is alone no more:
    /// then it goes on where it was.
    pub(super) fn move_on(&mut self, pid: i32, goal: Goal, asker: &mut Asker) -> Result<Option<Trip>> {
        let Goal { node, address, .. } = goal;
        let begun = Instant::now();
        if self.is_at(node) {
            return Err(super::depart::refusal(ReasonCode::SameNode.into()));
        }
        self.refuse_if_held(pid, Destination::Node(node))?;
        let session = self.offer(pid, goal)?;
        let host = self.connect(pid, goal, session, Role::Keeper { brings: false })?;
        let mut giver = Giver::new(Word::Giver);
        asker.progress("files", 0, 0);
        let Place::Away(away) = &mut self.place else { return Err(Error::Ending) };
        // The files go first, while the process runs.
        away.notices.watch(pid)?;
        let order = MoveOn { node, address, session };
        away.calls.send(Kind::MoveOn, &[&session::encode(&order)])?;
        loop {
            let ready = expect(&mut &away.notices, Kind::MoveOn, "the word that the files are there")?;
            // The answer to an earlier order, which was given up, is passed over.
            if session::decode::<MoveOn>(&ready.payload)?.0.session == session {
                break;
            }
        }
        let paths = &self.setup.config.paths;
        fault::at(paths, Point::KeeperMoveOn)?;
        let frozen_at = Instant::now();
        let stir = quiesce(away, pid, Way::Onward)?;
        // What it made before it stood still is known by now.
        self.hear_news();
        let alone = self.members.len() == 1;
        let Place::Away(away) = &mut self.place else { return Err(Error::Ending) };
        if !alone {
            away.calls.send(Kind::Resume, &[])?;
            return Ok(None);
        }
        let is_stopped = stir.end();
        giver.step(GiverInput::Stopped)?;
        away.calls.scan()?;
        // Signals that are caught from here on wait in the slots for the new host.
        let mut old = away.calls.disconnect().ok_or(Error::Ending)?;
        old.put(Kind::Flushed, &[])?;
        let paths = &self.setup.config.paths;
        let quiesced = fault::at(paths, Point::KeeperOnQuiesced);
        let handed = quiesced
            .and_then(|()| hand_over((paths, pid, is_stopped), &mut giver, away, node, &mut old, host));
        if let Some(member) = self.members.get_mut(&pid)
            && handed.is_ok()
        {
            member.is_known_as(is_stopped);
        }
        match handed {
            Ok(bytes) => Ok(Some(Trip { freeze: frozen_at.elapsed(), total: begun.elapsed(), bytes })),
            Err(error) => {
                let owner = giver.fail();
                if owner == Owner::Here {
                    old.put(Kind::Resume, &[])?;
                    away.calls.connect(Some(old));
                }
                let has_ended = owner != Owner::Here && self.was_its_end(pid, &error);
                Err(self.abide_by(pid, owner, (error, has_ended)))
            }
        }
    }
}

/// Lets the new host have the process. After a failure the giver knows whose it is.
fn hand_over(
    (paths, pid, is_stopped): (&Paths, i32, bool),
    giver: &mut Giver,
    away: &mut away::Away,
    node: NodeId,
    old: &mut Line,
    host: Host,
) -> Result<u64> {
    let sent = expect(&mut &away.notices, Kind::Sent, "the word that all was sent")?;
    let bytes = session::decode::<Sent>(&sent.payload)?.0.bytes;
    fault::at(paths, Point::KeeperOnSent)?;
    let (mut line, mut reader) = host.attach()?;
    giver.step(GiverInput::Prepared)?;
    fault::at(paths, Point::KeeperOnPrepared)?;
    let commit = away.calls.commit(pid, is_stopped);
    giver.step(GiverInput::Speak)?;
    line.put(Kind::Commit, &[&session::encode(&commit)])?;
    fault::at(paths, Point::KeeperOnCommitted)?;
    expect(&mut reader, Kind::Started, "the word that the remote runs")?;
    giver.step(GiverInput::Started)?;
    fault::at(paths, Point::KeeperOnStarted)?;
    let _ = old.put(Kind::Release, &[]);
    away.calls.connect(Some(line));
    away.notices = away::listen(pid, Arc::clone(&away.calls), reader)?;
    away.node = node;
    Ok(bytes)
}
