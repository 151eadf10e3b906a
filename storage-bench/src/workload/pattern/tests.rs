use super::*;
use crate::spec::{Distribution, Rw, Split};
use std::collections::BTreeMap;

fn spec(rw: Rw) -> PatternSpec {
    PatternSpec {
        rw,
        ..PatternSpec::default()
    }
}

fn pattern(rw: Rw, rwmixread: Option<u32>, units: Range<u64>, seed: u64) -> Pattern {
    let spec = PatternSpec {
        rwmixread,
        ..spec(rw)
    };
    Pattern::new(&spec, units, seed)
}

/// Draws, each operation ending before the next.
fn drawn(pattern: &mut Pattern, count: usize) -> Vec<Request> {
    let next = |_| {
        let request = pattern.draw().expect("nothing is under way");
        pattern.ended(request);
        request
    };
    (0..count).map(next).collect()
}

fn units(pattern: &mut Pattern, count: usize) -> Vec<u64> {
    let drawn = (0..count).filter_map(|_| pattern.draw());
    drawn.map(|request| request.unit).collect()
}

/// Sizes in percent, as `--bssplit` has them.
fn shares(sizes: &[(u64, u32)]) -> Vec<Share> {
    let share = |&(bytes, percent)| Share { bytes, percent };
    sizes.iter().map(share).collect()
}

#[test]
fn sequential_passes_wrap_inside_their_slice() {
    let mut pattern = pattern(Rw::Read, None, 4..7, 1);
    assert_eq!(units(&mut pattern, 5), [4, 5, 6, 4, 5]);
}

#[test]
fn a_block_is_never_written_twice_at_a_time() {
    for rw in [Rw::Write, Rw::Randwrite, Rw::Trim, Rw::Randtrim] {
        let mut pattern = pattern(rw, None, 10..14, 1);
        let mut held = units(&mut pattern, 4);
        assert_eq!(pattern.draw(), None, "{rw:?}");
        held.sort_unstable();
        assert_eq!(held, [10, 11, 12, 13], "{rw:?}");
        let request = Request {
            kind: if rw.trims() { Kind::Trim } else { Kind::Write },
            unit: 10,
            units: 1,
        };
        pattern.ended(request);
        assert_eq!(pattern.draw(), Some(request), "{rw:?}");
    }
}

#[test]
fn writes_in_flight_never_overlap_whatever_the_pattern() {
    let split = Split {
        reads: shares(&[(4096, 100)]),
        writes: shares(&[(4096, 40), (8192, 30), (16384, 30)]),
    };
    let with = |rw, change: &dyn Fn(&mut PatternSpec)| {
        let mut spec = spec(rw);
        change(&mut spec);
        spec
    };
    let specs = [
        with(Rw::Randwrite, &|spec| spec.bssplit = Some(split.clone())),
        with(Rw::Write, &|spec| spec.bssplit = Some(split.clone())),
        with(Rw::Randrw, &|spec| spec.bssplit = Some(split.clone())),
        with(Rw::Randtrimwrite, &|spec| {
            spec.bssplit = Some(split.clone())
        }),
        with(Rw::Randwrite, &|spec| spec.randommap = true),
        with(Rw::Randwrite, &|spec| spec.rw_sequence = Some(3)),
        with(Rw::Write, &|spec| spec.rw_skip = Some(8192)),
        with(Rw::Randwrite, &|spec| {
            spec.random_distribution = Distribution::Zipf(1.2);
        }),
        with(Rw::Randtrim, &|spec| {
            spec.random_distribution = Distribution::Pareto(0.2);
        }),
    ];
    for spec in specs {
        let mut pattern = Pattern::new(&spec, 5..69, 9);
        let mut rng = fastrand::Rng::with_seed(2);
        let (mut flying, mut done) = (Vec::<Request>::new(), 0);
        while done < 5_000 {
            match pattern.draw() {
                Some(request) => {
                    let end = request.unit + u64::from(request.units);
                    assert!(request.unit >= 5 && end <= 69, "{spec:?}: {request:?}");
                    let clash = |other: &&Request| {
                        let apart = other.unit >= end
                            || other.unit + u64::from(other.units) <= request.unit;
                        !apart && other.kind != Kind::Read && request.kind != Kind::Read
                    };
                    assert_eq!(flying.iter().find(clash), None, "{spec:?}: {request:?}");
                    flying.push(request);
                }
                None => assert!(!flying.is_empty(), "{spec:?} waits for nothing"),
            }
            while flying.len() > rng.usize(0..24) {
                pattern.ended(flying.swap_remove(rng.usize(0..flying.len())));
                done += 1;
            }
        }
    }
}

#[test]
fn random_choices_are_even_and_reproducible() {
    let draw = |seed| {
        let mut pattern = pattern(Rw::Randread, None, 0..16, seed);
        units(&mut pattern, 16_000)
    };
    let blocks = draw(3);
    assert_eq!(blocks, draw(3));
    assert_ne!(blocks, draw(4));
    let mut counts = [0u32; 16];
    blocks.iter().for_each(|&block| counts[block as usize] += 1);
    assert!(
        counts.iter().all(|&count| (800..1200).contains(&count)),
        "{counts:?}"
    );
}

#[test]
fn a_mix_keeps_its_share() {
    let mut pattern = pattern(Rw::Randrw, Some(70), 0..1_000_000, 3);
    let reads = (0..10_000)
        .filter_map(|_| pattern.draw())
        .filter(|request| request.kind == Kind::Read)
        .count();
    assert!((6700..7300).contains(&reads), "{reads}");
}

#[test]
fn sizes_keep_their_shares_and_both_directions_their_own() {
    let spec = PatternSpec {
        bssplit: Some(Split {
            reads: shares(&[(4096, 75), (16384, 25)]),
            writes: shares(&[(8192, 100)]),
        }),
        rwmixread: Some(50),
        ..spec(Rw::Randrw)
    };
    let mut pattern = Pattern::new(&spec, 0..1000, 3);
    let mut counts: BTreeMap<(bool, u32), u32> = BTreeMap::new();
    for request in drawn(&mut pattern, 20_000) {
        *counts
            .entry((request.kind == Kind::Read, request.units))
            .or_default() += 1;
    }
    let kinds: Vec<_> = counts.keys().copied().collect();
    assert_eq!(kinds, [(false, 2), (true, 1), (true, 4)]);
    let (small, large) = (counts[&(true, 1)], counts[&(true, 4)]);
    let share = f64::from(small) / f64::from(small + large);
    assert!((0.73..0.77).contains(&share), "{share}");
}

#[test]
fn a_random_map_visits_each_block_once_per_pass() {
    for rw in [Rw::Randread, Rw::Randwrite, Rw::Randrw] {
        let spec = PatternSpec {
            randommap: true,
            ..spec(rw)
        };
        let mut pattern = Pattern::new(&spec, 100..355, 3);
        let pass = |pattern: &mut Pattern| {
            let requests = drawn(pattern, 255);
            requests
                .iter()
                .map(|request| request.unit)
                .collect::<Vec<_>>()
        };
        let (first, second) = (pass(&mut pattern), pass(&mut pattern));
        assert_ne!(first, second, "{rw:?}");
        for mut pass in [first, second] {
            pass.sort_unstable();
            assert!(pass.into_iter().eq(100..355), "{rw:?}");
        }
    }
}

#[test]
fn strides_skip_and_runs_go_on() {
    let stride = PatternSpec {
        rw_skip: Some(8192),
        ..spec(Rw::Read)
    };
    let mut pattern = Pattern::new(&stride, 0..8, 1);
    assert_eq!(units(&mut pattern, 6), [0, 3, 6, 0, 3, 6]);
    let runs = PatternSpec {
        rw_sequence: Some(4),
        ..spec(Rw::Randread)
    };
    let mut pattern = Pattern::new(&runs, 0..1000, 1);
    let places = units(&mut pattern, 4000);
    let follows = places
        .windows(2)
        .filter(|pair| (pair[0] + 1) % 1000 == pair[1]);
    // Three of four follow the one before; of the others one in a thousand by chance.
    assert!((3000..3020).contains(&follows.count()));
}

#[test]
fn skewed_draws_reach_the_blocks_with_the_share_of_their_rank() {
    let spec = PatternSpec {
        random_distribution: Distribution::Zipf(1.2),
        ..spec(Rw::Randwrite)
    };
    let mut pattern = Pattern::new(&spec, 50..1050, 3);
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for request in drawn(&mut pattern, 50_000) {
        *counts.entry(request.unit).or_default() += 1;
    }
    let mut by_count: Vec<u32> = counts.into_values().collect();
    by_count.sort_unstable_by(|a, b| b.cmp(a));
    let weights: Vec<f64> = (1..=1000).map(|k| f64::from(k).powf(-1.2)).collect();
    let all: f64 = weights.iter().sum();
    for top in [1, 10, 100] {
        let law = weights[..top].iter().sum::<f64>() / all;
        let found = f64::from(by_count[..top].iter().sum::<u32>()) / 50_000.0;
        assert!(
            (found - law).abs() < 0.015,
            "the top {top}: {found} for {law}"
        );
    }
}

#[test]
fn blocks_are_trimmed_before_they_are_written() {
    for rw in [Rw::Trimwrite, Rw::Randtrimwrite] {
        let mut pattern = pattern(rw, None, 0..64, 1);
        let trims: Vec<Request> = (0..4).map(|_| pattern.draw().expect("room")).collect();
        assert!(trims.iter().all(|trim| trim.kind == Kind::Trim));
        pattern.ended(trims[2]);
        let write = pattern.draw().expect("a write");
        assert_eq!((write.kind, write.unit), (Kind::Write, trims[2].unit));
        assert_eq!(pattern.draw().expect("room").kind, Kind::Trim);
    }
}

#[test]
fn a_flush_follows_so_many_writes_and_no_reads() {
    let flushed = |rw, kind| {
        let mut spec = spec(rw);
        match kind {
            Kind::Fsync => spec.fsync = Some(3),
            _ => spec.fdatasync = Some(3),
        }
        drawn(&mut Pattern::new(&spec, 0..64, 1), 4000)
    };
    let kinds: Vec<Kind> = flushed(Rw::Write, Kind::Fsync)[..8]
        .iter()
        .map(|request| request.kind)
        .collect();
    let (write, fsync) = (Kind::Write, Kind::Fsync);
    assert_eq!(
        kinds,
        [write, write, write, fsync, write, write, write, fsync]
    );
    for rw in [Rw::Randrw, Rw::Trimwrite] {
        let requests = flushed(rw, Kind::Fdatasync);
        let count = |kind| {
            requests
                .iter()
                .filter(|request| request.kind == kind)
                .count()
        };
        // The last one may be due and not drawn yet.
        let due = count(Kind::Write) / 3;
        assert!(due.abs_diff(count(Kind::Fdatasync)) <= 1, "{rw:?}");
        assert!(
            requests
                .iter()
                .all(|r| (r.units == 0) == (r.kind == Kind::Fdatasync))
        );
    }
}

#[test]
fn points_that_share_a_file_keep_their_own_alignment() {
    let spec = PatternSpec {
        bs: 16384,
        shared_unit: Some(4096),
        ..spec(Rw::Randread)
    };
    let mut pattern = Pattern::new(&spec, 0..64, 1);
    let requests = drawn(&mut pattern, 1000);
    assert!(
        requests
            .iter()
            .all(|r| r.unit % 4 == 0 && r.units == 4 && r.unit <= 60)
    );
    assert!(
        (0..64)
            .step_by(4)
            .all(|unit| requests.iter().any(|r| r.unit == unit))
    );
}
