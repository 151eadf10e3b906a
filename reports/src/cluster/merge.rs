//! Files of many nodes as one folder: every report once, the faults of the whole written into the
//! results that they touch, and `cluster.json` with the nodes.
//!
//! ```text
//! DIR/cluster.json   the nodes, who is missing, and what does not fit together
//! DIR/runs/*.json    the reports
//! ```
//!
//! The folder is laid out as a session's, so `show`, `compare`, `rank`, `trend` and `html` take it.

use super::{Cluster, Expected, Fault, Kind, Node, natural};
use crate::model::{self, LoadError, Report, SCHEMA_VERSION, Severity};
use crate::program;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The name in `cluster.json`'s `schema` field.
const SCHEMA: &str = "hpc-bench-cluster";
/// The version of that file that this build writes and reads.
const VERSION: u32 = 1;
/// Its name.
const FILE: &str = "cluster.json";
/// How much of a report tells its version: it begins with its schema.
const HEAD_BYTES: u64 = 256;

/// What `cluster.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which format it is in.
    pub schema: model::Schema,
    /// When the reports were merged, RFC 3339, UTC.
    pub merged: String,
    /// Which nodes there ought to be.
    pub expected: Expected,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Those that were expected and are in no report.
    pub absent: Vec<String>,
    /// What does not fit together.
    pub faults: Vec<Fault>,
}

impl Record {
    /// What the folder says of its cluster; `None` if it was not merged.
    ///
    /// # Errors
    /// What is wrong with its `cluster.json`.
    pub fn load(folder: &Path) -> Result<Option<Self>, String> {
        let path = folder.join(FILE);
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| fault(&error))?,
        };
        let record: Self = serde_json::from_str(&text).map_err(|error| fault(&error))?;
        if record.schema.name != SCHEMA || record.schema.version > VERSION {
            let model::Schema { name, version } = &record.schema;
            return Err(fault(&format!(
                "it is {name} {version}, and this build reads {SCHEMA} up to {VERSION}"
            )));
        }
        Ok(Some(record))
    }
}

/// The reports of a cluster, flagged, and what was found.
#[derive(Debug)]
pub struct Merged {
    /// Every report once.
    pub reports: Vec<Report>,
    /// Which nodes there ought to be.
    pub expected: Expected,
    /// The nodes and all faults, those of the files too.
    pub cluster: Cluster,
    /// The files that could not be read.
    pub unreadable: Vec<LoadError>,
}

/// Loads the reports and looks at all of them at once. Names are looked up for hosts that are known
/// by their addresses.
#[must_use]
pub fn merge(paths: &[PathBuf], expected: Expected) -> Merged {
    let older = other_schemas(paths);
    let (reports, unreadable) = model::load_all(paths);
    let (mut reports, twice) = distinct(reports);
    reports.sort_by_cached_key(|report| {
        let host = report.hosts.first().map(|host| natural(&host.name));
        (
            report.program.name.clone(),
            host,
            report.run.started.clone(),
        )
    });
    let expected = expected.named(&reports);
    let mut cluster = Cluster::of(&reports, &expected);
    cluster.flag(&mut reports);
    let of_files = unreadable.iter().map(|error| {
        let kind = match error {
            LoadError::Future { .. } => Kind::OtherSchema,
            _ => Kind::Unreadable,
        };
        Fault::new(kind, Severity::Invalid, error.to_string())
    });
    cluster.faults.extend(of_files.chain(older).chain(twice));
    let worst = |fault: &Fault| (std::cmp::Reverse(fault.severity), fault.kind);
    cluster.faults.sort_by_key(worst);
    Merged {
        reports,
        expected,
        cluster,
        unreadable,
    }
}

/// Names reports in an older format: they are read, but an old program wrote them.
fn other_schemas(paths: &[PathBuf]) -> Vec<Fault> {
    let mut found: HashMap<u32, Vec<String>> = HashMap::new();
    for path in model::find_files(paths).into_iter().flatten() {
        if let Some(version) = version_of(&path).filter(|version| *version < SCHEMA_VERSION) {
            let name = path.display().to_string();
            found.entry(version).or_default().push(name);
        }
    }
    let fault = |(version, files): (u32, Vec<String>)| {
        let evidence = format!(
            "written with schema version {version} by an older build, and brought to \
             {SCHEMA_VERSION}: {}",
            super::some(&files)
        );
        Fault::new(Kind::OtherSchema, Severity::Info, evidence)
    };
    found.into_iter().map(fault).collect()
}

/// The schema's version as the head of a file tells it; `None` of whatever is no report.
fn version_of(path: &Path) -> Option<u32> {
    let mut head = Vec::new();
    let file = File::open(path).ok()?;
    file.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    let (_, after) = head.split_once("\"version\"")?;
    let digits = after.trim_start_matches([':', ' ']);
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits[..end].parse().ok()
}

/// Every run once, and what was there twice.
fn distinct(reports: Vec<Report>) -> (Vec<Report>, Vec<Fault>) {
    let mut kept: Vec<Report> = Vec::with_capacity(reports.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    let (mut equal, mut faults) = (0, Vec::new());
    for report in reports {
        match places.get(&report.run.id) {
            None => {
                places.insert(report.run.id.clone(), kept.len());
                kept.push(report);
            }
            Some(&at) if kept[at] == report => equal += 1,
            Some(_) => {
                let evidence = format!(
                    "two different reports say that they are run {}; the first is kept: was one \
                     edited, or merged before?",
                    report.run.id
                );
                faults.push(Fault::new(Kind::SameRunTwice, Severity::Degraded, evidence));
            }
        }
    }
    if equal > 0 {
        let evidence = format!("{equal} reports were given twice and count once");
        faults.push(Fault::new(Kind::Duplicate, Severity::Info, evidence));
    }
    (kept, faults)
}

impl Merged {
    /// Writes the folder, whole or not at all.
    ///
    /// # Errors
    /// The folder is there already and not empty, or what the kernel says, with the path.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
        };
        check_free(folder)?;
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(named)?;
        let made = tempfile::Builder::new()
            .prefix(".cluster-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .map_err(named)?;
        self.fill(made.path()).map_err(named)?;
        // An empty folder in its place goes; a full one makes this fail.
        fs::rename(made.path(), folder).map_err(named)?;
        // It has moved, so there is nothing to remove.
        let _ = made.keep();
        Ok(())
    }

    fn fill(&self, folder: &Path) -> io::Result<()> {
        let runs = folder.join("runs");
        fs::create_dir(&runs)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = self.reports.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let write = |first: usize, reports: &[Report]| -> io::Result<()> {
                for (index, report) in reports.iter().enumerate() {
                    let file = runs.join(file_name(first + index, report));
                    fs::write(file, model::to_json(report))?;
                }
                Ok(())
            };
            let shares = self.reports.chunks(share).enumerate();
            let workers: Vec<_> = shares
                .map(|(at, reports)| scope.spawn(move || write(at * share, reports)))
                .collect();
            let mut workers = workers.into_iter();
            // A worker writes and returns its faults.
            workers.try_for_each(|worker| worker.join().expect("writing does not panic"))
        })?;
        let record = Record {
            schema: model::Schema {
                name: SCHEMA.to_owned(),
                version: VERSION,
            },
            merged: program::now(),
            expected: self.expected.clone(),
            nodes: self.cluster.nodes.clone(),
            absent: self.cluster.absent.clone(),
            faults: self.cluster.faults.clone(),
        };
        let text = serde_json::to_string_pretty(&record)?;
        fs::write(folder.join(FILE), text + "\n")
    }
}

/// Whether a folder can be made there: before the work, so that none is lost.
///
/// # Errors
/// Something is there, and what to do.
pub fn check_free(folder: &Path) -> io::Result<()> {
    let taken = match fs::read_dir(folder) {
        Ok(mut files) => files.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if taken {
        let text = format!(
            "{} is there already: name another folder, or remove it",
            folder.display()
        );
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    Ok(())
}

/// A name that no host and no program can turn into a path elsewhere.
fn file_name(index: usize, report: &Report) -> String {
    let plain = |text: &str| -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '_'
            }
        };
        text.chars().take(60).map(plain).collect()
    };
    let host = report.hosts.first().map_or("", |host| &host.name);
    format!(
        "{index:05}-{}-{}.json",
        plain(&report.program.name),
        plain(host)
    )
}
