//! A report that goes into a pipe which nobody empties: rank 0 is done with measuring and stays in the
//! middle of writing, so that something can happen to another rank on its way out.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use reports::model::{self, Report};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The reading end.
pub struct SlowReader {
    pipe: File,
    read: Vec<u8>,
}

impl SlowReader {
    /// Makes the pipe, which holds less than a report.
    pub fn new(path: &Path) -> Self {
        mkfifo(path, Mode::S_IRWXU).expect("a pipe can be made");
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(libc::O_NONBLOCK);
        let pipe = options.open(path).expect("it is ours");
        let bytes = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(4096)).expect("a pipe can be small");
        assert!(bytes < 16_384, "a report must not fit in");
        Self {
            pipe,
            read: Vec::new(),
        }
    }

    /// Waits until the report is begun.
    pub fn wait_for_begin(&mut self) {
        self.read_until("the begin of the report", |read, _| !read.is_empty());
    }

    /// Takes the rest.
    pub fn report(mut self) -> Report {
        self.read_until("the end of the report", |_, ended| ended);
        let text = String::from_utf8(self.read).expect("text");
        model::parse(&text, Path::new("the pipe")).expect("it is whole")
    }

    /// Reads piece by piece; `done` is told what came and whether the writer hung up.
    fn read_until(&mut self, what: &str, done: impl Fn(&[u8], bool) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(50);
        let mut bytes = [0; 1024];
        loop {
            let ended = match self.pipe.read(&mut bytes) {
                // Before somebody writes it is no end.
                Ok(0) => !self.read.is_empty(),
                Ok(length) => {
                    self.read.extend(&bytes[..length]);
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => panic!("{error}"),
            };
            if done(&self.read, ended) {
                return;
            }
            assert!(Instant::now() < deadline, "{what} did not come");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
