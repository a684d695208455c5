//! `doorward health`: yes only for SERVING, always in time, and without anything but the address.

use std::{io::Read, net::TcpListener};

use super::*;

/// The ops address of a server that serves.
fn ops_addr(serving: &mut Serving) -> String {
    let line = serving.wait_for("ops=");
    serving.wait_for("readiness changed");
    let (_, rest) = line.split_once("ops=").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

fn ask(addr: &str, more: &[&str]) -> Ran {
    Place::new().run(&[&["health", "--addr", addr], more].concat())
}

#[test]
fn every_name_is_served_and_none_but_those() {
    let place = Place::new();
    let mut serving = Serving::start(&place);
    let addr = ops_addr(&mut serving);
    for name in ["readiness", "liveness", "startup", "doorward.v1.AuthService", ""] {
        assert_eq!(ask(&addr, &["--service", name]).done().out, "SERVING\n", "{name:?}");
    }
    assert_eq!(ask(&addr, &[]).done().out, "SERVING\n");
    let json = ask(&addr, &["--format", "json"]).done().json();
    assert_eq!(json, serde_json::json!({ "service": "readiness", "status": "SERVING" }));
    ask(&addr, &["--service", "nonsense"]).refused(&["no service of this name", "readiness, liveness, startup"]);
    let (_, port) = addr.rsplit_once(':').unwrap();
    assert_eq!(ask(&format!("localhost:{port}"), &[]).done().out, "SERVING\n");
}

#[test]
fn a_server_that_stops_is_live_and_not_ready() {
    let place = Place::new().set("server.shutdown_grace", "1h");
    let mut serving = Serving::start(&place);
    let addr = ops_addr(&mut serving);
    serving.signal("TERM");
    serving.wait_for("stopping");
    // The state goes from hand to hand: it is told within moments, not within the same one.
    let end = Instant::now() + Duration::from_secs(10);
    let ran = loop {
        let ran = ask(&addr, &[]);
        if ran.code != 0 || Instant::now() > end {
            break ran;
        }
    };
    assert_eq!((ran.code, ran.out.as_str()), (1, "NOT_SERVING\n"), "{ran:?}");
    assert!(ran.err.contains("readiness at ") && ran.err.contains("its log says which"), "{ran:?}");
    assert_eq!(ask(&addr, &["--service", "liveness"]).done().out, "SERVING\n");
}

/// The probe's own configuration is the server's, but for what only the server needs.
#[test]
fn the_configuration_says_where_and_nothing_else_of_it_matters() {
    let place = Place::new();
    let mut serving = Serving::start(&place);
    let addr = ops_addr(&mut serving);
    let probe = Place { folder: TempDir::new().unwrap(), settings: Vec::new() };
    let probe =
        probe.set("server.ops_addr", &addr).set("secrets.root_file", "/absent/secret").set("database.url", "postgres://nobody@absent/x");
    assert_eq!(probe.run(&["health"]).done().out, "SERVING\n");
    fs::write(probe.file("doorward.toml"), format!("[server]\nops_addr = \"{addr}\"\n[bootstrap]\npassword_file = \"absent\"\n")).unwrap();
    let by_file = Place { folder: TempDir::new().unwrap(), settings: Vec::new() };
    let file = probe.file("doorward.toml");
    assert_eq!(by_file.run(&["--config", file.to_str().unwrap(), "health"]).done().out, "SERVING\n");
    assert_eq!(fs::read_dir(by_file.folder.path()).unwrap().count(), 0, "it touches nothing");

    by_file.run(&["--config", "absent.toml", "health"]).refused(&["absent.toml"]);
    let bad = Place { folder: TempDir::new().unwrap(), settings: Vec::new() }.set("server.ops_addr", "here");
    bad.run(&["health"]).refused(&["server.ops_addr: ", "DOORWARD__SERVER__OPS_ADDR"]);
    Place::new().run(&["health"]).refused(&["port 0", "--addr"]);
}

#[test]
fn whatever_else_is_there_is_a_no_in_time() {
    // Nothing.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = held.local_addr().unwrap().to_string();
    drop(held);
    ask(&addr, &[]).refused(&["nothing answers", &addr, "refused", "server.ops_addr"]);
    // A listener on every address is reached on loopback.
    let (_, port) = addr.rsplit_once(':').unwrap();
    ask(&format!("0.0.0.0:{port}"), &[]).refused(&[&format!("nothing answers at 127.0.0.1:{port}")]);
    ask(&format!("[::]:{port}"), &[]).refused(&[&format!("nothing answers at [::1]:{port}")]);
    // Somebody who says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let start = Instant::now();
    ask(&addr, &["--timeout", "1s"]).refused(&["no answer from", "within 1s"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Another program.
    std::thread::spawn(move || {
        for mut stream in silent.incoming().map_while(Result::ok) {
            drop(stream.read(&mut [0; 64]));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    ask(&addr, &[]).refused(&["doorward: ", &addr]);
}

#[test]
fn bad_flags_are_typed_wrongly() {
    for words in [
        &["health", "--timeout", "2"][..],
        &["health", "--timeout", "0s"],
        &["health", "--timeout", "soon"],
        &["health", "--addr", "9090"],
        &["health", "--addr", "host:port"],
        &["health", "--addr", "http://127.0.0.1:9090"],
        &["health", "--addr", "127.0.0.1:99999"],
        &["health", "readiness"],
    ] {
        let ran = Place::new().run(words);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {ran:?}");
    }
}
