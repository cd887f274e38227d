//! A file as the rules see it: as it stands, as code alone, and as the code that is shipped.

/// A text file of the workspace.
pub(crate) struct Source {
    /// Relative to the top of the workspace, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) raw: String,
    /// Without comments and the contents of strings; other files than Rust's are left as they are.
    pub(crate) code: String,
    /// Of the code, what is not in a module for tests.
    pub(crate) product: String,
}

impl Source {
    pub(crate) fn new(path: String, raw: String) -> Self {
        let code = if path.ends_with(".rs") { code_only(&raw) } else { raw.clone() };
        let product = without_tests(&code);
        Source { path, raw, code, product }
    }

    /// Whether the file is, or lies in, one of these: `runtime/src/op` is the file `op.rs` and the
    /// folder `op/`, `transfer` everything in it, and the empty name is the top of the workspace.
    pub(crate) fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| {
            let rest = self.path.strip_prefix(room);
            rest.is_some_and(|rest| {
                room.is_empty() || rest.is_empty() || rest == ".rs" || rest.starts_with('/')
            })
        })
    }
}

/// The line, counted from one, in which a byte of the text stands.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()
}

/// Where a word stands by itself. A word that ends in `*` may go on; one that begins with `/` is a
/// path from the root, and what stands before it must not make it a part of a longer one.
pub(crate) fn places(text: &str, word: &str) -> Vec<usize> {
    let (word, open) = word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    let begins = |at: usize| {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let joins = |byte| match word.as_bytes()[0] {
            b'/' => is_name(byte) || b".-}*".contains(&byte),
            first => is_name(first) && is_name(byte),
        };
        !before.is_some_and(joins)
    };
    let ends = |at: usize| {
        let last = word.as_bytes()[word.len() - 1];
        open || !(is_name(last) && bytes.get(at + word.len()).copied().is_some_and(is_name))
    };
    let found = text.match_indices(word).map(|(at, _)| at);
    found.filter(|&at| begins(at) && ends(at)).collect()
}

/// Blanks comments and the contents of strings and characters; lines and offsets stay.
fn code_only(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let end = at + opaque_length(&text.as_bytes()[at..], at.checked_sub(1).map(|at| code[at]));
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole comments and strings were blanked")
}

/// How long the comment, string or character is that begins here; 0 if none does.
fn opaque_length(rest: &[u8], before: Option<u8>) -> usize {
    let in_name = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let hashes = rest.iter().skip(1).take_while(|&&byte| byte == b'#').count();
    match rest {
        [b'/', b'/', ..] => find(rest, b"\n", 0),
        [b'/', b'*', ..] => block_comment_length(rest),
        [b'r', ..] if rest.get(1 + hashes) == Some(&b'"') && (!in_name || before == Some(b'b')) => {
            let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
            (find(rest, &close, 2 + hashes) + close.len()).min(rest.len())
        }
        [b'"', ..] => quoted_length(rest, b'"'),
        [b'\'', b'\\', ..] => quoted_length(rest, b'\''),
        // A lifetime has no closing quote after its first character.
        [b'\'', first, ..] => {
            let width = usize::from(*first >= 0x80)
                + usize::from(*first >= 0xe0)
                + usize::from(*first >= 0xf0)
                + 1;
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn find(text: &[u8], what: &[u8], from: usize) -> usize {
    let windows = text.windows(what.len()).skip(from);
    windows.zip(from..).find(|(window, _)| *window == what).map_or(text.len(), |(_, at)| at)
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Blanks every `#[cfg(test)] mod … { … }`.
fn without_tests(code: &str) -> String {
    let mut product = code.as_bytes().to_vec();
    for start in places(code, "#[cfg(test)]") {
        let rest = code[start + "#[cfg(test)]".len()..].trim_start();
        let is_module = ["mod ", "pub(crate) mod "].iter().any(|word| rest.starts_with(word));
        let from = code.len() - rest.len();
        let Some(brace) = rest.find(['{', ';']).filter(|_| is_module) else { continue };
        let end = from + brace + braced(&rest[brace..]).len();
        product[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    String::from_utf8(product).expect("whole modules were blanked")
}

/// From an opening brace to its closing one, both included.
pub(crate) fn braced(code: &str) -> &str {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return &code[..=at];
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_lines_stay() {
        let text =
            "a(\"x // \\\" y\"); // b\n/* c /* d */ e */ f('\"', 'g', '\\'') + r#\"h\"i\"#\n<'j>";
        let code = code_only(text);
        assert_eq!(code.len(), text.len());
        let words: Vec<_> = code.split_whitespace().collect();
        assert_eq!(words, ["a(", ");", "f(", ",", ",", ")", "+", "<'j>"]);
        assert_eq!(line_of(&code, code.find("'j").unwrap()), 3);
    }

    #[test]
    fn characters_beyond_ascii_and_byte_strings_are_blanked() {
        assert_eq!(
            code_only("'é' '→' '𝄞' b\"k\" br\"l\" 'a: loop {}").replace(' ', ""),
            "bb'a:loop{}"
        );
        assert_eq!(code_only("let x = \"not closed").trim(), "let x =");
    }

    #[test]
    fn words_stand_by_themselves() {
        assert_eq!(places("async unasync async_fn", "async"), [0]);
        assert_eq!(places("rustls rustls_pki x_rustls", "rustls*"), [0, 7]);
        assert_eq!(places("/top/a x/top/a \"/top/b", "/top/"), [0, 16]);
    }

    #[test]
    fn modules_for_tests_are_no_product() {
        let code = "a; #[cfg(test)]\nmod tests { fn b() {} } c; #[cfg(test)] mod d; #[cfg(test)] fn e() {}";
        let words = without_tests(code);
        let words: Vec<_> = words.split_whitespace().collect();
        assert_eq!(words, ["a;", "c;", "#[cfg(test)]", "fn", "e()", "{}"]);
    }

    #[test]
    fn a_room_is_a_file_and_its_folder() {
        let file = |path: &str| Source::new(path.to_owned(), String::new());
        let room = ["runtime/src/op"];
        assert!(file("runtime/src/op.rs").is_in(&room));
        assert!(file("runtime/src/op/slot.rs").is_in(&room));
        assert!(!file("runtime/src/open.rs").is_in(&room));
        assert!(file("README.md").is_in(&[""]));
    }
}
