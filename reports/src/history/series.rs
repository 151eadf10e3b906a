//! Which results belong together: the same case by the same definition, in the same row and arm,
//! on the same kind of hosts.
//!
//! The kind of hosts is their number and their instance type, or outside of a cloud their
//! processor. Everything else of an environment may change in the course of one history. Where
//! environments take turns instead (a fleet of two kernels), a history that split at every turn
//! would say nothing: each environment then has a history of its own.

use super::analysis::{self, Seen};
use super::line::{Entry, State, time};
use super::near::near;
use super::surroundings::Surroundings;
use super::{CaseTrend, History, LEVEL, MetricTrend, Point, RunPoint, Trend};
use crate::compare::{Axis, LeftOut};
use crate::model::{Fact, Metric};
use glob::Pattern;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};

/// What of a history is shown.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The cases: by id, by id without its program, by id and parameters, or by row.
    pub case: Option<Pattern>,
    /// The metrics: by name, or by name and aggregation. Without it the headlines.
    pub metric: Option<Pattern>,
    /// Every metric, not the headlines alone.
    pub all_metrics: bool,
    /// The first moment that counts.
    pub since: Option<Timestamp>,
    /// Fields under study beside the commit: they split nothing and are named beside changes.
    pub axes: Vec<Axis>,
}

/// Why nothing can be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrendError {
    /// The history has no result.
    #[error("the history holds no result")]
    Empty,
    /// Every run is older.
    #[error("no run is from {since} or later: the latest is from {latest}")]
    AllOlder {
        /// The first moment that counts.
        since: Timestamp,
        /// When the latest run started.
        latest: String,
    },
    /// No case is named like this.
    #[error("no case is named {pattern:?}; near: {near}")]
    NoSuchCase {
        /// What was asked for.
        pattern: String,
        /// Names that are there.
        near: String,
    },
    /// No metric is named like this.
    #[error("no metric is named {pattern:?}; near: {near}")]
    NoSuchMetric {
        /// What was asked for.
        pattern: String,
        /// Names that are there.
        near: String,
    },
    /// No run has the declared field.
    #[error("--axis {axis}: no run has such a field; `reports env --json` shows the names")]
    NoSuchAxis {
        /// The axis.
        axis: String,
    },
}

/// Follows every case through the history.
///
/// # Errors
/// [`TrendError`], if there is nothing to show.
pub fn trend(history: &History, options: &Options) -> Result<Trend, TrendError> {
    let entries = selected(history, options)?;
    let mut runs = BTreeSet::new();
    let mut surroundings = Surroundings::new(history, &options.axes)?;
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for entry in entries {
        runs.insert(entry.run.as_str());
        let hosts = surroundings.kind_of_hosts(entry);
        let session = entry.session.as_ref();
        let row = session.map(|session| session.row.as_str());
        let arm = session.and_then(|session| session.arm.as_deref());
        let key = (row, arm, hosts, entry.case(), &entry.definition_hash);
        let place = *places.entry(key.clone()).or_insert(groups.len());
        if place == groups.len() {
            let (row, arm, hosts, case, _) = key;
            groups.push(Group {
                row,
                arm,
                hosts,
                case,
                environment: Vec::new(),
                runs: Vec::new(),
            });
        }
        let class = surroundings.class(entry);
        groups[place].runs.push((entry, class));
    }
    let groups = groups
        .into_iter()
        .flat_map(|group| group.apart(&surroundings));
    let cases = groups.map(|group| group.follow(&surroundings, options));
    let shown = |case: &CaseTrend| !case.metrics.is_empty() || case.runs.is_empty();
    let cases: Vec<CaseTrend> = cases.filter(shown).collect();
    if let Some(pattern) = &options.metric
        && cases.iter().all(|case| case.metrics.is_empty())
    {
        return Err(no_such_metric(history, pattern));
    }
    Ok(Trend {
        runs: runs.len(),
        level: LEVEL,
        cases,
    })
}

/// The results that are asked for, in the order of time.
fn selected<'a>(history: &'a History, options: &Options) -> Result<Vec<&'a Entry>, TrendError> {
    let mut entries: Vec<(Timestamp, &Entry)> = history
        .entries
        .iter()
        // A line whose time cannot be read never becomes an entry.
        .filter_map(|entry| Some((time(&entry.started).ok()?, entry)))
        .collect();
    entries.sort_by(|(a, x), (b, y)| (a, &x.run).cmp(&(b, &y.run)));
    let Some((_, latest)) = entries.last().copied() else {
        return Err(TrendError::Empty);
    };
    if let Some(since) = options.since {
        entries.retain(|(time, _)| *time >= since);
        if entries.is_empty() {
            let latest = latest.started.clone();
            return Err(TrendError::AllOlder { since, latest });
        }
    }
    if let Some(pattern) = &options.case {
        let ids: BTreeSet<&str> = entries.iter().map(|(_, entry)| entry.id.as_str()).collect();
        entries.retain(|(_, entry)| is_named(entry, pattern));
        if entries.is_empty() {
            return Err(TrendError::NoSuchCase {
                pattern: pattern.to_string(),
                near: near(pattern.as_str(), ids).join(", "),
            });
        }
    }
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn is_named(entry: &Entry, pattern: &Pattern) -> bool {
    let name = entry.id.split_once('/').map_or("", |(_, name)| name);
    let row = entry.session.as_ref().map_or("", |session| &session.row);
    let short = [entry.id.as_str(), name, row];
    short.into_iter().any(|name| pattern.matches(name)) || pattern.matches(&entry.case())
}

fn no_such_metric(history: &History, pattern: &Pattern) -> TrendError {
    let metrics = history.entries.iter().flat_map(|entry| &entry.metrics);
    let names: BTreeSet<String> = metrics.map(Metric::key).collect();
    TrendError::NoSuchMetric {
        pattern: pattern.to_string(),
        near: near(pattern.as_str(), names.iter().map(String::as_str)).join(", "),
    }
}

/// The results of one case that belong together, in the order of time, with their environments'
/// classes.
struct Group<'a> {
    row: Option<&'a str>,
    arm: Option<&'a str>,
    hosts: String,
    case: String,
    environment: Vec<String>,
    runs: Vec<(&'a Entry, usize)>,
}

impl<'a> Group<'a> {
    /// One history, or one for each environment if they take turns: on average each comes back
    /// more than once.
    fn apart(self, surroundings: &Surroundings<'_>) -> Vec<Self> {
        let mut seen = BTreeSet::new();
        let of_runs = self.runs.iter().map(|(_, class)| *class);
        let classes: Vec<usize> = of_runs.filter(|class| seen.insert(*class)).collect();
        let turns = self.runs.windows(2).filter(|pair| pair[0].1 != pair[1].1);
        if turns.count() < 2 * classes.len() {
            return vec![self];
        }
        let telling = surroundings.telling(&classes);
        let of_class = |(class, environment): (&usize, Vec<String>)| Self {
            environment,
            runs: self
                .runs
                .iter()
                .copied()
                .filter(|run| run.1 == *class)
                .collect(),
            hosts: self.hosts.clone(),
            case: self.case.clone(),
            ..self
        };
        classes.iter().zip(telling).map(of_class).collect()
    }

    fn follow(self, surroundings: &Surroundings<'_>, options: &Options) -> CaseTrend {
        // A group is made when its first run is put into it.
        let first = self.runs[0].0;
        let mut trend = CaseTrend {
            case: self.case,
            id: first.id.clone(),
            params: first.params.clone(),
            definition_hash: first.definition_hash.clone(),
            row: self.row.map(str::to_owned),
            arm: self.arm.map(str::to_owned),
            hosts: self.hosts,
            environment: self.environment,
            runs: Vec::new(),
            left_out: Vec::new(),
            metrics: Vec::new(),
        };
        let mut counting = Vec::new();
        for (entry, class) in self.runs {
            match left_out(entry, &trend.case) {
                Some(left_out) => trend.left_out.push(left_out),
                None => {
                    trend.runs.push(run_point(entry));
                    counting.push((entry, class));
                }
            }
        }
        trend.metrics = metrics(&counting, options)
            .into_iter()
            .map(|(metric, points)| {
                let (segments, changes) = analysis::follow(&points, metric, surroundings);
                let points: Vec<_> = points.iter().map(|seen| seen.point).collect();
                MetricTrend {
                    title: metric.key(),
                    name: metric.name.clone(),
                    aggregation: metric.aggregation,
                    compat: metric.compat.clone(),
                    unit: metric.unit,
                    direction: metric.direction,
                    missing: counting.len() - points.len(),
                    points,
                    segments,
                    changes,
                }
            })
            .collect();
        trend
    }
}

/// Why a result does not count, if it does not.
fn left_out(entry: &Entry, case: &str) -> Option<LeftOut> {
    let what = match entry.state {
        State::Valid | State::Degraded => return None,
        State::Invalid => "invalid",
        State::Skipped => "skipped",
        State::Failed => "failed",
    };
    Some(LeftOut {
        run: entry.run.clone(),
        case: case.to_owned(),
        why: format!("{what}: {}", entry.reasons.join("; ")),
    })
}

fn run_point(entry: &Entry) -> RunPoint {
    let commit = entry.program.get("program.commit");
    RunPoint {
        run: entry.run.clone(),
        started: entry.started.clone(),
        session: entry.session.as_ref().map(|session| session.id.clone()),
        commit: commit.cloned().unwrap_or_default(),
        hosts: entry.hosts.clone(),
        degraded: match entry.state {
            State::Degraded => entry.reasons.clone(),
            _ => Vec::new(),
        },
    }
}

/// The metrics that are asked for, in the order in which runs first have them, with the points of
/// each. A number in another unit is another metric.
fn metrics<'a>(runs: &[(&'a Entry, usize)], options: &Options) -> Vec<(&'a Metric, Vec<Seen<'a>>)> {
    let mut found: Vec<(&Metric, bool, Vec<Seen<'_>>)> = Vec::new();
    for (run, (entry, class)) in runs.iter().enumerate() {
        for metric in &entry.metrics {
            let same = |(other, ..): &&mut (&Metric, bool, Vec<Seen<'_>>)| {
                (&other.name, other.aggregation, &other.compat, other.unit)
                    == (
                        &metric.name,
                        metric.aggregation,
                        &metric.compat,
                        metric.unit,
                    )
            };
            let place = match found.iter_mut().find(same) {
                Some(place) => place,
                None => {
                    found.push((metric, false, Vec::new()));
                    // It was pushed just now.
                    found.last_mut().expect("there is a last one")
                }
            };
            place.1 |= metric.headline;
            let twice = place.2.last().is_some_and(|last| last.point.run == run);
            if let (Fact::Known(value), false) = (&metric.value, twice) {
                let point = Point { run, value: *value };
                place.2.push(Seen {
                    point,
                    entry,
                    class: *class,
                });
            }
        }
    }
    let has_headline = found.iter().any(|(_, headline, _)| *headline);
    let wanted = |metric: &Metric, headline: bool| match &options.metric {
        Some(pattern) => pattern.matches(&metric.name) || pattern.matches(&metric.key()),
        None => options.all_metrics || headline || !has_headline,
    };
    let shown = found
        .into_iter()
        .filter(|(metric, headline, _)| wanted(metric, *headline));
    shown.map(|(metric, _, points)| (metric, points)).collect()
}
