//! JUnit XML, which every CI system shows: a benchmark is a suite, a case a test.
//!
//! What failed and what is invalid fails the test, what was skipped is skipped with its reason. The
//! numbers are properties, and stand in the test's output for people. Characters that XML forbids
//! are spelt out before the library that writes it could drop them.

use super::{Cases, ExportError};
use crate::compare::{Comparison, MetricComparison, Verdict};
use crate::model::{Report, Severity};
use crate::render::compare::{cells, fails};
use crate::render::differences::in_words;
use crate::render::table::interval;
use crate::render::terminal::Style;
use crate::render::text::visible;
use crate::render::units::human_fact;
use crate::summary::{CaseSummary, count};
use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

/// A suite per benchmark, a test per case.
pub(super) fn cases(cases: &Cases, reports: &[Report]) -> Result<String, ExportError> {
    let session = reports
        .iter()
        .find_map(|report| report.run.session.as_ref());
    let name = session.map_or("benchmarks", |session| session.suite.as_str());
    let mut xml = quick_junit::Report::new(visible(name));
    let entries: Vec<(&CaseSummary, &str)> = cases.iter().collect();
    let same =
        |a: &(&CaseSummary, &str), b: &(&CaseSummary, &str)| a.0.benchmark.id == b.0.benchmark.id;
    for benchmark in entries.chunk_by(same) {
        let mut suite = TestSuite::new(visible(&benchmark[0].0.benchmark.id));
        let tests = benchmark.iter().map(|(case, label)| test(case, label));
        suite.add_test_cases(tests);
        xml.add_test_suite(suite);
    }
    Ok(xml.to_string()?)
}

fn test(case: &CaseSummary, label: &str) -> TestCase {
    let mut test = TestCase::new(visible(label), status(case));
    test.set_classname(visible(&case.benchmark.id));
    let mut lines = Vec::new();
    for metric in &case.metrics {
        let title = metric.title();
        if let Some(median) = metric.median.known() {
            test.add_property(property(&title, &median.to_string()));
        }
        if let Ok(interval) = &metric.interval {
            test.add_property(property(&format!("{title} low"), &interval.low.to_string()));
            test.add_property(property(
                &format!("{title} high"),
                &interval.high.to_string(),
            ));
        }
        if metric.headline {
            let median = human_fact(&metric.median, metric.unit);
            let runs = count(metric.values.len(), "run");
            lines.push(format!(
                "{title}: {median}, {} over {runs}",
                interval(metric)
            ));
        }
    }
    test.add_property(property("runs", &case.measured.to_string()));
    test.add_property(property("hosts", &case.hosts.join(" ")));
    for (flag, runs) in &case.flags {
        let what = format!("{} ({}): {}", flag.code, count(*runs, "run"), flag.evidence);
        let word = match flag.severity {
            Severity::Info => "note",
            Severity::Degraded => "degraded",
            Severity::Invalid => "invalid",
        };
        test.add_property(property(word, &what));
        lines.push(format!("{word}: {what}"));
    }
    if let Some(verified) = &case.verified {
        test.add_property(property("verified", verified));
    }
    if !lines.is_empty() {
        let lines: Vec<_> = lines.iter().map(|line| visible(line)).collect();
        test.set_system_out(lines.join("\n"));
    }
    test
}

fn status(case: &CaseSummary) -> TestCaseStatus {
    if let Some((error, runs)) = case.failed.first_key_value() {
        let all = case.failed.values().sum::<usize>();
        let message = match all == *runs {
            true => format!("{}: {error}", count(all, "run")),
            false => format!("{}, the first: {error}", count(all, "run")),
        };
        return not_passed(NonSuccessKind::Failure, "failed", &message);
    }
    let invalid = case
        .flags
        .iter()
        .filter(|(flag, _)| flag.severity == Severity::Invalid);
    let flags: Vec<String> = invalid
        .map(|(flag, runs)| format!("{} ({}): {}", flag.code, count(*runs, "run"), flag.evidence))
        .collect();
    if !flags.is_empty() {
        return not_passed(NonSuccessKind::Failure, "invalid", &flags.join("; "));
    }
    match case.skipped.keys().next() {
        Some(reason) if case.measured == 0 => skipped(reason),
        _ => TestCaseStatus::success(),
    }
}

fn not_passed(kind: NonSuccessKind, what: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(what).set_message(visible(message));
    status
}

fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(visible(reason));
    status
}

fn property(name: &str, value: &str) -> Property {
    Property::new(visible(name), visible(value))
}

/// A suite per case, a test per metric. What the gate stops fails; what cannot be compared is an
/// error; where the data do not suffice the test is skipped.
pub(super) fn comparison(comparison: &Comparison) -> Result<String, ExportError> {
    let mut xml = quick_junit::Report::new("comparison");
    for case in &comparison.cases {
        let label = &case.label;
        let mut suite = TestSuite::new(visible(label));
        for difference in comparison.environment.iter().chain(&case.confounders) {
            let class = format!("{:?}", difference.class).to_lowercase();
            suite.add_property(property(&class, &in_words(difference)));
        }
        suite.add_test_cases(case.metrics.iter().map(|metric| compared(label, metric)));
        if case.metrics.is_empty() {
            let status = skipped("no valid run has a number");
            suite.add_test_case(TestCase::new(visible(label), status));
        }
        xml.add_test_suite(suite);
    }
    if !comparison.blocked.is_empty() {
        let mut suite = TestSuite::new("not comparable");
        for blocked in &comparison.blocked {
            let (a, b) = (blocked.a.join(", "), blocked.b.join(", "));
            let message = format!("{}: A {a}; B {b}", blocked.field);
            let status = not_passed(NonSuccessKind::Error, "incomparable", &message);
            suite.add_test_case(TestCase::new(visible(&blocked.case), status));
        }
        xml.add_test_suite(suite);
    }
    Ok(xml.to_string()?)
}

fn compared(label: &str, metric: &MetricComparison) -> TestCase {
    let [title, a, b, effect, interval, p, runs, detectable, verdict] =
        cells(metric, &Style::PLAIN);
    let line = format!(
        "{verdict}: A {a}, B {b}, B/A {effect}, 95 % interval {interval}, p {p}, runs {runs}, \
         detectable {detectable}"
    );
    let what = match metric.verdict {
        Verdict::Confounded => "confounded",
        _ => "regression",
    };
    let status = match &metric.reason {
        _ if fails(metric) => not_passed(NonSuccessKind::Failure, what, &line),
        Some(reason) => skipped(reason),
        None => TestCaseStatus::success(),
    };
    let mut test = TestCase::new(visible(&title), status);
    test.set_classname(visible(label));
    test.add_property(property("verdict", &verdict));
    let numbers = [
        ("A", metric.a.median),
        ("B", metric.b.median),
        ("effect", metric.effect.map(|effect| effect.value)),
        ("low", metric.effect.map(|effect| effect.low)),
        ("high", metric.effect.map(|effect| effect.high)),
        ("p", metric.adjusted_p_value),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            test.add_property(property(name, &number.to_string()));
        }
    }
    test.set_system_out(visible(&line));
    test
}
