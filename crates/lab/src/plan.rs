//! A specification worked out: everything that is decided before the first process is forked.

use crate::cgroup;
use crate::credentials;
use crate::deal;
use crate::error::{Doing, Error, Result};
use crate::spec::{CpuShare, Daemons, Memory, Rate, Spec};
use crate::wiring;
use model::NodeId;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The program every node runs.
pub(crate) const DAEMON: &str = "omd";

/// Everything that is decided about a lab.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) rate: Option<Rate>,
    /// The lower layer of every node's file system.
    pub(crate) root: PathBuf,
    /// Seen as [`crate::house::PROGRAMS`] in every node.
    pub(crate) programs: PathBuf,
    pub(crate) nodes: Vec<NodePlan>,
    /// For `/etc/hosts`.
    pub(crate) hosts: String,
    pub(crate) daemons: Daemons,
    settings: Vec<String>,
}

/// Everything that is decided about one node.
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) id: NodeId,
    pub(crate) address: Ipv4Addr,
    pub(crate) cpus: Vec<usize>,
    pub(crate) cpu_share: CpuShare,
    pub(crate) memory: Option<Memory>,
    /// Cgroups its processes join.
    pub(crate) groups: Vec<PathBuf>,
    /// The files of its `/etc/openmosix`: name, mode, content.
    pub(crate) files: Vec<(&'static str, u32, String)>,
}

/// Works a specification out. Makes nothing: cgroups come with [`Plan::make_groups`].
pub(crate) fn plan(spec: &Spec) -> Result<Plan> {
    spec.check()?;
    let programs = match &spec.programs {
        Some(path) => path.clone(),
        None => {
            let own = std::env::current_exe().doing(|| "find the running program".to_owned())?;
            own.parent().map(PathBuf::from).unwrap_or(own)
        }
    };
    let programs = programs.canonicalize().doing(|| format!("find {}", programs.display()))?;
    let root = spec.root.canonicalize().doing(|| format!("find the root {}", spec.root.display()))?;
    if spec.daemons == Daemons::Started && !programs.join(DAEMON).is_file() {
        return Err(Error::NoDaemon(programs.join(DAEMON)));
    }
    let shares = (0..usize::from(spec.nodes)).map(|index| spec.cpus_of(index));
    let hands = deal::deal(&deal::available()?, shares)?;
    let nodes =
        (1..=spec.nodes).filter_map(NodeId::new).zip(hands).enumerate().map(|(index, (id, cpus))| NodePlan {
            name: format!("n{id}"),
            id,
            address: wiring::address(id),
            cpus,
            cpu_share: spec.cpus_of(index),
            memory: spec.memory_of(index),
            groups: Vec::new(),
            files: Vec::new(),
        });
    let mut plan = Plan {
        name: spec.name.clone(),
        rate: spec.rate,
        root,
        programs,
        nodes: nodes.collect(),
        hosts: "127.0.0.1 localhost\n".to_owned(),
        daemons: spec.daemons,
        settings: spec.settings.clone(),
    };
    for node in &plan.nodes {
        // Writing into a String cannot fail.
        let _ = writeln!(plan.hosts, "{} {}", node.address, node.name);
    }
    if plan.daemons == Daemons::Started {
        plan.write_files()?;
    }
    Ok(plan)
}

impl Plan {
    fn write_files(&mut self) -> Result<()> {
        let members: Vec<_> = self.nodes.iter().map(|node| (node.id, node.name.clone())).collect();
        let issued = credentials::issue(&self.name, &members)?;
        let configure = |node: &NodePlan| configuration(node, &self.settings);
        let configurations: Vec<_> = self.nodes.iter().map(configure).collect();
        for ((node, credentials), configuration) in self.nodes.iter_mut().zip(issued).zip(configurations) {
            node.files = vec![
                ("omd.toml", 0o644, configuration),
                ("ca.pem", 0o644, credentials.authority_pem),
                ("node.pem", 0o644, credentials.certificate_pem),
                ("node.key", 0o600, credentials.key_pem),
                ("cluster.key", 0o600, credentials.cluster_key),
            ];
        }
        Ok(())
    }

    /// Makes the nodes' cgroups. On failure some may exist; [`cgroup::remove`] finds them.
    pub(crate) fn make_groups(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.groups = cgroup::create(&self.name, &node.name, node.cpu_share, node.memory)?;
        }
        Ok(())
    }
}

/// Nothing about the other nodes: they find each other.
fn configuration(node: &NodePlan, settings: &[String]) -> String {
    let port = model::limits::PORT_TCP;
    // Dotted keys belong to no table, so they come first.
    let settings: String = settings.iter().map(|setting| format!("{setting}\n")).collect();
    format!("{settings}[node]\nid = {}\nname = \"{}\"\nlisten = \"0.0.0.0:{port}\"\n", node.id, node.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_configuration_says_nothing_of_the_others() {
        let mut spec = Spec::new("a", 2);
        spec.daemons = Daemons::Bare;
        let plan = plan(&spec).unwrap();
        let expected = "[node]\nid = 1\nname = \"n1\"\nlisten = \"0.0.0.0:4660\"\n";
        assert_eq!(configuration(&plan.nodes[0], &[]), expected);
        let set = configuration(&plan.nodes[0], &["guests.max = 8".to_owned()]);
        assert_eq!(set, format!("guests.max = 8\n{expected}"));
    }
}
