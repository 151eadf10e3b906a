//! fio's JSON, `--output-format=json` and `json+`.
//!
//! Text may stand before the first brace (warnings, the human output) and after the last; with
//! `--status-interval` several documents follow each other and the last one counts. Each job, or
//! group of jobs with `group_reporting`, is a case. fio's names and definitions are those of our
//! storage-bench, so nothing is marked as differing.

use super::draft::{Draft, Family, percentile};
use super::json::{count, fault, list, number, positive, text};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Case, Direction, Fact, Severity, Unit, Work};
use nix::errno::Errno;
use serde_json::{Deserializer, Map, Value};

const DEFINITION: &str = "fio's definitions. slat runs from the start of an I/O (the unit was \
    obtained) to its issue, clat from issue to reap, lat from start to reap; with io_uring issue is \
    the return of io_uring_enter, so clat misleads and lat is the one to compare. Percentiles are of \
    clat, unless fio ran with lat_percentiles. iops and bandwidth are completed I/Os and bytes over \
    the run time of the direction. A mixed job has both directions under their own names, and \
    their sums.";

/// Options that say where the I/O goes or what is printed, not what is done.
const NOT_THE_WORK: [&str; 14] = [
    "name",
    "filename",
    "directory",
    "filename_format",
    "description",
    "output",
    "output-format",
    "group_reporting",
    "write_bw_log",
    "write_lat_log",
    "write_iops_log",
    "log_avg_msec",
    "opendir",
    "eta",
];

/// How many braces at the start of a line may turn out not to begin the document.
const MAX_STARTS: usize = 16;

pub(super) fn parse(text_of_fio: &str) -> Result<Parsed, Fault> {
    let document = document(text_of_fio)?;
    let global = document.get("global options").and_then(Value::as_object);
    let empty = Map::new();
    let cases: Vec<Case> = list(&document, &["jobs"])
        .iter()
        .map(|job| case(job, global.unwrap_or(&empty)))
        .collect();
    let version = match text(&document, &["fio version"]) {
        Some(version) => Fact::Known(version.trim_start_matches("fio-").to_owned()),
        None => Fact::unavailable("the output has no \"fio version\""),
    };
    let mut parsed = Parsed::new(version, cases);
    // fio notes the time when it prints.
    let milliseconds = number(&document, &["timestamp_ms"]);
    let seconds = number(&document, &["timestamp"]);
    parsed.ended_s = milliseconds
        .known()
        .map(|ms| ms / 1e3)
        .or(seconds.known().copied());
    let longest = list(&document, &["jobs"])
        .iter()
        .filter_map(|job| positive(job, &["elapsed"]).known().copied())
        .fold(0.0, f64::max);
    parsed.started_s = parsed.ended_s.map(|ended| ended - longest);
    Ok(parsed)
}

/// The last document with jobs in it.
fn document(text: &str) -> Result<Value, Fault> {
    let at_line_start = text.match_indices("\n{").map(|(at, _)| at + 1);
    let first = text.starts_with('{').then_some(0);
    let mut starts: Vec<usize> = first
        .into_iter()
        .chain(at_line_start)
        .take(MAX_STARTS)
        .collect();
    if starts.is_empty() {
        starts.extend(text.find('{'));
    }
    let mut problem = "there is no JSON in it: fio writes it with --output-format=json".to_owned();
    for start in starts {
        let mut last = None;
        let mut documents = Deserializer::from_str(&text[start..]).into_iter::<Value>();
        loop {
            match documents.next() {
                Some(Ok(value)) if value.get("jobs").is_some_and(Value::is_array) => {
                    last = Some(value);
                }
                Some(Ok(_)) => problem = "its JSON has no list of jobs".to_owned(),
                Some(Err(error)) if last.is_none() || error.is_eof() => {
                    problem = fault(&error);
                    break;
                }
                Some(Err(_)) | None => break,
            }
        }
        if let Some(value) = last {
            return Ok(value);
        }
    }
    Err(problem)
}

fn case(job: &Value, global: &Map<String, Value>) -> Case {
    let mut options = global.clone();
    if let Some(own) = job.get("job options").and_then(Value::as_object) {
        options.extend(own.clone());
    }
    let option = |name: &str| options.get(name).and_then(Value::as_str);
    let rw = option("rw")
        .or(option("readwrite"))
        .unwrap_or("read")
        .to_owned();
    let check = option("verify")
        .filter(|how| !matches!(*how, "0" | "null") && option("do_verify") != Some("0"));
    let kind = rw.split(':').next().unwrap_or("read");
    let mut draft = Draft::new(
        format!("fio/{kind}"),
        DEFINITION,
        "nothing: fio ran without verify",
    );
    for (name, value) in &options {
        if NOT_THE_WORK.contains(&name.as_str()) {
            draft.fact(name, value.clone());
        } else {
            draft.param(name, value.clone());
        }
    }
    if let Some(name) = text(job, &["jobname"]) {
        draft.fact("jobname", name);
    }
    let directions = active(job, kind);
    if let Some(how) = check {
        let reads = count(job, &["read", "total_ios"]);
        draft.measurement.verified = match reads.known() {
            Some(reads) => format!("by fio with verify={how}: {reads} reads, no error"),
            None => format!("by fio with verify={how}: no error"),
        };
    }
    if let Some(error) = error(job) {
        return draft.failed(error).finish();
    }
    if directions.is_empty() {
        return draft
            .failed("fio reports no I/O at all, and no error".to_owned())
            .finish();
    }
    measure(&mut draft, job, &directions);
    draft.finish()
}

/// What fio says went wrong, with the name of the errno.
fn error(job: &Value) -> Option<String> {
    let name = text(job, &["jobname"]).unwrap_or("without a name");
    match count(job, &["error"]) {
        Fact::Known(0) => None,
        Fact::Known(code) => {
            let errno = Errno::from_raw(i32::try_from(code).unwrap_or(0));
            Some(format!(
                "fio's job {name:?} ended with error {code} ({errno:?}: {}); fio's standard error \
                 says where",
                errno.desc()
            ))
        }
        Fact::Unavailable { unavailable } => Some(format!(
            "fio's job {name:?} does not say how it ended: {unavailable}"
        )),
    }
}

/// The directions that a job was to measure and did. Reads of a write job are its verification.
fn active(job: &Value, kind: &str) -> Vec<&'static str> {
    let planned: &[&'static str] = match kind {
        "read" | "randread" => &["read", "mixed"],
        "write" | "randwrite" => &["write", "mixed"],
        "trim" | "randtrim" => &["trim", "mixed"],
        "trimwrite" | "randtrimwrite" => &["trim", "write", "mixed"],
        _ => &["read", "write", "mixed"],
    };
    let worked = |name: &&&str| {
        count(job, &[name, "total_ios"])
            .known()
            .is_some_and(|&ios| ios > 0)
            || count(job, &[name, "io_bytes"])
                .known()
                .is_some_and(|&bytes| bytes > 0)
    };
    planned.iter().filter(worked).copied().collect()
}

fn measure(draft: &mut Draft, job: &Value, directions: &[&'static str]) {
    let mut rates = [None, None];
    let mut total = Some(Work::default());
    let mut elapsed_ms = Fact::unavailable("the output has no runtime");
    for direction in directions {
        let part = &job[*direction];
        let prefix = match directions {
            [_] => String::new(),
            _ => format!("{direction}_"),
        };
        let ops = count(part, &["total_ios"]);
        for (sum, rate) in rates
            .iter_mut()
            .zip([positive(part, &["iops"]), bytes_per_s(part)])
        {
            *sum = Some(add(sum.take(), rate));
        }
        if !prefix.is_empty() {
            draft.rate(
                &format!("{prefix}iops"),
                positive(part, &["iops"]),
                ops.clone(),
            );
            let name = format!("{prefix}bandwidth_bytes_per_s");
            draft.bandwidth(&name, bytes_per_s(part), ops.clone());
        }
        total = total.and_then(|sum| plus(sum, part));
        elapsed_ms = longer(elapsed_ms, positive(part, &["runtime"]));
        for kind in ["lat_ns", "clat_ns", "slat_ns"] {
            distribution(draft, part, kind, &format!("{prefix}{kind}"));
        }
    }
    draft.measurement.elapsed_s = elapsed_ms.map(|ms| ms / 1e3);
    let ops = total.map(|work| work.ops);
    if let Some(work) = total {
        draft.measurement.work = work.into();
    }
    let n = ops.map_or_else(
        || Fact::unavailable("the output has no total_ios"),
        Fact::Known,
    );
    let [iops, bandwidth] = rates;
    if let Some(iops) = iops {
        draft.rate("iops", iops, n.clone()).headline = true;
    }
    if let Some(bandwidth) = bandwidth {
        draft
            .bandwidth("bandwidth_bytes_per_s", bandwidth, n.clone())
            .headline = true;
    }
    if let [_, _, ..] = directions {
        overall(draft, job, directions);
    }
    processor(draft, job, n);
}

/// The sum of work with that of one more direction, if that is known and possible.
fn plus(sum: Work, part: &Value) -> Option<Work> {
    let ops = *count(part, &["total_ios"]).known()?;
    let bytes = *count(part, &["io_bytes"]).known()?;
    Some(Work {
        ops: sum.ops.checked_add(ops)?,
        bytes: sum.bytes.checked_add(bytes)?,
    })
}

/// The longer of two run times, of which one may be unknown.
fn longer(known: Fact<f64>, new: Fact<f64>) -> Fact<f64> {
    match (known, new) {
        (Fact::Known(known), Fact::Known(new)) => Fact::Known(known.max(new)),
        (Fact::Unavailable { .. }, new) => new,
        (known, Fact::Unavailable { .. }) => known,
    }
}

/// bw_bytes, or of a fio before 3.0 its bw in KiB per second.
fn bytes_per_s(part: &Value) -> Fact<f64> {
    match positive(part, &["bw_bytes"]) {
        Fact::Known(bytes) => Fact::Known(bytes),
        missing => match positive(part, &["bw"]) {
            Fact::Known(kib) => Fact::Known(kib * 1024.0),
            Fact::Unavailable { .. } => missing,
        },
    }
}

fn add(sum: Option<Fact<f64>>, value: Fact<f64>) -> Fact<f64> {
    match (sum, value) {
        (None, value) => value,
        (Some(Fact::Known(sum)), Fact::Known(value)) => Fact::Known(sum + value),
        (Some(unknown @ Fact::Unavailable { .. }), _) | (_, unknown) => unknown,
    }
}

/// One of slat, clat, lat: what fio prints of it.
fn distribution(draft: &mut Draft, part: &Value, kind: &str, name: &str) {
    let Some(found) = part
        .get(kind)
        .filter(|found| count(found, &["N"]) != Fact::Known(0))
    else {
        return;
    };
    let percentiles = found.get("percentile").and_then(Value::as_object);
    let family = Family {
        name,
        compat: None,
        n: count(found, &["N"]),
        headlines: match percentiles {
            Some(_) => &[Aggregation::P50, Aggregation::P99],
            None if kind == "lat_ns" => &[Aggregation::Mean],
            None => &[],
        },
    };
    for (how, key) in [
        (Aggregation::Min, "min"),
        (Aggregation::Mean, "mean"),
        (Aggregation::Max, "max"),
        (Aggregation::Stddev, "stddev"),
    ] {
        draft.latency(&family, how, positive(found, &[key]));
    }
    for key in percentiles.into_iter().flat_map(Map::keys) {
        if let Some(how) = percentile(key) {
            draft.latency(&family, how, positive(found, &["percentile", key]));
        }
    }
    if let Some(bins) = found.get("bins").and_then(Value::as_object) {
        let read = bins
            .iter()
            .map(|(middle, count)| Some((middle.parse().ok()?, count.as_u64()?)));
        match read.collect::<Option<Vec<(u64, u64)>>>() {
            Some(counts) => draft.histogram(name, &counts, family.n.known().copied()),
            None => {
                let evidence = format!("a bin of {name} is no pair of counts");
                draft.flag(Severity::Degraded, "bins_left_out", evidence);
            }
        }
    }
}

/// The latency of a mixed job over its directions, as far as it follows from theirs.
fn overall(draft: &mut Draft, job: &Value, directions: &[&'static str]) {
    let each = |key: &str| -> Option<Vec<f64>> {
        let values = directions
            .iter()
            .map(|d| positive(&job[*d], &["lat_ns", key]).known().copied());
        values.collect()
    };
    let (Some(ns), Some(means), Some(min), Some(max)) =
        (each("N"), each("mean"), each("min"), each("max"))
    else {
        return;
    };
    let n: f64 = ns.iter().sum();
    let mean = ns.iter().zip(&means).map(|(n, mean)| n * mean).sum::<f64>() / n;
    let family = Family {
        name: "lat_ns",
        compat: None,
        // Counts of a run are far below 2⁵³, and the cast saturates.
        n: Fact::Known(n as u64),
        headlines: &[Aggregation::Mean],
    };
    let min = min.into_iter().fold(f64::INFINITY, f64::min);
    let max = max.into_iter().fold(0.0, f64::max);
    draft.latency(&family, Aggregation::Min, Fact::Known(min));
    draft.latency(&family, Aggregation::Mean, Fact::Known(mean));
    draft.latency(&family, Aggregation::Max, Fact::Known(max));
}

/// fio prints CPU time as a share of the job's run time.
fn processor(draft: &mut Draft, job: &Value, ops: Fact<u64>) {
    let seconds = |key: &str| match (positive(job, &[key]), positive(job, &["job_runtime"])) {
        (Fact::Known(percent), Fact::Known(ms)) => Fact::Known(percent / 100.0 * ms / 1e3),
        (Fact::Known(_), missing) | (missing, _) => missing,
    };
    let (user, system) = (seconds("usr_cpu"), seconds("sys_cpu"));
    if let (Some(user), Some(system), Some(&n)) = (user.known(), system.known(), ops.known()) {
        let (unit, better) = (Unit::Nanoseconds, Direction::LowerIsBetter);
        let value = Fact::Known((user + system) * 1e9 / n as f64);
        draft.total("cpu_per_io_ns", unit, better, value, ops.clone());
    }
    for (name, value) in [("cpu_user_s", user), ("cpu_system_s", system)] {
        draft.total(
            name,
            Unit::Seconds,
            Direction::LowerIsBetter,
            value,
            ops.clone(),
        );
    }
}
