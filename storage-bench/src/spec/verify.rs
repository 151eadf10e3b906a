//! How much of the content is checked, and whether a journal proves it to another process.

use super::{Place, Spec, usage};
use crate::target;
use crate::workload::journal::{MAX_EVERY, MAX_UNITS};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// How content is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Headers and some words of some blocks
    #[default]
    Sample,
    /// Every block that is read, by checksum, place and generation; all that was written is read
    /// back
    Crc32c,
}

/// The options as users type them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Verification")]
pub struct VerifyArgs {
    /// How the content is checked [default: sample; crc32c with --journal]
    #[arg(long, value_enum, value_name = "METHOD")]
    pub verify: Option<Method>,
    /// Write to this new file which writes are durable, so that `storage-bench verify --journal FILE`
    /// can prove it after a crash, and keep the file that was written
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// With --journal: make the target durable (fdatasync) after N writes of each job, within the
    /// measured time [default: 256]
    #[arg(long, value_name = "N", requires = "journal")]
    pub journal_every: Option<u64>,
}

/// What they come to: parameters, left out of reports where they are the defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VerifySpec {
    /// How content is checked.
    #[serde(rename = "verify", skip_serializing_if = "is_default")]
    pub method: Method,
    /// Writes between two times that a job makes them durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_every: Option<u64>,
    /// Where that is written down.
    #[serde(skip)]
    pub journal: Option<PathBuf>,
}

fn is_default(method: &Method) -> bool {
    *method == Method::default()
}

impl VerifyArgs {
    /// Checks them.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn spec(&self) -> anyhow::Result<VerifySpec> {
        let Some(journal) = &self.journal else {
            return Ok(VerifySpec {
                method: self.verify.unwrap_or_default(),
                ..VerifySpec::default()
            });
        };
        if self.verify == Some(Method::Sample) {
            return Err(usage(
                "--journal needs checksums in all blocks; leave --verify sample out",
            ));
        }
        let every = self.journal_every.unwrap_or(256);
        if !(1..=MAX_EVERY).contains(&every) {
            return Err(usage(format!(
                "--journal-every {every}: from 1 to {MAX_EVERY} writes"
            )));
        }
        target::check_journal(journal)?;
        Ok(VerifySpec {
            method: Method::Crc32c,
            journal_every: Some(every),
            journal: Some(journal.clone()),
        })
    }
}

impl VerifySpec {
    /// Whether every block has a checksum.
    #[must_use]
    pub fn sealed(&self) -> bool {
        self.method == Method::Crc32c
    }
}

impl Spec {
    /// Checks that what is asked of the verification is possible, of a target whose content this
    /// program lays out or does not.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn check_verify(&self, laid_out: bool) -> anyhow::Result<()> {
        let refused = |why: &str| Err(usage(why));
        if self.verify.sealed() && !laid_out {
            return refused(
                "--verify crc32c: what this program did not write has no checksums; it is for \
                 files that do not exist yet",
            );
        }
        let Some(journal) = &self.verify.journal else {
            return Ok(());
        };
        if !self.pattern.rw.writes() {
            return refused("--journal: nothing is written; choose a --rw that writes");
        }
        if self.pattern.rw.trims() {
            return refused("--journal: it does not know trims; choose a --rw that only writes");
        }
        match &self.place {
            Place::File(path) if path == journal => {
                return refused("--journal and --filename name the same file");
            }
            Place::File(_) | Place::Device(_) => {}
            _ => {
                return refused(
                    "--journal: the scratch file vanishes with the process; name one that \
                     stays with --filename",
                );
            }
        }
        if self.pace.latency_target.is_some() {
            return refused("--journal is of one run, and --latency-target makes many");
        }
        if self.offset > 0 {
            return refused("--journal: it begins where the target does; leave --offset out");
        }
        let units = self.size / self.pattern.unit();
        if units > MAX_UNITS {
            return Err(usage(format!(
                "--journal: {units} blocks are more than the {MAX_UNITS} that can be proven; use \
                 a larger --bs or a smaller --size"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::example;

    #[test]
    fn a_journal_implies_checksums_and_refuses_what_cannot_be_proven() {
        let dir = tempfile::tempdir().expect("a folder");
        let args = |verify, every| VerifyArgs {
            verify,
            journal: Some(dir.path().join("j")),
            journal_every: every,
        };
        let spec = args(None, None).spec().expect("it is sound");
        assert_eq!(
            (spec.method, spec.journal_every),
            (Method::Crc32c, Some(256))
        );
        for bad in [
            args(Some(Method::Sample), None),
            args(None, Some(0)),
            args(None, Some(u64::MAX)),
        ] {
            assert!(bad.spec().is_err(), "{bad:?}");
        }
        let mut whole = example();
        whole.verify = spec;
        whole.pattern.rw = crate::spec::Rw::Randwrite;
        let said = |spec: &Spec| spec.check_verify(true).map_err(|error| error.to_string());
        assert!(said(&whole).is_err_and(|text| text.contains("--filename")));
        whole.place = Place::File(dir.path().join("f"));
        assert_eq!(said(&whole), Ok(()));
        assert!(whole.check_verify(false).is_err());
        whole.size = u64::MAX / 2;
        assert!(said(&whole).is_err_and(|text| text.contains("larger --bs")));
        whole.place = Place::File(dir.path().join("j"));
        assert!(said(&whole).is_err_and(|text| text.contains("same file")));
        whole.pattern.rw = crate::spec::Rw::Randread;
        assert!(said(&whole).is_err_and(|text| text.contains("nothing is written")));
    }
}
