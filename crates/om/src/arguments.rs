//! The command lines.

use crate::exit::CODES;
use clap::{Args, Parser, Subcommand};
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
    /// Send a guest of this machine home (root only).
    Expel(Expel),
    /// Start a program and move it to a node at once (also as 'mosrun').
    Run(Mosrun),
    /// Make a new cluster with this machine as its first node.
    Init(Init),
    /// Print an invitation for a new node; it is valid once and for an hour (root, on the node where 'om init' ran).
    Invite(Invite),
    /// Make this machine a node of the cluster that it is invited to.
    Join(Join),
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
            Command::Init(arguments) => arguments.json,
            Command::Invite(arguments) => arguments.json,
            Command::Join(arguments) => arguments.json,
            Command::Lab(command) => command.wants_json(),
            // What a program prints is its own.
            Command::Run(_) => false,
        }
    }
}

/// How to reach the daemon, and how to print.
#[derive(Args)]
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
    /// A node's number or name, or 'home'.
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
    pub(crate) pid: i32,
    /// Its home: a node's number or name.
    pub(crate) home: String,
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
/// more about the place (-h, -j, -l, -L, -k), only a number is a node, and without one the program begins here.
///
/// It keeps the terminal, the working directory and all else. If it cannot move, mosrun says so and it runs here. Nothing
/// is started where the daemon does not answer or no node has this name.
#[derive(Parser)]
#[command(
    version,
    disable_help_flag = true,
    after_help = "Ends as the program ends: with its exit code, or by its signal."
)]
pub(crate) struct Mosrun {
    #[command(flatten)]
    pub(crate) placing: crate::standing::Placing,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// A node's number or name, then the program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "[NODE] COMMAND")]
    pub(crate) command: Vec<OsString>,
    /// The daemon's socket.
    #[arg(long, env = "OM_SOCKET", value_name = "FILE", default_value = control::DAEMON_SOCKET)]
    pub(crate) socket: PathBuf,
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
