//! Three servers in processes of their own (on SQLite one: a file takes one server), each with its answer in memory; then something
//! changes behind it: by RPC at one of them, by the command in another process, by hand in SQL.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use doorward::{
    app::App,
    domain::{memberships, roles, service_accounts, tenants, users},
    pb::v1::{self, service_account_service_client::ServiceAccountServiceClient, signing_key_service_client::SigningKeyServiceClient},
    store::{service_accounts::Place, tenants::Tenant},
    values::{secret::Password, time::Clock},
};
use secrecy::ExposeSecret as _;
use tonic::transport::Channel;

use super::{ask, question, refused_in_time};
use crate::{
    harness::{process::Process, *},
    life::channel,
    probe::{header, payload},
    start::{Ground, login_request, on_new},
};

/// A question that is answered yes by every server from memory, and how to make it a no.
struct Case {
    name: String,
    question: v1::ValidateSessionRequest,
    change: Change,
    reason: &'static str,
}

enum Change {
    Sql(String),
    Command(Vec<String>),
    Logout(String),
    DisableAccount { id: String },
    RevokeKey { kid: String },
}

struct Stage {
    app: App,
    replicas: Replicas<Process>,
    sql: Sql,
    /// A superuser's token.
    root: String,
    cases: usize,
}

impl Stage {
    async fn on(ground: &mut Ground) -> Self {
        ground.clock = Clock::system();
        let app = ground.open().await.unwrap();
        let replicas = Replicas::processes(&ground.config, &[]).await;
        let mut stage = Self { app, replicas, sql: ground.sql().await, root: String::new(), cases: 0 };
        stage.person("root@example.com", true).await;
        stage.root = stage.login("root@example.com").await.access_token;
        stage
    }

    async fn person(&self, email: &str, superuser: bool) {
        let password = Some((Password::new(PASSWORD.to_owned()), false));
        let (email, full_name) = (Some(email.to_owned()), "Ann Example".to_owned());
        let request = users::NewUserRequest { email, username: None, full_name, superuser, password };
        users::create(&self.app, request, cli()).await.unwrap();
    }

    async fn login(&self, email: &str) -> v1::TokenSet {
        self.replicas.client().login(login_request(email)).await.unwrap().into_inner().tokens.unwrap()
    }

    /// A tenant of its own with one member, who holds one role.
    async fn member(&mut self) -> (String, Tenant) {
        self.cases += 1;
        let (email, slug) = (format!("ann{}@example.com", self.cases), format!("acme{}", self.cases));
        self.person(&email, false).await;
        let request = tenants::NewTenantRequest { slug: slug.clone(), name: slug, tax_id: None, external_id: None, seat_limit: None };
        let acme = tenants::create(&self.app, request, cli()).await.unwrap();
        let role = roles::NewRoleRequest {
            name: "seller".to_owned(),
            level: 10,
            permissions: vec!["sales:write".to_owned()],
            description: String::new(),
        };
        roles::create(&self.app, &acme, role, cli()).await.unwrap();
        let ann = users::resolve(&self.app, &email).await.unwrap();
        memberships::add(&self.app, &acme, &ann, vec!["seller".to_owned()], cli()).await.unwrap();
        (email, acme)
    }

    /// A case of a member who asks whether they may sell.
    async fn of_member(&mut self, name: &str, reason: &'static str, change: impl FnOnce(&str, &str) -> Change) -> Case {
        let (email, acme) = self.member().await;
        let question = v1::ValidateSessionRequest {
            tenant_id: acme.id.to_string(),
            permissions: vec!["sales:write".to_owned()],
            ..question(&self.login(&email).await.access_token)
        };
        Case { name: name.to_owned(), question, change: change(&email, &acme.slug), reason }
    }

    /// A case of a session.
    async fn of_session(&mut self, name: &str, change: impl FnOnce(String, String) -> Change) -> Case {
        let (email, _) = self.member().await;
        let token = self.login(&email).await.access_token;
        let sid = payload(&token)["sid"].as_str().unwrap().to_owned();
        Case { name: name.to_owned(), question: question(&token), change: change(sid, token), reason: "SESSION_REVOKED" }
    }

    /// A case of a service account.
    async fn of_account(&mut self, name: &str, change: impl FnOnce(String) -> Change) -> Case {
        self.cases += 1;
        let new = service_accounts::NewAccount {
            name: format!("robot{}", self.cases),
            secret: Some(service_accounts::FirstSecret::default()),
            ..Default::default()
        };
        let by = service_accounts::Administrator::operator(&self.app, Place::Instance, cli());
        let (details, secret) = service_accounts::create(&self.app, by, new).await.unwrap();
        let id = details.account.id.to_string();
        let grant = v1::ClientCredentialsGrant { client_id: id.clone(), client_secret: secret.unwrap().expose_secret().to_owned() };
        let grant = Some(v1::issue_token_request::Grant::ClientCredentials(grant));
        let request = v1::IssueTokenRequest { grant, ..Default::default() };
        let token = self.replicas.client().issue_token(request).await.unwrap().into_inner().tokens.unwrap().access_token;
        Case { name: name.to_owned(), question: question(&token), change: change(id), reason: "PRINCIPAL_DISABLED" }
    }

    fn channel(&self) -> Channel {
        channel(self.replicas.at(0).grpc_addr)
    }

    async fn make(&self, change: Change) {
        match change {
            Change::Sql(sql) => assert!(self.sql.execute(&sql).await > 0, "{sql}"),
            Change::Command(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let mut command = self.replicas.at(0).command(&words);
                let output = tokio::task::spawn_blocking(move || command.stdout(Stdio::piped()).output().unwrap()).await.unwrap();
                assert!(output.status.success(), "{words:?}: {output:?}");
            }
            Change::Logout(token) => {
                let credential = Some(v1::logout_request::Credential::AccessToken(token));
                self.replicas.client().logout(v1::LogoutRequest { credential }).await.unwrap();
            }
            Change::DisableAccount { id } => {
                let request = v1::DisableServiceAccountRequest { service_account_id: id, ..Default::default() };
                ServiceAccountServiceClient::new(self.channel()).disable_service_account(bearer(request, &self.root)).await.unwrap();
            }
            Change::RevokeKey { kid } => {
                let request = bearer(v1::RevokeSigningKeyRequest { kid }, &self.root);
                SigningKeyServiceClient::new(self.channel()).revoke_signing_key(request).await.unwrap();
            }
        }
    }

    /// Has every server answer from memory, makes the change, and sees that each of them refuses in time.
    async fn play(&self, case: Case) {
        let Case { name, question, change, reason } = case;
        for server in self.replicas.all() {
            for _ in 0..2 {
                ask(&mut server.client(), &question).await.unwrap_or_else(|status| panic!("{name}: {status:?}"));
            }
        }
        self.make(change).await;
        let changed = Instant::now();
        let answers = self.replicas.all().iter().map(|server| tokio::spawn(refused_in_time(server.client(), question.clone(), changed)));
        for answer in answers.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap(), reason, "{name}");
        }
    }
}

fn words(words: &[&str]) -> Change {
    Change::Command(words.iter().chain(&["--yes"]).map(|&word| word.to_owned()).collect())
}

on_new! {
    async fn what_is_changed_by_hand_is_refused_everywhere_in_time(ground: Ground) {
        let mut ground = ground;
        let mut stage = Box::pin(Stage::on(&mut ground)).await;
        let user = |set: &'static str| move |email: &str, _: &str| Change::Sql(format!("UPDATE users SET {set} WHERE email = '{email}'"));
        let of_tenant = |sql: &'static str| move |_: &str, slug: &str| Change::Sql(format!("{sql} = (SELECT id FROM tenants WHERE slug = '{slug}')"));
        let mut cases = vec![
            stage.of_member("a user is disabled", "PRINCIPAL_DISABLED", user("state = 'disabled'")).await,
            stage.of_member("a user's epoch moves", "SESSION_REVOKED", user("epoch = epoch + 1")).await,
            stage.of_member("a role is edited", "PERMISSION_MISSING", of_tenant("UPDATE roles SET permissions = '[]' WHERE name = 'seller' AND tenant_id")).await,
            stage.of_member("a role is taken away", "PERMISSION_MISSING", of_tenant("DELETE FROM membership_roles WHERE tenant_id")).await,
            stage.of_member("a membership is suspended", "MEMBERSHIP_SUSPENDED", of_tenant("UPDATE memberships SET state = 'suspended' WHERE tenant_id")).await,
            stage.of_member("a membership is removed", "NOT_A_MEMBER", of_tenant("UPDATE memberships SET state = 'removed' WHERE tenant_id")).await,
            stage.of_member("a tenant is suspended", "TENANT_SUSPENDED", of_tenant("UPDATE tenants SET state = 'suspended' WHERE id")).await,
            stage.of_account("an account is disabled", |_| Change::Sql("UPDATE service_accounts SET state = 'disabled'".to_owned())).await,
        ];
        cases.push(stage.of_session("a session is revoked", |_, _| {
            Change::Sql("UPDATE sessions SET revoked_at = 1 WHERE id = (SELECT max(id::text)::uuid FROM sessions)".to_owned())
        }).await);
        if ground.backend == Backend::Sqlite {
            let newest = "UPDATE sessions SET revoked_at = 1 WHERE id = (SELECT max(id) FROM sessions)";
            cases.last_mut().unwrap().change = Change::Sql(newest.to_owned());
        }
        let session = cases.pop().unwrap();
        stage.play(session).await;
        for case in cases {
            stage.play(case).await;
        }
        let everybody = stage.of_session("everybody is logged out", |_, _| Change::Sql("UPDATE instance SET epoch = epoch + 1".to_owned())).await;
        stage.play(everybody).await;
        let key = stage.of_session("a key is revoked", |_, _| Change::Sql("UPDATE signing_keys SET state = 'revoked'".to_owned())).await;
        stage.play(Case { reason: "TOKEN_INVALID", ..key }).await;
    }

    async fn what_the_command_changes_is_refused_everywhere_in_time(ground: Ground) {
        let mut ground = ground;
        let mut stage = Box::pin(Stage::on(&mut ground)).await;
        let cases = [
            stage.of_member("user disable", "PRINCIPAL_DISABLED", |email, _| words(&["user", "disable", email])).await,
            stage.of_member("member remove", "NOT_A_MEMBER", |email, slug| words(&["member", "remove", "--tenant", slug, "--user", email])).await,
            stage.of_member("tenant suspend", "TENANT_SUSPENDED", |_, slug| words(&["tenant", "suspend", slug])).await,
            stage.of_session("session revoke", |sid, _| words(&["session", "revoke", &sid])).await,
            stage.of_account("service-account disable", |id| words(&["service-account", "disable", &id])).await,
        ];
        for case in cases {
            stage.play(case).await;
        }
        let token = stage.of_session("session revoke --everything", |_, _| words(&["session", "revoke", "--everything"])).await;
        stage.play(token).await;
        let key = stage.of_session("key revoke", |_, token| words(&["key", "revoke", header(&token)["kid"].as_str().unwrap()])).await;
        stage.play(Case { reason: "TOKEN_INVALID", ..key }).await;
    }

    async fn what_a_call_changes_is_refused_everywhere_in_time(ground: Ground) {
        let mut ground = ground;
        let mut stage = Box::pin(Stage::on(&mut ground)).await;
        let logout = stage.of_session("Logout", |_, token| Change::Logout(token)).await;
        stage.play(logout).await;
        let account = stage.of_account("DisableServiceAccount", |id| Change::DisableAccount { id }).await;
        stage.play(account).await;
        let key = stage.of_session("RevokeSigningKey", |_, token| Change::RevokeKey { kid: header(&token)["kid"].as_str().unwrap().to_owned() }).await;
        stage.play(Case { reason: "TOKEN_INVALID", ..key }).await;
    }
}

/// Of servers that look by themselves four times an hour, whoever is woken refuses at once.
#[test]
fn a_wake_up_makes_the_others_look() {
    run(Backend::Postgres, |world| async move {
        let world = world.quiet().await;
        let replicas = Replicas::in_process(&world).await;
        world.person("ann@example.com").await;
        for by_command in [false, true] {
            let token = world.login("ann@example.com").await.access_token;
            for server in replicas.all() {
                ask(&mut server.client(), &question(&token)).await.unwrap();
            }
            if by_command {
                // What the command does: a store that follows nothing.
                let app =
                    doorward::domain::start::open(world.config.clone(), world.clock.clone(), world.app().entropy.clone()).await.unwrap();
                let id = payload(&token)["sid"].as_str().unwrap().parse().unwrap();
                assert!(doorward::domain::revocation::revoke(&app, id, cli()).await.unwrap());
            } else {
                world.logout(&token).await.unwrap();
            }
            for server in replicas.all() {
                let refused =
                    async || ask(&mut server.client(), &question(&token)).await.is_err_and(|status| reason(&status) == "SESSION_REVOKED");
                crate::life::eventually("a server that was woken", refused).await;
            }
        }
    });
}

/// Two ordered writes about one tenant are never seen in the other order, by whomever of three servers.
#[test]
fn ordered_writes_are_seen_in_order() {
    run(Backend::Postgres, |world| async move {
        let replicas = Replicas::in_process(&world).await;
        let acme = world.tenant("acme").await;
        for role in ["first", "second"] {
            world.role(&acme, role, &["n:0"]).await;
        }
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["first", "second"]).await;
        let token = world.login_to("ann@example.com", &acme).await.access_token;
        let rounds = 60;
        let watching: Vec<_> = replicas
            .all()
            .iter()
            .map(|server| {
                let (mut client, question) = (server.client(), question(&token));
                tokio::spawn(async move {
                    let mut seen = 0;
                    while seen < rounds {
                        let roles = client.validate_session(question.clone()).await.unwrap().into_inner().tenant.unwrap().roles;
                        let level = |name: &str| roles.iter().find(|role| role.name == name).unwrap().level;
                        assert!(level("first") >= level("second"), "{} comes before {}", level("first"), level("second"));
                        assert!(level("second") >= seen || seen == 0 || level("second") == 10, "back from {seen}");
                        seen = level("second").max(seen);
                    }
                })
            })
            .collect();
        let sql = connection(database_url(&world.config)).await;
        let sql = Sql(sql, None);
        for level in 11..=rounds {
            for role in ["first", "second"] {
                sql.execute(&format!("UPDATE roles SET level = {level} WHERE name = '{role}'")).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for watcher in watching {
            watcher.await.unwrap();
        }
    });
}
