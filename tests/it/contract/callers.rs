//! Who the caller may be: a workload that claims an identity and does not prove it is let in nowhere; and nothing but `authorization` says
//! who the subject is.

use doorward::{config::CallersMode, methods::METHODS};
use prost_reflect::DynamicMessage;
use serde_json::json;

use super::{encode_health, reflect};
use crate::{
    harness::*,
    on_both,
    recipes::{Caller, recipes},
    wire::{Answer, Wire, encode, message},
};

const REFLECTION: [&str; 2] =
    ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"];
const LOGIN: &str = "/doorward.v1.AuthService/Login";
const REFUSED: &str = "UNAUTHENTICATED CALLER_UNAUTHENTICATED";

/// Every method with a good request, and reflection; by whoever these headers say.
async fn call_everything(world: &World, headers: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let acme = world.tenant("acme").await;
    world.role(&acme, "seller", &["sales:write"]).await;
    let ann = Caller { tenant: acme.id.to_string(), ..Caller::default() };
    let wire = Wire::connect(world.replica.grpc_addr).await;
    let mut outcomes = Vec::new();
    for method in METHODS {
        let request = encode(method.input, recipes(method, &ann).swap_remove(0).json);
        outcomes.push((method.path, wire.call(method.path, headers, &request).await.outcome()));
    }
    for path in REFLECTION {
        outcomes.push((path, wire.call(path, headers, &[0x3a, 0]).await.outcome()));
    }
    outcomes
}

async fn health(world: &World, headers: &[(&str, &str)]) -> Answer {
    Wire::connect(world.replica.grpc_addr).await.call("/grpc.health.v1.Health/Check", headers, &encode_health("")).await
}

on_both! {
    async fn a_caller_that_does_not_verify_is_refused_everywhere_but_at_health(world: World) {
        let headers = [("doorward-caller", "Bearer nobody")];
        for (path, outcome) in call_everything(&world, &headers).await {
            assert_eq!(outcome, REFUSED, "{path}");
        }
        assert!(health(&world, &headers).await.is_ok());
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for odd in ["", "nobody", "Basic eA=="] {
            let login = wire.call(LOGIN, &[("doorward-caller", odd)], &[]).await;
            assert_eq!(login.outcome(), REFUSED, "{odd:?}: an empty claim is a claim");
        }
    }

    async fn where_callers_must_be_known_nobody_else_is_let_in(world: World) {
        let world = world.restart_with(|config| config.callers.mode = Some(CallersMode::Required)).await;
        for (path, outcome) in call_everything(&world, &[]).await {
            // Whoever verifies tokens offline needs no account for it.
            let expected = if path == "/doorward.v1.AccessService/GetKeySet" { "OK" } else { REFUSED };
            assert_eq!(outcome, expected, "{path}");
        }
        assert!(health(&world, &[]).await.is_ok());
        let wire = Wire::connect(world.replica.grpc_addr).await;
        assert_eq!(wire.call("/doorward.v1.AuthService/Nothing", &[], &[]).await.outcome(), "UNIMPLEMENTED METHOD_UNKNOWN");
    }

    async fn a_refused_caller_who_keeps_the_stream_open_is_answered_at_once(world: World) {
        use tokio_stream::StreamExt as _;
        let world = world.restart_with(|config| config.callers.mode = Some(CallersMode::Required)).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for path in REFLECTION.into_iter().chain(["/doorward.v1.AuthService/Nothing", LOGIN]) {
            let endless = tokio_stream::pending::<Result<axum::body::Bytes, std::convert::Infallible>>();
            let body = axum::body::Body::from_stream(tokio_stream::once(Ok(axum::body::Bytes::from_static(&[0]))).chain(endless));
            let request = http::Request::post(format!("http://doorward{path}")).header("content-type", "application/grpc").body(body).unwrap();
            let answer = tokio::time::timeout(std::time::Duration::from_secs(8), wire.request(request)).await;
            assert!(answer.is_ok_and(|answer| !answer.is_ok()), "{path} waits for the end of the stream");
        }
    }

    async fn health_has_the_limits_of_every_call(world: World) {
        let world = world.restart_with(|config| config.server.default_deadline = std::time::Duration::from_millis(300)).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let path = "/grpc.health.v1.Health/Check";
        let endless = axum::body::Body::from_stream(tokio_stream::pending::<Result<axum::body::Bytes, std::convert::Infallible>>());
        let request = http::Request::post(format!("http://doorward{path}")).header("content-type", "application/grpc").body(endless).unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(8), wire.request(request)).await.expect("waits for ever");
        assert_eq!(answer.outcome(), "DEADLINE_EXCEEDED DEADLINE");

        let long = wire.call(path, &[], &encode_health(&"x".repeat(world.config.server.max_message_bytes))).await;
        assert_eq!(long.status().code(), tonic::Code::OutOfRange, "{long:?}");
    }

    async fn where_callers_are_optional_an_anonymous_one_may_reflect(world: World) {
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for version in ["v1", "v1alpha"] {
            assert!(!reflect(&wire, version, 7, "*").await.services().is_empty());
        }
    }

    async fn headers_that_claim_an_identity_change_nothing(world: World) {
        let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
        let ann = Caller::member(&world, &acme, "ann@example.com", &["member"]).await;
        let root = world.superuser("root@example.com").await;
        world.member(&beta, &root, &["owner"]).await;
        let (root_id, beta_id) = (root.id.to_string(), beta.id.to_string());
        let claims = [
            ("x-user-id", root_id.as_str()), ("x-tenant-id", &beta_id), ("x-roles", "owner"), ("x-superuser", "true"),
            ("x-forwarded-user", &root_id), ("x-forwarded-email", "root@example.com"), ("x-forwarded-for", "203.0.113.9"),
            ("x-real-ip", "203.0.113.9"), ("forwarded", "for=203.0.113.9"), ("x-forwarded-client-cert", "Subject=\"CN=root\""),
            ("x-auth-request-user", &root_id), ("remote-user", "root"), ("cookie", "session=root"),
        ];
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let with = |extra: &[(&'static str, &str)]| -> Vec<(String, String)> {
            claims.iter().chain(extra).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for path in ["GetMe", "ValidateSession", "ListTenants"] {
            let path = format!("/doorward.v1.AuthService/{path}");
            let bearer = ann.bearer();
            // `freshness = LATEST` of ValidateSession; the others do not know the field. How long an answer is fresh is then the same.
            let latest = [8 << 3, 2];
            let plain = wire.call(&path, &[("authorization", &bearer)], &latest).await;
            let claimed = send(&wire, &path, &with(&[("authorization", &bearer)]), &latest).await;
            assert!(plain.is_ok());
            assert_eq!(plain.message(), claimed.message(), "{path} with a token");
            assert_eq!(send(&wire, &path, &with(&[]), &[]).await.outcome(), "UNAUTHENTICATED TOKEN_MISSING", "{path} without one");
        }
        let login = encode("doorward.v1.LoginRequest", json!({ "identifier": "ann@example.com", "password": PASSWORD }));
        let answer = send(&wire, "/doorward.v1.AuthService/Login", &with(&[]), &login).await;
        let answer = DynamicMessage::decode(message("doorward.v1.LoginResponse"), answer.message()).unwrap();
        let text = format!("{answer:?}");
        assert!(text.contains("ann@example.com") && !text.contains("203.0.113.9") && !text.contains(&root_id), "{text}");
        let rows = world.sql().await.count("SELECT count(*) AS n FROM audit_events WHERE ip_address IS NOT NULL").await;
        assert_eq!(rows, 0, "the address in the audit trail is the backend's to tell, in ClientInfo");
    }
}

async fn send(wire: &Wire, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    wire.call(path, &headers, body).await
}
