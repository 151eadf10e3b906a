//! neper's key=value lines: tcp_stream, udp_stream, tcp_rr, udp_rr, tcp_crr.
//!
//! neper prints all its options before it begins, which tell the tests apart, and what it measured
//! after. Either side's output can be imported; the client's is the usual one. The two sides tell
//! each other nothing but one whole number at the end: the rate that each saw.

use super::draft::{Draft, Family, percentile};
use super::text::{decimal, last_line, positive};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Case, Fact, Work};
use std::collections::BTreeMap;

const PEER: &str = "neper";
const STREAM: &str = "neper's stream tests. bandwidth_bytes_per_s is the receiver's: bytes that it \
    read between the first and the last of its samples over the time between them, told in whole \
    bits per second; where both sides read, the sum of both directions. Nothing counts what was \
    sent.";
const RR: &str = "neper's request-response tests. round_trip_ns runs from before the client sends a \
    request to after it has received the whole response, over all flows; percentiles are the upper \
    ends of the bins that hold them. transactions_per_s are those of the client between the first \
    and the last of its samples, over the time between them.";
const CRR: &str = "neper's tcp_crr. transaction_ns runs from the end of one response to the end of \
    the next: the client resets the connection, connects anew, sends a request and receives the \
    response; percentiles are the upper ends of the bins that hold them. transactions_per_s are \
    those of the client between the first and the last of its samples, over the time between them.";
const NOTHING: &str = "nothing: neper does not look at the bytes it receives";

/// The options that shape the work, and their names in a report.
const PARAMETERS: [(&str, &str); 14] = [
    ("num_flows", "flows"),
    ("num_threads", "threads"),
    ("num_clients", "clients"),
    ("request_size", "request_bytes"),
    ("response_size", "response_bytes"),
    ("buffer_size", "buffer_bytes"),
    ("test_length", "duration_s"),
    ("delay", "delay_ns"),
    ("noburst", "noburst_ns"),
    ("max_pacing_rate", "max_pacing_bytes_per_s"),
    ("zerocopy", "zerocopy"),
    ("rx_zerocopy", "rx_zerocopy"),
    ("skip_rx_copy", "skip_rx_copy"),
    ("no_cork", "no_cork"),
];

/// What was printed, by key. A key that comes twice counts as it was printed last.
struct Lines<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(
            pairs
                .map(|(key, value)| (key.trim(), value.trim()))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn is_set(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    /// A number that cannot be below zero, times 10^`exponent`.
    fn number(&self, key: &str, exponent: i32) -> Fact<f64> {
        match self.get(key) {
            Some(printed) => positive(decimal(printed, exponent), printed),
            None => Fact::unavailable(format!("the output has no {key}")),
        }
    }

    fn count(&self, key: &str) -> Fact<u64> {
        match self.get(key).map(|printed| (printed, printed.parse())) {
            Some((_, Ok(count))) => Fact::Known(count),
            Some((printed, Err(_))) => {
                Fact::unavailable(format!("{key} is {printed:?}, which is no count"))
            }
            None => Fact::unavailable(format!("the output has no {key}")),
        }
    }

    /// Which test it was: each has options of its own.
    fn test(&self) -> Option<&'static str> {
        let has = |key: &str| self.get(key).is_some();
        let tcp = has("tcp_fastopen");
        match (has("request_size"), has("throughput_opt")) {
            (true, false) if !tcp => Some("udp_rr"),
            // Only it has no pauses between transactions.
            (true, false) if !has("delay") => Some("tcp_crr"),
            (true, false) => Some("tcp_rr"),
            (false, true) => Some(if tcp { "tcp_stream" } else { "udp_stream" }),
            _ => None,
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let lines = Lines::of(text);
    let test = lines
        .test()
        .ok_or("it does not begin with the options of a neper test")?;
    if lines.get("local_throughput").is_none() {
        return Err(format!(
            "it has no local_throughput, so the test did not end; it ends with {:?}",
            last_line(text)
        ));
    }
    let version = match lines.get("VERSION") {
        Some(version) => Fact::Known(version.to_owned()),
        None => Fact::unavailable("the output has no VERSION"),
    };
    Ok(Parsed::new(version, vec![case(test, &lines)]))
}

fn case(test: &str, lines: &Lines<'_>) -> Case {
    let stream = test.ends_with("_stream");
    let definition = match test {
        "tcp_crr" => CRR,
        _ if stream => STREAM,
        _ => RR,
    };
    let mut draft = Draft::new(format!("{PEER}/{test}"), definition, NOTHING);
    let client = lines.is_set("client");
    // The client alone knows how long the test is; a server prints its own default.
    let known = |key: &str| client || key != "test_length";
    for (key, name) in PARAMETERS.into_iter().filter(|(key, _)| known(key)) {
        if let Fact::Known(value) = lines.count(key) {
            draft.param(name, value);
        }
    }
    if let Some(length) = lines
        .get("test_length")
        .and_then(|text| text.strip_prefix('-'))
    {
        draft.param("transactions", length);
    }
    for key in [
        "congestion_control",
        "correlation_coefficient",
        "throughput_units",
    ] {
        if let Some(value) = lines.get(key).filter(|value| !value.is_empty()) {
            draft.fact(key, value);
        }
    }
    draft.fact("side", if client { "client" } else { "server" });
    draft.measurement.elapsed_s = elapsed(lines);
    if stream {
        bandwidths(&mut draft, lines, client);
    } else {
        transactions(&mut draft, lines, test);
    }
    draft.finish()
}

/// From the first event to the last sample, where this side took samples.
fn elapsed(lines: &Lines<'_>) -> Fact<f64> {
    let (start, end) = (lines.number("time_start", 0), lines.number("time_end", 0));
    match (start, end) {
        (Fact::Known(start), Fact::Known(end)) if end >= start => Fact::Known(end - start),
        (_, Fact::Unavailable { unavailable }) => Fact::unavailable(unavailable),
        _ => Fact::unavailable("time_start and time_end make no window"),
    }
}

fn bandwidths(draft: &mut Draft, lines: &Lines<'_>, client: bool) {
    let reads = lines.is_set("enable_read") || (!client && lines.get("enable_read").is_none());
    let writes = lines.is_set("enable_write") || (client && lines.get("enable_write").is_none());
    draft.param(
        "direction",
        match (reads, writes) {
            (true, true) => "bidirectional",
            (true, false) if client => "reverse",
            (false, true) if !client => "reverse",
            _ => "forward",
        },
    );
    // Who writes cannot say what arrived; the other side tells it.
    let received: Vec<Fact<f64>> = [(reads, "local_throughput"), (writes, "remote_throughput")]
        .into_iter()
        .filter(|(received, _)| *received)
        .map(|(_, key)| match lines.number(key, 0) {
            Fact::Known(0.0) => Fact::unavailable(format!(
                "{key} is 0, which neper prints where a side has taken no samples"
            )),
            bits => bits.map(|bits| bits / 8.0),
        })
        .collect();
    let sum = received.into_iter().reduce(|sum, next| match (sum, next) {
        (Fact::Known(sum), Fact::Known(next)) => Fact::Known(sum + next),
        (Fact::Known(_), missing) | (missing, _) => missing,
    });
    let sum = sum.unwrap_or_else(|| Fact::unavailable("no side reads"));
    let n = || Fact::unavailable("neper does not print how often it read");
    draft.bandwidth("bandwidth_bytes_per_s", sum, n()).headline = true;
    let sent = Fact::unavailable("neper does not count what it sends");
    draft.bandwidth("sender_bandwidth_bytes_per_s", sent, n());
    draft.measurement.work = Fact::unavailable("neper prints rates only");
}

fn transactions(draft: &mut Draft, lines: &Lines<'_>, test: &str) {
    let n = lines.count("num_transactions");
    // A server has no round trips: what it prints as latencies are zeros.
    if lines.is_set("client") {
        let family = Family::of_transactions(test, PEER, n.clone());
        let totals = [
            ("latency_mean", Aggregation::Mean),
            ("latency_stddev", Aggregation::Stddev),
            ("latency_min", Aggregation::Min),
            ("latency_max", Aggregation::Max),
        ];
        for (key, how) in totals {
            draft.latency(&family, how, lines.number(key, 9));
        }
        for key in lines.0.keys() {
            if let Some(how) = key.strip_prefix("latency_p").and_then(percentile) {
                draft.latency(&family, how, lines.number(key, 9));
            }
        }
    }
    draft
        .rate(
            "transactions_per_s",
            lines.number("throughput", 0),
            n.clone(),
        )
        .headline = true;
    let (request, response) = (lines.count("request_size"), lines.count("response_size"));
    draft.measurement.work = match (n, request, response) {
        (Fact::Known(ops), Fact::Known(request), Fact::Known(response)) => request
            .checked_add(response)
            .and_then(|size| size.checked_mul(ops))
            .map_or_else(
                || Fact::unavailable("the transactions have more bytes than there can be"),
                |bytes| Fact::Known(Work { ops, bytes }),
            ),
        _ => Fact::unavailable("the output has no number of transactions and their sizes"),
    };
}
