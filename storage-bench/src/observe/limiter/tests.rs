//! Each rule with a scene that it is for, and the order among them.

use super::*;
use crate::observe::ebs::Kind;
use reports::model::Work;

fn usage(mean_queue: f64, utilisation: f64) -> Usage {
    Usage {
        seconds: 10.0,
        mean_queue,
        mean_ns: Some(50_000.0),
        utilisation: Some(utilisation),
        ..Usage::default()
    }
}

/// A closed loop at depth 8 whose requests are not seen in any device.
fn scene() -> Scene<'static> {
    Scene {
        elapsed_s: 10.0,
        iops: 2000.0,
        ops_per_s: [2000.0, 0.0],
        bytes_per_s: [8_192_000.0, 0.0],
        mean_ns: 4_000_000.0,
        depth: 8.0,
        busiest_job: 0.2,
        machine_idle: Some(0.7),
        ..Scene::default()
    }
}

fn ebs(volume: [f64; 2], instance: [f64; 2]) -> Difference {
    Difference {
        kind: Kind::Ebs,
        seconds: 10.0,
        ops: [20_000, 0],
        bytes: [0, 0],
        mean_us: [None, None],
        volume_exceeded_s: volume,
        instance_exceeded_s: instance,
        histograms: Default::default(),
        by_size: Vec::new(),
    }
}

#[track_caller]
fn verdict(scene: &Scene<'_>, limiter: Limiter, part: &str) {
    let (found, evidence) = judge(scene);
    assert_eq!(found, limiter, "{evidence}");
    assert!(evidence.contains(part), "{evidence}");
}

#[test]
fn amazon_s_counters_are_witnesses() {
    let volume = ebs([8.2, 0.1], [2.0, 0.0]);
    let seen = Scene {
        ebs: Some(&volume),
        busiest_job: 1.0,
        ..scene()
    };
    verdict(
        &seen,
        Limiter::Volume,
        "volume's IOPS limit was exceeded for 8.2 of 10.0 s",
    );
    let instance = ebs([0.5, 0.5], [0.0, 9.0]);
    let seen = Scene {
        ebs: Some(&instance),
        ..scene()
    };
    verdict(
        &seen,
        Limiter::Instance,
        "instance's throughput limit was exceeded for 9.0",
    );
    let idle = ebs([0.0, 0.9], [0.0, 0.0]);
    verdict(
        &Scene {
            ebs: Some(&idle),
            ..scene()
        },
        Limiter::Unknown,
        "nothing stands out",
    );
}

#[test]
fn a_known_limit_that_is_reached_is_one() {
    let limits = Limits {
        iops: [Some(2000), None],
        ..Limits::default()
    };
    let seen = Scene {
        limits: Some(&limits),
        ..scene()
    };
    verdict(
        &seen,
        Limiter::Cgroup,
        "2000 operations/s, and the control group allows 2000",
    );
    let bytes = Limits {
        bytes_per_s: [Some(8 << 20), None],
        ..Limits::default()
    };
    verdict(
        &Scene {
            limits: Some(&bytes),
            ..scene()
        },
        Limiter::Cgroup,
        "bytes/s",
    );
    let (far, other) = (
        Limits {
            iops: [Some(9000), None],
            ..limits
        },
        Limits {
            iops: [None, Some(2000)],
            ..limits
        },
    );
    for limits in [&far, &other] {
        verdict(
            &Scene {
                limits: Some(limits),
                ..scene()
            },
            Limiter::Unknown,
            "",
        );
    }
    let offered = |iops| Scene {
        offered_iops: Some(iops),
        ..scene()
    };
    verdict(&offered(2010.0), Limiter::Rate, "kept up");
    verdict(
        &offered(4000.0),
        Limiter::Unknown,
        "2000 IOPS of 4000 offered",
    );
}

#[test]
fn a_burst_is_credits_and_its_plateau_is_held_against_the_limits() {
    let burst = Burst {
        ends_at_s: 5.0,
        iops: 3700.0,
        plateau_iops: 300.0,
        plateau: 5..10,
        plateau_work: Work::default(),
        plateau_s: 5.0,
    };
    let seen = Scene {
        burst: Some(&burst),
        ..scene()
    };
    verdict(&seen, Limiter::Credits, "until 5.0 s and 300 after");
    let limits = Limits {
        iops: [Some(300), None],
        ..Limits::default()
    };
    let seen = Scene {
        limits: Some(&limits),
        ..seen
    };
    verdict(&seen, Limiter::Cgroup, "at 300 operations/s");
}

#[test]
fn memory_and_cpus_come_before_devices() {
    let device = usage(8.0, 1.0);
    let seen = Scene {
        device: Some(("vda", &device)),
        ..scene()
    };
    let memory = Scene {
        from_memory: Some(0.8),
        ..seen.clone()
    };
    verdict(&memory, Limiter::PageCache, "80 %");
    verdict(
        &Scene {
            busiest_job: 0.99,
            ..seen.clone()
        },
        Limiter::JobCpu,
        "99 %",
    );
    let workers = Scene {
        workers: Some((0.8, 4)),
        ..seen.clone()
    };
    verdict(
        &workers,
        Limiter::Workers,
        "4 of them used 0.80 CPUs; --force-async 1",
    );
    let forced = Scene {
        force_async: true,
        ..workers
    };
    verdict(
        &forced,
        Limiter::Workers,
        "as --force-async asks, io_uring hands",
    );
    verdict(
        &Scene {
            machine_idle: Some(0.01),
            ..seen
        },
        Limiter::MachineCpu,
        "99 % busy",
    );
}

#[test]
fn depth_and_device_are_told_apart_by_how_much_there_is_to_do() {
    let full = usage(7.6, 0.99);
    let seen = Scene {
        device: Some(("nvme1n1", &full)),
        ..scene()
    };
    verdict(&seen, Limiter::Depth, "closed loop at depth 8");
    let deep = usage(120.0, 1.0);
    let seen = Scene {
        device: Some(("nvme1n1", &deep)),
        depth: 128.0,
        ..scene()
    };
    verdict(
        &seen,
        Limiter::Device,
        "120.0 at a time of the 128 in flight",
    );
    // Half of the time of each request in the device's sight: neither.
    let shallow = usage(3.0, 0.6);
    let seen = Scene {
        device: Some(("nvme1n1", &shallow)),
        ..scene()
    };
    verdict(
        &seen,
        Limiter::Unknown,
        "3.0 requests at a time of 8 in flight and was busy 60 %",
    );
    // Few at a time, but what each takes is the device's.
    let seen = Scene {
        mean_ns: 55_000.0,
        ..seen
    };
    verdict(&seen, Limiter::Depth, "91 % passed in nvme1n1");
    let open = Scene {
        offered_iops: Some(9000.0),
        ..seen
    };
    verdict(&open, Limiter::Unknown, "offered");
}

#[test]
fn a_short_window_shows_nothing() {
    let seen = Scene {
        elapsed_s: 0.003,
        busiest_job: 1.0,
        ..scene()
    };
    verdict(&seen, Limiter::Unknown, "0.003 s is too short");
}
