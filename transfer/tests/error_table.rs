//! What each errno means on each side of a transfer, and what an error says.

use proptest::prelude::*;
use ringway::error::{ErrorKind, Side, TransferError, classify};
use ringway::receive::{ReceiveError, ReceiveErrorKind};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_errno_has_words(errno in -5i32..600, sent in 0u64..3) {
        for side in [Side::Source, Side::Sink, Side::Host] {
            let source = std::io::Error::from_raw_os_error(errno);
            let error = TransferError::from_io("op", side, source, sent);
            prop_assert_eq!(error.kind(), &classify("op", side, errno));
            prop_assert_eq!(error.sent(), sent);
            prop_assert!(!error.remedy().is_empty() && std::error::Error::source(&error).is_some());
        }
    }
}

#[test]
fn errnos_mean_what_the_standard_library_says() {
    use std::io::ErrorKind as Std;
    let unexpected = |side, errno| matches!(classify("op", side, errno), ErrorKind::UnexpectedErrno { errno: told, .. } if told == errno);
    for errno in 1..134 {
        let sink = classify("send", Side::Sink, errno);
        let source = classify("read", Side::Source, errno);
        match std::io::Error::from_raw_os_error(errno).kind() {
            Std::BrokenPipe
            | Std::ConnectionReset
            | Std::ConnectionAborted
            | Std::ConnectionRefused
            | Std::NotConnected => assert!(matches!(sink, ErrorKind::PeerClosed { .. }), "{errno}"),
            Std::TimedOut => assert_eq!(sink, ErrorKind::PeerTimedOut { waited: None }),
            Std::HostUnreachable | Std::NetworkUnreachable | Std::NetworkDown => {
                assert!(matches!(sink, ErrorKind::PeerUnreachable { .. }), "{errno}");
            }
            Std::StorageFull | Std::QuotaExceeded | Std::FileTooLarge => {
                assert!(matches!(sink, ErrorKind::NoSpace { .. }), "{errno}");
            }
            Std::IsADirectory | Std::NotSeekable => {
                assert!(matches!(source, ErrorKind::SourceNotRegular { .. }), "{errno}");
            }
            Std::PermissionDenied | Std::NotFound | Std::StaleNetworkFileHandle => {
                assert!(matches!(source, ErrorKind::SourceUnreadable { .. }), "{errno}");
            }
            Std::OutOfMemory => assert!(matches!(sink, ErrorKind::HostLimit { .. })),
            Std::Interrupted => assert_eq!(sink, ErrorKind::Cancelled),
            Std::InvalidInput | Std::Unsupported => {
                assert!(matches!(sink, ErrorKind::Unsupported { .. }), "{errno}");
            }
            Std::WouldBlock | Std::AlreadyExists | Std::ReadOnlyFilesystem | Std::Deadlock => {
                assert!(
                    unexpected(Side::Sink, errno) && unexpected(Side::Source, errno),
                    "{errno}"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn an_error_says_what_happened_who_and_what_to_do() {
    assert_eq!(size_of::<TransferError>(), size_of::<usize>());
    let limit = std::io::Error::from_raw_os_error(24);
    let error = TransferError::from_io("pipe2", Side::Host, limit, 1);
    assert_eq!(
        error.to_string(),
        "a limit of this host was reached (pipe2: Too many open files (os error 24)); 1 byte had been \
         sent. Likely to blame: this host. To do: raise RLIMIT_NOFILE (ulimit -n) or allow fewer \
         connections."
    );
    assert_eq!(
        TransferError::new(ErrorKind::Poisoned, 0).to_string(),
        "an earlier transfer on this sink is not settled; nothing had been sent. Likely to blame: the \
         caller. To do: call settle().await, which tells how many bytes went out."
    );
    let foreign = TransferError::from_io("read", Side::Source, std::io::Error::other("odd"), 2);
    assert!(foreign.to_string().starts_with("read failed: odd; 2 bytes had been sent."));
}

// A FUSE server that has ended answers ENOTCONN: that is neither the peer nor a bug of ours.
#[test]
fn what_a_disk_or_the_server_of_a_file_system_answers_is_the_files_affair() {
    const OF_STORAGE: [i32; 19] =
        [5, 6, 19, 52, 61, 67, 74, 84, 103, 107, 110, 112, 113, 116, 117, 121, 123, 126, 133];
    for errno in OF_STORAGE {
        let read = classify("read", Side::Source, errno);
        assert_eq!(read, ErrorKind::SourceUnreadable { op: "read", errno });
        let written = ReceiveError::from_io(
            "write",
            Side::Sink,
            std::io::Error::from_raw_os_error(errno),
            (2, 1),
        );
        assert_eq!(*written.kind(), ReceiveErrorKind::FileUnwritable { op: "write", errno });
    }
}
