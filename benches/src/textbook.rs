//! The classic table, executed: what textbooks say that one transfer costs, beside what it did cost.
//!
//! The figures that are told everywhere (four copies and four switches for read and send, two for sendfile)
//! are those of one call for the whole file, a cold file and a network card. Here the same transfer of
//! 16 MiB is counted on this kernel, and where the two disagree it is said.

use std::time::Duration;

use anyhow::Result;

use crate::point::Choice;
use crate::results::Row;
use crate::rounds::{self, Keeps, Run, Selection};
use crate::schedule::Bounds;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the whole run may take, in seconds; more time buys more rounds.
    #[arg(long, value_name = "N", default_value_t = 40)]
    seconds_budget: u64,
    #[command(flatten)]
    selection: Selection,
}

/// What is told of a way, for a whole file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) arm: &'static str,
    pub(crate) way: &'static str,
    pub(crate) syscalls: u32,
    pub(crate) copies_by_cpu: u32,
    pub(crate) copies_by_dma: u32,
    pub(crate) mode_switches: u32,
}

const fn told(arm: &'static str, way: &'static str, counts: [u32; 4]) -> Told {
    let [syscalls, copies_by_cpu, copies_by_dma, mode_switches] = counts;
    Told { arm, way, syscalls, copies_by_cpu, copies_by_dma, mode_switches }
}

/// As textbooks have it: system calls, copies by CPU, copies by DMA, mode switches.
pub(crate) const TOLD: &[Told] = &[
    told("read-send-64k", "read + send", [2, 2, 2, 4]),
    told("mmap-write", "mmap + send", [2, 1, 2, 4]),
    told("sendfile", "sendfile", [1, 0, 2, 2]),
    told("splice-1m", "splice", [2, 0, 2, 4]),
    told("ring-splice-linked-1m", "ring, two linked splices", [1, 0, 2, 2]),
    told("ring-read-fixed-send", "ring, READ_FIXED + SEND", [1, 2, 2, 2]),
    told("ring-read-fixed-send-zc", "ring, READ_FIXED + SEND_ZC", [1, 1, 2, 2]),
    told("ringway-auto", "transfer_file", [1, 0, 2, 2]),
    told("tls-rustls-64k", "TLS, read + write by rustls", [2, 3, 2, 4]),
    told("tls-registered", "TLS, sealed where it was read", [1, 2, 2, 2]),
    told("tls-kernel", "TLS, splice into a socket that seals", [2, 1, 2, 4]),
];

/// The point at which all of this holds.
const POINT: &str = "hot-16m";

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A trial failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let selection = Selection {
        points: vec![POINT.to_owned()],
        arms: TOLD.iter().map(|told| told.arm.to_owned()).collect(),
        out: options.selection.out.clone(),
        data_dir: options.selection.data_dir.clone(),
    };
    let run = Run {
        mode: "textbook",
        budget: Duration::from_secs(options.seconds_budget),
        bounds: Bounds::QUICK,
        plan: rounds::plan(&selection, Choice::Full)?,
        keeps: Keeps::Nothing,
    };
    let rows = rounds::run(&run, &selection)?;
    for line in lines(&rows) {
        println!("{}", line.join(" | "));
    }
    for sentence in corrections(&rows) {
        println!("- {sentence}");
    }
    for gap in gaps(&rows) {
        println!("{gap}");
    }
    Ok(())
}

/// The ways that could not be measured here, and why.
pub(crate) fn gaps(rows: &[Row]) -> Vec<String> {
    let gap = |told: &Told| {
        let row = rows.iter().find(|row| row.point == POINT && row.arm == told.arm)?;
        Some(format!("{}: gap: {}", told.way, row.gap.as_ref()?))
    };
    TOLD.iter().filter_map(gap).collect()
}

/// The heads of [`lines`].
pub(crate) const HEADS: &[&str] = &[
    "one transfer of 16 MiB",
    "system calls: told",
    "counted",
    "mode switches: told",
    "two per call",
    "copies by CPU: told",
    "measured",
    "copies by DMA: told",
    "here",
    "context switches",
    "page faults",
    "CPU ms",
];

/// One line for each way that was measured.
pub(crate) fn lines(rows: &[Row]) -> Vec<Vec<String>> {
    let measured = TOLD.iter().filter_map(|told| Some((told, Transfer::of(rows, told.arm)?)));
    let line = |(told, it): (&Told, Transfer)| {
        let counted = |count: Option<f64>| {
            count.map_or_else(|| "not counted".to_owned(), |count| format!("{count:.0}"))
        };
        vec![
            told.way.to_owned(),
            told.syscalls.to_string(),
            counted(it.syscalls),
            told.mode_switches.to_string(),
            counted(it.syscalls.map(|calls| 2.0 * calls)),
            told.copies_by_cpu.to_string(),
            format!("{:.1}{}", it.copies, if it.copies_counted { "" } else { " (derived)" }),
            told.copies_by_dma.to_string(),
            "0 (derived: hot file, loopback)".to_owned(),
            format!("{:.0}", it.context_switches),
            format!("{:.0}", it.page_faults),
            format!("{:.2}", it.cpu_ms),
        ]
    };
    measured.map(line).collect()
}

/// What one transfer of the point cost.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    syscalls: Option<f64>,
    copies: f64,
    copies_counted: bool,
    zero_copy: (u64, u64),
    context_switches: f64,
    page_faults: f64,
    cpu_ms: f64,
    io_wq_share: f64,
}

impl Transfer {
    fn of(rows: &[Row], arm: &str) -> Option<Self> {
        let row = rows.iter().find(|row| row.point == POINT && row.arm == arm)?;
        let (figures, copies) = (row.figures.as_ref()?, row.copies?);
        let gb = row.samples.first()?.bytes as f64 / 1e9;
        let switches =
            figures.voluntary_switches_per_gb.median + figures.involuntary_switches_per_gb.median;
        let faults = figures.minor_faults_per_gb.median + figures.major_faults_per_gb.median;
        Some(Self {
            syscalls: row.counted_per_gb.map(|counted| counted.syscalls * gb),
            copies: copies.per_byte,
            copies_counted: copies.counted,
            zero_copy: (copies.zero_copy_copied, copies.zero_copy_sends),
            context_switches: switches * gb,
            page_faults: faults * gb,
            cpu_ms: figures.cpu_s_per_gb.median * gb * 1e3,
            io_wq_share: figures.io_wq_share.median,
        })
    }
}

/// Where the textbook is wrong, as far as these rows show it.
pub(crate) fn corrections(rows: &[Row]) -> Vec<String> {
    let of = |arm: &str| Transfer::of(rows, arm);
    let mut said = Vec::new();
    if let Some(it) = of("read-send-64k")
        && let Some(calls) = it.syscalls.filter(|&calls| calls > 4.0)
    {
        said.push(format!(
            "“Four mode switches” for read + send are four per buffer, not per file: with 64 KiB there were \
             {calls:.0} calls and {:.0} mode switches, yet only {:.0} context switches. A mode switch is no \
             context switch.",
            2.0 * calls, it.context_switches
        ));
    }
    if let (Some(mapped), Some(read)) = (of("mmap-write"), of("read-send-64k"))
        && mapped.page_faults > read.page_faults
    {
        said.push(format!(
            "mmap saves a copy and pays with faults: {:.0} of them, {:.2} ms of CPU against {:.2} ms.",
            mapped.page_faults, mapped.cpu_ms, read.cpu_ms
        ));
    }
    if let (Some(sendfile), Some(splice)) = (of("sendfile"), of("splice-1m"))
        && let (Some(one), Some(other)) = (sendfile.syscalls, splice.syscalls)
    {
        said.push(format!(
            "Calls are not work: sendfile on a blocking socket made {one:.0}, splice through a pipe of 1 MiB \
             {other:.0}, and they used {:.2} and {:.2} ms of CPU. Inside, sendfile is splice through a pipe of \
             sixteen pages.",
            sendfile.cpu_ms, splice.cpu_ms
        ));
    }
    if let Some(it) = of("ring-splice-linked-1m").filter(|it| it.io_wq_share > 0.2) {
        said.push(format!(
            "A ring does not make splice asynchronous for free: {:.0} % of its CPU was used by workers of \
             the kernel, with {:.0} context switches.",
            it.io_wq_share * 100.0,
            it.context_switches
        ));
    }
    if let Some(it) = of("ring-read-fixed-send-zc").filter(|it| it.zero_copy.0 > 0) {
        let (copied, sends) = it.zero_copy;
        said.push(format!(
            "Zero-copy sends copy where the peer is on the same host: the kernel reports {copied} of \
             {sends} as copied."
        ));
    }
    if let (Some(ours), Some(theirs)) = (of("tls-registered"), of("tls-rustls-64k"))
        && let (Some(calls), Some(more)) = (ours.syscalls, theirs.syscalls)
    {
        said.push(format!(
            "TLS does not forbid to save copies: sealed where they were read, bytes are copied {:.1} times with \
             {calls:.0} calls and {:.2} ms of CPU, by rustls's writer {:.1} times with {more:.0} calls and {:.2} \
             ms. The cipher reads and writes each byte once more, which no such table counts.",
            ours.copies, ours.cpu_ms, theirs.copies, theirs.cpu_ms
        ));
    }
    if !said.is_empty() {
        said.push(
            "The two copies by DMA are those of a disk and a network card: a hot file over loopback has \
             neither, so what is left is the CPU's, and the receiver copies once more."
                .to_owned(),
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arms, point, results};

    #[test]
    fn every_way_can_be_measured() {
        let point = point::named(POINT).unwrap();
        assert_eq!(point.body_len, 16 << 20);
        for told in TOLD {
            assert!(arms::named(told.arm, point).is_some(), "{}", told.arm);
        }
    }

    #[test]
    fn table_has_what_was_counted_beside_what_is_told() {
        let mut row = results::tests::row("sendfile", &[0.3, 0.3], None);
        row.point = POINT.to_owned();
        let lines = lines(&[row]);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), HEADS.len());
        assert_eq!(&lines[0][..5], ["sendfile", "1", "20", "2", "40"]);
        assert_eq!(corrections(&[]), Vec::<String>::new());
    }

    #[test]
    fn tls_stands_in_the_table_and_a_kernel_without_it_is_a_gap() {
        let of = |arm: &str| {
            let mut row = results::tests::row("sendfile", &[0.3, 0.3], None);
            (row.point, row.arm) = (POINT.to_owned(), arm.to_owned());
            row
        };
        let mut kernel = of("tls-kernel");
        (kernel.figures, kernel.gap) = (None, Some("this kernel has no TLS".to_owned()));
        let rows = [of("tls-registered"), of("tls-rustls-64k"), kernel];
        assert_eq!(lines(&rows).len(), 2);
        assert_eq!(
            gaps(&rows),
            ["TLS, splice into a socket that seals: gap: this kernel has no TLS"]
        );
        assert!(corrections(&rows)[0].starts_with("TLS does not forbid"));
    }
}
