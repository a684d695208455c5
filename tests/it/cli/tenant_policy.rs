//! `doorward tenant set-policy`.

use serde_json::json;

use super::*;

fn policy(place: &Place) -> Value {
    place.run(&["tenant", "list", "--format", "json"]).done().json()["tenants"][0]["policy"].clone()
}

#[test]
fn lifetimes_are_set_over_what_the_tenant_has_over_the_configuration() {
    let place = Place::new();
    place.tenant("acme");
    assert_eq!(policy(&place), json!({}));
    let set = ["tenant", "set-policy", "acme", "--access-lifetime", "10m", "--idle-lifetime", "1d"];
    place.run(&set).refused(&[
        "this gives the tenant acme access tokens of 10m, sessions that end after 1d without a refresh and after 30d in any case",
        "--yes",
    ]);
    assert_eq!(policy(&place), json!({}), "nothing was done");
    let out = place.run(&[&set[..], &["--yes"]].concat()).done().out;
    assert!(out.contains("The tenant acme has access tokens of 10m"), "{out}");
    assert_eq!(policy(&place), json!({ "access_lifetime": 600, "idle_lifetime": 86_400, "absolute_lifetime": 2_592_000 }));
    // The rest stays, also under another configuration.
    let place = place.set("TOKENS__IDLE_LIFETIME", "2d");
    let made = place.run(&["tenant", "set-policy", "acme", "--absolute-lifetime", "7d", "--yes", "--format", "json"]).done().json();
    assert_eq!(made["policy"], json!({ "access_lifetime": 600, "idle_lifetime": 86_400, "absolute_lifetime": 604_800 }));
    let again = place.run(&["tenant", "set-policy", "acme", "--absolute-lifetime", "7d", "--yes"]).done().out;
    assert!(again.contains("nothing was changed"), "{again}");
    place.run(&["tenant", "set-policy", "acme", "--clear"]).refused(&["the lifetimes of the configuration", "--yes"]);
    place.run(&["tenant", "set-policy", "acme", "--clear", "--yes"]).done();
    assert_eq!(policy(&place), json!({}));
    assert_eq!(place.sql("SELECT event FROM audit_events WHERE event = 'tenant.policy_changed'").len(), 3);
}

#[test]
fn lifetimes_that_do_not_fit_are_refused_by_their_flags() {
    let place = Place::new();
    place.tenant("acme");
    let set = |words: &[&str]| place.run(&[&["tenant", "set-policy", "acme", "--yes"], words].concat());
    set(&["--access-lifetime", "13h"]).refused(&["--access-lifetime", "at most 12h"]);
    set(&["--access-lifetime", "0s"]).refused(&["--access-lifetime", "longer than zero"]);
    set(&["--idle-lifetime", "20m"]).refused(&["--idle-lifetime", "300s"]);
    set(&["--absolute-lifetime", "6d"]).refused(&["--absolute-lifetime", "idle lifetime"]);
    assert_eq!(policy(&place), json!({}));
    for words in [
        &[][..],
        &["--access-lifetime", "600"],
        &["--access-lifetime", ""],
        &["--clear", "--idle-lifetime", "1d"],
        &["--idle-lifetime", "4000d"],
    ] {
        let ran = set(words);
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    place.run(&["tenant", "set-policy", "nobody", "--clear", "--yes"]).refused(&["no tenant", "doorward tenant list"]);
}

#[test]
fn what_the_configuration_cuts_short_is_told() {
    let place = Place::new();
    place.tenant("acme");
    let ran = place.run(&["tenant", "set-policy", "acme", "--access-lifetime", "2h", "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("tokens.max_access_lifetime is 1h"), "{ran:?}");
}

#[test]
fn a_policy_that_cannot_be_read_is_replaced_as_a_whole() {
    let place = Place::new();
    place.tenant("acme");
    place.sql_write("doorward.db", r#"UPDATE tenants SET policy = '{"access_lifetime": "5m", "later": 1}'"#);
    place.run(&["tenant", "set-policy", "acme", "--idle-lifetime", "1d", "--yes"]).refused(&["cannot be read", "all three", "--clear"]);
    place
        .run(&["tenant", "set-policy", "acme", "--access-lifetime", "5m", "--idle-lifetime", "1d", "--absolute-lifetime", "1d", "--yes"])
        .done();
    assert_eq!(policy(&place), json!({ "access_lifetime": 300, "idle_lifetime": 86_400, "absolute_lifetime": 86_400, "later": 1 }));
    place.sql_write("doorward.db", "UPDATE tenants SET policy = '[]'");
    place.run(&["tenant", "set-policy", "acme", "--clear", "--yes"]).done();
    assert_eq!(policy(&place), json!({}));
}
