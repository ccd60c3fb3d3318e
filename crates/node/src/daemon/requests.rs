//! What tools ask, and the answers.

use super::tools::{failed, failed_for};
use super::{Daemon, lines};
use crate::agents::{self, Conversation};
use crate::eligibility::{self, Whereabouts};
use crate::process::Process;
use crate::{Error, history, peers};
use control::{
    AgentRequest, Answer, Event, FailureKind, GuestRow, KeeperStatus, Location, ProcessRow, ProcessState,
    Request, Sake, WardenStatus,
};
use model::limits::PEER_ANSWER_SECONDS;
use model::{Destination, NodeId, Reason, ReasonCode, Reasons, Reservation};
use std::sync::Arc;
use std::time::Duration;

pub(super) const PEER_ANSWER: Duration = Duration::from_secs(PEER_ANSWER_SECONDS);

/// A keeper whose process is at home ends, maybe just when it is asked; its successor is new.
const KEEPERS_TRIED: usize = 3;

/// Whether an agent took the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Yes,
    No,
}

/// Whose wish a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Somebody's.
    People,
    /// The cluster's own, for the load; maybe with room that was promised.
    Cluster(Option<Reservation>),
}

/// Where the lines of an answer go; it fails when the tool has left.
pub(super) type Out<'a> = dyn FnMut(&Event) -> Result<(), Error> + 'a;

impl Daemon {
    /// Answers one request of a user.
    pub(super) fn answer(
        self: &Arc<Daemon>,
        uid: u32,
        request: Request,
        out: &mut Out<'_>,
    ) -> Result<(), Error> {
        let answer = match request {
            Request::Migrate { pid, to } => return self.migrate(uid, pid, to, Wish::People, out),
            Request::Expel { pid, home } => return self.expel(uid, pid, home, out),
            Request::Where { pid } => self.locate(pid),
            Request::Why { pid } => self.why(pid),
            Request::Ps => Ok(self.processes()),
            Request::Nodes => Ok(Answer::Nodes { nodes: self.nodes() }),
            Request::Counts => Ok(Answer::Counts { counts: self.counts.all() }),
            Request::Find { name } => self.find(&name),
            Request::RotateKey => self.rotate_key(uid),
            Request::Leave => return self.leave(uid, out),
            Request::Load => self.load(),
            Request::Tune { speed } => self.tune(uid, speed),
            Request::Stand { pid, standing } => self.stand(uid, pid, &standing),
            Request::Switch { switch, on } => self.switch(uid, switch, on),
            Request::Decay { rates } => self.set_decay(uid, rates),
            Request::NodeStanding => Ok(Answer::NodeStanding(self.node_standing())),
            Request::ExpelAll => self.expel_all(uid),
            Request::BringAll => self.bring_all(uid),
            Request::Best { among } => self.best(&among),
            Request::Log { since_ms, pid, after, book } => self.log(since_ms, pid, (book, after)),
            Request::Fate { process } => self.fate(process),
        };
        out(&answer.map_or_else(|failure| failure, |answer| Event::Done { answer }))
    }

    fn rotate_key(&self, uid: u32) -> Result<Answer, Event> {
        if uid != 0 {
            return Err(failed(FailureKind::Forbidden, "only root can change the cluster key"));
        }
        let key = self.discovery.rotate().map_err(|error| {
            failed(FailureKind::Broken, &format!("the cluster key stays as it is: failed to {error}"))
        })?;
        self.discovery.begin();
        let (told, missed) = self.hand_out_key(&key);
        tracing::info!(generation = key.generation(), ?told, ?missed, "a new cluster key was handed out");
        Ok(Answer::KeyRotated { generation: key.generation(), told, missed })
    }

    pub(super) fn existing(&self, pid: i32) -> Result<Process, Event> {
        Process::read(pid).ok_or_else(|| {
            let message = if pid <= 0 {
                format!("{pid} is not a pid")
            } else {
                format!("no process has the pid {pid} here")
            };
            failed_for(ReasonCode::NoSuchProcess, FailureKind::NotFound, &message)
        })
    }

    /// The keeper that keeps this very process.
    fn keeper_status(&self, process: &Process) -> Option<KeeperStatus> {
        self.agents.keeper_of(process.id).map(|(_, status)| status)
    }

    /// What is known of this very process: by its keeper, or from before it came home.
    fn last_status(&self, process: &Process) -> Option<KeeperStatus> {
        self.keeper_status(process).or_else(|| history::of(&self.setup.config.paths, process.id))
    }

    pub(super) fn guests(&self) -> Vec<WardenStatus> {
        self.agents.wardens().into_iter().map(|(_, status)| status).collect()
    }

    fn locate(&self, pid: i32) -> Result<Answer, Event> {
        let process = self.existing(pid)?;
        let status = self.last_status(&process);
        Ok(Answer::Where(Location {
            pid,
            home: self.own(),
            node: status.as_ref().map_or(self.own(), |status| status.node),
            moves: status.map_or(0, |status| status.moves),
        }))
    }

    fn why(&self, pid: i32) -> Result<Answer, Event> {
        let process = self.existing(pid)?;
        let status = self.last_status(&process);
        let reasons =
            eligibility::of_process(&self.setup, &process, self.whereabouts(status.as_ref()), &self.guests());
        Ok(Answer::Why {
            reasons,
            home_comings: status.map(|status| status.home_comings).unwrap_or_default(),
            stays: self.stays(pid),
        })
    }

    fn whereabouts(&self, status: Option<&KeeperStatus>) -> Whereabouts {
        match status {
            Some(status) if status.node != self.own() => Whereabouts::Away,
            _ => Whereabouts::Home,
        }
    }

    fn processes(&self) -> Answer {
        let mut known = self.agents.keepers();
        let kept: Vec<_> = known.iter().map(|status| status.process).collect();
        let at_home = history::all(&self.setup.config.paths).into_iter();
        known.extend(at_home.filter(|status| !kept.contains(&status.process)));
        let own = known.into_iter().filter_map(|status| {
            let process = Process::read(status.process.pid).filter(|process| process.id == status.process)?;
            let away = status.node != self.own();
            Some(ProcessRow {
                pid: process.id.pid,
                name: process.name,
                uid: process.uids[0],
                home: self.own(),
                node: status.node,
                state: match (status.moving, away) {
                    (true, _) => ProcessState::Moving,
                    (false, true) => ProcessState::Away,
                    (false, false) => ProcessState::Home,
                },
                moves: status.moves,
                memory_bytes: if away { status.memory_bytes } else { process.memory_bytes },
                cpu_ms: process.cpu_ms + status.away_cpu_ms,
                forwarded: status.forwarded,
            })
        });
        let guests = self.guests().into_iter().map(|status| GuestRow {
            pid: status.pid,
            local_pid: status.local_pid,
            name: status.name,
            home: status.home,
            memory_bytes: status.memory_bytes,
            cpu_ms: status.cpu_ms,
        });
        let (mut own, mut guests): (Vec<_>, Vec<_>) = (own.collect(), guests.collect());
        own.sort_by_key(|row| row.pid);
        guests.sort_by_key(|row| (row.home, row.pid));
        Answer::Processes { own, guests }
    }

    fn find(&self, name: &str) -> Result<Answer, Event> {
        if name == self.setup.config.node.name {
            return Ok(Answer::Found { node: self.own() });
        }
        let found = self
            .peers()
            .into_iter()
            .find(|peer| peer.name == name)
            .map(|peer| Answer::Found { node: peer.id });
        found.ok_or_else(|| {
            let text = format!("no node is called '{name}'; 'om nodes' lists them");
            failed_for(ReasonCode::UnknownNode, FailureKind::NotFound, &text)
        })
    }

    /// Moves a process of this node, for a user, or for root where the cluster itself wishes it.
    pub(super) fn migrate(
        &self,
        uid: u32,
        pid: i32,
        to: Destination,
        wish: Wish,
        out: &mut Out<'_>,
    ) -> Result<(), Error> {
        for _ in 0..KEEPERS_TRIED {
            match self.prepare(uid, pid, to, wish) {
                Ok((mut conversation, request)) => {
                    if relay(&mut conversation, &request, out)? == Heard::Yes {
                        return Ok(());
                    }
                }
                Err(failure) => {
                    if wish == Wish::People {
                        self.note_refusal(pid, &failure);
                    }
                    return out(&failure);
                }
            }
        }
        out(&failed(
            FailureKind::Broken,
            &format!("no keeper of process {pid} stays; the daemon's log says why"),
        ))
    }

    /// All checks before anything is touched; then the keeper, ready to be asked.
    fn prepare(
        &self,
        uid: u32,
        pid: i32,
        to: Destination,
        wish: Wish,
    ) -> Result<(Conversation, AgentRequest), Event> {
        let (sake, reservation) = match wish {
            Wish::People => (Sake::People, None),
            Wish::Cluster(reservation) => (Sake::Load, reservation),
        };
        let process = self.existing(pid)?;
        if !process.belongs_to(uid) {
            let text = format!("process {pid} is not yours: its owner or root can move it");
            return Err(failed_for(ReasonCode::NotOwner, FailureKind::Forbidden, &text));
        }
        let wanted = match to {
            Destination::Home => self.own(),
            Destination::Node(node) => node,
        };
        let status = self.keeper_status(&process);
        let whereabouts = self.whereabouts(status.as_ref());
        let mut reasons = eligibility::of_process(&self.setup, &process, whereabouts, &self.guests());
        if status.as_ref().map_or(self.own(), |status| status.node) == wanted {
            reasons.push(ReasonCode::SameNode.into());
        }
        if status.is_some_and(|status| status.moving) {
            // Where it will be, and what else is found in it now, is the move's own doing.
            reasons = vec![ReasonCode::Busy.into()];
        }
        let request = if wanted == self.own() {
            AgentRequest::BringHome { pid, sake }
        } else {
            match self.fit(wanted, &process, whereabouts) {
                Ok(address) => AgentRequest::MoveTo { pid, node: wanted, address, reservation, sake },
                Err(more) => {
                    reasons.extend(more);
                    // Not used, since there is a reason.
                    AgentRequest::BringHome { pid, sake }
                }
            }
        };
        if !reasons.is_empty() {
            let message = format!("process {pid} cannot move to {to}: {}", Reasons(reasons.clone()));
            let unknown = reasons.iter().all(|reason| reason.code == ReasonCode::UnknownNode);
            let kind = if unknown { FailureKind::NotFound } else { FailureKind::Refused };
            return Err(Event::Failed { kind, message, reasons });
        }
        let ended = || {
            let text = format!("process {pid} has just ended");
            failed_for(ReasonCode::NoSuchProcess, FailureKind::NotFound, &text)
        };
        if process.has_ended() {
            return Err(ended());
        }
        let conversation = self.agents.keeper(process.id).map_err(|error| {
            // A keeper whose process has ended ends, too.
            if process.has_ended() {
                return ended();
            }
            failed(FailureKind::Broken, &format!("cannot reach the keeper of process {pid}: {error}"))
        })?;
        Ok((conversation, request))
    }

    /// Whether a node exists, lives and could take the process; its address.
    fn fit(
        &self,
        node: NodeId,
        process: &Process,
        whereabouts: Whereabouts,
    ) -> Result<std::net::SocketAddr, Vec<Reason>> {
        let peer = self
            .peer(node)
            .ok_or_else(|| vec![Reason::new(ReasonCode::UnknownNode, format!("node {node}"))])?;
        let dead = |error: Error| vec![Reason::new(ReasonCode::DeadNode, format!("failed to {error}"))];
        let address = peer.resolve().map_err(dead)?;
        let (info, _) = peers::info(&self.setup, address, node, PEER_ANSWER).map_err(dead)?;
        let reasons = eligibility::of_node(&info, &self.cpu, process, whereabouts);
        if reasons.is_empty() { Ok(address) } else { Err(reasons) }
    }

    fn expel(&self, uid: u32, pid: i32, home: NodeId, out: &mut Out<'_>) -> Result<(), Error> {
        if uid != 0 {
            return out(&failed(FailureKind::Forbidden, "only root can send guests home"));
        }
        let found =
            self.agents.wardens().into_iter().find(|(_, guest)| guest.pid == pid && guest.home == home);
        let Some((path, _)) = found else {
            let text = format!("no guest here has the pid {pid} on node {home}; 'om ps' lists them");
            return out(&failed(FailureKind::NotFound, &text));
        };
        let left = || failed(FailureKind::NotFound, &format!("guest {pid} of node {home} has just left"));
        match agents::connect(&path) {
            Ok(stream) => match relay(
                &mut Conversation::new(stream),
                &AgentRequest::BringHome { pid, sake: Sake::People },
                out,
            )? {
                Heard::Yes => Ok(()),
                Heard::No => out(&left()),
            },
            Err(_) => out(&left()),
        }
    }
}

/// Asks an agent and hands its lines to the tool, until it is done. An agent that hangs up without a word has not taken
/// the request, and one that says so has done only its part of it: then the next one is to be asked. Every other request
/// gets its last line.
pub(super) fn relay(
    conversation: &mut Conversation,
    request: &AgentRequest,
    out: &mut Out<'_>,
) -> Result<Heard, Error> {
    let broken =
        |text: &str| failed(FailureKind::Broken, &format!("{text}; the process goes on where it was"));
    if agents::send(conversation, request).is_err() {
        return Ok(Heard::No);
    }
    let mut heard = Heard::No;
    loop {
        let event = match lines::read(conversation) {
            Ok(Some(line)) => serde_json::from_slice::<Event>(&line)
                .unwrap_or_else(|_| broken("the agent says something that is no answer")),
            Ok(None) if heard == Heard::No => return Ok(Heard::No),
            Ok(None) => broken("the agent ended; the daemon's log says why"),
            Err(Error::System { source, .. })
                if heard == Heard::No && source.kind() == std::io::ErrorKind::ConnectionReset =>
            {
                return Ok(Heard::No);
            }
            Err(error) => broken(&format!("the agent does not answer (failed to {error})")),
        };
        if event == Event::Again {
            return Ok(Heard::No);
        }
        heard = Heard::Yes;
        out(&event)?;
        if !matches!(event, Event::Progress(_) | Event::Said { .. }) {
            return Ok(Heard::Yes);
        }
    }
}
