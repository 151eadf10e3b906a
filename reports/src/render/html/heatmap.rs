//! Numbers between pairs of nodes as a map of colours. Nodes that stand together are drawn
//! together, so that a slow rack, zone or partition shows as a block, and a slow node as a cross.

use crate::model::{Aggregation, Direction, Fact};
use crate::render::units::human;
use crate::stats;
use crate::summary::{CaseSummary, MatrixSummary, NodeSummary};
use maud::{Markup, html};

/// How many shades the style sheet has.
const SHADES: usize = 9;
/// Up to so many nodes, cells have room for their numbers.
const MOST_WITH_NUMBERS: usize = 12;
/// How many of the worst pairs are named.
const WORST: usize = 5;

/// Of more nodes, neighbours share a cell: a page of a quarter of a million cells is none.
const MOST_DRAWN: usize = 96;
/// How many rows a folded map has, about.
const FOLDED: usize = 64;

/// The case's maps. Bounds have none of their own: they stand beside the worst pairs.
pub(super) fn heatmaps(label: &str, case: &CaseSummary) -> Markup {
    html! { @for matrix in case.matrices.iter().filter(|matrix| !matrix.is_bound()) {
        @let map = Map::of(matrix, &case.matrices);
        @match map.folded() {
            Some((folded, side)) => { (map.draw(label, Some((&Map::of(&folded, &[]), side)))) }
            None => { (map.draw(label, None)) }
        }
    } }
}

/// A matrix with its nodes in the order of their places.
struct Map<'a> {
    matrix: &'a MatrixSummary,
    /// The interval's ends, where the case has them.
    bounds: Option<[&'a MatrixSummary; 2]>,
    /// Nodes in order, as indices.
    order: Vec<usize>,
    /// The group of each place in `order`.
    groups: Vec<usize>,
    names: Vec<String>,
    low: f64,
    high: f64,
}

impl<'a> Map<'a> {
    fn of(matrix: &'a MatrixSummary, others: &'a [MatrixSummary]) -> Self {
        let bound = |mark| matrix.bound(mark, others);
        let bounds = bound("_ci_low").zip(bound("_ci_high"));
        let places: Vec<String> = matrix.nodes.iter().map(place).collect();
        let mut order: Vec<usize> = (0..matrix.nodes.len()).collect();
        order.sort_by(|&a, &b| places[a].cmp(&places[b]));
        let mut names: Vec<String> = Vec::new();
        let mut groups = Vec::new();
        for &node in &order {
            if names.last() != Some(&places[node]) {
                names.push(places[node].clone());
            }
            groups.push(names.len() - 1);
        }
        let values = matrix.medians.iter().flatten().flatten();
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(*v), high.max(*v))
        });
        Self {
            matrix,
            bounds: bounds.map(<[_; 2]>::from),
            order,
            groups,
            names,
            low,
            high,
        }
    }

    fn value(&self, from: usize, to: usize) -> Option<f64> {
        self.at(self.matrix, from, to)
    }

    fn at(&self, matrix: &MatrixSummary, from: usize, to: usize) -> Option<f64> {
        *matrix.medians.get(self.order[from])?.get(self.order[to])?
    }

    /// A pair's interval in words, if it is known.
    fn interval(&self, from: usize, to: usize) -> Option<String> {
        let [low, high] = self.bounds?.map(|bound| self.at(bound, from, to));
        let unit = self.matrix.unit;
        Some(format!(" [{}, {}]", human(low?, unit), human(high?, unit)))
    }

    fn node(&self, at: usize) -> &NodeSummary {
        &self.matrix.nodes[self.order[at]]
    }

    /// The darker, the worse; where neither way is better, the larger.
    fn shade(&self, value: f64) -> usize {
        // Over more than a factor of ten, equal factors look equal.
        let scale = |value: f64| match self.low > 0.0 && self.high / self.low > 10.0 {
            true => value.ln(),
            false => value,
        };
        let span = scale(self.high) - scale(self.low);
        let share = match span > 0.0 {
            true => (scale(value) - scale(self.low)) / span,
            false => 0.0,
        };
        let share = match self.matrix.direction {
            Direction::HigherIsBetter => 1.0 - share,
            Direction::LowerIsBetter | Direction::Neutral => share,
        };
        ((share * SHADES as f64) as usize).min(SHADES - 1)
    }

    fn title(&self) -> String {
        match self.matrix.aggregation {
            Aggregation::Total => self.matrix.name.clone(),
            aggregation => format!("{} {aggregation}", self.matrix.name),
        }
    }

    /// A smaller map for the eye, in which up to so many neighbours of a place stand together: a cell
    /// is the worst of its pairs, so that no slow node and no slow pair disappears.
    fn folded(&self) -> Option<(MatrixSummary, usize)> {
        let nodes = self.order.len();
        if nodes <= MOST_DRAWN {
            return None;
        }
        let side = nodes.div_ceil(FOLDED);
        let at: Vec<usize> = (0..nodes).collect();
        let of_groups = at.chunk_by(|a, b| self.groups[*a] == self.groups[*b]);
        let blocks: Vec<&[usize]> = of_groups.flat_map(|group| group.chunks(side)).collect();
        let name = |block: &&[usize]| {
            let (first, last) = (self.node(block[0]), self.node(block[block.len() - 1]));
            let name = match block.len() {
                1 => first.name.clone(),
                _ => format!("{} – {}", first.name, last.name),
            };
            NodeSummary {
                name,
                ..first.clone()
            }
        };
        let lower = self.matrix.direction == Direction::HigherIsBetter;
        let worst = |from: &[usize], to: &[usize]| {
            let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b)));
            let values = pairs.filter_map(|(a, b)| self.value(a, b));
            values.reduce(|a, b| if lower { a.min(b) } else { a.max(b) })
        };
        let row = |from: &&[usize]| blocks.iter().map(|to| worst(from, to)).collect();
        let folded = MatrixSummary {
            nodes: blocks.iter().map(name).collect(),
            medians: blocks.iter().map(row).collect(),
            name: self.matrix.name.clone(),
            ..*self.matrix
        };
        Some((folded, side))
    }

    fn draw(&self, label: &str, folded: Option<(&Map<'_>, usize)>) -> Markup {
        let nodes = self.order.len();
        let runs = match self.matrix.runs {
            1 => "one run".to_owned(),
            runs => format!("medians of {runs} runs"),
        };
        html! {
            figure .map data-words=(label) {
                h3 { (label) ": " (self.title()) " between " (nodes) " nodes" }
                p .faint { "From the row's node to the column's, " (runs) ". "
                    (folded.map_or(self, |(map, _)| map).legend())
                    @if let Some((_, side)) = folded { " Up to " (side) " neighbours share a row and a \
                        column; a cell is the worst of their pairs." }
                    @if self.matrix.moved { " Some node stood elsewhere in another run; here it stands \
                        where the first run had it." } }
                div .scroll tabindex="0" { (folded.map_or(self, |(map, _)| map).table()) }
                (self.worst())
                (self.between_groups())
            }
        }
    }

    fn legend(&self) -> Markup {
        if self.low > self.high {
            return html! { "No pair was measured." };
        }
        let unit = self.matrix.unit;
        let (low, high) = (human(self.low, unit), human(self.high, unit));
        let (best, worst) = match self.matrix.direction {
            Direction::HigherIsBetter => (high, low),
            Direction::LowerIsBetter | Direction::Neutral => (low, high),
        };
        html! {
            span .legend { (best) " "
                @for shade in 0..SHADES { span class=(format!("swatch h{shade}")) {} }
                " " (worst) }
        }
    }

    fn table(&self) -> Markup {
        let numbers = self.order.len() <= MOST_WITH_NUMBERS;
        let nodes = 0..self.order.len();
        let edge = |at: usize| at > 0 && self.groups[at] != self.groups[at - 1];
        html! {
            table .heat.numbers[numbers] {
                thead {
                    @if self.names.len() > 1 { tr {
                        td colspan="2" {}
                        @for (group, name) in self.names.iter().enumerate() {
                            th scope="colgroup" colspan=(self.size(group)) { (name) }
                        }
                    } }
                    tr {
                        td colspan="2" {}
                        @for to in nodes.clone() { th scope="col" { span { (self.node(to).name) } } }
                    }
                }
                @for (group, name) in self.names.iter().enumerate() { tbody {
                    @for (index, from) in nodes.clone().filter(|at| self.groups[*at] == group).enumerate() {
                        tr {
                            @if index == 0 {
                                th scope="rowgroup" rowspan=(self.size(group)) {
                                    @if self.names.len() > 1 { (name) }
                                }
                            }
                            th scope="row" { (self.node(from).name) }
                            @for to in nodes.clone() {
                                @match self.value(from, to) {
                                    Some(value) => {
                                        @let edge = if edge(to) { " edge" } else { "" };
                                        td class=(format!("h{}{edge}", self.shade(value))) {
                                            (human(value, self.matrix.unit))
                                        }
                                    }
                                    None => { td .edge[edge(to)] {} }
                                }
                            }
                        }
                    }
                } }
            }
        }
    }

    fn size(&self, group: usize) -> usize {
        self.groups.iter().filter(|of| **of == group).count()
    }

    /// All pairs with their values.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        let nodes = self.order.len();
        (0..nodes)
            .flat_map(move |from| (0..nodes).map(move |to| (from, to)))
            .filter_map(|(from, to)| Some((from, to, self.value(from, to)?)))
    }

    /// Groups against groups in numbers.
    fn between_groups(&self) -> Markup {
        if self.names.len() < 2 {
            return html! {};
        }
        let count = self.names.len();
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); count * count];
        for (from, to, value) in self.pairs() {
            values[self.groups[from] * count + self.groups[to]].push(value);
        }
        html! {
            details { summary { "Groups against groups" } div .scroll tabindex="0" { table {
                thead { tr {
                    th scope="col" { "From" } th scope="col" { "To" } th scope="col" .num { "Median" }
                    th scope="col" .num { "Least" } th scope="col" .num { "Most" }
                    th scope="col" .num { "Pairs" }
                } }
                tbody { @for (at, values) in values.iter().enumerate() {
                    @if let Some(median) = stats::median(values) { tr {
                        th scope="row" { (self.names[at / count]) } td { (self.names[at % count]) }
                        td .num { (human(median, self.matrix.unit)) }
                        td .num { (human(values.iter().copied().fold(f64::INFINITY, f64::min), self.matrix.unit)) }
                        td .num { (human(values.iter().copied().fold(f64::NEG_INFINITY, f64::max), self.matrix.unit)) }
                        td .num { (values.len()) }
                    } }
                } }
            } } }
        }
    }

    /// The worst pairs by name: what to look at first.
    fn worst(&self) -> Markup {
        let mut pairs: Vec<_> = self.pairs().collect();
        let values: Vec<f64> = pairs.iter().map(|pair| pair.2).collect();
        let (Some(median), false) = (
            stats::median(&values),
            self.matrix.direction == Direction::Neutral,
        ) else {
            return html! {};
        };
        let ascending = self.matrix.direction == Direction::HigherIsBetter;
        pairs.sort_by(|a, b| match ascending {
            true => a.2.total_cmp(&b.2),
            false => b.2.total_cmp(&a.2),
        });
        pairs.truncate(WORST);
        let times = |value: f64| match median > 0.0 {
            true => format!(", {:.2} of the median pair", value / median),
            false => String::new(),
        };
        html! {
            p { "The worst pairs:" }
            ol { @for (from, to, value) in pairs {
                li { (self.node(from).name) " → " (self.node(to).name) ": "
                    (human(value, self.matrix.unit))
                    (self.interval(from, to).unwrap_or_default()) (times(value)) }
            } }
        }
    }
}

/// Where a node stands, in words that sort together what stands together.
fn place(node: &NodeSummary) -> String {
    let placement = &node.placement;
    let mut words = Vec::new();
    if let Fact::Known(zone) = &placement.az_id {
        words.push(zone.clone());
    }
    if let Fact::Known(group) = &placement.placement_group {
        words.push(group.clone());
    }
    if let Fact::Known(partition) = &placement.partition {
        words.push(format!("partition {partition:>2}"));
    }
    match words.as_slice() {
        [] => "placement unknown".to_owned(),
        words => words.join(", "),
    }
}
