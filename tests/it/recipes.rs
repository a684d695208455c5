//! A good request for every method, so that the sweep and the bad input reach whatever stands in `METHODS`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::methods::{Access, Method};
use serde_json::{Value, json};

use crate::{
    harness::*,
    workloads::{BOTH, instance_account, tenant_account},
};

/// Whoever calls, and what requests for them are filled with.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub identifier: String,
    pub password: String,
    pub access_token: String,
    pub refresh_token: String,
    /// The service account that the caller is, or that stands for nobody.
    pub client_id: String,
    pub client_secret: String,
    /// A service account of the tenant, and its secret's id.
    pub account: (String, String),
    /// An instance-wide service account, and its secret's id.
    pub instance_account: (String, String),
    /// The tenant that requests name.
    pub tenant: String,
    /// Whether that is another one than the caller's own.
    pub is_foreign: bool,
}

/// One way to call a method well.
pub struct Recipe {
    /// Which way, where there are several.
    pub way: &'static str,
    /// The request.
    pub json: Value,
    /// A yes uses the caller up: password, session or refresh token are others afterwards.
    pub consumes: bool,
}

impl Caller {
    /// A member of a tenant, logged in.
    pub async fn member(world: &World, tenant: &doorward::store::tenants::Tenant, email: &str, roles: &[&str]) -> Self {
        let person = world.person(email).await;
        world.member(tenant, &person, roles).await;
        Self { tenant: tenant.id.to_string(), ..Self::logged_in(world, email).await }
    }

    /// A member of a tenant who, where the method is for operators, is one.
    pub async fn who_may(method: &Method, world: &World, tenant: &doorward::store::tenants::Tenant, email: &str, roles: &[&str]) -> Self {
        if method.policy.access != Access::Operator {
            return Self::member(world, tenant, email, roles).await;
        }
        let person = world.superuser(email).await;
        world.member(tenant, &person, roles).await;
        Self { tenant: tenant.id.to_string(), ..Self::logged_in(world, email).await }
    }

    /// The same with service accounts of their own to name.
    pub async fn with_accounts(self, world: &World, tenant: &doorward::store::tenants::Tenant) -> Self {
        let (own, wide) = (tenant_account(world, tenant, &["member"]).await, instance_account(world, &BOTH).await);
        Self { account: (own.id, own.secret_id), instance_account: (wide.id, wide.secret_id), ..self }
    }

    /// A person, logged in.
    pub async fn logged_in(world: &World, identifier: &str) -> Self {
        Self::with_tokens(identifier, &world.login(identifier).await)
    }

    /// A person with tokens.
    pub fn with_tokens(identifier: &str, tokens: &doorward::pb::v1::TokenSet) -> Self {
        Self {
            identifier: identifier.to_owned(),
            password: PASSWORD.to_owned(),
            access_token: tokens.access_token.clone(),
            refresh_token: tokens.refresh_token.clone(),
            ..Self::default()
        }
    }

    /// The session of the access token; of whoever has none, some other.
    fn session(&self) -> String {
        let payload = self.access_token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims: Option<Value> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        let sid = claims.and_then(|claims| claims["sid"].as_str().map(str::to_owned));
        sid.unwrap_or_else(|| "01890000-0000-7000-8000-000000000000".to_owned())
    }

    /// The value of `authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.access_token)
    }
}

/// Every way to call a method. The token of SESSION and TENANT methods, and of TOKEN methods by default, goes into `authorization`.
pub fn recipes(method: &Method, caller: &Caller) -> Vec<Recipe> {
    let Caller { identifier, password, refresh_token, tenant, .. } = caller;
    let client_info = json!({ "ip_address": "192.0.2.7", "user_agent": "test/1", "device_name": "a test", "device_token": "none" });
    let one = |consumes, json| vec![Recipe { way: "", json, consumes }];
    match method.path {
        "/doorward.v1.AuthService/Login" => {
            one(false, json!({ "identifier": identifier, "password": password, "tenant_id": tenant, "client_info": client_info }))
        }
        "/doorward.v1.AuthService/IssueToken" => vec![
            Recipe {
                way: "password",
                json: json!({
                    "password": { "username": identifier, "password": password }, "tenant_id": tenant, "scope": "sales:write",
                    "audience": ["doorward-clients"], "client_info": client_info,
                }),
                consumes: false,
            },
            Recipe {
                way: "refresh_token",
                json: json!({
                    "refresh_token": { "refresh_token": refresh_token }, "tenant_id": if caller.is_foreign { tenant } else { "" },
                    "client_info": client_info,
                }),
                consumes: true,
            },
            Recipe {
                way: "client_credentials",
                json: json!({ "client_credentials": { "client_id": caller.client_id, "client_secret": caller.client_secret } }),
                consumes: false,
            },
            Recipe {
                way: "token_exchange",
                json: json!({
                    "token_exchange": {
                        "subject_token": caller.access_token, "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    },
                    "tenant_id": tenant,
                }),
                consumes: false,
            },
        ],
        "/doorward.v1.AuthService/ValidateSession" => one(false, json!({ "tenant_id": tenant, "include_tenants": true })),
        "/doorward.v1.AuthService/ListTenants" | "/doorward.v1.AuthService/ListSessions" => one(false, json!({ "page_size": 10 })),
        "/doorward.v1.AuthService/Logout" => vec![
            Recipe { way: "access token", json: json!({}), consumes: true },
            Recipe { way: "refresh token", json: json!({ "refresh_token": refresh_token }), consumes: true },
        ],
        "/doorward.v1.AuthService/ChangePassword" => {
            one(true, json!({ "current_password": password, "new_password": "another good long password", "client_info": client_info }))
        }
        "/doorward.v1.AuthService/RevokeSession" => one(true, json!({ "session_id": caller.session() })),
        "/doorward.v1.AuthService/RevokeAllSessions" => vec![
            Recipe { way: "all", json: json!({}), consumes: true },
            Recipe { way: "all but the current", json: json!({ "keep_current": true }), consumes: false },
        ],
        path if path.starts_with("/doorward.v1.AccessService/") => one(false, of_access(method, tenant)),
        "/doorward.v1.AuthService/GetMe"
        | "/doorward.v1.SigningKeyService/ListSigningKeys"
        | "/doorward.v1.SigningKeyService/RotateSigningKey"
        | "/doorward.v1.SigningKeyService/ResealSigningKeys" => one(false, json!({})),
        // Of a key that is not there: to revoke the one that signs would end the tokens of all other callers.
        path if path.starts_with("/doorward.v1.SigningKeyService/") => one(false, json!({ "kid": "no-such-key" })),
        path if path.starts_with("/doorward.v1.ServiceAccountService/") => of_service_accounts(method, caller),
        path => panic!(
            "tests/it/recipes.rs has no recipe for {path}: add an arm with a request that a member may send (`tenant` for its \
             tenant_id). Then run `DOORWARD_UPDATE_GOLDEN=1 cargo test --test it sweep`, and read the diff of tests/golden/sweep.txt: it \
             says who may call the new method."
        ),
    }
}

fn of_access(method: &Method, tenant: &str) -> Value {
    let check = |permission| json!({ "tenant_id": tenant, "permission": permission });
    match method.name {
        "CheckAccess" => json!({ "check": check("sales:write") }),
        "BatchCheckAccess" => json!({ "checks": [check("sales:write"), check("sales:read")] }),
        "ListEffectivePermissions" => json!({ "tenant_id": tenant }),
        _ => json!({}),
    }
}

/// Each of them is about an account of the tenant, or about an instance-wide one.
fn of_service_accounts(method: &Method, caller: &Caller) -> Vec<Recipe> {
    let places = [("tenant", caller.tenant.as_str(), &caller.account), ("instance", "", &caller.instance_account)];
    let recipe = |(way, tenant_id, (account, secret)): (&'static str, &str, &(String, String))| {
        let mut json = json!({ "tenant_id": tenant_id });
        let more = match method.name {
            "CreateServiceAccount" if way == "tenant" => json!({ "name": "robot", "roles": ["member"], "create_secret": true }),
            "CreateServiceAccount" => json!({ "name": "shop", "permissions": ["doorward.service_accounts:read"], "create_secret": true }),
            "ListServiceAccounts" => json!({ "page_size": 10 }),
            "RemoveServiceAccountSecret" => json!({ "service_account_id": account, "secret_id": secret, "revoke_tokens": true }),
            _ => json!({ "service_account_id": account }),
        };
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        // An account has a few secrets at most, and is deleted once.
        let consumes = matches!(method.name, "DeleteServiceAccount" | "AddServiceAccountSecret" | "RemoveServiceAccountSecret");
        Recipe { way, json, consumes }
    };
    places.map(recipe).into()
}
