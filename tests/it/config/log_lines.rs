//! What `[log]` makes of events.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use doorward::config::{Log, LogFormat};
use doorward::telemetry;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `events` write to the log.
fn log(format: LogFormat, level: &str, events: impl FnOnce()) -> String {
    log_to_terminal(format, level, false, events)
}

fn log_to_terminal(format: LogFormat, level: &str, colours: bool, events: impl FnOnce()) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let log = Log { format, level: level.to_owned() };
    let dispatch = telemetry::dispatch(&log, colours, move || writer.clone()).unwrap();
    tracing::dispatcher::with_default(&dispatch, events);
    String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
}

const NASTY: &str = "one\ntwo\r\n\u{1b}[31m\"}{\0\u{2028}";

#[test]
fn one_event_is_one_line_whatever_its_fields_hold() {
    let events = || {
        tracing::info!(field = NASTY, shown = %NASTY, "{NASTY}");
        tracing::warn!("second");
    };
    let text = log(LogFormat::Text, "info", events);
    assert_eq!(text.matches('\n').count(), 2, "{text:?}");
    assert!(text.ends_with("second\n") && text.contains("one\\ntwo"), "{text:?}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n') && !text.contains('\u{2028}'), "{text:?}");

    let json = log(LogFormat::Json, "info", events);
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["fields"]["field"], NASTY);
    assert_eq!(lines[1]["level"], "WARN");
}

#[test]
fn a_terminal_gets_colours_and_no_other_commands() {
    let events = || tracing::info!(shown = %"a\u{1b}[2Jb\u{1b}]0;title\u{7}c\u{9b}31md\u{1b}", "coloured");
    let text = log_to_terminal(LogFormat::Text, "info", true, events);
    assert!(text.contains("\u{1b}[32m"), "no colours: {text:?}");
    for command in ["\u{1b}[2J", "\u{1b}]", "\u{7}", "\u{9b}", "d\u{1b}"] {
        assert!(!text.contains(command), "{text:?}");
    }
    assert!(!log(LogFormat::Text, "info", events).contains('\u{1b}'));
    assert!(!log_to_terminal(LogFormat::Json, "info", true, events).contains('\u{1b}'));
}

#[test]
fn libraries_are_quiet_unless_asked_for() {
    let events = || {
        tracing::info!(target: "doorward", "ours");
        tracing::info!(target: "sqlx::query", "statement");
        tracing::warn!(target: "sqlx::query", "slow");
        tracing::info!(target: "sea_orm", "orm");
        tracing::debug!(target: "h2::codec", "frame");
    };
    let seen = |level: &str| -> Vec<String> {
        log(LogFormat::Text, level, events).lines().map(|l| l.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(seen("info"), ["ours", "slow"]);
    assert_eq!(seen("trace"), ["ours", "slow"]);
    assert_eq!(seen("info,sqlx=info"), ["ours", "statement", "slow"]);
    assert_eq!(seen("doorward=debug"), ["ours", "slow"], "info where nothing is said for everything");
    assert!(seen("error").is_empty(), "libraries are not louder than we are");
    assert!(seen("off").is_empty());
}

#[test]
fn a_level_that_is_none_is_an_error() {
    let log = Log { format: LogFormat::Text, level: "doorward=loud".to_owned() };
    assert!(telemetry::dispatch(&log, false, io::sink).is_err());
}

/// `2026-11-24T03:06:34Z` at the start of a text.
fn has_time(line: &str) -> bool {
    let shape: String = line.chars().take(20).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z"
}

#[test]
fn text_is_time_level_message_and_fields() {
    let events = || {
        tracing::info!(target: "doorward::cli::serve", grpc = %"127.0.0.1:1", version = "1", "serving");
        tracing::warn!(target: "sqlx::query", elapsed = 2, "slow");
        tracing::debug!(target: "doorward::store", "closely");
        tracing::info!(target: "doorwards", "not ours");
    };
    let text = log(LogFormat::Text, "info,doorward=debug", events);
    assert!(text.lines().all(has_time), "{text}");
    let lines: Vec<&str> = text.lines().map(|line| &line[20..]).collect();
    assert_eq!(
        lines,
        [
            "  INFO serving grpc=127.0.0.1:1 version=\"1\"",
            "  WARN sqlx::query: slow elapsed=2",
            " DEBUG doorward::store: closely",
            "  INFO doorwards: not ours",
        ]
    );
}

#[test]
fn text_tells_the_spans_around_an_event() {
    let events = || {
        let outer = tracing::info_span!("outer", id = 1).entered();
        let inner = tracing::info_span!("inner").entered();
        tracing::info!(target: "doorward", "within");
        drop((inner, outer));
    };
    let text = log(LogFormat::Text, "info", events);
    assert!(text.ends_with("  INFO outer{id=1}: inner: within\n"), "{text}");
}

#[test]
fn json_has_a_time_level_and_target() {
    let line = log(LogFormat::Json, "info", || tracing::warn!(target: "doorward::server", count = 3, "cut"));
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(event["timestamp"].as_str().is_some_and(|time| time.ends_with('Z') && has_time(&format!("{}Z", &time[..19]))), "{line}");
    assert_eq!((&event["level"], &event["target"]), (&"WARN".into(), &"doorward::server".into()));
    assert_eq!((&event["fields"]["message"], &event["fields"]["count"]), (&"cut".into(), &3.into()));
}
