//! Where the daemon asks: a thread that answers also while the keeper is busy with a move.
//!
//! The statuses it tells are those that the keeper left here last. It takes one order at a time, and says of any other
//! that the process is being moved already.

use super::depart::refusal;
use super::requests::Asker;
use crate::Error;
use control::{AgentRequest, KeeperStatus};
use model::{NodeId, ReasonCode};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What somebody wants the keeper to do.
pub(super) type Order = (Asker, AgentRequest);

/// What both threads know.
struct Desk {
    statuses: Vec<KeeperStatus>,
    /// An order was taken and is not done.
    ordered: bool,
    /// The keeper ends: whoever asks now finds nobody.
    closed: bool,
}

/// The keeper's side.
pub(super) struct Reception {
    desk: Arc<Mutex<Desk>>,
    /// Only whoever serves the process takes one.
    orders: Mutex<Receiver<Order>>,
    wake: OwnedFd,
    listener: UnixListener,
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reception {
    /// Begins to answer.
    pub(super) fn open(
        listener: UnixListener,
        home: NodeId,
        statuses: Vec<KeeperStatus>,
    ) -> Result<Reception, Error> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        let wake = wake.map_err(Error::system("make an event"))?;
        let ring = wake.try_clone().map_err(Error::system("make an event"))?;
        let entrance = listener.try_clone().map_err(Error::system("copy a socket"))?;
        let (sender, orders) = mpsc::sync_channel(1);
        let desk = Arc::new(Mutex::new(Desk { statuses, ordered: false, closed: false }));
        let shared = Arc::clone(&desk);
        let receive = move || {
            while let Ok((stream, _)) = entrance.accept() {
                if let Some(order) = Asker::receive(stream) {
                    answer(&mut lock(&shared), home, order, &sender);
                    let _ = rustix::io::write(&ring, &1u64.to_ne_bytes());
                }
            }
        };
        let thread = std::thread::Builder::new().name("reception".into());
        thread.spawn(receive).map_err(Error::system("start a thread"))?;
        Ok(Reception { desk, orders: Mutex::new(orders), wake, listener })
    }

    /// Becomes readable when an order may be there.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The next order, if there is one; until [`Reception::done`] there is no other.
    pub(super) fn order(&self) -> Option<Order> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
    }

    /// What is told from now on.
    pub(super) fn tell(&self, statuses: Vec<KeeperStatus>) {
        lock(&self.desk).statuses = statuses;
    }

    /// A process is about to go on at home: whoever hears of it from itself, and asks, hears the same here.
    pub(super) fn is_home(&self, pid: i32, home: NodeId) {
        let mut desk = lock(&self.desk);
        for status in desk.statuses.iter_mut().filter(|status| status.process.pid == pid) {
            status.node = home;
        }
    }

    /// The order was carried out, or failed.
    pub(super) fn done(&self, statuses: Vec<KeeperStatus>) {
        let mut desk = lock(&self.desk);
        desk.statuses = statuses;
        desk.ordered = false;
    }

    /// Turns everybody away from now on, unless an order was taken already. Whoever has asked and hears nothing may ask
    /// the next keeper.
    pub(super) fn close(&self) -> bool {
        let mut desk = lock(&self.desk);
        desk.closed = !desk.ordered;
        if desk.closed {
            // It fails only where nobody can come in any more.
            let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        }
        desk.closed
    }
}

fn answer(desk: &mut Desk, home: NodeId, (mut asker, request): Order, orders: &SyncSender<Order>) {
    if desk.closed {
        return;
    }
    let busy = desk.ordered || desk.statuses.iter().any(|status| status.moving);
    let (pid, node) = match &request {
        AgentRequest::Status => {
            let ordered = desk.ordered;
            let with =
                |status: &KeeperStatus| KeeperStatus { moving: status.moving || ordered, ..status.clone() };
            return asker.statuses(&desk.statuses.iter().map(with).collect::<Vec<_>>());
        }
        AgentRequest::Connection => return asker.refuse("a keeper takes no connections"),
        AgentRequest::MoveTo { pid, node, .. } => (*pid, *node),
        AgentRequest::BringHome { pid, .. } => (*pid, home),
    };
    if busy {
        return asker.failed(pid, node, &refusal(ReasonCode::Busy.into()));
    }
    // From here on it is ours, and whoever asked must not ask another.
    asker.taken();
    // There is room: the order before this one is done.
    desk.ordered = orders.try_send((asker, request)).is_ok();
}
