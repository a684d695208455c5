//! What people see of their own sessions, and end of them: `ListSessions`, `RevokeSession`, `RevokeAllSessions`. Below: `pages` (paging,
//! and whose sessions a list can have at all), `races` (who ends sessions while others end or open them).

use std::time::Duration;

use std::sync::Arc;

use doorward::{
    domain::{
        access::{self, Accepts, Principal, Subject},
        audit::Origin,
        memory::Freshness,
        own_sessions, revocation,
    },
    error::Error,
    pb::v1,
    store::{
        facts::{About, Whose},
        tenants::Tenant,
    },
    values::ids::SessionId,
};

use crate::{
    access::{fields, set_tenant_state},
    harness::*,
    on_both,
    probe::*,
    start::validate_request,
};

mod pages;
mod races;

const NO_SESSION: &str = "01890000-0000-7000-8000-000000000000";

/// The id of the session that a token is of.
pub fn sid(tokens: &v1::TokenSet) -> String {
    payload(&tokens.access_token)["sid"].as_str().unwrap().to_owned()
}

fn ids(answer: &v1::ListSessionsResponse) -> Vec<&str> {
    answer.sessions.iter().map(|session| session.id.as_str()).collect()
}

/// The sessions that a token's subject is shown.
async fn listed(world: &World, tokens: &v1::TokenSet) -> Vec<String> {
    let answer = list_sessions(world, &tokens.access_token, "").await.unwrap();
    assert_eq!(answer.next_page_token, "");
    ids(&answer).into_iter().map(str::to_owned).collect()
}

/// One login after another, a second between them: lists are in the order of time.
async fn login_later(world: &World, email: &str, tenant: Option<&Tenant>) -> v1::TokenSet {
    world.pass(Duration::from_secs(1));
    match tenant {
        Some(tenant) => world.login_to(email, tenant).await,
        None => world.login(email).await,
    }
}

/// Whether both tokens are refused by every replica, as those of a session that was ended.
async fn assert_dead(replicas: &[&Replica], tokens: &v1::TokenSet) {
    for replica in replicas {
        assert_eq!(refused(replica.client().validate_session(validate_request(&tokens.access_token)).await), "SESSION_REVOKED");
        assert_eq!(refused(refresh_with(&mut replica.client(), &tokens.refresh_token).await), "SESSION_REVOKED");
    }
}

/// The details of all events of a name, in their order.
async fn details(world: &World, event: &str) -> Vec<serde_json::Value> {
    let rows = world.sql().await.query(&format!("SELECT details FROM audit_events WHERE event = '{event}' ORDER BY id")).await;
    rows.iter().map(|row| row.try_get("", "details").unwrap()).collect()
}

/// Whom a token speaks for, as the gate finds it before the call gets its turn.
async fn subject(world: &World, tokens: &v1::TokenSet) -> Subject {
    let now = world.app().clock.now();
    let principal =
        access::authenticate(world.app(), &tokens.access_token, Accepts::default(), About::Own, Freshness::latest(), now).await.unwrap();
    let Principal::User(subject) = principal else { panic!("a person") };
    Arc::unwrap_or_clone(subject)
}

on_both! {
    async fn the_list_shows_what_is_known_of_each_session_and_marks_the_asking_one(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        let request = v1::LoginRequest {
            identifier: "ann@example.com".to_owned(),
            password: PASSWORD.to_owned(),
            tenant_id: acme.id.to_string(),
            client_info: Some(v1::ClientInfo {
                ip_address: "192.0.2.7".to_owned(),
                user_agent: "Browser/1".to_owned(),
                device_name: "Ann's phone".to_owned(),
                device_token: String::new(),
            }),
        };
        let login = world.client().login(request).await.unwrap().into_inner();
        world.pass(Duration::from_mins(1));
        let phone = world.refresh(&login.tokens.unwrap().refresh_token).await.unwrap();
        let laptop = login_later(&world, "ann@example.com", None).await;

        let answer = list_sessions(&world, &laptop.access_token, "").await.unwrap();

        assert_eq!(ids(&answer), [sid(&laptop), sid(&phone)], "the newest first");
        let opened = login.session.unwrap();
        let told = &answer.sessions[1];
        let moved = v1::Session {
            last_seen_time: told.last_seen_time,
            idle_expire_time: told.idle_expire_time,
            current: false,
            ..opened
        };
        assert_eq!(told, &moved);
        assert_eq!((told.ip_address.as_str(), told.user_agent.as_str(), told.device_name.as_str()), ("192.0.2.7", "Browser/1", "Ann's phone"));
        assert_eq!((told.last_seen_time.unwrap().seconds, told.create_time.unwrap().seconds), (START + 60, START));
        assert_eq!(told.tenant_id, acme.id.to_string());
        assert!(answer.sessions[0].current);
        // The mark is the asking token's.
        let answer = list_sessions(&world, &phone.access_token, "").await.unwrap();
        assert_eq!(answer.sessions.iter().map(|session| session.current).collect::<Vec<_>>(), [false, true]);
        assert_eq!(answer.sessions[1], get_me(&world, &phone.access_token).await.unwrap().session.unwrap());
    }

    async fn the_list_has_what_is_not_over_and_nothing_else(world: World) {
        let (acme, globex, shut) = (world.tenant("acme").await, world.tenant("globex").await, world.tenant("shut").await);
        let ann = world.person("ann@example.com").await;
        for tenant in [&acme, &globex, &shut] {
            world.member(tenant, &ann, &["member"]).await;
        }
        let email = "ann@example.com";
        let asking = login_later(&world, email, None).await;
        let out = login_later(&world, email, None).await;
        let (of_tenant, of_member) = (login_later(&world, email, Some(&acme)).await, login_later(&world, email, Some(&globex)).await);
        let resting = login_later(&world, email, Some(&shut)).await;
        let (idle, late) = (login_later(&world, email, None).await, login_later(&world, email, None).await);
        let last = login_later(&world, email, None).await;
        assert_eq!(listed(&world, &asking).await, [&last, &late, &idle, &resting, &of_member, &of_tenant, &out, &asking].map(sid));

        world.logout(&out.access_token).await.unwrap();
        revocation::revoke_all(world.app(), Whose::Tenant(acme.id), cli()).await.unwrap();
        revocation::revoke_all(world.app(), Whose::Member { user: ann.id, tenant: globex.id }, cli()).await.unwrap();
        set_tenant_state(&world, &shut, "suspended").await;
        let now = world.clock.now().as_unix();
        for (set, column, at) in [(&idle, "idle_expires_at", now), (&late, "expires_at", now), (&last, "idle_expires_at", now + 1)] {
            let id = crate::access::literal(&world, sid(set).parse().unwrap());
            assert_eq!(world.sql().await.execute(&format!("UPDATE sessions SET {column} = {at} WHERE id = {id}")).await, 1);
        }
        assert_eq!(listed(&world, &asking).await, [&last, &resting, &asking].map(sid), "those of a suspended tenant are good again with it");
    }

    /// Only refresh and the list judge how long nobody came; a check of a token looks at no column that a refresh moves.
    async fn a_check_of_a_token_judges_neither_idleness_nor_any_routine_column(world: World) {
        world.person("ann@example.com").await;
        let (asking, tokens) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
        let id = crate::access::literal(&world, sid(&tokens).parse().unwrap());
        let set = async |columns: &str| {
            assert_eq!(world.sql().await.execute(&format!("UPDATE sessions SET {columns} WHERE id = {id}")).await, 1);
        };
        set(&format!("idle_expires_at = {START}")).await;
        world.validate(&tokens.access_token).await.unwrap();
        get_me(&world, &tokens.access_token).await.unwrap();
        assert_eq!(listed(&world, &asking).await, [sid(&asking)]);
        assert_eq!(refused(world.refresh(&tokens.refresh_token).await), "SESSION_EXPIRED");
        set("last_seen_at = 1, rotated_at = 1, refresh_generation = 77, refresh_digest = NULL, ip_address = NULL, user_agent = 'x'").await;
        world.validate(&tokens.access_token).await.unwrap();
        set(&format!("expires_at = {START}")).await;
        assert_eq!(refused(world.validate(&tokens.access_token).await), "SESSION_EXPIRED");
    }

    async fn one_session_ends_at_once_and_everywhere_and_the_others_live(world: World) {
        let other = world.another_replica().await;
        world.person("ann@example.com").await;
        let (asking, lost, kept) =
            (world.login("ann@example.com").await, world.login("ann@example.com").await, world.login("ann@example.com").await);

        revoke_session(&world, &asking.access_token, &sid(&lost)).await.unwrap();

        assert_dead(&[&world.replica, &other], &lost).await;
        for tokens in [&asking, &kept] {
            world.validate(&tokens.access_token).await.unwrap();
            world.refresh(&tokens.refresh_token).await.unwrap();
        }
        let cause = serde_json::json!({ "cause": "user", "by_session": sid(&asking) });
        assert_eq!(details(&world, "session.revoked").await, [cause]);
        // Again, and by itself.
        revoke_session(&world, &asking.access_token, &sid(&lost)).await.unwrap();
        revoke_session(&world, &asking.access_token, &sid(&asking).to_uppercase()).await.unwrap();
        assert_dead(&[&world.replica, &other], &asking).await;
        assert_eq!(world.count_events("session.revoked").await, 2);
        assert_eq!(refused(revoke_session(&world, &asking.access_token, &sid(&kept)).await), "SESSION_REVOKED");
        world.validate(&kept.access_token).await.unwrap();
        other.stop().await;
    }

    async fn another_persons_session_is_as_little_there_as_none_at_all(world: World) {
        world.person("ann@example.com").await;
        world.superuser("root@example.com").await;
        let (anns, roots) = (world.login("ann@example.com").await, world.login("root@example.com").await);
        for (asking, foreign) in [(&anns, &roots), (&roots, &anns)] {
            for id in [sid(foreign), NO_SESSION.to_owned()] {
                let status = revoke_session(&world, &asking.access_token, &id).await.unwrap_err();
                assert_eq!((reason(&status).as_str(), status.message()), ("NOT_FOUND", "the session does not exist"));
            }
            world.validate(&foreign.access_token).await.unwrap();
        }
        for id in ["", "7", "ext:crm-acme", &sid(&anns)[1..], &format!("{{{}}}", sid(&anns)), &sid(&anns).replace('-', "")] {
            let status = revoke_session(&world, &anns.access_token, id).await.unwrap_err();
            assert_eq!((reason(&status).as_str(), fields(&status)), ("INVALID_FIELD", vec!["session_id".to_owned()]), "{id:?}");
        }
        assert_eq!(world.count_events("session.revoked").await, 0);
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions WHERE revoked_at IS NOT NULL").await, 0);
    }

    async fn ending_what_was_ended_is_no_error_and_no_event(world: World) {
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        let asking = world.login("ann@example.com").await;
        let (out, of_tenant, late) =
            (world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await, world.login("ann@example.com").await);
        world.logout(&out.access_token).await.unwrap();
        revocation::revoke_all(world.app(), Whose::Tenant(acme.id), cli()).await.unwrap();
        let before = world.count_events("session.revoked").await;
        for over in [&out, &of_tenant] {
            revoke_session(&world, &asking.access_token, &sid(over)).await.unwrap();
        }
        assert_eq!(world.count_events("session.revoked").await, before);
        // Late by this replica's clock alone: by another's it may live on, so it is ended.
        let id = crate::access::literal(&world, sid(&late).parse().unwrap());
        world.sql().await.execute(&format!("UPDATE sessions SET idle_expires_at = {START} WHERE id = {id}")).await;
        revoke_session(&world, &asking.access_token, &sid(&late)).await.unwrap();
        revoke_session(&world, &asking.access_token, &sid(&late)).await.unwrap();
        assert_eq!(world.count_events("session.revoked").await, before + 1);
        assert_dead(&[&world.replica], &late).await;
    }

    async fn all_sessions_end_by_one_row(world: World) {
        let other = world.another_replica().await;
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.person("bob@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        let all =
            [world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await, world.login("ann@example.com").await];
        let bobs = world.login("bob@example.com").await;
        world.logout(&all[2].access_token).await.unwrap();

        assert_eq!(revoke_all_sessions(&world, &all[1].access_token, false).await.unwrap(), 2);

        for tokens in &all {
            assert_dead(&[&world.replica, &other], tokens).await;
        }
        world.validate(&bobs.access_token).await.unwrap();
        let sql = world.sql().await;
        assert_eq!(sql.count("SELECT count(*) AS n FROM users WHERE epoch = 1").await, 1);
        assert_eq!(sql.count("SELECT count(*) AS n FROM sessions WHERE revoked_at IS NOT NULL").await, 1, "only the one that logged out");
        let told = serde_json::json!({ "cause": "user", "sessions": 2, "kept_session": null });
        assert_eq!(details(&world, "user.sessions_revoked").await, [told]);
        let actor = format!("SELECT count(*) AS n FROM audit_events WHERE event = 'user.sessions_revoked' AND actor_id = '{0}' AND object_id = '{0}'", ann.id);
        assert_eq!(sql.count(&actor).await, 1);
        world.validate(&world.login("ann@example.com").await.access_token).await.unwrap();
        other.stop().await;
    }

    async fn all_but_the_asking_one_end_and_the_epoch_stays(world: World) {
        let other = world.another_replica().await;
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.person("bob@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        let bobs = world.login("bob@example.com").await;
        let ended = [world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await];
        let asking = world.login("ann@example.com").await;
        let late = world.login("ann@example.com").await;
        let id = crate::access::literal(&world, sid(&late).parse().unwrap());
        world.sql().await.execute(&format!("UPDATE sessions SET idle_expires_at = {START} - 60 WHERE id = {id}")).await;

        assert_eq!(revoke_all_sessions(&world, &asking.access_token, true).await.unwrap(), 2, "one that is late is none of them");

        for tokens in &ended {
            assert_dead(&[&world.replica, &other], tokens).await;
        }
        // By a clock that is behind it was live.
        assert_dead(&[&world.replica], &late).await;
        for tokens in [&asking, &bobs] {
            world.validate(&tokens.access_token).await.unwrap();
            world.refresh(&tokens.refresh_token).await.unwrap();
        }
        assert_eq!(listed(&world, &asking).await, [sid(&asking)]);
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM users WHERE epoch <> 0").await, 0);
        let told = serde_json::json!({ "cause": "user", "sessions": 2, "kept_session": sid(&asking) });
        assert_eq!(details(&world, "user.sessions_revoked").await, [told]);
        assert_eq!(world.count_events("session.revoked").await, 0, "one event for all of them");
        assert_eq!(revoke_all_sessions(&world, &asking.access_token, true).await.unwrap(), 0);
        other.stop().await;
    }

    /// The gate let the call in; what ended the asking session then, before the call got its turn, ends what it was going to do.
    async fn a_session_that_ended_before_its_turn_ends_nothing(world: World) {
        let acme = world.tenant("acme").await;
        for (number, ending) in ["itself", "user", "everybody", "tenant", "member", "disabled", "suspended"].into_iter().enumerate() {
            let email = format!("person-{number}@example.com");
            let person = world.person(&email).await;
            world.member(&acme, &person, &["member"]).await;
            let (asking, other) = (world.login_to(&email, &acme).await, world.login(&email).await);
            let asking_now = subject(&world, &asking).await;
            let member = Whose::Member { user: person.id, tenant: acme.id };
            match ending {
                "itself" => world.logout(&asking.access_token).await.unwrap(),
                "disabled" => doorward::domain::users::set_state(world.app(), &person, doorward::store::users::UserState::Disabled, cli()).await.unwrap(),
                "suspended" => set_tenant_state(&world, &acme, "suspended").await,
                _ => {
                    let whose = match ending {
                        "user" => Whose::User(person.id),
                        "tenant" => Whose::Tenant(acme.id),
                        "member" => member,
                        _ => Whose::Everybody,
                    };
                    revocation::revoke_all(world.app(), whose, cli()).await.unwrap();
                }
            }
            let (sessions, users) = (rows(&world.sql().await, "sessions").await, rows(&world.sql().await, "users").await);
            let events = rows(&world.sql().await, "audit_events").await;
            let origin = Origin::local(world.app());
            let id: SessionId = sid(&other).parse().unwrap();
            for outcome in [
                own_sessions::revoke_all(world.app(), &asking_now, false, &origin).await.map(drop),
                own_sessions::revoke_all(world.app(), &asking_now, true, &origin).await.map(drop),
                own_sessions::revoke(world.app(), &asking_now, id, &origin).await,
            ] {
                let is_expected = match ending {
                    "disabled" => matches!(outcome, Err(Error::PrincipalDisabled)),
                    "suspended" => matches!(outcome, Err(Error::TenantSuspended)),
                    _ => matches!(outcome, Err(Error::SessionRevoked)),
                };
                assert!(is_expected, "{ending}: {outcome:?}");
            }
            assert_eq!(rows(&world.sql().await, "sessions").await, sessions, "{ending}");
            assert_eq!(rows(&world.sql().await, "users").await, users, "{ending}");
            assert_eq!(rows(&world.sql().await, "audit_events").await, events, "{ending}");
        }
    }
}
