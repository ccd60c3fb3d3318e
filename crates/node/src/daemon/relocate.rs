//! Moving a process that runs here, whoever its home is: what balancing decides is carried out here.
//!
//! A process is moved by its home, always: the home has the deputy, the keeper, and the last word. So a host that wants to
//! give a guest away asks the guest's home, which looks whether the guest is there at all, and then does what it would do
//! for `om migrate`.

use super::Daemon;
use super::requests::{Out, Wish};
use crate::rules::standing;
use crate::{Error, peers};
use control::{Answer, Event};
use model::{Destination, Hold, NodeId, Reason, ReasonCode, Reasons, Reservation};
use std::time::Duration;
use wire::peer::{PeerAnswer, PeerRequest, Relocation};

/// How long a home may take to move a guest away: memory of any size goes over the network meanwhile.
const MOVE_PATIENCE: Duration = Duration::from_secs(600);

impl Daemon {
    /// Moves a process that runs on this node; answers how long it stood still. An error is one line for the log: the process goes on here, or has ended.
    pub(super) fn relocate(
        &self,
        home: NodeId,
        pid: i32,
        to: NodeId,
        reservation: Option<Reservation>,
    ) -> Result<Duration, String> {
        if home == self.own() {
            return self.relocate_own(pid, to, reservation).map_err(|reasons| reasons.to_string());
        }
        let request = PeerRequest::Relocate(Relocation { pid, to, reservation });
        let peer = self.peer(home).ok_or_else(|| format!("its home, node {home}, is not known"))?;
        let asked = peer
            .resolve()
            .and_then(|address| peers::ask(&self.setup, address, home, &request, MOVE_PATIENCE));
        match asked {
            Ok(PeerAnswer::Relocated { freeze_us }) => Ok(Duration::from_micros(freeze_us)),
            Ok(PeerAnswer::Refused(reasons)) => Err(reasons.to_string()),
            Ok(_) => Err("its home answers something else".to_owned()),
            Err(error) => Err(format!("failed to ask its home, node {home}: {error}")),
        }
    }

    /// A host wishes that its guest be somewhere else.
    pub(super) fn answer_relocation(&self, peer: NodeId, wish: &Relocation) -> PeerAnswer {
        let is_there =
            self.agents.keepers().iter().any(|status| status.process.pid == wish.pid && status.node == peer);
        if !is_there {
            let text = format!("process {} of this node is not a guest of node {peer}", wish.pid);
            return PeerAnswer::Refused(Reasons(vec![Reason::new(ReasonCode::NoSuchProcess, text)]));
        }
        if let Some(why) = self.binds(wish) {
            return PeerAnswer::Refused(Reasons(vec![Reason::new(ReasonCode::Refused, why)]));
        }
        match self.relocate_own(wish.pid, wish.to, wish.reservation) {
            Ok(freeze) => {
                PeerAnswer::Relocated { freeze_us: u64::try_from(freeze.as_micros()).unwrap_or(u64::MAX) }
            }
            Err(reasons) => PeerAnswer::Refused(reasons),
        }
    }

    /// What people have said about a process of this home, which its host does not know.
    fn binds(&self, wish: &Relocation) -> Option<&'static str> {
        let process = crate::process::Process::read(wish.pid)?.id;
        let standing = standing::of(&self.setup.config.paths, process);
        if standing.hold == Some(Hold::Locked) {
            return Some("somebody has locked it to where it is");
        }
        let allowed = standing.mask.is_none_or(|mask| mask.allows(wish.to, self.own()));
        (!allowed).then_some("its mask does not allow that node")
    }

    fn relocate_own(
        &self,
        pid: i32,
        to: NodeId,
        reservation: Option<Reservation>,
    ) -> Result<Duration, Reasons> {
        let to = if to == self.own() { Destination::Home } else { Destination::Node(to) };
        let mut outcome = Err(Reasons(vec![Reason::new(ReasonCode::Refused, "nobody has answered")]));
        let mut hear = |event: &Event| -> Result<(), Error> {
            match event {
                Event::Done { answer: Answer::Moved { freeze_us, .. } } => {
                    outcome = Ok(Duration::from_micros(*freeze_us));
                }
                Event::Failed { reasons, message, .. } => {
                    outcome = Err(if reasons.is_empty() {
                        Reasons(vec![Reason::new(ReasonCode::Refused, message.clone())])
                    } else {
                        Reasons(reasons.clone())
                    });
                }
                _ => {}
            }
            Ok(())
        };
        let out: &mut Out<'_> = &mut hear;
        let moved = self.migrate(0, pid, to, Wish::Cluster(reservation), out);
        moved.map_err(|error| Reasons(vec![Reason::new(ReasonCode::Refused, error.to_string())]))?;
        outcome
    }
}
