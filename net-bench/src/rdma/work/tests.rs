//! The loops over a device in memory: every operation, in order, out of order and with losses, and a
//! byte that is spoilt on the way.

use super::fetch::Fetch;
use super::host::Host;
use super::lanes::{Lanes, Setting};
use super::pingpong::PingPong;
use super::window::Window;
use crate::rdma::ending::Ending;
use crate::rdma::port::{Completed, Completion, Delivery, Facts, Port, Posted};
use crate::rdma::side::Found;
use crate::rdma::test::{Device, Measure, Mode, Operation, RdmaTest, Service, Verbs};
use crate::workload::{Shared, Vitals};
use reports::measure::{self, Limit, Plan, Silent, Totals, Workload};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// What a lane of one end holds, reached by both.
#[derive(Default)]
struct End {
    /// Payloads on their way to this end, with the number that came along.
    coming: VecDeque<(Vec<u8>, u64)>,
    receives: VecDeque<u32>,
    target: Vec<u8>,
    counter: u64,
}

/// A device of two ends in memory.
struct World {
    ends: [Vec<End>; 2],
}

/// One end of it.
struct Memory {
    world: Arc<Mutex<World>>,
    end: usize,
    test: RdmaTest,
    delivery: Delivery,
    /// Messages sent so far, for losses and disorder.
    sent: u64,
    held: Option<(usize, Vec<u8>, u64)>,
    ring: Vec<u8>,
    incoming: Vec<Vec<u8>>,
    operands: Vec<[u64; 2]>,
    posted: Vec<u64>,
    signalled: Vec<u64>,
    /// What the other end reads, until it is published; of everything else a copy.
    target: Vec<Vec<u8>>,
    done: VecDeque<Completion>,
}

impl Memory {
    fn pair(test: &RdmaTest, delivery: Delivery) -> [Self; 2] {
        let (lanes, depth) = (test.lanes as usize, test.depth as usize);
        let length = test.length_bytes as usize;
        let lane = |lane: u32| End {
            receives: (lane * test.receives..(lane + 1) * test.receives).collect(),
            target: vec![0; depth * length],
            ..End::default()
        };
        let end = || (0..test.lanes).map(lane).collect();
        let world = Arc::new(Mutex::new(World {
            ends: [end(), end()],
        }));
        [0, 1].map(|end| Self {
            world: Arc::clone(&world),
            end,
            test: test.clone(),
            delivery,
            sent: 0,
            held: None,
            ring: vec![0; lanes * depth * length],
            incoming: vec![Vec::new(); lanes * test.receives as usize],
            operands: vec![[0; 2]; depth],
            posted: vec![0; lanes],
            signalled: vec![0; lanes],
            target: vec![vec![0; depth * length]; lanes],
            done: VecDeque::new(),
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn place(&self, lane: u32, number: u64) -> std::ops::Range<usize> {
        let (depth, length) = (self.test.depth as usize, self.test.length_bytes as usize);
        let slot = lane as usize * depth + (number % depth as u64) as usize;
        slot * length..(slot + 1) * length
    }

    fn target_place(&self, number: u64) -> std::ops::Range<usize> {
        let (depth, length) = (u64::from(self.test.depth), self.test.length_bytes as usize);
        let slot = (number % depth) as usize;
        slot * length..(slot + 1) * length
    }

    /// Sends a message on its way: lost, held back behind the next, or at once.
    fn carry(&mut self, lane: usize, payload: Vec<u8>, number: u64) {
        self.sent += 1;
        let other = 1 - self.end;
        if self.delivery == Delivery::Lossy && self.sent.is_multiple_of(7) {
            return;
        }
        let hold = self.delivery == Delivery::Unordered && self.sent.is_multiple_of(3);
        if hold && self.held.is_none() {
            self.held = Some((lane, payload, number));
            return;
        }
        self.world().ends[other][lane]
            .coming
            .push_back((payload, number));
        self.release();
    }

    /// Makes what this end wrote into its target what the other reads.
    fn publish(&self) {
        if self.test.operation == Operation::Read {
            let mut world = self.world();
            for (end, own) in world.ends[self.end].iter_mut().zip(&self.target) {
                end.target.copy_from_slice(own);
            }
        }
    }

    fn release(&mut self) {
        if let Some((lane, payload, number)) = self.held.take() {
            let other = 1 - self.end;
            self.world().ends[other][lane]
                .coming
                .push_back((payload, number));
        }
    }

    fn one(&mut self, lane: u32) {
        let number = self.posted[lane as usize];
        self.posted[lane as usize] += 1;
        let place = self.place(lane, number);
        let target = self.target_place(number);
        let (other, index) = (1 - self.end, lane as usize);
        let payload = self.ring[place.clone()].to_vec();
        match self.test.operation {
            Operation::Send | Operation::Tagged | Operation::WriteData => {
                self.carry(index, payload, number);
            }
            // Of some rings' places the last write is among those that are lost.
            Operation::Write if self.delivery == Delivery::Lossy && number % 7 == 3 => {}
            Operation::Write => {
                self.world().ends[other][index].target[target].copy_from_slice(&payload);
            }
            Operation::Read => {
                let read = self.world().ends[other][index].target[target].to_vec();
                self.ring[place].copy_from_slice(&read);
            }
            Operation::FetchAdd | Operation::CompareSwap => {
                let [first, second] = self.operands[(number % u64::from(self.test.depth)) as usize];
                let world = Arc::clone(&self.world);
                let counter = &mut world.lock().unwrap().ends[other][index].counter;
                self.ring[place].copy_from_slice(&counter.to_ne_bytes());
                if self.test.operation == Operation::FetchAdd {
                    *counter += first;
                } else if *counter == first {
                    *counter = second;
                }
            }
        }
    }
}

impl Port for Memory {
    const POLL_TO_PROGRESS: bool = true;

    fn lanes(&self) -> u32 {
        self.test.lanes
    }

    fn depth(&self) -> u32 {
        self.test.depth
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn outgoing(&mut self, lane: u32, ahead: u32) -> &mut [u8] {
        let place = self.place(lane, self.posted[lane as usize] + u64::from(ahead));
        &mut self.ring[place]
    }

    fn operands(&mut self, lane: u32, ahead: u32, compare_or_add: u64, swap: u64) {
        let number = self.posted[lane as usize] + u64::from(ahead);
        self.operands[(number % u64::from(self.test.depth)) as usize] = [compare_or_add, swap];
    }

    fn post(&mut self, lane: u32, count: u32, signal: bool) -> anyhow::Result<Posted> {
        for _ in 0..count {
            self.one(lane);
        }
        if signal {
            let posted = self.posted[lane as usize];
            let first = std::mem::replace(&mut self.signalled[lane as usize], posted);
            let count = (posted - first) as u32;
            self.done.push_back(Completion {
                lane,
                completed: Completed::Posted { first, count },
            });
        }
        Ok(Posted::Taken(count))
    }

    fn poll(&mut self, into: &mut [Completion]) -> anyhow::Result<usize> {
        for lane in 0..self.test.lanes {
            let mut world = self.world.lock().unwrap();
            let end = &mut world.ends[self.end][lane as usize];
            while !end.coming.is_empty() && !end.receives.is_empty() {
                let (payload, number) = end.coming.pop_front().unwrap();
                let slot = end.receives.pop_front().unwrap();
                if self.test.operation == Operation::WriteData {
                    // As on a device, what finds no receive is not written either.
                    let place = self.target_place(number);
                    end.target[place].copy_from_slice(&payload);
                }
                self.done.push_back(Completion {
                    lane,
                    completed: Completed::Received {
                        slot,
                        length: payload.len() as u32,
                        data: Some(number & 0xffff_ffff),
                    },
                });
                self.incoming[slot as usize] = payload;
            }
        }
        let mut count = 0;
        while count < into.len()
            && let Some(completion) = self.done.pop_front()
        {
            into[count] = completion;
            count += 1;
        }
        if count == 0 {
            self.release();
            thread::yield_now();
        }
        Ok(count)
    }

    fn wait(&mut self, _: Duration) -> anyhow::Result<()> {
        Ok(())
    }

    fn outcome(&mut self, lane: u32, number: u64) -> &[u8] {
        let place = self.place(lane, number);
        &self.ring[place]
    }

    fn incoming(&mut self, slot: u32) -> &[u8] {
        &self.incoming[slot as usize]
    }

    fn post_receive(&mut self, slot: u32) -> anyhow::Result<()> {
        let lane = (slot / self.test.receives) as usize;
        self.world().ends[self.end][lane].receives.push_back(slot);
        Ok(())
    }

    fn peek(&self, lane: u32, number: u64) -> u8 {
        let place = self.target_place(number);
        let world = self.world.lock().unwrap();
        let byte = world.ends[self.end][lane as usize].target[place.end - 1];
        drop(world);
        thread::yield_now();
        byte
    }

    fn target(&mut self, lane: u32, number: u64) -> &mut [u8] {
        let place = self.target_place(number);
        let (world, own) = (Arc::clone(&self.world), &mut self.target[lane as usize]);
        let world = world.lock().unwrap();
        let end = &world.ends[self.end][lane as usize];
        match self.test.operation {
            Operation::Read => {}
            operation if operation.atomic() => {
                own[place.clone()].copy_from_slice(&end.counter.to_ne_bytes())
            }
            _ => own[place.clone()].copy_from_slice(&end.target[place.clone()]),
        }
        &mut own[place]
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}

/// Carries words from one end to the other until both have parted.
fn relay(endings: &[Arc<Ending>; 2], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for (from, to) in [(0, 1), (1, 0)] {
            if let Some(posted) = endings[from].posted_to_tell() {
                assert!(endings[to].they_posted(posted));
            }
            if endings[from].parting_to_tell() {
                endings[to].they_parted();
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn workload(lanes: Lanes<Memory>, client: bool) -> Box<dyn Workload + Send> {
    let test = &lanes.test;
    let starts = client || test.bidirectional;
    let lends = match test.operation {
        Operation::Write => test.measure != Measure::Latency,
        operation => operation.fetches(),
    };
    if lends && !starts {
        Box::new(Host::new(lanes))
    } else if test.measure != Measure::Latency {
        Box::new(Window::new(lanes, starts))
    } else if test.operation.fetches() {
        Box::new(Fetch::new(lanes))
    } else {
        Box::new(PingPong::new(lanes, starts))
    }
}

/// Both ends of a test over memory.
fn run(test: &RdmaTest, delivery: Delivery) -> [anyhow::Result<Totals>; 2] {
    test.check().unwrap();
    let lanes = test.lanes as usize;
    let endings = [0, 1].map(|_| Arc::new(Ending::new(lanes, 1)));
    let vitals = [0, 1].map(|_| Vitals::new(lanes));
    let over = AtomicBool::new(false);
    let mut works = Vec::new();
    for (end, port) in Memory::pair(test, delivery).into_iter().enumerate() {
        let setting = Setting {
            test: test.clone(),
            first_lane: 0,
            client: end == 0,
            shared: Shared::new(&vitals[end], 0, lanes),
            ending: Arc::clone(&endings[end]),
            found: Arc::new(Mutex::new(Found::of(lanes))),
        };
        let lanes = Lanes::new(port, setting).unwrap();
        lanes.port.publish();
        works.push(workload(lanes, end == 0));
    }
    thread::scope(|scope| {
        let relay = scope.spawn(|| relay(&endings, &over));
        let both: Vec<_> = works
            .into_iter()
            .enumerate()
            .map(|(end, work)| {
                let starts = end == 0 || test.bidirectional;
                let plan = Plan {
                    threads: 1,
                    ramp: Duration::ZERO,
                    warmup: Limit::Duration(Duration::ZERO),
                    run: match test.operations {
                        Some(operations) if starts => Limit::Ops(operations),
                        _ => Limit::UntilDone,
                    },
                    interval: Duration::from_secs(1),
                    slice_histograms: false,
                };
                let vitals = &vitals;
                scope.spawn(move || {
                    let mut work = Some(work);
                    let totals = measure::run(&plan, &Silent, |_| Ok(work.take().unwrap()));
                    if totals.is_err() {
                        vitals.iter().for_each(|vitals| vitals.cut());
                    }
                    totals
                })
            })
            .collect();
        let results = both.into_iter().map(|end| end.join().unwrap());
        let results: Vec<_> = results.collect();
        over.store(true, Ordering::Relaxed);
        relay.join().unwrap();
        results.try_into().unwrap()
    })
}

fn test(operation: Operation, measure: Measure, length_bytes: u64) -> RdmaTest {
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
        mode: Mode::Fast,
        length_bytes: if operation.atomic() { 8 } else { length_bytes },
        lanes: 2,
        threads: 1,
        bidirectional: false,
        depth: 8,
        receives: 7,
        post_list: 1,
        moderation: if operation.fetches() && measure == Measure::Latency {
            1
        } else {
            4
        },
        poll_batch: 16,
        inline_bytes: None,
        events: false,
        verify: true,
        spoil: None,
        placement: crate::place::Placement::default(),
        duration_s: 1.0,
        operations: Some(600),
        omit_s: 0.0,
        interval_s: 1.0,
        timeout_s: 10.0,
    }
}

const OPERATIONS: [Operation; 6] = [
    Operation::Send,
    Operation::Write,
    Operation::WriteData,
    Operation::Read,
    Operation::FetchAdd,
    Operation::CompareSwap,
];

#[test]
fn every_operation_moves_what_it_says_and_both_ends_part() {
    for operation in OPERATIONS {
        for measure in [Measure::Latency, Measure::Bandwidth] {
            for mode in [Mode::Fast, Mode::Compat] {
                for length in [1, 7, 8, 9, 300] {
                    let test = RdmaTest {
                        mode,
                        ..test(operation, measure, length)
                    };
                    let what = format!("{operation:?} {measure:?} {mode:?} {length}");
                    let [client, server] = run(&test, Delivery::InOrder);
                    let client = client.unwrap_or_else(|error| panic!("{what}: {error:#}"));
                    server.unwrap_or_else(|error| panic!("{what}, server: {error:#}"));
                    assert!(client.work.ops >= 600, "{what}: {:?}", client.work);
                }
            }
        }
    }
}

#[test]
fn both_ends_may_post_at_once_and_in_lists() {
    for operation in OPERATIONS {
        let test = RdmaTest {
            bidirectional: true,
            post_list: 4,
            ..test(operation, Measure::Bandwidth, 64)
        };
        for end in run(&test, Delivery::InOrder) {
            end.unwrap_or_else(|error| panic!("{operation:?}: {error:#}"));
        }
    }
}

#[test]
fn what_comes_in_any_order_is_counted_once_each() {
    for (operation, length) in [(Operation::Send, 64), (Operation::Send, 2)] {
        for end in run(
            &test(operation, Measure::Bandwidth, length),
            Delivery::Unordered,
        ) {
            end.unwrap_or_else(|error| panic!("{operation:?}: {error:#}"));
        }
    }
}

#[test]
fn what_is_lost_is_counted_as_lost() {
    let [sender, receiver] = run(
        &test(Operation::Send, Measure::Bandwidth, 64),
        Delivery::Lossy,
    );
    let (sender, receiver) = (sender.unwrap(), receiver.unwrap());
    assert_eq!(sender.work.ops, 600);
    assert!(receiver.work.ops < 600 && receiver.work.ops > 400);
}

#[test]
fn of_writes_that_may_be_lost_memory_holds_what_came() {
    for length in [1, 2, 8, 300] {
        for verify in [false, true] {
            let test = RdmaTest {
                verify,
                ..test(Operation::Write, Measure::Bandwidth, length)
            };
            let [writer, owner] = run(&test, Delivery::Lossy);
            assert_eq!(writer.unwrap().work.ops, 600);
            // Two lanes of eight places each.
            let verified = owner.unwrap().verified;
            assert!(verified.starts_with("16 places"), "{length}: {verified}");
        }
    }
    let spoilt = RdmaTest {
        spoil: Some(299),
        ..test(Operation::Write, Measure::Bandwidth, 300)
    };
    let [_, owner] = run(&spoilt, Delivery::Lossy);
    let error = format!("{:#}", owner.unwrap_err());
    assert!(error.contains("corrupt data"), "{error}");
}

/// Which operations notice a spoilt byte without comparing every byte is another question.
#[test]
fn one_spoilt_byte_is_noticed_in_every_operation() {
    for operation in OPERATIONS {
        for measure in [Measure::Latency, Measure::Bandwidth] {
            let limit = if operation == Operation::Read {
                5
            } else {
                597 / 2
            };
            let test = RdmaTest {
                spoil: Some(limit),
                ..test(operation, measure, 300)
            };
            let what = format!("{operation:?} {measure:?}");
            let errors: Vec<String> = run(&test, Delivery::InOrder)
                .into_iter()
                .filter_map(|end| end.err().map(|error| format!("{error:#}")))
                .collect();
            assert!(
                errors.iter().any(|error| error.contains("corrupt data")),
                "{what}: {errors:?}"
            );
        }
    }
}
