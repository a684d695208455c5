//! The rules of the house that no compiler holds: who may name whom, how long a file may be, what must not stand anywhere.
//!
//! They look at the sources as text. A rule that gets in the way of something better is changed here, in the same commit, with its
//! reason; the module docs of `src/lib.rs` say what the parts are for.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of one file.
const FILE_MAX: usize = 500;
/// Lines of the file in the middle.
const MEDIAN_MAX: usize = 150;

struct Source {
    /// Below the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines of code with their numbers, without comments and texts, which may name anything.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        lines.map(|(at, line)| (at + 1, line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")))
    }

    /// The part of the service that it belongs to: `grpc` for `src/grpc.rs` and all below `src/grpc/`.
    fn part(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or_default();
        inner.split(['/', '.']).next().unwrap_or_default()
    }

    fn is_at(&self, path: &str) -> bool {
        self.path == path || self.path.starts_with(&format!("{path}/"))
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below these folders.
fn sources(folders: &[&str]) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in folders {
        walk(&repository().join(folder), &mut found);
    }
    found.sort();
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(repository()).unwrap().to_str().unwrap().replace('\\', "/"),
    };
    let sources: Vec<_> = found.into_iter().map(read).collect();
    assert!(!sources.is_empty());
    sources
}

/// Whether the line names the crate or path: as a whole word.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Every place of these sources that names one of the words, as `file:line: text`.
fn places(sources: &[Source], words: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        for (number, line) in source.code().filter(|(_, line)| words.iter().any(|word| names(line, word))) {
            places.push(format!("{}:{number}: {}", source.path, line.trim()));
        }
    }
    places
}

#[track_caller]
fn none(places: &[String], rule: &str) {
    assert!(places.is_empty(), "{rule}\n{}", places.join("\n"));
}

/// The sources of the service without those that a rule exempts.
fn service_without(exempt: &[&str]) -> Vec<Source> {
    let mut all = sources(&["src"]);
    for path in exempt {
        let before = all.len();
        all.retain(|source| !source.is_at(path));
        assert!(all.len() < before, "{path} is exempt, and is not there");
    }
    all
}

/// The sources of one part of the service.
fn part(name: &str) -> Vec<Source> {
    let mut all = sources(&["src"]);
    all.retain(|source| source.part() == name);
    assert!(!all.is_empty(), "there is no part {name}");
    all
}

#[test]
fn only_the_store_names_sea_orm() {
    let found = places(&service_without(&["src/store.rs", "src/store"]), &["sea_orm", "sea_orm_migration", "sqlx", "doorward_migrations"]);
    none(&found, "SQL is the store's: give it a function in `src/store/<table>.rs`, and call that");
}

#[test]
fn entities_do_not_leave_the_store() {
    let found = places(&service_without(&["src/store.rs", "src/store"]), &["store::entity", "entity::"]);
    none(&found, "entities are private to the store: answer the record of the table's file");
    let store = fs::read_to_string(repository().join("src/store.rs")).unwrap();
    assert!(store.lines().any(|line| line == "mod entity;"), "`src/store.rs` must keep `mod entity;` private");
}

#[test]
fn decisions_know_neither_wire_nor_command_line() {
    let words = ["tonic", "tonic_types", "tonic_health", "prost", "prost_types", "clap", "axum", "hyper"];
    let inner = ["crate::pb", "crate::grpc", "crate::cli", "crate::http", "crate::server", "pb::v1"];
    for name in ["domain", "store", "values", "config"] {
        let found = places(&part(name), &[words.as_slice(), &inner].concat());
        none(&found, "domain, store, values and config know nothing of gRPC, of generated code, of HTTP or of the command line");
    }
}

#[test]
fn calls_go_down_only() {
    for (name, above) in [
        ("store", &["crate::domain", "crate::ctx", "crate::app"][..]),
        ("values", &["crate::domain", "crate::store", "crate::app", "crate::ctx"]),
        ("config", &["crate::domain", "crate::store", "crate::app", "crate::ctx"]),
        ("grpc", &["crate::cli"]),
        ("cli", &["crate::grpc", "crate::pb"]),
        ("http", &["crate::cli", "crate::domain", "crate::store"]),
    ] {
        none(&places(&part(name), above), "grpc | http | cli → domain → store → entity, never upwards");
    }
}

#[test]
fn the_wire_and_the_command_write_only_through_the_domain() {
    let all = sources(&["src/grpc", "src/cli", "src/http"]);
    let mut found = places(&all, &["store.write", "Tx"]);
    found.extend(places(&part("cli"), &["store.read"]));
    none(&found, "every write and every decision goes through `domain`");
}

#[test]
fn only_status_rs_builds_a_status() {
    let words = ["Status::new", "Status::with_details", "Status::with_error_details", "with_error_details_and_metadata", "from_error"];
    let codes = ["internal", "unknown", "unauthenticated", "permission_denied", "not_found", "invalid_argument", "unavailable", "ok"];
    let built: Vec<String> = codes.iter().map(|code| format!("Status::{code}(")).collect();
    let all = service_without(&["src/grpc/status.rs"]);
    let mut found = places(&all, &words);
    for source in &all {
        let lines = source.code().filter(|(_, line)| built.iter().any(|word| line.contains(word.as_str())));
        found.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
    }
    none(&found, "a wire status is built by `grpc/status.rs` alone: answer a variant of `error::Error`");
}

#[test]
fn transactions_are_begun_in_one_place() {
    // Outside the store nobody has a connection to begin one on.
    let words = ["begin", "begin_with_options", "begin_with_config", "transaction_with_config", "TransactionTrait"];
    none(&places(&sources(&["src/store"]), &words), "a transaction is begun by `Store::write`");
}

#[test]
fn there_are_no_globals() {
    let words = ["LazyLock", "lazy_static", "thread_local", "set_global_default"];
    let rule = "two replicas must fit into one process: `App` holds what a service has";
    // The log of a process is one; a test's own goes through `telemetry::dispatch`.
    let sources = service_without(&["src/telemetry.rs"]);
    none(&places(&sources, &words), rule);
    // A cell that is filled once is none where it is somebody's field: a global is an item.
    let is_item = |line: &str| {
        line.split_whitespace().find(|word| !word.starts_with("pub")) == Some("static")
            && ["mut", "Lock", "Cell", "Mutex", "Atomic"].iter().any(|changes| line.contains(changes))
    };
    let items =
        sources.iter().flat_map(|source| source.code().filter(|(_, line)| is_item(line)).map(|(at, _)| format!("{}:{at}", source.path)));
    none(&items.collect::<Vec<_>>(), rule);
}

#[test]
fn migrations_know_nothing_of_the_service() {
    let found = places(&sources(&["migrations/src"]), &["doorward", "crate::"]);
    none(&found, "migrations are a crate of their own: what they did must not change with the service");
    for source in sources(&["migrations/src"]).iter().filter(|source| !source.path.ends_with("lib.rs")) {
        assert!(source.text.contains("fn use_transaction"), "{}: half of a failed migration stays behind on SQLite", source.path);
    }
}

#[test]
fn files_are_nouns_and_not_novels() {
    let service = sources(&["src", "migrations/src"]);
    let mut lengths: Vec<usize> = service.iter().map(|source| source.text.lines().count()).collect();
    let long = service.iter().zip(&lengths).filter(|(_, lines)| **lines > FILE_MAX);
    let long: Vec<String> = long.map(|(source, lines)| format!("{}: {lines} lines", source.path)).collect();
    none(&long, "a file is one noun: what grows beyond 500 lines is two");
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= MEDIAN_MAX, "the median file has {median} lines");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources(&["src", "migrations/src", "tests/it", "benches"])
        .into_iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.path)
        .collect();
    none(&silent, "a file begins with its module doc");
}

#[test]
fn exceptions_have_reasons() {
    let all = sources(&["src", "migrations/src", "tests/it", "benches"]);
    let mut found = Vec::new();
    for source in &all {
        for (number, line) in source.code() {
            // `on_both!` makes modules that do not all use what they import.
            let is_allowed = source.is_at("tests/it/harness.rs") && line.contains("unused_imports");
            if line.contains("#[allow(") && !is_allowed || line.contains("#![allow(") {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none(&found, "write `#[expect(…, reason = \"…\")]`: it says why, and goes away with its cause");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together so that this file does not hold them.
    let debts: Vec<String> =
        [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("HA", "CK"), ("#[ign", "ore]")].map(|(a, b)| format!("{a}{b}")).into();
    let mut found = Vec::new();
    for source in sources(&["src", "migrations/src", "tests/it", "benches"]) {
        for (at, line) in source.text.lines().enumerate().filter(|(_, line)| debts.iter().any(|debt| line.contains(debt.as_str()))) {
            found.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
        }
    }
    none(&found, "what is left for later is an issue, or a sentence in the README's Limits");
}
