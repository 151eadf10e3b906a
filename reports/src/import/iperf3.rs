//! iperf3's JSON (`-J`).
//!
//! The receiver's bytes are the result: what a sender hands to its kernel may still be in a queue
//! or lost. That is also how our tcp_stream counts.

use super::draft::Draft;
use super::json::{count, fault, find, list, number, positive, text};
use super::{Fault, Parsed};
use crate::model::{Case, Direction, Fact, Interval, Severity, Unit, Work};
use serde_json::Value;

const TCP: &str = "iperf3's TCP test. bandwidth_bytes_per_s is the receiver's: payload bytes that \
    it read over the length of its window, omitted seconds excluded; with --bidir the sum of both \
    directions. sender_bandwidth_bytes_per_s counts what the sender handed to its kernel. An \
    operation is a block of blksize bytes. CPU ratios are CPU time over the length of the test, 1 \
    is one CPU.";
const UDP: &str = "iperf3's UDP test. bandwidth_bytes_per_s is the receiver's: payload bytes that \
    arrived over the length of its window, omitted seconds excluded; with --bidir the sum of both \
    directions. sender_bandwidth_bytes_per_s counts what was sent. loss_ratio is lost over sent \
    datagrams as the receiver counts them by sequence numbers, jitter_ns RFC 1889's. An operation \
    is a datagram. CPU ratios are CPU time over the length of the test, 1 is one CPU.";
const NOTHING: &str = "nothing: iperf3 does not look at the bytes it receives";

/// The numbers of `test_start` that shape the work, and their names in a report.
const PARAMETERS: [(&str, &str); 9] = [
    ("num_streams", "streams"),
    ("blksize", "blksize_bytes"),
    ("omit", "omit_s"),
    ("duration", "duration_s"),
    ("bytes", "bytes"),
    ("blocks", "blocks"),
    ("tos", "tos"),
    ("target_bitrate", "target_bits_per_s"),
    ("fqrate", "fq_rate_bits_per_s"),
];

pub(super) fn parse(text_of_iperf3: &str) -> Result<Parsed, Fault> {
    let start = text_of_iperf3
        .find('{')
        .ok_or("there is no JSON in it: iperf3 writes it with -J")?;
    let mut documents = serde_json::Deserializer::from_str(&text_of_iperf3[start..]).into_iter();
    let document: Value = match documents.next() {
        Some(Ok(document)) => document,
        Some(Err(error)) => return Err(fault(&error)),
        None => return Err("there is no JSON in it".to_owned()),
    };
    if find(&document, &["start", "version"]).is_none() && document.get("error").is_none() {
        return Err("its JSON has neither start.version nor error".to_owned());
    }
    let version = match text(&document, &["start", "version"]) {
        Some(version) => Fact::Known(version.trim_start_matches("iperf").trim().to_owned()),
        None => Fact::unavailable("the output has no start.version"),
    };
    let mut parsed = Parsed::new(version, vec![case(&document)]);
    let system = text(&document, &["start", "system_info"]).unwrap_or_default();
    // As uname prints it: the system, then the name of the machine.
    parsed.host = system.split_whitespace().nth(1).map(str::to_owned);
    parsed.started_s = number(&document, &["start", "timestamp", "timesecs"])
        .known()
        .copied();
    let length = positive(&document, &["end", "sum_sent", "seconds"]);
    parsed.ended_s = parsed
        .started_s
        .zip(length.known())
        .map(|(start, length)| start + length);
    Ok(parsed)
}

fn case(document: &Value) -> Case {
    let setup = &document["start"]["test_start"];
    let protocol = text(setup, &["protocol"])
        .unwrap_or("unknown")
        .to_lowercase();
    let udp = protocol == "udp";
    let definition = if udp { UDP } else { TCP };
    let mut draft = Draft::new(format!("iperf3/{protocol}"), definition, NOTHING);
    for (key, name) in PARAMETERS {
        if let Some(value) = setup.get(key).filter(|value| value.is_number()) {
            draft.param(name, value.clone());
        }
    }
    let yes = |key: &str| {
        setup
            .get(key)
            .and_then(Value::as_u64)
            .is_some_and(|v| v != 0)
    };
    // iperf3 before 3.17 names --bidir nowhere; its sums do.
    let both = yes("bidir") || document["end"].get("sum_sent_bidir_reverse").is_some();
    let way = match (both, yes("reverse")) {
        (true, _) => "bidirectional",
        (false, true) => "reverse",
        (false, false) => "forward",
    };
    if !setup.is_null() {
        draft.param("direction", way);
    }
    for key in [
        "sndbuf_actual",
        "rcvbuf_actual",
        "sock_bufsize",
        "tcp_mss_default",
        "tcp_mss",
    ] {
        if let Some(value) = document["start"].get(key) {
            draft.fact(key, value.clone());
        }
    }
    for key in ["sender_tcp_congestion", "receiver_tcp_congestion"] {
        if let Some(name) = text(document, &["end", key]) {
            draft.fact(key, name);
        }
    }
    if let Some(error) = text(document, &["error"]) {
        return draft.failed(format!("iperf3 reports: {error}")).finish();
    }
    measure(&mut draft, document, udp, both, way == "reverse");
    draft.finish()
}

/// One direction: the keys of its sums, and the prefix of its metrics.
struct Way<'a> {
    sent: &'a Value,
    received: &'a Value,
    prefix: &'static str,
}

fn measure(draft: &mut Draft, document: &Value, udp: bool, both: bool, reverse: bool) {
    let end = &document["end"];
    let way = |sent: &str, received: &str, prefix| Way {
        sent: &end[sent],
        received: &end[received],
        prefix,
    };
    let ways = if both {
        vec![
            way("sum_sent", "sum_received", "forward_"),
            way(
                "sum_sent_bidir_reverse",
                "sum_received_bidir_reverse",
                "reverse_",
            ),
        ]
    } else {
        vec![way("sum_sent", "sum_received", "")]
    };
    let goodputs = ways.iter().map(|way| rate(way.received));
    let sum = goodputs.reduce(|sum, next| match (sum, next) {
        (Fact::Known(sum), Fact::Known(next)) => Fact::Known(sum + next),
        (Fact::Known(_), missing) | (missing, _) => missing,
    });
    let sum = sum.unwrap_or_else(|| Fact::unavailable("there is no direction"));
    let block = count(document, &["start", "test_start", "blksize"]);
    let done = ways
        .iter()
        .map(|way| received_work(way.received, udp, &block))
        .reduce(|sum, next| match (sum, next) {
            (Fact::Known(sum), Fact::Known(next)) => Fact::Known(Work {
                ops: sum.ops.saturating_add(next.ops),
                bytes: sum.bytes.saturating_add(next.bytes),
            }),
            (Fact::Known(_), missing) | (missing, _) => missing,
        })
        .unwrap_or_else(|| Fact::unavailable("there is no direction"));
    let ops = done.clone().map(|work| work.ops);
    draft.bandwidth("bandwidth_bytes_per_s", sum, ops).headline = true;
    draft.measurement.work = done;
    draft.measurement.elapsed_s = positive(end, &["sum_received", "seconds"]);
    for way in &ways {
        direction(draft, way, udp, &block);
    }
    round_trips(draft, end);
    processors(draft, end, both, reverse);
    intervals(draft, document, udp, &block);
}

fn rate(sum: &Value) -> Fact<f64> {
    positive(sum, &["bits_per_second"]).map(|bits| bits / 8.0)
}

/// What arrived: whole blocks of a stream, or datagrams.
fn received_work(received: &Value, udp: bool, block: &Fact<u64>) -> Fact<Work> {
    let bytes = match count(received, &["bytes"]) {
        Fact::Known(bytes) => bytes,
        Fact::Unavailable { unavailable } => return Fact::unavailable(unavailable),
    };
    if udp {
        let sent = count(received, &["packets"]);
        let lost = count(received, &["lost_packets"]);
        return match (sent.known(), lost.known()) {
            (Some(sent), Some(lost)) => {
                let ops = sent.saturating_sub(*lost);
                Fact::Known(Work { ops, bytes })
            }
            _ => Fact::unavailable("the output has no packets and lost_packets of the receiver"),
        };
    }
    match block.known() {
        Some(&size) if size > 0 => Fact::Known(Work {
            ops: bytes / size,
            bytes,
        }),
        _ => Fact::unavailable("the output has no blksize to count blocks by"),
    }
}

fn direction(draft: &mut Draft, way: &Way<'_>, udp: bool, block: &Fact<u64>) {
    let named = |name: &str| format!("{}{name}", way.prefix);
    let ops = received_work(way.received, udp, block).map(|work| work.ops);
    if !way.prefix.is_empty() {
        draft.bandwidth(
            &named("bandwidth_bytes_per_s"),
            rate(way.received),
            ops.clone(),
        );
    }
    let sent = match received_work(way.sent, udp, block) {
        Fact::Known(work) => Fact::Known(work.ops),
        Fact::Unavailable { unavailable } => Fact::unavailable(unavailable),
    };
    draft.bandwidth(
        &named("sender_bandwidth_bytes_per_s"),
        rate(way.sent),
        sent.clone(),
    );
    let worse = Direction::LowerIsBetter;
    if way.sent.get("retransmits").is_some() {
        let value = positive(way.sent, &["retransmits"]);
        draft.total(
            &named("retransmitted_segments"),
            Unit::Count,
            worse,
            value,
            sent.clone(),
        );
    }
    if !udp {
        return;
    }
    let (lost, packets) = (
        positive(way.received, &["lost_packets"]),
        positive(way.received, &["packets"]),
    );
    let ratio = match (lost.known(), packets.known()) {
        (Some(lost), Some(packets)) if *packets > 0.0 => Fact::Known(lost / packets),
        (Some(_), Some(_)) => Fact::unavailable("no datagram was sent"),
        _ => Fact::unavailable("the output has no packets and lost_packets of the receiver"),
    };
    let n = count(way.received, &["packets"]);
    draft.total(
        &named("lost_datagrams"),
        Unit::Count,
        worse,
        lost,
        n.clone(),
    );
    draft
        .total(&named("loss_ratio"), Unit::Ratio, worse, ratio, n.clone())
        .headline = true;
    let jitter = positive(way.received, &["jitter_ms"]).map(|ms| ms * 1e6);
    draft.total(&named("jitter_ns"), Unit::Nanoseconds, worse, jitter, n);
}

/// The kernel's smoothed round-trip time, over all streams; only a single stream's mean is a mean.
fn round_trips(draft: &mut Draft, end: &Value) {
    use crate::model::{Aggregation, Metric};
    let streams = list(end, &["streams"]);
    let of = |key: &str| -> Vec<f64> {
        let times = streams
            .iter()
            .map(|stream| positive(stream, &["sender", key]));
        // The sender of the other host is not seen and printed as 0.
        times
            .filter_map(|time| time.known().copied())
            .filter(|&time| time > 0.0)
            .collect()
    };
    let (min, max, mean) = (of("min_rtt"), of("max_rtt"), of("mean_rtt"));
    let mut add = |how, microseconds: f64| {
        let value = microseconds * 1e3;
        let n = Fact::unavailable("iperf3 does not say how often it looked");
        let (unit, better) = (Unit::Nanoseconds, Direction::LowerIsBetter);
        draft.metric(Metric::new(
            "tcp_smoothed_rtt_ns",
            how,
            unit,
            better,
            value,
            n,
        ));
    };
    if let Some(min) = min.into_iter().reduce(f64::min) {
        add(Aggregation::Min, min);
    }
    if let Some(max) = max.into_iter().reduce(f64::max) {
        add(Aggregation::Max, max);
    }
    if let [mean] = mean.as_slice() {
        add(Aggregation::Mean, *mean);
    }
}

fn processors(draft: &mut Draft, end: &Value, both: bool, reverse: bool) {
    let (host, remote) = match (both, reverse) {
        (true, _) => ("client", "server"),
        (false, true) => ("receiver", "sender"),
        (false, false) => ("sender", "receiver"),
    };
    for (name, key) in [(host, "host_total"), (remote, "remote_total")] {
        let share = positive(end, &["cpu_utilization_percent", key]).map(|percent| percent / 100.0);
        let name = format!("{name}_cpu_ratio");
        draft.total(
            &name,
            Unit::Ratio,
            Direction::LowerIsBetter,
            share,
            Fact::Known(1),
        );
    }
}

/// The slices that count; a slice of both directions has the bytes of both.
fn intervals(draft: &mut Draft, document: &Value, udp: bool, block: &Fact<u64>) {
    let slices = list(document, &["intervals"]);
    let mut left_out = 0;
    for slice in slices {
        let sum = &slice["sum"];
        if sum.get("omitted").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let (t0, t1) = (positive(sum, &["start"]), positive(sum, &["end"]));
        let parts = [Some(sum), slice.get("sum_bidir_reverse")];
        let work: Option<Vec<Work>> = parts
            .into_iter()
            .flatten()
            .map(|part| slice_work(part, udp, block).known().copied())
            .collect();
        let (Some(&t0_s), Some(&t1_s), Some(work)) = (t0.known(), t1.known(), work) else {
            left_out += 1;
            continue;
        };
        if t1_s < t0_s {
            left_out += 1;
            continue;
        }
        let work = work.into_iter().fold(Work::default(), |sum, next| Work {
            ops: sum.ops.saturating_add(next.ops),
            bytes: sum.bytes.saturating_add(next.bytes),
        });
        let (p50_ns, p99_ns, max_ns) = (None, None, None);
        draft.measurement.intervals.push(Interval {
            t0_s,
            t1_s,
            work,
            p50_ns,
            p99_ns,
            max_ns,
            hdr_v2_base64: None,
            flags: Vec::new(),
        });
    }
    if left_out > 0 {
        let evidence = format!(
            "{left_out} of {} slices lack their times or bytes",
            slices.len()
        );
        draft.flag(Severity::Degraded, "intervals_left_out", evidence);
    }
}

fn slice_work(part: &Value, udp: bool, block: &Fact<u64>) -> Fact<Work> {
    if udp
        && let (Some(&ops), Some(&bytes)) = (
            count(part, &["packets"]).known(),
            count(part, &["bytes"]).known(),
        )
    {
        return Fact::Known(Work { ops, bytes });
    }
    received_work(part, udp, block)
}
