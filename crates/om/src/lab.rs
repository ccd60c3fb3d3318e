//! `om lab`: a virtual cluster on this machine, made of namespaces.

use crate::torture::{self, Torture};
use anyhow::Result;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use lab::{Cable, CpuShare, Daemons, Lab, Memory, Rate, Spec, State, Terminal};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The lab meant when none is named.
const DEFAULT_NAME: &str = "lab";
/// Nodes of a lab when nothing says how many.
const DEFAULT_NODES: u16 = 3;
/// Exit status of `exec` when the command could not be run, as a shell has it.
const NOT_RUN: u8 = 127;
/// Longest time of `cut --for`, seconds.
const CUT_SECONDS_MAX: f64 = 86_400.0;

/// `om lab`.
#[derive(Args)]
pub(crate) struct LabCommand {
    /// Name of the lab [default: lab; `ls` without it lists all].
    #[arg(long, global = true)]
    name: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a lab: nodes n1, n2, ... with their own network, processes, files and clocks.
    Up(Up),
    /// Run a command in a node, as ssh would.
    Exec(Exec),
    /// List the nodes of running labs.
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Trouble a node's network: cut its cable, in silence, or reset its connections.
    Cut(Cut),
    /// Mend a node's cable.
    Mend {
        /// The node, like n1.
        node: String,
    },
    /// Take a lab down, with everything that runs in it.
    Down,
    /// Run a command twice in a lab of its own, once while it and all it starts is moved about at random, and compare.
    ///
    /// Compared are standard output and error, the end, and the files in the scratch directory, where the command starts
    /// (also in $OM_SCRATCH). Standard input is read once and given to both runs. The exit code is 1 if anything differs,
    /// breaks, or is left behind.
    Torture(Torture),
}

#[derive(Args)]
struct Up {
    /// How many nodes [default: as many as a list names, or else 3].
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// CPUs of the nodes: one number for all, or one each; fractions limit the time on the last.
    #[arg(long, value_name = "C[,C...]", value_delimiter = ',')]
    cpus: Vec<CpuShare>,
    /// Memory of the nodes, like 512M or 2G: one amount for all, or one each [default: no limit].
    #[arg(long = "mem", value_name = "M[,M...]", value_delimiter = ',')]
    memory: Vec<Memory>,
    /// Speed of every node's network connection, like 100mbit, 1gbit, 10gbit or none.
    #[arg(long, value_name = "RATE", default_value = "none", value_parser = rate)]
    rate: MaybeRate,
    /// File system of the nodes; nothing in it is ever changed.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// A setting for every node's omd.toml, like guests.max=8 or 'balance.policy="none"'; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Start no daemons in the nodes.
    #[arg(long)]
    bare: bool,
    /// Stay; the lab goes down with this command (at ^C, SIGTERM, end of input or its death).
    #[arg(long)]
    foreground: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Cut {
    /// The node, like n1.
    node: String,
    /// Mend the cable after so many seconds [default: leave it cut].
    #[arg(long = "for", value_name = "SECONDS", conflicts_with = "reset", value_parser = seconds)]
    time: Option<Duration>,
    /// Leave the cable alone and end every connection of the node with other machines.
    #[arg(long)]
    reset: bool,
}

#[derive(Args)]
struct Exec {
    /// User to run as, by the node's own name or number.
    #[arg(long, value_name = "USER", default_value = "root")]
    user: String,
    /// Give the command a terminal of its own.
    #[arg(long)]
    tty: bool,
    /// The node, like n1.
    node: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

/// A speed, or the word for its absence. (A plain `Option` would mean an absent option to clap.)
#[derive(Clone, Copy)]
struct MaybeRate(Option<Rate>);

fn rate(text: &str) -> lab::Result<MaybeRate> {
    if text == "none" { Ok(MaybeRate(None)) } else { text.parse().map(Some).map(MaybeRate) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: Result<f64, _> = text.trim_end_matches('s').parse();
    number
        .ok()
        .filter(|seconds| (0.0..=CUT_SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("'{text}' is no number of seconds from 0 to {CUT_SECONDS_MAX}"))
}

impl LabCommand {
    /// Whether the answer, or the failure, is to be printed as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match &self.action {
            Action::Up(options) => options.json,
            Action::Ls { json } => *json,
            Action::Torture(options) => options.json,
            Action::Exec(_) | Action::Cut(_) | Action::Mend { .. } | Action::Down => false,
        }
    }
}

/// Runs `om lab`.
pub(crate) fn run(command: LabCommand) -> Result<ExitCode, crate::exit::Failure> {
    act(command).map_err(crate::exit::Failure::from)
}

fn act(command: LabCommand) -> Result<ExitCode> {
    let named = command.name.as_deref();
    let name = named.unwrap_or(DEFAULT_NAME);
    match command.action {
        Action::Up(options) => up(name, options),
        Action::Exec(options) => exec(name, &options),
        Action::Ls { json } => list(named, json),
        Action::Cut(options) => cut(name, &options),
        Action::Mend { node } => {
            Lab::find(name)?.set_cable(&node, Cable::Whole)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Down => {
            Lab::find(name)?.down()?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Torture(options) => torture::run(named, options),
    }
}

fn up(name: &str, options: Up) -> Result<ExitCode> {
    let listed = options.cpus.len().max(options.memory.len());
    let nodes = match options.nodes {
        Some(nodes) => nodes,
        None if listed > 1 => u16::try_from(listed)?,
        None => DEFAULT_NODES,
    };
    let spec = Spec {
        cpus: options.cpus,
        memory: options.memory,
        rate: options.rate.0,
        root: options.root,
        daemons: if options.bare { Daemons::Bare } else { Daemons::Started },
        settings: options.settings,
        ..Spec::new(name, nodes)
    };
    if !options.foreground {
        let state = Lab::up(&spec)?.let_go()?;
        print(&[state], options.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ending = lab::Ending::watch()?;
    let lab = Lab::up(&spec)?;
    print(std::slice::from_ref(lab.state()), options.json)?;
    lab.wait_for(&ending);
    lab.down()?;
    Ok(ExitCode::SUCCESS)
}

fn cut(name: &str, options: &Cut) -> Result<ExitCode> {
    let lab = Lab::find(name)?;
    if options.reset {
        println!("{} connections reset", lab.reset_connections(&options.node)?);
        return Ok(ExitCode::SUCCESS);
    }
    lab.set_cable(&options.node, Cable::Cut)?;
    if let Some(time) = options.time {
        std::thread::sleep(time);
        lab.set_cable(&options.node, Cable::Whole)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(name: &str, options: &Exec) -> Result<ExitCode> {
    let terminal = if options.tty { Terminal::Own } else { Terminal::Inherited };
    let entry = Lab::find(name)?.enter(&options.node)?.user(&options.user).terminal(terminal);
    let (program, arguments) = options.command.split_first().ok_or(lab::Error::NoCommand)?;
    let mut command = entry.command(program)?;
    // Comes back only if the command could not be run.
    let error = command.args(arguments).exec();
    eprintln!("om: cannot run '{}' in {}: {error}", program.display(), options.node);
    Ok(ExitCode::from(NOT_RUN))
}

fn list(name: Option<&str>, json: bool) -> Result<ExitCode> {
    let states = match name {
        Some(name) => vec![Lab::find(name)?.state().clone()],
        None => Lab::all(),
    };
    print(&states, json)?;
    Ok(ExitCode::SUCCESS)
}

fn print(states: &[State], json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "labs": states }))?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", table(states))?;
    }
    Ok(out.flush()?)
}

fn table(states: &[State]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["LAB", "NODE", "ID", "ADDRESS", "CPUS", "MEMORY", "RATE", "STATE"]);
    for state in states {
        for node in &state.nodes {
            let pinned: Vec<_> = node.cpus.iter().map(usize::to_string).collect();
            table.add_row([
                state.name.clone(),
                node.name.clone(),
                node.id.to_string(),
                node.address.to_string(),
                format!("{} (cpu {})", node.cpu_share, pinned.join(",")),
                node.memory.map_or("-".to_owned(), |memory| format!("{} MiB", memory.bytes >> 20)),
                state.rate.map_or("-".to_owned(), |rate| rate.to_string()),
                if node.is_alive() { "up" } else { "dead" }.to_owned(),
            ]);
        }
    }
    table
}
