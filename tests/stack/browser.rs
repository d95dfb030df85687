//! A real Chromium for the tests of the live page: started without a screen, told what to do, and ended.
//!
//! ```ignore
//! let Some(bin) = browser::require() else { return };
//! let mut page = Page::open(&bin, "http://127.0.0.1:9464/", Screen::desk());
//! page.wait_until("document.body.dataset.connection === 'live'", DEADLINE);
//! page.press("/");
//! page.write("orders");
//! assert_eq!(page.evaluate("document.activeElement.value"), "orders");
//! ```
//!
//! Commands and events go over a pipe, as JSON with a NUL after each: Chromium's DevTools protocol, which needs neither a
//! port nor a WebSocket that way. `tests/stack/install-browser` puts Chromium in place. Whatever goes wrong here panics,
//! as the end of the test that asked; whatever waits has a deadline.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test helper reports to the person who runs the tests, and fails by panicking"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process;

/// A command takes milliseconds, starting about a second. The rest is for a CI machine that is compiling as well.
const ANSWER: Duration = Duration::from_secs(60);

/// A browser that was asked to end has this long before it is killed.
const END: Duration = Duration::from_secs(5);

/// A condition in the page is looked at often, and without keeping the page from its work.
const POLL: Duration = Duration::from_millis(25);

/// The directory that holds Chromium; without one says that the test is skipped.
///
/// # Panics
///
/// Without one, with `CI=true`.
pub(crate) fn require() -> Option<PathBuf> {
    process::require(&["chromium"], "tests/stack/install-browser")
}

/// What the page is shown on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    width: u32,
    height: u32,
    scale: u32,
    dark: bool,
    phone: bool,
}

impl Screen {
    /// 1280×800, of somebody who likes it light.
    pub(crate) fn desk() -> Self {
        Self { width: 1280, height: 800, scale: 1, dark: false, phone: false }
    }

    /// 390×844, which is touched and has two dots for each of its pixels.
    pub(crate) fn phone() -> Self {
        Self { width: 390, height: 844, scale: 2, dark: false, phone: true }
    }

    /// The same for somebody who likes it dark.
    pub(crate) fn dark(self) -> Self {
        Self { dark: true, ..self }
    }
}

/// A page in a browser of its own. The browser ends when this is dropped, and a test that panics shows what the page
/// had said.
#[must_use = "the browser ends when this is dropped"]
pub(crate) struct Page {
    child: Child,
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    last_command: u64,
    session: Option<String>,
    console: Vec<String>,
    requests: Vec<String>,
    loaded: bool,
    profile: TempDir,
}

impl Page {
    /// Starts a browser and opens this address, up to where everything that belongs to the page has been loaded.
    #[track_caller]
    pub(crate) fn open(bin: &Path, url: &str, screen: Screen) -> Self {
        let mut page = Self::start(bin);
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = page.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        page.session = Some(attached["sessionId"].as_str().expect("an attached target has a session").to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.show_on(screen);
        page.go(url);
        page
    }

    #[track_caller]
    fn start(bin: &Path) -> Self {
        let profile = tempfile::tempdir().expect("a directory for the browser can be made");
        let log = File::create(profile.path().join("log")).expect("the log of the browser can be made");
        // Chromium reads commands from descriptor 3 and writes to 4. Only a shell can hand those over without unsafe
        // code; what Chromium prints goes into the log.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh"])
            .arg(bin.join("chromium"))
            .args(["--headless", "--remote-debugging-pipe"])
            // Root may not have a sandbox, containers have little shared memory, and all that is shown is ours.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            // It asks for nothing on its own.
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-quic", "--disable-default-apps", "--hide-scrollbars"])
            // A page that nobody looks at would be given less time.
            .args(["--disable-renderer-backgrounding", "--disable-background-timer-throttling"])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("a shell can be started");
        let commands = child.stdin.take();
        let mut events = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (heard, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            // It ends with the browser, or when nobody listens any more.
            while events.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                let Ok(parsed) = serde_json::from_slice(message.strip_suffix(&[0]).unwrap_or(&message)) else { break };
                if heard.send(parsed).is_err() {
                    break;
                }
                message.clear();
            }
        });
        Self {
            child,
            commands,
            messages,
            last_command: 0,
            session: None,
            console: Vec::new(),
            requests: Vec::new(),
            loaded: false,
            profile,
        }
    }

    /// Goes to this address, up to where everything that belongs to the page has been loaded.
    #[track_caller]
    pub(crate) fn go(&mut self, url: &str) {
        self.loaded = false;
        let answer = self.call("Page.navigate", json!({"url": url}));
        assert!(answer["errorText"].is_null(), "{url} cannot be opened: {answer}");
        let end = Instant::now() + ANSWER;
        while !self.loaded {
            let Some(event) = self.receive(end) else { panic!("{url} was not loaded within {ANSWER:?}") };
            self.note(&event);
        }
    }

    /// Shows it on another screen from now on.
    #[track_caller]
    pub(crate) fn show_on(&mut self, screen: Screen) {
        let Screen { width, height, scale, dark, phone } = screen;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone});
        self.call("Emulation.setDeviceMetricsOverride", size);
        self.call("Emulation.setTouchEmulationEnabled", json!({"enabled": phone}));
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// The value of this JavaScript expression, once its promise is kept if it is one.
    ///
    /// # Panics
    ///
    /// If it throws.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let arguments = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", arguments);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {}", thrown["exception"]["description"]);
        answer["result"]["value"].take()
    }

    /// Waits until this expression is true in the page, or anything else that counts as true; that value.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, expression: &str, deadline: Duration) -> Value {
        process::poll(deadline, POLL, || match self.evaluate(expression) {
            Value::Null | Value::Bool(false) => Err(format!("not true in the page: {expression}")),
            value => Ok(value),
        })
    }

    /// Presses one key: a character, or `Enter`, `Escape`, `Tab`, `Shift+Tab` and the arrows by their names.
    #[track_caller]
    pub(crate) fn press(&mut self, key: &str) {
        let (key, modifiers) = match key.strip_prefix("Shift+") {
            Some(key) => (key, 8),
            None => (key, 0),
        };
        let (code, number, text) = match key {
            "Enter" => ("Enter", 13, "\r"),
            "Escape" => ("Escape", 27, ""),
            "Tab" => ("Tab", 9, ""),
            "ArrowLeft" => ("ArrowLeft", 37, ""),
            "ArrowUp" => ("ArrowUp", 38, ""),
            "ArrowRight" => ("ArrowRight", 39, ""),
            "ArrowDown" => ("ArrowDown", 40, ""),
            character => ("", 0, character),
        };
        let mut event = json!({"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers});
        let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        for kind in [down, "keyUp"] {
            event["type"] = kind.into();
            if kind == "keyDown" {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event.clone());
        }
    }

    /// Writes this where the cursor is, as an input method would.
    #[track_caller]
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Writes what the screen shows into this PNG file.
    #[track_caller]
    pub(crate) fn screenshot(&mut self, path: &Path) {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let picture = BASE64_STANDARD.decode(answer["data"].as_str().unwrap_or_default()).expect("base64");
        fs::create_dir_all(path.parent().unwrap_or(path)).expect("the directory of the screenshots can be made");
        fs::write(path, picture).expect("a screenshot can be written");
    }

    /// What the page has said on its console so far: messages, exceptions, violations of its policy, requests that failed.
    #[track_caller]
    pub(crate) fn console(&mut self) -> &[String] {
        self.catch_up();
        &self.console
    }

    /// The addresses that the page has asked for so far.
    #[track_caller]
    pub(crate) fn requests(&mut self) -> &[String] {
        self.catch_up();
        &self.requests
    }

    /// Every event that was sent before the answer to a command has been received with it.
    #[track_caller]
    fn catch_up(&mut self) {
        self.evaluate("0");
    }

    /// Gives a command and waits for what comes of it.
    #[track_caller]
    fn call(&mut self, method: &str, arguments: Value) -> Value {
        self.last_command += 1;
        let mut command = json!({"id": self.last_command, "method": method, "params": arguments});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let mut line = command.to_string().into_bytes();
        line.push(0);
        let sent = self.commands.as_mut().is_some_and(|commands| commands.write_all(&line).is_ok());
        assert!(sent, "the browser has ended: {}", self.log());
        let end = Instant::now() + ANSWER;
        while let Some(mut message) = self.receive(end) {
            if message["id"] == self.last_command {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]["message"]);
                return message["result"].take();
            }
            self.note(&message);
        }
        panic!("no answer to {method} within {ANSWER:?}: {}", self.log())
    }

    /// The next message; none at the deadline or from a browser that has ended.
    fn receive(&self, end: Instant) -> Option<Value> {
        self.messages.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
    }

    /// Keeps of an event what tests ask for.
    fn note(&mut self, event: &Value) {
        let of = &event["params"];
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match event["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => self.loaded = true,
            "Network.requestWillBeSent" => self.requests.push(text(&of["request"]["url"])),
            "Log.entryAdded" => {
                let entry = &of["entry"];
                self.console.push(format!(
                    "{}: {} ({})",
                    text(&entry["level"]),
                    text(&entry["text"]),
                    text(&entry["url"])
                ));
            }
            "Runtime.consoleAPICalled" => {
                let said = of["args"].as_array().into_iter().flatten();
                let said: Vec<String> =
                    said.map(|value| text(value.get("value").unwrap_or(&value["description"]))).collect();
                self.console.push(format!("{}: {}", text(&of["type"]), said.join(" ")));
            }
            "Runtime.exceptionThrown" => {
                let thrown = &of["exceptionDetails"];
                self.console.push(format!("{}: {}", text(&thrown["text"]), text(&thrown["exception"]["description"])));
            }
            "Inspector.targetCrashed" => panic!("the page has crashed: {}", self.log()),
            _ => {}
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if thread::panicking() && !self.console.is_empty() {
            eprintln!("the page had said:\n{}", self.console.join("\n"));
        }
        // It ends by itself, and takes its own processes along, when nobody can tell it anything any more.
        drop(self.commands.take());
        let end = Instant::now() + END;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < end {
            thread::sleep(POLL);
        }
        // Failing here means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
