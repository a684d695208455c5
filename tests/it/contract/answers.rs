//! What every answer carries: the details of a refusal, the request id, the deadline's reason; and what becomes of bodies that are no
//! message of ours.

use std::time::Duration;

use doorward::{ctx::RequestId, grpc::status, methods::METHODS, server::message_limit, values::entropy::Entropy, values::time::Clock};
use serde_json::json;
use tonic_types::StatusExt as _;

use super::every_error;
use crate::{
    harness::*,
    lock::Lock,
    on_both,
    recipes::{Caller, recipes},
    wire::{Wire, encode, frame},
};

const LOGIN: &str = "/doorward.v1.AuthService/Login";

#[test]
fn every_refusal_carries_reason_request_id_and_what_else_helps() {
    let request_id =
        RequestId::take(Some("call-7"), &Entropy::system(), &Clock::manual(doorward::values::time::Timestamp::from_unix(START)));
    for error in every_error() {
        let name = error.reason().0;
        let status = status::of(&error, &request_id);
        assert_eq!(reason(&status), name);
        assert_eq!(status.get_details_request_info().unwrap().request_id, "call-7");
        let details = status.get_error_details();
        let fields = matches!(name, "INVALID_FIELD" | "PASSWORD_REJECTED");
        assert_eq!(details.bad_request().is_some_and(|bad| bad.field_violations[0].field == "email"), fields, "{name}: BadRequest");
        assert_eq!(details.retry_info().is_some(), matches!(name, "OVERLOADED" | "UNAVAILABLE"), "{name}: RetryInfo");
        assert_eq!(details.quota_failure().is_some(), name == "SEAT_LIMIT", "{name}: QuotaFailure");
        let permission = details.error_info().unwrap().metadata.get("permission").map(String::as_str);
        assert_eq!(permission, (name == "PERMISSION_MISSING").then_some("sales:write"), "{name}: metadata");
        assert!(!format!("{status:?}{:?}", status.details()).contains("canary-cause"), "{name} tells the client what is for the log");
    }
}

on_both! {
    async fn the_request_id_is_taken_over_where_it_is_plain_and_else_made(world: World) {
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
        let taken = ["1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a/b:c+d=e@f._", &longest];
        let made = ["", " ", "a b", "a\tb", "a\"b", "<b>", "a;b", "a,b", "käse", &too_long];
        for (given, is_taken) in taken.map(|id| (id, true)).into_iter().chain(made.map(|id| (id, false))) {
            let answer = wire.call(LOGIN, &[("x-request-id", given)], &[]).await;
            let (id, detail) = (answer.request_id(), answer.status().get_details_request_info().unwrap().request_id);
            assert_eq!(id, detail, "header and RequestInfo");
            assert_eq!(id == given, is_taken, "{given:?} became {id:?}");
            assert!(is_taken || id.len() == 36, "{id:?} is no UUID");
        }
        let ann = { world.person("ann@example.com").await; Caller::logged_in(&world, "ann@example.com").await };
        let yes = wire.call("/doorward.v1.AuthService/GetMe", &[("authorization", &ann.bearer()), ("x-request-id", "yes-1")], &[]).await;
        assert_eq!((yes.outcome().as_str(), yes.request_id()), ("OK", "yes-1"));
        let unknown = wire.call("/nothing", &[("x-request-id", "no-1")], &[]).await;
        assert_eq!(unknown.request_id(), "no-1");
        assert_ne!(wire.call("/nothing", &[], &[]).await.request_id(), wire.call("/nothing", &[], &[]).await.request_id());
    }

    async fn a_call_that_must_wait_longer_than_its_deadline_answers_so(world: World) {
        world.person("ann@example.com").await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let login = encode("doorward.v1.LoginRequest", json!({ "identifier": "ann@example.com", "password": PASSWORD }));
        let lock = Lock::hold(&world).await;
        // `m` is milliseconds (gRPC over HTTP/2), `u` microseconds.
        for timeout in ["150m", "150000u", "1n"] {
            let answer = wire.call(LOGIN, &[("grpc-timeout", timeout)], &login).await;
            assert_eq!(answer.outcome(), "DEADLINE_EXCEEDED DEADLINE", "{timeout}");
        }
        lock.release().await;
        assert_eq!(wire.call(LOGIN, &[("grpc-timeout", "1M")], &login).await.outcome(), "OK");
        for malformed in ["", "m", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(wire.call(LOGIN, &[("grpc-timeout", malformed)], &login).await.outcome(), "OK", "{malformed:?} is none");
        }
    }

    async fn a_call_without_a_deadline_has_the_servers(world: World) {
        let world = world.restart_with(|config| config.server.default_deadline = Duration::from_millis(150)).await;
        world.person("ann@example.com").await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let login = encode("doorward.v1.LoginRequest", json!({ "identifier": "ann@example.com", "password": PASSWORD }));
        let lock = Lock::hold(&world).await;
        assert_eq!(wire.call(LOGIN, &[], &login).await.outcome(), "DEADLINE_EXCEEDED DEADLINE");
        lock.release().await;
    }

    async fn a_body_that_is_no_message_of_ours_is_an_invalid_field(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for (number, method) in METHODS.iter().enumerate() {
            let limit = message_limit(method.service, world.config.server.max_message_bytes);
            let bad: [(&str, Option<&str>, Vec<u8>); 9] = [
                ("no message", None, Vec::new()),
                ("one byte too many", None, frame(&unknown_field(limit + 1))),
                ("no protobuf", None, frame(&[0xff, 0xff, 0xff])),
                ("a field of another wire type", None, frame(&[0x0d, 1, 2, 3, 4, 0x15, 1, 2])),
                ("marked as compressed", None, [&[1, 0, 0, 0, 1], [0].as_slice()].concat()),
                ("compressed in a way that is not served", Some("gzip"), [&[1, 0, 0, 0, 1], [0].as_slice()].concat()),
                ("an unknown flag", None, [&[7, 0, 0, 0, 1], [0].as_slice()].concat()),
                ("cut off", None, vec![0, 0, 0, 0, 100, 1, 2, 3]),
                ("a length of 4 GiB", None, vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]),
            ];
            for (what, encoding, body) in bad {
                let email = format!("{number}-{}@example.com", what.replace(' ', "-"));
                let caller = Caller::who_may(method, &world, &acme, &email, &["seller"]).await;
                let bearer = caller.bearer();
                let mut headers = vec![("authorization", bearer.as_str())];
                headers.extend(encoding.map(|encoding| ("grpc-encoding", encoding)));
                let answer = wire.send(method.path, &headers, body).await;
                assert_eq!(answer.outcome(), "INVALID_ARGUMENT INVALID_FIELD", "{}: {what}: {:?}", method.path, answer.status());
                assert!(answer.status().get_details_bad_request().is_some(), "{what}");
            }
            // The longest message that may come does not fail for its length.
            let caller = Caller::who_may(method, &world, &acme, &format!("{}-longest@example.com", method.name), &["seller"]).await;
            let answer = wire.call(method.path, &[("authorization", &caller.bearer())], &unknown_field(limit)).await;
            assert!(!answer.status().message().contains("too long"), "{}: {:?}", method.path, answer.status());
        }
    }

    async fn a_second_message_in_a_call_is_not_a_second_call(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for method in METHODS {
            // One who may call them all.
            let email = format!("{}@example.com", method.name);
            let caller = Caller::who_may(method, &world, &acme, &email, &["seller", "owner"]).await.with_accounts(&world, &acme).await;
            let one = frame(&encode(method.input, recipes(method, &caller).swap_remove(0).json));
            let logins = world.count_events("login.succeeded").await;
            let answer = wire.send(method.path, &[("authorization", &caller.bearer())], [one.as_slice(), &one].concat()).await;
            let outcome = answer.outcome();
            // NOT_FOUND: the recipes of signing keys name none that is there.
            let expected = ["OK", "INVALID_ARGUMENT INVALID_FIELD", "NOT_FOUND NOT_FOUND"];
            assert!(expected.contains(&outcome.as_str()), "{}: {outcome}", method.path);
            assert!(answer.messages().len() <= 1, "{} answered twice", method.path);
            assert!(world.count_events("login.succeeded").await <= logins + 1, "{} acted twice", method.path);
        }
    }
}

/// A message of exactly that length: one field that no request has.
fn unknown_field(length: usize) -> Vec<u8> {
    // Field 1000, length-delimited: two bytes; its length: three.
    let content = length - 5;
    let varint = [content & 0x7f | 0x80, content >> 7 & 0x7f | 0x80, content >> 14].map(|byte| u8::try_from(byte).unwrap());
    [[0xc2, 0x3e].as_slice(), &varint, &vec![0; content]].concat()
}

#[test]
fn the_long_messages_of_these_tests_are_well_formed() {
    use prost_reflect::prost::Message as _;
    let bytes = unknown_field(65_536);
    assert_eq!(bytes.len(), 65_536);
    doorward::pb::v1::GetMeRequest::decode(bytes.as_slice()).unwrap();
}
