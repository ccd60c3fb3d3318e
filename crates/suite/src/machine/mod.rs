//! A second kernel: a whole machine in an emulator, with another CPU, in the network of a lab.
//!
//! The emulator runs inside a node of the lab, which lends the machine its cable: the node's end of it becomes a port of a
//! bridge, and a tap device is the other. So it ends with the lab, whatever happens. It emulates the CPU too, for hardware
//! need not allow it otherwise: that makes it slow, and lets the trials choose what the CPU lacks.

mod archive;
mod init;
mod line;
mod root;

pub use init::{run as init, serve};
pub use line::call;

use crate::cluster::Reaped;
use crate::place::Place;
use crate::{Cluster, Stream, Workshop};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The machine's address in the lab's network; no node of a small lab has it.
const ADDRESS: &str = "10.77.0.100";
const PREFIX_BITS: u8 = 24;
/// AVX2 but neither AVX-512 nor protection keys, and without what this emulator has not.
const CPU: &str = "Haswell-noTSX,+xgetbv1,-pcid,-x2apic,-tsc-deadline,-invpcid";
const MEMORY: &str = "512M";
/// How long booting may take on a busy machine.
const BOOT: Duration = Duration::from_secs(120);
/// Where the node that carries it has its files.
const THERE: &str = "/tmp/machine";

/// What the node that carries the machine must do first.
const BRIDGE: &str = "ip link add br0 type bridge && ip address flush dev eth0 && ip link set eth0 master br0 && \
     ip tuntap add dev tap0 mode tap && ip link set tap0 master br0 && ip link set tap0 up && ip link set br0 up";

/// A machine that is up; it ends with its cluster, or when it is dropped.
pub struct Machine<'a> {
    cluster: &'a Cluster,
    emulator: Reaped,
    console: Arc<Stream>,
    /// How long it took until it ran commands.
    pub boot: Duration,
}

/// Why no machine can be booted here; none if one can.
pub(crate) fn missing() -> Option<String> {
    if !Path::new("/dev/net/tun").exists() {
        return Some("this machine has no /dev/net/tun".to_owned());
    }
    let is_here = Workshop::open().is_ok_and(|workshop| image(&workshop.kernel).is_some());
    (!is_here)
        .then(|| "the second kernel is not here; on Debian 12 'cargo xtask setup' fetches it".to_owned())
}

/// The kernel's own file.
fn image(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory.join("boot")).ok()?.flatten().map(|entry| entry.path());
    entries.into_iter().find(|path| path.to_string_lossy().contains("/vmlinuz-"))
}

impl<'a> Machine<'a> {
    /// Boots it with these guests, carried by a node that is used for nothing else. Returns when it runs commands.
    pub fn boot(
        cluster: &'a Cluster,
        carrier: &'static str,
        name: &str,
        guests: &[&str],
    ) -> Result<Machine<'a>> {
        let files = prepare(&Workshop::open()?.kernel, guests)?;
        let node = cluster.node(carrier);
        node.bring(&files, THERE, &[])?;
        fs::remove_dir_all(&files).context("failed to remove the machine's files")?;
        node.must(BRIDGE)?;
        let words = format!(
            "console=ttyS0 quiet panic=-1 {}{ADDRESS}/{PREFIX_BITS} {}{name}",
            init::ADDRESS_WORD,
            init::NAME_WORD
        );
        let arguments = [
            "qemu-system-x86_64",
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-accel",
            "tcg,tb-size=128",
            "-cpu",
            CPU,
            "-m",
            MEMORY,
            "-kernel",
            &format!("{THERE}/kernel"),
            "-initrd",
            &format!("{THERE}/root"),
            "-append",
            &words,
            "-serial",
            "stdio",
            "-netdev",
            "tap,id=net,ifname=tap0,script=no,downscript=no",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ];
        let began = Instant::now();
        let mut command = cluster.exec(carrier, &arguments, false);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("failed to start the emulator")?;
        let console = Stream::of(child.stdout.take().context("no pipe")?);
        let emulator = Reaped(child);
        let served = console.wait_for(init::SERVES, 0, BOOT);
        served.with_context(|| format!("the machine did not come up: {}", console.text()))?;
        Ok(Machine { cluster, emulator, console, boot: began.elapsed() })
    }

    /// The machine, as a place.
    pub fn place(&self) -> Place<'_> {
        Place::Machine(self)
    }

    /// A command there.
    pub(crate) fn exec(&self, arguments: &[&str]) -> Command {
        let address = format!("{ADDRESS}:{}", init::PORT);
        let mut words = vec!["/opt/openmosix/bin/machine", "call", &address];
        words.extend(arguments);
        self.cluster.exec(self.cluster.nodes()[0], &words, false)
    }

    /// The directory of the guests there.
    pub(crate) fn guests(&self) -> String {
        root::GUESTS.to_owned()
    }

    /// What its kernel said, for the reader of a failure.
    pub fn console(&self) -> String {
        self.console.text()
    }

    /// Whether it runs.
    pub fn is_up(&mut self) -> bool {
        self.emulator.0.try_wait().is_ok_and(|status| status.is_none())
    }
}

/// A directory of ours with the kernel and its root file system.
fn prepare(kernel: &Path, guests: &[&str]) -> Result<PathBuf> {
    let directory = Workshop::open()?.scratch.join(format!("machine-{}", std::process::id()));
    fs::create_dir_all(&directory).context("failed to make a directory for the machine")?;
    let image = image(kernel).context("no kernel")?;
    fs::copy(image, directory.join("kernel")).context("failed to copy the kernel")?;
    let root = root::pack(kernel, guests)?;
    ensure!(root.len() < 256 << 20, "the machine's file system is too large: {} bytes", root.len());
    fs::write(directory.join("root"), root).context("failed to write the machine's file system")?;
    Ok(directory)
}
