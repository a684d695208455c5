//! Each place has its own accounts: whatever is of another does not exist.

use doorward::{domain, store::service_accounts::AccountState};
use sea_orm::{ConnectionTrait, Statement};

use super::*;
use crate::{
    access::{fields, literal, random_id},
    recipes::Caller,
    wire::{Answer, Wire, encode},
};

/// Everything that whoever calls can see of an answer.
async fn seen(wire: &Wire, bearer: &str, method: &str, request: serde_json::Value) -> Answer {
    let headers = [("authorization", bearer), ("x-request-id", "the-same")];
    let body = encode(&format!("doorward.v1.{method}Request"), request);
    let mut answer = wire.call(&format!("/doorward.v1.ServiceAccountService/{method}"), &headers, &body).await;
    answer.headers.remove("date");
    answer
}

on_both! {
    async fn an_account_of_another_place_is_answered_like_a_random_one(world: World) {
        let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
        let own = tenant_account(&world, &acme, &["member"]).await;
        let foreign = tenant_account(&world, &beta, &["member"]).await;
        let instance = instance_account(&world, &[]).await;
        let gone = tenant_account(&world, &acme, &["member"]).await;
        domain::service_accounts::set_state(world.app(), operator(&world, Some(&acme)), gone.key(), AccountState::Deleted).await.unwrap();
        let ann = Caller::member(&world, &acme, "ann@example.com", &["owner"]).await;
        world.superuser("root@example.com").await;
        let root = Caller::logged_in(&world, "root@example.com").await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let acme_id = acme.id.to_string();
        let before = trail(&world).await;
        for (caller, place, others, known) in [
            (&ann, acme_id.as_str(), [&foreign, &instance, &gone], &own), (&root, &acme_id, [&foreign, &instance, &gone], &own),
            (&root, "", [&foreign, &own, &gone], &instance),
        ] {
            for method in [
                "GetServiceAccount", "DisableServiceAccount", "EnableServiceAccount", "DeleteServiceAccount", "AddServiceAccountSecret",
                "RemoveServiceAccountSecret",
            ] {
                let with = |account: &str, secret: &str| {
                    let mut json = serde_json::json!({ "tenant_id": place, "service_account_id": account });
                    if method == "RemoveServiceAccountSecret" {
                        json["secret_id"] = secret.into();
                    }
                    json
                };
                let random = seen(&wire, &caller.bearer(), method, with(&random_id().to_string(), &random_id().to_string())).await;
                assert_eq!(random.outcome(), "NOT_FOUND NOT_FOUND", "{method}");
                for other in others {
                    let answer = seen(&wire, &caller.bearer(), method, with(&other.id, &other.secret_id)).await;
                    assert_eq!(answer, random, "{method} at {place:?}");
                }
            }
            // Another account's secret is as good as none.
            let with = |secret: &str| serde_json::json!({ "tenant_id": place, "service_account_id": known.id, "secret_id": secret });
            let random = seen(&wire, &caller.bearer(), "RemoveServiceAccountSecret", with(&random_id().to_string())).await;
            assert_eq!(random.outcome(), "NOT_FOUND NOT_FOUND");
            for other in others {
                assert_eq!(seen(&wire, &caller.bearer(), "RemoveServiceAccountSecret", with(&other.secret_id)).await, random);
            }
        }
        assert_eq!(trail(&world).await, before, "nothing was done");
        for account in [&own, &foreign, &instance] {
            credentials(&world, &account.id, &account.secret, Ask::default()).await.unwrap();
        }
    }

    async fn a_role_of_another_tenant_cannot_be_held(world: World) {
        let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
        world.role(&beta, "stranger", &["sales:write"]).await;
        let ann = Desk::member(&world, &acme, "ann@example.com", &["owner"]).await;
        for role in ["stranger", "nobody"] {
            let request = v1::CreateServiceAccountRequest { roles: vec![role.to_owned()], ..ann.new_account() };
            assert_eq!(refused(ann.create(request).await), "NOT_FOUND", "{role}");
        }
        assert_eq!(trail(&world).await, []);
        // Nor past the service: the key between the tables knows the tenant of both.
        let account = tenant_account(&world, &acme, &["member"]).await;
        let sql = world.sql().await;
        let roles = sql.query("SELECT id FROM roles WHERE name = 'stranger'").await;
        let role = literal(&world, roles[0].try_get("", "id").unwrap());
        let id = literal(&world, account.key().as_uuid());
        for tenant in [acme.id, beta.id] {
            let tenant = literal(&world, tenant.as_uuid());
            let link = format!("INSERT INTO service_account_roles (tenant_id, service_account_id, role_id) VALUES ({tenant}, {id}, {role})");
            sql.0.execute_raw(Statement::from_string(sql.0.get_database_backend(), link)).await.unwrap_err();
        }
    }

    async fn each_kind_has_rights_of_its_own_kind(world: World) {
        let acme = world.tenant("acme").await;
        let ann = Desk::member(&world, &acme, "ann@example.com", &["owner"]).await;
        let root = Desk::superuser(&world).await;
        let list = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        for desk in [&ann, &root.at(&acme.id.to_string())] {
            let request = v1::CreateServiceAccountRequest { permissions: list(&["doorward.audit:read"]), ..desk.new_account() };
            assert_eq!(fields(&desk.create(request).await.unwrap_err()), ["permissions"]);
            // A certificate is the instance's to give: a tenant could claim that of somebody else's workload.
            let request = v1::CreateServiceAccountRequest { certificate_names: list(&["dns:shop.example.org"]), ..desk.new_account() };
            assert_eq!(fields(&desk.create(request).await.unwrap_err()), ["certificate_names"]);
        }
        let request = v1::CreateServiceAccountRequest { roles: list(&["member"]), ..root.new_account() };
        assert_eq!(fields(&root.create(request).await.unwrap_err()), ["roles"]);
        for beyond in ["*:*", "*:read", "sales:write", "doorward:read", "doorward.:read", "doorward", "", "doorward.*", "Doorward.audit:read"] {
            let request = v1::CreateServiceAccountRequest { permissions: list(&["doorward.audit:read", beyond]), ..root.new_account() };
            assert_eq!(fields(&root.create(request).await.unwrap_err()), ["permissions[1]"], "{beyond}");
        }
        let many = |count: usize, text: &str| (0..count).map(|index| format!("{text}{index}")).collect::<Vec<_>>();
        for (request, field) in [
            (v1::CreateServiceAccountRequest { permissions: many(65, "doorward.x:a"), ..root.new_account() }, "permissions"),
            (v1::CreateServiceAccountRequest { certificate_names: many(17, "urn:x:"), ..root.new_account() }, "certificate_names"),
            (v1::CreateServiceAccountRequest { certificate_names: list(&["urn:x:1", "shop"]), ..root.new_account() }, "certificate_names[1]"),
            (v1::CreateServiceAccountRequest { name: String::new(), ..root.new_account() }, "name"),
            (v1::CreateServiceAccountRequest { name: "x".repeat(256), ..root.new_account() }, "name"),
        ] {
            assert_eq!(fields(&root.create(request).await.unwrap_err()), [field]);
        }
        for request in [
            v1::CreateServiceAccountRequest { roles: many(33, "r"), ..ann.new_account() },
            v1::CreateServiceAccountRequest { roles: many(32, &"r".repeat(62)), ..ann.new_account() },
        ] {
            assert_eq!(fields(&ann.create(request).await.unwrap_err()), ["roles"]);
        }
        let request = v1::CreateServiceAccountRequest { roles: list(&["member", "a\0b"]), ..ann.new_account() };
        assert_eq!(fields(&ann.create(request).await.unwrap_err()), ["roles[1]"]);
        assert_eq!(trail(&world).await, []);
        root.create(v1::CreateServiceAccountRequest { permissions: many(64, "doorward.x:a"), ..root.new_account() }).await.unwrap();
    }

    async fn a_name_in_certificates_is_one_account_s(world: World) {
        let root = Desk::superuser(&world).await;
        let named = |names: &[&str]| v1::CreateServiceAccountRequest {
            certificate_names: names.iter().map(|&name| name.to_owned()).collect(),
            ..root.new_account()
        };
        let first = root.create(named(&["urn:x:a", "urn:x:b", "urn:x:a"])).await.unwrap().service_account.unwrap();
        assert_eq!(first.certificate_names, ["urn:x:a", "urn:x:b"]);
        let refusal = root.create(named(&["urn:x:z", "urn:x:b"])).await.unwrap_err();
        assert_eq!(fields(&refusal), ["certificate_names[1]"]);
        let first_id = first.service_account.unwrap().id;
        assert!(!refusal.message().contains(&first_id), "{refusal:?}");
        assert_eq!(root.list(0, "").await.unwrap().service_accounts.len(), 1, "nothing of it was made");
        root.create(named(&["urn:x:z"])).await.unwrap();
        // Gone with its account, a name is free again.
        root.delete(&first_id).await.unwrap();
        root.create(named(&["urn:x:b"])).await.unwrap();
    }
}
