//! The command lines.

use crate::exit::{CODES, Failure};
use crate::log::Since;
use crate::placing::{Placing, Plan};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use control::Switch;
use model::NodeId;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// openMosix: move running processes between the machines of a cluster.
#[derive(Parser)]
#[command(name = "om", version, after_help = CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Om {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Move a running process to a node, or home.
    Migrate(Migrate),
    /// Say where a process runs.
    Where(OfProcess),
    /// Say why a process cannot move: all reasons, or none.
    Why(OfProcess),
    /// Lock a process, and what it starts, to where it is: it is not moved automatically.
    Lock(OfProcess),
    /// Unlock a process, and what it starts: it may be moved automatically.
    Unlock(OfProcess),
    /// Show what this machine measures of itself: speed, CPUs, load, memory.
    Load(Listing),
    /// Measure how fast this machine's CPUs are, or set it (root only; also as 'tune').
    Tune(Tune),
    /// List the processes of this machine that were moved, and the guests on it.
    Ps(Listing),
    /// List the nodes of the cluster.
    Nodes(Listing),
    /// Show what the daemon has counted since it started.
    Counts(Listing),
    /// Send a guest of this machine, or all of them, home (root only).
    Expel(Expel),
    /// Bring all processes of this machine home, and let none leave by itself (root only).
    Bring(Listing),
    /// Show this node's switches, or change one (root only): stay, lstay, block, quiet.
    Node(NodeCommand),
    /// Show or set the speed of this node's CPUs (root only).
    Speed(Speed),
    /// Tell what happened to processes and nodes, and why.
    Log(Log),
    /// Show the nodes as bars, full-screen (also as 'mosmon').
    Mon(Screen),
    /// Show the processes that were moved, full-screen (also as 'mtop').
    Top(Screen),
    /// openMosix's own control program (also as 'mosctl').
    Ctl(Mosctl),
    /// Write the manual pages of all tools and of the daemon into a directory.
    Man(Man),
    /// Print what a shell needs to complete command lines.
    Completions(Completions),
    /// The old names of 'om run': nomig, runhome, runon, ...
    #[command(skip)]
    Wrapped(&'static str, Wrapper),
    /// Start a program and move it to a node at once (also as 'mosrun').
    Run(Mosrun),
    /// Make a new cluster with this machine as its first node.
    Init(Init),
    /// Print an invitation for a new node; it is valid once and for an hour (root, on the node where 'om init' ran).
    Invite(Invite),
    /// Make this machine a node of the cluster that it is invited to.
    Join(Join),
    /// Change the cluster's key.
    #[command(subcommand)]
    Key(Key),
    /// Take this machine out of the cluster: guests go home, own processes come home, the daemon ends (root only).
    Leave(Listing),
    /// Show the cluster as a map of ids and addresses (also as 'showmap').
    Showmap(Listing),
    /// Take over a map of nodes, or write one (also as 'setpe').
    Setpe(Setpe),
    /// Make a whole virtual cluster on this machine, for trying out and testing.
    Lab(crate::lab::LabCommand),
}

impl Command {
    /// Whether the answer, or the failure, is to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Command::Migrate(arguments) => arguments.common.json,
            Command::Where(arguments)
            | Command::Why(arguments)
            | Command::Lock(arguments)
            | Command::Unlock(arguments) => arguments.common.json,
            Command::Ps(arguments)
            | Command::Nodes(arguments)
            | Command::Counts(arguments)
            | Command::Load(arguments) => arguments.common.json,
            Command::Tune(arguments) => arguments.common.json,
            Command::Expel(arguments) => arguments.common.json,
            Command::Showmap(arguments) => arguments.common.json,
            Command::Setpe(arguments) => arguments.common.json,
            Command::Leave(arguments) | Command::Key(Key::Rotate(arguments)) => arguments.common.json,
            Command::Bring(arguments) => arguments.common.json,
            Command::Node(arguments) => arguments.common.json,
            Command::Speed(arguments) => arguments.common.json,
            Command::Log(arguments) => arguments.common.json,
            Command::Mon(arguments) | Command::Top(arguments) => arguments.common.json,
            Command::Ctl(arguments) => arguments.common.json,
            Command::Init(arguments) => arguments.json,
            Command::Invite(arguments) => arguments.json,
            Command::Join(arguments) => arguments.json,
            Command::Lab(command) => command.wants_json(),
            // What a program prints is its own, and pages are files.
            Command::Run(_) | Command::Wrapped(..) | Command::Man(_) | Command::Completions(_) => false,
        }
    }
}

/// What to do with the cluster's key.
#[derive(Subcommand)]
pub(crate) enum Key {
    /// Make a new key and hand it to all nodes; the former one is believed for ten minutes more (root only).
    Rotate(Listing),
}

/// Take over a map of nodes, or write one. Nodes find each other without: see 'om nodes'.
#[derive(Parser)]
#[command(version, after_help = CODES)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["write", "write_too", "read", "off"])))]
pub(crate) struct Setpe {
    /// List the nodes of the map as peers in the configuration.
    #[arg(short = 'w')]
    pub(crate) write: bool,
    /// The same.
    #[arg(short = 'W')]
    pub(crate) write_too: bool,
    /// Write the cluster as it is now as a map.
    #[arg(short = 'r')]
    pub(crate) read: bool,
    /// Leave the cluster, like 'om leave' (also -off).
    #[arg(long)]
    pub(crate) off: bool,
    /// The map; /etc/openmosix.map by default, with -r standard output.
    #[arg(short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Make sure that this node has this id.
    #[arg(short = 'p', value_name = "ID")]
    pub(crate) id: Option<NodeId>,
    /// Not needed any more.
    #[arg(short = 'g', value_name = "NUMBER")]
    pub(crate) gateways: Option<u32>,
    /// This node's configuration.
    #[arg(long, value_name = "FILE", default_value = node::config::CONFIG_FILE)]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// How to reach the daemon, and how to print.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// The daemon's socket.
    #[arg(long, env = "OM_SOCKET", value_name = "FILE", default_value = control::DAEMON_SOCKET)]
    pub(crate) socket: PathBuf,
}

/// Move a running process to a node, or home.
#[derive(Parser)]
#[command(version, after_help = CODES)]
pub(crate) struct Migrate {
    /// The process.
    #[arg(allow_negative_numbers = true)]
    pub(crate) pid: i32,
    /// A node's number or name, 'home', or 'best' (also 'balance') for the least loaded node.
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
#[command(after_help = CODES)]
pub(crate) struct OfProcess {
    /// The process.
    #[arg(allow_negative_numbers = true)]
    pub(crate) pid: i32,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// List processes that were moved, and guests.
#[derive(Parser)]
#[command(version, after_help = CODES)]
pub(crate) struct Listing {
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
#[command(after_help = CODES)]
pub(crate) struct Expel {
    /// The guest's pid at its home ('om ps' shows it).
    #[arg(required_unless_present = "all")]
    pub(crate) pid: Option<i32>,
    /// Its home: a node's number or name.
    #[arg(required_unless_present = "all")]
    pub(crate) home: Option<String>,
    /// All guests; no new ones are let in any more.
    #[arg(long, conflicts_with_all = ["pid", "home"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Measure how fast this machine's CPUs are, or set it.
#[derive(Parser)]
#[command(version, after_help = CODES)]
pub(crate) struct Tune {
    /// What it is to be instead of a measurement; the standard CPU has 10000.
    #[arg(long, value_name = "SPEED")]
    pub(crate) speed: Option<u32>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Start a program in the ordinary way, at once on a node or where the cluster thinks best.
///
/// The first word is a node, and the program is moved there as soon as it runs and locked there; with an option that says
/// more about the place (-h, -j, -l, -L, -k) or about the program (-c, -i, -n, -s, -f, -t, -d, -e, -r), only a number is a
/// node, and without one the program begins here. A node may be written as an option, too, as it always was: -3.
///
/// It keeps the terminal, the working directory and all else. If it cannot move, mosrun says so and it runs here. Nothing
/// is started where the daemon does not answer or no node has this name.
#[derive(Parser)]
#[command(
    version,
    disable_help_flag = true,
    override_usage = "mosrun [OPTIONS] NODE COMMAND...\n       mosrun [OPTIONS] {-h | -j NODES | -l | -L | -k | -c | -i | -n | -s | -f} COMMAND...",
    after_help = "NODE is a node's number or name, 'home', or 'best' for the least loaded node.\n\
                  Ends as the program ends: with its exit code, or by its signal."
)]
pub(crate) struct Mosrun {
    #[command(flatten)]
    placing: Placing,
    /// Start it again if its host or its connection is lost, with the same arguments, environment, directory and
    /// streams; N times at most [default: 3].
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "3")]
    pub(crate) rerun: Option<u32>,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// The daemon's socket.
    #[arg(long, env = "OM_SOCKET", value_name = "FILE", default_value = control::DAEMON_SOCKET)]
    pub(crate) socket: PathBuf,
    /// A node, unless the options tell where; then the program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<OsString>,
}

impl Mosrun {
    /// What is to run, and where.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        self.placing.plan(&self.words)
    }

    /// What was said and means nothing any more.
    pub(crate) fn without_meaning(&self) -> Option<String> {
        self.placing.nature.without_meaning()
    }
}

/// The words of a wrapper of mosrun.
#[derive(Parser)]
#[command(version, after_help = "Ends as the program ends: with its exit code, or by its signal.")]
pub(crate) struct Wrapper {
    /// The daemon's socket.
    #[arg(long, env = "OM_SOCKET", value_name = "FILE", default_value = control::DAEMON_SOCKET)]
    pub(crate) socket: PathBuf,
    /// The program and its arguments; with 'runon' a node before them.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// A switch's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    On,
    Off,
}

/// A switch, for clap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SwitchName {
    /// No process leaves this node by itself.
    Stay,
    /// No process of this home leaves by itself.
    Lstay,
    /// No new guests.
    Block,
    /// This node tells others nothing of its load.
    Quiet,
}

impl From<SwitchName> for Switch {
    fn from(name: SwitchName) -> Switch {
        match name {
            SwitchName::Stay => Switch::Stay,
            SwitchName::Lstay => Switch::Lstay,
            SwitchName::Block => Switch::Block,
            SwitchName::Quiet => Switch::Quiet,
        }
    }
}

#[derive(Args)]
#[command(after_help = CODES)]
pub(crate) struct NodeCommand {
    /// The switch; without one all are shown.
    pub(crate) switch: Option<SwitchName>,
    /// 'on' where nothing is said.
    #[arg(requires = "switch")]
    pub(crate) state: Option<OnOff>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
#[command(after_help = CODES)]
pub(crate) struct Speed {
    /// The standard CPU has 10000; 'auto' measures it again. Without it the speed is shown.
    pub(crate) speed: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
#[command(after_help = CODES)]
pub(crate) struct Log {
    /// Nothing older: 30s, 10m, 2h or 3d ago, or @SECONDS since 1970.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only of this process.
    #[arg(long)]
    pub(crate) pid: Option<i32>,
    /// What processes that have ended had used away instead: CPU time, moves, system calls that their home did.
    #[arg(long)]
    pub(crate) ended: bool,
    /// Go on with what happens from now on.
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Show it full-screen; 'h' tells the keys.
#[derive(Parser)]
#[command(version, after_help = CODES)]
pub(crate) struct Screen {
    /// Print it once, as text.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// openMosix's own control program.
#[derive(Parser)]
#[command(version, after_help = CODES)]
pub(crate) struct Mosctl {
    /// stay, nostay, lstay, nolstay, block, noblock, quiet, noquiet, expel, bring, setspeed, getspeed, getload, getmem,
    /// getfree, getutil, status, whois, isup, getdecay, setdecay.
    pub(crate) verb: String,
    /// A node's number, name or address; for 'setspeed' the speed, for 'setdecay' the seconds after which statistics decay.
    pub(crate) argument: Option<String>,
    /// For 'setdecay': thousandths that are kept then, slowly and fast.
    #[arg(num_args = 2, value_names = ["SLOW", "FAST"])]
    pub(crate) kept: Vec<u16>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct Man {
    /// The directory; it is made where there is none.
    pub(crate) directory: PathBuf,
}

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Where a node's files go.
#[derive(Args)]
pub(crate) struct Place {
    /// Put the configuration, the identity and everything else below this directory instead of the usual places
    /// (/etc/openmosix, /run/openmosix, ...); start the daemon with --config DIR/omd.toml then.
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Init {
    /// The cluster's name.
    #[arg(long, default_value = "openmosix")]
    pub(crate) cluster: String,
    /// This node's number.
    #[arg(long, default_value = "1")]
    pub(crate) id: NodeId,
    /// This node's name; n1, n2, ... by default.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where this node listens.
    #[arg(long, default_value = "0.0.0.0:4660", value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Invite {
    /// The new node's number; the first free one by default.
    #[arg(long)]
    pub(crate) id: Option<NodeId>,
    /// The new node's name; n1, n2, ... by default.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where the new machine reaches this node.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) address: Option<SocketAddr>,
    /// This node's configuration.
    #[arg(long, value_name = "FILE", default_value = node::config::CONFIG_FILE)]
    pub(crate) config: PathBuf,
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Join {
    /// What 'om invite' printed.
    pub(crate) token: String,
    /// This node's name; the one in the invitation by default.
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// Where this node will listen.
    #[arg(long, default_value = "0.0.0.0:4660", value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}
