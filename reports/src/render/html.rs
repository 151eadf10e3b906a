//! One self-contained page: the verdict, the summary, a section per case, the environment, and the
//! reports themselves as data. It needs no network and no script to be read.

mod plots;

use super::table;
use super::terminal;
use super::units::human_fact;
use crate::model::{Report, Severity};
use crate::summary::{CaseSummary, Listed, MetricSummary, listed};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The page as text.
#[must_use]
pub fn page(title: &str, reports: &[Report], cases: &[CaseSummary]) -> String {
    let sweeps = sweeps(cases);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(include_str!("html/style.css"))) }
            }
            body {
                header {
                    h1 { (title) }
                    p .faint { (subtitle(reports)) }
                    (verdict(cases))
                }
                main {
                    (summary(cases))
                    @if !sweeps.is_empty() {
                        h2 { "Sweeps" }
                        div .plots { @for sweep in &sweeps { (plots::sweep(sweep)) } }
                    }
                    h2 { "Cases" }
                    @for (index, case) in cases.iter().enumerate() {
                        @let swept = sweeps.iter().flatten().any(|(_, one)| std::ptr::eq(*one, case));
                        (section(index, case, cases, swept))
                    }
                    (environment(reports))
                }
                (data(reports))
            }
        }
    };
    markup.into_string()
}

fn subtitle(reports: &[Report]) -> String {
    let mut hosts: Vec<&str> = reports
        .iter()
        .flat_map(|r| &r.hosts)
        .map(|host| host.name.as_str())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    let started = reports
        .iter()
        .map(|report| report.run.started.as_str())
        .min()
        .unwrap_or("");
    let runs = reports.len();
    let runs = if runs == 1 {
        "1 run".to_owned()
    } else {
        format!("{runs} runs")
    };
    match hosts.as_slice() {
        [host] => format!("{runs} on {host}, started {started}"),
        hosts => format!("{runs} on {} hosts, started {started}", hosts.len()),
    }
}

fn verdict(cases: &[CaseSummary]) -> Markup {
    let failed = cases.iter().filter(|case| !case.is_complete()).count();
    let invalid = cases.iter().filter(|case| case.is_invalid()).count();
    let skipped = cases
        .iter()
        .filter(|case| case.is_complete() && case.measured == 0)
        .count();
    let measured = cases.iter().filter(|case| case.measured > 0).count();
    let degraded = cases
        .iter()
        .filter(|case| {
            case.flags
                .iter()
                .any(|(flag, _)| flag.severity == Severity::Degraded)
        })
        .count();
    let (class, word) = match (failed, invalid) {
        (0, 0) if measured == 0 => ("doubtful", "Nothing was measured"),
        (0, 0) if degraded > 0 => ("doubtful", "Measured, with reservations"),
        (0, 0) => ("good", "Measured"),
        (0, _) => ("bad", "Some results do not stand"),
        _ => ("bad", "Some cases failed"),
    };
    html! {
        p class=(format!("verdict {class}")) role="status" {
            strong { (word) } ": "
            (measured) " cases measured, " (skipped) " skipped, " (failed) " failed, "
            (invalid) " invalid, " (degraded) " degraded."
        }
    }
}

fn summary(cases: &[CaseSummary]) -> Markup {
    html! {
        h2 { "Summary" }
        p .faint {
            "Medians over runs, each run a fresh process. The interval covers the median with at \
             least 95 % by order statistics; it takes six runs."
        }
        div .scroll { table {
            thead { tr {
                th scope="col" { "Case" } th scope="col" { "Metric" }
                th scope="col" .num { "Median" } th scope="col" .num { "95 % interval" }
                th scope="col" { "Runs" } th scope="col" .num { "n" }
            } }
            tbody { @for entry in listed(cases) { @match entry {
                Listed::Case(index, case) => { (rows(index, case, cases)) }
                Listed::Between(count) => {
                    tr { td colspan="6" .faint { "… " (count) " sizes between, drawn below" } }
                }
            } } }
        } }
    }
}

fn rows(index: usize, case: &CaseSummary, cases: &[CaseSummary]) -> Markup {
    let headlines = case.headlines();
    let link = html! { a href=(format!("#case-{index}")) { (case.label(cases)) } };
    html! {
        @if case.measured == 0 {
            tr {
                th scope="row" { (link) }
                td colspan="5" { (reasons(case)) }
            }
        } @else {
            @for (row, metric) in headlines.iter().enumerate() {
                tr {
                    @if row == 0 {
                        th scope="rowgroup" rowspan=(headlines.len()) { (link) (badges(case)) }
                    }
                    (metric_cells(metric))
                }
            }
        }
    }
}

fn metric_cells(metric: &MetricSummary) -> Markup {
    let ends = metric
        .interval
        .as_ref()
        .ok()
        .map(|interval| (interval.low, interval.high));
    html! {
        td { (metric.title()) }
        td .num title=[metric.median.known().map(|v| format!("{v}"))] {
            (human_fact(&metric.median, metric.unit))
        }
        td .num { (table::interval(metric)) }
        td { @if let Some(median) = metric.median.known() {
            (super::svg::strip(&metric.values, *median, ends))
        } }
        td .num { (metric.values.len()) }
    }
}

/// Why a case has no numbers, or fewer than it should.
fn reasons(case: &CaseSummary) -> Markup {
    html! {
        @for (error, runs) in &case.failed {
            p { span .badge.bad { "failed" } " " (error) " (" (runs) " runs)" }
        }
        @for (reason, runs) in &case.skipped {
            p { span .badge.doubtful { "skipped" } " " (reason) " (" (runs) " runs)" }
        }
    }
}

fn badges(case: &CaseSummary) -> Markup {
    html! {
        @if !case.is_complete() { " " span .badge.bad { "failed runs" } }
        @for (flag, _) in &case.flags {
            @let class = match flag.severity {
                Severity::Info => continue,
                Severity::Degraded => "badge doubtful",
                Severity::Invalid => "badge bad",
            };
            " " span class=(class) title=(flag.evidence) { (flag.code) }
        }
    }
}

/// A case's own part of the page. One of a sweep is folded, since its curve is above.
fn section(index: usize, case: &CaseSummary, cases: &[CaseSummary], folded: bool) -> Markup {
    html! {
        section id=(format!("case-{index}")) {
            @if folded {
                details {
                    summary { strong { (case.label(cases)) } (badges(case)) }
                    (body(case))
                }
            } @else {
                h3 { (case.label(cases)) (badges(case)) }
                (body(case))
            }
        }
    }
}

fn body(case: &CaseSummary) -> Markup {
    html! {
        p .faint { (case.benchmark.definition) }
        (reasons(case))
        @if case.measured > 0 {
            div .plots { (plots::percentiles(case)) (plots::over_time(case)) }
            @if let Some(verified) = &case.verified { p { "Verified: " (verified) "." } }
            @for (flag, runs) in &case.flags {
                p { strong { (flag.code) } " in " (runs) " of " (case.measured) " runs: " (flag.evidence) }
            }
            (details(case))
        }
    }
}

fn details(case: &CaseSummary) -> Markup {
    html! {
        details {
            summary { "All metrics and parameters" }
            div .scroll { table {
                thead { tr {
                    th scope="col" { "Metric" } th scope="col" .num { "Median" }
                    th scope="col" .num { "95 % interval" } th scope="col" { "Runs" }
                    th scope="col" .num { "n" }
                } }
                tbody { @for metric in &case.metrics { tr { (metric_cells(metric)) } } }
            } }
            dl {
                @for (name, value) in &case.benchmark.params {
                    dt { (name) } dd { (plain(value)) }
                }
                dt { "definition" } dd { (case.benchmark.definition_hash) }
            }
            @if !case.facts.is_empty() {
                p { strong { "What was really used" } " (last run)" }
                pre { (terminal::environment(&shown_facts(&case.facts), &terminal::Style::PLAIN)) }
            }
        }
    }
}

/// The facts that are written out, as one value.
fn shown_facts(facts: &Map<String, Value>) -> Value {
    let shown = terminal::shown_facts(facts);
    shown
        .map(|(name, fact)| (name.clone(), fact.clone()))
        .collect()
}

/// A JSON value without the quotes of a string.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The distinct environments, each with the hosts that have it.
fn environment(reports: &[Report]) -> Markup {
    let mut distinct: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for host in reports.iter().flat_map(|report| &report.hosts) {
        // A host is made of maps with string keys.
        let value = serde_json::to_value(host).unwrap_or_default();
        let known = distinct.entry(&host.name).or_default();
        if !known.contains(&value) {
            known.push(value);
        }
    }
    html! {
        h2 { "Environment" }
        @for (name, states) in distinct {
            @if states.len() > 1 {
                p { span .badge.doubtful { "changed" } " " (name) " was in " (states.len())
                    " different states during these runs." }
            }
            @for state in states {
                details {
                    summary { (name) }
                    pre { (terminal::environment(&state, &terminal::Style::PLAIN)) }
                }
            }
        }
    }
}

/// The reports as data for other tools. Every `<` is escaped, so that no text in a report can end
/// the element, whatever a host calls itself.
fn data(reports: &[Report]) -> Markup {
    // Reports are made of maps with string keys.
    let json = serde_json::to_string(reports)
        .unwrap_or_default()
        .replace('<', "\\u003c");
    html! { script type="application/json" id="reports" { (PreEscaped(json)) } }
}

/// Cases that differ only in `size_bytes`, in the order of their sizes.
fn sweeps(cases: &[CaseSummary]) -> Vec<Vec<(f64, &CaseSummary)>> {
    let mut groups: BTreeMap<String, Vec<(f64, &CaseSummary)>> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.measured > 0) {
        let Some(size) = case
            .benchmark
            .params
            .get("size_bytes")
            .and_then(Value::as_f64)
        else {
            continue;
        };
        let mut rest = case.benchmark.clone();
        // Iterations shrink with the size by design: they do not tell sweeps apart.
        for name in ["size_bytes", "iterations", "warmup"] {
            rest.params.remove(name);
        }
        let key = format!("{rest} {:?} {:?}", case.row, case.hosts);
        groups.entry(key).or_default().push((size, case));
    }
    let mut sweeps: Vec<_> = groups
        .into_values()
        .filter(|group| group.len() > 2)
        .collect();
    for sweep in &mut sweeps {
        sweep.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    sweeps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::summary::summarise;

    #[test]
    fn hostile_names_stay_inert() {
        let mut report = fixtures::report(&[("tcp_rr", 1000.0)]);
        let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";
        report.hosts[0].name = hostile.to_owned();
        report.cases[0]
            .benchmark
            .params
            .insert("size".to_owned(), hostile.into());
        let reports = [report];
        let page = page(hostile, &reports, &summarise(&reports));
        assert!(
            !page.contains("<script>alert") && !page.contains("<img"),
            "{page}"
        );
        assert_eq!(
            page.matches("</script>").count(),
            1,
            "only the data element ends"
        );
        let data = page
            .split("id=\"reports\">")
            .nth(1)
            .and_then(|rest| rest.split("</script>").next());
        let parsed: Vec<Report> =
            serde_json::from_str(data.expect("the data is there")).expect("and is JSON");
        assert_eq!(parsed, reports);
    }

    #[test]
    fn a_sweep_becomes_one_curve() {
        let reports: Vec<_> = [1u64, 8, 64]
            .into_iter()
            .map(|size| {
                let mut report = fixtures::report(&[("bw", size as f64 * 10.0)]);
                let params = &mut report.cases[0].benchmark.params;
                params.insert("size_bytes".to_owned(), size.into());
                params.insert("iterations".to_owned(), (1000 / size).into());
                report
            })
            .collect();
        let cases = summarise(&reports);
        assert_eq!(sweeps(&cases).len(), 1);
        assert_eq!(sweeps(&cases)[0].len(), 3);
        assert!(page("sweep", &reports, &cases).contains("Sweeps"));
    }

    #[test]
    fn nothing_is_fetched() {
        let reports = [fixtures::report(&[("tcp_rr", 1000.0)])];
        let page = page("plain", &reports, &summarise(&reports));
        assert!(
            !page.contains("http://") && !page.contains("https://"),
            "no address at all"
        );
        assert!(!page.contains("src=") && !page.contains("@import"));
    }
}
