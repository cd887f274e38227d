//! From facts to findings, each with what to do. Pure.

use std::fmt;

use ringway::receipt::Iec;
use ringway::runtime::Setup;
use serde_json::{Value, json};

use super::facts::{Facts, RingFacts};
use super::secure::TlsFacts;

/// Descriptors below which a busy server turns clients away: the default of one thread's connections.
const DESCRIPTORS_WANTED: u64 = 16_384;
/// Connections that a listener lets wait.
const BACKLOG_WANTED: u64 = 4096;
/// Bytes of memory below which buffers, pipes and queues of a ring are a burden.
const MEMORY_WANTED: u64 = 64 << 20;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) topic: &'static str,
    pub(crate) state: State,
    says: String,
    /// What to change and how.
    remedy: Option<String>,
}

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// As it should be.
    Good,
    /// It works, slower or for fewer.
    Lacking,
    /// It does not work.
    Broken,
}

/// All findings, in the order in which they matter.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![good("kernel", format!("Linux {}", facts.kernel))];
    match &facts.ring {
        Ok(ring) => of_ring(ring, &mut findings),
        Err(why) => {
            let (says, remedy) = why.split_once("): ").unwrap_or((why, "see the message"));
            findings.push(broken("ring", format!("{says})"), remedy.to_owned()));
        }
    }
    findings.push(memlock(facts));
    findings.push(descriptors(facts));
    findings.push(pipes(facts));
    findings.push(backlog(facts));
    findings.extend(facts.congestion_control.as_ref().map(|name| {
        good("congestion control", format!("{name}; a connection can be given another one"))
    }));
    findings.extend(facts.tls.as_ref().map(tls));
    findings.extend(sandbox(facts));
    for trial in &facts.trials {
        findings.push(match &trial.outcome {
            Ok(receipt) if trial.fell_back => lacking(
                trial.what,
                receipt.clone(),
                "see the lines above for what it fell back from".to_owned(),
            ),
            Ok(receipt) => good(trial.what, receipt.clone()),
            Err(why) => lacking(
                trial.what,
                format!("not tried: {why}"),
                "name a writable folder on the disk that holds the files: --folder DIR".to_owned(),
            ),
        });
    }
    findings
}

/// 0 if all is good, 3 if something is lacking, 1 if it does not work.
pub(crate) fn exit_status(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.state).max() {
        None | Some(State::Good) => 0,
        Some(State::Lacking) => 3,
        Some(State::Broken) => 1,
    }
}

fn of_ring(ring: &RingFacts, findings: &mut Vec<Finding>) {
    findings.push(match ring.setup {
        Setup::DeferTaskrun => good("ring", "the best set-up, DEFER_TASKRUN".to_owned()),
        other => lacking(
            "ring",
            format!("{other:?}: completions interrupt the thread more often than they must"),
            "use Linux 6.1 or later".to_owned(),
        ),
    });
    findings.push(match (ring.splice, ring.splice_op) {
        (true, true) => good("splice", "works, inline and in the ring".to_owned()),
        (true, false) => lacking(
            "splice",
            "works inline only, so cold files are copied".to_owned(),
            "use Linux 5.15 or later".to_owned(),
        ),
        (false, _) => lacking(
            "splice",
            "is refused, so every byte is copied".to_owned(),
            "allow splice(2) in the sandbox (seccomp profile, SystemCallFilter=)".to_owned(),
        ),
    });
    findings.push(match ring.residency {
        true => good("page cache", "can be asked what is in memory, cachestat(2)".to_owned()),
        false => lacking(
            "page cache",
            "cannot be asked what is in memory, so hot files take the way of cold ones".to_owned(),
            "use Linux 6.5 or later, and allow cachestat(2) in the sandbox".to_owned(),
        ),
    });
    findings.push(match &ring.unregistered_buffers {
        None => good("buffers", "are registered with the ring".to_owned()),
        Some(why) => lacking(
            "buffers",
            format!("are not registered with the ring: {why}"),
            "raise the limit of locked memory: LimitMEMLOCK=64M in systemd, `ulimit -l 65536` in a \
             shell, --ulimit memlock=67108864 for a container"
                .to_owned(),
        ),
    });
    findings.push(match &ring.pipe {
        Ok(bytes) if *bytes >= ring.pipe_bytes_asked => {
            good("pipe", format!("of {:#}, as asked for", Iec(*bytes)))
        }
        Ok(bytes) => lacking(
            "pipe",
            format!("of {:#} where {:#} were asked for", Iec(*bytes), Iec(ring.pipe_bytes_asked)),
            "raise fs.pipe-max-size to 1048576, or end what holds the pipes of this user"
                .to_owned(),
        ),
        Err(why) => lacking(
            "pipe",
            format!("none can be had ({why}), so bytes are copied or sent by sendfile(2)"),
            "raise fs.pipe-user-pages-soft and the limit of descriptors".to_owned(),
        ),
    });
}

fn memlock(facts: &Facts) -> Finding {
    // Queues of the default size and the default buffers: 16384 completions and 3 MiB.
    const RING_BYTES: u64 = 4 << 20;
    match facts.locked_bytes {
        _ if facts.privileged => {
            good("locked memory", "unlimited for this process, which has CAP_IPC_LOCK".to_owned())
        }
        None => good("locked memory", "unlimited".to_owned()),
        Some(bytes) if bytes >= 2 * RING_BYTES => {
            let threads = bytes / RING_BYTES;
            good("locked memory", format!("{:#}, for about {threads} rings", Iec(bytes)))
        }
        Some(bytes) => lacking(
            "locked memory",
            format!("{:#}, shared by all processes of this user", Iec(bytes)),
            "LimitMEMLOCK=64M in systemd, `ulimit -l 65536` in a shell".to_owned(),
        ),
    }
}

fn descriptors(facts: &Facts) -> Finding {
    let number =
        |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let (now, most) = facts.descriptors;
    let says = format!("{} allowed now, {} after raising it", number(now), number(most));
    match most {
        Some(most) if most < DESCRIPTORS_WANTED => lacking(
            "descriptors",
            format!("{says}: clients past that wait"),
            "LimitNOFILE=65536 in systemd, `ulimit -Hn 65536` as root in a shell".to_owned(),
        ),
        _ => good("descriptors", format!("{says}, which serve does by itself")),
    }
}

fn pipes(facts: &Facts) -> Finding {
    const PAGE: u64 = 4096;
    // One pipe pool per ring is 32 MiB.
    const POOL: u64 = 32 << 20;
    match facts.pipe_pages {
        _ if facts.privileged => good("pipes", "unlimited for this process".to_owned()),
        None | Some(0) => good("pipes", "unlimited".to_owned()),
        Some(pages) if pages * PAGE >= POOL => {
            let rings = pages * PAGE / POOL;
            good("pipes", format!("{:#} for this user, for {rings} rings", Iec(pages * PAGE)))
        }
        Some(pages) => lacking(
            "pipes",
            format!("{:#} for all processes of this user", Iec(pages * PAGE)),
            "sysctl fs.pipe-user-pages-soft=65536 (256 MiB)".to_owned(),
        ),
    }
}

fn backlog(facts: &Facts) -> Finding {
    match facts.backlog_max {
        Some(most) if most < BACKLOG_WANTED => lacking(
            "backlog",
            format!("{most} connections may wait to be accepted: a burst of more is dropped"),
            format!("sysctl net.core.somaxconn={BACKLOG_WANTED}"),
        ),
        Some(most) => good("backlog", format!("{most} connections may wait to be accepted")),
        None => good("backlog", "unknown".to_owned()),
    }
}

/// Sealing here is no lack: it costs two copies, of which the kernel's TLS would save both where it has it.
fn tls(tried: &Result<TlsFacts, String>) -> Finding {
    let facts = match tried {
        Ok(facts) => facts,
        Err(why) => {
            let remedy = "plain HTTP works all the same; report this with the kernel's version";
            return broken("tls", format!("does not work: {why}"), remedy.to_owned());
        }
    };
    let suite = &facts.suite;
    let order = "AES-128, AES-256, ChaCha20 in this order, and ChaCha20 for who lists it first";
    let sealed = match facts.no_kernel_tls {
        None => "the kernel seals what is sent, and files are spliced".to_owned(),
        Some(why) => format!(
            "records are sealed here by AWS-LC, because {why}: `modprobe tls` before the start \
             lets the kernel do it, if it has the module"
        ),
    };
    let says = format!("two of us agree on {suite} ({order}); {sealed}");
    match facts.aes_instructions {
        Some(false) => lacking(
            "tls",
            format!("{says}; this processor has no instructions for AES, so that costs much"),
            "let the host pass the processor's flag `aes` through (QEMU: -cpu host), or let \
             clients list ChaCha20-Poly1305 first"
                .to_owned(),
        ),
        _ => good("tls", says),
    }
}

fn sandbox(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.filtered {
        let says = "a seccomp filter is in force; what was tried here passed it".to_owned();
        findings.push(good("sandbox", says));
    }
    if let Some(bytes) = facts.memory_bytes_max {
        let says = format!("{:#} for this control group, page cache included", Iec(bytes));
        findings.push(match bytes < MEMORY_WANTED {
            true => lacking(
                "memory",
                says,
                format!("allow {:#} or more (MemoryMax=, --memory)", Iec(MEMORY_WANTED)),
            ),
            false => good("memory", says),
        });
    }
    findings
}

fn good(topic: &'static str, says: String) -> Finding {
    Finding { topic, state: State::Good, says, remedy: None }
}

fn lacking(topic: &'static str, says: String, remedy: String) -> Finding {
    Finding { topic, state: State::Lacking, says, remedy: Some(remedy) }
}

fn broken(topic: &'static str, says: String, remedy: String) -> Finding {
    Finding { topic, state: State::Broken, says, remedy: Some(remedy) }
}

impl Finding {
    pub(crate) fn has_remedy(&self) -> bool {
        self.remedy.is_some()
    }

    pub(crate) fn json(&self) -> Value {
        let state = match self.state {
            State::Good => "good",
            State::Lacking => "lacking",
            State::Broken => "broken",
        };
        json!({ "topic": self.topic, "state": state, "says": self.says, "remedy": self.remedy })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.state {
            State::Good => '✓',
            State::Lacking => '!',
            State::Broken => '✗',
        };
        write!(f, "{mark} {}: {}", self.topic, self.says)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  → {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Facts {
        Facts {
            kernel: "6.18.0".to_owned(),
            ring: Ok(RingFacts {
                setup: Setup::DeferTaskrun,
                splice: true,
                splice_op: true,
                residency: true,
                unregistered_buffers: None,
                pipe: Ok(1 << 20),
                pipe_bytes_asked: 1 << 20,
            }),
            descriptors: (Some(1024), Some(524_288)),
            locked_bytes: Some(8 << 20),
            privileged: false,
            pipe_pages: Some(16_384),
            backlog_max: Some(4096),
            congestion_control: Some("cubic".to_owned()),
            filtered: false,
            memory_bytes_max: None,
            tls: Some(Ok(TlsFacts {
                suite: "TLS13_AES_128_GCM_SHA256".to_owned(),
                no_kernel_tls: Some("the kernel has no TLS (module tls)"),
                aes_instructions: Some(true),
            })),
            trials: Vec::new(),
        }
    }

    /// What is not good, and what to do about it.
    fn complaints(facts: &Facts) -> Vec<(&'static str, String)> {
        let findings = judge(facts).into_iter().filter(|finding| finding.state != State::Good);
        findings.map(|finding| (finding.topic, finding.remedy.unwrap())).collect()
    }

    #[test]
    fn a_usual_host_has_nothing_to_complain_of() {
        assert_eq!(complaints(&healthy()), []);
        assert_eq!(exit_status(&judge(&healthy())), 0);
    }

    #[test]
    fn each_thing_that_lacks_is_named_with_its_setting() {
        let ring = |change: fn(&mut RingFacts)| {
            let mut facts = healthy();
            change(facts.ring.as_mut().unwrap());
            facts
        };
        let host = |change: fn(&mut Facts)| {
            let mut facts = healthy();
            change(&mut facts);
            facts
        };
        for (facts, topic, setting) in [
            (ring(|ring| ring.setup = Setup::CoopTaskrun), "ring", "6.1"),
            (ring(|ring| ring.splice = false), "splice", "seccomp"),
            (ring(|ring| ring.residency = false), "page cache", "6.5"),
            (
                ring(|ring| ring.unregistered_buffers = Some("ENOMEM".to_owned())),
                "buffers",
                "LimitMEMLOCK",
            ),
            (ring(|ring| ring.pipe = Ok(4096)), "pipe", "fs.pipe-max-size"),
            (host(|host| host.locked_bytes = Some(65_536)), "locked memory", "ulimit -l"),
            (host(|host| host.descriptors.1 = Some(4096)), "descriptors", "LimitNOFILE"),
            (host(|host| host.pipe_pages = Some(1024)), "pipes", "fs.pipe-user-pages-soft"),
            (host(|host| host.backlog_max = Some(128)), "backlog", "net.core.somaxconn"),
            (host(|host| host.memory_bytes_max = Some(1 << 20)), "memory", "MemoryMax"),
            (
                host(|host| {
                    let Some(Ok(tls)) = &mut host.tls else { panic!("{:?}", host.tls) };
                    tls.aes_instructions = Some(false);
                }),
                "tls",
                "-cpu host",
            ),
        ] {
            let complaints = complaints(&facts);
            assert_eq!(complaints.len(), 1, "{topic}: {complaints:?}");
            assert_eq!(complaints[0].0, topic);
            assert!(complaints[0].1.contains(setting), "{complaints:?}");
            assert_eq!(exit_status(&judge(&facts)), 3);
        }
    }

    #[test]
    fn a_ring_that_is_refused_is_a_failure_with_its_remedy() {
        let refused = "io_uring_setup was refused (EPERM (os error 1)): allow it";
        let facts = Facts { ring: Err(refused.to_owned()), ..healthy() };
        assert_eq!(complaints(&facts), [("ring", "allow it".to_owned())]);
        assert_eq!(exit_status(&judge(&facts)), 1);
    }
}
