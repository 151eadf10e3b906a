//! What iperf3 and sockperf measured.

use super::{folder, imported, measured, param, reason, value, values};
use reports::import::{self, Context, Format};
use reports::model::Fact;
use std::fs;

#[test]
fn iperf3_counts_what_arrived() {
    let report = imported("iperf3-tcp.json");
    assert_eq!(report.program.version, Fact::Known("3.12".to_owned()));
    assert_eq!(report.run.started, "2026-11-23T11:34:56.000Z");
    let case = &report.cases[0];
    assert_eq!(case.benchmark.id, "iperf3/tcp");
    values(
        case,
        &[
            ("bandwidth_bytes_per_s", 5_534_049_780.195_452 / 8.0),
            ("sender_bandwidth_bytes_per_s", 5_624_256_374.184_808 / 8.0),
            ("retransmitted_segments", 1.0),
            ("tcp_smoothed_rtt_ns mean", 331_000.0),
            ("tcp_smoothed_rtt_ns min", 218_000.0),
            ("sender_cpu_ratio", 20.169672980498657 / 100.0),
        ],
    );
    let measurement = measured(case);
    assert_eq!(
        measurement.work.known().expect("known").bytes,
        1_399_848_960
    );
    assert_eq!(measurement.elapsed_s, Fact::Known(2.023616));
    let bytes: Vec<u64> = measurement
        .intervals
        .iter()
        .map(|slice| slice.work.bytes)
        .collect();
    assert_eq!(bytes, [486_146_048, 920_125_440]);

    let reverse = imported("iperf3-reverse-two.json");
    assert_eq!(param(&reverse.cases[0], "direction"), "reverse");
    assert_eq!(
        measured(&reverse.cases[0]).intervals.len(),
        2,
        "the omitted second is left out"
    );
    let both = imported("iperf3-bidir.json");
    let sum = (2_482_352_718.226_711 + 2_342_713_889.033_28) / 8.0;
    assert!((value(&both.cases[0], "bandwidth_bytes_per_s") - sum).abs() < 1e-3);
    assert_eq!(value(&both.cases[0], "reverse_retransmitted_segments"), 2.0);
}

#[test]
fn iperf3_datagrams_that_were_lost_do_not_count() {
    let case = &imported("iperf3-udp.json").cases[0];
    assert_eq!(case.benchmark.id, "iperf3/udp");
    values(
        case,
        &[
            ("bandwidth_bytes_per_s", 89_647_492.991_236_1 / 8.0),
            ("lost_datagrams", 1773.0),
            ("loss_ratio", 1773.0 / 17810.0),
            ("jitter_ns", 0.013832062810141469 * 1e6),
        ],
    );
    let work = measured(case).work.known().copied().expect("known");
    assert_eq!((work.ops, work.bytes), (17810 - 1773, 22_451_800));
}

#[test]
fn sockperf_halves_round_trips() {
    let report = imported("sockperf-ping-pong.txt");
    assert_eq!(report.program.version, Fact::Known("3.7-no.git".to_owned()));
    let case = &report.cases[0];
    assert_eq!(
        (case.benchmark.id.as_str(), param(case, "protocol")),
        ("sockperf/latency", "tcp".into())
    );
    values(
        case,
        &[
            ("half_round_trip_ns mean (sockperf)", 12_482.0),
            ("half_round_trip_ns stddev (sockperf)", 79_605.0),
            ("half_round_trip_ns p50 (sockperf)", 10_739.0),
            ("half_round_trip_ns p99.99 (sockperf)", 4_014_458.0),
            ("half_round_trip_ns min (sockperf)", 7_924.0),
            ("half_round_trip_ns max (sockperf)", 6_280_901.0),
            ("dropped_messages", 0.0),
        ],
    );
    assert!(
        reason(case, "half_round_trip_ns p99.999 (sockperf)").contains("it takes 100000 samples")
    );
    assert_eq!(measured(case).elapsed_s, Fact::Known(0.55));
    assert!(
        measured(case).work.reason().is_some(),
        "the size of messages is not printed"
    );

    let full = imported("sockperf-full-rtt.txt");
    assert_eq!(
        value(&full.cases[0], "round_trip_ns mean (sockperf)"),
        53_834.0
    );
    let throughput = &imported("sockperf-throughput.txt").cases[0];
    assert_eq!(value(throughput, "messages_per_s"), 117_804.0);
    assert_eq!(
        value(throughput, "sender_bandwidth_bytes_per_s"),
        157.285 * 1_048_576.0
    );
    assert_eq!(
        measured(throughput).work.known().expect("known").bytes,
        117_862 * 1400
    );
}

#[test]
fn the_command_line_says_what_sockperf_does_not() {
    let text = fs::read_to_string(folder().join("sockperf-under-load.txt")).expect("there");
    let argv = ["sockperf", "under-load", "-m", "64", "--mps=5000"];
    let context = Context {
        argv: argv.map(str::to_owned).to_vec(),
        started: Some("2026-11-23T11:35:06.000Z".to_owned()),
        ended: Some("2026-11-23T11:35:08.000Z".to_owned()),
        ..Context::default()
    };
    let report = import::import(&text, Some(Format::Sockperf), &context).expect("it imports");
    let case = &report.cases[0];
    assert_eq!(case.benchmark.id, "sockperf/under-load");
    assert_eq!(param(case, "message_bytes"), "64");
    assert_eq!(measured(case).work.known().expect("known").bytes, 262 * 64);
    assert_eq!(
        (report.run.argv.len(), report.run.started.as_str()),
        (5, "2026-11-23T11:35:06.000Z")
    );
}
