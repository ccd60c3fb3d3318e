//! Tables and JSON.

use crate::measure::{Against, Measures, Summary};
use crate::scenario::Scenario;
use crate::spreading::Spreading;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

/// All that was found out about a scenario.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Machines.
    pub nodes: usize,
    /// The policies, in the order in which they were asked for.
    pub policies: Vec<Summary>,
}

impl Report {
    /// Of a scenario.
    pub fn new(scenario: &Scenario, policies: Vec<Summary>) -> Report {
        Report { scenario: scenario.name, about: scenario.about, nodes: scenario.machines.len(), policies }
    }

    /// As a table for people, in Markdown. What is bold in a column is best, or cannot be told from the best.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header([
            "policy",
            "mean ± se",
            "vs first",
            "median run",
            "p95",
            "over-shoot ± se",
            "moves/job",
            "MB/job",
            "makespan s",
            "over memory s/job",
            "age s",
            "B/node/s",
            "questions/job",
        ]);
        let slowdown = best(&self.policies, |summary| summary.slowdown_against);
        let p95 = best(&self.policies, |summary| summary.p95_against);
        let over_shoot = best(&self.policies, |summary| summary.over_shoot_against);
        for (index, summary) in self.policies.iter().enumerate() {
            let mean = &summary.mean;
            table.add_row([
                summary.policy.to_owned(),
                bold(slowdown[index], format!("{:.3} ± {:.3}", mean.slowdown, summary.standard_error)),
                if index == 0 { "—".to_owned() } else { ratio(summary.slowdown_against) },
                format!("{:.3}", summary.median),
                bold(p95[index], format!("{:.2}", mean.p95)),
                bold(over_shoot[index], format!("{:.2} ± {:.2}", mean.over_shoot, summary.over_shoot_error)),
                format!("{:.3}", mean.moves),
                format!("{:.1}", mean.moved_mb),
                format!("{:.1}", mean.makespan_s),
                format!("{:.2}", mean.thrashed_s),
                format!("{:.2}", mean.age_s),
                format!("{:.0}", mean.bytes_per_node_s),
                format!("{:.1}", mean.questions),
            ]);
        }
        let runs = self.policies.first().map_or(0, |summary| summary.runs);
        let head = format!("Scenario {}: {} ({} nodes, {runs} seeds)", self.scenario, self.about, self.nodes);
        let unfinished = self.policies.iter().filter(|summary| summary.mean.unfinished > 0).map(|summary| {
            format!("\n{}: {} processes never ended", summary.policy, summary.mean.unfinished)
        });
        let violations = self.policies.iter().flat_map(|summary| {
            summary
                .mean
                .violations
                .iter()
                .map(|violation| format!("\nbroken by {}: {violation}", summary.policy))
        });
        format!("{head}\n\n{table}{}", unfinished.chain(violations).collect::<String>())
    }
}

/// Which of them are best, or cannot be told from the best, the least being best. All are compared with the first one: what
/// is better than it for sure is before it, and then the least counts alone.
fn best(policies: &[Summary], of: impl Fn(&Summary) -> Against) -> Vec<bool> {
    let least = policies.iter().map(&of).min_by(|one, other| one.value.total_cmp(&other.value));
    let Some(least) = least else { return Vec::new() };
    let (Some(first), true) = (policies.first().map(&of), policies.len() > 1) else {
        return vec![false; policies.len()];
    };
    policies
        .iter()
        .map(of)
        .map(|one| {
            let first_is_beaten = least.high < first.value;
            if first_is_beaten { one.value <= least.value } else { one.low <= first.value }
        })
        .collect()
}

fn bold(is: bool, text: String) -> String {
    if is { format!("**{text}**") } else { text }
}

/// A ratio as people read it, with how sure it is.
fn ratio(against: Against) -> String {
    let Against { value, low, high } = against;
    let half = (high - low) / 2.0;
    if value >= 2.0 {
        format!("×{value:.1} ± {half:.1}")
    } else {
        format!("{:+.1} ± {:.1} %", 100.0 * (value - 1.0), 100.0 * half)
    }
}

/// A table of several sizes of cluster.
pub fn spreading_table(rows: &[Spreading]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "nodes",
        "window",
        "known",
        "mean age s",
        "by the formula",
        "oldest s",
        "B/node/s",
        "largest message B",
    ]);
    for row in rows {
        table.add_row([
            row.nodes.to_string(),
            row.length.to_string(),
            format!("{:.1}", row.known),
            format!("{:.2}", row.age_s),
            format!("{:.2}", row.expected_age_s),
            format!("{:.1}", row.age_s_max),
            format!("{:.0}", row.bytes_per_node_s),
            row.message_bytes_max.to_string(),
        ]);
    }
    table.to_string()
}

/// A table of brokers at work in several sizes of cluster.
pub fn brokers_table(rows: &[(usize, Measures)]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "nodes",
        "processes ended",
        "mean slowdown",
        "mean age s",
        "oldest s",
        "gossip B/node/s",
        "agreement B/node/s",
        "largest message B",
        "entries kept at most",
    ]);
    for (nodes, run) in rows {
        table.add_row([
            nodes.to_string(),
            run.done.to_string(),
            format!("{:.3}", run.slowdown),
            format!("{:.2}", run.age_s),
            format!("{:.1}", run.age_s_max),
            format!("{:.0}", run.gossip_bytes_per_node_s),
            format!("{:.0}", run.bytes_per_node_s - run.gossip_bytes_per_node_s),
            run.message_bytes_max.to_string(),
            run.table_entries_max.to_string(),
        ]);
    }
    table.to_string()
}
