//! Enforces what a test can of the house rules: where `unsafe` may stand, who may mention whom, what
//! must be absent, how long a file may be.
//!
//! The rules about words are data, in `rules.rs`; the others are a function each, in `checks.rs` and
//! `manifest.rs`. All work on text, not on the file system, so that each can be shown to bite.

mod checks;
mod manifest;
mod rules;
mod source;
mod surface;

use source::Source;
use std::fmt;
use std::fs;
use std::path::Path;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

#[test]
fn the_tree_keeps_the_house_rules() {
    let top =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace above this package");
    if !top.join("runtime").is_dir() {
        // A published package stands alone; the rules are the workspace's.
        return;
    }
    let entries = names_in(top);
    let tree = read_tree(top);
    assert!(
        tree.iter().any(|source| source.path == "transfer/src/lib.rs"),
        "the tree was not read"
    );
    let mut findings = checks::top_level(&entries);
    findings.extend(tree.iter().flat_map(check));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    let list: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    assert!(findings.is_empty(), "{} places break a house rule:\n{list}", findings.len());
}

/// Every rule that looks at one file.
fn check(source: &Source) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        rules::FORBIDDEN.iter().flat_map(|r| r.check(source)).collect();
    findings.extend(rules::DIRECTIONS.iter().flat_map(|direction| direction.check(source)));
    findings.extend(checks::length(source));
    findings.extend(checks::room_name(source));
    findings.extend(checks::safety_comments(source));
    findings.extend(checks::sqe_building(source));
    findings.extend(checks::forbids_unsafe(source));
    findings.extend(surface::foreign_types(source));
    findings.extend(manifest::fault_is_opt_in(source));
    findings
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.expect("the folder can be read"))).collect()
}

/// The text files of the workspace, but not what was built and not what git keeps.
fn read_tree(top: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut open = names_in(top);
    while let Some(path) = open.pop() {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if name == ".git" || name.starts_with("target") && !path.contains('/') {
            continue;
        }
        let full = top.join(&path);
        let kind = fs::symlink_metadata(&full).map(|data| data.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            open.extend(names_in(&full).iter().map(|name| format!("{path}/{name}")));
        } else if kind.is_ok_and(|kind| kind.is_file())
            // What is no UTF-8, like the corpus of a fuzzer, is not a text.
            && let Ok(text) = fs::read_to_string(&full)
        {
            sources.push(Source::new(path, text));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings about one made-up file, as `line: what`.
    pub(crate) fn findings(path: &str, text: &str) -> Vec<String> {
        let source = Source::new(path.to_owned(), text.to_owned());
        check(&source).iter().map(|found| format!("{}: {}", found.line, found.what)).collect()
    }

    #[test]
    fn a_finding_says_where() {
        let finding = Finding { path: "a/b.rs".to_owned(), line: 7, what: "no".to_owned() };
        assert_eq!(finding.to_string(), "a/b.rs:7: no");
    }

    #[test]
    fn an_orderly_file_passes() {
        let text =
            "//! An `unsafe` that is only spoken of.\npub fn plan(len: u64) -> u64 { len }\n";
        assert_eq!(findings("transfer/src/plan.rs", text), Vec::<String>::new());
    }
}
