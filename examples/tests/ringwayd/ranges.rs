//! Parts of files.

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root};

#[test]
fn every_form_of_a_range() {
    let root = Root::new();
    let content = root.file("file", 100_000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99999", 0, 100_000),
        ("bytes=500-", 500, 100_000),
        ("bytes=99999-", 99_999, 100_000),
        ("bytes=-1", 99_999, 100_000),
        ("bytes=-70000", 30_000, 100_000),
        ("bytes=-500000", 0, 100_000),
        ("bytes=4095-4097", 4095, 4098),
        ("bytes=10-18446744073709551615", 10, 100_000),
    ] {
        let response = client.fetch("/file", &format!("Range: {range}\r\n"));
        assert_eq!(response.status, 206, "{range}");
        let told = format!("bytes {start}-{}/100000", end - 1);
        assert_eq!(response.field("Content-Range"), Some(told.as_str()), "{range}");
        assert_same(&response.body, &content[start..end], range);
    }
}

#[test]
fn what_is_no_single_range_is_the_whole_file() {
    let root = Root::new();
    let content = root.file("file", 10_000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for range in ["bytes=0-1,5-6", "lines=1-2", "bytes=5-4", "bytes=x", "bytes="] {
        let response = client.fetch("/file", &format!("Range: {range}\r\n"));
        assert_eq!(response.status, 200, "{range}");
        assert_same(&response.body, &content, range);
    }
    client.ask("HEAD", "/file", "Range: bytes=0-0\r\n");
    let response = client.head();
    assert_eq!((response.status, response.length()), (200, Some(10_000)));
}

#[test]
fn a_range_beyond_the_end_is_416_with_the_length() {
    let root = Root::new();
    root.file("file", 1000);
    root.file("empty", 0);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for range in ["bytes=1000-", "bytes=5000-6000", "bytes=-0", "bytes=99999999999999999999-"] {
        let response = client.fetch("/file", &format!("Range: {range}\r\n"));
        assert_eq!(response.status, 416, "{range}");
        assert_eq!(response.field("Content-Range"), Some("bytes */1000"), "{range}");
    }
    let response = client.fetch("/empty", "Range: bytes=0-\r\n");
    assert_eq!((response.status, response.field("Content-Range")), (416, Some("bytes */0")));
    assert_eq!(client.get("/file").status, 200, "the connection lives on");
}

#[test]
fn ranges_of_a_file_longer_than_32_bits() {
    let root = Root::new();
    let len = (5u64 << 30) + 12_345;
    let file = std::fs::File::create(root.path("sparse")).unwrap();
    file.set_len(len).unwrap();
    let mark = crate::daemon::content("mark", 8192);
    let place = (4u64 << 30) + 77;
    std::os::unix::fs::FileExt::write_all_at(&file, &mark, place).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let end = place + mark.len() as u64;
    let range = format!("Range: bytes={place}-{}\r\n", end - 1);
    let response = client.fetch("/sparse", &range);
    assert_eq!(response.status, 206);
    assert_same(&response.body, &mark, "the part past four gigabytes");
    let response = client.fetch("/sparse", "Range: bytes=-12345\r\n");
    assert_same(&response.body, &[0; 12_345], "the end");
    client.ask("HEAD", "/sparse", "");
    assert_eq!(client.head().field("Content-Length"), Some(len.to_string().as_str()));
}
