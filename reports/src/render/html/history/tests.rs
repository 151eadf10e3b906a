//! Pages of histories made here: what is drawn, in which words, and how much of it.

use super::super::Page;
use super::*;
use crate::cluster::{Cluster, Expected};
use crate::fixtures;
use crate::history::{self, Batch, Trend};
use crate::model::{Report, Severity, Validity};
use crate::render::terminal::Style;
use crate::stats::random::Random;
use jiff::{Timestamp, ToSpan};

/// A run of these cases, so many hours after the first, on a host.
fn run(hour: usize, host: &str, cases: &[(&str, f64)]) -> Report {
    let mut report = fixtures::report(cases);
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    report.run.started = (start + (hour as i64).hours()).to_string();
    host.clone_into(&mut report.hosts[0].name);
    for case in 0..report.cases.len() {
        // A fixture of a debug build is flagged.
        fixtures::measurement_mut(&mut report, case).validity = Validity::default();
    }
    report
}

/// A run like another one, later and elsewhere: to take a host's fingerprint again takes long.
fn again(template: &Report, number: usize, hour: usize, host: &str, value: f64) -> Report {
    let mut report = template.clone();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    report.run.id = format!("{number:08}");
    report.run.started = (start + (hour as i64).hours()).to_string();
    host.clone_into(&mut report.hosts[0].name);
    fixtures::measurement_mut(&mut report, 0).metrics[0].value = value.into();
    report
}

/// Twenty runs of one level, twenty of another, and ten after another kernel.
fn changing() -> Vec<Report> {
    let mut random = Random::new(1);
    let level = |hour: usize| if hour < 20 { 1000.0 } else { 1200.0 };
    let one = |hour: usize| {
        let noise = (0.01 * random.normal()).exp();
        let mut report = run(hour, "fixture", &[("rr", level(hour) * noise)]);
        report.program.commit = if hour < 20 { "aaaaaaaa" } else { "bbbbbbbb" }
            .to_owned()
            .into();
        let kernel = if hour < 40 { "6.1.0" } else { "6.5.0" };
        report.hosts[0].kernel.release = kernel.to_owned().into();
        report
    };
    (0..50).map(one).collect()
}

fn followed(of_history: &[Report], of_page: &[Report]) -> Courses {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("history.jsonl");
    let mut batch = Batch::default();
    for report in of_history {
        batch.take(report).expect("it has a place");
    }
    history::append(&file, batch).expect("writable");
    let read = history::load(&file).expect("readable");
    history::courses(read, "history.jsonl".into(), of_page, Vec::new()).expect("followed")
}

fn shown(trend: &Trend) -> String {
    crate::render::trend::trend(trend, &Style::PLAIN)
}

/// The section alone, and its text.
fn section(page: &str) -> (String, String) {
    let from = page.find("id=\"history\"").expect("a section");
    let section = page[from..]
        .split("<h2")
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut text = String::new();
    let mut inside = true;
    for letter in section.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            letter if !inside => text.push(letter),
            _ => {}
        }
    }
    (section, text)
}

#[test]
fn the_page_says_of_each_change_what_the_terminal_says() {
    let mut runs = changing();
    fixtures::measurement_mut(&mut runs[3], 0).validity.flag(
        Severity::Degraded,
        "cpu_steal",
        "9 % of the CPU time",
    );
    fixtures::measurement_mut(&mut runs[5], 0).validity.flag(
        Severity::Invalid,
        "throttled",
        "it was",
    );
    let page_runs = &runs[45..];
    let courses = followed(&runs, page_runs);
    let page = Page::of_runs("changed", page_runs)
        .with_history(&courses)
        .render();
    let (section, text) = section(&page);
    let terminal = shown(&courses.trend);
    let mut said = 0;
    for line in terminal.lines().map(str::trim) {
        let told = [
            "worse since",
            "first run",
            "program.commit",
            "environment",
            "left out:",
            "degraded:",
        ];
        if told.iter().any(|words| line.starts_with(words)) {
            assert!(
                text.contains(line),
                "{line:?} of\n{terminal}\nis not in\n{text}"
            );
            said += 1;
        }
    }
    assert_eq!(said, 7, "{terminal}");
    assert!(text.contains("49 runs, 1 degraded, 1 left out"), "{text}");
    assert!(text.contains("5 of 5 are in it"), "{text}");
    for class in [
        "line upright c5",
        "line dashed c4",
        "ring line c1",
        "warning c0",
        "dots c0",
    ] {
        assert_eq!(
            section.matches(&format!("class=\"{class}\"")).count(),
            1,
            "{class}"
        );
    }
    let rings = section
        .split("ring line c1\" d=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    assert_eq!(rings.map(|rings| rings.matches('M').count()), Some(5));
    assert_eq!(
        section.matches("class=\"line c3\"").count(),
        3,
        "three levels"
    );
    let label = section
        .split("aria-label=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let label = label.expect("a text alternative");
    assert!(
        label.contains("over 49 runs from 2026-01-01 00:00 to 2026-01-03 01:00"),
        "{label}"
    );
    assert!(
        label.contains("worse since 2026-01-01 20:00: ratio 1.2"),
        "{label}"
    );
    assert_eq!(
        section.matches("<tr data-x").count(),
        49,
        "each run is in the table"
    );
}

#[test]
fn what_is_not_in_the_history_is_said() {
    let runs = changing();
    let mut mine = runs[49].clone();
    "mine".clone_into(&mut mine.run.id);
    mine.cases
        .extend(run(60, "fixture", &[("other", 1.0)]).cases);
    let reports = [mine];
    let courses = followed(&runs, &reports);
    let (_, text) = section(
        &Page::of_runs("new", &reports)
            .with_history(&courses)
            .render(),
    );
    assert!(
        text.contains(
            "0 of 1 are in it. reports trend add PATHS… --history history.jsonl adds runs"
        ),
        "{text}"
    );
    assert!(
        text.contains("The history has no run of 1 case of this page: test/other."),
        "{text}"
    );
    let others = [run(60, "fixture", &[("other", 1.0)])];
    let none = followed(&runs, &others);
    let (section, text) = section(&Page::of_runs("none", &others).with_history(&none).render());
    assert!(
        text.contains("history.jsonl holds none of this page's cases"),
        "{text}"
    );
    assert!(!section.contains("<svg"));
}

#[test]
fn of_a_cluster_each_metric_is_one_chart() {
    let template = run(0, "fixture", &[("rr", 1000.0)]);
    let rounds = |nodes: usize| -> Vec<Report> {
        let mut random = Random::new(2);
        let one = |at: usize| {
            let node = at % nodes;
            let slow = if node == 3 { 1.5 } else { 1.0 };
            let value = 1000.0 * slow * (0.01 * random.normal()).exp();
            again(&template, at, at / nodes, &format!("n{node}"), value)
        };
        (0..nodes * 12).map(one).collect()
    };
    for (nodes, lines) in [(10, 10), (80, 0)] {
        let runs = rounds(nodes);
        let last = &runs[nodes * 11..];
        let courses = followed(&runs, last);
        let cluster = Cluster::of(last, &Expected::AsReported);
        let page = Page::of_runs("many", last)
            .with_cluster(&cluster, None)
            .with_history(&courses);
        let (section, text) = section(&page.render());
        assert_eq!(section.matches("<figure").count(), 1, "{nodes}");
        assert_eq!(section.matches("class=\"thin").count(), lines, "{nodes}");
        assert_eq!(
            section.matches("class=\"area").count(),
            usize::from(lines == 0)
        );
        assert_eq!(section.matches("<tr data-x").count(), 12, "a row a round");
        assert!(
            text.contains(&format!("{} runs, {nodes} nodes; 12 columns", nodes * 12)),
            "{text}"
        );
        assert!(text.contains(&format!("{nodes} of this page")), "{text}");
        let told = history(&courses, &["n3", "elsewhere"]).into_string();
        assert_eq!(
            told.matches("class=\"line c2\"").count(),
            1,
            "the faulty node is told"
        );
        assert!(told.contains(">n3<"), "{told}");
        assert!(
            told.contains("µs (n3)</td>"),
            "and so is whose the highest number is"
        );
    }
}

#[test]
fn many_courses_are_folded_and_the_rest_is_counted() {
    let names: Vec<String> = (0..MOST_DRAWN + 5)
        .map(|case| format!("case{case}"))
        .collect();
    let runs: Vec<Report> = (0..20)
        .map(|hour| {
            let last = |name: &str| name == names[names.len() - 1] && hour >= 10;
            let cases: Vec<(&str, f64)> = names
                .iter()
                .map(|name| {
                    (
                        name.as_str(),
                        if last(name) {
                            1500.0
                        } else {
                            1000.0 + (hour % 3) as f64
                        },
                    )
                })
                .collect();
            run(hour, "fixture", &cases)
        })
        .collect();
    let courses = followed(&runs, &runs[19..]);
    let (section, text) = section(
        &Page::of_runs("many", &runs[19..])
            .with_history(&courses)
            .render(),
    );
    assert_eq!(section.matches("<figure").count(), MOST_DRAWN);
    let open = section.split("<summary>").next().unwrap_or_default();
    let first = section.find("<h3>").map(|at| &section[at..at + 40]);
    assert!(
        first.is_some_and(|first| first.contains("case52")),
        "the change comes first: {first:?}"
    );
    assert_eq!(open.matches("<figure").count(), 1);
    assert!(text.contains("47 courses without a change"), "{text}");
    assert!(text.contains("5 more courses are not drawn"), "{text}");
}

#[test]
fn a_long_course_is_condensed_and_hosts_that_never_come_back_have_no_lines() {
    let mut random = Random::new(3);
    let template = run(0, "fixture", &[("rr", 1000.0)]);
    let one = |hour: usize| {
        let value = 1000.0 * (0.01 * random.normal()).exp();
        again(&template, hour, hour, &format!("instance-{hour}"), value)
    };
    let runs: Vec<Report> = (0..1000).map(one).collect();
    let courses = followed(&runs, &runs[..500]);
    let page = history(&courses, &[]).into_string();
    assert_eq!(page.matches("<tr data-x").count(), 200);
    assert_eq!(page.matches("class=\"thin").count(), 0);
    assert!(
        page.contains("1000 runs; 200 columns of neighbouring runs"),
        "{page}"
    );
    assert!(page.len() < 80_000, "{} bytes", page.len());
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "</script><img src=x onerror=alert(1)>";
    let mut runs = changing();
    for report in &mut runs {
        hostile.clone_into(&mut report.hosts[0].name);
        report.program.commit = format!(
            "{hostile}{}",
            report.program.commit.known().cloned().unwrap_or_default()
        )
        .into();
    }
    let mut courses = followed(&runs, &runs[49..]);
    courses.file = hostile.into();
    let page = history(&courses, &[]).into_string();
    assert!(!page.contains("<img") && page.contains("&lt;img"), "{page}");
}
