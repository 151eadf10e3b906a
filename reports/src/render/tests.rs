//! The renderers for terminals as a whole: at every width, and on reports that mean harm.

use super::terminal::{self, Style};
use super::text::{columns, visible_lines};
use super::{compare, table};
use crate::compare::{Gate, Options, compare};
use crate::fixtures;
use crate::measure::{histogram_record, latency_metrics, new_histogram, rate_metrics};
use crate::model::{
    Aggregation, Direction, Interval, Metric, Outcome, Report, Severity, Unit, Work,
};
use crate::summary::summarise;
use serde_json::{Value, json};

/// A run with everything that a report can hold: a distribution, a peer's, a sweep, a skip, a
/// failure, flags, facts, slices.
fn report(run: u64) -> Report {
    let mut names = vec![("rr", 1.0); 1];
    names.extend([("bw", 1.0); 6]);
    names.extend([("efa", 1.0), ("udp", 1.0)]);
    let mut report = fixtures::report(&names);
    report.run.id = format!("run-{run}");
    let rr = fixtures::measurement_mut(&mut report, 0);
    let mut histogram = new_histogram();
    for sample in 0..20_000u64 {
        let value = 10_000 + run * 10 + sample * sample % 7919 * (1 + sample % 3);
        histogram.record(value).expect("in bounds");
    }
    let work = Work {
        ops: 20_000,
        bytes: 40_000,
    };
    rr.metrics = rate_metrics("transactions_per_s", work, 1.0);
    rr.metrics
        .extend(latency_metrics("round_trip_ns", &histogram));
    rr.metrics.push(
        Metric::new(
            "half_round_trip_ns",
            Aggregation::Mean,
            Unit::Nanoseconds,
            Direction::LowerIsBetter,
            7330.0,
            20_000,
        )
        .compat("sockperf"),
    );
    rr.histograms = vec![histogram_record("round_trip_ns", &histogram)];
    rr.intervals = (0..90).map(slice).collect();
    rr.verified = "20000 responses matched their requests, every one of them".to_owned();
    let device = json!({"name": "vda", "model": {"unavailable": "sysfs has no model"}});
    rr.facts.insert("target".to_owned(), device);
    let evidence = "the hypervisor took 9.6 % of the CPU time (limit 1 %), as it said itself";
    rr.validity.flag(Severity::Degraded, "cpu_steal", evidence);
    rr.validity
        .flag(Severity::Invalid, "interrupted", "by SIGINT");
    for (index, size) in [1u64, 64, 4096, 65_536, 1 << 20, 1 << 30]
        .iter()
        .enumerate()
    {
        let params = &mut report.cases[1 + index].benchmark.params;
        params.insert("size_bytes".to_owned(), (*size).into());
        params.insert("transport".to_owned(), "tcp".into());
        let value = 1e3 * (*size as f64) + run as f64;
        fixtures::measurement_mut(&mut report, 1 + index).metrics = vec![
            metric("bandwidth_bytes_per_s", value).headline(),
            metric("messages_per_s", 7.0).headline(),
            metric("bandwidth_bytes_per_s", value * 0.9).compat("OSU"),
        ];
    }
    let params = &mut report.cases[0].benchmark.params;
    params.insert("server".to_owned(), "in_process".into());
    report.cases[7].outcome = Outcome::Skipped {
        reason: "no EFA device: the driver efa is not loaded on this machine".to_owned(),
    };
    report.cases[8].outcome = Outcome::Failed {
        error: "cannot connect to 127.0.0.1:5201: connection refused; start the server".to_owned(),
    };
    report
}

fn metric(name: &str, value: f64) -> Metric {
    let unit = match name {
        "messages_per_s" => Unit::PerSecond,
        _ => Unit::BytesPerSecond,
    };
    Metric::new(
        name,
        Aggregation::Total,
        unit,
        Direction::HigherIsBetter,
        value,
        1,
    )
}

fn slice(index: u32) -> Interval {
    Interval {
        t0_s: f64::from(index),
        t1_s: f64::from(index + 1),
        work: Work {
            ops: 1000 + u64::from(index),
            bytes: 0,
        },
        p50_ns: None,
        p99_ns: None,
        max_ns: None,
        hdr_v2_base64: None,
        flags: Vec::new(),
    }
}

/// Everything that is drawn for a terminal.
fn drawn(of: &dyn Fn(u64) -> Report, style: Style) -> Vec<(&'static str, String)> {
    let runs: Vec<Report> = (0..6).map(of).collect();
    let mut slower: Vec<Report> = (6..12).map(of).collect();
    for report in &mut slower {
        for at in 1..7 {
            fixtures::measurement_mut(report, at).metrics[0].value = 500.0.into();
        }
        report.hosts[0].kernel.release = "another".to_owned().into();
    }
    let options = Options {
        gate: Some(Gate::new("3%".parse().expect("a threshold"))),
        ..Options::default()
    };
    let comparison = compare(&runs, &slower, &options).expect("they can be compared");
    let cases = summarise(&runs);
    let host = json!({"host": runs[0].hosts[0].name, "facts": runs[0].cases[0].benchmark.params});
    vec![
        ("report", terminal::report(&runs[0], &style)),
        (
            "summary",
            table::summary(&cases, table::Depth::Headlines, &style),
        ),
        (
            "all",
            table::summary(&cases, table::Depth::Everything, &style),
        ),
        ("comparison", compare::comparison(&comparison, &style)),
        ("environment", terminal::environment(&host, &style)),
    ]
}

/// Text without the colours that [`Style`] gives.
fn uncoloured(text: &str) -> String {
    let mut text = text.to_owned();
    for code in [
        "0", "1", "2", "31", "32", "33", "39", "38;5;1", "38;5;2", "38;5;3",
    ] {
        text = text.replace(&format!("\u{1b}[{code}m"), "");
    }
    text
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [50, 60, 72, 80, 100, 120, 200] {
        for color in [false, true] {
            let style = Style {
                color,
                width: Some(width),
                unicode: true,
            };
            let benign = drawn(&report, style);
            for (what, text) in benign.into_iter().chain(drawn(&hostile, style)) {
                let text = uncoloured(&text);
                for line in text.lines() {
                    assert!(
                        columns(line) <= width,
                        "{what} at {width}: {line:?}\n{text}"
                    );
                    assert_eq!(line.trim_end(), line, "{what} at {width}: trailing spaces");
                }
            }
        }
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    for width in [Some(80), None] {
        let style = |color| Style {
            color,
            width,
            unicode: true,
        };
        let plain = drawn(&report, style(false));
        for ((what, plain), (_, coloured)) in plain.into_iter().zip(drawn(&report, style(true))) {
            assert_eq!(uncoloured(&coloured), plain, "{what} at {width:?}");
            assert!(!plain.contains('\u{1b}'), "{what}");
        }
    }
}

/// The report with every text in it, names included, made to act on a terminal.
fn hostile(run: u64) -> Report {
    const HARM: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\n\r::error::\u{9b}1m\u{202e}";
    fn spoil(value: &mut Value) {
        match value {
            Value::String(text) => text.push_str(HARM),
            Value::Array(items) => items.iter_mut().for_each(spoil),
            Value::Object(map) => {
                const OF_THE_MODEL: [&str; 7] = [
                    "aggregation",
                    "unit",
                    "direction",
                    "severity",
                    "status",
                    "hdr_v2_base64",
                    "definition_hash",
                ];
                map.iter_mut()
                    .filter(|(name, _)| !OF_THE_MODEL.contains(&name.as_str()))
                    .for_each(|(_, value)| spoil(value));
                for open in ["params", "facts"] {
                    if let Some(Value::Object(entries)) = map.get_mut(open) {
                        let named = std::mem::take(entries).into_iter();
                        entries.extend(named.map(|(name, value)| (name + HARM, value)));
                    }
                }
            }
            _ => {}
        }
    }
    let mut report = report(run);
    report.hosts[0].name.push_str(HARM);
    let mut cases = serde_json::to_value(&report.cases).expect("it serialises");
    spoil(&mut cases);
    report.cases = serde_json::from_value(cases).expect("it is still a report's");
    report
}

#[test]
fn text_in_reports_never_acts_on_the_terminal() {
    for width in [None, Some(60)] {
        let style = Style {
            color: false,
            width,
            unicode: true,
        };
        for (what, text) in drawn(&hostile, style) {
            assert_eq!(visible_lines(&text), text, "{what} at {width:?}");
            assert!(text.contains("\\u{1b}[2J\\n\\r"), "{what} shows it");
            let broken = text
                .lines()
                .find(|line| line.trim().starts_with("\\r::error"));
            assert!(
                width.is_some() || broken.is_none(),
                "{what}: a line feed got through"
            );
        }
        let ascii = Style {
            unicode: false,
            ..style
        };
        for (what, text) in drawn(&hostile, ascii) {
            assert!(text.is_ascii(), "{what}:\n{text}");
        }
    }
}

#[test]
fn a_block_says_what_hyperfines_says_and_more() {
    let style = Style {
        color: false,
        width: Some(80),
        unicode: true,
    };
    let text = terminal::report(&report(0), &style);
    let expected = [
        "test/rr\n  server=in_process\n",
        "  round_trip_ns         median 16.3 µs   mean ± σ 17.7 µs ± 5.84 µs\n",
        "                        range 10.0 µs ▆▆▆▆▆",
        "▃▃▃ 33.8 µs\n",
        "                        p90      p99      p99.9    p99.99\n",
        "                        26.3 µs  32.9 µs  33.7 µs  33.7 µs\n",
        "  transactions_per_s    20.0 k/s\n",
        "  half_round_trip_ns    mean 7.33 µs  (sockperf's definition)\n",
        "  over time             █",
        "  1.00 k/s – 1.09 k/s\n",
        "  verified              100 operations in 1.000 s; 20000 responses matched their\n\
         \x20                       requests, every one of them\n",
        "  target                name=vda model=unavailable (sysfs has no model)\n",
        "  degraded              cpu_steal: the hypervisor took 9.6 % of the CPU time",
        "  INVALID               interrupted: by SIGINT\n",
        "  bandwidth_bytes_per_s       ▁▂▄▅▆█  1.00 kB/s – 1.07 TB/s, log scale\n",
        "  skipped: no EFA device: the driver efa is not loaded on this machine\n",
        "  failed: cannot connect to 127.0.0.1:5201: connection refused; start the server\n",
    ];
    for expected in expected {
        assert!(
            text.contains(expected),
            "{expected:?} is missing in:\n{text}"
        );
    }
}
