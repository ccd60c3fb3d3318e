//! What a node says of itself.

// Only the words of an address; there are no sockets in `core::net`.
use core::net::{IpAddr, SocketAddr};
use model::NodeId;
use model::limits::ADDRESSES_MAX;
use serde::{Deserialize, Serialize};

/// Incarnations are below this number. They are milliseconds since 1970 where a node's clock is right.
pub const INCARNATION_MAX: u64 = 1 << 52;

/// What a node says of itself. Its addresses are those on which it is reached, by TCP and by UDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub node: NodeId,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// Which version of its record in this life.
    pub edition: u32,
    /// How often others declared it dead in this life, and it came back.
    pub renewal: u16,
    /// It has taken leave, or is about to.
    pub left: bool,
    /// Its name.
    pub name: String,
    /// Where it is reached, the likeliest first.
    pub addresses: Vec<SocketAddr>,
}

/// A record that no node may say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The name would play tricks, or is too long.
    #[error("its name is no node's name")]
    Name,
    /// The incarnation could not be followed by another one.
    #[error("its incarnation is out of bounds")]
    Incarnation,
    /// There are more than [`ADDRESSES_MAX`].
    #[error("it has too many addresses")]
    Addresses,
    /// One that is nobody's own, or has no port.
    #[error("one of its addresses is nobody's")]
    Address,
}

/// Refuses a life that no node comes to.
pub(crate) fn check_incarnation(incarnation: u64) -> Result<(), BadRecord> {
    if incarnation < INCARNATION_MAX { Ok(()) } else { Err(BadRecord::Incarnation) }
}

impl Record {
    /// Refuses what cannot be.
    pub fn check(&self) -> Result<(), BadRecord> {
        if !model::is_node_name(&self.name) {
            return Err(BadRecord::Name);
        }
        check_incarnation(self.incarnation)?;
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(BadRecord::Addresses);
        }
        if !self.addresses.iter().all(is_somebodys) {
            return Err(BadRecord::Address);
        }
        Ok(())
    }

    /// Of two records of a node the one with the higher version counts.
    pub fn version(&self) -> (u64, u32) {
        (self.incarnation, self.edition)
    }

    /// Whether the node says that it is reached at this address. The zone of a link-local address is the listener's
    /// own matter.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.addresses.iter().any(|own| own.ip() == address.ip() && own.port() == address.port())
    }
}

fn is_somebodys(address: &SocketAddr) -> bool {
    let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast() && !broadcast
}

/// Whether packets to this address need to know on which network it is.
pub(crate) fn needs_zone(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.ip().is_unicast_link_local() && address.scope_id() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            node: NodeId::try_from(3).unwrap(),
            incarnation: 7,
            edition: 0,
            renewal: 0,
            left: false,
            name: "n3".to_owned(),
            addresses: vec!["10.0.0.3:4660".parse().unwrap(), "[fe80::1]:4660".parse().unwrap()],
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(record().check(), Ok(()));
        type Change = &'static dyn Fn(&mut Record);
        let changed: [(Change, BadRecord); 8] = [
            (&|record| record.name = "a\u{1b}b".to_owned(), BadRecord::Name),
            (&|record| record.name = "x".repeat(65), BadRecord::Name),
            (&|record| record.name = "home".to_owned(), BadRecord::Name),
            (&|record| record.incarnation = INCARNATION_MAX, BadRecord::Incarnation),
            (&|record| record.addresses = vec![record.addresses[0]; ADDRESSES_MAX + 1], BadRecord::Addresses),
            (&|record| record.addresses.push("0.0.0.0:1".parse().unwrap()), BadRecord::Address),
            (&|record| record.addresses.push("239.1.1.1:1".parse().unwrap()), BadRecord::Address),
            (&|record| record.addresses.push("10.0.0.3:0".parse().unwrap()), BadRecord::Address),
        ];
        for (change, reason) in changed {
            let mut record = record();
            change(&mut record);
            assert_eq!(record.check(), Err(reason), "{record:?}");
        }
    }

    #[test]
    fn a_zone_makes_no_other_address() {
        assert!(record().has("[fe80::1%3]:4660".parse().unwrap()));
        assert!(!record().has("[fe80::2%3]:4660".parse().unwrap()));
        assert!(!record().has("10.0.0.3:4661".parse().unwrap()));
        assert!(needs_zone(&"[fe80::1]:4660".parse().unwrap()));
        assert!(!needs_zone(&"[fe80::1%3]:4660".parse().unwrap()));
    }
}
