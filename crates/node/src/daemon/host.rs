//! Deciding about guests.

use super::Daemon;
use super::balancing::Told;
use crate::fault::{self, Point};
use crate::machine;
use control::Switch;
use model::limits::THREADS_MAX;
use model::{NodeId, Reason, ReasonCode, Reasons, Session};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use wire::peer::{NodeInfo, Offer, PeerAnswer};

impl Daemon {
    /// What this node says of itself.
    pub(super) fn info(&self) -> NodeInfo {
        let memory = machine::memory();
        let guests = self.agents.warden_count() as u32;
        let rules = &self.setup.config.guests;
        NodeInfo {
            name: self.setup.config.node.name.clone(),
            cpus: machine::cpus(),
            memory_bytes: memory.total,
            memory_free_bytes: memory.available.saturating_sub(rules.memory_reserve_mb << 20),
            guests,
            accepts: rules.accept
                && guests < rules.max
                && !self.leaving.load(Ordering::Acquire)
                && !self.switched.is_on(Switch::Block),
            cpu: self.cpu.clone(),
            kernel: machine::kernel(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Takes a guest or refuses it; when it is taken, a warden waits for it.
    pub(super) fn answer_offer(&self, peer: NodeId, offer: &Offer) -> PeerAnswer {
        let _guard = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons = self.reasons_against(peer, offer);
        if fault::at(&self.setup.config.paths, Point::Offer).is_err() {
            reasons.push(Reason::new(ReasonCode::Refused, "a fault on demand"));
        }
        if reasons.is_empty() {
            let session = Session(rand::random());
            match self.agents.start_warden(session, offer.home, offer.process.pid, &offer.name) {
                Ok(()) => {
                    if fault::at(&self.setup.config.paths, Point::Accept).is_err() {
                        return PeerAnswer::Refused(Reasons(reasons));
                    }
                    self.counts.offers_accepted.add();
                    if let Some(balancing) = self.balancing.get() {
                        let (home, pid) = (peer, offer.process.pid);
                        balancing.tell(Told::Bound { home, pid, bonds: offer.bonds.clone() });
                        if let Some(reservation) = offer.reservation {
                            balancing.tell(Told::Expected { home, pid, reservation });
                        }
                    }
                    return PeerAnswer::Accepted { session };
                }
                Err(error) => {
                    tracing::error!(error = %error, "cannot start a warden");
                    reasons
                        .push(Reason::new(ReasonCode::Refused, "it cannot start a warden; its log says why"));
                }
            }
        }
        self.counts.offers_refused.add();
        PeerAnswer::Refused(Reasons(reasons))
    }

    fn reasons_against(&self, peer: NodeId, offer: &Offer) -> Vec<Reason> {
        let rules = &self.setup.config.guests;
        let mut reasons = Vec::new();
        if offer.home != peer {
            reasons.push(Reason::new(
                ReasonCode::Refused,
                format!("node {peer} offers a process of node {}", offer.home),
            ));
        }
        if self.leaving.load(Ordering::Acquire) {
            reasons.push(Reason::new(ReasonCode::Refused, "it is leaving the cluster"));
        }
        if !rules.accept {
            reasons.push(Reason::new(ReasonCode::Refused, "guests.accept = false"));
        }
        if self.switched.is_on(Switch::Block) {
            let reason = "it is blocked ('om node block off' there lets guests in)";
            reasons.push(Reason::new(ReasonCode::Refused, reason));
        }
        if self.agents.warden_count() >= rules.max as usize {
            reasons.push(Reason::new(ReasonCode::Refused, format!("it has {} guests already", rules.max)));
        }
        if offer.threads as usize > THREADS_MAX {
            reasons.push(Reason::new(ReasonCode::TooLarge, format!("{} threads", offer.threads)));
        }
        let missing = self.cpu.missing_for(&offer.cpu);
        if !missing.is_empty() {
            reasons.push(Reason::new(ReasonCode::CpuFeatures, missing.join(", ")));
        }
        let kernel = machine::kernel();
        if !machine::kernel_is_fit(&kernel) {
            let (major, minor) = machine::KERNEL_MIN;
            reasons.push(Reason::new(ReasonCode::Kernel, format!("{kernel}; {major}.{minor} is needed")));
        }
        let free = machine::memory().available.saturating_sub(rules.memory_reserve_mb << 20);
        if offer.memory_bytes > free {
            let need = format!("{} MiB are free, {} needed", free >> 20, offer.memory_bytes >> 20);
            reasons.push(Reason::new(ReasonCode::Memory, need));
        }
        let allowed = rules.memory_max_mb << 20;
        if allowed > 0 && offer.memory_bytes > allowed {
            let need = format!("{} MiB are allowed, {} needed", allowed >> 20, offer.memory_bytes >> 20);
            reasons.push(Reason::new(ReasonCode::Memory, need));
        }
        reasons
    }
}
