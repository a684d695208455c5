//! The sweep: every method of the contract × every kind of caller. The matrix is `tests/golden/sweep.txt`, equal on both databases.
//!
//! A method without a recipe (`recipes.rs`) fails here. Every cell has a person of its own, so none depends on the one before.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use doorward::{
    domain,
    methods::{Access, METHODS, Method},
    pb::v1,
    store::{service_accounts::AccountState, tenants::Tenant, users::UserState},
};

use crate::{
    golden,
    harness::*,
    on_both,
    recipes::{Caller, recipes},
    wire::{Wire, encode},
    workloads::{BOTH, instance_account, operator, tenant_account, token},
};

/// Who calls: the matrix has a column for each.
const CALLERS: [&str; 14] = [
    "nobody",
    "garbage",
    "member",
    "admin",
    "owner",
    "owner elsewhere",
    "superuser",
    "account",
    "operator account",
    "must change",
    "expired",
    "revoked",
    "disabled",
    "suspended",
];
/// Ways to call that are nobody's role: below the matrix, by what they get.
const ODD_CALLERS: [&str; 15] = [
    "Basic scheme",
    "Bearer without a token",
    "a token without a scheme",
    "two authorization headers",
    "refresh token as bearer",
    "logged out",
    "removed member",
    "narrowed token",
    "member, another tenant's id",
    "member, a random tenant's id",
    "member of both, session of one, the other's id",
    "suspended tenant, session of none",
    "superuser, a random tenant's id",
    "account elsewhere",
    "disabled account",
];

struct Scene {
    world: World,
    wire: Wire,
    acme: Tenant,
    beta: Tenant,
    /// Suspended but while somebody becomes its member.
    shut: Tenant,
}

impl Scene {
    async fn new(world: World) -> Self {
        let (acme, beta, shut) = (world.tenant("acme").await, world.tenant("beta").await, world.tenant("shut").await);
        for tenant in [&acme, &beta, &shut] {
            world.role(tenant, "seller", &["sales:write"]).await;
        }
        Self { wire: Wire::connect(world.replica.grpc_addr).await, world, acme, beta, shut }
    }

    /// A caller of a kind, and what stands in `authorization`.
    async fn caller(&self, kind: &str, email: &str) -> (Caller, Vec<String>) {
        let caller = match kind {
            "nobody" => return (Caller { tenant: self.acme.id.to_string(), ..Caller::default() }, Vec::new()),
            "garbage" => return garbage(self.acme.id.to_string()),
            "suspended" | "suspended tenant, session of none" => self.suspended(kind, email).await,
            "account" | "operator account" | "account elsewhere" | "disabled account" => self.workload(kind).await,
            _ => self.person(kind, email).await,
        };
        let authorization = match kind {
            "Basic scheme" => vec!["Basic YW5uOnNlY3JldA==".to_owned()],
            "Bearer without a token" => vec!["Bearer ".to_owned()],
            "a token without a scheme" => vec![caller.access_token.clone()],
            "two authorization headers" => vec![caller.bearer(), caller.bearer()],
            "refresh token as bearer" => vec![format!("Bearer {}", caller.refresh_token)],
            _ => vec![caller.bearer()],
        };
        let tenant = if kind.starts_with("suspended") { &self.shut } else { &self.acme };
        (caller.with_accounts(&self.world, tenant).await, authorization)
    }

    /// A service account by its token, which stands where a person's would.
    async fn workload(&self, kind: &str) -> Caller {
        let Self { world, acme, beta, .. } = self;
        let account = match kind {
            "operator account" => instance_account(world, &BOTH).await,
            "account elsewhere" => tenant_account(world, beta, &["admin"]).await,
            _ => tenant_account(world, acme, &["admin"]).await,
        };
        let access_token = token(world, &account).await;
        if kind == "disabled account" {
            let by = operator(world, Some(acme));
            domain::service_accounts::set_state(world.app(), by, account.key(), AccountState::Disabled).await.unwrap();
        }
        let is_foreign = kind == "account elsewhere";
        let (client_id, client_secret, tenant) = (account.id, account.secret, acme.id.to_string());
        Caller { access_token, client_id, client_secret, tenant, is_foreign, ..Caller::default() }
    }

    /// A person of acme, or whoever is none, after what makes them of this kind.
    async fn person(&self, kind: &str, email: &str) -> Caller {
        let Self { world, acme, beta, .. } = self;
        let home = || acme.id.to_string();
        let random = || "01890000-0000-7000-8000-000000000000".to_owned();
        let roles: &[&str] = match kind {
            "admin" => &["admin"],
            "owner" => &["owner"],
            _ => &["member", "seller"],
        };
        let mut caller = match kind {
            "superuser" | "superuser, a random tenant's id" => {
                world.superuser(email).await;
                Caller { tenant: home(), ..Caller::logged_in(world, email).await }
            }
            "owner elsewhere" => Caller { tenant: home(), is_foreign: true, ..Caller::member(world, beta, email, &["owner"]).await },
            "must change" => {
                let person = world.new_person(Person { email: Some(email), must_change: true, ..Person::default() }).await;
                world.member(acme, &person, roles).await;
                Caller { tenant: home(), ..Caller::logged_in(world, email).await }
            }
            _ => Caller::member(world, acme, email, roles).await,
        };
        let person = domain::users::resolve(world.app(), email).await.unwrap();
        match kind {
            "member, another tenant's id" => caller = Caller { tenant: beta.id.to_string(), is_foreign: true, ..caller },
            "member, a random tenant's id" | "superuser, a random tenant's id" => {
                caller = Caller { tenant: random(), is_foreign: true, ..caller };
            }
            "member of both, session of one, the other's id" => {
                world.member(beta, &person, roles).await;
                let tokens = world.login_to(email, acme).await;
                caller = Caller { tenant: beta.id.to_string(), is_foreign: true, ..Caller::with_tokens(email, &tokens) };
            }
            "removed member" => domain::memberships::remove(world.app(), acme, &person, cli()).await.unwrap(),
            "narrowed token" => caller.access_token = self.narrowed(&caller).await,
            "expired" => world.pass(Duration::from_mins(16)),
            "disabled" => domain::users::set_state(world.app(), &person, UserState::Disabled, cli()).await.unwrap(),
            "logged out" => world.logout(&caller.access_token).await.unwrap(),
            // By moving the person's epoch, as whatever ends all sessions of one does; the row of the session stays as it was.
            "revoked" => {
                let moved = format!("UPDATE users SET epoch = epoch + 1 WHERE email = '{email}'");
                assert_eq!(world.sql().await.execute(&moved).await, 1);
            }
            _ => {}
        }
        caller
    }

    /// A member of a tenant that is suspended; the session is bound to it, or to none.
    async fn suspended(&self, kind: &str, email: &str) -> Caller {
        let Self { world, shut, .. } = self;
        domain::tenants::set_suspended(world.app(), shut, false, cli()).await.unwrap();
        let mut caller = Caller::member(world, shut, email, &["member", "seller"]).await;
        if kind == "suspended" {
            let tokens = world.login_to(email, shut).await;
            caller = Caller { tenant: caller.tenant, ..Caller::with_tokens(email, &tokens) };
        }
        domain::tenants::set_suspended(world.app(), shut, true, cli()).await.unwrap();
        caller
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
    let (identifier, password) = (garbage(), garbage());
    let caller = Caller { identifier, password, access_token: garbage(), refresh_token: garbage(), tenant, ..Caller::default() };
    let authorization = vec![caller.bearer()];
    (caller, authorization)
}

on_both! {
    async fn who_may_call_what_is_as_the_golden_matrix_says(world: World) {
        let scene = Scene::new(world).await;
        let mut matrix = vec![[&["method, way"][..], &CALLERS].concat().iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
        let mut odd = String::new();
        for (number, method) in METHODS.iter().enumerate() {
            for way in 0..recipes(method, &Caller::default()).len() {
                let outcomes = sweep(&scene, method, number, way).await;
                let title = title(method, way);
                let cells = CALLERS.iter().map(|&kind| short(&outcomes[kind]).to_owned());
                matrix.push(std::iter::once(title.clone()).chain(cells).collect());
                writeln!(odd, "\n{title}").unwrap();
                for (outcome, kinds) in by_outcome(&outcomes) {
                    writeln!(odd, "    {outcome}: {kinds}").unwrap();
                }
            }
        }
        let head = "# Every method x every kind of caller (tests/it/sweep.rs). The tenant in the request is acme, but for `suspended`.\n\n";
        let legend = SHORT.iter().map(|(short, long)| format!("{short:8} = {long}")).collect::<Vec<_>>().join("\n");
        golden::check("sweep.txt", &format!("{head}{}\n{legend}\n\n# Odd ways to call, by what they get.\n{odd}", table(&matrix)));
    }
}

/// What stands in a cell for an outcome, so that a row fits a screen.
const SHORT: [(&str, &str); 17] = [
    ("ok", "OK"),
    ("no token", "UNAUTHENTICATED TOKEN_MISSING"),
    ("invalid", "UNAUTHENTICATED TOKEN_INVALID"),
    ("expired", "UNAUTHENTICATED TOKEN_EXPIRED"),
    ("revoked", "UNAUTHENTICATED SESSION_REVOKED"),
    ("disabled", "UNAUTHENTICATED PRINCIPAL_DISABLED"),
    ("pw first", "UNAUTHENTICATED PASSWORD_CHANGE_REQUIRED"),
    ("audience", "UNAUTHENTICATED AUDIENCE_MISMATCH"),
    ("wrong pw", "UNAUTHENTICATED INVALID_CREDENTIALS"),
    ("outsider", "PERMISSION_DENIED NOT_A_MEMBER"),
    ("shut", "PERMISSION_DENIED TENANT_SUSPENDED"),
    ("no right", "PERMISSION_DENIED PERMISSION_MISSING"),
    ("no role", "PERMISSION_DENIED ROLE_MISSING"),
    ("no super", "PERMISSION_DENIED SUPERUSER_REQUIRED"),
    ("field", "INVALID_ARGUMENT INVALID_FIELD"),
    ("absent", "NOT_FOUND NOT_FOUND"),
    ("off", "FAILED_PRECONDITION FEATURE_DISABLED"),
];

fn short(outcome: &str) -> &'static str {
    let found = SHORT.iter().find(|(_, long)| *long == outcome);
    found.unwrap_or_else(|| panic!("the sweep has no short word for {outcome}: add one to SHORT")).0
}

fn title(method: &Method, way: usize) -> String {
    let way = recipes(method, &Caller::default()).swap_remove(way).way;
    format!("{} {}{}", method.name, if way.is_empty() { String::new() } else { format!("by {way} ") }, access(method))
}

/// The class of a method, by its first letters in the contract.
fn access(method: &Method) -> String {
    format!("({:?})", method.policy.access).to_lowercase()
}

fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap();
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect::<Vec<_>>().join(" | ");
    rows.iter().map(|row| line(row).trim_end().to_owned() + "\n").collect()
}

/// The odd callers, by what they get.
fn by_outcome(outcomes: &BTreeMap<&str, String>) -> Vec<(String, String)> {
    let mut by_outcome: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in ODD_CALLERS {
        by_outcome.entry(&outcomes[kind]).or_default().push(kind);
    }
    let all = |kinds: Vec<&str>| if kinds.len() == ODD_CALLERS.len() { "all of them".to_owned() } else { kinds.join("; ") };
    by_outcome.into_iter().map(|(outcome, kinds)| (outcome.to_owned(), all(kinds))).collect()
}

/// One way to call one method, by everybody: what each gets.
async fn sweep(scene: &Scene, method: &Method, number: usize, way: usize) -> BTreeMap<&'static str, String> {
    let mut outcomes = BTreeMap::new();
    for (row, kind) in CALLERS.into_iter().chain(ODD_CALLERS).enumerate() {
        let (caller, authorization) = scene.caller(kind, &format!("p{number}-{way}-{row}@example.com")).await;
        let recipe = recipes(method, &caller).swap_remove(way);
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = scene.wire.call(method.path, &headers, &encode(method.input, recipe.json)).await;
        let outcome = answer.outcome();
        assert!(!outcome.starts_with("INTERNAL") && !outcome.starts_with("UNKNOWN"), "{}: {kind}: {answer:?}", method.path);
        follows_policy(method, recipe.way, kind, &outcome);
        outcomes.insert(kind, outcome);
    }
    outcomes
}

/// What follows from the class alone, so that nobody can wave a hole through by updating the golden file.
fn follows_policy(method: &Method, way: &str, kind: &str, outcome: &str) {
    let policy = &method.policy;
    // What accepts the instance and names no tenant is judged as an OPERATOR method is.
    let class = if policy.accepts_instance && way == "instance" { Access::Operator } else { policy.access };
    let is_account = matches!(kind, "account" | "operator account" | "account elsewhere" | "disabled account");
    if is_account && matches!(class, Access::Session | Access::Token) && !policy.accepts_service_accounts {
        assert!(outcome.ends_with(" TOKEN_INVALID"), "{} is for people, but {kind} got {outcome}", method.path);
        return;
    }
    let by_token = match (kind, class) {
        (_, Access::Public | Access::Token) => None,
        ("nobody", _) => Some("TOKEN_MISSING"),
        (
            "garbage"
            | "Basic scheme"
            | "Bearer without a token"
            | "a token without a scheme"
            | "two authorization headers"
            | "refresh token as bearer",
            _,
        ) => Some("TOKEN_INVALID"),
        ("expired", _) => Some("TOKEN_EXPIRED"),
        ("disabled" | "disabled account", _) => Some("PRINCIPAL_DISABLED"),
        ("logged out" | "revoked", _) => Some("SESSION_REVOKED"),
        ("must change", _) if !policy.accepts_must_change => Some("PASSWORD_CHANGE_REQUIRED"),
        ("narrowed token", _) if !policy.accepts_narrowed => Some("AUDIENCE_MISMATCH"),
        (
            "owner elsewhere"
            | "operator account"
            | "account elsewhere"
            | "member, another tenant's id"
            | "member, a random tenant's id"
            | "superuser, a random tenant's id"
            | "removed member",
            Access::Tenant,
        ) => Some("NOT_A_MEMBER"),
        ("suspended", Access::Session | Access::Tenant | Access::Operator) | ("suspended tenant, session of none", Access::Tenant) => {
            Some("TENANT_SUSPENDED")
        }
        ("member", Access::Tenant) | ("account" | "account elsewhere", Access::Operator) => Some("PERMISSION_MISSING"),
        ("member" | "admin" | "owner" | "owner elsewhere" | "removed member" | "suspended tenant, session of none", Access::Operator) => {
            Some("SUPERUSER_REQUIRED")
        }
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
