//! `om invite` and what becomes of an invitation.

use super::make_directory;
use crate::config::{self, Peer, write_file};
use crate::{Error, Setup};
use model::NodeId;
use model::limits::INVITATION_SECONDS;
use net::Authority;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::peer::JoinRequest;

const WORD: &str = "omjoin1";

/// What a new machine is told: where to go, whom to trust there, and how to prove itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The inviting node's address.
    pub address: SocketAddr,
    /// The id that the new node will have.
    pub id: NodeId,
    /// SHA-256 of the authority's certificate.
    pub fingerprint: [u8; 32],
    /// The secret.
    pub secret: [u8; 32],
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORD}/{}/{}/{}/{}", self.address, self.id, hex(&self.fingerprint), hex(&self.secret))
    }
}

impl fmt::Debug for Token {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, node {})", self.address, self.id)
    }
}

impl FromStr for Token {
    type Err = Error;
    fn from_str(text: &str) -> Result<Token, Error> {
        let wrong = || {
            Error::Cluster(format!(
                "this is no invitation: it should read {WORD}/ADDRESS/ID/..., as 'om invite' printed it"
            ))
        };
        let fields: Vec<&str> = text.trim().split('/').collect();
        let [WORD, address, id, fingerprint, secret] = fields[..] else { return Err(wrong()) };
        Ok(Token {
            address: address.parse().map_err(|_| wrong())?,
            id: id.parse().map_err(|_| wrong())?,
            fingerprint: unhex(fingerprint).ok_or_else(wrong)?,
            secret: unhex(secret).ok_or_else(wrong)?,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|letter| letter.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// An invitation as the inviting node keeps it: under the hash of its secret.
#[derive(Serialize, Deserialize)]
struct Record {
    id: NodeId,
    name: String,
    /// Seconds since 1970.
    expires: u64,
    used: bool,
}

/// An open invitation.
pub struct Invitation {
    path: PathBuf,
    record: Record,
}

impl Invitation {
    /// It will not be accepted again.
    pub fn mark_used(mut self) -> Result<(), Error> {
        self.record.used = true;
        write_record(&self.path, &self.record)
    }
}

/// Makes an invitation for a new node. Without an id it gets the first free one, without a name it is called after it.
///
/// `address` is where the new machine will find this node; by default where this node listens, or its address towards
/// the rest of the world.
pub fn invite(
    setup: &Setup,
    id: Option<NodeId>,
    name: Option<String>,
    address: Option<SocketAddr>,
) -> Result<Token, Error> {
    let authority = authority(setup)?;
    let directory = setup.config.paths.invitations();
    make_directory(&directory, 0o700)?;
    let open = records(&directory);
    let known = |id: NodeId| {
        id == setup.config.node.id
            || setup.config.peers.iter().any(|peer| peer.id == id)
            || open.iter().any(|record| record.id == id && !record.used)
    };
    let id = match id {
        Some(id) if known(id) => {
            return Err(Error::Cluster(format!("node {id} exists or is invited already; take another --id")));
        }
        Some(id) => id,
        None => (1..=u16::MAX)
            .filter_map(NodeId::new)
            .find(|id| !known(*id))
            .ok_or_else(|| Error::Cluster("there is no free node id".to_owned()))?,
    };
    let name = name.unwrap_or_else(|| format!("n{id}"));
    config::check_name(&name).map_err(Error::Cluster)?;
    let token = Token {
        address: address.map_or_else(|| own_address(setup), Ok)?,
        id,
        fingerprint: net::fingerprint(authority.ca_pem())?,
        secret: rand::random(),
    };
    let record = Record { id, name, expires: now() + INVITATION_SECONDS, used: false };
    write_record(&record_path(&directory, &token.secret), &record)?;
    Ok(token)
}

/// A new node, not yet known to anybody.
pub struct Redeemed {
    /// What it showed; to be marked as used.
    pub invitation: Invitation,
    /// How it is reached.
    pub peer: Peer,
    /// The authority's certificate.
    pub ca_pem: String,
    /// Its certificate.
    pub cert_pem: String,
}

/// Looks at an invitation that a machine shows, and makes its certificate. Changes nothing.
pub fn redeem(setup: &Setup, peers: &[Peer], request: &JoinRequest, from: IpAddr) -> Result<Redeemed, Error> {
    let refused = |text: String| Err(Error::Cluster(text));
    let path = record_path(&setup.config.paths.invitations(), &request.secret);
    let record = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
    let Some(record) = record else {
        return refused("the invitation is not known here; 'om invite' makes a new one".to_owned());
    };
    if record.used {
        return refused("the invitation was used already; 'om invite' makes a new one".to_owned());
    }
    if record.expires < now() {
        return refused("the invitation has expired; 'om invite' makes a new one".to_owned());
    }
    let id = record.id;
    if id == setup.config.node.id || peers.iter().any(|peer| peer.id == id) {
        return refused(format!(
            "node {id} has come into being meanwhile; 'om invite' makes a new invitation"
        ));
    }
    let name = if request.name.is_empty() { record.name.clone() } else { request.name.clone() };
    config::check_name(&name).map_err(Error::Cluster)?;
    if name == setup.config.node.name || peers.iter().any(|peer| peer.name == name) {
        return refused(format!("another node is called '{name}'; take another --name"));
    }
    let authority = authority(setup)?;
    Ok(Redeemed {
        cert_pem: authority.sign(&request.csr_pem, id, &name)?,
        ca_pem: authority.ca_pem().to_owned(),
        peer: Peer {
            id,
            name,
            address: SocketAddr::new(from.to_canonical(), request.port).to_string(),
            hint: true,
        },
        invitation: Invitation { path, record },
    })
}

fn authority(setup: &Setup) -> Result<Authority, Error> {
    let directory = &setup.config.paths.identity;
    let key_path = directory.join(net::CA_KEY_FILE);
    let key = match std::fs::read_to_string(&key_path) {
        Ok(key) => key,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Cluster(
                "this node does not hold the key of the cluster's authority (ca.key): invite on the node where 'om init' ran"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(Error::file("read", key_path)(error)),
    };
    let ca_path = directory.join(net::CA_FILE);
    let ca = std::fs::read_to_string(&ca_path).map_err(Error::file("read", &ca_path))?;
    Ok(Authority::from_pem(&ca, &key)?)
}

fn record_path(directory: &Path, secret: &[u8; 32]) -> PathBuf {
    directory.join(format!("{}.json", hex(&net::sha256(secret))))
}

fn write_record(path: &Path, record: &Record) -> Result<(), Error> {
    let text = serde_json::to_string(record).map_err(|error| Error::Line(error.to_string()))?;
    write_file(path, &text, 0o600)
}

/// The invitations that have not expired; the others are removed.
fn records(directory: &Path) -> Vec<Record> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let read = || serde_json::from_slice::<Record>(&std::fs::read(entry.path()).ok()?).ok();
        match read() {
            Some(record) if record.expires >= now() => open.push(record),
            _ => drop(std::fs::remove_file(entry.path())),
        }
    }
    open
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The address under which others most likely reach this node.
fn own_address(setup: &Setup) -> Result<SocketAddr, Error> {
    let listen = setup.config.node.listen;
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    // A UDP socket that is "connected" sends nothing, but the kernel chooses the address it would send from.
    let probe = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    match probe() {
        Ok(address) if !address.ip().is_unspecified() => Ok(SocketAddr::new(address.ip(), listen.port())),
        _ => {
            Err(Error::Cluster("this node's address is not clear: name it with --address IP:PORT".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_others_are_refused() {
        for address in ["10.0.0.1:4660", "[fd00::1]:4660"] {
            let token = Token {
                address: address.parse().unwrap(),
                id: NodeId::new(3).unwrap(),
                fingerprint: [1; 32],
                secret: [0xfe; 32],
            };
            let text = token.to_string();
            assert!(text.parse::<Token>().unwrap() == token);
            assert!(!format!("{token:?}").contains("fefe"));
            for wrong in ["", "omjoin1", &text[1..], &text[..text.len() - 1], &text.replace("fe", "+e")] {
                assert!(wrong.parse::<Token>().is_err(), "{wrong}");
            }
        }
    }
}
