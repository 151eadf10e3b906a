//! What differs between two environments, in words: what matters first, of long values only what
//! changed, and of many fields with a common parent a few.

use super::compare::some_of;
use super::terminal::Style;
use super::text::visible;
use crate::compare::{CaseComparison, Class, Comparison, Difference};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// More differences than these below one parent are shown as one line.
const MOST_SIBLINGS: usize = 4;
/// Longer values than this are shown by what changed in them.
const LONGEST_VALUE: usize = 48;

/// The environments' differences. Writing to a string cannot fail.
pub(super) fn environment(text: &mut String, comparison: &Comparison, style: &Style) {
    let of_class = |class| {
        let all = comparison.environment.iter();
        all.filter(move |difference| difference.class == class)
            .collect::<Vec<_>>()
    };
    let confounders = of_class(Class::Confounder);
    let declared = of_class(Class::Declared);
    let uncounted = of_class(Class::NotCounted);
    let confounders_of_cases = of_cases(comparison);
    let declared_of_cases = with_cases(comparison, |case| &case.under_study);
    let lists = [&confounders_of_cases, &declared_of_cases];
    let none_of_cases = lists.iter().all(|list| list.is_empty());
    if let Some(reason) = &comparison.unknown_environment {
        let mark = style.doubtful("environment:");
        let reason = visible(reason);
        let _ = writeln!(
            text,
            "{mark} unknown on both sides, so it may differ: {reason}"
        );
    } else if confounders.is_empty() && declared.is_empty() && none_of_cases {
        let _ = writeln!(text, "environment: no difference that counts");
    }
    lines(text, &style.doubtful("confounder:"), &confounders, "");
    of_some_cases(text, &style.doubtful("confounder:"), confounders_of_cases);
    lines(text, &style.good("under study:"), &declared, "");
    of_some_cases(text, &style.good("under study:"), declared_of_cases);
    if !uncounted.is_empty() {
        let fields: Vec<String> = uncounted.iter().map(|d| d.field.clone()).collect();
        let line = format!(
            "differs, but does not count: {}",
            visible(&fields.join(", "))
        );
        let _ = writeln!(text, "{}", style.faint(&line));
    }
}

/// Differences with the cases that have them, those of the same cases together.
fn of_some_cases(text: &mut String, mark: &str, found: Vec<(&Difference, Vec<String>)>) {
    let mut of_cases: Vec<(Vec<String>, Vec<&Difference>)> = Vec::new();
    for (difference, cases) in found {
        match of_cases.iter_mut().find(|(known, _)| *known == cases) {
            Some((_, differences)) => differences.push(difference),
            None => of_cases.push((cases, vec![difference])),
        }
    }
    for (cases, differences) in of_cases {
        let of = format!(" (of {})", some_of(&cases));
        lines(text, mark, &differences, &of);
    }
}

/// Differences of what was really used that may explain a result, each once with the cases that
/// have it.
fn of_cases(comparison: &Comparison) -> Vec<(&Difference, Vec<String>)> {
    with_cases(comparison, |case| &case.confounders)
}

/// Every difference of what was really used, those that may explain a result first.
pub(super) fn of_all_cases(comparison: &Comparison) -> Vec<(&Difference, Vec<String>)> {
    let mut found = of_cases(comparison);
    found.extend(with_cases(comparison, |case| &case.under_study));
    found
}

fn with_cases(
    comparison: &Comparison,
    kind: fn(&CaseComparison) -> &[Difference],
) -> Vec<(&Difference, Vec<String>)> {
    let mut found: Vec<(&Difference, Vec<String>)> = Vec::new();
    let mut known: BTreeMap<(&str, &[String], &[String]), usize> = BTreeMap::new();
    for case in &comparison.cases {
        for difference in kind(case) {
            let key = (difference.field.as_str(), &*difference.a, &*difference.b);
            let at = *known.entry(key).or_insert(found.len());
            if at == found.len() {
                found.push((difference, Vec::new()));
            }
            found[at].1.push(case.label.clone());
        }
    }
    found
}

fn lines(text: &mut String, mark: &str, differences: &[&Difference], of: &str) {
    let parent = |difference: &Difference| {
        let field = difference.field.as_str();
        field.rfind('.').map_or("", |dot| &field[..dot]).to_owned()
    };
    let mut siblings: BTreeMap<String, usize> = BTreeMap::new();
    for difference in differences {
        *siblings.entry(parent(difference)).or_default() += 1;
    }
    let mut told: BTreeSet<String> = BTreeSet::new();
    for difference in differences {
        let parent = parent(difference);
        if parent.is_empty() || siblings[&parent] <= MOST_SIBLINGS {
            let why = difference
                .why
                .as_ref()
                .map_or(String::new(), |why| format!(" ({why})"));
            let field = visible(&difference.field);
            let _ = writeln!(text, "{mark} {field}: {}{why}{of}", change(difference));
        } else if told.insert(parent.clone()) {
            let names = differences
                .iter()
                .filter_map(|d| d.field.strip_prefix(parent.as_str())?.strip_prefix('.'))
                .filter(|name| !name.contains('.'))
                .map(str::to_owned)
                .collect::<Vec<_>>();
            let (count, names) = (names.len(), some_of(&names));
            let what = format!("{parent}: {count} fields differ: {names}{of}");
            let _ = writeln!(text, "{mark} {}", visible(&what));
        }
    }
}

/// A difference in one line: the field, from what to what, and what that means.
pub(super) fn in_words(difference: &Difference) -> String {
    let why = difference.why.as_ref().map(|why| format!(" ({why})"));
    let (field, why) = (&difference.field, why.unwrap_or_default());
    visible(&format!("{field}: {}{why}", change(difference))).into_owned()
}

/// From what to what: of long texts the words that only one of them has.
fn change(difference: &Difference) -> String {
    let (a, b) = (some_of(&difference.a), some_of(&difference.b));
    let long = a.len().max(b.len()) > LONGEST_VALUE;
    if let ([one], [other], true) = (&*difference.a, &*difference.b, long) {
        let words = |text: &str| -> BTreeSet<String> {
            let split = text.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
            split
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let (of_a, of_b) = (words(one), words(other));
        let only = |sign: &str, one: &BTreeSet<String>, other: &BTreeSet<String>| {
            let only: Vec<String> = one.difference(other).cloned().collect();
            Some(format!("{sign} {}", some_of(&only))).filter(|_| !only.is_empty())
        };
        let only = [only("−", &of_a, &of_b), only("+", &of_b, &of_a)];
        let only: Vec<String> = only.into_iter().flatten().collect();
        if !only.is_empty() && of_a.intersection(&of_b).next().is_some() {
            return visible(&only.join("  ")).into_owned();
        }
    }
    visible(&format!("{a} → {b}")).into_owned()
}
