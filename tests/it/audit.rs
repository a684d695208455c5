//! The audit trail: exactly one row for each fact, in the transaction of the fact, also when nobody hears the answer; none for what did
//! not happen; and nothing in it that a person typed.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use doorward::{
    domain::{
        self,
        audit::Event,
        keys::{self, KeyOperator, Resealed},
        memberships, revocation, roles, service_accounts,
        tenants::{
            self,
            policy::{self, Lifetimes},
        },
        users,
    },
    pb::v1,
    store::{facts::Whose, service_accounts::AccountState, tenants::Tenant, users::UserState},
    values::secret::{self, Password},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    bad_input,
    harness::*,
    life::eventually,
    lock::Lock,
    on_both,
    probe::{list_sessions, revoke_all_sessions, revoke_session},
    recipes::Caller,
    wire::{Wire, encode},
    workloads::{operator, tenant_account, token},
};

const WRONG: &str = "not the right password";
const NEW: &str = "another good long password";

/// The name of each event. A new one does not compile until it is here and happens in the scenario below.
const fn name(event: Event) -> &'static str {
    match event {
        Event::LoginSucceeded => "login.succeeded",
        Event::LoginFailed => "login.failed",
        Event::SessionRevoked => "session.revoked",
        Event::UserSessionsRevoked => "user.sessions_revoked",
        Event::MemberSessionsRevoked => "member.sessions_revoked",
        Event::TenantSessionsRevoked => "tenant.sessions_revoked",
        Event::AllSessionsRevoked => "instance.sessions_revoked",
        Event::RefreshTokenReused => "session.refresh_token_reused",
        Event::PasswordChanged => "password.changed",
        Event::PasswordChangeFailed => "password.change_failed",
        Event::UserCreated => "user.created",
        Event::UserDisabled => "user.disabled",
        Event::UserEnabled => "user.enabled",
        Event::UserDeleted => "user.deleted",
        Event::UserPasswordSet => "user.password_set",
        Event::TenantCreated => "tenant.created",
        Event::TenantSuspended => "tenant.suspended",
        Event::TenantActivated => "tenant.activated",
        Event::TenantPolicyChanged => "tenant.policy_changed",
        Event::RoleCreated => "role.created",
        Event::MemberAdded => "member.added",
        Event::MemberRemoved => "member.removed",
        Event::ServiceAccountCreated => "service_account.created",
        Event::ServiceAccountDisabled => "service_account.disabled",
        Event::ServiceAccountEnabled => "service_account.enabled",
        Event::ServiceAccountDeleted => "service_account.deleted",
        Event::ServiceAccountSecretAdded => "service_account.secret_added",
        Event::ServiceAccountSecretRemoved => "service_account.secret_removed",
        Event::ServiceAccountCertificateAdded => "service_account.certificate_added",
        Event::ServiceAccountCertificateRemoved => "service_account.certificate_removed",
        Event::SigningKeyCreated => "signing_key.created",
        Event::SigningKeyActivated => "signing_key.activated",
        Event::SigningKeyRetired => "signing_key.retired",
        Event::SigningKeyRevoked => "signing_key.revoked",
        Event::SigningKeyRemoved => "signing_key.removed",
        Event::SigningKeyResealed => "signing_key.resealed",
    }
}

const EVENTS: [Event; 36] = [
    Event::LoginSucceeded,
    Event::LoginFailed,
    Event::SessionRevoked,
    Event::UserSessionsRevoked,
    Event::MemberSessionsRevoked,
    Event::TenantSessionsRevoked,
    Event::AllSessionsRevoked,
    Event::RefreshTokenReused,
    Event::PasswordChanged,
    Event::PasswordChangeFailed,
    Event::UserCreated,
    Event::UserDisabled,
    Event::UserEnabled,
    Event::UserDeleted,
    Event::UserPasswordSet,
    Event::TenantCreated,
    Event::TenantSuspended,
    Event::TenantActivated,
    Event::TenantPolicyChanged,
    Event::RoleCreated,
    Event::MemberAdded,
    Event::MemberRemoved,
    Event::ServiceAccountCreated,
    Event::ServiceAccountDisabled,
    Event::ServiceAccountEnabled,
    Event::ServiceAccountDeleted,
    Event::ServiceAccountSecretAdded,
    Event::ServiceAccountSecretRemoved,
    Event::ServiceAccountCertificateAdded,
    Event::ServiceAccountCertificateRemoved,
    Event::SigningKeyCreated,
    Event::SigningKeyActivated,
    Event::SigningKeyRetired,
    Event::SigningKeyRevoked,
    Event::SigningKeyRemoved,
    Event::SigningKeyResealed,
];

/// A row of the trail.
#[derive(Debug)]
struct Row {
    event: String,
    /// `success`, or `failure` and the reason.
    outcome: String,
    /// Kind and id.
    actor: String,
    session_id: Option<Uuid>,
    request_id: Option<String>,
}

/// The trail, read step by step.
struct Trail<'a> {
    world: &'a World,
    sql: Sql,
    read: HashSet<Uuid>,
    events: BTreeSet<String>,
}

impl<'a> Trail<'a> {
    async fn of(world: &'a World) -> Self {
        let mut trail = Self { world, sql: world.sql().await, read: HashSet::new(), events: BTreeSet::new() };
        trail.next().await;
        trail.events.clear();
        trail
    }

    /// The rows since the last look.
    async fn next(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for row in self.sql.query("SELECT * FROM audit_events").await {
            let text = |column: &str| row.try_get::<Option<String>>("", column).unwrap();
            if self.read.insert(row.try_get("", "id").unwrap()) {
                let outcome = [text("outcome"), text("reason")].into_iter().flatten().collect::<Vec<_>>().join(" ");
                let actor = [text("actor_kind"), text("actor_id")].into_iter().flatten().collect::<Vec<_>>().join(" ");
                let session_id = row.try_get("", "session_id").unwrap();
                rows.push(Row { event: text("event").unwrap(), outcome, actor, session_id, request_id: text("request_id") });
            }
        }
        self.events.extend(rows.iter().map(|row| row.event.clone()));
        rows
    }

    /// The one row since the last look.
    #[track_caller]
    fn one(rows: Vec<Row>, event: Event, outcome: &str, actor: &str) -> Row {
        let [row] = <[Row; 1]>::try_from(rows).unwrap_or_else(|rows| panic!("{} must be one row, but there are {rows:?}", name(event)));
        assert_eq!((row.event.as_str(), row.outcome.as_str(), row.actor.as_str()), (name(event), outcome, actor));
        row
    }

    /// An operator's act is one row of the command's.
    async fn expect_cli(&mut self, event: Event) {
        Self::one(self.next().await, event, "success", "cli cli:test");
    }

    async fn expect(&mut self, event: Event, outcome: &str, actor: &str) -> Row {
        let row = Self::one(self.next().await, event, outcome, actor);
        assert!(row.request_id.is_some(), "{row:?} does not say in which call");
        row
    }

    async fn expect_nothing(&mut self, what: &str) {
        let rows = self.next().await;
        assert!(rows.is_empty(), "{what} must leave no row, but there are {rows:?}");
    }

    /// Everything that the trail holds, as text.
    async fn text(&self) -> String {
        let mut text = String::new();
        for row in self.sql.query("SELECT * FROM audit_events").await {
            for column in ["event", "reason", "actor_id", "object_id", "client_id", "ip_address", "request_id"] {
                text.push_str(&row.try_get::<Option<String>>("", column).unwrap().unwrap_or_default());
                text.push('\n');
            }
            text.push_str(&row.try_get::<serde_json::Value>("", "details").unwrap().to_string());
        }
        text
    }
}

on_both! {
    async fn every_fact_is_exactly_one_row(world: World) {
        let mut trail = Trail::of(&world).await;
        administration(&mut trail).await;
        logins(&mut trail).await;
        sessions(&mut trail).await;
        // Last: afterwards this replica has not the root that it needs.
        keys(&mut trail).await;
        let all: BTreeSet<String> = EVENTS.map(|event| name(event).to_owned()).into();
        assert_eq!(trail.events, all, "an event that does not happen in these scenarios: add the step");
        let text = trail.text().await;
        for typed in ["@", "nobody", "hunter2", PASSWORD, WRONG, NEW, "Ann Example", "dw_rt_", "dw_cs_", "eyJ"] {
            assert!(!text.contains(typed), "{typed:?} stands in the trail: it may be personal, or a secret in the wrong field");
        }
    }
}

/// What operators do about workloads. What a workload does with its secret is no event.
async fn workloads(trail: &mut Trail<'_>, acme: &Tenant) {
    let (world, app) = (trail.world, trail.world.app());
    let account = tenant_account(world, acme, &["seller"]).await;
    trail.expect_cli(Event::ServiceAccountCreated).await;
    let by = || operator(world, Some(acme));
    token(world, &account).await;
    trail.expect_nothing("a token for a secret").await;
    let (second, _) = service_accounts::add_secret(app, by(), account.key(), None).await.unwrap();
    trail.expect_cli(Event::ServiceAccountSecretAdded).await;
    service_accounts::remove_secret(app, by(), account.key(), second.id, true).await.unwrap();
    trail.expect_cli(Event::ServiceAccountSecretRemoved).await;
    let name = || "spiffe://example.org/shop".to_owned();
    service_accounts::add_certificate(app, by(), account.key(), name()).await.unwrap();
    trail.expect_cli(Event::ServiceAccountCertificateAdded).await;
    service_accounts::add_certificate(app, by(), account.key(), name()).await.unwrap();
    trail.expect_nothing("doing it twice").await;
    service_accounts::remove_certificate(app, by(), account.key(), name()).await.unwrap();
    trail.expect_cli(Event::ServiceAccountCertificateRemoved).await;
    for (to, event) in [(AccountState::Disabled, Event::ServiceAccountDisabled), (AccountState::Active, Event::ServiceAccountEnabled)] {
        service_accounts::set_state(app, by(), account.key(), to).await.unwrap();
        trail.expect_cli(event).await;
        service_accounts::set_state(app, by(), account.key(), to).await.unwrap();
        trail.expect_nothing("doing it twice").await;
    }
    service_accounts::set_state(app, by(), account.key(), AccountState::Deleted).await.unwrap();
    trail.expect_cli(Event::ServiceAccountDeleted).await;
    service_accounts::set_state(app, by(), account.key(), AccountState::Deleted).await.unwrap_err();
    trail.expect_nothing("deleting what is deleted").await;
}

/// The keys that tokens are signed with.
async fn keys(trail: &mut Trail<'_>) {
    let (world, app) = (trail.world, trail.world.app());
    let by = || KeyOperator::at_the_command(app, cli());
    let next = keys::rotate(app, by(), false).await.unwrap();
    trail.expect_cli(Event::SigningKeyCreated).await;
    keys::rotate(app, by(), false).await.unwrap();
    trail.expect_nothing("the next key waits already").await;
    keys::retire(app, by(), &next.kid).await.unwrap();
    trail.expect_cli(Event::SigningKeyRemoved).await;
    let first = app.keys.latest().signer().unwrap().kid.clone();
    keys::revoke(app, by(), &first).await.unwrap();
    let events: BTreeSet<String> = trail.next().await.into_iter().map(|row| format!("{} {}", row.event, row.actor)).collect();
    let expected = ["signing_key.revoked", "signing_key.created", "signing_key.activated"].map(|event| format!("{event} cli cli:test"));
    assert_eq!(events, expected.into());
    keys::revoke(app, by(), &first).await.unwrap();
    trail.expect_nothing("revoking it twice").await;
    keys::rotate(app, by(), true).await.unwrap();
    assert_eq!(trail.next().await.len(), 3, "made, signs, and the one before it retires");

    keys::reseal(app, by()).await.unwrap();
    trail.expect_nothing("sealing what is sealed under the first root").await;
    let mut config = world.config.clone();
    config.secrets.root = vec![secret::generate_root(&app.entropy).into(), root_in_use(world).into()];
    let replica = Replica::start(config, world.clock.clone()).await;
    let resealed = keys::reseal(&replica.app, by()).await.unwrap();
    let rows = trail.next().await;
    assert_eq!(resealed, Resealed { changed: 2, unchanged: 0 }, "the revoked one has no private half left");
    assert!(rows.len() == 2 && rows.iter().all(|row| row.event == name(Event::SigningKeyResealed)), "{rows:?}");
}

/// What operators do.
async fn administration(trail: &mut Trail<'_>) {
    let (world, app) = (trail.world, trail.world.app());
    let ann = world.person("ann@example.com").await;
    trail.expect_cli(Event::UserCreated).await;
    let acme = world.tenant("acme").await;
    trail.expect_cli(Event::TenantCreated).await;
    world.role(&acme, "seller", &["sales:write"]).await;
    trail.expect_cli(Event::RoleCreated).await;
    world.member(&acme, &ann, &["seller"]).await;
    trail.expect_cli(Event::MemberAdded).await;
    revocation::revoke_all(app, Whose::Member { user: ann.id, tenant: acme.id }, cli()).await.unwrap();
    trail.expect_cli(Event::MemberSessionsRevoked).await;
    memberships::remove(app, &acme, &ann, cli()).await.unwrap();
    trail.expect_cli(Event::MemberRemoved).await;
    assert!(revocation::revoke_all(app, Whose::Member { user: ann.id, tenant: acme.id }, cli()).await.is_err());
    trail.expect_nothing("ending what a former member had").await;
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    for lifetimes in [Some(Lifetimes::new(hour, day, day).unwrap()), None] {
        policy::set(app, acme.id, lifetimes, cli()).await.unwrap();
        trail.expect_cli(Event::TenantPolicyChanged).await;
        policy::set(app, acme.id, lifetimes, cli()).await.unwrap();
        trail.expect_nothing("doing it twice").await;
    }
    users::set_password(app, &ann, &Password::new(NEW.to_owned()), false, cli()).await.unwrap();
    trail.expect_cli(Event::UserPasswordSet).await;
    for (to, event) in [(UserState::Disabled, Event::UserDisabled), (UserState::Active, Event::UserEnabled)] {
        users::set_state(app, &ann, to, cli()).await.unwrap();
        trail.expect_cli(event).await;
        users::set_state(app, &ann, to, cli()).await.unwrap();
        trail.expect_nothing("doing it twice").await;
    }
    for (suspended, event) in [(true, Event::TenantSuspended), (false, Event::TenantActivated)] {
        tenants::set_suspended(app, &acme, suspended, cli()).await.unwrap();
        trail.expect_cli(event).await;
        tenants::set_suspended(app, &acme, suspended, cli()).await.unwrap();
        trail.expect_nothing("doing it twice").await;
    }
    workloads(trail, &acme).await;
    for (whose, event) in [
        (Whose::User(ann.id), Event::UserSessionsRevoked),
        (Whose::Tenant(acme.id), Event::TenantSessionsRevoked),
        (Whose::Everybody, Event::AllSessionsRevoked),
    ] {
        revocation::revoke_all(app, whose, cli()).await.unwrap();
        trail.expect_cli(event).await;
    }
    users::set_state(app, &ann, UserState::Deleted, cli()).await.unwrap();
    trail.expect_cli(Event::UserDeleted).await;
    let first = users::NewUserRequest {
        email: Some("root@example.com".to_owned()),
        username: None,
        full_name: String::new(),
        superuser: true,
        password: None,
    };
    users::bootstrap(app, first).await.unwrap();
    trail.expect_nothing("a bootstrap that finds users").await;
}

/// What people do to get in.
async fn logins(trail: &mut Trail<'_>) {
    let world = trail.world;
    let bob = world.person("bob@example.com").await;
    trail.next().await;
    let bob = format!("user {}", bob.id);
    let login = world.try_login("bob@example.com", PASSWORD, "").await.unwrap();
    let row = trail.expect(Event::LoginSucceeded, "success", &bob).await;
    assert_eq!(row.session_id.unwrap().to_string(), login.session.unwrap().id);
    let grant = v1::PasswordGrant { username: "bob@example.com".to_owned(), password: PASSWORD.to_owned() };
    let request = |grant| v1::IssueTokenRequest { grant: Some(v1::issue_token_request::Grant::Password(grant)), ..Default::default() };
    world.client().issue_token(request(grant.clone())).await.unwrap();
    trail.expect(Event::LoginSucceeded, "success", &bob).await;

    let failed = "failure INVALID_CREDENTIALS";
    world.try_login("bob@example.com", WRONG, "").await.unwrap_err();
    trail.expect(Event::LoginFailed, failed, &bob).await;
    world.client().issue_token(request(v1::PasswordGrant { password: WRONG.to_owned(), ..grant })).await.unwrap_err();
    trail.expect(Event::LoginFailed, failed, &bob).await;
    let foreign = world.tenant("globex").await;
    trail.next().await;
    world.try_login("bob@example.com", PASSWORD, &foreign.id.to_string()).await.unwrap_err();
    trail.expect(Event::LoginFailed, "failure NOT_A_MEMBER", &bob).await;

    // Somebody typed a password into the wrong field: nobody may read it, but equal ones can be told.
    let mut actors = Vec::new();
    for identifier in ["hunter2 is my secret", "Nobody@example.com", "nobody@EXAMPLE.com"] {
        world.try_login(identifier, WRONG, "").await.unwrap_err();
        let rows = trail.next().await;
        let actor = rows[0].actor.clone();
        Trail::one(rows, Event::LoginFailed, failed, &actor);
        let mac = actor.strip_prefix("anonymous ").expect("nobody has this name");
        assert!(mac.len() == 64 && mac.bytes().all(|byte| byte.is_ascii_hexdigit()), "{mac} is no HMAC");
        actors.push(actor);
    }
    assert_ne!(actors[0], actors[1]);
    assert_eq!(actors[1], actors[2], "spellings of one address are one actor");
}

/// What people do once they are in.
async fn sessions(trail: &mut Trail<'_>) {
    let world = trail.world;
    let eve = world.person("eve@example.com").await;
    let actor = format!("user {}", eve.id);
    let (first, second) = (world.login("eve@example.com").await, world.login("eve@example.com").await);
    trail.next().await;

    world.logout(&first.access_token).await.unwrap();
    trail.expect(Event::SessionRevoked, "success", &actor).await;
    world.logout(&first.access_token).await.unwrap();
    trail.expect_nothing("a second logout").await;

    world.refresh(&second.refresh_token).await.unwrap();
    world.refresh(&second.refresh_token).await.unwrap();
    trail.expect_nothing("a good refresh, and one whose answer was lost").await;
    world.pass(Duration::from_secs(31));
    assert_eq!(refused(world.refresh(&second.refresh_token).await), "REFRESH_TOKEN_REUSED");
    trail.expect(Event::RefreshTokenReused, "failure REFRESH_TOKEN_REUSED", "system").await;
    assert_eq!(refused(world.refresh(&second.refresh_token).await), "SESSION_REVOKED");
    trail.expect_nothing("a token of a session that is over").await;

    let third = world.login("eve@example.com").await;
    trail.next().await;
    assert_eq!(refused(world.change_password(&third.access_token, WRONG, NEW).await), "INVALID_CREDENTIALS");
    trail.expect(Event::PasswordChangeFailed, "failure INVALID_CREDENTIALS", &actor).await;
    assert_eq!(refused(world.change_password(&third.access_token, PASSWORD, "short").await), "PASSWORD_REJECTED");
    trail.expect_nothing("a new password that breaks a rule").await;
    let changed = world.change_password(&third.access_token, PASSWORD, NEW).await.unwrap();
    let row = trail.expect(Event::PasswordChanged, "success", &actor).await;
    assert_eq!(row.session_id.unwrap().to_string(), changed.session.unwrap().id);

    let access = changed.tokens.unwrap().access_token;
    world.validate(&access).await.unwrap();
    world.validate("garbage").await.unwrap_err();
    list_sessions(world, &access, "").await.unwrap();
    trail.expect_nothing("a token check").await;

    let other = world.try_login("eve@example.com", NEW, "").await.unwrap().session.unwrap().id;
    trail.next().await;
    revoke_session(world, &access, &other).await.unwrap();
    let row = trail.expect(Event::SessionRevoked, "success", &actor).await;
    assert_eq!(row.session_id.unwrap().to_string(), other);
    revoke_session(world, &access, &other).await.unwrap();
    revoke_session(world, &access, &Uuid::nil().to_string()).await.unwrap_err();
    trail.expect_nothing("ending a session that was ended, or is none").await;
    for keep_current in [true, false] {
        revoke_all_sessions(world, &access, keep_current).await.unwrap();
        trail.expect(Event::UserSessionsRevoked, "success", &actor).await;
    }
    revoke_all_sessions(world, &access, false).await.unwrap_err();
    trail.expect_nothing("an ended session that ends others").await;
}

on_both! {
    async fn what_did_not_happen_leaves_no_row(world: World) {
        let app = world.app();
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        let tokens = world.login("ann@example.com").await;
        let before = bad_input::rows(&world).await;

        let seller = || vec!["no such role".to_owned()];
        assert!(memberships::add(app, &acme, &world_person(&world, "ann@example.com").await, seller(), cli()).await.is_err());
        assert!(memberships::add(app, &acme, &ann, vec!["member".to_owned()], cli()).await.is_err());
        let again = tenants::NewTenantRequest { slug: "acme".to_owned(), name: "x".to_owned(), tax_id: None, external_id: None, seat_limit: None };
        assert!(tenants::create(app, again, cli()).await.is_err());
        let member = roles::NewRoleRequest { name: "member".to_owned(), level: 1, permissions: Vec::new(), description: String::new() };
        assert!(roles::create(app, &acme, member, cli()).await.is_err());
        let same = users::NewUserRequest {
            email: Some("ANN@example.com".to_owned()), username: None, full_name: String::new(), superuser: false, password: None,
        };
        assert!(users::create(app, same, cli()).await.is_err());
        // A refresh for more than the session has is rolled back: the token is good still.
        let grant = v1::RefreshTokenGrant { refresh_token: tokens.refresh_token.clone() };
        let more = v1::IssueTokenRequest {
            grant: Some(v1::issue_token_request::Grant::RefreshToken(grant)), tenant_id: acme.id.to_string(), ..Default::default()
        };
        assert_eq!(refused(world.client().issue_token(more).await), "INVALID_FIELD");
        // Garbage is for nobody's trail.
        for garbage in ["", "garbage", "dw_rt_garbage"] {
            world.refresh(garbage).await.unwrap_err();
            world.validate(garbage).await.unwrap_err();
            world.change_password(garbage, PASSWORD, NEW).await.unwrap_err();
        }
        world.logout("garbage").await.unwrap();
        assert_eq!(refused(world.try_login("ann@example.com", PASSWORD, "no tenant's id").await), "INVALID_FIELD");

        assert_eq!(bad_input::rows(&world).await, before);
        world.refresh(&tokens.refresh_token).await.unwrap();
    }

    async fn a_guess_whose_caller_hangs_up_while_it_is_hashed_is_one_row(world: World) {
        // A hash of these takes long enough to hang up in the middle.
        let slow = |config: &mut doorward::config::Config| {
            config.passwords.memory_kib = 64 * 1024;
            config.passwords.iterations = 4;
        };
        let world = world.restart_with(slow).await;
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        for (event, number) in [("login.failed", 0), ("login.failed", 1), ("password.change_failed", 2)] {
            let rows = world.count_events(event).await;
            let mut hung_up = false;
            for patience in [20, 40, 80, 160, 320] {
                let hashes = world.app().hasher.hashes();
                let guess = async {
                    match number {
                        0 => world.try_login("ann@example.com", WRONG, "").await.map(drop),
                        1 => world.try_login("nobody@example.com", WRONG, "").await.map(drop),
                        _ => world.change_password(&tokens.access_token, WRONG, NEW).await.map(drop),
                    }
                };
                hung_up = tokio::time::timeout(Duration::from_millis(patience), guess).await.is_err();
                // Where the hash had not begun it never will, and the client was more patient the next time.
                let begun = async { while world.app().hasher.hashes() == hashes { tokio::task::yield_now().await } };
                if hung_up && tokio::time::timeout(Duration::from_secs(3), begun).await.is_ok() {
                    break;
                }
            }
            assert!(hung_up, "the answer of guess {number} came all the same");
            eventually("the event", async || world.count_events(event).await == rows + 1).await;
        }
    }

    async fn a_fact_whose_answer_nobody_hears_is_one_row(world: World) {
        world.person("ann@example.com").await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for (number, giving_up) in [Giving::Deadline, Giving::HangingUp].into_iter().enumerate() {
            let ann = Caller::logged_in(&world, "ann@example.com").await;
            let login = encode("doorward.v1.LoginRequest", json!({ "identifier": ann.identifier, "password": PASSWORD }));
            lost_answer(&world, &wire, giving_up, "Login", &ann, &login, "login.succeeded").await;
            lost_answer(&world, &wire, giving_up, "Logout", &ann, &[], "session.revoked").await;
            // The password is another one after each change.
            let email = format!("eve{number}@example.com");
            world.person(&email).await;
            let eve = Caller::logged_in(&world, &email).await;
            let change = encode("doorward.v1.ChangePasswordRequest", json!({ "current_password": PASSWORD, "new_password": NEW }));
            lost_answer(&world, &wire, giving_up, "ChangePassword", &eve, &change, "password.changed").await;
        }
    }
}

async fn world_person(world: &World, email: &str) -> doorward::store::users::User {
    domain::users::resolve(world.app(), email).await.unwrap()
}

/// How a client loses an answer.
#[derive(Clone, Copy, Debug)]
enum Giving {
    Deadline,
    HangingUp,
}

/// Calls while the database makes every write wait, loses the answer, lets the write go on: one event, and the fact with it.
async fn lost_answer(world: &World, wire: &Wire, giving_up: Giving, method: &str, caller: &Caller, request: &[u8], event: &str) {
    // The fact and its event, seen at one moment: sessions opened and ended on one side, what says so on the other.
    let books = "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL) \
                 - (SELECT count(*) FROM audit_events WHERE event IN ('login.succeeded', 'password.changed', 'session.revoked')) AS n";
    let sql = world.sql().await;
    let path = format!("/doorward.v1.AuthService/{method}");
    let before = world.count_events(event).await;
    // The unit of work must have begun before the client gives up: where it had not, the client was more patient the next time.
    for patience in [50, 200, 800, 3_200] {
        let lock = Lock::hold(world).await;
        let (timeout, bearer) = (format!("{patience}m"), caller.bearer());
        match giving_up {
            Giving::Deadline => {
                let headers = [("authorization", bearer.as_str()), ("grpc-timeout", timeout.as_str())];
                assert_eq!(wire.call(&path, &headers, request).await.outcome(), "DEADLINE_EXCEEDED DEADLINE");
            }
            Giving::HangingUp => {
                let headers = [("authorization", bearer.as_str())];
                let call = wire.call(&path, &headers, request);
                assert!(tokio::time::timeout(Duration::from_millis(patience), call).await.is_err(), "the answer came all the same");
            }
        }
        lock.release().await;
        Lock::settled(world).await;
        assert_eq!(sql.count(books).await, 0, "{method}, {giving_up:?}: a fact without its event, or an event without its fact");
        let rows = world.count_events(event).await - before;
        assert!(rows <= 1, "{method}, {giving_up:?}: {rows} rows of {event}");
        if rows == 1 {
            return;
        }
    }
    panic!("{method}, {giving_up:?}: what had begun when the client gave up was not finished");
}
