//! The table of the cases on object stores.

use super::spec::{ObjectSpec, Op};
use super::{available, run};
use reports::case::Entry;

/// What all cases have in common; a macro because definitions are constants.
macro_rules! definition {
    ($what:literal) => {
        concat!(
            $what,
            " Each job keeps its concurrency of operations under way on connections of its own \
             (HTTP/1.1, kept alive) and its equal share of the objects to itself. lat_ns counts \
             from the call to the last byte of the answer, tries again and the pauses before them \
             included (the library's own are off). ops_per_s counts operations that ended in the \
             window, over its length, as warp and elbencho do; failed ones are counted apart. \
             Objects are put anew per run and are different in every 64 KiB block and generation."
        )
    };
}

const PUT: &str = definition!(
    "PutObject of whole objects, round and round over the job's keys, each time with other \
     content (warp's put takes a new key each time, which a bounded run cannot). Up to 64 objects \
     are read back in full afterwards."
);
const GET: &str = definition!(
    "GetObject of whole objects at random, uniform with replacement, as warp's get. Every byte is \
     compared. first_byte_ns counts to the first byte of data."
);
const GET_RANGE: &str = definition!(
    "GetObject of ranges of --range bytes, at random multiples of it in random objects. Every \
     byte is compared. first_byte_ns counts to the first byte of data."
);
const MULTIPART: &str = definition!(
    "Uploads in parts: CreateMultipartUpload, UploadPart with --parts-in-flight at a time, \
     CompleteMultipartUpload are one operation, round and round over the job's keys. A failed \
     upload is aborted. Up to 64 objects are read back in full afterwards."
);
const LIST: &str = definition!(
    "Listings of all objects of the job (ListObjectsV2), all pages of 1000 of one listing being \
     one operation; names, order and sizes are compared. objects_listed_per_s is warp's number."
);
const DELETE: &str = definition!(
    "DeleteObject of each object once, one per request (warp's delete takes 100 per request), \
     until the window or the objects end. Up to 64 are then looked for and must be gone."
);
const MIXED: &str = definition!(
    "GetObject, HeadObject, PutObject and DeleteObject by the shares of --mix, by default those \
     of warp's mixed, on random objects; what is written or deleted is not read meanwhile. Where \
     no object is free for an operation, one is put instead."
);

/// The case of a name.
pub(crate) fn op(case: &str) -> Op {
    match case {
        "object_put" => Op::Put,
        "object_get" => Op::Get,
        "object_get_range" => Op::GetRange,
        "object_multipart" => Op::Multipart,
        "object_list" => Op::List,
        "object_delete" => Op::Delete,
        _ => Op::Mixed,
    }
}

const fn entry(
    name: &'static str,
    summary: &'static str,
    definition: &'static str,
) -> Entry<ObjectSpec> {
    Entry {
        name,
        summary,
        definition,
        probe: available,
        run,
    }
}

/// All cases, in the order in which users see them.
pub const CASES: &[Entry<ObjectSpec>] = &[
    entry("object_put", "S3: whole objects are put", PUT),
    entry("object_get", "S3: whole objects are read and compared", GET),
    entry(
        "object_get_range",
        "S3: ranges of objects are read and compared",
        GET_RANGE,
    ),
    entry(
        "object_multipart",
        "S3: objects are put in parts",
        MULTIPART,
    ),
    entry("object_list", "S3: objects are listed", LIST),
    entry(
        "object_delete",
        "S3: objects are deleted, one per request",
        DELETE,
    ),
    entry(
        "object_mixed",
        "S3: gets, heads, puts and deletes by their shares",
        MIXED,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_case_of_its_own() {
        for (index, case) in CASES.iter().enumerate() {
            let same = CASES
                .iter()
                .position(|other| op(other.name) == op(case.name));
            assert_eq!(same, Some(index), "{}", case.name);
            assert!(case.definition.len() > 300);
        }
    }
}
