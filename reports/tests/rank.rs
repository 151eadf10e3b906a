//! `reports rank` as its user runs it: complete report files, prices, limits, exit codes.

use reports::host::{Cloud, Host};
use reports::model::{
    self, Aggregation, Benchmark, Case, Direction, Fact, Measurement, Metric, Outcome, Severity,
    Unit, Validity, Work,
};
use reports::program::{Session, now};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TYPES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/instance-types/describe-instance-types.json"
);

const PRICES: &str = r#"
currency = "USD"
source = "a price list"
as_of = 2026-11-01
[[price]]
instance_type = "c7gn.16xlarge"
per_hour = 4
[[price]]
instance_type = "c6gn.16xlarge"
per_hour = 3
[[price]]
instance_type = "m5.large"
per_hour = 0.096
"#;

fn rank(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_reports"))
        .current_dir(dir)
        .arg("rank")
        .args(args)
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

fn instance(name: &str, kind: &str) -> Host {
    let unknown = || Fact::unavailable("a fixture");
    let mut host = Host::unknown(name, "a fixture");
    host.cloud = Fact::Known(Cloud {
        provider: "aws".to_owned(),
        instance_type: kind.to_owned().into(),
        instance_id: Fact::Known(format!("i-{name}")),
        life_cycle: "on-demand".to_owned().into(),
        availability_zone: unknown(),
        az_id: unknown(),
        region: "us-east-1".to_owned().into(),
        placement_group: unknown(),
        partition: Fact::unavailable("a fixture"),
        host_id: unknown(),
        ami: unknown(),
        interfaces: Fact::unavailable("a fixture"),
    });
    host
}

fn measured(metrics: Vec<Metric>) -> Outcome {
    let metrics = metrics.into_iter().map(Metric::headline).collect();
    Outcome::Measured(Box::new(Measurement {
        elapsed_s: 1.0.into(),
        work: Work::op(1).into(),
        verified: "1 message was counted".to_owned(),
        metrics,
        facts: serde_json::Map::new(),
        histograms: Vec::new(),
        intervals: Vec::new(),
        matrices: Vec::new(),
        counters: Vec::new(),
        validity: Validity::default(),
    }))
}

/// Runs between two instances, each with a bandwidth over 8 flows and a latency.
fn write_runs(folder: &Path, kind: &str, count: u32, bytes_per_s: f64) {
    for run in 0..count {
        let noise = 1.0 + 0.001 * f64::from(run * 5 % 7);
        let bandwidth = Metric::new(
            "bandwidth_bytes_per_s",
            Aggregation::Total,
            Unit::BytesPerSecond,
            Direction::HigherIsBetter,
            bytes_per_s * noise,
            1,
        );
        let latency = Metric::new(
            "round_trip_ns",
            Aggregation::P50,
            Unit::Nanoseconds,
            Direction::LowerIsBetter,
            5e14 / bytes_per_s * noise,
            1000,
        );
        let params = serde_json::json!({"flows": 8, "direction": "forward", "server": "remote"});
        let params = params.as_object().cloned().expect("an object");
        let case = |id: &str, metric: Metric| Case {
            benchmark: Benchmark::new(id, "a fixture", params.clone()),
            outcome: measured(vec![metric]),
        };
        let cases = vec![
            case("net-bench/tcp_stream", bandwidth),
            case("net-bench/tcp_rr", latency),
        ];
        let hosts = ["a", "b"].map(|end| instance(&format!("{kind}-{end}"), kind));
        let mut report =
            Session::stand_in("net-bench", now()).finish_with_hosts(hosts.into(), cases);
        for case in &mut report.cases {
            if let Outcome::Measured(measurement) = &mut case.outcome {
                measurement.validity = Validity::default();
            }
        }
        let path = folder.join(format!("{kind}-{run}.json"));
        model::write(&path, &model::to_json(&report)).expect("writable");
    }
}

/// Changes every report of a folder.
fn change(folder: &Path, change: impl Fn(&mut model::Report)) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mut report = model::load(&path).expect("a report");
        change(&mut report);
        model::write(&path, &model::to_json(&report)).expect("writable");
    }
}

fn folder_of_three() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_runs(&dir.path().join("runs"), "c7gn.16xlarge", 6, 24e9);
    write_runs(&dir.path().join("runs"), "c6gn.16xlarge", 6, 12e9);
    write_runs(&dir.path().join("runs"), "m5.large", 6, 1.2e9);
    fs::write(dir.path().join("prices.toml"), PRICES).expect("writable");
    dir
}

/// Words of a text apart from how a table spaces them.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn types_are_ranked_with_cost_front_and_limits() {
    let dir = folder_of_three();
    let args = ["runs", "--prices", "prices.toml", "--instance-types", TYPES];
    let (code, out, err) = rank(dir.path(), &args);
    assert_eq!(code, Some(0), "{err}");
    let out = flat(&out);
    for words in [
        "ranked by cloud.instance_type",
        "prices: USD, from a price list, as of 2026-11-01 (prices.toml)",
        "1 c7gn.16xlarge 24.1 GB/s 24.0 GB/s – 24.1 GB/s 6 best 8.00 USD front 96.3 % 96.3 %",
        "2 c6gn.16xlarge 12.0 GB/s 12.0 GB/s – 12.1 GB/s 6 0.500 0.499 – 0.502 6.00 USD front",
        "3 m5.large 1.20 GB/s 1.20 GB/s – 1.21 GB/s 6 0.0500 0.0499 – 0.0501 0.192 USD front",
        "1284.5 % 96.3 %",
        "metric place group per USD",
        "1 m5.large 22.6 TB",
        "not divided: net-bench/tcp_rr",
        "no share of a limit: c7gn.16xlarge in net-bench/tcp_rr",
    ] {
        assert!(out.contains(words), "{words:?} is missing in:\n{out}");
    }
    let (_, json, _) = rank(dir.path(), &[&args[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON and nothing else");
    let stream = &json["cases"][0]["metrics"][0];
    assert_eq!(stream["standings"][0]["group"], "c7gn.16xlarge");
    assert_eq!(stream["standings"][0]["place"]["last"], 1);
    assert_eq!(stream["standings"][0]["front"]["shown"], "on_front");
    assert_eq!(
        stream["standings"][2]["share"]["limit"],
        "network bandwidth"
    );
    assert_eq!(stream["per_price"]["unit"], "bytes/USD");
    assert_eq!(stream["per_price"]["standings"][0]["group"], "m5.large");
    assert_eq!(json["prices"]["as_of"], "2026-11-01");
    assert_eq!(json["status"], "ranked");
}

#[test]
fn every_exit_code_is_reached_and_the_text_says_why() {
    let dir = folder_of_three();
    let dir = dir.path();
    write_runs(&dir.join("few"), "hpc7g.16xlarge", 3, 20e9);
    let (code, out, _) = rank(dir, &["runs", "few"]);
    assert!(
        code == Some(4) && out.contains("3 valid runs; it takes 4"),
        "{out}"
    );
    write_runs(&dir.join("one"), "c5n.18xlarge", 6, 11e9);
    let (code, out, _) = rank(dir, &["one"]);
    assert!(
        code == Some(4) && out.contains("nothing to rank it against"),
        "{out}"
    );
    let (code, out, err) = rank(dir, &["runs", "runs/m5.large-0.json"]);
    assert!(code == Some(0) && out.contains("given twice"), "{out}{err}");
    change(&dir.join("one"), |report| {
        report.cases[0]
            .benchmark
            .params
            .insert("flows".to_owned(), 1.into());
    });
    let (code, out, _) = rank(dir, &["runs", "one"]);
    assert_eq!(code, Some(0), "the others are ranked: {out}");
    assert!(
        flat(&out).contains("not ranked: net-bench/tcp_stream direction=forward flows=1"),
        "{out}"
    );
    let (code, out, _) = rank(dir, &["runs/m5.large-0.json", "one"]);
    assert!(
        code == Some(3) && out.contains("params.flows: m5.large 8; c5n.18xlarge 1"),
        "{out}"
    );
    fs::write(dir.join("broken.json"), "{").expect("writable");
    fs::write(
        dir.join("foreign.json"),
        r#"{"schema": {"name": "x", "version": 1}}"#,
    )
    .expect("writable");
    let (code, out, err) = rank(dir, &["runs", "broken.json", "foreign.json"]);
    assert_eq!(code, Some(4), "{err}");
    assert!(
        err.contains("broken.json") && err.contains("foreign.json"),
        "{err}"
    );
    assert!(out.contains("c7gn.16xlarge"), "the others are ranked");
    fs::create_dir(dir.join("empty")).expect("writable");
    let (code, out, err) = rank(dir, &["empty"]);
    assert!(
        code == Some(4) && out.is_empty() && err.contains("no report to rank"),
        "{err}"
    );
}

#[test]
fn a_case_that_no_type_can_run_is_a_line_and_no_table() {
    let dir = folder_of_three();
    change(&dir.path().join("runs"), |report| {
        let skipped = Outcome::Skipped {
            reason: "libfabric has no provider efa here".to_owned(),
        };
        report.cases[1].outcome = skipped;
    });
    let (code, out, err) = rank(dir.path(), &["runs"]);
    assert_eq!(code, Some(0), "{err}");
    let line = "insufficient: net-bench/tcp_rr: no valid run has a metric to rank";
    assert!(out.contains(line), "{out}");
    assert!(!out.contains("\nnet-bench/tcp_rr"), "{out}");
    assert!(out.contains("\nnet-bench/tcp_stream"), "{out}");
}

#[test]
fn wrong_usage_names_the_option_and_the_fault() {
    let dir = folder_of_three();
    let dir = dir.path();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("writable");
    write("nan.toml", &PRICES.replace("0.096", "nan"));
    write(
        "mixed.toml",
        &PRICES.replace("0.096", "0.096\ncurrency = \"EUR\""),
    );
    write("types.json", r#"{"InstanceTypes": [{"InstanceType": 7}]}"#);
    fs::write(dir.join("latin1.toml"), b"source = \"\xe9\"").expect("writable");
    let report = "runs/m5.large-0.json";
    for (args, words) in [
        (["--by", "warp"], "--by warp: no report has such a field"),
        (["--by", "a..b"], "is not a field"),
        (
            ["--metric", "bandwith"],
            "--metric \"bandwith\": no case has it; there are bandwidth",
        ),
        (
            ["--baseline", "c5"],
            "--baseline \"c5\": no group is called so; there are c6gn.16xlarge",
        ),
        (
            ["--prices", "nan.toml"],
            "--prices nan.toml: price[2].per_hour: NaN is not a number",
        ),
        (
            ["--prices", "mixed.toml"],
            "--prices mixed.toml: price[2].currency: \"EUR\" beside USD",
        ),
        (
            ["--prices", "absent.toml"],
            "--prices absent.toml: cannot read it: No such file",
        ),
        (
            ["--prices", "latin1.toml"],
            "--prices latin1.toml: it is not UTF-8",
        ),
        (
            ["--prices", report],
            "--prices runs/m5.large-0.json: schema: unknown field `schema`",
        ),
        (["--instance-types", report], "it has no InstanceTypes"),
        (
            ["--instance-types", "types.json"],
            "InstanceTypes[0].InstanceType: invalid type",
        ),
        (
            ["--instance-types", "prices.toml"],
            "--instance-types prices.toml: it is not JSON",
        ),
    ] {
        let (code, out, err) = rank(dir, &[&["runs"], &args[..]].concat());
        assert!(code == Some(2) && err.contains(words), "{args:?}: {err}");
        assert!(out.is_empty(), "{args:?}");
    }
}

#[test]
fn hostile_names_reach_no_terminal_and_flags_are_shown() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runs = dir.path().join("runs");
    write_runs(&runs, "a", 6, 2e9);
    change(&runs, |report| {
        report.hosts = vec![Host::unknown("\u{1b}[31m</script>\n", "\u{7}")];
        if let Outcome::Measured(measurement) = &mut report.cases[0].outcome {
            let validity = &mut measurement.validity;
            validity.flag(Severity::Degraded, "cpu_steal", "9 %");
        }
    });
    let (code, out, err) = rank(dir.path(), &["runs"]);
    assert_eq!(code, Some(4), "{err}");
    assert!(!out.contains(['\u{1b}', '\u{7}']), "{out:?}");
    for words in [
        "host \\u{1b}[31m</script>\\n",
        "6 (6 degraded)",
        "cpu_steal in 6 results",
    ] {
        assert!(out.contains(words), "{words:?}:\n{out}");
    }
}

#[test]
fn a_narrow_terminal_has_whole_words_in_fewer_columns() {
    let dir = folder_of_three();
    let output = Command::new(env!("CARGO_BIN_EXE_reports"))
        .current_dir(dir.path())
        .args(["rank", "runs", "--prices", "prices.toml"])
        .env("COLUMNS", "80")
        .output()
        .expect("the program starts");
    let out = String::from_utf8_lossy(&output.stdout);
    for line in out.lines() {
        assert!(line.chars().count() <= 80, "{line:?} in:\n{out}");
    }
    let words = "1 c7gn.16xlarge 24.1 GB/s best 8.00 USD front";
    assert!(flat(&out).contains(words), "{out}");
}

#[test]
fn the_help_names_the_codes_and_shows_a_file_of_prices() {
    let (code, out, _) = rank(Path::new("."), &["--help"]);
    assert_eq!(code, Some(0));
    for words in [
        "[[price]]",
        "as_of = 2026-11-01",
        "4 insufficient",
        "describe-instance-types",
    ] {
        assert!(flat(&out).contains(words), "{words}:\n{out}");
    }
}
