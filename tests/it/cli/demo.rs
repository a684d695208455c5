//! `doorward demo`.

use super::*;

#[test]
fn a_fresh_folder_gets_a_demo_with_a_password_that_is_shown_once() {
    let place = Place::new().set("server.grpc_addr", "127.0.0.1:6001");
    let out = place.run(&["demo"]).done().out;
    let (_, rest) = out.split_once("shown only now: ").unwrap();
    let password = rest.lines().next().unwrap();
    assert!(password.len() >= 20, "{password}");
    let line = out.lines().find(|line| line.contains("grpcurl")).unwrap();
    for part in ["sam@acme.example", password, "127.0.0.1:6001 doorward.v1.AuthService/Login"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!(place.users().len(), 5);
    let shown = place.run(&["user", "show", "sam", "--format", "json"]).done().json();
    assert_eq!(shown["must_change"], false);
    let others = Place::new().run(&["demo"]).done().out;
    assert!(!others.contains(password), "no two have the same");
}

#[test]
fn json_has_ids_names_and_the_password_that_was_made() {
    let place = Place::new();
    let json = place.run(&["demo", "--format", "json"]).done().json();
    assert!(text(&json, "password").len() >= 20);
    assert_eq!(json["users"].as_array().unwrap(), &place.users());
    assert_eq!(text(&json["tenants"][0], "slug"), "acme");
    let memberships = json["memberships"].as_array().unwrap();
    let states: Vec<&str> = memberships.iter().map(|membership| text(membership, "membership_state")).collect();
    assert_eq!((memberships.len(), states.iter().filter(|state| **state == "suspended").count()), (6, 1));

    let place = Place::new();
    let json = place.run_with(&["demo", "--format", "json", "--password-stdin"], PASSWORD.as_bytes()).done().json();
    assert_eq!(json.get("password"), None, "a given one is not repeated");
    let out = Place::new().run_with(&["demo", "--password-stdin"], PASSWORD.as_bytes()).done().out;
    assert!(!out.contains(PASSWORD), "{out}");
}

#[test]
fn a_database_with_somebody_in_it_is_refused() {
    let place = Place::new();
    place.user("ann@example.com");
    place.run(&["demo"]).refused(&["has users or tenants", "nothing was changed", "sqlite://demo.db"]);
    assert_eq!(place.users().len(), 1);
    assert_eq!(place.sql("SELECT event FROM audit_events WHERE actor_kind <> 'system'"), ["user.created"]);
    let fresh = Place::new();
    fresh.run_with(&["demo", "--password-stdin"], b"short").refused(&["at least 15 characters"]);
    assert_eq!(fresh.users(), Vec::<Value>::new());
}
