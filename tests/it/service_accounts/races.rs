//! Changes of one account at one moment, and of its tenant.

use doorward::store::service_accounts::AccountState;
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};
use tokio::task::JoinSet;

use super::*;
use crate::life::eventually;

/// A transaction of PostgreSQL that has run this and goes on.
async fn hold(world: &World, statement: &str) -> DatabaseTransaction {
    let db = connection(database_url(&world.config)).await;
    let transaction = db.begin().await.unwrap();
    transaction.execute_unprepared(statement).await.unwrap();
    transaction
}

/// How many transactions of PostgreSQL wait for a lock.
async fn waiting(world: &World) -> i64 {
    let query = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    world.sql().await.count(query).await
}

on_both! {
    async fn parallel_additions_leave_five_secrets(world: World) {
        let account = instance_account(&world, &[]).await;
        let root = Desk::superuser(&world).await;
        // So that several have begun before the first one ends. SQLite has one writer, and they queue by themselves.
        let held = match world.backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(hold(&world, "SELECT id FROM service_accounts FOR UPDATE").await),
        };
        let mut additions = JoinSet::new();
        for _ in 0..24 {
            let request = v1::AddServiceAccountSecretRequest { service_account_id: account.id.clone(), ..Default::default() };
            let (mut client, request) = (accounts(&world), root.request(request));
            additions.spawn(async move { word(client.add_service_account_secret(request).await) });
        }
        if let Some(held) = held {
            eventually("several additions to wait", async || waiting(&world).await >= 4).await;
            held.commit().await.unwrap();
        }
        let outcomes = additions.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "OK").count(), 4, "{outcomes:?}");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM service_account_secrets").await, 5);
        assert_eq!(world.count_events("service_account.secret_added").await, 4);
    }

    async fn a_deletion_leaves_nothing_behind_whatever_comes_in_between(world: World) {
        let root = Desk::superuser(&world).await;
        for _ in 0..6 {
            let account = instance_account(&world, &[]).await;
            let mut calls = JoinSet::new();
            for turn in 0..8 {
                let request = v1::AddServiceAccountSecretRequest { service_account_id: account.id.clone(), ..Default::default() };
                let deletion = v1::DeleteServiceAccountRequest { service_account_id: account.id.clone(), ..Default::default() };
                let (mut client, request, deletion) = (accounts(&world), root.request(request), root.request(deletion));
                calls.spawn(async move {
                    if turn == 3 { word(client.delete_service_account(deletion).await) } else { word(client.add_service_account_secret(request).await) }
                });
            }
            let outcomes = calls.join_all().await;
            let is_fine = |outcome: &String| ["OK", "NOT_FOUND", "INVALID_FIELD"].contains(&outcome.as_str());
            assert!(outcomes.iter().all(is_fine), "{outcomes:?}");
        }
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM service_account_secrets").await, 0);
        assert_eq!(world.count_events("service_account.deleted").await, 6);
    }

    async fn one_of_many_parallel_claims_gets_a_name(world: World) {
        let root = Desk::superuser(&world).await;
        let mut claims = JoinSet::new();
        for turn in 0..12 {
            let mut names = vec!["urn:x:a".to_owned(), "urn:x:b".to_owned()];
            if turn % 2 == 0 {
                names.reverse();
            }
            let request = root.request(v1::CreateServiceAccountRequest { certificate_names: names, ..root.new_account() });
            let mut client = accounts(&world);
            claims.spawn(async move { word(client.create_service_account(request).await) });
        }
        let mut outcomes = claims.join_all().await;
        outcomes.sort();
        let expected: Vec<String> = std::iter::repeat_n("INVALID_FIELD", 11).chain(["OK"]).map(str::to_owned).collect();
        assert_eq!(outcomes, expected);
        assert_eq!(root.list(0, "").await.unwrap().service_accounts.len(), 1);
    }

    async fn a_tenant_that_goes_meanwhile_gets_no_account(world: World) {
        // One connection writes on SQLite: whoever has begun is done before the next one begins.
        if world.backend == Backend::Sqlite {
            return;
        }
        let ann = Desk::member(&world, &world.tenant("acme").await, "ann@example.com", &["owner"]).await;
        for (state, reason) in [("suspended", "TENANT_SUSPENDED"), ("deleted", "NOT_A_MEMBER")] {
            let change = hold(&world, &format!("UPDATE tenants SET state = '{state}'")).await;
            let (mut client, request) = (accounts(&world), ann.request(ann.new_account()));
            let creation = tokio::spawn(async move { client.create_service_account(request).await });
            let sql = world.sql().await;
            eventually("the creation to wait", async || waiting(&world).await == 1).await;
            change.commit().await.unwrap();
            assert_eq!(refused(creation.await.unwrap()), reason);
            assert_eq!(sql.count("SELECT count(*) AS n FROM service_accounts").await, 0);
            sql.execute("UPDATE tenants SET state = 'active'").await;
        }
    }

    async fn a_token_that_is_bought_while_its_account_is_disabled_is_not_good(world: World) {
        let account = instance_account(&world, &[]).await;
        for _ in 0..10 {
            let mut purchases = JoinSet::new();
            for _ in 0..6 {
                let (mut client, account) = (world.client(), account.clone());
                purchases.spawn(async move {
                    let grant = v1::ClientCredentialsGrant { client_id: account.id, client_secret: account.secret };
                    let grant = Some(v1::issue_token_request::Grant::ClientCredentials(grant));
                    client.issue_token(v1::IssueTokenRequest { grant, ..Default::default() }).await
                });
            }
            let set = async |to| {
                doorward::domain::service_accounts::set_state(world.app(), operator(&world, None), account.key(), to).await.unwrap();
            };
            set(AccountState::Disabled).await;
            let bought = purchases.join_all().await;
            set(AccountState::Active).await;
            for answer in bought.into_iter().flatten() {
                let token = answer.into_inner().tokens.unwrap().access_token;
                assert_eq!(refused(world.validate(&token).await), "SESSION_REVOKED");
            }
        }
    }
}
