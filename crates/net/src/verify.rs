//! Who a certificate names, and whether the cluster's authority said so.

use crate::Error;
use model::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

const SCHEME: &str = "openmosix://";

/// Letters of a cluster's name, at most.
const CLUSTER_LETTERS_MAX: usize = 63;

/// The cluster's name is part of a URI: small letters, digits and hyphens only.
pub(crate) fn is_cluster_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= CLUSTER_LETTERS_MAX && name.bytes().all(letter)
}

/// The name of a node in its certificate.
pub(crate) fn node_uri(cluster: &str, node: NodeId) -> String {
    format!("{SCHEME}{cluster}/node/{node}")
}

/// The name of a cluster in its authority's certificate.
pub(crate) fn authority_uri(cluster: &str) -> String {
    format!("{SCHEME}{cluster}/authority")
}

/// The only URI of a certificate, without the scheme.
fn uri(certificate: &CertificateDer<'_>) -> Result<String, Error> {
    let wrong = |detail: &str| Error::identity("the certificate", detail);
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| wrong(&error.to_string()))?;
    let mut uris = parsed.valid_uri_names().filter_map(|uri| uri.strip_prefix(SCHEME));
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        _ => Err(wrong("it does not name exactly one member of a cluster")),
    }
}

/// The cluster and the node that a certificate names.
pub(crate) fn node_of(certificate: &CertificateDer<'_>) -> Result<(String, NodeId), Error> {
    let wrong = || Error::identity("the certificate", "it is not a node's");
    let uri = uri(certificate)?;
    let (cluster, node) = uri.split_once("/node/").ok_or_else(wrong)?;
    let node: NodeId = node.parse().map_err(|_| wrong())?;
    // "+7" and "07" are numbers too, but not names.
    if !is_cluster_name(cluster) || node_uri(cluster, node) != format!("{SCHEME}{uri}") {
        return Err(wrong());
    }
    Ok((cluster.to_owned(), node))
}

/// The cluster that an authority's certificate names.
pub(crate) fn cluster_of(certificate: &CertificateDer<'_>) -> Result<String, Error> {
    let wrong = || Error::identity("the authority's certificate", "it does not name a cluster");
    let uri = uri(certificate)?;
    let cluster = uri.strip_suffix("/authority").ok_or_else(wrong)?;
    is_cluster_name(cluster).then(|| cluster.to_owned()).ok_or_else(wrong)
}

/// Which authority a client trusts.
#[derive(Debug)]
pub(crate) enum Trust {
    /// The one it holds.
    Roots(Arc<RootCertStore>),
    /// The one with this SHA-256 of its certificate, which the server is to show.
    Fingerprint([u8; 32]),
}

/// rustls' own verification of a server without its last step, the comparison of the host name: names are compared by
/// the channel, since a node is no host.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(crate) fn new(trust: Trust, provider: &CryptoProvider) -> ServerVerifier {
        ServerVerifier { trust, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let shown;
        let roots = match &self.trust {
            Trust::Roots(roots) => roots.as_ref(),
            Trust::Fingerprint(wanted) => {
                let mut roots = RootCertStore::empty();
                for authority in
                    intermediates.iter().filter(|shown| crate::authority::sha256(shown) == *wanted)
                {
                    roots.add(authority.clone())?;
                }
                shown = roots;
                &shown
            }
        };
        if roots.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, self.algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
