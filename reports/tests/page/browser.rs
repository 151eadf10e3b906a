//! A real browser, driven over its debugging pipe: descriptors 3 and 4, one JSON message after the
//! other, a zero byte after each.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long an answer may take before the browser counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// One page in a browser of its own. The browser ends with it.
pub struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// What happened on the page, in order.
    pub events: Vec<Value>,
    _files: tempfile::TempDir,
}

/// The browser, under the names that distributions give it.
fn found() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        })
}

impl Browser {
    /// Starts a browser with an empty page; `None`, and a line that says so, if there is none.
    pub fn start(test: &str) -> Option<Self> {
        let Some(browser) = found() else {
            println!("SKIPPED {test}: no Chromium on the PATH (scripts/setup --tests)");
            return None;
        };
        let files = tempfile::tempdir().expect("a temporary folder");
        let [to, from] = ["to", "from"].map(|name| files.path().join(name));
        let made = Command::new("mkfifo").arg(&to).arg(&from).status();
        assert!(made.expect("mkfifo starts").success());
        let child = Command::new("sh")
            .args([
                "-c",
                "to=$1 from=$2; shift 2; exec \"$@\" 3<\"$to\" 4>\"$from\"",
                "sh",
            ])
            .args([&to, &from])
            .arg(browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-sync",
            ])
            .args(["--disable-component-update", "--remote-debugging-pipe"])
            .arg(format!(
                "--user-data-dir={}",
                files.path().join("profile").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let commands = File::options()
            .write(true)
            .open(&to)
            .expect("the pipe opens");
        let messages = read(File::open(&from).expect("the pipe opens"));
        let mut browser = Self {
            child,
            commands,
            messages,
            next: 0,
            session: None,
            events: Vec::new(),
            _files: files,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let id = target["targetId"].clone();
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": id, "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Sends a command and waits for its answer; what happens meanwhile goes to `events`.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands
            .write_all(&bytes)
            .expect("the browser listens");
        loop {
            let answer = self
                .messages
                .recv_timeout(PATIENCE)
                .expect("the browser answers");
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens a file and waits until it has loaded.
    pub fn open(&mut self, page: &Path) {
        self.events.clear();
        let url = format!("file://{}", page.display());
        self.call("Page.navigate", json!({"url": url}));
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let event = self
                .messages
                .recv_timeout(PATIENCE)
                .expect("the page loads");
            self.events.push(event);
        }
    }

    /// The value of an expression on the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Moves the pointer to a share of an element's width and height.
    pub fn point_at(&mut self, selector: &str, across: f64, down: f64) {
        let place = self.eval(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); \
             e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect(); \
             return [b.left + b.width * {across}, b.top + b.height * {down}]; }})()"
        ));
        let [x, y] = [0, 1].map(|at| place[at].as_f64().expect("a number"));
        self.settle();
        // A pointer that appears somewhere has not moved yet.
        for x in [x - 1.0, x] {
            let moved = json!({"type": "mouseMoved", "x": x, "y": y});
            self.call("Input.dispatchMouseEvent", moved);
        }
    }

    /// Waits until what was scrolled has been drawn, and the page knows.
    fn settle(&mut self) {
        let drawn =
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";
        let params = json!({"expression": drawn, "awaitPromise": true});
        self.call("Runtime.evaluate", params);
    }

    /// Presses a key with the given name.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({"type": kind, "key": key, "code": key}),
            );
        }
    }

    /// The page as wide as this, in CSS pixels, in a light or dark scheme.
    pub fn look(&mut self, width: u32, scheme: &str) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}),
        );
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Everything that went wrong on the page: exceptions, refused scripts and styles.
    pub fn complaints(&self) -> Vec<&Value> {
        let wrong = [
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Runtime.consoleAPICalled",
        ];
        let events = self.events.iter();
        events
            .filter(|event| wrong.iter().any(|method| event["method"] == *method))
            .collect()
    }
}

/// The messages of the browser, read on a thread so that waiting for them can end.
fn read(pipe: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while pipe.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
            bytes.pop();
            let Ok(message) = serde_json::from_slice(&bytes) else {
                return;
            };
            if sender.send(message).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    receiver
}

impl Drop for Browser {
    fn drop(&mut self) {
        let close = b"{\"id\":0,\"method\":\"Browser.close\"}\0";
        let _ = self.commands.write_all(close);
        // It ends its own helpers and leaves its folder alone; one that does not listen is killed.
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
