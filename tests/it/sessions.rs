//! What ends a session, and what does not: every state of user, tenant, membership and instance against every call that takes a token
//! (invariant 3, second half of 1, and 21).

use doorward::{
    domain,
    pb::v1,
    store::{
        tenants::Tenant,
        users::{User, UserState},
    },
    values::secret::Password,
};

use crate::{golden, harness::*, on_both, probe::*};

/// What happens between the login and the calls. `SQL` marks what no command does yet: it is done by hand.
const STATES: [&str; 24] = [
    "nothing",
    "user disabled",
    "user disabled, enabled",
    "user deleted",
    "user in an unknown state (SQL)",
    "password set",
    "password set, must change",
    "tenant suspended",
    "tenant suspended, activated",
    "tenant deleted (SQL)",
    "tenant in an unknown state (SQL)",
    "tenant's epoch moved (SQL)",
    "membership removed",
    "membership removed, added again",
    "membership invited (SQL)",
    "membership suspended (SQL)",
    "membership suspended in suspended tenant",
    "membership removed in suspended tenant",
    "membership in an unknown state (SQL)",
    "membership's epoch moved (SQL)",
    "membership without its roles",
    "session revoked (SQL)",
    "user disabled, tenant suspended",
    "instance's epoch moved (SQL)",
];

/// The id of no session.
const NO_SESSION: &str = "01890000-0000-7000-8000-000000000000";

struct Case {
    email: String,
    user: User,
    tenant: Tenant,
}

impl Case {
    async fn begin(world: &World, number: usize) -> Self {
        Self::begin_as(world, &number.to_string()).await
    }

    async fn begin_as(world: &World, name: &str) -> Self {
        let email = format!("person-{name}@example.com");
        let user = world.person(&email).await;
        let tenant = world.tenant(&format!("tenant-{name}")).await;
        world.member(&tenant, &user, &["member"]).await;
        Self { email, user, tenant }
    }

    async fn set_user(&self, world: &World, state: UserState) {
        // As it is now: the domain looks at the state that it is given.
        let user = domain::users::resolve(world.app(), &self.email).await.unwrap();
        domain::users::set_state(world.app(), &user, state, cli()).await.unwrap();
    }

    async fn set_password(&self, world: &World, must_change: bool) {
        let password = Password::new(PASSWORD.to_owned());
        domain::users::set_password(world.app(), &self.user, &password, must_change, cli()).await.unwrap();
    }

    async fn suspend_tenant(&self, world: &World, suspended: bool) {
        let tenant = domain::tenants::resolve(world.app(), &self.tenant.slug).await.unwrap();
        domain::tenants::set_suspended(world.app(), &tenant, suspended, cli()).await.unwrap();
    }

    async fn remove_member(&self, world: &World) {
        domain::memberships::remove(world.app(), &self.tenant, &self.user, cli()).await.unwrap();
    }

    async fn update_user(&self, world: &World, change: &str) {
        let sql = format!("UPDATE users SET {change} WHERE email_canonical = '{}'", self.email);
        assert_eq!(world.sql().await.execute(&sql).await, 1);
    }

    async fn update_tenant(&self, world: &World, change: &str) {
        let sql = format!("UPDATE tenants SET {change} WHERE slug = '{}'", self.tenant.slug);
        assert_eq!(world.sql().await.execute(&sql).await, 1);
    }

    async fn update_membership(&self, world: &World, change: &str) {
        let sql =
            format!("UPDATE memberships SET {change} WHERE user_id = (SELECT id FROM users WHERE email_canonical = '{}')", self.email);
        assert_eq!(world.sql().await.execute(&sql).await, 1);
    }

    async fn revoke_sessions(&self, world: &World) {
        let sql = format!(
            "UPDATE sessions SET revoked_at = {START} WHERE user_id = (SELECT id FROM users WHERE email_canonical = '{}')",
            self.email
        );
        assert_eq!(world.sql().await.execute(&sql).await, 2);
    }

    async fn drop_roles(&self, world: &World) {
        let sql = format!("DELETE FROM membership_roles WHERE tenant_id = (SELECT id FROM tenants WHERE slug = '{}')", self.tenant.slug);
        assert_eq!(world.sql().await.execute(&sql).await, 1);
    }

    async fn bring_about(&self, world: &World, state: &str) {
        match state {
            "nothing" => {}
            "user disabled" => self.set_user(world, UserState::Disabled).await,
            "user disabled, enabled" => {
                self.set_user(world, UserState::Disabled).await;
                self.set_user(world, UserState::Active).await;
            }
            "user deleted" => self.set_user(world, UserState::Deleted).await,
            "user in an unknown state (SQL)" => self.update_user(world, "state = 'frozen'").await,
            "password set" => self.set_password(world, false).await,
            "password set, must change" => self.set_password(world, true).await,
            "tenant suspended" => self.suspend_tenant(world, true).await,
            "tenant suspended, activated" => {
                self.suspend_tenant(world, true).await;
                self.suspend_tenant(world, false).await;
            }
            "tenant deleted (SQL)" => self.update_tenant(world, "state = 'deleted'").await,
            "tenant in an unknown state (SQL)" => self.update_tenant(world, "state = 'frozen'").await,
            "tenant's epoch moved (SQL)" => self.update_tenant(world, "epoch = epoch + 1").await,
            "membership removed" => self.remove_member(world).await,
            "membership removed, added again" => {
                self.remove_member(world).await;
                world.member(&self.tenant, &self.user, &["member"]).await;
            }
            "membership invited (SQL)" => self.update_membership(world, "state = 'invited'").await,
            "membership suspended (SQL)" => self.update_membership(world, "state = 'suspended'").await,
            "membership suspended in suspended tenant" => {
                self.suspend_tenant(world, true).await;
                self.update_membership(world, "state = 'suspended'").await;
            }
            "membership removed in suspended tenant" => {
                self.suspend_tenant(world, true).await;
                self.remove_member(world).await;
            }
            "membership in an unknown state (SQL)" => self.update_membership(world, "state = 'frozen'").await,
            "membership's epoch moved (SQL)" => self.update_membership(world, "epoch = epoch + 1").await,
            "membership without its roles" => self.drop_roles(world).await,
            "session revoked (SQL)" => self.revoke_sessions(world).await,
            "user disabled, tenant suspended" => {
                self.set_user(world, UserState::Disabled).await;
                self.suspend_tenant(world, true).await;
            }
            "instance's epoch moved (SQL)" => {
                world.sql().await.execute("UPDATE instance SET epoch = epoch + 1").await;
            }
            other => panic!("nobody knows how to bring about {other:?}"),
        }
    }
}

/// Every call that takes a token; refresh comes last, since it moves on.
async fn ask_everywhere(world: &World, tokens: &v1::TokenSet, tenant: &Tenant) -> [String; 8] {
    let access = tokens.access_token.as_str();
    let in_tenant = v1::ValidateSessionRequest { access_token: access.to_owned(), tenant_id: tenant.id.to_string(), ..Default::default() };
    [
        word(get_me(world, access).await),
        word(world.validate(access).await),
        word(world.validate_with(in_tenant).await),
        word(list_tenants(world, access, "").await),
        word(list_sessions(world, access, "").await),
        word(revoke_session(world, access, NO_SESSION).await),
        word(world.change_password(access, WRONG, "another good long password").await),
        word(world.refresh(&tokens.refresh_token).await),
    ]
}

const LEGEND: &str = "\
# What each call answers to the tokens of a session that was opened before the change. `plain` sessions are bound to no tenant, `tenant`
# sessions to the one that changes. `in tenant` is ValidateSession about that tenant. ChangePassword is called with a wrong current
# password, RevokeSession with the id of no session: INVALID_CREDENTIALS and NOT_FOUND say that the token was admitted.

";

on_both! {
    async fn every_state_against_every_call(world: World) {
        let mut table = LEGEND.to_owned();
        let line = |state: &str, session: &str, answers: [String; 8]| {
            let answers = answers.map(|answer| format!("{answer:<20}")).join(" ");
            format!("{state:<42}{session:<8}{answers}").trim_end().to_owned() + "\n"
        };
        let calls =
            ["GetMe", "ValidateSession", "in tenant", "ListTenants", "ListSessions", "RevokeSession", "ChangePassword", "refresh"];
        table += &line("between login and call", "session", calls.map(str::to_owned));
        for (number, state) in STATES.into_iter().enumerate() {
            let case = Case::begin(&world, number).await;
            let plain = world.login(&case.email).await;
            let bound = world.login_to(&case.email, &case.tenant).await;
            case.bring_about(&world, state).await;
            for (session, tokens) in [("plain", plain), ("tenant", bound)] {
                table += &line(state, session, ask_everywhere(&world, &tokens, &case.tenant).await);
            }
        }
        golden::check("states.txt", &table);
    }

    /// It would end what the matrix goes on with, so it is asked here: like `ListSessions`, in every state.
    async fn ending_all_sessions_is_refused_in_every_state_like_listing_them(world: World) {
        for (number, state) in STATES.into_iter().enumerate() {
            for (kind, keep_current) in [("plain", true), ("bound", true), ("bound", false)] {
                let case = Case::begin_as(&world, &format!("{number}-{kind}-{keep_current}")).await;
                let other = world.login(&case.email).await;
                let tokens = if kind == "plain" { world.login(&case.email).await } else { world.login_to(&case.email, &case.tenant).await };
                case.bring_about(&world, state).await;
                let (listed, others) = (list_sessions(&world, &tokens.access_token, "").await, world.validate(&other.access_token).await);
                let listed = word(listed);
                let ended = revoke_all_sessions(&world, &tokens.access_token, keep_current).await;
                assert_eq!(word(ended), listed, "{state}, {kind}, {keep_current}");
                let now = world.validate(&other.access_token).await;
                let expected = if listed == "OK" { "SESSION_REVOKED".to_owned() } else { word(others) };
                assert_eq!(word(now), expected, "{state}, {kind}, {keep_current}: the other session");
            }
        }
    }

    async fn nothing_revives_and_a_new_login_works(world: World) {
        let ended = ["user disabled, enabled", "password set", "membership removed, added again", "instance's epoch moved (SQL)"];
        for (number, state) in ended.into_iter().enumerate() {
            let case = Case::begin(&world, number).await;
            let old = world.login_to(&case.email, &case.tenant).await;
            case.bring_about(&world, state).await;
            let new = world.login_to(&case.email, &case.tenant).await;
            for _ in 0..2 {
                assert_eq!(refused(world.validate(&old.access_token).await), "SESSION_REVOKED", "{state}");
                assert_eq!(refused(world.refresh(&old.refresh_token).await), "SESSION_REVOKED", "{state}");
                world.validate(&new.access_token).await.unwrap();
            }
            world.refresh(&new.refresh_token).await.unwrap();
        }
    }

    async fn a_tenant_s_tokens_rest_while_it_is_suspended(world: World) {
        let case = Case::begin(&world, 0).await;
        let tokens = world.login_to(&case.email, &case.tenant).await;
        case.suspend_tenant(&world, true).await;
        let before = rows(&world.sql().await, "sessions").await;
        assert_eq!(refused(world.validate(&tokens.access_token).await), "TENANT_SUSPENDED");
        assert_eq!(refused(world.refresh(&tokens.refresh_token).await), "TENANT_SUSPENDED");
        assert_eq!(refused(world.try_login(&case.email, PASSWORD, &case.tenant.id.to_string()).await), "TENANT_SUSPENDED");
        assert_eq!(rows(&world.sql().await, "sessions").await, before, "a refused refresh uses nothing up");

        case.suspend_tenant(&world, false).await;
        world.validate(&tokens.access_token).await.unwrap();
        let next = world.refresh(&tokens.refresh_token).await.unwrap();
        world.validate(&next.access_token).await.unwrap();
    }

    async fn a_deleted_person_s_names_bring_nothing_back(world: World) {
        let case = Case::begin(&world, 0).await;
        let old = world.login_to(&case.email, &case.tenant).await;
        case.set_user(&world, UserState::Deleted).await;
        let heir = world.person(&case.email).await;
        assert_ne!(heir.id, case.user.id);
        let new = world.try_login(&case.email, PASSWORD, "").await.unwrap();
        assert_eq!((new.user.unwrap().id, new.tenants.len()), (heir.id.to_string(), 0));
        assert_eq!(refused(world.validate(&old.access_token).await), "PRINCIPAL_DISABLED");
        assert_eq!(refused(world.refresh(&old.refresh_token).await), "PRINCIPAL_DISABLED");
    }
}
