//! The sweep: every method of the contract × every kind of caller. The matrix is `tests/golden/sweep.txt`, equal on both databases.
//!
//! A method without a recipe (`recipes.rs`) fails here. Every cell has a person of its own, so none depends on the one before.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use doorward::{
    domain,
    methods::{Access, METHODS, Method},
    pb::v1,
    store::{tenants::Tenant, users::UserState},
};

use crate::{
    golden,
    harness::*,
    on_both,
    recipes::{Caller, recipes},
    wire::{Wire, encode},
};

/// Who calls.
const CALLERS: [&str; 20] = [
    "no credentials",
    "garbage",
    "Basic scheme",
    "Bearer without a token",
    "a token without a scheme",
    "two authorization headers",
    "refresh token as bearer",
    "member",
    "admin",
    "owner",
    "superuser, no member",
    "member, another tenant's id",
    "member, a random tenant's id",
    "member of both, session of one, the other's id",
    "removed member",
    "narrowed token",
    "must change password",
    "expired access token",
    "disabled user",
    "logged out",
];

struct Scene {
    world: World,
    wire: Wire,
    acme: Tenant,
    beta: Tenant,
}

impl Scene {
    async fn new(world: World) -> Self {
        let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
        for tenant in [&acme, &beta] {
            world.role(tenant, "seller", &["sales:write"]).await;
        }
        Self { wire: Wire::connect(world.replica.grpc_addr).await, world, acme, beta }
    }

    /// A caller of a kind, and what stands in `authorization`.
    async fn caller(&self, kind: &str, email: &str) -> (Caller, Vec<String>) {
        let Self { world, acme, beta, .. } = self;
        let home = acme.id.to_string();
        let roles: &[&str] = match kind {
            "admin" => &["admin"],
            "owner" => &["owner"],
            _ => &["member", "seller"],
        };
        let mut caller = match kind {
            "no credentials" => return (Caller { tenant: home, ..Caller::default() }, Vec::new()),
            "garbage" => return garbage(home),
            "superuser, no member" => {
                world.superuser(email).await;
                Caller { tenant: home, ..Caller::logged_in(world, email).await }
            }
            "must change password" => {
                let person = world.new_person(Person { email: Some(email), must_change: true, ..Person::default() }).await;
                world.member(acme, &person, roles).await;
                Caller { tenant: home, ..Caller::logged_in(world, email).await }
            }
            _ => Caller::member(world, acme, email, roles).await,
        };
        let person = domain::users::resolve(world.app(), email).await.unwrap();
        match kind {
            "member, another tenant's id" => caller = Caller { tenant: beta.id.to_string(), is_foreign: true, ..caller },
            "member, a random tenant's id" => {
                caller = Caller { tenant: "01890000-0000-7000-8000-000000000000".to_owned(), is_foreign: true, ..caller };
            }
            "member of both, session of one, the other's id" => {
                world.member(beta, &person, roles).await;
                let tokens = world.login_to(email, acme).await;
                caller = Caller { tenant: beta.id.to_string(), is_foreign: true, ..Caller::with_tokens(email, &tokens) };
            }
            "removed member" => domain::memberships::remove(world.app(), acme, &person, cli()).await.unwrap(),
            "narrowed token" => caller.access_token = self.narrowed(&caller).await,
            "expired access token" => world.pass(Duration::from_mins(16)),
            "disabled user" => domain::users::set_state(world.app(), &person, UserState::Disabled, cli()).await.unwrap(),
            "logged out" => world.logout(&caller.access_token).await.unwrap(),
            _ => {}
        }
        let authorization = match kind {
            "Basic scheme" => vec!["Basic YW5uOnNlY3JldA==".to_owned()],
            "Bearer without a token" => vec!["Bearer ".to_owned()],
            "a token without a scheme" => vec![caller.access_token.clone()],
            "two authorization headers" => vec![caller.bearer(), caller.bearer()],
            "refresh token as bearer" => vec![format!("Bearer {}", caller.refresh_token)],
            _ => vec![caller.bearer()],
        };
        (caller, authorization)
    }

    async fn narrowed(&self, caller: &Caller) -> String {
        let grant = v1::PasswordGrant { username: caller.identifier.clone(), password: PASSWORD.to_owned() };
        let request = v1::IssueTokenRequest {
            grant: Some(v1::issue_token_request::Grant::Password(grant)),
            audience: vec!["doorward-clients".to_owned()],
            ..Default::default()
        };
        self.world.client().issue_token(request).await.unwrap().into_inner().tokens.unwrap().access_token
    }
}

fn garbage(tenant: String) -> (Caller, Vec<String>) {
    let garbage = || "garbage".to_owned();
    let caller =
        Caller { identifier: garbage(), password: garbage(), access_token: garbage(), refresh_token: garbage(), tenant, is_foreign: false };
    let authorization = vec![caller.bearer()];
    (caller, authorization)
}

on_both! {
    async fn who_may_call_what_is_as_the_golden_matrix_says(world: World) {
        let scene = Scene::new(world).await;
        let mut text = String::from(
            "# Every method, every way to call it, every kind of caller (tests/it/sweep.rs): answer: who gets it.\n",
        );
        for (number, method) in METHODS.iter().enumerate() {
            let ways = recipes(method, &Caller::default()).len();
            for way in 0..ways {
                let block = sweep(&scene, method, number, way).await;
                text.push_str(&block);
            }
        }
        golden::check("sweep.txt", &text);
    }
}

/// One way to call one method, by everybody.
async fn sweep(scene: &Scene, method: &Method, number: usize, way: usize) -> String {
    let mut outcomes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut title = String::new();
    for (row, kind) in CALLERS.iter().enumerate() {
        let (caller, authorization) = scene.caller(kind, &format!("p{number}-{way}-{row}@example.com")).await;
        let recipe = recipes(method, &caller).swap_remove(way);
        title = format!("{} {:?}{}{}", method.path, method.policy.access, if recipe.way.is_empty() { "" } else { ", by " }, recipe.way);
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = scene.wire.call(method.path, &headers, &encode(method.input, recipe.json)).await;
        let outcome = answer.outcome();
        assert!(!outcome.starts_with("INTERNAL") && !outcome.starts_with("UNKNOWN"), "{title}: {kind}: {answer:?}");
        follows_policy(method, kind, &outcome);
        outcomes.entry(outcome).or_default().push(kind);
    }
    let mut text = String::new();
    writeln!(text, "\n{title}").unwrap();
    for (outcome, kinds) in outcomes {
        let who = if kinds.len() == CALLERS.len() { "everybody".to_owned() } else { kinds.join("; ") };
        writeln!(text, "    {outcome}: {who}").unwrap();
    }
    text
}

/// What follows from the class alone, so that nobody can wave a hole through by updating the golden file.
fn follows_policy(method: &Method, kind: &str, outcome: &str) {
    let policy = &method.policy;
    let by_token = match (kind, policy.access) {
        (_, Access::Public | Access::Token) => None,
        ("no credentials", _) => Some("TOKEN_MISSING"),
        (
            "garbage"
            | "Basic scheme"
            | "Bearer without a token"
            | "a token without a scheme"
            | "two authorization headers"
            | "refresh token as bearer",
            _,
        ) => Some("TOKEN_INVALID"),
        ("expired access token", _) => Some("TOKEN_EXPIRED"),
        ("disabled user", _) => Some("PRINCIPAL_DISABLED"),
        ("logged out", _) => Some("SESSION_REVOKED"),
        ("must change password", _) if !policy.accepts_must_change => Some("PASSWORD_CHANGE_REQUIRED"),
        ("narrowed token", _) if !policy.accepts_narrowed => Some("AUDIENCE_MISMATCH"),
        ("member, another tenant's id" | "member, a random tenant's id" | "removed member", Access::Tenant) => Some("NOT_A_MEMBER"),
        ("member", Access::Tenant) => Some("PERMISSION_MISSING"),
        ("member" | "admin" | "owner", Access::Operator) => Some("SUPERUSER_REQUIRED"),
        _ => None,
    };
    if let Some(expected) = by_token {
        let (path, access) = (method.path, policy.access);
        assert!(
            outcome.ends_with(&format!(" {expected}")),
            "{path} is a {access:?} method, so \"{kind}\" must get {expected}, but got {outcome}: its handler decides without the gate, or \
             without `ctx.tenant`"
        );
    }
}
