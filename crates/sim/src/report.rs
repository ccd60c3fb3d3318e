//! Tables and JSON.

use crate::measure::Summary;
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

    /// As a table for people, in Markdown.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header([
            "policy",
            "mean ± se",
            "vs first",
            "median run",
            "p95",
            "moves/job",
            "MB/job",
            "over-shoot",
            "makespan s",
            "over memory s/job",
            "age s",
            "B/node/s",
            "questions/job",
        ]);
        for (index, summary) in self.policies.iter().enumerate() {
            let mean = &summary.mean;
            let against = match (index, summary.against_first) {
                (0, _) => "—".to_owned(),
                (_, ratio) if ratio >= 2.0 => format!("×{ratio:.1}"),
                (_, ratio) => format!("{:+.1} %", 100.0 * (ratio - 1.0)),
            };
            table.add_row([
                summary.policy.to_owned(),
                format!("{:.3} ± {:.3}", mean.slowdown, summary.standard_error),
                against,
                format!("{:.3}", summary.median),
                format!("{:.2}", mean.p95),
                format!("{:.3}", mean.moves),
                format!("{:.1}", mean.moved_mb),
                format!("{:.2}", mean.over_shoot),
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
