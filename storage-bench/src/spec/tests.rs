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
    Ok(Null::try_parse_from(words)?.args.specs()?.remove(0))
}

fn file(line: &str) -> anyhow::Result<Spec> {
    let words = std::iter::once("file").chain(line.split_whitespace());
    Ok(File::try_parse_from(words)?.args.specs()?.remove(0))
}

#[test]
fn defaults_are_complete_and_sensible() {
    let spec = file("").expect("the defaults hold");
    assert_eq!(
        (spec.pattern.bs, spec.iodepth, spec.size),
        (4096, 32, 256 << 20)
    );
    assert!(spec.direct && spec.invalidate && spec.pattern.rwmixread.is_none());
    assert_eq!((spec.ramp_time_s, spec.runtime_s), (1.0, Some(10.0)));
    assert_eq!(file("--engine psync").expect("valid").iodepth, 1);
    assert_eq!(
        file("--rw randrw").expect("valid").pattern.rwmixread,
        Some(50)
    );
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
        ("--bssplit 4k/50", "50 percent instead of 100"),
        ("--bssplit 4k/50:1000/50", "--bssplit 1000"),
        ("--bssplit 4k/100 --bs 4k", "cannot be used with"),
        ("--rw read:1k", "1k bytes cannot be skipped"),
        ("--rw randread:0", "in a row"),
        ("--rw shuffle", "one of read, write"),
        ("--random-distribution zipf:0", "above 0"),
        ("--random-distribution pareto:1", "between 0 and 1"),
        (
            "--random-distribution zipf --rw read",
            "it needs --rw randread",
        ),
        (
            "--random-distribution zipf --rw randread:8",
            "leave --random-distribution out",
        ),
        ("--randommap true --rw read", "about random offsets"),
        (
            "--randommap true --random-distribution zipf",
            "each block once",
        ),
        ("--randommap true --bssplit 4k/50:8k/50", "one size"),
        ("--fsync 1", "--fsync flushes writes"),
        ("--fdatasync 0 --rw write", "--fdatasync 0"),
        ("--fsync 1 --fdatasync 1 --rw write", "cannot be used with"),
        ("--fsync 1 --rw trim", "--rw has none"),
        ("--sync dsync", "--sync is about writes"),
        ("--offset 1k", "--offset 1k"),
        ("--offset 9000000t", "--size"),
        ("--bs 4k,4k", "4096 stands there twice"),
        ("--iodepth 1,0", "--iodepth 0"),
        ("--bs 4k,1000", "--bs 1000"),
        ("--numjobs 1,2,1", "1 stands there twice"),
        ("--rate-iops 0", "--rate-iops 0: that is 0 operations"),
        ("--rate-iops -5", "--rate-iops -5"),
        ("--rate-iops NaN", "--rate-iops NaN"),
        ("--rate-iops 1e9", "from 0.01 to 100000000"),
        ("--rate 1", "--rate 1: that is 0.000"),
        ("--rate-iops 0.05", "less than one operation"),
        (
            "--rate-iops 0.5 --numjobs 8",
            "for each job in --runtime 10",
        ),
        ("--rate-iops 5 --rate 4k", "cannot be used with"),
        ("--rate-iops 5 --latency-target 1ms@p99", "cannot be used"),
        ("--rate 4m --latency-target 1ms@p99", "cannot be used with"),
        ("--latency-target 1ms", "1ms@p99"),
        ("--latency-target 1ms@p99 --number-ios 9", "cannot be used"),
        ("--arrival const", "Give --rate-iops"),
    ];
    for (line, expected) in cases {
        let error = null(line).expect_err(line);
        assert!(format!("{error:#}").contains(expected), "{line}: {error:#}");
    }
}

/// The points of a curve.
fn curve(line: &str) -> Vec<Spec> {
    let words = std::iter::once("file").chain(line.split_whitespace());
    let args = File::try_parse_from(words).expect(line).args;
    args.specs().expect(line)
}

#[test]
fn lists_become_the_points_of_a_curve() {
    let points = curve("--direct false --bs 4k,6k --numjobs 1,2 --iodepth 1,16");
    let shape = |spec: &Spec| (spec.pattern.bs, spec.numjobs, spec.iodepth);
    let shapes: Vec<_> = points.iter().map(shape).collect();
    assert_eq!(shapes[..3], [(4096, 1, 1), (4096, 1, 16), (4096, 2, 1)]);
    assert_eq!((shapes.len(), shapes[7]), (8, (6144, 2, 16)));
    // They read one file, whose units divide the blocks of all of them.
    assert!(points.iter().all(|spec| spec.pattern.unit() == 2048));
    assert_eq!(points[4].units_of(0), 0..(256 << 20) / 6144 * 3);
    let writes = curve("--rw randwrite --bs 4k,8k");
    let units: Vec<u64> = writes.iter().map(|spec| spec.pattern.unit()).collect();
    assert_eq!(units, [4096, 8192], "writers have a file each");
    assert_eq!(writes[0].seed, writes[1].seed);
    let alone = curve("--bs 8k");
    assert_eq!((alone.len(), alone[0].pattern.unit()), (1, 8192));
}

#[test]
fn too_many_points_are_a_typing_error() {
    let depths: Vec<String> = (1..=300).map(|depth| depth.to_string()).collect();
    let words = ["file", "--iodepth", &depths.join(",")];
    let args = File::try_parse_from(words).expect("numbers").args;
    let error = args.specs().expect_err("too many");
    assert!(error.to_string().contains("at most 256 points"), "{error}");
}

#[test]
fn jobs_have_equal_parts_behind_the_offset() {
    let spec = null("--rw write --numjobs 3 --size 40k --offset 8k").expect("valid");
    let parts: Vec<_> = (0..3).map(|job| spec.units_of(job)).collect();
    assert_eq!(parts, [2..5, 5..8, 8..11]);
    let split = null("--rw write --numjobs 2 --size 64k --bssplit 4k/50:32k/50");
    assert_eq!(split.expect("valid").units_of(1), 8..16);
    let error = null("--rw write --numjobs 2 --size 32k --bssplit 4k/50:32k/50");
    assert!(
        error
            .expect_err("half of it is too small")
            .to_string()
            .contains("each of 2 jobs")
    );
    assert_eq!(
        null("--numjobs 2 --size 32k").expect("valid").units_of(1),
        0..8
    );
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
fn parameters_show_what_was_asked_for_beyond_the_defaults() {
    let line = "--rw randrw --bssplit 4k/50:64k/50,8k/100 --random-distribution zipf:1.2 --fsync 8 \
                --sync dsync --continue-on-error all --offset 1m";
    let params = reports::case::params(&file(line).expect("valid"));
    assert_eq!(params["bssplit"], "4k/50:64k/50,8k/100");
    assert_eq!(params["random_distribution"], "zipf:1.2");
    assert_eq!(
        (&params["fsync"], &params["sync"]),
        (&8.into(), &"dsync".into())
    );
    assert_eq!(params["continue_on_error"], "all");
    assert_eq!(
        (&params["bs"], &params["offset"]),
        (&65536.into(), &(1 << 20).into())
    );
    let params = reports::case::params(&file("--rw read:8k").expect("valid"));
    assert_eq!(
        (&params["rw"], &params["rw_skip"]),
        (&"read".into(), &8192.into())
    );
    let params = reports::case::params(&file("--rw randread:4").expect("valid"));
    assert_eq!(params["rw_sequence"], 4);
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

#[test]
fn rates_are_parameters_of_open_loops_alone() {
    let params = |line: &str| reports::case::params(&null(line).expect("valid"));
    let paces = ["rate_iops", "rate_bytes_per_s", "arrival", "latency_target"];
    let closed = params("");
    assert!(paces.iter().all(|name| !closed.contains_key(*name)));
    let open = params("--rate-iops 200");
    assert_eq!(
        (&open["rate_iops"], &open["arrival"]),
        (&200.0.into(), &"poisson".into())
    );
    let by_bytes = null("--rate 8m --bs 4k --arrival const").expect("valid");
    assert_eq!(by_bytes.offered_iops(), Some(2048.0));
    let searched = params("--latency-target 1000us@p99.9");
    assert_eq!(searched["latency_target"], "1ms@p99.9");
}
