//! `doorward service-account`.

use std::os::unix::fs::MetadataExt as _;

use super::*;

/// Makes an account and answers the JSON of it.
fn account(place: &Place, name: &str, words: &[&str]) -> Value {
    place.run(&[&["service-account", "create", "--name", name, "--format", "json"], words].concat()).done().json()
}

fn shown(place: &Place, words: &[&str]) -> Value {
    place.run(&[&["service-account", "show", "--format", "json"], words].concat()).done().json()
}

fn names(json: &Value) -> Vec<String> {
    json["service_accounts"].as_array().unwrap().iter().map(|account| text(account, "name").to_owned()).collect()
}

/// A tenant with a role of its own.
fn place() -> Place {
    let place = Place::new();
    place.tenant("acme");
    place.run(&["role", "create", "--tenant", "acme", "--name", "sales", "--level", "10", "--permission", "sales:write"]).done();
    place
}

#[test]
fn an_account_is_made_with_a_secret_that_is_shown_once() {
    let place = place();
    let made = account(&place, "shop", &["--permission", "doorward.audit:read", "doorward.deliveries:read", "--certificate", "urn:x:a"]);
    let keys: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let proto =
        ["certificate_names", "client_secret", "create_time", "id", "name", "permissions", "roles", "secrets", "state", "tenant_id"];
    assert_eq!(keys, proto, "the names are those of the proto");
    assert_eq!(made["tenant_id"], Value::Null);
    assert_eq!(made["permissions"], serde_json::json!(["doorward.audit:read", "doorward.deliveries:read"]));
    assert_eq!(made["certificate_names"], serde_json::json!(["urn:x:a"]));
    let secret = text(&made, "client_secret");
    assert!(secret.starts_with("dw_cs_") && secret.len() == 97, "{secret}");

    let again = shown(&place, &["shop"]);
    assert!(again.get("client_secret").is_none());
    assert_eq!(again["secrets"], made["secrets"]);
    assert_eq!(again["secrets"][0]["expire_time"], Value::Null);
    let out = place.run(&["service-account", "show", text(&made, "id")]).done().out;
    for part in ["shop", "instance-wide", "active", "doorward.audit:read", "urn:x:a", "does not expire, never used"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }

    let robot = account(&place, "robot", &["--tenant", "acme", "--role", "sales", "--role", "member", "--lifetime", "90d"]);
    let roles: Vec<&str> = robot["roles"].as_array().unwrap().iter().map(|role| text(role, "name")).collect();
    assert_eq!(roles, ["member", "sales"]);
    assert!(robot["secrets"][0]["expire_time"].is_string());
    let text_out = place.run(&["service-account", "create", "--name", "mailer"]).done().out;
    assert!(
        text_out.contains("Created the instance-wide service account mailer") && text_out.contains("shown this once: dw_cs_"),
        "{text_out}"
    );
    let bare = account(&place, "bare", &["--no-secret"]);
    assert!(bare.get("client_secret").is_none() && bare["secrets"].as_array().unwrap().is_empty());
    assert_eq!(place.sql("SELECT event FROM audit_events WHERE event LIKE 'service_account.%'"), ["service_account.created"; 4]);
}

#[test]
fn accounts_are_listed_where_they_belong() {
    let place = place();
    place.tenant("beta");
    account(&place, "shop", &[]);
    account(&place, "robot", &["--tenant", "acme", "--role", "sales"]);
    let list = |words: &[&str]| place.run(&[&["service-account", "list"], words].concat()).done();
    assert_eq!(names(&list(&["--format", "json"]).json()), ["shop"]);
    assert_eq!(names(&list(&["--tenant", "acme", "--format", "json"]).json()), ["robot"]);
    assert_eq!(list(&["--tenant", "beta"]).out, "There are no service_accounts.\n".replace('_', " "));
    let out = list(&["--tenant", "acme"]).out;
    assert!(out.starts_with("ID") && out.contains("ROLES") && out.contains("sales"), "{out}");
    place.run(&["service-account", "show", "robot"]).refused(&["no service account", "`doorward service-account list`", "--tenant"]);
    place.run(&["service-account", "show", "shop", "--tenant", "acme"]).refused(&["`doorward service-account list --tenant acme`"]);
    place.run(&["service-account", "list", "--tenant", "nobody"]).refused(&["no tenant"]);
}

#[test]
fn of_several_with_one_name_none_is_meant() {
    let place = place();
    let (one, other) = (account(&place, "shop", &[]), account(&place, "shop", &[]));
    account(&place, "shop", &["--tenant", "acme"]);
    let disable = ["service-account", "disable", "shop", "--yes"];
    place.run(&disable).refused(&["several service accounts have this name", text(&one, "id"), text(&other, "id")]);
    place.run(&["service-account", "delete", text(&one, "id"), "--yes"]).done();
    place.run(&disable).done();
    assert_eq!(shown(&place, &[text(&other, "id")])["state"], "disabled");
    assert_eq!(shown(&place, &["shop", "--tenant", "acme"])["state"], "active");
}

#[test]
fn what_ends_something_asks_first() {
    let place = place();
    let made = account(&place, "shop", &["--certificate", "urn:x:a"]);
    let secret = text(&made["secrets"][0], "id");
    for (words, said) in [
        (&["disable", "shop"][..], "this shuts out the instance-wide service account shop"),
        (&["delete", "shop"], "this deletes the instance-wide service account shop for good"),
        (&["remove-secret", "shop", secret], "this removes the secret"),
        (&["remove-secret", "shop", secret, "--revoke-tokens"], "ends every token"),
        (&["remove-certificate", "shop", "urn:x:a"], "this takes the certificate name urn:x:a"),
    ] {
        place.run(&[&["service-account"], words].concat()).refused(&[said, "--yes"]);
    }
    assert_eq!(shown(&place, &["shop"])["secrets"].as_array().unwrap().len(), 1);
    for (words, said) in [
        (&["disable", "shop", "--yes"][..], "The instance-wide service account shop is disabled."),
        (&["disable", "shop", "--yes"], "is disabled."),
        (&["enable", "shop"], "is active."),
        (&["enable", "shop", "--yes"], "is active."),
        (&["remove-secret", "shop", secret, "--revoke-tokens", "--yes"], "Removed the secret"),
        (&["remove-certificate", "shop", "urn:x:a", "--yes"], "no longer stands for"),
        (&["delete", "shop", "--yes"], "is deleted."),
    ] {
        let out = place.run(&[&["service-account"], words].concat()).done().out;
        assert!(out.contains(said), "{said} is not in {out}");
    }
    place.run(&["service-account", "show", text(&made, "id")]).refused(&["no service account"]);
    let events = place.sql("SELECT event FROM audit_events WHERE event LIKE 'service_account.%' ORDER BY id");
    let expected = ["created", "disabled", "enabled", "secret_removed", "certificate_removed", "deleted"];
    assert_eq!(events, expected.map(|what| format!("service_account.{what}")));
}

#[test]
fn secrets_follow_one_another_and_are_five_at_most() {
    let place = place();
    let made = account(&place, "shop", &[]);
    let more = ["service-account", "add-secret", "shop", "--lifetime", "7d"];
    let out = place.run(&more).done().out;
    assert!(out.contains("Added the secret") && out.contains("shown this once: dw_cs_"), "{out}");
    let json = place.run(&[&more[..], &["--format", "json"]].concat()).done().json();
    assert_ne!(json["client_secret"], made["client_secret"]);
    assert_eq!(json["secrets"].as_array().unwrap().len(), 3);
    for _ in 0..2 {
        place.run(&more).done();
    }
    place.run(&more).refused(&["the service account: has 5 secrets already: remove one first"]);
    let strange = "01980f2e-7c1b-7f00-8000-0123456789ab";
    let remove = ["service-account", "remove-secret", "shop", strange, "--yes"];
    place.run(&remove).refused(&["no secret of this id", &format!("doorward service-account show {}", text(&made, "id"))]);
    for words in [&["remove-secret", "shop", "7", "--yes"][..], &["add-secret", "shop", "--lifetime", "7"], &["add-secret"]] {
        assert_eq!(place.run(&[&["service-account"], words].concat()).code, 2, "{words:?}");
    }
    place.run(&["service-account", "add-secret", "shop", "--lifetime", "0s"]).refused(&["--lifetime: must be in the future"]);
}

#[test]
fn a_secret_goes_to_a_new_file_for_its_owner_alone() {
    let place = place();
    let made = account(&place, "shop", &["--secret-file", "shop.secret"]);
    assert!(made.get("client_secret").is_none());
    let found = fs::metadata(place.file("shop.secret")).unwrap();
    assert_eq!((found.permissions().mode() & 0o777, found.size()), (0o600, 97));
    let first = fs::read_to_string(place.file("shop.secret")).unwrap();
    let again = ["service-account", "add-secret", "shop", "--secret-file", "shop.secret"];
    place.run(&again).refused(&["shop.secret is there already"]);
    assert_eq!(shown(&place, &["shop"])["secrets"].as_array().unwrap().len(), 1, "before anything is stored");
    place.run(&["service-account", "add-secret", "shop", "--secret-file", "absent/shop.secret"]).refused(&["cannot be made"]);
    let out = place.run(&["service-account", "add-secret", "shop", "--secret-file", "next.secret"]).done().out;
    assert!(out.contains("Its secret is in next.secret") && !out.contains("dw_cs_"), "{out}");
    assert_ne!(fs::read_to_string(place.file("next.secret")).unwrap(), first);
    // What is refused leaves no file.
    let refused = ["service-account", "create", "--name", "x", "--role", "sales", "--secret-file", "x.secret"];
    place.run(&refused).refused(&["--role: must be empty for an instance-wide account"]);
    assert!(!place.file("x.secret").exists());
    let both = ["service-account", "create", "--name", "x", "--no-secret", "--secret-file", "x.secret"];
    assert_eq!(place.run(&both).code, 2);
}

#[test]
fn a_certificate_name_is_one_account_s_and_the_operator_hears_whose() {
    let place = place();
    let shop = account(&place, "shop", &["--certificate", "spiffe://example.org/shop"]);
    account(&place, "robot", &["--tenant", "acme"]);
    let add = |account: &str, words: &[&str]| place.run(&[&["service-account", "add-certificate", account], words].concat());
    let whose = ["the certificate name spiffe://example.org/shop stands for the service account shop", text(&shop, "id")];
    add("robot", &["spiffe://example.org/shop", "--tenant", "acme"]).refused(&whose);
    let create = ["service-account", "create", "--name", "web", "--certificate", "urn:x:a", "--certificate", "spiffe://example.org/shop"];
    place.run(&create).refused(&whose);
    // An operator names one for a tenant's account too, and twice is once.
    for _ in 0..2 {
        add("robot", &["dns:robot.example.org", "--tenant", "acme"]).done();
    }
    let json = add("robot", &["urn:x:a", "--tenant", "acme", "--format", "json"]).done().json();
    assert_eq!(json["certificate_names"], serde_json::json!(["dns:robot.example.org", "urn:x:a"]));
    add("shop", &["shop.example.org"])
        .refused(&["the certificate name: must be a URI as it stands in the certificate, or dns: and a name"]);
    add("shop", &["dns:Shop.example.org"]).refused(&["in lower case"]);
    let remove = ["service-account", "remove-certificate", "shop", "urn:x:a", "--yes"];
    place.run(&remove).refused(&["does not stand for the service account"]);
    let query = "SELECT count(*) || '' FROM audit_events WHERE event = 'service_account.certificate_added'";
    assert_eq!(place.sql(query), ["2"]);
}

#[test]
fn what_an_account_may_not_have_is_told_by_its_flag() {
    let place = place();
    let create = |words: &[&str]| place.run(&[&["service-account", "create", "--name", "x"], words].concat());
    create(&["--permission", "sales:write"]).refused(&["--permission: must be for a resource that begins with doorward."]);
    create(&["--permission", "*:*"]).refused(&["--permission: "]);
    create(&["--tenant", "acme", "--permission", "doorward.audit:read"])
        .refused(&["--permission: must be empty for an account of a tenant"]);
    create(&["--tenant", "acme", "--role", "chief"]).refused(&["the tenant has no role of this name", "doorward role list --tenant acme"]);
    place.run(&["service-account", "create", "--name", " "]).refused(&["--name: must not be empty"]);
    assert_eq!(place.run(&["service-account", "create"]).code, 2);
    assert_eq!(place.sql("SELECT name FROM service_accounts"), Vec::<String>::new());
}
