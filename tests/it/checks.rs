//! `CheckAccess`, `BatchCheckAccess` and `ListEffectivePermissions`: the same decisions as `ValidateSession` makes, as a yes or no.

use doorward::{
    domain::{revocation, tenants, users},
    pb::v1::{self, access_service_client::AccessServiceClient},
    store::{
        facts::Whose,
        users::{User, UserState},
    },
};
use tonic::{Status, transport::Channel};

use crate::{
    harness::*,
    on_both,
    probe::{Ask, grant},
    workloads::{instance_account, tenant_account, token},
};

fn client(world: &World) -> AccessServiceClient<Channel> {
    AccessServiceClient::new(world.replica.channel())
}

fn check(tenant_id: &str, permission: &str) -> v1::AccessCheck {
    v1::AccessCheck { tenant_id: tenant_id.to_owned(), permission: permission.to_owned() }
}

/// A decision in a word: `yes`, `flag` for one that only superusers get, else the reason.
fn word(decision: v1::AccessDecision) -> String {
    match (decision.allowed, decision.superuser_access) {
        (true, false) => "yes".to_owned(),
        (true, true) => "flag".to_owned(),
        (false, _) => decision.reason().as_str_name().trim_start_matches("ERROR_REASON_").to_owned(),
    }
}

async fn batch(world: &World, token: &str, audience: &str, checks: Vec<v1::AccessCheck>) -> Result<Vec<String>, Status> {
    let request =
        v1::BatchCheckAccessRequest { access_token: token.to_owned(), audience: audience.to_owned(), checks, ..Default::default() };
    let answer = client(world).batch_check_access(request).await?.into_inner();
    Ok(answer.decisions.into_iter().map(word).collect())
}

async fn one(world: &World, token: &str, audience: &str, check: v1::AccessCheck) -> Result<String, Status> {
    let request =
        v1::CheckAccessRequest { access_token: token.to_owned(), audience: audience.to_owned(), check: Some(check), ..Default::default() };
    Ok(word(client(world).check_access(request).await?.into_inner().decision.unwrap()))
}

async fn list(world: &World, token: &str, audience: &str, tenant_id: &str) -> Result<v1::ListEffectivePermissionsResponse, Status> {
    let request = v1::ListEffectivePermissionsRequest {
        access_token: token.to_owned(),
        audience: audience.to_owned(),
        tenant_id: tenant_id.to_owned(),
        ..Default::default()
    };
    client(world).list_effective_permissions(request).await.map(tonic::Response::into_inner)
}

/// What `ValidateSession` says to the same question.
async fn validated(world: &World, token: &str, audience: &str, check: &v1::AccessCheck) -> Result<String, Status> {
    let request = v1::ValidateSessionRequest {
        access_token: token.to_owned(),
        audience: audience.to_owned(),
        tenant_id: check.tenant_id.clone(),
        permissions: vec![check.permission.clone()],
        ..Default::default()
    };
    match world.validate_with(request).await {
        Ok(answer) if answer.superuser_access => Ok("flag".to_owned()),
        Ok(_) => Ok("yes".to_owned()),
        Err(status) if status.code() == tonic::Code::PermissionDenied => Ok(reason(&status)),
        Err(status) => Err(status),
    }
}

on_both! {
    async fn a_check_decides_as_a_validation_does(world: World) {
        let (acme, globex, shut) = (world.tenant("acme").await, world.tenant("globex").await, world.tenant("shut").await);
        for tenant in [&acme, &globex, &shut] {
            world.role(tenant, "seller", &["sales:*", "stock:read"]).await;
        }
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["seller"]).await;
        world.member(&shut, &ann, &["seller"]).await;
        let root = world.superuser("root@example.com").await;
        world.member(&acme, &root, &["seller"]).await;
        tenants::set_suspended(world.app(), &shut, true, cli()).await.unwrap();
        let seller = tenant_account(&world, &acme, &["seller"]).await;
        let desk = instance_account(&world, &["doorward.service_accounts:read"]).await;
        let of = |ask| grant(&world, "ann@example.com", ask);
        let id = acme.id.to_string();
        let tokens = [
            ("plain", "", world.login("ann@example.com").await.access_token),
            ("bound", "", world.login_to("ann@example.com", &acme).await.access_token),
            ("capped", "", of(Ask { scope: "sales:read other:read", ..Ask::default() }).await.unwrap().access_token),
            ("narrowed", "doorward-clients", of(Ask { audience: &["doorward-clients"], tenant_id: &id, ..Ask::default() }).await.unwrap().access_token),
            ("narrowed, without its audience", "", of(Ask { audience: &["doorward-clients"], ..Ask::default() }).await.unwrap().access_token),
            ("superuser", "", world.login("root@example.com").await.access_token),
            ("account of a tenant", "", token(&world, &seller).await),
            ("instance-wide account", "", token(&world, &desk).await),
        ];
        let random = "01890000-0000-7000-8000-000000000000";
        let (globex, shut) = (globex.id.to_string(), shut.id.to_string());
        let mut words = std::collections::BTreeSet::new();
        for (kind, audience, token) in &tokens {
            let mut together = (Vec::new(), Vec::new());
            for tenant in [id.as_str(), &globex, &shut, random, "ext:nobody", ""] {
                for permission in ["sales:read", "sales:write", "sales:*", "stock:read", "stock:write", "other:read", "*:*"] {
                    let check = check(tenant, permission);
                    let expected = validated(&world, token, audience, &check).await;
                    let answer = one(&world, token, audience, check.clone()).await;
                    match (&expected, &answer) {
                        (Ok(expected), Ok(answer)) => {
                            assert_eq!(answer, expected, "{kind}: {check:?}");
                            words.insert(answer.clone());
                            together.0.push(check);
                            together.1.push(answer.clone());
                        }
                        (Err(expected), Err(answer)) => assert_eq!(reason(answer), reason(expected), "{kind}: {check:?}"),
                        other => panic!("{kind}: {check:?}: {other:?}"),
                    }
                }
                // The list has what is allowed, and refuses where everything is.
                let listed = list(&world, token, audience, tenant).await;
                let read = one(&world, token, audience, check(tenant, "sales:read")).await;
                match (&listed, &read) {
                    (Ok(listed), Ok(word)) => {
                        let has = listed.permissions.iter().any(|held| ["sales:*", "sales:read", "*:*"].contains(&held.as_str()));
                        assert_eq!(has, word == "yes" || (word == "flag" && has), "{kind}, {tenant}: {listed:?}, {word}");
                        assert_eq!(listed.superuser, *kind == "superuser");
                    }
                    (Err(status), Ok(word)) => assert_eq!(&reason(status), word, "{kind}, {tenant}"),
                    (Err(status), Err(other)) => assert_eq!(reason(status), reason(other), "{kind}, {tenant}"),
                    (Ok(_), Err(status)) => panic!("{kind}, {tenant}: {status:?}"),
                }
            }
            if !together.0.is_empty() {
                assert_eq!(batch(&world, token, audience, together.0).await.unwrap(), together.1, "{kind}: all of them in one call");
            }
        }
        let all = ["NOT_A_MEMBER", "PERMISSION_MISSING", "TENANT_SUSPENDED", "flag", "yes"].map(str::to_owned);
        assert_eq!(words, all.into(), "every decision occurs");
    }

    async fn a_token_that_is_not_good_is_an_error_and_never_a_no(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:read"]).await;
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["seller"]).await;
        let id = acme.id.to_string();
        let token = world.login("ann@example.com").await.access_token;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        let all = async |token: &str| {
            [
                refused(one(&world, token, "", check(&id, "sales:read")).await),
                refused(batch(&world, token, "", vec![check(&id, "sales:read")]).await),
                refused(list(&world, token, "", &id).await),
            ]
        };
        assert_eq!(one(&world, &token, "", check(&id, "sales:read")).await.unwrap(), "yes");
        assert_eq!(all("").await, ["TOKEN_MISSING"; 3]);
        assert_eq!(all("garbage").await, ["TOKEN_INVALID"; 3]);
        assert_eq!(refused(one(&world, &token, "elsewhere", check(&id, "sales:read")).await), "AUDIENCE_MISMATCH");
        tenants::set_suspended(world.app(), &acme, true, cli()).await.unwrap();
        assert_eq!(all(&bound).await, ["TENANT_SUSPENDED"; 3], "a token of the tenant is good nowhere");
        assert_eq!(one(&world, &token, "", check(&id, "sales:read")).await.unwrap(), "TENANT_SUSPENDED", "another one is good, and does not get in");
        users::set_state(world.app(), &ann, UserState::Disabled, cli()).await.unwrap();
        assert_eq!(all(&token).await, ["PRINCIPAL_DISABLED"; 3]);
        users::set_state(world.app(), &User { state: UserState::Disabled, ..ann.clone() }, UserState::Active, cli()).await.unwrap();
        assert_eq!(all(&token).await, ["SESSION_REVOKED"; 3]);
        let token = world.login("ann@example.com").await.access_token;
        revocation::revoke_all(world.app(), Whose::User(ann.id), cli()).await.unwrap();
        assert_eq!(all(&token).await, ["SESSION_REVOKED"; 3]);
        world.pass(std::time::Duration::from_hours(1));
        assert_eq!(all(&token).await, ["TOKEN_EXPIRED"; 3]);
    }

    async fn a_thousand_checks_cost_a_statement_a_tenant(world: World) {
        let world = world.quiet().await;
        let ann = world.person("ann@example.com").await;
        let mut ids = Vec::new();
        for n in 0..4 {
            let tenant = world.tenant(&format!("t{n}")).await;
            world.role(&tenant, "seller", &[&format!("sales:{n}")]).await;
            world.member(&tenant, &ann, &["seller"]).await;
            ids.push(tenant.id.to_string());
        }
        let token = world.login("ann@example.com").await.access_token;
        let checks: Vec<_> = (0..1_000).map(|n| check(&ids[n % 4], &format!("sales:{}", n / 4 % 4))).collect();
        let before = world.app().store.statements();
        let answers = batch(&world, &token, "", checks.clone()).await.unwrap();
        assert_eq!(world.app().store.statements() - before, 4);
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer, if n % 4 == n / 4 % 4 { "yes" } else { "PERMISSION_MISSING" }, "check {n}");
        }

        let field = async |checks| {
            let status = batch(&world, &token, "", checks).await.unwrap_err();
            (reason(&status), status.message().to_owned())
        };
        let expect = |text: &str| ("INVALID_FIELD".to_owned(), text.to_owned());
        assert_eq!(field([checks, vec![check(&ids[0], "a:b")]].concat()).await, expect("checks: must be 1 to 1000"));
        assert_eq!(field(Vec::new()).await, expect("checks: must be 1 to 1000"));
        let many: Vec<_> = (0..101).map(|n| check(&format!("ext:{n}"), "a:b")).collect();
        assert_eq!(field(many.clone()).await, expect("checks: must be about at most 100 different tenants"));
        assert_eq!(batch(&world, &token, "", many[..100].to_vec()).await.unwrap(), vec!["NOT_A_MEMBER"; 100]);
        let misses = field(vec![check(&ids[0], "a:b"), check("", "a:b")]).await;
        assert_eq!(misses, expect("checks[1].tenant_id: is needed: the token is bound to no tenant"));
        let (code, text) = field(vec![check(&ids[0], "a:b"), check(&ids[0], "nonsense")]).await;
        assert!(code == "INVALID_FIELD" && text.starts_with("checks[1].permission: "), "{text}");
        let (code, text) = field(vec![check("nonsense", "a:b")]).await;
        assert!(code == "INVALID_FIELD" && text.starts_with("checks[0].tenant_id: "), "{text}");

        // The longest that there are: they fit.
        let longest = check(&format!("ext:{}", "x".repeat(255)), &format!("{}:{}", "a".repeat(64), "b".repeat(64)));
        assert_eq!(batch(&world, &token, "", vec![longest; 1_000]).await.unwrap(), vec!["NOT_A_MEMBER"; 1_000]);
    }
}
