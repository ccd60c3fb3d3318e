//! Requests about automatic moves: what this node measures, how fast it is, and which processes may be moved.

use super::Daemon;
use super::balancing::Told;
use super::requests::PEER_ANSWER;
use super::tools::{failed, failed_for};
use crate::journal;
use crate::measure::Speed;
use crate::newcomers::{self, Birth, Newcomer};
use crate::peers;
use crate::rules::{Subject, standing};
use control::{Answer, Event, FailureKind, KeeperStatus, What};
use model::limits::SPEEDS;
use model::{ProcessId, ReasonCode, Standing, Stay};
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use wire::peer::{Binding, Bonds, PeerRequest};

impl Daemon {
    pub(super) fn load(&self) -> Result<Answer, Event> {
        let load = self.gauge.load(self.own());
        load.map(Answer::Load)
            .ok_or_else(|| failed(FailureKind::Broken, "this node has not measured itself yet; try again"))
    }

    pub(super) fn tune(&self, uid: u32, speed: Option<u32>) -> Result<Answer, Event> {
        if uid != 0 {
            return Err(failed(FailureKind::Forbidden, "only root can tune the node"));
        }
        if self.setup.config.node.speed.is_some() {
            let text = format!("the speed is set in {}: 'speed' in [node]", self.setup.config_path.display());
            return Err(failed(FailureKind::Refused, &text));
        }
        let speed = match speed {
            Some(speed) if !SPEEDS.contains(&speed) => {
                let text = format!("a speed is from {} to {}", SPEEDS.start(), SPEEDS.end());
                return Err(failed(FailureKind::BadRequest, &text));
            }
            Some(speed) => Speed::set(speed),
            None => Speed::measure(),
        };
        tracing::info!(speed = speed.speed, source = ?speed.source, "the speed of this node's CPUs");
        let text = format!("speed {}", speed.speed);
        let kept = self.gauge.tune(speed, &self.setup.config.paths);
        kept.map_err(|error| {
            failed(FailureKind::Broken, &format!("cannot keep the speed: failed to {error}"))
        })?;
        journal::note(&self.setup.config.paths, journal::now(What::Switched).cause(text));
        self.load()
    }

    pub(super) fn stand(self: &Arc<Daemon>, uid: u32, pid: i32, more: &Standing) -> Result<Answer, Event> {
        let process = self.existing(pid)?;
        if !process.belongs_to(uid) {
            let text = format!("process {pid} is not yours: its owner or root can lock it");
            return Err(failed_for(ReasonCode::NotOwner, FailureKind::Forbidden, &text));
        }
        let binds = more.hold.is_some() || more.mask.is_some() || more.decay.is_some();
        let away = if binds { self.bound_away() } else { Vec::new() };
        let standing = standing::amend(&self.setup.config.paths, process.id, more);
        self.tell_hosts(away);
        let failed = |error| failed(FailureKind::Broken, &format!("cannot note that: failed to {error}"));
        Ok(Answer::Stands { pid, standing: standing.map_err(failed)? })
    }

    /// What binds the processes that are away, and where they are.
    fn bound_away(&self) -> Vec<(KeeperStatus, Bonds)> {
        let away = self.agents.keepers().into_iter().filter(|status| status.node != self.own());
        away.map(|status| {
            let bonds = standing::bonds(&self.setup.config.paths, status.process);
            (status, bonds)
        })
        .collect()
    }

    /// Tells the hosts of processes, for which something else holds now than before, what that is. One that does not hear it
    /// wishes in vain.
    fn tell_hosts(self: &Arc<Daemon>, before: Vec<(KeeperStatus, Bonds)>) {
        let changed: Vec<(KeeperStatus, Bonds)> = before
            .into_iter()
            .map(|(status, before)| {
                let bonds = standing::bonds(&self.setup.config.paths, status.process);
                (bonds != before, status, bonds)
            })
            .filter_map(|(changed, status, bonds)| changed.then_some((status, bonds)))
            .collect();
        if changed.is_empty() {
            return;
        }
        let daemon = self.clone();
        std::thread::spawn(move || {
            for (status, bonds) in changed {
                let pid = status.process.pid;
                let request = PeerRequest::Bind(Binding { pid, bonds });
                let told = daemon.peer(status.node).map(|peer| {
                    let address = peer.resolve()?;
                    peers::ask(&daemon.setup, address, status.node, &request, PEER_ANSWER)
                });
                if let Some(Err(error)) = told {
                    tracing::debug!(pid, node = %status.node, %error, "its host does not know what binds it");
                }
            }
        });
    }

    /// Why a process is not moved automatically; nothing for one that is gone.
    pub(super) fn stays(&self, pid: i32) -> Vec<Stay> {
        let Some(subject) = Subject::read(pid) else { return Vec::new() };
        let standing = standing::of(&self.setup.config.paths, subject.id);
        self.rules.stays(&subject, &standing)
    }

    fn born(&self, newcomer: &Newcomer) {
        self.counts.newcomers.add();
        let paths = &self.setup.config.paths;
        let process = ProcessId { pid: newcomer.pid, start_ticks: newcomer.start_ticks };
        if let Err(error) = standing::settle(paths, process) {
            tracing::warn!(pid = newcomer.pid, %error, "what it inherits is not kept");
        }
        if newcomer.birth == Birth::Program {
            self.gauge.clear(newcomer.pid);
            self.place(process, newcomer.executable.as_deref());
        }
    }

    /// A new program is smallest now: whoever may be moved at all is shown to the broker.
    fn place(&self, process: ProcessId, executable: Option<&str>) {
        let Some(balancing) = self.balancing.get().filter(|_| self.setup.config.balance.automatic) else {
            return;
        };
        let Some(subject) = Subject::read(process.pid).filter(|subject| subject.id == process) else {
            return;
        };
        let standing = standing::of(&self.setup.config.paths, process);
        if !self.setup.config.guests.is_guest(subject.uid) && !self.rules.keeps(&subject, &standing) {
            let mask = standing.mask.unwrap_or_default();
            balancing.tell(Told::Begun {
                process,
                mask,
                executable: executable.unwrap_or_default().to_owned(),
            });
        }
    }
}

/// Sees new programs, and writes down what they inherit.
pub(super) fn watch_births(daemon: &Arc<Daemon>) {
    let daemon: Weak<Daemon> = Arc::downgrade(daemon);
    std::thread::spawn(move || {
        let outcome = newcomers::watch(&mut |newcomer| match daemon.upgrade() {
            Some(daemon) => {
                daemon.born(newcomer);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        });
        if let Err(error) = outcome {
            tracing::error!(%error, "new programs are not seen");
        }
    });
}
