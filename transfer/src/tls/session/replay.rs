//! Scripts of peers that are kept in `tests/corpus/records`, and changed versions of them, run through
//! the reader of records. However the bytes arrive, the outcome is the same, and nothing is held that a
//! peer could make large.
//!
//! A line of a script is a record: `data`, `alert`, `handshake`, `ccs` or a number as its type, then its
//! content in hexadecimal (`hh*n` repeats a byte), then `+n` for padding; `update` seals with the next key
//! from there on; `raw` is not sealed at all.

use std::path::Path;

use super::peer::{Outcome, Peer, read_all};
use super::*;
use crate::tls::engine::Engine;
use crate::tls::pair;

/// Changed versions of each script.
const CHANGES: u64 = 24;
/// What a session may hold while it waits: a record, room for the next receive, and a handshake message.
const HELD_MAX: usize = (64 << 10) + 2 * (16 << 10) + 1024;

#[derive(Debug, Clone)]
enum Line {
    Sealed { kind: u8, content: Vec<u8>, padding: usize },
    Raw(Vec<u8>),
    Update,
}

fn parse(line: &str) -> Line {
    let mut words = line.split_whitespace();
    let name = words.next().expect("a type");
    let (mut content, mut padding) = (Vec::new(), 0);
    for word in words {
        if let Some(count) = word.strip_prefix('+') {
            padding = count.parse().expect("a padding");
        } else if let Some((byte, count)) = word.split_once('*') {
            let byte = u8::from_str_radix(byte, 16).expect("a byte");
            content.extend(vec![byte; count.parse().expect("a count")]);
        } else {
            let bytes = word.as_bytes().chunks(2);
            content.extend(bytes.map(|pair| {
                let pair = std::str::from_utf8(pair).expect("hexadecimal");
                u8::from_str_radix(pair, 16).expect("hexadecimal")
            }));
        }
    }
    let kind = match name {
        "raw" => return Line::Raw(content),
        "update" => return Line::Update,
        "ccs" => 20,
        "alert" => 21,
        "handshake" => 22,
        "data" => 23,
        number => number.parse().expect("a type"),
    };
    Line::Sealed { kind, content, padding }
}

fn scripts() -> Vec<(String, Vec<Line>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/records");
    let entries = std::fs::read_dir(folder).expect("the corpus");
    let mut scripts: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("the corpus").path();
            let text = std::fs::read_to_string(&path).expect("a script");
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            (path.display().to_string(), lines.map(parse).collect())
        })
        .collect();
    scripts.sort_by(|a, b| a.0.cmp(&b.0));
    scripts
}

/// A small generator (xorshift), so that every run is the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("48 bits") % end.max(1)
    }
}

fn change(lines: &mut Vec<Line>, chance: &mut Chance) {
    for _ in 0..=chance.below(3) {
        let at = chance.below(lines.len());
        match chance.below(6) {
            0 => lines.insert(at, lines[at].clone()),
            1 if lines.len() > 1 => drop(lines.remove(at)),
            2 => lines.insert(at, Line::Update),
            3 => {
                let other = chance.below(lines.len());
                lines.swap(at, other);
            }
            _ => match &mut lines[at] {
                Line::Sealed { content, .. } | Line::Raw(content) if !content.is_empty() => {
                    let byte = chance.below(content.len().min(64));
                    content[byte] ^= 1 << chance.below(8);
                }
                Line::Sealed { kind, .. } => *kind ^= 1 << chance.below(3),
                Line::Raw(_) | Line::Update => {}
            },
        }
    }
}

/// What came of a script.
#[derive(Debug, PartialEq, Eq)]
struct Played {
    read: Vec<u8>,
    outcome: Outcome,
    heard: Vec<(ContentType, Vec<u8>)>,
    key_updates: KeyUpdates,
}

/// Plays a script to ours; `pieces` says how long each arrival is.
fn play(lines: &[Line], is_server: bool, mut pieces: impl FnMut() -> usize) -> Played {
    let (mut ours, mut peer) = if is_server { Peer::of_server() } else { Peer::of_client() };
    let mut wire = Vec::new();
    for line in lines {
        match line {
            Line::Sealed { kind, content, padding } => {
                wire.extend(peer.record(*kind, content, *padding));
            }
            Line::Raw(bytes) => wire.extend_from_slice(bytes),
            Line::Update => peer.update(),
        }
    }
    let (mut read, mut outcome, mut rest) = (Vec::new(), Outcome::Waits, wire.as_slice());
    while !rest.is_empty() && outcome == Outcome::Waits {
        let (piece, behind) = rest.split_at(pieces().clamp(1, rest.len()));
        pair::deliver(&mut ours, piece);
        outcome = read_all(&mut ours, pieces().clamp(1, 20_000), &mut read);
        ours.rest();
        if let Engine::Own(session, inbox) = &ours {
            let held = inbox.held() + session.fragment.capacity();
            assert!(held <= HELD_MAX + MESSAGE_MAX + 16384, "{held} bytes are held");
        }
        rest = behind;
    }
    let heard = peer.hear(&mut ours);
    let Engine::Own(session, _) = &ours else { panic!("our own records") };
    Played { read, outcome, heard, key_updates: session.key_updates() }
}

#[test]
fn the_outcome_of_a_script_does_not_depend_on_how_it_arrives() {
    let scripts = scripts();
    assert!(scripts.len() >= 8, "the corpus is incomplete");
    let (mut ended, mut failed) = (0, 0);
    for (name, script) in &scripts {
        for seed in 0..=CHANGES {
            let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut lines = script.clone();
            if seed > 0 {
                change(&mut lines, &mut chance);
            }
            let is_server = seed % 2 == 0 || name.contains("server");
            let whole = play(&lines, is_server, || 16 << 10);
            let sizes = [1, 4, 5, 6, 21, 400, 5000, 17_000];
            // A long script byte by byte would only take long.
            let least = if lines.len() > 70 { 3 } else { 0 };
            let cut = play(&lines, is_server, || sizes[least + chance.below(sizes.len() - least)]);
            assert_eq!(whole, cut, "{name}, change {seed}: {lines:?}");
            ended += u32::from(whole.outcome == Outcome::End);
            failed += u32::from(matches!(whole.outcome, Outcome::Fault(_)));
        }
    }
    assert!(
        ended > 10 && failed > 10,
        "{ended} ended and {failed} failed: the corpus is one-sided"
    );
}
