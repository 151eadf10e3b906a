//! One job: a thread with connections and objects of its own, which keeps operations under way.
//!
//! Operations are timed where they run, from the call to the last byte, tries and pauses between
//! them included. The harness is told what has ended at least every 50 ms, so that it sees a
//! store that does not answer.

mod task;

use super::client::Client;
use super::content::Content;
use super::keys::Keys;
use super::operation::{self, Expected};
use super::spec::{Action, ObjectSpec, Op};
use super::wire::Counts;
use anyhow::Context;
use fastrand::Rng;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::path::Path;
use reports::measure::{Clock, Recorder, Verified, Workload, stop_requested};
use reports::model::Work;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use task::{Done, EXTRAS, Shared, Task, perform};
use tokio::runtime::Runtime;

/// How long a step waits for an operation to end.
const PATIENCE: Duration = Duration::from_millis(50);
/// Objects that are read back (or looked for) after the run, over all jobs.
const READ_BACK: usize = 64;

/// Everything that shapes one job.
#[derive(Clone)]
pub struct Setup {
    /// The job's number, from zero.
    pub index: usize,
    /// The run's options.
    pub spec: Arc<ObjectSpec>,
    /// What stands in objects.
    pub content: Arc<Content>,
    /// The run's folder.
    pub folder: Path,
    /// Where jobs leave what is reported.
    pub evidence: Arc<Mutex<Evidence>>,
}

/// What jobs leave behind for the report and for the cleaning.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Their requests, warm-up included.
    pub counts: Counts,
    /// Failed operations.
    pub errors: u64,
    /// Objects that were read back, or looked for in vain, after the run.
    pub read_back: u64,
    /// Objects listed.
    pub listed: u64,
    /// Uploads that could not be aborted.
    pub open_uploads: Vec<(String, Path)>,
}

/// One thread's share of a case.
pub struct Job {
    setup: Setup,
    running: Option<Running>,
}

impl Job {
    /// A job; it connects when it is prepared.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            running: None,
        }
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the harness prepares first")
    }
}

impl Drop for Job {
    /// However it ended, the report and the cleaning want to know.
    fn drop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let evidence = self.setup.evidence.lock();
        let mut evidence = evidence.unwrap_or_else(PoisonError::into_inner);
        evidence.counts.add(running.client.wire.counts().clone());
        evidence.errors += running.errors;
        evidence.read_back += running.read_back;
        evidence.listed += running.listed;
        let open = running.client.open_uploads();
        let open = open.iter().map(|(id, path)| (id.clone(), path.clone()));
        evidence.open_uploads.extend(open);
    }
}

impl Workload for Job {
    fn prepare(&mut self) -> anyhow::Result<()> {
        let running = self.running.insert(Running::new(&self.setup)?);
        if self.setup.spec.prepared() {
            running.put_all()?;
        }
        // The preparation's requests are not the measurement's.
        running.client.wire.counts().forget();
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let running = self.running();
        running.fill(rec.left());
        if running.flying.is_empty() {
            rec.finish();
            return Ok(Work::default());
        }
        let done = running.wait(PATIENCE);
        rec.stamp();
        running.complete(done, |done| done.record(rec))
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let running = self.running();
        let mut work = Work::default();
        while !running.flying.is_empty() {
            let done = running.wait(PATIENCE);
            work += running.complete(done, |_| {})?;
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let running = self.running();
        anyhow::ensure!(
            running.completed == total.ops,
            "{} operations ended well, but {} were counted",
            running.completed,
            total.ops
        );
        running.check_afterwards()?;
        Ok(Verified {
            checks: total.ops,
            what: verified(running.spec.op).to_owned(),
        })
    }

    fn extra_histograms(&self) -> &'static [&'static str] {
        EXTRAS
    }
}

/// The histograms of every job, before there is one.
#[must_use]
pub fn extra_histograms() -> &'static [&'static str] {
    EXTRAS
}

fn verified(op: Op) -> &'static str {
    match op {
        Op::Put | Op::Multipart => "puts were acknowledged",
        Op::Get | Op::GetRange => "reads were compared byte for byte with what was put",
        Op::List => "listings had every object in order with its size, and nothing else",
        Op::Delete => "deletes were acknowledged",
        Op::Mixed => {
            "operations: gets compared byte for byte, heads by size and ETag, puts and deletes \
             acknowledged"
        }
    }
}

struct Running {
    spec: Arc<ObjectSpec>,
    runtime: Runtime,
    client: Arc<Client>,
    shared: Arc<Shared>,
    keys: Keys,
    rng: Rng,
    flying: FuturesUnordered<LocalBoxFuture<'static, Done>>,
    completed: u64,
    errors: u64,
    read_back: u64,
    listed: u64,
}

impl Running {
    fn new(setup: &Setup) -> anyhow::Result<Self> {
        let spec = Arc::clone(&setup.spec);
        let runtime = runtime()?;
        let client = Arc::new(Client::new(&spec.store, false)?);
        // Bounded by the checks of the options.
        let objects = spec.objects_per_job() as usize;
        let folder = setup.folder.clone().join(format!("{:04}", setup.index));
        let first = (setup.index * objects) as u64;
        let seed = spec.seed ^ (setup.index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(Self {
            shared: Arc::new(Shared {
                client: Arc::clone(&client),
                content: Arc::clone(&setup.content),
                folder: folder.clone(),
                objects,
                size: spec.object_size,
                clock: Clock::get(),
                mixed: spec.op == Op::Mixed,
            }),
            keys: Keys::new(folder, first, objects, spec.object_size),
            rng: Rng::with_seed(seed),
            flying: FuturesUnordered::new(),
            completed: 0,
            errors: 0,
            read_back: 0,
            listed: 0,
            runtime,
            client,
            spec,
        })
    }

    /// Puts every object once.
    fn put_all(&mut self) -> anyhow::Result<()> {
        let mut begun = 0;
        loop {
            anyhow::ensure!(!stop_requested(), "a signal ended the preparation");
            while begun < self.keys.len() && self.flying.len() < self.spec.concurrency {
                let task = self.put().expect("each is put once");
                self.begin(task);
                begun += 1;
            }
            if self.flying.is_empty() {
                return Ok(());
            }
            for done in self.wait(PATIENCE) {
                if let Some(failure) = &done.failure {
                    anyhow::bail!("cannot prepare the objects: {}", done.task.told(failure));
                }
                self.release(done);
            }
        }
    }

    /// Begins operations until enough are under way.
    fn fill(&mut self, left: u64) {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        while self.flying.len() < self.spec.concurrency.min(most) {
            let Some(task) = self.draw() else { return };
            self.begin(task);
        }
    }

    fn begin(&self, task: Task) {
        self.flying
            .push(perform(Arc::clone(&self.shared), task).boxed_local());
    }

    /// The next operation, if an object is free for one.
    fn draw(&mut self) -> Option<Task> {
        match self.spec.op {
            Op::Put => self.put(),
            Op::Get => self.get(),
            Op::GetRange => self.range(),
            Op::Multipart => self.put().map(|task| match task {
                Task::Put(index, object) => {
                    let part = self.spec.part_size.unwrap_or(self.spec.object_size);
                    let in_flight = self.spec.parts_in_flight.unwrap_or(1);
                    Task::Multipart(index, object, (part, in_flight))
                }
                other => other,
            }),
            Op::List => Some(Task::List),
            Op::Delete => self.keys.begin_delete().map(|index| self.delete(index)),
            Op::Mixed => self.mixed(),
        }
    }

    fn put(&mut self) -> Option<Task> {
        let index = self.keys.begin_put()?;
        Some(Task::Put(index, self.keys.expected(index)))
    }

    fn get(&mut self) -> Option<Task> {
        let index = self.keys.begin_read(&mut self.rng)?;
        let expected = self.keys.expected(index);
        let whole = 0..expected.size;
        Some(Task::Get(index, expected, whole))
    }

    fn range(&mut self) -> Option<Task> {
        let index = self.keys.begin_read(&mut self.rng)?;
        let expected = self.keys.expected(index);
        let length = self.spec.range.unwrap_or(expected.size);
        let begin = self.rng.u64(..expected.size / length) * length;
        Some(Task::Get(index, expected, begin..begin + length))
    }

    fn delete(&self, index: usize) -> Task {
        Task::Delete(index, self.keys.expected(index))
    }

    /// One operation by its share. Where no object is free for it, one is put instead: else all
    /// would be gone in the end.
    fn mixed(&mut self) -> Option<Task> {
        let mix = self.spec.mix?;
        let task = match mix.action(self.rng.u8(..100)) {
            Action::Get => self.get(),
            Action::Head => self.keys.begin_read(&mut self.rng).map(|index| {
                let expected = self.keys.expected(index);
                Task::Head(index, expected)
            }),
            Action::Put => self.put(),
            Action::Delete => {
                let index = self.keys.begin_random_delete(&mut self.rng);
                index.map(|index| self.delete(index))
            }
        };
        task.or_else(|| self.put())
    }

    /// Waits until operations have ended, but not for long, and takes all that have.
    fn wait(&mut self, patience: Duration) -> Vec<Done> {
        let flying = &mut self.flying;
        self.runtime.block_on(async {
            let first = tokio::time::timeout(patience, flying.next()).await;
            let mut done: Vec<_> = first.ok().flatten().into_iter().collect();
            if !done.is_empty() {
                while let Some(Some(more)) = flying.next().now_or_never() {
                    done.push(more);
                }
            }
            done
        })
    }

    /// Counts what has ended and frees its objects.
    fn complete(
        &mut self,
        ended: Vec<Done>,
        mut record: impl FnMut(&Done),
    ) -> anyhow::Result<Work> {
        let mut work = Work::default();
        for done in ended {
            match &done.failure {
                None => {
                    record(&done);
                    work += Work::op(done.bytes);
                    self.completed += 1;
                    self.listed += done.listed;
                }
                Some(failure) => {
                    self.errors += 1;
                    self.client.failed(failure);
                    if failure.is_wrong() || self.errors > self.spec.max_errors {
                        anyhow::bail!("{}", done.task.told(failure));
                    }
                }
            }
            self.release(done);
        }
        Ok(work)
    }

    fn release(&mut self, done: Done) {
        let well = done.failure.is_none();
        match done.task {
            Task::Get(index, ..) | Task::Head(index, _) => self.keys.end_read(index),
            Task::Put(index, _) | Task::Multipart(index, ..) => {
                self.keys.end_put(index, well.then_some(done.e_tag));
            }
            Task::Delete(index, _) => self.keys.end_delete(index, well),
            Task::List => {}
        }
    }

    /// Reads back what was put last, and looks for what was deleted.
    fn check_afterwards(&mut self) -> anyhow::Result<()> {
        let most = READ_BACK.div_ceil(self.spec.numjobs);
        let gone = match self.spec.op {
            Op::Put | Op::Multipart | Op::Mixed => false,
            Op::Delete => true,
            Op::Get | Op::GetRange | Op::List => return Ok(()),
        };
        for index in self.keys.sample(!gone, most) {
            if stop_requested() {
                return Ok(());
            }
            let expected = self.keys.expected(index);
            let shared = &self.shared;
            self.runtime.block_on(async {
                match gone {
                    true => absent(&self.client, &expected).await,
                    false => read_back(shared, &expected).await,
                }
            })?;
            self.read_back += 1;
        }
        Ok(())
    }
}

/// A runtime on the calling thread alone.
///
/// # Errors
/// What the kernel says.
pub fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .context("cannot make a runtime")
}

async fn read_back(shared: &Shared, expected: &Expected) -> anyhow::Result<()> {
    let whole = 0..expected.size;
    let read = operation::get(
        &shared.client,
        &shared.content,
        expected,
        whole,
        shared.clock,
    );
    let read = read.await.map(drop);
    read.map_err(|failure| {
        anyhow::anyhow!(
            "{} does not hold what was put last: {failure}",
            expected.path
        )
    })
}

async fn absent(client: &Client, expected: &Expected) -> anyhow::Result<()> {
    match operation::head(client, expected).await {
        Err(failure) if failure.status() == Some(404) => Ok(()),
        Err(failure) => anyhow::bail!("cannot look for {}: {failure}", expected.path),
        Ok(()) => anyhow::bail!("{} is there after it was deleted", expected.path),
    }
}
