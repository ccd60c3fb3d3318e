//! What the daemon has counted since it started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($name:ident, $words:literal;)*) => {
        /// The counters, each by name.
        #[derive(Debug, Default)]
        pub struct Counts {
            $(#[doc = $words] pub $name: Count,)*
        }

        impl Counts {
            /// All counters, by name.
            pub fn all(&self) -> BTreeMap<String, u64> {
                BTreeMap::from([$((stringify!($name).to_owned(), self.$name.get()),)*])
            }
        }
    };
}

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counts! {
    tool_requests, "Requests of tools.";
    tool_garbage, "Tools' lines that were no request, or too long.";
    tool_turned_away, "Tools turned away because too many were there.";
    peer_connections, "Connections of other machines.";
    peer_garbage, "Connections that did not begin as this protocol does, or sent a message that it does not know.";
    peer_handshakes_failed, "Connections that did not prove to be of this cluster.";
    peer_strangers, "Nodes of this cluster that the configuration does not list.";
    peer_turned_away, "Connections turned away because too many were there.";
    peer_requests, "Requests of other nodes.";
    sessions_routed, "Connections handed to a warden.";
    sessions_unknown, "Connections for a session that no warden here has.";
    balanced, "Processes that this node has moved by itself.";
    placed, "New programs that were moved to a better place at once.";
    balance_failed, "Moves by itself that failed.";
    memory_alarms, "Times that memory ran short.";
    balance_garbage, "Datagrams about load that mean nothing.";
    offers_accepted, "Guests taken.";
    offers_refused, "Guests refused.";
    keepers_started, "Keepers started.";
    wardens_started, "Wardens started.";
    datagrams_sent, "Datagrams about membership.";
    datagrams_received, "Datagrams of anybody.";
    datagrams_foreign, "Datagrams that are none of this protocol.";
    datagrams_unknown_key, "Datagrams under a key that this node does not have.";
    datagrams_forged, "Datagrams that no member has sealed.";
    datagrams_replayed, "Datagrams that came before, or too late.";
    datagrams_garbage, "Datagrams of members that this protocol does not know.";
    datagrams_refused, "Datagrams of nodes that are not let in.";
    datagrams_unwanted, "Datagrams of a channel that nobody listens to, or faster than it listens.";
    keys_fetched, "Cluster keys taken from another node.";
    joins_accepted, "Machines that became nodes through this one.";
    newcomers, "New programs that were seen.";
    joins_refused, "Machines that wanted to become nodes and were refused.";
}
