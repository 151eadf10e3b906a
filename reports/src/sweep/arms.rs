//! The arms of a sweep: the case's command line, once per combination of values.

use super::{Axis, SweepArgs, Swept};
use crate::program::{OutputArgs, Usage};
use crate::suite;
use anyhow::Context;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, Command};
use std::iter;

/// More combinations than this are a typing error, or a day's work that wants a suite file.
const MAX_COMBINATIONS: usize = 64;

/// One combination of values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arm {
    /// `engine=uring,receive=plain`.
    pub(super) name: String,
    /// The case's options, those of the user and those of the combination.
    pub(super) options: Vec<String>,
}

/// All combinations, the first values first; each is a command line that the case takes.
///
/// # Errors
/// [`Usage`], which names the option and what is wrong with it.
pub(super) fn of(axes: &[Axis], case: &Swept<'_>) -> anyhow::Result<Vec<Arm>> {
    let mut options: Vec<&Arg> = Vec::new();
    for axis in axes {
        let option = option(axis, case)?;
        if options
            .iter()
            .any(|other| other.get_id() == option.get_id())
        {
            let name = long(option);
            let fault = format!("--sweep {name}: given twice; give all its values in one");
            return Err(Usage(fault).into());
        }
        options.push(option);
    }
    let count = axes.iter().map(|axis| axis.values.len());
    let count = count.fold(1, usize::saturating_mul);
    if count > MAX_COMBINATIONS {
        return Err(Usage(format!(
            "--sweep: {count} combinations are more than {MAX_COMBINATIONS}: sweep fewer values, \
             or write a suite with a matrix for `reports run`"
        ))
        .into());
    }
    let given = given(case)?;
    let names: Vec<String> = options
        .iter()
        .map(|option| long(option).to_owned())
        .collect();
    let values = axes.iter().map(|axis| &axis.values);
    let combinations = suite::product(names.iter().zip(values));
    let arm = |values: Vec<(&str, &str)>| {
        let swept = options.iter().zip(&values);
        let swept = swept.filter_map(|(option, (_, value))| word(option, value));
        let names: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let arm = Arm {
            name: names.join(","),
            options: given.iter().cloned().chain(swept).collect(),
        };
        check(&arm, case).with_context(|| format!("--sweep, with {}", arm.name))?;
        Ok(arm)
    };
    combinations.into_iter().map(arm).collect()
}

/// The options that shape the case's work. Those of the sweep itself and of the report's place do
/// not.
fn of_case(command: &Command) -> impl Iterator<Item = &Arg> {
    let others = OutputArgs::augment_args(SweepArgs::augment_args(Command::new("")));
    let others: Vec<clap::Id> = others
        .get_arguments()
        .map(|arg| arg.get_id().clone())
        .collect();
    command
        .get_arguments()
        .filter(move |arg| !others.contains(arg.get_id()))
}

fn long(option: &Arg) -> &str {
    // The tests of both programs look at every option of every case.
    option
        .get_long()
        .expect("an option of a case has a long name")
}

/// The option that an axis names, if it is free and takes such values.
fn option<'a>(axis: &Axis, case: &Swept<'a>) -> Result<&'a Arg, Usage> {
    let name = &axis.name;
    let is_it = |option: &&Arg| {
        let names = option.get_long_and_visible_aliases().unwrap_or_default();
        names.contains(&name.as_str())
    };
    let Some(option) = of_case(case.command).find(is_it) else {
        let known = of_case(case.command).filter(|option| !option.is_hide_set());
        let known: Vec<&str> = known.map(long).collect();
        return Err(Usage(format!(
            "--sweep {name}: {} has no such option to sweep; it has {}",
            case.command.get_name(),
            known.join(", ")
        )));
    };
    if is_given(option, case) {
        return Err(Usage(format!(
            "--sweep {name}: --{} is also given by itself; leave out one of the two",
            long(option)
        )));
    }
    let is_bool = |value: &String| value == "true" || value == "false";
    match axis.values.iter().find(|value| !is_bool(value)) {
        Some(value) if is_flag(option) => Err(Usage(format!(
            "--sweep {name}={value}: a flag has the values true and false"
        ))),
        _ => Ok(option),
    }
}

fn is_flag(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

fn is_given(option: &Arg, case: &Swept<'_>) -> bool {
    let source = case.matches.value_source(option.get_id().as_str());
    source == Some(ValueSource::CommandLine)
}

/// An option with a value as one word, so that a value may begin with a dash; no word of a flag that
/// is false.
fn word(option: &Arg, value: &str) -> Option<String> {
    let name = long(option);
    match is_flag(option) {
        true => (value == "true").then(|| format!("--{name}")),
        false => Some(format!("--{name}={value}")),
    }
}

/// What the user gave beside the sweep.
fn given(case: &Swept<'_>) -> Result<Vec<String>, Usage> {
    let mut words = Vec::new();
    for option in of_case(case.command).filter(|option| is_given(option, case)) {
        if is_flag(option) {
            words.extend(word(option, "true"));
            continue;
        }
        for value in case
            .matches
            .get_raw(option.get_id().as_str())
            .unwrap_or_default()
        {
            let value = value.to_str().ok_or_else(|| {
                Usage(format!(
                    "--{} {}: a sweep takes UTF-8 only; rename it",
                    long(option),
                    value.to_string_lossy()
                ))
            })?;
            words.extend(word(option, value));
        }
    }
    Ok(words)
}

/// Whether the case takes this command line.
fn check(arm: &Arm, case: &Swept<'_>) -> anyhow::Result<()> {
    let words = arm.options.iter().map(String::as_str);
    let words = iter::once(case.command.get_name()).chain(words);
    let matches = case.command.clone().try_get_matches_from(words);
    let matches = matches.map_err(|error| Usage(in_short(&error)))?;
    (case.check)(&matches)
}

/// What clap says is wrong, without the usage that follows.
fn in_short(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or(text);
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{ArgMatches, FromArgMatches};

    /// A case with every kind of option.
    fn command() -> Command {
        let value = |name: &'static str| Arg::new(name).long(name);
        let case = Command::new("rr")
            .arg(
                value("engine")
                    .short('e')
                    .value_parser(["plain", "uring", "gso"]),
            )
            .arg(value("bitrate").short('b').visible_alias("bandwidth"))
            .arg(value("time").short('t').default_value("10"))
            .arg(value("rate").allow_hyphen_values(true))
            .arg(value("arrival").requires("rate"))
            .arg(value("busy-poll").action(ArgAction::SetTrue))
            .arg(value("nagle").action(ArgAction::SetTrue));
        OutputArgs::augment_args(SweepArgs::augment_args(case))
    }

    fn arms(line: &str) -> Result<Vec<Arm>, String> {
        let command = command();
        let words = iter::once("rr").chain(line.split_whitespace());
        // As `sweep::matches` does it.
        let lenient = command.clone().ignore_errors(true);
        let matches = lenient.try_get_matches_from(words).expect("it parses");
        let check = |matches: &ArgMatches| match matches.get_one::<String>("time") {
            Some(time) if time == "0" => Err(Usage("--time 0: too short".to_owned()).into()),
            _ => Ok(()),
        };
        let sweep = SweepArgs::from_arg_matches(&matches).expect("it has them");
        let case = Swept {
            program: "bench",
            command: &command,
            matches: &matches,
            check: &check,
        };
        of(&sweep.axes, &case).map_err(|error| {
            let text = format!("{error:#}");
            assert!(error.downcast_ref::<Usage>().is_some(), "{text}");
            text
        })
    }

    fn lines(line: &str) -> Vec<String> {
        let arms = arms(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
        let in_words = |arm: Arm| format!("{}: {}", arm.name, arm.options.join(" "));
        arms.into_iter().map(in_words).collect()
    }

    #[test]
    fn combinations_keep_the_users_order_and_options() {
        assert_eq!(
            lines(
                "--sweep engine=uring,plain -t 1 --nagle --sweep busy-poll=false,true -o x --json"
            ),
            [
                "engine=uring,busy-poll=false: --time=1 --nagle --engine=uring",
                "engine=uring,busy-poll=true: --time=1 --nagle --engine=uring --busy-poll",
                "engine=plain,busy-poll=false: --time=1 --nagle --engine=plain",
                "engine=plain,busy-poll=true: --time=1 --nagle --engine=plain --busy-poll",
            ]
        );
        // An alias is the option; a value may begin with a dash; defaults are not repeated.
        assert_eq!(
            lines("--sweep bandwidth=1M,2M --rate=-1 --repetitions 3 --stop-width 2%"),
            [
                "bitrate=1M: --rate=-1 --bitrate=1M",
                "bitrate=2M: --rate=-1 --bitrate=2M",
            ]
        );
        // What an option requires may be what is swept.
        assert_eq!(
            lines("--arrival const --sweep rate=1,2"),
            [
                "rate=1: --arrival=const --rate=1",
                "rate=2: --arrival=const --rate=2"
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_named_before_anything_runs() {
        let many = (0..65).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        for (line, expected) in [
            (
                "--sweep motor=a,b",
                "--sweep motor: rr has no such option to sweep; it has engine, bitrate, time, \
                 rate, arrival, busy-poll, nagle",
            ),
            (
                "--sweep json=true,false",
                "--sweep json: rr has no such option",
            ),
            (
                "--sweep repetitions=1,2",
                "--sweep repetitions: rr has no such option",
            ),
            (
                "--sweep engine=plain,steam",
                "--sweep, with engine=steam: invalid value 'steam' for '--engine <engine>' [possible values: plain, uring, gso]",
            ),
            (
                "--sweep time=1,0",
                "--sweep, with time=0: --time 0: too short",
            ),
            (
                "-e plain --sweep engine=plain,uring",
                "--sweep engine: --engine is also given by itself",
            ),
            (
                "--nagle --sweep nagle=false,true",
                "--sweep nagle: --nagle is also given",
            ),
            (
                "--sweep nagle=yes,no",
                "--sweep nagle=yes: a flag has the values true and false",
            ),
            (
                "--sweep time=1,2 --sweep time=3,4",
                "--sweep time: given twice",
            ),
            (
                "--sweep bitrate=1,2 --sweep bandwidth=3,4",
                "--sweep bitrate: given twice",
            ),
            (
                "--sweep arrival=const,poisson",
                "--sweep, with arrival=const: the following required arguments were not provided: --rate",
            ),
            (
                &format!("--sweep time={many}"),
                "65 combinations are more than 64",
            ),
        ] {
            let fault = arms(line).expect_err("it does not fit");
            assert!(fault.contains(expected), "{line}:\n{fault}\n{expected}");
        }
    }
}
