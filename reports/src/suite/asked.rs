//! What the command line asks of a suite beyond its file.

use super::{Plan, Suite};
use glob::Pattern;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Wishes that change which runs a session plans. A session keeps them, so that `--resume` goes on
/// with the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// How often every row runs, whatever the suite says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetitions: Option<u32>,
    /// The suite's `stop_width`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_width: Option<f64>,
    /// The suite's `noise_floor`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub noise_floor: bool,
    /// The rows that run, by name or pattern (`tcp-*`); none named, all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
    /// The arms that run, by name, part of a combination, or pattern; none named, all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<String>,
}

impl Asked {
    /// The same with what a resumed session may change: more repetitions, another width.
    #[must_use]
    pub fn renewed(&self, by: &Self) -> Self {
        Self {
            repetitions: by.repetitions.or(self.repetitions),
            stop_width: by.stop_width.or(self.stop_width),
            ..self.clone()
        }
    }

    /// The suite as asked for.
    ///
    /// # Errors
    /// Which wish the suite cannot fulfil.
    pub fn of(&self, mut suite: Suite) -> Result<Suite, String> {
        if let Some(repetitions) = self.repetitions {
            suite.repetitions = repetitions;
            suite.rows.iter_mut().for_each(|row| row.repetitions = None);
        }
        suite.stop_width = self.stop_width.or(suite.stop_width);
        suite.noise_floor |= self.noise_floor;
        suite.check()?;
        Ok(suite)
    }

    /// The plan with the rows and arms asked for. The others keep their places in the drawn order,
    /// so the same seed gives the same order of what remains.
    ///
    /// # Errors
    /// A pattern that matches nothing, with what there is.
    pub fn select(&self, plan: &mut Plan) -> Result<(), String> {
        let rows = patterns("--row", &self.rows)?;
        let arms = patterns("--arm", &self.arms)?;
        let row_names = plan.units.iter().map(|unit| unit.row.clone()).collect();
        let arm_names = plan
            .units
            .iter()
            .filter_map(|unit| unit.arm.clone())
            .collect();
        for pattern in &rows {
            let found = plan.units.iter().any(|unit| pattern.matches(&unit.row));
            require(found, "row", pattern, &row_names)?;
        }
        for pattern in &arms {
            let found = plan
                .units
                .iter()
                .any(|unit| has_arm(pattern, unit.base_arm()));
            require(found, "arm", pattern, &arm_names)?;
        }
        let units = &plan.units;
        let wanted = |index: usize| {
            let unit = &units[index];
            let row = rows.is_empty() || rows.iter().any(|pattern| pattern.matches(&unit.row));
            let arm = arms.is_empty() || arms.iter().any(|p| has_arm(p, unit.base_arm()));
            row && arm
        };
        plan.order.retain(|run| wanted(run.unit));
        if plan.order.is_empty() {
            return Err("no row has both a row and an arm that --row and --arm name".to_owned());
        }
        Ok(())
    }
}

fn patterns(option: &str, texts: &[String]) -> Result<Vec<Pattern>, String> {
    let pattern = |text: &String| Pattern::new(text).map_err(|e| format!("{option} {text}: {e}"));
    texts.iter().map(pattern).collect()
}

/// Whether the pattern is the arm, or one part of it: `engine=uring` of `new,engine=uring`.
fn has_arm(pattern: &Pattern, arm: Option<&str>) -> bool {
    arm.is_some_and(|arm| pattern.matches(arm) || arm.split(',').any(|part| pattern.matches(part)))
}

fn require(
    found: bool,
    what: &str,
    pattern: &Pattern,
    names: &BTreeSet<String>,
) -> Result<(), String> {
    if found {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let there_are = match names.as_slice() {
        [] => format!("the suite has no {what}s"),
        names => format!("the {what}s are: {}", names.join(" ")),
    };
    Err(format!(
        "--{what} {pattern}: no {what} matches; {there_are}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"
        name = "s"
        repetitions = 4
        [matrix]
        engine = ["uring", "psync"]
        [[arm]]
        name = "old"
        [[arm]]
        name = "new"
        [[row]]
        name = "read"
        repetitions = 8
        command = ["storage-bench", "file", "--engine", "{engine}"]
        [[row]]
        name = "tcp-rr"
        command = ["net-bench", "tcp_rr"]
    "#;

    fn planned(asked: &Asked) -> Result<Plan, String> {
        let suite = asked.of(Suite::parse(SUITE).expect("well-formed"))?;
        let mut plan = Plan::new(&suite, 7);
        asked.select(&mut plan)?;
        Ok(plan)
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.order
            .iter()
            .map(|run| plan.units[run.unit].name())
            .collect()
    }

    #[test]
    fn rows_and_arms_are_selected_in_the_same_order() {
        let all = names(&planned(&Asked::default()).expect("everything"));
        assert_eq!(all.len(), 4 * 8 + 2 * 4);
        let rows = vec!["tcp*".to_owned()];
        let asked = Asked {
            rows,
            ..Asked::default()
        };
        let some = names(&planned(&asked).expect("one row"));
        let expected: Vec<_> = all.iter().filter(|name| name.starts_with("tcp")).collect();
        assert_eq!(some.iter().collect::<Vec<_>>(), expected);
        let arms = vec!["engine=psync".to_owned()];
        let asked = Asked {
            arms,
            repetitions: Some(2),
            ..Asked::default()
        };
        let some = names(&planned(&asked).expect("two arms of a row"));
        assert_eq!(some.len(), 2 * 2);
        assert!(
            some.iter().all(|name| name.contains("engine=psync")),
            "{some:?}"
        );
    }

    #[test]
    fn what_matches_nothing_is_named_with_what_there_is() {
        let fault = |rows: &[&str], arms: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let asked = Asked {
                rows: own(rows),
                arms: own(arms),
                ..Asked::default()
            };
            planned(&asked).expect_err("nothing matches")
        };
        assert_eq!(
            fault(&["udp-*"], &[]),
            "--row udp-*: no row matches; the rows are: read tcp-rr"
        );
        assert!(fault(&[], &["newer"]).contains("the arms are: new new,engine=psync"));
        assert!(fault(&["[a"], &[]).contains("--row [a"));
        assert!(fault(&["tcp-rr"], &["engine=uring"]).contains("no row has both"));
        let asked = Asked {
            repetitions: Some(0),
            ..Asked::default()
        };
        assert!(
            planned(&asked)
                .expect_err("none")
                .contains("repetitions = 0")
        );
    }
}
