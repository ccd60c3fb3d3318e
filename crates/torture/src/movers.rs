//! Those who move the processes of a run about, at random moments, to random places.

use crate::crowd::{Crowd, Member};
use crate::daemon::{Answered, Daemon};
use crate::plan::{MOVERS_MAX, Plan};
use crate::tally::Tally;
use control::{Answer, FailureKind, Request};
use lab::NodeState;
use model::{Destination, NodeId, ReasonCode};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A rest is at most this many times the mean one.
const LONGEST_REST: f64 = 10.0;

/// How far a torture is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since the second run began; nothing during the first.
    pub elapsed: Duration,
    /// Moves so far.
    pub moves: u64,
    /// Refusals so far.
    pub refusals: u64,
    /// Processes of the run.
    pub processes: usize,
}

/// The movers of one torture.
pub(crate) struct Movers<'a> {
    daemon: Daemon,
    crowd: &'a Crowd,
    plan: &'a Plan,
    home: NodeId,
    nodes: Vec<(NodeId, String)>,
    began: Instant,
    tally: Mutex<Tally>,
    /// The processes that a mover has in its hands.
    held: Mutex<BTreeSet<i32>>,
    watch: &'a (dyn Fn(&Progress) + Sync),
    over: Mutex<bool>,
    ended: Condvar,
}

impl<'a> Movers<'a> {
    pub(crate) fn new(
        crowd: &'a Crowd,
        plan: &'a Plan,
        home: &NodeState,
        nodes: &[NodeState],
        watch: &'a (dyn Fn(&Progress) + Sync),
    ) -> Movers<'a> {
        Movers {
            daemon: Daemon::of(home),
            crowd,
            plan,
            home: home.id,
            nodes: nodes.iter().map(|node| (node.id, node.name.clone())).collect(),
            began: Instant::now(),
            tally: Mutex::default(),
            held: Mutex::default(),
            watch,
            over: Mutex::new(false),
            ended: Condvar::new(),
        }
    }

    /// The numbers of the movers, one thread for each.
    pub(crate) fn numbers(&self) -> std::ops::Range<u64> {
        0..u64::from(self.plan.movers.clamp(1, MOVERS_MAX))
    }

    /// Tells every mover that the run is over.
    pub(crate) fn end(&self) {
        *lock(&self.over) = true;
        self.ended.notify_all();
    }

    pub(crate) fn into_tally(self) -> Tally {
        self.tally.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves whatever there is, until the run is over.
    pub(crate) fn roam(&self, number: u64) {
        let mut random = SmallRng::seed_from_u64(self.plan.seed.wrapping_add(number));
        while self.rest(&mut random) {
            let members = self.crowd.members();
            let Some(pid) = self.pick(&members, &mut random) else { continue };
            self.move_once(pid, &mut random);
            lock(&self.held).remove(&pid);
            let tally = lock(&self.tally);
            (self.watch)(&Progress {
                elapsed: self.began.elapsed(),
                moves: tally.moves.values().sum(),
                refusals: tally.refusals.values().sum(),
                processes: members.len(),
            });
        }
    }

    /// Rests for a while, as raindrops do: the next moment does not depend on the last. False when the run is over.
    fn rest(&self, random: &mut SmallRng) -> bool {
        let times = (-(1.0 - random.random::<f64>()).ln()).min(LONGEST_REST);
        let until = Instant::now() + self.plan.every.mul_f64(times);
        let mut over = lock(&self.over);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *over || left.is_zero() {
                return !*over;
            }
            over = self.ended.wait_timeout(over, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One that no other mover has: two that pull at the same process would only hear that it is busy.
    fn pick(&self, members: &[Member], random: &mut SmallRng) -> Option<i32> {
        let mut held = lock(&self.held);
        let free: Vec<i32> =
            members.iter().map(|member| member.pid).filter(|pid| !held.contains(pid)).collect();
        if free.is_empty() {
            return None;
        }
        let pid = free[random.random_range(0..free.len())];
        held.insert(pid);
        Some(pid)
    }

    fn move_once(&self, pid: i32, random: &mut SmallRng) {
        let at = match self.daemon.ask(&Request::Where { pid }) {
            Ok(Answered::Done(Answer::Where(location))) => location.node,
            answer => return self.judge(pid, "where it is", answer),
        };
        let others: Vec<_> = self.nodes.iter().filter(|(node, _)| *node != at).collect();
        let (node, name) = others[random.random_range(0..others.len())];
        let to = if *node == self.home { Destination::Home } else { Destination::Node(*node) };
        self.judge(pid, name, self.daemon.ask(&Request::Migrate { pid, to }));
    }

    fn judge(&self, pid: i32, to: &str, answer: std::io::Result<Answered>) {
        let mut tally = lock(&self.tally);
        match answer {
            Ok(Answered::Done(Answer::Moved { freeze_us, .. })) => {
                tally.moved(to, Duration::from_micros(freeze_us));
            }
            Ok(Answered::Done(answer)) => tally.broke(format!("process {pid}, {to}: answered {answer:?}")),
            Ok(Answered::Failed { kind, reasons, message }) => match kind {
                FailureKind::Refused | FailureKind::NotFound if !reasons.is_empty() => {
                    // What else is found in a process that is just being moved is the move's own doing.
                    let busy = reasons.iter().any(|reason| reason.code == ReasonCode::Busy);
                    let told = reasons.iter().filter(|reason| !busy || reason.code == ReasonCode::Busy);
                    told.for_each(|reason| tally.refused(reason.code.code()));
                }
                FailureKind::NotFound => tally.refused("ended"),
                _ => tally.broke(message),
            },
            Err(error) => tally.broke(format!("process {pid}, {to}: the daemon does not answer: {error}")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
