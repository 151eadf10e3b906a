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
use super::{
    CaseTrend, Change, History, LEVEL, MIN_SEGMENT, MetricTrend, Point, RunPoint, Segment, Trend,
};
use crate::compare::{Axis, LeftOut};
use crate::model::{Fact, Metric};
use glob::Pattern;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
    let apart = groups
        .into_iter()
        .flat_map(|group| group.apart(&surroundings));
    let cases: Vec<_> = apart.map(|group| group.collect(options)).collect();
    let cases = follow(cases, &surroundings);
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

/// Searches every metric of every case.
fn follow(
    cases: Vec<(CaseTrend, Vec<Series<'_>>)>,
    surroundings: &Surroundings<'_>,
) -> Vec<CaseTrend> {
    let all: Vec<&Series<'_>> = cases.iter().flat_map(|(_, series)| series).collect();
    let mut found = in_parallel(&all, |series| {
        analysis::follow(&series.points, series.metric, surroundings)
    })
    .into_iter();
    let complete = |(mut case, series): (CaseTrend, Vec<Series<'_>>)| {
        let runs = case.runs.len();
        let metrics = series.into_iter().zip(found.by_ref());
        case.metrics = metrics
            .map(|(series, (segments, changes))| series.complete(runs, segments, changes))
            .collect();
        case
    };
    let cases = cases.into_iter().map(complete);
    // A case whose runs have none of the metrics asked for says nothing; one without a run does.
    cases
        .filter(|case| !case.metrics.is_empty() || case.runs.is_empty())
        .collect()
}

/// Applies `f` to each item, on all processors: searching long histories takes a while.
fn in_parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(at) =
            Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < items.len())
        {
            done.push((at, f(&items[at])));
        }
        done
    };
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(items.len());
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(found) => done.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
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
    /// more than once, and has enough runs to be searched.
    fn apart(self, surroundings: &Surroundings<'_>) -> Vec<Self> {
        let mut seen = BTreeSet::new();
        let of_runs = self.runs.iter().map(|(_, class)| *class);
        let classes: Vec<usize> = of_runs.filter(|class| seen.insert(*class)).collect();
        let turns = self.runs.windows(2).filter(|pair| pair[0].1 != pair[1].1);
        let come_back = turns.count() >= 2 * classes.len();
        let searchable = self.runs.len() >= 2 * MIN_SEGMENT * classes.len();
        if !come_back || !searchable {
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

    /// The case without its metrics, and those that are asked for.
    fn collect(self, options: &Options) -> (CaseTrend, Vec<Series<'a>>) {
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
        (trend, series(&counting, options))
    }
}

/// One metric over the runs of a case.
struct Series<'a> {
    metric: &'a Metric,
    headline: bool,
    points: Vec<Seen<'a>>,
}

impl Series<'_> {
    /// Whether a metric is this one: a number in another unit is another metric.
    fn is_of(&self, metric: &Metric) -> bool {
        let (a, b) = (self.metric, metric);
        (&a.name, a.aggregation, &a.compat, a.unit) == (&b.name, b.aggregation, &b.compat, b.unit)
    }

    fn complete(self, runs: usize, segments: Vec<Segment>, changes: Vec<Change>) -> MetricTrend {
        MetricTrend {
            title: self.metric.key(),
            name: self.metric.name.clone(),
            aggregation: self.metric.aggregation,
            compat: self.metric.compat.clone(),
            unit: self.metric.unit,
            direction: self.metric.direction,
            missing: runs - self.points.len(),
            points: self.points.iter().map(|seen| seen.point).collect(),
            segments,
            changes,
        }
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

/// The metrics that are asked for, in the order in which runs first have them.
fn series<'a>(runs: &[(&'a Entry, usize)], options: &Options) -> Vec<Series<'a>> {
    let mut found: Vec<Series<'_>> = Vec::new();
    for (run, (entry, class)) in runs.iter().enumerate() {
        for metric in &entry.metrics {
            let known = found.iter().position(|series| series.is_of(metric));
            let place = known.unwrap_or(found.len());
            if known.is_none() {
                found.push(Series {
                    metric,
                    headline: false,
                    points: Vec::new(),
                });
            }
            let series = &mut found[place];
            series.headline |= metric.headline;
            let twice = series
                .points
                .last()
                .is_some_and(|last| last.point.run == run);
            if let (Fact::Known(value), false) = (&metric.value, twice) {
                series.points.push(Seen {
                    point: Point { run, value: *value },
                    entry,
                    class: *class,
                });
            }
        }
    }
    let has_headline = found.iter().any(|series| series.headline);
    found.retain(|series| match &options.metric {
        Some(pattern) => {
            pattern.matches(&series.metric.name) || pattern.matches(&series.metric.key())
        }
        None => options.all_metrics || series.headline || !has_headline,
    });
    found
}
