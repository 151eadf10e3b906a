//! What the page says before anything else: what it comes to, and whether the numbers may be
//! compared at all.

use super::{Page, differences};
use crate::compare::{Class, Comparison, Group, Status, Verdict};
use crate::model::Severity;
use crate::render::compare::some_of;
use crate::summary::{CaseSummary, count};
use maud::{Markup, html};

pub(super) fn banner(page: &Page<'_>) -> Markup {
    match page.comparison {
        Some(comparison) => html! { (of_comparison(comparison)) (mismatch(comparison)) },
        None => of_cases(&page.cases),
    }
}

fn of_comparison(comparison: &Comparison) -> Markup {
    let metrics = || comparison.cases.iter().flat_map(|case| &case.metrics);
    let gated = metrics().any(|metric| metric.gate.is_some());
    let failing = metrics().filter(|metric| metric.gate.is_some_and(|gate| gate.failed));
    let (class, word) = match comparison.status {
        Status::Regression => ("bad", "Regression"),
        Status::Incomparable => ("bad", "Not everything can be compared"),
        Status::Insufficient => ("doubtful", "Not everything can be told"),
        Status::Pass if gated => ("good", "Within the gate"),
        Status::Pass => ("good", "Compared"),
    };
    let mut counts: Vec<String> = [
        (Verdict::Worse, "worse"),
        (Verdict::Better, "better"),
        (Verdict::Differs, "different"),
        (Verdict::Confounded, "confounded"),
        (Verdict::Insufficient, "insufficient"),
        (Verdict::Same, "without a difference"),
    ]
    .into_iter()
    .map(|(verdict, word)| (metrics().filter(|m| m.verdict == verdict).count(), word))
    .filter(|(number, _)| *number > 0)
    .map(|(number, word)| format!("{number} {word}"))
    .collect();
    if gated {
        counts.push(format!("{} beyond the gate", failing.count()));
    }
    html! {
        p class=(format!("verdict {class}")) role="status" {
            strong { (word) } ": " (count(metrics().count(), "metric")) " compared"
            @if !counts.is_empty() { ": " (counts.join(", ")) } "."
        }
        dl {
            @for (name, group) in [("A", &comparison.a), ("B", &comparison.b)] {
                dt { strong { (name) } } dd { (side(group)) }
            }
        }
    }
}

fn side(group: &Group) -> Markup {
    html! {
        @if !group.name.is_empty() { (group.name) ": " }
        (count(group.runs, "run"))
        @if let Some((from, to)) = &group.time { ", " (from) " to " (to) }
        @for (flag, results) in &group.degraded {
            " " span .badge.doubtful { (flag) " in " (count(*results, "result")) }
        }
    }
}

/// What stands between the numbers and a verdict: the environments' differences and what blocks
/// whole cases.
fn mismatch(comparison: &Comparison) -> Markup {
    let of_cases = differences(comparison);
    let own = of_cases.iter().map(|(difference, _)| *difference);
    let confounders = comparison.environment.iter().chain(own);
    let confounders = confounders.filter(|difference| difference.class == Class::Confounder);
    let confounders = confounders.count();
    html! {
        @if !comparison.blocked.is_empty() {
            div .verdict.bad {
                strong { "Not comparable" } ": these measure different things."
                div .scroll tabindex="0" { table {
                    thead { tr {
                        th scope="col" { "Case" } th scope="col" { "Field" }
                        th scope="col" { "A" } th scope="col" { "B" }
                    } }
                    tbody { @for blocked in &comparison.blocked { tr {
                        th scope="row" { (blocked.case) } td { (blocked.field) }
                        td { (some_of(&blocked.a)) } td { (some_of(&blocked.b)) }
                    } } }
                } }
            }
        }
        @if confounders > 0 {
            p .verdict.doubtful {
                strong { "The environments differ" } " in " (count(confounders, "field"))
                " that nobody declared to be under study. Where numbers differ, who can say why? "
                a href="#differences" { "What differs" } "."
            }
        }
        @if let Some(reason) = &comparison.unknown_environment {
            p .verdict.doubtful {
                strong { "The environments are unknown" } " on both sides, so they may differ: " (reason)
            }
        }
        @let missing = [("A", &comparison.a), ("B", &comparison.b)];
        @for (name, group) in missing {
            @if !group.cases_of_its_own.is_empty() {
                p .faint { "Only in " (name) ": " (group.cases_of_its_own.join("; ")) }
            }
        }
    }
}

fn of_cases(cases: &[CaseSummary]) -> Markup {
    let number = |is: &dyn Fn(&CaseSummary) -> bool| cases.iter().filter(|case| is(case)).count();
    let failed = number(&|case| !case.is_complete());
    let invalid = number(&CaseSummary::is_invalid);
    let skipped = number(&|case| case.is_complete() && case.measured == 0);
    let measured = number(&|case| case.measured > 0);
    let degraded = number(&|case| {
        let mut flags = case.flags.iter();
        flags.any(|(flag, _)| flag.severity == Severity::Degraded)
    });
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
