//! Every case, engine and mix once, on real files, bounded by operations.

mod common;

use common::{can_default, folder, is_empty, measured, program, report, run_in, told};
use reports::model::{self, Aggregation};

const MIXES: [&str; 10] = [
    "read",
    "write",
    "randread",
    "randwrite",
    "rw",
    "randrw",
    "trim",
    "randtrim",
    "trimwrite",
    "randtrimwrite",
];

#[test]
fn every_engine_does_every_mix_on_a_scratch_file() {
    let dir = folder();
    let engines = [
        ("psync", can_default(dir.path())),
        ("uring", can_default(dir.path())),
    ];
    for (engine, direct) in engines {
        for rw in MIXES {
            let direct = if direct { "true" } else { "false" };
            let words = [
                "file",
                "--engine",
                engine,
                "--rw",
                rw,
                "--direct",
                direct,
                "--size",
                "2m",
                "--number-ios",
                "600",
                "--json",
            ];
            let (code, text, errors) = run_in(dir.path(), &words);
            assert_eq!(code, 0, "{engine} {rw}: {text}{errors}");
            let report = report(&text);
            let measurement = measured(&report);
            assert!(
                measurement.work.known().expect("known").ops >= 600,
                "{engine} {rw}"
            );
            assert!(measurement.metric("lat_ns", Aggregation::P50).is_some());
            assert_eq!(measurement.facts["engine"]["name"], engine);
            assert_eq!(measurement.facts["target"]["kind"], "scratch file");
            let proof = match rw {
                "read" | "randread" => "of the reads",
                "trim" | "randtrim" => "were trimmed and held nothing",
                _ => "blocks held their last write",
            };
            assert!(
                measurement.verified.contains(proof),
                "{}",
                measurement.verified
            );
            let mixed = measurement
                .metric("read_iops", Aggregation::Total)
                .is_some();
            assert_eq!(mixed, matches!(rw, "rw" | "randrw"));
            let trims = measurement
                .metric("trim_iops", Aggregation::Total)
                .is_some();
            assert_eq!(trims, rw.ends_with("trimwrite"));
            assert!(is_empty(dir.path()), "{engine} {rw} left something behind");
        }
    }
}

#[test]
fn jobs_share_one_file() {
    let dir = folder();
    for rw in ["randread", "randwrite", "read"] {
        let words = [
            "file",
            "--engine",
            "psync",
            "--numjobs",
            "3",
            "--rw",
            rw,
            "--size",
            "1m",
            "--bs",
            "64k",
            "--direct",
            "false",
            "--number-ios",
            "50",
            "--json",
        ];
        let (code, text, errors) = run_in(dir.path(), &words);
        assert_eq!(code, 0, "{rw}: {text}{errors}");
        let report = report(&text);
        assert!(measured(&report).work.known().expect("known").ops >= 150);
    }
}

#[test]
fn a_file_of_the_users_is_read_and_kept_and_a_new_one_is_removed() {
    let dir = folder();
    let kept = dir.path().join("kept");
    std::fs::write(&kept, vec![7; 64 << 10]).expect("a file");
    let words = |name| {
        [
            "file",
            "--engine",
            "psync",
            "--direct",
            "false",
            "--filename",
            name,
            "--number-ios",
            "100",
            "--json",
        ]
    };
    let (code, text, errors) = run_in(dir.path(), &words("kept"));
    assert_eq!(code, 0, "{text}{errors}");
    let existing = report(&text);
    assert_eq!(existing.cases[0].benchmark.params["size"], 64 << 10);
    let measurement = measured(&existing);
    assert!(
        measurement.verified.contains("not this program's"),
        "{}",
        measurement.verified
    );
    let flags = &measurement.validity.flags;
    assert!(
        flags.iter().any(|flag| flag.code == "page_cache"),
        "{flags:?}"
    );
    assert_eq!(
        std::fs::read(&kept).expect("still there"),
        vec![7; 64 << 10]
    );

    let mut with_size = words("new").to_vec();
    with_size.extend(["--size", "1m", "--rw", "randwrite"]);
    let (code, text, errors) = run_in(dir.path(), &with_size);
    assert_eq!(code, 0, "{text}{errors}");
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["kept"]);
}

#[test]
fn null_measures_the_floor_and_writes_its_report() {
    let dir = folder();
    let file = dir.path().join("report.json");
    let name = file.to_str().expect("text");
    let (code, text, errors) = run_in(dir.path(), &["null", "--number-ios", "10000", "-o", name]);
    assert_eq!(code, 0, "{text}{errors}");
    assert!(
        text.contains("storage-bench/null") && text.contains("iops"),
        "{text}"
    );
    let report = model::load(&file).expect("a well-formed report");
    assert!(
        measured(&report)
            .verified
            .contains("every read named its offset")
    );
    assert!(report.run.seed.known().is_some());
}

#[test]
fn slices_are_shown_when_asked_for() {
    let words = [
        "null",
        "--runtime",
        "0.25",
        "--ramp-time",
        "0",
        "--interval",
        "0.1",
        "--json",
    ];
    let (code, text, errors) = told(program(&words).output().expect("it starts"));
    assert_eq!(code, 0, "{errors}");
    assert!(errors.lines().count() >= 2, "{errors}");
    assert!(measured(&report(&text)).intervals.len() >= 2);
}

#[test]
fn the_list_and_the_help_know_every_case() {
    let (code, text, _) = told(program(&["list"]).output().expect("it starts"));
    assert_eq!(code, 0);
    for word in ["file", "block", "null", "uring", "psync"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    for case in ["file", "block", "null"] {
        let (code, help, _) = told(program(&[case, "--help"]).output().expect("it starts"));
        assert_eq!(code, 0);
        assert!(
            help.contains("lat_ns is fio's") && help.contains("Exit codes"),
            "{case}: {help}"
        );
    }
    let (code, text, _) = told(program(&["--version"]).output().expect("it starts"));
    assert!(code == 0 && text.contains("commit"), "{text}");
}

#[test]
fn engines_are_swept_as_arms_of_one_session() {
    let dir = folder();
    let words = "file --sweep engine=psync,uring --direct false --size 1m --number-ios 100 \
                 --repetitions 2 -o out";
    let words: Vec<&str> = words.split_whitespace().collect();
    let (code, text, errors) = run_in(dir.path(), &words);
    assert_eq!(code, 0, "{text}{errors}");
    for line in ["file  iops, more is better", "engine=psync (baseline)"] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    let (reports, faults) = model::load_all(&[dir.path().join("out")]);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(reports.len(), 4);
    for report in &reports {
        assert_eq!(report.cases[0].benchmark.params["number_ios"], 100);
    }
    let refused = ["file", "--sweep", "engine=psync,null", "-o", "refused"];
    let (code, text, errors) = run_in(dir.path(), &refused);
    assert_eq!((code, text.as_str()), (2, ""), "{errors}");
    assert!(
        errors.contains("with engine=null: --engine null"),
        "{errors}"
    );
}
