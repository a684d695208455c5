//! A tenant's own lifetimes: what they hold for, what is refused, and what is never guessed.

use std::time::Duration;

use doorward::{
    domain::tenants::{
        self,
        policy::{self, Lifetimes},
    },
    error::Error,
    pb::v1,
    store::tenants::Tenant,
};
use serde_json::{Value, json};

use crate::{
    harness::*,
    on_both,
    probe::{Ask, grant, list_sessions, payload, refresh_asking, revoke_session},
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn lifetimes(access: u64, idle: u64, absolute: u64) -> Lifetimes {
    Lifetimes::new(Duration::from_secs(access), Duration::from_secs(idle), Duration::from_secs(absolute)).unwrap()
}

async fn set(world: &World, tenant: &Tenant, access: u64, idle: u64, absolute: u64) {
    assert!(policy::set(world.app(), tenant.id, Some(lifetimes(access, idle, absolute)), cli()).await.unwrap());
}

/// Puts a policy there past the service.
async fn write(world: &World, tenant: &Tenant, policy: &str) {
    let sql = format!("UPDATE tenants SET policy = '{policy}' WHERE slug = '{}'", tenant.slug);
    assert_eq!(world.sql().await.execute(&sql).await, 1);
}

async fn stored(world: &World, tenant: &Tenant) -> Value {
    tenants::resolve(world.app(), &tenant.slug).await.unwrap().policy
}

/// How long the access token lives by what it says.
fn access_seconds(tokens: &v1::TokenSet) -> i64 {
    let claims = payload(&tokens.access_token);
    let seconds = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(i64::from(tokens.expires_in), seconds);
    seconds
}

/// When a session ends without a refresh, and in any case, from now on.
async fn session_seconds(world: &World, tokens: &v1::TokenSet) -> (u64, u64) {
    let session = world.validate(&tokens.access_token).await.unwrap().session.unwrap();
    let from_now = |at: Option<prost_types::Timestamp>| u64::try_from(at.unwrap().seconds - world.clock.now().as_unix()).unwrap();
    (from_now(session.idle_expire_time), from_now(session.expire_time))
}

/// Ann, a member of acme and of globex.
async fn place(world: &World) -> (Tenant, Tenant) {
    let ann = world.person("ann@example.com").await;
    let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
    world.member(&acme, &ann, &["member"]).await;
    world.member(&globex, &ann, &["member"]).await;
    (acme, globex)
}

on_both! {
    async fn sessions_of_the_tenant_have_its_lifetimes_and_others_the_configurations(world: World) {
        let (acme, globex) = place(&world).await;
        set(&world, &acme, 5 * MINUTE, 2 * HOUR, DAY).await;
        let own = (300, (2 * HOUR, DAY));
        let bound = world.login_to("ann@example.com", &acme).await;
        let ask = Ask { tenant_id: "ext:crm-acme", ..Ask::default() };
        let granted = grant(&world, "ann@example.com", ask).await.unwrap();
        for tokens in [&bound, &granted] {
            assert_eq!((access_seconds(tokens), session_seconds(&world, tokens).await), own);
        }
        for tokens in [world.login("ann@example.com").await, world.login_to("ann@example.com", &globex).await] {
            assert_eq!((access_seconds(&tokens), session_seconds(&world, &tokens).await), (900, (7 * DAY, 30 * DAY)));
        }
        let changed = world.change_password(&bound.access_token, PASSWORD, "another good long password").await.unwrap();
        let changed = changed.tokens.unwrap();
        assert_eq!((access_seconds(&changed), session_seconds(&world, &changed).await), own);
        // The list has the ends that hold.
        let listed = list_sessions(&world, &changed.access_token, "").await.unwrap().sessions;
        assert_eq!(listed[0].expire_time.unwrap().seconds, world.clock.now().as_unix() + i64::try_from(DAY).unwrap());
    }

    async fn a_refresh_goes_by_the_policy_of_its_moment_and_never_beyond_the_absolute_end(world: World) {
        let (acme, _) = place(&world).await;
        set(&world, &acme, 5 * MINUTE, 2 * HOUR, DAY).await;
        let tokens = world.login_to("ann@example.com", &acme).await;
        world.pass(Duration::from_secs(HOUR));
        let tokens = world.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!((access_seconds(&tokens), session_seconds(&world, &tokens).await), (300, (2 * HOUR, 23 * HOUR)));
        // Other lifetimes: the absolute end stays, the rest is new.
        set(&world, &acme, 10 * MINUTE, 4 * HOUR, 40 * DAY).await;
        let tokens = world.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!((access_seconds(&tokens), session_seconds(&world, &tokens).await), (600, (4 * HOUR, 23 * HOUR)));
        assert!(policy::set(world.app(), acme.id, None, cli()).await.unwrap());
        let tokens = world.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!((access_seconds(&tokens), session_seconds(&world, &tokens).await), (900, (23 * HOUR, 23 * HOUR)));
        set(&world, &acme, 5 * MINUTE, 2 * HOUR, DAY).await;
        let tokens = world.refresh(&tokens.refresh_token).await.unwrap();
        world.pass(Duration::from_secs(2 * HOUR));
        assert_eq!(refused(world.refresh(&tokens.refresh_token).await), "SESSION_EXPIRED");
    }

    async fn an_access_token_lives_no_longer_than_verifiers_take_it_for_good(world: World) {
        let (acme, _) = place(&world).await;
        set(&world, &acme, 12 * HOUR, 2 * DAY, 3 * DAY).await;
        let tokens = world.login_to("ann@example.com", &acme).await;
        assert_eq!(access_seconds(&tokens), 3_600);
        world.pass(Duration::from_secs(HOUR - 1));
        world.validate(&tokens.access_token).await.unwrap();
        assert_eq!(access_seconds(&world.refresh(&tokens.refresh_token).await.unwrap()), 3_600);
        let world = world.restart_with(|config| config.tokens.max_access_lifetime = Duration::from_hours(12)).await;
        let tokens = world.login_to("ann@example.com", &acme).await;
        assert_eq!(access_seconds(&tokens), 12 * 3_600);
        world.validate(&tokens.access_token).await.unwrap();
    }

    async fn a_password_that_must_change_has_its_ten_minutes_everywhere(world: World) {
        let ann = world.new_person(Person { email: Some("ann@example.com"), must_change: true, ..Person::default() }).await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        set(&world, &acme, HOUR, DAY, 2 * DAY).await;
        let login = world.try_login("ann@example.com", PASSWORD, &acme.id.to_string()).await.unwrap();
        let (tokens, session) = (login.tokens.unwrap(), login.session.unwrap());
        assert_eq!((access_seconds(&tokens), session.expire_time.unwrap().seconds), (600, START + 600));
        let changed = world.change_password(&tokens.access_token, PASSWORD, "another good long password").await.unwrap();
        let changed = changed.tokens.unwrap();
        assert_eq!((access_seconds(&changed), session_seconds(&world, &changed).await), (3_600, (DAY, 2 * DAY)));
    }

    async fn a_policy_that_cannot_be_read_opens_nothing_and_uses_nothing_up(world: World) {
        let (acme, globex) = place(&world).await;
        let tokens = world.login_to("ann@example.com", &acme).await;
        let plain = world.login("ann@example.com").await;
        let sessions = world.sql().await.count("SELECT count(*) AS n FROM sessions").await;
        let whole = |access: Value| json!({ "access_lifetime": access, "idle_lifetime": 7_200, "absolute_lifetime": 86_400 });
        let bad = [
            json!([]), json!("x"), json!(null), json!({ "access_lifetime": 300 }),
            json!({ "idle_lifetime": 7_200, "absolute_lifetime": 86_400 }),
            whole(json!("5m")), whole(json!("300")), whole(json!(null)), whole(json!(300.5)), whole(json!(-300)), whole(json!(0)), whole(json!(true)),
            // What could not have been set.
            whole(json!(6_900)), whole(json!(12 * HOUR + 1)), whole(json!(u64::MAX)),
            json!({ "access_lifetime": 300, "idle_lifetime": 7_200, "absolute_lifetime": 7_199 }),
            json!({ "access_lifetime": 300, "idle_lifetime": 7_200, "absolute_lifetime": 3_651 * DAY }),
        ];
        for policy in bad {
            write(&world, &acme, &policy.to_string()).await;
            let tenant = tenants::resolve(world.app(), "acme").await.unwrap();
            let read = policy::of(&tenant);
            assert!(matches!(&read, Err(Error::Internal(cause)) if cause.contains(&acme.id.to_string())), "{policy}: {read:?}");
            assert_eq!(refused(world.try_login("ann@example.com", PASSWORD, &acme.id.to_string()).await), "INTERNAL", "{policy}");
            assert_eq!(refused(world.change_password(&tokens.access_token, PASSWORD, "another good long password").await), "INTERNAL", "{policy}");
            // Who asks about a token asks nothing of lifetimes.
            world.validate(&tokens.access_token).await.unwrap();
        }
        let count = world.sql().await.count("SELECT count(*) AS n FROM sessions").await;
        assert_eq!(count, sessions, "nothing was opened");
        world.login_to("ann@example.com", &globex).await;
        world.refresh(&plain.refresh_token).await.unwrap();
        // An operator mends it, and the session goes on.
        set(&world, &acme, 300, 7_200, 86_400).await;
        world.refresh(&tokens.refresh_token).await.unwrap();
    }

    async fn a_refresh_under_a_policy_that_cannot_be_read_can_be_repeated_once_it_is_mended(world: World) {
        let (acme, _) = place(&world).await;
        let (tokens, asking) = (world.login_to("ann@example.com", &acme).await, world.login_to("ann@example.com", &acme).await);
        write(&world, &acme, r#"{"access_lifetime": 300, "idle_lifetime": 7200}"#).await;
        for _ in 0..2 {
            assert_eq!(refused(world.refresh(&tokens.refresh_token).await), "INTERNAL");
            let ask = Ask { tenant_id: "ext:crm-acme", ..Ask::default() };
            assert_eq!(refused(refresh_asking(&world, &asking.refresh_token, ask).await), "INTERNAL");
        }
        write(&world, &acme, "{}").await;
        world.refresh(&tokens.refresh_token).await.unwrap();
        // One that asks for something is decided before the token is used up: no grace is needed to come back with it.
        world.pass(Duration::from_secs(31));
        world.refresh(&asking.refresh_token).await.unwrap();
    }

    async fn members_that_a_later_version_adds_are_kept(world: World) {
        let (acme, _) = place(&world).await;
        write(&world, &acme, r#"{"password_min_length": 20}"#).await;
        let tokens = world.login_to("ann@example.com", &acme).await;
        assert_eq!(access_seconds(&tokens), 900);
        set(&world, &acme, 300, 7_200, 86_400).await;
        let own = json!({ "password_min_length": 20, "access_lifetime": 300, "idle_lifetime": 7_200, "absolute_lifetime": 86_400 });
        assert_eq!(stored(&world, &acme).await, own);
        assert_eq!(access_seconds(&world.login_to("ann@example.com", &acme).await), 300);
        assert!(policy::set(world.app(), acme.id, None, cli()).await.unwrap());
        assert_eq!(stored(&world, &acme).await, json!({ "password_min_length": 20 }));
    }

    async fn a_change_is_one_event_with_the_numbers_of_before_and_after(world: World) {
        let (acme, globex) = place(&world).await;
        let tokens = world.login_to("ann@example.com", &acme).await;
        set(&world, &acme, 300, 7_200, 86_400).await;
        assert!(!policy::set(world.app(), acme.id, Some(lifetimes(300, 7_200, 86_400)), cli()).await.unwrap());
        set(&world, &acme, 600, 7_200, 86_400).await;
        assert!(policy::set(world.app(), acme.id, None, cli()).await.unwrap());
        assert!(!policy::set(world.app(), acme.id, None, cli()).await.unwrap());
        let numbers = |access| json!({ "access_lifetime": access, "idle_lifetime": 7_200, "absolute_lifetime": 86_400 });
        let query = "SELECT details FROM audit_events WHERE event = 'tenant.policy_changed' AND actor_id = 'cli:test' ORDER BY details";
        let rows = world.sql().await.query(&query.replace("ORDER BY details", "")).await;
        let mut told: Vec<Value> = rows.iter().map(|row| row.try_get("", "details").unwrap()).collect();
        let expected =
            [(Value::Null, numbers(300)), (numbers(300), numbers(600)), (numbers(600), Value::Null)].map(|(old, new)| json!({ "old": old, "new": new }));
        told.sort_by_key(|details| expected.iter().position(|expected| expected == details));
        assert_eq!(told, expected);
        // Nobody is put out by it, and no other tenant has it.
        world.validate(&tokens.access_token).await.unwrap();
        assert_eq!(stored(&world, &globex).await, json!({}));
        world.sql().await.execute("UPDATE tenants SET state = 'deleted' WHERE slug = 'acme'").await;
        let refused = policy::set(world.app(), acme.id, Some(lifetimes(300, 7_200, 86_400)), cli()).await;
        assert!(matches!(refused, Err(Error::NotFound("tenant"))), "{refused:?}");
    }

    async fn a_policy_gives_no_way_around_the_limits_of_ending(world: World) {
        let (acme, _) = place(&world).await;
        set(&world, &acme, 300, 7_200, 86_400).await;
        let (asking, bound) = (world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await);
        let id = payload(&bound.access_token)["sid"].as_str().unwrap().to_owned();
        revoke_session(&world, &asking.access_token, &id).await.unwrap();
        assert_eq!(refused(world.refresh(&bound.refresh_token).await), "SESSION_REVOKED");
    }
}

#[test]
fn lifetimes_that_do_not_fit_together_are_none() {
    let new =
        |access, idle, absolute| Lifetimes::new(Duration::from_secs(access), Duration::from_secs(idle), Duration::from_secs(absolute));
    for (access, idle, absolute) in [(1, 302, 302), (900, 1_201, 1_201), (12 * HOUR, 12 * HOUR + 301, DAY), (900, 3_650 * DAY, 3_650 * DAY)]
    {
        let own = new(access, idle, absolute).unwrap();
        assert_eq!([own.access(), own.idle(), own.absolute()], [access, idle, absolute].map(Duration::from_secs));
    }
    for (access, idle, absolute, field) in [
        (0, 7_200, 7_200, "access_lifetime"),
        (12 * HOUR + 1, 2 * DAY, 2 * DAY, "access_lifetime"),
        (u64::MAX, u64::MAX, u64::MAX, "access_lifetime"),
        (900, 0, 7_200, "idle_lifetime"),
        (900, 1_200, 7_200, "idle_lifetime"),
        (900, 7_200, 7_199, "absolute_lifetime"),
        (900, 7_200, 0, "absolute_lifetime"),
        (900, 7_200, 3_650 * DAY + 1, "absolute_lifetime"),
    ] {
        let Err(Error::InvalidField(violations)) = new(access, idle, absolute) else { panic!("{access} {idle} {absolute}") };
        assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field], "{access} {idle} {absolute}");
    }
}
