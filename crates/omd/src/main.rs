//! The daemon and its agents in one binary.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use model::{NodeId, ProcessId, Session};
use nix::sys::signal::SigSet;
use node::{Setup, keeper, warden};
use std::os::fd::{AsFd as _, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The openMosix daemon: lets processes of this machine move to other nodes, and hosts theirs.
///
/// Runs in the foreground and logs to standard error; OMD_LOG=debug makes it say more. SIGTERM ends it; processes that
/// are away go on, and the next daemon finds them again.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = false)]
struct Arguments {
    /// The configuration, as 'om init' or 'om join' made it.
    #[arg(long, global = true, value_name = "FILE", default_value = node::config::CONFIG_FILE)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (this is what happens without a command, too).
    Run,
    /// Keep one process that is away (started by the daemon; its listener is standard input).
    #[command(hide = true)]
    Keeper {
        #[arg(long)]
        pid: i32,
        #[arg(long)]
        start_ticks: u64,
    },
    /// Guard one guest (started by the daemon; its listener is standard input).
    #[command(hide = true)]
    Warden {
        #[arg(long)]
        session: Session,
        #[arg(long)]
        home: NodeId,
        #[arg(long)]
        pid: i32,
        #[arg(long)]
        name: String,
    },
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    close_inherited();
    let filter = EnvFilter::try_from_env("OMD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("omd: failed to {}", model::one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = std::path::absolute(&arguments.config)?;
    match arguments.command {
        None | Some(Command::Run) => Ok(node::daemon::run(Setup::load(&config)?)?),
        Some(Command::Keeper { pid, start_ticks }) => {
            let listener = become_agent("omd-keeper")?;
            Ok(keeper::run(ProcessId { pid, start_ticks }, listener, Setup::load(&config)?)?)
        }
        Some(Command::Warden { session, home, pid, name }) => {
            let listener = become_agent("omd-warden")?;
            Ok(warden::run(session, home, pid, name, listener, Setup::load(&config)?)?)
        }
    }
}

/// What was started with descriptors open beyond the first three has no use for them, and its agents even less: a
/// forgotten pipe would stay open as long as a process is away.
fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<RawFd> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The descriptor of the listing itself is closed by now.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Makes this process independent of the daemon that started it, and gives the listener that it was handed.
fn become_agent(name: &str) -> anyhow::Result<UnixListener> {
    nix::unistd::setsid().context("leave the daemon's session")?;
    SigSet::empty().thread_set_mask().context("unblock signals")?;
    let name = std::ffi::CString::new(name)?;
    rustix::thread::set_name(&name).context("take a name")?;
    let listener = std::io::stdin().as_fd().try_clone_to_owned().context("take over the listener")?;
    let listener = UnixListener::from(listener);
    listener
        .local_addr()
        .context("use standard input as a listener: agents are started by the daemon only")?;
    Ok(listener)
}
