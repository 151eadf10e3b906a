//! The tables of the Intel MPI Benchmarks (IMB-MPI1, and the timings of IMB-NBC).

use super::draft::{Draft, Family, work};
use super::text::{between, decimal, is_numeric, last_line, microseconds, positive, snake_case};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Direction, Fact, Severity, Unit, Work};

const PEER: &str = "IMB";
const DEFINITION: &str = "IMB's definitions. PingPong, PingPing: latency_ns is the time of the loop over \
    the repetitions (PingPong: over twice as many, half a round trip), the largest over ranks. Sendrecv, \
    Exchange and collectives: the time of a call, as min, max and mean over ranks of each rank's \
    mean. Uniband, Biband: windows of 256 messages by default, an answer each, over the largest \
    time of a rank. Mbytes are 10^6 bytes since IMB 2018.";
const NOTHING: &str = "nothing: IMB ran without -check";

/// The last releases whose Mbytes could be 2²⁰ bytes are older than this.
const DECIMAL_SINCE: u32 = 2018;

/// Lines of the banner that shape the work.
const SETTINGS: [(&str, &str); 3] = [
    ("MPI_Datatype for reductions", "reduction_datatype"),
    ("MPI_Datatype", "datatype"),
    ("MPI_Op", "operation"),
];

#[derive(Default)]
struct Banner {
    version: Option<String>,
    settings: Vec<(&'static str, String)>,
    facts: Vec<(String, String)>,
    argv: Vec<String>,
}

impl Banner {
    fn has_decimal_megabytes(&self) -> bool {
        let year = self
            .version
            .as_deref()
            .and_then(|version| version.split('.').next());
        let year = year.and_then(|year| year.parse::<u32>().ok());
        year.is_some_and(|year| year >= DECIMAL_SINCE)
    }
}

#[derive(Default)]
struct Table {
    name: String,
    processes: Option<u64>,
    columns: Vec<String>,
}

pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let banner = banner(text);
    let mut table: Option<Table> = None;
    let mut drafts: Vec<Draft> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("# Benchmarking ") {
            let name = name.trim().to_owned();
            table = Some(Table {
                name,
                ..Table::default()
            });
        } else if let Some(table) = &mut table {
            if let Some(count) = line.strip_prefix("# #processes =") {
                table.processes = count.trim().parse().ok();
            } else if line.starts_with("#bytes") || line.starts_with("#repetitions") {
                table.columns = line.split_whitespace().map(str::to_owned).collect();
            } else if let Some(draft) = row(table, &banner, line) {
                drafts.push(draft);
            }
        }
    }
    if drafts.is_empty() {
        return Err(format!(
            "its tables have no row; it ends with {:?}",
            last_line(text)
        ));
    }
    if let (Some(last), false) = (drafts.last_mut(), text.contains("MPI_Finalize")) {
        let evidence = "IMB's last line (\"All processes entering MPI_Finalize\") is missing";
        last.flag(Severity::Degraded, "truncated", evidence);
    }
    let cases = drafts.into_iter().map(Draft::finish);
    let version = match &banner.version {
        Some(version) => Fact::Known(version.clone()),
        None => Fact::unavailable("the output has no banner"),
    };
    let mut parsed = Parsed::new(version, cases.collect());
    parsed.argv = banner.argv;
    Ok(parsed)
}

fn banner(text: &str) -> Banner {
    let mut banner = Banner::default();
    let version = between(text, "MPI Benchmarks", ",");
    banner.version = version
        .filter(|v| !v.is_empty() && v.len() < 20)
        .map(str::to_owned);
    let mut lines = text
        .lines()
        .map(|line| line.trim().trim_start_matches('#').trim());
    while let Some(line) = lines.next() {
        if line.starts_with("Benchmarking ") {
            break;
        }
        if line.starts_with("Calling sequence was") {
            let command = lines.find(|line| !line.is_empty()).unwrap_or_default();
            banner.argv = command.split_whitespace().map(str::to_owned).collect();
        } else if let Some((name, value)) = line.split_once(':') {
            let (name, value) = (name.trim(), value.trim());
            match SETTINGS.iter().find(|(known, _)| *known == name) {
                Some((_, spelled)) => banner.settings.push((spelled, value.to_owned())),
                None if !value.is_empty()
                    && matches!(name, "Date" | "Machine" | "Release" | "MPI Version") =>
                {
                    banner.facts.push((snake_case(name), value.to_owned()));
                }
                None => {}
            }
        }
    }
    banner
}

/// A row of a table: a case that was measured, or one that IMB left out.
fn row(table: &Table, banner: &Banner, line: &str) -> Option<Draft> {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let first: u64 = cells.first()?.parse().ok()?;
    if table.columns.is_empty() {
        return None;
    }
    let sized = table.columns[0] == "#bytes";
    let mut draft = draft(table, banner);
    if sized {
        draft.param("size_bytes", first);
    }
    let left_out = ["out-of-mem", "int-overflow", "time-out"];
    if left_out.iter().any(|why| line.contains(why)) {
        let why: String = line.chars().take(200).collect();
        return Some(draft.skipped(format!("IMB left it out: {why}")));
    }
    if cells.len() != table.columns.len() || !cells.iter().all(|cell| is_numeric(cell)) {
        return None;
    }
    let pairs = || {
        table
            .columns
            .iter()
            .map(String::as_str)
            .zip(cells.iter().copied())
    };
    let cell = |name: &str| {
        pairs()
            .find(|(column, _)| *column == name)
            .map(|(_, cell)| cell)
    };
    let n: Fact<u64> = match cell("#repetitions").and_then(|cell| cell.parse().ok()) {
        Some(n) => Fact::Known(n),
        None => Fact::unavailable("the table has no count of repetitions"),
    };
    if let Some(defects) = cell("defects") {
        if decimal(defects, 0) != Fact::Known(0.0) {
            return Some(draft.failed(format!("IMB's -check found defects: {defects}")));
        }
        draft.measurement.verified = "by IMB with -check: no defects".to_owned();
    }
    let size = if sized { first } else { 0 };
    draft.measurement.work = work_of(&table.name, &n, size);
    let decimal_megabytes = banner.has_decimal_megabytes();
    for (column, printed) in pairs() {
        metric(
            &mut draft,
            table,
            column,
            printed,
            &n,
            size,
            decimal_megabytes,
        );
    }
    Some(draft)
}

/// The calls that a row counts, and the bytes that each rank put into them.
fn work_of(benchmark: &str, n: &Fact<u64>, size: u64) -> Fact<Work> {
    match benchmark {
        "PingPong" => work(n, &Fact::Known(size.saturating_mul(2))),
        "Uniband" | "Biband" => Fact::unavailable("IMB does not print the window"),
        _ => work(n, &Fact::Known(size)),
    }
}

fn draft(table: &Table, banner: &Banner) -> Draft {
    let mut draft = Draft::new(format!("imb/{}", table.name), DEFINITION, NOTHING);
    for (name, value) in &banner.settings {
        draft.param(name, value.as_str());
    }
    for (name, value) in &banner.facts {
        draft.fact(name, value.as_str());
    }
    if let Some(processes) = table.processes {
        draft.param("processes", processes);
    }
    draft
}

/// The name of the time that a benchmark measures.
fn time_of(benchmark: &str) -> &'static str {
    match benchmark {
        "PingPong" | "PingPing" | "PingPongSpecificSource" | "PingPingSpecificSource" => {
            "latency_ns"
        }
        "Sendrecv" | "Exchange" => "exchange_ns",
        _ => "collective_ns",
    }
}

fn metric(
    draft: &mut Draft,
    table: &Table,
    column: &str,
    printed: &str,
    n: &Fact<u64>,
    size: u64,
    decimal_megabytes: bool,
) {
    let time = time_of(&table.name);
    let (name, how) = match column {
        "t[usec]" | "t_avg[usec]" => (time, Aggregation::Mean),
        "t_min[usec]" => (time, Aggregation::Min),
        "t_max[usec]" => (time, Aggregation::Max),
        "t_ovrl[usec]" => ("overall_ns", Aggregation::Mean),
        "t_pure[usec]" => ("pure_communication_ns", Aggregation::Mean),
        "t_CPU[usec]" => ("compute_ns", Aggregation::Mean),
        "Mbytes/sec" if size == 0 => return,
        "Mbytes/sec" => {
            let value = match decimal_megabytes {
                true => positive(decimal(printed, 6), printed),
                false => Fact::unavailable(format!(
                    "{printed} Mbytes/sec: before IMB {DECIMAL_SINCE} a Mbyte could be 10^6 or 2^20 bytes"
                )),
            };
            draft
                .bandwidth("bandwidth_bytes_per_s", value, n.clone())
                .headline = true;
            return;
        }
        "Msg/sec" => {
            let value = positive(decimal(printed, 0), printed);
            draft.rate("messages_per_s", value, n.clone()).headline = true;
            return;
        }
        "overlap[%]" => {
            let (unit, better) = (Unit::Ratio, Direction::HigherIsBetter);
            let value = positive(decimal(printed, -2), printed);
            draft.total("overlap_ratio", unit, better, value, n.clone());
            return;
        }
        _ => return,
    };
    let family = Family {
        name,
        compat: Some(PEER),
        n: n.clone(),
        headlines: &[Aggregation::Mean, Aggregation::Max],
    };
    draft.latency(&family, how, microseconds(printed));
}
