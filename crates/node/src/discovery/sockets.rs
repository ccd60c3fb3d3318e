//! The sockets of discovery: one for each family on which the node is reached and sends, and those of the groups: one for
//! IPv4, and for IPv6 one in each network. Where a group of IPv6 is valid in one network only, as the usual one is, the
//! kernel binds no socket to it without being told the network.
//!
//! Groups are joined interface by interface, never "on the default interface", and left behind by one router at most (time
//! to live 1). What goes into a group comes back to this machine: several nodes may live on it.

use super::interfaces::Interface;
use crate::Error;
use crate::config::Cluster;
use membership::Via;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Socket, Type};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// The sockets that send. Any thread may use them.
#[derive(Debug)]
pub(super) struct Unicast {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Unicast {
    /// Opens them on the address on which the node listens by TCP.
    pub(super) fn open(listen: SocketAddr) -> Result<Unicast, Error> {
        let failed = |source| Error::Listen { address: format!("{listen} (UDP)"), source };
        let port = listen.port();
        let both = listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let v4_address = match listen.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => both.then_some(Ipv4Addr::UNSPECIFIED),
        };
        let v4 = v4_address.map(|ip| bind(SocketAddr::from((ip, port))));
        let v6 = listen.is_ipv6().then(|| bind(listen));
        // A machine that listens everywhere may lack a family.
        let take = |socket: Option<io::Result<UdpSocket>>| match socket {
            Some(Err(_)) if both => Ok(None),
            Some(socket) => socket.map(Some),
            None => Ok(None),
        };
        let sockets = Unicast { v4: take(v4).map_err(failed)?, v6: take(v6).map_err(failed)? };
        if sockets.v4.is_none() && sockets.v6.is_none() {
            return Err(failed(io::ErrorKind::AddrNotAvailable.into()));
        }
        Ok(sockets)
    }

    /// Sends a datagram; whether it arrives nobody knows.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let socket = socket.as_ref().ok_or(io::ErrorKind::AddrNotAvailable)?;
        socket.send_to(datagram, to).map(drop)
    }
}

/// A socket on which the node is reached. Every group is joined by name; what else comes into a group is not for it.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new(address)?;
    match address {
        SocketAddr::V4(_) => {
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(true)?;
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_hops_v6(1)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn new(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The group's port may be the node's own, and other nodes of this machine listen to the same group.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// All sockets, with those of the groups.
pub(super) struct Sockets {
    pub(super) unicast: Arc<Unicast>,
    v4: Option<UdpSocket>,
    /// By the index of the interface.
    v6: BTreeMap<u32, UdpSocket>,
    groups: (SocketAddr, SocketAddr),
    joined: BTreeSet<(u32, bool)>,
    interfaces: Vec<Interface>,
    wake: Arc<OwnedFd>,
}

impl Sockets {
    pub(super) fn open(listen: SocketAddr, rules: &Cluster) -> Result<Sockets, Error> {
        let groups = (
            SocketAddr::from((rules.multicast_v4, rules.port)),
            SocketAddr::from((rules.multicast_v6, rules.port)),
        );
        let unicast = Unicast::open(listen)?;
        let open_v4 = || {
            let address = groups.0;
            open_v4(address)
                .inspect_err(|error| {
                    tracing::warn!(%address, %error, "no multicast here: seeds and known nodes are used alone");
                })
                .ok()
        };
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        Ok(Sockets {
            v4: unicast.v4.is_some().then(open_v4).flatten(),
            v6: BTreeMap::new(),
            unicast: Arc::new(unicast),
            groups,
            joined: BTreeSet::new(),
            interfaces: Vec::new(),
            wake: Arc::new(wake.map_err(Error::system("make an event"))?),
        })
    }

    /// What ends a wait from another thread.
    pub(super) fn waker(&self) -> Arc<OwnedFd> {
        self.wake.clone()
    }

    /// Joins the groups on these interfaces; those that were lost are forgotten.
    pub(super) fn follow(&mut self, interfaces: Vec<Interface>) {
        let mut joined = BTreeSet::new();
        self.v6.retain(|index, _| interfaces.iter().any(|interface| interface.index == *index));
        for interface in &interfaces {
            for is_v4 in [true, false] {
                // One that went and came back has lost its membership: joining twice does no harm.
                match self.join(interface, is_v4) {
                    Ok(true) => drop(joined.insert((interface.index, is_v4))),
                    Ok(false) => {}
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        joined.insert((interface.index, is_v4));
                    }
                    Err(error) if !self.interfaces.contains(interface) => {
                        tracing::warn!(interface = interface.name, %error, "no multicast on this network: seeds and known nodes are used there");
                    }
                    Err(_) => {}
                }
            }
        }
        self.joined = joined;
        self.interfaces = interfaces;
    }

    /// Joins a family's group on an interface; false where the interface, or this node, does not use that family.
    fn join(&mut self, interface: &Interface, is_v4: bool) -> io::Result<bool> {
        let index = interface.index;
        match (is_v4, self.groups) {
            (true, (SocketAddr::V4(group), _)) => {
                let Some(socket) = self.v4.as_ref().filter(|_| !interface.v4.is_empty()) else {
                    return Ok(false);
                };
                let there = InterfaceIndexOrAddress::Index(index);
                SockRef::from(socket).join_multicast_v4_n(group.ip(), &there)?;
            }
            (false, (_, SocketAddr::V6(group))) => {
                if self.unicast.v6.is_none() || interface.v6.is_empty() {
                    return Ok(false);
                }
                let socket = match self.v6.entry(index) {
                    Entry::Occupied(there) => there.into_mut(),
                    Entry::Vacant(room) => room.insert(open_v6(group, interface)?),
                };
                SockRef::from(&*socket).join_multicast_v6(group.ip(), index)?;
            }
            // The first group is always of the one family, the second of the other.
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Sends a datagram into the groups of all networks.
    pub(super) fn announce(&self, datagram: &[u8]) {
        for interface in &self.interfaces {
            if let (Some(socket), Some(own)) = (&self.unicast.v4, interface.v4.first()) {
                let socket = SockRef::from(socket);
                self.send_into(&socket, self.groups.0, datagram, interface, socket.set_multicast_if_v4(own));
            }
            if let (Some(socket), false) = (&self.unicast.v6, interface.v6.is_empty()) {
                let socket = SockRef::from(socket);
                let chosen = socket.set_multicast_if_v6(interface.index);
                self.send_into(&socket, self.groups.1, datagram, interface, chosen);
            }
        }
    }

    fn send_into(
        &self,
        socket: &Socket,
        group: SocketAddr,
        datagram: &[u8],
        interface: &Interface,
        chosen: io::Result<()>,
    ) {
        if !self.joined.contains(&(interface.index, group.is_ipv4())) {
            return;
        }
        let sent = chosen.and_then(|()| socket.send_to(datagram, &SockAddr::from(group)));
        if let Err(error) = sent {
            tracing::debug!(interface = interface.name, %error, "cannot announce");
        }
    }

    /// Waits until something comes, or somebody wakes, or the time is over.
    pub(super) fn wait(&self, limit: Duration) -> Result<(), Error> {
        let sockets = self.all().map(|(socket, _)| socket.as_fd()).chain([self.wake.as_fd()]);
        let mut waited: Vec<PollFd<'_>> =
            sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
        let limit = PollTimeout::try_from(limit.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut waited, limit) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::system("wait for datagrams")(errno)),
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        Ok(())
    }

    /// One datagram that has come, if any has: its length, where from, and how.
    pub(super) fn receive(&self, room: &mut [u8]) -> Option<(usize, SocketAddr, Via)> {
        self.all().find_map(|(socket, via)| {
            let (length, from) = socket.recv_from(room).ok()?;
            Some((length, from, via))
        })
    }

    fn all(&self) -> impl Iterator<Item = (&UdpSocket, Via)> {
        let own = [&self.unicast.v4, &self.unicast.v6].into_iter().flatten();
        let groups = self.v4.iter().chain(self.v6.values());
        own.map(|socket| (socket, Via::Unicast)).chain(groups.map(|socket| (socket, Via::Multicast)))
    }
}

fn open_v4(group: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new(group)?;
    socket.set_multicast_all_v4(false)?;
    socket.bind(&SockAddr::from(group))?;
    Ok(socket.into())
}

/// A socket for what comes into the group from this network alone.
fn open_v6(group: SocketAddrV6, interface: &Interface) -> io::Result<UdpSocket> {
    let here = SocketAddrV6::new(*group.ip(), group.port(), 0, interface.index);
    let socket = new(here.into())?;
    socket.set_multicast_all_v6(false)?;
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.bind(&SockAddr::from(here))?;
    Ok(socket.into())
}
