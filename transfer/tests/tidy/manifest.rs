//! Fault injection is asked for, never had by default.

use crate::Finding;
use crate::source::Source;
use std::collections::BTreeMap;

/// Finds a manifest whose default features, or whose dependencies outside tests, switch `fault` on.
///
/// It reads what manifests here look like, a key on each line, not all of TOML.
pub(crate) fn fault_is_opt_in(source: &Source) -> Vec<Finding> {
    if source.path != "Cargo.toml" && !source.path.ends_with("/Cargo.toml") {
        return Vec::new();
    }
    let entries = entries(&source.raw);
    let finding = |line, what: &str| Finding {
        path: source.path.clone(),
        line,
        what: format!("`fault` {what}: a shipped build injects no faults"),
    };
    let mut findings = Vec::new();
    let features: BTreeMap<&str, &Entry<'_>> = entries
        .iter()
        .filter(|entry| entry.section == "features")
        .map(|entry| (entry.key, entry))
        .collect();
    let mut open = vec!["default"];
    let mut seen = Vec::new();
    while let Some(name) = open.pop().filter(|name| !seen.contains(name)) {
        seen.push(name);
        let Some(entry) = features.get(name) else { continue };
        let parts = quoted(&entry.value);
        if parts.iter().any(|part| is_fault(part)) {
            findings.push(finding(entry.line, "is reached from the default features"));
        }
        open.extend(features.keys().filter(|key| parts.contains(&key.to_string())));
    }
    for entry in &entries {
        let is_shipped =
            entry.section.contains("dependencies") && !entry.section.contains("dev-dependencies");
        if is_shipped && quoted(&entry.value).iter().any(|part| is_fault(part)) {
            findings.push(finding(entry.line, "is switched on by a dependency"));
        }
    }
    findings
}

struct Entry<'a> {
    section: &'a str,
    key: &'a str,
    value: String,
    line: usize,
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut section = "";
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        let is_open = entries.last().is_some_and(|entry: &Entry<'_>| {
            entry.value.matches('[').count() > entry.value.matches(']').count()
        });
        if let (true, Some(entry)) = (is_open, entries.last_mut()) {
            entry.value.push_str(text);
        } else if let Some(name) = text.strip_prefix('[') {
            section = name.trim_matches(['[', ']']);
        } else if let Some((key, value)) = text.split_once('=') {
            entries.push(Entry { section, key: key.trim(), value: value.to_owned(), line });
        }
    }
    entries
}

/// The contents of the strings in a value.
fn quoted(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn is_fault(feature: &str) -> bool {
    feature.rsplit('/').next() == Some("fault")
}

#[cfg(test)]
mod tests {
    use crate::tests::findings;

    fn found(text: &str) -> Vec<String> {
        findings("examples/Cargo.toml", text)
    }

    #[test]
    fn a_default_that_injects_faults_is_found() {
        let direct = found("[features]\ndefault = [\"fault\"]\nfault = []\n");
        assert_eq!(direct.len(), 1);
        assert!(direct[0].starts_with("2: `fault` is reached"), "{direct:?}");
        let on_two_lines =
            "[features]\ndefault = [\n  \"a\",\n]\na = [\"ringway-runtime/fault\"]\n";
        assert_eq!(found(on_two_lines).len(), 1);
    }

    #[test]
    fn a_dependency_that_injects_faults_is_found() {
        let shipped = "[dependencies]\nringway = { workspace = true, features = [\"fault\"] }\n";
        assert_eq!(found(shipped).len(), 1);
        assert!(found(&shipped.replace("dependencies", "dev-dependencies")).is_empty());
    }

    #[test]
    fn a_fault_that_is_asked_for_is_fine() {
        assert!(
            found("[features]\ndefault = []\n# not \"fault\"\nfault = [\"a/fault\"]\n").is_empty()
        );
    }
}
