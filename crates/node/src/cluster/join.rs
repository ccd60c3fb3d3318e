//! `om join`: this machine becomes a node.

use super::{Places, Token};
use crate::Error;
use crate::config::{self, Peer, write_file};
use model::NodeId;
use net::{CertificateRequest, ClusterKey, Identity, KeyRing};
use std::net::SocketAddr;
use std::time::Duration;
use wire::peer::{self, JoinAnswer, JoinRequest, KIND_JOIN_ANSWER, KIND_JOIN_REQUEST, SharedKey};

const PATIENCE: Duration = Duration::from_secs(10);

/// How this machine wants to be a node.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The name it wants; empty for the one in the invitation.
    pub name: String,
    /// Where it will listen.
    pub listen: SocketAddr,
}

/// Makes this machine a node of the cluster it is invited to; says its id and name. On failure it is none.
pub fn join(places: &Places, token: &Token, joining: &Joining) -> Result<(NodeId, String), Error> {
    places.prepare()?;
    let request = CertificateRequest::create()?;
    let answer = ask(token, &request, joining)?;
    let JoinAnswer::Joined { node, name, ca_pem, cert_pem, peers, keys } = answer else {
        let JoinAnswer::Refused(text) = answer else {
            return Err(Error::Answer("it answers with something else"));
        };
        let printable = text.chars().filter(|letter| !letter.is_control()).take(400).collect();
        return Err(Error::Cluster(printable));
    };
    // What came is checked as what is read later: it must be a certificate for our key, of the promised authority.
    let identity = Identity::from_pem(&ca_pem, &cert_pem, &request.key_pem)?;
    if net::fingerprint(&ca_pem)? != token.fingerprint || identity.node() != node || node != token.id {
        return Err(Error::Cluster(
            "the node that answered did not give what the invitation promises".to_owned(),
        ));
    }
    let peers: Vec<Peer> = peers
        .into_iter()
        .map(|peer| {
            let address = if peer.address.is_empty() { token.address.to_string() } else { peer.address };
            Peer { id: peer.id, name: peer.name, address, hint: true }
        })
        .collect();
    let text = config::template(node, &name, joining.listen, &places.paths, &peers);
    config::Config::parse(&text).map_err(Error::Cluster)?;
    if let Some(ring) = ring_of(keys) {
        crate::discovery::store_keys(&places.paths.identity, &ring)?;
    }
    places.write_identity(&ca_pem, &cert_pem, &request.key_pem)?;
    write_file(&places.config, &text, 0o644)?;
    Ok((node, name))
}

fn ring_of(keys: Vec<SharedKey>) -> Option<KeyRing> {
    let mut keys = keys.into_iter().map(|key| ClusterKey::from_parts(key.generation, key.secret));
    let mut ring = KeyRing::new(keys.next()?);
    // A ring takes in no more than it believes.
    for key in keys {
        ring.take(key);
    }
    Some(ring)
}

fn ask(token: &Token, request: &CertificateRequest, joining: &Joining) -> Result<JoinAnswer, Error> {
    let (_, mut sender, mut receiver) =
        net::connect_join(token.address, token.fingerprint, PATIENCE).map_err(|error| {
            Error::Cluster(format!(
                "cannot reach the inviting node at {} (failed to {error}); is its omd running, and the invitation from this cluster?",
                token.address
            ))
        })?;
    let wish = JoinRequest {
        secret: token.secret,
        csr_pem: request.csr_pem.clone(),
        name: joining.name.clone(),
        port: joining.listen.port(),
    };
    sender.send(KIND_JOIN_REQUEST, &[&peer::encode(&wish)?])?;
    receiver.set_timeout(Some(PATIENCE))?;
    let frame = receiver.recv()?;
    if frame.kind != KIND_JOIN_ANSWER {
        return Err(Error::Answer("it answers with something else"));
    }
    Ok(peer::decode(&frame.payload)?)
}
