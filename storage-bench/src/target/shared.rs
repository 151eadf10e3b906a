//! A scratch file that several measurements of one process read in turn, so that it is laid out once.

use crate::workload::content::Content;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

type Laid = (Arc<File>, Content);

/// A place for such a file; the default is none, and every measurement has a file of its own.
#[derive(Debug, Clone, Default)]
pub struct SharedScratch(Option<Arc<Mutex<Option<Laid>>>>);

/// Not a part of what is asked for: two specifications that differ in this alone are equal.
impl PartialEq for SharedScratch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl SharedScratch {
    /// A place that its clones share.
    #[must_use]
    pub fn place() -> Self {
        Self(Some(Arc::default()))
    }

    /// The file that is there, else one made now, which stays if this is a place.
    ///
    /// # Errors
    /// Those of `make`; the next to ask tries again.
    pub fn get_or(
        &self,
        make: impl FnOnce() -> anyhow::Result<(File, Content)>,
    ) -> anyhow::Result<Laid> {
        let laid = || make().map(|(file, content)| (Arc::new(file), content));
        let Some(place) = &self.0 else {
            return laid();
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = &*place {
            return Ok(there.clone());
        }
        Ok(place.insert(laid()?).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::cell::Cell;

    #[test]
    fn a_place_is_filled_once_and_a_failure_is_not_kept() {
        let made = Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            if made.get() == 1 {
                bail!("no room");
            }
            Ok((tempfile::tempfile()?, Content::new(1)))
        };
        let place = SharedScratch::place();
        assert!(place.get_or(make).is_err());
        let (first, _) = place.get_or(make).expect("now there is room");
        let (second, _) = place.clone().get_or(make).expect("there already");
        assert!(Arc::ptr_eq(&first, &second) && made.get() == 2);
        let none = SharedScratch::default();
        let (own, _) = none.get_or(make).expect("room");
        assert!(!Arc::ptr_eq(&first, &own) && made.get() == 3);
    }
}
