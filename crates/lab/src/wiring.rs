//! The lab's network: one bridge, and one cable to every node.

use crate::error::{Doing, Result};
use crate::netlink::{Request, Socket, link_message};
use crate::spec::Rate;
use model::NodeId;
use nix::net::if_::if_nametoindex;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

const BRIDGE: &str = "om0";
/// What a node calls its end of the cable.
const NODE_END: &str = "eth0";
const PREFIX_BITS: u8 = 24;

// From linux/if_link.h, linux/veth.h, linux/rtnetlink.h and linux/pkt_sched.h; libc lacks them.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_BURST: u16 = 6;
const TC_H_ROOT: u32 = u32::MAX;
const TC_LINKLAYER_ETHERNET: u8 = 1;

/// The address of a node. Every lab uses the same: each has a network namespace of its own.
pub(crate) fn address(id: NodeId) -> Ipv4Addr {
    let [high, low] = id.get().to_be_bytes();
    Ipv4Addr::new(10, 77, high, low)
}

/// A socket into this process's network namespace.
pub(crate) fn open() -> Result<Socket> {
    Socket::open().doing(|| "open a netlink socket".to_owned())
}

/// What the switch calls its end of a node's cable.
pub(crate) fn switch_end(id: NodeId) -> String {
    format!("n{id}")
}

pub(crate) fn index_of(name: &str) -> Result<u32> {
    if_nametoindex(name).doing(|| format!("find the network interface {name}"))
}

/// In the supervisor: makes the bridge.
pub(crate) fn make_bridge(socket: &Socket) -> Result<()> {
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let bridge = Request::new(libc::RTM_NEWLINK, create, &link_message(0, true))
        .text(libc::IFLA_IFNAME, BRIDGE)
        .nested(libc::IFLA_LINKINFO, &[], |info| info.text(IFLA_INFO_KIND, "bridge"));
    socket.call(bridge).doing(|| format!("make the bridge {BRIDGE}"))
}

/// In a node: makes its cable, whose other end appears in the network namespace `switch`.
pub(crate) fn make_cable(
    socket: &Socket,
    id: NodeId,
    switch: BorrowedFd<'_>,
    rate: Option<Rate>,
) -> Result<()> {
    socket
        .call(Request::new(libc::RTM_NEWLINK, 0, &link_message(index_of("lo")?, true)))
        .doing(|| "switch the loopback interface on".to_owned())?;
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let cable = Request::new(libc::RTM_NEWLINK, create, &link_message(0, false))
        .text(libc::IFLA_IFNAME, NODE_END)
        .nested(libc::IFLA_LINKINFO, &[], |info| {
            info.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, &[], |data| {
                data.nested(VETH_INFO_PEER, &link_message(0, false), |peer| {
                    peer.text(libc::IFLA_IFNAME, &switch_end(id))
                        .attribute(libc::IFLA_NET_NS_FD, &switch.as_raw_fd().to_ne_bytes())
                })
            })
        });
    socket.call(cable).doing(|| format!("make the network cable of node {id}"))?;
    let index = index_of(NODE_END)?;
    let octets = address(id).octets();
    let mut fixed = vec![libc::AF_INET as u8, PREFIX_BITS, 0, 0];
    fixed.extend(index.to_ne_bytes());
    let addressing = Request::new(libc::RTM_NEWADDR, create, &fixed)
        .attribute(libc::IFA_LOCAL, &octets)
        .attribute(libc::IFA_ADDRESS, &octets);
    socket.call(addressing).doing(|| format!("give node {id} its address"))?;
    switch_on(socket, NODE_END, None, rate)
}

/// In the supervisor: plugs a node's cable into the bridge.
pub(crate) fn plug_in(socket: &Socket, id: NodeId, rate: Option<Rate>) -> Result<()> {
    switch_on(socket, &switch_end(id), Some(index_of(BRIDGE)?), rate)
}

fn switch_on(socket: &Socket, name: &str, bridge: Option<u32>, rate: Option<Rate>) -> Result<()> {
    let index = index_of(name)?;
    if let Some(rate) = rate {
        socket.call(token_bucket(index, rate)).doing(|| format!("limit {name} to {rate} (sch_tbf)"))?;
    }
    let mut up = Request::new(libc::RTM_NEWLINK, 0, &link_message(index, true));
    if let Some(bridge) = bridge {
        up = up.attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
    }
    socket.call(up).doing(|| format!("switch {name} on"))
}

/// A token bucket filter as the interface's only queue (tc-tbf(8)).
///
/// The bucket holds a millisecond's worth, so that a timer tick never leaves the cable idle, and
/// at least one unsegmented packet; the queue holds 20 ms, as an ordinary switch would.
fn token_bucket(index: u32, rate: Rate) -> Request {
    let bytes_per_second = rate.bits / 8;
    let burst = (bytes_per_second / 1000).max(96 << 10) as u32;
    let limit = burst.saturating_add((bytes_per_second / 50) as u32);
    let mut fixed = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    fixed.extend(index.to_ne_bytes());
    fixed.extend(0_u32.to_ne_bytes());
    fixed.extend(TC_H_ROOT.to_ne_bytes());
    fixed.extend(0_u32.to_ne_bytes());
    // struct tc_tbf_qopt: rate and peak rate (struct tc_ratespec each), limit, buffer, mtu.
    let mut options = vec![0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    options.extend((bytes_per_second as u32).to_ne_bytes());
    options.extend([0; 12]);
    options.extend(limit.to_ne_bytes());
    options.extend([0; 8]);
    Request::new(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &fixed)
        .text(TCA_KIND, "tbf")
        .nested(TCA_OPTIONS, &[], |nest| {
            nest.attribute(TCA_TBF_PARMS, &options).attribute(TCA_TBF_BURST, &burst.to_ne_bytes())
        })
}
