//! What stands in a block of a target: incompressible, different in every block, and recomputable
//! from a few numbers, so that any word of it can be checked alone.
//!
//! A block is one unit of I/O long, because every offset is a multiple of that. It begins with a
//! header that says which run wrote it, where it belongs and how many writes came before; the rest
//! is a counter-based generator's output under a key that the header names. A block that was lost,
//! misdirected, torn, stale or damaged differs in one of these.
//!
//! A *sealed* block (`--verify crc32c`) also has its CRC-32C behind the header, and at the start of
//! every further sector a tag that hashes offset and sequence number: sectors are what devices
//! write as a whole, so that a torn block shows where, and of which writes its parts are.

mod diagnose;
mod fault;
mod seal;

pub use fault::{Fault, Generation, first_sequence};
pub use seal::Seal;

/// Header words: magic, offset, sequence, key.
const HEADER_WORDS: usize = 4;
/// In sealed blocks the checksum follows.
const SEALED_WORDS: usize = 5;
const WORD: usize = 8;
/// What devices promise to write as a whole.
const SECTOR_BYTES: usize = 512;
const SECTOR_WORDS: usize = SECTOR_BYTES / WORD;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One version of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Where the block belongs, in bytes.
    pub offset: u64,
    /// Zero for the layout; else grows with each write of a job.
    pub sequence: u64,
    /// The key of the words after the header.
    pub key: u64,
}

/// The content of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Different in every run: a block left on the disk by an earlier run is not taken for ours.
    nonce: u64,
    sealed: bool,
    /// Whether what this run has not written is somebody else's instead of the layout.
    over_foreign: bool,
}

/// The finaliser of SplitMix64: every input bit changes half of the output bits.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The inverse of [`mix`].
const fn unmix(mut z: u64) -> u64 {
    z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    z ^ (z >> 30) ^ (z >> 60)
}

/// The `index`-th word of a block with this key.
const fn word(key: u64, index: usize) -> u64 {
    mix(key.wrapping_add((index as u64).wrapping_mul(GOLDEN)))
}

/// The key of a block whose `index`-th word is this.
const fn key_of(word: u64, index: usize) -> u64 {
    unmix(word).wrapping_sub((index as u64).wrapping_mul(GOLDEN))
}

impl Content {
    /// The content of a run that has drawn this number.
    #[must_use]
    pub fn new(nonce: u64) -> Self {
        Self {
            nonce,
            sealed: false,
            over_foreign: false,
        }
    }

    /// As [`Content::new`], over a target that was not laid out: what the run has not written there
    /// is somebody else's.
    #[must_use]
    pub fn over_foreign(nonce: u64) -> Self {
        Self {
            over_foreign: true,
            ..Self::new(nonce)
        }
    }

    /// Whether a block may be somebody else's.
    #[must_use]
    #[inline]
    pub fn is_over_foreign(&self) -> bool {
        self.over_foreign
    }

    /// The same with checksums and tags, or without.
    #[must_use]
    pub fn sealed(self, sealed: bool) -> Self {
        Self { sealed, ..self }
    }

    /// Whether blocks have checksums and tags.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The number that the run has drawn.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// What the layout puts at an offset.
    #[must_use]
    pub fn laid_out(&self, offset: u64) -> Version {
        Version {
            offset,
            sequence: 0,
            key: mix(self.nonce ^ offset),
        }
    }

    /// The key of what one buffer of one job writes as its `at`-th unit.
    #[must_use]
    #[inline]
    pub fn writer_key(&self, job: usize, buffer: usize, at: usize) -> u64 {
        let place = (buffer as u64) << 32 | at as u64;
        mix(mix(self.nonce ^ 0x77 ^ job as u64) ^ place)
    }

    #[inline]
    fn magic(&self) -> u64 {
        mix(self.nonce ^ u64::from_le_bytes(*b"scratch\0"))
    }

    /// What the sectors of a block begin with, but for the first.
    #[inline]
    fn tag(&self, offset: u64, sequence: u64) -> u64 {
        mix(self.magic() ^ offset.wrapping_mul(GOLDEN) ^ sequence)
    }

    /// The sequence number of a tag, if it is one of this offset; else anything.
    fn sequence_of(&self, tag: u64, offset: u64) -> u64 {
        unmix(tag) ^ self.magic() ^ offset.wrapping_mul(GOLDEN)
    }

    /// Writes a whole block.
    pub fn fill(&self, block: &mut [u8], version: Version) {
        self.fill_body(block, version.key);
        self.stamp(block, version);
        if self.sealed {
            put_tags(block, self.tag(version.offset, version.sequence));
            let sum = u64::from(seal::checksum(block));
            put(block, HEADER_WORDS, sum);
        }
    }

    /// Writes everything but header and tags, whose words become zero in a sealed block.
    pub fn fill_body(&self, block: &mut [u8], key: u64) {
        for (index, chunk) in block.chunks_exact_mut(WORD).enumerate() {
            let tag = self.sealed && index.is_multiple_of(SECTOR_WORDS);
            let word = if tag { 0 } else { word(key, index) };
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Writes the header alone, into a block already filled under the version's key.
    #[inline]
    pub fn stamp(&self, block: &mut [u8], version: Version) {
        block[..seal::COVERED].copy_from_slice(&self.header(version));
    }

    /// Writes header, tags and checksum, into a block already filled under the version's key,
    /// whose constant part contributes `constant` to the checksum.
    #[inline]
    pub fn stamp_sealed(&self, block: &mut [u8], version: Version, seal: &Seal, constant: u32) {
        let header = self.header(version);
        let tag = self.tag(version.offset, version.sequence);
        block[..seal::COVERED].copy_from_slice(&header);
        put(block, HEADER_WORDS, seal.of(&header, tag, constant).into());
        put_tags(block, tag);
    }

    #[inline]
    fn header(&self, version: Version) -> [u8; seal::COVERED] {
        let words = [self.magic(), version.offset, version.sequence, version.key];
        let mut header = [0; seal::COVERED];
        for (chunk, value) in header.chunks_exact_mut(WORD).zip(words) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        header
    }

    /// Reads the header of what stands at `offset`.
    ///
    /// # Errors
    /// The header is not this run's or belongs elsewhere.
    #[inline]
    pub fn version(&self, block: &[u8], offset: u64) -> Result<Version, Fault> {
        let [magic, belongs, sequence, key] = std::array::from_fn(|index| read(block, index));
        if magic != self.magic() {
            return Err(not_ours(block));
        }
        if belongs != offset {
            return Err(Fault::Misdirected { belongs });
        }
        Ok(Version {
            offset,
            sequence,
            key,
        })
    }

    /// Checks header and `count` words of a block, from a place that `turn` shifts, so that
    /// repeated checks see all of it.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn check_sample(
        &self,
        block: &[u8],
        offset: u64,
        turn: usize,
        count: usize,
    ) -> Result<Version, Fault> {
        let version = self.version(block, offset)?;
        let body = block.len() / WORD - HEADER_WORDS;
        let first = turn.wrapping_mul(count);
        let places =
            (0..count.min(body)).map(|step| HEADER_WORDS + first.wrapping_add(step) % body);
        check_words(block, version, places)
    }

    /// Checks every word of a block, or the checksum that covers it.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn check(&self, block: &[u8], offset: u64) -> Result<Version, Fault> {
        if self.sealed {
            return self.check_sealed(block, offset);
        }
        let version = self.version(block, offset)?;
        check_words(block, version, HEADER_WORDS..block.len() / WORD)
    }

    /// Checks a sealed block by its checksum, and says what happened to one that does not fit.
    #[inline]
    fn check_sealed(&self, block: &[u8], offset: u64) -> Result<Version, Fault> {
        match self.version(block, offset) {
            Ok(version) if u64::from(seal::checksum(block)) == read(block, HEADER_WORDS) => {
                Ok(version)
            }
            _ => Err(diagnose::diagnose(self, block, offset)),
        }
    }

    /// Checks that a block is exactly as the layout left it.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn check_laid_out(&self, version: Version) -> Result<(), Fault> {
        if version == self.laid_out(version.offset) {
            return Ok(());
        }
        Err(Fault::Unexpected {
            found: version.sequence,
            expected: 0,
        })
    }
}

#[cold]
fn not_ours(block: &[u8]) -> Fault {
    if block.iter().all(|&byte| byte == 0) {
        return Fault::Zeros;
    }
    Fault::Foreign
}

fn check_words(
    block: &[u8],
    version: Version,
    places: impl Iterator<Item = usize>,
) -> Result<Version, Fault> {
    for index in places {
        let (found, expected) = (read(block, index), word(version.key, index));
        if let Some(fault) = diagnose::difference([(index, found, expected)].into_iter()) {
            return Err(fault);
        }
    }
    Ok(version)
}

#[inline]
fn read(block: &[u8], index: usize) -> u64 {
    let bytes = &block[index * WORD..(index + 1) * WORD];
    u64::from_le_bytes(bytes.try_into().expect("a word is eight bytes"))
}

#[inline]
fn put(block: &mut [u8], index: usize, value: u64) {
    block[index * WORD..(index + 1) * WORD].copy_from_slice(&value.to_le_bytes());
}

#[inline]
fn put_tags(block: &mut [u8], tag: u64) {
    for sector in block.chunks_mut(SECTOR_BYTES).skip(1) {
        sector[..WORD].copy_from_slice(&tag.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
