//! What iperf3, sockperf, netperf and neper measured.

use super::{flags, folder, imported, measured, param, reason, value, values};
use reports::import::{self, Context, Format};
use reports::model::{Fact, Severity};
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

#[test]
fn netperfs_tables_are_read_in_the_unit_of_their_header() {
    let case = &imported("netperf-tcp_stream.txt").cases[0];
    assert_eq!(case.benchmark.id, "netperf/tcp_stream");
    assert_eq!(param(case, "message_bytes"), "16384");
    values(case, &[("bandwidth_bytes_per_s", 17_476_740_000.0 / 8.0)]);
    assert_eq!(measured(case).elapsed_s, Fact::Known(1.0));
    assert!(reason(case, "sender_bandwidth_bytes_per_s").contains("receiver's rate only"));
    let binary = &imported("netperf-tcp_stream-cpu.txt").cases[0];
    values(binary, &[("bandwidth_bytes_per_s", 891.41 * 1_048_576.0)]);

    let udp = &imported("netperf-udp_stream.txt").cases[0];
    values(
        udp,
        &[
            ("bandwidth_bytes_per_s", 47_558_470_000.0 / 8.0),
            ("sender_bandwidth_bytes_per_s", 92_346_150_000.0 / 8.0),
            ("lost_datagrams", 85_913.0),
            ("loss_ratio", 85_913.0 / 177_141.0),
        ],
    );
    let work = measured(udp).work.known().copied().expect("known");
    assert_eq!((work.ops, work.bytes), (91_228, 91_228 * 65_507));

    for (file, id, rate) in [
        ("netperf-tcp_rr.txt", "netperf/tcp_rr", 159_586.12),
        ("netperf-tcp_rr-cpu.txt", "netperf/tcp_rr", 72_497.88),
        ("netperf-udp_rr.txt", "netperf/udp_rr", 199_047.26),
        ("netperf-tcp_crr.txt", "netperf/tcp_crr", 34_033.01),
    ] {
        let case = &imported(file).cases[0];
        assert_eq!(case.benchmark.id, id);
        assert_eq!(param(case, "request_bytes"), "1");
        values(case, &[("transactions_per_s", rate)]);
    }
    let bits = &imported("netperf-tcp_rr-bits.txt").cases[0];
    assert!(
        reason(bits, "transactions_per_s").contains("asked for 10^6bits in its place, with -f")
    );
}

#[test]
fn netperfs_keys_say_more_than_its_tables() {
    let report = imported("netperf-tcp_rr-keys.txt");
    assert_eq!(report.run.argv[0], "netperf");
    let case = &report.cases[0];
    values(
        case,
        &[
            ("transactions_per_s", 144_497.31),
            ("round_trip_ns mean (netperf)", 6_890.0),
            ("round_trip_ns p50 (netperf)", 4_000.0),
            ("round_trip_ns p99 (netperf)", 10_000.0),
            ("round_trip_ns max (netperf)", 5_426_000.0),
        ],
    );
    let work = measured(case).work.known().copied().expect("known");
    assert_eq!((work.ops, work.bytes), (144_520, 289_040));
    let table = &imported("netperf-tcp_rr.txt").cases[0];
    assert_eq!(
        case.benchmark, table.benchmark,
        "the same test, however it was printed"
    );

    let stream = &imported("netperf-tcp_stream-keys.txt").cases[0];
    values(
        stream,
        &[
            ("bandwidth_bytes_per_s", 13_187_120_000.0 / 8.0),
            ("sender_bandwidth_bytes_per_s", 13_187_120_000.0 / 8.0),
            ("retransmitted_segments", 16.0),
        ],
    );
    let work = measured(stream).work.known().copied().expect("known");
    assert_eq!((work.ops, work.bytes), (13_381, 1_654_161_408));
    let udp = &imported("netperf-udp_stream-keys.txt").cases[0];
    values(
        udp,
        &[
            ("bandwidth_bytes_per_s", 16_500_250_000.0 / 8.0),
            ("sender_bandwidth_bytes_per_s", 89_819_160_000.0 / 8.0),
            ("lost_datagrams", 171_454.0 - 31_497.0),
        ],
    );
    let back = &imported("netperf-tcp_maerts-keys.txt").cases[0];
    values(
        back,
        &[
            ("bandwidth_bytes_per_s", 17_877_440_000.0 / 8.0),
            ("sender_bandwidth_bytes_per_s", 17_919_050_000.0 / 8.0),
        ],
    );
    let connections = &imported("netperf-tcp_crr-keys.txt").cases[0];
    values(
        connections,
        &[
            ("transactions_per_s", 39_470.47),
            ("transaction_ns mean (netperf)", 25_300.0),
        ],
    );
}

#[test]
fn without_its_banner_netperfs_command_line_names_the_test() {
    let text = fs::read_to_string(folder().join("netperf-udp_rr.txt")).expect("there");
    let (_, rows) = text.split_once("per sec").expect("a header");
    let import = |argv: &[&str]| {
        let context = Context {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            ..Context::default()
        };
        import::import(rows, Some(Format::Netperf), &context)
    };
    let report = import(&["netperf", "-P", "0", "-t", "UDP_RR"]).expect("it imports");
    assert_eq!(report.cases[0].benchmark.id, "netperf/udp_rr");
    assert_eq!(value(&report.cases[0], "transactions_per_s"), 199_047.26);
    let alone = import(&["netperf", "-P", "0", "-N", "-t", "UDP_RR"]).expect("it imports");
    let flagged = flags(&alone.cases[0]);
    assert_eq!(flagged, [("no_control", Severity::Invalid)]);
    for argv in [&[][..], &["netperf", "-t", "SCTP_RR"]] {
        let error = import(argv).expect_err("which test?").to_string();
        assert!(error.contains("names no test of netperf"), "{error}");
    }
}

#[test]
fn nepers_receiver_is_the_side_that_reads() {
    let report = imported("neper-tcp_stream.txt");
    assert_eq!(report.program.version, Fact::Known("1.1.0".to_owned()));
    let client = &report.cases[0];
    assert_eq!(param(client, "duration_s"), "2");
    let server = &imported("neper-tcp_stream-server.txt").cases[0];
    for case in [client, server] {
        assert_eq!(param(case, "direction"), "forward");
        assert_eq!(case.benchmark.id, "neper/tcp_stream");
        values(case, &[("bandwidth_bytes_per_s", 18_422_069_952.0 / 8.0)]);
        assert!(reason(case, "sender_bandwidth_bytes_per_s").contains("does not count"));
    }
    let udp = &imported("neper-udp_stream.txt").cases[0];
    assert_eq!(udp.benchmark.id, "neper/udp_stream");
    values(udp, &[("bandwidth_bytes_per_s", 1_728_472_096.0 / 8.0)]);
}

#[test]
fn nepers_tests_are_told_apart_by_their_options() {
    let case = &imported("neper-tcp_rr-percentiles.txt").cases[0];
    assert_eq!(case.benchmark.id, "neper/tcp_rr");
    values(
        case,
        &[
            ("transactions_per_s", 171_373.39),
            ("round_trip_ns mean (neper)", 5_779.0),
            ("round_trip_ns p50 (neper)", 5_670.0),
            ("round_trip_ns p99.9 (neper)", 31_030.0),
            ("round_trip_ns max (neper)", 1_425_014.0),
        ],
    );
    let work = measured(case).work.known().copied().expect("known");
    assert_eq!((work.ops, work.bytes), (342_762, 2 * 342_762));
    let elapsed = measured(case).elapsed_s.known().copied().expect("known");
    assert!((elapsed - 2.000_083).abs() < 1e-6, "{elapsed}");
    let udp = &imported("neper-udp_rr.txt").cases[0];
    assert_eq!(udp.benchmark.id, "neper/udp_rr");
    let connections = &imported("neper-tcp_crr.txt").cases[0];
    assert_eq!(connections.benchmark.id, "neper/tcp_crr");
    values(
        connections,
        &[
            ("transactions_per_s", 41_067.29),
            ("transaction_ns mean (neper)", 24_615.0),
        ],
    );
}
