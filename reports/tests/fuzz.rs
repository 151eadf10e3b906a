//! Everything that parses files from elsewhere, fed with mutations of what it expects: it may
//! refuse, and must not panic. What is accepted must survive being summarised, compared and drawn.
//!
//! `FUZZ_SECONDS` sets how long (scripts/test: 20); without it a few seconds show that the
//! fuzzer works. Each input follows from a number that a failure prints; `FUZZ_SEED` starts there.
#![allow(clippy::unwrap_used)]

use reports::compare::{Options, compare};
use reports::import::{self, Context};
use reports::measure::{histogram_record, new_histogram};
use reports::model::{self, Report};
use reports::render::{self, table, terminal::Style};
use reports::suite::Suite;
use reports::summary::summarise;
use serde_json::Value;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Flips, overwrites, inserts, removes, duplicates or truncates a few bytes.
fn mutate_bytes(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..=4) {
        let place = random.usize(0..=bytes.len());
        match random.u8(0..6) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.u8(0..8),
            1 if place < bytes.len() => bytes[place] = random.u8(..),
            2 => bytes.insert(place, *random.choice(b"{}[]\",:0-9.eE\\n\0\xff").unwrap()),
            3 if place < bytes.len() => drop(bytes.remove(place)),
            4 => {
                let from = random.usize(0..=place);
                let part = bytes[from..place].to_vec();
                bytes.splice(from..from, part);
            }
            5 if random.u8(0..8) == 0 => bytes.truncate(place),
            _ => {}
        }
    }
}

/// Replaces, removes or doubles a few values anywhere in the tree, so that the text stays JSON and
/// the fault lies deeper.
fn mutate_tree(random: &mut fastrand::Rng, value: &mut Value) {
    match value {
        Value::Object(map) if !map.is_empty() && random.u8(0..10) > 0 => {
            let key = random
                .choice(map.keys().cloned().collect::<Vec<_>>())
                .unwrap();
            match random.u8(0..20) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}x"), strange(random))),
                _ => mutate_tree(random, &mut map[&key]),
            }
        }
        Value::Array(items) if !items.is_empty() && random.u8(0..10) > 0 => {
            let index = random.usize(0..items.len());
            match random.u8(0..12) {
                0 => drop(items.remove(index)),
                1 => items.push(items[index].clone()),
                _ => mutate_tree(random, &mut items[index]),
            }
        }
        other => *other = strange(random),
    }
}

fn strange(random: &mut fastrand::Rng) -> Value {
    let values = [
        Value::Null,
        true.into(),
        0.into(),
        (-1).into(),
        u64::MAX.into(),
        f64::MAX.into(),
        f64::MIN_POSITIVE.into(),
        (-0.0).into(),
        "".into(),
        "\u{1b}[31m</script>\u{0}\n|,\"'=cmd".into(),
        "9".repeat(400).into(),
        Value::Array(Vec::new()),
        serde_json::json!({}),
        serde_json::json!({"unavailable": ""}),
    ];
    random.choice(values).unwrap()
}

/// What an accepted report must survive.
fn read_everything(reports: &[Report]) {
    let cases = summarise(reports);
    let _ = table::summary(&cases, table::Depth::Everything, &Style::PLAIN);
    let _ = render::html::Page::of_runs("fuzz", reports).render();
    for report in reports {
        let _ = render::terminal::report(report, &Style::PLAIN);
        let again = model::parse(&model::to_json(report), Path::new("again"));
        assert_eq!(again.as_ref().ok(), Some(report), "{again:?}");
    }
    let (a, b) = reports.split_at(reports.len() / 2);
    let _ = compare(a, b, &Options::default());
}

/// One input, made from its seed alone.
fn one(seed: u64, reports: &[String], peers: &[Vec<u8>], suites: &[String]) {
    let mut random = fastrand::Rng::with_seed(seed);
    let path = Path::new("fuzz.json");
    match random.u8(0..8) {
        0 => {
            let mut text = random.choice(peers).unwrap().clone();
            mutate_bytes(&mut random, &mut text);
            let text = String::from_utf8_lossy(&text);
            if let Ok(report) = import::import(&text, None, &Context::default()) {
                read_everything(&[report]);
            }
        }
        1 => {
            let mut text = random.choice(suites).unwrap().clone().into_bytes();
            mutate_bytes(&mut random, &mut text);
            let _ = Suite::parse(&String::from_utf8_lossy(&text));
        }
        2 => {
            let mut text = random.choice(reports).unwrap().clone().into_bytes();
            mutate_bytes(&mut random, &mut text);
            if let Ok(report) = model::parse(&String::from_utf8_lossy(&text), path) {
                read_everything(&[report]);
            }
        }
        _ => {
            let texts = (0..random.usize(1..4)).filter_map(|_| {
                let text = random.choice(reports).unwrap();
                let mut value: Value = serde_json::from_str(text).unwrap();
                // Each is a run of its own, or summaries would count it once.
                value["run"]["id"] = random.u64(..).to_string().into();
                (0..random.usize(0..4)).for_each(|_| mutate_tree(&mut random, &mut value));
                model::parse(&value.to_string(), path).ok()
            });
            let accepted: Vec<Report> = texts.collect();
            if !accepted.is_empty() {
                read_everything(&accepted);
            }
        }
    }
}

/// A report with the largest count that a histogram can hold: three of them overflow it.
fn overfull() -> String {
    let text = include_str!("../schema/fixtures/report-v1.json");
    let mut report = model::parse(text, Path::new("fixture")).unwrap();
    let mut histogram = new_histogram();
    histogram.record_n(1, i64::MAX as u64).unwrap();
    if let model::Outcome::Measured(measurement) = &mut report.cases[0].outcome {
        let name = measurement.histograms[0].name.clone();
        measurement.histograms = vec![histogram_record(&name, &histogram)];
    }
    model::to_json(&report)
}

fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn nothing_that_reads_files_panics() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let length = Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(3));
    let seed = variable("FUZZ_SEED").unwrap_or(0);
    let reports = [
        include_str!("../schema/fixtures/report-v1.json").to_owned(),
        overfull(),
    ];
    let (peers, suites) = (files("tests/fixtures/import"), files("../scripts/suites"));
    let suites: Vec<String> = suites
        .into_iter()
        .map(|text| String::from_utf8(text).unwrap())
        .collect();
    let next = AtomicU64::new(seed);
    let failed = AtomicBool::new(false);
    let end = Instant::now() + length;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while Instant::now() < end && !failed.load(Relaxed) {
                    let seed = next.fetch_add(1, Relaxed);
                    let input = AssertUnwindSafe(|| one(seed, &reports, &peers, &suites));
                    if catch_unwind(input).is_err() {
                        failed.store(true, Relaxed);
                        println!("this input panicked: FUZZ_SEED={seed}");
                    }
                }
            });
        }
    });
    let inputs = next.load(Relaxed) - seed;
    println!("{inputs} inputs in {} s", length.as_secs());
    assert!(
        !failed.load(Relaxed),
        "an input panicked; its seed stands above"
    );
    assert!(inputs > 10, "the fuzzer must do some work: {inputs} inputs");
}
