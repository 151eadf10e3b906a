//! The folder that a run works in, seen by all its ranks, and gone afterwards however it ends.
//!
//! Rank 0 makes it under a name that nobody else can have. A process of its own waits beside rank 0
//! for the end of a pipe: if rank 0 ends without having removed the folder, because it or another
//! rank was killed, or the launcher killed all, that process does. Nothing outside is ever removed,
//! links are removed and not followed, and a folder that is another one by then is left alone.

use super::Crew;
use crate::PROGRAM;
use anyhow::Context;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The hidden first argument of the process that removes what was left.
const SWEEP: &str = "__remove-if-orphaned";
/// What the pipe says when there is nothing left to do.
const DONE: u8 = b'd';
/// How long ranks may take to see a folder that rank 0 has just made: attribute caches of network
/// file systems are older.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How long ranks that were killed may still be busy in the folder.
const SWEEP_WITHIN: Duration = Duration::from_secs(120);

/// Whether this executable understands [`SWEEP`]: not that of a unit test.
static SWEEPS: AtomicBool = AtomicBool::new(false);

/// A folder of a run.
pub struct Tree {
    path: PathBuf,
    /// Drawn by rank 0: what is written in the folder is told from what others wrote.
    nonce: u64,
    /// Rank 0's.
    owned: Option<Owned>,
}

struct Owned {
    path: PathBuf,
    /// It was removed, or that was tried.
    cleared: bool,
    sweeper: Option<Child>,
}

impl Tree {
    /// Makes the folder, in `dir`, and waits until all ranks see it.
    ///
    /// # Errors
    /// Why it cannot be made, or which rank does not see it.
    pub fn make(crew: &dyn Crew, dir: &Path) -> anyhow::Result<Self> {
        let nonce = crew.broadcast(fastrand::u64(..).to_string());
        let nonce: u64 = nonce.parse().context("rank 0's number did not arrive")?;
        let path = dir.join(format!(".{PROGRAM}-{nonce:016x}"));
        let owned = match crew.is_root() {
            true => Owned::make(&path).map(Some),
            false => Ok(None),
        };
        let owned = crew.agree(owned)?;
        crew.agree(wait_until_seen(crew, &path))?;
        Ok(Self { path, nonce, owned })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number drawn for it.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Removes it with everything in it. All ranks call it, when they have closed their files.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(mut self, crew: &dyn Crew) -> anyhow::Result<()> {
        crew.barrier();
        crew.agree(match self.owned.take() {
            Some(owned) => owned.remove(),
            None => Ok(()),
        })
    }
}

impl Owned {
    fn make(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        let mut owned = Self {
            path: path.to_owned(),
            cleared: false,
            sweeper: None,
        };
        if SWEEPS.load(Ordering::Relaxed) {
            owned.sweeper = Some(owned.sweeper()?);
        }
        Ok(owned)
    }

    fn sweeper(&self) -> anyhow::Result<Child> {
        let made = fs::symlink_metadata(&self.path)?;
        let path = fs::canonicalize(&self.path)?;
        Command::new("/proc/self/exe")
            .arg(SWEEP)
            .arg(path)
            .arg(made.dev().to_string())
            .arg(made.ino().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Of its own, so that what ends the run does not end it too.
            .process_group(0)
            .spawn()
            .context("cannot start the process that removes what a killed run leaves behind")
    }

    fn remove(mut self) -> anyhow::Result<()> {
        self.clear()
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        self.cleared = true;
        let removed = match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        if let Some(mut sweeper) = self.sweeper.take() {
            if removed.is_ok()
                && let Some(pipe) = &mut sweeper.stdin
            {
                // If it is gone it has nothing to do any more either.
                let _ = pipe.write_all(&[DONE]);
            }
            drop(sweeper.stdin.take());
            if removed.is_ok() {
                let _ = sweeper.wait();
            }
        }
        removed.with_context(|| format!("cannot remove {}; remove it", self.path.display()))
    }
}

/// What is left when a run failed on the way.
impl Drop for Owned {
    fn drop(&mut self) {
        if !self.cleared
            && let Err(error) = self.clear()
        {
            eprintln!("{PROGRAM}: {error:#}");
        }
    }
}

fn wait_until_seen(crew: &dyn Crew, path: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Ok(()),
            Err(error) if began.elapsed() > SEEN_WITHIN => {
                anyhow::bail!(
                    "does not see the folder {} that {} made ({error}): --dir must be on a file \
                     system that all ranks share, mounted in the same place",
                    path.display(),
                    crew.name_of(0)
                )
            }
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The program's first deed: if it was started to remove what a run leaves behind, it does so and
/// returns what to exit with.
#[must_use]
pub fn sweep_if_asked() -> Option<ExitCode> {
    SWEEPS.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os().skip(1);
    if args.next()? != SWEEP {
        return None;
    }
    let path = PathBuf::from(args.next()?);
    let mut number = || args.next()?.to_str()?.parse::<u64>().ok();
    let (dev, ino) = (number()?, number()?);
    // Signals to the run are not meant for this process.
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    let mut said = Vec::new();
    // An error ends the pipe as well.
    let _ = io::stdin().read_to_end(&mut said);
    if !said.contains(&DONE) {
        sweep(&path, (dev, ino));
    }
    Some(ExitCode::SUCCESS)
}

/// Removes a folder that is still the one that was made, however long its last users take to go.
fn sweep(path: &Path, made: (u64, u64)) {
    let began = Instant::now();
    while began.elapsed() < SWEEP_WITHIN {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() && (found.dev(), found.ino()) == made => {
                if fs::remove_dir_all(path).is_ok() {
                    return;
                }
            }
            _ => return,
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Alone;
    use super::*;

    #[test]
    fn the_folder_is_gone_with_everything_in_it_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let kept = dir.path().join("kept");
        fs::write(&kept, "x").expect("a file");
        for removed in [true, false] {
            let tree = Tree::make(&Alone, dir.path()).expect("it can be made");
            let path = tree.path().to_owned();
            fs::create_dir_all(path.join("a/b")).expect("folders");
            std::os::unix::fs::symlink(dir.path(), path.join("a/link")).expect("a link");
            match removed {
                true => tree.remove(&Alone).expect("it can be removed"),
                // As when an error ends the run.
                false => drop(tree),
            }
            assert!(!path.exists());
            assert!(kept.exists());
        }
    }

    #[test]
    fn only_the_folder_that_was_made_is_swept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("folder");
        fs::create_dir(&path).expect("a folder");
        let found = fs::metadata(&path).expect("it is there");
        sweep(&path, (found.dev(), found.ino() + 1));
        assert!(path.exists());
        sweep(&path, (found.dev(), found.ino()));
        assert!(!path.exists());
    }

    #[test]
    fn a_place_that_does_not_exist_is_named() {
        let error = Tree::make(&Alone, Path::new("/absent/place")).err();
        let text = format!("{:#}", error.expect("it cannot be made"));
        assert!(text.contains("/absent/place"), "{text}");
    }
}
