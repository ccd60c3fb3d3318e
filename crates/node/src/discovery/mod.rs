//! Finding the other nodes: the machine of `membership` with sockets, a clock and the cluster's key.
//!
//! One thread owns the machine and reads the sockets ([`watch`]); it publishes what it knows as a list that anybody may
//! look at. Another one looks up the names of seeds, which may take its time. Nothing here ends the daemon: where there is
//! no key, no network, or no multicast, one line in the log says so and the node goes on with what it has.
//!
//! Lock order: `keys`, `channels` and `view` are each taken alone.

mod datagrams;
mod interfaces;
mod keys;
mod lives;
mod memory;
mod sockets;
mod watch;

pub use datagrams::{DATAGRAM_BYTES_MAX, Datagram, Datagrams};
pub(crate) use keys::store as store_keys;

use crate::config::{Cluster, Peer};
use crate::counts::Counts;
use crate::{Error, Setup};
use keys::Held;
use membership::{Found, State};
use model::NodeId;
use model::limits::SEEDS_MAX;
use net::{KeyId, Seal};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How often the names of seeds are looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);
/// Orders that wait for the thread that owns the machine.
const ORDERS_MAX: usize = 16;

/// A node, as discovery sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is reached, the likeliest first.
    pub addresses: Vec<SocketAddr>,
    /// What is thought of it.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// How it was found.
    pub found: Found,
}

/// Somebody seals with a key that this node lacks: it may have missed a new one. Nothing of this is proved.
#[derive(Clone, Copy, Debug)]
pub struct Missed {
    /// The key.
    pub key: KeyId,
    /// Who sends, as it says.
    pub claimed: NodeId,
    /// From where.
    pub from: SocketAddr,
}

/// What the thread that owns the machine is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Look for others here.
    Seeds(Vec<SocketAddr>),
    /// Take leave of everybody.
    Leave,
    /// Stay after all.
    Stay,
}

/// This node's discovery; cheap to clone.
#[derive(Clone, Debug)]
pub struct Discovery(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    own: NodeId,
    name: String,
    authority: [u8; 32],
    listen: SocketAddr,
    rules: Cluster,
    paths: crate::config::Paths,
    /// Where the key file is.
    directory: PathBuf,
    peers: Vec<Peer>,
    /// Whom the last daemon knew.
    remembered: Vec<Peer>,
    keys: Mutex<Held>,
    seal: OnceLock<Seal>,
    unicast: OnceLock<Arc<sockets::Unicast>>,
    wake: OnceLock<Arc<OwnedFd>>,
    orders: SyncSender<Order>,
    /// Taken by the thread that owns the machine.
    ordered: Mutex<Option<Receiver<Order>>>,
    /// Members that have sealed with a key that this node lacks.
    unknown_keys: SyncSender<Missed>,
    channels: Mutex<HashMap<u8, SyncSender<Datagram>>>,
    view: RwLock<Vec<Seen>>,
    /// Where this node is reached.
    own_addresses: RwLock<Vec<SocketAddr>>,
    counts: Arc<Counts>,
}

impl Discovery {
    /// Discovery that has not begun, and what it tells of keys that this node lacks.
    pub fn new(setup: &Setup, counts: Arc<Counts>) -> Result<(Discovery, Receiver<Missed>), Error> {
        let config = &setup.config;
        let (orders, ordered) = sync_channel(ORDERS_MAX);
        let (unknown_keys, fetch) = sync_channel(1);
        let directory = config.paths.identity.clone();
        let path = directory.join(net::CA_FILE);
        let authority = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let held = Held::load(&directory);
        let shared = Shared {
            own: config.node.id,
            name: config.node.name.clone(),
            authority: net::fingerprint(&authority)?,
            listen: config.node.listen,
            rules: config.cluster.clone(),
            paths: config.paths.clone(),
            directory,
            peers: config.peers.clone(),
            remembered: memory::load(&config.paths),
            keys: Mutex::new(held),
            seal: OnceLock::new(),
            unicast: OnceLock::new(),
            wake: OnceLock::new(),
            orders,
            ordered: Mutex::new(Some(ordered)),
            unknown_keys,
            channels: Mutex::default(),
            view: RwLock::default(),
            own_addresses: RwLock::default(),
            counts,
        };
        Ok((Discovery(Arc::new(shared)), fetch))
    }

    /// Begins, if it is wanted, if there is a key, and if it has not begun yet.
    pub fn begin(&self) {
        if !self.0.rules.discover || self.keys().is_empty() {
            return;
        }
        let Some(orders) = self.0.ordered.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        match watch::Watch::new(self, orders) {
            Ok(watch) => {
                std::thread::spawn(move || watch.run());
                let discovery = self.clone();
                std::thread::spawn(move || discovery.look_up_seeds());
            }
            Err(error) => tracing::warn!(%error, "other nodes are not looked for: this node goes on alone"),
        }
    }

    /// Everybody that was found, by id.
    pub fn view(&self) -> Vec<Seen> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where this node is reached, as it tells others.
    pub(crate) fn own_addresses(&self) -> Vec<String> {
        let own = self.0.own_addresses.read().unwrap_or_else(PoisonError::into_inner);
        own.iter().map(ToString::to_string).collect()
    }

    fn seen(&self, node: NodeId) -> Option<Seen> {
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        view.iter().find(|seen| seen.id == node).cloned()
    }

    /// Whom the last daemon knew, as hints.
    pub(crate) fn remembered(&self) -> &[Peer] {
        &self.0.remembered
    }

    /// Tells the machine something; it is done soon.
    pub(crate) fn order(&self, order: Order) {
        // Orders come from people: there are never many.
        let _ = self.0.orders.try_send(order);
        if let Some(wake) = self.0.wake.get() {
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
    }

    /// Datagrams for other protocols.
    pub fn datagrams(&self) -> Datagrams {
        Datagrams::new(self.clone())
    }

    /// Seeds by their names; configured and remembered peers are seeds, too.
    fn look_up_seeds(&self) {
        use std::net::ToSocketAddrs as _;
        loop {
            let peers = self.0.peers.iter().chain(&self.0.remembered).map(|peer| &peer.address);
            let named = self.0.rules.seeds.iter().chain(peers);
            let mut found = Vec::new();
            for name in named {
                match name.to_socket_addrs() {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => tracing::warn!(seed = name, %error, "cannot look up the address"),
                }
            }
            found.truncate(SEEDS_MAX);
            if found.is_empty() {
                return;
            }
            self.order(Order::Seeds(found));
            std::thread::sleep(LOOK_UP_EVERY);
        }
    }
}
