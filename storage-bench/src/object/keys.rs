//! The objects of one job: which are there, in which version, and which are in use.
//!
//! No operation is under way on an object while it is written or deleted, so that what a read must
//! find is always known.

use super::content::Version;
use super::operation::Expected;
use fastrand::Rng;
use object_store::path::Path;

#[derive(Debug, Clone, Default)]
struct Key {
    generation: u64,
    e_tag: Option<String>,
    there: bool,
    /// Its last write or delete failed: nobody knows what is there.
    unsure: bool,
    writing: bool,
    readers: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Key>,
    folder: Path,
    /// The number of the first object in the run.
    first: u64,
    size: u64,
    cursor: usize,
}

impl Keys {
    /// `count` objects of `size` bytes below a folder, none of which is there yet.
    #[must_use]
    pub fn new(folder: Path, first: u64, count: usize, size: u64) -> Self {
        Self {
            keys: vec![Key::default(); count],
            folder,
            first,
            size,
            cursor: 0,
        }
    }

    /// How many objects there may be.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// An object as it must be now.
    #[must_use]
    pub fn expected(&self, index: usize) -> Expected {
        let key = &self.keys[index];
        Expected {
            path: self.folder.clone().join(name(index)),
            version: Version {
                object: self.first + index as u64,
                generation: key.generation,
            },
            size: self.size,
            e_tag: key.e_tag.clone(),
        }
    }

    /// The next object in turn that may be put; it is then being written.
    pub fn begin_put(&mut self) -> Option<usize> {
        let idle = |key: &Key| !key.writing && key.readers == 0;
        let index = self.search(self.cursor, idle)?;
        self.cursor = (index + 1) % self.keys.len();
        let key = &mut self.keys[index];
        key.writing = true;
        key.generation += 1;
        key.e_tag = None;
        Some(index)
    }

    /// A random object that is there; it is then being read.
    pub fn begin_read(&mut self, rng: &mut Rng) -> Option<usize> {
        let start = rng.usize(..self.keys.len());
        let index = self.search(start, |key| key.there && !key.writing)?;
        self.keys[index].readers += 1;
        Some(index)
    }

    /// The next object in turn that is there; it is then being deleted.
    pub fn begin_delete(&mut self) -> Option<usize> {
        let index = self.delete_from(self.cursor)?;
        self.cursor = (index + 1) % self.keys.len();
        Some(index)
    }

    /// As [`Keys::begin_delete`], a random one.
    pub fn begin_random_delete(&mut self, rng: &mut Rng) -> Option<usize> {
        self.delete_from(rng.usize(..self.keys.len()))
    }

    fn delete_from(&mut self, start: usize) -> Option<usize> {
        let index = self.search(start, |key| key.there && !key.writing && key.readers == 0)?;
        self.keys[index].writing = true;
        Some(index)
    }

    /// A put has ended: with the ETag that it returned, or not well, and then nobody knows what is
    /// there until the next one.
    pub fn end_put(&mut self, index: usize, e_tag: Option<Option<String>>) {
        let key = &mut self.keys[index];
        key.writing = false;
        key.there = e_tag.is_some();
        key.unsure = e_tag.is_none();
        key.e_tag = e_tag.flatten();
    }

    /// A read has ended.
    pub fn end_read(&mut self, index: usize) {
        self.keys[index].readers -= 1;
    }

    /// A delete has ended, well or not.
    pub fn end_delete(&mut self, index: usize, well: bool) {
        let key = &mut self.keys[index];
        key.writing = false;
        key.there = false;
        key.unsure = !well;
    }

    /// Up to `most` of the objects that are there (or are gone, though once put), evenly spread.
    #[must_use]
    pub fn sample(&self, there: bool, most: usize) -> Vec<usize> {
        let all: Vec<_> = (0..self.keys.len())
            .filter(|&index| {
                let key = &self.keys[index];
                key.there == there && !key.unsure && !key.writing && key.generation > 0
            })
            .collect();
        let step = all.len().div_ceil(most.max(1)).max(1);
        all.into_iter().step_by(step).collect()
    }

    fn search(&self, start: usize, fits: impl Fn(&Key) -> bool) -> Option<usize> {
        let all = self.keys.len();
        (0..all)
            .map(|step| (start + step) % all)
            .find(|&index| fits(&self.keys[index]))
    }
}

/// The name of an object in its job's folder; names sort as numbers do.
#[must_use]
pub fn name(index: usize) -> String {
    format!("{index:09}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Keys {
        Keys::new(Path::from("run/0000"), 100, count, 32)
    }

    #[test]
    fn puts_go_round_and_never_meet() {
        let mut keys = keys(3);
        assert_eq!(
            [0, 1, 2].map(|_| keys.begin_put()),
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(keys.begin_put(), None);
        keys.end_put(1, Some(None));
        assert_eq!(keys.begin_put(), Some(1));
        assert_eq!(keys.expected(1).version.generation, 2);
        assert_eq!(keys.expected(1).version.object, 101);
        assert_eq!(keys.expected(1).path.as_ref(), "run/0000/000000001");
    }

    #[test]
    fn what_is_read_is_neither_put_nor_deleted() {
        let (mut keys, mut rng) = (keys(1), Rng::with_seed(1));
        assert_eq!(keys.begin_read(&mut rng), None);
        keys.begin_put();
        assert_eq!(keys.begin_read(&mut rng), None);
        keys.end_put(0, Some(Some("tag".to_owned())));
        assert_eq!(keys.expected(0).e_tag.as_deref(), Some("tag"));
        assert_eq!(keys.begin_read(&mut rng), Some(0));
        assert_eq!(keys.begin_read(&mut rng), Some(0));
        keys.end_read(0);
        assert_eq!((keys.begin_put(), keys.begin_delete()), (None, None));
        keys.end_read(0);
        assert_eq!(keys.begin_delete(), Some(0));
        keys.end_delete(0, true);
        assert_eq!(keys.begin_read(&mut rng), None);
        assert_eq!(keys.sample(false, 9), [0]);
    }

    #[test]
    fn a_failed_put_leaves_nothing_to_be_read() {
        let mut keys = keys(1);
        keys.begin_put();
        keys.end_put(0, None);
        assert_eq!(keys.begin_read(&mut Rng::with_seed(1)), None);
        assert!(keys.sample(true, 9).is_empty());
    }

    #[test]
    fn samples_are_spread() {
        let mut keys = keys(100);
        for _ in 0..100 {
            let index = keys.begin_put().expect("free");
            keys.end_put(index, Some(None));
        }
        assert_eq!(keys.sample(true, 4), [0, 25, 50, 75]);
        assert_eq!(keys.sample(true, 1000).len(), 100);
    }
}
