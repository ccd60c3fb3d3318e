//! The networks that this machine is in, looked up anew each time: interfaces come and go.

use crate::Error;
use crate::config::Cluster;
use model::limits::ADDRESSES_MAX;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A network interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) loopback: bool,
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
}

/// All interfaces that are up and have an address.
pub(super) fn all() -> Result<Vec<Interface>, Error> {
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    for entry in getifaddrs().map_err(Error::system("list the network interfaces"))? {
        let Some(address) = entry.address.filter(|_| entry.flags.contains(InterfaceFlags::IFF_UP)) else {
            continue;
        };
        let ip = if let Some(v4) = address.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(v6) = address.as_sockaddr_in6() {
            IpAddr::V6(v6.ip())
        } else {
            continue;
        };
        // It may have gone in the meantime.
        let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else { continue };
        let loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let interface = found.entry(entry.interface_name.clone()).or_insert_with(|| Interface {
            name: entry.interface_name,
            index,
            loopback,
            v4: Vec::new(),
            v6: Vec::new(),
        });
        match ip {
            IpAddr::V4(ip) => interface.v4.push(ip),
            IpAddr::V6(ip) => interface.v6.push(ip),
        }
    }
    Ok(found.into_values().collect())
}

/// Those that are used: the named ones, or all but the loopback; of a node that listens on one address, the one that has it.
pub(super) fn chosen(all: Vec<Interface>, rules: &Cluster, listen: IpAddr) -> Vec<Interface> {
    let wanted = |interface: &Interface| {
        if !listen.is_unspecified() {
            return match listen {
                IpAddr::V4(ip) => interface.v4.contains(&ip),
                IpAddr::V6(ip) => interface.v6.contains(&ip),
            };
        }
        if rules.interfaces.is_empty() {
            !interface.loopback
        } else {
            rules.interfaces.contains(&interface.name)
        }
    };
    let family = |interface: Interface| Interface {
        v4: if listen.is_ipv4() || listen == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            interface.v4
        } else {
            Vec::new()
        },
        v6: if listen.is_ipv6() { interface.v6 } else { Vec::new() },
        ..interface
    };
    all.into_iter()
        .filter(wanted)
        .map(family)
        .filter(|one| !one.v4.is_empty() || !one.v6.is_empty())
        .collect()
}

/// Where this node is reached through these, the likeliest first.
pub(super) fn addresses(chosen: &[Interface], listen: SocketAddr) -> Vec<SocketAddr> {
    if !listen.ip().is_unspecified() {
        return if chosen.is_empty() { Vec::new() } else { vec![listen] };
    }
    let ips = chosen.iter().flat_map(|interface| {
        interface.v4.iter().copied().map(IpAddr::V4).chain(interface.v6.iter().copied().map(IpAddr::V6))
    });
    // Addresses that are good everywhere go first, and are the last to be left out.
    let rank = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => 1,
        IpAddr::V6(_) => 2,
    };
    let mut ips: Vec<IpAddr> = ips.collect();
    ips.sort_by_key(rank);
    ips.truncate(ADDRESSES_MAX);
    ips.into_iter().map(|ip| SocketAddr::new(ip, listen.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, loopback: bool, v4: &[&str], v6: &[&str]) -> Interface {
        Interface {
            name: name.to_owned(),
            index: 1,
            loopback,
            v4: v4.iter().map(|ip| ip.parse().unwrap()).collect(),
            v6: v6.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn interfaces_are_chosen_and_addresses_ranked() {
        let machine = || {
            vec![
                interface("lo", true, &["127.0.0.1"], &["::1"]),
                interface("eth0", false, &["10.0.0.1"], &["fe80::1", "fd00::1"]),
                interface("eth1", false, &["192.168.0.1"], &[]),
                interface("wlan0", false, &[], &["fe80::2"]),
            ]
        };
        let rules = |names: &[&str]| Cluster {
            interfaces: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Cluster::default()
        };
        for (names, listen, expect) in [
            (vec![], "0.0.0.0:1", "10.0.0.1:1 192.168.0.1:1"),
            (vec![], "[::]:1", "10.0.0.1:1 192.168.0.1:1 [fd00::1]:1 [fe80::1]:1 [fe80::2]:1"),
            (vec!["eth1"], "[::]:1", "192.168.0.1:1"),
            (vec!["lo"], "0.0.0.0:1", "127.0.0.1:1"),
            (vec!["no"], "0.0.0.0:1", ""),
            (vec![], "127.0.0.1:7", "127.0.0.1:7"),
            (vec![], "[::1]:7", "[::1]:7"),
            (vec![], "10.9.9.9:7", ""),
        ] {
            let listen: SocketAddr = listen.parse().unwrap();
            let chosen = chosen(machine(), &rules(&names), listen.ip());
            let found: Vec<_> = addresses(&chosen, listen).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expect, "{names:?} {listen}");
        }
        let many: Vec<_> = (0..20).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let many = interface("eth0", false, &many, &["fd00::1"]);
        assert_eq!(addresses(&[many], "[::]:1".parse().unwrap()).len(), ADDRESSES_MAX);
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let loopback = |interface: &Interface| interface.loopback && interface.index > 0;
        assert!(all().unwrap().iter().any(loopback));
    }
}
