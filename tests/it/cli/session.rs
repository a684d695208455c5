//! `doorward session`.

use super::*;

/// A session as a login would have opened it, put there past the service.
fn open_session(place: &Place, id: &str, user: &Value, tenant: Option<&Value>) {
    let blob = |value: &Value| format!("X'{}'", text(value, "id").replace('-', ""));
    let (tenant, epoch) = tenant.map_or(("NULL".to_owned(), "NULL"), |tenant| (blob(tenant), "0"));
    let now = std::process::Command::new("date").arg("+%s").output().unwrap();
    let now: i64 = String::from_utf8(now.stdout).unwrap().trim().parse().unwrap();
    place.sql_write(
        "doorward.db",
        &format!(
            "INSERT INTO sessions (id, user_id, tenant_id, client_id, scope, amr, instance_epoch, user_epoch, tenant_epoch, membership_epoch, \
             must_change, created_at, last_seen_at, idle_expires_at, expires_at, device_name, ip_address, refresh_generation, rotated_at) \
             VALUES (X'{}', {}, {tenant}, 'shop', '', 'pwd', 0, 0, {epoch}, {epoch}, 0, {now}, {now}, {now} + 999, {now} + 9999, \
             'Ann''s phone', '192.0.2.7', 0, {now})",
            id.replace('-', ""),
            blob(user)
        ),
    );
}

const FIRST: &str = "01980f2e-7c1b-7f00-8000-000000000001";
const SECOND: &str = "01980f2e-7c1b-7f00-8000-000000000002";

/// Ann is a member of acme, and has a session there and one of no tenant.
fn place() -> Place {
    let place = Place::new();
    let (ann, acme) = (place.user("ann@example.com"), place.tenant("acme"));
    place.run(&["member", "add", "--tenant", "acme", "--user", "ann@example.com"]).done();
    open_session(&place, FIRST, &ann, None);
    open_session(&place, SECOND, &ann, Some(&acme));
    place
}

fn listed(place: &Place, words: &[&str]) -> Vec<String> {
    let json = place.run(&[&["session", "list", "--format", "json"], words].concat()).done().json();
    let sessions = json["sessions"].as_array().unwrap().clone();
    sessions.iter().map(|session| format!("{} {}", text(session, "id"), text(session, "state"))).collect()
}

#[test]
fn sessions_are_listed_by_user_and_by_tenant() {
    let place = place();
    let both = [format!("{FIRST} active"), format!("{SECOND} active")];
    assert_eq!(listed(&place, &["--user", "ANN@example.com"]), both);
    assert_eq!(listed(&place, &["--tenant", "acme"]), both[1..]);
    let out = place.run(&["session", "list", "--tenant", "acme"]).done().out;
    for part in ["ID", "LAST SEEN", SECOND, "ann@example.com", "acme", "shop", "active", "Ann's phone 192.0.2.7"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    let json = place.run(&["session", "list", "--tenant", "acme", "--format", "json"]).done().json();
    let session = &json["sessions"][0];
    assert_eq!((text(session, "user"), text(session, "tenant"), text(session, "ip_address")), ("ann@example.com", "acme", "192.0.2.7"));
    place.run(&["session", "list", "--user", "nobody"]).refused(&["no user", "doorward user list"]);
    assert_eq!(listed(&place, &["--user", "ann@example.com", "--tenant", "acme"]), both[1..]);
    for words in [&["session", "list"][..], &["session", "list", "--user"]] {
        assert_eq!(place.run(words).code, 2, "{words:?}");
    }
}

#[test]
fn one_session_is_ended_and_ending_it_again_changes_nothing() {
    let place = place();
    place.run(&["session", "revoke", FIRST]).refused(&["this ends the session", FIRST, "ann@example.com", "--yes"]);
    assert!(place.run(&["session", "revoke", FIRST, "--yes"]).done().out.contains("its tokens are refused, by running servers within 1s."));
    assert!(place.run(&["session", "revoke", FIRST]).done().out.contains("nothing was changed"));
    assert_eq!(listed(&place, &["--user", "ann@example.com"]), [format!("{SECOND} active")]);
    assert_eq!(listed(&place, &["--user", "ann@example.com", "--all"]), [format!("{FIRST} revoked"), format!("{SECOND} active")]);
    assert_eq!(place.sql("SELECT details FROM audit_events WHERE event = 'session.revoked'"), ["{\"cause\":\"operator\"}"]);
    place.run(&["session", "revoke", "01980f2e-7c1b-7f00-8000-000000000009", "--yes"]).refused(&["no session", "doorward session list"]);
    assert_eq!(place.run(&["session", "revoke", "7", "--yes"]).code, 2);
}

#[test]
fn all_are_ended_at_once_after_it_was_said_how_many() {
    for (words, owner, count, event) in [
        (&["--user", "ann@example.com"][..], "of the user ann@example.com", 2, "user.sessions_revoked"),
        (&["--tenant", "acme"], "of the tenant acme", 1, "tenant.sessions_revoked"),
        (&["--everything"], "of everybody", 2, "instance.sessions_revoked"),
        (
            &["--user", "ann@example.com", "--tenant", "acme"],
            "of the user ann@example.com in the tenant acme",
            1,
            "member.sessions_revoked",
        ),
    ] {
        let place = place();
        let revoke = [&["session", "revoke"], words].concat();
        place.run(&revoke).refused(&[&format!("this ends every session {owner}: {count} now"), "--yes"]);
        assert_eq!(listed(&place, &["--user", "ann@example.com"]).len(), 2, "nothing was done");
        let json = place.run(&[&revoke[..], &["--yes", "--format", "json"]].concat()).done().json();
        assert_eq!(json["revoked_sessions"], count);
        assert_eq!(listed(&place, &["--user", "ann@example.com"]).len(), 2 - count);
        let out = place.run(&[&revoke[..], &["--yes"]].concat()).done().out;
        assert!(
            out.contains(owner)
                && out.contains("(0 sessions)")
                && out.contains("refused, by running servers within 1s. New logins are good."),
            "{out}"
        );
        let details = place.sql(&format!("SELECT details FROM audit_events WHERE event = '{event}' ORDER BY id"));
        let found: Vec<Value> = details.iter().map(|details| serde_json::from_str(details).unwrap()).collect();
        assert_eq!(found.iter().map(|details| details["sessions"].as_u64().unwrap()).collect::<Vec<_>>(), [count as u64, 0]);
    }
    for words in [
        &[][..],
        &["--everything", "--user", "ann"],
        &["--everything", "--tenant", "acme"],
        &["--everything", "--user", "ann", "--tenant", "acme"],
        &[FIRST, "--everything"],
        &[FIRST, "--user", "ann"],
        &[FIRST, "--tenant", "acme"],
        &[FIRST, "--user", "ann", "--tenant", "acme"],
    ] {
        let ran = Place::new().run(&[&["session", "revoke", "--yes"], words].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
    }
}
