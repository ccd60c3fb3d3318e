//! `omd.toml`: the node, its peers, its rules for guests, its places in the file system.

use crate::Error;
use crate::rules::Balance;
use model::NodeId;
use model::limits::{PEERS_MAX, PORT_DISCOVERY, PORT_TCP, SEEDS_MAX};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where the configuration is by default.
pub const CONFIG_FILE: &str = "/etc/openmosix/omd.toml";

/// User ids from `guests.uid_base` on that guests may get.
pub const GUEST_IDS: u32 = 1 << 20;
/// Lowest `guests.uid_base`.
const UID_BASE_MIN: u32 = 65_536;
/// Helper, init and body of a guest, and some threads.
const TASKS_MIN: u32 = 16;
/// More than any machine has; bytes of it fit into 63 bits.
const MEGABYTES_MAX: u64 = 1 << 40;

/// The whole file. Unknown words are refused: a misspelt one would otherwise be obeyed by nobody.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// The other nodes.
    #[serde(default, rename = "peer")]
    pub peers: Vec<Peer>,
    /// How nodes find each other.
    #[serde(default)]
    pub cluster: Cluster,
    /// Rules for guests.
    #[serde(default)]
    pub guests: Guests,
    /// Rules for automatic moves.
    #[serde(default)]
    pub balance: Balance,
    /// Places in the file system.
    #[serde(default)]
    pub paths: Paths,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its number; must be the one in its certificate.
    pub id: NodeId,
    /// Its name; the host's by default.
    #[serde(default = "host_name")]
    pub name: String,
    /// Where it listens for other nodes; all addresses and port 4660 by default.
    #[serde(default = "listen_everywhere")]
    pub listen: SocketAddr,
    /// Speed of one of its CPUs, 10000 for the standard one; measured by default.
    #[serde(default)]
    pub speed: Option<u32>,
}

/// `[[peer]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its address and port; a host name is looked up each time it is used.
    pub address: String,
    /// Whether the address is only where it was when it joined: the one that it announces itself wins. By default
    /// this one does.
    #[serde(default)]
    pub hint: bool,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Whether this node looks for others and shows itself; it does by default. Otherwise it knows its peers only.
    pub discover: bool,
    /// The group in which nodes announce themselves by IPv4; 239.192.46.60 by default.
    pub multicast_v4: Ipv4Addr,
    /// The group in which nodes announce themselves by IPv6; ff02::6f6d by default.
    pub multicast_v6: Ipv6Addr,
    /// The UDP port of both groups; 4660 by default.
    pub port: u16,
    /// The names of the network interfaces that are used; all that are up by default.
    pub interfaces: Vec<String>,
    /// Where other nodes may be, as HOST:PORT, for networks that multicast does not pass; none by default.
    pub seeds: Vec<String>,
    /// Seconds between two announcements, from 1 to 3600; 5 by default.
    pub beacon_seconds: u64,
    /// Seconds within which a node that has died counts as dead, from 2 to 60; 10 by default. The same on all nodes.
    pub dead_after_seconds: u64,
    /// Nodes that are not let in, whatever they show; none by default.
    pub refuse: Vec<NodeId>,
}

/// `[guests]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guests {
    /// Whether this node takes guests; it does by default.
    pub accept: bool,
    /// How many at most; 64 by default.
    pub max: u32,
    /// Guests run under user ids of their own, from here on; 2000000000 by default.
    pub uid_base: u32,
    /// Memory that guests leave free, MiB; 64 by default.
    pub memory_reserve_mb: u64,
    /// Memory that one guest may use, MiB; 0, the default, for what is free when it arrives, without the reserve.
    pub memory_max_mb: u64,
    /// Processes and threads that one guest may have, with all that it starts here; 4096 by default.
    pub tasks_max: u32,
    /// Its share of the CPUs, 1 to 10000; 100, the default, is that of everybody else.
    pub cpu_weight: u32,
    /// Whether guests are refused where they cannot be limited (no cgroups); they are taken by default.
    pub require_limits: bool,
}

/// `[paths]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Certificates and keys; `/etc/openmosix` by default.
    pub identity: PathBuf,
    /// Sockets; `/run/openmosix` by default.
    pub run: PathBuf,
    /// Copies of other nodes' files; `/var/cache/openmosix` by default.
    pub cache: PathBuf,
    /// What is to survive a reboot, such as invitations; `/var/lib/openmosix` by default.
    pub state: PathBuf,
    /// What happened and why, for `om log`; `/var/log/openmosix` by default.
    pub log: PathBuf,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            discover: true,
            multicast_v4: Ipv4Addr::new(239, 192, 46, 60),
            multicast_v6: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x6f6d),
            port: PORT_DISCOVERY,
            interfaces: Vec::new(),
            seeds: Vec::new(),
            beacon_seconds: 5,
            dead_after_seconds: 10,
            refuse: Vec::new(),
        }
    }
}

impl Default for Guests {
    fn default() -> Guests {
        Guests {
            accept: true,
            max: 64,
            uid_base: 2_000_000_000,
            memory_reserve_mb: 64,
            memory_max_mb: 0,
            tasks_max: 4096,
            cpu_weight: 100,
            require_limits: false,
        }
    }
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            identity: "/etc/openmosix".into(),
            run: "/run/openmosix".into(),
            cache: "/var/cache/openmosix".into(),
            state: "/var/lib/openmosix".into(),
            log: "/var/log/openmosix".into(),
        }
    }
}

impl Paths {
    /// Where the daemon listens for tools.
    pub fn daemon_socket(&self) -> PathBuf {
        self.run.join("omd.sock")
    }

    /// The directory of the keepers' sockets.
    pub fn keepers(&self) -> PathBuf {
        self.run.join("keeper")
    }

    /// The directory of what is known of processes that are at home again.
    pub fn history(&self) -> PathBuf {
        self.run.join("history")
    }

    /// The directory of what people have said about processes.
    pub fn standings(&self) -> PathBuf {
        self.run.join("standing")
    }

    /// The directory of the wardens' sockets.
    pub fn wardens(&self) -> PathBuf {
        self.run.join("warden")
    }

    /// The directory of the open invitations.
    pub fn invitations(&self) -> PathBuf {
        self.state.join("invites")
    }
}

impl Peer {
    /// Its address, looked up now.
    pub fn resolve(&self) -> Result<SocketAddr, Error> {
        let broken = |source| Error::Address { address: self.address.clone(), source };
        let mut found = self.address.to_socket_addrs().map_err(broken)?;
        found.next().ok_or_else(|| broken(std::io::Error::from(std::io::ErrorKind::NotFound)))
    }
}

fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    name.split('.').next().unwrap_or("node").to_owned()
}

fn listen_everywhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], PORT_TCP))
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        Config::parse(&text).map_err(|detail| Error::Config { path: path.to_owned(), detail })
    }

    /// Reads and checks a text; the error says what is wrong, in one line.
    pub fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map(|span| text.get(..span.start).unwrap_or_default().lines().count().max(1));
            match line {
                Some(line) => format!("line {line}: {}", error.message().replace('\n', " ")),
                None => error.message().replace('\n', " "),
            }
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.peers.len() > PEERS_MAX {
            return Err(format!("more than {PEERS_MAX} peers"));
        }
        if self.node.listen.port() == 0 {
            return Err("node.listen needs a port other than 0".to_owned());
        }
        check_name(&self.node.name)?;
        self.cluster.check()?;
        let speeds = model::limits::SPEEDS;
        if self.node.speed.is_some_and(|speed| !speeds.contains(&speed)) {
            return Err(format!("node.speed must be from {} to {}", speeds.start(), speeds.end()));
        }
        self.guests.check()?;
        self.balance.check()?;
        let mut ids = std::collections::HashSet::from([self.node.id]);
        for peer in &self.peers {
            check_name(&peer.name)?;
            if !ids.insert(peer.id) {
                return Err(format!("two nodes have the id {}", peer.id));
            }
            if !is_host_and_port(&peer.address) {
                return Err(format!("the address '{}' of node {} is not HOST:PORT", peer.address, peer.id));
            }
        }
        Ok(())
    }
}

/// Whether a text is HOST:PORT, as far as it shows.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

impl Cluster {
    fn check(&self) -> Result<(), String> {
        if !self.multicast_v4.is_multicast() {
            return Err(format!("cluster.multicast_v4 is no group: {}", self.multicast_v4));
        }
        if !self.multicast_v6.is_multicast() {
            return Err(format!("cluster.multicast_v6 is no group: {}", self.multicast_v6));
        }
        if self.port == 0 {
            return Err("cluster.port needs a port other than 0".to_owned());
        }
        if !(1..=3600).contains(&self.beacon_seconds) {
            return Err("cluster.beacon_seconds must be from 1 to 3600".to_owned());
        }
        if !(2..=60).contains(&self.dead_after_seconds) {
            return Err("cluster.dead_after_seconds must be from 2 to 60".to_owned());
        }
        if self.seeds.len() > SEEDS_MAX {
            return Err(format!("more than {SEEDS_MAX} cluster.seeds"));
        }
        match self.seeds.iter().find(|seed| !is_host_and_port(seed)) {
            Some(seed) => Err(format!("the seed '{seed}' in cluster.seeds is not HOST:PORT")),
            None => Ok(()),
        }
    }
}

impl Guests {
    /// Whether this is a user id of guests.
    pub fn is_guest(&self, uid: u32) -> bool {
        uid.wrapping_sub(self.uid_base) < GUEST_IDS
    }

    fn check(&self) -> Result<(), String> {
        let ids = self.uid_base..=self.uid_base.saturating_add(GUEST_IDS - 1);
        // The highest id means "none" to the kernel. Root and what distributions give to their own are never a guest's.
        if *ids.start() < UID_BASE_MIN || *ids.end() == u32::MAX {
            let last = u32::MAX - GUEST_IDS;
            return Err(format!("guests.uid_base must be from {UID_BASE_MIN} to {last}"));
        }
        if !(1..=10_000).contains(&self.cpu_weight) {
            return Err("guests.cpu_weight must be from 1 to 10000".to_owned());
        }
        if self.tasks_max < TASKS_MIN {
            return Err(format!("guests.tasks_max must be {TASKS_MIN} at least"));
        }
        if self.memory_max_mb > MEGABYTES_MAX || self.memory_reserve_mb > MEGABYTES_MAX {
            return Err(format!("memory of guests is in MiB, and {MEGABYTES_MAX} at most"));
        }
        Ok(())
    }
}

/// Refuses what cannot be a node's name.
pub fn check_name(name: &str) -> Result<(), String> {
    if !model::is_node_name(name) {
        return Err(format!(
            "'{name}' cannot be a node's name: letters, digits, '-', '_', '.'; not a number, not 'home'"
        ));
    }
    Ok(())
}

/// A commented file for a new node.
pub fn template(id: NodeId, name: &str, listen: SocketAddr, paths: &Paths, peers: &[Peer]) -> String {
    let peers: String = peers.iter().map(peer_block).collect();
    let normal = Paths::default();
    let path = |name: &str, path: &Path, normal: &Path| {
        let mark = if path == normal { "# " } else { "" };
        format!("{mark}{name} = {}\n", quoted(&path.display().to_string()))
    };
    let paths = [
        path("identity", &paths.identity, &normal.identity),
        path("run", &paths.run, &normal.run),
        path("cache", &paths.cache, &normal.cache),
        path("state", &paths.state, &normal.state),
        path("log", &paths.log, &normal.log),
    ]
    .concat();
    format!(
        "# openMosix: the configuration of one node. Lines that begin with '#' show the defaults.\n\
         \n\
         [node]\n\
         # The number in this node's certificate.\n\
         id = {id}\n\
         name = {}\n\
         # Where other nodes reach this one.\n\
         listen = \"{listen}\"\n\
         # How fast one of its CPUs is; it is measured at the first start, and by 'om tune'. The standard CPU has 10000.\n\
         # speed = 10000\n\
         \n\
         [cluster]\n\
         # Nodes announce themselves in these groups of their networks, and find each other so.\n\
         # discover = true\n\
         # multicast_v4 = \"239.192.46.60\"\n\
         # multicast_v6 = \"ff02::6f6d\"\n\
         # port = 4660\n\
         # beacon_seconds = 5\n\
         # Seconds within which a node that has died counts as dead, from 2 to 60: the same on all nodes. A node that is\n\
         # silent for half of it, because it is too busy, counts as dead, too, until it speaks again.\n\
         # dead_after_seconds = 10\n\
         # The network interfaces that are used; none named means all that are up.\n\
         # interfaces = []\n\
         # Addresses (HOST:PORT) of nodes that multicast does not reach; one that is up is enough.\n\
         # seeds = []\n\
         # Nodes that are not let in, by number. After it, 'om key rotate' shuts them out of all talk.\n\
         # refuse = []\n\
         \n\
         [guests]\n\
         # Whether processes of other nodes may run here, and how many.\n\
         # accept = true\n\
         # max = 64\n\
         # They run under user ids of their own, from here on: ids that nobody else has.\n\
         # uid_base = 2000000000\n\
         # Memory that they leave free, MiB.\n\
         # memory_reserve_mb = 64\n\
         # Memory that one of them may use, MiB; 0 for what is free when it comes, without the above. One that wants\n\
         # more is ended by the kernel, and its process at home with it.\n\
         # memory_max_mb = 0\n\
         # Processes and threads of one of them.\n\
         # tasks_max = 4096\n\
         # Its share of the CPUs, from 1 to 10000; 100 is everybody's.\n\
         # cpu_weight = 100\n\
         # Whether they are refused where the kernel's cgroups cannot limit them.\n\
         # require_limits = false\n\
         \n\
         {}[paths]\n\
         {paths}\
         \n\
         # Other nodes. Those that are in reach are found without being listed. What is listed wins over what is found,\n\
         # unless hint = true: then the address is where the node was when it joined.\n\
         {peers}",
        quoted(name),
        crate::rules::TEMPLATE
    )
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn peer_block(peer: &Peer) -> String {
    format!(
        "\n[[peer]]\nid = {}\nname = {}\naddress = {}\n{}",
        peer.id,
        quoted(&peer.name),
        quoted(&peer.address),
        if peer.hint { "hint = true\n" } else { "" }
    )
}

/// Adds a node to the end of a file, leaving everything else in it as it is.
pub fn append_peer(path: &Path, peer: &Peer) -> Result<(), Error> {
    let mut text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&peer_block(peer));
    Config::parse(&text).map_err(|detail| Error::Config { path: path.to_owned(), detail })?;
    write_file(path, &text, 0o644)
}

/// Keeps a value as one line of JSON, in a directory that is made if need be; as [`write_file`].
pub(crate) fn keep_json(path: &Path, value: &impl Serialize, mode: u32) -> Result<(), Error> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    }
    let text = serde_json::to_string(value).map_err(|error| Error::Line(error.to_string()))?;
    write_file(path, &text, mode)
}

/// Writes a file as a whole or not at all, with these permissions from its first byte on.
pub fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // Of a process with our pid that died over it.
    let _ = std::fs::remove_file(&draft);
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&draft);
        Error::File { action: "write", path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[node]\nid = 1\nname = \"n1\"\n";

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let config = Config::parse(SMALL).unwrap();
        assert_eq!(config.node.listen.to_string(), "0.0.0.0:4660");
        assert_eq!((config.guests, config.paths), (Guests::default(), Paths::default()));
        assert_eq!(Paths::default().daemon_socket(), Path::new(control::DAEMON_SOCKET));
        assert_eq!(Paths::default().keepers(), Path::new(control::KEEPER_DIRECTORY));
        assert_eq!(Paths::default().wardens(), Path::new(control::WARDEN_DIRECTORY));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("[node]\nid = 0\nname = \"a\"", "line 2"),
            ("[node]\nid = 1\nname = \"a\"\nlisen = \"0.0.0.0:1\"", "lisen"),
            ("[node]\nid = 1\nname = \"home\"", "'home'"),
            ("[node]\nid = 1\nname = \"7\"", "'7'"),
            ("[node]\nid = 1\nname = \"a\"\nlisten = \"0.0.0.0:0\"", "port"),
            ("[node]\nid = 1\nname = \"a\"\n[[peer]]\nid = 1\nname = \"b\"\naddress = \"x:1\"", "id 1"),
            ("[node]\nid = 1\nname = \"a\"\n[[peer]]\nid = 2\nname = \"b\"\naddress = \"x\"", "HOST:PORT"),
            ("[node]\nid = 1\nname = \"a\"\n[guests]\nuid_base = 1000", "uid_base"),
            ("[node]\nid = 1\nname = \"a\"\n[guests]\nuid_base = 4294967000", "uid_base"),
            ("[node]\nid = 1\nname = \"a\"\n[guests]\ncpu_weight = 0", "cpu_weight"),
            ("[node]\nid = 1\nname = \"a\"\n[guests]\ntasks_max = 1", "tasks_max"),
            ("[node]\nid = 1\nname = \"a\"\n[guests]\nmemory_max_mb = 9223372036854775807", "MiB"),
            ("[node]\nid = 1\n[cluster]\nmulticast_v4 = \"10.0.0.1\"", "no group"),
            ("[node]\nid = 1\n[cluster]\nmulticast_v6 = \"fd00::1\"", "no group"),
            ("[node]\nid = 1\n[cluster]\nport = 0", "cluster.port"),
            ("[node]\nid = 1\n[cluster]\nbeacon_seconds = 0", "beacon_seconds"),
            ("[node]\nid = 1\n[cluster]\ndead_after_seconds = 1", "dead_after_seconds"),
            ("[node]\nid = 1\n[cluster]\nseeds = [\"alpha\"]", "'alpha'"),
            ("[node]\nid = 1\n[cluster]\nrefuse = [0]", "line 4"),
            ("[node]\nid = 1\nname = \"a\"\nspeed = 0", "node.speed"),
            ("[node]\nid = 1\nname = \"a\"\n[balance]\nmove = [\"\"]", "balance.move"),
            ("nonsense", "line 1"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_template_is_a_configuration_and_peers_are_added_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("omd.toml");
        let id = NodeId::new(3).unwrap();
        let peer = |number, name: &str| Peer {
            id: NodeId::new(number).unwrap(),
            name: name.to_owned(),
            address: "10.0.0.1:4660".to_owned(),
            hint: number == 2,
        };
        let paths = Paths { run: "/tmp/run \"x\"".into(), ..Paths::default() };
        let text = template(id, "n3", listen_everywhere(), &paths, &[peer(1, "n1")]);
        write_file(&path, &text, 0o644).unwrap();
        append_peer(&path, &peer(2, "n2")).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.peers, [peer(1, "n1"), peer(2, "n2")]);
        assert_eq!((config.node.id, config.paths), (id, paths));
        assert!(append_peer(&path, &peer(2, "again")).is_err());
        assert_eq!(Config::load(&path).unwrap().peers.len(), 2);
        // Every default that the template shows is the real one.
        let words = ["discover", "multicast_v", "port", "beacon_", "interfaces", "seeds", "refuse"];
        let text = words.iter().fold(text, |shown, word| {
            assert!(shown.contains(&format!("\n# {word}")), "{word}");
            shown.replace(&format!("\n# {word}"), &format!("\n{word}"))
        });
        assert_eq!(Config::parse(&text).unwrap().cluster, Cluster::default());
        let shown =
            text.replace("\n# accept", "\naccept").replace("\n# max", "\nmax").replace("\n# uid", "\nuid");
        let shown = ["memory_", "tasks_", "cpu_", "require_"].iter().fold(shown, |shown, word| {
            assert!(shown.contains(&format!("\n# {word}")), "{word}");
            shown.replace(&format!("\n# {word}"), &format!("\n{word}"))
        });
        assert_eq!(Config::parse(&shown).unwrap().guests, Guests::default());
    }
}
