//! A mix of operations by shares: `get=45,head=30,put=15,delete=10`.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What one operation of a mix does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reads a whole object.
    Get,
    /// Asks for an object's size and ETag.
    Head,
    /// Puts a whole object.
    Put,
    /// Deletes an object.
    Delete,
}

const ACTIONS: [(&str, Action); 4] = [
    ("get", Action::Get),
    ("head", Action::Head),
    ("put", Action::Put),
    ("delete", Action::Delete),
];

/// Shares in percent, in the order of get, head, put, delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix([u8; 4]);

impl Mix {
    /// The action that a number below 100 stands for.
    #[must_use]
    pub fn action(&self, percent: u8) -> Action {
        let mut end = 0;
        for (share, (_, action)) in self.0.iter().zip(ACTIONS) {
            end += share;
            if percent < end {
                return action;
            }
        }
        unreachable!("the shares of a mix add up to 100, and {percent} is below it")
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [None; 4];
        for part in text.split(',') {
            let (name, share) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is no share; write get=70,put=30"))?;
            let at = ACTIONS.iter().position(|(known, _)| *known == name);
            let at = at.ok_or_else(|| {
                format!("{name:?} is no operation of a mix; there are get, head, put and delete")
            })?;
            let share = share.parse().ok().filter(|share| *share <= 100u8);
            let share = share.ok_or_else(|| format!("{part:?}: a share is 0 to 100 percent"))?;
            if shares[at].replace(share).is_some() {
                return Err(format!("{name} has two shares"));
            }
        }
        let shares = shares.map(Option::unwrap_or_default);
        let sum: u32 = shares.iter().map(|share| u32::from(*share)).sum();
        if sum != 100 {
            return Err(format!("the shares add up to {sum} percent instead of 100"));
        }
        if shares[3] > 0 && shares[2] == 0 {
            return Err("with delete and without put, nothing would be left".to_owned());
        }
        Ok(Self(shares))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = self.0.iter().zip(ACTIONS);
        let shown: Vec<_> = shares
            .filter(|(share, _)| **share > 0)
            .map(|(share, (name, _))| format!("{name}={share}"))
            .collect();
        f.write_str(&shown.join(","))
    }
}

impl Serialize for Mix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_exactly() {
        let mix: Mix = "put=30,get=70".parse().expect("sound");
        assert_eq!(mix.to_string(), "get=70,put=30");
        let gets = (0..100).filter(|p| mix.action(*p) == Action::Get);
        assert_eq!(gets.count(), 70);
        assert_eq!(mix.action(99), Action::Put);
    }

    #[test]
    fn what_is_no_mix_is_named() {
        for (text, part) in [
            ("get", "no share"),
            ("get=50", "50 percent"),
            ("get=100,get=0", "two shares"),
            ("list=100", "no operation"),
            ("get=101", "0 to 100"),
            ("get=90,delete=10", "nothing would be left"),
            ("get=60,put=60", "120 percent"),
        ] {
            let fault = text.parse::<Mix>().expect_err(text);
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
