//! Why a runtime could not start, and what the operator can change.

use std::fmt;
use std::io;

use crate::sys::probe;

/// A runtime could not be made. The message is one line that names the call, the errno and the
/// setting to change.
#[derive(Debug)]
pub struct StartError {
    call: &'static str,
    advice: String,
    source: io::Error,
}

impl StartError {
    pub(crate) fn new(call: &'static str, source: io::Error) -> Self {
        let advice =
            advice(call, &source, probe::io_uring_disabled(), probe::locked_memory_limit());
        Self { call, advice, source }
    }

    pub(crate) fn unsupported(op: &'static str) -> Self {
        Self {
            call: "io_uring_register(PROBE)",
            advice: format!("this kernel does not offer {op}: Linux 5.15 or later is needed"),
            source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        }
    }

    pub(crate) fn nested() -> Self {
        Self {
            call: "Runtime::block_on",
            advice: "this thread is already inside a ring: spawn a task there instead".to_owned(),
            source: io::ErrorKind::Unsupported.into(),
        }
    }

    /// The system call that was refused.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// What to change so that it is granted.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.advice
    }

    /// The errno that the call gave, where it was a system call.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was refused ({}): {}", self.call, self.source, self.advice)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        io::Error::new(error.source.kind(), error)
    }
}

/// Pure: the sentence that belongs to an errno and to the settings of the host.
fn advice(call: &str, error: &io::Error, disabled: Option<u32>, locked: Option<u64>) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled {
            Some(2) => "kernel.io_uring_disabled is 2: an administrator must set it to 0 or 1 \
                        (sysctl kernel.io_uring_disabled=0)"
                .to_owned(),
            Some(1) => "kernel.io_uring_disabled is 1: run with CAP_SYS_ADMIN, join the group of \
                        kernel.io_uring_group, or set it to 0"
                .to_owned(),
            _ => {
                "a seccomp profile forbids io_uring, as the default ones of Docker and containerd \
                  do: allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
                    .to_owned()
            }
        },
        Some(libc::ENOSYS) => "this kernel has no io_uring (gVisor has none; Linux needs 5.15 or \
                               later with CONFIG_IO_URING=y)"
            .to_owned(),
        Some(libc::ENOMEM) => {
            let limit = locked.map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
            format!(
                "the queues do not fit into the limit of locked memory (RLIMIT_MEMLOCK is {limit}, \
                 shared by all processes of the user): raise it (LimitMEMLOCK= in systemd, \
                 ulimit -l) or ask for fewer completion_entries"
            )
        }
        Some(libc::EMFILE) => {
            "the process has no descriptor left: raise RLIMIT_NOFILE (ulimit -n)".to_owned()
        }
        Some(libc::ENFILE) => {
            "the host has no descriptor left: raise fs.file-max or find what leaks".to_owned()
        }
        Some(libc::EINVAL) => {
            "the kernel does not know what was asked: Linux 5.15 or later is needed".to_owned()
        }
        Some(errno) => format!("errno {errno} is not one that {call} documents: please report it"),
        None => "the cause is not a system call".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advise(errno: i32, disabled: Option<u32>) -> String {
        let error = io::Error::from_raw_os_error(errno);
        advice("io_uring_setup", &error, disabled, Some(65536))
    }

    #[test]
    fn a_refusal_names_the_setting_that_caused_it() {
        assert!(advise(libc::EPERM, Some(2)).contains("kernel.io_uring_disabled is 2"));
        assert!(advise(libc::EPERM, Some(1)).contains("kernel.io_uring_group"));
        assert!(advise(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(advise(libc::EPERM, None).contains("seccomp"));
        assert!(advise(libc::ENOSYS, None).contains("gVisor"));
        assert!(advise(libc::ENOMEM, None).contains("65536 bytes"));
        assert!(advise(libc::EMFILE, None).contains("RLIMIT_NOFILE"));
        assert!(advise(libc::EDOM, None).contains("please report"));
    }

    #[test]
    fn the_message_is_one_line_with_call_errno_and_remedy() {
        let error = StartError::new("io_uring_setup", io::Error::from_raw_os_error(libc::ENOSYS));
        let line = error.to_string();
        assert!(line.starts_with("io_uring_setup was refused"), "{line}");
        assert!(line.contains("os error 38") && line.contains("CONFIG_IO_URING"), "{line}");
        assert!(!line.contains('\n'));
    }
}
