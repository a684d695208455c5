//! A database that goes away under a running server, and comes back: readiness, answers, recovery.
//!
//! On PostgreSQL the way to the database goes through a [`Proxy`] that the test cuts. SQLite is a library in the server's own process and
//! its file stays open: it cannot go away. The nearest thing is a writer from outside that holds its lock, which has a test.

use std::{collections::BTreeSet, time::Duration};

use doorward::pb::v1::{self, auth_service_client::AuthServiceClient};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};
use tonic_types::StatusExt;

use crate::{
    harness::{
        proxy::{Fault, Proxy},
        *,
    },
    life::{Life, channel, eventually, http, names, probes, soon},
    probe::payload,
    start::{login_request, person, run, validate_request},
};

/// The answer of a call, without its message.
async fn ended<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<(), Status> {
    soon("an answer", call).await.map(drop)
}

/// Every method, each with credentials that are good.
async fn every_method(client: &AuthServiceClient<Channel>, tokens: &v1::TokenSet) -> Vec<(&'static str, Result<(), Status>)> {
    let clone = || client.clone();
    let (access, refresh) = (tokens.access_token.as_str(), tokens.refresh_token.clone());
    let grant = Some(v1::issue_token_request::Grant::RefreshToken(v1::RefreshTokenGrant { refresh_token: refresh }));
    let credential = Some(v1::logout_request::Credential::AccessToken(access.to_owned()));
    let change = v1::ChangePasswordRequest {
        current_password: PASSWORD.to_owned(),
        new_password: "another good long password".to_owned(),
        client_info: None,
    };
    let (mut first, mut second, mut third, mut fourth) = (clone(), clone(), clone(), clone());
    let (mut fifth, mut sixth, mut seventh) = (clone(), clone(), clone());
    let (mut eighth, mut ninth, mut tenth) = (clone(), clone(), clone());
    let revoke = v1::RevokeSessionRequest { session_id: payload(access)["sid"].as_str().unwrap().to_owned() };
    let issue = v1::IssueTokenRequest { grant, ..Default::default() };
    let answers = tokio::join!(
        ended(first.login(login_request("ann@example.com"))),
        ended(second.issue_token(issue)),
        ended(third.validate_session(validate_request(access))),
        ended(fourth.get_me(bearer(v1::GetMeRequest {}, access))),
        ended(fifth.list_tenants(bearer(v1::ListTenantsRequest::default(), access))),
        ended(sixth.change_password(bearer(change, access))),
        ended(seventh.logout(v1::LogoutRequest { credential })),
        ended(eighth.list_sessions(bearer(v1::ListSessionsRequest::default(), access))),
        ended(ninth.revoke_session(bearer(revoke, access))),
        ended(tenth.revoke_all_sessions(bearer(v1::RevokeAllSessionsRequest::default(), access))),
    );
    vec![
        ("Login", answers.0),
        ("IssueToken", answers.1),
        ("ValidateSession", answers.2),
        ("GetMe", answers.3),
        ("ListTenants", answers.4),
        ("ChangePassword", answers.5),
        ("Logout", answers.6),
        ("ListSessions", answers.7),
        ("RevokeSession", answers.8),
        ("RevokeAllSessions", answers.9),
    ]
}

/// The answer says: not now, come back; and nothing about the token.
fn is_unavailable(method: &str, answer: Result<(), Status>) {
    let status = answer.expect_err(method);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"), "{method}: {status:?}");
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{method}: {status:?}");
}

/// The kinds of answers that a token check got from here on, until it is told to stop.
fn keep_asking(
    mut client: AuthServiceClient<Channel>,
    access_token: String,
    stop: watch::Receiver<bool>,
    seen: &mut JoinSet<BTreeSet<String>>,
) {
    seen.spawn(async move {
        let mut kinds = BTreeSet::new();
        while !*stop.borrow() {
            let answer = client.validate_session(validate_request(&access_token)).await;
            kinds.insert(answer.map_or_else(|status| reason(&status), |_| "OK".to_owned()));
        }
        kinds
    });
}

#[test]
fn a_database_that_goes_and_comes_back() {
    run(Backend::Postgres, |mut ground| async move {
        let mut proxy = Proxy::before(&mut ground.config).await;
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let tokens = life.client().login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();
        let request = HealthCheckRequest { service: "doorward.v1.AuthService".to_owned() };
        let mut readiness = HealthClient::new(channel(life.grpc)).watch(request).await.unwrap().into_inner();
        let mut next = async || readiness.message().await.unwrap().unwrap().status();
        assert_eq!(next().await, ServingStatus::Serving.into());
        let (enough, told) = watch::channel(false);
        let mut asking = JoinSet::new();
        for _ in 0..3 {
            keep_asking(life.client(), tokens.access_token.clone(), told.clone(), &mut asking);
        }

        proxy.set(Fault::Cut).await;
        // The contract says two seconds; the rest is for a busy machine.
        let down = tokio::time::timeout(Duration::from_secs(4), next()).await.expect("readiness flips within two seconds");
        assert_eq!(down, ServingStatus::NotServing.into());
        assert_eq!(probes(life.ops).await, [200, 503, 200], "liveness and start-up stay");
        assert_eq!((names(life.ops).await.as_str(), names(life.grpc).await.as_str()), ("--++-", "--++-"));
        for (method, answer) in Box::pin(every_method(&life.client(), &tokens)).await {
            is_unavailable(method, answer);
        }
        let garbage = life.client().validate_session(validate_request("garbage")).await;
        assert_eq!(refused(garbage), "TOKEN_INVALID", "what needs no database is answered");

        proxy.restart().await;
        let client = life.client();
        let back = async || client.clone().validate_session(validate_request(&tokens.access_token)).await.is_ok();
        tokio::time::timeout(Duration::from_secs(8), eventually("recovery", back)).await.expect("recovers within five seconds");
        assert_eq!(soon("readiness", next()).await, ServingStatus::Serving.into());
        // Nothing of what was refused happened: session, refresh token and password are as they were.
        enough.send_replace(true);
        let tokens = refresh_with(&mut life.client(), &tokens.refresh_token).await.unwrap();
        life.client().login(login_request("ann@example.com")).await.unwrap();
        life.client().validate_session(validate_request(&tokens.access_token)).await.unwrap();
        for kinds in soon("the askers", asking.join_all()).await {
            assert_eq!(kinds, BTreeSet::from(["OK".to_owned(), "UNAVAILABLE".to_owned()]), "no other answer came at any moment");
        }
    });
}

#[test]
fn readiness_can_be_told_not_to_follow_the_database() {
    run(Backend::Postgres, |mut ground| async move {
        let mut proxy = Proxy::before(&mut ground.config).await;
        ground.config.health.readiness_on_database = false;
        let life = Life::start(&ground).await;
        proxy.set(Fault::Cut).await;
        // Each takes as long as a call waits for a connection; three take longer than readiness would need.
        for _ in 0..3 {
            let answer = life.client().login(login_request("ann@example.com")).await;
            is_unavailable("Login", answer.map(drop));
            assert_eq!(probes(life.ops).await, [200; 3]);
            assert_eq!(names(life.ops).await, "+++++");
        }
        proxy.restart().await;
    });
}

#[test]
fn a_database_that_falls_silent() {
    run(Backend::Postgres, |mut ground| async move {
        let mut proxy = Proxy::before(&mut ground.config).await;
        ground.config.server.default_deadline = Duration::from_secs(3);
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let tokens = life.client().login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();

        proxy.set(Fault::BlackHole).await;
        eventually("readiness to fall", async || http(life.ops, "/readyz").await == 503).await;
        assert_eq!(http(life.ops, "/healthz").await, 200);
        let answer = life.client().validate_session(validate_request(&tokens.access_token)).await;
        let refusal = answer.unwrap_err();
        assert!(["UNAVAILABLE", "DEADLINE"].contains(&reason(&refusal).as_str()), "never a word about the token: {refusal:?}");

        proxy.restart().await;
        let client = life.client();
        let back = async || client.clone().validate_session(validate_request(&tokens.access_token)).await.is_ok();
        tokio::time::timeout(Duration::from_secs(8), eventually("recovery", back)).await.expect("recovers within five seconds");
        eventually("readiness", async || http(life.ops, "/readyz").await == 200).await;
    });
}

/// A flow that a firewall forgot: the driver sets no keepalive on its sockets and waits for ever where it gives a connection back, so each
/// call of the silent time would hold a place in the pool until the kernel gives up, a quarter of an hour later.
#[test]
fn connections_that_fell_silent_for_good_are_replaced() {
    run(Backend::Postgres, |mut ground| async move {
        let mut proxy = Proxy::before(&mut ground.config).await;
        ground.config.database.max_connections = 2;
        ground.config.server.default_deadline = Duration::from_secs(1);
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let tokens = life.client().login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();
        proxy.set(Fault::BlackHole).await;
        eventually("readiness to fall", async || http(life.ops, "/readyz").await == 503).await;
        for _ in 0..2 {
            life.client().validate_session(validate_request(&tokens.access_token)).await.unwrap_err();
        }

        // New connections get through; those that fell silent stay so.
        proxy.set(Fault::None).await;

        let client = life.client();
        let back = async || client.clone().validate_session(validate_request(&tokens.access_token)).await.is_ok();
        eventually("recovery", back).await;
    });
}

/// What a failover leaves behind: connections to a server that takes no writes any more, while new ones would lead to the one that does.
#[test]
fn connections_to_a_server_that_turned_read_only_are_given_up() {
    run(Backend::Postgres, |mut ground| async move {
        ground.config.database.max_connections = 1;
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let url = database_url(&ground.config);
        let name = url.rsplit('/').next().unwrap();
        // By another database: a connection to this one would be read-only itself.
        let psql = |sql: &str| postgres::cluster().unwrap().psql("postgres", sql);
        psql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
        psql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
        let client = life.client();
        let login = async || client.clone().login(login_request("ann@example.com")).await.map(drop);
        // Until every connection of the pool is a new one.
        for _ in 0..12 {
            is_unavailable("Login", login().await);
        }

        psql(&format!("ALTER DATABASE {name} RESET default_transaction_read_only"));

        eventually("recovery", async || login().await.is_ok()).await;
    });
}

#[test]
fn a_held_writer_of_sqlite_leaves_token_checks_alone() {
    use sea_orm::{SqliteTransactionMode, TransactionOptions, TransactionTrait};
    run(Backend::Sqlite, |mut ground| async move {
        // The server's own deadline: tonic's client would not wait for the server's word on one that it sends.
        ground.config.server.default_deadline = Duration::from_millis(700);
        ground.config.database.acquire_timeout = Duration::from_millis(200);
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let tokens = life.client().login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();
        let options = TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
        let held = ground.sql().await.0.begin_with_options(options).await.unwrap();

        // One waits for the lock, the other one behind it.
        for _ in 0..2 {
            assert_eq!(refused(life.client().login(login_request("ann@example.com")).await), "DEADLINE");
        }
        life.client().validate_session(validate_request(&tokens.access_token)).await.unwrap();
        assert_eq!(probes(life.ops).await, [200; 3]);

        held.rollback().await.unwrap();
        let client = life.client();
        eventually("recovery", async || client.clone().login(login_request("ann@example.com")).await.is_ok()).await;
    });
}
