//! Which generation a read may see while writes to its blocks are under way.
//!
//! Of each block the last completed write is known (the [`Record`], eight bytes for each block),
//! and of each buffer the write that is under way. A read may bring anything from what was complete
//! when it began up to what had begun when it ended; and where a write overlapped it, parts of
//! several such, cut anywhere: the page cache copies while others read. Damage in such a read says
//! nothing; what stays on the device is found when all is read back.

use crate::workload::content::{Fault, Version};
use crate::workload::pattern::Request;
use crate::workload::readback::{Record, TRIMMED, UNKNOWN};

/// The operations under way.
#[derive(Debug)]
pub(super) struct Flights {
    units_per_buffer: usize,
    /// By buffer and unit: the last write that was complete when the read began.
    floors: Vec<u64>,
    /// By buffer: the write under way.
    writes: Vec<Option<(Request, u64)>>,
}

impl Flights {
    pub(super) fn new(buffers: usize, units_per_buffer: usize) -> Self {
        Self {
            units_per_buffer,
            floors: vec![0; buffers * units_per_buffer],
            writes: vec![None; buffers],
        }
    }

    #[inline]
    pub(super) fn write_begins(&mut self, buffer: usize, request: Request, sequence: u64) {
        self.writes[buffer] = Some((request, sequence));
    }

    #[inline]
    pub(super) fn write_ended(&mut self, buffer: usize) {
        self.writes[buffer] = None;
    }

    #[inline]
    pub(super) fn read_begins(&mut self, buffer: usize, request: Request, written: &Record) {
        let first = buffer * self.units_per_buffer;
        let floors = &mut self.floors[first..first + request.units as usize];
        for (floor, unit) in floors.iter_mut().zip(request.unit..) {
            *floor = written.last(unit).unwrap_or(0);
        }
    }

    /// Judges what a read into a buffer brought as its `at`-th unit. Whether it was whole.
    #[inline]
    pub(super) fn judge(
        &self,
        (buffer, at, unit): (usize, usize, u64),
        written: &Record,
        found: Result<Version, Fault>,
    ) -> Result<bool, Fault> {
        let floor = self.floors[buffer * self.units_per_buffer + at];
        // A block of which there is no record may hold any write.
        let complete = written.last(unit).unwrap_or(UNKNOWN);
        let marked = |sequence: u64| sequence & TRIMMED != 0;
        let ended = marked(floor) || (marked(complete) && complete != UNKNOWN);
        if ended || (found.is_err() && self.under_way(unit).is_some_and(marked)) {
            return self.judge_trimmed(unit, (floor, complete), found);
        }
        match found {
            Ok(version) => {
                let sequence = version.sequence;
                if sequence < floor {
                    return Err(Fault::Stale {
                        found: sequence,
                        expected: floor,
                    });
                }
                if sequence > complete && self.under_way(unit) != Some(sequence) {
                    return Err(Fault::Unexpected {
                        found: sequence,
                        expected: complete,
                    });
                }
                Ok(true)
            }
            Err(Fault::Torn { oldest, newest, .. })
                if oldest >= floor
                    && (newest <= complete || Some(newest) == self.under_way(unit)) =>
            {
                Ok(false)
            }
            Err(Fault::Damaged { .. }) if !self.at_rest(unit, floor, complete) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether no write overlapped the read.
    #[cold]
    fn at_rest(&self, unit: u64, floor: u64, complete: u64) -> bool {
        floor == complete && self.under_way(unit).is_none()
    }

    /// As `judge`, where a trim or a failed write came before the read or beside it.
    #[cold]
    fn judge_trimmed(
        &self,
        unit: u64,
        (floor, complete): (u64, u64),
        found: Result<Version, Fault>,
    ) -> Result<bool, Fault> {
        let at_rest = self.at_rest(unit, floor, complete);
        match found {
            _ if floor == UNKNOWN => Ok(true),
            Ok(version) if version.sequence < floor & !TRIMMED => Err(Fault::Stale {
                found: version.sequence,
                expected: floor,
            }),
            Ok(_) | Err(Fault::Zeros) => Ok(true),
            // A trim that is under way may have emptied a part.
            Err(Fault::Torn { .. } | Fault::Damaged { .. }) if !at_rest => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// The write to a unit that is under way; there is never more than one.
    #[cold]
    fn under_way(&self, unit: u64) -> Option<u64> {
        let mut writes = self.writes.iter().flatten();
        writes
            .find(|(request, _)| {
                (request.unit..request.unit + u64::from(request.units)).contains(&unit)
            })
            .map(|&(_, sequence)| sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Kind;

    fn request(kind: Kind, unit: u64) -> Request {
        Request {
            kind,
            unit,
            units: 1,
        }
    }

    fn whole(sequence: u64) -> Result<Version, Fault> {
        Ok(Version {
            offset: 0,
            sequence,
            key: 0,
        })
    }

    fn torn(oldest: u64, newest: u64) -> Result<Version, Fault> {
        Err(Fault::Torn {
            at: 512,
            before: oldest,
            after: newest,
            oldest,
            newest,
        })
    }

    fn damaged() -> Result<Version, Fault> {
        Err(Fault::Damaged {
            at: 512,
            last: 600,
            bits: 9,
            found: 0,
            expected: 1,
        })
    }

    #[test]
    fn a_read_sees_what_was_complete_or_under_way_and_nothing_else() {
        let mut record = Record::new(0..8, 8);
        let mut flights = Flights::new(4, 1);
        record.note(3, 10);
        flights.write_begins(2, request(Kind::Write, 3), 12);
        flights.read_begins(0, request(Kind::Read, 3), &record);
        let judge =
            |flights: &Flights, record: &Record, found| flights.judge((0, 0, 3), record, found);
        for good in [whole(10), whole(12)] {
            assert_eq!(judge(&flights, &record, good), Ok(true));
        }
        assert_eq!(judge(&flights, &record, torn(10, 12)), Ok(false));
        assert_eq!(judge(&flights, &record, damaged()), Ok(false));
        for bad in [whole(9), whole(11), whole(13), torn(9, 12), torn(10, 13)] {
            assert!(judge(&flights, &record, bad.clone()).is_err(), "{bad:?}");
        }
        // The write ends, and another begins, before the read does.
        flights.write_ended(2);
        record.note(3, 12);
        flights.write_begins(3, request(Kind::Write, 3), 15);
        for good in [whole(10), whole(12), whole(15)] {
            assert_eq!(judge(&flights, &record, good), Ok(true));
        }
        assert_eq!(judge(&flights, &record, torn(10, 15)), Ok(false));
        // A read that begins now must not see what was replaced before.
        flights.read_begins(0, request(Kind::Read, 3), &record);
        assert_eq!(
            judge(&flights, &record, whole(10)),
            Err(Fault::Stale {
                found: 10,
                expected: 12
            })
        );
        // A block at rest is never torn.
        flights.write_ended(3);
        record.note(3, 15);
        flights.read_begins(0, request(Kind::Read, 3), &record);
        assert!(judge(&flights, &record, torn(12, 15)).is_err());
        assert!(judge(&flights, &record, damaged()).is_err());
    }

    #[test]
    fn a_trim_leaves_zeros_and_a_failed_write_anything() {
        let mut record = Record::new(0..8, 8);
        let mut flights = Flights::new(4, 1);
        let judge =
            |flights: &Flights, record: &Record, found| flights.judge((0, 0, 3), record, found);
        let trim = 12 | TRIMMED;
        record.note(3, 10);
        flights.write_begins(2, request(Kind::Write, 3), trim);
        flights.read_begins(0, request(Kind::Read, 3), &record);
        for (found, whole) in [
            (whole(10), true),
            (Err(Fault::Zeros), true),
            (damaged(), false),
        ] {
            assert_eq!(judge(&flights, &record, found), Ok(whole));
        }
        assert!(judge(&flights, &record, whole(9)).is_err());
        // Once it is complete, what was there before must be gone, for good.
        flights.write_ended(2);
        record.note(3, trim);
        flights.read_begins(0, request(Kind::Read, 3), &record);
        assert_eq!(judge(&flights, &record, Err(Fault::Zeros)), Ok(true));
        assert!(judge(&flights, &record, whole(10)).is_err());
        assert!(judge(&flights, &record, damaged()).is_err());
        record.note(3, UNKNOWN);
        flights.read_begins(0, request(Kind::Read, 3), &record);
        for found in [whole(1), Err(Fault::Zeros), damaged()] {
            assert_eq!(judge(&flights, &record, found), Ok(true));
        }
    }

    #[test]
    fn of_blocks_without_a_record_only_place_and_content_are_known() {
        let record = Record::new(0..8, 4);
        let mut flights = Flights::new(1, 1);
        flights.read_begins(0, request(Kind::Read, 3), &record);
        assert_eq!(flights.judge((0, 0, 3), &record, whole(99)), Ok(true));
        assert_eq!(
            flights.judge((0, 0, 3), &record, Err(Fault::Zeros)),
            Err(Fault::Zeros)
        );
    }
}
