//! A cluster's part of the page: who the nodes are and what is said of each, what does not fit
//! together, what placement costs, and the numbers of each node side by side. Up to 64 nodes all are
//! listed; of more, those with a fault, and the others are folded.

use super::svg::{strip, strip_ends};
use crate::cluster::{Cluster, Kind, Node, word};
use crate::model::{Fact, Severity, Unit};
use crate::render::units::human;
use crate::screen::{Screening, Status, Verdict};
use crate::stats;
use crate::summary::{CaseSummary, MatrixSummary, NodeSummary, count, labels};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Up to so many nodes, all are listed at once.
pub(super) const MOST_LISTED: usize = 64;
/// From more hosts than these, what each measured alone is shown here and not case by case.
pub(super) const MOST_ALONE: usize = 4;
/// How many measures have a column of their own.
const MOST_MEASURES: usize = 16;

/// What a page knows of a cluster.
pub(super) struct Part<'a> {
    cluster: &'a Cluster,
    screening: Option<&'a Screening>,
    measures: Vec<Measure>,
}

/// One number of each node.
struct Measure {
    case: String,
    name: String,
    unit: Option<Unit>,
    /// By host.
    values: BTreeMap<String, f64>,
}

impl<'a> Part<'a> {
    /// Takes the numbers that nodes measured alone out of the cases, where they are of many nodes.
    pub(super) fn of(
        cluster: &'a Cluster,
        screening: Option<&'a Screening>,
        cases: &mut Vec<CaseSummary>,
    ) -> Self {
        let measures = measures(cases);
        fold(cases);
        Self {
            cluster,
            screening,
            measures,
        }
    }

    /// The hosts of the nodes that are not good.
    pub(super) fn faulty(&self) -> Vec<&str> {
        let nodes = self.cluster.nodes.iter();
        let faulty = nodes.filter(|node| !self.is_good(node));
        faulty.map(|node| node.host.as_str()).collect()
    }

    pub(super) fn draw(&self, cases: &[CaseSummary]) -> Markup {
        let nodes = &self.cluster.nodes;
        html! {
            h2 id="cluster" { "Cluster" }
            p .faint { (count(nodes.len(), "node"))
                @if !self.cluster.absent.is_empty() { ", " (self.cluster.absent.len()) " missing" }
                @if let Some(screening) = self.screening {
                    @for status in [Status::Good, Status::NotJudged, Status::Slow, Status::Failed, Status::Unreachable] {
                        @if screening.count(status) > 0 { ", " (screening.count(status)) " " (status.word()) }
                    }
                }
                ". Each node is judged against the others of these runs, as " code { "reports screen" }
                " does." }
            (self.faults()) (self.outliers()) (self.nodes()) (placement(cases)) (self.numbers())
        }
    }

    fn faults(&self) -> Markup {
        html! {
            @for fault in &self.cluster.faults {
                @let class = match fault.severity {
                    Severity::Invalid => "badge bad",
                    Severity::Degraded => "badge doubtful",
                    Severity::Info => "badge",
                };
                p { span class=(class) { (fault.kind.code()) } " " (fault.evidence) }
            }
        }
    }

    /// Who is not good, and why.
    fn outliers(&self) -> Markup {
        let verdicts = self.screening.map_or(&[][..], |screening| &screening.nodes);
        let bad: Vec<&Verdict> = verdicts
            .iter()
            .filter(|verdict| verdict.status > Status::NotJudged)
            .collect();
        let together = self
            .screening
            .map_or(&[][..], |screening| &screening.together);
        if bad.is_empty() && together.is_empty() {
            return html! {};
        }
        html! {
            h3 { "Outliers" }
            div .scroll tabindex="0" { table {
                thead { tr { th scope="col" { "Node" } th scope="col" { "Verdict" }
                    th scope="col" { "Evidence" } } }
                tbody {
                    @for verdict in bad { tr {
                        th scope="row" { (verdict.node) }
                        td { (badge(verdict.status)) }
                        td {
                            @for reason in &verdict.reasons { p { (reason) } }
                            @for finding in &verdict.findings {
                                p { strong { (finding.rule) } ": " (finding.evidence)
                                    span .faint { " " (finding.case) } }
                            }
                        }
                    } }
                    @for finding in together { tr {
                        th scope="row" { "no single node" }
                        td { (badge(Status::Slow)) }
                        td { p { strong { (finding.rule) } ": " (finding.evidence)
                            span .faint { " " (finding.case) } } }
                    } }
                }
            } }
        }
    }

    fn verdict(&self, node: &Node) -> Option<&Verdict> {
        let verdicts = &self.screening?.nodes;
        verdicts.iter().find(|verdict| verdict.node == node.name)
    }

    fn is_good(&self, node: &Node) -> bool {
        let verdict = self.verdict(node);
        verdict.is_none_or(|verdict| verdict.status <= Status::NotJudged)
    }

    /// The nodes to list, and those to fold.
    fn listed(&self) -> (Vec<&Node>, Vec<&Node>) {
        let nodes = self.cluster.nodes.iter();
        if nodes.len() <= MOST_LISTED {
            return (nodes.collect(), Vec::new());
        }
        nodes.partition(|node| !self.is_good(node))
    }

    fn nodes(&self) -> Markup {
        let (listed, folded) = self.listed();
        html! {
            h3 { "Nodes" }
            @if !listed.is_empty() { (self.table_of_nodes(&listed)) }
            @if !folded.is_empty() { details {
                summary { (folded.len()) " nodes without a fault" }
                (self.table_of_nodes(&folded))
            } }
        }
    }

    fn table_of_nodes(&self, nodes: &[&Node]) -> Markup {
        html! {
            div .scroll tabindex="0" { table .nodes {
                thead { tr {
                    @for title in ["Node", "Verdict", "Type", "AZ id", "Placement group", "Partition",
                        "EFA", "Kernel", "Reports"] { th scope="col" { (title) } }
                } }
                tbody { @for node in nodes { tr data-words=(node.name) {
                    th scope="row" { (node.name) }
                    td { @if let Some(verdict) = self.verdict(node) { (badge(verdict.status)) } }
                    (told(&node.instance_type)) (told(&node.az_id)) (told(&node.placement_group))
                    (told(&node.partition))
                    @match &node.efa {
                        Fact::Known(true) => { td { "yes" } }
                        Fact::Known(false) => { td { "no" } }
                        Fact::Unavailable { unavailable } => { td title=(unavailable) { "no" } }
                    }
                    (told(&node.kernel))
                    td .num { (node.reports) }
                } } }
            } }
        }
    }

    /// The numbers of each node, a column a measure.
    fn numbers(&self) -> Markup {
        if self.measures.is_empty() {
            return html! {};
        }
        let (listed, folded) = self.listed();
        html! {
            h3 { "Each node alone" }
            p .faint { "Medians over runs. A dot is a node, the bar their median; bars in the cells are \
                shares of the largest. Of what more than " (MOST_ALONE) " nodes measured alone, one node \
                stands for all among the cases below." }
            @if self.measures.len() > MOST_MEASURES {
                p .faint { (self.measures.len() - MOST_MEASURES) " more measures are in the reports alone." }
            }
            (self.table_of_numbers(&listed, true))
            @if !folded.is_empty() { details {
                summary { (folded.len()) " nodes without a fault" }
                (self.table_of_numbers(&folded, false))
            } }
        }
    }

    fn table_of_numbers(&self, nodes: &[&Node], strips: bool) -> Markup {
        let shown = || self.measures.iter().take(MOST_MEASURES);
        html! {
            div .scroll tabindex="0" { table .nodes {
                thead { tr {
                    th scope="col" { "Node" }
                    @for measure in shown() {
                        th scope="col" .num { (measure.name) span .faint { (measure.case) } }
                    }
                } }
                tbody {
                    @if strips { tr {
                        th scope="row" { "all nodes" }
                        @for measure in shown() { td .num { (measure.strip()) } }
                    } }
                    @for node in nodes { tr data-words=(node.name) {
                        th scope="row" { (node.name) }
                        @for measure in shown() { (self.cell(node, measure)) }
                    } }
                }
            } }
        }
    }

    fn cell(&self, node: &Node, measure: &Measure) -> Markup {
        let Some(&value) = measure.values.get(&node.host) else {
            return html! { td .num { "–" } };
        };
        let largest = measure
            .values
            .values()
            .fold(0.0_f64, |most, value| most.max(*value));
        let share = if largest > 0.0 {
            (value / largest).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let blamed = self.verdict(node).is_some_and(|verdict| {
            let mut findings = verdict.findings.iter();
            findings.any(|finding| finding.what == measure.name)
        });
        html! {
            td .num {
                svg .share viewBox="0 0 60 10" aria-hidden="true" {
                    rect class=(if blamed { "worse" } else { "c0" }) width=(format!("{:.1}", 60.0 * share)) height="10" {}
                }
                " " @if blamed { strong .worse { (measure.in_words(value)) } }
                    @else { (measure.in_words(value)) }
            }
        }
    }
}

impl Measure {
    fn strip(&self) -> Markup {
        let values: Vec<f64> = self.values.values().copied().collect();
        let ends = strip_ends(values.iter().copied());
        match stats::median(&values) {
            Some(median) => {
                html! { (strip(&values, median, None, ends)) " " (self.in_words(median)) }
            }
            None => html! {},
        }
    }

    fn in_words(&self, value: f64) -> String {
        match self.unit {
            Some(unit) => human(value, unit),
            None => format!("{value:.3e}"),
        }
    }
}

fn badge(status: Status) -> Markup {
    let class = match status {
        Status::Good => "badge good",
        Status::NotJudged => "badge doubtful",
        Status::Slow | Status::Failed | Status::Unreachable => "badge bad",
    };
    html! { span class=(class) { (status.word()) } }
}

fn told<T: std::fmt::Display>(fact: &Fact<T>) -> Markup {
    html! { td title=[fact.reason()] { (word(fact)) } }
}

/// What a case is, whichever host ran it.
type Same = (Option<String>, Option<String>, String, String);

fn same(case: &CaseSummary) -> Same {
    let benchmark = &case.benchmark;
    let key = (benchmark.to_string(), benchmark.definition_hash.clone());
    (case.row.clone(), case.arm.clone(), key.0, key.1)
}

fn alone(case: &CaseSummary) -> Option<&str> {
    match case.hosts.as_slice() {
        [host] => Some(host),
        _ => None,
    }
}

/// The headlines of what several hosts measured alone, and facts that give a number to each host.
fn measures(cases: &[CaseSummary]) -> Vec<Measure> {
    let mut measures: Vec<Measure> = Vec::new();
    let mut places: HashMap<(Same, String), usize> = HashMap::new();
    // Without the hosts, which are rows here.
    let mut nameless: Vec<CaseSummary> = Vec::new();
    let mut firsts: HashMap<Same, usize> = HashMap::new();
    for case in cases
        .iter()
        .filter(|case| case.measured > 0 && alone(case).is_some())
    {
        let host = alone(case).unwrap_or_default();
        let first = *firsts.entry(same(case)).or_insert_with(|| {
            nameless.push(CaseSummary {
                hosts: Vec::new(),
                ..case.clone()
            });
            nameless.len() - 1
        });
        for metric in case.headlines() {
            let place = (same(case), metric.title());
            let at = *places.entry(place).or_insert_with(|| {
                measures.push(Measure {
                    case: first.to_string(),
                    name: metric.title(),
                    unit: Some(metric.unit),
                    values: BTreeMap::new(),
                });
                measures.len() - 1
            });
            if let Fact::Known(median) = metric.median {
                measures[at].values.insert(host.to_owned(), median);
            }
        }
    }
    let names = labels(&nameless);
    for measure in &mut measures {
        let first: usize = measure.case.parse().unwrap_or_default();
        measure.case.clone_from(&names[first]);
    }
    let facts = cases.iter().flat_map(by_host);
    measures.retain(|measure| measure.values.len() > 1);
    measures.splice(0..0, facts);
    measures
}

/// The facts of a case that give a number to each of its hosts.
fn by_host(case: &CaseSummary) -> Vec<Measure> {
    let hosts: BTreeSet<&str> = case.hosts.iter().map(String::as_str).collect();
    let of = |(name, fact): (&String, &serde_json::Value)| {
        let numbers = fact.as_object()?;
        let values: Option<BTreeMap<String, f64>> = numbers
            .iter()
            .map(|(host, number)| Some((host.clone(), number.as_f64()?)))
            .collect();
        let values = values.filter(|values| {
            values.len() > 1 && values.keys().all(|host| hosts.contains(host.as_str()))
        })?;
        Some(Measure {
            case: case.benchmark.id.clone(),
            name: name.clone(),
            unit: None,
            values,
        })
    };
    case.facts.iter().filter_map(of).collect()
}

/// Of what many hosts measured alone, keeps the first of the good ones and all that are not.
fn fold(cases: &mut Vec<CaseSummary>) {
    let mut hosts: HashMap<Same, usize> = HashMap::new();
    for case in cases.iter().filter(|case| alone(case).is_some()) {
        *hosts.entry(same(case)).or_default() += 1;
    }
    let mut kept = BTreeSet::new();
    cases.retain(|case| {
        let key = same(case);
        let many = hosts.get(&key).is_some_and(|hosts| *hosts > MOST_ALONE);
        // That somebody else is missing is said above, and is no reason to look at this one.
        let others = [Kind::MissingNode.code(), Kind::MissingRank.code()];
        let invalid = case.flags.iter().any(|(flag, _)| {
            flag.severity == Severity::Invalid && !others.contains(&flag.code.as_str())
        });
        let fine = case.is_complete() && case.measured > 0 && !invalid;
        alone(case).is_none() || !many || !fine || kept.insert(key)
    });
}

/// What it costs to stand apart: pairs within a group of each kind against pairs across groups.
fn placement(cases: &[CaseSummary]) -> Markup {
    type Group = fn(&NodeSummary) -> Option<String>;
    const KINDS: [(&str, Group); 3] = [
        ("AZ id", |node| node.placement.az_id.known().cloned()),
        ("placement group", |node| {
            node.placement.placement_group.known().cloned()
        }),
        ("partition", |node| {
            node.placement.partition.known().map(u32::to_string)
        }),
    ];
    let matrices = cases
        .iter()
        .flat_map(|case| case.matrices.iter().map(move |m| (case, m)));
    let mut rows = Vec::new();
    for (case, matrix) in matrices.filter(|(_, matrix)| !matrix.is_bound()) {
        for (kind, of) in KINDS {
            let groups: Vec<Option<String>> = matrix.nodes.iter().map(of).collect();
            let known: BTreeSet<&String> = groups.iter().flatten().collect();
            if known.len() > 1 {
                let [within, across] = within_and_across(matrix, &groups);
                if let (Some(a), Some(b)) = (stats::median(&within), stats::median(&across)) {
                    rows.push((
                        case,
                        matrix,
                        kind,
                        known.len(),
                        [(a, within.len()), (b, across.len())],
                    ));
                }
            }
        }
    }
    if rows.is_empty() {
        return html! {};
    }
    html! {
        h3 { "What placement costs" }
        div .scroll tabindex="0" { table {
            thead { tr {
                th scope="col" { "Between nodes" } th scope="col" { "Groups" }
                th scope="col" .num { "Within one" } th scope="col" .num { "Across two" }
                th scope="col" .num { "Across / within" } th scope="col" .num { "Pairs" }
            } }
            tbody { @for (case, matrix, kind, groups, [(within, a), (across, b)]) in rows { tr {
                th scope="row" { (matrix.name) span .faint { " " (case.benchmark.id)
                    @if let Some(row) = &case.row { " (row " (row) ")" } } }
                td { (groups) " of " (kind) }
                td .num { (human(within, matrix.unit)) } td .num { (human(across, matrix.unit)) }
                td .num { @if within > 0.0 { (format!("{:.3}", across / within)) } @else { "–" } }
                td .num { (a) " + " (b) }
            } } }
        } }
    }
}

fn within_and_across(matrix: &MatrixSummary, groups: &[Option<String>]) -> [Vec<f64>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for (from, row) in matrix.medians.iter().enumerate() {
        for (to, value) in row.iter().enumerate() {
            if let (Some(a), Some(b), Some(value)) = (&groups[from], &groups[to], value) {
                found[usize::from(a != b)].push(*value);
            }
        }
    }
    found
}
