//! From a suite to an order of runs: rows and arms become units, units take turns.

use super::{Arm, Need, Row, RowArm, Server, Suite};
use crate::import::Format;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

/// How the name of a second, identical run of the first arm ends.
pub const AGAIN: &str = "again";

/// What is repeated: one command of one row under one arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The row's name.
    pub row: String,
    /// The arm's name, if the row has several.
    pub arm: Option<String>,
    /// Whether this is the first arm's second, identical run, for the noise floor.
    pub again: bool,
    /// The command line, matrix values filled in.
    pub command: Vec<String>,
    /// The server it needs.
    pub server: Option<Server>,
    /// Whose output it prints, if it writes no report of its own.
    pub import: Option<Format>,
    /// Whether it writes a report on each node.
    pub per_node: bool,
    /// What this machine must have for it.
    pub needs: Option<Need>,
    /// The metric by which the row's arms are set against each other, if the suite names one.
    pub metric: Option<String>,
    /// Environment variables: the suite's, the row's and the arm's.
    pub env: BTreeMap<String, String>,
    /// Where the suite's own programs are found, if not beside `reports`.
    pub bin: Option<PathBuf>,
    /// After how long a run is killed.
    pub timeout: Duration,
    /// How often it runs at most.
    pub repetitions: u32,
    /// How its files' names begin: no other unit's do, and no character is special to a file system.
    pub file_stem: String,
}

impl Unit {
    /// Row and arm in one word.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.arm {
            Some(arm) => format!("{}-{arm}", self.row),
            None => self.row.clone(),
        }
    }

    /// The arm's name, of a second run that of the first.
    pub(super) fn base_arm(&self) -> Option<&str> {
        let arm = self.arm.as_deref()?;
        match arm.strip_suffix(AGAIN).filter(|_| self.again) {
            None => Some(arm),
            Some(base) => base.strip_suffix('-'),
        }
    }

    /// The second run of this unit.
    fn again(&self) -> Self {
        let arm = match &self.arm {
            Some(arm) => format!("{arm}-{AGAIN}"),
            None => AGAIN.to_owned(),
        };
        Self {
            arm: Some(arm),
            again: true,
            ..self.clone()
        }
    }
}

/// One run of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// The unit's index.
    pub unit: usize,
    /// Which repetition, counted from 1: the round.
    pub repetition: u32,
}

/// A suite's units and the order in which they run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The units; those of one row stand together.
    pub units: Vec<Unit>,
    /// The runs, round by round.
    pub order: Vec<Scheduled>,
}

impl Plan {
    /// Draws the order with a seed: equal seeds give equal orders.
    #[must_use]
    pub fn new(suite: &Suite, seed: u64) -> Self {
        let mut units: Vec<Unit> = suite
            .rows
            .iter()
            .flat_map(|row| units_of(suite, row))
            .collect();
        name_files(&mut units);
        let order = order(&units, seed);
        Self { units, order }
    }

    /// What a run's partners share: the row and the round. `None` where a row has a single arm.
    #[must_use]
    pub fn pair_id(&self, run: Scheduled) -> Option<String> {
        let unit = &self.units[run.unit];
        // The units of a row stand together.
        let neighbours = [run.unit.wrapping_sub(1), run.unit + 1];
        let mut neighbours = neighbours.iter().filter_map(|&at| self.units.get(at));
        let has_partner = neighbours.any(|other| other.row == unit.row);
        has_partner.then(|| format!("{}-{}", unit.row, run.repetition))
    }
}

/// Gives every unit a name for its files: other characters than `check_name` allows and those that
/// join arms become `_`, and a name that is then long or taken gets a number.
fn name_files(units: &mut [Unit]) {
    const LONGEST: usize = 120;
    let mut taken = HashSet::new();
    for unit in units {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,=".contains(c);
        let name = unit.name();
        let name = name.chars().map(|c| if plain(c) { c } else { '_' });
        let name: String = name.take(LONGEST).collect();
        let mut numbered = name.clone();
        let mut number = 2;
        while !taken.insert(numbered.clone()) {
            numbered = format!("{name}~{number}");
            number += 1;
        }
        unit.file_stem = numbered;
    }
}

/// Whether the row's commands, servers, environment variables or binaries have `{name}`.
pub(super) fn uses(suite: &Suite, row: &Row, name: &str) -> bool {
    let place = format!("{{{name}}}");
    let servers = row.arms.iter().filter_map(|arm| arm.server.as_ref());
    let servers = servers
        .chain(&row.server)
        .flat_map(|server| &server.command);
    let arms = suite.arms.iter();
    let bins = arms
        .clone()
        .filter_map(|arm| arm.bin.as_ref())
        .chain(&suite.bin);
    let texts = row.command.iter().chain(servers);
    let texts = texts.chain(row.arms.iter().flat_map(|arm| &arm.command));
    let texts = texts.chain(arms.clone().flat_map(|arm| &arm.args));
    let texts = texts.chain(suite.env.values()).chain(row.env.values());
    let mut texts = texts.chain(arms.flat_map(|arm| arm.env.values()));
    texts.any(|text| text.contains(&place))
        || bins
            .into_iter()
            .any(|bin| bin.to_string_lossy().contains(&place))
}

fn units_of(suite: &Suite, row: &Row) -> Vec<Unit> {
    // A row without arms of its own is a single one without a name.
    let single = RowArm {
        name: String::new(),
        command: row.command.clone(),
        server: row.server.clone(),
        import: row.import,
    };
    let own = if row.arms.is_empty() {
        std::slice::from_ref(&single)
    } else {
        &row.arms
    };
    let neutral = [Arm::default()];
    let arms = if suite.arms.is_empty() {
        &neutral[..]
    } else {
        &suite.arms
    };
    let used = suite
        .matrix
        .iter()
        .filter(|(name, _)| uses(suite, row, name));
    let combinations = product(used);
    let mut units = Vec::new();
    for own in own {
        for arm in arms {
            for values in &combinations {
                units.push(unit(suite, row, own, arm, values));
            }
        }
    }
    if suite.noise_floor {
        units.insert(1, units[0].again());
    }
    units
}

/// One command under one arm and one combination of the matrix.
fn unit(suite: &Suite, row: &Row, own: &RowArm, arm: &Arm, values: &[(&str, &str)]) -> Unit {
    let fill = |text: &str| fill(text, values);
    let settings = values.iter().map(|(name, value)| format!("{name}={value}"));
    let names = [own.name.clone(), arm.name.clone()];
    let names: Vec<String> = names
        .into_iter()
        .filter(|name| !name.is_empty())
        .chain(settings)
        .collect();
    let env = suite.env.iter().chain(&row.env).chain(&arm.env);
    Unit {
        row: row.name.clone(),
        arm: Some(names.join(",")).filter(|name| !name.is_empty()),
        again: false,
        command: own
            .command
            .iter()
            .chain(&arm.args)
            .map(|word| fill(word))
            .collect(),
        server: own.server.as_ref().map(|server| Server {
            command: server.command.iter().map(|word| fill(word)).collect(),
            port: server.port,
        }),
        import: own.import,
        per_node: row.per_node,
        needs: row.needs,
        metric: row.metric.clone(),
        env: env
            .map(|(name, value)| (name.clone(), fill(value)))
            .collect(),
        bin: arm.bin.as_ref().or(suite.bin.as_ref()).map(|bin| {
            // A folder whose name is not text has no place to fill in.
            bin.to_str()
                .map_or_else(|| bin.clone(), |bin| fill(bin).into())
        }),
        timeout: Duration::from_secs_f64(row.timeout_s.unwrap_or(suite.timeout_s)),
        repetitions: row.repetitions.unwrap_or(suite.repetitions),
        file_stem: String::new(),
    }
}

/// Every combination of the names' values; one empty combination of no name.
pub(crate) fn product<'a>(
    matrix: impl Iterator<Item = (&'a String, &'a Vec<String>)>,
) -> Vec<Vec<(&'a str, &'a str)>> {
    matrix.fold(
        vec![Vec::new()],
        |combinations: Vec<Vec<(&str, &str)>>, (name, values)| {
            combinations
                .iter()
                .flat_map(|chosen| {
                    values.iter().map(move |value| {
                        let mut more = chosen.clone();
                        more.push((name.as_str(), value.as_str()));
                        more
                    })
                })
                .collect()
        },
    )
}

fn fill(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

/// Rounds of all units. Odd rounds are drawn, each even round is its predecessor reversed, so
/// that over two rounds every unit has the same mean position: a linear drift cancels. Units of a
/// row stay together, so that the runs of a pair are neighbours in time.
fn order(units: &[Unit], seed: u64) -> Vec<Scheduled> {
    let mut random = fastrand::Rng::with_seed(seed);
    let rounds = units.iter().map(|unit| unit.repetitions).max().unwrap_or(0);
    let mut drawn: Vec<usize> = Vec::new();
    let mut order = Vec::new();
    for repetition in 1..=rounds {
        if repetition % 2 == 1 {
            drawn = draw(units, &mut random);
        } else {
            drawn.reverse();
        }
        let due = drawn
            .iter()
            .filter(|&&unit| repetition <= units[unit].repetitions);
        order.extend(due.map(|&unit| Scheduled { unit, repetition }));
    }
    order
}

/// The units in a drawn order: rows shuffled, and the arms inside each row.
fn draw(units: &[Unit], random: &mut fastrand::Rng) -> Vec<usize> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        match rows.last_mut() {
            Some(row) if units[row[0]].row == unit.row => row.push(index),
            _ => rows.push(vec![index]),
        }
    }
    random.shuffle(&mut rows);
    rows.iter_mut().for_each(|row| random.shuffle(row));
    rows.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, seed: u64) -> Plan {
        Plan::new(&Suite::parse(text).expect("it is well-formed"), seed)
    }

    const PEERS: &str = r#"
        name = "peers"
        repetitions = 4
        [[row]]
        name = "stream"
        [[row.arm]]
        name = "ours"
        command = ["net-bench", "tcp_stream"]
        [[row.arm]]
        name = "iperf3"
        command = ["iperf3", "-c", "127.0.0.1"]
        server = { command = ["iperf3", "-s"], port = 5201 }
        [[row]]
        name = "null"
        command = ["net-bench", "null"]
        repetitions = 1
    "#;

    #[test]
    fn arms_of_a_row_are_neighbours_and_every_second_round_is_reversed() {
        let plan = plan(PEERS, 7);
        assert_eq!(plan.units.len(), 3);
        assert_eq!(plan.order.len(), 2 * 4 + 1);
        let round = |number| -> Vec<usize> {
            let of_round = plan.order.iter().filter(|run| run.repetition == number);
            of_round
                .map(|run| run.unit)
                .filter(|&unit| unit < 2)
                .collect()
        };
        for first in [1, 3] {
            let reversed: Vec<usize> = round(first + 1).into_iter().rev().collect();
            assert_eq!(round(first), reversed);
        }
        let third = plan
            .order
            .iter()
            .find(|run| run.unit == 1 && run.repetition == 3);
        let pair = plan.pair_id(*third.expect("it is scheduled"));
        assert_eq!(pair.as_deref(), Some("stream-3"));
        assert_eq!(
            plan.pair_id(Scheduled {
                unit: 2,
                repetition: 1
            }),
            None
        );
    }

    #[test]
    fn an_order_belongs_to_its_seed() {
        assert_eq!(plan(PEERS, 3), plan(PEERS, 3));
        assert!((0..20).any(|seed| plan(PEERS, seed).order != plan(PEERS, 3).order));
    }

    #[test]
    fn a_matrix_and_arms_multiply() {
        let text = r#"
            name = "matrix"
            repetitions = 1
            [matrix]
            engine = ["uring", "psync"]
            bs = ["4k", "64k"]
            [[arm]]
            name = "old"
            bin = "/opt/old"
            [[arm]]
            name = "new"
            args = ["--direct", "true"]
            env = { ENGINE = "{engine}" }
            [[row]]
            name = "read"
            command = ["storage-bench", "file", "--engine", "{engine}", "--bs", "{bs}"]
        "#;
        let plan = plan(text, 1);
        assert_eq!(plan.units.len(), 8);
        let last = plan.units.last().expect("there are eight");
        assert_eq!(last.arm.as_deref(), Some("new,bs=64k,engine=psync"));
        assert_eq!(
            last.command.join(" "),
            "storage-bench file --engine psync --bs 64k --direct true"
        );
        assert_eq!(last.env.get("ENGINE").map(String::as_str), Some("psync"));
        assert_eq!(plan.units[0].bin, Some(PathBuf::from("/opt/old")));
    }

    #[test]
    fn a_matrix_reaches_binaries_and_only_rows_that_use_it() {
        let text = r#"
            name = "builds"
            bin = "{build}/bin"
            repetitions = 1
            [matrix]
            build = ["/opt/a", "/opt_a", "/opt/b"]
            size = ["8", "16"]
            [[row]]
            name = "rr"
            command = ["net-bench", "tcp_rr", "-l", "{size}"]
            [[row]]
            name = "null"
            command = ["net-bench", "null"]
        "#;
        let plan = plan(text, 1);
        assert_eq!(plan.units.len(), 3 * 2 + 3);
        let null = &plan.units[6];
        assert_eq!(null.arm.as_deref(), Some("build=/opt/a"));
        assert_eq!(null.bin, Some(PathBuf::from("/opt/a/bin")));
        let stems: Vec<&str> = plan.units[6..]
            .iter()
            .map(|u| u.file_stem.as_str())
            .collect();
        assert_eq!(
            stems,
            [
                "null-build=_opt_a",
                "null-build=_opt_a~2",
                "null-build=_opt_b"
            ]
        );
    }

    #[test]
    fn a_noise_floor_runs_the_first_arm_twice() {
        let text = format!("noise_floor = true\n{PEERS}");
        let plan = plan(&text, 3);
        let arms: Vec<_> = plan.units.iter().map(|unit| unit.arm.as_deref()).collect();
        assert_eq!(
            arms,
            [
                Some("ours"),
                Some("ours-again"),
                Some("iperf3"),
                None,
                Some("again")
            ]
        );
        assert_eq!(plan.units[0].command, plan.units[1].command);
        assert_eq!(plan.units[1].base_arm(), Some("ours"));
        assert_eq!(plan.units[4].base_arm(), None);
        let run = Scheduled {
            unit: 3,
            repetition: 1,
        };
        assert_eq!(plan.pair_id(run).as_deref(), Some("null-1"));
    }
}
