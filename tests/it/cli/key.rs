//! `doorward key`.

use doorward::values::{entropy::Entropy, secret};
use serde_json::Value;

use super::Place;

/// A place whose database has its first key.
fn place() -> Place {
    let place = Place::new();
    place.run(&["migrate", "up"]).done();
    place.run(&["tenant", "create", "--slug", "acme", "--name", "Acme"]).done();
    place
}

fn listed(place: &Place) -> Vec<Value> {
    place.run(&["key", "list", "--format", "json"]).done().json()["signing_keys"].as_array().unwrap().clone()
}

fn states(place: &Place) -> Vec<String> {
    listed(place).iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
}

fn kid(place: &Place, state: &str) -> String {
    let keys = listed(place);
    keys.iter().rev().find(|key| key["state"] == state).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_is_published_signs_and_is_revoked() {
    let place = place();
    assert_eq!(states(&place), ["active"]);
    let first = kid(&place, "active");
    let made = place.run(&["key", "rotate"]).done().out;
    assert!(made.contains("is published, and signs from"), "{made}");
    assert_eq!(place.run(&["key", "rotate"]).done().out, made, "the one that waits");
    assert_eq!(states(&place), ["active", "pending"]);
    // A key that signed nothing goes without a trace, and is made again.
    let pending = kid(&place, "pending");
    place.run(&["key", "retire", &pending]).refused(&["sign no more", &pending, "--yes"]);
    assert!(place.run(&["key", "retire", &pending, "--yes"]).done().out.contains("it had signed nothing"));
    assert_eq!(states(&place), ["active"]);
    place.run(&["key", "rotate", "--at-once"]).refused(&["lets a new key sign now", "--yes"]);
    assert!(place.run(&["key", "rotate", "--at-once", "--yes"]).done().out.contains("signs now"));
    assert_eq!(states(&place), ["retired", "active"]);
    let second = kid(&place, "active");
    place.run(&["key", "revoke", &second]).refused(&["refuses every token that the key signed", "--yes"]);
    // It is in the log, too.
    let revoked = place.run(&["key", "revoke", &second, "--yes"]);
    assert_eq!(revoked.out, format!("The key {second} is revoked: what it signed is refused, by running servers within 1s.\n"));
    assert_eq!(states(&place), ["retired", "revoked", "active"], "whoever signs next is made at once");
    assert_ne!(kid(&place, "active"), first);
    let resealed = place.run(&["key", "reseal", "--yes", "--format", "json"]).done().json();
    assert_eq!((&resealed["changed"], &resealed["unchanged"]), (&0.into(), &2.into()), "a revoked one has nothing to seal");
}

#[test]
fn a_key_that_is_broken_stops_servers_and_no_command() {
    let place = place();
    place.sql_write("doorward.db", "UPDATE signing_keys SET sealed_private_key = X'00'");
    place.serve_in_vain().refused(&["root secret"]);
    let broken = place.run(&["key", "list", "--format", "json"]);
    assert!(broken.code == 0 && broken.err.contains("a signing key cannot be used"), "{broken:?}");
    let kid = broken.json()["signing_keys"][0]["kid"].as_str().unwrap().to_owned();
    assert_eq!(place.run(&["key", "revoke", &kid, "--yes"]).code, 0);
    assert_eq!(states(&place), ["revoked", "active"]);
    place.run(&["user", "list"]).done();
}

#[test]
fn a_name_that_is_no_key_s_is_told_before_anything_is_asked() {
    let place = place();
    for verb in ["retire", "revoke"] {
        place.run(&["key", verb, "nope"]).refused(&["there is no signing key of this name", "doorward key list"]);
    }
    assert_eq!(states(&place), ["active"]);
}

#[test]
fn keys_that_sign_nothing_for_a_shared_secret_are_told_of() {
    let place = place();
    assert!(!place.run(&["key", "list"]).done().out.contains("only verify"));
    let place = place.set("tokens.hmac_secret", &secret::generate::<32>(&Entropy::system())).set("tokens.algorithm", "HS256");
    assert!(place.run(&["key", "list"]).done().out.contains("Tokens are signed with tokens.hmac_secret, as tokens.algorithm (HS256) says"));
    assert_eq!(states(&place), ["active"]);
}
