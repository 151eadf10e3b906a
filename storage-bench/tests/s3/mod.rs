//! Two servers for the tests of object stores.
//!
//! [`Real`] is s3s-fs in a process of its own: it checks signatures and checksums and keeps objects
//! as files, but lists without pages and no uploads. [`Hostile`] keeps objects in memory, pages its
//! listings, checks nothing, and spoils the answers that a test names.
#![allow(dead_code, missing_docs)]

mod hostile;

pub use hostile::{Hostile, Spoil};

use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const KEY: &str = "AKIDEXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI-not-to-be-seen";
const ROOT: &str = "TEST_S3_ROOT";

/// A server in a process of its own, which ends with this.
pub struct Real {
    child: Child,
    pub endpoint: String,
    pub root: tempfile::TempDir,
}

impl Real {
    /// Starts the test binary again, with a test that begins with [`serve_if_asked`].
    pub fn start(test: &str) -> Self {
        let root = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(root.path().join("bucket")).expect("a bucket");
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([test, "--exact", "--nocapture"])
            .env(ROOT, root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("listening on ")
                    .map(|(_, port)| port.to_owned())
            })
            .expect("the server listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            endpoint: format!("http://127.0.0.1:{port}"),
            root,
        }
    }

    /// Every file that the server keeps, relative to its root.
    pub fn files(&self) -> Vec<PathBuf> {
        fn below(dir: &Path, files: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).expect("readable") {
                let path = entry.expect("readable").path();
                match path.is_dir() {
                    true => below(&path, files),
                    false => files.push(path),
                }
            }
        }
        let mut files = Vec::new();
        below(self.root.path(), &mut files);
        let root = self.root.path();
        let relative = files
            .iter()
            .map(|file| file.strip_prefix(root).expect("below it"));
        relative.map(Path::to_path_buf).collect()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes the server, if this process was started to be one. It ends when its parent does.
pub fn serve_if_asked() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(serve(&root));
}

async fn serve(root: &str) {
    let files = s3s_fs::FileSystem::new(root).expect("a folder");
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = service.build().into_shared();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    println!(
        "\nlistening on {}",
        listener.local_addr().expect("bound").port()
    );
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let socket = hyper_util::rt::TokioIo::new(socket);
        let service = service.clone();
        tokio::spawn(async move {
            let executor = hyper_util::rt::TokioExecutor::new();
            let server = hyper_util::server::conn::auto::Builder::new(executor);
            let _ = server.serve_connection(socket, service).await;
        });
    }
}
