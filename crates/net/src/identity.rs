//! Who this node is: its certificate, its key, and the authority it believes.

use crate::Error;
use crate::verify::{self, ServerVerifier, Trust};
use model::NodeId;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// File with the authority's certificate, in an identity's directory.
pub const CA_FILE: &str = "ca.pem";
/// File with the authority's key; only where the cluster was made.
pub const CA_KEY_FILE: &str = "ca.key";
/// File with this node's certificate.
pub const CERTIFICATE_FILE: &str = "node.pem";
/// File with this node's key.
pub const KEY_FILE: &str = "node.key";

/// This node's identity; cheap to clone.
#[derive(Clone)]
pub struct Identity {
    node: NodeId,
    cluster: Arc<str>,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    /// For machines that are not yet nodes: they show no certificate, and get to see the authority's.
    pub(crate) join_server: Arc<ServerConfig>,
}

impl Identity {
    /// Loads `ca.pem`, `node.pem` and `node.key` of a directory.
    pub fn load(directory: &Path) -> Result<Identity, Error> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).map_err(|error| Error::identity(path.display().to_string(), error))
        };
        Identity::from_pem(&read(CA_FILE)?, &read(CERTIFICATE_FILE)?, &read(KEY_FILE)?)
    }

    /// The identity from PEM texts. The certificate must be a node's, of this authority, and fit the key.
    pub fn from_pem(ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Identity, Error> {
        let authority = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|error| Error::identity("the authority's certificate", error))?;
        let certificate = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|error| Error::identity("this node's certificate", error))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| Error::identity("this node's key", error))?;
        let (cluster, node) = verify::node_of(&certificate)?;
        if verify::cluster_of(&authority)? != cluster {
            return Err(Error::identity(
                "this node's certificate",
                "it is of another cluster than the authority's",
            ));
        }

        let provider = provider();
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.clone())
            .map_err(|error| Error::identity("the authority's certificate", error))?;
        let roots = Arc::new(roots);
        let chain = vec![certificate, authority];
        let broken = |error: rustls::Error| Error::identity("this node's certificate and key", error);

        let verifier = ServerVerifier::new(Trust::Roots(roots.clone()), &provider);
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(broken)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(broken)?;
        settle_client(&mut client);

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| Error::identity("the authority's certificate", error))?;
        let server = |verifier| -> Result<Arc<ServerConfig>, rustls::Error> {
            let mut server = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain.clone(), key.clone_key())?;
            // Nothing may follow the handshake: its last byte is where the record layer takes over.
            server.send_tls13_tickets = 0;
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.enable_secret_extraction = true;
            Ok(Arc::new(server))
        };
        Ok(Identity {
            node,
            cluster: cluster.into(),
            client: Arc::new(client),
            server: server(verifier).map_err(broken)?,
            join_server: server(WebPkiClientVerifier::no_client_auth()).map_err(broken)?,
        })
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", verify::node_uri(&self.cluster, self.node))
    }
}

/// A client that has no certificate yet and knows the authority by its fingerprint.
pub(crate) fn joining_client(fingerprint: [u8; 32]) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = ServerVerifier::new(Trust::Fingerprint(fingerprint), &provider);
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Handshake(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    settle_client(&mut client);
    Ok(Arc::new(client))
}

fn settle_client(client: &mut ClientConfig) {
    client.resumption = rustls::client::Resumption::disabled();
    client.enable_sni = false;
    client.enable_secret_extraction = true;
}

/// aws-lc with AES-128-GCM first: the fastest on every x86-64 machine, and pages are most of what travels.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}
