//! Invariant 15 without legacy hashes: nobody learns from a refusal why it is one, not from its bytes, its work or its traces.

use super::{DOORS, Door, Seen, attempt, audit_rows, snapshot, strings};
use crate::{harness::*, on_both};
use doorward::{domain::users::set_state, store::users::UserState};

/// Who tries to log in, and whether [`PASSWORD`] is refused for them too.
struct Case {
    name: &'static str,
    identifier: &'static str,
    /// To the tenant that they are no member of.
    foreign: bool,
    right_is_refused: bool,
}

const fn case(name: &'static str, identifier: &'static str) -> Case {
    Case { name, identifier, foreign: false, right_is_refused: true }
}

const CASES: [Case; 12] = [
    case("unknown e-mail address", "nobody@example.com"),
    case("unknown user name", "nobody"),
    Case { right_is_refused: false, ..case("wrong password", "ann@example.com") },
    Case { right_is_refused: false, ..case("wrong password of a user name", "ann") },
    case("disabled", "disabled@example.com"),
    case("deleted", "deleted@example.com"),
    case("no password", "nopassword@example.com"),
    case("reset required", "reset@example.com"),
    Case { right_is_refused: false, foreign: true, ..case("member of another tenant", "foreign@example.com") },
    case("malformed stored hash", "malformed@example.com"),
    case("unknown scheme", "scheme@example.com"),
    case("unknown word for the user's state", "frozen@example.com"),
];

/// Wrong passwords of every length that matters, and the right one.
fn passwords() -> Vec<(&'static str, String)> {
    vec![
        ("empty", String::new()),
        ("1 byte", "x".to_owned()),
        ("14", "x".repeat(14)),
        ("15", "x".repeat(15)),
        ("73", "x".repeat(73)),
        ("the limit", "x".repeat(1024)),
        ("the limit and one", "x".repeat(1025)),
        ("far over the limit", "x".repeat(60_000)),
        ("with NUL", "correct horse\0battery staple".to_owned()),
        ("right", PASSWORD.to_owned()),
    ]
}

/// One person for each case.
async fn populate(world: &World, sql: &Sql) {
    world.new_person(Person { email: Some("ann@example.com"), username: Some("ann"), ..Person::default() }).await;
    let disabled = world.person("disabled@example.com").await;
    set_state(world.app(), &disabled, UserState::Disabled, cli()).await.unwrap();
    let deleted = world.person("deleted@example.com").await;
    set_state(world.app(), &deleted, UserState::Deleted, cli()).await.unwrap();
    world.new_person(Person { email: Some("nopassword@example.com"), password: None, ..Person::default() }).await;
    let foreign = world.person("foreign@example.com").await;
    world.member(&world.tenant("theirs").await, &foreign, &[]).await;
    for name in ["reset", "malformed", "scheme", "frozen"] {
        world.person(&format!("{name}@example.com")).await;
    }
    let of = |name: &str| format!("WHERE user_id = (SELECT id FROM users WHERE email_canonical = '{name}@example.com')");
    for statement in [
        format!("UPDATE password_credentials SET reset_required = TRUE {}", of("reset")),
        format!("UPDATE password_credentials SET hash = '$argon2id$v=19$m=64,t=1,p=1$!' {}", of("malformed")),
        format!("UPDATE password_credentials SET scheme = 'rot13' {}", of("scheme")),
        "UPDATE users SET state = 'frozen' WHERE email_canonical = 'frozen@example.com'".to_owned(),
    ] {
        assert_eq!(sql.execute(&statement).await, 1, "{statement}");
    }
}

/// Does an attempt that must be refused, and answers what was seen of it: one hash was done, one event was stored, and no more.
async fn refused_attempt(world: &World, sql: &Sql, door: Door, identifier: &str, password: &str, tenant: &str) -> Seen {
    let failed = "SELECT count(*) AS n FROM audit_events WHERE event = 'login.failed' AND outcome = 'failure' \
                  AND reason = 'INVALID_CREDENTIALS' AND session_id IS NULL";
    let (hashes, events, failures) = (world.app().hasher.hashes(), audit_rows(sql).await, sql.count(failed).await);
    let seen = attempt(world, door, identifier, password, tenant).await;
    let context = format!("{door:?}, {} bytes of identifier, {} of password", identifier.len(), password.len());
    assert_eq!(seen.reason(), "INVALID_CREDENTIALS", "{context}");
    assert_eq!(world.app().hasher.hashes() - hashes, 1, "one hash: {context}");
    assert_eq!((audit_rows(sql).await - events, sql.count(failed).await - failures), (1, 1), "one event: {context}");
    seen
}

on_both! {
    async fn no_refusal_tells_why(world: World) {
        let sql = world.sql().await;
        populate(&world, &sql).await;
        let acme = world.tenant("acme").await.id.to_string();
        let before = snapshot(&world, &sql).await;

        let mut first = None;
        for door in DOORS {
            for case in &CASES {
                for (length, password) in passwords().iter().filter(|(length, _)| *length != "right" || case.right_is_refused) {
                    let tenant = if case.foreign { acme.as_str() } else { "" };
                    let seen = refused_attempt(&world, &sql, door, case.identifier, password, tenant).await;
                    let first = first.get_or_insert_with(|| format!("{seen:?}"));
                    assert_eq!(format!("{seen:?}"), *first, "{door:?}, {}, {length}", case.name);
                }
                assert_eq!(snapshot(&world, &sql).await, before, "{door:?}, {}: something else was written", case.name);
            }
        }
    }

    async fn the_right_password_of_a_good_person_logs_in(world: World) {
        // What the test above cannot show: its people are refused for what was done to them, and not anyway.
        let sql = world.sql().await;
        populate(&world, &sql).await;
        let hashes = world.app().hasher.hashes();
        for identifier in ["ann@example.com", "ann", "foreign@example.com"] {
            world.login(identifier).await;
        }
        assert_eq!(world.app().hasher.hashes() - hashes, 3, "a good login costs one hash too");
        let undo = "UPDATE password_credentials SET reset_required = FALSE, scheme = 'argon2id'";
        sql.execute(undo).await;
        sql.execute("UPDATE users SET state = 'active' WHERE state IN ('frozen', 'disabled')").await;
        for name in ["disabled", "reset", "scheme", "frozen"] {
            world.login(&format!("{name}@example.com")).await;
        }
    }

    async fn an_identifier_that_nobody_can_have_is_an_unknown_one(world: World) {
        let sql = world.sql().await;
        world.new_person(Person { email: Some("ann@example.com"), username: Some("ann"), ..Person::default() }).await;
        let long = ["a".repeat(64), "a".repeat(65), "a".repeat(5_000), format!("{}@example.com", "a".repeat(65))];
        let mut identifiers = vec![
            "", " ", "\0", "@", "ann@", "@example.com", "ann@@example.com", "ann@exa mple.com", "ann@[127.0.0.1]", "\"ann\"@example.com",
            " ann", "ann ", "ann\n", "ann\0", "\0ann", "ann\u{202e}", "ann\u{200b}", "a\u{fe6b}example.com",
            " ann@example.com", "ann@example.com ", "ann@example.com\r\n", "ann\0@example.com", "ann@example.com\0", "ann@example.com.",
            "Ann <ann@example.com>", "ann@example.com,bob@example.com", "ann' OR '1'='1", "%", "ann%",
        ];
        identifiers.extend(long.iter().map(String::as_str));
        let before = snapshot(&world, &sql).await;
        let unknown = attempt(&world, Door::Login, "nobody@example.com", PASSWORD, "").await;
        for door in DOORS {
            for identifier in &identifiers {
                let seen = refused_attempt(&world, &sql, door, identifier, PASSWORD, "").await;
                assert_eq!(seen, unknown, "{door:?}, {identifier:?}");
            }
        }
        assert_eq!(snapshot(&world, &sql).await, before);
    }

    async fn the_trail_keeps_nothing_that_a_stranger_typed(world: World) {
        // People type passwords into the field beside.
        let typed = "Hunter2-hunter2-Hunter2";
        let sql = world.sql().await;
        for identifier in [typed, &typed.to_uppercase(), "somebody else"] {
            attempt(&world, Door::Login, identifier, typed, "").await;
        }
        let actors = strings(&sql, "SELECT actor_id AS c FROM audit_events WHERE actor_kind = 'anonymous' ORDER BY id").await;
        assert_eq!(actors.len(), 3);
        let one: std::collections::HashSet<_> = actors.iter().collect();
        assert_eq!(one.len(), 2, "all spellings of an unknown name are one stranger: {actors:?}");
        assert!(actors.iter().all(|actor| actor.len() == 64 && !actor.to_lowercase().contains("hunter")));
        let all = strings(&sql, "SELECT CAST(details AS TEXT) || coalesce(object_id, '') AS c FROM audit_events").await.concat();
        assert!(!all.to_lowercase().contains("hunter"));
    }
}
