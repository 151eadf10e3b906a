//! `reports import` at its edges: files of every kind, and outputs that were damaged on the way.

use super::{fixtures, folder};
use reports::import::{self, Context, Format};
use reports::model;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn reports(dir: &Path, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_reports");
    let mut command = Command::new(program);
    command.current_dir(dir).arg("import").args(args);
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn files_become_reports_in_a_folder() {
    let out = tempfile::tempdir().expect("a folder");
    let target = format!("{}/", out.path().display());
    let files = ["fio-randread.json", "osu-bw.txt", "-o", &target];
    let output = reports(&folder(), &files);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (written, faults) = model::load_all(&[out.path().to_owned()]);
    assert_eq!((written.len(), faults.len()), (2, 0));
    let output = reports(&folder(), &["--json", "iperf3-tcp.json"]);
    let report = model::parse(&text(&output.stdout), Path::new("stdout")).expect("a report");
    assert_eq!(report.program.name, "iperf3");
    let output = reports(&folder(), &["fio-error.json"]);
    assert_eq!(output.status.code(), Some(1), "a failed case");
    let output = reports(&folder(), &["perftest-inf.txt"]);
    assert_eq!(output.status.code(), Some(4), "an invalid case");
}

#[test]
fn standard_input_is_a_file_too() {
    let script = format!(
        "{} import --json - < osu-barrier.txt",
        env!("CARGO_BIN_EXE_reports")
    );
    let output = Command::new("sh")
        .current_dir(folder())
        .args(["-c", &script])
        .output();
    let output = output.expect("a shell");
    let report = model::parse(&text(&output.stdout), Path::new("stdout")).expect("a report");
    assert_eq!(report.program.name, "osu");
}

#[test]
fn what_is_no_output_of_a_peer_is_named_with_its_fault() {
    let dir = tempfile::tempdir().expect("a folder");
    let fio = fs::read(folder().join("fio-randread.json")).expect("there");
    let osu = fs::read_to_string(folder().join("osu-bw.txt")).expect("there");
    let imb = fs::read_to_string(folder().join("imb-mpi1.txt")).expect("there");
    let files: [(&str, Vec<u8>, &str); 8] = [
        ("empty.txt", Vec::new(), "it is empty"),
        (
            "truncated.json",
            fio[..fio.len() / 2].to_vec(),
            "it is truncated",
        ),
        ("binary.txt", vec![0xff, 0xfe, 0], "not UTF-8"),
        (
            "letter.txt",
            b"Dear Sir or Madam,\n".to_vec(),
            "fio, iperf3, sockperf, netperf, neper, perftest",
        ),
        (
            "headers.txt",
            b"# OSU MPI Latency Test v7.4\n# Size  Latency (us)\n".to_vec(),
            "no row",
        ),
        (
            "both.txt",
            format!("{osu}{imb}").into(),
            "osu, imb; say which with --from",
        ),
        (
            "deep.json",
            format!("{{\"fio version\":{}", "[".repeat(9000)).into(),
            "not JSON",
        ),
        (
            "other.json",
            b"{\"fio version\":\"fio-3\",\"jobs\":7}".to_vec(),
            "no list of jobs",
        ),
    ];
    for (name, bytes, fault) in &files {
        fs::write(dir.path().join(name), bytes).expect("writable");
        let output = reports(dir.path(), &[name, "-o", "out.json"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(
            said.contains(name) && said.contains(fault),
            "{name}: {said}"
        );
        assert!(!dir.path().join("out.json").exists(), "{name}");
    }
    let huge = fs::File::create(dir.path().join("huge.txt")).expect("writable");
    huge.set_len(import::MAX_IMPORT_BYTES + 1).expect("sparse");
    for (name, fault) in [
        ("huge.txt", "larger than"),
        ("absent.txt", "No such file"),
        (".", "a folder"),
    ] {
        let output = reports(dir.path(), &[name]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(
            said.contains(name) && said.contains(fault),
            "{name}: {said}"
        );
    }
}

#[test]
fn one_bad_file_does_not_stop_the_others_and_the_wrong_format_is_refused() {
    let out = tempfile::tempdir().expect("a folder");
    let target = format!("{}/", out.path().display());
    let output = reports(&folder(), &["absent.txt", "osu-bw.txt", "-o", &target]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(model::load_all(&[out.path().to_owned()]).0.len(), 1);
    for format in [
        "fio",
        "iperf3",
        "sockperf",
        "netperf",
        "neper",
        "perftest",
        "fi_pingpong",
        "fabtests",
        "imb",
    ] {
        let output = reports(&folder(), &["--from", format, "osu-bw.txt"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{format}: {said}");
        assert!(
            said.contains("osu-bw.txt") && said.contains(format),
            "{said}"
        );
    }
    let wrong: [&[&str]; 5] = [
        &[],
        &["--from", "uperf", "osu-bw.txt"],
        &["--json", "osu-bw.txt", "osu-bibw.txt"],
        &["osu-bw.txt", "osu-bibw.txt", "-o", "one.json"],
        &["-", "-"],
    ];
    for args in wrong {
        let output = reports(&folder(), args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

/// A small generator of its own, so that a failure can be repeated: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// What breaks parsers: numbers at every edge, and pieces of the formats themselves.
const PIECES: [&str; 26] = [
    "-1",
    "0",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "9e999",
    "nan",
    "inf",
    "-inf",
    "null",
    "[]",
    "{}",
    "\"x\"",
    "\n",
    "\n#",
    "\t",
    "  ",
    "=",
    ":",
    "#bytes #iterations t_avg[usec]\n",
    "\u{1b}[",
    "µ",
    "# OSU ",
    "sockperf: ",
    "\"",
    "99999999999999999999999.9",
];

fn mutate(text: &str, random: &mut Random) -> String {
    let mut bytes: Vec<u8> = text.as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..end, piece.bytes());
            }
            3 => {
                // A number in place of another: what a wrong or hostile peer could print.
                let digits = bytes
                    .iter()
                    .enumerate()
                    .skip(at)
                    .find(|(_, b)| b.is_ascii_digit());
                if let Some((at, _)) = digits {
                    let length = bytes[at..]
                        .iter()
                        .take_while(|b| b.is_ascii_digit())
                        .count();
                    bytes.splice(at..at + length, PIECES[random.below(9)].bytes());
                }
            }
            4 => {
                let copied: Vec<u8> = bytes[at..(at + random.below(400)).min(bytes.len())].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copied);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(7);
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn mutated_outputs_never_panic_and_what_is_imported_is_valid() {
    let mut random = Random(42);
    let (mut accepted, mut refused) = (0, 0);
    for (name, text) in fixtures() {
        let peer = name.split(['-', '.']).next().expect("a name");
        let formats = Format::ALL.into_iter();
        let format = formats
            .clone()
            .find(|format| format.name() == peer)
            .expect("a format");
        for round in 0..40 {
            let mutated = mutate(&text, &mut random);
            let format = match round % 8 {
                0 => Some(Format::ALL[random.below(7)]),
                1..4 => None,
                _ => Some(format),
            };
            let context = Context {
                source: name.clone(),
                ..Context::default()
            };
            match import::import(&mutated, format, &context) {
                Ok(report) => {
                    let json = model::to_json(&report);
                    let read = model::parse(&json, Path::new(&name));
                    assert_eq!(read.expect("a valid report"), report);
                    accepted += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains(&name), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(
        accepted > 100 && refused > 100,
        "{accepted} accepted, {refused} refused"
    );
}
