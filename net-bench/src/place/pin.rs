//! Which CPU each thread runs on.

use anyhow::Context;
use bench_sys::socket_state::incoming_cpu;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::AsFd;
use std::str::FromStr;

/// The highest CPU number that can be named; the C library's sets end there.
const MAX_CPU: u32 = 1023;

/// How threads are placed. As text: `none`, `rx-queue`, `rx-queue+1`, or CPUs as in `0,2,4-7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pin {
    /// The scheduler decides.
    #[default]
    None,
    /// On the CPU that takes in the flow's packets, or so many allowed CPUs further. Two threads
    /// share a CPU only when there are more threads than CPUs.
    RxQueue {
        /// How many allowed CPUs further.
        offset: u32,
    },
    /// On these CPUs in turn.
    List(Vec<u32>),
}

/// Why threads cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The text is none of the forms.
    #[error(
        "{0:?} is neither none, rx-queue, rx-queue+N nor a list of CPUs up to 1023 such as 0,2,4-7"
    )]
    Syntax(String),
    /// A CPU that this process may not use.
    #[error(
        "CPU {cpu} is not among those that this process may use, which are {allowed}; choose others, \
         or widen its cpuset or taskset"
    )]
    NotAllowed {
        /// The CPU that was asked for.
        cpu: u32,
        /// Those that may be used.
        allowed: String,
    },
    /// A flow whose queue nobody knows.
    #[error(
        "flow {flow} has no receive queue yet: {reason}; --pin takes a list of CPUs instead of \
         rx-queue"
    )]
    NoQueue {
        /// The flow's number.
        flow: usize,
        /// What the kernel says.
        reason: String,
    },
    /// What the kernel says of a placement.
    #[error("cannot {what}: {error}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's word.
        error: Errno,
    },
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let syntax = || PinError::Syntax(text.to_owned());
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(rest) = text.strip_prefix("rx-queue") {
            let offset = match rest.strip_prefix('+') {
                None if rest.is_empty() => 0,
                Some(digits) => number(digits).ok_or_else(syntax)?,
                None => return Err(syntax()),
            };
            return Ok(Self::RxQueue { offset });
        }
        list(text).map(Self::List).ok_or_else(syntax)
    }
}

impl TryFrom<String> for Pin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

/// A plain number without sign, up to [`MAX_CPU`].
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain)?;
    (number <= MAX_CPU).then_some(number)
}

/// Numbers, of CPUs or of queues, in the order in which they are named.
pub(super) fn list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || cpus.len() > MAX_CPU as usize {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// CPUs as a list, runs drawn together.
#[must_use]
pub fn in_words(cpus: &[u32]) -> String {
    let runs = cpus.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        [one] => one.to_string(),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::RxQueue { offset: 0 } => f.write_str("rx-queue"),
            Self::RxQueue { offset } => write!(f, "rx-queue+{offset}"),
            Self::List(cpus) => f.write_str(&in_words(cpus)),
        }
    }
}

impl Pin {
    /// The CPU of each thread, `None` where the scheduler decides. `flows` are one flow of each
    /// thread, whose queue is its thread's.
    ///
    /// # Errors
    /// A CPU that may not be used, or a flow without a queue.
    pub fn place(&self, flows: &[impl AsFd]) -> Result<Vec<Option<u32>>, PinError> {
        let allowed = allowed_cpus()?;
        match self {
            Self::None => Ok(vec![None; flows.len()]),
            Self::List(cpus) => in_turn(cpus, flows.len(), &allowed),
            Self::RxQueue { offset } => {
                let queues = flows.iter().enumerate().map(|(flow, socket)| {
                    let unknown = |reason: String| PinError::NoQueue { flow, reason };
                    let cpu = incoming_cpu(socket).map_err(|error| unknown(error.to_string()))?;
                    cpu.ok_or_else(|| unknown("no packet has come in".to_owned()))
                });
                let queues: Vec<u32> = queues.collect::<Result<_, _>>()?;
                Ok(beside_queues(&queues, *offset, &allowed))
            }
        }
    }
}

impl Pin {
    /// The CPU of each of so many threads that have no flow when they start: on `rx-queue` the
    /// allowed CPUs in turn, from the one `offset` places on.
    ///
    /// # Errors
    /// A CPU that may not be used.
    pub fn place_at_door(&self, threads: usize) -> Result<Vec<Option<u32>>, PinError> {
        let allowed = allowed_cpus()?;
        match self {
            Self::None => Ok(vec![None; threads]),
            Self::List(cpus) => in_turn(cpus, threads, &allowed),
            Self::RxQueue { offset } => {
                let all = allowed.iter().copied().map(Some).cycle();
                Ok(all.skip(*offset as usize).take(threads).collect())
            }
        }
    }
}

/// The work of a thread that runs on one CPU and nowhere else.
pub struct Pinned {
    inner: Box<dyn Workload + Send>,
    cpu: u32,
}

impl Pinned {
    /// Has `inner` done on `cpu`.
    #[must_use]
    pub fn new(inner: Box<dyn Workload + Send>, cpu: u32) -> Self {
        Self { inner, cpu }
    }
}

impl Workload for Pinned {
    fn prepare(&mut self) -> anyhow::Result<()> {
        // Before anything is allocated: memory is given where it is first touched.
        pin_this_thread(self.cpu)?;
        self.inner.prepare()
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        self.inner.step(rec)
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        self.inner.drain()
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let (cpu, here) = (
            self.cpu,
            sched_getcpu().context("on which CPU a thread is")?,
        );
        anyhow::ensure!(
            here == cpu as usize,
            "a thread that was put on CPU {cpu} ended on CPU {here}: something else on this machine \
             moved it (taskset, cpuset, a CPU that went offline)"
        );
        self.inner.verify(total)
    }

    fn extra_histograms(&self) -> &'static [&'static str] {
        self.inner.extra_histograms()
    }
}

/// The named CPUs in turn.
fn in_turn(cpus: &[u32], threads: usize, allowed: &[u32]) -> Result<Vec<Option<u32>>, PinError> {
    if let Some(&cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        let allowed = in_words(allowed);
        return Err(PinError::NotAllowed { cpu, allowed });
    }
    Ok(cpus
        .iter()
        .copied()
        .map(Some)
        .cycle()
        .take(threads)
        .collect())
}

/// For each thread the allowed CPU `offset` places after its queue's; the next free one where that
/// is taken. When all are taken, a new round begins.
fn beside_queues(queues: &[u32], offset: u32, allowed: &[u32]) -> Vec<Option<u32>> {
    let mut free = vec![true; allowed.len()];
    let place = |queue: &u32| {
        if !free.contains(&true) {
            free.fill(true);
        }
        // Where the queue's own CPU may not be used, the next one that may is nearest.
        let own = allowed.partition_point(|cpu| cpu < queue);
        let wanted = own + offset as usize;
        let mut candidates = (0..allowed.len()).map(|step| (wanted + step) % allowed.len());
        let index = candidates.find(|&index| free[index])?;
        free[index] = false;
        Some(allowed[index])
    };
    queues.iter().map(place).collect()
}

/// The CPUs that the calling thread may use, in order.
///
/// # Errors
/// What the kernel says.
pub fn allowed_cpus() -> Result<Vec<u32>, PinError> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|error| PinError::Kernel {
        what: "ask which CPUs may be used".to_owned(),
        error,
    })?;
    let allowed = (0..=MAX_CPU).filter(|&cpu| set.is_set(cpu as usize) == Ok(true));
    Ok(allowed.collect())
}

/// Has the calling thread run on `cpu` and nowhere else.
///
/// # Errors
/// The kernel's word, with the CPUs that it would take.
pub fn pin_this_thread(cpu: u32) -> Result<(), PinError> {
    let mut set = CpuSet::new();
    let pinned = set
        .set(cpu as usize)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.map_err(|error| match (error, allowed_cpus()) {
        (Errno::EINVAL, Ok(allowed)) => PinError::NotAllowed {
            cpu,
            allowed: in_words(&allowed),
        },
        (error, _) => PinError::Kernel {
            what: format!("run on CPU {cpu}"),
            error,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::sched_getcpu;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn every_form_is_read_and_written_and_nonsense_is_not() {
        for (text, pin) in [
            ("none", Pin::None),
            ("rx-queue", Pin::RxQueue { offset: 0 }),
            ("rx-queue+3", Pin::RxQueue { offset: 3 }),
            ("0", Pin::List(vec![0])),
            ("7,0-2,5", Pin::List(vec![7, 0, 1, 2, 5])),
        ] {
            assert_eq!(text.parse(), Ok(pin.clone()), "{text}");
            assert_eq!(pin.to_string(), text);
        }
        for text in [
            "",
            "rx-queue+",
            "rx-queue-1",
            "rx-queue+x",
            "rx-queue++1",
            "rx_queue",
            "3-1",
            "1,,2",
            "1024",
            "+1",
            "0-",
            " 1",
            "99999999999",
            "all",
        ] {
            let error = text.parse::<Pin>().expect_err(text);
            assert_eq!(error, PinError::Syntax(text.to_owned()));
        }
        // A list that names far more CPUs than there are ends early.
        assert!("0-1023,".repeat(1000).parse::<Pin>().is_err());
    }

    #[test]
    fn threads_stay_with_their_queues_and_off_each_others_cpus() {
        let placed = |queues: &[u32], offset, allowed: &[u32]| -> Vec<u32> {
            let cpus = beside_queues(queues, offset, allowed);
            cpus.into_iter()
                .map(|cpu| cpu.expect("there are CPUs"))
                .collect()
        };
        let all = [0, 1, 2, 3];
        assert_eq!(placed(&[2, 0, 3], 0, &all), [2, 0, 3]);
        assert_eq!(placed(&[2, 0, 3], 1, &all), [3, 1, 0]);
        // Two flows on one queue: the second takes the next free CPU.
        assert_eq!(placed(&[2, 2, 3], 0, &all), [2, 3, 0]);
        // More threads than CPUs: a new round begins.
        assert_eq!(placed(&[1, 1, 1, 1, 1], 0, &all), [1, 2, 3, 0, 1]);
        // The queue's CPU may not be used.
        assert_eq!(placed(&[1, 7], 0, &[0, 4]), [4, 0]);
        assert_eq!(beside_queues(&[1], 0, &[]), [None]);
    }

    #[test]
    fn a_list_goes_round_and_names_what_may_not_be_used() {
        assert_eq!(
            in_turn(&[3, 1], 3, &[0, 1, 3]),
            Ok(vec![Some(3), Some(1), Some(3)])
        );
        let error = in_turn(&[3, 9], 2, &[0, 1, 2, 3]).expect_err("no CPU 9");
        let words = error.to_string();
        assert!(words.contains("CPU 9") && words.contains("0-3"), "{words}");
    }

    #[test]
    fn a_flow_is_placed_on_the_cpu_that_took_in_its_packet() {
        let allowed = allowed_cpus().expect("some may be used");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        for &cpu in &allowed {
            // On loopback the sender's CPU takes the packet in.
            let client = std::thread::spawn(move || {
                pin_this_thread(cpu).expect("it is allowed");
                let mut client = TcpStream::connect(address).expect("a flow");
                client.write_all(b"x").expect("it sends");
                client
            });
            let client = client.join().expect("no panic");
            let (server, _) = listener.accept().expect("a flow");
            server.peek(&mut [0]).expect("it arrived");
            let placed = Pin::RxQueue { offset: 0 }.place(&[&server]);
            assert_eq!(placed, Ok(vec![Some(cpu)]));
            let there = std::thread::spawn(move || {
                pin_this_thread(cpu).expect("it is allowed");
                sched_getcpu()
            });
            assert_eq!(there.join().expect("no panic"), Ok(cpu as usize));
            drop(client);
        }
        assert_eq!(
            Pin::None.place(&[&listener, &listener]),
            Ok(vec![None, None])
        );
        let error = Pin::RxQueue { offset: 0 }.place(&[&listener]);
        assert!(
            matches!(error, Err(PinError::NoQueue { flow: 0, .. })),
            "{error:?}"
        );
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let error = pin_this_thread(MAX_CPU).expect_err("no machine of the tests has it");
        assert!(
            matches!(error, PinError::NotAllowed { cpu: MAX_CPU, .. }),
            "{error}"
        );
        assert!(matches!(
            pin_this_thread(5000),
            Err(PinError::NotAllowed { .. })
        ));
    }
}
