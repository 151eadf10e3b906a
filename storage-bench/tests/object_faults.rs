//! Object stores that misbehave: each fault is named, counted, bounded in time, and cleaned up.

mod common;
mod s3;

use common::{failure, measured, program, report, told};
use reports::model::Measurement;
use s3::{Hostile, KEY, SECRET, Spoil};

/// Runs a case on a server whose answers about objects are spoilt where the test says so.
fn run(
    case: &str,
    spoil: impl Fn(&str, usize) -> Spoil + Send + Sync + 'static,
    words: &[&str],
) -> (i32, String, Hostile) {
    let server = Hostile::start(move |request, before| {
        let object = request.key.contains("/0000/") && request.method != "DELETE";
        match object {
            true => spoil(&request.method, before),
            false => Spoil::No,
        }
    });
    let given = [
        "--bucket",
        "s3://bucket/p",
        "--object-size",
        "4k",
        "--objects",
        "4",
        "--concurrency",
        "2",
        "--number-ios",
        "20",
        "--json",
    ];
    let output = program(&[case, "--endpoint", &server.endpoint])
        .args(given)
        .args(words)
        .env_remove("AWS_SESSION_TOKEN")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output();
    let (code, text, _) = told(output.expect("the program starts"));
    (code, text, server)
}

/// The spoil for one method, and nothing for the others.
fn only(method: &'static str, spoil: Spoil) -> impl Fn(&str, usize) -> Spoil {
    move |asked, _| if asked == method { spoil } else { Spoil::No }
}

fn flag<'a>(measurement: &'a Measurement, code: &str) -> Option<&'a str> {
    let mut flags = measurement.validity.flags.iter();
    let flag = flags.find(|flag| flag.code == code)?;
    Some(&flag.evidence)
}

#[test]
fn faults_that_stay_fail_the_run_and_are_named() {
    // Long enough for a busy machine to answer in.
    let impatient = &["--retries", "1", "--timeout", "2"][..];
    for (case, method, spoil, parts) in [
        (
            "object_get",
            "GET",
            Spoil::Status(500, "InternalError"),
            &["500 InternalError", "last of 2 tries"][..],
        ),
        (
            "object_get",
            "GET",
            Spoil::Status(503, "SlowDown"),
            &["503 SlowDown", "last of 2 tries"],
        ),
        (
            "object_get",
            "GET",
            Spoil::Status(403, "AccessDenied"),
            &["get of bytes 0 to 4096 of p/", "403 AccessDenied"],
        ),
        (
            "object_get",
            "GET",
            Spoil::Status(404, "NoSuchKey"),
            &["404 NoSuchKey"],
        ),
        (
            "object_get",
            "GET",
            Spoil::Truncated,
            &["cut off", "last of 2 tries"],
        ),
        (
            "object_get",
            "GET",
            Spoil::Dripping,
            &["no complete answer within --timeout 2 s"],
        ),
        (
            "object_get",
            "GET",
            Spoil::Closed,
            &["the connection was lost"],
        ),
        (
            "object_get",
            "GET",
            Spoil::Silent,
            &["no complete answer within"],
        ),
        ("object_get", "GET", Spoil::Flipped, &["byte 2048 is"]),
        (
            "object_get_range",
            "GET",
            Spoil::Flipped,
            &["get of bytes", "byte "],
        ),
        (
            "object_get",
            "GET",
            Spoil::Misdirected,
            &["it holds block 0 of generation 1 of object"],
        ),
        (
            "object_put",
            "PUT",
            Spoil::Status(507, "OutOfSpace"),
            &["put of p/", "507 OutOfSpace"],
        ),
        (
            "object_put",
            "PUT",
            Spoil::Forgotten,
            &["does not hold what was put last", "404"],
        ),
        (
            "object_get",
            "PUT",
            Spoil::Status(507, "OutOfSpace"),
            &["cannot prepare the objects", "507"],
        ),
        (
            "object_multipart",
            "PUT",
            Spoil::Status(403, "AccessDenied"),
            &["upload in parts of p/", "403"],
        ),
        (
            "object_multipart",
            "POST",
            Spoil::Status(403, "AccessDenied"),
            &["upload in parts of p/", "403"],
        ),
        (
            "object_mixed",
            "HEAD",
            Spoil::Status(400, ""),
            &["head of p/", "400"],
        ),
    ] {
        let own = match case {
            "object_get_range" => &["--range", "1k"][..],
            "object_mixed" => &["--mix", "head=100"],
            _ => &[],
        };
        let patient = &["--retries", "1"][..];
        let tries = match spoil {
            Spoil::Dripping | Spoil::Silent => impatient,
            _ => patient,
        };
        let words: Vec<_> = tries.iter().chain(own).copied().collect();
        let (code, text, server) = run(case, only(method, spoil), &words);
        assert_eq!(code, 1, "{case} {spoil:?}: {text}");
        let report = report(&text);
        let error = failure(&report);
        for part in parts {
            assert!(error.contains(part), "{case} {spoil:?}: {error}");
        }
        assert!(
            server.keys().is_empty(),
            "{case} {spoil:?}: {:?}",
            server.keys()
        );
        assert!(server.uploads().is_empty(), "{case} {spoil:?}");
    }
}

#[test]
fn faults_that_pass_are_tried_again_and_counted() {
    for (case, spoil, cause) in [
        ("object_get", Spoil::Status(503, "SlowDown"), "503 SlowDown"),
        ("object_get", Spoil::Truncated, "cut off answer"),
        ("object_get", Spoil::Closed, "lost connection"),
        (
            "object_put",
            Spoil::Status(500, "InternalError"),
            "500 InternalError",
        ),
        ("object_multipart", Spoil::ErrorInside, "200 InternalError"),
    ] {
        let method = match case {
            "object_get" => "GET",
            "object_put" => "PUT",
            _ => "POST",
        };
        // Requests meet the third in turn, never twice in a row.
        let third = move |asked: &str, before| match asked == method && before % 3 == 0 {
            true => spoil,
            false => Spoil::No,
        };
        let (code, text, server) = run(case, third, &["--retries", "20"]);
        assert_eq!(code, 0, "{case} {spoil:?}: {text}");
        let report = report(&text);
        let measured = measured(&report);
        assert_eq!(measured.work.known().expect("known").ops, 20, "{case}");
        let retried = flag(measured, "retried").expect("it was");
        assert!(retried.contains(cause), "{case} {spoil:?}: {retried}");
        let counted = measured.facts["observed"]["retries"][cause].as_u64();
        assert!(counted.is_some_and(|count| count > 0), "{case} {spoil:?}");
        let throttled = flag(measured, "throttled").is_some();
        assert_eq!(throttled, cause == "503 SlowDown", "{case} {spoil:?}");
        assert!(server.keys().is_empty(), "{case} {spoil:?}");
    }
}

#[test]
fn tolerated_errors_are_counted_and_no_results() {
    let some = |asked: &str, before| match asked == "GET" && before % 4 == 0 {
        true => Spoil::Status(403, "AccessDenied"),
        false => Spoil::No,
    };
    let (code, text, _) = run("object_get", some, &["--max-errors", "1000"]);
    assert_eq!(code, 0, "{text}");
    let report = report(&text);
    let measured = measured(&report);
    assert_eq!(measured.work.known().expect("known").ops, 20);
    let text = flag(measured, "operation_errors").expect("there were");
    assert!(text.contains("403 AccessDenied"), "{text}");
    // Wrong data is never tolerated.
    let words = ["--max-errors", "1000"];
    let (code, text, _) = run("object_get", only("GET", Spoil::Flipped), &words);
    assert_eq!(code, 1, "{text}");
}

#[test]
fn what_cannot_be_removed_is_said_with_the_remedy() {
    let server = Hostile::start(|request, _| match request.method.as_str() {
        "DELETE" => Spoil::Status(403, "AccessDenied"),
        _ => Spoil::No,
    });
    let words = [
        "object_put",
        "--bucket",
        "s3://bucket/p",
        "--object-size",
        "4k",
        "--json",
    ];
    let output = program(&words)
        .args(["--endpoint", &server.endpoint, "--number-ios", "5"])
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output();
    let (code, text, _) = told(output.expect("the program starts"));
    assert_eq!(code, 0, "{text}");
    let report = report(&text);
    let left = flag(measured(&report), "not_removed")
        .expect("it is")
        .to_owned();
    assert!(
        left.contains("403 AccessDenied") && left.contains("object_clean"),
        "{left}"
    );
    let marker = server
        .keys()
        .into_iter()
        .find(|key| key.ends_with("/marker"));
    assert!(marker.is_some(), "the marker goes last");
}
