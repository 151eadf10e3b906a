//! The table of kernels, in the order in which users see them. It drives the subcommands, their
//! options and help, `list`, and the tests that run every kernel.

mod collectives;
mod network;
mod one_sided;
mod point_to_point;

use crate::driver::Driver;
use crate::kernel::{Kernel, Results, Timer};
use crate::method::Setting;
use crate::spec::{Choice, Point};
use reports::model::{Measurement, Metric, Work};

/// One kernel: its name, its definition, its defaults and its code.
///
/// It is not a [`reports::case::Entry`], because all ranks take part in a kernel and only rank 0
/// gets a measurement.
pub struct Row {
    /// As typed: `latency`.
    pub name: &'static str,
    /// One line for `list` and `--help`.
    pub summary: &'static str,
    /// What exactly is timed and whose definition it follows. Its hash decides whether results
    /// may be compared, so a change of the measured loop is a change of this text.
    pub definition: &'static str,
    /// The sizes of its messages, if it has any.
    pub sizes: Option<SizeRule>,
    /// Default iterations, `N:LARGE`.
    pub iterations: &'static str,
    /// Default warm-up, `N:LARGE`.
    pub warmup: &'static str,
    /// Default window, if it has one.
    pub window: Option<&'static str>,
    /// Its parameters beyond these.
    pub choices: &'static [Choice],
    /// Whether its iterations begin with all ranks together, in a way of the user's choice.
    pub synchronised: bool,
    /// The fewest ranks it runs with.
    pub min_ranks: usize,
    /// Whether it pairs all ranks, so that there must be an even number of them.
    pub pairs: bool,
    /// How it is measured.
    pub kind: Kind,
}

/// How a kernel is measured.
pub enum Kind {
    /// Iterations that the driver repeats and whose times it merges.
    Timed(Timed),
    /// A schedule of the kernel's own: all ranks run it, rank 0 returns the measurement.
    Whole(Whole),
}

/// A kernel with a schedule of its own.
pub struct Whole {
    /// Bytes that each rank keeps for it at a point.
    pub memory: fn(&Point) -> u64,
    /// Runs it on one rank. Faults are made everybody's by `world().agree`.
    pub run: for<'w> fn(&mut Driver<'w>, &Row, &Point) -> anyhow::Result<Option<Measurement>>,
}

/// A kernel of iterations that the driver times and repeats.
pub struct Timed {
    /// Who times.
    pub timer: Timer,
    /// Message buffers that each rank holds.
    pub buffers: u64,
    /// The name of its distribution.
    pub histogram: &'static str,
    /// What its checks were, as the end of "12 ...".
    pub verified: &'static str,
    /// Makes one rank's part.
    pub build: for<'w> fn(Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>>,
    /// The numbers of a point.
    pub metrics: fn(&Results, &Point) -> Vec<Metric>,
    /// The work that so many iterations do.
    pub work: fn(u64, &Point) -> Work,
}

/// Which message sizes a kernel takes. Where it has a choice `type`, sizes are multiples of the
/// element's, and defaults begin at one element.
#[derive(Debug, Clone, Copy)]
pub struct SizeRule {
    /// Default sweep, `MIN:MAX`.
    pub default: &'static str,
    /// Where the default sweep begins, for `-m MAX`, in bytes.
    pub default_min: usize,
    /// The smallest size it takes, in bytes.
    pub least: usize,
}

/// A kind of kernels.
pub struct Family {
    /// The heading in `list`.
    pub title: &'static str,
    /// Its kernels.
    pub rows: &'static [Row],
    /// Says why a kernel of the family cannot run at a point, which is known on all ranks alike.
    pub check: fn(&Row, &Point) -> Result<(), String>,
}

/// The heading of kernels of all ranks.
pub const COLLECTIVE: &str = "Collective";

/// All kernels.
pub const FAMILIES: &[Family] = &[
    Family {
        title: "Point-to-point",
        rows: point_to_point::ROWS,
        check: |_, _| Ok(()),
    },
    Family {
        title: COLLECTIVE,
        rows: collectives::ROWS,
        check: collectives::check,
    },
    Family {
        title: "One-sided",
        rows: one_sided::ROWS,
        check: |_, _| Ok(()),
    },
    Family {
        title: "Network and nodes",
        rows: network::ROWS,
        check: |_, _| Ok(()),
    },
];

/// All kernels, in the order of the families.
pub fn all() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().flat_map(|family| family.rows)
}

/// The kernel of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    all().find(|row| row.name == name)
}

/// Refuses a point that the kernel cannot run at in a world of this size.
///
/// # Errors
/// What is wrong and what to do.
pub fn check(row: &Row, point: &Point) -> Result<(), String> {
    let mut families = FAMILIES.iter();
    let of_row = families.find(|family| family.rows.iter().any(|other| other.name == row.name));
    of_row.map_or(Ok(()), |family| (family.check)(row, point))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, Sizes};

    #[test]
    fn names_are_unique_and_defaults_are_well_formed() {
        for row in all() {
            assert_eq!(all().filter(|other| other.name == row.name).count(), 1);
            assert!(spec::iterations(row.iterations).is_ok(), "{}", row.name);
            assert!(row.warmup.parse::<spec::Repeats>().is_ok(), "{}", row.name);
            assert!(row.window.is_none_or(|window| spec::window(window).is_ok()));
            if let Some(rule) = row.sizes {
                let sizes: Sizes = rule.default.parse().expect(row.name);
                assert_eq!(sizes.min, Some(rule.default_min));
            }
            for choice in row.choices {
                match choice {
                    Choice::Words {
                        values, default, ..
                    } => assert!(default.split(',').all(|word| values.contains(&word))),
                    Choice::Count {
                        least,
                        most,
                        default,
                        ..
                    } => assert!((*least..=*most).contains(&default.parse().expect(row.name))),
                    Choice::Text { default, check, .. } => assert_eq!(check(default), Ok(())),
                    Choice::Flag { .. } => {}
                }
            }
        }
    }
}
