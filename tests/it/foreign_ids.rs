//! Invariant 19: whatever RPC, whatever id field: the id of another tenant gets, byte for byte, the answer of a random one.
//!
//! The cases are made from the contract: every RPC of `METHODS`, every way to call it (`recipes.rs`), every string field of its request,
//! however deep, that is called `…_id`. So a new RPC is covered as soon as it has a recipe. That the same requests are answered with
//! yes where they name the caller's own tenant is in the sweep's matrix.

use doorward::{
    domain,
    methods::{METHODS, Method},
    pb::v1,
    store::tenants::Tenant,
    values::ids::parse_uuid,
};
use prost_reflect::{DynamicMessage, MessageDescriptor, prost::Message as _};
use uuid::Uuid;

use crate::{
    access::{literal, random_id},
    bad_input::{put, string_fields},
    harness::*,
    on_both,
    recipes::{Caller, recipes},
    wire::{Answer, Wire, message},
    workloads::{BOTH, instance_account, tenant_account},
};

/// The paths of the id fields of a message; below a oneof only of the member that `filled` has.
fn id_fields(descriptor: &MessageDescriptor, filled: Option<&DynamicMessage>) -> Vec<Vec<String>> {
    let is_id = |path: &Vec<String>| path.last().is_some_and(|name| name == "id" || name.ends_with("_id") || name.ends_with("_ids"));
    string_fields(descriptor, filled).into_iter().filter(is_id).collect()
}

/// Everything of an answer that its caller can see, but for the time of day.
async fn seen(wire: &Wire, method: &Method, caller: &Caller, request: &DynamicMessage) -> Answer {
    let bearer = caller.bearer();
    let headers = [("authorization", bearer.as_str()), ("x-request-id", "the-same")];
    let mut answer = wire.call(method.path, &headers, &request.encode_to_vec()).await;
    answer.headers.remove("date");
    answer
}

/// Ids of everything that a tenant has, and of what is the instance's.
async fn ids_of(world: &World, tenant: &Tenant) -> Vec<String> {
    let id = literal(world, tenant.id.as_uuid());
    let mut ids = vec![tenant.id.to_string(), "ext:crm-globex".to_owned()];
    for table in ["roles", "memberships", "sessions", "audit_events"] {
        let rows = world.sql().await.query(&format!("SELECT id FROM {table} WHERE tenant_id = {id}")).await;
        assert!(!rows.is_empty(), "{table}");
        ids.extend(rows.iter().map(|row| row.try_get::<Uuid>("", "id").unwrap().to_string()));
    }
    let own = "JOIN service_accounts a ON a.id = s.service_account_id";
    for query in [
        format!("SELECT id FROM service_accounts WHERE tenant_id = {id} OR tenant_id IS NULL"),
        format!("SELECT s.id FROM service_account_secrets s {own} WHERE a.tenant_id = {id} OR a.tenant_id IS NULL"),
    ] {
        let rows = world.sql().await.query(&query).await;
        assert!(rows.len() >= 2, "{query}");
        ids.extend(rows.iter().map(|row| row.try_get::<Uuid>("", "id").unwrap().to_string()));
    }
    ids.push(domain::users::resolve(world.app(), "bob@example.com").await.unwrap().id.to_string());
    ids
}

on_both! {
    async fn the_id_of_another_tenant_gets_the_answer_of_a_random_one(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.role(&acme, "seller", &["sales:write"]).await;
        world.member(&acme, &ann, &["owner"]).await;
        world.member(&globex, &bob, &["owner"]).await;
        world.login_to("bob@example.com", &globex).await;
        tenant_account(&world, &globex, &["member"]).await;
        instance_account(&world, &BOTH).await;
        let foreign = ids_of(&world, &globex).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;

        let mut covered = Vec::new();
        for bound_to in ["", "ext:crm-acme"] {
            let tokens = world.try_login("ann@example.com", PASSWORD, bound_to).await.unwrap().tokens.unwrap();
            let caller = Caller { tenant: acme.id.to_string(), ..Caller::with_tokens("ann@example.com", &tokens) };
            let caller = caller.with_accounts(&world, &acme).await;
            for method in METHODS {
                for recipe in recipes(method, &caller) {
                    let request = DynamicMessage::deserialize(message(method.input), recipe.json).unwrap();
                    for path in id_fields(&message(method.input), Some(&request)) {
                        let with = |id: &str| {
                            let mut request = request.clone();
                            put(&mut request, &path, id);
                            request
                        };
                        let name = path.join(".");
                        let what = format!("{} by {}, {name}, caller of {bound_to:?}", method.path, recipe.way);
                        let random = seen(&wire, method, &caller, &with(&random_id().to_string())).await;
                        assert!(!random.is_ok() || is_no(method, &random), "{what}: a random id was answered with {random:?}");
                        // Only a tenant has a name beside its id; elsewhere that is a bad id.
                        for id in foreign.iter().filter(|id| name.ends_with("tenant_id") || parse_uuid(id).is_ok()) {
                            assert_eq!(seen(&wire, method, &caller, &with(id)).await, random, "{what}: {id}");
                        }
                        covered.push(format!("{}.{name}", method.name));
                    }
                }
            }
        }
        // The walk finds what it must; others may come.
        let known = [
            "Login.tenant_id", "IssueToken.tenant_id", "IssueToken.client_credentials.client_id", "ValidateSession.tenant_id",
            "RevokeSession.session_id", "GetServiceAccount.tenant_id", "DeleteServiceAccount.service_account_id",
            "RemoveServiceAccountSecret.secret_id", "CheckAccess.check.tenant_id", "BatchCheckAccess.checks.tenant_id",
        ];
        for known in known {
            assert!(covered.iter().any(|path| path == known), "{known} is not among {covered:?}");
        }
    }
}

/// Whether an answer says no about the first thing that was asked, where a no is an answer.
fn is_no(method: &Method, answer: &Answer) -> bool {
    let decision = match method.name {
        "CheckAccess" => v1::CheckAccessResponse::decode(answer.message()).unwrap().decision,
        "BatchCheckAccess" => v1::BatchCheckAccessResponse::decode(answer.message()).unwrap().decisions.first().copied(),
        _ => return false,
    };
    decision.is_some_and(|decision| !decision.allowed && decision.reason() == v1::ErrorReason::NotAMember)
}

#[test]
fn every_kind_of_id_field_is_found() {
    // Answers have more kinds of fields than requests do so far.
    let found: Vec<_> = id_fields(&message("doorward.v1.ValidateSessionResponse"), None).into_iter().map(|path| path.join(".")).collect();
    for expected in ["session.id", "session.tenant_id", "session.client_id", "tenant.id", "tenant.external_id", "token.tenant_id"] {
        assert!(found.iter().any(|path| path == expected), "{expected} is not in {found:?}");
    }
}
