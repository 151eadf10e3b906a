//! sockperf's text: ping-pong, under-load and throughput.
//!
//! sockperf does not print which of its latency tests ran; the command line says it, where it is
//! known. It does print colours, even into files.

use super::draft::{Draft, Family, percentile, work};
use super::text::{between, decimal, last_line, microseconds, without_colours};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Case, Direction, Fact, Severity, Unit};

const PEER: &str = "sockperf";
const LATENCY: &str = "sockperf's latency tests. Of each message that was answered in the valid \
    part of the run (warm-up and cool-down left out) the time from sending it to receiving the answer; \
    half of it is half_round_trip_ns, with --full-rtt the whole is round_trip_ns. In ping-pong the \
    next message waits for the answer; under load messages leave at a rate of their own, and the time \
    counts from when a message was sent, not from when it was due.";
const THROUGHPUT: &str = "sockperf's throughput test. Messages are sent one way as fast as the \
    kernel takes them; rate and bandwidth are the sender's, and nobody counts what arrived. sockperf's \
    MBps are 2^20 bytes.";
const NOTHING: &str = "nothing: sockperf ran without --data-integrity, or does not say so";

/// sockperf's default message size.
const DEFAULT_BYTES: u64 = 14;

pub(super) fn parse(text: &str, argv: &[String]) -> Result<Parsed, Fault> {
    let text = without_colours(text);
    let version = match between(&text, "== version #", " ==") {
        Some(version) => Fact::Known(version.to_owned()),
        None => Fact::unavailable("the output has no version line"),
    };
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim().strip_prefix("sockperf:").unwrap_or(line).trim())
        .collect();
    let setup = Setup::of(&text, argv);
    let mut cases = latency_cases(&lines, &setup);
    cases.extend(throughput_case(&lines, &setup));
    let error = lines.iter().find(|line| line.starts_with("ERROR"));
    if let (true, Some(error)) = (cases.is_empty(), error) {
        let draft = setup.draft("test", LATENCY);
        cases.push(draft.failed(format!("sockperf reports: {error}")).finish());
    }
    if cases.is_empty() {
        return Err(format!(
            "it has no summary; it ends with {:?}",
            last_line(&text)
        ));
    }
    Ok(Parsed::new(version, cases))
}

/// What is known before the numbers.
struct Setup {
    test: Option<&'static str>,
    protocol: Option<String>,
    message_bytes: Fact<u64>,
    options: Option<String>,
    verified: &'static str,
}

impl Setup {
    fn of(text: &str, argv: &[String]) -> Self {
        let word = |words: &[&str]| argv.iter().any(|arg| words.contains(&arg.as_str()));
        let tests = [
            ("ping-pong", ["ping-pong", "pp"]),
            ("under-load", ["under-load", "ul"]),
            ("throughput", ["throughput", "tp"]),
            ("playback", ["playback", "pb"]),
        ];
        let test = tests
            .iter()
            .find(|(_, words)| word(words))
            .map(|(name, _)| *name);
        let at = argv
            .iter()
            .position(|arg| arg == "-m" || arg == "--msg-size");
        let option = at.and_then(|at| argv.get(at + 1)).cloned().or_else(|| {
            argv.iter()
                .find_map(|arg| arg.strip_prefix("--msg-size=").map(str::to_owned))
        });
        let printed = between(text, "using msg-size=", ".").map(str::to_owned);
        let message_bytes = match option.or(printed).and_then(|size| size.parse().ok()) {
            Some(size) => Fact::Known(size),
            None if test.is_some() => Fact::Known(DEFAULT_BYTES),
            None => Fact::unavailable("sockperf does not print the size of its messages"),
        };
        let protocol = between(text, "PORT =", "\n").and_then(|line| line.split('#').nth(1));
        Self {
            test,
            protocol: protocol.map(|name| name.trim().to_lowercase()),
            message_bytes,
            options: (!argv.is_empty()).then(|| argv[1..].join(" ")),
            verified: match word(&["--data-integrity"]) {
                true => "by sockperf with --data-integrity: every answer equalled its message",
                false => NOTHING,
            },
        }
    }

    fn draft(&self, test: &str, definition: &'static str) -> Draft {
        let id = format!("{PEER}/{}", self.test.unwrap_or(test));
        let mut draft = Draft::new(id, definition, self.verified);
        if let Some(protocol) = &self.protocol {
            draft.param("protocol", protocol.as_str());
        }
        if let Some(&size) = self.message_bytes.known() {
            draft.param("message_bytes", size);
        }
        if let Some(options) = &self.options {
            draft.fact("options", options.as_str());
        }
        draft
    }
}

/// One case per server, since each has its own block of statistics.
fn latency_cases(lines: &[&str], setup: &Setup) -> Vec<Case> {
    const BLOCK: &str = "========= Printing statistics for Server No:";
    let starts: Vec<usize> = (0..lines.len())
        .filter(|&at| lines[at].starts_with(BLOCK))
        .collect();
    let mut cases = Vec::new();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(lines.len());
        let mut draft = setup.draft("latency", LATENCY);
        if starts.len() > 1 {
            draft.param("server", lines[start][BLOCK.len()..].trim());
        }
        cases.push(latency_case(draft, &lines[start..end], setup));
    }
    cases
}

fn latency_case(mut draft: Draft, lines: &[&str], setup: &Setup) -> Case {
    let line = |mark: &str| lines.iter().find(|line| line.contains(mark)).copied();
    if let Some(said) = line("No valid observations") {
        return draft.failed(format!("sockperf reports: {said}")).finish();
    }
    let Some(average) = line("====> avg-") else {
        return draft
            .failed("sockperf's statistics have no line with the average".to_owned())
            .finish();
    };
    let name = match line("Summary: Round trip is") {
        Some(_) => "round_trip_ns",
        None => "half_round_trip_ns",
    };
    let observed = line("observations").and_then(|line| between(line, "Total", "observations"));
    let n: Fact<u64> = match observed.and_then(|n| n.parse().ok()) {
        Some(n) => Fact::Known(n),
        None => Fact::unavailable("the output has no number of observations"),
    };
    let family = Family {
        name,
        compat: Some(PEER),
        n: n.clone(),
        headlines: &[Aggregation::Mean, Aggregation::P50, Aggregation::P99],
    };
    // `====> avg-latency=12.482 (std-dev=79.605)`; older versions write `avg-lat=  12.482`.
    let mean = between(average, "avg-", "(").and_then(|text| text.split_once('='));
    let mean = mean.map(|(_, value)| value.trim()).unwrap_or_default();
    draft.latency(&family, Aggregation::Mean, microseconds(mean));
    let deviation = between(average, "(std-dev=", ")").unwrap_or_default();
    draft.latency(&family, Aggregation::Stddev, microseconds(deviation));
    for line in lines.iter().filter_map(|line| line.strip_prefix("--->")) {
        let Some((what, value)) = line.split_once('=') else {
            continue;
        };
        let what = what.trim();
        let how = match what {
            "<MAX> observation" => Some(Aggregation::Max),
            "<MIN> observation" => Some(Aggregation::Min),
            _ => what
                .strip_prefix("percentile")
                .and_then(|q| percentile(q.trim())),
        };
        if let Some(how) = how {
            draft.latency(&family, how, microseconds(value.trim()));
        }
    }
    let elapsed = line("[Valid Duration]").and_then(|line| between(line, "RunTime=", "sec"));
    draft.measurement.elapsed_s = seconds(elapsed);
    draft.measurement.work = work(&n, &setup.message_bytes);
    if let Some(line) = line("# dropped messages") {
        anomalies(&mut draft, line, n);
    }
    draft.finish()
}

fn seconds(printed: Option<&str>) -> Fact<f64> {
    match printed.map(|text| decimal(text, 0)) {
        Some(Fact::Known(value)) if value >= 0.0 => Fact::Known(value),
        _ => Fact::unavailable("the output has no length of the run"),
    }
}

/// Messages that were lost, came twice or out of order.
fn anomalies(draft: &mut Draft, line: &str, n: Fact<u64>) {
    let mut seen = Vec::new();
    for part in line.split(';') {
        let Some((what, count)) = part.trim().trim_start_matches('#').split_once('=') else {
            continue;
        };
        let value = decimal(count.trim(), 0);
        if value.known().is_some_and(|&count| count > 0.0) {
            seen.push(format!("{} {}", count.trim(), what.trim()));
        }
        let name = super::text::snake_case(what);
        draft.total(
            &name,
            Unit::Count,
            Direction::LowerIsBetter,
            value,
            n.clone(),
        );
    }
    if !seen.is_empty() {
        draft.flag(Severity::Degraded, "messages_astray", seen.join(", "));
    }
}

fn throughput_case(lines: &[&str], setup: &Setup) -> Option<Case> {
    let line = |mark: &str| lines.iter().find(|line| line.contains(mark)).copied();
    let rate = between(
        line("Summary: Message Rate is")?,
        "Message Rate is",
        "[msg/sec]",
    )?;
    let mut draft = setup.draft("throughput", THROUGHPUT);
    let sent = line("messages sent in").unwrap_or_default();
    let n: Fact<u64> = match between(sent, "Total of", "messages").and_then(|n| n.parse().ok()) {
        Some(n) => Fact::Known(n),
        None => Fact::unavailable("the output has no number of messages"),
    };
    draft.measurement.elapsed_s = seconds(between(sent, "messages sent in", "sec"));
    draft.measurement.work = work(&n, &setup.message_bytes);
    let bandwidth = line("Summary: BandWidth is")
        .and_then(|line| between(line, "BandWidth is", "MBps"))
        .map_or_else(
            || Fact::unavailable("the output has no bandwidth"),
            |printed| decimal(printed, 0).map(|mebibytes| mebibytes * 1_048_576.0),
        );
    let bandwidth = draft.bandwidth("sender_bandwidth_bytes_per_s", bandwidth, n.clone());
    bandwidth.headline = true;
    draft.rate("messages_per_s", decimal(rate, 0), n).headline = true;
    Some(draft.finish())
}
