//! Canaries: a mark of its own in every text field of every request and in every header, through calls that succeed, that are refused, that
//! meet a broken table and that meet no database at all. No mark may come out again in a log line, a metric, an error or by reflection, and
//! one event stays one line, whatever the mark holds.

use std::collections::BTreeSet;

use doorward::{
    config::{Log, LogFormat},
    methods::{METHODS, Method},
    telemetry,
};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, prost::Message as _};
use serde_json::{Value, json};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
};

use crate::{
    harness::*,
    leaks::logged,
    life::get,
    recipes::{Caller, recipes},
    wire::{Answer, Wire, message},
};

/// What every mark begins with.
const MARK: &str = "canary7g";
/// What a mark ends with: nothing; what could end a line or a JSON text, or steer a terminal; what SQL and formatters take for theirs.
const TAILS: [&str; 3] = ["", "\n{\"level\":\"ERROR\"}\u{1b}[2J\r\u{2028}\"}", "';--%s{}${jndi:x}\\"];
/// Headers that a caller may fill. `x-request-id` is not among them: it is taken over, which is what it is for.
const HEADERS: [&str; 8] =
    ["authorization", "doorward-caller", "user-agent", "grpc-timeout", "x-user-id", "x-forwarded-for", "cookie", "grpc-encoding"];

/// The paths of a message's text fields, through messages in it; `numbers` holds no text.
fn texts(descriptor: &MessageDescriptor, above: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for field in descriptor.fields() {
        let path = [above, &[field.name().to_owned()]].concat();
        match field.kind() {
            Kind::String | Kind::Bytes => paths.push(path),
            Kind::Message(inner) if path.len() < 4 => paths.extend(texts(&inner, &path)),
            _ => {}
        }
    }
    paths
}

/// The JSON that has `value` at `path`, over `base`; a list gets it as its one entry.
fn with(descriptor: &MessageDescriptor, mut base: Value, path: &[String], value: &str) -> Value {
    let (name, rest) = path.split_first().unwrap();
    let field = descriptor.get_field_by_name(name).unwrap();
    base[name] = match field.kind() {
        Kind::Message(inner) => {
            let below = if base[name].is_object() { base[name].clone() } else { json!({}) };
            with(&inner, below, rest, value)
        }
        _ if field.is_list() => json!([value]),
        _ => json!(value),
    };
    base
}

/// A request with a mark in one field: alone, and in a request that would be good; not where a oneof takes only one of them.
fn marked(method: &Method, caller: &Caller, path: &[String], mark: &str) -> Vec<Vec<u8>> {
    let input = message(method.input);
    let bases = std::iter::once(json!({})).chain(recipes(method, caller).into_iter().map(|recipe| recipe.json));
    let requests = bases.map(|base| with(&input, base, path, mark));
    requests.filter_map(|json| DynamicMessage::deserialize(input.clone(), json).ok()).map(|request| request.encode_to_vec()).collect()
}

/// Everything that an answer which is a refusal says.
fn said(answer: &Answer) -> Option<String> {
    let status = answer.status();
    let (details, text) = (String::from_utf8_lossy(status.details()).into_owned(), status.message().to_owned());
    (!answer.is_ok()).then(|| format!("{text}\n{details}\n{:?}\n{:?}", answer.headers, answer.trailers))
}

/// One call for every mark; answers how many there were.
async fn call_with_marks(wire: &Wire, caller: &Caller, stage: &str) -> usize {
    let (mut calls, mut outcomes) = (0, BTreeSet::new());
    for method in METHODS {
        for path in texts(&message(method.input), &[]) {
            for tail in TAILS {
                let mark = format!("{MARK}-{}-{tail}", path.join("-"));
                for request in marked(method, caller, &path, &mark) {
                    let bearer = caller.bearer();
                    let answer = wire.call(method.path, &[("authorization", &bearer)], &request).await;
                    outcomes.insert(answer.outcome());
                    if let Some(said) = said(&answer) {
                        assert!(!said.contains(MARK), "{stage}: {} tells what stood in {path:?}: {said}", method.path);
                    }
                    calls += 1;
                }
            }
        }
        for header in HEADERS {
            for value in [MARK.to_owned(), format!("Bearer {MARK}.{MARK}.{MARK}"), format!("Basic {MARK}")] {
                let answer = wire.call(method.path, &[(header, value.as_str())], &[]).await;
                let said = said(&answer).unwrap_or_default();
                assert!(!said.contains(MARK), "{stage}: {} tells what stood in {header}: {said}", method.path);
                calls += 1;
            }
        }
    }
    assert!(outcomes.len() > 1, "{stage}: every call was answered alike: {outcomes:?}");
    calls
}

/// Every file of the contract as reflection tells it, and what it tells of what does not exist.
async fn reflected(world: &World) -> String {
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions: Vec<_> = METHODS.iter().map(|method| method.service).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect();
    let questions = questions.into_iter().map(MessageRequest::FileContainingSymbol).chain([MessageRequest::ListServices(String::new())]);
    let requests = tokio_stream::iter(questions.map(ask).collect::<Vec<_>>());
    let mut client = ServerReflectionClient::new(world.replica.channel());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let mut all = String::new();
    while let Some(answer) = answers.message().await.unwrap() {
        all.push_str(&String::from_utf8_lossy(&answer.encode_to_vec()));
    }
    all
}

/// The scenario: marks everywhere, while all is well, with a table gone, and with the database gone.
async fn marks_everywhere(world: World) {
    let acme = world.tenant("acme").await;
    world.role(&acme, "seller", &["sales:write"]).await;
    let caller = Caller::member(&world, &acme, "ann@example.com", &["owner"]).await.with_accounts(&world, &acme).await;
    let wire = Wire::connect(world.replica.grpc_addr).await;
    let mut calls = call_with_marks(&wire, &caller, "all is well").await;
    // A path is for the log, where calls are logged at all: whoever looks for a client's mistake needs it. The client is not told it again.
    let answer = wire.call("/lost9k.Service/lost9k?lost9k", &[], &[]).await;
    assert!(!said(&answer).unwrap().contains("lost9k"));
    // Later calls of the first round may have ended the session or changed the password.
    let caller = Caller::member(&world, &acme, "bob@example.com", &["owner"]).await.with_accounts(&world, &acme).await;
    world.sql().await.execute("DROP TABLE audit_events").await;
    calls += call_with_marks(&wire, &caller, "a table is gone").await;
    let reflected = reflected(&world).await;
    assert!(reflected.contains("ValidateSession") && !reflected.contains(MARK));
    world.app().store.close().await;
    calls += call_with_marks(&wire, &caller, "the database is gone").await;
    assert!(calls > 1_000, "only {calls} calls");
    let metrics = get(world.replica.ops_addr, "/metrics").await;
    assert!(metrics.contains("grpc_server_handled_total") && !metrics.contains(MARK), "a mark is in the metrics");
    assert!(!metrics.contains("lost9k"), "a path that is not served is in the metrics");
}

fn no_mark_is_logged(backend: Backend, format: LogFormat) {
    let Some(log) = logged(backend, format, marks_everywhere) else { return };
    assert!(log.lines().count() > 1_000, "only {} lines", log.lines().count());
    let told = log.lines().find(|line| line.contains(MARK));
    assert_eq!(told, None, "a mark is in the log");
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "a control character is in the log");
    if format == LogFormat::Json {
        for line in log.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(event.is_object(), "{line}");
        }
    }
}

#[test]
fn no_mark_comes_out_on_sqlite_in_text() {
    if is_alone("canaries::no_mark_comes_out_on_sqlite_in_text") {
        no_mark_is_logged(Backend::Sqlite, LogFormat::Text);
    }
}

#[test]
fn no_mark_comes_out_on_sqlite_in_json() {
    if is_alone("canaries::no_mark_comes_out_on_sqlite_in_json") {
        no_mark_is_logged(Backend::Sqlite, LogFormat::Json);
    }
}

#[test]
fn no_mark_comes_out_on_postgres_in_json() {
    if is_alone("canaries::no_mark_comes_out_on_postgres_in_json") {
        no_mark_is_logged(Backend::Postgres, LogFormat::Json);
    }
}

#[test]
fn a_panic_is_one_line_without_what_it_says() {
    let Some(output) = output_alone("canaries::a_panic_is_one_line_without_what_it_says") else {
        // Under the process's own panic hook.
        telemetry::init(&Log { format: LogFormat::Json, level: "trace".to_owned() }, false).unwrap();
        std::panic::catch_unwind(|| panic!("{MARK}\n{MARK}")).unwrap_err();
        return;
    };
    let log = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!(lines[0]["fields"]["message"], "panic");
    assert!(lines[0]["fields"]["location"].as_str().unwrap().contains("canaries.rs"), "{log}");
    assert!(!log.contains(MARK), "{log}");
}
