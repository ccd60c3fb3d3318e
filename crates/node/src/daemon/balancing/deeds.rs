//! What the broker decides, done: each move has a thread of its own, for it may take long, and the broker may want only one
//! at a time but starts new programs meanwhile.

use super::{CHANNEL, Told, Worker};
use crate::daemon::Daemon;
use balance::{Action, JobId, Outcome, Ticket};
use model::{NodeId, Reservation};
use std::sync::Arc;
use std::time::Instant;
use wire::balance::Message;

fn reservation(ticket: Option<Ticket>) -> Option<Reservation> {
    ticket.map(|Ticket { asker, number }| Reservation { asker, number })
}

impl Worker {
    pub(super) fn carry_out(&mut self, daemon: &Arc<Daemon>, action: Action) {
        match action {
            Action::Send { to, message } => send(daemon, to, &message),
            Action::Wake { at } => drop(self.wakes.insert(at)),
            Action::Move { id, to, ticket } => self.move_away(daemon, id, to, ticket),
            Action::Start { request, at, ticket } => self.start(daemon, request, at, ticket),
        }
    }

    fn move_away(&self, daemon: &Arc<Daemon>, id: JobId, to: NodeId, ticket: Option<Ticket>) {
        let (daemon, balancing) = (daemon.clone(), self.balancing.clone());
        std::thread::spawn(move || {
            let begun = Instant::now();
            let pid = id.process.pid;
            let outcome = match daemon.relocate(id.home, pid, to, reservation(ticket)) {
                Ok(frozen) => {
                    tracing::info!(pid, home = %id.home, %to, took = ?begun.elapsed(), "balanced");
                    daemon.counts.balanced.add();
                    Outcome::Moved { took_s: begun.elapsed().as_secs_f64(), frozen_s: frozen.as_secs_f64() }
                }
                Err(why) => {
                    tracing::debug!(pid, home = %id.home, %to, why, "not balanced");
                    daemon.counts.balance_failed.add();
                    Outcome::Failed
                }
            };
            balancing.tell(Told::Departed { id, to, outcome });
        });
    }

    /// A new program gets its place. Where it stays, or cannot be moved, it just goes on at home.
    fn start(&mut self, daemon: &Arc<Daemon>, request: u64, at: NodeId, ticket: Option<Ticket>) {
        let Some(process) = self.placed.remove(&request).filter(|_| at != daemon.own()) else { return };
        self.census.starts(JobId { home: self.me, process });
        let (daemon, balancing) = (daemon.clone(), self.balancing.clone());
        std::thread::spawn(move || {
            let pid = process.pid;
            let moved = daemon.relocate(daemon.own(), pid, at, reservation(ticket));
            match &moved {
                Ok(_) => daemon.counts.placed.add(),
                Err(why) => tracing::debug!(pid, %at, why, "it starts at home"),
            }
            balancing.tell(Told::Started { process, at, ticket, moved: moved.is_ok() });
        });
    }
}

/// A message that is lost is asked for again, or its loss is what silence means anyway.
fn send(daemon: &Daemon, to: NodeId, message: &Message) {
    let sent = wire::balance::encode(message).map_err(|error| error.to_string()).and_then(|bytes| {
        daemon.discovery.datagrams().send(to, CHANNEL, &bytes).map_err(|error| error.to_string())
    });
    if let Err(error) = sent {
        tracing::debug!(%to, error, "a message about load was not sent");
    }
}
