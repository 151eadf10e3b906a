//! Records which commit a release is built from: two results are comparable only if that is known.
//! A debug build, whose results are flagged as such, does not record it: every commit would have all
//! programs built again.

use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The commit, and whether the tree had changes.
fn commit() -> (String, String) {
    // The commit changes with HEAD, the branch it names, and the index.
    for path in ["HEAD", "index", "logs/HEAD"] {
        if let Some(file) = git(&["rev-parse", "--git-path", path]) {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"])
        .map_or_else(String::new, |status| (!status.is_empty()).to_string());
    (commit, dirty)
}

fn main() {
    let (commit, dirty) = match std::env::var("PROFILE").as_deref() {
        Ok("debug") => (String::new(), String::new()),
        _ => commit(),
    };
    println!("cargo::rustc-env=SUITE_COMMIT={commit}");
    println!("cargo::rustc-env=SUITE_DIRTY={dirty}");
    for (name, variable) in [("PROFILE", "SUITE_PROFILE"), ("TARGET", "SUITE_TARGET")] {
        println!(
            "cargo::rustc-env={variable}={}",
            std::env::var(name).unwrap_or_default()
        );
    }
    println!("cargo::rerun-if-changed=build.rs");
}
