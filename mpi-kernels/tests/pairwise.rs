//! Kernels of pairs of ranks, two-sided and one-sided, under a real `mpirun`: every choice of each,
//! numbers that agree with each other, and checks that find a single damaged bit.

mod common;

use common::{report, run, stderr, stdout};
use mpi_kernels::kernels::{self, Row};
use reports::model::{Aggregation, Case, Measurement, OBSERVED, Outcome, Report};
use serde_json::json;

fn words(args: &str) -> Vec<&str> {
    args.split(' ').collect()
}

fn measure(ranks: usize, args: &str) -> Report {
    let output = run(ranks, &words(args));
    assert_eq!(output.status.code(), Some(0), "{args}: {}", stderr(&output));
    report(&output)
}

fn measured(case: &Case) -> &Measurement {
    match &case.outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("{} was not measured: {other:?}", case.key()),
    }
}

fn param(case: &Case, name: &str) -> u64 {
    case.benchmark.params[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {}", case.key()))
}

/// A metric of ours, or of a peer.
fn value(measurement: &Measurement, name: &str, by: Aggregation, peer: Option<&str>) -> f64 {
    let mut metrics = measurement.metrics.iter();
    let metric = metrics
        .find(|m| m.name == name && m.aggregation == by && m.compat.as_deref() == peer)
        .unwrap_or_else(|| panic!("no {name} {by} of {peer:?}"));
    *metric.value.known().expect("it is known")
}

fn near(found: f64, expected: f64) {
    let ratio = found / expected;
    assert!((0.999..1.001).contains(&ratio), "{found}, not {expected}");
}

/// What "12 messages compared" begins with.
fn checks(measurement: &Measurement) -> u64 {
    let number = measurement.verified.split(' ').next();
    number.and_then(|n| n.parse().ok()).expect("a number")
}

/// The one-sided kernels, and whether each has sizes.
fn one_sided() -> impl Iterator<Item = &'static Row> {
    let is_one = |row: &&Row| row.choices.iter().any(|choice| choice.name() == "epoch");
    kernels::all().filter(is_one)
}

fn has_types(row: &Row) -> bool {
    row.choices.iter().any(|choice| choice.name() == "type")
}

/// A small run: `sizes` where the kernel has any, and two messages a window.
fn small(row: &Row, sizes: &str, rest: &str) -> String {
    let sizes = row.sizes.map_or(String::new(), |_| format!(" -m {sizes}"));
    let window = row.window.map_or("", |_| " -W 2");
    format!("{}{sizes}{window} -i 5 -x 1 --json{rest}", row.name)
}

#[test]
fn every_call_of_a_ping_pong_is_measured_from_zero_bytes() {
    for (ranks, kernel) in [
        (2, "latency"),
        (3, "latency"),
        (2, "multi_lat"),
        (4, "multi_lat"),
    ] {
        let args = "-m 0:16K -i 20:10 -x 2 --calls blocking,nonblocking,persistent --json";
        let report = measure(ranks, &format!("{kernel} {args}"));
        assert_eq!(report.cases.len(), 3 * 16);
        for case in &report.cases {
            let measurement = measured(case);
            let pairs = if kernel == "latency" {
                1
            } else {
                ranks as u64 / 2
            };
            let work = measurement.work.known().expect("it is known");
            assert_eq!(work.ops, param(case, "iterations") * pairs);
            assert_eq!(work.bytes, work.ops * 2 * param(case, "size_bytes"));
            // Two rounds before and two after, a message and its length each, and the last timed
            // one, on both ranks of a pair.
            assert!(checks(measurement) >= 10 * pairs);
            let osu = value(measurement, "latency_ns", Aggregation::Mean, Some("OSU"));
            let ours = value(measurement, "latency_ns", Aggregation::Mean, None);
            assert!(
                osu < ours * 1.01 + 1.0,
                "a mean of pairs, not of the slowest"
            );
        }
    }
}

#[test]
fn the_rates_of_windows_are_messages_times_size() {
    for (ranks, kernel, ways) in [(2, "bw", 1), (3, "bw", 1), (2, "bibw", 2), (3, "bibw", 2)] {
        let args = "-m 1K:64K -i 10:5 -x 1 -W 7 --calls nonblocking,persistent --json";
        let report = measure(ranks, &format!("{kernel} {args}"));
        assert_eq!(report.cases.len(), 2 * 7);
        for case in &report.cases {
            let (measurement, size) = (measured(case), param(case, "size_bytes"));
            let messages = ways * param(case, "iterations") * 7;
            let work = measurement.work.known().expect("it is known");
            assert_eq!((work.ops, work.bytes), (messages, messages * size));
            let elapsed_s = *measurement.elapsed_s.known().expect("it is known");
            for peer in [None, Some("OSU")] {
                let rate = |name| value(measurement, name, Aggregation::Total, peer);
                near(rate("messages_per_s"), messages as f64 / elapsed_s);
                near(rate("bandwidth_bytes_per_s"), work.bytes as f64 / elapsed_s);
            }
            let imb = |metric: &reports::model::Metric| metric.compat.as_deref() == Some("IMB");
            assert!(!measurement.metrics.iter().any(imb), "IMB's window is 256");
            assert!(checks(measurement) >= 4 * 7 * ways);
        }
    }
}

#[test]
fn all_pairs_are_counted_and_the_slowest_is_named() {
    for ranks in [2, 4] {
        let args = "mbw_mr -m 4K:4K -W 256 -i 10 -x 1 --calls nonblocking,persistent --json";
        for case in &measure(ranks, args).cases {
            let measurement = measured(case);
            let pairs = ranks as u64 / 2;
            let work = measurement.work.known().expect("it is known");
            assert_eq!(work.ops, 10 * 256 * pairs);
            let bandwidth = |by, peer| value(measurement, "bandwidth_bytes_per_s", by, peer);
            let ours = bandwidth(Aggregation::Total, None);
            let osu = bandwidth(Aggregation::Total, Some("OSU"));
            let imb = bandwidth(Aggregation::Total, Some("IMB"));
            assert!(
                ours <= imb * 1.001 && imb <= osu * 1.001,
                "{ours} {imb} {osu}"
            );
            let name = "pair_bandwidth_bytes_per_s";
            let slowest = value(measurement, name, Aggregation::Min, None);
            near(imb, slowest * pairs as f64);
            let observed = &measurement.facts[OBSERVED];
            assert_eq!(
                observed["pairs"].as_array().map(Vec::len),
                Some(pairs as usize)
            );
            let text = observed["slowest_pair"].as_str().expect("a text");
            let half = ranks / 2;
            let named =
                |first: usize| text.starts_with(&format!("ranks {first} > {}", first + half));
            assert!((0..half).any(named), "{text}");
        }
    }
}

#[test]
fn the_ranks_and_hosts_of_pairs_are_facts() {
    let report = measure(4, "multi_lat -m 8:8 -i 5 -x 1 --json");
    let host = &report.hosts[0].name;
    let facts = &measured(&report.cases[0]).facts;
    let expected = json!({ format!("{host} > {host}"): "0-1 > 2-3" });
    assert_eq!(facts["pairs_on_hosts"], expected);
}

#[test]
fn an_odd_rank_without_a_peer_is_refused_once() {
    for kernel in ["mbw_mr", "multi_lat"] {
        let output = run(3, &[kernel, "--json"]);
        assert_eq!(output.status.code(), Some(2), "{kernel}");
        let message = format!("{kernel} needs an even number of ranks, there are 3");
        assert_eq!(stderr(&output).matches(&message).count(), 1);
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn one_sided_kernels_run_with_every_epoch_and_memory() {
    for row in one_sided() {
        let epochs = " --epoch flush,lock,pscw,fence --window-memory create,dynamic";
        // Open MPI 4.1 crashes with a compare-and-swap on allocated memory within a node.
        let allocate = if row.name == "cas_latency" {
            ""
        } else {
            ",allocate"
        };
        let report = measure(2, &small(row, "8:8", &format!("{epochs}{allocate}")));
        assert_eq!(report.cases.len(), if allocate.is_empty() { 8 } else { 12 });
        for case in &report.cases {
            let measurement = measured(case);
            let window = if row.window.is_some() { 2 } else { 1 };
            let work = measurement.work.known().expect("it is known");
            assert_eq!(work.ops, 5 * window, "{}", case.key());
            assert!(checks(measurement) >= 3 * window, "{}", case.key());
            assert_eq!(measurement.histograms[0].count, 5);
            if row.window.is_some() && row.sizes.is_some() {
                let rate = |name| value(measurement, name, Aggregation::Total, None);
                near(rate("bandwidth_bytes_per_s"), 8.0 * rate("messages_per_s"));
            }
        }
    }
}

#[test]
fn one_sided_sums_are_exact_in_every_type_while_a_third_rank_waits() {
    for row in one_sided().filter(|row| has_types(row)) {
        let types = match row.name {
            "cas_latency" => "i32,i64",
            "fop_latency" | "fop_rate" => "i32,i64,f32,f64",
            _ => "u8,i32,i64,f32,f64",
        };
        let report = measure(3, &small(row, "8:4K", &format!(" --type {types}")));
        let sizes = if row.sizes.is_some() { 10 } else { 1 };
        assert_eq!(report.cases.len(), sizes * types.split(',').count());
        for case in &report.cases {
            measured(case);
        }
    }
}

#[test]
fn sums_that_began_anew_are_still_exact() {
    // They do after some 16 thousand epochs.
    let report = measure(2, "fop_latency --type f32 -i 20000 -x 0 --json");
    measured(&report.cases[0]);
}

#[test]
fn one_damaged_bit_is_found_by_every_kernel() {
    let two_sided = ["latency", "bw", "bibw", "mbw_mr", "multi_lat"];
    let two_sided = two_sided.map(|name| kernels::find(name).expect(name));
    for row in two_sided.into_iter().chain(one_sided()) {
        let output = run(2, &words(&small(row, "8:4K", " --spoil")));
        assert_eq!(output.status.code(), Some(1), "{}", row.name);
        for case in &report(&output).cases {
            let Outcome::Failed { error } = &case.outcome else {
                panic!("{} passed with a damaged byte", case.key());
            };
            let named = error.contains("is damaged: byte") || error.contains("has the bytes");
            assert!(named, "{}: {error}", row.name);
        }
    }
}

#[test]
fn what_pairs_do_not_take_is_refused_before_anything_starts() {
    for (args, expected) in [
        ("bibw -m 0:8", "at least 1 bytes"),
        ("latency -m 2G", "too large"),
        ("put_bw -m 2G", "too large"),
        ("put_latency -m 0:8", "at least 1 bytes"),
        ("acc_latency -m 4:8 --type f64", "at least 8 bytes"),
        ("acc_latency -m 12:24 --type f64", "not a multiple of 8"),
        ("acc_latency --type u16", "invalid value 'u16'"),
        ("cas_latency --type f64", "invalid value 'f64'"),
        ("fop_latency -m 8", "unexpected argument"),
        (
            "put_latency --epoch fences",
            "a similar value exists: 'fence'",
        ),
        ("put_latency --calls blocking", "unexpected argument"),
        ("bw --calls blocking", "invalid value 'blocking'"),
    ] {
        let output = run(2, &words(args));
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert_eq!(
            stderr(&output).matches(expected).count(),
            1,
            "{args}: {}",
            stderr(&output)
        );
    }
}
