//! The certificates and the key by which the lab's daemons know each other.

use crate::error::Result;
use model::NodeId;
use net::{Authority, ClusterKey, KeyRing};

/// What one node's daemon needs.
pub(crate) struct Credentials {
    pub(crate) authority_pem: String,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) cluster_key: String,
}

/// Makes an authority for one lab and the credentials of its nodes, in their order.
///
/// The authority's own key is not kept: a lab gets no further nodes.
pub(crate) fn issue(lab: &str, nodes: &[(NodeId, String)]) -> Result<Vec<Credentials>> {
    let authority = Authority::create(lab)?;
    let cluster_key = KeyRing::new(ClusterKey::create(1)?).to_text();
    let issue = |(id, name): &(NodeId, String)| {
        let issued = authority.issue(*id, name)?;
        Ok(Credentials {
            authority_pem: authority.ca_pem().to_owned(),
            certificate_pem: issued.cert_pem,
            key_pem: issued.key_pem,
            cluster_key: cluster_key.clone(),
        })
    };
    nodes.iter().map(issue).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_an_authority_and_the_clusters_key_and_nothing_else() {
        let nodes: Vec<_> = (1..=2).filter_map(NodeId::new).map(|id| (id, format!("n{id}"))).collect();
        let issued = issue("a-lab", &nodes).unwrap();
        assert_eq!(issued[0].authority_pem, issued[1].authority_pem);
        assert_eq!(issued[0].cluster_key, issued[1].cluster_key);
        assert_ne!(issued[0].certificate_pem, issued[1].certificate_pem);
        assert_ne!(issued[0].key_pem, issued[1].key_pem);
    }
}
