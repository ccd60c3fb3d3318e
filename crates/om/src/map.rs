//! `showmap` and `setpe`: the cluster as openMosix's map, a list of `ID ADDRESS COUNT`.
//!
//! A map need not be written any more, since nodes find each other. One that is there can still be taken over: its nodes
//! become listed peers of the configuration.

use crate::arguments::{Listing, Setpe};
use crate::client::{Client, unexpected};
use crate::commands::show;
use crate::exit::Failure;
use control::{Answer, FailureKind, NodeFound, NodeRow, Request};
use model::NodeId;
use model::limits::{PEERS_MAX, PORT_TCP};
use node::config::{Config, Peer, append_peer};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// Where a map is by tradition.
const MAP_FILE: &str = "/etc/openmosix.map";
/// Bytes of a map, at most.
const MAP_BYTES_MAX: usize = 1 << 20;

/// A line of a map: so many nodes with consecutive ids and addresses, from these on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: NodeId,
    address: String,
    count: u16,
}

pub(crate) fn showmap(arguments: &Listing) -> Result<(), Failure> {
    let rows = ask(&arguments.common.socket)?;
    let own = rows.iter().find(|row| row.found == NodeFound::Own).map(|row| row.id);
    show(arguments.common.json, &rows, || {
        let mut text = own.map(|id| format!("My Node-Id: 0x{:04x}\n\n", id.get())).unwrap_or_default();
        text.push_str("Base Node-Id Address                                  Count\n");
        text.push_str("------------ ---------------------------------------- -----\n");
        for row in &rows {
            text.push_str(&format!("0x{:04x}       {:<40} 1\n", row.id.get(), ip_of(row)));
        }
        text
    })
}

pub(crate) fn setpe(arguments: &Setpe) -> Result<(), Failure> {
    if arguments.gateways.is_some() {
        eprintln!("setpe: -g is not needed any more: every node tells the others of the nodes behind it");
    }
    if arguments.off {
        return crate::commands::leave(&Listing { common: arguments.common.clone() });
    }
    if arguments.read {
        return read(arguments);
    }
    let file = arguments.file.clone().unwrap_or_else(|| MAP_FILE.into());
    let text = std::fs::read_to_string(&file).map_err(|error| {
        Failure::new(
            FailureKind::NotFound,
            format!("cannot read the map {} ({error}); name one with -f", file.display()),
        )
    })?;
    let ranges = parse(&text).map_err(|line| wrong(&format!("{}: {line}", file.display())))?;
    let config = Config::load(&arguments.config)?;
    if let Some(id) = arguments.id.filter(|id| *id != config.node.id) {
        let text = format!(
            "this node's id is {}, not {id}: it is in its certificate; 'om invite --id {id}' makes another one",
            config.node.id
        );
        return Err(wrong(&text));
    }
    let peers = expand(&ranges).map_err(|text| wrong(&text))?;
    let mut added = 0;
    for peer in peers.into_iter().filter(|peer| peer.id != config.node.id) {
        if config.peers.iter().any(|known| known.id == peer.id) {
            continue;
        }
        append_peer(&arguments.config, &peer)?;
        added += 1;
    }
    show(arguments.common.json, &added, || {
        format!(
            "{added} nodes of the map are new in {}; the daemon reads it when it starts\n",
            arguments.config.display()
        )
    })
}

/// Writes the cluster as it is now as a map.
fn read(arguments: &Setpe) -> Result<(), Failure> {
    let rows = ask(&arguments.common.socket)?;
    let text: String = rows.iter().map(|row| format!("{} {} 1\n", row.id, ip_of(row))).collect();
    match &arguments.file {
        None => show(arguments.common.json, &rows, || text),
        Some(file) => std::fs::write(file, text).map_err(|error| {
            Failure::new(FailureKind::Broken, format!("cannot write the map {}: {error}", file.display()))
        }),
    }
}

fn ask(socket: &Path) -> Result<Vec<NodeRow>, Failure> {
    match Client::connect(socket)?.ask(&Request::Nodes)? {
        Answer::Nodes { nodes } => Ok(nodes),
        _ => Err(unexpected()),
    }
}

fn wrong(text: &str) -> Failure {
    Failure::new(FailureKind::BadRequest, text)
}

/// A node's address without its port, as maps have it.
fn ip_of(row: &NodeRow) -> String {
    let address = row.addresses.first().unwrap_or(&row.address);
    address.parse::<SocketAddr>().map_or_else(|_| address.clone(), |address| address.ip().to_string())
}

/// The lines of a map; the error names the line that is none.
fn parse(text: &str) -> Result<Vec<Range>, String> {
    if text.len() > MAP_BYTES_MAX {
        return Err("it is too long for a map".to_owned());
    }
    let mut ranges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let range = match words[..] {
            [] => continue,
            [first, address, count] => number_of(first)
                .and_then(NodeId::new)
                .zip(count.parse().ok())
                .map(|(first, count)| Range { first, address: address.to_owned(), count }),
            _ => None,
        };
        ranges.push(
            range
                .filter(|range| range.count > 0)
                .ok_or_else(|| format!("line {} is not ID ADDRESS COUNT", number + 1))?,
        );
    }
    Ok(ranges)
}

/// Ids are written in decimal or, as `showmap` prints them, with 0x.
fn number_of(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The nodes of a map, each by itself.
fn expand(ranges: &[Range]) -> Result<Vec<Peer>, String> {
    let mut peers: Vec<Peer> = Vec::new();
    for range in ranges {
        let base: Option<IpAddr> = range.address.parse().ok();
        for step in 0..range.count {
            let id = range.first.get().checked_add(step).and_then(NodeId::new);
            let host = match (base, step) {
                (Some(IpAddr::V4(ip)), _) => {
                    u32::from(ip).checked_add(step.into()).map(|ip| Ipv4Addr::from(ip).to_string())
                }
                (Some(IpAddr::V6(ip)), 0) => Some(format!("[{ip}]")),
                (None, 0) => Some(range.address.clone()),
                // Only IPv4 addresses are counted on.
                _ => None,
            };
            let (Some(id), Some(host)) = (id, host) else {
                return Err(format!(
                    "the map counts beyond the ids or addresses that there are: node {}",
                    range.first
                ));
            };
            if peers.iter().any(|peer| peer.id == id) {
                return Err(format!("the map has node {id} twice"));
            }
            if peers.len() >= PEERS_MAX {
                return Err(format!("the map has more than {PEERS_MAX} nodes"));
            }
            peers.push(Peer {
                id,
                name: format!("n{id}"),
                address: format!("{host}:{PORT_TCP}"),
                hint: false,
            });
        }
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_they_always_were() {
        let text = "# MOSIX-#  IP  number-of-nodes\n1 10.0.0.1 3\n0x0010 far 1 # a name\n\n20 fd00::1 1\n";
        let peers = expand(&parse(text).unwrap()).unwrap();
        let list: Vec<_> = peers.iter().map(|peer| format!("{} {}", peer.id, peer.address)).collect();
        assert_eq!(
            list,
            ["1 10.0.0.1:4660", "2 10.0.0.2:4660", "3 10.0.0.3:4660", "16 far:4660", "20 [fd00::1]:4660"]
        );
    }

    #[test]
    fn what_is_no_map_is_named() {
        for (text, word) in [
            ("1 10.0.0.1", "line 1"),
            ("\n0 10.0.0.1 1", "line 2"),
            ("1 10.0.0.1 0", "line 1"),
            ("1 10.0.0.1 99999", "line 1"),
            ("one 10.0.0.1 1", "line 1"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
        for (text, word) in [
            ("1 10.0.0.1 2\n2 10.0.0.9 1", "twice"),
            ("65535 10.0.0.1 2", "beyond"),
            ("1 255.255.255.255 2", "beyond"),
            ("1 fd00::1 2", "beyond"),
            ("1 10.0.0.1 2000", "more than"),
        ] {
            assert!(expand(&parse(text).unwrap()).unwrap_err().contains(word), "{text}");
        }
    }
}
