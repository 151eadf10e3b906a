//! The HTML page in a real browser.

use reports::measure::{histogram_record, new_histogram};
use reports::model::{
    self, Aggregation, Benchmark, Case, Direction, Fact, Interval, Measurement, Metric, Outcome,
    Report, Unit, Validity, Work,
};
use reports::program::{Session, now};
use std::path::Path;
use std::process::Command;

/// The browser, under the names that distributions give it.
fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
        })
}

/// Opens a page as a file and returns the document as the browser understood it.
fn rendered(browser: &str, page: &Path, profile: &Path) -> String {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A run of a sweep over three sizes.
fn report(run: u64, host: &str) -> Report {
    let cases = [8u64, 512, 32768].map(|size| {
        let mut histogram = new_histogram();
        for sample in 0..5000 {
            histogram
                .record(10_000 + size + run * 50 + sample * sample % 977)
                .expect("in bounds");
        }
        let rate = (size * 1_000_000 + run * 1000) as f64;
        let metric = |name: &str, unit, value: f64| {
            let direction = Direction::HigherIsBetter;
            Metric::new(name, Aggregation::Total, unit, direction, value, 5000).headline()
        };
        let intervals = (0..5).map(|index| Interval {
            t0_s: f64::from(index) * 0.1,
            t1_s: f64::from(index + 1) * 0.1,
            work: Work {
                ops: 1000,
                bytes: 1000 * size + run,
            },
            p50_ns: None,
            p99_ns: None,
            max_ns: None,
            flags: Vec::new(),
        });
        let measurement = Measurement {
            elapsed_s: 0.5.into(),
            work: Fact::Known(Work {
                ops: 5000,
                bytes: 5000 * size,
            }),
            verified: "5000 messages matched".to_owned(),
            metrics: vec![metric("bandwidth_bytes_per_s", Unit::BytesPerSecond, rate)],
            facts: serde_json::Map::new(),
            histograms: vec![histogram_record("latency_ns", &histogram)],
            intervals: intervals.collect(),
            matrices: Vec::new(),
            counters: Vec::new(),
            validity: Validity::default(),
        };
        let mut params = serde_json::Map::new();
        params.insert("size_bytes".to_owned(), size.into());
        let benchmark = Benchmark::new("test/bw", "A window of messages of one size.", params);
        Case {
            benchmark,
            outcome: Outcome::Measured(Box::new(measurement)),
        }
    });
    let mut report = Session::stand_in("test", now()).finish(cases.into());
    host.clone_into(&mut report.hosts[0].name);
    report
}

#[test]
fn a_browser_shows_the_page_and_hostile_names_do_nothing() {
    let Some(browser) = browser() else {
        println!(
            "SKIPPED a_browser_shows_the_page: no Chromium on the PATH (scripts/setup --tests)"
        );
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hostile = "</script><script>document.title='owned'</script><b onclick=x>";
    for run in 0..7 {
        let path = dir.path().join(format!("{run}.json"));
        model::write(&path, &model::to_json(&report(run, hostile))).expect("writable");
    }
    let page = dir.path().join("page.html");
    let output = Command::new(env!("CARGO_BIN_EXE_reports"))
        .arg("html")
        .arg(dir.path())
        .arg("-o")
        .arg(&page)
        .output()
        .expect("the program starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let dom = rendered(browser, &page, &dir.path().join("profile"));
    assert!(
        dom.contains("<title>benchmark report</title>"),
        "the hostile script did not run"
    );
    assert_eq!(
        dom.matches("<script").count(),
        1,
        "only the data element is a script"
    );
    // Three cases with a percentile plot and a plot over time each, and one curve over size.
    assert_eq!(dom.matches("<figure>").count(), 7);
    assert!(dom.contains("Measured") && dom.contains("size_bytes=32768"));
    if let Some(keep) = std::env::var_os("KEEP_PAGE") {
        std::fs::copy(&page, keep).expect("KEEP_PAGE can be written");
    }
}
