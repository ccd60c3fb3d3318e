//! The page of the daemon: its command line, and every word of its configuration.
//!
//! The configuration is taken from the commented file that a new node gets, so that there is one description of it.

use clap::Parser;
use clap_mangen::Man;
use model::NodeId;
use node::config::{Paths, Peer, template};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The openMosix daemon: lets processes of this machine move to other nodes, and hosts theirs.
///
/// Runs in the foreground and logs to standard error. SIGTERM ends it; processes that are away go on, and the next daemon
/// finds them again.
#[derive(Parser)]
#[command(name = "omd", display_name = "omd", version)]
pub(super) struct Omd {
    /// The configuration, as 'om init' or 'om join' made it.
    #[arg(long, value_name = "FILE", default_value = node::config::CONFIG_FILE)]
    config: PathBuf,
    /// 'run', or nothing: run the daemon.
    #[arg(value_name = "COMMAND", default_value = "run")]
    command: String,
}

/// One part of a section: what is said of some words, and the words with their defaults.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    about: Vec<String>,
    words: Vec<String>,
}

/// A section of the configuration.
#[derive(Debug, PartialEq, Eq)]
struct Section {
    name: String,
    parts: Vec<Part>,
}

/// Writes the page.
pub(super) fn write(command: clap::Command, source: &str, out: &mut dyn Write) -> io::Result<()> {
    let page = Man::new(command).title("OMD").section("8").source(source);
    page.render(out)?;
    writeln!(out, ".SH ENVIRONMENT\n.TP\n.B OMD_LOG")?;
    writeln!(out, "How much is logged: error, warn, info (the default), debug or trace.")?;
    writeln!(out, ".SH CONFIGURATION")?;
    writeln!(
        out,
        "The file is in TOML. Each word is shown with its default, or with an example where it has none."
    )?;
    for section in sections(&example()) {
        writeln!(out, ".SS {}", escaped(&section.name))?;
        for Part { about, words } in section.parts {
            for (index, word) in words.iter().enumerate() {
                writeln!(out, "{}\n.B {}", if index == 0 { ".TP" } else { ".TQ" }, escaped(word))?;
            }
            writeln!(out, "{}", escaped(&about.join(" ")))?;
        }
    }
    Ok(())
}

/// A file that has every word.
fn example() -> String {
    let first = NodeId::new(1).unwrap_or_else(|| unreachable!("1 is not 0"));
    let peer = Peer { id: first, name: "n1".to_owned(), address: "192.0.2.1:4660".to_owned(), hint: true };
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, model::limits::PORT_TCP));
    template(first, "n1", everywhere, &Paths::default(), &[peer])
}

/// Reads a commented file: lines that begin with '#' are words that are left at their defaults, or explanations of the words
/// after them. What stands before the first section is about the file itself, and left out.
fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut part = Part::default();
    for line in text.lines().chain([""]) {
        let bare = line.trim_start_matches("# ");
        let explains = !line.is_empty() && !line.starts_with('[') && !is_word(bare);
        if !part.words.is_empty() && (line.is_empty() || explains) {
            sections.last_mut().into_iter().for_each(|section| section.parts.push(std::mem::take(&mut part)));
        }
        if line.starts_with('[') {
            if sections.is_empty() {
                part = Part::default();
            }
            sections.push(Section { name: line.to_owned(), parts: Vec::new() });
        } else if explains {
            part.about.push(bare.to_owned());
        } else if !line.is_empty() {
            part.words.push(bare.to_owned());
        }
    }
    sections
}

/// Whether this sets a word, in a commented file.
fn is_word(line: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    line.split_once(" = ").is_some_and(|(word, _)| !word.is_empty() && word.bytes().all(letter))
}

/// A text that roff takes for nothing else.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use node::config::Config;

    fn page() -> String {
        let mut page = Vec::new();
        write(Omd::command(), "test", &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn a_commented_file_is_a_description() {
        let text = "# The file.\n\n[a]\n# One\n# two.\n# x = 1\n# y_2 = \"z\"\n# Three.\nw = []\n\n# Of b.\n\n[b]\n# v = 2\n";
        let part = |about: &[&str], words: &[&str]| Part {
            about: about.iter().map(|text| (*text).to_owned()).collect(),
            words: words.iter().map(|text| (*text).to_owned()).collect(),
        };
        let section = |name: &str, parts| Section { name: name.to_owned(), parts };
        let a = vec![part(&["One", "two."], &["x = 1", "y_2 = \"z\""]), part(&["Three."], &["w = []"])];
        assert_eq!(sections(text), [section("[a]", a), section("[b]", vec![part(&["Of b."], &["v = 2"])])]);
    }

    /// What the configuration does not know it refuses, and says what it knows instead.
    #[test]
    fn every_word_of_the_configuration_is_on_the_page() {
        let page = page();
        let mut count = 0;
        for section in ["[node]", "[cluster]", "[guests]", "[balance]", "[paths]", "[[peer]]"] {
            let error = Config::parse(&format!("{section}\nno_such_word = 1\n")).unwrap_err();
            let known = error.split_once("expected").unwrap().1;
            let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            assert!(known.len() > 2, "{section}: {error}");
            let start = page.find(&format!(".SS {section}\n")).unwrap_or_else(|| panic!("{section}: {page}"));
            let rest = &page[start + 4..];
            let shown = &rest[..rest.find(".SS ").unwrap_or(rest.len())];
            for word in known {
                assert!(shown.contains(&format!("\n.B {word} = ")), "{section} {word}: {shown}");
                count += 1;
            }
        }
        assert!(count > 30, "{count}");
    }

    #[test]
    fn nothing_is_taken_for_an_order_to_roff() {
        assert_eq!(escaped(".x-y"), "\\&.x\\-y");
        assert_eq!(escaped("'a\\"), "\\&'a\\e");
        assert!(page().contains(".B policy = \\(dqums\\(dq"));
        assert!(page().contains(".SH ENVIRONMENT") && page().contains("\\-\\-config"));
    }
}
