//! `reports rank`.

use super::{complain, complain_of_all, say_incomplete};
use anyhow::Context;
use clap::Args;
use reports::compare::Axis;
use reports::model;
use reports::program::{self, Usage};
use reports::rank::{InstanceTypes, Options, PRICES_EXAMPLE, Prices, Status, rank};
use reports::render::{rank as render, terminal::Style};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Runs are grouped by the instance types of their hosts; a host whose type is unknown goes by its \
name. Give each group at least 4 runs, better 10. Every pair of groups is tested (Mann-Whitney) and \
all p values are adjusted together (Benjamini-Hochberg). A group's place is a range, such as 1-2, \
wherever the runs do not show more; ~ marks a group that cannot be told apart from the one above it \
or from the reference. Cases of different definition, parameters, unit or number of nodes are never \
ranked together.

Prices: a rate is divided by the price (bytes per dollar); of a time the cost stands beside it. A \
run's price is that of all its machines. The front are the groups that no other beats in both cost \
and performance. A price without region or capacity is for every region or capacity; one with is \
for the runs whose metadata say the same, or say nothing. No price is built in. A file of prices, \
in TOML or the same in JSON:

";

const HELP_LIMITS: &str = "
Limits: FILE is what `aws ec2 describe-instance-types --instance-types TYPE... --output json` \
prints. Bandwidth between two machines is set against the network's baseline and peak (a burst on \
credits), I/O that went directly to an EBS volume against the instance's limits towards EBS; \
nothing else is, and the output says why. Limits of the network count headers, which goodput does \
not.

Exit codes: 0 ranked, 2 wrong usage or an unusable file of prices or types, 3 incomparable, 4 \
insufficient: too few valid runs, one group alone, or a report that cannot be read. Of several the \
first counts in the order 2, 3, 4.";

/// The text after the options.
pub(crate) fn help() -> String {
    let example = PRICES_EXAMPLE.lines().map(|line| format!("  {line}\n"));
    format!("{HELP}{}{HELP_LIMITS}", example.collect::<String>())
}

#[derive(Args)]
pub(crate) struct RankArgs {
    /// Report files, folders of them, or sessions' folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The field to group by: instance_type, kernel.release, program.commit, a parameter such as
    /// iodepth, nodes, or arm
    #[arg(long, value_name = "FIELD", default_value = "instance_type")]
    by: Axis,
    /// A metric to rank: its name, or name and aggregation; may be repeated [default: headlines]
    #[arg(long = "metric", value_name = "NAME")]
    metrics: Vec<String>,
    /// The group that ratios refer to [default: the best of each metric]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// What an hour of each instance type costs, in TOML or JSON
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Documented limits: the output of `aws ec2 describe-instance-types`
    #[arg(long, value_name = "FILE")]
    instance_types: Option<PathBuf>,
    /// Show every case of a sweep and every confounder
    #[arg(long)]
    all: bool,
    /// Print the ranking as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &RankArgs) -> anyhow::Result<ExitCode> {
    let prices = args.prices.as_deref().map(Prices::load).transpose();
    let instance_types = args.instance_types.as_deref().map(InstanceTypes::load);
    let options = Options {
        by: args.by.clone(),
        metrics: args.metrics.clone(),
        baseline: args.baseline.clone(),
        prices: prices.map_err(|error| Usage(format!("--prices {error}")))?,
        instance_types: instance_types
            .transpose()
            .map_err(|error| Usage(format!("--instance-types {error}")))?,
    };
    let (reports, faults) = model::load_all(&args.paths);
    complain_of_all(&faults);
    if reports.is_empty() {
        complain("there is no report to rank");
        return Ok(ExitCode::from(Status::Insufficient.exit_code()));
    }
    let ranking = rank(&reports, &options).map_err(|error| Usage(error.to_string()))?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&ranking);
        json.context("cannot serialise the ranking")? + "\n"
    } else {
        let listing = match args.all {
            true => render::Listing::Full,
            false => render::Listing::Short,
        };
        render::ranking(&ranking, listing, &Style::of_stdout())
    };
    program::print(&text)?;
    say_incomplete(faults.len());
    let status = match ranking.status {
        Status::Ranked if !faults.is_empty() => Status::Insufficient,
        status => status,
    };
    Ok(ExitCode::from(status.exit_code()))
}
