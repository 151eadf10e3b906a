//! Lists of `--bs`, `--iodepth` and `--numjobs`: each combination is a point of a curve, and a case
//! of one report.

use super::args::{BlockArgs, FileArgs, IoArgs, LoadArgs, NullArgs};
use super::pattern::{PatternArgs, divisor};
use super::{Spec, usage};
use crate::engine;
use crate::target::SharedScratch;

/// More points than this are a day's work, or a typing error.
const MAX_POINTS: usize = 256;

/// The combinations of all lists, each with lists of one; depth varies fastest, as in the table that
/// shows them.
fn combinations(
    pattern: &PatternArgs,
    load: &LoadArgs,
) -> anyhow::Result<Vec<(PatternArgs, LoadArgs)>> {
    for (option, doubled) in [
        ("--bs", doubled(&pattern.bs)),
        ("--iodepth", doubled(&load.iodepth)),
        ("--numjobs", doubled(&load.numjobs)),
    ] {
        if let Some(value) = doubled {
            return Err(usage(format!("{option}: {value} stands there twice")));
        }
    }
    let depths: Vec<Vec<usize>> = match load.iodepth.as_slice() {
        [] => vec![Vec::new()],
        several => several.iter().map(|depth| vec![*depth]).collect(),
    };
    let mut points = Vec::new();
    for &bs in &pattern.bs {
        for &numjobs in &load.numjobs {
            for iodepth in depths.iter().cloned() {
                let mut point = (pattern.clone(), load.clone());
                point.0.bs = vec![bs];
                point.1.numjobs = vec![numjobs];
                point.1.iodepth = iodepth;
                points.push(point);
            }
        }
    }
    match points.len() {
        0..=MAX_POINTS => Ok(points),
        count => Err(usage(format!(
            "--bs, --iodepth and --numjobs have {count} combinations; a curve has at most \
             {MAX_POINTS} points"
        ))),
    }
}

fn doubled<T: PartialEq + ToString>(values: &[T]) -> Option<String> {
    let twice = |(at, value): (usize, &T)| values[..at].contains(value).then(|| value.to_string());
    values.iter().enumerate().find_map(twice)
}

/// What all points have in common: where random numbers begin, and, if nothing is written, the
/// scratch file. Its units must divide the blocks of every point.
fn joined(mut specs: Vec<Spec>) -> Vec<Spec> {
    let Some(first) = specs.first() else {
        return specs;
    };
    let (seed, shared) = (first.seed, SharedScratch::place());
    let unit = specs.iter().map(|spec| spec.pattern.align());
    let unit = unit.fold(0, divisor);
    let several = specs.len() > 1;
    for spec in &mut specs {
        spec.seed = seed;
        if several && !spec.pattern.rw.writes() {
            spec.pattern.shared_unit = Some(unit);
            spec.shared = shared.clone();
        }
    }
    specs
}

impl IoArgs {
    fn points(&self) -> anyhow::Result<Vec<Self>> {
        let mut points = combinations(&self.pattern, &self.load)?;
        if let (_, Some(_)) = self.engine.choose(engine::probe_uring) {
            // What takes its place has one depth, which need not be measured as often as asked.
            points.retain(|(_, load)| load.iodepth.first() == self.load.iodepth.first());
            for (_, load) in &mut points {
                load.iodepth.clone_from(&self.load.iodepth);
            }
        }
        let point = |(pattern, load)| Self {
            pattern,
            load,
            ..self.clone()
        };
        Ok(points.into_iter().map(point).collect())
    }
}

impl FileArgs {
    /// One specification for each combination of the lists.
    ///
    /// # Errors
    /// As for [`Self::spec`].
    pub fn specs(&self) -> anyhow::Result<Vec<Spec>> {
        let points = self.io.points()?.into_iter();
        let point = |io| {
            let args = Self { io, ..self.clone() };
            args.spec()
        };
        Ok(joined(points.map(point).collect::<Result<_, _>>()?))
    }
}

impl BlockArgs {
    /// One specification for each combination of the lists.
    ///
    /// # Errors
    /// As for [`Self::spec`].
    pub fn specs(&self) -> anyhow::Result<Vec<Spec>> {
        let points = self.io.points()?.into_iter();
        let point = |io| {
            let args = Self { io, ..self.clone() };
            args.spec()
        };
        Ok(joined(points.map(point).collect::<Result<_, _>>()?))
    }
}

impl NullArgs {
    /// One specification for each combination of the lists.
    ///
    /// # Errors
    /// As for [`Self::spec`].
    pub fn specs(&self) -> anyhow::Result<Vec<Spec>> {
        let points = combinations(&self.pattern, &self.load)?.into_iter();
        let point = |(pattern, load)| {
            let args = Self {
                pattern,
                load,
                ..self.clone()
            };
            args.spec()
        };
        Ok(joined(points.map(point).collect::<Result<_, _>>()?))
    }
}
