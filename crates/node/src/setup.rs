//! What the daemon and every agent start with.

use crate::{Error, config::Config};
use net::Identity;
use std::path::{Path, PathBuf};

/// The configuration and the identity of this node.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The configuration, as it was read at the start.
    pub config: Config,
    /// The file it came from.
    pub config_path: PathBuf,
    /// Who this node is.
    pub identity: Identity,
}

impl Setup {
    /// Reads the configuration and the identity it points to, and makes sure that they speak of the same node.
    pub fn load(config_path: &Path) -> Result<Setup, Error> {
        let config = Config::load(config_path)?;
        let identity = Identity::load(&config.paths.identity)?;
        if identity.node() != config.node.id {
            return Err(Error::Config {
                path: config_path.to_owned(),
                detail: format!(
                    "node.id is {}, but the certificate is for node {}",
                    config.node.id,
                    identity.node()
                ),
            });
        }
        Ok(Setup { config, config_path: config_path.to_owned(), identity })
    }
}
