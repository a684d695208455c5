//! Logging in by password: `Login` and the password grant of `IssueToken`.
//!
//! | file | rule |
//! |---|---|
//! | `refusals.rs` | whatever the reason, one answer, one hash, one event |
//! | `tenants.rs` | the tenant is looked at only after the password was right |
//! | `people.rs` | which spellings are one person, and what a new person inherits: nothing |
//! | `races.rs` | what changed while a password was verified wins |
//!
//! Here: what every login makes anew; and what the files share.

use std::{collections::HashSet, future::poll_fn, pin::pin};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::pb::v1;
use http_body::Body as _;
use prost::Message;
use tonic::codegen::Service as _;

use crate::{harness::*, on_both};

mod people;
pub mod races;
mod refusals;
mod tenants;

/// The request id of calls whose answers are compared.
const REQUEST_ID: &str = "the-same-in-all-calls";

/// The two doors that take a password.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    Login,
    PasswordGrant,
}

/// Both.
pub const DOORS: [Door; 2] = [Door::Login, Door::PasswordGrant];

/// Everything of an answer that its caller can see, but the date.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    /// The reason of a refusal: of the trailer, and in the details.
    pub fn reason(&self) -> String {
        let mut all = http::HeaderMap::new();
        for (name, value) in self.headers.iter().chain(&self.trailers) {
            all.append(http::HeaderName::try_from(name).unwrap(), http::HeaderValue::from_bytes(value).unwrap());
        }
        reason(&tonic::Status::from_header_map(&all).unwrap())
    }
}

/// A login by either door, seen as bytes.
pub async fn attempt(world: &World, door: Door, identifier: &str, password: &str, tenant_id: &str) -> Seen {
    let (identifier, password, tenant_id) = (identifier.to_owned(), password.to_owned(), tenant_id.to_owned());
    match door {
        Door::Login => {
            let request = v1::LoginRequest { identifier, password, tenant_id, client_info: None };
            call(world, "Login", &request).await
        }
        Door::PasswordGrant => {
            let grant = v1::PasswordGrant { username: identifier, password };
            let grant = Some(v1::issue_token_request::Grant::Password(grant));
            call(world, "IssueToken", &v1::IssueTokenRequest { grant, tenant_id, ..Default::default() }).await
        }
    }
}

/// One call without a generated client in between.
async fn call(world: &World, method: &str, message: &impl Message) -> Seen {
    let message = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let request = http::Request::post(format!("/doorward.v1.AuthService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-request-id", REQUEST_ID)
        .body(tonic::body::Body::new(axum::body::Body::from(framed)))
        .unwrap();
    let mut channel = world.replica.channel();
    poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let (head, body) = channel.call(request).await.unwrap().into_parts();
    let mut body = pin!(body);
    let mut seen = Seen { status: head.status.as_u16(), headers: pairs(&head.headers), body: Vec::new(), trailers: Vec::new() };
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame.unwrap().into_data() {
            Ok(data) => seen.body.extend(data),
            Err(frame) => seen.trailers = pairs(frame.trailers_ref().unwrap()),
        }
    }
    seen
}

fn pairs(headers: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let kept = headers.iter().filter(|(name, _)| *name != http::header::DATE);
    kept.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Every row of every table but the audit trail, as text: two that are equal say that nothing was written between.
pub async fn snapshot(world: &World, sql: &Sql) -> String {
    let (tables, columns) = match world.backend {
        Backend::Sqlite => ("SELECT name AS c FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name", true),
        Backend::Postgres => ("SELECT tablename::text AS c FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename", false),
    };
    let mut all = String::new();
    for table in strings(sql, tables).await.iter().filter(|table| *table != "audit_events") {
        let rows = if columns {
            let columns = strings(sql, &format!("SELECT name AS c FROM pragma_table_info('{table}')")).await;
            let quoted: Vec<_> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
            format!("SELECT {} AS c FROM {table} ORDER BY 1", quoted.join("||','||"))
        } else {
            format!("SELECT t::text AS c FROM {table} t ORDER BY 1")
        };
        all.extend([table, ": ", &strings(sql, &rows).await.join("\n"), "\n"]);
    }
    assert!(all.contains("users: ") && all.contains("sessions: "), "the tables were not found");
    all
}

/// The column `c` of a query, as texts.
pub async fn strings(sql: &Sql, query: &str) -> Vec<String> {
    sql.query(query).await.iter().map(|row| row.try_get("", "c").unwrap()).collect()
}

/// How many rows the audit trail has, of all events.
pub async fn audit_rows(sql: &Sql) -> i64 {
    sql.count("SELECT count(*) AS n FROM audit_events").await
}

/// The claims of an access token.
pub fn claims(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A login by the password grant; answers the tokens.
async fn granted(world: &World, identifier: &str) -> v1::TokenSet {
    let grant = v1::PasswordGrant { username: identifier.to_owned(), password: PASSWORD.to_owned() };
    let grant = Some(v1::issue_token_request::Grant::Password(grant));
    let request = v1::IssueTokenRequest { grant, ..Default::default() };
    world.client().issue_token(request).await.unwrap().into_inner().tokens.unwrap()
}

on_both! {
    async fn every_login_of_one_second_makes_its_own_session_and_tokens(world: World) {
        world.person("ann@example.com").await;
        let mut sets = vec![world.login("ann@example.com").await, world.login("ann@example.com").await];
        sets.push(granted(&world, "ann@example.com").await);
        sets.push(granted(&world, "ann@example.com").await);
        let (one, two) = tokio::join!(world.login("ann@example.com"), world.login("ann@example.com"));
        sets.extend([one, two]);

        let count = sets.len();
        let claim = |set: &v1::TokenSet, name: &str| claims(&set.access_token)[name].to_string();
        assert!(sets.iter().all(|set| claim(set, "iat") == START.to_string()), "all are of one second");
        let distinct = |of: &dyn Fn(&v1::TokenSet) -> String| sets.iter().map(of).collect::<HashSet<_>>().len();
        assert_eq!(distinct(&|set| set.access_token.clone()), count);
        assert_eq!(distinct(&|set| set.refresh_token.clone()), count);
        assert_eq!(distinct(&|set| claim(set, "sid")), count);
        assert_eq!(distinct(&|set| claim(set, "jti")), count);
        for set in &sets {
            world.validate(&set.access_token).await.unwrap();
        }
    }

    async fn a_login_never_goes_on_with_a_session_that_came_with_the_call(world: World) {
        world.person("ann@example.com").await;
        let planted = world.login("ann@example.com").await;
        let request = v1::LoginRequest {
            identifier: "ann@example.com".to_owned(),
            password: PASSWORD.to_owned(),
            ..Default::default()
        };
        let login = world.client().login(bearer(request, &planted.access_token)).await.unwrap().into_inner();
        let sid = claims(&login.tokens.unwrap().access_token)["sid"].clone();
        assert_eq!(sid, login.session.unwrap().id);
        assert_ne!(sid, claims(&planted.access_token)["sid"]);
    }

    async fn the_answer_is_about_the_session_that_the_tokens_are_of(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &[]).await;
        let login = world.try_login("ann@example.com", PASSWORD, &acme.id.to_string()).await.unwrap();
        let (tokens, session) = (login.tokens.unwrap(), login.session.unwrap());
        let claims = claims(&tokens.access_token);
        assert_eq!(claims["sid"], session.id);
        assert_eq!(claims["tid"], session.tenant_id);
        assert_eq!(claims["sub"], ann.id.to_string());
        assert_eq!(claims["sub"], login.user.unwrap().id);
        assert!(session.current);
        assert!(tokens.refresh_token.starts_with("dw_rt_"));
        assert_eq!(world.validate(&tokens.access_token).await.unwrap().session.unwrap().id, session.id);
    }
}
