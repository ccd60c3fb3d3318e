//! `om init`: a new cluster.

use super::Places;
use crate::Error;
use crate::config::{self, write_file};
use model::NodeId;
use net::{Authority, ClusterKey, KeyRing};
use std::net::SocketAddr;

/// What a new cluster begins with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// Its name.
    pub cluster: String,
    /// Its first node.
    pub id: NodeId,
    /// That node's name.
    pub name: String,
    /// Where that node listens.
    pub listen: SocketAddr,
}

/// Makes a cluster whose first node is this machine. On failure nothing is left that would count as a node.
pub fn init(places: &Places, founding: &Founding) -> Result<(), Error> {
    config::check_name(&founding.name).map_err(Error::Cluster)?;
    let authority = Authority::create(&founding.cluster)?;
    let issued = authority.issue(founding.id, &founding.name)?;
    let text = config::template(founding.id, &founding.name, founding.listen, &places.paths, &[]);
    config::Config::parse(&text).map_err(Error::Cluster)?;
    places.prepare()?;
    write_file(&places.paths.identity.join(net::CA_KEY_FILE), &authority.key_pem(), 0o600)?;
    crate::discovery::store_keys(&places.paths.identity, &KeyRing::new(ClusterKey::create(1)?))?;
    places.write_identity(authority.ca_pem(), &issued.cert_pem, &issued.key_pem)?;
    write_file(&places.config, &text, 0o644)
}
