//! `--sweep`: one case under several values of its options, as a session of `reports run`.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, net_bench, run, said, stderr};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{self, Outcome, Report};
use reports::suite::{Asked, Recorded, Session, Suite};
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use std::{fs, thread};

/// Runs that are as short as they may be.
const SHORT: [&str; 6] = ["-t", "0.05", "-O", "0", "--repetitions", "2"];

/// A short sweep that must succeed, its session in the folder; returns what it printed.
fn swept(arguments: &[&str], dir: &Path) -> String {
    let output = net_bench(arguments)
        .args(SHORT)
        .arg("-o")
        .arg(dir)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The reports of a session, all of them valid.
fn reports(dir: &Path) -> Vec<Report> {
    let (reports, faults) = model::load_all(&[dir.to_owned()]);
    assert!(faults.is_empty(), "{faults:?}");
    reports
}

fn of_arm<'a>(reports: &'a [Report], arm: &str) -> Vec<&'a Report> {
    let is_it = |report: &&Report| {
        let session = report.run.session.as_ref();
        session.and_then(|session| session.arm.as_deref()) == Some(arm)
    };
    reports.iter().filter(is_it).collect()
}

#[test]
fn every_value_is_an_arm_of_one_session() {
    let dir = tempfile::tempdir().unwrap();
    let printed = swept(
        &["tcp_stream", "--sweep", "engine=plain,zerocopy", "-l", "4K"],
        dir.path(),
    );
    for line in [
        "tcp_stream  bandwidth_bytes_per_s, more is better",
        "net-bench/tcp_stream [engine=plain]  ",
        "engine=plain (baseline)",
        "engine=zerocopy",
        "ratio: arm / baseline",
        "2 cases measured",
    ] {
        assert!(printed.contains(line), "no {line:?} in:\n{printed}");
    }
    let reports = reports(dir.path());
    for engine in ["plain", "zerocopy"] {
        let runs = of_arm(&reports, &format!("engine={engine}"));
        assert_eq!(runs.len(), 2);
        for report in runs {
            let params = &report.cases[0].benchmark.params;
            assert_eq!(params["engine"], engine);
            assert_eq!(params["length_bytes"], 4096);
            assert_eq!(params["duration_s"], 0.05);
            assert_eq!(params["server"], "in_process");
        }
    }
    let recorded = Recorded::load(dir.path()).unwrap().unwrap();
    assert!(recorded.ended.is_some());
    let suite = fs::read_to_string(dir.path().join("sweep.toml")).unwrap();
    assert_eq!(suite, recorded.suite);
    assert!(dir.path().join("report.html").is_file());
}

#[test]
fn several_sweeps_multiply_and_flags_are_true_or_false() {
    let dir = tempfile::tempdir().unwrap();
    let sweeps = ["--sweep", "busy-poll=false,true", "--sweep", "flows=1,2"];
    let server = Server::start(&[]);
    let port = server.port();
    let mut arguments = vec!["tcp_rr", "-c", "127.0.0.1", "-p", &port, "--json"];
    arguments.extend(sweeps);
    let document: Value = serde_json::from_str(&swept(&arguments, dir.path())).unwrap();
    let [row] = document["ratios"].as_array().unwrap().as_slice() else {
        panic!("one row: {}", document["ratios"]);
    };
    assert_eq!(row["baseline"], "busy-poll=false,flows=1");
    let arms: Vec<&Value> = row["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arm| &arm["arm"])
        .collect();
    assert_eq!(
        arms,
        [
            "busy-poll=false,flows=2",
            "busy-poll=true,flows=1",
            "busy-poll=true,flows=2"
        ]
    );
    assert_eq!(document["reports"].as_array().unwrap().len(), 8);
    let reports = reports(dir.path());
    for (arm, busy, flows) in [
        ("busy-poll=false,flows=2", Value::Null, 2),
        ("busy-poll=true,flows=1", true.into(), 1),
    ] {
        let params = &of_arm(&reports, arm)[0].cases[0].benchmark.params;
        let busy_poll = params.get("busy_poll").cloned().unwrap_or_default();
        assert_eq!(busy_poll, busy, "{arm}");
        assert_eq!(params["flows"], flows);
        assert_eq!(params["server"], "remote");
    }
}

#[test]
fn what_is_unavailable_says_why_beside_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("out");
    let sweep = ["tcp_stream", "--sweep", "engine=plain,uring,zerocopy"];
    let forbid = || bench_sys::forbid::io_uring().map(|()| swept(&sweep, dir));
    let printed = thread::scope(|scope| scope.spawn(forbid).join().unwrap());
    let printed = match printed {
        Ok(printed) => printed,
        Err(error) => return println!("SKIPPED io_uring forbidden: no seccomp: {error}"),
    };
    let flat = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "2 cases measured",
        "1 skipped, 0 failed",
        "no ratio: tcp_stream engine=uring: no valid run of engine=uring has this number: \
         unavailable: --engine uring: io_uring_setup",
        "seccomp",
    ] {
        assert!(flat.contains(words), "no {words:?} in:\n{printed}");
    }
    let reports = reports(dir);
    for report in of_arm(&reports, "engine=uring") {
        let outcome = &report.cases[0].outcome;
        assert!(matches!(outcome, Outcome::Skipped { .. }), "{outcome:?}");
    }
    assert_eq!(of_arm(&reports, "engine=zerocopy").len(), 2);
}

#[test]
fn a_sweep_that_does_not_fit_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report");
    fs::write(&file, "mine").unwrap();
    let file = file.to_str().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let table: &[(&[&str], &[&str])] = &[
        (
            &["--sweep", "motor=a,b"],
            &["--sweep motor", "no such option", "engine, ", "window"],
        ),
        (&["--sweep", "output=a,b"], &["--sweep output"]),
        (
            &["--sweep", "engine=plain,steam"],
            &["engine=steam", "'steam'", "zerocopy"],
        ),
        (
            &["--sweep", "length=1K,0"],
            &["length=0", "--length 0", "64M"],
        ),
        (
            &["--sweep", "engine=plain,uring", "-e", "plain"],
            &["--sweep engine", "given by itself"],
        ),
        (
            &["--sweep", "engine=plain,mmsg"],
            &["engine=mmsg", "--engine mmsg"],
        ),
        (
            &["--sweep", "flows=1,2", "--sweep", "flows=3,4"],
            &["--sweep flows", "twice"],
        ),
        (&["--sweep", "flows=1"], &["--sweep", "give --flows 1"]),
        (
            &["--sweep", "no-delay=0,1"],
            &["--sweep no-delay=0", "true and false"],
        ),
        (&["--repetitions", "3"], &["--sweep"]),
        (
            &["--sweep", "flows=1,2", "--repetitions", "0"],
            &["--repetitions", "1..=10000"],
        ),
        (
            &["--sweep", "flows=1,2", "--stop-width", "2"],
            &["--stop-width", "2%"],
        ),
        (
            &["--sweep", "port=1,2"],
            &["port=1", "not provided", "--connect"],
        ),
        (&["--sweep", "flows=1,2", "-o", file], &["-o", "folder"]),
        (
            &["--sweep", "flows=1,2", "-o", "x.json"],
            &["-o x.json", "folder"],
        ),
    ];
    for (arguments, words) in table {
        let mut command = net_bench(&["tcp_stream"]);
        command.args(*arguments).current_dir(dir.path());
        if !arguments.contains(&"-o") {
            command.args(["-o", out]);
        }
        let output = command.output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        for word in *words {
            assert!(text.contains(word), "{arguments:?}: no {word:?} in {text}");
        }
    }
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "only the file from before");
}

#[test]
fn a_session_has_a_folder_of_its_own_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let short = ["-n", "100", "--repetitions", "1"];
    let sweep = |more: &[&str]| -> Output {
        let mut command = net_bench(&["null", "--sweep", "request-size=8,16"]);
        command.args(short).args(more).current_dir(dir.path());
        command.output().unwrap()
    };
    for count in 1..=2 {
        let output = sweep(&[]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let sessions = fs::read_dir(dir.path().join("bench-results")).unwrap();
        let sessions: Vec<_> = sessions.map(|entry| entry.unwrap()).collect();
        assert_eq!(sessions.len(), count);
        for session in sessions {
            let name = session.file_name().into_string().unwrap();
            assert!(name.starts_with("net-bench-null-"), "{name}");
            assert_eq!(reports(&session.path()).len(), 2);
        }
    }
    assert_eq!(sweep(&["-o", "mine"]).status.code(), Some(0));
    let again = sweep(&["-o", "mine"]);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    let text = stderr(&again);
    assert!(text.contains("-o mine: it already holds"), "{text}");
}

#[test]
fn what_one_option_requires_may_be_swept() {
    let dir = tempfile::tempdir().unwrap();
    let printed = swept(
        &[
            "tcp_rr",
            "--arrival",
            "poisson",
            "--sweep",
            "rate=2000,4000",
        ],
        dir.path(),
    );
    assert!(printed.contains("rate=2000 (baseline)"), "{printed}");
    // Without it the requirement stands.
    let output = run(&["tcp_rr", "--arrival", "poisson", "--sweep", "flows=1,2"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(stderr(&output).contains("--rate"), "{}", said(&output));
}

#[test]
fn an_interrupted_sweep_keeps_what_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("out");
    let child = net_bench(&["tcp_rr", "--sweep", "flows=1,2", "-t", "0.05", "-O", "0"])
        .args(["--repetitions", "10000", "-o"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let has_run =
        || fs::read_dir(dir.join("runs")).is_ok_and(|mut files| files.any(|file| file.is_ok()));
    while !has_run() {
        thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
    let kept = reports(dir).len();
    assert!(kept >= 1);
    let (text, file) = (stderr(&output), dir.join("sweep.toml"));
    let go_on = format!(
        "interrupted: {kept} of 20000 runs are kept in {}; go on with: reports run {} --out {} \
         --resume",
        dir.display(),
        file.display(),
        dir.display()
    );
    assert!(text.contains(&go_on), "{text}");
    // The suite beside it is the session's own, to the letter.
    let (_, suite) = Suite::load(&file).unwrap();
    let session = Session::resume(dir, &suite, &Asked::default());
    assert!(session.is_ok(), "{session:?}");
}
