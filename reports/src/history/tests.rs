//! Histories made here: what divides them, what is found, how seldom where there is nothing.

use super::*;
use crate::compare::{Class, fields::Fields};
use crate::fixtures;
use crate::model::{Fact, Metric, Severity};
use crate::stats::random::Random;
use jiff::{Timestamp, ToSpan};

const SPREAD: f64 = 0.03;

/// A result of one run, an hour after the one before it.
fn entry(template: &Entry, run: usize, value: f64) -> Entry {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let mut entry = template.clone();
    entry.run = format!("run-{run:05}");
    entry.started = (start + (run as i64).hours()).to_string();
    entry.metrics[0].value = Fact::Known(value);
    entry
}

/// What a report of one case gives, with an environment of a few fields.
fn template() -> (Entry, Environment) {
    let report = fixtures::report(&[("tcp_rr", 1000.0)]);
    let (mut environment, entries) = line::of_report(&report).expect("it has a place");
    environment.fields = [
        ("cloud.instance_type", "c7gn.16xlarge"),
        ("cloud.ami", "ami-1"),
        ("kernel.release", "6.1.0"),
        ("memory.total_bytes", "1000000"),
    ]
    .map(|(field, value)| (field.to_owned(), value.to_owned()))
    .into();
    let mut entry = entries[0].clone();
    environment.digest = "e1".to_owned();
    entry.environment = "e1".to_owned();
    // A fixture of a debug build is flagged.
    (entry.state, entry.reasons) = (State::Valid, Vec::new());
    (entry, environment)
}

/// A history of the values, in order; `change` may change each entry.
fn history(values: &[f64], change: impl Fn(usize, &mut Entry)) -> History {
    let (template, environment) = template();
    let mut history = History::default();
    for (run, value) in values.iter().enumerate() {
        let mut entry = entry(&template, run, *value);
        change(run, &mut entry);
        history.entries.push(entry);
    }
    history
        .environments
        .insert(environment.digest, environment.fields);
    history
}

/// Adds an environment like the first, but for some fields.
fn also(history: &mut History, digest: &str, fields: &[(&str, &str)]) {
    let mut changed: Fields = history.environments["e1"].clone();
    for (field, value) in fields {
        changed.insert((*field).to_owned(), (*value).to_owned());
    }
    history.environments.insert(digest.to_owned(), changed);
}

fn noisy(seed: u64, levels: &[(f64, usize)]) -> Vec<f64> {
    let mut random = Random::new(seed);
    levels
        .iter()
        .flat_map(|(level, runs)| std::iter::repeat_n(*level, *runs))
        .map(|level| level * (SPREAD * random.normal()).exp())
        .collect()
}

fn shown(history: &History) -> Trend {
    trend(history, &Options::default()).expect("there is something to show")
}

fn only(trend: &Trend) -> &MetricTrend {
    let [case] = trend.cases.as_slice() else {
        panic!("one case, not {}", trend.cases.len());
    };
    assert_eq!(case.metrics.len(), 1);
    &case.metrics[0]
}

fn commit(entry: &mut Entry, commit: &str) {
    let field = "program.commit".to_owned();
    entry.program.insert(field, commit.to_owned());
}

#[test]
fn steady_histories_seldom_show_a_change() {
    const SEEDS: u64 = 400;
    let alarms = (0..SEEDS)
        .filter(|seed| {
            let history = history(&noisy(*seed, &[(1000.0, 200)]), |_, _| {});
            !only(&shown(&history)).changes.is_empty()
        })
        .count();
    let share = alarms as f64 / SEEDS as f64;
    println!("false alarms: {share}");
    // The level is 1 %: 12 of 400 would be three standard deviations above it.
    assert!(share <= 0.03, "{share}");
}

#[test]
fn a_step_of_five_percent_is_found_near_its_place() {
    const SEEDS: u64 = 100;
    let (mut found, mut near, mut within, mut covered) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let history = history(&noisy(seed, &[(1000.0, 100), (1050.0, 100)]), |_, _| {});
        let trend = shown(&history);
        let changes = &only(&trend).changes;
        let Some(change) = changes
            .iter()
            .min_by_key(|change| change.point.abs_diff(100))
        else {
            continue;
        };
        let effect = change.effect.expect("a hundred runs suffice");
        found += usize::from(change.verdict == Verdict::Worse);
        near += usize::from(change.point.abs_diff(100) <= 5);
        within += usize::from((change.place[0]..=change.place[1]).contains(&100));
        covered += usize::from(effect.low <= 1.05 && 1.05 <= effect.high);
    }
    println!("found {found}, near {near}, place holds it {within}, interval holds it {covered}");
    assert!(found >= 99 && near >= 90, "{found} found, {near} near");
    assert!(
        within >= 90 && covered >= 85,
        "{within} within, {covered} covered"
    );
}

#[test]
fn a_step_at_a_commit_names_it() {
    for seed in 0..20 {
        let values = noisy(seed, &[(1000.0, 60), (1080.0, 60)]);
        let history = history(&values, |run, entry| {
            // Commits elsewhere must not be named.
            commit(entry, ["aaaa", "bbbb", "cccc", "dddd"][run / 30]);
        });
        let trend = shown(&history);
        let changes = &only(&trend).changes;
        let change = changes
            .iter()
            .min_by_key(|change| change.point.abs_diff(60));
        let change = change.expect("eight percent are found");
        let [difference] = change.differs.as_slice() else {
            panic!("seed {seed}: one difference, not {:?}", change.differs);
        };
        assert_eq!(difference.field, "program.commit");
        assert_eq!(
            (&*difference.a[0], &*difference.b),
            ("bbbb", &["cccc".to_owned()][..])
        );
        assert_eq!(change.verdict, Verdict::Worse);
    }
}

#[test]
fn a_changed_environment_divides_and_confounds_and_a_commit_does_not() {
    let values = noisy(1, &[(1000.0, 40), (1200.0, 40)]);
    let mut history = history(&values, |run, entry| {
        commit(entry, if run < 20 { "aaaa" } else { "bbbb" });
        entry.environment = if run < 40 { "e1" } else { "e2" }.to_owned();
    });
    also(
        &mut history,
        "e2",
        &[("kernel.release", "6.8.0"), ("cloud.ami", "ami-2")],
    );
    let trend = shown(&history);
    let [change] = only(&trend).changes.as_slice() else {
        panic!("one change, not {:?}", only(&trend).changes);
    };
    assert_eq!((change.kind, change.point), (ChangeKind::Environment, 40));
    assert_eq!(
        (change.observed, change.verdict),
        (Verdict::Worse, Verdict::Confounded)
    );
    let fields: Vec<&str> = change.differs.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["cloud.ami", "kernel.release"]);
    assert!(
        change
            .effect
            .is_some_and(|effect| effect.low < 1.2 && 1.2 < effect.high)
    );

    // Under study they divide nothing and are named beside the change.
    let axes = ["cloud.ami", "kernel"].map(|axis| axis.parse().expect("a field"));
    let options = Options {
        axes: axes.into(),
        ..Options::default()
    };
    let trend = super::trend(&history, &options).expect("it is shown");
    let [change] = only(&trend).changes.as_slice() else {
        panic!("one change, not {:?}", only(&trend).changes);
    };
    assert_eq!(
        (change.kind, change.verdict),
        (ChangeKind::Level, Verdict::Worse)
    );
    assert!(change.differs.iter().all(|d| d.class == Class::Declared));
    assert!(
        change
            .differs
            .iter()
            .any(|d| d.field == "cloud.ami" && d.b == ["ami-2"])
    );
}

#[test]
fn what_does_not_count_divides_nothing() {
    let mut history = history(&noisy(2, &[(1000.0, 40)]), |run, entry| {
        entry.environment = if run % 2 == 0 { "e1" } else { "e2" }.to_owned();
        entry.hosts = vec![format!("ip-10-0-0-{run}")];
    });
    also(&mut history, "e2", &[("memory.total_bytes", "1002000")]);
    assert_eq!(only(&shown(&history)).changes, []);
}

#[test]
fn environments_that_take_turns_have_histories_of_their_own() {
    let mut history = history(&noisy(3, &[(1000.0, 60)]), |run, entry| {
        entry.environment = if run % 2 == 0 { "e1" } else { "e2" }.to_owned();
    });
    also(&mut history, "e2", &[("kernel.release", "6.8.0")]);
    let trend = shown(&history);
    let [one, other] = trend.cases.as_slice() else {
        panic!("two histories, not {}", trend.cases.len());
    };
    assert_eq!((one.runs.len(), other.runs.len()), (30, 30));
    assert_eq!(one.environment, ["kernel.release: 6.1.0"]);
    assert_eq!(other.environment, ["kernel.release: 6.8.0"]);
    assert_eq!(
        (&*one.metrics[0].changes, &*other.metrics[0].changes),
        (&[][..], &[][..])
    );
}

#[test]
fn a_kernel_that_is_taken_back_divides_twice() {
    let mut history = history(&noisy(4, &[(1000.0, 60)]), |run, entry| {
        let back = (20..40).contains(&run);
        entry.environment = if back { "e2" } else { "e1" }.to_owned();
    });
    also(&mut history, "e2", &[("kernel.release", "6.8.0")]);
    let trend = shown(&history);
    let changes = &only(&trend).changes;
    let places: Vec<usize> = changes.iter().map(|change| change.point).collect();
    assert_eq!(places, [20, 40]);
    assert!(
        changes
            .iter()
            .all(|change| change.observed == Verdict::Same)
    );
}

#[test]
fn other_hosts_definitions_arms_and_units_are_other_histories() {
    let values = noisy(5, &[(1000.0, 50)]);
    let mut history = history(&values, |run, entry| match run / 10 {
        1 => entry.environment = "e2".to_owned(),
        2 => entry.definition_hash = "0123".to_owned(),
        3 => entry.hosts = vec!["a".to_owned(), "b".to_owned()],
        4 => entry.metrics[0].unit = Unit::Seconds,
        _ => {}
    });
    also(&mut history, "e2", &[("cloud.instance_type", "m7i.large")]);
    let trend = shown(&history);
    let runs: Vec<usize> = trend.cases.iter().map(|case| case.runs.len()).collect();
    assert_eq!(runs, [20, 10, 10, 10]);
    let points = trend.cases[0]
        .metrics
        .iter()
        .map(|metric| (metric.points.len(), metric.missing));
    assert_eq!(points.collect::<Vec<_>>(), [(10, 10), (10, 10)]);
    let hosts: Vec<&str> = trend.cases.iter().map(|case| case.hosts.as_str()).collect();
    assert_eq!(hosts[0], "c7gn.16xlarge");
    assert_eq!(hosts[1], "m7i.large");
    assert_eq!(hosts[3], "2 hosts, c7gn.16xlarge");
}

#[test]
fn a_fact_that_changes_with_the_level_confounds_it() {
    let values = noisy(6, &[(1000.0, 40), (1300.0, 40)]);
    let history = history(&values, |run, entry| {
        let engine = if run < 40 { "uring" } else { "psync" };
        entry
            .facts
            .insert("facts.engine".to_owned(), engine.to_owned());
        entry
            .facts
            .insert("facts.rounds".to_owned(), run.to_string());
    });
    let trend = shown(&history);
    let change = &only(&trend).changes[0];
    assert_eq!(
        (change.observed, change.verdict),
        (Verdict::Worse, Verdict::Confounded)
    );
    let fields: Vec<&str> = change.differs.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["facts.engine"]);
}

#[test]
fn runs_that_do_not_count_are_named_and_degraded_ones_marked() {
    let values = noisy(7, &[(1000.0, 20)]);
    let history = history(&values, |run, entry| {
        let (state, reason) = match run {
            3 => (State::Invalid, "no_samples: none"),
            4 => (State::Failed, "the peer died"),
            5 => (State::Degraded, "cpu_steal: 3 %"),
            6 => (State::Skipped, "no device"),
            _ => return,
        };
        entry.state = state;
        entry.reasons = vec![reason.to_owned()];
    });
    let trend = shown(&history);
    let case = &trend.cases[0];
    let why: Vec<&str> = case
        .left_out
        .iter()
        .map(|left_out| left_out.why.as_str())
        .collect();
    assert_eq!(
        why,
        [
            "invalid: no_samples: none",
            "failed: the peer died",
            "skipped: no device"
        ]
    );
    assert_eq!(
        case.runs
            .iter()
            .filter(|run| !run.degraded.is_empty())
            .count(),
        1
    );
    assert_eq!(only(&trend).points.len(), 17);
}

#[test]
fn numbers_of_any_size_make_no_panic_and_no_infinity() {
    for values in [
        [0.0; 30],
        [-1.0; 30],
        [f64::MIN_POSITIVE; 30],
        [f64::MAX; 30],
    ] {
        let mut values = values.to_vec();
        values[15..].iter_mut().for_each(|value| *value = 1e300);
        let history = history(&values, |_, _| {});
        let trend = shown(&history);
        let effect = only(&trend)
            .changes
            .first()
            .and_then(|change| change.effect);
        assert!(effect.is_none_or(|effect| effect.value.is_finite() && effect.high.is_finite()));
        let text = crate::render::trend::trend(&trend, &crate::render::terminal::Style::PLAIN);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}

#[test]
fn a_report_gives_what_a_history_keeps_and_a_line_keeps_it() {
    let mut report = fixtures::report(&[("tcp_rr", 1000.0), ("tcp_crr", 2000.0)]);
    let validity = &mut fixtures::measurement_mut(&mut report, 1).validity;
    validity.flag(Severity::Degraded, "cpu_steal", "3 %");
    validity.flag(Severity::Info, "note", "nothing");
    let (environment, entries) = line::of_report(&report).expect("it has a place");
    assert!(
        !environment.fields.contains_key("name"),
        "names tell nothing"
    );
    assert!(
        environment
            .fields
            .keys()
            .all(|field| !field.starts_with("program."))
    );
    assert!(entries[0].program.contains_key("program.commit"));
    assert_eq!(entries[1].state, State::Degraded);
    assert!(entries[1].reasons.contains(&"cpu_steal: 3 %".to_owned()));
    assert!(
        entries[1]
            .reasons
            .iter()
            .all(|reason| !reason.starts_with("note"))
    );
    let metric: &Metric = &entries[0].metrics[0];
    assert_eq!(metric.value, Fact::Known(1000.0));
    let text = line::text(line::Content::Result(Box::new(entries[0].clone())));
    let Ok(line::Content::Result(read)) = line::parse(text.as_bytes()) else {
        panic!("a result");
    };
    assert_eq!(*read, entries[0]);

    report.run.started = "yesterday".to_owned();
    let refused = line::of_report(&report).expect_err("that is no time");
    assert!(
        refused.contains("run.started") && refused.contains("yesterday"),
        "{refused}"
    );
}

/// A report of the case that a history of `template` follows, of this run, row and arm.
fn of_run(run: &str, place: Option<(&str, &str)>) -> crate::model::Report {
    let mut report = fixtures::report(&[("tcp_rr", 1000.0)]);
    run.clone_into(&mut report.run.id);
    report.run.session = place.map(|(row, arm)| session(row, arm));
    report
}

fn session(row: &str, arm: &str) -> crate::model::Session {
    crate::model::Session {
        id: "s".to_owned(),
        suite: "x".to_owned(),
        row: row.to_owned(),
        position: 1,
        repetition: 1,
        order_index: 1,
        pair_id: None,
        arm: Some(arm.to_owned()),
    }
}

#[test]
fn of_a_history_the_courses_that_fit_the_reports_best_are_chosen() {
    let made = || {
        history(&noisy(1, &[(1000.0, 40)]), |run, entry| {
            entry.session = Some(session("row", ["a", "b"][run % 2]));
            if run % 4 == 0 {
                // Two hosts are another kind than one.
                entry.hosts = vec!["x".to_owned(), "y".to_owned()];
            }
        })
    };
    let chosen = |reports: &[crate::model::Report]| {
        courses(made(), "h".into(), reports, Vec::new()).expect("followed")
    };
    // Arm a on two kinds of hosts, and arm b on one.
    let with_run = chosen(&[of_run("run-00002", Some(("row", "a")))]);
    assert_eq!((with_run.trend.cases.len(), with_run.elsewhere), (1, 2));
    assert!(
        with_run.trend.cases[0]
            .runs
            .iter()
            .all(|run| run.hosts.len() == 1)
    );
    assert_eq!((with_run.trend.runs, with_run.runs_outside), (10, 0));
    let without = chosen(&[of_run("new", Some(("row", "a")))]);
    assert_eq!((without.trend.cases.len(), without.elsewhere), (2, 1));
    assert_eq!(without.runs_outside, 1);
    let by_hand = chosen(&[of_run("new", None)]);
    assert_eq!((by_hand.trend.cases.len(), by_hand.elsewhere), (3, 0));
    let other = chosen(&[of_run("new", Some(("other row", "a")))]);
    assert_eq!((other.trend.cases.len(), other.unknown.len()), (0, 1));
}
