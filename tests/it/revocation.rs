//! Sessions ended by operators: what dies, what lives, at once and on every replica, and what the list says of it.

use std::time::{Duration, Instant};

use doorward::{
    domain::{
        access::{self, Accepts, Principal},
        audit::Origin,
        memberships,
        memory::Freshness,
        password_change::{self, Change},
        revocation::{self, SessionState},
        tenants,
    },
    error::Error,
    pb::v1,
    store::{
        facts::{About, Whose},
        sessions::Device,
        tenants::Tenant,
        users::{User, UserState},
    },
    values::{ids::SessionId, secret::Password},
};

use crate::{harness::*, on_both};

/// Both tokens of a login are refused, on every replica, for the reason of a session that was ended.
async fn assert_dead(replicas: &[&Replica], tokens: &v1::TokenSet) {
    for replica in replicas {
        let request = crate::start::validate_request(&tokens.access_token);
        assert_eq!(refused(replica.client().validate_session(request).await), "SESSION_REVOKED");
        let message = bearer(v1::GetMeRequest {}, &tokens.access_token);
        assert_eq!(refused(replica.client().get_me(message).await), "SESSION_REVOKED");
        assert_eq!(refused(refresh_with(&mut replica.client(), &tokens.refresh_token).await), "SESSION_REVOKED");
    }
}

async fn assert_live(world: &World, tokens: &v1::TokenSet) {
    world.validate(&tokens.access_token).await.unwrap();
}

/// The id of the session of a token.
async fn session_of(world: &World, tokens: &v1::TokenSet) -> SessionId {
    world.validate(&tokens.access_token).await.unwrap().session.unwrap().id.parse().unwrap()
}

on_both! {
    async fn a_users_sessions_end_everywhere_at_once_and_nobody_elses(world: World) {
        let other = world.another_replica().await;
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.person("bob@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        let (plain, bound) = (world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await);
        let bobs = world.login("bob@example.com").await;

        assert_eq!(revocation::count(world.app(), Whose::User(ann.id)).await.unwrap(), 2);
        assert_eq!(revocation::revoke_all(world.app(), Whose::User(ann.id), cli()).await.unwrap(), 2);

        for tokens in [&plain, &bound] {
            assert_dead(&[&world.replica, &other], tokens).await;
        }
        assert_live(&world, &bobs).await;
        assert_live(&world, &world.login_to("ann@example.com", &acme).await).await;
        assert_eq!(world.count_events("user.sessions_revoked").await, 1);
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM users WHERE epoch = 1").await, 1, "one row, one step");
        other.stop().await;
    }

    async fn a_tenants_sessions_end_and_those_that_are_not_bound_to_it_live(world: World) {
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        world.member(&globex, &ann, &["member"]).await;
        let plain = world.login("ann@example.com").await;
        let (here, there) = (world.login_to("ann@example.com", &acme).await, world.login_to("ann@example.com", &globex).await);

        assert_eq!(revocation::revoke_all(world.app(), Whose::Tenant(acme.id), cli()).await.unwrap(), 1);

        assert_dead(&[&world.replica], &here).await;
        assert_live(&world, &there).await;
        assert_live(&world, &plain).await;
        assert_live(&world, &world.login_to("ann@example.com", &acme).await).await;
        assert_eq!(world.count_events("tenant.sessions_revoked").await, 1);
    }

    async fn a_members_sessions_end_and_nobody_elses_and_none_elsewhere(world: World) {
        let other = world.another_replica().await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        for person in [&ann, &bob] {
            world.member(&acme, person, &["member"]).await;
            world.member(&globex, person, &["member"]).await;
        }
        let (here, here_too) = (world.login_to("ann@example.com", &acme).await, world.login_to("ann@example.com", &acme).await);
        let lives = [
            world.login("ann@example.com").await,
            world.login_to("ann@example.com", &globex).await,
            world.login_to("bob@example.com", &acme).await,
        ];
        let member = Whose::Member { user: ann.id, tenant: acme.id };
        let listed = revocation::list(world.app(), member, false).await.unwrap();
        assert!(listed.len() == 2 && listed.iter().all(|(facts, _)| (facts.user.id, facts.session.tenant_id) == (ann.id, Some(acme.id))));
        assert_eq!(revocation::count(world.app(), member).await.unwrap(), 2);

        assert_eq!(revocation::revoke_all(world.app(), member, cli()).await.unwrap(), 2);

        for tokens in [&here, &here_too] {
            assert_dead(&[&world.replica, &other], tokens).await;
        }
        for tokens in &lives {
            assert_live(&world, tokens).await;
            world.refresh(&tokens.refresh_token).await.unwrap();
        }
        assert_live(&world, &world.login_to("ann@example.com", &acme).await).await;
        let sql = world.sql().await;
        assert_eq!(sql.count("SELECT count(*) AS n FROM memberships WHERE epoch = 1").await, 1, "one row, one step");
        assert_eq!(sql.count("SELECT count(*) AS n FROM sessions WHERE revoked_at IS NOT NULL").await, 0);
        let events = "SELECT count(*) AS n FROM audit_events WHERE event = 'member.sessions_revoked' AND object_kind = 'membership' \
                      AND CAST(object_id AS TEXT) IS NOT NULL AND tenant_id IS NOT NULL";
        assert_eq!(sql.count(events).await, 1);
        other.stop().await;
    }

    async fn a_superusers_sessions_of_a_tenant_end_with_or_without_a_membership(world: World) {
        let acme = world.tenant("acme").await;
        let root = world.superuser("root@example.com").await;
        let member = Whose::Member { user: root.id, tenant: acme.id };
        let refused = revocation::revoke_all(world.app(), member, cli()).await;
        assert!(matches!(refused, Err(Error::NotFound("membership"))), "there is nothing to end: {refused:?}");
        assert_eq!(world.count_events("member.sessions_revoked").await, 0);
        let plain = world.login("root@example.com").await;
        let without = world.login_to("root@example.com", &acme).await;
        assert_eq!(revocation::revoke_all(world.app(), member, cli()).await.unwrap(), 1);
        assert_dead(&[&world.replica], &without).await;

        let without = world.login_to("root@example.com", &acme).await;
        world.member(&acme, &root, &["member"]).await;
        let with = world.login_to("root@example.com", &acme).await;
        assert_eq!(revocation::revoke_all(world.app(), member, cli()).await.unwrap(), 2);
        for tokens in [&without, &with] {
            assert_dead(&[&world.replica], tokens).await;
        }
        assert_live(&world, &plain).await;
        assert_eq!(world.count_events("member.sessions_revoked").await, 2);
    }

    async fn everything_ends_everybodys_sessions_and_logins_afterwards_are_good(world: World) {
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.superuser("root@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        let before = [
            world.login("ann@example.com").await,
            world.login_to("ann@example.com", &acme).await,
            world.login_to("root@example.com", &acme).await,
        ];

        assert_eq!(revocation::revoke_all(world.app(), Whose::Everybody, cli()).await.unwrap(), 3);

        for tokens in &before {
            assert_dead(&[&world.replica], tokens).await;
        }
        let after = world.login_to("ann@example.com", &acme).await;
        assert_live(&world, &after).await;
        let after = world.refresh(&after.refresh_token).await.unwrap();
        assert_live(&world, &after).await;
        assert_eq!(world.count_events("instance.sessions_revoked").await, 1);
        let rows = world.sql().await.count("SELECT count(*) AS n FROM sessions WHERE revoked_at IS NOT NULL").await;
        assert_eq!(rows, 0, "one row moved, none of theirs");
    }

    async fn one_session_ends_once(world: World) {
        world.person("ann@example.com").await;
        let (first, second) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
        let id = session_of(&world, &first).await;

        assert!(revocation::revoke(world.app(), id, cli()).await.unwrap());
        assert!(!revocation::revoke(world.app(), id, cli()).await.unwrap(), "it was over");

        assert_dead(&[&world.replica], &first).await;
        assert_live(&world, &second).await;
        assert_eq!(world.count_events("session.revoked").await, 1);
        let random = SessionId::generate(&world.app().entropy, &world.clock);
        assert!(matches!(revocation::revoke(world.app(), random, cli()).await, Err(Error::NotFound("session"))));
    }

    async fn of_a_deleted_user_or_an_unknown_tenant_nothing_is_ended_and_nothing_recorded(world: World) {
        let ann = world.person("ann@example.com").await;
        doorward::domain::users::set_state(world.app(), &ann, UserState::Deleted, cli()).await.unwrap();
        let nowhere = doorward::values::ids::TenantId::generate(&world.app().entropy, &world.clock);
        for (whose, noun) in [(Whose::User(ann.id), "user"), (Whose::Tenant(nowhere), "tenant")] {
            let refused = revocation::revoke_all(world.app(), whose, cli()).await;
            assert!(matches!(&refused, Err(Error::NotFound(what)) if *what == noun), "{refused:?}");
        }
        assert_eq!(world.count_events("user.sessions_revoked").await + world.count_events("tenant.sessions_revoked").await, 0);
    }

    /// What the list calls over is what tokens are refused for, and what is counted is what the list holds.
    async fn the_list_says_where_each_session_stands(world: World) {
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        let ann = world.person("ann@example.com").await;
        let bob = world.person("bob@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        world.member(&globex, &ann, &["member"]).await;
        let expired = session_of(&world, &world.login("ann@example.com").await).await;
        world.pass(Duration::from_hours(24 * 31));
        let idle = session_of(&world, &world.login("ann@example.com").await).await;
        world.pass(Duration::from_hours(24 * 8));
        let active = session_of(&world, &world.login("ann@example.com").await).await;
        let left = session_of(&world, &world.login_to("ann@example.com", &globex).await).await;
        memberships::remove(world.app(), &globex, &ann, cli()).await.unwrap();
        let ended = session_of(&world, &world.login("ann@example.com").await).await;
        revocation::revoke(world.app(), ended, cli()).await.unwrap();
        let suspended = session_of(&world, &world.login_to("ann@example.com", &acme).await).await;
        tenants::set_suspended(world.app(), &acme, true, cli()).await.unwrap();
        world.login("bob@example.com").await;
        let states = async |whose, all| {
            let listed = revocation::list(world.app(), whose, all).await.unwrap();
            listed.iter().map(|(facts, state)| (facts.session.id, *state)).collect::<Vec<_>>()
        };

        let all = [
            (expired, SessionState::Expired),
            (idle, SessionState::Expired),
            (active, SessionState::Active),
            (left, SessionState::Revoked),
            (ended, SessionState::Revoked),
            (suspended, SessionState::Suspended),
        ];
        let mut found = states(Whose::User(ann.id), true).await;
        found.sort_by_key(|(id, _)| all.iter().position(|(other, _)| other == id));
        assert_eq!(found, all);
        let mut live = states(Whose::User(ann.id), false).await;
        live.sort_by_key(|(id, _)| *id != active);
        assert_eq!(live, [(active, SessionState::Active), (suspended, SessionState::Suspended)]);
        assert_eq!(states(Whose::Tenant(acme.id), true).await, [(suspended, SessionState::Suspended)]);
        for (whose, expected) in [(Whose::User(ann.id), 2), (Whose::User(bob.id), 1), (Whose::Tenant(acme.id), 1), (Whose::Everybody, 3)] {
            assert_eq!(revocation::count(world.app(), whose).await.unwrap(), expected, "{whose:?}");
            assert_eq!(states(whose, false).await.len() as u64, expected, "{whose:?}");
        }

        revocation::revoke_all(world.app(), Whose::Everybody, cli()).await.unwrap();
        assert_eq!(states(Whose::Everybody, false).await, []);
        let words: Vec<_> = states(Whose::User(ann.id), true).await.iter().map(|(_, state)| state.as_str()).collect();
        assert!(!words.contains(&"active") && !words.contains(&"suspended"), "{words:?}");
    }
}

/// What a session is ended by while its password change is under way.
type Ending = fn(&User, &Tenant) -> Whose;

on_both! {
    async fn a_password_change_under_way_opens_nothing_after_a_revocation(world: World) {
        let acme = world.tenant("acme").await;
        let endings: [(&str, Ending); 4] = [
            ("member", |ann, acme| Whose::Member { user: ann.id, tenant: acme.id }),
            ("everybody", |_, _| Whose::Everybody),
            ("tenant", |_, acme| Whose::Tenant(acme.id)),
            ("user", |ann, _| Whose::User(ann.id)),
        ];
        for (name, ending) in endings {
            let email = format!("{name}@example.com");
            let ann = world.person(&email).await;
            world.member(&acme, &ann, &["member"]).await;
            let tokens = world.login_to(&email, &acme).await;
            let accepts = Accepts::default();
            let now = world.app().clock.now();
            // The first half: the session is good.
            let principal = access::authenticate(world.app(), &tokens.access_token, accepts, About::Own, Freshness::latest(), now).await.unwrap();
            let Principal::User(subject) = principal else { panic!("{name} is a person") };
            revocation::revoke_all(world.app(), ending(&ann, &acme), cli()).await.unwrap();

            let change = Change {
                current: Password::new(PASSWORD.to_owned()),
                new: Password::new("another good long password".to_owned()),
                device: Device::default(),
                origin: Origin::local(world.app()),
                deadline: Instant::now() + Duration::from_secs(30),
            };
            let refused = password_change::change(world.app(), &subject, change).await.unwrap_err();

            assert!(matches!(refused, Error::SessionRevoked), "{name}: {refused:?}");
            assert_dead(&[&world.replica], &tokens).await;
            // The old password is still the one: nothing of the change is there.
            world.login_to(&email, &acme).await;
        }
        assert_eq!(world.count_events("user.password_changed").await, 0);
    }

    async fn a_session_that_is_late_by_the_operators_clock_is_ended_all_the_same(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        let id = session_of(&world, &tokens).await;
        // The operator's clock is ahead, by as much as makes the session idle for too long.
        world.pass(Duration::from_hours(8 * 24));
        assert!(revocation::revoke(world.app(), id, cli()).await.unwrap());
        assert!(!revocation::revoke(world.app(), id, cli()).await.unwrap(), "once");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions WHERE revoked_at IS NOT NULL").await, 1);
        assert_eq!(world.count_events("session.revoked").await, 1);
    }
}
