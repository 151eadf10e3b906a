//! What all raw calls share.

use mpi::ffi;
use std::ffi::{c_int, c_void};

unsafe extern "C" {
    fn mpi_kernels_in_place() -> *mut c_void;
}

/// `MPI_IN_PLACE`: given as a buffer, it says that a rank's contribution is in the other one.
#[must_use]
pub fn in_place() -> *mut c_void {
    // SAFETY: the shim returns a constant.
    unsafe { mpi_kernels_in_place() }
}

/// Turns the code of an MPI call into an error. MPI aborts the job on errors unless told otherwise;
/// this is for when it was told.
///
/// # Errors
/// The call and its code.
#[inline(always)]
pub fn succeeded(call: &str, code: c_int) -> anyhow::Result<()> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    anyhow::bail!("{call} failed with MPI error code {code}")
}
