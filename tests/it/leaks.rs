//! What must never come out: hashes, digests, sealed keys and secrets in an answer (by the names of fields, and by their values), and
//! passwords, tokens or people's names in the log.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose};
use doorward::{
    config::{Log, LogFormat},
    methods::METHODS,
    telemetry,
};
use prost_reflect::{Kind, MessageDescriptor};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    harness::*,
    on_both,
    recipes::{Caller, recipes},
    wire::{Wire, encode, message},
};

const WRONG: &str = "not the right password";
const NEW: &str = "another good long password";

/// What is meant to sound so: a secret in the answer that makes it, and what is known of secrets.
const SHOWN: [&str; 4] = [
    "doorward.v1.AddServiceAccountSecretResponse.client_secret",
    "doorward.v1.AddServiceAccountSecretResponse.secret",
    "doorward.v1.CreateServiceAccountResponse.client_secret",
    "doorward.v1.ServiceAccountDetails.secrets",
];

#[test]
fn no_answer_has_a_field_for_a_hash_or_a_secret() {
    let forbidden = ["hash", "digest", "secret", "sealed", "password", "salt", "private"];
    let (mut seen, mut shown) = (0, BTreeSet::new());
    for method in METHODS {
        for field in fields(&message(method.output), &mut Vec::new()) {
            seen += 1;
            let name = field.rsplit('.').next().unwrap();
            let word = forbidden.iter().find(|word| name.contains(**word));
            assert!(
                word.is_none() || SHOWN.contains(&field.as_str()),
                "{field}, in the answer of {}, sounds like a secret: answers never carry one",
                method.path
            );
            shown.extend(word.is_some().then_some(field));
        }
    }
    assert!(seen > 100, "only {seen} fields were looked at");
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), SHOWN, "take out what is there no longer");
}

/// The full names of all fields of a message and of those in it.
fn fields(descriptor: &MessageDescriptor, above: &mut Vec<String>) -> Vec<String> {
    if above.contains(&descriptor.full_name().to_owned()) {
        return Vec::new();
    }
    above.push(descriptor.full_name().to_owned());
    let mut names = Vec::new();
    for field in descriptor.fields() {
        names.push(field.full_name().to_owned());
        if let Kind::Message(inner) = field.kind() {
            names.extend(fields(&inner, above));
        }
    }
    above.pop();
    names
}

on_both! {
    async fn no_answer_holds_what_the_database_keeps_secret(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let ann = Caller::member(&world, &acme, "ann@example.com", &["seller"]).await.with_accounts(&world, &acme).await;
        let mut secrets = secrets_at_rest(&world).await;
        assert!(secrets.len() >= 6, "hash, digests, sealed key and root secret at least");
        let root = world.superuser("root@example.com").await.email.unwrap();

        let wire = Wire::connect(world.replica.grpc_addr).await;
        let mut answers: Vec<(String, Vec<u8>)> = Vec::new();
        for method in METHODS {
            for way in 0..recipes(method, &ann).len() {
                let email = format!("{}-{way}@example.com", method.name);
                let caller = Caller::member(&world, &acme, &email, &["seller", "owner"]).await.with_accounts(&world, &acme).await;
                let recipe = recipes(method, &caller).swap_remove(way);
                let caller = if recipe.way == "instance" { Caller::logged_in(&world, &root).await } else { caller };
                let answer = wire.call(method.path, &[("authorization", &caller.bearer())], &encode(method.input, recipe.json)).await;
                assert!(!method.path.contains("ServiceAccountService") || answer.is_ok(), "{}: {answer:?}", method.path);
                let headers = format!("{:?}{:?}", answer.headers, answer.trailers);
                answers.push((method.path.to_owned(), [answer.body, headers.into_bytes()].concat()));
            }
        }
        secrets.extend(secrets_at_rest(&world).await);
        for (path, bytes) in &answers {
            for secret in &secrets {
                for form in forms(secret) {
                    let holds = bytes.windows(form.len()).any(|window| window == form);
                    assert!(!holds, "the answer of {path} holds {:?}", String::from_utf8_lossy(&form));
                }
            }
        }
        // The search finds what is there.
        let token = ann.access_token.as_bytes();
        let login = wire.call("/doorward.v1.AuthService/GetMe", &[("authorization", &ann.bearer())], &[]).await;
        assert!(!token.is_empty() && login.body.windows(15).any(|window| window == b"ann@example.com"));
    }
}

/// Hashes, digests, sealed keys and the root secret, as they lie there.
async fn secrets_at_rest(world: &World) -> Vec<Vec<u8>> {
    let sql = world.sql().await;
    let mut secrets = Vec::new();
    for row in sql.query("SELECT hash AS s FROM password_credentials").await {
        let hash: String = row.try_get("", "s").unwrap();
        // The last part of a PHC string is the hash itself, the one before its salt.
        secrets.extend(hash.rsplit('$').take(2).map(|part| part.as_bytes().to_vec()));
    }
    for query in [
        "SELECT refresh_digest AS s FROM sessions WHERE refresh_digest IS NOT NULL",
        "SELECT sealed_private_key AS s FROM signing_keys",
        "SELECT digest AS s FROM service_account_secrets",
    ] {
        secrets.extend(sql.query(query).await.iter().map(|row| row.try_get::<Vec<u8>>("", "s").unwrap()));
    }
    let root = match world.backend {
        Backend::Postgres => world.config.secrets.root[0].expose_secret().to_owned(),
        Backend::Sqlite => std::fs::read_to_string(world.folder().join("doorward.db.key")).unwrap(),
    };
    secrets.push(root.trim().as_bytes().to_vec());
    assert!(secrets.iter().all(|secret| secret.len() >= 16), "a part that is too short to be looked for");
    secrets
}

/// A secret as an answer might spell it.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = doorward::values::secret::hex(secret);
    let encodings = [&general_purpose::STANDARD_NO_PAD, &general_purpose::URL_SAFE_NO_PAD];
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    forms.extend(encodings.iter().map(|encoding| encoding.encode(secret).into_bytes()));
    forms
}

/// Where log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What a scenario logs at the most talkative level.
pub fn logged<Fut: Future<Output = ()>>(backend: Backend, format: LogFormat, scenario: impl FnOnce(World) -> Fut) -> Option<String> {
    if backend == Backend::Postgres && postgres::cluster().is_none() {
        return None;
    }
    let lines = Lines::default();
    let dispatch = telemetry::dispatch(&Log { format, level: "trace".to_owned() }, false, lines.clone()).unwrap();
    let on_thread = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // Each thread of this runtime, and no other, logs here until it ends.
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&on_thread)))
        .build()
        .unwrap();
    tracing::dispatcher::with_default(&dispatch, || runtime.block_on(async { scenario(World::start(backend).await).await }));
    drop(runtime);
    let bytes = lines.0.lock().unwrap().clone();
    Some(String::from_utf8(bytes).unwrap())
}

/// Logins, refreshes, changes and failures of every kind, with the strings that nobody may find in a log.
async fn talkative(world: World) -> Vec<String> {
    let acme = world.tenant("acme").await;
    world.role(&acme, "seller", &["sales:write"]).await;
    let ann = Caller::member(&world, &acme, "ann.canary@example.com", &["seller"]).await;
    let refreshed = world.refresh(&ann.refresh_token).await.unwrap();
    world.validate(&refreshed.access_token).await.unwrap();
    world.try_login("ann.canary@example.com", WRONG, "").await.unwrap_err();
    world.try_login("hunter2 canary\nforged line\u{1b}[2J", WRONG, "").await.unwrap_err();
    world.change_password(&refreshed.access_token, WRONG, NEW).await.unwrap_err();
    world.change_password(&refreshed.access_token, PASSWORD, "too short").await.unwrap_err();
    let changed = world.change_password(&refreshed.access_token, PASSWORD, NEW).await.unwrap().tokens.unwrap();
    world.validate(&refreshed.access_token).await.unwrap_err();
    world.refresh(&ann.refresh_token).await.unwrap_err();
    let wire = Wire::connect(world.replica.grpc_addr).await;
    let foreign = json!({ "access_token": changed.access_token, "tenant_id": "ext:canary-tenant" });
    let foreign = encode("doorward.v1.ValidateSessionRequest", foreign);
    let answer = wire.call("/doorward.v1.AuthService/ValidateSession", &[("x-request-id", "seen-in-the-log")], &foreign).await;
    assert_eq!(answer.outcome(), "PERMISSION_DENIED NOT_A_MEMBER");
    // A hash that cannot be read, and a database that is gone.
    let sql = world.sql().await;
    sql.execute("UPDATE password_credentials SET hash = 'canary-hash'").await;
    world.try_login("ann.canary@example.com", NEW, "").await.unwrap_err();
    sql.execute("DROP TABLE audit_events").await;
    assert_eq!(refused(world.try_login("ann.canary@example.com", NEW, "").await), "INTERNAL");
    world.app().store.close().await;
    assert_eq!(refused(world.try_login("ann.canary@example.com", NEW, "").await), "UNAVAILABLE");
    let mut never: Vec<String> =
        [PASSWORD, WRONG, NEW, "too short", "canary", "hunter2", "Ann Example", "forged line\n", "\u{1b}"].map(str::to_owned).into();
    for token in [&ann.access_token, &ann.refresh_token, &refreshed.access_token, &refreshed.refresh_token, &changed.access_token] {
        // Parts too: the payload and the signature of a JWT.
        never.extend(token.split('.').map(str::to_owned));
    }
    never
}

fn nothing_secret_is_logged(backend: Backend, format: LogFormat) {
    let mut never = Vec::new();
    let Some(log) = logged(backend, format, async |world| never = talkative(world).await) else { return };
    for expected in ["seen-in-the-log", "permission denied", "a call failed by a defect", "a call failed for want of the database"] {
        assert!(log.contains(expected), "{expected:?} should have been logged: {log}");
    }
    for secret in never {
        let line = log.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{secret:?} is in the log: {line:?}");
    }
    if format == LogFormat::Json {
        for line in log.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(event.is_object(), "{line}");
        }
    }
}

#[test]
fn no_text_line_holds_a_secret_on_sqlite() {
    if is_alone("leaks::no_text_line_holds_a_secret_on_sqlite") {
        nothing_secret_is_logged(Backend::Sqlite, LogFormat::Text);
    }
}

#[test]
fn no_json_line_holds_a_secret_on_postgres() {
    if is_alone("leaks::no_json_line_holds_a_secret_on_postgres") {
        nothing_secret_is_logged(Backend::Postgres, LogFormat::Json);
    }
}
