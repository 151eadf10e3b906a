//! The courses of the page's cases over the runs of a history: a chart per case and metric, with its
//! levels, the places where these changed, and below it what `reports trend` says of each place.
//! What changed is drawn first; of many courses the steady ones are folded.

mod course;

use super::cluster::MOST_LISTED;
use crate::compare::{Class, Verdict};
use crate::history::{CaseTrend, Change, ChangeKind, Courses, MetricTrend};
use crate::render::trend::words::{
    Environments, NOTHING_DIFFERS, Names, SHOWN, confounded, counts, day, differing, footnotes,
    place, restless, shift, some, tally, word,
};
use crate::summary::count;
use course::Course;
use maud::{Markup, html};

/// Up to so many courses are all drawn open; of more, only those with a change.
const MOST_OPEN: usize = 8;
/// So many courses are drawn, those with a change first: each takes up to 60 kB.
const MOST_DRAWN: usize = 48;

/// The section. `faulty` are hosts that something else on the page speaks against.
pub(super) fn history(courses: &Courses, faulty: &[&str]) -> Markup {
    html! {
        h2 id="history" { "History" }
        @if courses.trend.cases.is_empty() {
            p .verdict.doubtful {
                strong { "No course" } ": the history " code { (courses.file.display()) }
                " holds none of this page's cases. " (how_to_add(courses))
            }
        } @else {
            (introduction(courses))
            (drawn(courses, faulty))
        }
    }
}

fn how_to_add(courses: &Courses) -> Markup {
    html! {
        code { "reports trend add PATHS… --history " (courses.file.display()) } " adds runs."
    }
}

/// What is drawn, and what is not although it belongs to the page or the history.
fn introduction(courses: &Courses) -> Markup {
    let said = tally(&courses.trend);
    let mut lines = said.lines();
    let inside = courses.runs.len() - courses.runs_outside;
    html! {
        p { strong { (lines.next().unwrap_or_default()) }
            @for line in lines { span .faint { " (" (line) ")" } } }
        p .faint {
            "Runs of " code { (courses.file.display()) } " of the same case by the same definition on the \
             same kind of hosts, in the order of time (UTC). A level is the median between two changes. \
             Where the environment changed, the course is divided and the shift says little; between such \
             places changes of the level were searched for, as " code { "reports trend" } " does. Rings are \
             this page's runs: " (inside) " of " (courses.runs.len()) " are in it."
            @if courses.runs_outside > 0 { " " (how_to_add(courses)) }
        }
        @if !courses.unknown.is_empty() {
            p .faint { "The history has no run of " (count(courses.unknown.len(), "case")) " of this page: "
                (some(&courses.unknown, "; ", SHOWN)) "." }
        }
        @if courses.elsewhere > 0 {
            p .faint { (count(courses.elsewhere, "course")) " of the same cases on other hosts, in other \
                rows, arms or environments are not drawn: " code { "reports trend" } " shows them." }
        }
        @if courses.faults > 0 {
            p { span .badge.doubtful { "incomplete" } " " (count(courses.faults, "line"))
                " of the history cannot be used: " code { "reports trend" } " names each." }
        }
    }
}

/// One metric of one case.
type Drawn<'a> = (&'a CaseTrend, &'a MetricTrend);

/// The courses with a change and the steady ones, each in the page's order, and how many are left
/// out because there are too many.
fn chosen(courses: &Courses) -> (Vec<Drawn<'_>>, Vec<Drawn<'_>>, usize) {
    let cases = courses.trend.cases.iter();
    let all = cases.flat_map(|case| case.metrics.iter().map(move |metric| (case, metric)));
    // A metric that no counted run has a number of is no course.
    let all = all.filter(|(_, metric)| !metric.points.is_empty());
    let (mut changed, mut steady): (Vec<_>, Vec<_>) =
        all.partition(|(_, metric)| !metric.changes.is_empty());
    let number = changed.len() + steady.len();
    changed.truncate(MOST_DRAWN);
    steady.truncate(MOST_DRAWN - changed.len());
    let left_out = number - changed.len() - steady.len();
    (changed, steady, left_out)
}

fn drawn(courses: &Courses, faulty: &[&str]) -> Markup {
    let (changed, steady, left_out) = chosen(courses);
    let names = Names::of(&courses.trend.cases);
    let mut environments = Environments::default();
    let mut draw = |these: &[Drawn<'_>]| -> Vec<Markup> {
        let one = |(case, metric): &Drawn<'_>| {
            let title = title(&names, case, metric);
            let course = Course::of(case, metric, &courses.runs, faulty);
            block(&title, &course, &mut environments)
        };
        these.iter().map(one).collect()
    };
    let [changed, steady] = [draw(&changed), draw(&steady)];
    let folded = changed.len() + steady.len() > MOST_OPEN && !steady.is_empty();
    html! {
        @if !changed.is_empty() { div .plots { @for one in &changed { (one) } } }
        @if folded {
            details {
                summary { (count(steady.len(), "course")) " without a change" }
                div .plots { @for one in &steady { (one) } }
            }
        } @else if !steady.is_empty() { div .plots { @for one in &steady { (one) } } }
        @if left_out > 0 {
            p .faint { (count(left_out, "more course")) " are not drawn; those with a change come first. "
                code { "reports trend" } " shows all." }
        }
        (closing(courses, &environments))
    }
}

fn title(names: &Names<'_>, case: &CaseTrend, metric: &MetricTrend) -> String {
    let params = names.params(case);
    let words = [names.title(case), params, metric.title.clone()];
    let words = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" · ")
}

fn block(title: &str, course: &Course<'_>, environments: &mut Environments) -> Markup {
    let (case, metric) = (course.case, course.metric);
    let hidden = metric.changes.len().saturating_sub(SHOWN);
    html! {
        div .course data-words=(title) {
            h3 { (title) }
            p .faint { (counts(case, metric)) (course.scope()) }
            (course.plot(title))
            @if !metric.changes.is_empty() { ul .changes {
                @if hidden > 0 { li .faint { (count(hidden, "earlier change")) } }
                @for change in &metric.changes[hidden..] { li { (said(course, change, environments)) } }
            } }
        }
    }
}

/// What is said of one place.
fn said(course: &Course<'_>, change: &Change, environments: &mut Environments) -> Markup {
    let (case, metric) = (course.case, course.metric);
    let (since, by) = (day(&change.since), shift(change, metric.unit));
    if change.kind == ChangeKind::Environment {
        let number = environments.number(change);
        return html! {
            strong .confounded { (word(change)) } " " (since) " "
            a href=(format!("#environment-{number}")) { "[" (number) "]" } (by)
        };
    }
    let class = match change.observed {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        _ => "differs",
    };
    html! {
        strong class=(class) { (word(change)) } " since " (since)
        @if let Some(confounded) = confounded(change) { " " span .confounded { (confounded) } }
        (by)
        ul {
            li { (place(case, metric, change)) }
            @for difference in &change.differs {
                @let class = match difference.class {
                    Class::NotCounted => "faint",
                    Class::Confounder => "confounded",
                    Class::Declared => "declared",
                };
                li class=(class) { (differing(difference)) }
            }
            @if change.differs.is_empty() { li .faint { (NOTHING_DIFFERS) } }
            @if let Some(note) = &change.note { li .confounded { (note) } }
        }
    }
}

/// What the charts refer to by number, and what does not count in full.
fn closing(courses: &Courses, environments: &Environments) -> Markup {
    let hint = restless(&courses.trend.cases).map(|hint| ("note:", hint));
    let notes: Vec<(&str, String)> = hint
        .into_iter()
        .chain(footnotes(&courses.trend.cases))
        .collect();
    let more = notes.len().saturating_sub(MOST_LISTED);
    html! {
        @for (index, (since, differences)) in environments.lines().enumerate() {
            p id=(format!("environment-{}", index + 1)) {
                strong .confounded { "environment " (since) ":" } " [" (index + 1) "] " (differences)
            }
        }
        @for (what, line) in notes.iter().take(MOST_LISTED) {
            p { strong .confounded { (what) } " " (line) }
        }
        @if more > 0 { p .faint { (more) " more such notes: " code { "reports trend" } " shows them." } }
    }
}

#[cfg(test)]
mod tests;
