//! netperf's tables of TCP_STREAM, TCP_MAERTS, UDP_STREAM, TCP_RR, UDP_RR and TCP_CRR, and the
//! key=value lines of its test-specific option -k.
//!
//! The banner names the test. A table has one or two rows of numbers under a header that names the
//! unit of the rate, which the option -f changes.

use super::draft::{Draft, Family, work};
use super::text::{between, decimal, last_line, microseconds, positive};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Case, Direction, Fact, Severity, Unit, Work};
use std::collections::BTreeMap;

const PEER: &str = "netperf";
const STREAM: &str = "netperf's stream tests. bandwidth_bytes_per_s is what the receiver read over \
    the time that netperf measured, connection set-up and the wait for the last bytes included; \
    sender_bandwidth_bytes_per_s what the sender handed to its kernel over the same time. An \
    operation is a receive call.";
const RR: &str = "netperf's request-response tests: one transaction outstanding per connection \
    unless the option -b allowed more. transactions_per_s is their number over the length of the \
    run. round_trip_ns runs from before a request is sent to after its response has come, kept in \
    whole microseconds, percentiles in bins.";
const CRR: &str = "netperf's TCP_CRR: connect, request, response and close per transaction. \
    transactions_per_s is their number over the length of the run. transaction_ns is the whole of \
    one, kept in whole microseconds, percentiles in bins.";
const NOTHING: &str = "nothing: netperf does not look at the bytes it receives";

/// How each test is named in the banner, on the command line, and in a report.
const TESTS: [(&str, &str, &str); 7] = [
    ("TCP STREAM TEST", "TCP_STREAM", "tcp_stream"),
    ("TCP MAERTS TEST", "TCP_MAERTS", "tcp_maerts"),
    ("UDP STREAM TEST", "UDP_STREAM", "udp_stream"),
    ("UDP UNIDIRECTIONAL SEND TEST", "UDP_STREAM", "udp_stream"),
    ("TCP REQUEST/RESPONSE TEST", "TCP_RR", "tcp_rr"),
    ("UDP REQUEST/RESPONSE TEST", "UDP_RR", "udp_rr"),
    ("TCP Connect/Request/Response TEST", "TCP_CRR", "tcp_crr"),
];

pub(super) fn parse(text: &str, argv: &[String]) -> Result<Parsed, Fault> {
    if let Some(line) = text
        .lines()
        .find(|line| line.starts_with("establish control:"))
    {
        let draft = Draft::new(format!("{PEER}/test"), STREAM, NOTHING);
        let case = draft.failed(format!("netperf reports: {}", line.trim()));
        return Ok(parsed(&BTreeMap::new(), case.finish()));
    }
    let keys = keys(text);
    let test = test(text, argv, &keys).ok_or(
        "it names no test of netperf that is imported: TCP_STREAM, TCP_MAERTS, UDP_STREAM, TCP_RR, \
         UDP_RR, TCP_CRR (the banner does, which -P 0 takes away)",
    )?;
    let mut draft = draft(test);
    // The banner says so; without it, the command line does.
    if text.contains(" : no control") || argv.iter().any(|word| word == "-N") {
        let evidence = "without a control connection (-N) netperf takes what it sent for received";
        draft.flag(Severity::Invalid, "no_control", evidence);
    }
    match keys.contains_key("THROUGHPUT") {
        true => from_keys(&mut draft, test, &keys),
        false => from_table(&mut draft, test, text)?,
    }
    Ok(parsed(&keys, draft.finish()))
}

fn parsed(keys: &Keys<'_>, case: Case) -> Parsed {
    let version = Fact::unavailable("netperf's output does not name its version");
    let mut parsed = Parsed::new(version, vec![case]);
    if let Some(line) = keys.get("COMMAND_LINE") {
        let words = line.trim_matches('"').split_whitespace();
        parsed.argv = words.map(str::to_owned).collect();
    }
    parsed
}

/// What -k printed.
type Keys<'a> = BTreeMap<&'a str, &'a str>;

fn keys(text: &str) -> Keys<'_> {
    let is_key = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
    };
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(key, _)| is_key(key))
        .map(|(key, value)| (key, value.trim()))
        .collect()
}

/// The name of the test: from the banner, else from a command line, which names none for TCP_STREAM.
fn test(text: &str, argv: &[String], keys: &Keys<'_>) -> Option<&'static str> {
    if let Some(banner) = text.lines().find(|line| line.contains(" TEST from ")) {
        let known = TESTS.iter().find(|(title, ..)| banner.contains(title));
        return known.map(|(_, _, test)| *test);
    }
    let printed = keys.get("COMMAND_LINE").map(|line| line.trim_matches('"'));
    let words: Vec<&str> = match printed {
        Some(line) => line.split_whitespace().collect(),
        None => argv.iter().map(String::as_str).collect(),
    };
    let at = words.iter().position(|word| *word == "-t");
    let name = match at {
        Some(at) => words.get(at + 1)?,
        None if words.is_empty() => return None,
        None => "TCP_STREAM",
    };
    let known = TESTS
        .iter()
        .find(|(_, option, _)| option.eq_ignore_ascii_case(name));
    known.map(|(_, _, test)| *test)
}

fn draft(test: &str) -> Draft {
    let definition = match test {
        "tcp_crr" => CRR,
        "tcp_rr" | "udp_rr" => RR,
        _ => STREAM,
    };
    Draft::new(format!("{PEER}/{test}"), definition, NOTHING)
}

/// A rate of bytes, by the unit that netperf names: `10^6bits`, `MBytes`.
fn bandwidth(printed: &str, unit: &str) -> Fact<f64> {
    let bits = |exponent| decimal(printed, exponent).map(|bits| bits / 8.0);
    let bytes = |size: f64| decimal(printed, 0).map(|rate| rate * size);
    let value = match unit {
        "10^0bits" => bits(0),
        "10^3bits" => bits(3),
        "10^6bits" => bits(6),
        "10^9bits" => bits(9),
        "Bytes" => bytes(1.0),
        "KBytes" => bytes(1024.0),
        "MBytes" => bytes(1_048_576.0),
        "GBytes" => bytes(1_073_741_824.0),
        "" => return Fact::unavailable("the output has no THROUGHPUT_UNITS"),
        other => {
            return Fact::unavailable(format!("printed in {other:?}, which is no rate of bytes"));
        }
    };
    positive(value, printed)
}

/// A rate of transactions.
fn transactions(printed: &str, unit: &str) -> Fact<f64> {
    match unit {
        "Trans" => positive(decimal(printed, 0), printed),
        "" => Fact::unavailable("the output has no THROUGHPUT_UNITS"),
        other => Fact::unavailable(format!(
            "netperf was asked for {other} in its place, with -f"
        )),
    }
}

/// The unit in a header: `10^6bits/sec`, or cut and padded as in `MBytes  /s`. A column of sizes may
/// be headed by `Bytes`, which is no rate.
fn unit_of(header: &str) -> Option<&str> {
    header.split_whitespace().find_map(|word| {
        let rate = word
            .strip_suffix("/sec")
            .or_else(|| word.strip_suffix("/s"));
        let unit = rate.unwrap_or(word);
        let is_unit = unit.ends_with("bits") || unit.ends_with("Bytes");
        (is_unit && (rate.is_some() || unit != "Bytes")).then_some(unit)
    })
}

/// The rows of numbers below the header.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let is_number = |cell: &&str| cell.parse::<f64>().is_ok();
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|cells| !cells.is_empty() && cells.iter().all(is_number))
        .collect()
}

/// The tables. With -c or -C more columns follow, on processors.
fn from_table(draft: &mut Draft, test: &str, text: &str) -> Result<(), Fault> {
    let rows = rows(text);
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let missing = || format!("its table has no row; it ends with {:?}", last_line(text));
    let count = |printed: &str| match printed.parse::<u64>() {
        Ok(count) => Fact::Known(count),
        Err(_) => Fact::unavailable(format!("printed as {printed:?}, which is no count")),
    };
    let size = |draft: &mut Draft, name: &str, printed: &str| {
        if let Fact::Known(bytes) = count(printed) {
            draft.param(name, bytes);
        }
    };
    let no_count = || Fact::unavailable("netperf's table has no number of operations");
    let unit = text.lines().find_map(unit_of);
    match (test, row) {
        ("tcp_rr" | "udp_rr" | "tcp_crr", [_, _, request, response, elapsed, rate, ..]) => {
            size(draft, "request_bytes", request);
            size(draft, "response_bytes", response);
            let burst = text
                .lines()
                .find_map(|line| between(line, "first burst ", ""));
            size(draft, "burst", burst.unwrap_or_default());
            draft.measurement.elapsed_s = positive(decimal(elapsed, 0), elapsed);
            let rate = transactions(rate, unit.unwrap_or("Trans"));
            draft.rate("transactions_per_s", rate, no_count()).headline = true;
        }
        ("udp_stream", [_, message, elapsed, sent, failed, rate, ..]) => {
            size(draft, "message_bytes", message);
            draft.measurement.elapsed_s = positive(decimal(elapsed, 0), elapsed);
            let unit = unit.ok_or_else(missing)?;
            let [_, _, received, received_rate, ..] = rows.get(1).ok_or_else(missing)?[..] else {
                return Err(missing());
            };
            let (sent, received) = (count(sent), count(received));
            draft.measurement.work = work(&received, &count(message));
            datagrams(draft, &sent, &received, failed);
            draft
                .bandwidth(
                    "bandwidth_bytes_per_s",
                    bandwidth(received_rate, unit),
                    received,
                )
                .headline = true;
            draft.bandwidth("sender_bandwidth_bytes_per_s", bandwidth(rate, unit), sent);
        }
        ("tcp_stream" | "tcp_maerts", [_, _, message, elapsed, rate, ..]) => {
            size(draft, "message_bytes", message);
            draft.measurement.elapsed_s = positive(decimal(elapsed, 0), elapsed);
            let rate = bandwidth(rate, unit.ok_or_else(missing)?);
            draft
                .bandwidth("bandwidth_bytes_per_s", rate, no_count())
                .headline = true;
            let unknown = Fact::unavailable("netperf's table has the receiver's rate only");
            draft.bandwidth("sender_bandwidth_bytes_per_s", unknown, no_count());
        }
        _ => return Err(missing()),
    }
    Ok(())
}

/// What became of datagrams: netperf counts calls on both sides, and numbers nothing.
fn datagrams(draft: &mut Draft, sent: &Fact<u64>, received: &Fact<u64>, failed: &str) {
    if let (Fact::Known(sent), Fact::Known(received)) = (sent, received) {
        let lost = sent.saturating_sub(*received);
        let ratio = match sent {
            0 => Fact::unavailable("nothing was sent"),
            sent => Fact::Known(lost as f64 / *sent as f64),
        };
        let better = Direction::LowerIsBetter;
        let n = Fact::Known(*sent);
        draft.total(
            "lost_datagrams",
            Unit::Count,
            better,
            Fact::Known(lost as f64),
            n.clone(),
        );
        draft.total("loss_ratio", Unit::Ratio, better, ratio, n);
    }
    if failed.parse::<u64>().is_ok_and(|failed| failed > 0) {
        let evidence = format!("{failed} sends failed");
        draft.flag(Severity::Degraded, "failed_sends", evidence);
    }
}

/// The lines of -k: what was asked for of some two hundred keys.
fn from_keys(draft: &mut Draft, test: &str, keys: &Keys<'_>) {
    let count = |key: &str| match keys.get(key).map(|printed| (printed, printed.parse())) {
        Some((_, Ok(count))) => Fact::<u64>::Known(count),
        Some((printed, Err(_))) => {
            Fact::unavailable(format!("{key} is {printed}, which is no count"))
        }
        None => Fact::unavailable(format!("the output has no {key}")),
    };
    let parameters: &[(&str, &str)] = match test {
        "tcp_maerts" => &[("REMOTE_SEND_SIZE", "message_bytes")],
        "tcp_stream" | "udp_stream" => &[("LOCAL_SEND_SIZE", "message_bytes")],
        _ => &[
            ("REQUEST_SIZE", "request_bytes"),
            ("RESPONSE_SIZE", "response_bytes"),
            ("BURST_SIZE", "burst"),
        ],
    };
    for &(key, name) in parameters {
        if let Fact::Known(value) = count(key) {
            draft.param(name, value);
        }
    }
    let facts = [
        ("LOCAL_CONG_CONTROL", "local_congestion_control"),
        ("REMOTE_CONG_CONTROL", "remote_congestion_control"),
        ("LOCAL_NODELAY", "local_nodelay"),
        ("TRANSPORT_MSS", "mss_bytes"),
    ];
    for (key, name) in facts {
        if let Some(&value) = keys.get(key) {
            draft.fact(name, value.trim_matches('"'));
        }
    }
    let missing = |key: &str| Fact::unavailable(format!("the output has no {key}"));
    draft.measurement.elapsed_s = match keys.get("ELAPSED_TIME") {
        Some(printed) => positive(decimal(printed, 0), printed),
        None => missing("ELAPSED_TIME"),
    };
    let unit = keys.get("THROUGHPUT_UNITS").copied().unwrap_or_default();
    let unit = unit.trim_end_matches("/s");
    let rate = keys.get("THROUGHPUT").copied().unwrap_or_default();
    if test.ends_with("rr") {
        round_trips(draft, test, keys, transactions(rate, unit), &count);
        return;
    }
    let (receiver, sender) = match test {
        "tcp_maerts" => ("LOCAL_RECV", "REMOTE_SEND"),
        _ => ("REMOTE_RECV", "LOCAL_SEND"),
    };
    let calls = |side: &str| count(&format!("{side}_CALLS"));
    let (received, sent) = (calls(receiver), calls(sender));
    let bytes = match test {
        "tcp_maerts" => count("LOCAL_BYTES_RECVD"),
        _ => count("REMOTE_BYTES_RECVD"),
    };
    draft.measurement.work = match (&received, bytes) {
        (Fact::Known(ops), Fact::Known(bytes)) => Fact::Known(Work { ops: *ops, bytes }),
        _ => Fact::unavailable("the output has no calls and bytes of the receiver"),
    };
    let goodput = bandwidth(rate, unit);
    draft
        .bandwidth("bandwidth_bytes_per_s", goodput, received.clone())
        .headline = true;
    let key = format!("{sender}_THROUGHPUT");
    let handed = keys
        .get(key.as_str())
        .map_or_else(|| missing(&key), |rate| bandwidth(rate, unit));
    draft.bandwidth("sender_bandwidth_bytes_per_s", handed, sent.clone());
    if test == "udp_stream" {
        datagrams(draft, &sent, &received, "0");
    } else if let Fact::Known(again) = count("LOCAL_TRANSPORT_RETRANS") {
        let (better, again) = (Direction::LowerIsBetter, Fact::Known(again as f64));
        draft.total("retransmitted_segments", Unit::Count, better, again, sent);
    }
}

fn round_trips(
    draft: &mut Draft,
    test: &str,
    keys: &Keys<'_>,
    rate: Fact<f64>,
    count: &dyn Fn(&str) -> Fact<u64>,
) {
    let (bytes, response) = (count("LOCAL_BYTES_RECVD"), count("RESPONSE_SIZE"));
    let n = match (bytes.known(), response.known()) {
        (Some(bytes), Some(size @ 1..)) => Fact::Known(bytes / size),
        _ => Fact::unavailable("the output has no LOCAL_BYTES_RECVD and RESPONSE_SIZE"),
    };
    let size = match (count("REQUEST_SIZE"), response) {
        (Fact::Known(request), Fact::Known(response)) => {
            Fact::Known(request.saturating_add(response))
        }
        _ => Fact::unavailable("the output has no REQUEST_SIZE and RESPONSE_SIZE"),
    };
    draft.measurement.work = work(&n, &size);
    let family = Family::of_transactions(test, PEER, n.clone());
    let latencies = [
        ("MIN_LATENCY", Aggregation::Min),
        ("MAX_LATENCY", Aggregation::Max),
        ("P50_LATENCY", Aggregation::P50),
        ("P90_LATENCY", Aggregation::P90),
        ("P99_LATENCY", Aggregation::P99),
        ("MEAN_LATENCY", Aggregation::Mean),
        ("STDDEV_LATENCY", Aggregation::Stddev),
    ];
    for (key, how) in latencies {
        if let Some(printed) = keys.get(key) {
            let value = match printed.starts_with("-1") {
                true => Fact::unavailable("netperf prints -1 where it does not measure latencies"),
                false => microseconds(printed),
            };
            draft.latency(&family, how, value);
        }
    }
    draft.rate("transactions_per_s", rate, n).headline = true;
}
