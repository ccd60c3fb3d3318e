//! How news spread: as the formulas say, at a cost that does not grow with the cluster.

use balance::Settings;
use model::limits::DATAGRAM_BYTES_MAX;
use sim::spreading::spread;
use std::time::Duration;

#[test]
fn a_node_costs_the_same_in_any_cluster() {
    let settings = Settings::default();
    let lasts = Duration::from_secs(30);
    let [small, large, huge] = [64, 512, 3000].map(|nodes| spread(nodes, lasts, 0.0, &settings, 1));
    for row in [&small, &large, &huge] {
        assert!(row.age_s <= settings.wanted_age_s, "{row:?}");
        assert!((row.age_s / row.expected_age_s - 1.0).abs() < 0.1, "{row:?}");
        assert!(row.known > row.length as f64 * 0.99, "{row:?}");
        assert!(row.message_bytes_max <= DATAGRAM_BYTES_MAX, "{row:?}");
    }
    assert!(huge.bytes_per_node_s < small.bytes_per_node_s * 1.05, "{small:?} {huge:?}");
}

#[test]
fn a_small_cluster_knows_everybody() {
    for nodes in [2, 3, 6, 16] {
        let row = spread(nodes, Duration::from_secs(30), 0.0, &Settings::default(), 1);
        assert!(row.known > nodes as f64 - 1.01, "{row:?}");
        assert!(row.age_s <= row.expected_age_s, "{row:?}");
    }
}

#[test]
fn lost_messages_make_news_a_little_older() {
    let spread = |loss| spread(64, Duration::from_secs(60), loss, &Settings::default(), 1);
    let [peace, lossy] = [0.0, 0.3].map(spread);
    assert!(lossy.age_s > peace.age_s);
    assert!(lossy.age_s < peace.age_s * 2.0, "{peace:?} {lossy:?}");
}
