//! The summary table, and a section for each family of cases: plots, reasons, all metrics.

use super::family::{Family, Member};
use super::svg::{strip, strip_ends};
use super::{latency_course, latency_map, plots};
use crate::model::Severity;
use crate::render::table;
use crate::render::terminal::{self, Style};
use crate::render::units::human_fact;
use crate::summary::{CaseSummary, Listed, MetricSummary, listed};
use maud::{Markup, PreEscaped, html};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How the cases of a page are drawn.
pub(super) struct Look {
    /// The ends of each metric's strip. Hosts, sides and arms that measured the same thing share
    /// them, so that their strips can be compared with the eye.
    strips: HashMap<(String, String), (f64, f64)>,
    /// Whether the page's filter asks for the cases' states; else it asks for verdicts.
    by_state: bool,
}

impl Look {
    pub(super) fn of(cases: &[CaseSummary], by_state: bool) -> Self {
        let mut values: HashMap<(String, String), Vec<f64>> = HashMap::new();
        for case in cases {
            for metric in &case.metrics {
                let values = values.entry(key(case, metric)).or_default();
                values.extend(&metric.values);
            }
        }
        let ends = values
            .into_iter()
            .map(|(key, values)| (key, strip_ends(values.into_iter())));
        Self {
            strips: ends.collect(),
            by_state,
        }
    }

    /// The states by which some cases are found.
    fn states<'a>(&self, cases: impl Iterator<Item = &'a CaseSummary>) -> Option<String> {
        let states: BTreeSet<&str> = cases.map(state).collect();
        let states = states.into_iter().collect::<Vec<_>>().join(" ");
        self.by_state.then_some(states)
    }

    fn draw(&self, case: &CaseSummary, metric: &MetricSummary) -> Markup {
        let interval = metric.interval.as_ref().ok();
        let interval = interval.map(|interval| (interval.low, interval.high));
        match (metric.median.known(), self.strips.get(&key(case, metric))) {
            (Some(median), Some(ends)) => strip(&metric.values, *median, interval, *ends),
            _ => html! {},
        }
    }
}

fn key(case: &CaseSummary, metric: &MetricSummary) -> (String, String) {
    (
        case.benchmark.to_string(),
        format!("{} {:?}", metric.title(), metric.unit),
    )
}

/// The state by which a case is filtered: the worst that can be said of it.
fn state(case: &CaseSummary) -> &'static str {
    let degraded = |case: &CaseSummary| {
        let mut flags = case.flags.iter();
        flags.any(|(flag, _)| flag.severity == Severity::Degraded)
    };
    match case {
        case if !case.is_complete() => "failed",
        case if case.is_invalid() => "invalid",
        case if case.measured == 0 => "skipped",
        case if degraded(case) => "degraded",
        _ => "fine",
    }
}

/// The cases with their headlines, one body of the table each.
pub(super) fn summary(families: &[Family<'_>], cases: &[CaseSummary], look: &Look) -> Markup {
    html! {
        h2 { "Summary" }
        p .faint {
            "Medians over runs, each run a fresh process. The interval covers the median with at \
             least 95 % by order statistics; it takes six runs. Cases that measured the same thing \
             share the scale of their dots, a dot per run."
        }
        div .scroll tabindex="0" { table {
            thead { tr {
                th scope="col" { "Case" } th scope="col" { "Metric" }
                th scope="col" .num { "Median" } th scope="col" .num { "95 % interval" }
                th scope="col" { "Runs" } th scope="col" .num { "n" }
            } }
            @for entry in in_families(families, cases) { @match entry {
                Entry::Member(index, family, member) => {
                    tbody data-words=(member.label(&family.label))
                        data-state=[look.states(std::iter::once(member.case))] {
                        (rows(member.case, &html! {
                            a href=(format!("#case-{index}")) { (family.label) }
                            @if !member.name.is_empty() { " " strong { (member.name) } }
                        }, look))
                    }
                }
                Entry::Between(count) => {
                    tbody { tr { td colspan="6" .faint { "… " (count) " points between, drawn below" } } }
                }
            } }
        } }
    }
}

/// A line of the summary, or some that are left out.
enum Entry<'f, 'a> {
    Member(usize, &'f Family<'a>, &'f Member<'a>),
    Between(usize),
}

/// What [`listed`] lists of the cases, family by family.
fn in_families<'f, 'a>(families: &'f [Family<'a>], cases: &[CaseSummary]) -> Vec<Entry<'f, 'a>> {
    let mut is_listed = vec![false; cases.len()];
    for entry in listed(cases) {
        if let Listed::Case(index, _) = entry {
            is_listed[index] = true;
        }
    }
    let mut entries = Vec::new();
    let mut between = 0;
    for (index, family) in families.iter().enumerate() {
        let members = family
            .members
            .iter()
            .filter(|member| is_listed[member.index]);
        let mut members = members.peekable();
        if members.peek().is_none() {
            between += 1;
            continue;
        }
        if between > 0 {
            entries.push(Entry::Between(std::mem::take(&mut between)));
        }
        entries.extend(members.map(|member| Entry::Member(index, family, member)));
    }
    if between > 0 {
        entries.push(Entry::Between(between));
    }
    entries
}

fn rows(case: &CaseSummary, link: &Markup, look: &Look) -> Markup {
    let headlines = case.headlines();
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
                    (metric_cells(case, metric, look))
                }
            }
        }
    }
}

fn metric_cells(case: &CaseSummary, metric: &MetricSummary, look: &Look) -> Markup {
    html! {
        td .metric { (metric.title()) }
        td .num title=[metric.median.known().map(|v| format!("{v}"))] {
            (human_fact(&metric.median, metric.unit))
        }
        td .num { (table::interval(metric)) }
        td { (look.draw(case, metric)) }
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

/// The families' own parts of the page. A point of a sweep is folded, since its curve is above. What
/// was measured is written out where it stands first: a curve of a hundred points says it once.
pub(super) fn sections(
    families: &[Family<'_>],
    swept: impl Fn(&Family<'_>) -> bool,
    look: &Look,
) -> Markup {
    let mut first: BTreeMap<BTreeSet<&str>, usize> = BTreeMap::new();
    html! {
        @for (index, family) in families.iter().enumerate() {
            @let definitions = definitions(family);
            @let at = *first.entry(definitions.clone()).or_insert(index);
            @let definition = html! {
                @if at == index {
                    @for definition in definitions { p .faint { (definition) } }
                } @else {
                    p .faint { "Defined as " a href=(format!("#case-{at}")) { (families[at].label) } "." }
                }
            };
            (section(index, family, swept(family), &definition, look))
        }
    }
}

fn definitions<'a>(family: &Family<'a>) -> BTreeSet<&'a str> {
    let members = family.members.iter();
    members
        .map(|member| member.case.benchmark.definition.as_str())
        .collect()
}

fn section(
    index: usize,
    family: &Family<'_>,
    folded: bool,
    definition: &Markup,
    look: &Look,
) -> Markup {
    let states = look.states(family.members.iter().map(|member| member.case));
    html! {
        section id=(format!("case-{index}")) data-words=(family.label) data-state=[states] {
            @if folded {
                details {
                    summary { strong { (family.label) } (all_badges(family)) }
                    (definition) (body(family, look))
                }
            } @else {
                h3 { (family.label) (all_badges(family)) }
                (definition) (body(family, look))
            }
        }
    }
}

/// Each badge once, whichever members have it.
fn all_badges(family: &Family<'_>) -> Markup {
    let mut shown: Vec<String> = Vec::new();
    for member in &family.members {
        let badges = badges(member.case).into_string();
        if !shown.contains(&badges) {
            shown.push(badges);
        }
    }
    html! { @for badges in shown { (PreEscaped(badges)) } }
}

fn body(family: &Family<'_>, look: &Look) -> Markup {
    html! {
        div .plots {
            (plots::percentiles(family)) (plots::over_time(family))
            (latency_course::latency_over_time(family)) (latency_map::latency_maps(family))
            (plots::run_order(family))
        }
        @for member in &family.members {
            @if !member.name.is_empty() { h4 { (member.name) } }
            (of_member(member.case, look))
        }
    }
}

fn of_member(case: &CaseSummary, look: &Look) -> Markup {
    html! {
        (reasons(case))
        @if case.measured > 0 {
            @if let Some(verified) = &case.verified { p { "Verified: " (verified) "." } }
            @for (flag, runs) in &case.flags {
                p { strong { (flag.code) } " in " (runs) " of " (case.measured) " runs: " (flag.evidence) }
            }
            (details(case, look))
        }
    }
}

fn details(case: &CaseSummary, look: &Look) -> Markup {
    html! {
        details {
            summary { "All metrics and parameters" }
            div .scroll tabindex="0" { table {
                thead { tr {
                    th scope="col" { "Metric" } th scope="col" .num { "Median" }
                    th scope="col" .num { "95 % interval" } th scope="col" { "Runs" }
                    th scope="col" .num { "n" }
                } }
                tbody { @for metric in &case.metrics { tr { (metric_cells(case, metric, look)) } } }
            } }
            dl {
                @for (name, value) in &case.benchmark.params {
                    dt { (name) } dd { (plain(value)) }
                }
                dt { "hosts" } dd { (case.hosts.join(", ")) }
                dt { "definition" } dd { (case.benchmark.definition_hash) }
            }
            @if !case.facts.is_empty() {
                p { strong { "What was really used" } " (last run)" }
                pre { (terminal::environment(&shown_facts(&case.facts), &Style::PLAIN)) }
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
