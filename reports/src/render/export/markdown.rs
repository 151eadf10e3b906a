//! Markdown, as GitHub and its relatives read it: a table per benchmark.
//!
//! Text from reports stands in code spans, where neither markup nor HTML nor a mention counts.

use super::{Cases, places};
use crate::compare::{Class, Comparison, Status};
use crate::model::{Fact, Report};
use crate::render::compare::{COLUMNS, cells, fails};
use crate::render::differences::in_words;
use crate::render::table::interval;
use crate::render::terminal::Style;
use crate::render::text::visible;
use crate::render::units::human_fact;
use crate::summary::{CaseSummary, MetricSummary, count, notes, tally};
use std::collections::BTreeSet;

/// The page: what was measured where, what is wrong with it, a table per benchmark.
pub(super) fn cases(cases: &Cases, reports: &[Report], all: bool) -> String {
    let mut text = format!("## {}\n\n", title(reports));
    text.push_str(&format!("{}.\n\n", tally(&cases.summaries)));
    text.push_str(&provenance(reports));
    let notes = notes(&cases.summaries, &cases.labels);
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        let (word, runs) = (note.kind.word(), &note.runs);
        let (about, why) = (code(&note.about), code(&note.text));
        text.push_str(&format!("- **{word}** {about} ({runs}): {why}\n"));
    }
    let entries: Vec<(&CaseSummary, &str)> = cases.iter().collect();
    let same =
        |a: &(&CaseSummary, &str), b: &(&CaseSummary, &str)| a.0.benchmark.id == b.0.benchmark.id;
    for benchmark in entries.chunk_by(same) {
        let rows: Vec<Vec<String>> = benchmark
            .iter()
            .flat_map(|(case, label)| case_rows(case, label, all))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let id = code(&benchmark[0].0.benchmark.id);
        text.push_str(&format!("\n### {id}\n\n"));
        let header = [
            "case",
            "metric",
            "median",
            "95 % interval over runs",
            "runs",
        ];
        text.push_str(&table(&header, 2, rows));
    }
    text
}

fn title(reports: &[Report]) -> String {
    let sessions = reports
        .iter()
        .filter_map(|report| report.run.session.as_ref());
    let suites: BTreeSet<&str> = sessions.map(|session| session.suite.as_str()).collect();
    match suites.into_iter().collect::<Vec<_>>().as_slice() {
        [suite] => format!("Benchmark suite {}", code(suite)),
        _ => "Benchmark report".to_owned(),
    }
}

/// Programs and hosts, each once.
fn provenance(reports: &[Report]) -> String {
    let places = places(reports);
    let programs: BTreeSet<String> = reports
        .iter()
        .map(|report| {
            let program = &report.program;
            let known = |fact: &Fact<String>| fact.known().map(|text| format!(" {text}"));
            let version = known(&program.version).unwrap_or_default();
            let commit = known(&program.commit).unwrap_or_default();
            code(&format!("{}{version}{commit}", program.name))
        })
        .collect();
    let hosts: BTreeSet<String> = reports
        .iter()
        .flat_map(|report| &report.hosts)
        .map(|host| match places.get(&host.name) {
            Some(instance_type) => code(&format!("{} {instance_type}", host.name)),
            None => code(&host.name),
        })
        .collect();
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    format!(
        "{} by {} on {}\n",
        count(reports.len(), "run"),
        list(programs),
        list(hosts)
    )
}

/// A row per metric; the case stands beside the first.
fn case_rows(case: &CaseSummary, label: &str, all: bool) -> Vec<Vec<String>> {
    let id = &case.benchmark.id;
    let label = label.strip_prefix(id.as_str()).unwrap_or(label).trim();
    let metrics: Vec<&MetricSummary> = match all {
        true => case.metrics.iter().collect(),
        false => case.headlines(),
    };
    let row = |(index, metric): (usize, &MetricSummary)| {
        vec![
            if index == 0 {
                cell(label)
            } else {
                String::new()
            },
            cell(&metric.title()),
            human_fact(&metric.median, metric.unit),
            interval(metric),
            metric.values.len().to_string(),
        ]
    };
    metrics.into_iter().enumerate().map(row).collect()
}

/// The comparison: the verdict, what differs, a table of all metrics, what was left out.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let status = match comparison.status {
        Status::Pass => "pass",
        Status::Regression => "**regression**",
        Status::Incomparable => "**incomparable**",
        Status::Insufficient => "**insufficient data**",
    };
    let (a, b) = (&comparison.a, &comparison.b);
    let mut text = format!("## Comparison: {status}\n\n");
    let runs = [a, b].map(|group| count(group.runs, "run"));
    text.push_str(&format!("A: {}, B: {}.\n\n", runs[0], runs[1]));
    for blocked in &comparison.blocked {
        let (a, b) = (code(&blocked.a.join(", ")), code(&blocked.b.join(", ")));
        let (case, field) = (code(&blocked.case), code(&blocked.field));
        text.push_str(&format!(
            "- **not comparable** {case}: {field}: A {a}; B {b}\n"
        ));
    }
    let own = comparison.cases.iter().flat_map(|case| &case.confounders);
    let mut differences = BTreeSet::new();
    for difference in comparison.environment.iter().chain(own) {
        let word = match difference.class {
            Class::Confounder => "**confounder**",
            Class::Declared => "declared",
            Class::NotCounted => continue,
        };
        let line = format!("- {word} {}\n", code(&in_words(difference)));
        if differences.insert(line.clone()) {
            text.push_str(&line);
        }
    }
    let rows: Vec<Vec<String>> = comparison
        .cases
        .iter()
        .flat_map(|case| {
            let label = &case.label;
            let row = move |(index, metric)| {
                let [title, numbers @ .., verdict] = cells(metric, &Style::PLAIN);
                let verdict = match fails(metric) {
                    true => format!("**{verdict}**"),
                    false => verdict,
                };
                let label = if index == 0 {
                    cell(label)
                } else {
                    String::new()
                };
                let mut row = vec![label, cell(&title)];
                row.extend(numbers);
                row.push(verdict.replace('~', "\\~"));
                row
            };
            case.metrics.iter().enumerate().map(row)
        })
        .collect();
    if !rows.is_empty() {
        let header: Vec<&str> = ["case"].into_iter().chain(COLUMNS).collect();
        text.push_str(&format!("\n{}", table(&header, 2, rows)));
    }
    text.push('\n');
    for case in &comparison.cases {
        for metric in &case.metrics {
            if let Some(reason) = &metric.reason {
                let about = code(&format!("{} {}", case.case, metric.title()));
                text.push_str(&format!("- insufficient {about}: {}\n", code(reason)));
            }
        }
    }
    for (name, group) in [("A", a), ("B", b)] {
        for left_out in &group.left_out {
            let [run, case, why] = [&left_out.run, &left_out.case, &left_out.why].map(|t| code(t));
            text.push_str(&format!("- left out of {name}: run {run}: {case}: {why}\n"));
        }
        for case in &group.cases_of_its_own {
            text.push_str(&format!("- only in {name}: {}\n", code(case)));
        }
    }
    text
}

/// A table whose first columns lean left and whose others lean right. A column that is empty
/// throughout is left out.
fn table(header: &[&str], left: usize, rows: Vec<Vec<String>>) -> String {
    let used: Vec<usize> = (0..header.len())
        .filter(|&column| rows.iter().any(|row| !row[column].is_empty()))
        .collect();
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let rule = |&column: &usize| if column < left { ":--" } else { "--:" };
    let mut text = line(used.iter().map(|&column| header[column]).collect());
    text.push_str(&line(used.iter().map(rule).collect()));
    for row in &rows {
        text.push_str(&line(
            used.iter().map(|&column| row[column].as_str()).collect(),
        ));
    }
    text
}

/// Text as a code span: a fence of more backticks than it has in a row.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = match text.starts_with('`') || text.ends_with('`') {
        true => " ",
        false => "",
    };
    format!("{fence}{space}{text}{space}{fence}")
}

/// A code span in a table, where a pipe would end the cell. Readers differ on a backslash before an
/// escaped pipe, so that one is spelt out.
fn cell(text: &str) -> String {
    code(text).replace("\\|", "\\u{5c}|").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_inert() {
        assert_eq!(code("<b>@all</b> [x](y)"), "`<b>@all</b> [x](y)`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`x`"), "`` `x` ``");
        assert_eq!(code("# two\nlines"), "`# two\\nlines`");
        assert_eq!(code(""), "");
        assert_eq!(cell("a|b\\|c"), "`a\\|b\\u{5c}\\|c`");
    }

    #[test]
    fn empty_columns_are_left_out() {
        let rows = vec![vec![String::new(), "p50".to_owned(), "1 µs".to_owned()]];
        let text = table(&["case", "metric", "median"], 2, rows);
        assert_eq!(text, "| metric | median |\n| :-- | --: |\n| p50 | 1 µs |\n");
    }
}
