//! One trace of calls, the same answers on both databases (invariant 42): the whole answers, with ids and tokens replaced by the order in
//! which they first came.

use std::{collections::HashMap, time::Duration};

use doorward::{
    domain::{self, memberships, tenants, users},
    methods::METHODS,
    store::users::UserState,
    values::ids::parse_uuid,
};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::{
    harness::*,
    wire::{Wire, encode, message},
};

const NEW: &str = "another good long password";

/// A world whose every answer is written down.
struct Recorder {
    world: World,
    wire: Wire,
    lines: Vec<String>,
    names: HashMap<String, String>,
}

impl Recorder {
    /// Calls a method by its name, writes the answer down, and answers it.
    async fn call(&mut self, name: &str, bearer: Option<&str>, request: Value) -> Value {
        let method = METHODS.iter().find(|method| method.name == name).unwrap();
        let authorization = bearer.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("x-request-id", "trace")];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let answer = self.wire.call(method.path, &headers, &encode(method.input, request)).await;
        let outcome = answer.outcome();
        let body = if outcome == "OK" {
            serde_json::to_value(DynamicMessage::decode(message(method.output), answer.message()).unwrap()).unwrap()
        } else {
            json!(answer.status().message())
        };
        let shown = self.normalized(body.clone(), "");
        self.lines.push(format!("{name}: {outcome}: {shown}"));
        body
    }

    /// The same with ids and tokens by the order of their first appearance.
    fn normalized(&mut self, value: Value, key: &str) -> Value {
        match value {
            Value::String(text)
                if parse_uuid(&text).is_ok() || (["oken", "ecret"].iter().any(|end| key.ends_with(end)) && !text.is_empty()) =>
            {
                let next = format!("<{}>", self.names.len());
                json!(self.names.entry(text).or_insert(next))
            }
            Value::Array(items) => items.into_iter().map(|item| self.normalized(item, key)).collect(),
            Value::Object(members) => members.into_iter().map(|(key, member)| (key.clone(), self.normalized(member, &key))).collect(),
            other => other,
        }
    }

    async fn login(&mut self, identifier: &str, password: &str, tenant: &str) -> (String, String) {
        let request =
            json!({ "identifier": identifier, "password": password, "tenant_id": tenant, "client_info": { "ip_address": "2001:DB8::1" } });
        let answer = self.call("Login", None, request).await;
        let token = |name: &str| answer["tokens"][name].as_str().unwrap_or_default().to_owned();
        (token("accessToken"), token("refreshToken"))
    }

    async fn refresh(&mut self, token: &str, more: Value) -> (String, String) {
        let mut request = json!({ "refresh_token": { "refresh_token": token } });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.call("IssueToken", None, request).await;
        let token = |name: &str| answer["tokens"][name].as_str().unwrap_or_default().to_owned();
        (token("accessToken"), token("refreshToken"))
    }

    async fn validate(&mut self, token: &str, more: Value) {
        let mut request = json!({ "access_token": token, "include_tenants": true, "freshness": "FRESHNESS_LATEST" });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.call("ValidateSession", None, request).await;
    }
}

/// The trace on one database.
async fn trace(backend: Backend) -> Vec<String> {
    let world = World::start(backend).await;
    let wire = Wire::connect(world.replica.grpc_addr).await;
    let mut recorder = Recorder { world, wire, lines: Vec::new(), names: HashMap::new() };
    people_and_tenants(&mut recorder).await;
    logins(&mut recorder).await;
    checks(&mut recorder).await;
    pages(&mut recorder).await;
    refreshes(&mut recorder).await;
    own_sessions(&mut recorder).await;
    workloads(&mut recorder).await;
    endings(&mut recorder).await;
    recorder.lines
}

async fn people_and_tenants(recorder: &mut Recorder) {
    let world = &recorder.world;
    for person in ["Ann.Ünal@Example.com", "bob@example.com", "carl@example.com"] {
        world.person(person).await;
    }
    world.superuser("root@example.com").await;
    world.new_person(Person { username: Some("Ｄora"), must_change: true, ..Person::default() }).await;
    let ann = users::resolve(world.app(), "ann.ünal@example.com").await.unwrap();
    for slug in ["acme", "beta", "gamma", "delta", "epsilon"] {
        let tenant = world.tenant(slug).await;
        world.role(&tenant, "seller", &["sales:write", "sales:read", "*:list"]).await;
        // Memberships are listed in the order of their ids, which is that of time.
        world.pass(Duration::from_secs(1));
        world.member(&tenant, &ann, if slug == "beta" { &["owner", "seller"] } else { &["seller"] }).await;
    }
    let beta = tenants::resolve(world.app(), "gamma").await.unwrap();
    tenants::set_suspended(world.app(), &beta, true, cli()).await.unwrap();
}

async fn logins(recorder: &mut Recorder) {
    for (identifier, password) in [
        ("ann.ünal@example.com", PASSWORD),
        ("ANN.U\u{308}NAL@EXAMPLE.COM", PASSWORD),
        ("ann.ünal@example.com", "correct horse battery stapl"),
        ("nobody@example.com", PASSWORD),
        ("dora", PASSWORD),
        ("DORA", PASSWORD),
        ("", ""),
        ("ann\0", "\0"),
    ] {
        recorder.login(identifier, password, "").await;
    }
    for tenant in ["ext:crm-acme", "ext:crm-gamma", "ext:nobody", "01890000-0000-7000-8000-000000000000", "acme"] {
        recorder.login("ann.ünal@example.com", PASSWORD, tenant).await;
        recorder.login("bob@example.com", PASSWORD, tenant).await;
        recorder.login("root@example.com", PASSWORD, tenant).await;
    }
}

async fn checks(recorder: &mut Recorder) {
    let (ann, _) = recorder.login("ann.ünal@example.com", PASSWORD, "").await;
    let (bound, _) = recorder.login("ann.ünal@example.com", PASSWORD, "ext:crm-beta").await;
    let (root, _) = recorder.login("root@example.com", PASSWORD, "").await;
    let (dora, _) = recorder.login("dora", PASSWORD, "").await;
    for token in [ann.as_str(), &bound, &root, &dora, "garbage", ""] {
        recorder.call("GetMe", Some(token), json!({})).await;
        for question in [
            json!({}),
            json!({ "tenant_id": "ext:crm-acme" }),
            json!({ "tenant_id": "ext:crm-beta", "permissions": ["sales:write", "audit:list"] }),
            json!({ "tenant_id": "ext:crm-acme", "permissions": ["sales:delete", "sales:write"] }),
            json!({ "tenant_id": "ext:crm-acme", "any_role": ["owner", "seller"] }),
            json!({ "tenant_id": "ext:crm-acme", "any_role": ["owner"] }),
            json!({ "tenant_id": "ext:crm-gamma" }),
            json!({ "tenant_id": "ext:nobody" }),
            json!({ "superuser": true }),
            json!({ "audience": "doorward-clients" }),
            json!({ "audience": "somebody-else" }),
            json!({ "permissions": ["sales:write"] }),
            json!({ "permissions": ["no permission"] }),
        ] {
            recorder.validate(token, question).await;
        }
    }
}

async fn pages(recorder: &mut Recorder) {
    let (ann, _) = recorder.login("ann.ünal@example.com", PASSWORD, "").await;
    let mut page_token = String::new();
    for page_size in [2, 1, 1, 50] {
        let answer = recorder.call("ListTenants", Some(&ann), json!({ "page_size": page_size, "page_token": page_token })).await;
        page_token = answer["nextPageToken"].as_str().unwrap_or_default().to_owned();
        let (bob, _) = recorder.login("bob@example.com", PASSWORD, "").await;
        recorder.call("ListTenants", Some(&bob), json!({ "page_token": page_token })).await;
    }
    for page_size in [-1, 0, 101] {
        recorder.call("ListTenants", Some(&ann), json!({ "page_size": page_size })).await;
    }
}

async fn refreshes(recorder: &mut Recorder) {
    let (_, first) = recorder.login("ann.ünal@example.com", PASSWORD, "ext:crm-acme").await;
    let (_, second) = recorder.refresh(&first, json!({})).await;
    recorder.refresh(&first, json!({})).await;
    recorder.refresh(&second, json!({ "tenant_id": "ext:crm-beta" })).await;
    let (narrow, third) = recorder.refresh(&second, json!({ "scope": "sales:read", "audience": ["doorward-clients"] })).await;
    recorder.validate(&narrow, json!({ "audience": "doorward-clients", "any_role": ["seller"] })).await;
    recorder.validate(&narrow, json!({ "audience": "doorward-clients", "permissions": ["sales:write"] })).await;
    recorder.call("ListTenants", Some(&narrow), json!({})).await;
    recorder.call("ChangePassword", Some(&narrow), json!({ "current_password": PASSWORD, "new_password": NEW })).await;
    recorder.world.pass(Duration::from_secs(31));
    recorder.refresh(&first, json!({})).await;
    recorder.refresh(&third, json!({})).await;
    let (access, idle) = recorder.login("bob@example.com", PASSWORD, "").await;
    recorder.world.pass(Duration::from_hours(7 * 24));
    recorder.refresh(&idle, json!({})).await;
    recorder.validate(&access, json!({})).await;
}

async fn own_sessions(recorder: &mut Recorder) {
    let (root, _) = recorder.login("root@example.com", PASSWORD, "").await;
    recorder.world.pass(Duration::from_secs(1));
    let (carl, _) = recorder.login("carl@example.com", PASSWORD, "").await;
    let mut tokens = Vec::new();
    for tenant in ["", "ext:crm-acme", "", "ext:crm-beta"] {
        // Sessions are listed in the order of their ids, which is that of time.
        recorder.world.pass(Duration::from_secs(1));
        tokens.push(recorder.login("root@example.com", PASSWORD, tenant).await.0);
    }
    let listed = recorder.call("ListSessions", Some(&root), json!({ "page_size": 2 })).await;
    let next = listed["nextPageToken"].as_str().unwrap().to_owned();
    for (token, page_token) in [(&root, &next), (&carl, &next), (&root, &"garbage".to_owned())] {
        recorder.call("ListSessions", Some(token), json!({ "page_token": page_token })).await;
    }
    let id = listed["sessions"][1]["id"].as_str().unwrap().to_owned();
    for (token, id) in [(&carl, id.as_str()), (&carl, "01890000-0000-7000-8000-000000000000"), (&root, "7"), (&root, &id), (&root, &id)] {
        recorder.call("RevokeSession", Some(token), json!({ "session_id": id })).await;
    }
    for token in [&tokens[3], &tokens[0]] {
        recorder.call("RevokeAllSessions", Some(token), json!({ "keep_current": true })).await;
        recorder.call("ListSessions", Some(&tokens[3]), json!({})).await;
    }
    recorder.call("RevokeAllSessions", Some(&tokens[3]), json!({})).await;
    recorder.call("RevokeAllSessions", Some(&tokens[3]), json!({})).await;
    recorder.call("ListSessions", Some(&carl), json!({})).await;
}

/// Accounts of a tenant and of the instance, from their making to their end.
async fn workloads(recorder: &mut Recorder) {
    let (ann, _) = recorder.login("ann.ünal@example.com", PASSWORD, "").await;
    let (root, _) = recorder.login("root@example.com", PASSWORD, "").await;
    let names = json!(["spiffe://example.org/shop", "dns:shop.example.org"]);
    for (bearer, request) in [
        (&ann, json!({ "tenant_id": "ext:crm-beta", "name": "robot", "roles": ["seller", "admin"], "create_secret": true })),
        (&ann, json!({ "tenant_id": "ext:crm-acme", "name": "robot" })),
        (&ann, json!({ "tenant_id": "ext:crm-beta", "name": "robot", "roles": ["nobody"] })),
        (&ann, json!({ "tenant_id": "ext:crm-beta", "name": "", "permissions": ["*:*"] })),
        (&ann, json!({ "name": "shop" })),
        (&root, json!({ "name": "shop", "permissions": ["doorward.audit:*"], "certificate_names": names, "create_secret": true })),
        (&root, json!({ "name": "shop", "certificate_names": names })),
        (&root, json!({ "name": "shop", "permissions": ["sales:read"] })),
    ] {
        let answer = recorder.call("CreateServiceAccount", Some(bearer), request.clone()).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, secret) = (text(&answer["serviceAccount"]["serviceAccount"]["id"]), text(&answer["clientSecret"]));
        if secret.is_empty() {
            continue;
        }
        recorder.world.pass(Duration::from_secs(1));
        let of = |more: Value| {
            let mut json = json!({ "tenant_id": request["tenant_id"], "service_account_id": id });
            json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json
        };
        let exchange = json!({ "client_credentials": { "client_id": id, "client_secret": secret } });
        let bought = recorder.call("IssueToken", None, exchange.clone()).await;
        let token = text(&bought["tokens"]["accessToken"]);
        recorder.call("GetMe", Some(&token), json!({})).await;
        recorder.validate(&token, json!({ "any_role": ["admin"] })).await;
        recorder.call("ListTenants", Some(&token), json!({})).await;
        let expiry = json!({ "expire_time": "2030-01-01T00:00:00Z" });
        let added = recorder.call("AddServiceAccountSecret", Some(bearer), of(expiry)).await;
        recorder.call("AddServiceAccountSecret", Some(bearer), of(json!({ "expire_time": "2001-01-01T00:00:00Z" }))).await;
        recorder.call("GetServiceAccount", Some(bearer), of(json!({}))).await;
        recorder.call("ListServiceAccounts", Some(bearer), json!({ "tenant_id": request["tenant_id"] })).await;
        let removal = of(json!({ "secret_id": text(&added["secret"]["id"]), "revoke_tokens": true }));
        for _ in 0..2 {
            recorder.call("RemoveServiceAccountSecret", Some(bearer), removal.clone()).await;
        }
        recorder.validate(&token, json!({})).await;
        for method in ["DisableServiceAccount", "EnableServiceAccount", "DeleteServiceAccount", "GetServiceAccount"] {
            recorder.call(method, Some(bearer), of(json!({}))).await;
            recorder.call("IssueToken", None, exchange.clone()).await;
        }
    }
}

async fn endings(recorder: &mut Recorder) {
    let (ann, refresh) = recorder.login("ann.ünal@example.com", PASSWORD, "ext:crm-acme").await;
    for (current, new) in [("wrong", NEW), (PASSWORD, "short"), (PASSWORD, PASSWORD), (PASSWORD, NEW), (NEW, PASSWORD)] {
        recorder.call("ChangePassword", Some(&ann), json!({ "current_password": current, "new_password": new })).await;
    }
    recorder.refresh(&refresh, json!({})).await;
    let (ann, refresh) = recorder.login("ann.ünal@example.com", NEW, "ext:crm-acme").await;
    let (bob, bobs_refresh) = recorder.login("bob@example.com", PASSWORD, "").await;
    for credential in [json!({ "access_token": refresh }), json!({ "refresh_token": ann }), json!({ "refresh_token": "garbage" })] {
        recorder.call("Logout", None, credential).await;
    }
    recorder.call("Logout", None, json!({ "refresh_token": refresh })).await;
    recorder.validate(&ann, json!({})).await;
    let app = recorder.world.app();
    let (person, acme) = (users::resolve(app, "bob@example.com").await.unwrap(), tenants::resolve(app, "acme").await.unwrap());
    domain::users::set_state(app, &person, UserState::Disabled, cli()).await.unwrap();
    recorder.validate(&bob, json!({})).await;
    recorder.refresh(&bobs_refresh, json!({})).await;
    recorder.login("bob@example.com", PASSWORD, "").await;
    let (ann, _) = recorder.login("ann.ünal@example.com", NEW, "ext:crm-acme").await;
    let app = recorder.world.app();
    let person = users::resolve(app, "ann.ünal@example.com").await.unwrap();
    memberships::remove(app, &acme, &person, cli()).await.unwrap();
    recorder.validate(&ann, json!({})).await;
    recorder.call("Logout", Some(&ann), json!({})).await;
    recorder.call("Logout", Some(&ann), json!({})).await;
}

#[test]
fn the_same_trace_has_the_same_answers_on_both_databases() {
    if postgres::cluster().is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (sqlite, postgres) = runtime.block_on(async { (trace(Backend::Sqlite).await, trace(Backend::Postgres).await) });
    assert!(sqlite.len() > 140, "only {} calls", sqlite.len());
    let outcomes: std::collections::BTreeSet<&str> = sqlite.iter().filter_map(|line| line.split(": ").nth(1)).collect();
    assert!(outcomes.len() >= 14, "the trace is too tame: {outcomes:?}");
    for (step, (one, other)) in sqlite.iter().zip(&postgres).enumerate() {
        assert_eq!(one, other, "step {step}: SQLite (left) and PostgreSQL (right) answer differently");
    }
    assert_eq!(sqlite.len(), postgres.len());
}
