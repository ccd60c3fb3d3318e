//! The cluster's own certificate authority.

use crate::Error;
use crate::verify;
use model::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The authority of one cluster: who holds its key can make nodes of it.
pub struct Authority {
    cluster: String,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was just made, with its key.
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key: never leaves its node.
    pub key_pem: String,
}

/// A wish for a certificate: the public half of a key that stays where it was made.
pub struct CertificateRequest {
    /// What the authority gets to see.
    pub csr_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl CertificateRequest {
    /// Makes a key and a request for it.
    pub fn create() -> Result<CertificateRequest, Error> {
        let key = KeyPair::generate().map_err(|error| Error::identity("a new key", error))?;
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .and_then(|csr| csr.pem())
            .map_err(|error| Error::identity("a certificate request", error))?;
        Ok(CertificateRequest { csr_pem: csr, key_pem: key.serialize_pem() })
    }
}

impl Authority {
    /// Makes a new authority. The cluster's name is 1 to 63 small letters, digits and hyphens.
    pub fn create(cluster: &str) -> Result<Authority, Error> {
        if !verify::is_cluster_name(cluster) {
            return Err(Error::identity(
                format!("'{cluster}' as the name of a cluster"),
                "1 to 63 small letters, digits and hyphens are allowed",
            ));
        }
        let broken = |error: rcgen::Error| Error::identity("a new authority", error);
        let key = KeyPair::generate().map_err(broken)?;
        let mut params = params(cluster, &verify::authority_uri(cluster))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(broken)?;
        Ok(Authority {
            cluster: cluster.to_owned(),
            ca_pem: certificate.pem(),
            issuer: Issuer::from_ca_cert_der(certificate.der(), key).map_err(broken)?,
        })
    }

    /// The authority from its saved certificate and key.
    pub fn from_pem(ca_pem: &str, key_pem: &str) -> Result<Authority, Error> {
        let broken = |error: rcgen::Error| Error::identity("the authority's key", error);
        let certificate = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|error| Error::identity("the authority's certificate", error))?;
        let key = KeyPair::from_pem(key_pem).map_err(broken)?;
        Ok(Authority {
            cluster: verify::cluster_of(&certificate)?,
            ca_pem: ca_pem.to_owned(),
            issuer: Issuer::from_ca_cert_der(&certificate, key).map_err(broken)?,
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The authority's certificate, which every node holds.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority's private key, to be kept on one node, readable by nobody else.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key and a certificate for a node.
    pub fn issue(&self, node: NodeId, name: &str) -> Result<Issued, Error> {
        let request = CertificateRequest::create()?;
        Ok(Issued { cert_pem: self.sign(&request.csr_pem, node, name)?, key_pem: request.key_pem })
    }

    /// Makes a certificate for the key of a request. Nothing but the key is taken from the request.
    pub fn sign(&self, csr_pem: &str, node: NodeId, name: &str) -> Result<String, Error> {
        let broken = |error: rcgen::Error| Error::identity("the certificate request", error);
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(broken)?;
        request.params = params(name, &verify::node_uri(&self.cluster, node))?;
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        request.params.use_authority_key_identifier_extension = true;
        Ok(request.signed_by(&self.issuer).map_err(broken)?.pem())
    }
}

/// What every certificate of a cluster has. The dates stay at rcgen's widest (1975 to 4096): a machine whose clock starts in
/// 1980 is to stay in its cluster, and a node is put out of it by its peers' configuration, not by waiting.
fn params(name: &str, uri: &str) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let uri =
        uri.try_into().map_err(|error: rcgen::Error| Error::identity("the name of a certificate", error))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

/// SHA-256 of the certificate in a PEM text: how an authority is named in an invitation.
pub fn fingerprint(ca_pem: &str) -> Result<[u8; 32], Error> {
    let certificate = CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .map_err(|error| Error::identity("the authority's certificate", error))?;
    Ok(sha256(&certificate))
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_its_files() {
        let first = Authority::create("lab-1").unwrap();
        let again = Authority::from_pem(first.ca_pem(), &first.key_pem()).unwrap();
        assert_eq!(again.cluster(), "lab-1");
        let node = NodeId::new(7).unwrap();
        let issued = again.issue(node, "seven").unwrap();
        let certificate = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
        assert_eq!(verify::node_of(&certificate).unwrap(), ("lab-1".to_owned(), node));
    }

    #[test]
    fn a_request_brings_nothing_but_its_key() {
        let authority = Authority::create("lab").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wanted = params("root", "openmosix://lab/node/1").unwrap();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = wanted.serialize_request(&key).unwrap().pem().unwrap();
        let pem = authority.sign(&csr, NodeId::new(9).unwrap(), "nine").unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(verify::node_of(&certificate).unwrap().1.get(), 9);
        assert!(verify::cluster_of(&certificate).is_err());
    }

    #[test]
    fn bad_names_are_refused() {
        for name in ["", "Lab", "a/b", "a b", &"x".repeat(64)] {
            assert!(Authority::create(name).is_err(), "{name}");
        }
        assert!(Authority::from_pem("nonsense", "nonsense").is_err());
        assert!(fingerprint("nonsense").is_err());
    }
}
