//! Curves and distributions in one line of text: a character per point, as high as its number.

use super::units::human;
use crate::model::Unit;
use hdrhistogram::Histogram;

/// One to eight eighths of a line's height.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same for terminals that show ASCII alone.
const ASCII_LEVELS: [char; 8] = ['.', ':', '-', '=', '+', '*', '#', '@'];
/// From this ratio of the largest to the smallest number on, the smaller ones show on a
/// logarithmic scale only.
const LOGARITHMIC_FROM: f64 = 8.0;

/// The character that stands for a level where blocks cannot be shown.
pub(super) fn ascii(block: char) -> Option<char> {
    let level = LEVELS.iter().position(|level| *level == block)?;
    Some(ASCII_LEVELS[level])
}

/// A curve, and whether its heights are logarithms.
pub(super) struct Curve {
    pub line: String,
    pub logarithmic: bool,
}

/// A character per number; a space where there is none. Heights start at zero, so that a steady
/// curve looks steady; where the numbers span magnitudes they are logarithms from the smallest on.
pub(super) fn curve(numbers: &[Option<f64>]) -> Curve {
    let known = || numbers.iter().flatten().copied();
    let smallest = known().fold(f64::INFINITY, f64::min);
    let largest = known().fold(0.0, f64::max);
    let logarithmic = smallest > 0.0 && largest / smallest >= LOGARITHMIC_FROM;
    let height = |number: f64| match logarithmic {
        true => (number / smallest).ln() / (largest / smallest).ln(),
        false => number / largest,
    };
    let line = numbers
        .iter()
        .map(|number| number.map_or(' ', |number| level(height(number))))
        .collect();
    Curve { line, logarithmic }
}

/// The block of a height between 0 and 1; what is above zero is seen.
fn level(height: f64) -> char {
    let eighths = (height * LEVELS.len() as f64).ceil();
    // A height that is no number (a curve of zeros) and a negative one are drawn as nothing.
    let index = (eighths as usize).clamp(1, LEVELS.len()) - 1;
    LEVELS[index]
}

/// The smallest and the largest of some numbers, once if they read the same.
pub(super) fn range(numbers: impl Iterator<Item = f64> + Clone, unit: Unit) -> Option<String> {
    let smallest = human(numbers.clone().reduce(f64::min)?, unit);
    let largest = human(numbers.reduce(f64::max)?, unit);
    Some(match smallest == largest {
        true => smallest,
        false => format!("{smallest} – {largest}"),
    })
}

/// How values are distributed between the smallest and the largest, in `width` steps of equal
/// ratio; a space where there is none.
pub(super) fn distribution(histogram: &Histogram<u64>, width: usize) -> String {
    let low = (histogram.min().max(1) as f64).ln();
    let high = (histogram.max().max(1) as f64).ln();
    let mut counts = vec![0u64; width];
    for step in histogram.iter_recorded() {
        let value = (step.value_iterated_to().max(1) as f64).ln();
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        // All values equal gives no number, which becomes the first step.
        let at = ((share * width as f64) as usize).min(width.saturating_sub(1));
        if let Some(count) = counts.get_mut(at) {
            *count += step.count_since_last_iteration();
        }
    }
    let largest = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let block = |count: &u64| match count {
        0 => ' ',
        count => level(*count as f64 / largest),
    };
    counts.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::new_histogram;

    #[test]
    fn heights_start_at_zero_or_are_logarithms() {
        let line = |numbers: &[f64]| {
            let numbers: Vec<_> = numbers.iter().copied().map(Some).collect();
            curve(&numbers).line
        };
        assert_eq!(line(&[99.0, 100.0, 98.0]), "███");
        assert_eq!(line(&[50.0, 100.0, 25.0]), "▄█▂");
        assert_eq!(line(&[1.0, 10.0, 100.0, 1000.0]), "▁▃▆█");
        assert_eq!(line(&[0.0, 0.0]), "▁▁", "zeros draw and do not panic");
        assert_eq!(line(&[]), "");
        let gap = curve(&[Some(1.0), None, Some(1000.0)]);
        assert!(gap.logarithmic && gap.line == "▁ █");
        assert!(!curve(&[Some(-1.0), Some(f64::MAX)]).logarithmic);
    }

    #[test]
    fn a_distribution_shows_its_modes() {
        let mut histogram = new_histogram();
        for (value, count) in [(100, 50), (1000, 100), (10_000, 1)] {
            histogram.record_n(value, count).expect("in bounds");
        }
        assert_eq!(distribution(&histogram, 9), "▄   █   ▁");
        let mut one = new_histogram();
        one.record(7).expect("in bounds");
        assert_eq!(distribution(&one, 3), "█  ");
        assert_eq!(distribution(&new_histogram(), 3), "   ");
    }
}
