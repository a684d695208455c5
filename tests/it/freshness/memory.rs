//! What one server remembers, and what it does not: one entry for a token and a tenant, judged by the time of each call, dropped with what is
//! behind it.

use std::time::Duration;

use doorward::{
    domain::{
        callers, memberships,
        memory::Freshness,
        service_accounts::{self, NewAccount},
        users,
    },
    pb::v1::{self, access_service_client::AccessServiceClient},
    store::users::UserState,
};

use super::{ask, question};
use crate::{
    access::{literal, set_permissions},
    harness::*,
    metrics::Samples,
    on_both,
    probe::*,
    workloads::{self, Account, by_caller, instance_account, new_account, tenant_account, token},
};

/// How many statements something takes.
async fn statements<T>(world: &World, act: impl Future<Output = T>) -> (u64, T) {
    let before = world.app().store.statements();
    let done = act.await;
    (world.app().store.statements() - before, done)
}

on_both! {
    async fn an_answer_is_remembered_for_its_token_and_tenant_alone(world: World) {
        let world = world.quiet().await;
        let ann = world.person("ann@example.com").await;
        let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
        for (tenant, permission) in [(&acme, "sales:write"), (&beta, "stock:read")] {
            world.role(tenant, "seller", &[permission]).await;
            world.member(tenant, &ann, &["seller"]).await;
        }
        let tokens = [world.login("ann@example.com").await.access_token, world.login_to("ann@example.com", &acme).await.access_token];
        let of = |token: &str, tenant_id: &str, permission: &str| v1::ValidateSessionRequest {
            tenant_id: tenant_id.to_owned(),
            permissions: vec![permission.to_owned()],
            ..question(token)
        };
        let (acme_id, beta_id) = (acme.id.to_string(), beta.id.to_string());
        for _ in 0..2 {
            for tenant in [acme_id.as_str(), "ext:crm-acme"] {
                for token in &tokens {
                    ask(&mut world.client(), &of(token, tenant, "sales:write")).await.unwrap();
                    assert_eq!(refused(world.validate_with(of(token, tenant, "stock:read")).await), "PERMISSION_MISSING");
                }
            }
            ask(&mut world.client(), &of(&tokens[0], &beta_id, "stock:read")).await.unwrap();
            assert_eq!(refused(world.validate_with(of(&tokens[1], &beta_id, "stock:read")).await), "NOT_A_MEMBER");
            assert_eq!(refused(world.validate_with(of(&tokens[0], "", "stock:read")).await), "INVALID_FIELD");
            ask(&mut world.client(), &of(&tokens[1], "", "sales:write")).await.unwrap();
        }
        // An external id that moves on to another tenant takes its answers along.
        let sql = world.sql().await;
        sql.execute("UPDATE tenants SET external_id = 'crm-old' WHERE slug = 'acme'").await;
        sql.execute("UPDATE tenants SET external_id = 'crm-acme' WHERE slug = 'beta'").await;
        ask(&mut world.client(), &of(&tokens[0], "ext:crm-acme", "stock:read")).await.unwrap();
        assert_eq!(refused(world.validate_with(of(&tokens[0], "ext:crm-acme", "sales:write")).await), "PERMISSION_MISSING");
    }

    async fn an_answer_from_memory_is_the_answer_of_the_database(world: World) {
        let world = world.quiet().await;
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write", "sales:read"]).await;
        world.member(&acme, &ann, &["seller", "member"]).await;
        world.superuser("root@example.com").await;
        let plain = world.login("ann@example.com").await.access_token;
        let capped = grant(&world, "ann@example.com", Ask { tenant_id: "ext:crm-acme", scope: "sales:read", audience: &[] }).await.unwrap().access_token;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        let root = world.login("root@example.com").await.access_token;
        let machine = tenant_account(&world, &acme, &["seller"]).await;
        let account = token(&world, &machine).await;
        let mut questions = Vec::new();
        for token in [&plain, &capped, &bound, &root, &account] {
            for tenant_id in ["", "ext:crm-acme", &acme.id.to_string()] {
                for (include_tenants, permissions) in [(false, vec![]), (true, vec!["sales:read".to_owned()])] {
                    questions.push(v1::ValidateSessionRequest { tenant_id: tenant_id.to_owned(), include_tenants, permissions, ..question(token) });
                }
            }
        }
        // When it is known until moves with the time.
        let answer = async |question: &v1::ValidateSessionRequest| match world.validate_with(question.clone()).await {
            Ok(answer) => format!("{:?}", v1::ValidateSessionResponse { fresh_until: None, ..answer }),
            Err(status) => reason(&status),
        };
        let mut answers = Vec::new();
        for question in &questions {
            answers.push(answer(question).await);
        }
        for (question, expected) in questions.iter().zip(&answers) {
            assert_eq!(&answer(question).await, expected, "{question:?}");
        }
        assert!(answers.iter().filter(|answer| answer.contains("sales:read")).count() > 15, "{answers:?}");
        // And of a server that remembers nothing yet.
        let world = world.restart_with(|_| {}).await;
        for (question, expected) in questions.iter().rev().zip(answers.iter().rev()) {
            let answer = match world.validate_with(question.clone()).await {
                Ok(answer) => format!("{:?}", v1::ValidateSessionResponse { fresh_until: None, ..answer }),
                Err(status) => reason(&status),
            };
            assert_eq!(&answer, expected, "{question:?}");
        }
    }

    async fn a_list_that_is_remembered_follows_every_tenant(world: World) {
        let world = world.quiet().await;
        let ann = world.person("ann@example.com").await;
        for slug in ["acme", "beta"] {
            let tenant = world.tenant(slug).await;
            world.member(&tenant, &ann, &["member"]).await;
        }
        let token = world.login("ann@example.com").await.access_token;
        let listed = async || {
            let request = v1::ValidateSessionRequest { include_tenants: true, ..question(&token) };
            let tenants = world.validate_with(request).await.unwrap().tenants;
            let mut shown: Vec<_> = tenants.iter().map(|tenant| format!("{} {}", tenant.slug, tenant.roles.len())).collect();
            shown.sort_unstable();
            shown.join(", ")
        };
        let sql = world.sql().await;
        for (change, expected) in [
            ("UPDATE users SET full_name = 'Ann'", "acme 1, beta 1"),
            ("UPDATE tenants SET state = 'deleted' WHERE slug = 'beta'", "acme 1"),
            ("UPDATE tenants SET state = 'active' WHERE slug = 'beta'", "acme 1, beta 1"),
            ("UPDATE tenants SET slug = 'gamma' WHERE slug = 'beta'", "acme 1, gamma 1"),
            ("DELETE FROM membership_roles WHERE tenant_id = (SELECT id FROM tenants WHERE slug = 'acme')", "acme 0, gamma 1"),
            ("UPDATE memberships SET state = 'removed' WHERE tenant_id = (SELECT id FROM tenants WHERE slug = 'acme')", "gamma 1"),
        ] {
            sql.execute(change).await;
            assert_eq!(listed().await, expected, "{change}");
            assert_eq!(listed().await, expected, "{change}, from memory");
        }
    }

    async fn a_name_that_is_mapped_later_is_known_then(world: World) {
        let world = world.quiet().await;
        let names = ["spiffe://example.com/shop".to_owned(), "dns:shop.example".to_owned()];
        let who = async || {
            let proof = callers::Proof { certificate: &names, token: None };
            let caller = callers::authenticate(world.app(), proof, Freshness::Bounded, world.clock.now()).await;
            caller.map(|caller| caller.map(|caller| caller.account().id)).map_err(|error| error.reason().0)
        };
        assert_eq!(who().await, Ok(None));
        let (before, none) = statements(&world, who()).await;
        assert_eq!((before, none), (0, Ok(None)));
        let shop = instance_account(&world, &[]).await;
        let map = async |account: &Account, name: &str| {
            let operator = workloads::operator(&world, None);
            service_accounts::add_certificate(world.app(), operator, account.key(), name.to_owned()).await.unwrap();
        };
        map(&shop, "spiffe://example.com/shop").await;
        assert_eq!(who().await, Ok(Some(shop.key())));
        let (again, _) = statements(&world, who()).await;
        assert_eq!(again, 0);
        // The other name of the same certificate becomes another one's: it stands for two.
        let other = new_account(&world, None, NewAccount { name: "other".to_owned(), ..NewAccount::default() }).await;
        map(&other, "dns:shop.example").await;
        assert_eq!(who().await, Err("CALLER_UNAUTHENTICATED"));
        world.sql().await.execute("DELETE FROM service_account_certificates WHERE name = 'dns:shop.example'").await;
        world.sql().await.execute("UPDATE service_accounts SET state = 'disabled'").await;
        assert_eq!(who().await, Err("CALLER_UNAUTHENTICATED"));
    }

    async fn what_was_not_there_is_looked_for_again(world: World) {
        let world = world.quiet().await;
        world.superuser("root@example.com").await;
        let token = world.login("root@example.com").await.access_token;
        let of_acme = v1::ValidateSessionRequest { tenant_id: "ext:crm-acme".to_owned(), ..question(&token) };
        for _ in 0..2 {
            assert_eq!(refused(world.validate_with(of_acme.clone()).await), "NOT_A_MEMBER");
        }
        world.tenant("acme").await;
        assert!(world.validate_with(of_acme).await.unwrap().superuser_access);
    }

    async fn time_is_judged_at_every_use(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        ask(&mut world.client(), &question(&tokens.access_token)).await.unwrap();
        let lifetime = Duration::from_secs(u64::try_from(tokens.expires_in).unwrap());
        world.pass(lifetime + Duration::from_secs(4));
        ask(&mut world.client(), &question(&tokens.access_token)).await.unwrap();
        world.pass(Duration::from_secs(1));
        assert_eq!(refused(world.validate_with(question(&tokens.access_token)).await), "TOKEN_EXPIRED");
        // A clock that goes back makes none good that it had not issued yet.
        world.clock.set(doorward::values::time::Timestamp::from_unix(START - 6));
        assert_eq!(refused(world.validate_with(question(&tokens.access_token)).await), "TOKEN_INVALID");
        world.clock.set(doorward::values::time::Timestamp::from_unix(START));
        ask(&mut world.client(), &question(&tokens.access_token)).await.unwrap();
        let sql = world.sql().await;
        sql.execute(&format!("UPDATE sessions SET expires_at = {}", START + 2)).await;
        ask(&mut world.client(), &question(&tokens.access_token)).await.unwrap();
        world.pass(Duration::from_secs(2));
        assert_eq!(refused(world.validate_with(question(&tokens.access_token)).await), "SESSION_EXPIRED");
    }

    async fn clocks_that_differ_accept_nothing_beyond_the_leeway(world: World) {
        let now = doorward::values::time::Timestamp::from_unix(START);
        let minute = Duration::from_mins(1);
        let clocks = [now.minus(minute), now, now.plus(minute)].map(doorward::values::time::Clock::manual);
        let mut replicas = Vec::new();
        for clock in &clocks {
            replicas.push(Replica::start(world.config.clone(), clock.clone()).await);
        }
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        let lifetime = i64::from(tokens.expires_in);
        let leeway = 5;
        // A minute before the token was made to a minute after its end, by the clock in the middle.
        for second in [-60, 0, 54, 55, 300, lifetime - 61, lifetime - 56, lifetime - 55, lifetime, lifetime + 4, lifetime + 5, lifetime + 64, lifetime + 65] {
            for ((clock, replica), offset) in clocks.iter().zip(&replicas).zip([-60, 0, 60]) {
                let by_its_clock = second + offset;
                clock.set(doorward::values::time::Timestamp::from_unix(START + by_its_clock));
                let expected = match by_its_clock {
                    early if early < -leeway => "TOKEN_INVALID",
                    late if late >= lifetime + leeway => "TOKEN_EXPIRED",
                    _ => "OK",
                };
                for _ in 0..2 {
                    let answer = ask(&mut replica.client(), &question(&tokens.access_token)).await;
                    assert_eq!(answer.map_or_else(|status| reason(&status), |()| "OK".to_owned()), expected, "{second} s, {offset} s off");
                }
            }
        }
        // An hour back: what had expired by the clock is not good again before it was made, and the clock does not stand.
        let [_, clock, _] = &clocks;
        clock.set(doorward::values::time::Timestamp::from_unix(START - 3_600));
        assert_eq!(refused(replicas[1].client().validate_session(question(&tokens.access_token)).await), "TOKEN_INVALID");
        let fresh = replicas[1].client().login(crate::start::login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();
        ask(&mut replicas[1].client(), &question(&fresh.access_token)).await.unwrap();
        clock.advance(Duration::from_secs(u64::try_from(lifetime + leeway).unwrap()));
        assert_eq!(refused(replicas[1].client().validate_session(question(&fresh.access_token)).await), "TOKEN_EXPIRED");
    }

    async fn the_memory_is_bounded_and_only_costs_statements(world: World) {
        let world = world.quiet().await.restart_with(|config| config.freshness.memory_mib = 1).await;
        world.person("ann@example.com").await;
        let mut tokens = Vec::new();
        for _ in 0..400 {
            tokens.push(world.login("ann@example.com").await.access_token);
        }
        for token in tokens.iter().chain(&tokens) {
            ask(&mut world.client(), &question(token)).await.unwrap();
        }
        let remembered = Samples::of(&world.replica).await.sum("doorward_memory_entries", &[("memory", "principals")]);
        assert!((50.0..=350.0).contains(&remembered), "{remembered} of 400");
        world.logout(&tokens[0]).await.unwrap();
        assert_eq!(refused(world.validate_with(question(&tokens[0])).await), "SESSION_REVOKED");
        ask(&mut world.client(), &question(&tokens[1])).await.unwrap();
    }

    async fn long_answers_weigh_what_they_are(world: World) {
        let world = world.quiet().await.restart_with(|config| config.freshness.memory_mib = 1).await;
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        let permissions: Vec<String> = (0..200).map(|number| format!("resource_with_a_long_name_{number:03}:action_with_a_long_name_too")).collect();
        world.role(&acme, "seller", &permissions.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.member(&acme, &ann, &["seller"]).await;
        let mut tokens = Vec::new();
        for _ in 0..150 {
            tokens.push(world.login_to("ann@example.com", &acme).await.access_token);
        }
        for token in tokens.iter().chain(&tokens) {
            let answer = world.client().validate_session(question(token)).await.unwrap().into_inner();
            assert_eq!(answer.tenant.unwrap().permissions.len(), permissions.len());
        }
        let remembered = Samples::of(&world.replica).await.sum("doorward_memory_entries", &[("memory", "principals")]);
        assert!((10.0..=85.0).contains(&remembered), "{remembered} of 150, 10 KiB each, in 864 KiB");
    }

    async fn whoever_is_no_member_cannot_hear_which_tenants_there_are(world: World) {
        let world = world.quiet().await;
        world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        let token = world.login("ann@example.com").await.access_token;
        for tenant in [acme.id.to_string(), uuid::Uuid::now_v7().to_string()] {
            let request = || v1::ValidateSessionRequest { tenant_id: tenant.clone(), ..question(&token) };
            assert_eq!(refused(world.client().validate_session(request()).await), "NOT_A_MEMBER");
            let (asked, answer) = statements(&world, world.client().validate_session(request())).await;
            assert_eq!((asked, refused(answer)), (1, "NOT_A_MEMBER".to_owned()), "{tenant}");
        }
    }

    async fn the_latest_is_asked_of_the_database_and_seen(world: World) {
        // Looks by itself four times an hour, and by hand nobody is woken.
        let world = world.quiet().await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["seller"]).await;
        let token = world.login_to("ann@example.com", &acme).await.access_token;
        let ask = |freshness: v1::Freshness| {
            let request = v1::ValidateSessionRequest {
                freshness: freshness.into(),
                permissions: vec!["sales:write".to_owned()],
                ..question(&token)
            };
            async { world.validate_with(request).await.map(drop) }
        };
        ask(v1::Freshness::Bounded).await.unwrap();
        let by_hand = Sql(connection(database_url(&world.config)).await, None);
        by_hand.execute("UPDATE roles SET permissions = '[\"sales:read\"]' WHERE name = 'seller'").await;
        ask(v1::Freshness::Bounded).await.expect("an hour is allowed, and it is remembered");
        assert_eq!(refused(ask(v1::Freshness::Latest).await), "PERMISSION_MISSING");
        assert_eq!(refused(ask(v1::Freshness::Bounded).await), "PERMISSION_MISSING", "what was seen stays seen");
        set_permissions(&world, &acme, "seller", &["sales:write"]).await;
        ask(v1::Freshness::Bounded).await.unwrap();
        // Also what methods that are no questions go by.
        by_hand.execute(&format!("UPDATE users SET state = 'disabled' WHERE id = {}", literal(&world, ann.id.as_uuid()))).await;
        ask(v1::Freshness::Bounded).await.expect("it is remembered");
        assert_eq!(refused(get_me(&world, &token).await), "PRINCIPAL_DISABLED");
    }

    async fn the_latest_knows_of_keys_too(world: World) {
        let world = world.quiet().await;
        world.person("ann@example.com").await;
        let [asked, unasked] = [world.login("ann@example.com").await.access_token, world.login("ann@example.com").await.access_token];
        ask(&mut world.client(), &question(&asked)).await.unwrap();
        let by_hand = Sql(connection(database_url(&world.config)).await, None);
        by_hand.execute("UPDATE signing_keys SET state = 'revoked'").await;
        ask(&mut world.client(), &question(&asked)).await.expect("an hour is allowed, and it is remembered");
        for token in [&unasked, &asked] {
            let latest = v1::ValidateSessionRequest { freshness: v1::Freshness::Latest.into(), ..question(token) };
            assert_eq!(refused(world.validate_with(latest).await), "TOKEN_INVALID");
        }
        let hits = async || {
            Samples::of(&world.replica).await.sum("doorward_memory_lookups_total", &[("memory", "principals"), ("outcome", "hit")])
        };
        let before = hits().await;
        assert_eq!(refused(world.validate_with(question(&asked)).await), "TOKEN_INVALID");
        assert!(hits().await <= before, "what a key undoes is no hit");
    }

    async fn a_caller_who_decides_what_may_be_done_is_looked_at_anew(world: World) {
        let world = world.quiet().await;
        let account = instance_account(&world, &workloads::BOTH).await;
        let caller = token(&world, &account).await;
        let list = async || {
            let request = by_caller(v1::ListServiceAccountsRequest::default(), &caller);
            workloads::accounts(&world).list_service_accounts(request).await.map(drop)
        };
        for _ in 0..2 {
            list().await.unwrap();
        }
        let by_hand = Sql(connection(database_url(&world.config)).await, None);
        by_hand.execute("UPDATE service_accounts SET state = 'disabled'").await;
        assert_eq!(refused(list().await), "CALLER_UNAUTHENTICATED");
    }

    async fn checks_are_answered_from_memory(world: World) {
        let world = world.quiet().await;
        let ann = world.person("ann@example.com").await;
        let mut ids = Vec::new();
        for number in 0..5 {
            let tenant = world.tenant(&format!("acme{number}")).await;
            world.role(&tenant, "seller", &["sales:write"]).await;
            world.member(&tenant, &ann, &["seller"]).await;
            ids.push(tenant.id.to_string());
        }
        let token = world.login("ann@example.com").await.access_token;
        let check = |id: &String, permission: &str| v1::AccessCheck { tenant_id: id.clone(), permission: permission.to_owned() };
        let batch = v1::BatchCheckAccessRequest {
            access_token: token.clone(),
            checks: ids.iter().flat_map(|id| [check(id, "sales:write"), check(id, "sales:read")]).collect(),
            ..Default::default()
        };
        let mut client = AccessServiceClient::new(world.replica.channel());
        let mut allowed = async || {
            let decisions = client.batch_check_access(batch.clone()).await.unwrap().into_inner().decisions;
            decisions.iter().map(|decision| decision.allowed).collect::<Vec<_>>()
        };
        let (first, answer) = statements(&world, allowed()).await;
        assert_eq!((first, &answer), (5, &[true, false].repeat(5)), "one for each tenant");
        assert_eq!(statements(&world, allowed()).await, (0, answer));
        let fifth = world.sql().await;
        fifth.execute("UPDATE tenants SET state = 'suspended' WHERE slug = 'acme4'").await;
        let (again, answer) = statements(&world, allowed()).await;
        assert_eq!((again, answer), (1, [[true, false].repeat(4), vec![false, false]].concat()), "the one that changed");

        let acme = doorward::domain::tenants::resolve(world.app(), "acme0").await.unwrap();
        memberships::remove(world.app(), &acme, &ann, cli()).await.unwrap();
        let rights = v1::ListEffectivePermissionsRequest { access_token: token.clone(), tenant_id: ids[0].clone(), ..Default::default() };
        let mut client = AccessServiceClient::new(world.replica.channel());
        assert_eq!(refused(client.list_effective_permissions(rights).await), "NOT_A_MEMBER");
        users::set_state(world.app(), &ann, UserState::Disabled, cli()).await.unwrap();
        let one = v1::CheckAccessRequest { access_token: token, check: Some(check(&ids[1], "sales:write")), ..Default::default() };
        assert_eq!(refused(client.check_access(one).await), "PRINCIPAL_DISABLED");
    }

    async fn callers_and_service_accounts_are_remembered(world: World) {
        let world = world.quiet().await;
        world.person("ann@example.com").await;
        let token_of_ann = world.login("ann@example.com").await.access_token;
        let shop = instance_account(&world, &[]).await;
        let caller = token(&world, &shop).await;
        let asked = async || world.client().validate_session(by_caller(question(&token_of_ann), &caller)).await.map(drop);
        asked().await.unwrap();
        let (none, ()) = statements(&world, async { asked().await.unwrap() }).await;
        ask(&mut world.client(), &question(&caller)).await.unwrap();
        let (neither, ()) = statements(&world, async { ask(&mut world.client(), &question(&caller)).await.unwrap() }).await;
        assert_eq!((none, neither), (0, 0));
        // A person's token is no caller's, however well it is remembered; nor the other way round.
        assert_eq!(refused(world.client().validate_session(by_caller(question(&caller), &token_of_ann)).await), "CALLER_UNAUTHENTICATED");
        assert_eq!(refused(list_sessions(&world, &caller, "").await), "TOKEN_INVALID");
        world.sql().await.execute("UPDATE service_accounts SET state = 'disabled'").await;
        assert_eq!(refused(asked().await), "CALLER_UNAUTHENTICATED");
        assert_eq!(refused(world.validate_with(question(&caller)).await), "PRINCIPAL_DISABLED");
    }

    async fn what_is_written_here_is_seen_here_at_once(world: World) {
        // Nothing is looked at by itself, and nobody waits for a bound: the answer to the write is the bound.
        let world = world.quiet().await;
        world.person("ann@example.com").await;
        for _ in 0..20 {
            let token = world.login("ann@example.com").await.access_token;
            ask(&mut world.client(), &question(&token)).await.unwrap();
            world.logout(&token).await.unwrap();
            assert_eq!(refused(world.validate_with(question(&token)).await), "SESSION_REVOKED");
        }
    }
}
