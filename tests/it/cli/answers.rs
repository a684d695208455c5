//! What the command says to people who are stuck: each answer names what to do next.

use std::{
    io::Read,
    sync::mpsc::{Receiver, channel},
};

use nix::sys::termios::{LocalFlags, tcgetattr};

use super::*;

// One server a file.

#[test]
fn a_second_server_on_the_same_file_is_refused_and_commands_are_not() {
    let place = Place::new();
    let mut first = Serving::start(&place);
    first.wait_for("grpcurl");
    let pid = format!("(process {})", first.child.id());
    let refused = ["another server", &pid, "serves the database doorward.db already", "DOORWARD__DATABASE__URL", "PostgreSQL"];
    place.serve_in_vain().refused(&refused);
    place.user("ann@example.com");
    // By another name of the same file.
    std::os::unix::fs::symlink("doorward.db", place.file("link.db")).unwrap();
    let by_link = Place { folder: TempDir::new().unwrap(), settings: Vec::new() };
    let by_link = by_link.set("database.url", &format!("sqlite://{}", place.file("link.db").display()));
    by_link.serve_in_vain().refused(&["another server", &pid]);
    // A database of its own is no matter.
    let elsewhere = Place::new();
    let mut other = Serving::start(&elsewhere);
    other.wait_for("grpcurl");
    first.signal("TERM");
    assert_eq!(first.ended().0, Some(0));
    assert!(!place.file("doorward.db.serving").exists(), "it goes with the server");
}

#[test]
fn whatever_ends_a_server_lets_the_next_one_in() {
    let place = Place::new();
    for signal in ["KILL", "TERM", "KILL"] {
        let mut serving = Serving::start(&place);
        serving.wait_for("grpcurl");
        assert_eq!(fs::metadata(place.file("doorward.db.serving")).unwrap().permissions().mode() & 0o777, 0o600);
        serving.signal(signal);
        drop(serving.child.wait());
    }
    // Also one that was refused for something else.
    place.sql_write("doorward.db", "UPDATE instance SET root_check = 'another'");
    let ran = place.serve_in_vain();
    assert!(ran.code == 1 && ran.err.contains("another root secret"), "{ran:?}");
    assert!(!place.file("doorward.db.serving").exists());
}

#[test]
fn of_many_that_start_at_once_one_serves() {
    let place = Place::new();
    for _ in 0..3 {
        let mut all: Vec<Serving> = (0..4).map(|_| Serving::start(&place)).collect();
        let mut serving = 0;
        for server in &mut all {
            // Each says one of the two.
            let line = server.wait_for_one_of(&["doorward.db already", "grpcurl"]);
            serving += i32::from(line.contains("grpcurl"));
        }
        assert_eq!(serving, 1);
    }
}

// Addresses and folders.

#[test]
fn an_address_that_cannot_be_had_names_the_variable_to_set() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    for (key, variable) in [
        ("server.grpc_addr", "DOORWARD__SERVER__GRPC_ADDR"),
        ("server.http_addr", "DOORWARD__SERVER__HTTP_ADDR"),
        ("server.ops_addr", "DOORWARD__SERVER__OPS_ADDR"),
    ] {
        let place = Place::new().set(key, &taken);
        place.serve_in_vain().refused(&[key, &taken, "stop what listens there", &format!("set {variable}")]);
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "nothing was made");
    }
    let place = Place::new().set("server.ops_addr", "192.0.2.1:9090").set("tokens.issuer", "https://doorward.example");
    place.set("callers.mode", "optional").serve_in_vain().refused(&["192.0.2.1:9090", "an address that this machine has"]);
}

#[test]
fn a_missing_folder_is_named() {
    let place = Place::new().set("database.url", "sqlite://no/such/folder/doorward.db");
    for words in [&["serve"][..], &["user", "list"], &["demo"], &["migrate", "up"]] {
        place.run(words).refused(&["the folder no/such/folder of the database does not exist: make it first"]);
    }
    place.run(&["backup", "copy.db"]).refused(&["there is no database no/such/folder/doorward.db"]);
    place.run(&["--config", "no/such.toml", "serve"]).refused(&["no/such.toml"]);
    let place = Place::new();
    place.user("ann@example.com");
    place.run(&["backup", "no/such/copy.db"]).refused(&["the folder no/such does not exist: make it first"]);
}

// Signals.

#[test]
fn a_closed_terminal_stops_a_server_but_not_one_under_nohup() {
    let place = Place::new();
    let mut command = Command::new("nohup");
    let program = place.command(&[]);
    command.arg(program.get_program()).current_dir(place.folder.path()).env_clear().envs(place.settings.iter().cloned());
    let mut serving = Serving::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    serving.wait_for("grpcurl");
    let status = fs::read_to_string(format!("/proc/{}/status", serving.child.id())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    assert_eq!(u64::from_str_radix(ignored.trim(), 16).unwrap() & 1, 1, "it hears what nohup keeps from it");
    serving.signal("HUP");
    serving.signal("TERM");
    assert_eq!(serving.ended().0, Some(0));
    let place = Place::new().set("server.shutdown_grace", "1h");
    let mut serving = Serving::start(&place);
    serving.wait_for("grpcurl");
    serving.signal("HUP");
    serving.wait_for("stopping");
}

// Words.

#[test]
fn a_slip_of_the_finger_is_told_what_was_meant() {
    for (words, parts) in [
        (&["usr", "list"][..], &["unrecognized subcommand 'usr'", "'user'"][..]),
        (&["user", "creat"], &["unrecognized subcommand 'creat'", "'create'"]),
        (&["user", "create", "--emial", "a@b.example"], &["unexpected argument '--emial'", "'--email'"]),
        (&["user", "create", "--superuser"], &["--email <ADDRESS>", "--username <NAME>", "Usage: doorward user create"]),
        (&["user", "show"], &["<USER>", "Usage: doorward user show"]),
        (&["user", "list", "--format", "yaml"], &["'yaml'", "text, json"]),
        (&["session", "revoke"], &["--everything", "Usage: doorward session revoke"]),
        (&["session", "list"], &["--user <USER>", "--tenant <TENANT>"]),
        (&["backup"], &["<FILE>", "Usage: doorward backup"]),
        (&["completions", "tcsh"], &["'tcsh'", "bash", "zsh", "fish"]),
        (&["serve", "--port", "1"], &["unexpected argument '--port'", "For more information, try '--help'"]),
    ] {
        let ran = Place::new().run(words);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {ran:?}");
        for part in parts {
            assert!(ran.err.contains(part), "{part:?} is missing in {ran:?}");
        }
    }
}

#[test]
fn hints_have_the_real_names() {
    let place = Place::new();
    place.user("ann@example.com");
    place.run(&["user", "create", "--username", "o'neill", "--no-password"]).done();
    place.run(&["tenant", "create", "--slug", "acme", "--name", "Acme", "--seat-limit", "2"]).done();
    place.run(&["user", "create", "--email", "Ann@example.com", "--no-password"]).refused(&["`doorward user show Ann@example.com`"]);
    place.run(&["user", "create", "--username", "O'Neill", "--no-password"]).refused(&[r"`doorward user show 'O'\''Neill'`"]);
    let add = |user: &str, role: &[&str]| place.run(&[&["member", "add", "--tenant", "acme", "--user", user, "--role"], role].concat());
    add("ann@example.com", &["owner", "chief", "boss"]).refused(&["the tenant acme has no role chief, boss: it has owner, admin, member"]);
    add("ann@example.com", &["owner"]).done();
    add("ann@example.com", &["admin"]).refused(&["`doorward member remove --tenant acme --user ann@example.com`"]);
    place.user("ben@example.com");
    add("ben@example.com", &["member"]).done();
    add("o'neill", &["admin"]).refused(&["seats", "`doorward member list --tenant acme`"]);
    let remove = ["member", "remove", "--tenant", "acme", "--user", "o'neill", "--yes"];
    place.run(&remove).refused(&["`doorward member list --tenant acme`"]);
    let role = ["role", "create", "--tenant", "acme", "--name", "admin", "--level", "1"];
    place.run(&role).refused(&["`doorward role list --tenant acme`"]);
}

#[test]
fn completions_are_scripts_of_their_shells() {
    for (shell, part) in [("bash", "complete -F _doorward"), ("zsh", "#compdef doorward"), ("fish", "complete -c doorward")] {
        let place = Place::new().set("database.url", "nonsense");
        let out = place.run(&["completions", shell]).done().out;
        for word in [part, "revoke", "password-stdin"] {
            assert!(out.contains(word), "{shell}: {word} is missing");
        }
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "it touches nothing");
        if shell == "bash" {
            fs::write(place.file("script"), &out).unwrap();
            let ask =
                "source ./script; COMP_WORDS=(doorward session re); COMP_CWORD=2; _doorward doorward re session; echo \"${COMPREPLY[@]}\"";
            let answer = Command::new("bash").args(["-c", ask]).current_dir(place.folder.path()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "revoke");
        }
    }
}

// At a terminal.

/// A command at a terminal of its own.
struct Terminal {
    child: Child,
    keys: fs::File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn open(place: &Place, words: &[&str]) -> Self {
        let (master, slave) = terminal();
        let program = place.command(words);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(words).current_dir(place.folder.path());
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(place.settings.iter().cloned());
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().unwrap();
        // Its copies of the terminal would keep the screen from ever ending.
        drop(command);
        let (sender, screen) = channel();
        let mut reading = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            // A terminal that nobody has open any more is an error, not an end.
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keys: master, screen, seen: String::new() }
    }

    /// Waits for a question and types the answer.
    fn answer(mut self, question: &str, keys: &str) -> Self {
        let end = Instant::now() + Duration::from_secs(20);
        let from = self.seen.len();
        while !self.seen[from..].contains(question) {
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("{question:?} is not in {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        // What is typed before the echo goes off is shown, or flushed away with it.
        while question.contains("assword") && tcgetattr(&self.keys).unwrap().local_flags.contains(LocalFlags::ECHO) {
            assert!(Instant::now() < end, "the echo stays on");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.keys.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Exit code and everything that was on the screen.
    fn end(mut self) -> (i32, String) {
        let end = Instant::now() + Duration::from_secs(20);
        while let Ok(bytes) = self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(Instant::now() < end, "it does not end: {:?}", self.seen);
        (self.child.wait().unwrap().code().unwrap(), std::mem::take(&mut self.seen).replace('\r', ""))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It hangs up when the last one who holds this end lets go; the program would wait for it for ever.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn names_are_looked_at_before_a_password_is_asked_for() {
    let place = Place::new();
    place.user("ann@example.com");
    for (words, part) in [
        (["user", "create", "--email", "ANN@example.com"], "is taken"),
        (["user", "create", "--email", "nobody"], "--email: "),
        (["user", "create", "--username", "a@b"], "--username: "),
        (["user", "set-password", "nobody", "--yes"], "there is no user"),
    ] {
        let (code, screen) = Terminal::open(&place, &words).end();
        assert!(code == 1 && screen.contains(part) && !screen.contains("New password"), "{screen}");
    }
    let at_terminal = Terminal::open(&place, &["user", "create", "--username", "bob"]);
    let typed =
        at_terminal.answer("New password: ", &format!("{PASSWORD}\n")).answer("The same password again: ", &format!("{PASSWORD}\n"));
    let (code, screen) = typed.end();
    assert!(code == 0 && screen.contains("Created the user bob") && !screen.contains(PASSWORD), "{screen}");
    let shown = place.run(&["user", "show", "bob", "--format", "json"]).done().json();
    assert_eq!((&shown["has_password"], &shown["must_change"]), (&Value::Bool(true), &Value::Bool(false)));
}

#[test]
fn an_end_of_input_at_a_question_is_a_no() {
    let place = Place::new();
    place.user("ann@example.com");
    let (code, screen) = Terminal::open(&place, &["user", "create", "--username", "bob"]).answer("New password: ", "\u{4}").end();
    assert!(code == 1 && screen.ends_with("\ndoorward: no password was given: nothing was changed\n"), "{screen:?}");
    assert_eq!(place.users().len(), 1);
    for keys in ["\u{4}", "\n", "n\n", "maybe\n"] {
        let (code, screen) = Terminal::open(&place, &["user", "delete", "ann@example.com"]).answer("Go on? [y/N] ", keys).end();
        assert!(code == 1 && screen.ends_with("\ndoorward: nothing was changed\n"), "{screen:?}");
    }
    assert_eq!(text(&place.users()[0], "state"), "active");
    let (code, screen) = Terminal::open(&place, &["session", "revoke", "--user", "ann@example.com"]).answer("[y/N] ", "y\n").end();
    assert!(code == 0 && screen.contains("This ends every session of the user ann@example.com: 0 now. Go on?"), "{screen:?}");
    assert_eq!(place.sql("SELECT event FROM audit_events WHERE event LIKE '%revoked'"), ["user.sessions_revoked"]);
}

#[test]
fn a_lock_that_is_another_servers_is_left_alone() {
    let place = Place::new();
    let mut first = Serving::start(&place);
    first.wait_for("grpcurl");
    // What people do with a lock file that they take for a stale one.
    fs::remove_file(place.file("doorward.db.serving")).unwrap();
    fs::write(place.file("doorward.db.serving"), "4711\n").unwrap();
    first.signal("TERM");
    assert_eq!(first.ended().0, Some(0));
    assert_eq!(fs::read_to_string(place.file("doorward.db.serving")).unwrap(), "4711\n");
}

#[test]
fn the_lock_file_is_not_written_through_a_link() {
    let place = Place::new();
    fs::write(place.file("precious"), "precious").unwrap();
    std::os::unix::fs::symlink("precious", place.file("doorward.db.serving")).unwrap();
    place.serve_in_vain().refused(&["the lock file", "doorward.db.serving"]);
    assert_eq!(fs::read_to_string(place.file("precious")).unwrap(), "precious");
}

#[test]
fn a_database_with_two_names_is_not_served() {
    let place = Place::new();
    place.user("ann@example.com");
    fs::hard_link(place.file("doorward.db"), place.file("second.db")).unwrap();
    place.serve_in_vain().refused(&["doorward.db has 2 names", "leave it one"]);
    place.run(&["user", "list"]).refused(&["doorward.db has 2 names"]);
}

#[test]
fn a_command_in_the_wrong_folder_makes_no_database() {
    let place = Place::new();
    let path = place.file("doorward.db").display().to_string();
    for words in [
        &["user", "list"][..],
        &["user", "disable", "ann", "--yes"],
        &["tenant", "list"],
        &["role", "list", "--tenant", "acme"],
        &["member", "list", "--tenant", "acme"],
        &["session", "list", "--user", "ann"],
        &["session", "revoke", "--everything", "--yes"],
        &["backup", "copy.db"],
    ] {
        let ran = place.run(words);
        assert!(ran.code == 1 && ran.err.contains("there is no database"), "{words:?}: {ran:?}");
        assert!(words[0] == "backup" || ran.err.contains(&path), "{words:?}: {ran:?}");
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "{words:?}");
    }
    place
        .set("database.url", "sqlite://other.db?mode=rw")
        .run(&["tenant", "create", "--slug", "acme", "--name", "Acme"])
        .refused(&["mode=rw"]);
}

#[test]
fn a_copy_without_its_latest_changes_is_not_taken_for_a_new_database() {
    let place = Place::new();
    place.user("ann@example.com");
    let copy = Place::new();
    fs::copy(place.file("doorward.db.key"), copy.file("doorward.db.key")).unwrap();
    // As it lies beside a -wal that holds all of it: a head, which says so, and no table.
    on_database(&copy.file("doorward.db"), async |db| {
        db.execute_unprepared("PRAGMA journal_mode = WAL; PRAGMA user_version = 1").await.unwrap();
    });
    assert!(!copy.file("doorward.db-wal").exists());
    let refused = ["doorward.db is empty, but its key file is there", "doorward.db-wal", "doorward backup"];
    copy.run(&["user", "list"]).refused(&refused);
    // Not only at the first try.
    drop(fs::remove_file(copy.file("doorward.db-wal")));
    copy.serve_in_vain().refused(&refused);
    // A first start that was killed there leaves the same, and its mark.
    drop(fs::remove_file(copy.file("doorward.db-wal")));
    fs::write(copy.file("doorward.db.begun"), "").unwrap();
    copy.user("ben@example.com");
    assert!(!copy.file("doorward.db.begun").exists());
}

#[test]
fn what_a_killed_first_start_left_half_done_is_taken_back() {
    let place = Place::new();
    // A transaction that has reached the file, and the journal that takes it back.
    on_database(&place.file("other.db"), async |db| {
        let half = "PRAGMA journal_mode = DELETE; PRAGMA user_version = 1; PRAGMA cache_size = 1; BEGIN IMMEDIATE; CREATE TABLE t (x); \
                    INSERT INTO t SELECT randomblob(4000) FROM (SELECT 1 FROM pragma_function_list LIMIT 60)";
        db.execute_unprepared(half).await.unwrap();
        for suffix in ["", "-journal"] {
            fs::copy(place.file(&format!("other.db{suffix}")), place.file(&format!("doorward.db{suffix}"))).unwrap();
        }
    });
    assert!(fs::metadata(place.file("doorward.db-journal")).unwrap().len() > 0);
    fs::write(place.file("doorward.db.key"), place.run(&["secret", "generate"]).done().out).unwrap();
    fs::set_permissions(place.file("doorward.db.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(place.file("doorward.db.begun"), "").unwrap();
    place.user("ann@example.com");
    assert_eq!(place.users().len(), 1);
}

#[test]
fn a_file_that_is_no_lock_is_not_taken_for_one() {
    let place = Place::new();
    fs::write(place.file("notes"), "my notes\n").unwrap();
    fs::hard_link(place.file("notes"), place.file("doorward.db.serving")).unwrap();
    place.serve_in_vain().refused(&["doorward.db.serving is no lock file", "move it elsewhere"]);
    fs::remove_file(place.file("notes")).unwrap();
    place.serve_in_vain().refused(&["doorward.db.serving is no lock file"]);
    assert_eq!(fs::read_to_string(place.file("doorward.db.serving")).unwrap(), "my notes\n");
}

#[test]
fn a_backup_is_never_one_of_the_databases_own_files() {
    let place = Place::new();
    place.user("ann@example.com");
    for suffix in ["-wal", "-shm", "-journal", ".serving", ".begun"] {
        let name = format!("doorward.db{suffix}");
        drop(fs::remove_file(place.file(&name)));
        place.run(&["backup", &name]).refused(&["belongs to the database itself"]);
    }
    place.run(&["backup", "folder/"]).refused(&["the name of a folder"]);
}
