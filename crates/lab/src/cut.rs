//! Trouble on the lab's network, as real networks have it.
//!
//! A cut cable is dark at the switch's end: the node keeps its address and its routes, nobody is told, and whatever is
//! sent vanishes. A reset is the opposite: every connection of the node ends at once, on both sides, and the next one is
//! welcome.

use crate::error::{Doing, Error, Result};
use crate::identity;
use crate::netlink::{Request, Socket, link_message, link_off};
use crate::state::{NodeState, State};
use crate::wiring::{index_of, switch_end};
use nix::sched::{CloneFlags, setns};
use std::fs;
use std::net::Ipv4Addr;

/// From linux/sock_diag.h.
const SOCK_DESTROY: u16 = 21;
/// `INET_DIAG_NOCOOKIE`, twice: whichever connection has these ends.
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// What `/proc/net/tcp` says of a socket that listens.
const LISTENING: &str = "0A";
/// What it says of one that is only waited for.
const WAITING: &str = "06";

/// Whether a node's cable is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Nothing comes through.
    Cut,
    /// Everything does.
    Whole,
}

/// Cuts or mends a node's cable.
pub(crate) fn set_cable(state: &State, node: &NodeState, cable: Cable) -> Result<()> {
    inside(state.supervisor.pid, state.supervisor, &state.name, || {
        let socket = crate::wiring::open()?;
        let name = switch_end(node.id);
        let index = index_of(&name)?;
        let message = match cable {
            Cable::Whole => link_message(index, true),
            Cable::Cut => link_off(index),
        };
        socket.call(Request::new(libc::RTM_NEWLINK, 0, &message)).doing(|| format!("switch {name}"))
    })
}

/// Ends every TCP connection of a node with other machines; gives their number.
pub(crate) fn reset(state: &State, node: &NodeState) -> Result<usize> {
    inside(node.init.pid, node.init, &state.name, || {
        let path = "/proc/thread-self/net/tcp";
        let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
        let socket = Socket::open_diagnostics().doing(|| "open a socket for diagnostics".to_owned())?;
        let connections: Vec<Connection> =
            text.lines().filter_map(connection).filter(|found| !found.far.0.is_loopback()).collect();
        let mut ended = 0;
        for found in &connections {
            match socket.call(destroy(found)) {
                Ok(()) => ended += 1,
                // It ended by itself meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => {
                    return Err(error).doing(|| "end a connection (CONFIG_INET_DIAG_DESTROY)".to_owned());
                }
            }
        }
        Ok(ended)
    })
}

/// Does something in the network namespace of a process, in a thread that ends with it.
fn inside<T: Send>(
    pid: i32,
    process: model::ProcessId,
    lab: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(&path).doing(|| format!("open {path}"))?;
    // Only now is the path known to have been this process's.
    if identity::hold(process).is_none() {
        return Err(Error::NoSuchLab(lab.to_owned()));
    }
    let enter_and_work = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)
            .doing(|| format!("enter the network of process {pid}"))?;
        work()
    };
    std::thread::scope(|scope| match scope.spawn(enter_and_work).join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

type Place = (Ipv4Addr, u16);

#[derive(Debug, PartialEq, Eq)]
struct Connection {
    near: Place,
    far: Place,
}

/// A line of `/proc/net/tcp`, unless it is about something that is no connection.
fn connection(line: &str) -> Option<Connection> {
    let mut fields = line.split_whitespace().skip(1);
    let (near, far, state) = (fields.next()?, fields.next()?, fields.next()?);
    if state == LISTENING || state == WAITING {
        return None;
    }
    Some(Connection { near: place(near)?, far: place(far)? })
}

fn place(text: &str) -> Option<Place> {
    let (address, port) = text.split_once(':')?;
    // The kernel prints the address as a number of this machine, though its bytes are in the network's order.
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some((address.into(), u16::from_str_radix(port, 16).ok()?))
}

/// `struct inet_diag_req_v2` of linux/inet_diag.h.
fn destroy(found: &Connection) -> Request {
    let mut fixed = vec![libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0];
    fixed.extend(u32::MAX.to_ne_bytes());
    fixed.extend(found.near.1.to_be_bytes());
    fixed.extend(found.far.1.to_be_bytes());
    for (address, _) in [found.near, found.far] {
        fixed.extend(address.octets());
        fixed.extend([0; 12]);
    }
    fixed.extend(0u32.to_ne_bytes());
    fixed.extend(NO_COOKIE);
    Request::new(SOCK_DESTROY, 0, &fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_told_from_what_is_none() {
        let line =
            |state: &str| format!("   2: 01004D0A:1234 02004D0A:C350 {state} 00000000:00000000 00:0 0");
        let ends = (Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2));
        let found = Connection { near: (ends.0, 0x1234), far: (ends.1, 0xc350) };
        assert_eq!(connection(&line("01")), Some(found));
        assert_eq!(connection(&line(LISTENING)), None);
        assert_eq!(connection("  sl  local_address rem_address   st tx_queue rx_queue"), None);
        assert_eq!(connection(""), None);
    }
}
