//! The rules that are about a file as a whole.

use crate::Finding;
use crate::rules::may_be_unsafe;
use crate::source::{Source, line_of, places};

const LINES_MAX: usize = 500;

const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "examples",
    "runtime",
    "target",
    "transfer",
];

/// Names that say nothing about what is in the room.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "managers"];

/// The top of the workspace holds the four packages, a few documents and dotfiles.
pub(crate) fn top_level(names: &[String]) -> Vec<Finding> {
    let is_known = |name: &str| {
        TOP_LEVEL.contains(&name) || name.starts_with('.') || name.starts_with("target-")
    };
    let strangers = names.iter().filter(|name| !is_known(name));
    let finding = |name: &String| Finding {
        path: name.clone(),
        line: 1,
        what: "the top level holds what DESIGN.md allows, and this has another room".to_owned(),
    };
    strangers.map(finding).collect()
}

pub(crate) fn length(source: &Source) -> Option<Finding> {
    let lines = source.raw.lines().count();
    (source.path.ends_with(".rs") && lines > LINES_MAX).then(|| Finding {
        path: source.path.clone(),
        line: lines,
        what: format!("{lines} lines; a room has one subject and at most {LINES_MAX}"),
    })
}

pub(crate) fn room_name(source: &Source) -> Option<Finding> {
    let path = source.path.strip_suffix(".rs")?;
    let name = path.split('/').find(|name| EMPTY_NAMES.contains(name))?;
    Some(Finding {
        path: source.path.clone(),
        line: 1,
        what: format!("`{name}` is no subject; name the room for what is in it"),
    })
}

/// SQEs are built in one file, whose constructors are the list of what is allowed. The number of an op,
/// `opcode::Splice::CODE`, is no SQE.
pub(crate) fn sqe_building(source: &Source) -> Vec<Finding> {
    let is_product = source.is_in(&["runtime", "transfer", "examples"]);
    if !source.path.ends_with(".rs") || !is_product || source.is_in(&["runtime/src/sys/sqe"]) {
        return Vec::new();
    }
    let path = |at: &usize| {
        let rest = &source.product[*at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        &rest[..end.unwrap_or(rest.len())]
    };
    let builders = places(&source.product, "opcode::*").into_iter();
    let builders = builders.filter(|at| !path(at).ends_with("::CODE"));
    let finding = |at| Finding {
        path: source.path.clone(),
        line: line_of(&source.product, at),
        what: format!("`{}`: SQEs are built in runtime/src/sys/sqe.rs only", path(&at)),
    };
    builders.map(finding).collect()
}

/// As many SAFETY comments as there are unsafe blocks and impls, in each file.
pub(crate) fn safety_comments(source: &Source) -> Option<Finding> {
    if !source.path.ends_with(".rs") || !may_be_unsafe(source) {
        return None;
    }
    let opens = |at: &usize| {
        let rest = source.code[*at + "unsafe".len()..].trim_start();
        rest.starts_with('{') || rest.starts_with("impl")
    };
    let blocks: Vec<_> = places(&source.code, "unsafe").into_iter().filter(opens).collect();
    let is_comment = |line: &&str| {
        line.split_once("//")
            .is_some_and(|(_, comment)| comment.trim_start().starts_with("SAFETY:"))
    };
    let comments = source.raw.lines().filter(is_comment).count();
    (blocks.len() != comments).then(|| Finding {
        path: source.path.clone(),
        line: blocks.first().map_or(1, |&at| line_of(&source.code, at)),
        what: format!("{} unsafe blocks and impls, {comments} SAFETY comments", blocks.len()),
    })
}

pub(crate) fn forbids_unsafe(source: &Source) -> Option<Finding> {
    let is_root = source.path == "transfer/src/lib.rs";
    (is_root && !source.code.contains("#![forbid(unsafe_code)]")).then(|| Finding {
        path: source.path.clone(),
        line: 1,
        what: "`#![forbid(unsafe_code)]` is missing".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::findings;

    #[test]
    fn a_stranger_at_the_top_is_found() {
        let names = ["Cargo.toml", ".ci", "target-kit", "transfer", "notes.txt"].map(str::to_owned);
        let found = top_level(&names);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "notes.txt");
    }

    #[test]
    fn a_file_has_five_hundred_lines_and_not_one_more() {
        assert!(findings("benches/src/a.rs", &"\n".repeat(500)).is_empty());
        let found = findings("benches/src/a.rs", &"\n".repeat(501));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("501: 501 lines"), "{found:?}");
        assert!(findings("README.md", &"\n".repeat(501)).is_empty());
    }

    #[test]
    fn a_room_without_a_subject_is_found() {
        assert!(findings("transfer/src/utils.rs", "")[0].contains("`utils` is no subject"));
        assert!(findings("runtime/tests/common/mod.rs", "")[0].contains("`common`"));
        assert!(findings("runtime/src/utility_of_pipes.rs", "").is_empty());
    }

    #[test]
    fn an_unsafe_block_without_its_sentence_is_found() {
        let two_and_one = "// SAFETY: because.\nunsafe { a() };\nunsafe impl Send for B {}";
        let found = findings("runtime/src/sys/a.rs", two_and_one);
        assert_eq!(found, ["2: 2 unsafe blocks and impls, 1 SAFETY comments"]);
        let sentence_alone = "// SAFETY: because.\nunsafe fn a();";
        assert_eq!(findings("runtime/src/mem.rs", sentence_alone).len(), 1);
        let one_each = "let a = unsafe { b() }; // SAFETY: because.\nunsafe fn a();";
        assert!(findings("runtime/src/op/a.rs", one_each).is_empty());
    }

    #[test]
    fn an_sqe_that_is_built_elsewhere_is_found() {
        let built = findings("runtime/src/driver.rs", "use io_uring::opcode;\nopcode::Nop::new()");
        assert_eq!(built, ["2: `opcode::Nop::new`: SQEs are built in runtime/src/sys/sqe.rs only"]);
        assert_eq!(findings("runtime/src/net.rs", "use io_uring::opcode::{Nop};").len(), 1);
        assert!(findings("runtime/src/sys/probe.rs", "f(opcode::Nop::CODE)").is_empty());
        assert!(findings("runtime/src/sys/sqe.rs", "opcode::Nop::new()").is_empty());
    }

    #[test]
    fn a_transfer_that_does_not_forbid_unsafe_is_found() {
        assert_eq!(findings("transfer/src/lib.rs", "//! #![forbid(unsafe_code)]").len(), 1);
        assert!(findings("transfer/src/lib.rs", "#![forbid(unsafe_code)]").is_empty());
    }
}
