//! The cycle counter: the one instruction that makes a time stamp cheap.

/// The processor's time-stamp counter, or `None` where this build has none to read.
///
/// Unit: ticks of unknown length; the caller calibrates. On x86-64 this is `rdtsc` without a
/// fence: it may move by a few tens of instructions, far below the resolution of one operation.
#[inline(always)]
#[must_use]
pub fn cycles() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: rdtsc has no memory operands and exists on every x86-64 processor. Linux never
        // sets CR4.TSD for ordinary processes; a process that set PR_TSC_SIGSEGV on itself asked
        // for the signal it gets.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::cycles;

    #[test]
    fn the_counter_advances_or_is_absent() {
        let first = cycles();
        let later = (0..1000).find_map(|_| cycles().filter(|&c| Some(c) > first));
        assert_eq!(first.is_some(), later.is_some());
        assert_eq!(first.is_some(), cfg!(target_arch = "x86_64"));
    }
}
