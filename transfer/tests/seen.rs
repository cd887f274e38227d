//! The route is seen: what the kernel was asked for, told by strace(1) and not by the library.
//!
//! A splice or a sendfile that the loop makes itself is a system call, so its bytes are counted from
//! outside. A splice in the ring is made by a worker of the kernel, which strace does not see; there
//! the results of the completions count (`Stats::splice_out_bytes`), and strace shows that no file
//! byte was read by any call.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::traced::{Traced, Way, trace};
use support::{canary_file, folder};

const FILE: u64 = 71;
const BODY: u64 = 16 << 20;
const CALLS: &str = "trace=splice,sendfile,sendto,sendmsg,read,readv,pread64,preadv,preadv2";

#[test]
fn the_child_that_is_traced() {
    support::traced::child();
}

/// The calls of a child that sent a hot file of 16 MiB.
struct Seen {
    child: Traced,
    calls: Vec<Call>,
}

struct Call {
    name: String,
    /// What stands in the parentheses, with the path or kind of each descriptor.
    arguments: String,
    result: u64,
}

fn see(way: Way) -> Seen {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY);
    // Written just now, so in memory; and on the disk, so that no writeback is in the way.
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
    let log = folder.path().join("strace.log");
    let child = trace(&["-y", "-e", CALLS, "-o", log.to_str().unwrap()], way, &path, FILE);
    assert!(child.clean, "{child:?}");
    child.received.as_ref().unwrap().assert_complete(BODY);
    assert_eq!(child.number("sent"), BODY);
    let calls = std::fs::read_to_string(&log).unwrap().lines().filter_map(parse).collect();
    Seen { child, calls }
}

/// `4711 splice(5</a/file>, [0] => [65536], 7<pipe:[1]>, NULL, 65536, FLAGS) = 65536`
fn parse(line: &str) -> Option<Call> {
    let (_, call) = line.split_once(' ')?;
    let (name, rest) = call.trim_start().split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split_whitespace().next()?.parse().unwrap_or(0);
    Some(Call { name: name.to_owned(), arguments: arguments.to_owned(), result })
}

impl Seen {
    /// The sum of the results of the calls of a name whose arguments please.
    fn bytes(&self, name: &str, pleases: impl Fn(&str) -> bool) -> u64 {
        let calls = self.calls.iter().filter(|call| call.name == name);
        calls.filter(|call| pleases(&call.arguments)).map(|call| call.result).sum()
    }

    /// File bytes that came into memory of the child.
    fn read(&self) -> u64 {
        let of_file = |arguments: &str| arguments.contains("/canary-");
        ["read", "readv", "pread64", "preadv", "preadv2"]
            .into_iter()
            .map(|name| self.bytes(name, of_file))
            .sum()
    }

    fn sent_from_memory(&self) -> u64 {
        ["sendto", "sendmsg"].into_iter().map(|name| self.bytes(name, |_| true)).sum()
    }
}

#[test]
fn an_inline_splice_reads_no_file_byte() {
    let seen = see(Way::SpliceInline);
    let into_socket = seen.bytes("splice", |arguments| third(arguments).contains("<socket:"));
    let out_of_file = seen.bytes("splice", |arguments| arguments.contains("/canary-"));
    assert_eq!((out_of_file, into_socket), (BODY, BODY));
    assert_eq!((seen.sent_from_memory(), seen.bytes("sendfile", |_| true)), (0, 0));
    // One byte for each question whether a quantum is in memory.
    assert!(seen.read() <= 32, "{} file bytes were read", seen.read());
    println!("inline: {into_socket} bytes spliced, {} read; {}", seen.read(), seen.child.told);
}

/// A ring that starts tries splice(2) with one byte of the program; every other call is the body's.
fn is_of_body(arguments: &str) -> bool {
    let of_body = arguments.contains("/canary-") || arguments.contains("<socket:");
    of_body || !arguments.contains(", NULL, 1, SPLICE")
}

fn third(arguments: &str) -> &str {
    arguments.split(", ").nth(2).unwrap_or_default()
}

#[test]
fn without_a_pipe_it_is_sendfile() {
    let seen = see(Way::Sendfile);
    let by_sendfile = seen.bytes("sendfile", |arguments| arguments.contains("/canary-"));
    assert_eq!(by_sendfile, BODY);
    assert_eq!((seen.sent_from_memory(), seen.bytes("splice", is_of_body)), (0, 0));
    assert!(seen.read() <= 32, "{} file bytes were read", seen.read());
    assert!(seen.child.told.contains("sendfile(2) instead of a pipe"), "{:?}", seen.child);
}

#[test]
fn a_hybrid_splice_is_filled_by_the_ring_and_drained_inline() {
    let seen = see(Way::SpliceHybrid);
    let into_socket = seen.bytes("splice", |arguments| third(arguments).contains("<socket:"));
    assert_eq!(into_socket, BODY);
    assert_eq!(seen.bytes("splice", |arguments| arguments.contains("/canary-")), 0);
    assert_eq!((seen.sent_from_memory(), seen.child.number("file_read")), (0, 0));
    assert_eq!((seen.child.number("splice_in"), seen.child.number("read_sqes")), (BODY, 0));
    assert!(seen.read() <= 32, "{} file bytes were read", seen.read());
}

#[test]
fn a_splice_in_the_ring_makes_no_call_for_the_bytes() {
    let seen = see(Way::SpliceRing);
    assert_eq!(seen.bytes("splice", is_of_body) + seen.bytes("sendfile", |_| true), 0);
    assert_eq!((seen.sent_from_memory(), seen.child.number("file_read")), (0, 0));
    assert_eq!((seen.child.number("splice_out"), seen.child.number("read_sqes")), (BODY, 0));
    assert!(seen.child.number("splice_sqes") >= 32, "{:?}", seen.child);
    assert!(seen.read() <= 32, "{} file bytes were read", seen.read());
}

/// That the eye is open: the copy does read every byte.
#[test]
fn a_copy_is_seen_to_read_every_byte() {
    let seen = see(Way::CopyInline);
    assert_eq!((seen.bytes("preadv2", |a| a.contains("/canary-")), seen.read()), (BODY, BODY));
    assert_eq!((seen.sent_from_memory(), seen.child.number("splice_out")), (BODY, 0));
}
