use super::*;
use crate::cluster::Expected;
use crate::fixtures;
use crate::model::{
    Aggregation, Direction, Fact, Matrix, MatrixNode, Outcome, Report, Severity, Unit,
};
use serde_json::json;

const HIGHER: Direction = Direction::HigherIsBetter;

/// Who is an outlier by the default limits.
fn blamed(values: &[f64], direction: Direction) -> Vec<usize> {
    let found = outliers(values, direction, 0.1, 6.0).expect("enough");
    found.iter().map(|outlier| outlier.index).collect()
}

#[test]
fn slow_ones_are_told_from_the_median_of_all() {
    let one = [100.0, 101.0, 99.0, 100.5, 99.5, 50.0, 100.2, 99.8];
    assert_eq!(blamed(&one, HIGHER), [5]);
    assert_eq!(blamed(&one, Direction::LowerIsBetter), [] as [usize; 0]);
    let two = [100.0, 40.0, 99.0, 100.5, 99.5, 50.0, 100.2, 99.8];
    assert_eq!(blamed(&two, HIGHER), [1, 5]);
    let none = [100.0, 101.0, 99.0, 100.5, 99.5, 98.0, 100.2, 99.8];
    assert_eq!(blamed(&none, HIGHER), [] as [usize; 0]);
    // All equal: the deviation is zero, and the share decides.
    assert_eq!(blamed(&[7.0; 8], HIGHER), [] as [usize; 0]);
    assert_eq!(blamed(&[7.0, 7.0, 7.0, 7.0, 6.4], HIGHER), [] as [usize; 0]);
    assert_eq!(blamed(&[7.0, 7.0, 7.0, 7.0, 6.2], HIGHER), [4]);
    let late = [10.0, 10.1, 9.9, 10.0, 30.0];
    assert_eq!(blamed(&late, Direction::LowerIsBetter), [4]);
    // A node that does nothing has no logarithm.
    assert_eq!(blamed(&[10.0, 10.1, 9.9, 10.0, 0.0], HIGHER), [4]);
    assert_eq!(outliers(&[1.0, 1.0, 0.1], HIGHER, 0.1, 6.0), Err(TooFew(3)));
}

#[test]
fn the_noise_of_equal_nodes_blames_nobody() {
    let mut random = crate::stats::random::Random::new(4);
    for nodes in [4, 8, 64, 512] {
        let mut alarms = 0;
        for _ in 0..400 {
            let values: Vec<f64> = (0..nodes).map(|_| (0.2 * random.normal()).exp()).collect();
            alarms += usize::from(!blamed(&values, HIGHER).is_empty());
        }
        assert!(alarms <= 16, "{nodes} nodes: {alarms} of 400");
    }
}

/// What a node measured alone.
fn alone(host: &str, latency_ns: f64) -> Report {
    let mut report = fixtures::report(&[("rr", latency_ns)]);
    report.hosts[0].name = host.to_owned();
    report
}

fn nodes(latencies_ns: &[f64]) -> Vec<Report> {
    let nodes = latencies_ns.iter().enumerate();
    nodes
        .map(|(at, latency)| alone(&format!("n{}", at + 1), *latency))
        .collect()
}

const RULE: &str =
    "[[rule]]\nname = \"latency\"\ncase = \"test/*\"\nmetric = \"round_trip_ns p50\"\n";

fn judged(reports: &[Report], rules: &str, expected: &Expected) -> Screening {
    let rules = Rules::parse(rules).expect("rules");
    judge(reports, &rules, expected, &[]).expect("judged")
}

fn verdicts(screening: &Screening) -> Vec<(&str, Status)> {
    let nodes = screening.nodes.iter();
    nodes
        .map(|node| (node.node.as_str(), node.status))
        .collect()
}

#[test]
fn every_node_gets_a_verdict_with_evidence() {
    let mut reports = nodes(&[10_000.0, 10_100.0, 90_000.0, 9_900.0, 10_000.0]);
    let as_told = Expected::AsReported;
    let screening = judged(&reports, RULE, &as_told);
    assert_eq!(verdicts(&screening)[0], ("n3", Status::Slow));
    assert_eq!(screening.count(Status::Good), 4);
    assert_eq!(screening.exit_code(), EXIT_SLOW);
    let evidence = &screening.nodes[0].findings[0].evidence;
    assert!(
        evidence.contains("90.0 µs") && evidence.contains("9.00 times it"),
        "{evidence}"
    );
    let hosts = ["n1", "n2", "n3", "n4", "n5", "n6"]
        .map(str::to_owned)
        .to_vec();
    let screening = judged(&reports, RULE, &Expected::Hosts(hosts));
    assert_eq!(
        verdicts(&screening)[..2],
        [("n6", Status::Unreachable), ("n3", Status::Slow)]
    );
    assert_eq!(screening.exit_code(), EXIT_UNREACHABLE);
    // What could not be measured on one node alone is that node's fault.
    reports[1].cases[0].outcome = Outcome::Failed {
        error: "EIO".to_owned(),
    };
    let screening = judged(&reports, RULE, &as_told);
    assert_eq!(verdicts(&screening)[0], ("n2", Status::Failed));
    assert!(screening.nodes[0].reasons[0].contains("EIO"));
    let good = judged(&nodes(&[1000.0; 4]), RULE, &as_told);
    assert_eq!((good.exit_code(), good.count(Status::Good)), (EXIT_GOOD, 4));
}

#[test]
fn numbers_that_are_none_are_not_judged_and_say_why() {
    let mut reports = nodes(&[
        10_000.0, 10_100.0, 10_050.0, 9_900.0, 90_000.0, 10_000.0, 9_950.0,
    ]);
    let metric = &mut fixtures::measurement_mut(&mut reports[0], 0).metrics[0];
    metric.value = Fact::unavailable("no sample");
    let metric = &mut fixtures::measurement_mut(&mut reports[1], 0).metrics[0];
    metric.value = Fact::Known(f64::NAN);
    let validity = &mut fixtures::measurement_mut(&mut reports[4], 0).validity;
    validity.flag(Severity::Invalid, "interrupted", "by SIGINT");
    let screening = judged(&reports, RULE, &Expected::AsReported);
    assert_eq!(screening.count(Status::NotJudged), 3);
    assert_eq!(
        screening.count(Status::Slow),
        0,
        "what is invalid is no evidence"
    );
    let why: Vec<&str> = screening
        .not_judged
        .iter()
        .map(|n| n.why.as_str())
        .collect();
    assert!(
        why[0].contains("no sample") && why[1].contains("NaN"),
        "{why:?}"
    );
    assert!(why[2].contains("by SIGINT"), "{why:?}");
    assert_eq!(
        screening.exit_code(),
        crate::program::EXIT_UNAVAILABLE,
        "not every node is known"
    );
}

#[test]
fn few_nodes_are_judged_by_bounds_alone() {
    let reports = nodes(&[10_000.0, 90_000.0]);
    let screening = judged(&reports, RULE, &Expected::AsReported);
    assert_eq!(screening.count(Status::NotJudged), 2);
    assert!(screening.not_judged[0].why.contains("2 nodes are too few"));
    assert_eq!(screening.exit_code(), crate::program::EXIT_UNAVAILABLE);
    let bound = format!("{RULE}at_most = 50000.0\n");
    let screening = judged(&reports, &bound, &Expected::AsReported);
    assert_eq!(
        verdicts(&screening),
        [("n2", Status::Slow), ("n1", Status::Good)]
    );
    assert!(screening.not_judged.is_empty());
}

/// Five nodes with numbers between them: n4 sends slowly, and the case found it by itself.
fn together() -> Report {
    let mut report = alone("n1", 1000.0);
    for number in 2..=5 {
        let mut host = report.hosts[0].clone();
        host.name = format!("n{number}");
        report.hosts.push(host);
    }
    let node = |host: u32| MatrixNode {
        name: format!("n{}", host + 1),
        host,
    };
    let value = |from: usize, to: usize| match (from, to) {
        _ if from == to => None,
        (3, _) => Some(1e7),
        _ => Some(1e9 + (from * 5 + to) as f64 * 1e6),
    };
    let row = |from: usize| (0..5).map(|to| value(from, to)).collect();
    let measurement = fixtures::measurement_mut(&mut report, 0);
    measurement.matrices = vec![Matrix {
        name: "bandwidth_bytes_per_s".to_owned(),
        aggregation: Aggregation::P50,
        unit: Unit::BytesPerSecond,
        direction: HIGHER,
        nodes: (0..5).map(node).collect(),
        values: (0..5).map(row).collect(),
    }];
    let rates = json!({"n1": 1e9, "n2": 1e9, "n3": 1e8, "n4": 1e9, "n5": 1e9});
    measurement.facts.insert("rates".to_owned(), rates);
    let found =
        |what: &str, who: &str| json!({"what": what, "who": who, "measured": 1e7, "expected": 1e9});
    let findings = [
        found("slow_node_egress", "n4"),
        found("slow_pair", "n1 -> n2"),
    ];
    measurement
        .facts
        .insert("findings".to_owned(), json!(findings));
    report
}

#[test]
fn matrices_facts_and_findings_name_nodes() {
    let of = |source: &str| {
        let text = format!("[[rule]]\nname = \"x\"\ncase = \"test/rr\"\n{source}\n");
        judged(&[together()], &text, &Expected::AsReported)
    };
    let matrix = of("matrix = \"bandwidth_bytes_per_s\"");
    assert_eq!(verdicts(&matrix)[0], ("n4", Status::Slow));
    assert_eq!(
        matrix.count(Status::Good),
        4,
        "those that receive from it are not to blame"
    );
    assert_eq!(
        matrix.nodes[0].findings[0].what,
        "bandwidth_bytes_per_s sent"
    );
    let fact = of("fact = \"rates\"\ndirection = \"higher_is_better\"");
    assert_eq!(verdicts(&fact)[0], ("n3", Status::Slow));
    let finding = of("finding = \"slow_*\"");
    assert_eq!(verdicts(&finding)[0], ("n4", Status::Slow));
    assert_eq!(finding.together.len(), 1, "a link is no node's fault");
    let node = of("finding = \"slow_node_*\"");
    assert!(node.together.is_empty());
    // A number of all nodes together is judged by bounds.
    let all = of("metric = \"round_trip_ns p50\"");
    assert_eq!(all.count(Status::NotJudged), 5);
    let bound = of("metric = \"round_trip_ns p50\"\nat_most = 10.0");
    assert_eq!((bound.together.len(), bound.exit_code()), (1, EXIT_SLOW));
}

#[test]
fn what_rules_name_must_be_there() {
    Rules::parse(DEFAULT_RULES).expect("the defaults are rules");
    let fault = |text: &str| Rules::parse(text).expect_err(text);
    assert!(fault("").contains("no [[rule]]"));
    assert!(fault(&format!("{RULE}metrics = \"x\"")).contains("unknown field `metrics`"));
    assert!(fault(&format!("{RULE}fact = \"x\"")).contains("exactly one of"));
    assert!(fault(&format!("{RULE}deviation = \"200%\"")).contains("less than 100%"));
    assert!(fault(&format!("{RULE}mads = -1.0")).contains("mads = -1"));
    assert!(fault(&format!("{RULE}at_least = nan")).contains("at_least"));
    assert!(fault(&RULE.replace("metric", "fact")).contains("add direction"));
    let rules = Rules::parse(&RULE.replace("round_trip_ns p50", "iops")).expect("well-formed");
    let reports = nodes(&[1.0; 4]);
    let fault = judge(&reports, &rules, &Expected::AsReported, &[]).expect_err("unknown");
    let said = fault.to_string();
    assert!(
        said.contains("no metric \"iops\"; it has: round_trip_ns p50"),
        "{said}"
    );
}

#[test]
fn a_row_that_nobody_could_run_is_nobodys_fault() {
    let mut reports = nodes(&[1000.0; 4]);
    let mut stand_in = crate::program::Session::stand_in("storage-bench", crate::program::now())
        .finish(alone("head", 1.0).cases);
    let definition = crate::program::STAND_IN_DEFINITION;
    stand_in.cases[0].benchmark =
        crate::model::Benchmark::new("storage-bench/file", definition, serde_json::Map::new());
    stand_in.cases[0].outcome = Outcome::Failed {
        error: "no end after 5 s".to_owned(),
    };
    reports.push(stand_in);
    let screening = judged(&reports, RULE, &Expected::AsReported);
    assert_eq!(screening.count(Status::Good), 4);
    assert_eq!(screening.nodes.len(), 4, "the host that says so is no node");
    assert!(screening.failed[0].why.contains("no end"));
    assert_eq!(screening.exit_code(), crate::program::EXIT_FAILED);
}
