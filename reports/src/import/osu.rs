//! The tables of the OSU micro-benchmarks.
//!
//! A title names the test, a line of column names begins the table, and each row is a size. The
//! columns depend on the test and on options (`-f`, `-z`, `-c`), so they are found by their names.
//! Launchers and programs may print between the lines.

use super::draft::{Draft, Family, work};
use super::text::{between, decimal, is_numeric, last_line, microseconds, positive, snake_case};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Direction, Fact, Severity, Unit};

const PEER: &str = "OSU";
const LATENCY: &str = "OSU's point-to-point latency: the time of all sends and receives of rank 0 \
    over twice the iterations, half a round trip. Percentiles (-z) are over iterations.";
const BANDWIDTH: &str = "OSU's point-to-point bandwidth: size x window x iterations over the time, \
    one answer per window; MB are 10^6 bytes. osu_bibw counts both directions; osu_mbw_mr adds \
    up all pairs and divides by the mean time of the senders.";
const COLLECTIVE: &str = "OSU's collective latency: each rank times the call alone, a barrier follows; \
    mean, min and max are over ranks of each rank's mean, which hides what differs between \
    iterations. Percentiles (-z) are over iterations of means over ranks. Of non-blocking calls: \
    overall, compute and pure communication time, and the share of communication that was \
    overlapped.";
const NOTHING: &str = "nothing: OSU ran without -c";

/// One test's title and table.
#[derive(Default)]
struct Table {
    id: String,
    params: Vec<(&'static str, String)>,
    columns: Vec<String>,
}

pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let mut version = Fact::unavailable("the output has no title");
    let mut table: Option<Table> = None;
    let mut drafts: Vec<Draft> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(title) = line.strip_prefix("# OSU ") {
            let (name, printed) = title.rsplit_once(" v").unwrap_or((title, ""));
            if !printed.is_empty() {
                version = Fact::Known(printed.trim().to_owned());
            }
            let id = format!("osu/{}", program(name));
            table = Some(Table {
                id,
                ..Table::default()
            });
        } else if let (Some(comment), Some(table)) = (line.strip_prefix('#'), &mut table) {
            comment_line(table, comment.trim());
        } else if let Some(table) = &table
            && let Some(cells) = row(line, &table.columns)
        {
            drafts.push(case(table, &cells));
        }
    }
    if drafts.is_empty() {
        return Err(format!(
            "its table has no row; it ends with {:?}",
            last_line(text)
        ));
    }
    if let (Some(last), false) = (drafts.last_mut(), text.ends_with('\n')) {
        let evidence = "the text does not end with a line end: its last row may be cut";
        last.flag(Severity::Degraded, "truncated", evidence);
    }
    let cases = drafts.into_iter().map(Draft::finish);
    Ok(Parsed::new(version, cases.collect()))
}

/// `MPI Non-blocking Allreduce Latency Test` is osu_iallreduce.
fn program(title: &str) -> String {
    let title = title.trim().trim_end_matches("Test").trim();
    let (_, title) = title.split_once(' ').unwrap_or(("", title));
    let known = [
        ("Latency", "latency"),
        ("Bandwidth", "bw"),
        ("Bi-Directional Bandwidth", "bibw"),
        ("Multiple Bandwidth / Message Rate", "mbw_mr"),
        ("Multi Latency", "multi_lat"),
        ("Multi-threaded Latency", "latency_mt"),
        ("Multi-process Latency", "latency_mp"),
    ];
    if let Some((_, name)) = known.iter().find(|(known, _)| *known == title) {
        return format!("osu_{name}");
    }
    let call = title
        .trim_end_matches("Latency")
        .replace("Personalized Exchange", "");
    let call = call.replace("All-to-All", "Alltoall");
    let (prefix, call) = match call.strip_prefix("Non-blocking") {
        Some(call) => ("i", call.to_owned()),
        None => ("", call),
    };
    format!("osu_{prefix}{}", snake_case(&call))
}

/// The names of the columns, or what shapes the work.
fn comment_line(table: &mut Table, comment: &str) {
    for (name, before, after) in [
        ("datatype", "Datatype: ", "."),
        ("pairs", "[ pairs: ", " ]"),
        ("window", "[ window size: ", " ]"),
    ] {
        if let Some(value) = between(comment, before, after) {
            table.params.push((name, value.to_owned()));
        }
    }
    let units = ["(us)", "MB/s", "Messages/s", "Overlap(%)"];
    if units.iter().any(|unit| comment.contains(unit)) {
        // Names hold single spaces; columns are at least two apart.
        table.columns = comment
            .split("  ")
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
    }
}

fn row<'a>(line: &'a str, columns: &[String]) -> Option<Vec<&'a str>> {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let fits = |(cell, column): (&&str, &String)| match column.as_str() {
        "Validation" => true,
        "Size" | "Iterations" => cell.bytes().all(|b| b.is_ascii_digit()),
        _ => is_numeric(cell),
    };
    let is_row =
        !columns.is_empty() && cells.len() == columns.len() && cells.iter().zip(columns).all(fits);
    is_row.then_some(cells)
}

fn case(table: &Table, cells: &[&str]) -> Draft {
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
    let bandwidth = pairs().any(|(name, _)| name.contains("MB/s"));
    let latency = table.id.contains("lat");
    let definition = match (bandwidth, latency) {
        (true, _) => BANDWIDTH,
        (false, true) => LATENCY,
        (false, false) => COLLECTIVE,
    };
    let checked = cell("Validation");
    let verified = match checked {
        Some(result) => format!("by OSU with -c: {result}"),
        None => NOTHING.to_owned(),
    };
    let mut draft = Draft::new(table.id.clone(), definition, &verified);
    for (name, value) in &table.params {
        match value.parse::<u64>() {
            Ok(number) => draft.param(name, number),
            Err(_) => draft.param(name, value.as_str()),
        }
    }
    let size: Option<u64> = cell("Size").and_then(|cell| cell.parse().ok());
    if let Some(size) = size {
        draft.param("size_bytes", size);
    }
    if let Some(result) = checked.filter(|result| *result != "Pass") {
        let error = format!("OSU's validation of the received data says {result:?}");
        return draft.failed(error);
    }
    let n: Fact<u64> = match cell("Iterations").and_then(|cell| cell.parse().ok()) {
        Some(n) => Fact::Known(n),
        None => Fact::unavailable("OSU prints its iterations only for collectives with -f"),
    };
    draft.measurement.work = work(&n, &Fact::Known(size.unwrap_or(0)));
    let family = if latency {
        "latency_ns"
    } else {
        "collective_ns"
    };
    for (column, printed) in pairs() {
        metric(&mut draft, column, printed, family, &n);
    }
    draft
}

fn metric(draft: &mut Draft, column: &str, printed: &str, family: &str, n: &Fact<u64>) {
    let percentile = match column.split_whitespace().next() {
        Some("P50") => Some(Aggregation::P50),
        Some("P90") => Some(Aggregation::P90),
        Some("P99") => Some(Aggregation::P99),
        _ => None,
    };
    let (name, how) = match column {
        "Latency (us)" | "Avg Latency(us)" => (family, Aggregation::Mean),
        "Min Latency(us)" => (family, Aggregation::Min),
        "Max Latency(us)" => (family, Aggregation::Max),
        "Overall(us)" => ("overall_ns", Aggregation::Mean),
        "Compute(us)" => ("compute_ns", Aggregation::Mean),
        "Coll. Init(us)" => ("init_ns", Aggregation::Mean),
        "MPI_Test(us)" => ("test_ns", Aggregation::Mean),
        "MPI_Wait(us)" => ("wait_ns", Aggregation::Mean),
        "Pure Comm.(us)" => ("pure_communication_ns", Aggregation::Mean),
        "Min Comm.(us)" => ("pure_communication_ns", Aggregation::Min),
        "Max Comm.(us)" => ("pure_communication_ns", Aggregation::Max),
        "Bandwidth (MB/s)" | "MB/s" => {
            let value = positive(decimal(printed, 6), printed);
            draft
                .bandwidth("bandwidth_bytes_per_s", value, n.clone())
                .headline = true;
            return;
        }
        "Messages/s" => {
            let value = positive(decimal(printed, 0), printed);
            draft.rate("messages_per_s", value, n.clone()).headline = true;
            return;
        }
        "Overlap(%)" => {
            let value = positive(decimal(printed, -2), printed);
            let (unit, better) = (Unit::Ratio, Direction::HigherIsBetter);
            draft
                .total("overlap_ratio", unit, better, value, n.clone())
                .headline = true;
            return;
        }
        "Size" | "Iterations" | "Validation" => return,
        _ => match percentile {
            Some(how) if column.contains("(us)") => (family, how),
            _ => {
                // A column of a version or an option that is not known here is kept as it is.
                draft.fact(column, printed);
                return;
            }
        },
    };
    let family = Family {
        name,
        compat: Some(PEER),
        n: n.clone(),
        headlines: &[Aggregation::Mean],
    };
    draft.latency(&family, how, microseconds(printed));
}
