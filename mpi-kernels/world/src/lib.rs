//! A world of ranks under `mpirun` or `srun`, as every program of this suite that has one sees it:
//! who is where and how all agree ([`world`]), what a run has come to so far ([`ledger`]), who ends
//! a job in which a rank died or hangs ([`watchdog`]), how a run begins and ends ([`job`]), and what a
//! process knows of its launcher before MPI begins ([`launcher`]).

pub mod beginning;
pub mod job;
pub mod launcher;
pub mod ledger;
pub mod progress;
pub mod ranges;
mod sys;
pub mod watchdog;
pub mod world;
