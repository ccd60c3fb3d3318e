//! Making a cluster and joining one.
//!
//! `om init` makes the cluster's authority and its first node; the authority's key stays on that node. There,
//! `om invite` makes a token: the node's address, the authority's fingerprint, a secret, valid once and for an hour.
//! `om join` on a new machine finds the right node by the fingerprint, proves itself by the secret, and gets a
//! certificate for a key that it has just made and never gives away.

mod found;
mod invite;
mod join;

pub use found::{Founding, init};
pub use invite::{Invitation, Redeemed, Token, invite, redeem};
pub use join::{Joining, join};

use crate::Error;
use crate::config::{Paths, write_file};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Where a node's files go.
#[derive(Clone, Debug)]
pub struct Places {
    /// The configuration.
    pub config: PathBuf,
    /// All else.
    pub paths: Paths,
}

impl Places {
    /// The usual ones.
    pub fn usual() -> Places {
        Places { config: crate::config::CONFIG_FILE.into(), paths: Paths::default() }
    }

    /// Everything below one directory.
    pub fn below(directory: &Path) -> Places {
        let paths = Paths {
            identity: directory.to_owned(),
            run: directory.join("run"),
            cache: directory.join("cache"),
            state: directory.join("state"),
            log: directory.join("log"),
        };
        Places { config: directory.join("omd.toml"), paths }
    }

    /// Makes sure that this machine is not a node already, and makes the directories.
    fn prepare(&self) -> Result<(), Error> {
        for file in [
            self.config.clone(),
            self.paths.identity.join(net::KEY_FILE),
            self.paths.identity.join(net::CA_FILE),
        ] {
            if file.exists() {
                return Err(Error::Cluster(format!(
                    "this machine is a node already: {} exists (move it away to begin anew)",
                    file.display()
                )));
            }
        }
        for directory in [Some(self.paths.identity.as_path()), self.config.parent()].into_iter().flatten() {
            make_directory(directory, 0o755)?;
        }
        Ok(())
    }

    fn write_identity(&self, ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<(), Error> {
        let directory = &self.paths.identity;
        write_file(&directory.join(net::KEY_FILE), key_pem, 0o600)?;
        write_file(&directory.join(net::CERTIFICATE_FILE), cert_pem, 0o644)?;
        write_file(&directory.join(net::CA_FILE), ca_pem, 0o644)
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Error::file("make", path))?;
    if mode == 0o700 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(Error::file("protect", path))?;
    }
    Ok(())
}
