//! Rankings of reports built here: what is ordered, what is not, what it costs.

use super::fixtures::{host_of, instance_types, streams, with_disk};
use super::*;
use crate::compare::Verdict;
use crate::fixtures::measurement_mut;
use crate::host::{BlockKind, Host};
use crate::model::{Benchmark, Direction, Fact, Outcome, Session, Unit};
use serde_json::{Map, json};

fn by(field: &str) -> Options {
    Options::by(field.parse().expect("a field"))
}

fn by_type() -> Options {
    by("instance_type")
}

fn prices(of: &[(&str, f64)]) -> Prices {
    let price = |(name, price): &(&str, f64)| json!({"instance_type": name, "per_hour": price});
    let file = json!({
        "currency": "USD", "source": "a test", "as_of": "2026-11-01",
        "price": of.iter().map(price).collect::<Vec<_>>(),
    });
    Prices::parse(&file.to_string(), "prices.json").expect("it is well-formed")
}

/// Three types: two level at 24 GB/s, one at 12 GB/s.
fn three() -> Vec<Report> {
    let mut reports = streams("c7gn.16xlarge", 8, 24e9);
    reports.extend(streams("c6gn.16xlarge", 8, 12e9));
    reports.extend(streams("c5n.18xlarge", 8, 24.001e9));
    reports
}

fn ranked(reports: &[Report], options: &Options) -> Ranking {
    rank(reports, options).expect("it can be ranked")
}

fn only(ranking: &Ranking) -> &RankedMetric {
    &ranking.cases[0].metrics[0]
}

fn standing<'a>(ranking: &'a Ranking, group: &str) -> &'a Standing {
    let mut standings = only(ranking).standings.iter();
    standings
        .find(|standing| standing.group == group)
        .expect("it takes part")
}

fn places(standings: &[Standing]) -> Vec<(&str, Option<(usize, usize)>)> {
    standings
        .iter()
        .map(|s| {
            (
                s.group.as_str(),
                s.place.map(|place| (place.first, place.last)),
            )
        })
        .collect()
}

#[test]
fn types_stand_in_order_and_what_is_level_shares_its_places() {
    let ranking = ranked(&three(), &by_type());
    assert_eq!(
        places(&only(&ranking).standings),
        [
            ("c5n.18xlarge", Some((1, 2))),
            ("c7gn.16xlarge", Some((1, 2))),
            ("c6gn.16xlarge", Some((3, 3))),
        ]
    );
    let slow = standing(&ranking, "c6gn.16xlarge");
    let ratio = slow.to_reference.expect("eight runs suffice");
    assert!(
        (ratio.value - 0.5).abs() < 0.01 && ratio.high < 0.52,
        "{ratio:?}"
    );
    assert_eq!((slow.runs, slow.verdict), (8, Some(Verdict::Worse)));
    assert!(slow.interval.is_some() && slow.adjusted_p_value.is_some_and(|p| p < 0.05));
    let level = standing(&ranking, "c7gn.16xlarge");
    assert!(level.level_with_above && level.verdict == Some(Verdict::Same));
    let counts: Vec<_> = ranking
        .groups
        .iter()
        .map(|g| (g.best, g.may_be_best, g.ranked))
        .collect();
    assert_eq!(counts, [(0, 1, 1), (0, 0, 1), (0, 1, 1)]);
    assert_eq!(ranking.groups[0].machines, 2);
    assert_eq!(ranking.status, Status::Ranked);
}

#[test]
fn ratios_refer_to_a_baseline_that_exists() {
    let options = Options {
        baseline: Some("c6gn.16xlarge".to_owned()),
        ..by_type()
    };
    let ranking = ranked(&three(), &options);
    let fast = standing(&ranking, "c7gn.16xlarge");
    assert!(
        fast.to_reference
            .is_some_and(|ratio| (ratio.value - 2.0).abs() < 0.02)
    );
    assert_eq!(fast.verdict, Some(Verdict::Better));
    assert!(standing(&ranking, "c6gn.16xlarge").to_reference.is_none());
    let absent = Options {
        baseline: Some("c9".to_owned()),
        ..by_type()
    };
    let fault = rank(&three(), &absent).expect_err("there is no such group");
    assert!(
        fault.to_string().contains("there are c7gn.16xlarge, c6gn"),
        "{fault}"
    );
}

#[test]
fn a_baseline_without_runs_is_no_reference() {
    let mut reports = streams("a", 6, 1e9);
    reports.extend(streams("b", 6, 2e9));
    reports.extend(streams("c", 3, 3e9));
    let options = Options {
        baseline: Some("c".to_owned()),
        ..by_type()
    };
    let ranking = ranked(&reports, &options);
    let first = standing(&ranking, "b");
    assert_eq!(
        (first.place, first.verdict),
        (Some(Place { first: 1, last: 1 }), None)
    );
    assert!(
        first
            .reason
            .as_ref()
            .is_some_and(|why| why.contains("too few runs"))
    );
    assert_eq!(ranking.status, Status::Insufficient);
}

#[test]
fn too_few_runs_have_no_place_and_invalid_ones_are_counted() {
    let mut reports = streams("a", 6, 1e9);
    reports.extend(streams("b", 5, 2e9));
    for report in &mut reports[6..8] {
        let validity = &mut measurement_mut(report, 0).validity;
        validity.flag(Severity::Invalid, "interrupted", "by SIGINT");
    }
    let validity = &mut measurement_mut(&mut reports[0], 0).validity;
    validity.flag(Severity::Degraded, "cpu_steal", "9 %");
    reports.push(reports[0].clone());
    let ranking = ranked(&reports, &by_type());
    let few = standing(&ranking, "b");
    assert_eq!((few.place, few.runs, few.left_out), (None, 3, 2));
    assert_eq!(few.verdict, Some(Verdict::Insufficient));
    assert_eq!(few.reason.as_deref(), Some("3 valid runs; it takes 4"));
    assert!(few.median.is_some(), "what is known is shown");
    assert_eq!(standing(&ranking, "a").degraded, 1);
    let whys: Vec<_> = ranking
        .left_out
        .iter()
        .map(|l| (l.why.as_str(), l.runs))
        .collect();
    assert_eq!(
        whys,
        [
            ("given twice, and a run counts once", 1),
            ("invalid: interrupted: by SIGINT", 2)
        ]
    );
    assert_eq!(ranking.status, Status::Insufficient);
    assert_eq!(ranking.groups[0].degraded, [("cpu_steal".to_owned(), 1)]);
}

#[test]
fn one_group_or_none_is_insufficient_and_shown() {
    let ranking = ranked(&streams("a", 6, 1e9), &by_type());
    assert_eq!(ranking.status, Status::Insufficient);
    assert!(standing(&ranking, "a").median.is_some());
    let ranking = ranked(&streams("a", 6, 1e9), &by("arm"));
    assert_eq!(
        (ranking.groups.len(), ranking.status),
        (0, Status::Insufficient)
    );
    assert!(ranking.left_out[0].why.contains("no arm"));
}

#[test]
fn what_does_not_measure_the_same_is_blocked_with_the_reason() {
    let changed = |change: fn(&mut Report)| {
        let mut reports = streams("a", 6, 1e9);
        let mut others = streams("b", 6, 2e9);
        others.iter_mut().for_each(change);
        reports.extend(others);
        let ranking = ranked(&reports, &by_type());
        assert_eq!(ranking.status, Status::Incomparable);
        let blocked = &ranking.blocked[0];
        let values: Vec<_> = blocked.values.iter().map(|v| v.values.join(",")).collect();
        (blocked.field.clone(), values.join(" | "))
    };
    let (field, values) = changed(|report| {
        let benchmark = &mut report.cases[0].benchmark;
        *benchmark = Benchmark::new("net-bench/tcp_stream", "another", benchmark.params.clone());
    });
    assert!(field == "definition_hash" && values.contains(" | "));
    let params = changed(|report| {
        report.cases[0]
            .benchmark
            .params
            .insert("flows".to_owned(), 1.into());
    });
    assert_eq!(params, ("params.flows".to_owned(), "8 | 1".to_owned()));
    let nodes = changed(|report| drop(report.hosts.pop()));
    assert_eq!(nodes, ("node count".to_owned(), "2 | 1".to_owned()));
    let units = changed(|report| measurement_mut(report, 0).metrics[0].unit = Unit::PerSecond);
    assert_eq!(
        units,
        (
            "unit of bandwidth_bytes_per_s".to_owned(),
            "bytes/s | 1/s".to_owned()
        )
    );
    let ways = changed(|report| {
        measurement_mut(report, 0).metrics[0].direction = Direction::LowerIsBetter;
    });
    assert_eq!(ways.1, "higher_is_better | lower_is_better");
}

#[test]
fn a_case_of_one_group_s_own_and_a_group_without_it_are_named() {
    let mut reports = three();
    for report in &mut reports[..8] {
        let mut case = report.cases[0].clone();
        case.benchmark = Benchmark::new("net-bench/own", "x", Map::new());
        report.cases.push(case);
    }
    for report in &mut reports[16..] {
        report.cases[0].benchmark = Benchmark::new("net-bench/other", "x", Map::new());
    }
    let ranking = ranked(&reports, &by_type());
    let own: Vec<_> = ranking
        .only_in
        .iter()
        .map(|o| (o.group.as_str(), o.case.as_str()))
        .collect();
    assert_eq!(
        own,
        [
            ("c5n.18xlarge", "net-bench/other"),
            ("c7gn.16xlarge", "net-bench/own")
        ]
    );
    assert_eq!(ranking.cases[0].absent, ["c5n.18xlarge"]);
    assert_eq!(ranking.status, Status::Ranked);
}

#[test]
fn runs_are_grouped_by_any_field_and_parameters_leave_the_case() {
    let mut reports = streams("a", 6, 1e9);
    let mut others = streams("a", 6, 2e9);
    for report in &mut others {
        report.cases[0]
            .benchmark
            .params
            .insert("flows".to_owned(), 16.into());
    }
    reports.extend(others);
    let ranking = ranked(&reports, &by("flows"));
    assert_eq!(
        (ranking.by.as_str(), ranking.status),
        ("params.flows", Status::Ranked)
    );
    assert_eq!(
        places(&only(&ranking).standings),
        [("16", Some((1, 1))), ("8", Some((2, 2)))]
    );
    assert_eq!(ranking.cases[0].case, "net-bench/tcp_stream");
    let fault = rank(&reports, &by("warp")).expect_err("nothing has it");
    assert!(
        fault.to_string().starts_with("--by warp: no report has"),
        "{fault}"
    );
}

#[test]
fn hosts_without_a_type_go_by_their_names() {
    let mut reports = streams("a", 6, 1e9);
    let mut others = streams("b", 6, 2e9);
    for report in &mut others {
        report.hosts = vec![
            Host::unknown("n1", "imported"),
            Host::unknown("n2", "imported"),
        ];
    }
    reports.extend(others);
    let ranking = ranked(&reports, &by_type());
    assert_eq!(ranking.groups[1].name, "host n1 + host n2");
    assert_eq!(ranking.groups[1].note.as_deref(), Some("imported"));
    assert_eq!(ranking.groups[0].note, None);
}

#[test]
fn too_many_groups_are_refused() {
    let reports: Vec<Report> = (0..=groups::MAX_GROUPS)
        .flat_map(|index| streams(&format!("t{index}"), 1, 1e9))
        .collect();
    let fault = rank(&reports, &by_type()).expect_err("101 groups");
    assert!(
        fault
            .to_string()
            .contains("101 groups, and 100 is the most"),
        "{fault}"
    );
}

#[test]
fn arms_of_one_group_are_not_pooled() {
    let mut reports = three();
    for (index, report) in reports.iter_mut().enumerate() {
        report.run.session = Some(Session {
            id: "s".to_owned(),
            suite: "x".to_owned(),
            row: "stream".to_owned(),
            position: 1,
            repetition: 1,
            order_index: 1,
            pair_id: None,
            arm: Some(["old", "new"][index % 2].to_owned()),
        });
    }
    let ranking = ranked(&reports, &by_type());
    let labels: Vec<_> = ranking
        .cases
        .iter()
        .map(|case| case.case.as_str())
        .collect();
    assert_eq!(
        labels,
        [
            "net-bench/tcp_stream flows=8 [arm new]",
            "net-bench/tcp_stream flows=8 [arm old]"
        ]
    );
    assert_eq!(standing(&ranking, "c7gn.16xlarge").runs, 4);
    let arms = ranked(&reports, &by("arm"));
    assert_eq!(arms.groups.len(), 2);
}

#[test]
fn rates_are_divided_by_the_price_of_all_machines() {
    let options = Options {
        prices: Some(prices(&[("c7gn.16xlarge", 4.0), ("c6gn.16xlarge", 1.0)])),
        ..by_type()
    };
    let ranking = ranked(&three(), &options);
    assert_eq!(
        standing(&ranking, "c7gn.16xlarge").price_per_hour,
        Some(Fact::Known(8.0))
    );
    let per_price = only(&ranking).per_price.as_ref().and_then(Fact::known);
    let per_price = per_price.expect("a rate has it");
    assert_eq!(per_price.unit, "bytes/USD");
    assert_eq!(
        places(&per_price.standings),
        [
            ("c6gn.16xlarge", Some((1, 1))),
            ("c7gn.16xlarge", Some((2, 2))),
            ("c5n.18xlarge", None),
        ]
    );
    // 12 GB/s for 2 USD an hour.
    let bought = per_price.standings[0].median.expect("eight runs");
    assert!(
        (bought / (12e9 * 3600.0 / 2.0) - 1.0).abs() < 0.01,
        "{bought}"
    );
    let why = per_price.standings[2].reason.as_deref();
    assert_eq!(why, Some("no price of c5n.18xlarge in prices.json"));
    let unknown = standing(&ranking, "c5n.18xlarge");
    assert!(
        unknown
            .price_per_hour
            .as_ref()
            .is_some_and(|p| p.reason() == why)
    );
    assert_eq!(
        unknown.place,
        Some(Place { first: 1, last: 2 }),
        "its rank needs no price"
    );
    assert_eq!(ranking.status, Status::Ranked);
}

#[test]
fn times_are_not_divided_and_have_a_front() {
    let mut reports = three();
    for report in &mut reports {
        let metric = &mut measurement_mut(report, 0).metrics[0];
        metric.unit = Unit::Nanoseconds;
        metric.direction = Direction::LowerIsBetter;
    }
    // c6gn is the fastest; c7gn and c5n are level.
    let front = |of: &[(&str, f64)]| {
        let options = Options {
            prices: Some(prices(of)),
            ..by_type()
        };
        let ranking = ranked(&reports, &options);
        let per_price = only(&ranking).per_price.as_ref();
        assert!(
            per_price
                .and_then(Fact::reason)
                .is_some_and(|why| why.contains("not divided"))
        );
        ["c6gn.16xlarge", "c7gn.16xlarge", "c5n.18xlarge"].map(|group| {
            let front = standing(&ranking, group).front.clone();
            front.and_then(|front| front.known().map(|f| (f.by_median, f.shown)))
        })
    };
    use Standpoint::{Beaten, OnFront, Open};
    let dear = [
        ("c6gn.16xlarge", 9.0),
        ("c7gn.16xlarge", 1.0),
        ("c5n.18xlarge", 2.0),
    ];
    assert_eq!(
        front(&dear),
        [
            Some((true, OnFront)),
            Some((true, OnFront)),
            Some((false, Open))
        ],
        "the dearer of two that are level may be beaten: it is not shown"
    );
    let cheap = [
        ("c6gn.16xlarge", 1.0),
        ("c7gn.16xlarge", 2.0),
        ("c5n.18xlarge", 2.0),
    ];
    assert_eq!(
        front(&cheap),
        [
            Some((true, OnFront)),
            Some((false, Beaten)),
            Some((false, Beaten))
        ]
    );
    let partly = [("c7gn.16xlarge", 2.0), ("c5n.18xlarge", 1.0)];
    assert_eq!(
        front(&partly),
        [None, Some((true, Open)), Some((true, OnFront))]
    );
}

#[test]
fn runs_of_several_prices_have_none() {
    let mut reports = streams("a", 6, 1e9);
    for host in &mut reports[0].hosts {
        *host = host_of(&host.name, "a", "us-east-1", "spot");
    }
    let file = r#"{"currency": "USD", "source": "s", "as_of": "2026-11-01", "price": [
        {"instance_type": "a", "per_hour": 2},
        {"instance_type": "a", "per_hour": 1, "capacity": "spot"}]}"#;
    let options = Options {
        prices: Some(Prices::parse(file, "p.json").expect("it is well-formed")),
        ..by_type()
    };
    let ranking = ranked(&reports, &options);
    let price = standing(&ranking, "a")
        .price_per_hour
        .clone()
        .expect("there are prices");
    assert_eq!(
        price.reason(),
        Some("its runs cost 2 and 4 an hour: rank runs of one region and capacity")
    );
}

fn share_of(report: Report, group: &str) -> Fact<Share> {
    let options = Options {
        instance_types: Some(instance_types()),
        ..by_type()
    };
    let ranking = ranked(&[report], &options);
    standing(&ranking, group)
        .share
        .clone()
        .expect("there are limits")
}

fn shares(share: &Fact<Share>) -> (f64, f64) {
    let share = share.known().expect("a limit binds");
    let known = |fact: &Fact<f64>| fact.known().copied().unwrap_or(f64::NAN);
    (known(&share.of_baseline), known(&share.of_peak))
}

#[test]
fn the_network_s_limit_binds_between_machines_only() {
    let stream = |kind: &str, bytes_per_s: f64| streams(kind, 1, bytes_per_s).remove(0);
    assert_eq!(
        shares(&share_of(stream("c7gn.16xlarge", 20e9), "c7gn.16xlarge")),
        (0.8, 0.8)
    );
    let (baseline, peak) = shares(&share_of(stream("m5.large", 1e9), "m5.large"));
    assert!((baseline - 10.667).abs() < 0.001 && (peak - 0.8).abs() < 1e-9);
    // Of two types the slower one binds; of four cards a socket uses one.
    let mut mixed = stream("c7gn.16xlarge", 10e9);
    mixed.hosts[1] = host_of("n2", "p4d.24xlarge", "r", "spot");
    let share = share_of(mixed, "c7gn.16xlarge + p4d.24xlarge");
    assert_eq!(shares(&share), (0.8, 0.8));
    let notes = share
        .known()
        .map(|share| share.notes.clone())
        .unwrap_or_default();
    assert_eq!(notes, ["the limit is that of one of 4 network cards"]);
    let mut both = stream("c7gn.16xlarge", 20e9);
    let params = &mut both.cases[0].benchmark.params;
    params.insert("direction".to_owned(), "bidirectional".into());
    params.insert("flows".to_owned(), 1.into());
    let share = share_of(both, "c7gn.16xlarge");
    assert_eq!(shares(&share), (0.4, 0.4));
    let notes = share
        .known()
        .map(|share| share.notes.join("; "))
        .unwrap_or_default();
    assert!(
        notes.contains("one flow") && notes.contains("both directions"),
        "{notes}"
    );
    let mut alone = stream("c7gn.16xlarge", 20e9);
    alone.hosts.truncate(1);
    for (report, group, words) in [
        (alone, "c7gn.16xlarge", "only one machine"),
        (
            stream("x9.large", 1e9),
            "x9.large",
            "types.json has no x9.large",
        ),
        (stream("m4.large", 1e9), "m4.large", ""),
    ] {
        let share = share_of(report, group);
        match words {
            "" => assert!(share.known().is_some_and(|s| s.of_peak.known().is_none())),
            words => assert!(
                share.reason().is_some_and(|why| why.contains(words)),
                "{share:?}"
            ),
        }
    }
}

#[test]
fn ranks_must_be_on_different_machines_for_the_network_s_limit() {
    let ranks = |ranks: u64| {
        let mut report = streams("p4d.24xlarge", 1, 25e9).remove(0);
        let params = Map::from_iter([("ranks".to_owned(), ranks.into())]);
        report.cases[0].benchmark = Benchmark::new("mpi-kernels/bw", "x", params);
        share_of(report, "p4d.24xlarge")
    };
    assert_eq!(shares(&ranks(2)), (0.5, 0.5), "of all four cards");
    let why = ranks(96);
    assert!(
        why.reason()
            .is_some_and(|why| why.contains("which ranks share a machine"))
    );
}

#[test]
fn the_limits_of_ebs_bind_for_direct_io_on_a_volume_only() {
    let io = |unit: Unit, kind: &str, target: serde_json::Value| {
        let mut report = streams(kind, 1, 100e6).remove(0);
        report.hosts.truncate(1);
        report.cases[0].benchmark = Benchmark::new("storage-bench/block", "x", Map::new());
        let measurement = measurement_mut(&mut report, 0);
        measurement.metrics[0].unit = unit;
        measurement.facts.insert("target".to_owned(), target);
        report
    };
    let volume = |access: &str, model: serde_json::Value| {
        json!({"kind": "block device", "access": access,
            "device": {"name": "nvme1n1p1", "model": model}})
    };
    let ebs = || volume("direct", "Amazon Elastic Block Store".into());
    let bandwidth = share_of(io(Unit::BytesPerSecond, "i4i.xlarge", ebs()), "i4i.xlarge");
    assert_eq!(shares(&bandwidth), (0.32, 0.08));
    let iops = share_of(io(Unit::PerSecond, "i4i.xlarge", ebs()), "i4i.xlarge");
    assert_eq!(shares(&iops), (10_000.0, 2500.0));
    assert_eq!(
        iops.known().map(|share| share.limit.as_str()),
        Some("EBS IOPS")
    );
    // A device that does not tell its model is told by the host's list of disks.
    let unknown = || volume("direct", json!({"unavailable": "no model"}));
    let mut listed = io(Unit::PerSecond, "i4i.xlarge", unknown());
    with_disk(&mut listed.hosts[0], "nvme1n1", BlockKind::AwsEbs);
    assert!(share_of(listed, "i4i.xlarge").known().is_some());
    let store = volume("direct", "Amazon EC2 NVMe Instance Storage".into());
    let buffered = volume("buffered", "Amazon Elastic Block Store".into());
    for (target, words) in [
        (store, "its device is an instance store (1 × 937 GB ssd)"),
        (buffered, "page cache"),
        (
            unknown(),
            "its device nvme1n1p1 is not known to be an EBS volume",
        ),
        (json!({"kind": "none"}), "it used no device"),
        (json!(7), "buffered"),
    ] {
        let share = share_of(io(Unit::PerSecond, "i4i.xlarge", target), "i4i.xlarge");
        assert!(
            share.reason().is_some_and(|why| why.contains(words)),
            "{words}: {share:?}"
        );
    }
    let latency = share_of(io(Unit::Nanoseconds, "i4i.xlarge", ebs()), "i4i.xlarge");
    assert_eq!(latency.reason(), Some("EC2 documents no limit of it"));
}

#[test]
fn metrics_are_chosen_by_name_and_misspelt_ones_refused() {
    let options = |name: &str| Options {
        metrics: vec![name.to_owned()],
        ..by_type()
    };
    let ranking = ranked(&three(), &options("bandwidth_bytes_per_s"));
    assert_eq!(ranking.cases[0].metrics.len(), 1);
    let fault = rank(&three(), &options("bandwith")).expect_err("misspelt");
    assert!(
        fault
            .to_string()
            .contains("there are bandwidth_bytes_per_s"),
        "{fault}"
    );
    let mut reports = three();
    for report in &mut reports {
        measurement_mut(report, 0).metrics[0].direction = Direction::Neutral;
    }
    let ranking = ranked(&reports, &options("bandwidth_bytes_per_s"));
    assert!(ranking.blocked[0].field.contains("neither way is better"));
}

#[test]
fn what_else_differs_is_named() {
    let mut reports = three();
    for report in &mut reports[..8] {
        report.hosts[0].kernel.release = "6.1".to_owned().into();
        measurement_mut(report, 0)
            .facts
            .insert("engine".to_owned(), "other".into());
    }
    for report in &mut reports[8..] {
        measurement_mut(report, 0)
            .facts
            .insert("engine".to_owned(), "one".into());
    }
    let ranking = ranked(&reports, &by_type());
    let fields: Vec<_> = ranking
        .confounders
        .iter()
        .map(|c| c.field.as_str())
        .collect();
    assert_eq!(fields, ["kernel.release"]);
    let values = &ranking.confounders[0].values[0].values;
    assert_eq!(values, &["\"6.1\" / unavailable: a fixture"]);
    assert_eq!(ranking.cases[0].confounders[0].field, "facts.engine");
    assert!(
        ranked(&three(), &by_type()).confounders.is_empty(),
        "the types alone confound nothing"
    );
}

#[test]
fn failures_and_skips_are_left_out_with_their_words() {
    let mut reports = streams("a", 6, 1e9);
    reports.extend(streams("b", 6, 1e9));
    reports[0].cases[0].outcome = Outcome::Skipped {
        reason: "no TCP".to_owned(),
    };
    reports[1].cases[0].outcome = Outcome::Failed {
        error: "peer died".to_owned(),
    };
    let ranking = ranked(&reports, &by_type());
    assert_eq!(
        (
            standing(&ranking, "a").runs,
            standing(&ranking, "a").left_out
        ),
        (4, 2)
    );
    let whys: Vec<_> = ranking.left_out.iter().map(|l| l.why.as_str()).collect();
    assert_eq!(whys, ["skipped: no TCP", "failed: peer died"]);
}

#[test]
fn numbers_beyond_all_bounds_are_refused_or_finite() {
    let mut reports = streams("a", 6, 1e9);
    reports.extend(streams("b", 6, 1e9));
    for report in &mut reports[..6] {
        measurement_mut(report, 0).metrics[0].value = f64::MAX.into();
    }
    for report in &mut reports[6..] {
        measurement_mut(report, 0).metrics[0].value = (-f64::MAX).into();
    }
    let options = Options {
        prices: Some(prices(&[("a", 1e-9), ("b", 1e9)])),
        ..by_type()
    };
    let ranking = ranked(&reports, &options);
    let json = serde_json::to_string(&ranking).expect("it serialises");
    assert!(!json.contains(":inf") && !json.contains(":NaN"), "{json}");
    let per_price = only(&ranking).per_price.as_ref().and_then(Fact::known);
    let per_price = per_price.expect("a rate has it");
    assert!(per_price.standings.iter().any(|s| {
        s.reason
            .as_ref()
            .is_some_and(|r| r.contains("not a number"))
    }));
}
