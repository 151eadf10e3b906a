//! The `reports` program as its user runs it: suites of real processes, and files of every kind.

use reports::model::{self, Outcome, Report};
use reports::program::{Session, now};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn reports(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reports"))
        .current_dir(dir)
        .args(args)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with `measured.json`, a report that a fake benchmark can copy to where it is asked.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    model::write(
        &dir.path().join("measured.json"),
        &model::to_json(&report()),
    )
    .expect("writable");
    dir
}

/// A report with no case: valid, and quick to make.
fn report() -> Report {
    Session::stand_in("fake-bench", now()).finish(Vec::new())
}

/// A suite whose rows run shell scripts; `$2` is where the report is wanted.
fn suite(dir: &Path, repetitions: u32, rows: &[(&str, &str)]) -> PathBuf {
    let mut text = format!("name = \"test\"\nrepetitions = {repetitions}\ntimeout_s = 20\n");
    for (name, script) in rows {
        text.push_str(&format!(
            "[[row]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''', \"sh\"]\n"
        ));
    }
    let path = dir.join("suite.toml");
    fs::write(&path, text).expect("writable");
    path
}

/// Copies the prepared report under a fresh run id.
const COPY: &str =
    "sed \"s/\\\"id\\\": \\\"[^\\\"]*\\\"/\\\"id\\\": \\\"$$\\\"/\" measured.json > \"$2\"";

fn runs(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.join("out/runs"))
        .expect("the session has runs")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_suite_runs_every_row_in_fresh_processes_and_draws_a_page() {
    let dir = folder();
    suite(dir.path(), 2, &[("first", COPY), ("second", COPY)]);
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        runs(dir.path()),
        [
            "first-0001.json",
            "first-0002.json",
            "second-0001.json",
            "second-0002.json"
        ]
    );
    let kept = model::load(&dir.path().join("out/runs/second-0002.json")).expect("a report");
    let session = kept.run.session.expect("it knows its session");
    assert_eq!((session.row.as_str(), session.repetition), ("second", 2));
    assert!(
        [3, 4].contains(&session.order_index),
        "the second round follows the first"
    );
    assert!(dir.path().join("out/report.html").is_file());
    assert_eq!(
        fs::read_dir(dir.path().join("out"))
            .expect("readable")
            .count(),
        4,
        "no leftovers"
    );
}

#[test]
fn what_a_row_does_wrong_is_in_its_report() {
    let dir = folder();
    let rows = [
        ("silent", "exit 0"),
        ("dies", "echo the device is on fire >&2; exit 1"),
        ("garbage", "echo '{' > \"$2\""),
        ("unavailable", "echo no such hardware; exit 3"),
    ];
    suite(dir.path(), 1, &rows);
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert_eq!(output.status.code(), Some(1));
    let outcome = |row: &str| {
        let path = dir.path().join(format!("out/runs/{row}-0001.json"));
        model::load(&path)
            .expect("every row has a report")
            .cases
            .remove(0)
            .outcome
    };
    let failed = |row: &str, words: &str| match outcome(row) {
        Outcome::Failed { error } => assert!(error.contains(words), "{row}: {error}"),
        other => panic!("{row}: {other:?}"),
    };
    failed("silent", "wrote no report; it printed nothing");
    failed("dies", "the device is on fire");
    failed("dies", "import = \"fio\"");
    failed("garbage", "is truncated");
    let skipped = outcome("unavailable");
    assert!(
        matches!(&skipped, Outcome::Skipped { reason } if reason.contains("no such hardware")),
        "{skipped:?}"
    );
    assert!(
        dir.path().join("out/logs/dies-0001.log").is_file(),
        "the log of a failure is kept"
    );
}

#[test]
fn a_program_that_is_not_installed_is_a_skip_with_the_remedy() {
    let dir = folder();
    let path = suite(dir.path(), 1, &[("copy", COPY)]);
    let with_missing = fs::read_to_string(&path).expect("readable")
        + "[[row]]\nname = \"missing\"\ncommand = [\"no-such-launcher\", \"-n\", \"2\"]\n";
    fs::write(&path, with_missing).expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(
        out.contains("no-such-launcher is not installed: scripts/setup"),
        "{out}"
    );
}

#[test]
fn a_peer_without_a_device_is_a_skip_with_its_words() {
    let dir = folder();
    let path = suite(dir.path(), 1, &[("copy", COPY)]);
    let row = |name: &str, peer: &str, says: &str| {
        let server = format!("echo '{says}'; exit 1");
        format!(
            "[[row]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"exit 1\"]\nimport = \"{peer}\"\n\
             server = {{ command = [\"sh\", \"-c\", \"{server}\"], port = 18515 }}\n"
        )
    };
    let rows = [
        row(
            "verbs",
            "perftest",
            "Unable to find the Infiniband/RoCE device",
        ),
        row("verbs-bandwidth", "perftest", "Did not detect devices"),
        row(
            "fabric",
            "fabtests",
            "fi_getinfo(): shared.c:1, ret=-61 (No data available)",
        ),
    ];
    let rows = fs::read_to_string(&path).expect("readable") + &rows.concat();
    fs::write(&path, &rows).expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    let out = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{out}{}",
        text(&output.stderr)
    );
    for words in [
        "Infiniband/RoCE device",
        "Did not detect devices",
        "No data available",
    ] {
        assert!(out.contains(words), "{out}");
    }
    // Any other fault of theirs is one.
    fs::write(
        &path,
        rows.replace("No data available", "Function not implemented"),
    )
    .expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "again"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}

#[test]
fn a_run_that_does_not_end_is_killed_with_all_it_started() {
    let dir = folder();
    let path = suite(
        dir.path(),
        1,
        &[("hangs", "sleep 987 & echo $! > child; trap '' TERM; wait")],
    );
    let quick = fs::read_to_string(&path)
        .expect("readable")
        .replace("= 20", "= 0.3");
    fs::write(&path, quick).expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("no end after 0.3 s"),
        "{}",
        text(&output.stdout)
    );
    assert_ends(&dir.path().join("child"));
}

/// Waits until the process whose pid a file holds is gone.
fn assert_ends(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).expect("the child wrote its pid");
    let stat = format!("/proc/{}/stat", pid.trim());
    let deadline = Instant::now() + Duration::from_secs(60);
    // A zombie waits for its reaper only: it runs no more.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "process {} lives on", pid.trim());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_interrupted_session_keeps_what_is_finished_and_goes_on() {
    let dir = folder();
    // Whichever row runs first is quick; the other one waits until it may go on.
    let script = format!(
        "if [ -e go ] || mkdir first 2>/dev/null; then {COPY}; \
         else echo $$ > child; touch waiting; sleep 987; fi"
    );
    suite(dir.path(), 1, &[("one", &script), ("two", &script)]);
    let child = Command::new(env!("CARGO_BIN_EXE_reports"))
        .current_dir(dir.path())
        .args(["run", "suite.toml", "--out", "out"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    while !dir.path().join("waiting").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let resume = ["run", "suite.toml", "--out", "out", "--resume"];
    let beside = reports(dir.path(), &resume);
    assert_eq!(beside.status.code(), Some(2));
    let said = text(&beside.stderr);
    assert!(
        said.contains("another `reports run` works in out"),
        "{said}"
    );
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("1 of 2 runs are kept"),
        "{}",
        text(&output.stderr)
    );
    assert_ends(&dir.path().join("child"));
    let names = runs(dir.path());
    assert_eq!(names.len(), 1);
    let kept_path = dir.path().join("out/runs").join(&names[0]);
    let kept = fs::read(&kept_path).expect("readable");

    let again = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        text(&again.stderr).contains("--resume"),
        "{}",
        text(&again.stderr)
    );

    fs::write(dir.path().join("go"), "").expect("writable");
    // As a killed session leaves it.
    fs::create_dir_all(dir.path().join("out/scratch/.tmp")).expect("writable");
    let resumed = reports(dir.path(), &resume);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert_eq!(runs(dir.path()), ["one-0001.json", "two-0001.json"]);
    assert!(!dir.path().join("out/scratch").exists(), "no leftovers");
    let unchanged = fs::read(&kept_path).expect("readable");
    assert_eq!(kept, unchanged, "a finished run is not run again");
}

#[test]
fn a_new_session_touches_nobody_elses_files() {
    let dir = folder();
    suite(dir.path(), 1, &[("one", COPY)]);
    let theirs = dir.path().join("out/scratch/thesis.tex");
    fs::create_dir_all(theirs.parent().expect("a folder")).expect("writable");
    fs::write(&theirs, "years of work").expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("out/scratch holds files that belong to no session"),
        "{said}"
    );
    assert_eq!(fs::read(&theirs).expect("still there"), b"years of work");
    assert!(
        !dir.path().join("out/session.json").exists(),
        "no session was begun"
    );
}

#[test]
fn another_suite_cannot_resume_a_session() {
    let dir = folder();
    suite(dir.path(), 1, &[("one", COPY)]);
    assert!(
        reports(dir.path(), &["run", "suite.toml", "--out", "out"])
            .status
            .success()
    );
    suite(dir.path(), 2, &[("one", COPY)]);
    let output = reports(
        dir.path(),
        &["run", "suite.toml", "--out", "out", "--resume"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("another version of the suite"));
    let output = reports(
        dir.path(),
        &["run", "suite.toml", "--out", "fresh", "--resume"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("holds no session to resume"));
}

#[test]
fn every_kind_of_bad_file_is_named_with_its_fault() {
    let dir = folder();
    let good = fs::read_to_string(dir.path().join("measured.json")).expect("readable");
    let files: [(&str, Vec<u8>, &str); 9] = [
        ("empty.json", Vec::new(), "it is empty"),
        (
            "truncated.json",
            good.as_bytes()[..good.len() / 2].to_vec(),
            "it is truncated",
        ),
        (
            "foreign.json",
            b"{\"schema\":{\"name\":\"fio\",\"version\":1}}".to_vec(),
            "not a report of this suite",
        ),
        (
            "plain.json",
            b"{\"jobs\":[]}".to_vec(),
            "missing field `schema`",
        ),
        (
            "future.json",
            good.replacen("\"version\": 2", "\"version\": 99", 1).into(),
            "schema version 99",
        ),
        ("binary.json", vec![0xff, 0xfe, 0x00, 0x01], "not UTF-8"),
        ("deep.json", "[".repeat(200_000).into(), "is not a report"),
        (
            "mistyped.json",
            good.replace("\"cases\": []", "\"cases\": 7").into(),
            "expected a sequence",
        ),
        ("hostless.json", without_hosts(&good).into(), "hosts: empty"),
    ];
    for (name, bytes, fault) in &files {
        fs::write(dir.path().join(name), bytes).expect("writable");
        let output = reports(dir.path(), &["validate", name]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(
            stderr.contains(name) && stderr.contains(fault),
            "{name}: {stderr}"
        );
    }
    let output = reports(dir.path(), &["validate", "measured.json"]);
    assert_eq!(text(&output.stdout), "1 valid, 0 not\n");
    let output = reports(dir.path(), &["validate", "."]);
    assert_eq!(
        text(&output.stdout),
        format!("1 valid, {} not\n", files.len())
    );
    let output = reports(dir.path(), &["show", "absent.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("absent.json"));
}

fn without_hosts(report: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(report).expect("it is JSON");
    value["hosts"] = serde_json::Value::Array(Vec::new());
    value.to_string()
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let dir = folder();
    for args in [
        &["--no-such-flag"][..],
        &["run"],
        &["run", "absent.toml"],
        &["show"],
        &[],
    ] {
        let output = reports(dir.path(), args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            text(&output.stderr)
        );
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_half_page() {
    let dir = folder();
    let output = reports(
        dir.path(),
        &["html", "measured.json", "-o", "/dev/full/report.html"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("/dev/full/report.html"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_environment_is_shown_as_text_and_as_json() {
    let dir = folder();
    let output = reports(dir.path(), &["env", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert!(value["name"].is_string());
    let output = reports(dir.path(), &["env"]);
    assert!(output.status.success() && !output.stdout.contains(&0x1b));
}

#[test]
fn arms_take_turns_and_share_a_pair_id() {
    let dir = folder();
    let text = format!(
        "name = \"arms\"\nrepetitions = 2\nseed = 5\n[matrix]\nkind = [\"x\", \"y\"]\n[[row]]\nname = \"r\"\n\
         command = [\"sh\", \"-c\", '''echo {{kind}} >> order; {COPY}''', \"sh\"]\n"
    );
    fs::write(dir.path().join("suite.toml"), text).expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert!(output.status.success(), "{}", text_of(&output));
    let order = fs::read_to_string(dir.path().join("order")).expect("the rows ran");
    let order: Vec<&str> = order.lines().collect();
    assert!(
        order == ["x", "y", "y", "x"] || order == ["y", "x", "x", "y"],
        "{order:?}"
    );
    let session = |name: &str| {
        let path = dir.path().join("out/runs").join(name);
        model::load(&path)
            .expect("a report")
            .run
            .session
            .expect("of a session")
    };
    let (x, y) = (session("r-kind=x-0002.json"), session("r-kind=y-0002.json"));
    assert_eq!(
        (x.arm.as_deref(), y.arm.as_deref()),
        (Some("kind=x"), Some("kind=y"))
    );
    assert_eq!(
        (x.pair_id.as_deref(), y.pair_id),
        (Some("r-2"), Some("r-2".to_owned()))
    );
}

fn text_of(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// A program that listens on a port until it is told to end, and notes that it was.
const SERVER: &str = r#"
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def end(*_):
    open("server-ended", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
while True:
    signal.pause()
"#;

#[test]
fn a_server_runs_beside_its_row_and_ends_with_it() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("SKIPPED a_server_runs_beside_its_row: no python3 on the PATH");
        return;
    }
    let dir = folder();
    fs::write(dir.path().join("server.py"), SERVER).expect("writable");
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = probe.local_addr().expect("bound").port();
    drop(probe);
    let text = format!(
        "name = \"served\"\nrepetitions = 1\n[[row]]\nname = \"r\"\n\
         server = {{ command = [\"python3\", \"server.py\", \"{port}\"], port = {port} }}\n\
         command = [\"bash\", \"-c\", '''exec 3<>/dev/tcp/127.0.0.1/{port} && {COPY}''', \"bash\"]\n"
    );
    fs::write(dir.path().join("suite.toml"), text).expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert!(
        dir.path().join("server-ended").exists(),
        "the server was told to end"
    );
    assert_eq!(runs(dir.path()), ["r-0001.json"]);
}

#[test]
fn a_spent_budget_ends_a_suite_between_pairs_of_rounds() {
    let dir = folder();
    let path = suite(dir.path(), 50, &[("slow", &format!("sleep 0.15; {COPY}"))]);
    let text = fs::read_to_string(&path).expect("readable");
    fs::write(
        &path,
        text.replace("repetitions", "budget_s = 0.2\nrepetitions"),
    )
    .expect("writable");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "out"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert_eq!(runs(dir.path()), ["slow-0001.json", "slow-0002.json"]);
    assert!(text_of(&output).contains("the time budget is spent"));
}
