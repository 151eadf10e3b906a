//! The pre-shared key: where it comes from, and what is no key.

use anyhow::Context;
use reports::program::Usage;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The environment variable that holds a key where no file is named.
pub const KEY_VARIABLE: &str = "NET_BENCH_KEY";

/// Below this many bytes a key can be guessed from one recorded handshake.
const MIN_BYTES: usize = 16;
const MAX_BYTES: usize = 4096;

/// The secret that client and server share; empty where none was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

impl Key {
    /// The key of those who share none.
    pub const EMPTY: Self = Self(Vec::new());

    /// The key from a file, else from [`KEY_VARIABLE`], else the empty key. White space around it
    /// is not part of it.
    ///
    /// # Errors
    /// [`Usage`] if the file cannot be read, or what it holds is no key.
    pub fn find(file: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = file {
            let source = format!("--key-file {}", path.display());
            let mut bytes = Vec::new();
            File::open(path)
                .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
                .map_err(|error| Usage(format!("{source}: {error}")))?;
            return Self::checked(&bytes, &source);
        }
        match std::env::var_os(KEY_VARIABLE) {
            Some(value) => Self::checked(value.as_encoded_bytes(), KEY_VARIABLE),
            None => Ok(Self::EMPTY),
        }
    }

    /// A key that nobody else holds, for a server inside this process.
    ///
    /// # Errors
    /// The kernel has no random numbers to give.
    pub fn random() -> anyhow::Result<Self> {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes).context("no random numbers from the kernel")?;
        Ok(Self(bytes))
    }

    /// The key that is written so, as [`KEY_VARIABLE`] has it.
    ///
    /// # Errors
    /// [`Usage`]: it is none.
    pub fn of_text(text: &str) -> anyhow::Result<Self> {
        Self::checked(text.as_bytes(), "the text of a key")
    }

    /// Whether this is the key of those who share none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn checked(bytes: &[u8], source: &str) -> anyhow::Result<Self> {
        let key = bytes.trim_ascii();
        if key.len() < MIN_BYTES || bytes.len() > MAX_BYTES {
            return Err(Usage(format!(
                "{source}: a key has {MIN_BYTES} to {MAX_BYTES} bytes, this has {}; make one with \
                 `head -c 32 /dev/urandom | base64`",
                if bytes.len() > MAX_BYTES {
                    "more".to_owned()
                } else {
                    key.len().to_string()
                }
            ))
            .into());
        }
        Ok(Self(key.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_trimmed_and_measured() {
        let key = Key::checked(b"  0123456789abcdef\n", "test").expect("sixteen bytes");
        assert_eq!(key.bytes(), b"0123456789abcdef");
        for bad in [&b""[..], b"short\n", &[b'x'; MAX_BYTES + 1]] {
            let error = Key::checked(bad, "test").expect_err("no key");
            assert!(error.to_string().contains("16 to 4096"), "{error}");
        }
        assert_eq!(format!("{key:?}"), "Key(16 bytes)", "a key never shows");
    }

    #[test]
    fn an_endless_or_missing_file_is_refused() {
        assert!(Key::find(Some(Path::new("/dev/zero"))).is_err());
        let error = Key::find(Some(Path::new("/nonexistent"))).expect_err("not there");
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
