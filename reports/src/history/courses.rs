//! What of a history belongs to some reports: the courses of their cases, on their kind of hosts.

use super::{CaseTrend, History, Options, Trend, TrendError, trend};
use crate::compare::Axis;
use crate::model::Report;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The courses of the cases of some reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Courses {
    /// The file that the history stands in.
    pub file: PathBuf,
    /// How many of its lines cannot be used.
    pub faults: usize,
    /// The cases, in the order of the reports.
    pub trend: Trend,
    /// The reports' runs, by id, whether the history has them or not.
    pub runs: BTreeSet<String>,
    /// How many of these runs are in no course.
    pub runs_outside: usize,
    /// The reports' cases of which the history has nothing.
    pub unknown: Vec<String>,
    /// How many courses of the same cases are not here: on other hosts, in other rows or arms.
    pub elsewhere: usize,
}

/// A case of the reports, wherever it ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    case: String,
    definition_hash: String,
    row: Option<String>,
    arm: Option<String>,
}

impl Wanted {
    fn is_measured_by(&self, case: &str, definition_hash: &str) -> bool {
        self.case == case && self.definition_hash == definition_hash
    }

    /// How well a course fits: with runs of the reports, else of the same row and arm, else of a
    /// case that was run by hand in one of the two places; `None` if it is another's.
    fn fit(&self, course: &CaseTrend, runs: &BTreeSet<String>) -> Option<u8> {
        if !self.is_measured_by(&course.case, &course.definition_hash) {
            return None;
        }
        match (&self.row, &self.arm) == (&course.row, &course.arm) {
            true if holds_one_of(course, runs) => Some(2),
            true => Some(1),
            false => (self.row.is_none() || course.row.is_none()).then_some(0),
        }
    }
}

fn run_ids(course: &CaseTrend) -> impl Iterator<Item = &String> {
    let left_out = course.left_out.iter().map(|left_out| &left_out.run);
    course.runs.iter().map(|run| &run.run).chain(left_out)
}

fn holds_one_of(course: &CaseTrend, runs: &BTreeSet<String>) -> bool {
    run_ids(course).any(|run| runs.contains(run))
}

/// Follows the cases of some reports through a history that was read from `file`. `axes` are
/// fields under study beside the commit.
///
/// # Errors
/// [`TrendError::NoSuchAxis`].
pub fn courses(
    mut history: History,
    file: PathBuf,
    reports: &[Report],
    axes: Vec<Axis>,
) -> Result<Courses, TrendError> {
    let wanted = wanted(reports);
    let known: BTreeSet<(&str, &str)> = wanted
        .iter()
        .map(|wanted| (wanted.case.as_str(), wanted.definition_hash.as_str()))
        .collect();
    history
        .entries
        .retain(|entry| known.contains(&(entry.case().as_str(), entry.definition_hash.as_str())));
    let options = Options {
        axes,
        ..Options::default()
    };
    let mut found = match trend(&history, &options) {
        Err(TrendError::Empty) => Trend {
            runs: 0,
            level: super::LEVEL,
            cases: Vec::new(),
        },
        found => found?,
    };
    let runs: BTreeSet<String> = reports.iter().map(|report| report.run.id.clone()).collect();
    let all = found.cases.len();
    let unknown = choose(&mut found.cases, &wanted, &runs);
    let inside: BTreeSet<&String> = found.cases.iter().flat_map(run_ids).collect();
    found.runs = inside.len();
    Ok(Courses {
        file,
        faults: history.faults.len(),
        runs_outside: runs.iter().filter(|run| !inside.contains(run)).count(),
        elsewhere: all - found.cases.len(),
        trend: found,
        runs,
        unknown,
    })
}

/// The reports' cases, each once, in the order of their suite or else of the reports.
fn wanted(reports: &[Report]) -> Vec<Wanted> {
    let mut in_order: Vec<&Report> = reports.iter().collect();
    in_order.sort_by_key(|report| {
        let session = report.run.session.as_ref();
        session.map_or(0, |session| session.position)
    });
    let mut seen = BTreeSet::new();
    let cases = in_order.into_iter().flat_map(|report| {
        let session = report.run.session.as_ref();
        report.cases.iter().map(move |case| Wanted {
            case: case.key(),
            definition_hash: case.benchmark.definition_hash.clone(),
            row: session.map(|session| session.row.clone()),
            arm: session.and_then(|session| session.arm.clone()),
        })
    });
    cases.filter(|case| seen.insert(case.clone())).collect()
}

/// Keeps the courses that fit best, in the order of what is wanted; gives back what nothing fits.
fn choose(courses: &mut Vec<CaseTrend>, wanted: &[Wanted], runs: &BTreeSet<String>) -> Vec<String> {
    let mut places: Vec<Option<usize>> = vec![None; courses.len()];
    let mut unknown = Vec::new();
    for (place, wanted) in wanted.iter().enumerate() {
        let fits: Vec<Option<u8>> = courses.iter().map(|one| wanted.fit(one, runs)).collect();
        let best = fits.iter().flatten().max();
        for (at, _) in fits
            .iter()
            .enumerate()
            .filter(|(_, fit)| best.is_some() && fit.as_ref() == best)
        {
            places[at].get_or_insert(place);
        }
        if best.is_none() && !unknown.contains(&wanted.case) {
            unknown.push(wanted.case.clone());
        }
    }
    let mut kept: Vec<(usize, CaseTrend)> = std::mem::take(courses)
        .into_iter()
        .zip(places)
        .filter_map(|(course, place)| Some((place?, course)))
        .collect();
    kept.sort_by_key(|(place, _)| *place);
    *courses = kept.into_iter().map(|(_, course)| course).collect();
    unknown
}
