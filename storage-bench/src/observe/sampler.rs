//! A thread that reads counters before, once a second during, and after the jobs, and at the two
//! moments that the harness names: when the window opens and when it closes. It shares nothing with
//! the jobs, and a reading that takes long delays nobody but the next one.

use super::counters::Counters;
use super::ebs::{Log, Page};
use super::layers::Layer;
use reports::measure::{Event, Observer, Phase};
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Amazon's log page changes once a second, and asks not to be read more often.
const PERIOD: Duration = Duration::from_secs(1);
/// With more samples than this every other one is dropped and the period doubled: the longest run
/// fits into some megabytes.
const MOST: usize = 4096;

/// When a sample was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the jobs.
    Before,
    /// As the window opened.
    Opened,
    /// A second, or several, after the sample before.
    Tick,
    /// As the window closed.
    Closed,
    /// After the jobs.
    After,
}

/// What was read at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Why then.
    pub moment: Moment,
    /// When.
    pub at: Instant,
    /// The counters of each layer.
    pub layers: Vec<Result<Counters, String>>,
    /// Amazon's log page of each device that has it.
    pub logs: Vec<Result<Page, String>>,
    /// io_uring's workers of this process: thread, and nanoseconds on a CPU.
    pub workers: Vec<(u32, u64)>,
}

/// What is read.
pub struct Probes {
    /// The devices.
    pub layers: Vec<Layer>,
    /// Amazon's log pages.
    pub logs: Vec<Log>,
}

impl Probes {
    fn sample(&self, moment: Moment) -> Sample {
        Sample {
            moment,
            at: Instant::now(),
            layers: self.layers.iter().map(|l| l.source.read()).collect(),
            logs: self.logs.iter().map(Log::read).collect(),
            workers: workers(),
        }
    }
}

/// The kernel's threads that do I/O for this process's rings.
fn workers() -> Vec<(u32, u64)> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let worker = |folder: std::path::PathBuf| {
        let name = super::text(&folder.join("comm")).ok()?;
        if !name.starts_with("iou-wrk") {
            return None;
        }
        let times = super::text(&folder.join("schedstat")).ok()?;
        let ns = times.split(' ').next()?.parse().ok()?;
        Some((folder.file_name()?.to_str()?.parse().ok()?, ns))
    };
    tasks
        .flatten()
        .filter_map(|task| worker(task.path()))
        .collect()
}

/// The thread.
pub struct Sampler {
    moments: Sender<Moment>,
    thread: JoinHandle<(Probes, Vec<Sample>)>,
}

impl Sampler {
    /// Takes the first sample and starts the thread.
    #[must_use]
    pub fn start(probes: Probes) -> Self {
        let (moments, received) = channel();
        let samples = vec![probes.sample(Moment::Before)];
        let thread = thread::spawn(move || {
            let samples = observe(&probes, samples, &received);
            (probes, samples)
        });
        Self { moments, thread }
    }

    /// An observer that also tells the thread when the window opens and closes.
    #[must_use]
    pub fn observer<'a>(&self, inner: &'a dyn Observer) -> Marking<'a> {
        Marking {
            inner,
            moments: self.moments.clone(),
        }
    }

    /// Takes the last sample. The observers are gone by then.
    ///
    /// # Errors
    /// If the thread panicked.
    pub fn stop(self) -> Result<(Probes, Vec<Sample>), String> {
        // A thread that is gone is found when it is joined.
        let _ = self.moments.send(Moment::After);
        let ended = self.thread.join();
        ended.map_err(|_| "the thread that reads the counters panicked".to_owned())
    }
}

fn observe(probes: &Probes, mut samples: Vec<Sample>, moments: &Receiver<Moment>) -> Vec<Sample> {
    let mut period = PERIOD;
    let mut next = Instant::now() + period;
    loop {
        let moment = match moments.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(moment) => moment,
            Err(RecvTimeoutError::Timeout) => Moment::Tick,
            // The run failed: nobody will ask.
            Err(RecvTimeoutError::Disconnected) => return samples,
        };
        samples.push(probes.sample(moment));
        if moment == Moment::After {
            return samples;
        }
        if samples.len() > MOST {
            thin(&mut samples);
            period *= 2;
        }
        next = Instant::now().max(next) + period;
    }
}

/// Drops every other tick.
fn thin(samples: &mut Vec<Sample>) {
    let mut odd = false;
    samples.retain(|sample| {
        odd = !odd;
        odd || sample.moment != Moment::Tick
    });
}

/// See [`Sampler::observer`].
pub struct Marking<'a> {
    inner: &'a dyn Observer,
    moments: Sender<Moment>,
}

impl Observer for Marking<'_> {
    fn event(&self, event: &Event<'_>) {
        let moment = match event {
            Event::Phase {
                phase: Phase::Measure,
                ..
            } => Some(Moment::Opened),
            Event::Phase {
                phase: Phase::Verify,
                ..
            } => Some(Moment::Closed),
            _ => None,
        };
        if let Some(moment) = moment {
            // A thread that is gone is found when it is joined.
            let _ = self.moments.send(moment);
        }
        self.inner.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::Source;
    use super::super::layers::Relation;
    use super::*;
    use reports::measure::Silent;

    fn probes(folder: &std::path::Path) -> Probes {
        let layer = Layer {
            name: "sdx".to_owned(),
            number: "8:0".to_owned(),
            relation: Relation::Target,
            lowest: true,
            source: Source::Block(folder.to_owned()),
        };
        Probes {
            layers: vec![layer],
            logs: Vec::new(),
        }
    }

    #[test]
    fn the_window_s_moments_are_sampled_in_order() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("stat"), "1 0 8 0 0 0 0 0 0 0 0").expect("a file");
        let sampler = Sampler::start(probes(dir.path()));
        let marking = sampler.observer(&Silent);
        for phase in [Phase::Prepare, Phase::Measure, Phase::Verify] {
            marking.event(&Event::Phase {
                phase,
                expected: None,
            });
        }
        drop(marking);
        let (_, samples) = sampler.stop().expect("it ran");
        let moments: Vec<Moment> = samples.iter().map(|sample| sample.moment).collect();
        let named = moments.into_iter().filter(|&moment| moment != Moment::Tick);
        use Moment::{After, Before, Closed, Opened};
        assert_eq!(named.collect::<Vec<_>>(), [Before, Opened, Closed, After]);
        let read = samples[0].layers[0].as_ref().expect("a stat");
        assert_eq!(read.bytes, [4096, 0]);
    }

    #[test]
    fn thinning_keeps_the_named_moments() {
        let dir = tempfile::tempdir().expect("a folder");
        let probes = probes(dir.path());
        let moments = [
            Moment::Before,
            Moment::Opened,
            Moment::Tick,
            Moment::Tick,
            Moment::Tick,
        ];
        let mut samples: Vec<Sample> = moments.map(|moment| probes.sample(moment)).into();
        assert!(samples[0].layers[0].is_err(), "there is no stat");
        thin(&mut samples);
        assert_eq!(samples.len(), 4);
        assert_eq!(samples[1].moment, Moment::Opened);
    }
}
