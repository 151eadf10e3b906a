//! Operations that failed: counted by kind and errno, in no rate and no latency, and the end of the
//! window where they are more than the run was told to bear.

use crate::engine::Kind;
use nix::errno::Errno;
use reports::model::{Severity, Validity};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What all jobs of a run know of its errors.
#[derive(Debug, Default)]
pub struct Brake {
    failed: AtomicU64,
    ended: AtomicBool,
}

impl Brake {
    /// Counts an error; more than so many end the window of every job.
    pub fn count(&self, allowed: u64) {
        if self.failed.fetch_add(1, Ordering::Relaxed) >= allowed {
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the window is to end.
    #[inline(always)]
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// An operation that failed, or ended before its full length.
#[derive(Debug)]
pub struct Failure<'a> {
    /// What it was.
    pub kind: Kind,
    /// Bytes that it was to move or trim.
    pub bytes: usize,
    /// Where in the target.
    pub offset: u64,
    /// What the target is called.
    pub target: &'a str,
    /// Bytes moved, or a negated errno.
    pub result: i32,
    /// Operations of its job that had succeeded.
    pub succeeded: u64,
}

/// What to do about an errno.
const REMEDIES: &[(i32, &str)] = &[
    (
        libc::EINVAL,
        "direct I/O takes only multiples of the device's logical block size; try a larger --bs, or \
         --direct false",
    ),
    (
        libc::EOPNOTSUPP,
        "the file system or device cannot do this; of reads and writes try --direct false",
    ),
    (
        libc::ENOSPC,
        "the disk is full: free some space, or use a smaller --size or another place",
    ),
    (
        libc::EDQUOT,
        "the quota is used up: use a smaller --size or another place",
    ),
    (
        libc::EFBIG,
        "the file would be larger than `ulimit -f` or the file system allows: use a smaller --size",
    ),
    (
        libc::EIO,
        "the device or the path to it failed; `dmesg` may say more",
    ),
    (libc::ENODEV, GONE),
    (libc::ENXIO, GONE),
    (
        libc::EROFS,
        "the file system is mounted read-only, or became so after an error; `dmesg` may say why",
    ),
    (
        libc::ESTALE,
        "the NFS server no longer knows the file: it was removed there, or exported anew",
    ),
    (
        libc::ETIMEDOUT,
        "the device or server did not answer in time; `dmesg` may say more",
    ),
    (
        libc::ENOMEM,
        "the kernel found no memory for it: lower --iodepth or --bs",
    ),
];

const GONE: &str = "the device went away: it was detached, or lost its connection";

impl Failure<'_> {
    /// The errno's name, or `short`.
    fn errno(&self) -> String {
        match self.result {
            0.. => "short".to_owned(),
            errno => match Errno::from_raw(-errno) {
                Errno::UnknownErrno => format!("errno {}", -errno),
                known => format!("{known:?}"),
            },
        }
    }

    /// What was tried, what happened, and what to do.
    fn in_words(&self) -> String {
        let tried = format!(
            "{} of {} bytes at offset {} of {}",
            self.kind.verb(),
            self.bytes,
            self.offset,
            self.target
        );
        if self.result >= 0 {
            return format!(
                "{tried}: it ended after {} bytes; the file may have been cut meanwhile, or the device gone",
                self.result
            );
        }
        let errno = -self.result;
        let what = io::Error::from_raw_os_error(errno);
        let remedy = REMEDIES.iter().find(|(known, _)| *known == errno);
        let remedy = remedy.map(|(_, remedy)| format!(": {remedy}"));
        format!("{tried}: {what}{}", remedy.unwrap_or_default())
    }
}

/// The errors of one job, or of all.
#[derive(Debug, Default)]
pub struct Errors {
    /// By kind and errno.
    counts: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// The first one in words, what had succeeded before it, and its result.
    first: Option<(String, u64, i32)>,
    /// Why the target could not be read back.
    unread: Option<String>,
}

impl Errors {
    /// Counts a failure.
    pub fn note(&mut self, failure: &Failure<'_>) {
        let kinds = self.counts.entry(failure.kind.verb()).or_default();
        *kinds.entry(failure.errno()).or_default() += 1;
        self.first
            .get_or_insert_with(|| (failure.in_words(), failure.succeeded, failure.result));
    }

    /// Takes the errors of another job in.
    pub fn absorb(&mut self, other: Self) {
        for (kind, counts) in other.counts {
            for (errno, count) in counts {
                *self
                    .counts
                    .entry(kind)
                    .or_default()
                    .entry(errno)
                    .or_default() += count;
            }
        }
        if self.first.is_none() {
            self.first = other.first;
        }
    }

    /// Notes that after the errors the target could not be read back.
    pub fn not_read_back(&mut self, why: String) {
        self.unread = Some(why);
    }

    /// Whether the target was to be read back, and could not be.
    #[must_use]
    pub fn unread(&self) -> bool {
        self.unread.is_some()
    }

    /// How many operations failed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().flat_map(BTreeMap::values).sum()
    }

    /// The first failure in words, if there was one.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.first.as_ref().map(|(text, ..)| text.as_str())
    }

    /// The result of the first failure: bytes moved, or a negated errno.
    #[must_use]
    pub fn first_result(&self) -> Option<i32> {
        self.first.as_ref().map(|(.., result)| *result)
    }

    /// The counts, for the report: `{"read": {"EIO": 3}}`.
    #[must_use]
    pub fn facts(&self) -> Option<Value> {
        let kinds = self.counts.iter();
        let kinds: Map<String, Value> = kinds
            .map(|(kind, counts)| ((*kind).to_owned(), json!(counts)))
            .collect();
        (!kinds.is_empty()).then_some(Value::Object(kinds))
    }

    /// Says in the flags what errors mean for the numbers: nothing stands if they ended the window,
    /// and less does if the run went on in spite of them.
    pub fn flag(&self, ended: bool, validity: &mut Validity) {
        let Some((first, succeeded, _)) = &self.first else {
            return;
        };
        let mut text = String::new();
        if ended {
            text.push_str("an error ended the window before its time: ");
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "{} operations failed, the first: ", self.count());
        }
        let _ = write!(
            text,
            "{first} (its job had done {succeeded} operations before)"
        );
        if ended && self.count() > 1 {
            let _ = write!(text, "; {} operations failed in all", self.count());
        }
        if let Some(why) = &self.unread {
            let _ = write!(text, "; what was written could not be read back: {why}");
        }
        let severity = match ended || self.unread.is_some() {
            true => Severity::Invalid,
            false => Severity::Degraded,
        };
        validity.flag(severity, "io_errors", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: Kind, result: i32) -> Failure<'static> {
        Failure {
            kind,
            bytes: 4096,
            offset: 8192,
            target: "it",
            result,
            succeeded: 17,
        }
    }

    #[test]
    fn failures_name_place_cause_and_remedy() {
        let cases = [
            (libc::ENOSPC, "the disk is full"),
            (libc::EIO, "dmesg"),
            (libc::ENODEV, "went away"),
            (libc::ENXIO, "went away"),
            (libc::EDQUOT, "quota"),
            (libc::EFBIG, "ulimit -f"),
            (libc::EROFS, "read-only"),
            (libc::EINVAL, "a larger --bs"),
            (libc::ESTALE, "NFS"),
        ];
        for (errno, remedy) in cases {
            let text = failure(Kind::Write, -errno).in_words();
            assert!(text.starts_with("write of 4096 bytes at offset 8192 of it: "));
            assert!(text.contains(remedy), "{text}");
        }
        let short = failure(Kind::Read, 100).in_words();
        assert!(short.contains("ended after 100 bytes"), "{short}");
    }

    #[test]
    fn counts_merge_and_the_first_stays() {
        let mut errors = Errors::default();
        assert!(errors.facts().is_none() && errors.first().is_none());
        errors.note(&failure(Kind::Read, -libc::EIO));
        let mut other = Errors::default();
        for result in [-libc::EIO, 512, -4000] {
            other.note(&failure(Kind::Read, result));
        }
        other.note(&failure(Kind::Fsync, -libc::ENOSPC));
        errors.absorb(other);
        assert_eq!(errors.count(), 5);
        assert_eq!(
            errors.facts().expect("some").to_string(),
            r#"{"fsync":{"ENOSPC":1},"read":{"EIO":2,"errno 4000":1,"short":1}}"#
        );
        let flagged = |ended| {
            let mut validity = Validity::default();
            errors.flag(ended, &mut validity);
            validity.flags.remove(0)
        };
        let (ended, went_on) = (flagged(true), flagged(false));
        assert_eq!(
            (ended.severity, went_on.severity),
            (Severity::Invalid, Severity::Degraded)
        );
        for part in [
            "ended the window",
            "offset 8192",
            "done 17",
            "5 operations failed in all",
        ] {
            assert!(ended.evidence.contains(part), "{}", ended.evidence);
        }
        assert!(
            went_on.evidence.starts_with("5 operations failed"),
            "{}",
            went_on.evidence
        );
    }

    #[test]
    fn the_brake_holds_after_as_many_as_are_allowed() {
        let brake = Brake::default();
        brake.count(1);
        assert!(!brake.ended());
        brake.count(1);
        assert!(brake.ended());
    }
}
