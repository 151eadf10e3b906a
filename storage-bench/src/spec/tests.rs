use super::*;
use clap::Parser;

#[derive(Parser)]
struct Null {
    #[command(flatten)]
    args: NullArgs,
}

#[derive(Parser)]
struct File {
    #[command(flatten)]
    args: FileArgs,
}

fn null(line: &str) -> anyhow::Result<Spec> {
    let words = std::iter::once("null").chain(line.split_whitespace());
    Null::try_parse_from(words)?.args.spec()
}

fn file(line: &str) -> anyhow::Result<Spec> {
    let words = std::iter::once("file").chain(line.split_whitespace());
    File::try_parse_from(words)?.args.spec()
}

#[test]
fn defaults_are_complete_and_sensible() {
    let spec = file("").expect("the defaults hold");
    assert_eq!((spec.bs, spec.iodepth, spec.size), (4096, 32, 256 << 20));
    assert!(spec.direct && spec.invalidate && spec.rwmixread.is_none());
    assert_eq!((spec.ramp_time_s, spec.runtime_s), (1.0, Some(10.0)));
    assert_eq!(file("--engine psync").expect("valid").iodepth, 1);
    assert_eq!(file("--rw randrw").expect("valid").rwmixread, Some(50));
    let bounded = file("--number-ios 5").expect("valid");
    assert_eq!((bounded.ramp_time_s, bounded.runtime_s), (0.0, None));
    assert_eq!(bounded.plan().run, Limit::Ops(5));
}

#[test]
fn nonsense_is_refused_with_the_option_named() {
    let cases = [
        ("--bs 0", "--bs 0"),
        ("--bs 1000", "multiple of 512"),
        ("--bs 2g --size 4g", "to 1g"),
        ("--size 2k", "--size 2k"),
        ("--size 0", "--size 0"),
        ("--size 9000000t", "--size"),
        ("--iodepth 0", "--iodepth 0"),
        ("--iodepth 5000", "4096"),
        ("--iodepth-batch 0", "--iodepth-batch 0"),
        ("--numjobs 0", "--numjobs 0"),
        ("--rwmixread 50", "--rw randrw"),
        ("--rwmixread 101 --rw randrw", "0 to 100"),
        ("--runtime 0", "--runtime 0"),
        ("--runtime -1", "--runtime -1"),
        ("--runtime NaN", "--runtime NaN"),
        ("--runtime inf", "--runtime inf"),
        ("--ramp-time 1e300", "--ramp-time"),
        ("--interval 0", "--interval 0"),
        ("--number-ios 0", "--number-ios 0"),
        ("--engine psync", "leave --engine out"),
        ("--rw read --numjobs 2 --size 4k", "each of 2 jobs"),
        ("--number-ios 5 --runtime 5", "cannot be used with"),
    ];
    for (line, expected) in cases {
        let error = null(line).expect_err(line);
        assert!(format!("{error:#}").contains(expected), "{line}: {error:#}");
    }
}

#[test]
fn depths_belong_to_engines() {
    let error = file("--engine psync --iodepth 8").expect_err("psync has depth 1");
    assert!(error.to_string().contains("1 by nature"), "{error}");
    assert!(file("--engine psync --iodepth 1").is_ok());
    let error = file("--engine null").expect_err("no I/O");
    assert!(error.to_string().contains("storage-bench null"), "{error}");
}

#[test]
fn parameters_name_no_place_and_no_seed() {
    let params = reports::case::params(&file("--seed 5").expect("valid"));
    let names: Vec<_> = params.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "engine",
            "rw",
            "bs",
            "iodepth",
            "iodepth_batch",
            "numjobs",
            "direct",
            "invalidate",
            "size",
            "ramp_time_s",
            "runtime_s"
        ]
    );
}
