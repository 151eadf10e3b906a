//! Suites: rows of commands, each repeated in fresh processes and interleaved.
//!
//! A run is a process. Caches, address layout and scheduling differ from process to process, and
//! only repeated processes show by how much; and since a machine drifts, the rows take turns
//! instead of being repeated one after another. A row may have arms, variants to be compared: those
//! run next to each other in every round, in an order that is drawn and then reversed (ABBA), so
//! that each round gives one pair and a drift weighs on all arms alike. The first arm is the
//! baseline: the others are set against it, and on request so is a second, identical run of itself,
//! which shows how far equal things differ. What is finished is on disk before the next run starts,
//! so an interrupted session can go on.

mod asked;
mod nodes;
mod plan;
mod process;
mod runner;
mod server;
mod session;
mod stopping;

pub use asked::Asked;
pub(crate) use plan::product;
pub use plan::{AGAIN, Plan, Scheduled, Unit};
pub(crate) use process::attempt;
pub use runner::{Progress, Ran, RunEvent, Verdict, run};
pub use session::{Recorded, Session, SessionError};
pub use stopping::{Stopped, is_narrow, width};

use crate::import::Format;
use clap::ValueEnum;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A suite with everything that one may hold.
pub const EXAMPLE: &str = include_str!("suite/example.toml");

/// A suite as its file describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The suite's name.
    pub name: String,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// How often each row runs, unless it says otherwise.
    #[serde(default = "default_repetitions")]
    pub repetitions: u32,
    /// After how many seconds a run is killed, unless its row says otherwise.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// After how many seconds no new round starts.
    pub budget_s: Option<f64>,
    /// A row needs no further rounds once its interval is narrower than this share: the interval of
    /// the ratio of every arm to the first, of a row without arms that of the median.
    pub stop_width: Option<f64>,
    /// Whether the first arm of each row also runs as a second, identical arm.
    #[serde(default)]
    pub noise_floor: bool,
    /// The folder in which the suite's own programs are found, instead of the one of `reports`.
    pub bin: Option<PathBuf>,
    /// The seed of the order; drawn and recorded if it is absent.
    pub seed: Option<u64>,
    /// Environment variables for every run.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variants of every row.
    #[serde(rename = "arm", default)]
    pub arms: Vec<Arm>,
    /// Variants of every row as a product: each name's values (hosts, folders of binaries, options)
    /// replace `{name}` in commands, environment variables and `bin`. A row that does not use a
    /// name has no variants by it.
    #[serde(default)]
    pub matrix: BTreeMap<String, Vec<String>>,
    /// The rows, in order.
    #[serde(rename = "row", default)]
    pub rows: Vec<Row>,
}

/// A variant of every row: other binaries, another environment, further options.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// The arm's name.
    pub name: String,
    /// The folder in which the suite's own programs are found, instead of the one of `reports`.
    pub bin: Option<PathBuf>,
    /// Environment variables of this arm.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Further arguments for every command.
    #[serde(default)]
    pub args: Vec<String>,
}

/// One row: a command that writes a report, or several of them as arms.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The row's name: letters, digits, `-`, `_` and `.`, since files are named after it.
    pub name: String,
    /// The command line. The suite's own programs are found beside `reports`; `-o FILE` is added.
    #[serde(default)]
    pub command: Vec<String>,
    /// The server that the command needs.
    pub server: Option<Server>,
    /// Whose output the command prints, if it writes no report of its own: the output is imported,
    /// and no `-o FILE` is added.
    #[serde(default, deserialize_with = "format")]
    pub import: Option<Format>,
    /// Whether the command is a launcher whose processes, one on each node, write a report each: all
    /// are kept, and who wrote none is named.
    #[serde(default)]
    pub per_node: bool,
    /// What this machine must have; without it the row is skipped.
    pub needs: Option<Need>,
    /// The metric by which the row's arms are set against each other, as reports name it:
    /// `bandwidth_bytes_per_s`, `half_round_trip_ns mean (sockperf)`. Without it the first headline
    /// of the first arm.
    pub metric: Option<String>,
    /// Several commands to be compared, instead of one. The first is the baseline: ratios are those
    /// of each other one to it.
    #[serde(rename = "arm", default)]
    pub arms: Vec<RowArm>,
    /// How often it runs.
    pub repetitions: Option<u32>,
    /// After how many seconds a run is killed.
    pub timeout_s: Option<f64>,
    /// Environment variables for this row.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Hardware without which a command would fail for a reason that nobody could read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// An Elastic Fabric Adapter.
    Efa,
}

/// One of a row's own arms.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowArm {
    /// The arm's name.
    pub name: String,
    /// Its command line.
    pub command: Vec<String>,
    /// The server that the command needs.
    pub server: Option<Server>,
    /// Whose output the command prints, if it writes no report of its own.
    #[serde(default, deserialize_with = "format")]
    pub import: Option<Format>,
}

/// A format by the name it has on the command line.
fn format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
    let name = String::deserialize(deserializer)?;
    Format::from_str(&name, false)
        .map(Some)
        .map_err(|_| D::Error::custom(format!("no importer is called {name:?}")))
}

/// A server that runs while a command does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The command line.
    pub command: Vec<String>,
    /// The TCP or UDP port whose appearance says that it is ready.
    pub port: u16,
}

fn default_repetitions() -> u32 {
    10
}

fn default_timeout_s() -> f64 {
    300.0
}

/// The most repetitions of a row: more is a typing error.
pub(crate) const MAX_REPETITIONS: u32 = 10_000;

/// Why a suite file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file could not be read.
    #[error("cannot read the suite {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is not a suite.
    #[error("{path} is not a suite: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

impl Suite {
    /// Reads a suite from a file; its text is returned too, as the session's identity.
    ///
    /// # Errors
    /// [`SuiteError`], which names the file, the row and the fault.
    pub fn load(path: &Path) -> Result<(Self, String), SuiteError> {
        let io_error = |source| SuiteError::Io {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(io_error)?;
        let suite = Self::parse(&text).map_err(|reason| SuiteError::Malformed {
            path: path.to_owned(),
            reason,
        })?;
        Ok((suite, text))
    }

    /// Reads a suite from text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let suite: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        suite.check()?;
        Ok(suite)
    }

    fn check(&self) -> Result<(), String> {
        if self.rows.is_empty() {
            return Err("it has no [[row]]".to_owned());
        }
        for (index, row) in self.rows.iter().enumerate() {
            row.check()
                .map_err(|fault| format!("row {} ({:?}): {fault}", index + 1, row.name))?;
        }
        distinct("rows", self.rows.iter().map(|row| &row.name))?;
        distinct("arms", self.arms.iter().map(|arm| &arm.name))?;
        for arm in &self.arms {
            check_arm(&arm.name)?;
        }
        self.check_matrix()?;
        self.check_arms_again()?;
        check_repetitions(self.repetitions)?;
        check_seconds("timeout_s", self.timeout_s)?;
        self.budget_s
            .map_or(Ok(()), |budget| check_seconds("budget_s", budget))?;
        match self.stop_width {
            Some(width) if !(width > 0.0 && width < 1.0) => {
                Err(format!("stop_width = {width}: it must lie between 0 and 1"))
            }
            _ => Ok(()),
        }
    }

    fn check_matrix(&self) -> Result<(), String> {
        for (name, values) in &self.matrix {
            if values.is_empty() {
                return Err(format!("matrix.{name} has no values"));
            }
            distinct(&format!("values of matrix.{name}"), values.iter())?;
            if !self.rows.iter().any(|row| plan::uses(self, row, name)) {
                return Err(format!(
                    "matrix.{name}: no command, environment variable or bin has {{{name}}}, so its \
                     variants would be alike"
                ));
            }
        }
        Ok(())
    }

    fn check_arms_again(&self) -> Result<(), String> {
        let of_rows = self.rows.iter().flat_map(|row| &row.arms);
        let names = self.arms.iter().map(|arm| &arm.name);
        let mut names = names.chain(of_rows.map(|arm| &arm.name));
        match names.find(|name| self.noise_floor && name.ends_with(AGAIN)) {
            Some(name) => Err(format!(
                "arm {name:?}: with a noise floor such names stand for the second run of an arm"
            )),
            None => Ok(()),
        }
    }
}

impl Row {
    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        match (self.command.is_empty(), self.arms.is_empty()) {
            (true, true) => return Err("it has neither a command nor arms".to_owned()),
            (false, false) => return Err("it has both a command and arms".to_owned()),
            _ => {}
        }
        distinct("arms", self.arms.iter().map(|arm| &arm.name))?;
        for arm in &self.arms {
            check_arm(&arm.name)?;
        }
        let servers = self.arms.iter().filter_map(|arm| arm.server.as_ref());
        let commands = self.arms.iter().map(|arm| &arm.command);
        let servers = servers.chain(&self.server).map(|server| &server.command);
        let given = Some(&self.command).filter(|_| self.arms.is_empty());
        for command in commands.chain(servers).chain(given) {
            if command.first().is_none_or(String::is_empty) {
                return Err("a command is empty".to_owned());
            }
        }
        if self.per_node && (self.import.is_some() || !self.arms.is_empty()) {
            let why = "a row with per_node has neither arms nor an import";
            return Err(why.to_owned());
        }
        self.repetitions.map_or(Ok(()), check_repetitions)?;
        self.timeout_s
            .map_or(Ok(()), |timeout| check_seconds("timeout_s", timeout))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(
            "the name must be letters, digits, '-', '_' and '.', not starting with '.'".into(),
        );
    }
    Ok(())
}

/// An arm may be named after options and their values, as those of a matrix are: its files get
/// names of their own.
fn check_arm(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "arm {name:?}: the name must be characters without spaces, such as new or engine=uring"
        ));
    }
    Ok(())
}

fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("two {what} are named {name:?}"));
        }
    }
    Ok(())
}

fn check_repetitions(repetitions: u32) -> Result<(), String> {
    if (1..=MAX_REPETITIONS).contains(&repetitions) {
        return Ok(());
    }
    Err(format!(
        "repetitions = {repetitions}: it must be 1 to {MAX_REPETITIONS}"
    ))
}

fn check_seconds(name: &str, seconds: f64) -> Result<(), String> {
    if seconds.is_finite() && seconds > 0.0 && seconds <= 1e7 {
        return Ok(());
    }
    Err(format!(
        "{name} = {seconds}: it must be above 0 and at most 10000000 seconds"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_ROWS: &str = r#"
        name = "two"
        repetitions = 3
        [[row]]
        name = "a"
        command = ["net-bench", "null"]
        [[row]]
        name = "b"
        command = ["storage-bench", "null"]
    "#;

    #[test]
    fn the_example_is_a_suite_and_names_every_field() {
        let suite = Suite::parse(EXAMPLE).expect("well-formed");
        assert_eq!(
            Plan::new(&suite, 7).units.len(),
            (1 + 2 * 2) + (1 + 2) + (1 + 2 * 2)
        );
        // What a misspelt field is told of is all that there are.
        for place in ["bin =", "bin = \"/opt/old", "repetitions = 20", "import"] {
            let fault = Suite::parse(&EXAMPLE.replacen(place, &format!("x{place}"), 1));
            let fault = fault.expect_err("misspelt");
            let (_, fields) = fault.split_once("expected one of ").expect("the fields");
            for field in fields
                .split(['`', ',', ' '])
                .filter(|f| !f.trim().is_empty())
            {
                assert!(
                    EXAMPLE.contains(field.trim()) || field == "description",
                    "{field}"
                );
            }
        }
    }

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| Suite::parse(text).expect_err("it is malformed");
        let with = |from: &str, to: &str| fault(&TWO_ROWS.replace(from, to));
        assert!(fault("name = \"x\"").contains("no [[row]]"));
        assert!(fault("name = 3").contains("expected a string"));
        assert!(with("\"b\"", "\"a\"").contains("two rows are named \"a\""));
        assert!(with("\"b\"", "\"../b\"").contains("row 2"));
        assert!(with("repetitions = 3", "repetitions = 0").contains("1 to"));
        assert!(with("repetitions = 3", "repetition = 3").contains("repetition"));
        assert!(with("repetitions = 3", "stop_width = 2").contains("between 0 and 1"));
        let nothing = with(r#"command = ["storage-bench", "null"]"#, "");
        assert!(nothing.contains("neither a command nor arms"), "{nothing}");
        assert!(with("\"storage-bench\"", "\"\"").contains("a command is empty"));
        let matrix = format!("matrix = {{ engine = [] }}\n{TWO_ROWS}");
        assert!(fault(&matrix).contains("matrix.engine has no values"));
        let twice = matrix.replace("[]", "[\"a\", \"a\"]");
        assert!(fault(&twice).contains("two values of matrix.engine are named \"a\""));
        let unused = matrix.replace("[]", "[\"a\"]");
        assert!(fault(&unused).contains("variants would be alike"));
        let again = format!("noise_floor = true\n{TWO_ROWS}[[arm]]\nname = \"x-again\"\n");
        assert!(fault(&again).contains("x-again"));
        let arm = |name| format!("{TWO_ROWS}[[arm]]\nname = \"{name}\"\n");
        assert!(Suite::parse(&arm("engine=uring,to=[::1]:5280")).is_ok());
        assert!(fault(&arm("a b")).contains("arm \"a b\": the name must be"));
    }
}
