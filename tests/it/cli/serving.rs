//! `doorward serve`, as a process.

use super::*;

/// A running `doorward serve`; killed when the test is over.
pub(super) struct Serving {
    pub(super) child: Child,
    pub(super) log: Vec<String>,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Serving {
    pub(super) fn start(place: &Place) -> Self {
        // No word at all: serving is what is done without a command.
        Self::spawn(place.command(&[]).stdin(Stdio::null()))
    }

    pub(super) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || err.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, log: Vec::new(), lines }
    }

    /// The first log line from now on that holds `part`.
    pub(super) fn wait_for(&mut self, part: &str) -> String {
        self.wait_for_one_of(&[part])
    }

    pub(super) fn wait_for_one_of(&mut self, parts: &[&str]) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("{parts:?} is not in {:#?}", self.log));
            self.log.push(line.clone());
            if parts.iter().any(|part| line.contains(part)) {
                return line;
            }
        }
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; answers exit code and standard output.
    pub(super) fn ended(mut self) -> (Option<i32>, String) {
        use std::io::Read;
        let end = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end: {:#?}", self.log);
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (status.code(), out)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already in a test that passed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn serve_makes_nobody_where_no_terminal_is_and_stops_cleanly() {
    for signal in ["TERM", "INT", "HUP"] {
        let place = Place::new();
        let mut serving = Serving::start(&place);
        serving.wait_for("doorward user create --superuser");
        let line = serving.wait_for("grpcurl -plaintext 127.0.0.1:");
        let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap();
        std::net::TcpStream::connect(address).unwrap();
        assert_eq!(place.users(), Vec::<Value>::new());
        serving.signal(signal);
        assert_eq!(serving.ended(), (Some(0), String::new()));
    }
}

#[test]
fn a_second_signal_ends_serve_at_once() {
    let place = Place::new().set("server.shutdown_grace", "1h");
    let mut serving = Serving::start(&place);
    serving.wait_for("grpcurl");
    serving.signal("TERM");
    serving.wait_for("stopping");
    serving.signal("TERM");
    assert_eq!(serving.ended().0, Some(0));
}

#[test]
fn the_configured_first_superuser_is_made_once_and_must_change_the_password() {
    let place = Place::new().set("bootstrap.email", "root@example.com").set("bootstrap.password_file", "first");
    place.run(&["serve"]).refused(&["bootstrap.password_file", "cannot be read"]);
    fs::write(place.file("first"), "short").unwrap();
    place.run(&["serve"]).refused(&["bootstrap.password_file", "at least 15 characters"]);
    fs::write(place.file("first"), format!("{PASSWORD}\n")).unwrap();
    let serve = || {
        let mut serving = Serving::start(&place);
        serving.wait_for("grpcurl");
        serving.signal("TERM");
        let log = serving.log.join("\n");
        assert_eq!(serving.ended(), (Some(0), String::new()));
        assert!(!log.contains(PASSWORD) && !log.contains("root@example.com"), "{log}");
        log
    };
    assert!(serve().contains("the first superuser was made"));
    let shown = place.run(&["user", "show", "root@example.com", "--format", "json"]).done().json();
    assert_eq!((&shown["superuser"], &shown["must_change"]), (&Value::Bool(true), &Value::Bool(true)));

    // Once is once: the file may go, and a deleted one does not come back.
    fs::remove_file(place.file("first")).unwrap();
    place.run(&["user", "delete", "root@example.com", "--yes"]).done();
    let log = serve();
    assert!(!log.contains("the first superuser was made"), "{log}");
    assert_eq!(place.users().len(), 1);
}

#[test]
fn serve_names_the_address_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new().set("server.grpc_addr", &address);
    place.run(&["serve"]).refused(&["server.grpc_addr", &address]);
    assert!(!place.file("doorward.db").exists(), "nothing was made");
}

#[test]
fn serve_tells_of_a_default_issuer_that_leads_elsewhere_and_of_keys_that_others_change() {
    let place = Place::new();
    let mut serving = Serving::start(&place);
    let told = serving.wait_for("tokens.issuer, by which verifiers find them, is still http://127.0.0.1:8080");
    assert!(told.contains("the keys are published on 127.0.0.1:"), "{told}");
    serving.wait_for("grpcurl");
    let made = place.run(&["key", "rotate", "--format", "json"]).done().json();
    let told = serving.wait_for("a signing key changed");
    assert!(told.contains(text(&made, "kid")) && told.contains("was=\"absent\" is=\"pending\""), "{told}");
}
