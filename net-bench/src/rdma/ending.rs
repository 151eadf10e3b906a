//! How both sides agree that everything has arrived, and that nobody needs the other any more.
//!
//! Nothing on the way says that an RDMA peer has ended, and what is closed too early takes with it
//! what the other side still waits for. So each side says how many operations it posted on each lane
//! when it posts no more, receives until it has all that the other posted, says that too, and closes
//! when the other has said the same.

use crate::attend::Rope;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What the threads of one side and its control channel tell each other at the end.
#[derive(Debug)]
pub struct Ending {
    threads: usize,
    ours: Mutex<Ours>,
    theirs: OnceLock<Vec<u64>>,
    satisfied: AtomicUsize,
    parted: AtomicBool,
    told_posted: AtomicBool,
    told_parted: AtomicBool,
    rope: OnceLock<Mutex<Rope>>,
}

#[derive(Debug)]
struct Ours {
    posted: Vec<u64>,
    threads: usize,
}

impl Ending {
    /// For so many lanes and threads.
    #[must_use]
    pub fn new(lanes: usize, threads: usize) -> Self {
        Self {
            threads,
            ours: Mutex::new(Ours {
                posted: vec![0; lanes],
                threads: 0,
            }),
            theirs: OnceLock::new(),
            satisfied: AtomicUsize::new(0),
            parted: AtomicBool::new(false),
            told_posted: AtomicBool::new(false),
            told_parted: AtomicBool::new(false),
            rope: OnceLock::new(),
        }
    }

    /// Where to pull when there is something to tell the other side.
    pub fn tie(&self, rope: Rope) {
        let _ = self.rope.set(Mutex::new(rope));
    }

    fn pull(&self) {
        if let Some(rope) = self.rope.get() {
            rope.lock().unwrap_or_else(PoisonError::into_inner).pull();
        }
    }

    fn ours(&self) -> MutexGuard<'_, Ours> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread posts no more: what it posted on its lanes, from lane `first` on.
    pub fn posts_no_more(&self, first: usize, posted: &[u64]) {
        let mut ours = self.ours();
        ours.posted[first..first + posted.len()].copy_from_slice(posted);
        ours.threads += 1;
        drop(ours);
        self.pull();
    }

    /// What this side posted, once it is to be told and has not been.
    pub fn posted_to_tell(&self) -> Option<Vec<u64>> {
        let ours = self.ours();
        let due = ours.threads == self.threads && !self.told_posted.swap(true, Ordering::Relaxed);
        due.then(|| ours.posted.clone())
    }

    /// What the other side posted on each of so many lanes; `false` if it speaks of others.
    #[must_use]
    pub fn they_posted(&self, posted: Vec<u64>) -> bool {
        let fits = posted.len() == self.ours().posted.len();
        fits && self.theirs.set(posted).is_ok()
    }

    /// What the other side posted on each lane, once it posts no more.
    #[inline]
    #[must_use]
    pub fn theirs(&self) -> Option<&[u64]> {
        self.theirs.get().map(Vec::as_slice)
    }

    /// A thread has received all that its counterpart posted.
    pub fn is_satisfied(&self) {
        self.satisfied.fetch_add(1, Ordering::Relaxed);
        self.pull();
    }

    /// Whether it is to be told that all threads have received everything, and has not been.
    pub fn parting_to_tell(&self) -> bool {
        self.satisfied.load(Ordering::Relaxed) == self.threads
            && !self.told_parted.swap(true, Ordering::Relaxed)
    }

    /// The other side has received all that this side posted.
    pub fn they_parted(&self) {
        self.parted.store(true, Ordering::Relaxed);
    }

    /// Whether the other side has received all that this side posted.
    #[inline]
    #[must_use]
    pub fn parted(&self) -> bool {
        self.parted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_speaks_when_all_its_threads_have_spoken_and_once() {
        let ending = Ending::new(3, 2);
        assert_eq!(ending.posted_to_tell(), None);
        ending.posts_no_more(0, &[5, 6]);
        assert_eq!(ending.posted_to_tell(), None);
        ending.posts_no_more(2, &[7]);
        assert_eq!(ending.posted_to_tell(), Some(vec![5, 6, 7]));
        assert_eq!(ending.posted_to_tell(), None);
        assert!(!ending.they_posted(vec![1]), "of one lane");
        assert_eq!(ending.theirs(), None);
        assert!(ending.they_posted(vec![1, 2, 3]));
        assert_eq!(ending.theirs(), Some(&[1, 2, 3][..]));
        ending.is_satisfied();
        assert!(!ending.parting_to_tell());
        ending.is_satisfied();
        assert!(ending.parting_to_tell());
        assert!(!ending.parting_to_tell());
        assert!(!ending.parted());
        ending.they_parted();
        assert!(ending.parted());
    }
}
