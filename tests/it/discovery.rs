//! What is public over HTTP and by `GetKeySet`: the same keys, how long they may be kept, and nothing else.

use doorward::{pb::v1, server::Server, server::Stop};
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::Request;

use crate::{
    harness::*,
    life::{eventually, exchange, get, http},
    on_both,
    probe::header,
};

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A header of an answer.
fn field(answer: &str, name: &str) -> Option<String> {
    let head = answer.split_once("\r\n\r\n").unwrap().0;
    head.lines().skip(1).find_map(|line| line.split_once(": ").filter(|(given, _)| *given == name).map(|(_, value)| value.to_owned()))
}

async fn request(world: &World, method: &str, path: &str, headers: &str) -> String {
    exchange(world.replica.http_addr, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")).await
}

on_both! {
    async fn the_key_set_is_the_same_everywhere(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let answer = get(world.replica.http_addr, "/.well-known/jwks.json").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(field(&answer, "content-type").as_deref(), Some("application/jwk-set+json"));
        assert_eq!(field(&answer, "cache-control").as_deref(), Some("public, max-age=300"));
        assert_eq!(field(&answer, "access-control-allow-origin").as_deref(), Some("*"));
        let keys = body(&answer)["keys"].as_array().unwrap().clone();
        assert_eq!(keys.len(), 1);
        let members: Vec<&String> = keys[0].as_object().unwrap().keys().collect();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"], "nothing but the public half");
        assert_eq!((&keys[0]["kid"], &keys[0]["alg"], &keys[0]["use"]), (&header(&token)["kid"], &json!("ES256"), &json!("sig")));

        let mut client = v1::access_service_client::AccessServiceClient::new(world.replica.channel());
        let answer = client.get_key_set(v1::GetKeySetRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.max_age.unwrap().seconds, 300);
        let v1::JsonWebKey { kid, kty, alg, r#use, crv, x, y, n, e } = answer.keys[0].clone();
        assert_eq!(json!({ "kid": kid, "kty": kty, "alg": alg, "use": r#use, "crv": crv, "x": x, "y": y }), keys[0]);
        assert_eq!((n.as_str(), e.as_str()), ("", ""));
    }

    async fn an_answer_is_sent_again_only_when_it_changed(world: World) {
        let path = "/.well-known/jwks.json";
        let etag = field(&request(&world, "GET", path, "").await, "etag").unwrap();
        for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
            let answer = request(&world, "GET", path, &format!("if-none-match: {known}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{known}: {answer}");
            assert_eq!((field(&answer, "etag"), field(&answer, "cache-control")), (Some(etag.clone()), Some("public, max-age=300".to_owned())));
        }
        let answer = request(&world, "GET", path, "if-none-match: \"other\"\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        let by = doorward::domain::keys::KeyOperator::at_the_command(world.app(), cli());
        doorward::domain::keys::rotate(world.app(), by, false).await.unwrap();
        let changed = async || {
            let answer = request(&world, "GET", path, &format!("if-none-match: {etag}\r\n")).await;
            answer.starts_with("HTTP/1.1 200 ") && body(&answer)["keys"].as_array().unwrap().len() == 2
        };
        eventually("the next key in the key set", changed).await;
    }
}

#[test]
fn only_what_is_meant_is_answered() {
    run(Backend::Sqlite, async |world| {
        let head = request(&world, "HEAD", "/.well-known/jwks.json", "").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n") && field(&head, "etag").is_some(), "{head}");
        let post = request(&world, "POST", "/.well-known/jwks.json", "content-length: 0\r\n").await;
        assert!(post.starts_with("HTTP/1.1 405 ") && field(&post, "allow").as_deref() == Some("GET, HEAD"), "{post}");
        for path in [
            "/",
            "/metrics",
            "/readyz",
            "/.well-known/jwks.json/",
            "/.well-known/../metrics",
            "/.well-known/JWKS.json",
            "/%2ewell-known/jwks.json",
        ] {
            assert_eq!(http(world.replica.http_addr, path).await, 404, "{path}");
        }
        for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
            let document = body(&get(world.replica.http_addr, path).await);
            assert_eq!(document["issuer"], "http://127.0.0.1:8080");
            assert_eq!(document["jwks_uri"], "http://127.0.0.1:8080/.well-known/jwks.json");
            assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
        }
    });
}

#[test]
fn an_issuer_with_a_path_has_its_documents_there_too() {
    run(Backend::Sqlite, async |world| {
        let world = world.restart_with(|config| config.tokens.issuer = "https://auth.example.com/door/{ward}/".to_owned()).await;
        for path in [
            "/door/{ward}/.well-known/jwks.json",
            "/door/{ward}/.well-known/openid-configuration",
            "/.well-known/oauth-authorization-server/door/{ward}",
            "/.well-known/jwks.json",
        ] {
            assert_eq!(http(world.replica.http_addr, path).await, 200, "{path}");
        }
        assert_eq!(http(world.replica.http_addr, "/door/other/.well-known/jwks.json").await, 404);
        let document = body(&get(world.replica.http_addr, "/.well-known/openid-configuration").await);
        assert_eq!(document["jwks_uri"], "https://auth.example.com/door/{ward}/.well-known/jwks.json");
        assert_eq!(document["issuer"], "https://auth.example.com/door/{ward}/", "byte by byte what tokens say");
    });
}

/// Whoever may not call anything else may have the keys; who says that they are somebody must be.
#[test]
fn the_key_set_demands_no_caller() {
    run(Backend::Sqlite, async |world| {
        let world = world.restart_with(|config| config.callers.mode = Some(doorward::config::CallersMode::Required)).await;
        let mut client = v1::access_service_client::AccessServiceClient::new(world.replica.channel());
        client.get_key_set(v1::GetKeySetRequest {}).await.unwrap();
        let mut lied = Request::new(v1::GetKeySetRequest {});
        lied.metadata_mut().insert("doorward-caller", "Bearer nonsense".parse().unwrap());
        assert_eq!(refused(client.get_key_set(lied).await), "CALLER_UNAUTHENTICATED");
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    run(Backend::Sqlite, async |world| {
        let mut config = world.config.clone();
        config.server.http_addr = world.replica.http_addr;
        let (_stop, told) = watch::channel(Stop::Run);
        let Err(error) = Server::bind(&config, told).await else { panic!("two servers on one port") };
        let text = error.to_string();
        assert!(text.starts_with("server.http_addr cannot listen on 127.0.0.1:") && text.contains("DOORWARD__SERVER__HTTP_ADDR"), "{text}");
    });
}
