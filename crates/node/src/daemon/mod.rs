//! The daemon: it answers tools and other daemons, and starts agents.
//!
//! One thread accepts tools, one accepts other machines; each conversation has a thread of its own, their number is
//! bounded. Lock order: `joins` or `offers`, then `listed`; the agents' lock is taken last.

mod administration;
mod balancing;
mod figures;
mod gauge;
mod host;
mod inbound;
mod keys;
mod leave;
pub(crate) mod lines;
mod nodes;
mod relocate;
mod requests;
mod rulings;
mod slots;
mod sweep;
mod tools;

use crate::agents::Agents;
use crate::config::Peer;
use crate::counts::Counts;
use crate::decay::Decays;
use crate::discovery::{Discovery, Missed};
use crate::measure::Speed;
use crate::rules::Rules;
use crate::switches::Switched;
use crate::{Error, Setup, journal, peers};
use balancing::Balancing;
use control::What;
use gauge::Gauge;
use model::limits::{CONNECTIONS_MAX, TOOLS_MAX};
use model::{CpuProfile, NodeId};
use nix::sys::signal::{SigSet, Signal};
use slots::Slots;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// The daemon's state: all of it can be lost without loss.
pub(crate) struct Daemon {
    setup: Setup,
    cpu: CpuProfile,
    /// The other nodes of the configuration, and those that joined since.
    listed: RwLock<Vec<Peer>>,
    discovery: Discovery,
    agents: Agents,
    counts: Arc<Counts>,
    rules: Rules,
    /// The switches of this node.
    switched: Switched,
    /// How fast statistics decay.
    decays: Decays,
    gauge: Gauge,
    balancing: OnceLock<Balancing>,
    tools: Slots,
    /// Root's own places: no user can keep root from its daemon.
    root_tools: Slots,
    connections: Slots,
    /// Held while a guest is decided on, so that two do not get the same last place.
    offers: Mutex<()>,
    /// Held while an invitation is redeemed and the configuration changed.
    joins: Mutex<()>,
    /// This node takes leave of the cluster: it takes no guest any more. Changed under `offers`.
    leaving: AtomicBool,
}

/// Runs the daemon until SIGTERM or SIGINT. Agents go on.
pub fn run(setup: Setup) -> Result<(), Error> {
    // All threads inherit the mask; the signals wait for this one. Agents inherit it, too, and empty it first of all.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(Error::system("block signals"))?;

    let paths = &setup.config.paths;
    own_directory(&paths.run)?;
    let socket = paths.daemon_socket();
    let (tools, socket_inode) = bind_tools(&socket)?;
    let listen = setup.config.node.listen;
    let nodes = TcpListener::bind(listen)
        .map_err(|source| Error::Listen { address: listen.to_string(), source })
        .inspect_err(|_| remove_own(&socket, socket_inode))?;

    let counts = Arc::new(Counts::default());
    let (discovery, missed_keys) =
        Discovery::new(&setup, counts.clone()).inspect_err(|_| remove_own(&socket, socket_inode))?;
    let daemon = Arc::new(Daemon {
        discovery,
        cpu: kernel::cpu::profile(),
        listed: RwLock::new(setup.config.peers.clone()),
        agents: Agents::new(&setup, counts.clone())?,
        counts,
        rules: Rules::new(&setup.config.balance),
        switched: Switched::load(&setup.config.paths),
        decays: Decays::load(&setup.config.paths),
        gauge: Gauge::new(Speed::of_node(setup.config.node.speed, &setup.config.paths)),
        balancing: OnceLock::new(),
        tools: Slots::new(TOOLS_MAX),
        root_tools: Slots::new(TOOLS_MAX),
        connections: Slots::new(CONNECTIONS_MAX),
        offers: Mutex::default(),
        joins: Mutex::default(),
        leaving: AtomicBool::new(false),
        setup,
    });
    if let Err(error) = crate::cgroup::prepare() {
        tracing::warn!(%error, "guests cannot be limited here");
    }
    // Wardens that were killed together with the last daemon have left their guests' groups.
    daemon.agents.warden_count();
    let worker = daemon.clone();
    std::thread::spawn(move || tools::serve(&worker, &tools));
    let worker = daemon.clone();
    std::thread::spawn(move || inbound::serve(&worker, &nodes));
    sweep::start(&daemon);
    daemon.begin_discovery(missed_keys);
    gauge::start(&daemon);
    balancing::start(&daemon);
    rulings::watch_births(&daemon);
    let node = &daemon.setup.config.node;
    let paths = &daemon.setup.config.paths;
    journal::note(paths, journal::now(What::Started).cause(concat!("version ", env!("CARGO_PKG_VERSION"))));
    tracing::info!(id = %node.id, name = node.name, %listen, socket = %socket.display(), "ready");

    let signal = signals.wait().map_err(Error::system("wait for signals"))?;
    tracing::info!(%signal, "ending; agents go on");
    if let Some(balancing) = daemon.balancing.get() {
        balancing.end();
    }
    journal::note(paths, journal::now(What::Stopped).cause(signal.as_str()));
    remove_own(&socket, socket_inode);
    Ok(())
}

/// Makes the directory of the sockets, in which nobody else may put anything, whatever the umask.
fn own_directory(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::file("make", path))?;
    // Not through a link: who may set one may set another.
    let data = std::fs::symlink_metadata(path).map_err(Error::file("look at", path))?;
    if !data.is_dir() || data.uid() != rustix::process::geteuid().as_raw() {
        let source = std::io::Error::other("it is not a directory of the daemon's own user; remove it");
        return Err(Error::file("use", path)(source));
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(Error::file("protect", path))
}

/// Opens the tools' socket, which everybody may connect to: who may do what is decided by the caller's credentials.
fn bind_tools(path: &Path) -> Result<(UnixListener, u64), Error> {
    if crate::agents::connect(path).is_ok() {
        return Err(Error::AlreadyRunning(path.to_owned()));
    }
    // A dead daemon's.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)
        .map_err(|source| Error::Listen { address: path.display().to_string(), source })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .map_err(Error::file("open up", path))?;
    let inode = std::fs::metadata(path).map_err(Error::file("look at", path))?.ino();
    Ok((listener, inode))
}

fn remove_own(path: &Path, inode: u64) {
    if std::fs::metadata(path).is_ok_and(|data| data.ino() == inode) {
        let _ = std::fs::remove_file(path);
    }
}

impl Daemon {
    fn own(&self) -> NodeId {
        self.setup.config.node.id
    }

    /// The other nodes, by id: what is listed wins over what was found, and both over what is refused.
    fn peers(&self) -> Vec<Peer> {
        let mut listed = self.listed.read().unwrap_or_else(PoisonError::into_inner).clone();
        let remembered = self.discovery.remembered().iter();
        let unlisted: Vec<_> =
            remembered.filter(|peer| listed.iter().all(|other| other.id != peer.id)).collect();
        listed.extend(unlisted.into_iter().filter(|peer| peer.id != self.own()).cloned());
        peers::merge(listed, &self.discovery.view(), &self.setup.config.cluster.refuse)
    }

    /// The nodes that live, as far as this one knows.
    fn living(&self) -> Vec<NodeId> {
        let refused = &self.setup.config.cluster.refuse;
        let view = self.discovery.view();
        let lives = view.iter().filter(|seen| seen.state == membership::State::Alive);
        lives.map(|seen| seen.id).filter(|id| !refused.contains(id)).collect()
    }

    fn peer(&self, id: NodeId) -> Option<Peer> {
        self.peers().into_iter().find(|peer| peer.id == id)
    }

    /// Whether a node that has proved to be of this cluster is let in.
    fn lets_in(&self, id: NodeId) -> bool {
        let rules = &self.setup.config.cluster;
        !rules.refuse.contains(&id) && (rules.discover || self.peer(id).is_some())
    }

    /// Looks for other nodes, or says why not.
    fn begin_discovery(self: &Arc<Daemon>, missed_keys: std::sync::mpsc::Receiver<Missed>) {
        if !self.setup.config.cluster.discover {
            return tracing::info!("cluster.discover = false: only the listed peers are known");
        }
        if self.discovery.keys().is_empty() {
            let path = self.setup.config.paths.identity.join(net::CLUSTER_KEY_FILE);
            tracing::warn!(path = %path.display(), "no cluster key: other nodes are not looked for until a listed one gives it, or 'om key rotate' makes one");
        }
        self.discovery.begin();
        keys::start(self, missed_keys);
    }

    /// Takes a new node into the configuration; `false` where its id is known already, which changes nothing.
    fn add_peer(&self, peer: &Peer) -> Result<bool, Error> {
        let mut peers = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        if peer.id == self.own() || peers.iter().any(|known| known.id == peer.id) {
            return Ok(false);
        }
        crate::config::append_peer(&self.setup.config_path, peer)?;
        tracing::info!(id = %peer.id, name = peer.name, address = peer.address, "a new node");
        let joined = journal::now(What::NodeJoined).node(peer.id);
        journal::note(&self.setup.config.paths, joined.cause(format!("{} at {}", peer.name, peer.address)));
        peers.push(peer.clone());
        Ok(true)
    }
}
