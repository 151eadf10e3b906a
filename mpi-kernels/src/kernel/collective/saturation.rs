//! What the library does with a sum of integers that is too large for them. The standard leaves it
//! open, libraries differ, and even one of them does for vectors of different lengths: Open MPI
//! 4.1.4 with AVX saturates u8 from 16 elements on.

use crate::pattern::Element;
use crate::world::World;
use mpi::collective::SystemOperation;
use mpi::traits::{CommunicatorCollectives, Equivalence};

/// Elements of the probe: several vector registers full, and a rest.
const ELEMENTS: usize = 67;

/// What MPI_Allreduce makes of a sum that overflows, in words. Called by all ranks.
pub trait Integer: Element + Equivalence + Default + Ord {
    /// What ranks 0 and 1 add; together they are too many.
    const PARTS: [Self; 2];
    /// Their sum modulo the type's range.
    const WRAPPED: Self;
    /// The type's largest.
    const LARGEST: Self;

    /// Adds them on the library; the same answer on all ranks.
    fn probe(world: &World) -> String {
        let own = Self::PARTS.get(world.rank()).copied().unwrap_or_default();
        let mut sums = [Self::default(); ELEMENTS];
        let parts = [own; ELEMENTS];
        let comm = world.comm();
        comm.all_reduce_into(&parts[..], &mut sums[..], SystemOperation::sum());
        describe(&sums)
    }
}

macro_rules! integers {
    ($($integer:ty: $first:expr, $second:expr;)*) => { $(
        impl Integer for $integer {
            const PARTS: [Self; 2] = [$first, $second];
            const WRAPPED: Self = <$integer>::wrapping_add($first, $second);
            const LARGEST: Self = <$integer>::MAX;
        }
    )* };
}

integers! {
    u8: 200, 200;
    i32: i32::MAX, 1;
    i64: i64::MAX, 1;
}

fn describe<T: Integer>(sums: &[T]) -> String {
    let number = |value| sums.iter().filter(|&&sum| sum == value).count();
    let (wrapped, saturated, all) = (number(T::WRAPPED), number(T::LARGEST), sums.len());
    let [first, second] = T::PARTS;
    match () {
        () if wrapped == all => format!("wraps: {first} + {second} = {}", T::WRAPPED),
        () if saturated == all => format!("saturates: {first} + {second} = {}", T::LARGEST),
        () if wrapped + saturated == all => format!(
            "differs: {first} + {second} saturates in {saturated} and wraps in {wrapped} of {all} \
             elements"
        ),
        () => format!(
            "neither wraps nor saturates: {first} + {second} = {}",
            sums[0]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_too_large_sums_is_said() {
        assert_eq!(describe(&[144u8; 67]), "wraps: 200 + 200 = 144");
        assert_eq!(describe(&[255u8; 67]), "saturates: 200 + 200 = 255");
        let wrapped = "wraps: 2147483647 + 1 = -2147483648";
        assert_eq!(describe(&[i32::MIN; 4]), wrapped);
        let mut mixed = [255u8; 67];
        mixed[64..].fill(144);
        let text = describe(&mixed);
        assert!(
            text.contains("saturates in 64 and wraps in 3 of 67"),
            "{text}"
        );
        assert!(describe(&[0i64; 3]).starts_with("neither"));
    }
}
