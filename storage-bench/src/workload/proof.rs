//! Judging the blocks of a target by a journal: what was durable must be there, what was under way
//! may be.

use super::content::{Content, Fault};
use super::journal::{self, Found};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Faults that are told in full.
const TOLD: usize = 5;

/// What a journal promises of a target's blocks.
#[derive(Debug)]
pub struct Promise<'a> {
    found: &'a Found,
    content: Content,
    /// Whether every write that the kernel got is in the journal. Intents are only appended, and
    /// not made durable: what was appended is lost with the machine, not with the process.
    complete: bool,
}

/// Why a sound block holds what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// The write that was durable, or a newer one.
    Durable,
    /// A write that was never said to be durable.
    Unpromised,
    /// The layout: no write was durable.
    Layout,
    /// What stood on a device before the run: no write was durable.
    Foreign,
    /// Parts of several writes, of which the newest was under way.
    Torn,
}

/// How many blocks were found in which state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// They hold their durable write, or a newer one.
    pub durable: u64,
    /// They hold a write that was never said to be durable.
    pub unpromised: u64,
    /// They hold the layout.
    pub layout: u64,
    /// They hold what a device had before.
    pub foreign: u64,
    /// They hold parts of several writes, as they may where one was under way.
    pub torn: u64,
    /// How many are wrong, by the kind of fault.
    faults: BTreeMap<&'static str, u64>,
    /// The first of them, by offset.
    told: BTreeMap<u64, Fault>,
}

impl<'a> Promise<'a> {
    /// What the journal promises.
    #[must_use]
    pub fn new(found: &'a Found) -> Self {
        let header = &found.header;
        let same_boot = header.boot.is_some() && header.boot == journal::boot();
        Self {
            found,
            content: Content::new(header.nonce).sealed(true),
            complete: same_boot && found.ignored_bytes == 0,
        }
    }

    /// Looks at a block and counts it.
    pub fn judge(&self, unit: u64, block: &[u8], tally: &mut Tally) {
        let offset = unit * block.len() as u64;
        match self.held(unit, offset, block) {
            Ok(Held::Durable) => tally.durable += 1,
            Ok(Held::Unpromised) => tally.unpromised += 1,
            Ok(Held::Layout) => tally.layout += 1,
            Ok(Held::Foreign) => tally.foreign += 1,
            Ok(Held::Torn) => tally.torn += 1,
            Err(fault) => tally.note(offset, fault),
        }
    }

    fn held(&self, unit: u64, offset: u64, block: &[u8]) -> Result<Held, Fault> {
        let known = self.found.units.get(&unit).copied().unwrap_or_default();
        let issued = if self.complete {
            known.issued
        } else {
            u64::MAX
        };
        match self.content.check(block, offset) {
            Ok(version) if version.sequence < known.durable => Err(Fault::Stale {
                found: version.sequence,
                expected: known.durable,
            }),
            Ok(version) if version.sequence > issued => Err(Fault::Unexpected {
                found: version.sequence,
                expected: issued,
            }),
            Ok(version) if version.sequence == 0 => {
                self.content.check_laid_out(version).map(|()| Held::Layout)
            }
            Ok(_) if known.durable > 0 => Ok(Held::Durable),
            Ok(_) => Ok(Held::Unpromised),
            Err(Fault::Torn { oldest, newest, .. })
                if oldest >= known.durable && newest <= issued =>
            {
                Ok(Held::Torn)
            }
            Err(fault) if self.found.header.device.is_some() && known.durable == 0 => {
                unpromised_on_device(fault, issued)
            }
            Err(fault) => Err(fault),
        }
    }
}

/// What a device may hold where nothing was promised. It was not laid out: what stands there may be
/// somebody else's, or a mixture of that and of a write that was under way. A block of the run that
/// belongs elsewhere is wrong all the same.
fn unpromised_on_device(fault: Fault, issued: u64) -> Result<Held, Fault> {
    match fault {
        Fault::Foreign | Fault::Zeros => Ok(Held::Foreign),
        Fault::Misdirected { .. } => Err(fault),
        _ if issued > 0 => Ok(Held::Torn),
        _ => Err(fault),
    }
}

impl Tally {
    fn note(&mut self, offset: u64, fault: Fault) {
        *self.faults.entry(fault.kind()).or_default() += 1;
        self.tell(offset, fault);
    }

    fn tell(&mut self, offset: u64, fault: Fault) {
        self.told.insert(offset, fault);
        if self.told.len() > TOLD {
            self.told.pop_last();
        }
    }

    /// Adds another part of the same target.
    pub fn add(&mut self, other: Self) {
        self.durable += other.durable;
        self.unpromised += other.unpromised;
        self.layout += other.layout;
        self.foreign += other.foreign;
        self.torn += other.torn;
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (offset, fault) in other.told {
            self.tell(offset, fault);
        }
    }

    /// Blocks that were looked at.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        let wrong: u64 = self.faults.values().sum();
        self.durable + self.unpromised + self.layout + self.foreign + self.torn + wrong
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        let wrong: u64 = self.faults.values().sum();
        if wrong == 0 {
            return None;
        }
        let kinds: Vec<String> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let mut text = format!(
            "{wrong} of {} blocks are wrong ({})",
            self.blocks(),
            kinds.join(", ")
        );
        for (offset, fault) in &self.told {
            let _ = write!(text, "; at offset {offset} {fault}");
        }
        if wrong > self.told.len() as u64 {
            let _ = write!(text, "; and {} more", wrong - self.told.len() as u64);
        }
        Some(text)
    }

    /// What was found where nothing is wrong.
    #[must_use]
    pub fn sound(&self) -> String {
        let before = match self.foreign {
            0 => format!("{} the layout", self.layout),
            // A device is not laid out.
            foreign => format!("{foreign} what stood there before"),
        };
        format!(
            "{} blocks: {} hold their durable write or a newer one, {} one that was not yet \
             durable, {before}, and {} were torn while a write was under way",
            self.blocks(),
            self.durable,
            self.unpromised,
            self.torn
        )
    }
}

#[cfg(test)]
mod tests;
