use super::*;
use clap::{Args, Command, FromArgMatches};

fn args(words: &[&str]) -> ObjectArgs {
    let given = ["x", "--bucket", "s3://bucket/p", "--endpoint", "http://h:1"];
    let words = given.iter().chain(words);
    let command = ObjectArgs::augment_args(Command::new("x"));
    let matches = command.try_get_matches_from(words).expect("it parses");
    ObjectArgs::from_arg_matches(&matches).expect("it fits")
}

fn fault(op: Op, words: &[&str], change: impl Fn(&mut ObjectSpec)) -> String {
    let checked = args(words).spec(op).and_then(|mut spec| {
        change(&mut spec);
        spec.check()
    });
    checked.expect_err("it makes no sense").to_string()
}

#[test]
fn defaults_fit_the_case() {
    let spec = args(&[]).spec(Op::Get).expect("sound");
    spec.check().expect("sound");
    assert_eq!((spec.object_size, spec.objects), (8 << 20, 64));
    assert!(spec.store.path_style && spec.prepared());
    let spec = args(&[]).spec(Op::Delete).expect("sound");
    spec.check().expect("sound");
    assert_eq!((spec.object_size, spec.ramp_time_s), (1 << 10, 0.0));
    assert!(!args(&[]).spec(Op::Put).expect("sound").prepared());
}

#[test]
fn the_place_is_no_parameter() {
    let spec = args(&[]).spec(Op::Get).expect("sound");
    let text = serde_json::to_string(&spec).expect("it serialises");
    for part in ["bucket", "http", "region", "range", "mix", "seed"] {
        assert!(!text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_bucket_is_in_the_path_or_in_the_host() {
    let mut store = args(&[]).spec(Op::Get).expect("sound").store;
    assert_eq!(store.bucket_address(), "http://h:1/bucket");
    store.path_style = false;
    assert_eq!(store.bucket_address(), "http://bucket.h:1");
    store.endpoint = None;
    let aws = "https://bucket.s3.us-east-1.amazonaws.com";
    assert_eq!(store.bucket_address(), aws);
}

#[test]
fn what_makes_no_sense_is_named() {
    let same = |_: &mut ObjectSpec| {};
    for (op, words, part) in [
        (Op::Get, &["--concurrency", "0"][..], "--concurrency 0"),
        (Op::Get, &["--numjobs", "0"], "--numjobs 0"),
        (Op::Get, &["--objects", "0"], "--objects 0"),
        (Op::Get, &["--numjobs", "9", "--objects", "8"], "at least 9"),
        (Op::Put, &["--objects", "15"], "at least 16"),
        (Op::Get, &["--object-size", "31"], "at least 32"),
        (Op::Put, &["--object-size", "6g"], "only object_multipart"),
        (Op::Get, &["--runtime", "-1"], "--runtime -1"),
        (Op::Get, &["--interval", "0"], "--interval 0"),
        (Op::Get, &["--number-ios", "0"], "--number-ios 0"),
        (Op::Get, &["--timeout", "0"], "--timeout 0"),
        (
            Op::Get,
            &["--connect-timeout", "nan"],
            "--connect-timeout NaN",
        ),
        (Op::Get, &["--retries", "101"], "--retries 101"),
        (Op::Get, &["--region", "a b"], "--region"),
        (Op::Delete, &["--ramp-time", "1"], "--ramp-time"),
    ] {
        let fault = fault(op, words, same);
        assert!(fault.contains(part), "{words:?}: {fault}");
    }
    let small = &["--object-size", "1k"];
    let fault_of = |change: fn(&mut ObjectSpec)| fault(Op::Multipart, small, change);
    assert!(fault_of(|spec| spec.range = Some(2048)).contains("--range 2k"));
    assert!(fault_of(|spec| spec.part_size = Some(0)).contains("--part-size 0"));
    let fault = fault_of(|spec| {
        spec.object_size = 5 << 40;
        spec.part_size = Some(5 << 20);
    });
    assert!(fault.contains("10000 parts"), "{fault}");
    let fault = fault_of(|spec| {
        spec.store.endpoint = None;
        spec.part_size = Some(512);
    });
    assert!(fault.contains("below 5m"), "{fault}");
}
