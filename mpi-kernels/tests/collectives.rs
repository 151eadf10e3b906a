//! Every collective under a real `mpirun`: right answers on worlds of all small sizes and for every
//! type, and a damaged one found.

mod common;

use common::{report, run, stderr, stdout};
use mpi_kernels::kernels::{self, Row};
use mpi_kernels::spec::Choice;
use reports::model::{Aggregation, Case, Measurement, Outcome, Report};
use std::process::Output;
use std::sync::Mutex;

const WORLDS: [usize; 5] = [2, 3, 4, 5, 7];

/// The larger worlds take turns: each has more ranks than a small machine has cores.
static TURN: Mutex<()> = Mutex::new(());

fn collectives() -> impl Iterator<Item = &'static Row> {
    let mut families = kernels::FAMILIES.iter();
    let family = families.find(|family| family.title == "Collective");
    family.expect("it is there").rows.iter()
}

fn has(row: &Row, choice: &str) -> bool {
    row.choices.iter().any(|other| other.name() == choice)
}

/// A quarter of the kernels: each is a test, so that they share the cores.
fn part(number: usize) -> impl Iterator<Item = &'static Row> {
    collectives().skip(number).step_by(4)
}

fn start(ranks: usize, args: &str) -> (Output, Vec<Case>) {
    let args = format!("{args} -i 3 -x 1 --json");
    let output = run(ranks, &args.split(' ').collect::<Vec<_>>());
    let Report { cases, .. } = report(&output);
    (output, cases)
}

fn measured<'c>(case: &'c Case, args: &str) -> &'c Measurement {
    match &case.outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("{args}: {} was not measured: {other:?}", case.key()),
    }
}

fn checks(measurement: &Measurement) -> u64 {
    let number = measurement.verified.split(' ').next();
    number.and_then(|text| text.parse().ok()).expect("a number")
}

/// Runs a kernel and returns its cases, all of them measured and verified.
fn verified(ranks: usize, args: &str) -> Vec<Case> {
    let (output, cases) = start(ranks, args);
    assert_eq!(output.status.code(), Some(0), "{args}: {}", stderr(&output));
    for case in &cases {
        let measurement = measured(case, args);
        assert!(checks(measurement) > 0, "{args}");
        assert_eq!(measurement.histograms[0].count, 3, "{args}");
    }
    cases
}

/// The commands of a kernel in a world: with every type and kind of counts in each, with other
/// operations, other roots and in place in some.
fn commands(row: &Row, ranks: usize) -> Vec<String> {
    let mut command = row.name.to_owned();
    if row.sizes.is_some() {
        // Neither is a multiple of the numbers of ranks or of a vector register.
        command += " -m 88:176";
    }
    if has(row, "type") {
        command += " --type u8,i32,i64,f32,f64";
        if ranks == 3 {
            command += " --op sum,max";
        }
    }
    if has(row, "counts") {
        command += " --counts equal,unequal";
    }
    if has(row, "tests") {
        command += " --tests 3";
    }
    let variants: &[&str] = match (ranks, has(row, "root"), has(row, "in-place")) {
        (3, true, true) => &["", " --root rotate --in-place"],
        (4, true, true) => &["", " --root 1 --in-place"],
        (5, true, _) => &["", " --root rotate"],
        (3 | 4, false, true) => &["", " --in-place"],
        _ => &[""],
    };
    let with = |variant| format!("{command}{variant}");
    variants.iter().map(with).collect()
}

fn cases_of(row: &Row, ranks: usize) -> usize {
    let words = row.choices.iter().map(|choice| match choice {
        Choice::Words { name: "op", .. } if ranks != 3 => 1,
        Choice::Words { values, .. } => values.len(),
        _ => 1,
    });
    let sizes = if row.sizes.is_some() { 2 } else { 1 };
    sizes * words.product::<usize>()
}

fn answers_are_right(number: usize) {
    for row in part(number) {
        let of_world = |ranks| commands(row, ranks).into_iter().map(move |c| (ranks, c));
        for (ranks, command) in WORLDS.into_iter().flat_map(of_world) {
            let turn = (ranks >= 5).then(|| TURN.lock());
            let cases = verified(ranks, &command);
            drop(turn);
            assert_eq!(cases.len(), cases_of(row, ranks), "{command}");
            if has(row, "tests") {
                cases
                    .iter()
                    .for_each(|case| overlap_is_a_share(case, &command));
            }
        }
    }
}

#[test]
fn answers_are_right_in_the_first_quarter() {
    answers_are_right(0);
}

#[test]
fn answers_are_right_in_the_second_quarter() {
    answers_are_right(1);
}

#[test]
fn answers_are_right_in_the_third_quarter() {
    answers_are_right(2);
}

#[test]
fn answers_are_right_in_the_fourth_quarter() {
    answers_are_right(3);
}

fn overlap_is_a_share(case: &Case, args: &str) {
    let metrics = &measured(case, args).metrics;
    for peer in ["OSU", "IMB"] {
        let overlap = metrics.iter().find(|metric| {
            metric.name == "overlap_ratio" && metric.compat.as_deref() == Some(peer)
        });
        let value = overlap.and_then(|metric| metric.value.known());
        assert!(
            value.is_some_and(|value| (0.0..=1.0).contains(value)),
            "{args}"
        );
    }
    for name in ["overall_ns", "pure_communication_ns", "compute_ns"] {
        let mean = metrics.iter().find(|metric| metric.name == name);
        let value = mean.and_then(|metric| metric.value.known());
        assert!(value.is_some_and(|&value| value >= 0.0), "{args}: {name}");
    }
}

#[test]
fn a_damaged_byte_is_found_in_every_collective() {
    for row in collectives() {
        let mut commands = vec![format!("{} --spoil", row.name)];
        if has(row, "type") {
            commands = vec![format!("{} -m 64:64 --type u8,f32,f64 --spoil", row.name)];
        } else if row.sizes.is_some() {
            commands = vec![format!("{} -m 64:64 --spoil", row.name)];
        }
        if has(row, "root") {
            commands.push(format!("{} -m 64:64 --root rotate --spoil", row.name));
        }
        for command in commands {
            let (output, cases) = start(3, &command);
            assert_eq!(output.status.code(), Some(1), "{command}");
            for case in &cases {
                let Outcome::Failed { error } = &case.outcome else {
                    panic!("{command}: the damage went unnoticed");
                };
                let says = |text: &str| error.contains(text);
                let known = ["instead of", "left the barrier before"];
                assert!(known.into_iter().any(says), "{command}: {error}");
            }
        }
    }
}

/// So many elements must have been compared: two rounds before, two after, and the last result.
#[test]
fn every_element_that_anybody_gets_is_compared() {
    for (args, elements) in [
        ("allreduce -m 40:40 --type f64", 3 * 5),
        ("reduce -m 40:40 --type f64", 5),
        ("reduce_scatter -m 40:40 --type f64", 5),
        ("reduce_scatter_block -m 40:40 --type f64", 3 * 5),
        ("scan -m 40:40 --type f64", 3 * 5),
        ("exscan -m 40:40 --type f64", 2 * 5),
        ("bcast -m 40:40", 2 * 40),
        ("gather -m 40:40", 3 * 40),
        ("gatherv -m 40:40 --counts unequal", 3 * 40),
        ("scatter -m 40:40", 3 * 40),
        ("scatter -m 40:40 --in-place", 2 * 40),
        ("allgather -m 40:40", 9 * 40),
        ("alltoall -m 40:40", 9 * 40),
        ("alltoallv -m 40:40 --counts unequal --in-place", 9 * 40),
        ("neighbor_allgather -m 40:40", 3 * 4 * 40),
        ("neighbor_alltoall -m 40:40", 3 * 4 * 40),
    ] {
        let cases = verified(3, args);
        assert_eq!(checks(measured(&cases[0], args)), 5 * elements, "{args}");
    }
}

#[test]
fn what_integers_do_beyond_their_range_is_reported() {
    let args = "allreduce -m 64:64 --type u8,i32,i64,f32";
    let cases = verified(3, args);
    for (case, largest) in cases
        .iter()
        .zip(["255", "2147483647", "9223372036854775807"])
    {
        let fact = &measured(case, args).facts["integer_overflow"];
        let text = fact.as_str().expect("a text");
        let known = ["wraps", "saturates", "differs"];
        assert!(
            known.into_iter().any(|word| text.starts_with(word)),
            "{text}"
        );
        assert!(
            !text.starts_with("saturates") || text.ends_with(largest),
            "{text}"
        );
    }
    let floats = measured(&cases[3], args);
    assert!(!floats.facts.contains_key("integer_overflow"));
}

#[test]
fn the_columns_of_osu_are_means_over_ranks() {
    let args = "alltoall -m 8:8";
    let cases = verified(4, args);
    let osu = |aggregation| {
        let mut metrics = measured(&cases[0], args).metrics.iter();
        let metric = metrics.find(|m| m.compat.is_some() && m.aggregation == aggregation);
        *metric.and_then(|m| m.value.known()).expect("OSU has it")
    };
    let mean = osu(Aggregation::Mean);
    assert!(osu(Aggregation::Min) <= mean && mean <= osu(Aggregation::Max));
}

#[test]
fn what_cannot_be_asked_for_is_said_once_and_exits_with_2() {
    for (args, expected) in [
        ("allgather -m 1G:1G", "counts them in a C int"),
        ("ialltoallv -m 1G:1G", "use a smaller -m or fewer ranks"),
        ("reduce --root 3", "of which the last is 2"),
        ("ireduce --root last", "is no root"),
        ("bcast --type f32", "unexpected argument"),
        ("bcast --in-place", "unexpected argument"),
        ("neighbor_alltoall --in-place", "unexpected argument"),
        (
            "allreduce --type f16",
            "possible values: u8, i32, i64, f32, f64",
        ),
        ("allreduce --tests 3", "unexpected argument"),
        ("scan -m 4:64 --type f64", "at least 8 bytes"),
    ] {
        let output = run(3, &args.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{args}: {}", stderr(&output));
        assert_eq!(
            stderr(&output).matches(expected).count(),
            1,
            "{args}: {}",
            stderr(&output)
        );
        assert!(stdout(&output).is_empty(), "{args}");
    }
}

#[test]
fn the_damage_for_tests_is_no_option_for_users() {
    let help = stdout(&run(2, &["ibcast", "--help"]));
    assert!(
        help.contains("--tests") && help.contains("--root"),
        "{help}"
    );
    assert!(!help.contains("spoil"), "{help}");
    let cases = verified(2, "bcast -m 8:8");
    assert!(!cases[0].benchmark.params.contains_key("spoil"));
}
