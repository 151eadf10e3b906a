//! The run of a case: write, drop caches, read what others wrote, write anew and look whether the
//! others see it. Every phase begins at a barrier and ends with an agreement that it succeeded.

use super::layout::{Layout, Partners};
use super::mover::{Data, WrongContent};
use super::outcome::{self, Seen};
use super::phase::{Opened, Times, buffers, open, path_of};
use super::spec::{SharedSpec, Spoil};
use crate::crew::{Crew, Tree};
use crate::engine::{Engine, Files, Kind, Null, Psync, Uring};
use crate::mounted::Kernel;
use crate::spec::{EngineName, human};
use crate::workload::content::Content;
use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::statvfs;
use reports::model::Measurement;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Transfers that each rank writes anew for the check of close-to-open.
const ANEW: usize = 16;

/// What may have destroyed data of a shared file on NFS. Its clients write whole pages where they
/// believe to know the rest of the page (seen on Linux 6.1 with IOR's hard size).
const SHARED_PAGES: &str = "on NFS, clients that write to one page overwrite each other's bytes: in a \
    shared file use a --transfer that is a multiple of 4096, --direct true, or --layout file-per-rank";

/// Whether ranks of several nodes write to the same pages of a file on NFS.
fn shares_pages(spec: &SharedSpec, dir: &Path) -> bool {
    let mounted = Kernel::default().mounted(dir);
    spec.nodes > 1
        && spec.layout != Layout::FilePerRank
        && !spec.direct
        && !spec.transfer.is_multiple_of(4096)
        && mounted.is_ok_and(|mounted| mounted.is_nfs())
}

/// Measures; all ranks call it, and rank 0 gets the measurement.
///
/// # Errors
/// What went wrong, the same on all ranks.
pub fn measure(spec: &SharedSpec, crew: &dyn Crew) -> anyhow::Result<Option<Measurement>> {
    crew.agree(check_space(spec))?;
    let tree = Tree::make(crew, &spec.dir)?;
    let seen = match spec.engine {
        EngineName::Uring => Run::<Uring<Files>>::of(spec, crew, &tree).all(),
        EngineName::Psync => Run::<Psync>::of(spec, crew, &tree).all(),
        EngineName::Null => Run::<Null>::of(spec, crew, &tree).all(),
    };
    let mounted = Kernel::default().facts(tree.path());
    // The ranks agree whether they have failed, so all come here.
    let removed = tree.remove(crew);
    let seen = seen?;
    removed?;
    outcome::of(spec, crew, &seen, mounted)
}

fn check_space(spec: &SharedSpec) -> anyhow::Result<()> {
    let space = statvfs(&spec.dir)
        .with_context(|| format!("cannot ask for the free space of {}", spec.dir.display()))?;
    let free = space
        .blocks_available()
        .saturating_mul(space.fragment_size());
    let needed = spec.total_bytes();
    anyhow::ensure!(
        free >= needed,
        "the ranks write {needed} bytes together, and the file system of {} has {free} free; use a \
         smaller --block or fewer --segments",
        spec.dir.display()
    );
    Ok(())
}

struct Run<'a, E> {
    spec: &'a SharedSpec,
    crew: &'a dyn Crew,
    tree: &'a Tree,
    partners: Partners,
    engine: std::marker::PhantomData<E>,
}

impl<'a, E: Engine> Run<'a, E> {
    fn of(spec: &'a SharedSpec, crew: &'a dyn Crew, tree: &'a Tree) -> Self {
        Self {
            spec,
            crew,
            tree,
            partners: spec.partners(),
            engine: std::marker::PhantomData,
        }
    }

    /// What a rank's file holds after its `generation`-th writing.
    fn data(&self, writer: usize, generation: u64) -> Data {
        let grid = self.spec.grid();
        let file = grid.file(writer) as u64;
        Data {
            grid,
            writer,
            generation,
            // Each file has a content of its own, so that no block of one passes in another.
            content: Content::new(self.tree.nonce() ^ file.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }

    fn all(&self) -> anyhow::Result<Seen> {
        let crew = self.crew;
        let (write, engine) = self.write()?;
        let written = crew.all(write.transfers);
        crew.agree(self.spoil())?;
        if self.spec.drop_cache {
            crew.agree(self.drop_caches())?;
        }
        let own = crew.rank();
        let writer = self.partners.of(own);
        let kernel = Kernel::default();
        let mounted = kernel.mounted(self.tree.path()).ok();
        let nfs = || kernel.nfs_bytes(mounted.as_ref()?);
        let (fetched, served) = (kernel.fetched_bytes(), nfs());
        let mut read = self.read(writer, written[writer])?;
        let after = kernel.fetched_bytes();
        read.fetched_bytes = fetched.zip(after).map(|(before, after)| after - before);
        let served = served.zip(nfs());
        let anew = match self.spec.close_to_open && crew.ranks() > 1 {
            true => Some(self.write_anew(&written)?),
            false => None,
        };
        Ok(Seen {
            write,
            read,
            served,
            anew,
            engine,
            within_nodes: self.partners.within_nodes(|rank| crew.host_of(rank)),
        })
    }

    /// The write phase: what this rank took, and the engine.
    fn write(&self) -> anyhow::Result<(Times, serde_json::Value)> {
        let (spec, crew) = (self.spec, self.crew);
        let data = self.data(crew.rank(), 1);
        let path = path_of(self.tree.path(), data.grid.file(crew.rank()));
        let buffers = crew.agree(buffers(spec, Some(&data)))?;
        let indexes: Vec<u64> = (0..data.grid.transfers()).collect();
        let stonewall = spec.stonewall_s.map(Duration::from_secs_f64);
        let say = |bytes: u64| crew.say(format!("write, {} done", human(bytes)));
        crew.barrier();
        let began = Instant::now();
        let opened = Opened::<E>::open(spec, &path, Kind::Write, buffers, began);
        let mut opened = opened.and_then(|mut opened| {
            anyhow::ensure!(
                spec.spoil != Some(Spoil::Fail) || crew.rank() + 1 < crew.ranks(),
                "this rank fails because --spoil says so"
            );
            opened.transfer(&data, &indexes, stonewall, &say)?;
            Ok(opened)
        });
        if spec.wear_out {
            let mut some = crew.agree(opened)?;
            let done = some.transfers();
            let most = crew.all(done).into_iter().max().unwrap_or(done);
            let rest = &indexes[done as usize..most as usize];
            opened = some.transfer(&data, rest, None, &say).map(|()| some);
        }
        let closed = opened.and_then(|opened| {
            let engine = opened.engine();
            Ok((opened.close()?, engine))
        });
        crew.agree(closed)
    }

    /// The read phase: what this rank took for what `writer` wrote.
    fn read(&self, writer: usize, transfers: u64) -> anyhow::Result<Times> {
        let (spec, crew) = (self.spec, self.crew);
        let data = self.data(writer, 1);
        let path = path_of(self.tree.path(), data.grid.file(writer));
        let buffers = crew.agree(buffers(spec, None))?;
        let indexes: Vec<u64> = (0..transfers).collect();
        let say = |bytes: u64| crew.say(format!("read, {} done", human(bytes)));
        crew.barrier();
        let began = Instant::now();
        let opened = Opened::<E>::open(spec, &path, Kind::Read, buffers, began);
        let read = opened.and_then(|mut opened| {
            opened.transfer(&data, &indexes, None, &say)?;
            opened.close()
        });
        crew.agree(read.map_err(|error| {
            match error.is::<WrongContent>() && shares_pages(spec, self.tree.path()) {
                true => anyhow::anyhow!("{error}; {SHARED_PAGES}"),
                false => error,
            }
        }))
    }

    /// Each rank writes some of its transfers anew and closes its file; then each opens what it read
    /// before, of which its node may have kept the former content, and must find the new one.
    /// Returns how many transfers all ranks looked at.
    fn write_anew(&self, written: &[u64]) -> anyhow::Result<u64> {
        let (spec, crew) = (self.spec, self.crew);
        let own = crew.rank();
        let say = |_: u64| crew.say("close-to-open".to_owned());
        let pass = |kind: Kind, of: usize, indexes: &[u64]| -> anyhow::Result<()> {
            let data = self.data(of, 2);
            let path = path_of(self.tree.path(), data.grid.file(of));
            let buffers = buffers(spec, (kind == Kind::Write).then_some(&data))?;
            let mut opened = Opened::<E>::open(spec, &path, kind, buffers, Instant::now())?;
            opened.transfer(&data, indexes, None, &say)?;
            opened.close().map(drop)
        };
        let stale = spec.spoil == Some(Spoil::Stale) && own == 0;
        for turn in self.turns() {
            let writes = !stale && turn.is_none_or(|host| host == crew.host_of(own));
            crew.agree(match writes {
                true => pass(Kind::Write, own, &sample(written[own])),
                false => Ok(()),
            })?;
        }
        crew.barrier();
        let writer = self.partners.of(own);
        let again = sample(written[writer]);
        crew.agree(pass(Kind::Read, writer, &again))?;
        Ok(crew.all(again.len() as u64).iter().sum())
    }

    /// Who writes anew at a time: everybody, or of one file the ranks of each host in turn. What two
    /// clients write to one file at a time close-to-open says nothing about: NFS takes what changed
    /// meanwhile for the client's own doing, and keeps what it has of the other's blocks.
    fn turns(&self) -> Vec<Option<String>> {
        if self.spec.layout == Layout::FilePerRank {
            return vec![None];
        }
        let mut hosts = Vec::new();
        for host in (0..self.crew.ranks()).map(|rank| Some(self.crew.host_of(rank))) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// Asks the kernel to forget what this rank wrote and what it is about to read.
    fn drop_caches(&self) -> anyhow::Result<()> {
        let own = self.crew.rank();
        for rank in [own, self.partners.of(own)] {
            let path = path_of(self.tree.path(), self.spec.grid().file(rank));
            let file = open(&path, Kind::Read, false)?;
            // Advice: what came of it shows in what was fetched.
            let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        Ok(())
    }

    /// Flips a bit of what rank 0 wrote, if a test wants to see it found.
    fn spoil(&self) -> anyhow::Result<()> {
        if self.spec.spoil != Some(Spoil::Damage) || !self.crew.is_root() {
            return Ok(());
        }
        const AT: u64 = 1003;
        let path = path_of(self.tree.path(), 0);
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, AT)?;
        file.write_all_at(&[byte[0] ^ 1], AT)?;
        file.sync_all()?;
        Ok(())
    }
}

/// Some of so many transfers, evenly spread.
fn sample(transfers: u64) -> Vec<u64> {
    let step = transfers.div_ceil(ANEW as u64).max(1);
    (0..transfers).step_by(step as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::sample;

    #[test]
    fn a_sample_is_spread_over_all_transfers() {
        assert!(sample(0).is_empty());
        assert_eq!(sample(3), [0, 1, 2]);
        let many = sample(1000);
        assert!(many.len() <= 16 && *many.last().expect("some") > 900);
    }
}
