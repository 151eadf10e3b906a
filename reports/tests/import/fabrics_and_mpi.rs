//! What perftest, fi_pingpong, OSU and IMB measured.

use super::{flags, folder, imported, measured, param, reason, value, values};
use reports::import::{self, Context};
use reports::model::{Aggregation, Fact, Severity};
use std::fs;

#[test]
fn perftest_megabytes_are_binary_and_infinity_is_no_result() {
    let latency = &imported("perftest-send-lat.txt").cases[0];
    assert_eq!(latency.benchmark.id, "perftest/ib_send_lat");
    values(
        latency,
        &[
            ("half_round_trip_ns mean (perftest)", 3_190.0),
            ("half_round_trip_ns p50 (perftest)", 2_950.0),
            ("half_round_trip_ns p99 (perftest)", 8_920.0),
            ("half_round_trip_ns min (perftest)", 2_850.0),
        ],
    );
    assert!(reason(latency, "half_round_trip_ns p99.9 (perftest)").contains("there are 997"));
    assert_eq!(flags(latency), [("cpu_frequency", Severity::Info)]);
    assert_eq!(param(latency, "connection_type"), "RC");
    let write = imported("perftest-write-bw.txt");
    let sizes: Vec<String> = write
        .cases
        .iter()
        .map(|case| param(case, "size_bytes"))
        .collect();
    assert_eq!(sizes, ["32768", "65536"]);
    values(
        &write.cases[1],
        &[
            ("bandwidth_bytes_per_s", 90.04 * 1_048_576.0),
            ("peak_bandwidth_bytes_per_s", 103.71 * 1_048_576.0),
            ("operations_per_s", 1441.0),
        ],
    );
    let bits = &imported("perftest-read-bw-gbits.txt").cases[0];
    assert_eq!(value(bits, "bandwidth_bytes_per_s"), 111.71e9 / 8.0);
    assert!(reason(bits, "peak_bandwidth_bytes_per_s").contains("does not measure the peak"));
    let timed = &imported("perftest-read-lat-duration.txt").cases[0];
    assert_eq!(value(timed, "latency_ns mean (perftest)"), 4_820.0);
    let infinite = &imported("perftest-inf.txt").cases[0];
    assert!(reason(infinite, "bandwidth_bytes_per_s").contains("\"inf\""));
    assert_eq!(flags(infinite), [("not_a_number", Severity::Invalid)]);
}

#[test]
fn fi_pingpong_counts_both_directions() {
    let report = imported("fi_pingpong-default.txt");
    let sizes: Vec<String> = report
        .cases
        .iter()
        .map(|case| param(case, "size_bytes"))
        .collect();
    assert_eq!(sizes, ["64", "256", "1024", "4096", "65536", "1048576"]);
    let large = &report.cases[5];
    let printed = fs::read_to_string(folder().join("fi_pingpong-default.txt")).expect("there");
    let row: Vec<&str> = printed
        .lines()
        .last()
        .expect("rows")
        .split_whitespace()
        .collect();
    let number = |at: usize| -> f64 { row[at].parse().expect("a number") };
    assert_eq!(
        value(large, "half_round_trip_ns mean"),
        (number(6) * 1e3).round()
    );
    assert_eq!(
        value(large, "bidirectional_bandwidth_bytes_per_s"),
        (number(5) * 1e6).round()
    );
    assert!(reason(large, "transfers_per_s").contains("resolution"));
    assert_eq!(
        measured(large).work.known().expect("known").bytes,
        20 * 1_048_576
    );
    let odd = imported("fi_pingpong-sizes.txt");
    assert!(
        odd.cases
            .iter()
            .any(|case| param(case, "size_bytes") == "1536"),
        "1.5k"
    );
}

#[test]
fn what_perftest_measured_over_rxe() {
    let latency = &imported("perftest-rxe-send-lat.txt").cases[0];
    values(
        latency,
        &[
            ("half_round_trip_ns min (perftest)", 14_120.0),
            ("half_round_trip_ns p50 (perftest)", 15_070.0),
            ("half_round_trip_ns mean (perftest)", 470_120.0),
            ("half_round_trip_ns max (perftest)", 8_151_380.0),
            ("half_round_trip_ns stddev (perftest)", 1_597_740.0),
            ("half_round_trip_ns p99 (perftest)", 7_995_460.0),
        ],
    );
    assert_eq!(param(latency, "mtu"), "1024");
    let bandwidth = &imported("perftest-rxe-send-bw.txt").cases[0];
    assert_eq!(bandwidth.benchmark.id, "perftest/ib_send_bw");
    let printed = printed_row("perftest-rxe-send-bw.txt", "4096");
    values(
        bandwidth,
        &[
            ("bandwidth_bytes_per_s", printed[3] * 1_048_576.0),
            ("operations_per_s", (printed[4] * 1e6).round()),
        ],
    );
    let atomic = &imported("perftest-rxe-atomic-lat.txt").cases[0];
    assert_eq!(atomic.benchmark.id, "perftest/ib_atomic_lat");
    assert_eq!(param(atomic, "operation"), "fetch_and_add");
    assert_eq!(value(atomic, "latency_ns p50 (perftest)"), 21_190.0);
    let timed = &imported("perftest-rxe-read-lat-duration.txt").cases[0];
    assert_eq!(value(timed, "latency_ns mean (perftest)"), 34_100.0);
    let both_ways = &imported("perftest-rxe-read-bw-gbits.txt").cases[0];
    assert_eq!(param(both_ways, "bidirectional"), "true");
    assert_eq!(value(both_ways, "bandwidth_bytes_per_s"), 0.34e9 / 8.0);
    let sizes = imported("perftest-rxe-write-lat-sizes.txt").cases;
    assert_eq!(sizes.len(), 23);
    let overflowed = &sizes[21];
    let stddev = reason(overflowed, "half_round_trip_ns stddev (perftest)");
    assert!(stddev.contains("\"-nan\""), "{stddev}");
    assert_eq!(flags(overflowed), [], "the other numbers stand");
    // Samples between two headers are no rows.
    assert_eq!(imported("perftest-rxe-send-lat-samples.txt").cases.len(), 1);
    let cut = imported("perftest-rxe-write-bw-cut.txt").cases;
    assert_eq!((cut.len(), flags(&cut[0]).len()), (6, 0));
    assert_eq!(flags(&cut[5]), [("truncated", Severity::Degraded)]);
}

#[test]
fn perftest_writes_json_that_is_none() {
    let latency = &imported("perftest-rxe-send-lat.json").cases[0];
    values(
        latency,
        &[
            ("half_round_trip_ns min (perftest)", 14_180.0),
            ("half_round_trip_ns p50 (perftest)", 15_210.0),
            ("half_round_trip_ns p99 (perftest)", 116_430.0),
        ],
    );
    let text = &imported("perftest-rxe-send-lat.txt").cases[0];
    assert_eq!(latency.key(), text.key(), "one case, however it is told");
    let bandwidth = &imported("perftest-rxe-send-bw.json").cases[0];
    let mebibytes = 22.31;
    assert_eq!(
        value(bandwidth, "bandwidth_bytes_per_s"),
        mebibytes * 1_048_576.0
    );
    let timed = &imported("perftest-rxe-read-lat-duration.json").cases[0];
    assert_eq!(timed.benchmark.id, "perftest/ib_read_lat");
    assert_eq!(value(timed, "transactions_per_s"), 29_125.86);
    // A piece of the longer text that it was written over follows.
    let sizes = imported("perftest-rxe-write-lat-sizes.json").cases;
    assert_eq!(
        (sizes.len(), param(&sizes[0], "size_bytes")),
        (1, "8388608".to_owned())
    );

    // The unit is not in it: gigabits fit, and anything else is nothing.
    let read = |bandwidth: &str| {
        let text = fs::read_to_string(folder().join("perftest-rxe-send-bw.json")).expect("there");
        let text = text.replace("22.31", bandwidth);
        import::import(&text, None, &Context::default())
            .expect("it imports")
            .cases
    };
    let gigabits = &read("0.19")[0];
    assert_eq!(value(gigabits, "bandwidth_bytes_per_s"), 0.19e9 / 8.0);
    assert!(reason(&read("0.01")[0], "bandwidth_bytes_per_s").contains("no unit"));
}

/// The numbers of the row that begins with this word.
fn printed_row(name: &str, first: &str) -> Vec<f64> {
    let text = fs::read_to_string(folder().join(name)).expect("there");
    let rows = text.lines().map(|line| line.split_whitespace().collect());
    let row: Option<Vec<&str>> = rows
        .into_iter()
        .find(|row: &Vec<&str>| row.first() == Some(&first));
    let row = row.expect("a row");
    row.iter()
        .map(|cell| cell.parse().expect("a number"))
        .collect()
}

#[test]
fn fabtests_tables_are_of_what_the_command_says_or_the_bytes_in_all() {
    let pingpong = &imported("fabtests-fi_rdm_pingpong-tcp.txt").cases[0];
    assert_eq!(pingpong.benchmark.id, "fabtests/pingpong");
    values(
        pingpong,
        &[
            ("half_round_trip_ns mean", 7_330.0),
            ("bidirectional_bandwidth_bytes_per_s", 8_730_000.0),
        ],
    );
    assert_eq!(param(pingpong, "iterations"), "1k");
    let rma = &imported("fabtests-fi_rma_bw-write.txt").cases[0];
    assert_eq!(rma.benchmark.id, "fabtests/bandwidth");
    values(
        rma,
        &[
            ("bandwidth_bytes_per_s", 2_115_090_000.0),
            ("operations_per_s", 1e9 / 30_990.0),
        ],
    );
    let sizes = imported("fabtests-fi_rdm_tagged_bw.txt").cases;
    assert_eq!(sizes.len(), 46);
    assert!(
        sizes
            .iter()
            .all(|case| case.benchmark.id == "fabtests/bandwidth")
    );
    assert_eq!(param(&sizes[20], "size_bytes"), "1536");
    assert_eq!(measured(&sizes[0]).work.known().expect("known").bytes, 20);
    let exact = &imported("fabtests-machine.txt").cases[0];
    assert_eq!(exact.benchmark.id, "fabtests/fi_rdm_pingpong");
    assert_eq!(param(exact, "provider"), "tcp;ofi_rxm");
    values(exact, &[("half_round_trip_ns mean", 6_394.5)]);
    assert_eq!(measured(exact).elapsed_s, Fact::Known(0.012_789));
    assert_eq!(measured(exact).work.known().expect("known").bytes, 128_000);

    // Who runs it knows the command, and with it what the table rounds.
    let text = fs::read_to_string(folder().join("fabtests-fi_rma_bw-write.txt")).expect("there");
    let argv = ["/opt/bin/fi_rma_bw", "-I", "1000", "-o", "write", "node2"];
    let context = Context {
        argv: argv.map(str::to_owned).to_vec(),
        ..Context::default()
    };
    let known = &import::import(&text, None, &context)
        .expect("it imports")
        .cases[0];
    assert_eq!(known.benchmark.id, "fabtests/fi_rma_bw");
    assert_eq!(
        (param(known, "iterations"), param(known, "operation")),
        ("1000".into(), "write".into())
    );
}

#[test]
fn osu_tables() {
    let latency = imported("osu-latency.txt");
    assert_eq!(latency.program.version, Fact::Known("7.4".to_owned()));
    assert_eq!(latency.cases.len(), 11);
    assert_eq!(latency.cases[0].benchmark.id, "osu/osu_latency");
    assert_eq!(
        value(&latency.cases[0], "latency_ns mean (OSU)"),
        1_698_770.0
    );
    assert!(measured(&latency.cases[0]).work.reason().is_some());
    let percentiles = imported("osu-latency-percentiles.txt");
    assert_eq!(value(&percentiles.cases[2], "latency_ns p99 (OSU)"), 760.0);
    let bandwidth = imported("osu-bw.txt");
    assert_eq!(
        value(&bandwidth.cases[10], "bandwidth_bytes_per_s"),
        2_625_470_000.0
    );
    let rate = imported("osu-mbw_mr.txt");
    assert_eq!(
        (
            param(&rate.cases[0], "pairs"),
            param(&rate.cases[0], "window")
        ),
        ("1".into(), "64".into())
    );
    assert_eq!(value(&rate.cases[0], "messages_per_s"), 4_343_798.04);
    assert_eq!(
        imported("osu-bibw.txt").cases[0].benchmark.id,
        "osu/osu_bibw"
    );
}

#[test]
fn osu_collectives() {
    let full = imported("osu-allreduce-full.txt");
    let case = &full.cases[7];
    assert_eq!(
        (case.benchmark.id.as_str(), param(case, "size_bytes")),
        ("osu/osu_allreduce", "512".into())
    );
    values(
        case,
        &[
            ("collective_ns mean (OSU)", 1_710.0),
            ("collective_ns min (OSU)", 1_630.0),
            ("collective_ns max (OSU)", 1_790.0),
        ],
    );
    assert_eq!(measured(case).work.known().expect("with -f").ops, 100);
    let tails = imported("osu-allreduce-full-percentiles.txt");
    assert_eq!(
        value(&tails.cases[0], "collective_ns p99 (OSU)"),
        17_321_550.0
    );
    let barrier = imported("osu-barrier.txt");
    assert_eq!(barrier.cases[0].benchmark.id, "osu/osu_barrier");
    assert_eq!(value(&barrier.cases[0], "collective_ns mean (OSU)"), 790.0);
    let overlap = imported("osu-iallreduce-full.txt");
    assert_eq!(overlap.cases[0].benchmark.id, "osu/osu_iallreduce");
    values(
        &overlap.cases[0],
        &[
            ("overall_ns mean (OSU)", 4_900.0),
            ("pure_communication_ns max (OSU)", 3_280.0),
            ("overlap_ratio", 0.5342),
        ],
    );
}

#[test]
fn imb_tables() {
    let report = imported("imb-mpi1.txt");
    assert_eq!(report.program.version, Fact::Known("2021.11".to_owned()));
    assert_eq!(report.run.argv[0], "IMB-MPI1");
    let case = |id: &str, size: Option<&str>| {
        let found = report.cases.iter().find(|case| {
            case.benchmark.id == id && size.is_none_or(|size| param(case, "size_bytes") == size)
        });
        found.unwrap_or_else(|| panic!("no {id} {size:?}"))
    };
    let pingpong = case("imb/PingPong", Some("256"));
    assert_eq!(value(pingpong, "latency_ns mean (IMB)"), 580.0);
    assert_eq!(value(pingpong, "bandwidth_bytes_per_s"), 439_790_000.0);
    assert_eq!(
        measured(pingpong).work.known().expect("known").bytes,
        50 * 512
    );
    let uniband = case("imb/Uniband", Some("64"));
    assert_eq!(value(uniband, "messages_per_s"), 5_102_905.0);
    assert!(
        measured(uniband).work.reason().is_some(),
        "the window is not printed"
    );
    let allreduce = case("imb/Allreduce", Some("16"));
    values(
        allreduce,
        &[
            ("collective_ns min (IMB)", 490.0),
            ("collective_ns max (IMB)", 530.0),
        ],
    );
    assert_eq!(param(allreduce, "reduction_datatype"), "MPI_FLOAT");
    assert_eq!(
        value(case("imb/Barrier", None), "collective_ns mean (IMB)"),
        300.0
    );
    let more = imported("imb-sendrecv-biband.txt");
    assert!(
        more.cases
            .iter()
            .any(|case| case.benchmark.id == "imb/Sendrecv")
    );
    let names: Vec<Aggregation> = measured(&more.cases[3])
        .metrics
        .iter()
        .map(|m| m.aggregation)
        .collect();
    assert!(names.contains(&Aggregation::Max));
}
