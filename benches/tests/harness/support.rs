//! What the tests of all modes need: to read what was written, to see processes, and to wait.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The JSON lines of the one file in `directory`, whose name ends with `ending`.
pub(crate) fn lines_of_the_only_file(directory: &Path, ending: &str) -> Vec<Value> {
    let mut entries = std::fs::read_dir(directory).unwrap();
    let file = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none(), "more than one file in {}", directory.display());
    assert!(file.to_string_lossy().ends_with(ending), "{}", file.display());
    let lines = std::fs::read_to_string(file).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Processes below `root`, parents before their children, from the fourth field of `/proc/<id>/stat`.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let parent = after_name.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
        parents.push((id, parent.unwrap_or(0)));
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(id, _)| *id));
        next += 1;
    }
    family.split_off(1)
}

/// Whether a process has ended; one that nobody has waited for counts as ended.
pub(crate) fn is_gone(id: u32) -> bool {
    !Path::new(&format!("/proc/{id}/exe")).exists()
}

/// What `what` finds within ten seconds.
pub(crate) fn wait_for<T>(what: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(found) = what() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}
