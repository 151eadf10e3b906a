//! Which units a write is under way to: one bit each.

/// The units of one job.
#[derive(Debug)]
pub struct Busy {
    first: u64,
    bits: Vec<u64>,
}

impl Busy {
    /// So many units from `first` on, all idle.
    #[must_use]
    pub fn new(count: u64, first: u64) -> Self {
        Self {
            first,
            bits: vec![0; count.div_ceil(64) as usize],
        }
    }

    /// Whether a write is under way to one of so many units.
    #[inline]
    #[must_use]
    pub fn any(&self, unit: u64, count: u64) -> bool {
        let from = unit - self.first;
        (from..from + count).any(|at| self.bits[at as usize / 64] >> (at % 64) & 1 == 1)
    }

    /// Notes that one began, or ended.
    #[inline]
    pub fn mark(&mut self, unit: u64, count: u64, busy: bool) {
        let from = unit - self.first;
        for at in from..from + count {
            let bit = 1 << (at % 64);
            if busy {
                self.bits[at as usize / 64] |= bit;
            } else {
                self.bits[at as usize / 64] &= !bit;
            }
        }
    }
}
