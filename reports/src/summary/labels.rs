//! What to call each case of a list, so that no two have one name.

use super::CaseSummary;
use serde_json::Value;
use std::collections::BTreeMap;

/// A parameter among the cases of one benchmark.
struct Parameter<'a> {
    first: &'a Value,
    cases: usize,
    differs: bool,
}

/// A label per case: the benchmark, the arm, and the parameters that tell it from its siblings.
/// Cases that these leave alike also show their hosts, then their row, then their definition.
#[must_use]
pub fn labels(cases: &[CaseSummary]) -> Vec<String> {
    let mut siblings: BTreeMap<&str, usize> = BTreeMap::new();
    let mut parameters: BTreeMap<(&str, &str), Parameter<'_>> = BTreeMap::new();
    for case in cases {
        let id = case.benchmark.id.as_str();
        *siblings.entry(id).or_default() += 1;
        for (name, value) in &case.benchmark.params {
            let parameter = parameters.entry((id, name)).or_insert(Parameter {
                first: value,
                cases: 0,
                differs: false,
            });
            parameter.cases += 1;
            parameter.differs |= parameter.first != value;
        }
    }
    let label = |case: &CaseSummary| {
        let id = case.benchmark.id.as_str();
        let mut label = id.to_owned();
        if let Some(arm) = &case.arm {
            label.push_str(&format!(" [{arm}]"));
        }
        for (name, value) in &case.benchmark.params {
            let parameter = &parameters[&(id, name.as_str())];
            if parameter.differs || parameter.cases < siblings[id] {
                label.extend(setting(case, name, value).map(|setting| format!(" {setting}")));
            }
        }
        label
    };
    let mut labels: Vec<String> = cases.iter().map(label).collect();
    tell_apart(&mut labels, cases, |case| {
        format!(" on {}", case.hosts.join(", "))
    });
    tell_apart(&mut labels, cases, |case| match &case.row {
        Some(row) => format!(" of row {row}"),
        None => String::new(),
    });
    tell_apart(&mut labels, cases, |case| {
        format!(" defined as {}", case.benchmark.definition_hash)
    });
    labels
}

/// A parameter in words, unless the name of the arm has them already.
pub(super) fn setting(case: &CaseSummary, name: &str, value: &Value) -> Option<String> {
    let words = match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    };
    let arm = case.arm.as_deref().unwrap_or_default();
    (!arm.split(',').any(|part| part == words)).then_some(words)
}

/// Adds a word to the labels that several cases share, unless the word is the same for all of them.
fn tell_apart(labels: &mut [String], cases: &[CaseSummary], word: impl Fn(&CaseSummary) -> String) {
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        alike.entry(label.clone()).or_default().push(index);
    }
    for indices in alike.into_values().filter(|indices| indices.len() > 1) {
        let words: Vec<String> = indices.iter().map(|&index| word(&cases[index])).collect();
        if words.iter().any(|word| *word != words[0]) {
            for (index, word) in indices.into_iter().zip(words) {
                labels[index].push_str(&word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::model::Session;
    use crate::summary::summarise;

    #[test]
    fn labels_show_what_differs_and_hosts_only_where_nothing_else_does() {
        let mut reports = vec![fixtures::report(&[
            ("bw", 1.0),
            ("bw", 1.0),
            ("barrier", 1.0),
        ])];
        for (index, size) in [(0, 8), (1, 4096)] {
            let params = &mut reports[0].cases[index].benchmark.params;
            params.insert("size_bytes".to_owned(), size.into());
            params.insert("window".to_owned(), 64.into());
        }
        let alone = labels(&summarise(&reports));
        assert_eq!(
            alone,
            [
                "test/bw size_bytes=8",
                "test/bw size_bytes=4096",
                "test/barrier"
            ]
        );
        let mut elsewhere = reports[0].clone();
        elsewhere.run.id = "another".to_owned();
        elsewhere.hosts[0].name = "elsewhere".to_owned();
        elsewhere.cases.truncate(1);
        reports.push(elsewhere);
        let both = labels(&summarise(&reports));
        assert_eq!(both[0], "test/bw size_bytes=8 on fixture");
        assert_eq!(both[1], "test/bw size_bytes=4096");
        assert_eq!(both[3], "test/bw size_bytes=8 on elsewhere");
    }

    #[test]
    fn what_the_arm_says_is_not_said_twice() {
        let report = |(engine, depth): (&str, u32)| {
            let mut report = fixtures::report(&[("read", 1.0)]);
            report.run.id = engine.to_owned();
            report.run.session = Some(Session {
                id: "s".to_owned(),
                suite: "x".to_owned(),
                row: "r".to_owned(),
                position: 1,
                repetition: 1,
                order_index: 1,
                pair_id: None,
                arm: Some(format!("new,engine={engine}")),
            });
            let params = &mut report.cases[0].benchmark.params;
            params.insert("engine".to_owned(), engine.into());
            params.insert("depth".to_owned(), depth.into());
            report
        };
        let cases = summarise(&[("psync", 1), ("uring", 8)].map(report));
        let expected = [
            "test/read [new,engine=psync] depth=1",
            "test/read [new,engine=uring] depth=8",
        ];
        assert_eq!(labels(&cases), expected);
        assert_eq!(cases[1].label(&cases), expected[1]);
    }

    #[test]
    fn a_parameter_that_a_sibling_lacks_is_shown() {
        let mut report = fixtures::report(&[("bw", 1.0), ("bw", 1.0)]);
        let params = &mut report.cases[1].benchmark.params;
        params.insert("window".to_owned(), "w".into());
        assert_eq!(
            labels(&summarise(&[report])),
            ["test/bw", "test/bw window=w"]
        );
    }
}
