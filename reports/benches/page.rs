//! How long it takes to draw a cluster's page, from reports in memory to the text of the page.

#[path = "../tests/page/fixtures.rs"]
mod fixtures;

use criterion::{Criterion, criterion_group, criterion_main};
use fixtures::{matrix, report};
use reports::model::Report;
use reports::render::html::Page;

fn cluster(c: &mut Criterion) {
    let nodes = || (0..64u64).flat_map(|node| (0..100).map(move |run| (node, run)));
    let alone: Vec<Report> = nodes()
        .map(|(node, run)| {
            let mut report = report(run, &format!("node-{node}"), 1.0);
            report.cases.truncate(1);
            report
        })
        .collect();
    let together: Vec<Report> = (0..100).map(|run| matrix(run, 64)).collect();
    let mut group = c.benchmark_group("page/64_nodes_100_runs");
    group.sample_size(10);
    group.bench_function("each_node_alone", |b| {
        b.iter(|| Page::of_runs("64 nodes", &alone).render().len());
    });
    group.bench_function("all_pairs", |b| {
        b.iter(|| Page::of_runs("64 nodes", &together).render().len());
    });
    group.finish();
}

criterion_group!(benches, cluster);
criterion_main!(benches);
