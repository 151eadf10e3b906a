//! The kernels of networks and nodes under a real `mpirun` on one machine: what is in their reports,
//! that it was verified, and what bad input gets.

mod common;

use common::{report, run, stderr, stdout};
use reports::model::{Aggregation, Case, Fact, HistogramRecord, Measurement, Outcome, Report};
use serde_json::json;
use std::fs;

fn measured(case: &Case) -> &Measurement {
    match &case.outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("{} was not measured: {other:?}", case.key()),
    }
}

/// Runs a kernel and checks what holds for all: exit code 0, checks, a headline, work.
fn report_of(ranks: usize, args: &str) -> Report {
    let args: Vec<&str> = args.split(' ').chain(["--json"]).collect();
    let output = run(ranks, &args);
    let report = report(&output);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        stderr(&output)
    );
    for case in &report.cases {
        let measurement = measured(case);
        let checks = measurement.verified.split(' ').next();
        assert!(checks.is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n > 0)));
        let headlines = measurement.metrics.iter().filter(|metric| metric.headline);
        // Ten iterations have no p99.
        let known: Vec<f64> = headlines.filter_map(|m| m.value.known().copied()).collect();
        assert!(!known.is_empty() && known.iter().all(|&value| value > 0.0));
        assert!(measurement.work.known().is_some_and(|work| work.ops > 0));
    }
    report
}

fn value(measurement: &Measurement, name: &str, aggregation: Aggregation) -> f64 {
    let metric = measurement.metric(name, aggregation);
    *metric.and_then(|metric| metric.value.known()).expect(name)
}

#[test]
fn pairmatrix_measures_every_pair_in_both_directions() {
    for ranks in [2, 3, 4, 5] {
        let report = report_of(ranks, "pairmatrix -m 4K -W 2 -i 2 --passes 2 --pings 3");
        let measurement = measured(&report.cases[0]);
        let names: Vec<_> = measurement
            .matrices
            .iter()
            .map(|m| m.name.as_str())
            .collect();
        assert_eq!(names[..2], ["bandwidth_bytes_per_s", "latency_ns"]);
        for matrix in &measurement.matrices {
            assert_eq!(matrix.nodes.len(), ranks);
            assert!(matrix.nodes.iter().all(|node| node.host == 0));
            assert!(matrix.nodes[1].name.ends_with(" rank 1"));
            for (from, row) in matrix.values.iter().enumerate() {
                for (to, value) in row.iter().enumerate() {
                    let known = value.is_some_and(|value| value > 0.0);
                    assert_eq!(known, from != to, "{} {from} -> {to}", matrix.name);
                }
            }
        }
        let pairs = (ranks * (ranks - 1)) as u64;
        let messages = pairs * 2 * 2 * 2;
        assert_eq!(
            measurement.work.known().map(|work| work.ops),
            Some(messages)
        );
        let checks = pairs * 2 * 2;
        assert!(
            measurement.verified.starts_with(&format!("{checks} ")),
            "two of each visit"
        );
        let few = measurement.facts["findings"]
            .as_str()
            .is_some_and(|text| text.starts_with("too few to blame one"));
        assert_eq!(few, ranks < 4, "{}", measurement.facts["findings"]);
    }
}

#[test]
fn pairmatrix_of_nodes_needs_two_of_them() {
    let output = run(3, &["pairmatrix", "--per", "node"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stdout(&output).contains("it takes two nodes, or --per rank"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn rings_are_natural_and_random_and_drawn_from_the_seed() {
    let args = "rings -i 2 --rings 2 --bandwidth-size 10000 --seed 7";
    for ranks in [2, 3, 5] {
        let report = report_of(ranks, args);
        assert_eq!(report.run.seed, Fact::Known(7));
        let orders: Vec<_> = report
            .cases
            .iter()
            .map(|c| &c.benchmark.params["order"])
            .collect();
        assert_eq!(orders, ["natural", "random"]);
        for (case, rings) in report.cases.iter().zip([1, 2]) {
            let measurement = measured(case);
            assert_eq!(measurement.facts["rings_measured"], rings);
            let ours = value(measurement, "latency_ns", Aggregation::P50);
            let mut metrics = measurement.metrics.iter();
            let hpcc = metrics.find(|m| m.name == "latency_ns" && m.compat.is_some());
            let hpcc = hpcc.and_then(|m| m.value.known()).expect("HPCC has it");
            // Its minima are no larger than our medians; for several rings, of means of both.
            assert!(rings > 1 || *hpcc <= ours, "{hpcc} {ours}");
        }
    }
}

#[test]
fn bisection_counts_both_directions_and_refuses_odd_worlds() {
    let args = "bisection -m 4K -W 2 -i 3 --bisections 2 --direction one,both";
    let report = report_of(4, args);
    assert_eq!(report.cases.len(), 4);
    for case in &report.cases {
        let measurement = measured(case);
        let direction = if case.benchmark.params["direction"] == "both" {
            2
        } else {
            1
        };
        let cuts = if case.benchmark.params["halves"] == "random" {
            2
        } else {
            1
        };
        let windows = 3 * cuts * 2 * direction;
        assert_eq!(
            measurement.work.known().map(|work| work.ops),
            Some(windows * 2)
        );
        assert!(measurement.facts["slowest_pair"]["from"].is_string());
    }
    let output = run(3, &["bisection"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output).matches("an even number of ranks").count(),
        1
    );
}

#[test]
fn victims_are_measured_alone_and_beside_aggressors() {
    for (ranks, victims) in [(4, 2), (5, 2), (7, 4)] {
        let share = 100 * victims / ranks - 5;
        let args = format!(
            "congestion -m 1K -i 30 -x 2 --pairings 2 --seed 5 --victims {share} \
             --pattern incast,broadcast,alltoall"
        );
        let report = report_of(ranks, &args);
        assert_eq!(report.cases.len(), 6);
        assert_eq!(report.run.seed, Fact::Known(5));
        for case in &report.cases {
            let measurement = measured(case);
            let pairs = match case.benchmark.params["test"] == "latency" {
                true => victims / 2,
                false => 1,
            };
            let name = |histogram: &HistogramRecord| histogram.name.clone();
            let names: Vec<_> = measurement.histograms.iter().map(name).collect();
            assert!(names[0].starts_with("loaded_") && names[1].starts_with("idle_"));
            for histogram in &measurement.histograms {
                assert_eq!(histogram.count, 2 * 30 * pairs as u64, "{}", case.key());
            }
            let mean = |name: &str| value(measurement, name, Aggregation::Mean);
            let ratio = mean("congestion_impact_ratio");
            let expected = mean(&names[0]) / mean(&names[1]);
            assert!((ratio / expected - 1.0).abs() < 1e-9, "{ratio} {expected}");
            for load in [
                "aggressor_bandwidth_bytes_per_s",
                "aggressor_alone_bandwidth_bytes_per_s",
            ] {
                assert!(value(measurement, load, Aggregation::P50) > 0.0);
            }
            assert_eq!(measurement.facts["split_by"], "rank");
            assert_eq!(
                measurement.facts["victims"],
                measured(&report.cases[0]).facts["victims"]
            );
            let shared = measurement.validity.flags.iter();
            assert_eq!(shared.filter(|flag| flag.code == "shared_nodes").count(), 1);
        }
    }
    let output = run(4, &["congestion", "--split", "node"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stdout(&output).contains("--split rank draws ranks"));
}

#[test]
fn what_arrives_damaged_is_found_by_every_kernel() {
    for args in [
        "pairmatrix -m 1K -i 1 --passes 1",
        "rings -i 1 --rings 1 --bandwidth-size 1000",
        "bisection -m 1K -i 1 --bisections 1",
        "congestion -m 1K -i 5 --pairings 1",
        "halo -m 512 -i 2",
        "random_access --log2-words 10 -i 2",
        "stream --array 4K -i 1",
    ] {
        let args: Vec<&str> = args.split(' ').chain(["--spoil", "--json"]).collect();
        let output = run(4, &args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        for case in &report(&output).cases {
            let failed = matches!(case.outcome, Outcome::Failed { .. });
            assert!(failed, "{} passed with damaged data", case.key());
        }
    }
}

#[test]
fn halos_have_six_faces_for_every_number_of_ranks() {
    for ranks in [2, 3, 4, 5] {
        let report = report_of(ranks, "halo -m 512:1K -i 10 -x 1");
        for case in &report.cases {
            let measurement = measured(case);
            assert_eq!(measurement.histograms[0].count, 10);
            // One validation before, one after, and the last timed exchange.
            let checks = format!("{} faces", ranks * 6 * 3);
            assert!(
                measurement.verified.starts_with(&checks),
                "{}",
                measurement.verified
            );
        }
    }
}

#[test]
fn random_access_undoes_every_update() {
    for (ranks, iterations) in [(1, 2), (2, 3), (3, 2), (4, 1)] {
        let args = format!("random_access --log2-words 10 -i {iterations}");
        let report = report_of(ranks, &args);
        let measurement = measured(&report.cases[0]);
        let words = 1 << (10 + ranks.ilog2());
        assert_eq!(measurement.facts["table_words"], words);
        assert!(measurement.verified.starts_with(&format!("{words} words")));
    }
}

#[test]
fn the_memory_of_each_rank_is_measured_and_the_slowest_named() {
    for (ranks, alone) in [(1, ""), (3, ""), (3, " --alone")] {
        let report = report_of(ranks, &format!("stream --array 64K -i 3{alone}"));
        let measurement = measured(&report.cases[0]);
        let elements = ranks * (64 << 10) / 8;
        assert!(
            measurement
                .verified
                .starts_with(&format!("{elements} elements"))
        );
        let slowest = &measurement.facts["slowest_rank"];
        assert!(
            slowest["rank"]
                .as_u64()
                .is_some_and(|rank| rank < ranks as u64)
        );
        let least = value(measurement, "rank_bandwidth_bytes_per_s", Aggregation::Min);
        assert_eq!(slowest["bandwidth_bytes_per_s"], json!(least));
        assert!(least <= value(measurement, "rank_bandwidth_bytes_per_s", Aggregation::Max));
    }
}

#[test]
fn a_topology_file_groups_the_pairs_and_one_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("topology.json");
    let path = file.to_str().expect("a plain path");
    let args = [
        "pairmatrix",
        "-m",
        "1K",
        "-i",
        "1",
        "--json",
        "--topology",
        path,
    ];
    let refused = |expected: &str| {
        let output = run(2, &args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stdout(&output).is_empty(), "nothing was measured");
        assert_eq!(
            stderr(&output).matches(expected).count(),
            1,
            "{}",
            stderr(&output)
        );
    };
    refused("No such file");
    fs::write(&file, "nonsense").expect("it can be written");
    refused("describe-instance-topology");
    fs::write(&file, r#"{"Instances": []}"#).expect("it can be written");
    refused("it lacks ");
    let host = report_of(1, "stream --array 4K -i 1").hosts[0].clone();
    let name = host.name.split('.').next().expect("a name");
    let known = host
        .cloud
        .known()
        .and_then(|cloud| cloud.instance_id.known());
    let id = known.map_or(name, String::as_str);
    let topology = json!({"Instances": [{"InstanceId": id, "NetworkNodes": ["nn-1", "nn-2"]}]});
    fs::write(&file, topology.to_string()).expect("it can be written");
    let output = run(2, &args);
    let report = report(&output);
    let placement = &measured(&report.cases[0]).facts["placement"];
    let grouped = &placement["topology"]["bandwidth_bytes_per_s"];
    assert_eq!(grouped["same_host"]["pairs"], 2, "{placement}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (args, expected) in [
        ("stream --array 12Q", "is no size"),
        ("stream --array 8", "is no array"),
        ("pairmatrix --per socket", "possible values"),
        ("rings --order wrong", "possible values"),
        ("rings --rings 0", "is not in 1..=10000"),
        ("congestion --victims 100", "is not in 1..=99"),
        ("congestion --pattern flood", "possible values"),
        ("random_access --log2-words 63", "is not in 10..=40"),
        ("halo -m 12", "not a multiple of 8"),
    ] {
        let output = run(2, &args.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert_eq!(
            stderr(&output).matches(expected).count(),
            1,
            "{args}: {}",
            stderr(&output)
        );
    }
}
