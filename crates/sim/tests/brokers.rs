//! Brokers in clusters of any size: what each of them knows, sends and keeps is the same in all of them.
#![expect(clippy::unwrap_used, reason = "scenarios and policies of a test exist")]

use model::limits::DATAGRAM_BYTES_MAX;
use sim::contender;
use sim::measure::Measures;
use sim::network::Trouble;
use sim::scenario::Scenario;
use sim::world::{Plan, run};
use std::time::Duration;

fn at_work(nodes: usize) -> Measures {
    let scenario = Scenario::named("c2").unwrap().resized(nodes);
    run(&Plan {
        scenario: &scenario,
        contender: contender::named("ums").unwrap(),
        seed: 1000,
        trouble: Trouble::default(),
        spread: None,
        lasts: Some(Duration::from_secs(45)),
    })
}

/// More nodes than there were ever in one cluster are for `sim brokers --nodes 10000`, which takes half a minute.
#[test]
fn what_a_broker_knows_sends_and_keeps_does_not_grow_with_the_cluster() {
    let [small, large] = [64, 2000].map(at_work);
    for run in [&small, &large] {
        assert_eq!(run.violations, Vec::<String>::new());
        assert!(run.done > 500, "{run:?}");
        assert!(run.age_s < 2.0 && run.age_s_max < 20.0, "{run:?}");
        assert!(run.message_bytes_max <= DATAGRAM_BYTES_MAX, "{run:?}");
    }
    assert!(large.gossip_bytes_per_node_s < small.gossip_bytes_per_node_s * 1.05, "{small:?} {large:?}");
    assert!(large.bytes_per_node_s < small.bytes_per_node_s * 1.1, "{small:?} {large:?}");
    // The most of two thousand is more than the most of sixty-four, by chance; thirty times would be growth.
    assert!(large.table_entries_max < small.table_entries_max * 3, "{small:?} {large:?}");
}

#[test]
fn a_small_cluster_costs_less() {
    let [tiny, small] = [6, 16].map(at_work);
    assert!(tiny.gossip_bytes_per_node_s < small.gossip_bytes_per_node_s, "{tiny:?} {small:?}");
}
