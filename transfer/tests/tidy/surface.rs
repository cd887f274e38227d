//! What the public signatures may not name: the types of the crates underneath, whose versions would
//! become part of the promise.

use crate::Finding;
use crate::source::{Source, line_of, places};

const FOREIGN: &[&str] = &["libc", "io_uring", "rustix"];

/// Types of the kernel's crates in what is `pub`, by their path or by an imported name.
///
/// An approximation: it reads lines that begin with `pub`, up to the body or the end of the field.
pub(crate) fn foreign_types(source: &Source) -> Vec<Finding> {
    let is_public = source.is_in(&["runtime/src", "transfer/src"]);
    if !source.path.ends_with(".rs") || !is_public || source.is_in(&["runtime/src/sys"]) {
        return Vec::new();
    }
    let code = &source.product;
    let imported = imported_types(code);
    let mut findings = Vec::new();
    for (at, signature) in public_signatures(code) {
        let paths =
            FOREIGN.iter().filter(|name| !places(signature, &format!("{name}::*")).is_empty());
        let names = imported.iter().filter(|name| !places(signature, name).is_empty());
        if let Some(name) = paths.copied().chain(names.copied()).next() {
            let what = format!("`{name}` in a public signature: a type of the crates underneath");
            findings.push(Finding { path: source.path.clone(), line: line_of(code, at), what });
        }
    }
    findings
}

/// What is declared `pub`, without its body, and where.
fn public_signatures(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let begins_its_line = |at: &usize| {
        let line = code[..*at].rfind('\n').map_or(0, |end| end + 1);
        code[line..*at].trim().is_empty()
    };
    places(code, "pub").into_iter().filter(begins_its_line).filter_map(|at| {
        let rest = code[at..].strip_prefix("pub ")?;
        let is_item = [
            "fn ", "async ", "const ", "unsafe ", "use ", "type ", "struct ", "enum ", "trait ",
            "static ",
        ]
        .iter()
        .any(|word| rest.starts_with(word));
        let is_import = rest.starts_with("use ");
        let end = if is_import {
            rest.find(';')
        } else if is_item {
            rest.find(['{', ';'])
        } else {
            // A field: its line says its type.
            rest.find('\n')
        };
        Some((at, &rest[..end.unwrap_or(rest.len())]))
    })
}

/// The names of types that private `use` statements bring from a foreign crate.
fn imported_types(code: &str) -> Vec<&str> {
    let foreign = FOREIGN.iter().flat_map(|name| places(code, &format!("use {name}::*")));
    let statements = foreign.map(|at| code[at..].split(';').next().unwrap_or_default());
    let names = statements.flat_map(|statement| {
        // A renamed type is known by its new name.
        let items = statement.split(['{', '}', ',']);
        items.filter_map(|item| item.trim().rsplit([':', ' ']).next())
    });
    names.filter(|name| name.starts_with(|first: char| first.is_ascii_uppercase())).collect()
}

#[cfg(test)]
mod tests {
    use crate::tests::findings;

    fn found(text: &str) -> usize {
        findings("runtime/src/net.rs", text).len()
    }

    #[test]
    fn a_path_in_a_signature_is_found() {
        assert_eq!(found("pub fn f(\n    a: u32,\n    b: rustix::fs::Mode,\n) {}"), 1);
        assert_eq!(found("pub struct A {\n    pub mode: libc::mode_t,\n}"), 1);
        assert_eq!(found("pub use io_uring::Probe;"), 1);
        assert_eq!(found("pub type Mode = libc::mode_t;"), 1);
    }

    #[test]
    fn an_imported_name_in_a_signature_is_found() {
        assert_eq!(found("use rustix::fs::{self, Mode};\npub fn f(mode: Mode) {}"), 1);
        assert_eq!(found("use rustix::fs::Mode as Bits;\npub fn f(bits: Bits) {}"), 1);
        assert_eq!(found("use rustix::fs::Mode as Bits;\npub fn f(mode: Mode) {}"), 0);
    }

    #[test]
    fn bodies_and_what_is_not_public_are_free() {
        assert_eq!(found("pub fn f() { rustix::fs::sync(); }"), 0);
        assert_eq!(found("pub(crate) fn f(mode: rustix::fs::Mode) {}"), 0);
        assert_eq!(found("pub struct A {\n    mode: libc::mode_t,\n}"), 0);
        assert_eq!(found("/// Like `libc::open`.\npub fn f() {}"), 0);
        assert!(findings("runtime/src/sys/a.rs", "pub fn f(mode: libc::mode_t) {}").is_empty());
    }
}
