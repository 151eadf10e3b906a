//! The types that messages consist of.

use mpi::ffi;
use mpi::raw::AsRaw;
use mpi::traits::Equivalence;

/// The type of a buffer's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// `MPI_UINT8_T`.
    U8,
    /// `MPI_INT32_T`.
    I32,
    /// `MPI_INT64_T`.
    I64,
    /// `MPI_FLOAT`.
    F32,
    /// `MPI_DOUBLE`.
    F64,
}

impl ElementType {
    /// The type of this name, as `--type` takes them; bytes for every other word, so also where
    /// there is no such choice.
    #[must_use]
    pub fn named(word: &str) -> Self {
        match word {
            "i32" => Self::I32,
            "i64" => Self::I64,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => Self::U8,
        }
    }

    /// The bytes of an element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    pub(super) fn raw(self) -> ffi::MPI_Datatype {
        match self {
            Self::U8 => u8::equivalent_datatype().as_raw(),
            Self::I32 => i32::equivalent_datatype().as_raw(),
            Self::I64 => i64::equivalent_datatype().as_raw(),
            Self::F32 => f32::equivalent_datatype().as_raw(),
            Self::F64 => f64::equivalent_datatype().as_raw(),
        }
    }
}
