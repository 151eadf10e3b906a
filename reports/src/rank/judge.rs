//! Cases judged in two steps: every pair of groups is tested, and when all p values are adjusted
//! together, places and verdicts follow.

use super::cases::{self, Matched};
use super::contest::{Contest, Entrant, Order};
use super::cost::{self, Cost};
use super::groups::{Field, Found};
use super::limits;
use super::{Blocked, GroupValues, Options, PerPrice, RankedCase, RankedMetric, Standing};
use crate::compare::{MIN_RUNS, Verdict};
use crate::model::{Direction, Fact, Measurement, Metric, Outcome, Severity, Unit};
use crate::stats::{NotRuns, Runs, median, median_interval};
use std::collections::{BTreeMap, BTreeSet};

/// What all cases share, and what is noted along the way.
pub(super) struct Judge<'o> {
    names: &'o [String],
    options: &'o Options,
    pub blocked: Vec<Blocked>,
    /// Runs left out, by group, case and kind of reason: the first one's words, and how many.
    pub left_out: BTreeMap<[String; 3], (String, usize)>,
}

/// A case whose pairs are tested and not yet judged.
pub(super) struct Round<'a> {
    case: RankedCase,
    metrics: Vec<Entered<'a>>,
}

/// A metric likewise.
struct Entered<'a> {
    title: String,
    unit: Unit,
    direction: Direction,
    samples: Vec<Sample<'a>>,
    contest: Contest,
    per_price: Option<Fact<(String, Vec<Sample<'a>>, Contest)>>,
}

/// A valid run of a case.
#[derive(Debug, Clone, Copy)]
pub(super) struct Valid<'a> {
    pub found: Found<'a>,
    pub measurement: &'a Measurement,
}

/// One group's numbers of a metric.
#[derive(Clone)]
struct Sample<'a> {
    group: usize,
    runs: Result<Runs, NotRuns>,
    degraded: usize,
    left_out: usize,
    /// Why runs lack the number.
    missing: Option<String>,
    valid: Vec<Valid<'a>>,
    cost: Option<Fact<f64>>,
}

impl Round<'_> {
    /// The p values of all its pairs, in the order in which they are concluded.
    pub(super) fn p_values(&self) -> Vec<f64> {
        let metrics = self.metrics.iter();
        metrics
            .flat_map(|metric| {
                let per_price = metric.per_price.as_ref().and_then(Fact::known);
                let per_price = per_price.map(|(_, _, contest)| contest.p_values());
                let contest = metric.contest.p_values();
                contest.iter().chain(per_price.unwrap_or_default()).copied()
            })
            .collect()
    }
}

impl<'o> Judge<'o> {
    pub(super) fn new(names: &'o [String], options: &'o Options) -> Self {
        Self {
            names,
            options,
            blocked: Vec::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// Enters a case's groups into a contest per metric.
    pub(super) fn enter<'a>(&mut self, matched: &Matched<'a>, field: &Field) -> Round<'a> {
        let present: BTreeSet<usize> = matched.found.iter().map(|one| one.group).collect();
        let absent = (0..self.names.len()).filter(|group| !present.contains(group));
        let case = RankedCase {
            case: matched.label.clone(),
            nodes: matched.found[0].report.hosts.len(),
            absent: absent.map(|group| self.names[group].clone()).collect(),
            confounders: super::fact_confounders(self.names, &matched.found, field),
            metrics: Vec::new(),
        };
        let mut groups: BTreeMap<usize, Vec<Valid<'a>>> =
            present.iter().map(|group| (*group, Vec::new())).collect();
        let mut invalid: BTreeMap<usize, usize> = BTreeMap::new();
        for one in &matched.found {
            match valid(one) {
                Ok(run) => groups.entry(one.group).or_default().push(run),
                Err((kind, why)) => {
                    *invalid.entry(one.group).or_default() += 1;
                    let key = [self.names[one.group].clone(), matched.label.clone(), kind];
                    self.left_out.entry(key).or_insert((why, 0)).1 += 1;
                }
            }
        }
        let wanted = self.wanted(&groups);
        let mut metrics = Vec::new();
        for metric in wanted {
            if !self.is_sound(metric, &groups, &matched.label) {
                continue;
            }
            metrics.push(self.enter_metric(metric, &groups, &invalid));
        }
        Round { case, metrics }
    }

    /// The metrics to rank, each once, in the order of the first run that has it.
    fn wanted<'a>(&self, groups: &BTreeMap<usize, Vec<Valid<'a>>>) -> Vec<&'a Metric> {
        let metrics = || {
            let runs = groups.values().flatten();
            runs.flat_map(|run| &run.measurement.metrics)
        };
        let asked = &self.options.metrics;
        let has_headline = metrics().any(|metric| metric.headline);
        let is_wanted = |metric: &Metric| match asked.is_empty() {
            true => metric.headline || !has_headline,
            false => asked
                .iter()
                .any(|name| *name == metric.name || *name == metric.key()),
        };
        let mut seen = BTreeSet::new();
        metrics()
            .filter(|metric| is_wanted(metric) && seen.insert(metric.key()))
            .collect()
    }

    /// Whether the metric has one unit and a better and a worse; what it lacks is noted.
    fn is_sound(
        &mut self,
        metric: &Metric,
        groups: &BTreeMap<usize, Vec<Valid<'_>>>,
        case: &str,
    ) -> bool {
        let all: Vec<Found<'_>> = groups.values().flatten().map(|run| run.found).collect();
        let values = |value: fn(&Metric) -> String| -> Vec<GroupValues> {
            let having = all
                .iter()
                .filter(|found| same(found, metric).is_some())
                .copied();
            let having: Vec<Found<'_>> = having.collect();
            cases::values_by_group(&having, self.names, |found| {
                same(found, metric).map(value).unwrap_or_default()
            })
        };
        let units = values(|metric| json_word(&metric.unit));
        let directions = values(|metric| json_word(&metric.direction));
        let key = metric.key();
        let mut blocked = |field: String, values: Vec<GroupValues>| {
            let case = case.to_owned();
            self.blocked.push(Blocked {
                case,
                field,
                values,
            });
            false
        };
        if !cases::is_one(&units) {
            return blocked(format!("unit of {key}"), units);
        }
        if !cases::is_one(&directions) {
            return blocked(format!("direction of {key}"), directions);
        }
        match metric.direction {
            // Of the headlines none is neutral; asked for by name, it is said.
            Direction::Neutral if self.options.metrics.is_empty() => false,
            Direction::Neutral => blocked(
                format!("direction of {key}: neither way is better"),
                directions,
            ),
            _ => true,
        }
    }

    fn enter_metric<'a>(
        &self,
        metric: &'a Metric,
        groups: &BTreeMap<usize, Vec<Valid<'a>>>,
        invalid: &BTreeMap<usize, usize>,
    ) -> Entered<'a> {
        let samples: Vec<Sample<'a>> = groups
            .iter()
            .map(|(group, runs)| {
                let invalid = invalid.get(group).copied().unwrap_or_default();
                self.sample(*group, runs, metric, invalid)
            })
            .collect();
        Entered {
            title: metric.key(),
            unit: metric.unit,
            direction: metric.direction,
            contest: contest(&samples, metric.direction),
            per_price: self.per_price(metric, &samples),
            samples,
        }
    }

    fn sample<'a>(
        &self,
        group: usize,
        runs: &[Valid<'a>],
        metric: &Metric,
        invalid: usize,
    ) -> Sample<'a> {
        let mut numbers = Vec::new();
        let mut sample = Sample {
            group,
            runs: Runs::new([]),
            degraded: 0,
            left_out: invalid,
            missing: None,
            valid: runs.to_vec(),
            cost: self
                .options
                .prices
                .as_ref()
                .map(|prices| cost::of(prices, runs)),
        };
        for run in runs {
            match same(&run.found, metric).map(|metric| &metric.value) {
                Some(Fact::Known(value)) => {
                    numbers.push((run.found.report.run.id.as_str(), *value));
                    let worst = run.measurement.validity.worst();
                    sample.degraded += usize::from(worst == Some(Severity::Degraded));
                }
                Some(Fact::Unavailable { unavailable }) => {
                    sample.left_out += 1;
                    sample.missing = Some(unavailable.clone());
                }
                None => {
                    sample.left_out += 1;
                    sample.missing = Some("the run has no such metric".to_owned());
                }
            }
        }
        sample.runs = Runs::new(numbers);
        sample
    }

    /// The contest of what one unit of money buys, if there are prices and the metric is a rate.
    fn per_price<'a>(
        &self,
        metric: &Metric,
        samples: &[Sample<'a>],
    ) -> Option<Fact<(String, Vec<Sample<'a>>, Contest)>> {
        let prices = self.options.prices.as_ref()?;
        let unit = match cost::unit_per_price(metric, &prices.currency) {
            Ok(unit) => unit,
            Err(reason) => return Some(Fact::unavailable(reason)),
        };
        let samples: Vec<Sample<'a>> = samples
            .iter()
            .map(|sample| {
                let mut sample = sample.clone();
                match &sample.cost {
                    Some(Fact::Known(price)) => {
                        let bought = |value: f64| value * cost::SECONDS_PER_HOUR / price;
                        let ids = sample.valid.iter().filter_map(|run| {
                            let value = same(&run.found, metric)?.value.known()?;
                            Some((run.found.report.run.id.as_str(), bought(*value)))
                        });
                        sample.runs = Runs::new(ids);
                    }
                    Some(Fact::Unavailable { unavailable }) => {
                        sample.missing = Some(unavailable.clone());
                        sample.runs = Runs::new([]);
                    }
                    None => {}
                }
                sample
            })
            .collect();
        let contest = contest(&samples, metric.direction);
        Some(Fact::Known((unit, samples, contest)))
    }

    /// Judges a case; `adjusted` yields the adjusted p values in the order of [`Round::p_values`].
    pub(super) fn conclude(
        &self,
        round: Round<'_>,
        adjusted: &mut impl Iterator<Item = f64>,
    ) -> RankedCase {
        let mut case = round.case;
        for metric in round.metrics {
            let order = conclude(metric.contest, adjusted);
            let mut standings = self.standings(&metric.samples, &order);
            self.add_cost(&mut standings, &metric.samples, &order);
            for standing in &mut standings {
                standing.share = self.share(standing, &metric.samples, &metric.title, metric.unit);
            }
            let per_price = metric.per_price.map(|per_price| {
                per_price.map(|(unit, samples, contest)| PerPrice {
                    unit,
                    standings: self.standings(&samples, &conclude(contest, adjusted)),
                })
            });
            case.metrics.push(RankedMetric {
                metric: metric.title,
                unit: metric.unit,
                direction: metric.direction,
                standings,
                per_price,
            });
        }
        case
    }

    /// The groups in order, those with too few runs last.
    fn standings(&self, samples: &[Sample<'_>], order: &Order) -> Vec<Standing> {
        let baseline = self.options.baseline.as_ref();
        let named = |name: &String| {
            let mut entrants = order.entrants.iter();
            entrants.position(|entrant| self.names[entrant.group] == *name)
        };
        let reference = match baseline {
            Some(name) => named(name),
            None => (!order.entrants.is_empty()).then_some(0),
        };
        let mut standings = Vec::new();
        for (index, entrant) in order.entrants.iter().enumerate() {
            let Some(sample) = samples.iter().find(|sample| sample.group == entrant.group) else {
                continue;
            };
            let mut standing = self.unplaced(sample);
            (standing.reason, standing.verdict) = (None, None);
            standing.place = Some(order.place(index));
            standing.level_with_above = index > 0 && !order.is_better(index - 1, index);
            match reference {
                Some(reference) => {
                    if let Some(against) = order.against(index, reference) {
                        standing.to_reference = against.effect;
                        standing.p_value = Some(against.p_value);
                        standing.adjusted_p_value = Some(against.adjusted_p_value);
                        standing.detectable = against.detectable;
                        standing.verdict = Some(against.verdict);
                    }
                }
                None => standing.reason = Some("the baseline has too few runs here".to_owned()),
            }
            standings.push(standing);
        }
        let is_placed = |sample: &&Sample<'_>| {
            let mut entrants = order.entrants.iter();
            !entrants.any(|entrant| entrant.group == sample.group)
        };
        standings.extend(samples.iter().filter(is_placed).map(|s| self.unplaced(s)));
        standings
    }

    /// What is known of a group without the others.
    fn unplaced(&self, sample: &Sample<'_>) -> Standing {
        let values = sample.runs.as_ref().map(Runs::values).unwrap_or_default();
        let reason = match (&sample.runs, &sample.missing) {
            (Err(fault), _) => fault.to_string(),
            (Ok(_), Some(missing)) if values.is_empty() => missing.clone(),
            (Ok(_), missing) => {
                let why = missing.as_ref().map(|why| format!(" (others: {why})"));
                let (count, why) = (values.len(), why.unwrap_or_default());
                format!("{count} valid runs; it takes {MIN_RUNS}{why}")
            }
        };
        Standing {
            group: self.names[sample.group].clone(),
            place: None,
            level_with_above: false,
            runs: values.len(),
            degraded: sample.degraded,
            left_out: sample.left_out,
            median: median(values),
            interval: median_interval(values),
            to_reference: None,
            p_value: None,
            adjusted_p_value: None,
            detectable: None,
            verdict: Some(Verdict::Insufficient),
            reason: Some(reason),
            price_per_hour: None,
            front: None,
            share: None,
        }
    }

    fn add_cost(&self, standings: &mut [Standing], samples: &[Sample<'_>], order: &Order) {
        if self.options.prices.is_none() {
            return;
        }
        let price = |group: usize| {
            let sample = samples.iter().find(|sample| sample.group == group);
            sample.and_then(|sample| sample.cost.clone())
        };
        let costs: Vec<Cost> = order
            .entrants
            .iter()
            .map(|entrant| price(entrant.group).and_then(|price| price.known().copied()))
            .collect();
        let fronts = cost::fronts(order, &costs, self.names);
        for standing in standings {
            let group = self.names.iter().position(|name| *name == standing.group);
            let price = group.and_then(price);
            let entrant = |entrant: &Entrant| Some(entrant.group) == group;
            let index = order.entrants.iter().position(entrant);
            standing.front = Some(match (index, &price) {
                (_, Some(Fact::Unavailable { unavailable })) => Fact::unavailable(unavailable),
                (Some(index), _) => fronts[index].clone(),
                (None, _) => Fact::unavailable("it has too few runs"),
            });
            standing.price_per_hour = price;
        }
    }

    fn share(
        &self,
        standing: &Standing,
        samples: &[Sample<'_>],
        metric: &str,
        unit: Unit,
    ) -> Option<Fact<limits::Share>> {
        let types = self.options.instance_types.as_ref()?;
        let of_group = |sample: &&Sample<'_>| self.names[sample.group] == standing.group;
        let sample = samples.iter().find(of_group)?;
        let asked = limits::Asked {
            metric,
            unit,
            median: standing.median,
        };
        Some(limits::share(types, &sample.valid, &asked))
    }
}

/// Takes as many adjusted p values as the contest has pairs.
fn conclude(contest: Contest, adjusted: &mut impl Iterator<Item = f64>) -> Order {
    let count = contest.p_values().len();
    contest.conclude(adjusted.take(count).collect())
}

/// Enters the groups with enough runs.
fn contest(samples: &[Sample<'_>], direction: Direction) -> Contest {
    let entrants = samples.iter().filter_map(|sample| {
        let runs = sample.runs.as_ref().ok()?;
        let enough = runs.len() >= MIN_RUNS;
        enough.then(|| Entrant::new(sample.group, runs.clone()))?
    });
    Contest::new(entrants.collect(), direction)
}

/// The run if its numbers stand, else the kind of reason why not, and the reason.
fn valid<'a>(found: &Found<'a>) -> Result<Valid<'a>, (String, String)> {
    match &found.case.outcome {
        Outcome::Measured(measurement) => {
            let flags = &measurement.validity.flags;
            match flags.iter().find(|flag| flag.severity == Severity::Invalid) {
                None => Ok(Valid {
                    found: *found,
                    measurement,
                }),
                // Each run has evidence of its own; one example is enough.
                Some(flag) => Err((
                    flag.code.clone(),
                    format!("invalid: {}: {}", flag.code, flag.evidence),
                )),
            }
        }
        Outcome::Skipped { reason } => Err((reason.clone(), format!("skipped: {reason}"))),
        Outcome::Failed { error } => Err((error.clone(), format!("failed: {error}"))),
    }
}

/// The run's metric of the same name, aggregation and peer.
fn same<'a>(found: &Found<'a>, metric: &Metric) -> Option<&'a Metric> {
    let metrics = &found.case.outcome.measurement()?.metrics;
    metrics.iter().find(|other| {
        other.name == metric.name
            && other.aggregation == metric.aggregation
            && other.compat == metric.compat
    })
}

/// A unit or direction as reports spell it.
fn json_word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
