//! Object stores: every case on a real server, what is refused, and what is left behind.

mod common;
mod s3;

use common::{failure, folder, measured, program, report, told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::Aggregation;
use s3::{Hostile, KEY, Real, SECRET, Spoil};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, OnceLock};

/// Small and quick, for what a test does not care about.
const SMALL: [&str; 10] = [
    "--object-size",
    "100k",
    "--objects",
    "8",
    "--concurrency",
    "4",
    "--number-ios",
    "40",
    "--retries",
    "2",
];

fn s3(case: &str, endpoint: &str, bucket: &str, words: &[&str]) -> std::process::Command {
    let mut command = program(&[case, "--endpoint", endpoint, "--bucket", bucket]);
    command
        .args(words)
        .env_remove("AWS_SESSION_TOKEN")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
    command
}

fn run(case: &str, endpoint: &str, bucket: &str, words: &[&str]) -> (i32, String, String) {
    told(
        s3(case, endpoint, bucket, words)
            .output()
            .expect("the program starts"),
    )
}

/// Runs a case that is to fail and returns why.
fn refused(case: &str, endpoint: &str, bucket: &str, words: &[&str]) -> String {
    let words: Vec<_> = SMALL
        .iter()
        .chain(words)
        .copied()
        .chain(["--json"])
        .collect();
    let (code, text, errors) = run(case, endpoint, bucket, &words);
    assert_eq!(code, 1, "{text}{errors}");
    failure(&report(&text)).to_owned()
}

#[test]
fn every_case_runs_on_a_real_server_and_leaves_nothing() {
    s3::serve_if_asked();
    let server = Real::start("every_case_runs_on_a_real_server_and_leaves_nothing");
    for (case, more) in [
        ("object_put", &["--checksum", "crc64nvme"][..]),
        ("object_put", &["--checksum", "sha256", "--sign-payload"]),
        ("object_get", &["--numjobs", "2"]),
        ("object_get_range", &["--range", "1k"]),
        ("object_multipart", &["--part-size", "30k"]),
        ("object_list", &["--objects", "30"]),
        ("object_delete", &["--objects", "50"]),
        ("object_mixed", &[]),
    ] {
        let words = ["--json"].iter().chain(more).copied();
        // The last of an option counts: what a case wants replaces what is small.
        let small = SMALL
            .chunks(2)
            .filter(|pair| !more.contains(&pair[0]))
            .flatten();
        let words: Vec<_> = small.copied().chain(words).collect();
        let (code, text, errors) = run(case, &server.endpoint, "s3://bucket/a/b", &words);
        assert_eq!(code, 0, "{case}: {text}{errors}");
        let report = report(&text);
        let measured = measured(&report);
        let work = measured.work.known().expect("known");
        let jobs = if more.contains(&"--numjobs") { 2 } else { 1 };
        assert_eq!(work.ops, 40 * jobs, "{case}");
        for name in ["ops_per_s", "cpu_per_op_ns"] {
            assert!(
                measured.metric(name, Aggregation::Total).is_some(),
                "{case} {name}"
            );
        }
        let latencies = &measured.histograms[0];
        assert_eq!(
            (latencies.name.as_str(), latencies.count),
            ("lat_ns", work.ops),
            "{case}"
        );
        let store = &measured.facts["store"];
        assert_eq!(store["tls"], false, "{case}");
        assert!(
            server
                .endpoint
                .ends_with(store["host"].as_str().expect("text")),
            "{case}"
        );
        assert!(!text.contains(SECRET), "{case}");
        let params = serde_json::to_string(&report.cases[0].benchmark.params).expect("text");
        assert!(
            !params.contains("bucket") && !params.contains("127.0.0.1"),
            "{params}"
        );
        let left: Vec<_> = server.files();
        let left: Vec<_> = left
            .iter()
            .filter(|file| file.starts_with("bucket"))
            .collect();
        assert!(left.is_empty(), "{case}: {left:?}");
    }
}

#[test]
fn a_real_server_refuses_and_is_quoted() {
    s3::serve_if_asked();
    let server = Real::start("a_real_server_refuses_and_is_quoted");
    let text = refused("object_put", &server.endpoint, "s3://missing/p", &[]);
    assert!(
        text.contains("NoSuchBucket") && text.contains("create the bucket"),
        "{text}"
    );
    let text = refused(
        "object_put",
        &server.endpoint,
        "s3://bucket/p",
        &["--anonymous"],
    );
    assert!(text.contains("403 AccessDenied"), "{text}");
    let mut command = s3("object_put", &server.endpoint, "s3://bucket/p", &SMALL);
    let command = command
        .arg("--json")
        .env("AWS_SECRET_ACCESS_KEY", "another");
    let (code, text, _) = told(command.output().expect("the program starts"));
    assert_eq!(code, 1);
    let text = failure(&report(&text)).to_owned();
    assert!(
        text.contains("SignatureDoesNotMatch") && text.contains("AWS_SECRET"),
        "{text}"
    );
}

#[test]
fn a_prefix_that_holds_anything_is_refused_and_stays() {
    let server = Hostile::start(|_, _| Spoil::No);
    server.put("p/somebody/s", "precious");
    server.put("elsewhere", "precious");
    for bucket in ["s3://bucket/p", "s3://bucket"] {
        let text = refused("object_put", &server.endpoint, bucket, &[]);
        assert!(text.contains("is not empty: it holds"), "{text}");
        assert!(
            text.contains("p/somebody/s") && text.contains("did not make"),
            "{text}"
        );
    }
    assert_eq!(server.keys(), ["elsewhere", "p/somebody/s"]);
    let words: Vec<_> = SMALL.iter().chain(&["--json"]).copied().collect();
    let (code, text, _) = run("object_mixed", &server.endpoint, "s3://bucket/q", &words);
    assert_eq!(code, 0, "{text}");
    assert_eq!(server.keys(), ["elsewhere", "p/somebody/s"]);
}

#[test]
fn of_two_that_came_together_the_later_look_steps_back() {
    let slot: Arc<OnceLock<Hostile>> = Arc::default();
    let inside = Arc::clone(&slot);
    let other = "p/storage-bench-00000000000000ff/marker";
    let server = Hostile::start(move |request, _| {
        if request.method == "PUT" && request.key.ends_with("/marker") {
            inside.get().expect("set").put(other, "theirs");
        }
        Spoil::No
    });
    assert!(slot.set(server.clone()).is_ok());
    let text = refused("object_put", &server.endpoint, "s3://bucket/p", &[]);
    assert!(text.contains("--run 00000000000000ff"), "{text}");
    assert_eq!(server.keys(), [other]);
}

/// Starts a long run and returns when its window is open.
fn running(server: &Hostile, case: &str, words: &[&str]) -> Child {
    let load = [
        "--object-size",
        "100k",
        "--objects",
        "16",
        "--runtime",
        "60",
    ];
    let show = ["--ramp-time", "0", "--interval", "0.05", "--json"];
    let words: Vec<_> = load.iter().chain(&show).chain(words).copied().collect();
    let mut child = s3(case, &server.endpoint, "s3://bucket/p", &words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    errors.read_line(&mut line).expect("a slice is shown");
    assert!(line.contains(" s "), "{line}");
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    child
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    kill(pid, signal).expect("the process is there");
}

#[test]
fn a_signal_ends_the_run_and_removes_its_objects() {
    let server = Hostile::start(|_, _| Spoil::No);
    server.put("other", "precious");
    for (signal, case) in [
        (Signal::SIGINT, "object_mixed"),
        (Signal::SIGTERM, "object_multipart"),
    ] {
        let child = running(&server, case, &[]);
        send(&child, signal);
        let (code, text, _) = told(child.wait_with_output().expect("it ends"));
        assert_eq!(code, 4, "{case}: {text}");
        let flags = &measured(&report(&text)).validity.flags.clone();
        assert!(
            flags.iter().any(|flag| flag.code == "interrupted"),
            "{case}"
        );
        assert_eq!(server.keys(), ["other"], "{case}");
        assert!(server.uploads().is_empty(), "{case}");
    }
}

#[test]
fn what_a_killed_run_left_is_named_and_removed_on_demand() {
    let server = Hostile::start(|_, _| Spoil::No);
    server.put("p-not-below/storage-bench-1/marker", "precious");
    let mut child = running(&server, "object_get", &[]);
    send(&child, Signal::SIGKILL);
    child.wait().expect("it ends");
    let left = server.keys();
    let marker = left
        .iter()
        .find(|key| key.ends_with("/marker") && key.starts_with("p/"));
    let folder = marker
        .expect("it is put first")
        .trim_end_matches("/marker")
        .to_owned();
    let run_number = folder.trim_start_matches("p/storage-bench-").to_owned();
    server.begin_upload(&format!("{folder}/0000/000000001"));
    server.begin_upload("p/somebody/else");

    let text = refused("object_get", &server.endpoint, "s3://bucket/p", &[]);
    assert!(text.contains(&format!("--run {run_number}")), "{text}");
    assert_eq!(server.keys(), left);

    let clean = |words: &[&str]| run("object_clean", &server.endpoint, "s3://bucket/p", words);
    let (code, text, _) = clean(&[]);
    assert!(
        code == 0 && text.contains(&run_number) && text.contains("17 objects"),
        "{text}"
    );
    assert_eq!(server.keys(), left);
    let (code, text, errors) = clean(&["--run", &run_number]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        text.contains("removed 17 objects") && text.contains("aborted 1 uploads"),
        "{text}"
    );
    assert_eq!(server.keys(), ["p-not-below/storage-bench-1/marker"]);
    assert_eq!(server.uploads(), ["p/somebody/else"]);
    let (code, _, errors) = clean(&["--run", &run_number]);
    assert!(code == 1 && errors.contains("no marker"), "{errors}");
}

#[test]
fn a_folder_that_only_looks_like_a_run_is_not_removed() {
    let server = Hostile::start(|_, _| Spoil::No);
    let keys = [
        "p/storage-bench-00000000000000aa/data",
        "p/storage-bench-00000000000000bb/marker",
    ];
    keys.iter().for_each(|key| server.put(key, "precious"));
    for (run_number, part) in [
        ("00000000000000aa", "no marker of run"),
        ("00000000000000bb", "is not what run"),
    ] {
        let words = ["--run", run_number];
        let (code, _, errors) = run("object_clean", &server.endpoint, "s3://bucket/p", &words);
        assert!(code == 1 && errors.contains(part), "{errors}");
    }
    assert_eq!(server.keys(), keys);
}

#[test]
fn a_server_that_is_not_there_is_not_waited_for() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    let text = refused("object_put", &endpoint, "s3://bucket/p", &[]);
    assert!(
        text.contains("cannot connect") && text.contains("refused"),
        "{text}"
    );
    assert!(!text.contains("tries"), "{text}");
    let server = Hostile::start(|_, _| Spoil::No);
    let tls = server.endpoint.replace("http:", "https:");
    let text = refused("object_put", &tls, "s3://bucket/p", &[]);
    assert!(
        text.contains("cannot connect") && text.contains("Try http://"),
        "{text}"
    );
    let text = refused(
        "object_put",
        "http://no-such-host.invalid",
        "s3://bucket/p",
        &[],
    );
    assert!(text.contains("cannot connect"), "{text}");
}

#[test]
fn nonsense_is_wrong_usage_and_secrets_are_not_repeated() {
    let dir = folder();
    for (words, part) in [
        (&["object_put"][..], "--bucket"),
        (&["object_put", "--bucket", "bucket"], "s3://"),
        (&["object_put", "--bucket", "s3://B"], "3 to 63"),
        (
            &[
                "object_put",
                "--bucket",
                "s3://abc",
                "--endpoint",
                "https://me:hush@h",
            ],
            "credentials come from the environment",
        ),
        (
            &[
                "object_put",
                "--bucket",
                "s3://abc",
                "--endpoint",
                "https://h/?sig=hush",
            ],
            "credentials come from the environment",
        ),
        (
            &["object_mixed", "--bucket", "s3://abc", "--mix", "get=1"],
            "1 percent",
        ),
        (
            &["object_get_range", "--bucket", "s3://abc", "--range", "9m"],
            "--range 9m",
        ),
        (
            &[
                "object_multipart",
                "--bucket",
                "s3://abc",
                "--part-size",
                "1m",
            ],
            "below 5m",
        ),
        (
            &["object_clean", "--bucket", "s3://abc", "--run", "1"],
            "16 digits",
        ),
    ] {
        let (code, _, errors) = common::run_in(dir.path(), words);
        assert_eq!(code, 2, "{words:?}: {errors}");
        assert!(errors.contains(part), "{words:?}: {errors}");
        assert!(!errors.contains("hush"), "{words:?}: {errors}");
    }
}
