//! How many bytes requests can carry themselves: no call tells, so it is found by trying.

use crate::error::Error;

/// How many inline bytes a device was asked for, and granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inline {
    /// What to ask for.
    pub(super) asked: u32,
    /// What that gives.
    pub(super) granted: u32,
}

/// The most inline bytes up to `wanted` that a device grants: no call tells, so it is found by
/// trying.
pub(super) fn most_inline(
    wanted: u32,
    mut grant: impl FnMut(u32) -> Result<u32, Error>,
) -> Result<Inline, Error> {
    let (mut low, mut high) = match grant(wanted) {
        Ok(granted) => {
            return Ok(Inline {
                asked: wanted,
                granted,
            });
        }
        Err(error) if wanted == 0 => return Err(error),
        Err(_) => (0, wanted),
    };
    let mut best = Inline {
        asked: 0,
        // If not even this goes, inline is not what is wrong.
        granted: grant(0)?,
    };
    // `low` goes, `high` does not.
    while high - low > 1 {
        let middle = low.midpoint(high);
        match grant(middle) {
            Ok(granted) => {
                best = Inline {
                    asked: middle,
                    granted,
                };
                low = granted.clamp(middle, high - 1);
            }
            Err(_) => high = middle,
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_inline_is_found_by_trying() {
        // A device that rounds up to 16 and has at most 220.
        let device = |inline: u32| match inline {
            0..=220 => Ok(inline.next_multiple_of(16).min(220)),
            _ => Err(Error::Refused("too much".to_owned())),
        };
        let most = |wanted| most_inline(wanted, device).expect("some");
        assert_eq!(most(1024).granted, 220);
        assert_eq!(most(100).granted, 112);
        assert_eq!(most(0).granted, 0);
        let none = |inline: u32| match inline {
            0 => Ok(0),
            _ => Err(Error::Refused("none".to_owned())),
        };
        assert_eq!(
            most_inline(236, none).expect("none"),
            Inline {
                asked: 0,
                granted: 0
            }
        );
        let broken = |_| Err(Error::Refused("no queue pairs".to_owned()));
        assert!(most_inline(236, broken).is_err());
    }
}
