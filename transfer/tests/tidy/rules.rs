//! The rules that are about words: who must not say what, and why.

use crate::Finding;
use crate::source::{Source, braced, line_of, places};

/// Which view of a file a rule looks at.
#[derive(Clone, Copy)]
pub(crate) enum View {
    /// All of it, comments and strings too; any text file.
    Raw,
    /// The code of a Rust file.
    Code,
    /// The code of a Rust file outside its modules for tests.
    Product,
}

/// Words that must not stand in some rooms.
pub(crate) struct Forbidden {
    pub(crate) view: View,
    /// Where the rule holds.
    pub(crate) rooms: &'static [&'static str],
    /// Where it does not, though these lie inside.
    pub(crate) except: &'static [&'static str],
    /// See [`places`] for what a `*` at the end and a `/` in front mean.
    pub(crate) words: &'static [&'static str],
    pub(crate) why: &'static str,
}

impl Forbidden {
    pub(crate) fn check(&self, source: &Source) -> Vec<Finding> {
        let is_rust = source.path.ends_with(".rs");
        let text = match self.view {
            View::Raw => &source.raw,
            View::Code => &source.code,
            View::Product => &source.product,
        };
        let looked_at = is_rust || matches!(self.view, View::Raw);
        if !looked_at || !source.is_in(self.rooms) || source.is_in(self.except) {
            return Vec::new();
        }
        let finding = |word: &str, at| Finding {
            path: source.path.clone(),
            line: line_of(text, at),
            what: format!("`{}`: {}", word.trim_end_matches('*'), self.why),
        };
        let found = |word: &&'static str| {
            let word = *word;
            places(text, word).into_iter().map(move |at| finding(word, at))
        };
        self.words.iter().flat_map(found).collect()
    }
}

/// Modules of a package that a room must not mention.
pub(crate) struct Direction {
    pub(crate) rooms: &'static [&'static str],
    pub(crate) modules: &'static [&'static str],
    pub(crate) why: &'static str,
}

impl Direction {
    pub(crate) fn check(&self, source: &Source) -> Vec<Finding> {
        if !source.path.ends_with(".rs") || !source.is_in(self.rooms) {
            return Vec::new();
        }
        let mentioned = mentioned_modules(&source.product);
        let barred =
            mentioned.into_iter().filter(|(name, _)| self.modules.contains(&name.as_str()));
        let finding = |(name, line)| Finding {
            path: source.path.clone(),
            line,
            what: format!("`{name}`: {}", self.why),
        };
        barred.map(finding).collect()
    }
}

/// The names after `crate::` and `super::`, also in braces, with their lines.
fn mentioned_modules(code: &str) -> Vec<(String, usize)> {
    let mut mentioned = Vec::new();
    for prefix in ["crate::*", "super::*"] {
        for at in places(code, prefix) {
            let rest = &code[at + prefix.len() - 1..];
            let names = if rest.starts_with('{') { heads(braced(rest)) } else { vec![head(rest)] };
            mentioned.extend(names.into_iter().map(|name| (name.to_owned(), line_of(code, at))));
        }
    }
    mentioned
}

fn head(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

/// The first name of each path in a group of imports.
fn heads(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut names = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && (c == '{' || c == ',') {
            names.push(head(group[at + 1..].trim_start()));
        }
    }
    names
}

const EVERYWHERE: &[&str] = &[""];
const UNSAFE_ROOMS: &[&str] = &["runtime/src/sys", "runtime/src/op", "runtime/src/mem"];

/// Decisions and positions, without anything that waits, is open or ticks.
const PURE_ROOMS: &[&str] = &[
    "transfer/src/plan",
    "transfer/src/progress",
    "transfer/src/receive/plan",
    "transfer/src/receive/progress",
    "transfer/src/route/mapped/outgoing",
    "transfer/src/route/mapped/runs",
    "transfer/src/route/mapped/scan",
];

pub(crate) const DIRECTIONS: &[Direction] = &[
    Direction {
        rooms: &["runtime/src/sys"],
        modules: &["op", "mem", "driver", "executor", "fs", "net", "pipe", "time", "signal"],
        why: "sys talks to the kernel and knows nobody above it",
    },
    Direction {
        rooms: &["runtime/src/op"],
        modules: &["driver", "executor", "fs", "net"],
        why: "an op knows neither who drives it nor what it is for",
    },
    Direction {
        rooms: &["runtime/src/driver"],
        modules: &["executor", "fs", "net"],
        why: "the driver submits and reaps; who waits is above it",
    },
    Direction {
        rooms: PURE_ROOMS,
        modules: &["route"],
        why: "routes drive plan and progress, not the other way round",
    },
];

pub(crate) const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        view: View::Code,
        rooms: EVERYWHERE,
        except: &[
            "runtime/src/sys",
            "runtime/src/op",
            "runtime/src/mem",
            "runtime/testkit",
            "benches",
        ],
        words: &["unsafe"],
        why: "stands in runtime/src/{sys,op,mem} only",
    },
    Forbidden {
        view: View::Code,
        rooms: EVERYWHERE,
        except: &[],
        words: &["todo!", "unimplemented!"],
        why: "is not finished",
    },
    Forbidden {
        view: View::Raw,
        rooms: EVERYWHERE,
        except: &["Cargo.lock"],
        words: &[concat!("TO", "DO"), concat!("FIX", "ME")],
        why: "is not finished; finish it or write down what is not promised",
    },
    Forbidden {
        view: View::Code,
        rooms: EVERYWHERE,
        except: &[],
        // Said in two halves, for whoever searches the tree for ignored tests.
        words: &[concat!("#[", "ignore]")],
        why: "a test is ignored with a reason or not at all",
    },
    Forbidden {
        view: View::Code,
        rooms: EVERYWHERE,
        except: &[],
        words: &["fn get_*"],
        why: "a getter is named for what it gives",
    },
    Forbidden {
        view: View::Code,
        rooms: &["runtime/src"],
        except: &[],
        words: &["rustls*", "http*", "Http*", "transfer", "transfer_file", "ringway"],
        why: "the runtime names no TLS session, no HTTP and no transfer",
    },
    Forbidden {
        view: View::Raw,
        rooms: &["runtime/Cargo.toml"],
        except: &[],
        words: &["rustls*", "http*", "ringway.workspace", "ringway ="],
        why: "the runtime depends on nothing above it",
    },
    Forbidden {
        view: View::Code,
        rooms: &["transfer/src"],
        except: &["transfer/src/tls"],
        words: &["rustls*"],
        why: "is named in transfer::tls only",
    },
    Forbidden {
        view: View::Code,
        rooms: &["transfer"],
        except: &[],
        words: &["ringway_examples", "ringway_bench"],
        why: "examples and benches use the library, not the other way round",
    },
    Forbidden {
        view: View::Code,
        rooms: &["examples"],
        except: &[],
        words: &["ringway_runtime", "ringway_bench"],
        why: "an example shows what a user has, and that is `ringway`",
    },
    Forbidden {
        view: View::Code,
        rooms: PURE_ROOMS,
        except: &[],
        words: &["async", "await"],
        why: "what is pure decides and counts: nothing is awaited there",
    },
    Forbidden {
        view: View::Code,
        rooms: PURE_ROOMS,
        except: &[],
        words: &["RawFd", "OwnedFd", "BorrowedFd", "AsFd", "AsRawFd", "IntoRawFd", "FromRawFd"],
        why: "what is pure decides and counts: it holds no fd",
    },
    Forbidden {
        view: View::Code,
        rooms: PURE_ROOMS,
        except: &[],
        words: &["Instant", "SystemTime"],
        why: "what is pure decides and counts: it has no clock",
    },
    Forbidden {
        view: View::Product,
        rooms: &["runtime", "transfer", "examples"],
        except: &["runtime/src/driver", "runtime/src/sys/ring"],
        words: &[".enter(", "io_uring_enter*", ".submit_and_wait(", ".submit_with_args("],
        why: "the kernel is entered by runtime/src/driver.rs only",
    },
    Forbidden {
        view: View::Raw,
        rooms: EVERYWHERE,
        except: &[],
        words: &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/bash", "_jobs*")],
        why: "is a path of one machine",
    },
    Forbidden {
        view: View::Raw,
        rooms: EVERYWHERE,
        except: &["Cargo.lock"],
        words: &[
            concat!("index.", "crates.io"),
            concat!("static.", "crates.io"),
            concat!("deb.", "debian.org"),
            concat!("security.", "debian.org"),
            concat!("pypi", ".org"),
            concat!("registry.", "npmjs.org"),
            concat!("proxy.", "golang.org"),
        ],
        why: "is a registry's host, which is the machine's own setting",
    },
];

/// The rooms in which `unsafe` is at home, and each block has its sentence.
pub(crate) fn may_be_unsafe(source: &Source) -> bool {
    source.is_in(UNSAFE_ROOMS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::findings;

    /// A file that breaks the rule which says this, and one beside it that does not.
    const BITES: &[(&str, &str, &str, &str)] = &[
        ("stands in runtime", "transfer/src/a.rs", "fn f() { unsafe { g() } }", "// unsafe"),
        ("stands in runtime", "runtime/src/fs.rs", "unsafe impl Send for A {}", "unsafe_code();"),
        ("is not finished", "examples/a.rs", "todo!()", "\"todo!()\""),
        ("is not finished; ", "a.md", concat!("FIX", "ME: later"), "later"),
        ("with a reason", "a/tests/b.rs", concat!("#[", "ignore]"), "#[ignore = \"slow\"]"),
        ("a getter", "runtime/src/fs.rs", "fn get_len()", "fn length()"),
        ("no TLS session", "runtime/src/net.rs", "use rustls::A;", "//! not rustls"),
        ("no TLS session", "runtime/src/net.rs", "fn transfer() {}", "let transferred = 1;"),
        ("nothing above", "runtime/Cargo.toml", "ringway.workspace = true", "ringway-testkit = 1"),
        ("in transfer::tls", "transfer/src/sink.rs", "use rustls::A;", "use crate::tls::A;"),
        ("use the library", "transfer/src/a.rs", "ringway_bench::a()", "ringway_runtime::a()"),
        ("what a user has", "examples/a.rs", "use ringway_runtime::A;", "use ringway::runtime::A;"),
        ("nothing is awaited", "transfer/src/plan.rs", "async fn f() {}", "//! no async"),
        ("holds no fd", "transfer/src/progress.rs", "fn f(fd: OwnedFd) {}", "fn f(fds: u32) {}"),
        ("no clock", "transfer/src/plan/a.rs", "Instant::now()", "Duration::ZERO"),
        ("has no clock", "transfer/src/route/mapped/scan.rs", "Instant::now()", "Duration::ZERO"),
        ("is entered by", "runtime/src/net.rs", "ring.enter(1)", "span.entered()"),
        ("one machine", "README.md", concat!("cd /ro", "ot/x"), "cd x"),
        ("a registry's host", ".ci/run", concat!("static.", "crates.io/x"), "cargo fetch"),
        ("knows nobody", "runtime/src/sys/ring.rs", "use crate::op::A;", "use crate::sys::op::A;"),
        (
            "knows nobody",
            "runtime/src/sys.rs",
            "use crate::{error, net::A};",
            "use crate::{a::net};",
        ),
        ("who drives it", "runtime/src/op/slot.rs", "super::super::driver::A", "super::drive::A"),
        ("who waits", "runtime/src/driver.rs", "crate::executor::wake()", "crate::op::wake()"),
        ("routes drive", "transfer/src/plan.rs", "use crate::route::A;", "use crate::routes;"),
    ];

    #[test]
    fn each_rule_about_words_bites_and_lets_its_neighbour_pass() {
        for (why, path, breaks, keeps) in BITES {
            // A line may break a second rule; only this one's sentence counts.
            let says = |text: &str| findings(path, text).iter().any(|found| found.contains(why));
            assert!(says(breaks), "{path}: {breaks}");
            assert!(!says(keeps), "{path}: {keeps}");
        }
    }

    #[test]
    fn no_rule_about_words_is_without_a_bite() {
        let whys = FORBIDDEN.iter().map(|r| r.why).chain(DIRECTIONS.iter().map(|d| d.why));
        for why in whys {
            assert!(BITES.iter().any(|(bite, ..)| why.contains(bite)), "nothing shows: {why}");
        }
    }

    #[test]
    fn exceptions_hold() {
        let nothing = Vec::<String>::new();
        assert_eq!(findings("benches/src/a.rs", "unsafe { io_uring_enter() }"), nothing);
        assert_eq!(findings("runtime/src/driver.rs", "self.ring.enter(1)"), nothing);
        assert_eq!(findings("transfer/src/tls/record.rs", "use rustls::A;"), nothing);
        let only_a_test = "#[cfg(test)]\nmod tests { use crate::driver::A; }";
        assert_eq!(findings("runtime/src/op/slot.rs", only_a_test), nothing);
    }

    #[test]
    fn a_finding_names_the_line() {
        let text = "use crate::{\n    error,\n};\n\nuse crate::net::A;\n";
        assert!(findings("runtime/src/sys/a.rs", text)[0].starts_with("5: `net`: "));
    }
}
