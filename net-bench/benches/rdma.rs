//! What the loops over RDMA devices cost per operation, over a device that takes no time: the floor
//! under every latency and rate that they report.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use net_bench::place::Placement;
use net_bench::rdma::ending::Ending;
use net_bench::rdma::port::{Completed, Completion, Delivery, Facts, Port, Posted};
use net_bench::rdma::side::Found;
use net_bench::rdma::test::{Device, Measure, Mode, Operation, RdmaTest, Service, Verbs};
use net_bench::rdma::work::fetch::Fetch;
use net_bench::rdma::work::lanes::{Lanes, Setting};
use net_bench::rdma::work::pingpong::PingPong;
use net_bench::rdma::work::window::Window;
use net_bench::workload::{Shared, Vitals};
use reports::measure::{Limit, Plan, Silent, Workload, run};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Buffers of a ring.
const DEPTH: u32 = 64;

/// A device of one lane at which everything completes at once, and whose peer answers each message
/// and each write with the same bytes.
struct Mirror {
    length: usize,
    answers: bool,
    ring: Vec<u8>,
    /// Where the peer would write, if it did.
    untouched: Option<Vec<u8>>,
    posted: u64,
    /// Up to which number operations have completed, and up to which that was told.
    signalled: u64,
    told: u64,
    answered: u64,
}

impl Mirror {
    fn of(test: &RdmaTest) -> Self {
        let length = test.length_bytes as usize;
        Self {
            length,
            answers: test.operation == Operation::Send && test.measure == Measure::Latency,
            ring: vec![0; length * DEPTH as usize],
            untouched: (test.measure != Measure::Latency).then(|| vec![0; length]),
            posted: 0,
            signalled: 0,
            told: 0,
            answered: 0,
        }
    }

    #[inline]
    fn place(&self, number: u64) -> std::ops::Range<usize> {
        let start = (number % u64::from(DEPTH)) as usize * self.length;
        start..start + self.length
    }
}

impl Port for Mirror {
    const POLL_TO_PROGRESS: bool = false;

    fn lanes(&self) -> u32 {
        1
    }

    #[inline]
    fn depth(&self) -> u32 {
        DEPTH
    }

    #[inline]
    fn delivery(&self) -> Delivery {
        Delivery::InOrder
    }

    #[inline]
    fn outgoing(&mut self, _: u32, ahead: u32) -> &mut [u8] {
        let place = self.place(self.posted + u64::from(ahead));
        &mut self.ring[place]
    }

    #[inline]
    fn operands(&mut self, _: u32, _: u32, _: u64, _: u64) {}

    #[inline]
    fn post(&mut self, _: u32, count: u32, signal: bool) -> anyhow::Result<Posted> {
        self.posted += u64::from(count);
        if signal {
            self.signalled = self.posted;
        }
        Ok(Posted::Taken(count))
    }

    #[inline]
    fn poll(&mut self, into: &mut [Completion]) -> anyhow::Result<usize> {
        let mut count = 0;
        if self.answers && self.answered < self.posted {
            into[count] = Completion {
                lane: 0,
                completed: Completed::Received {
                    slot: (self.answered % u64::from(DEPTH)) as u32,
                    length: self.length as u32,
                    data: None,
                },
            };
            self.answered += 1;
            count += 1;
        }
        if self.told < self.signalled && count < into.len() {
            let first = std::mem::replace(&mut self.told, self.signalled);
            into[count] = Completion {
                lane: 0,
                completed: Completed::Posted {
                    first,
                    count: (self.signalled - first) as u32,
                },
            };
            count += 1;
        }
        Ok(count)
    }

    fn wait(&mut self, _: Duration) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn outcome(&mut self, _: u32, number: u64) -> &[u8] {
        let place = self.place(number);
        &self.ring[place]
    }

    #[inline]
    fn incoming(&mut self, slot: u32) -> &[u8] {
        let place = self.place(slot.into());
        &self.ring[place]
    }

    #[inline]
    fn post_receive(&mut self, _: u32) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn peek(&self, _: u32, number: u64) -> u8 {
        self.ring[self.place(number).end - 1]
    }

    #[inline]
    fn target(&mut self, _: u32, number: u64) -> &mut [u8] {
        let place = self.place(number);
        match &mut self.untouched {
            Some(untouched) => untouched,
            None => &mut self.ring[place],
        }
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}

/// A measurement of messages of 8 bytes.
fn test(operation: Operation, measure: Measure, mode: Mode) -> RdmaTest {
    let each = mode == Mode::Compat || operation.fetches();
    RdmaTest {
        device: Device::Verbs(Verbs {
            device: None,
            server_device: None,
            port: 1,
            gid_index: None,
            service: Service::Rc,
            mtu_bytes: None,
            shared_receives: false,
            rdma_cm: false,
        }),
        operation,
        measure,
        mode,
        length_bytes: 8,
        lanes: 1,
        threads: 1,
        bidirectional: false,
        depth: DEPTH,
        receives: 2,
        post_list: 1,
        moderation: if each && measure == Measure::Latency {
            1
        } else {
            DEPTH / 2
        },
        poll_batch: 16,
        inline_bytes: None,
        events: false,
        verify: false,
        spoil: None,
        placement: Placement::default(),
        duration_s: 1.0,
        operations: None,
        omit_s: 0.0,
        interval_s: 1.0,
        timeout_s: 10.0,
    }
}

/// What the asking side does with so many operations; the other side has parted already.
fn workload(test: &RdmaTest) -> Box<dyn Workload + Send> {
    let ending = Arc::new(Ending::new(1, 1));
    assert!(ending.they_posted(vec![0]), "of one lane");
    ending.they_parted();
    let setting = Setting {
        test: test.clone(),
        first_lane: 0,
        client: true,
        shared: Shared::new(&Vitals::new(1), 0, 1),
        ending,
        found: Arc::new(Mutex::new(Found::of(1))),
    };
    let lanes = Lanes::new(Mirror::of(test), setting).expect("no pattern is needed");
    match (test.measure, test.operation.fetches()) {
        (Measure::Latency, true) => Box::new(Fetch::new(lanes)),
        (Measure::Latency, false) => Box::new(PingPong::new(lanes, true)),
        _ => Box::new(Window::new(lanes, true)),
    }
}

fn loops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rdma");
    group.throughput(Throughput::Elements(1));
    for (name, operation, measure, mode) in [
        (
            "send_round_trip_fast",
            Operation::Send,
            Measure::Latency,
            Mode::Fast,
        ),
        (
            "send_round_trip_compat",
            Operation::Send,
            Measure::Latency,
            Mode::Compat,
        ),
        (
            "write_round_trip_fast",
            Operation::Write,
            Measure::Latency,
            Mode::Fast,
        ),
        (
            "write_round_trip_compat",
            Operation::Write,
            Measure::Latency,
            Mode::Compat,
        ),
        ("read", Operation::Read, Measure::Latency, Mode::Fast),
        (
            "send_window",
            Operation::Send,
            Measure::Bandwidth,
            Mode::Fast,
        ),
        (
            "write_window",
            Operation::Write,
            Measure::Bandwidth,
            Mode::Fast,
        ),
    ] {
        let test = test(operation, measure, mode);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|operations| {
                let plan = Plan {
                    threads: 1,
                    ramp: Duration::ZERO,
                    warmup: Limit::Ops(1000),
                    run: Limit::Ops(operations.max(1)),
                    interval: Duration::from_secs(1),
                    slice_histograms: false,
                };
                let mut work = Some(workload(&test));
                let made = |_| Ok(work.take().expect("there is one thread"));
                let totals = run(&plan, &Silent, made).expect("a mirror answers");
                // A window counts all that one poll brings, which may be more than was asked for.
                let each = totals.elapsed_s / totals.work.ops as f64;
                Duration::from_secs_f64(each * operations as f64)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, loops);
criterion_main!(benches);
