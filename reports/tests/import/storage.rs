//! What fio measured.

use super::{folder, imported, measured, param, value, values};
use reports::measure::decode_histogram;
use reports::model::Fact;
use std::fs;

#[test]
fn fio_in_one_direction() {
    let report = imported("fio-randread.json");
    assert_eq!(report.program.version, Fact::Known("3.33".to_owned()));
    let case = &report.cases[0];
    assert_eq!(case.benchmark.id, "fio/randread");
    assert_eq!(
        (param(case, "bs"), param(case, "iodepth")),
        ("4k".into(), "8".into())
    );
    assert!(
        !case.benchmark.params.contains_key("filename"),
        "a place is no parameter"
    );
    let printed: serde_json::Value = {
        let text = fs::read_to_string(folder().join("fio-randread.json")).expect("there");
        serde_json::from_str(&text).expect("JSON")
    };
    let read = &printed["jobs"][0]["read"];
    let number = |path: &[&str]| {
        let found = path.iter().fold(read, |value, key| &value[*key]);
        found.as_f64().expect("a number")
    };
    values(
        case,
        &[
            ("iops", number(&["iops"])),
            ("bandwidth_bytes_per_s", number(&["bw_bytes"])),
            ("lat_ns mean", number(&["lat_ns", "mean"])),
            ("lat_ns max", number(&["lat_ns", "max"])),
            (
                "clat_ns p50",
                number(&["clat_ns", "percentile", "50.000000"]),
            ),
            (
                "clat_ns p99.9",
                number(&["clat_ns", "percentile", "99.900000"]),
            ),
            ("slat_ns mean", number(&["slat_ns", "mean"])),
        ],
    );
    let measurement = measured(case);
    assert_eq!(
        measurement.elapsed_s,
        Fact::Known(number(&["runtime"]) / 1e3)
    );
    let work = measurement.work.known().expect("fio counts");
    assert_eq!(
        (work.ops as f64, work.bytes as f64),
        (number(&["total_ios"]), number(&["io_bytes"]))
    );
    assert_eq!(measurement.verified, "nothing: fio ran without verify");
}

#[test]
fn fio_mixed_with_bins() {
    let report = imported("fio-randrw-plus.json");
    let case = &report.cases[0];
    assert_eq!(case.benchmark.id, "fio/randrw");
    values(
        case,
        &[
            ("read_iops", 69723.276723),
            ("read_bandwidth_bytes_per_s", 285_586_541.0),
            ("read_lat_ns mean", 10521.650925),
            ("read_clat_ns p50", 1528.0),
            ("read_clat_ns p99.99", 7_962_624.0),
            ("write_lat_ns max", 9_943_788.0),
            ("lat_ns min", 721.0),
            ("lat_ns max", 9_943_788.0),
            (
                "lat_ns mean",
                (69793.0 * 10521.650925 + 29710.0 * 5228.255099) / 99503.0,
            ),
        ],
    );
    let histograms = &measured(case).histograms;
    let read = histograms
        .iter()
        .find(|record| record.name == "read_clat_ns")
        .expect("bins");
    assert_eq!(read.count, 69793);
    let decoded = decode_histogram(&read.hdr_v2_base64).expect("it decodes");
    assert_eq!(decoded.len(), 69793);
    let median = decoded.value_at_quantile(0.5) as f64;
    assert!(
        (median - 1528.0).abs() <= 16.0,
        "fio's bins are 1/64 wide: {median}"
    );
}

#[test]
fn fio_jobs_groups_verification_and_text_around_the_json() {
    let two = imported("fio-two-jobs.json");
    let ids: Vec<&str> = two
        .cases
        .iter()
        .map(|case| case.benchmark.id.as_str())
        .collect();
    assert_eq!(ids, ["fio/write", "fio/read"]);
    assert_eq!(
        param(&two.cases[1], "ioengine"),
        "psync",
        "global options count"
    );
    let verified = imported("fio-verify.json");
    let words = &measured(&verified.cases[0]).verified;
    assert_eq!(words, "by fio with verify=crc32c: 256 reads, no error");
    assert_eq!(
        measured(&verified.cases[0])
            .work
            .known()
            .expect("known")
            .ops,
        256
    );
    let group = imported("fio-group.json");
    assert_eq!(
        (group.cases.len(), param(&group.cases[0], "numjobs")),
        (1, "2".into())
    );
    let normal = imported("fio-normal-json.txt");
    assert_eq!(param(&normal.cases[0], "ioengine"), "null");
    let percentiles = imported("fio-lat-percentiles.json");
    assert!(value(&percentiles.cases[0], "lat_ns p99") > 0.0);
    assert_eq!(measured(&percentiles.cases[0]).histograms[0].name, "lat_ns");
}
