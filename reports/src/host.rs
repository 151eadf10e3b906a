//! The fingerprint of a machine: everything that can explain why two results differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its own name for itself.
    pub name: String,
}

/// Learns what this machine is like.
#[must_use]
pub fn fingerprint() -> Host {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    Host {
        name: name.unwrap_or_default(),
    }
}
