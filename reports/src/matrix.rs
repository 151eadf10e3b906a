//! Numbers between pairs of nodes, and what they say of the nodes. `mpi-kernels pairmatrix` and
//! `net-bench mesh` measure all pairs, each in its own way; who meets whom ([`tournament`]), what of
//! it stands in the report ([`pairs`]), who is slow ([`blame`]) and what a placement costs
//! ([`placement`]) is the same for both, so that a reader of reports need not tell them apart.

pub mod blame;
pub mod pairs;
pub mod placement;
mod polish;
pub mod topology;
pub mod tournament;
