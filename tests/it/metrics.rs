//! What is counted: that it is counted, under the names that the README promises, with nothing in a label that a caller chose.

use std::{collections::BTreeMap, time::Duration};

use doorward::{
    pb::v1,
    server::{Server, Stop},
};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    harness::*,
    life::{eventually, get, hold_sessions, soon},
    on_both,
    probe::WRONG,
    start::Ground,
    wire::{Wire, encode},
};

/// The samples of a page, by name and labels as they stand there.
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    pub async fn of(replica: &Replica) -> Self {
        Self::read(&get(replica.ops_addr, "/metrics").await)
    }

    fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
        assert!(body.trim_end().ends_with("# EOF"), "{body}");
        let samples = body.lines().filter(|line| !line.starts_with('#') && line.contains(' '));
        Self(samples.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    /// The sum of the samples of a name that have all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &str| labels.iter().all(|(label, value)| sample.contains(&format!("{label}=\"{value}\"")));
        let is_named = |sample: &str| sample.split('{').next() == Some(name);
        self.0.iter().filter(|(sample, _)| is_named(sample) && has(sample)).map(|(_, value)| value).sum()
    }

    fn handled(&self, method: &str, code: &str) -> f64 {
        self.sum("grpc_server_handled_total", &[("grpc_method", method), ("grpc_code", code)])
    }
}

/// Calls that touch whatever is counted.
async fn busy(world: &World) -> v1::TokenSet {
    world.person("ann@example.com").await;
    let tokens = world.login("ann@example.com").await;
    world.validate(&tokens.access_token).await.unwrap();
    world.try_login("ann@example.com", WRONG, "").await.unwrap_err();
    let next = world.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(world.refresh(&tokens.refresh_token).await.unwrap().refresh_token, next.refresh_token);
    next
}

on_both! {
    async fn calls_are_counted_by_method_code_and_reason(world: World) {
        let next = busy(&world).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let login = encode("doorward.v1.LoginRequest", json!({ "identifier": "ann@example.com", "password": PASSWORD }));
        let late = wire.call("/doorward.v1.AuthService/Login", &[("grpc-timeout", "1n")], &login).await;
        assert_eq!(late.outcome(), "DEADLINE_EXCEEDED DEADLINE");
        world.pass(Duration::from_hours(1));
        let again = world.refresh(&next.refresh_token).await.unwrap();
        world.pass(Duration::from_hours(1));
        assert_eq!(refused(world.refresh(&next.refresh_token).await), "REFRESH_TOKEN_REUSED");
        assert_eq!(refused(world.refresh(&again.refresh_token).await), "SESSION_REVOKED");
        assert_eq!(refused(world.validate("garbage").await), "TOKEN_INVALID");

        let samples = Samples::of(&world.replica).await;

        for (method, code, count) in [
            ("Login", "OK", 1.0), ("Login", "Unauthenticated", 1.0), ("IssueToken", "OK", 3.0), ("IssueToken", "Unauthenticated", 2.0),
            ("ValidateSession", "OK", 1.0), ("ValidateSession", "Unauthenticated", 1.0), ("Login", "DeadlineExceeded", 1.0),
            ("ChangePassword", "OK", 0.0),
        ] {
            assert_eq!(samples.handled(method, code).to_string(), count.to_string(), "{method} {code}");
        }
        let of_login = [("grpc_type", "unary"), ("grpc_service", "doorward.v1.AuthService"), ("grpc_method", "Login")];
        for name in ["grpc_server_started_total", "grpc_server_handling_seconds_count"] {
            assert_eq!(samples.sum(name, &of_login).to_string(), "3", "{name}");
        }
        for (method, reason) in [("Login", "INVALID_CREDENTIALS"), ("IssueToken", "REFRESH_TOKEN_REUSED"), ("Login", "DEADLINE")] {
            let labels = [("grpc_method", method), ("reason", reason)];
            assert_eq!(samples.sum("doorward_refusals_total", &labels).to_string(), "1", "{method} {reason}");
        }
        for (outcome, count) in [("rotated", 2.0), ("healed", 1.0), ("reused", 1.0), ("revoked", 1.0)] {
            assert_eq!(samples.sum("doorward_refreshes_total", &[("outcome", outcome)]).to_string(), count.to_string(), "{outcome}");
        }
        assert_eq!(samples.sum("doorward_hash_hashes_total", &[]).to_string(), "3", "one for the person's password, one a login");
    }

    async fn a_refresh_counts_also_where_its_caller_is_gone(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        let held = hold_sessions(&world.sql().await).await;
        let grant = json!({ "refresh_token": { "refresh_token": tokens.refresh_token } });
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let request = encode("doorward.v1.IssueTokenRequest", grant);
        let late = wire.call("/doorward.v1.AuthService/IssueToken", &[("grpc-timeout", "300m")], &request).await;
        assert_eq!(late.outcome(), "DEADLINE_EXCEEDED DEADLINE");
        let rotated = async || Samples::of(&world.replica).await.sum("doorward_refreshes_total", &[("outcome", "rotated")]).to_string();
        assert_eq!(rotated().await, "0");

        held.rollback().await.unwrap();

        eventually("the refresh to be counted", async || rotated().await == "1").await;
    }

    async fn a_call_whose_caller_hangs_up_counts_as_canceled(world: World) {
        world.person("ann@example.com").await;
        // The hashing thread is busy with others, so that a caller can hang up while they wait.
        let mut flood = JoinSet::new();
        for _ in 0..12 {
            let mut client = world.client();
            let request = v1::LoginRequest { identifier: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
            flood.spawn(async move { drop(client.login(request).await) });
        }
        eventually("a call that is under way", async || {
            Samples::of(&world.replica).await.sum("grpc_server_started_total", &[("grpc_method", "Login")]) >= 1.0
        }).await;
        flood.shutdown().await;

        eventually("every call to be counted as over", async || {
            let samples = Samples::of(&world.replica).await;
            let started = samples.sum("grpc_server_started_total", &[("grpc_method", "Login")]);
            started.to_string() == samples.sum("grpc_server_handled_total", &[("grpc_method", "Login")]).to_string()
        }).await;
        assert!(Samples::of(&world.replica).await.handled("Login", "Canceled") >= 1.0, "some hung up before they were answered");
    }

    async fn a_stream_is_handled_when_it_ends(world: World) {
        let watch = HealthCheckRequest { service: "readiness".to_owned() };
        let stream = HealthClient::new(world.replica.channel()).watch(watch).await.unwrap().into_inner();
        let labels = [("grpc_service", "grpc.health.v1.Health"), ("grpc_method", "Watch"), ("grpc_type", "server_stream")];
        let samples = Samples::of(&world.replica).await;
        assert_eq!(samples.sum("grpc_server_started_total", &labels).to_string(), "1");
        assert_eq!(samples.handled("Watch", "OK").to_string(), "0", "it goes on");

        drop(stream);

        eventually("the end of the stream", async || Samples::of(&world.replica).await.handled("Watch", "Canceled").to_string() == "1").await;
    }

    async fn no_label_has_what_a_caller_sent(world: World) {
        let canary = "canary-8h3f";
        let wire = Wire::connect(world.replica.grpc_addr).await;
        eventually("the service's metrics", async || Samples::of(&world.replica).await.sum("doorward_hash_threads", &[]) > 0.0).await;
        let series = |samples: &Samples| samples.0.keys().filter(|name| !name.starts_with("doorward_store_unit")).count();
        let before = series(&Samples::of(&world.replica).await);
        for number in 0..50 {
            wire.call(&format!("/doorward.v1.AuthService/{canary}{number}"), &[("x-request-id", canary)], &[]).await;
            wire.call(&format!("/{canary}{number}/Login"), &[("authorization", canary), ("user-agent", canary)], &[]).await;
        }
        world.try_login(canary, canary, canary).await.unwrap_err();
        let request = encode("doorward.v1.ValidateSessionRequest", json!({ "access_token": canary, "tenant_id": canary }));
        wire.call("/doorward.v1.AuthService/ValidateSession", &[], &request).await;

        let samples = Samples::of(&world.replica).await;
        assert_eq!(samples.0.keys().find(|sample| sample.contains(canary)), None);
        assert_eq!(samples.sum("grpc_server_started_total", &[("grpc_method", "unknown")]).to_string(), "100");
        // Two refused methods and an unknown one: a code and a reason each.
        assert_eq!(series(&samples) - before, 6, "new series, but for the units of work");
    }

    async fn connections_and_pools_are_counted(world: World) {
        let wire = Wire::connect(world.replica.grpc_addr).await;
        world.validate("garbage").await.unwrap_err();
        let open = async || Samples::of(&world.replica).await.sum("doorward_connections", &[("listener", "grpc")]).to_string();
        eventually("one connection beside the clients that are gone", async || open().await == "1").await;
        drop(wire);
        eventually("none", async || open().await == "0").await;
        let samples = Samples::of(&world.replica).await;
        assert!(samples.sum("doorward_connections_accepted_total", &[("listener", "ops")]) >= 2.0);
        assert!(samples.sum("doorward_store_connections", &[]) >= 1.0);
        eventually("readiness", async || {
            Samples::of(&world.replica).await.sum("doorward_health", &[("name", "readiness")]).to_string() == "1"
        }).await;
    }

    async fn a_token_is_judged_by_one_statement_and_then_by_none(world: World) {
        let world = world.quiet().await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        world.role(&acme, "buyer", &["purchases:write"]).await;
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["seller", "buyer"]).await;
        let token = world.login_to("ann@example.com", &acme).await.access_token;
        let before = world.app().store.statements();
        let question = |freshness: v1::Freshness| {
            let request = v1::ValidateSessionRequest {
                access_token: token.clone(),
                tenant_id: acme.id.to_string(),
                permissions: vec!["sales:write".to_owned(), "purchases:write".to_owned()],
                any_role: vec!["buyer".to_owned()],
                audience: "doorward-clients".to_owned(),
                freshness: freshness.into(),
                include_tenants: true,
                ..Default::default()
            };
            async { world.validate_with(request).await.unwrap() }
        };
        question(v1::Freshness::Bounded).await;
        assert_eq!(world.app().store.statements() - before, 3, "the facts, and the list with its roles");
        for freshness in [v1::Freshness::Bounded, v1::Freshness::Latest].repeat(25) {
            question(freshness).await;
        }
        assert_eq!(world.app().store.statements() - before, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_still_starts_has_metrics() {
    let ground = Ground::new(Backend::Sqlite);
    let (_stop, told) = watch::channel(Stop::Run);
    let server = Server::bind(&ground.config, told).await.unwrap();
    let samples = Samples::read(&soon("a page", get(server.ops_addr(), "/metrics")).await);
    assert_eq!(samples.sum("doorward_health", &[("name", "startup")]).to_string(), "0");
    assert_eq!(samples.sum("doorward_build_info", &[("version", env!("CARGO_PKG_VERSION"))]).to_string(), "1");
    assert!(!samples.0.keys().any(|sample| sample.starts_with("grpc_server")), "the service is not opened yet");
}

/// A line of the README's table: name, type, meaning.
fn documented() -> BTreeMap<String, (String, String)> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("\n## Metrics\n").nth(1).expect("README has a section Metrics").split("\n## ").next().unwrap().to_owned();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned());
        let name = cells.next().unwrap();
        (name.split('{').next().unwrap().to_owned(), (cells.next().unwrap(), cells.next().unwrap()))
    })
    .collect()
}

on_both! {
    async fn the_readme_names_every_metric(world: World) {
        busy(&world).await;
        let page = get(world.replica.ops_addr, "/metrics").await;
        let words = |line: &str| line.splitn(4, ' ').skip(2).map(str::to_owned).collect::<Vec<_>>();
        let helps: BTreeMap<String, String> =
            page.lines().filter(|line| line.starts_with("# HELP ")).map(|line| (words(line)[0].clone(), words(line)[1].clone())).collect();
        let registered: BTreeMap<String, (String, String)> = page
            .lines()
            .filter(|line| line.starts_with("# TYPE "))
            .map(|line| {
                let (name, kind) = (words(line)[0].clone(), words(line)[1].clone());
                let help = helps[&name].clone();
                let shown = match kind.as_str() {
                    "counter" => format!("{name}_total"),
                    "info" => format!("{name}_info"),
                    _ => name,
                };
                (shown, (kind, help))
            })
            .collect();
        assert_eq!(registered, documented(), "the README's section Metrics must have name, type and meaning as they are registered");
    }
}
