//! `om leave`: guests go home, own processes come home, and then the daemon ends.
//!
//! The other nodes hear of it first and offer nothing any more, so what is sent away does not come back. If somebody cannot
//! go, the node stays, and says who.

use super::Daemon;
use super::requests::{Heard, Out, relay};
use super::tools::failed;
use crate::Error;
use crate::agents;
use crate::discovery::Order;
use control::{AgentRequest, Answer, Event, FailureKind, Sake};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Looks at who is still there: a process may fork, and a move may just be under way.
const ROUNDS: u32 = 5;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);
/// Farewells are said three times, half a second apart.
const FAREWELL: Duration = Duration::from_millis(1600);

/// Somebody who has to go: how he is called, and whom to ask.
struct Traveller {
    text: String,
    pid: i32,
    agent: std::path::PathBuf,
}

impl Daemon {
    pub(super) fn leave(&self, uid: u32, out: &mut Out<'_>) -> Result<(), Error> {
        if uid != 0 {
            return out(&failed(FailureKind::Forbidden, "only root can take a node out of the cluster"));
        }
        {
            // An offer that is being decided on is either taken before, and sent home below, or refused.
            let _guard = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
            if self.leaving.swap(true, Ordering::AcqRel) {
                return out(&failed(FailureKind::Refused, "this node is leaving already"));
            }
        }
        self.discovery.order(Order::Leave);
        tracing::info!("leaving the cluster");
        let outcome = self.empty(out);
        match outcome {
            Ok(Ok((guests, own))) => {
                say(out, "saying farewell")?;
                std::thread::sleep(FAREWELL);
                tracing::info!(guests, own, "left the cluster");
                out(&Event::Done { answer: Answer::Left { guests, own } })?;
                // As a service manager would: the thread that waits for signals ends the daemon.
                kill(Pid::this(), Signal::SIGTERM).map_err(Error::system("end the daemon"))
            }
            Ok(Err(text)) => {
                self.stay();
                out(&failed(FailureKind::Broken, &text))
            }
            Err(error) => {
                // The tool has gone. Whoever breaks it off wants the node to stay.
                self.stay();
                Err(error)
            }
        }
    }

    fn stay(&self) {
        tracing::warn!("staying in the cluster after all");
        self.discovery.order(Order::Stay);
        self.leaving.store(false, Ordering::Release);
    }

    /// Sends everybody where he belongs; how many went, or who could not. The outer error is the tool's.
    fn empty(&self, out: &mut Out<'_>) -> Result<Result<(u32, u32), String>, Error> {
        let (mut guests, mut own) = (0, 0);
        let mut stuck = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                std::thread::sleep(PAUSE);
            }
            stuck.clear();
            let (here, away) = (self.guests_here(), self.own_away());
            if here.is_empty() && away.is_empty() {
                return Ok(Ok((guests, own)));
            }
            for (travellers, count) in [(here, &mut guests), (away, &mut own)] {
                for (at, traveller) in travellers.iter().enumerate() {
                    say(out, &format!("{} ({} of {})", traveller.text, at + 1, travellers.len()))?;
                    match bring_home(&traveller.agent, traveller.pid)? {
                        None => *count += 1,
                        Some(reason) => stuck.push(format!("{}: {reason}", traveller.text)),
                    }
                }
            }
        }
        if stuck.is_empty() && self.guests_here().is_empty() && self.own_away().is_empty() {
            return Ok(Ok((guests, own)));
        }
        stuck.dedup();
        Ok(Err(format!("this node stays in the cluster, as not everybody could go: {}", stuck.join("; "))))
    }

    fn guests_here(&self) -> Vec<Traveller> {
        let guests = self.agents.wardens().into_iter();
        let named = guests.map(|(agent, guest)| Traveller {
            text: format!("sending guest {} of node {} home", guest.pid, guest.home),
            pid: guest.pid,
            agent,
        });
        named.collect()
    }

    fn own_away(&self) -> Vec<Traveller> {
        let away = self.agents.keepers().into_iter().filter(|status| status.node != self.own());
        let named = away.filter_map(|status| {
            let (agent, _) = self.agents.keeper_of(status.process)?;
            let text = format!("bringing process {} home from node {}", status.process.pid, status.node);
            Some(Traveller { text, pid: status.process.pid, agent })
        });
        named.collect()
    }
}

fn say(out: &mut Out<'_>, text: &str) -> Result<(), Error> {
    out(&Event::Said { text: text.to_owned() })
}

/// Has an agent bring a process home; the reason why it could not.
fn bring_home(agent: &Path, pid: i32) -> Result<Option<String>, Error> {
    // Whoever has gone by himself in the meantime is where he should be.
    let Ok(stream) = agents::connect(agent) else { return Ok(None) };
    let mut last = None;
    let mut listen = |event: &Event| {
        last = Some(event.clone());
        Ok(())
    };
    let heard = relay(
        &mut agents::Conversation::new(stream),
        &AgentRequest::BringHome { pid, sake: Sake::People },
        &mut listen,
    )?;
    Ok(match (heard, last) {
        (Heard::Yes, Some(Event::Failed { message, .. })) => Some(message),
        _ => None,
    })
}
