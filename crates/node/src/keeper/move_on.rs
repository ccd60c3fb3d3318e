//! From one host to another, directly.
//!
//! The old host sends the process itself; the keeper only introduces the two, gives the word, and lets the calls go to
//! the new one. Until the word is given, whatever fails lets the process go on where it is.

use super::homecoming::hear_quiet;
use super::requests::Asker;
use super::{Keeper, Place, Trip, away};
use crate::journey::transfer::expect;
use crate::journey::{Error, Outlet, Result};
use model::{Destination, NodeId, ReasonCode};
use net::{Receiver, Sender};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use wire::session::{self, Commit, Kind, MoveOn, Role, Sent};

impl Keeper {
    /// Moves the process from its host to `node`.
    pub(super) fn move_on(&mut self, node: NodeId, address: SocketAddr, asker: &mut Asker) -> Result<Trip> {
        let begun = Instant::now();
        if matches!(&self.place, Place::Away(away) if away.node == node) {
            return Err(super::depart::refusal(ReasonCode::SameNode.into()));
        }
        self.refuse_if_held(Destination::Node(node))?;
        let session = self.offer(node, address)?;
        let (sender, receiver) = self.connect(node, address, session, Role::Keeper { brings: false })?;
        asker.progress("files", 0, 0);
        let Place::Away(away) = &mut self.place else { return Err(Error::Ending) };
        // The files go first, while the process runs.
        let order = MoveOn { node, address, session };
        away.calls.send(Kind::MoveOn, &[&session::encode(&order)])?;
        expect(&mut &away.notices, Kind::MoveOn, "the word that the files are there")?;
        away.calls.send(Kind::Quiesce, &[])?;
        hear_quiet(away)?;
        let frozen_at = Instant::now();
        away.calls.scan()?;
        // Signals that are caught from here on wait in the slots for the new host.
        let mut old = away.calls.disconnect().ok_or(Error::Ending)?;
        old.put(Kind::Flushed, &[])?;
        match hand_over(away, node, &mut old, sender, receiver) {
            Ok(bytes) => Ok(Trip { freeze: frozen_at.elapsed(), total: begun.elapsed(), bytes }),
            Err(Lost::There(error)) => {
                old.put(Kind::Resume, &[])?;
                away.calls.connect(Some(old));
                Err(error)
            }
            Err(Lost::Both(error)) => {
                self.give_up();
                Err(error)
            }
        }
    }
}

/// How a hand-over failed.
enum Lost {
    /// Before the word: the old host still has the process.
    There(Error),
    /// After it: nobody knows who has it.
    Both(Error),
}

fn hand_over(
    away: &mut away::Away,
    node: NodeId,
    old: &mut Sender,
    mut sender: Sender,
    mut receiver: Receiver,
) -> std::result::Result<u64, Lost> {
    let sent = expect(&mut &away.notices, Kind::Sent, "the word that all was sent");
    let bytes =
        sent.and_then(|frame| Ok(session::decode::<Sent>(&frame.payload)?.0.bytes)).map_err(Lost::There)?;
    expect(&mut receiver, Kind::Prepared, "the word that the remote is ready").map_err(Lost::There)?;
    let commit = Commit { signals: away.calls.signals_sent() };
    sender.put(Kind::Commit, &[&session::encode(&commit)]).map_err(Lost::Both)?;
    expect(&mut receiver, Kind::Started, "the word that the remote runs").map_err(Lost::Both)?;
    let _ = old.put(Kind::Release, &[]);
    away.calls.connect(Some(sender));
    away.notices = away::listen(Arc::clone(&away.calls), receiver).map_err(Lost::Both)?;
    away.node = node;
    Ok(bytes)
}
