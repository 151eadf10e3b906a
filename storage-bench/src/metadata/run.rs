//! The run of a case: all ranks go through the phases together, with a barrier before each and an
//! agreement after it that it succeeded.

use super::items::{Item, Place, folder_of};
use super::outcome::{self, Phase};
use super::phase::{self, Times};
use super::spec::{Directories, Kinds, MetadataSpec, Spoil};
use crate::crew::{Crew, Tree};
use crate::mounted::Kernel;
use anyhow::Context;
use reports::measure::stop_requested;
use reports::model::Measurement;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a listing may lag behind: NFS keeps attributes of folders for up to a minute (acdirmax).
const LISTED_WITHIN: Duration = Duration::from_secs(70);

/// Measures; all ranks call it, and rank 0 gets the measurement.
///
/// # Errors
/// What went wrong, the same on all ranks.
pub fn measure(spec: &MetadataSpec, crew: &dyn Crew) -> anyhow::Result<Option<Measurement>> {
    let tree = Tree::make(crew, &spec.dir)?;
    let phases = Run::of(spec, crew, &tree).all();
    let mounted = Kernel::default().facts(tree.path());
    // The ranks agree whether they have failed, so all come here.
    let removed = tree.remove(crew);
    let phases = phases?;
    removed?;
    outcome::of(crew, &phases, mounted)
}

struct Run<'a> {
    spec: &'a MetadataSpec,
    crew: &'a dyn Crew,
    tree: &'a Tree,
    /// This rank's items.
    own: Place,
    /// The rank whose items this one looks at, and these.
    other: (usize, Place),
}

impl<'a> Run<'a> {
    fn of(spec: &'a MetadataSpec, crew: &'a dyn Crew, tree: &'a Tree) -> Self {
        let place = |rank| Place::of(tree.path(), tree.nonce(), spec, rank);
        let other = (crew.rank() + spec.shift) % crew.ranks();
        Self {
            spec,
            crew,
            tree,
            own: place(crew.rank()),
            other: (other, place(other)),
        }
    }

    fn all(&self) -> anyhow::Result<Vec<Phase>> {
        self.crew.agree(self.make_folder())?;
        self.crew.barrier();
        let mut phases = Vec::new();
        if self.spec.kinds != Kinds::Files {
            self.of_item(Item::Folder, &mut phases)?;
        }
        if self.spec.kinds != Kinds::Folders {
            self.of_item(Item::File, &mut phases)?;
        }
        Ok(phases)
    }

    fn make_folder(&self) -> anyhow::Result<()> {
        let makes = self.spec.directories == Directories::Own || self.crew.is_root();
        if !makes {
            return Ok(());
        }
        let folder = folder_of(self.tree.path(), self.spec, self.crew.rank());
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))
    }

    /// The phases of files or of folders.
    fn of_item(&self, item: Item, phases: &mut Vec<Phase>) -> anyhow::Result<()> {
        let mut buffer = match item {
            Item::File => self.own.buffer(),
            Item::Folder => Vec::new(),
        };
        let stonewall = self.spec.stonewall_s.map(Duration::from_secs_f64);
        let mut run = |name: &'static str, items, stonewall, act: &mut Act<'_>| {
            let times = self.phase(name, items, stonewall, act)?;
            let created = times.items;
            phases.push(Phase { name, times });
            anyhow::Ok(created)
        };
        let names = match item {
            Item::File => &FILES,
            Item::Folder => &FOLDERS,
        };
        let own = run(names.create, self.spec.items, stonewall, &mut |index| {
            self.own.create(item, index, &mut buffer)
        })?;
        let created = self.crew.all(own);
        self.crew.agree(self.count(&created))?;
        self.crew.agree(self.spoil(item))?;
        let (other, place) = &self.other;
        let others = created[*other];
        run(names.stat, others, None, &mut |index| {
            place.stat(item, index)
        })?;
        if let Some(read) = names.read {
            let mut buffers = [buffer.clone(), vec![0; buffer.len()]];
            run(read, others, None, &mut |index| {
                place.read(index, &mut buffers)
            })?;
        }
        run(names.rename, own, None, &mut |index| {
            self.own.rename(item, index)
        })?;
        run(names.delete, own, None, &mut |index| {
            self.own.delete(item, index)
        })?;
        self.crew.agree(self.count(&vec![0; self.crew.ranks()]))
    }

    fn phase(
        &self,
        name: &str,
        items: u64,
        stonewall: Option<Duration>,
        act: &mut Act<'_>,
    ) -> anyhow::Result<Times> {
        let say = |done: u64| self.crew.say(format!("{name}, {done} of {items}"));
        self.crew.barrier();
        let ran = phase::run(items, stonewall, &say, act);
        self.crew
            .agree(ran.with_context(|| format!("phase {name}")))
    }

    /// Counts the entries of this rank's folder, or rank 0 those of the shared one: no item is
    /// missing, and none too many. A network file system may list for a while what its client has
    /// seen before.
    fn count(&self, created: &[u64]) -> anyhow::Result<()> {
        let own = self.crew.rank();
        let expected = match self.spec.directories {
            Directories::Own => created[own],
            Directories::Shared if self.crew.is_root() => created.iter().sum(),
            Directories::Shared => return Ok(()),
        };
        let folder = folder_of(self.tree.path(), self.spec, own);
        let began = Instant::now();
        loop {
            let found =
                entries(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
            if found == expected {
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < LISTED_WITHIN && !stop_requested(),
                "{} lists {found} items where there must be {expected}",
                folder.display()
            );
            self.crew.say(format!("{found} of {expected} items listed"));
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Puts a fault in, if a test wants to see it found.
    fn spoil(&self, item: Item) -> anyhow::Result<()> {
        if !self.crew.is_root() || item == Item::Folder {
            return Ok(());
        }
        let path = self.own.path(item, 0, false);
        match self.spec.spoil {
            None => {}
            Some(Spoil::Lose) => fs::remove_file(path)?,
            Some(Spoil::Damage) => {
                let mut bytes = fs::read(&path)?;
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                fs::write(&path, bytes)?;
            }
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> std::io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        entry?;
        count += 1;
    }
    Ok(count)
}

/// One call on one item.
type Act<'a> = dyn FnMut(u64) -> anyhow::Result<()> + 'a;

/// The names of an item's phases, as they begin the names of metrics. Folders are not read.
struct Names {
    create: &'static str,
    stat: &'static str,
    read: Option<&'static str>,
    rename: &'static str,
    delete: &'static str,
}

const FILES: Names = Names {
    create: "file_create",
    stat: "file_stat",
    read: Some("file_read"),
    rename: "file_rename",
    delete: "file_delete",
};

const FOLDERS: Names = Names {
    create: "dir_create",
    stat: "dir_stat",
    read: None,
    rename: "dir_rename",
    delete: "dir_delete",
};
