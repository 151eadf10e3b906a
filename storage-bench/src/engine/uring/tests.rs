use super::*;

#[test]
fn refusals_name_the_cause_and_the_remedy() {
    let plain = EngineOptions::default();
    let said = |errno, disabled: &str, options: &EngineOptions| {
        let error = io::Error::from_raw_os_error(errno);
        let skipped = refusal(&error, options)
            .downcast_ref::<Unavailable>()
            .is_some();
        (skipped, reason(&error, disabled, options))
    };
    let (skipped, text) = said(libc::EPERM, "2", &plain);
    assert!(
        skipped && text.contains("kernel.io_uring_disabled is 2"),
        "{text}"
    );
    let (skipped, text) = said(libc::EPERM, "0", &plain);
    assert!(skipped && text.contains("seccomp"), "{text}");
    let (skipped, text) = said(libc::ENOSYS, "", &plain);
    assert!(skipped && text.contains("older than 5.1"), "{text}");
    let (skipped, text) = said(libc::ENOMEM, "0", &plain);
    assert!(!skipped && text.contains("ulimit -l"), "{text}");
    let thread = EngineOptions {
        sqthread_poll: true,
        sqthread_poll_cpu: Some(1000),
        ..EngineOptions::default()
    };
    let (skipped, text) = said(libc::EINVAL, "0", &thread);
    assert!(skipped && text.contains("--sqthread-poll-cpu"), "{text}");
    let error = refusal(&io::Error::from_raw_os_error(libc::ENOSYS), &plain);
    assert!(error.to_string().ends_with("--engine psync"), "{error}");
}

#[test]
fn a_device_without_poll_queues_is_told_from_one_with() {
    let root = tempfile::tempdir().expect("a folder");
    let put = |file: &str, text: &str| {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("folders");
        std::fs::write(path, text).expect("a file");
    };
    let file = tempfile::tempfile().expect("a file");
    let number = file.metadata().expect("known").dev();
    let name = format!(
        "{}:{}",
        nix::sys::stat::major(number),
        nix::sys::stat::minor(number)
    );
    let device = root.path().join("devices/nvme0n1");
    put("devices/nvme0n1/size", "8\n");
    put("devices/nvme0n1/dev", &name);
    put("devices/nvme0n1/queue/io_poll", "0\n");
    put("module/nvme/parameters/poll_queues", "2\n");
    std::fs::create_dir_all(root.path().join("dev/block")).expect("folders");
    let link = root.path().join("dev/block").join(name);
    std::os::unix::fs::symlink(device, link).expect("a link");
    let machine = Machine {
        proc: root.path().to_owned(),
        sys: root.path().to_owned(),
    };
    let reason = polling(&machine, &file).expect_err("interrupts");
    assert!(reason.contains("nvme.poll_queues=N"), "{reason}");
    put("devices/nvme0n1/queue/io_poll", "1\n");
    let facts = polling(&machine, &file).expect("poll queues");
    assert_eq!(facts, json!({"device": "nvme0n1", "nvme_poll_queues": "2"}));
}
