//! What several topics about sessions and tokens need beside the harness: calls with every field, rows as they lie in the database,
//! tokens taken apart and put together again, chance that can be repeated.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{app::App, pb::v1, values::entropy::Entropy};
use sea_orm::DbBackend;
use serde_json::Value;
use tonic::Status;

use crate::harness::*;

/// A password that is good and nobody's.
pub const WRONG: &str = "no horse has this password";

/// What a grant asks for beside its credential.
#[derive(Clone, Copy, Default)]
pub struct Ask<'a> {
    pub tenant_id: &'a str,
    pub scope: &'a str,
    pub audience: &'a [&'a str],
}

async fn issue(world: &World, grant: v1::issue_token_request::Grant, ask: Ask<'_>) -> Result<v1::TokenSet, Status> {
    let request = v1::IssueTokenRequest {
        grant: Some(grant),
        tenant_id: ask.tenant_id.to_owned(),
        scope: ask.scope.to_owned(),
        audience: ask.audience.iter().map(|&audience| audience.to_owned()).collect(),
        client_info: None,
    };
    world.client().issue_token(request).await.map(|answer| answer.into_inner().tokens.unwrap())
}

/// A refresh with every field.
pub async fn refresh_asking(world: &World, refresh_token: &str, ask: Ask<'_>) -> Result<v1::TokenSet, Status> {
    let grant = v1::RefreshTokenGrant { refresh_token: refresh_token.to_owned() };
    issue(world, v1::issue_token_request::Grant::RefreshToken(grant), ask).await
}

/// The password grant with [`PASSWORD`] and every field.
pub async fn grant(world: &World, username: &str, ask: Ask<'_>) -> Result<v1::TokenSet, Status> {
    let grant = v1::PasswordGrant { username: username.to_owned(), password: PASSWORD.to_owned() };
    issue(world, v1::issue_token_request::Grant::Password(grant), ask).await
}

/// Asks who a token speaks for.
pub async fn get_me(world: &World, token: &str) -> Result<v1::GetMeResponse, Status> {
    world.client().get_me(bearer(v1::GetMeRequest {}, token)).await.map(tonic::Response::into_inner)
}

/// Lists the tenants of a token's subject.
pub async fn list_tenants(world: &World, token: &str, page_token: &str) -> Result<v1::ListTenantsResponse, Status> {
    let request = v1::ListTenantsRequest { page_size: 1, page_token: page_token.to_owned() };
    world.client().list_tenants(bearer(request, token)).await.map(tonic::Response::into_inner)
}

/// Lists the sessions of a token's subject.
pub async fn list_sessions(world: &World, token: &str, page_token: &str) -> Result<v1::ListSessionsResponse, Status> {
    let request = v1::ListSessionsRequest { page_size: 0, page_token: page_token.to_owned() };
    world.client().list_sessions(bearer(request, token)).await.map(tonic::Response::into_inner)
}

/// Ends one session of a token's subject.
pub async fn revoke_session(world: &World, token: &str, session: &str) -> Result<(), Status> {
    let request = v1::RevokeSessionRequest { session_id: session.to_owned() };
    world.client().revoke_session(bearer(request, token)).await.map(drop)
}

/// Ends every session of a token's subject, or every other one; answers how many.
pub async fn revoke_all_sessions(world: &World, token: &str, keep_current: bool) -> Result<i32, Status> {
    let request = v1::RevokeAllSessionsRequest { keep_current };
    world.client().revoke_all_sessions(bearer(request, token)).await.map(|answer| answer.into_inner().revoked_sessions)
}

/// Logs out by a refresh token.
pub async fn logout_by_refresh(world: &World, refresh_token: &str) -> Result<(), Status> {
    let credential = Some(v1::logout_request::Credential::RefreshToken(refresh_token.to_owned()));
    world.client().logout(v1::LogoutRequest { credential }).await.map(drop)
}

/// The word for an answer in a matrix.
pub fn word<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    answer.map_or_else(|status| reason(&status), |_| "OK".to_owned())
}

/// Every row of a table, each as one line of text: bytes in hexadecimal, everything else as it is.
pub async fn rows(sql: &Sql, table: &str) -> Vec<String> {
    if sql.0.get_database_backend() == DbBackend::Postgres {
        return strings(sql, &format!("SELECT t::text AS line FROM \"{table}\" t ORDER BY 1")).await;
    }
    let columns = strings(sql, &format!("SELECT name AS line FROM pragma_table_info('{table}')")).await;
    let quoted: Vec<_> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
    let query = format!("SELECT {} AS line FROM \"{table}\" ORDER BY 1", quoted.join(" || ',' || "));
    strings(sql, &query).await
}

/// The names of all tables.
pub async fn tables(sql: &Sql) -> Vec<String> {
    let query = match sql.0.get_database_backend() {
        DbBackend::Postgres => "SELECT table_name::text AS line FROM information_schema.tables WHERE table_schema = 'public'",
        _ => "SELECT name AS line FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    strings(sql, query).await
}

/// The column `line` of every row of a query.
pub async fn strings(sql: &Sql, query: &str) -> Vec<String> {
    sql.query(query).await.iter().map(|row| row.try_get("", "line").unwrap()).collect()
}

/// A literal of bytes in either dialect.
pub fn bytes_literal(sql: &Sql, bytes: &[u8]) -> String {
    let hex = doorward::values::secret::hex(bytes);
    match sql.0.get_database_backend() {
        DbBackend::Postgres => format!("'\\x{hex}'::bytea"),
        _ => format!("x'{hex}'"),
    }
}

/// The header of a JWT.
pub fn header(token: &str) -> Value {
    part(token, 0)
}

/// The payload of a JWT.
pub fn payload(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

/// A token of exactly this text, signed by the key that the service signs with.
pub fn forge(app: &App, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = app.keys.latest().signer().unwrap().sign(message.as_bytes()).unwrap();
    format!("{message}.{signature}")
}

/// The private half of the key that the service signs with, in PKCS#8.
pub async fn private_key(app: &App) -> Vec<u8> {
    let key = doorward::domain::keys::get(app, &app.keys.latest().signer().unwrap().kid).await.unwrap();
    app.roots.unseal(&key.sealed_private_key, &key.id.as_bytes()).unwrap().to_vec()
}

/// The public half, as it is published.
pub fn public_key(app: &App) -> Value {
    serde_json::to_value(&app.keys.latest().published[0]).unwrap()
}

/// A token with these claims, signed by the key that the service signs with, under the header that the service writes.
pub fn mint(app: &App, typ: &str, claims: &Value) -> String {
    forge(
        app,
        &serde_json::json!({ "typ": typ, "alg": "ES256", "kid": app.keys.latest().signer().unwrap().kid }).to_string(),
        &claims.to_string(),
    )
}

/// Random numbers (`SplitMix64`) from a seed that is printed, and taken from `DOORWARD_SEED` where that is set.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        let given = std::env::var("DOORWARD_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| u64::from_le_bytes(Entropy::system().bytes()));
        eprintln!("DOORWARD_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Numbers of their own for a task, which the order of tasks does not change.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}
