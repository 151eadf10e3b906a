//! Comparisons of reports built here: what is found, what blocks, what confounds.

use super::*;
use crate::fixtures;
use crate::model::{Benchmark, Session, Severity, Unit};

/// Runs of one case with a little spread around a latency.
fn runs(count: u32, latency_ns: f64) -> Vec<Report> {
    (0..count)
        .map(|run| {
            let noise = 1.0 + 0.002 * f64::from(run * 7 % 11) + 1e-5 * latency_ns / 1e3;
            fixtures::report(&[("tcp_rr", latency_ns * noise)])
        })
        .collect()
}

fn gated(percent: &str) -> Options {
    Options {
        gate: Some(Gate::new(percent.parse().expect("a percentage"))),
        ..Options::default()
    }
}

fn only(comparison: &Comparison) -> &MetricComparison {
    &comparison.cases[0].metrics[0]
}

fn compared(a: &[Report], b: &[Report], options: &Options) -> Comparison {
    compare(a, b, options).expect("they can be set side by side")
}

#[test]
fn a_change_has_a_ratio_an_interval_and_a_verdict() {
    let (a, b) = (runs(10, 10_000.0), runs(10, 11_000.0));
    let worse = compared(&a, &b, &gated("3%"));
    let metric = only(&worse);
    let effect = metric.effect.expect("ten runs suffice");
    assert!((effect.value - 1.1).abs() < 0.01 && effect.low > 1.03);
    assert_eq!(
        (metric.verdict, worse.status),
        (Verdict::Worse, Status::Regression)
    );
    assert_eq!(compared(&a, &b, &gated("20%")).status, Status::Pass);
    assert_eq!(compared(&a, &b, &Options::default()).status, Status::Pass);
    let better = compared(&b, &a, &gated("3%"));
    assert_eq!(
        (only(&better).verdict, better.status),
        (Verdict::Better, Status::Pass)
    );
    let same = compared(&a, &runs(10, 10_000.0), &gated("0%"));
    assert_eq!(
        (only(&same).verdict, same.status),
        (Verdict::Same, Status::Pass)
    );
}

#[test]
fn three_runs_are_insufficient_and_invalid_ones_are_left_out() {
    let few = compared(&runs(3, 1e4), &runs(10, 2e4), &Options::default());
    assert_eq!(
        (only(&few).verdict, few.status),
        (Verdict::Insufficient, Status::Insufficient)
    );
    let mut a = runs(4, 1e4);
    let validity = &mut fixtures::measurement_mut(&mut a[0], 0).validity;
    validity.flag(Severity::Invalid, "interrupted", "by SIGINT");
    let left = compared(&a, &runs(4, 1e4), &Options::default());
    assert_eq!(only(&left).a.runs, 3);
    assert!(left.a.left_out[0].why.contains("interrupted: by SIGINT"));
}

#[test]
fn runs_with_pair_ids_are_compared_as_pairs() {
    let pair = |mut reports: Vec<Report>| {
        for (index, report) in reports.iter_mut().enumerate() {
            report.run.session = Some(Session {
                id: "s".to_owned(),
                suite: "x".to_owned(),
                row: "r".to_owned(),
                position: 1,
                repetition: index as u32 + 1,
                order_index: index as u32 + 1,
                pair_id: Some(index.to_string()),
                arm: None,
            });
        }
        reports
    };
    let (a, b) = (pair(runs(8, 1e4)), pair(runs(8, 1.2e4)));
    let paired = compared(&a, &b, &Options::default());
    assert_eq!(
        (only(&paired).pairs, only(&paired).verdict),
        (Some(8), Verdict::Worse)
    );
    let five = compared(&a[..5], &b[..5], &Options::default());
    assert_eq!(
        (only(&five).pairs, only(&five).verdict),
        (None, Verdict::Worse)
    );
}

#[test]
fn another_definition_parameter_unit_or_node_count_blocks() {
    let a = runs(5, 1e4);
    let blocked = |change: fn(&mut Report)| {
        let mut b = runs(5, 1e4);
        b.iter_mut().for_each(change);
        let comparison = compared(&a, &b, &Options::default());
        assert_eq!(comparison.status, Status::Incomparable);
        comparison.blocked[0].field.clone()
    };
    let definition = blocked(|report| {
        let old = &report.cases[0].benchmark;
        report.cases[0].benchmark = Benchmark::new(&*old.id, "another", old.params.clone());
    });
    let params = blocked(|report| {
        let params = &mut report.cases[0].benchmark.params;
        params.insert("size_bytes".to_owned(), 8.into());
    });
    let unit = blocked(|report| {
        fixtures::measurement_mut(report, 0).metrics[0].unit = Unit::Seconds;
    });
    let nodes = blocked(|report| report.hosts.push(report.hosts[0].clone()));
    assert_eq!(
        [definition, params, unit, nodes],
        [
            "definition_hash",
            "params.size_bytes",
            "unit of round_trip_ns p50",
            "node count"
        ]
    );
}

#[test]
fn what_differs_undeclared_confounds_and_declared_does_not() {
    let (a, mut b) = (runs(8, 1e4), runs(8, 1.2e4));
    for report in &mut b {
        let environment = &mut report.run.environment;
        environment.insert("FI_PROVIDER".to_owned(), "tcp".to_owned());
    }
    let confounded = compared(&a, &b, &gated("3%"));
    assert_eq!(confounded.environment[0].field, "environment.FI_PROVIDER");
    assert_eq!(only(&confounded).verdict, Verdict::Confounded);
    assert_eq!(confounded.status, Status::Incomparable);
    let mut options = gated("3%");
    options.axes = vec!["FI_PROVIDER".parse().expect("a field")];
    let declared = compared(&a, &b, &options);
    assert_eq!(declared.environment[0].class, Class::Declared);
    assert_eq!(
        (only(&declared).verdict, declared.status),
        (Verdict::Worse, Status::Regression)
    );
    options.axes = vec!["no_such".parse().expect("a field")];
    assert!(matches!(
        compare(&a, &b, &options),
        Err(CompareError::NoSuchAxis { .. })
    ));
}

/// Every leaf of the fingerprint, changed alone, must be named.
#[test]
fn any_single_changed_field_of_a_host_is_named() {
    let a = runs(1, 1e4);
    let host = serde_json::to_value(&a[0].hosts[0]).expect("a host serialises");
    let mut pointers = Vec::new();
    leaves(&host, String::new(), &mut pointers);
    assert!(!pointers.is_empty());
    let mut changed_leaves = 0;
    for pointer in pointers {
        let mut changed = host.clone();
        let leaf = changed.pointer_mut(&pointer).expect("it was just found");
        *leaf = match &*leaf {
            serde_json::Value::String(text) => format!("{text}x").into(),
            serde_json::Value::Bool(value) => (!value).into(),
            other => other.as_u64().map_or(0.into(), |value| (value + 1).into()),
        };
        // A changed word of an enumeration is no host any more.
        let Ok(other) = serde_json::from_value(changed) else {
            continue;
        };
        let mut b = runs(1, 1e4);
        b[0].hosts = vec![other];
        let comparison = compared(&a, &b, &Options::default());
        assert!(!comparison.environment.is_empty(), "{pointer} is not named");
        changed_leaves += 1;
    }
    assert!(changed_leaves > 0);
}

fn leaves(value: &serde_json::Value, path: String, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(value, format!("{path}/{name}"), into);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, format!("{path}/{index}"), into);
            }
        }
        _ => into.push(path),
    }
}

#[test]
fn numbers_with_zero_are_compared_by_difference_and_still_gated() {
    let zero = |count: u32, latency_ns: f64| {
        let mut reports = runs(count, latency_ns);
        for (index, report) in reports.iter_mut().enumerate() {
            let value = if latency_ns == 0.0 {
                0.0
            } else {
                index as f64 + 100.0
            };
            fixtures::measurement_mut(report, 0).metrics[0].value = value.into();
        }
        reports
    };
    let comparison = compared(&zero(6, 0.0), &zero(6, 1.0), &gated("3%"));
    let effect = only(&comparison).effect.expect("six runs suffice");
    assert_eq!(
        (effect.scale, comparison.status),
        (Scale::Difference, Status::Regression)
    );
}

#[test]
fn a_run_on_both_sides_is_refused() {
    let a = runs(4, 1e4);
    let fault = compare(&a, &a, &Options::default()).expect_err("it is the same run");
    assert!(fault.to_string().contains("in both A and B"));
}

#[test]
fn hosts_of_which_nothing_is_known_are_not_called_equal() {
    let unknown = |mut reports: Vec<Report>| {
        for report in &mut reports {
            report.hosts = vec![crate::host::Host::unknown("imported", "fio does not say")];
        }
        reports
    };
    let (a, b) = (unknown(runs(6, 1e4)), unknown(runs(6, 1e4)));
    let comparison = compared(&a, &b, &Options::default());
    assert_eq!(
        comparison.unknown_environment.as_deref(),
        Some("fio does not say")
    );
    let style = crate::render::terminal::Style::PLAIN;
    let text = crate::render::compare::comparison(&comparison, &style);
    assert!(
        text.contains("environment: unknown on both sides"),
        "{text}"
    );
    let known = compared(&runs(6, 1e4), &runs(6, 1e4), &Options::default());
    assert_eq!(known.unknown_environment, None);
}

#[test]
fn a_run_among_others_on_both_sides_belongs_to_neither() {
    let (a, mut b) = (runs(6, 1e4), runs(6, 2e4));
    b.push(a[0].clone());
    let comparison = compared(&a, &b, &Options::default());
    assert_eq!((comparison.a.runs, comparison.b.runs), (5, 6));
    assert_eq!(only(&comparison).verdict, Verdict::Worse);
    for group in [&comparison.a, &comparison.b] {
        assert_eq!(group.left_out[0].run, a[0].run.id);
        assert!(group.left_out[0].why.contains("belongs to neither"));
    }
    // What was asked for was something else: it cannot pass, but a regression stays one.
    assert_eq!(comparison.status, Status::Insufficient);
    assert_eq!(compared(&a, &b, &gated("3%")).status, Status::Regression);
}

#[test]
fn the_text_names_verdicts_differences_and_what_is_missing() {
    let (a, mut b) = (runs(8, 1e4), runs(8, 1.2e4));
    b[0].program.build_profile = "other".to_owned().into();
    b.push(b[0].clone());
    b.push(fixtures::report(&[("lone", 1.0)]));
    let comparison = compared(&a, &b, &gated("3%"));
    let style = crate::render::terminal::Style::PLAIN;
    let text = crate::render::compare::comparison(&comparison, &style);
    for expected in [
        "A 8 runs",
        "B 9 runs",
        "confounder: program.build_profile: debug → debug | other",
        "confounded beyond 3%",
        "given twice",
        "only in B: test/lone",
    ] {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(expected) || flat.contains(expected),
            "{expected:?}:\n{text}"
        );
    }
    assert!(!text.contains('\u{1b}'));
}
