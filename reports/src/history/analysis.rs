//! One metric's runs searched: where the environment divides them, where their level changes, by
//! how much, and what else changed there.

use super::line::Entry;
use super::surroundings::{Surroundings, counts};
use super::{Change, ChangeKind, LEVEL, MIN_SEGMENT, Point, Segment};
use crate::compare::environment::differences_between;
use crate::compare::fields::Fields;
use crate::compare::{Class, Difference, Effect, Scale, Verdict};
use crate::model::Metric;
use crate::stats::changes::{self, Search};
use crate::stats::{self, Runs};
use std::collections::{BTreeMap, BTreeSet};

/// A number, and the result and class of environment that it comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub point: Point,
    pub entry: &'a Entry,
    pub class: usize,
}

/// Where the runs are divided.
struct Cut {
    /// The index of the first point after it.
    at: usize,
    /// Of a change of level.
    p_value: Option<f64>,
}

/// Divides the runs of one metric, which are in the order of time.
pub(super) fn follow(
    points: &[Seen<'_>],
    metric: &Metric,
    surroundings: &Surroundings<'_>,
) -> (Vec<Segment>, Vec<Change>) {
    let cuts = cuts(points);
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut.at));
    let ends = cuts.iter().map(|cut| cut.at).chain([points.len()]);
    let segments: Vec<Segment> = starts
        .zip(ends)
        .filter_map(|(start, end)| {
            let values: Vec<f64> = points[start..end]
                .iter()
                .map(|seen| seen.point.value)
                .collect();
            let median = stats::median(&values)?;
            Some(Segment { start, end, median })
        })
        .collect();
    let changes = cuts
        .iter()
        .zip(segments.windows(2))
        .map(|(cut, around)| {
            let sides = [around[0], around[1]].map(|s| &points[s.start..s.end]);
            change(cut, points, sides, metric, surroundings)
        })
        .collect();
    (segments, changes)
}

/// The environment divides first; what it leaves whole is searched.
fn cuts(points: &[Seen<'_>]) -> Vec<Cut> {
    let search = Search {
        min_segment: MIN_SEGMENT,
        level: LEVEL,
    };
    let mut cuts = Vec::new();
    let mut start = 0;
    for stretch in points.chunk_by(|a, b| a.class == b.class) {
        if start > 0 {
            let p_value = None;
            cuts.push(Cut { at: start, p_value });
        }
        cuts.extend(
            changes::find(&scaled(stretch), search)
                .into_iter()
                .map(|change| Cut {
                    at: start + change.index,
                    p_value: Some(change.p_value),
                }),
        );
        start += stretch.len();
    }
    cuts
}

/// The numbers on the scale on which they are judged: their logarithms where all have one, so that
/// a change is a factor and noise that grows with the level does not look like one.
fn scaled(points: &[Seen<'_>]) -> Vec<f64> {
    let values = points.iter().map(|seen| seen.point.value);
    let positive = values.clone().all(|value| value > 0.0);
    values
        .map(|value| if positive { value.ln() } else { value })
        .collect()
}

fn change(
    cut: &Cut,
    points: &[Seen<'_>],
    sides: [&[Seen<'_>]; 2],
    metric: &Metric,
    surroundings: &Surroundings<'_>,
) -> Change {
    let effect = effect(sides);
    let observed = effect.map_or(Verdict::Insufficient, |e| e.reading(metric.direction));
    let (kind, place) = match cut.p_value {
        Some(_) => (ChangeKind::Level, place(cut.at, sides, effect)),
        None => (ChangeKind::Environment, [cut.at; 2]),
    };
    let mut differs = differing(points, place, kind, surroundings);
    differs.extend(differing_facts(sides, surroundings));
    differs.extend(other_hosts(sides));
    let confounded = differs.iter().any(counts);
    let first = points[cut.at].entry;
    Change {
        kind,
        point: cut.at,
        place,
        run: first.run.clone(),
        since: first.started.clone(),
        effect,
        p_value: cut.p_value,
        observed,
        verdict: match observed {
            Verdict::Better | Verdict::Worse | Verdict::Differs if confounded => {
                Verdict::Confounded
            }
            observed => observed,
        },
        differs,
        note: note(kind, sides, effect),
    }
}

fn effect(sides: [&[Seen<'_>]; 2]) -> Option<Effect> {
    let [a, b] = sides.map(|side| {
        Runs::new(
            side.iter()
                .map(|seen| (seen.entry.run.as_str(), seen.point.value)),
        )
    });
    // Each run has one finite number, so both are runs.
    Effect::of_groups(&a.ok()?, &b.ok()?)
}

/// The first and the last point that may be the first after the change. The place of a shift δ in
/// noise of variance σ² lies within ⌊11 σ²/δ²⌋ + 1 points of its estimate with a confidence of 95 %
/// (Bai 1997, section 3, for equal variances on both sides).
fn place(at: usize, sides: [&[Seen<'_>]; 2], effect: Option<Effect>) -> [usize; 2] {
    let [before, after] = sides;
    let [first, last] = [at + 1 - before.len(), at + after.len() - 1];
    let positive = effect.is_some_and(|effect| effect.scale == Scale::Ratio);
    let squares = sides.map(|side| {
        let value = |seen: &Seen<'_>| match positive {
            true => seen.point.value.ln(),
            false => seen.point.value,
        };
        let mean = side.iter().map(value).sum::<f64>() / side.len() as f64;
        side.iter()
            .map(|seen| (value(seen) - mean).powi(2))
            .sum::<f64>()
    });
    let freedom = (before.len() + after.len()).saturating_sub(2).max(1);
    let variance = (squares[0] + squares[1]) / freedom as f64;
    let shift = effect.map_or(0.0, |effect| match effect.scale {
        Scale::Ratio => effect.value.ln(),
        Scale::Difference => effect.value,
    });
    // No shift at all gives infinity, which the conversion saturates.
    let half = ((11.0 * variance / shift.powi(2)).floor() as usize).saturating_add(1);
    [
        at.saturating_sub(half).max(first),
        at.saturating_add(half).min(last),
    ]
}

/// What differs from run to run within the place of a change: of the environment only what counts
/// or is under study.
fn differing(
    points: &[Seen<'_>],
    place: [usize; 2],
    kind: ChangeKind,
    surroundings: &Surroundings<'_>,
) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for at in place[0]..=place[1] {
        let (before, after) = (&points[at - 1], &points[at]);
        let mut differences = surroundings.differences(before.entry, after.entry);
        if kind == ChangeKind::Environment && !differences.iter().any(counts) {
            // Each is like what stands for its class, and what stands for the classes differs.
            let [a, b] = [before, after].map(|seen| surroundings.of_class(seen.class));
            differences.extend(surroundings.differences(a, b));
        }
        for difference in differences {
            if difference.class == Class::NotCounted {
                continue;
            }
            match found
                .iter_mut()
                .find(|known| known.field == difference.field)
            {
                Some(known) => known.b.extend(difference.b),
                None => found.push(difference),
            }
        }
    }
    found
}

/// What was really used, where it had one value before and has another since.
fn differing_facts(sides: [&[Seen<'_>]; 2], surroundings: &Surroundings<'_>) -> Vec<Difference> {
    let [mut a, mut b] = sides.map(|side| {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (field, value) in side.iter().flat_map(|seen| &seen.entry.facts) {
            values.entry(field).or_default().insert(value);
        }
        values
    });
    let several: Vec<&str> = a
        .iter()
        .chain(&b)
        .filter(|(_, v)| v.len() > 1)
        .map(|(f, _)| *f)
        .collect();
    for field in several {
        a.remove(field);
        b.remove(field);
    }
    let [a, b] = [a, b].map(|values| -> Fields {
        let single = values.into_iter().flat_map(|(field, values)| {
            values
                .into_iter()
                .map(move |value| (field.to_owned(), value.to_owned()))
        });
        single.collect()
    });
    let mut found = differences_between(&a, &b, surroundings.axes());
    found.retain(|difference| difference.class != Class::NotCounted);
    found
}

/// Hosts are mentioned if none of those before is among those since.
fn other_hosts(sides: [&[Seen<'_>]; 2]) -> Option<Difference> {
    let [a, b] = sides.map(|side| -> BTreeSet<String> {
        side.iter()
            .map(|seen| seen.entry.hosts.join(" / "))
            .collect()
    });
    a.is_disjoint(&b).then(|| Difference {
        field: "hosts".to_owned(),
        class: Class::NotCounted,
        a: a.into_iter().collect(),
        b: b.into_iter().collect(),
        why: Some("a name makes no machine faster, but each machine is its own".to_owned()),
    })
}

/// Runs of one session share its hour and its machine, so a session alone proves little.
fn note(kind: ChangeKind, sides: [&[Seen<'_>]; 2], effect: Option<Effect>) -> Option<String> {
    if effect.is_none() {
        let [a, b] = sides.map(<[Seen<'_>]>::len);
        return Some(format!("{a} and {b} runs are too few for an interval"));
    }
    let of_one_session = |side: &[Seen<'_>]| {
        let session = side[0].entry.session.as_ref().map(|session| &session.id);
        let same = |seen: &Seen<'_>| seen.entry.session.as_ref().map(|s| &s.id) == session;
        session.is_some() && side.iter().all(same)
    };
    let words = match sides.map(of_one_session) {
        [true, true] => "the runs before it are of one session, and those after it of another",
        [true, false] => "all runs before it are of one session",
        [false, true] => "all runs after it are of one session",
        [false, false] => return None,
    };
    // A changed environment is doubt enough.
    (kind == ChangeKind::Level).then(|| words.to_owned())
}
