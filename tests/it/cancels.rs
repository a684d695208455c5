//! Callers who hang up (invariant 38 in small): random cancels over every call leave no connection of the pool inside a transaction, no
//! half of a write, and no connection missing.

use std::time::{Duration, Instant};

use doorward::pb::v1::{self, auth_service_client::AuthServiceClient, issue_token_request::Grant};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{harness::*, probe::*};

const CANCELS: usize = 500;
const PARALLEL: usize = 5;
const STEPS: usize = 4;
const OTHER_PASSWORD: &str = "another good long password";
/// A poisoned connection ends by itself after five seconds: whoever looks has to look before.
const PATIENCE: Duration = Duration::from_secs(4);

const CALLS: [&str; 13] = [
    "Login",
    "IssueToken password",
    "IssueToken refresh",
    "GetMe",
    "ValidateSession",
    "ListTenants",
    "Logout",
    "ChangePassword",
    "Login wrong",
    "ListSessions",
    "RevokeSession",
    "RevokeAllSessions",
    "RevokeAllSessions but the current",
];

/// Makes one call; answers whether it was cut short by its timeout.
async fn call(mut client: AuthServiceClient<Channel>, name: &str, email: &str, tokens: &v1::TokenSet, timeout: Option<Duration>) -> bool {
    fn limited<T>(message: T, token: &str, timeout: Option<Duration>) -> Request<T> {
        let mut request = bearer(message, token);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }
    fn cut<T>(answer: Result<T, Status>) -> bool {
        answer.is_err_and(|status| matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded))
    }
    let access = tokens.access_token.as_str();
    let login = |password| v1::LoginRequest { identifier: email.to_owned(), password, ..Default::default() };
    let issue = |grant| v1::IssueTokenRequest { grant: Some(grant), ..Default::default() };
    match name {
        "Login" => cut(client.login(limited(login(PASSWORD.to_owned()), access, timeout)).await),
        "Login wrong" => cut(client.login(limited(login(WRONG.to_owned()), access, timeout)).await),
        "IssueToken password" => {
            let grant = v1::PasswordGrant { username: email.to_owned(), password: PASSWORD.to_owned() };
            cut(client.issue_token(limited(issue(Grant::Password(grant)), access, timeout)).await)
        }
        "IssueToken refresh" => {
            let grant = v1::RefreshTokenGrant { refresh_token: tokens.refresh_token.clone() };
            cut(client.issue_token(limited(issue(Grant::RefreshToken(grant)), access, timeout)).await)
        }
        "GetMe" => cut(client.get_me(limited(v1::GetMeRequest {}, access, timeout)).await),
        "ValidateSession" => {
            let request = v1::ValidateSessionRequest { include_tenants: true, ..Default::default() };
            cut(client.validate_session(limited(request, access, timeout)).await)
        }
        "ListTenants" => cut(client.list_tenants(limited(v1::ListTenantsRequest::default(), access, timeout)).await),
        "Logout" => cut(client.logout(limited(v1::LogoutRequest::default(), access, timeout)).await),
        "ChangePassword" => {
            let (current_password, new_password) = (PASSWORD.to_owned(), OTHER_PASSWORD.to_owned());
            let request = v1::ChangePasswordRequest { current_password, new_password, client_info: None };
            cut(client.change_password(limited(request, access, timeout)).await)
        }
        "ListSessions" => cut(client.list_sessions(limited(v1::ListSessionsRequest::default(), access, timeout)).await),
        "RevokeSession" => {
            let session_id = payload(access)["sid"].as_str().unwrap().to_owned();
            cut(client.revoke_session(limited(v1::RevokeSessionRequest { session_id }, access, timeout)).await)
        }
        "RevokeAllSessions" | "RevokeAllSessions but the current" => {
            let request = v1::RevokeAllSessionsRequest { keep_current: name != "RevokeAllSessions" };
            cut(client.revoke_all_sessions(limited(request, access, timeout)).await)
        }
        other => panic!("no such call: {other}"),
    }
}

/// A call to cut short: which, after which thousandths of the time that a login takes just then, and by dropping it or by its timeout.
type Step = (&'static str, u32, bool);

/// Calls that one worker makes, each cut short if it takes that long; answers how many were.
async fn work(client: AuthServiceClient<Channel>, email: String, plan: Vec<Step>) -> usize {
    let mut cancelled = 0;
    for (name, point, hang_up) in plan {
        let login = v1::LoginRequest { identifier: email.clone(), password: PASSWORD.to_owned(), ..Default::default() };
        let start = Instant::now();
        // An earlier change of the password may have gone through.
        let Ok(login) = client.clone().login(login).await else { break };
        let point = start.elapsed() * point / 1_000;
        let tokens = login.into_inner().tokens.unwrap();
        let was_cut = if hang_up {
            tokio::select! {
                _ = call(client.clone(), name, &email, &tokens, None) => false,
                () = after(point) => true,
            }
        } else {
            call(client.clone(), name, &email, &tokens, Some(point)).await
        };
        cancelled += usize::from(was_cut);
    }
    cancelled
}

/// Finer than a timer, whose millisecond is longer than a `BEGIN`.
async fn after(delay: Duration) {
    let start = Instant::now();
    while start.elapsed() < delay {
        tokio::task::yield_now().await;
    }
}

/// How many connections of the pool stand in a transaction that nobody works in, once the units of work that go on have ended.
async fn left_open(sql: &Sql) -> i64 {
    let query =
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
    let start = Instant::now();
    loop {
        let open = sql.count(query).await;
        if open == 0 || start.elapsed() > PATIENCE {
            return open;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every fact has its event and every event its fact.
async fn assert_whole(sql: &Sql) {
    let events = |event: &str| format!("(SELECT count(*) FROM audit_events WHERE event = '{event}')");
    let (logins, changes, logouts) = (events("login.succeeded"), events("password.changed"), events("session.revoked"));
    let all = "(SELECT count(*) FROM audit_events WHERE event = 'user.sessions_revoked' AND details ->> 'kept_session' IS NULL)";
    let others = "(SELECT coalesce(sum((details ->> 'sessions')::bigint), 0)::bigint FROM audit_events \
                  WHERE event = 'user.sessions_revoked' AND details ->> 'kept_session' IS NOT NULL)";
    // One statement, one moment: a unit of work whose caller is gone may still be on its way.
    let surplus = format!(
        "SELECT abs((SELECT count(*) FROM sessions) - {logins} - {changes}) AS sessions, \
         abs((SELECT sum(epoch)::bigint FROM users) - {changes} - {all}) AS epochs, \
         abs((SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL) - {logouts} - {others}) AS ends"
    );
    let row = sql.query(&surplus).await.remove(0);
    for fact in ["sessions", "epochs", "ends"] {
        assert_eq!(row.try_get::<i64>("", fact).unwrap(), 0, "{fact} without their event, or events without theirs");
    }
    let orphans = "SELECT count(*) AS n FROM audit_events e WHERE e.event IN ('login.succeeded', 'password.changed') \
                   AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = e.session_id)";
    assert_eq!(sql.count(orphans).await, 0, "events without their session");
}

/// As many logins at once as the pool has connections: each is there afterwards, for another connection to see.
async fn assert_markers_stay(world: &World, sql: &Sql) {
    let mut logins = JoinSet::new();
    for _ in 0..world.config.database.max_connections {
        let mut client = world.client();
        let request = v1::LoginRequest { identifier: "marker@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
        logins.spawn(async move { client.login(request).await.unwrap().into_inner().session.unwrap().id });
    }
    for session in logins.join_all().await {
        assert_eq!(sql.count(&format!("SELECT count(*) AS n FROM sessions WHERE id = '{session}'")).await, 1, "a login was lost");
    }
}

async fn scenario(world: World) {
    let mut chance = Chance::new();
    let sql = world.sql().await;
    world.person("marker@example.com").await;
    let acme = world.tenant("acme").await;
    let mut cancelled = 0;
    for round in 0.. {
        let mut workers = JoinSet::new();
        for worker in 0..PARALLEL {
            let email = format!("person-{round}-{worker}@example.com");
            let user = world.person(&email).await;
            world.member(&acme, &user, &["member"]).await;
            let mut step = || (CALLS[chance.below(CALLS.len())], u32::try_from(chance.below(1_100)).unwrap(), chance.below(2) == 0);
            let plan = (0..STEPS).map(|_| step()).collect();
            workers.spawn(work(world.client(), email, plan));
        }
        cancelled += workers.join_all().await.into_iter().sum::<usize>();
        assert_eq!(left_open(&sql).await, 0, "connections are left in a transaction after {cancelled} cancels");
        assert_whole(&sql).await;
        if cancelled >= CANCELS {
            eprintln!("{cancelled} calls were cut short in {round} rounds");
            break;
        }
        assert!(round < 10 * CANCELS, "the calls are too fast to be cut short: {cancelled}");
    }
    assert_markers_stay(&world, &sql).await;
    assert_eq!(left_open(&sql).await, 0);
    assert_whole(&sql).await;
}

#[test]
fn five_hundred_cancels_leave_nothing_half_done() {
    run(Backend::Postgres, scenario);
}
