//! The options of `metadata`, in mdtest's words, and whether they make sense.

use crate::crew::{Crew, check_folder, check_folder_here};
use crate::shared::{default_shift, seconds};
use crate::spec::{bytes, usage};
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// The most items of a rank: their names have nine digits.
const MAX_ITEMS: u64 = 999_999_999;
/// The largest file: larger ones are the business of `shared`.
const MAX_FILE: u64 = 64 << 20;

/// Where the items of the ranks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Directories {
    /// Each rank's in a folder of its own (mdtest -u)
    Own,
    /// All in one folder
    Shared,
}

/// Which directories are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Each rank's items in a folder of its own (mdtest -u)
    Own,
    /// All items in one folder
    Shared,
    /// One after the other, as two cases
    Both,
}

/// What the items are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kinds {
    /// Files only (mdtest -F)
    Files,
    /// Folders only (mdtest -D)
    Folders,
    /// Folders, then files
    Both,
}

/// A fault put in on purpose, for tests of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spoil {
    /// One file of rank 0 is gone before it is looked at.
    Lose,
    /// One bit of a file of rank 0 flips before it is read.
    Damage,
}

/// The options as users type them.
#[derive(Debug, Clone, Args)]
pub struct MetadataArgs {
    /// Folder on the shared file system; a scratch folder is made in it and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = "Target")]
    pub dir: PathBuf,
    /// Files and folders of each rank (mdtest -n)
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        help_heading = "Load (mdtest's words)"
    )]
    pub items: u64,
    /// Where the items are
    #[arg(
        long,
        value_enum,
        default_value = "both",
        help_heading = "Load (mdtest's words)"
    )]
    pub directories: Which,
    /// What they are
    #[arg(
        long,
        value_enum,
        default_value = "both",
        help_heading = "Load (mdtest's words)"
    )]
    pub kinds: Kinds,
    /// Bytes that are written to each file when it is created, and read afterwards (mdtest -w -e);
    /// mdtest's hard size is 3901
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "0", help_heading = "Load (mdtest's words)")]
    pub write: u64,
    /// Flush each file after it was written (mdtest -y)
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = false, help_heading = "Load (mdtest's words)")]
    pub sync: bool,
    /// Look at and read what the rank N further created (mdtest -N) [default: the ranks of a node,
    /// so that nobody looks at what its own node has cached]
    #[arg(long, value_name = "N", help_heading = "Load (mdtest's words)")]
    pub shift: Option<usize>,
    /// Stop each creation after so many seconds (mdtest -W); what was created then is looked at
    #[arg(
        long,
        value_name = "SECONDS",
        allow_negative_numbers = true,
        help_heading = "Load (mdtest's words)"
    )]
    pub stonewall: Option<f64>,
    /// End the job if no rank gets on for so many seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1800.0,
        allow_negative_numbers = true,
        help_heading = "Verification"
    )]
    pub deadline: f64,
    /// Put a fault in, to see it found.
    #[arg(long, value_enum, hide = true)]
    pub spoil: Option<Spoil>,
}

/// What they come to. What serialises are the report's parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetadataSpec {
    /// Where the items are.
    pub directories: Directories,
    /// What they are.
    pub kinds: Kinds,
    /// Items of each kind of each rank.
    pub items: u64,
    /// Bytes of each file.
    pub write: u64,
    /// Whether each file is flushed.
    pub sync: bool,
    /// How far away the rank is whose items are looked at.
    pub shift: usize,
    /// When creations stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stonewall_s: Option<f64>,
    /// Ranks.
    pub ranks: usize,
    /// Nodes.
    pub nodes: usize,
    /// When a job that hangs is ended.
    #[serde(skip)]
    pub deadline: Duration,
    /// Where.
    #[serde(skip)]
    pub dir: PathBuf,
    /// A fault put in on purpose.
    #[serde(skip)]
    pub spoil: Option<Spoil>,
    /// Whether `shift` is to be chosen when the ranks are known.
    #[serde(skip)]
    shift_is_open: bool,
}

impl MetadataArgs {
    /// Checks the options, and touches nothing.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn specs(&self) -> anyhow::Result<Vec<MetadataSpec>> {
        self.check()?;
        let directories: &[Directories] = match self.directories {
            Which::Own => &[Directories::Own],
            Which::Shared => &[Directories::Shared],
            Which::Both => &[Directories::Own, Directories::Shared],
        };
        let deadline = seconds("--deadline", self.deadline)?;
        let spec = |&directories| MetadataSpec {
            directories,
            kinds: self.kinds,
            items: self.items,
            write: self.write,
            sync: self.sync,
            shift: self.shift.unwrap_or(0),
            stonewall_s: self.stonewall,
            ranks: 1,
            nodes: 1,
            deadline,
            dir: self.dir.clone(),
            spoil: self.spoil,
            shift_is_open: self.shift.is_none(),
        };
        Ok(directories.iter().map(spec).collect())
    }

    fn check(&self) -> anyhow::Result<()> {
        if !(1..=MAX_ITEMS).contains(&self.items) {
            return Err(usage(format!(
                "--items {}: from 1 to {MAX_ITEMS}",
                self.items
            )));
        }
        if self.write > MAX_FILE {
            return Err(usage(format!(
                "--write {}: at most 64m; for large files there is `storage-bench shared`",
                self.write
            )));
        }
        if self.kinds == Kinds::Folders && (self.write > 0 || self.sync) {
            return Err(usage(
                "--write and --sync are about files: not with --kinds folders",
            ));
        }
        if let Some(stonewall) = self.stonewall {
            seconds("--stonewall", stonewall)?;
        }
        check_folder_here(&self.dir)
    }
}

impl MetadataSpec {
    /// Completes it with what the ranks are.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: a shift that leads nowhere else.
    pub fn settle(&mut self, crew: &dyn Crew) -> anyhow::Result<()> {
        crew.agree(check_folder(&self.dir))?;
        (self.ranks, self.nodes) = (crew.ranks(), crew.nodes());
        if self.shift_is_open {
            self.shift = default_shift(crew);
        }
        if self.shift >= self.ranks {
            return Err(usage(format!(
                "--shift {}: there are {} ranks; it takes 0 to {}",
                self.shift,
                self.ranks,
                self.ranks - 1
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crew::Alone;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MetadataArgs,
    }

    fn specs(line: &str) -> anyhow::Result<Vec<MetadataSpec>> {
        let words = std::iter::once("metadata").chain(line.split_whitespace());
        let mut specs = Line::try_parse_from(words)?.args.specs()?;
        for spec in &mut specs {
            spec.settle(&Alone)?;
        }
        Ok(specs)
    }

    #[test]
    fn nonsense_is_refused_with_the_option_named() {
        for (line, expected) in [
            ("--items 0", "--items 0"),
            ("--items 9999999999", "--items"),
            ("--write 65m", "storage-bench shared"),
            ("--kinds folders --write 1", "--kinds folders"),
            ("--stonewall 0", "--stonewall 0"),
            ("--shift 1", "--shift 1"),
            ("--dir /dev", "under /dev"),
            ("--dir /etc/passwd", "not a folder"),
        ] {
            let error = specs(line).expect_err(line);
            assert!(format!("{error:#}").contains(expected), "{line}: {error:#}");
        }
    }

    #[test]
    fn own_and_shared_directories_are_two_cases() {
        let both = specs("").expect("valid");
        let directories: Vec<_> = both.iter().map(|spec| spec.directories).collect();
        assert_eq!(directories, [Directories::Own, Directories::Shared]);
        assert_eq!(specs("--directories own").expect("valid").len(), 1);
    }
}
