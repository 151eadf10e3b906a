//! The fingerprint of a machine: everything that can explain why two results differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its own name for itself.
    pub name: String,
}

impl Host {
    /// A machine that is not here and left no fingerprint: all that is known is what it is called.
    #[must_use]
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }
}

/// Learns what this machine is like.
#[must_use]
pub fn fingerprint() -> Host {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    Host {
        name: name.unwrap_or_default(),
    }
}
