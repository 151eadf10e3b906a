//! The environment as tables: first what differs, between the sides of a comparison or between
//! hosts and moments, then what is common to all.

use super::{Page, differences};
use crate::compare::{Class, Comparison, fields};
use crate::host::Host;
use crate::model::Report;
use crate::render::compare::some_of;
use crate::summary::count;
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn environment(page: &Page<'_>) -> Markup {
    html! {
        h2 { "Environment" }
        @if let Some(comparison) = page.comparison { (between_sides(comparison)) }
        (Hosts::of(&page.reports).tables())
    }
}

/// What differs between A and B, what matters most first.
fn between_sides(comparison: &Comparison) -> Markup {
    let own = differences(comparison);
    html! {
        h3 id="differences" { "What differs between A and B" }
        @if comparison.environment.is_empty() && own.is_empty() {
            p { @match &comparison.unknown_environment {
                Some(reason) => { "Nobody knows: " (reason) }
                None => { "Nothing that was recorded." }
            } }
        } @else {
            div .scroll tabindex="0" { table {
                thead { tr {
                    th scope="col" { "Field" } th scope="col" { "A" } th scope="col" { "B" }
                    th scope="col" { "Meaning" }
                } }
                tbody {
                    @for (difference, cases) in own.iter().map(|(d, cases)| (*d, cases.as_slice()))
                        .chain(comparison.environment.iter().map(|d| (d, &[][..]))) {
                        @let (class, meaning) = meaning(difference.class);
                        tr data-words=(difference.field) data-state=(class) {
                            th scope="row" { (difference.field)
                                @if !cases.is_empty() { span .faint { " of " (some_of(cases)) } } }
                            td { (some_of(&difference.a)) } td { (some_of(&difference.b)) }
                            td { span class=(format!("word {class}")) { (meaning) }
                                @if let Some(why) = &difference.why { ": " (why) } }
                        }
                    }
                }
            } }
        }
    }
}

fn meaning(class: Class) -> (&'static str, &'static str) {
    match class {
        Class::Confounder => ("confounded", "confounder"),
        Class::Declared => ("better", "under study"),
        Class::NotCounted => ("same", "does not count"),
    }
}

/// Every field with its values, and the hosts that have each.
struct Hosts {
    hosts: usize,
    fields: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Hosts {
    fn of(reports: &[&Report]) -> Self {
        // Each state of a host once: repetitions on one machine are alike.
        let mut states: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
        for host in reports.iter().flat_map(|report| &report.hosts) {
            let known = states.entry(&host.name).or_default();
            if !known.iter().rev().any(|state| *state == host) {
                known.push(host);
            }
        }
        let mut found: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (name, states) in &states {
            for (field, value) in states.iter().flat_map(|host| fields::of_host(host)) {
                if field != "name" {
                    let values = found.entry(field).or_default();
                    values.entry(value).or_default().insert((*name).to_owned());
                }
            }
        }
        Self {
            hosts: states.len(),
            fields: found,
        }
    }

    fn tables(&self) -> Markup {
        let (common, differing): (Vec<_>, Vec<_>) = self
            .fields
            .iter()
            .partition(|(_, values)| self.is_common(values));
        html! {
            @if !differing.is_empty() {
                h3 { "What differs between hosts, or changed during the runs" }
                div .scroll tabindex="0" { table {
                    thead { tr {
                        th scope="col" { "Field" } th scope="col" { "Value" }
                        th scope="col" { "Hosts" }
                    } }
                    @for (field, values) in &differing { (self.varying(field, values)) }
                } }
            }
            h3 { "What is common to " (if self.hosts == 1 { "all runs" } else { "all hosts" }) }
            @for (section, fields) in sections(&common) {
                details {
                    summary { (section) }
                    table .facts { tbody { @for (field, value) in fields {
                        tr { th scope="row" { (field) } td { (value) } }
                    } } }
                }
            }
        }
    }

    /// Whether every host had the one value all the time.
    fn is_common(&self, values: &BTreeMap<String, BTreeSet<String>>) -> bool {
        values.len() == 1 && values.values().all(|hosts| hosts.len() == self.hosts)
    }

    fn varying(&self, field: &str, values: &BTreeMap<String, BTreeSet<String>>) -> Markup {
        /// Of a number that is new in every run, a few values are enough.
        const SHOWN: usize = 6;
        html! {
            tbody data-words=(field) {
                @for (index, (value, hosts)) in values.iter().take(SHOWN).enumerate() {
                    tr {
                        @if index == 0 {
                            th scope="rowgroup" rowspan=(values.len().min(SHOWN + 1)) { (field) }
                        }
                        td { (value) } td { (self.named(hosts)) }
                    }
                }
                @if values.len() > SHOWN {
                    tr { td colspan="2" .faint { (values.len() - SHOWN) " more values" } }
                }
            }
        }
    }

    fn named(&self, hosts: &BTreeSet<String>) -> String {
        match hosts.len() {
            all if all == self.hosts && all > 1 => format!("all {all}"),
            number => {
                let names: Vec<String> = hosts.iter().cloned().collect();
                match number {
                    1 => some_of(&names),
                    _ => format!("{}: {}", count(number, "host"), some_of(&names)),
                }
            }
        }
    }
}

/// Fields by the part of the machine that they are of.
fn sections<'a>(
    fields: &[(&'a String, &'a BTreeMap<String, BTreeSet<String>>)],
) -> BTreeMap<&'a str, Vec<(&'a str, &'a str)>> {
    let mut sections: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (field, values) in fields {
        let section = field.split('.').next().unwrap_or(field);
        let value = values.keys().next().map_or("", String::as_str);
        sections.entry(section).or_default().push((field, value));
    }
    sections
}
