//! Every figure against SciPy's. The fixture file names SciPy's version and the calls.

use super::{Estimate, Pairs, Runs, false_discovery, mann_whitney, signed_rank, student};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/stats.json")).expect("it is JSON")
}

fn cases<'a>(fixture: &'a Value, kind: &str) -> &'a [Value] {
    let cases = fixture[kind].as_array().expect("a list");
    assert!(!cases.is_empty(), "no {kind} cases");
    cases
}

fn numbers(value: &Value) -> Vec<f64> {
    let items = value.as_array().expect("a list");
    items
        .iter()
        .map(|item| item.as_f64().expect("a number"))
        .collect()
}

fn runs(values: &[f64]) -> Runs {
    let ids: Vec<String> = (0..values.len()).map(|run| format!("r{run}")).collect();
    Runs::new(ids.iter().map(String::as_str).zip(values.iter().copied())).expect("one each")
}

fn pairs(a: &[f64], b: &[f64]) -> Pairs {
    let ids: Vec<String> = (0..a.len()).map(|pair| format!("p{pair}")).collect();
    let pairs = ids
        .iter()
        .zip(a)
        .zip(b)
        .map(|((id, a), b)| (id.as_str(), *a, *b));
    Pairs::new(pairs).expect("one each")
}

/// Equal to a billionth, relative, of the case's field.
fn assert_equal(found: f64, case: &Value, field: &str) {
    let expected = case[field].as_f64().expect("a number");
    let tolerance = 1e-9 * expected.abs().max(1e-300);
    assert!(
        (found - expected).abs() <= tolerance,
        "{} {field}: {found:e} is not SciPy's {expected:e}",
        case["name"]
    );
}

/// A shift may be near zero, where a relative bound would ask for more digits than the data has.
fn assert_shift(found: &Estimate, case: &Value) {
    for (found, field) in [
        (found.value, "shift"),
        (found.low, "low"),
        (found.high, "high"),
    ] {
        let expected = case[field].as_f64().expect("a number");
        assert!(
            (found - expected).abs() <= 1e-9,
            "{} {field}: {found} is not SciPy's {expected}",
            case["name"]
        );
    }
    assert!(found.coverage >= 0.95 && found.coverage < 1.0);
}

#[test]
fn independent_runs_equal_scipy() {
    let fixture = fixture();
    for case in cases(&fixture, "unpaired") {
        let (a, b) = (runs(&numbers(&case["a"])), runs(&numbers(&case["b"])));
        let test = mann_whitney::test(&a, &b).expect("there are runs");
        assert_equal(test.statistic, case, "u");
        assert_equal(test.p_value, case, "u_p");
        assert_shift(
            &mann_whitney::shift(&a, &b).expect("4 a side suffice"),
            case,
        );
        let (welch, interval) = student::welch(&a, &b).expect("they vary");
        assert_equal(welch.statistic, case, "welch_t");
        assert_equal(welch.p_value, case, "welch_p");
        assert_equal(interval.low, case, "welch_low");
        assert_equal(interval.high, case, "welch_high");
    }
}

#[test]
fn pairs_equal_scipy() {
    let fixture = fixture();
    for case in cases(&fixture, "paired") {
        let pairs = pairs(&numbers(&case["a"]), &numbers(&case["b"]));
        let test = signed_rank::test(&pairs).expect("there are pairs");
        assert_equal(test.statistic, case, "w");
        assert_equal(test.p_value, case, "w_p");
        assert_shift(&signed_rank::shift(&pairs).expect("6 suffice"), case);
        let (t, interval) = student::paired(&pairs).expect("they vary");
        assert_equal(t.statistic, case, "t");
        assert_equal(t.p_value, case, "t_p");
        assert_equal(interval.low, case, "t_low");
        assert_equal(interval.high, case, "t_high");
    }
}

#[test]
fn adjusted_p_values_equal_scipy() {
    let fixture = fixture();
    for case in cases(&fixture, "false_discovery") {
        let adjusted = false_discovery::adjust(&numbers(&case["p"]));
        for (found, expected) in adjusted.iter().zip(numbers(&case["adjusted"])) {
            assert!((found - expected).abs() <= 1e-12, "{found} {expected}");
        }
    }
}

#[test]
fn too_few_runs_have_no_interval_and_no_variation_no_t() {
    let three = runs(&[1.0, 2.0, 3.0]);
    assert!(mann_whitney::shift(&three, &three).is_none());
    assert!(mann_whitney::test(&runs(&[]), &three).is_none());
    assert!(signed_rank::shift(&pairs(&[1.0; 5], &[2.0; 5])).is_none());
    assert!(signed_rank::test(&pairs(&[], &[])).is_none());
    let constant = runs(&[2.0; 10]);
    assert!(student::welch(&constant, &constant).is_none());
    let same = mann_whitney::test(&constant, &constant).expect("there are runs");
    assert_eq!(same.p_value, 1.0);
    for count in [10, 60] {
        let same = vec![3.0; count];
        let test = signed_rank::test(&pairs(&same, &same)).expect("there are pairs");
        assert_eq!(test.p_value, 1.0, "{count} pairs without a difference");
    }
}
