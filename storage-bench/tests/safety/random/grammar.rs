//! Random command lines: cases and options from the program's help, values from pools.

use fastrand::Rng;

const LINES: usize = 1000;

/// An option as the help shows it.
#[derive(Debug, Clone, Default)]
struct Opt {
    name: String,
    takes_value: bool,
    values: Vec<String>,
}

/// The cases and their options, from the help.
fn commands() -> Vec<(String, Vec<Opt>)> {
    let names = help(&[]);
    let names = names
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1);
    let names = names.take_while(|line| line.starts_with("  "));
    let names = names.filter_map(|line| {
        line.strip_prefix("  ")?
            .split(' ')
            .next()
            .map(str::to_owned)
    });
    let names = names.filter(|name| !name.is_empty() && name != "help");
    let commands: Vec<_> = names
        .map(|name| (name.clone(), options(&help(&[&name]))))
        .collect();
    let options = |case: &str| {
        commands
            .iter()
            .find(|(name, _)| name == case)
            .map_or(0, |(_, options)| options.len())
    };
    assert!(
        options("file") > 15 && options("block") > 15 && options("null") > 8,
        "{commands:?}"
    );
    commands
}

fn help(words: &[&str]) -> String {
    let output = crate::common::program(words).arg("--help").output();
    let output = output.expect("the program starts");
    String::from_utf8(output.stdout).expect("text")
}

/// Options begin with `  -o, --output <FILE|DIR>` or `      --json`; the text after each may name
/// possible values, in brackets or as a list.
fn options(help: &str) -> Vec<Opt> {
    let mut found: Vec<Opt> = Vec::new();
    for line in help.lines() {
        let text = line.trim_start();
        let is_option =
            line.len() - text.len() <= 6 && text.starts_with('-') && text.contains("--");
        if is_option {
            let long = text.split("--").nth(1).unwrap_or_default();
            let name = long.split([' ', '=', '[']).next().unwrap_or_default();
            found.push(Opt {
                name: format!("--{name}"),
                takes_value: long.contains('<'),
                values: Vec::new(),
            });
        } else if let (Some(option), Some(value)) = (found.last_mut(), text.strip_prefix("- ")) {
            option
                .values
                .extend(value.split(':').next().map(str::to_owned));
        } else if let (Some(option), Some((_, values))) =
            (found.last_mut(), text.split_once("[possible values: "))
        {
            let values = values.trim_end_matches(']').split(", ");
            option.values.extend(values.map(str::to_owned));
        }
    }
    found.retain(|option| !matches!(option.name.as_str(), "--help" | "--version" | "--"));
    found
}

const NUMBERS: &[&str] = &["0", "1", "2", "3", "7", "16", "50", "99", "100", "4096"];
const SIZES: &[&str] = &[
    "512", "4k", "8k", "64k", "1m", "2m", "0", "1", "1000", "47008",
];
const ODD: &[&str] = &[
    "-1",
    "18446744073709551616",
    "9223372036854775807",
    "nan",
    "inf",
    "1e300",
    "",
    "x",
    "0x10",
    "1.5",
    "16e",
    "9000000t",
    "true",
    "false",
    "all",
    "none",
    ",",
    "=",
    ":",
    "1:2",
    "4k/50:8k/50",
    "\u{0}x",
    "zipf:1.2",
    "const",
    "poisson",
    "1ms@p99",
    "ö",
];

/// The lines, without the program's name; `paths` are those that options may be given.
pub fn lines(paths: &[String], rng: &mut Rng) -> Vec<Vec<String>> {
    let commands = commands();
    (0..LINES).map(|_| line(&commands, paths, rng)).collect()
}

fn line(commands: &[(String, Vec<Opt>)], paths: &[String], rng: &mut Rng) -> Vec<String> {
    let (case, options) = &commands[rng.usize(..commands.len())];
    let mut words = vec![case.clone()];
    let mut drawn: Vec<&Opt> = Vec::new();
    for _ in 0..rng.usize(..6) {
        let Some(option) = (!options.is_empty()).then(|| &options[rng.usize(..options.len())])
        else {
            break;
        };
        if drawn.iter().all(|other| other.name != option.name) || rng.u8(..50) == 0 {
            drawn.push(option);
        }
    }
    // What a case cannot do without, as often as not.
    drawn.extend(
        options
            .iter()
            .find(|option| option.name == "--device" && rng.bool()),
    );
    for option in &drawn {
        words.push(option.name.clone());
        if option.takes_value || rng.u8(..50) == 0 {
            words.push(value(option, paths, rng));
        }
    }
    // Small and short, where the line does not say otherwise.
    let has = |name: &str| drawn.iter().any(|option| option.name == name);
    let offers = |name: &str| options.iter().any(|option| option.name == name);
    if offers("--number-ios") && !has("--number-ios") && !has("--runtime") {
        words.extend([
            "--number-ios".to_owned(),
            rng.choice(["1", "20"]).expect("two").to_owned(),
        ]);
    }
    if offers("--size") && !has("--size") && rng.u8(..10) > 0 {
        words.extend([
            "--size".to_owned(),
            rng.choice(["64k", "1m"]).expect("two").to_owned(),
        ]);
    }
    if offers("--repetitions") && has("--sweep") && !has("--repetitions") {
        words.extend(["--repetitions".to_owned(), "1".to_owned()]);
    }
    // A zero byte cannot be passed on.
    words.iter().map(|word| word.replace('\0', "")).collect()
}

fn value(option: &Opt, paths: &[String], rng: &mut Rng) -> String {
    let pick = |pool: &[&str], rng: &mut Rng| pool[rng.usize(..pool.len())].to_owned();
    let sweeps = [
        "rw=read,randwrite",
        "bs=4k,8k",
        "engine=psync,uring",
        "device=/dev/loop,new",
        "x=1,2",
        "rw=read",
    ];
    let permissions = [
        "image",
        "/image",
        "loop",
        "ext4",
        "vol0abc:ext4",
        ":",
        "*",
        "",
    ];
    match option.name.as_str() {
        // How long a run takes is what only these may say.
        "--runtime" | "--ramp-time" => pick(&["0.01", "0.05", "0", "-1", "nan", "x"], rng),
        "--repetitions" => pick(&["1", "0", "x"], rng),
        "--sweep" => pick(&sweeps, rng),
        "--destroy" => pick(&permissions, rng),
        // A new report goes where the user says, which is no harm done.
        "--output" => {
            let harmful = |path: &&String| !path.ends_with("/.") && !path.ends_with("/new");
            let paths: Vec<_> = paths.iter().filter(harmful).collect();
            paths[rng.usize(..paths.len())].clone()
        }
        "--device" | "--dir" | "--filename" if rng.u8(..10) > 0 => {
            paths[rng.usize(..paths.len())].clone()
        }
        _ if !option.values.is_empty() && rng.u8(..10) > 1 => {
            option.values[rng.usize(..option.values.len())].clone()
        }
        _ => match rng.u8(..10) {
            0..4 => pick(NUMBERS, rng),
            4..6 => pick(SIZES, rng),
            6..8 => pick(ODD, rng),
            _ => paths[rng.usize(..paths.len())].clone(),
        },
    }
}
