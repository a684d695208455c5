//! Service accounts: their life by RPC; below, who may do what about them, what a secret buys, and what a calling workload is.

use doorward::pb::v1;
use tonic::{Request, Status};

use crate::{harness::*, on_both, probe::*, workloads::*};

mod callers;
mod credentials;
mod pages;
mod places;
mod races;
mod rights;

/// Whoever administers in these scenarios, by their token, at a place.
#[derive(Clone)]
struct Desk<'a> {
    world: &'a World,
    token: String,
    tenant_id: String,
}

impl<'a> Desk<'a> {
    /// A person of a tenant with these roles.
    async fn member(world: &'a World, tenant: &doorward::store::tenants::Tenant, email: &str, roles: &[&str]) -> Self {
        let person = world.person(email).await;
        world.member(tenant, &person, roles).await;
        Self { world, token: world.login(email).await.access_token, tenant_id: tenant.id.to_string() }
    }

    /// A superuser, at the instance.
    async fn superuser(world: &'a World) -> Self {
        world.superuser("root@example.com").await;
        Self { world, token: world.login("root@example.com").await.access_token, tenant_id: String::new() }
    }

    /// The same at another place.
    fn at(&self, tenant_id: &str) -> Self {
        Self { tenant_id: tenant_id.to_owned(), ..self.clone() }
    }

    /// The same place with another token.
    fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        bearer(message, &self.token)
    }

    /// A request for an account of the place.
    fn new_account(&self) -> v1::CreateServiceAccountRequest {
        v1::CreateServiceAccountRequest {
            tenant_id: self.tenant_id.clone(),
            name: "robot".to_owned(),
            create_secret: true,
            ..Default::default()
        }
    }

    async fn create(&self, request: v1::CreateServiceAccountRequest) -> Result<v1::CreateServiceAccountResponse, Status> {
        accounts(self.world).create_service_account(self.request(request)).await.map(tonic::Response::into_inner)
    }

    /// An account of the tenant with these roles, which must be made.
    async fn made(&self, roles: &[&str]) -> Account {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        let answer = self.create(v1::CreateServiceAccountRequest { roles, ..self.new_account() }).await.unwrap();
        let details = answer.service_account.unwrap();
        let id = details.service_account.unwrap().id;
        Account { id, secret_id: details.secrets[0].id.clone(), secret: answer.client_secret }
    }

    async fn get(&self, id: &str) -> Result<v1::ServiceAccountDetails, Status> {
        let request = v1::GetServiceAccountRequest { tenant_id: self.tenant_id.clone(), service_account_id: id.to_owned() };
        accounts(self.world).get_service_account(self.request(request)).await.map(|answer| answer.into_inner().service_account.unwrap())
    }

    async fn list(&self, page_size: i32, page_token: &str) -> Result<v1::ListServiceAccountsResponse, Status> {
        let (tenant_id, page_token) = (self.tenant_id.clone(), page_token.to_owned());
        let request = v1::ListServiceAccountsRequest { tenant_id, page_size, page_token };
        accounts(self.world).list_service_accounts(self.request(request)).await.map(tonic::Response::into_inner)
    }

    async fn disable(&self, id: &str) -> Result<v1::ServiceAccount, Status> {
        let request = v1::DisableServiceAccountRequest { tenant_id: self.tenant_id.clone(), service_account_id: id.to_owned() };
        accounts(self.world).disable_service_account(self.request(request)).await.map(|answer| answer.into_inner().service_account.unwrap())
    }

    async fn enable(&self, id: &str) -> Result<v1::ServiceAccount, Status> {
        let request = v1::EnableServiceAccountRequest { tenant_id: self.tenant_id.clone(), service_account_id: id.to_owned() };
        accounts(self.world).enable_service_account(self.request(request)).await.map(|answer| answer.into_inner().service_account.unwrap())
    }

    async fn delete(&self, id: &str) -> Result<(), Status> {
        let request = v1::DeleteServiceAccountRequest { tenant_id: self.tenant_id.clone(), service_account_id: id.to_owned() };
        accounts(self.world).delete_service_account(self.request(request)).await.map(drop)
    }

    async fn add_secret(&self, id: &str) -> Result<v1::AddServiceAccountSecretResponse, Status> {
        self.add_secret_until(id, None).await
    }

    async fn add_secret_until(&self, id: &str, expires: Option<i64>) -> Result<v1::AddServiceAccountSecretResponse, Status> {
        let request = v1::AddServiceAccountSecretRequest {
            tenant_id: self.tenant_id.clone(),
            service_account_id: id.to_owned(),
            expire_time: expires.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        };
        accounts(self.world).add_service_account_secret(self.request(request)).await.map(tonic::Response::into_inner)
    }

    async fn remove_secret(&self, id: &str, secret_id: &str, revoke_tokens: bool) -> Result<(), Status> {
        let request = v1::RemoveServiceAccountSecretRequest {
            tenant_id: self.tenant_id.clone(),
            service_account_id: id.to_owned(),
            secret_id: secret_id.to_owned(),
            revoke_tokens,
        };
        accounts(self.world).remove_service_account_secret(self.request(request)).await.map(drop)
    }
}

/// The rows of the trail about service accounts, in their order: event, kind of the actor, and details.
async fn trail(world: &World) -> Vec<(String, String, serde_json::Value)> {
    // As they lie there: the ids of one moment are in no order.
    let order = if world.backend == Backend::Sqlite { "rowid" } else { "ctid" };
    let query = format!("SELECT event, actor_kind, details FROM audit_events WHERE event LIKE 'service_account.%' ORDER BY {order}");
    let rows = world.sql().await.query(&query).await;
    let text = |row: &sea_orm::QueryResult, column: &str| row.try_get::<String>("", column).unwrap();
    rows.iter().map(|row| (text(row, "event"), text(row, "actor_kind"), row.try_get("", "details").unwrap())).collect()
}

/// One secret follows another, and then the account ends.
async fn rotate_and_delete(world: &World, ann: &Desk<'_>, id: &str, secret: &str, bought: &str) {
    world.pass(std::time::Duration::from_secs(1));
    let added = ann.add_secret(id).await.unwrap();
    assert_ne!(added.client_secret, secret);
    let details = ann.get(id).await.unwrap();
    assert_eq!(details.secrets.len(), 2);
    assert_eq!(details.secrets[1], added.secret.clone().unwrap());
    for good in [secret, &added.client_secret] {
        credentials(world, id, good, Ask::default()).await.unwrap();
    }
    ann.remove_secret(id, &details.secrets[0].id, false).await.unwrap();
    assert_eq!(refused(credentials(world, id, secret, Ask::default()).await), "INVALID_CREDENTIALS");
    world.validate(bought).await.unwrap();
    credentials(world, id, &added.client_secret, Ask::default()).await.unwrap();
    ann.remove_secret(id, &details.secrets[1].id, true).await.unwrap();
    assert_eq!(refused(world.validate(bought).await), "SESSION_REVOKED");

    ann.delete(id).await.unwrap();
    assert_eq!(refused(world.validate(bought).await), "PRINCIPAL_DISABLED");
    assert_eq!(ann.list(0, "").await.unwrap().service_accounts, []);
    for answer in [
        ann.get(id).await.map(drop),
        ann.disable(id).await.map(drop),
        ann.enable(id).await.map(drop),
        ann.delete(id).await,
        ann.add_secret(id).await.map(drop),
        ann.remove_secret(id, &details.secrets[1].id, false).await,
    ] {
        assert_eq!(refused(answer), "NOT_FOUND");
    }
    let events: Vec<String> = trail(world).await.into_iter().map(|(event, actor, _)| format!("{event} by {actor}")).collect();
    let expected = ["created", "disabled", "enabled", "secret_added", "secret_removed", "secret_removed", "deleted"];
    assert_eq!(events, expected.map(|what| format!("service_account.{what} by user")));
    // The id stays taken, and nothing hangs on it.
    let sql = world.sql().await;
    assert_eq!(sql.count("SELECT count(*) AS n FROM service_accounts WHERE state = 'deleted'").await, 1);
    for table in ["service_account_secrets", "service_account_roles", "service_account_certificates"] {
        assert_eq!(sql.count(&format!("SELECT count(*) AS n FROM {table}")).await, 0, "{table}");
    }
}

on_both! {
    async fn an_account_of_a_tenant_lives_by_rpc(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let ann = Desk::member(&world, &acme, "ann@example.com", &["owner"]).await;

        let request = v1::CreateServiceAccountRequest {
            roles: vec!["member".to_owned(), "seller".to_owned(), "member".to_owned()],
            ..ann.new_account()
        };
        let made = ann.create(request).await.unwrap();
        let details = made.service_account.unwrap();
        let account = details.service_account.clone().unwrap();
        assert_eq!((account.name.as_str(), account.tenant_id.as_str()), ("robot", acme.id.to_string().as_str()));
        assert_eq!(account.state(), v1::ServiceAccountState::Active);
        assert_eq!(details.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ["member", "seller"]);
        assert_eq!((details.permissions.len(), details.certificate_names.len(), details.secrets.len()), (0, 0, 1));
        assert_eq!(ann.get(&account.id).await.unwrap(), details);
        assert_eq!(ann.list(0, "").await.unwrap().service_accounts, std::slice::from_ref(&details));
        assert_eq!(ann.at("ext:crm-acme").get(&account.id).await.unwrap(), details);

        let secret = made.client_secret;
        let bought = credentials(&world, &account.id, &secret, Ask::default()).await.unwrap();
        assert_eq!((bought.token_type.as_str(), bought.expires_in, bought.refresh_token.as_str()), ("Bearer", 900, ""));
        let me = get_me(&world, &bought.access_token).await.unwrap();
        let Some(v1::principal::Kind::ServiceAccount(principal)) = me.principal.unwrap().kind else { panic!("no service account") };
        assert_eq!(principal, account);
        assert!(me.session.is_none());
        let request = v1::ValidateSessionRequest {
            access_token: bought.access_token.clone(),
            tenant_id: acme.id.to_string(),
            permissions: vec!["sales:write".to_owned()],
            any_role: vec!["seller".to_owned()],
            include_tenants: true,
            ..Default::default()
        };
        let answer = world.validate_with(request).await.unwrap();
        assert!(!answer.superuser_access && answer.session.is_none());
        let tenant = answer.tenant.unwrap();
        assert_eq!((tenant.slug.as_str(), tenant.permissions.as_slice()), ("acme", ["sales:write".to_owned()].as_slice()));
        assert_eq!(tenant.membership_state(), v1::MembershipState::Unspecified);
        assert_eq!(answer.tenants, [tenant]);

        // Out and in again: what was bought before stays dead.
        assert_eq!(ann.disable(&account.id).await.unwrap().state(), v1::ServiceAccountState::Disabled);
        assert_eq!(refused(world.validate(&bought.access_token).await), "PRINCIPAL_DISABLED");
        assert_eq!(refused(credentials(&world, &account.id, &secret, Ask::default()).await), "INVALID_CREDENTIALS");
        assert_eq!(ann.enable(&account.id).await.unwrap().state(), v1::ServiceAccountState::Active);
        assert_eq!(refused(world.validate(&bought.access_token).await), "SESSION_REVOKED");
        let bought = credentials(&world, &account.id, &secret, Ask::default()).await.unwrap().access_token;
        world.validate(&bought).await.unwrap();

        rotate_and_delete(&world, &ann, &account.id, &secret, &bought).await;
    }

    async fn an_instance_wide_account_acts_in_no_tenant(world: World) {
        let acme = world.tenant("acme").await;
        let root = Desk::superuser(&world).await;
        let request = v1::CreateServiceAccountRequest {
            permissions: vec!["doorward.deliveries:read".to_owned(), "doorward.audit:*".to_owned()],
            certificate_names: vec!["spiffe://example.org/shop".to_owned(), "dns:shop.example.org".to_owned()],
            ..root.new_account()
        };
        let made = root.create(request).await.unwrap();
        let details = made.service_account.unwrap();
        let account = details.service_account.clone().unwrap();
        assert_eq!(account.tenant_id, "");
        assert_eq!(details.permissions, ["doorward.audit:*", "doorward.deliveries:read"]);
        assert_eq!(details.certificate_names, ["dns:shop.example.org", "spiffe://example.org/shop"]);
        assert_eq!(root.get(&account.id).await.unwrap(), details);

        let token = credentials(&world, &account.id, &made.client_secret, Ask::default()).await.unwrap().access_token;
        let answer = world.validate_with(v1::ValidateSessionRequest { access_token: token.clone(), include_tenants: true, ..Default::default() });
        let answer = answer.await.unwrap();
        assert!(answer.tenant.is_none() && answer.tenants.is_empty() && answer.session.is_none() && !answer.superuser_access);
        let facts = answer.token.unwrap();
        assert_eq!((facts.client_id.as_str(), facts.tenant_id.as_str(), facts.auth_time.is_none()), (account.id.as_str(), "", true));
        let asks = [
            (v1::ValidateSessionRequest { tenant_id: acme.id.to_string(), ..Default::default() }, "NOT_A_MEMBER"),
            (v1::ValidateSessionRequest { superuser: true, ..Default::default() }, "SUPERUSER_REQUIRED"),
            (v1::ValidateSessionRequest { permissions: vec!["doorward.deliveries:read".to_owned()], ..Default::default() }, "INVALID_FIELD"),
        ];
        for (ask, reason) in asks {
            assert_eq!(refused(world.validate_with(v1::ValidateSessionRequest { access_token: token.clone(), ..ask }).await), reason);
        }
        let (_, actor, told) = trail(&world).await.remove(0);
        assert_eq!(actor, "user");
        assert_eq!(told["superuser_access"], true);
        assert_eq!(told["permissions"], serde_json::json!(["doorward.audit:*", "doorward.deliveries:read"]));
        assert_eq!(told["secret_id"], details.secrets[0].id.as_str());
    }

    async fn doing_it_twice_is_no_error_and_one_event(world: World) {
        let acme = world.tenant("acme").await;
        let ann = Desk::member(&world, &acme, "ann@example.com", &["admin"]).await;
        let account = ann.made(&["member"]).await;
        for _ in 0..2 {
            ann.disable(&account.id).await.unwrap();
        }
        for _ in 0..2 {
            ann.enable(&account.id).await.unwrap();
        }
        let token = token(&world, &account).await;
        ann.enable(&account.id).await.unwrap();
        world.validate(&token).await.unwrap();
        let events: Vec<String> = trail(&world).await.into_iter().map(|(event, ..)| event).collect();
        assert_eq!(events, ["service_account.created", "service_account.disabled", "service_account.enabled"]);
    }

    async fn an_account_has_five_secrets_at_most_and_forgets_the_expired(world: World) {
        let acme = world.tenant("acme").await;
        let ann = Desk::member(&world, &acme, "ann@example.com", &["admin"]).await;
        let account = ann.made(&["member"]).await;
        for _ in 0..3 {
            ann.add_secret(&account.id).await.unwrap();
        }
        let short = ann.add_secret_until(&account.id, Some(START + 60)).await.unwrap();
        assert_eq!(short.secret.as_ref().unwrap().expire_time.unwrap().seconds, START + 60);
        let full = ann.add_secret(&account.id).await.unwrap_err();
        assert_eq!(crate::access::fields(&full), ["service_account_id"]);
        credentials(&world, &account.id, &short.client_secret, Ask::default()).await.unwrap();
        world.pass(std::time::Duration::from_secs(59));
        credentials(&world, &account.id, &short.client_secret, Ask::default()).await.unwrap();
        world.pass(std::time::Duration::from_secs(1));
        assert_eq!(refused(credentials(&world, &account.id, &short.client_secret, Ask::default()).await), "INVALID_CREDENTIALS");
        assert_eq!(ann.get(&account.id).await.unwrap().secrets.len(), 5);
        ann.add_secret(&account.id).await.unwrap();
        let left = ann.get(&account.id).await.unwrap().secrets;
        assert!(left.len() == 5 && left.iter().all(|secret| secret.expire_time.is_none()), "{left:?}");
    }

    async fn a_secret_expires_in_the_future_and_within_ten_years(world: World) {
        let acme = world.tenant("acme").await;
        let ann = Desk::member(&world, &acme, "ann@example.com", &["admin"]).await;
        let account = ann.made(&["member"]).await;
        let ten_years = 3_653 * 86_400;
        for bad in [0, START - 1, START, START + ten_years + 1, i64::MAX, i64::MIN, -1, 253_402_300_800] {
            let refusal = ann.add_secret_until(&account.id, Some(bad)).await.unwrap_err();
            assert_eq!(crate::access::fields(&refusal), ["expire_time"], "{bad}");
            let time = prost_types::Timestamp { seconds: bad, nanos: 0 };
            let refusal = ann.create(v1::CreateServiceAccountRequest { secret_expire_time: Some(time), ..ann.new_account() }).await.unwrap_err();
            assert_eq!(crate::access::fields(&refusal), ["secret_expire_time"], "{bad}");
        }
        for nanos in [-1, 1_000_000_000, i32::MAX] {
            let time = prost_types::Timestamp { seconds: START + 60, nanos };
            let refusal = ann.create(v1::CreateServiceAccountRequest { secret_expire_time: Some(time), ..ann.new_account() }).await.unwrap_err();
            assert_eq!(crate::access::fields(&refusal), ["secret_expire_time"], "{nanos}");
        }
        for good in [START + 1, START + ten_years] {
            ann.add_secret_until(&account.id, Some(good)).await.unwrap();
        }
        let time = prost_types::Timestamp { seconds: START + 60, nanos: 0 };
        let needless = v1::CreateServiceAccountRequest { create_secret: false, secret_expire_time: Some(time), ..ann.new_account() };
        assert_eq!(crate::access::fields(&ann.create(needless).await.unwrap_err()), ["secret_expire_time"]);
        let none = ann.create(v1::CreateServiceAccountRequest { create_secret: false, ..ann.new_account() }).await.unwrap();
        assert_eq!((none.client_secret.as_str(), none.service_account.unwrap().secrets.len()), ("", 0));
    }

    async fn who_acted_stands_in_the_trail(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "keeper", &["doorward.service_accounts:*"]).await;
        let root = Desk::superuser(&world).await;
        // A superuser who is no member; one who is, but without the right; and one who could do it anyway.
        let stranger = root.at(&acme.id.to_string());
        let account = stranger.made(&["member"]).await;
        let person = doorward::domain::users::resolve(world.app(), "root@example.com").await.unwrap();
        world.member(&acme, &person, &["member"]).await;
        stranger.disable(&account.id).await.unwrap();
        doorward::domain::memberships::remove(world.app(), &acme, &person, cli()).await.unwrap();
        world.member(&acme, &person, &["owner"]).await;
        stranger.enable(&account.id).await.unwrap();
        doorward::domain::memberships::remove(world.app(), &acme, &person, cli()).await.unwrap();
        // Has the permission by a role, but gives one above it by the flag.
        world.member(&acme, &person, &["keeper"]).await;
        stranger.add_secret(&account.id).await.unwrap();
        stranger.disable(&account.id).await.unwrap();
        // And workloads, by their own token and as the caller.
        let machine = tenant_account(&world, &acme, &["owner"]).await;
        let by_robot = stranger.with_token(token(&world, &machine).await);
        by_robot.enable(&account.id).await.unwrap();
        let wide = instance_account(&world, &BOTH).await;
        let wide_token = token(&world, &wide).await;
        root.with_token(wide_token.clone()).disable(&wide.id).await.unwrap();
        let marks: Vec<(String, String, bool)> = trail(&world).await.into_iter()
            .map(|(event, actor, told)| (event.replace("service_account.", ""), actor, told["superuser_access"] == true)).collect();
        let expected = [
            ("created", "user", true), ("disabled", "user", true), ("enabled", "user", false), ("secret_added", "user", true),
            ("disabled", "user", false), ("created", "cli", false), ("enabled", "service_account", false), ("created", "cli", false),
            ("disabled", "service_account", false),
        ];
        assert_eq!(marks, expected.map(|(event, actor, mark)| (event.to_owned(), actor.to_owned(), mark)));
        let query = "SELECT count(*) AS n FROM audit_events WHERE event LIKE 'service_account.%' AND actor_kind <> 'cli' \
                     AND (request_id IS NULL OR client_id IS NULL OR actor_id IS NULL OR object_id IS NULL)";
        assert_eq!(world.sql().await.count(query).await, 0);
    }
}
