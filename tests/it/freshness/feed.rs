//! The poll: it tells what became visible since the last one, each change once or more and never less, in whatever order transactions
//! commit.

use doorward::{
    domain::{tenants, users},
    store::{
        changes::{self, Follower},
        feed::{Changes, Entity},
        users::{User, UserState},
    },
};
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::{access::literal, harness::*, on_both};

async fn follow(world: &World) -> Follower {
    world.app().store.follow().await.unwrap()
}

fn of(users: &[&User]) -> Changes {
    Changes::Of(users.iter().map(|user| Entity::User(user.id)).collect())
}

fn rename(world: &World, user: &User) -> String {
    format!("UPDATE users SET full_name = full_name || 'x' WHERE id = {}", literal(world, user.id.as_uuid()))
}

on_both! {
    async fn a_poll_tells_what_changed_since_the_last_one(world: World) {
        let (ann, ben) = (world.person("ann@example.com").await, world.person("ben@example.com").await);
        let mut follower = follow(&world).await;
        assert_eq!(follower.poll().await.unwrap(), of(&[]), "what was before is not told");
        let sql = world.sql().await;
        sql.execute(&rename(&world, &ann)).await;
        assert_eq!(follower.poll().await.unwrap(), of(&[&ann]));
        assert_eq!(follower.poll().await.unwrap(), of(&[]));
        users::set_state(world.app(), &ben, UserState::Disabled, cli()).await.unwrap();
        let Changes::Of(told) = follower.poll().await.unwrap() else { panic!("one by one") };
        assert!(told.contains(&Entity::User(ben.id)) && !told.contains(&Entity::User(ann.id)), "{told:?}");

        // Nothing of what never happened.
        let trial = sql.0.begin().await.unwrap();
        trial.execute_unprepared(&rename(&world, &ann)).await.unwrap();
        assert_eq!(follower.poll().await.unwrap(), of(&[]), "it is not committed");
        trial.rollback().await.unwrap();
        assert_eq!(follower.poll().await.unwrap(), of(&[]));
        // Nor of what decides nothing.
        world.login("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        world.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(follower.poll().await.unwrap(), of(&[]), "a new session and a refresh are routine");
    }

    async fn too_many_changes_and_what_is_not_known_are_everything(world: World) {
        world.person("ann@example.com").await;
        let mut follower = follow(&world).await;
        let sql = world.sql().await;
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)";
        let many = |numbers: &str| format!("{numbers} INSERT INTO changes (kind, entity_id) SELECT 'user', u.id FROM n, users u");
        // SQLite takes the words before the table as well.
        sql.execute(&match world.backend {
            Backend::Sqlite => many(numbers),
            Backend::Postgres => format!("INSERT INTO changes (kind, entity_id) {numbers} SELECT 'user', u.id FROM n, users u"),
        }).await;
        assert!(matches!(follower.poll().await.unwrap(), Changes::Of(told) if told.len() == 10_000));
        sql.execute(&rename(&world, &users::resolve(world.app(), "ann@example.com").await.unwrap())).await;
        sql.execute(&match world.backend {
            Backend::Sqlite => many(numbers),
            Backend::Postgres => format!("INSERT INTO changes (kind, entity_id) {numbers} SELECT 'user', u.id FROM n, users u"),
        }).await;
        assert_eq!(follower.poll().await.unwrap(), Changes::Everything);
        assert_eq!(follower.poll().await.unwrap(), of(&[]), "once");
        for unknown in ["'licence', NULL", "'user', NULL", "'certificate', (SELECT id FROM users)", "'everything', NULL"] {
            sql.execute(&format!("INSERT INTO changes (kind, entity_id) VALUES ({unknown})")).await;
            assert_eq!(follower.poll().await.unwrap(), Changes::Everything, "{unknown}");
        }
    }

    async fn what_nobody_waits_for_any_more_is_purged(world: World) {
        let ann = world.person("ann@example.com").await;
        let store = &world.app().store;
        let mut follower = follow(&world).await;
        let sql = world.sql().await;
        let mark = store.read("mark", (), |db, ()| async move { changes::mark(&db).await }).await.unwrap();
        sql.execute(&rename(&world, &ann)).await;
        let purge = async || {
            let purged = store.write_once("purge", mark.clone(), |db, mark| async move { changes::purge(db, mark).await }, |_| {}).await;
            assert!(!purged.unwrap(), "a few are one batch");
            sql.count("SELECT count(*) AS n FROM changes").await
        };
        assert_eq!(purge().await, 1, "all that was visible when the mark was made, and no more");
        assert_eq!(follower.poll().await.unwrap(), of(&[&ann]));
        // Where the table was emptied the numbers go on.
        sql.execute("DELETE FROM changes").await;
        assert_eq!(follower.poll().await.unwrap(), of(&[]));
        sql.execute(&rename(&world, &ann)).await;
        assert_eq!(follower.poll().await.unwrap(), of(&[&ann]));
    }
}

/// Takes the numbers that a poll could go by instead.
async fn last_number(sql: &Sql) -> i64 {
    sql.count("SELECT coalesce(max(id), 0) AS n FROM changes").await
}

#[test]
fn a_transaction_that_commits_late_is_told_all_the_same() {
    run(Backend::Postgres, |world| async move {
        let (ann, ben) = (world.person("ann@example.com").await, world.person("ben@example.com").await);
        let sql = world.sql().await;
        let mut follower = follow(&world).await;
        let slow = sql.0.begin().await.unwrap();
        slow.execute_unprepared(&rename(&world, &ann)).await.unwrap();
        sql.execute(&rename(&world, &ben)).await;
        assert_eq!(follower.poll().await.unwrap(), of(&[&ben]));
        let number = last_number(&sql).await;
        slow.commit().await.unwrap();
        assert_eq!(follower.poll().await.unwrap(), of(&[&ann]));
        // What goes by the order of numbers has passed it by, and never learns of it.
        assert_eq!(sql.count(&format!("SELECT count(*) AS n FROM changes WHERE id > {number}")).await, 0);
    });
}

/// Somebody who may change a fact and knows nothing of the table of changes, and one who would lead the announcement elsewhere.
#[test]
fn whoever_may_change_a_fact_announces_it() {
    run(Backend::Postgres, |world| async move {
        let ann = world.person("ann@example.com").await;
        let mut follower = follow(&world).await;
        let sql = world.sql().await;
        // Roles are of the whole cluster, which other tests use too.
        let clerk = format!("clerk_{}", ann.id.as_uuid().simple());
        sql.execute(&format!("CREATE ROLE {clerk}")).await;
        sql.execute(&format!("GRANT SELECT, UPDATE ON users TO {clerk}")).await;
        let work = sql.0.begin().await.unwrap();
        for statement in [
            format!("SET LOCAL ROLE {clerk}"),
            "CREATE TEMPORARY TABLE changes (kind text, entity_id uuid)".to_owned(),
            "SET LOCAL search_path = pg_temp, public".to_owned(),
            rename(&world, &ann),
        ] {
            work.execute_unprepared(&statement).await.unwrap();
        }
        work.commit().await.unwrap();
        assert_eq!(follower.poll().await.unwrap(), of(&[&ann]));
        let replicated = sql.0.begin().await.unwrap();
        replicated.execute_unprepared("SET LOCAL session_replication_role = replica").await.unwrap();
        replicated.execute_unprepared(&rename(&world, &ann)).await.unwrap();
        replicated.commit().await.unwrap();
        assert_eq!(follower.poll().await.unwrap(), of(&[&ann]), "as what is replicated");
        sql.execute(&format!("DROP OWNED BY {clerk}")).await;
        sql.execute(&format!("DROP ROLE {clerk}")).await;
    });
}

#[test]
fn rows_that_are_replaced_are_told_too() {
    run(Backend::Sqlite, |world| async move {
        let tokens = {
            world.person("ann@example.com").await;
            world.login("ann@example.com").await
        };
        let mut follower = follow(&world).await;
        let sql = world.sql().await;
        for table in ["sessions", "users", "tenants"] {
            if table == "tenants" {
                tenants::resolve(world.app(), "acme").await.unwrap_err();
                world.tenant("acme").await;
                follower.poll().await.unwrap();
            }
            sql.execute("PRAGMA foreign_keys = OFF").await;
            sql.execute(&format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table}")).await;
            assert_eq!(follower.poll().await.unwrap(), Changes::Everything, "{table}");
        }
        world.validate(&tokens.access_token).await.unwrap();
        let bob = world.person("bob@example.com").await;
        follower.poll().await.unwrap();
        let take =
            "UPDATE OR REPLACE users SET email = 'bob@example.com', email_canonical = 'bob@example.com' WHERE email = 'ann@example.com'";
        sql.execute(take).await;
        assert_eq!(sql.count(&format!("SELECT count(*) AS n FROM users WHERE id = {}", literal(&world, bob.id.as_uuid()))).await, 0);
        assert_eq!(follower.poll().await.unwrap(), Changes::Everything);
        // What meets nobody is told of alone.
        let (kim, _) = (world.person("kim@example.com").await, follower.poll().await.unwrap());
        sql.execute(
            "UPDATE OR REPLACE users SET email = 'kit@example.com', email_canonical = 'kit@example.com' WHERE email = 'kim@example.com'",
        )
        .await;
        assert_eq!(follower.poll().await.unwrap(), of(&[&kim]));
    });
}

#[test]
fn the_file_that_was_put_back_is_noticed() {
    run(Backend::Sqlite, |world| async move {
        let ann = world.person("ann@example.com").await;
        let mut follower = follow(&world).await;
        let sql = world.sql().await;
        // As `.restore` leaves it: the sequence of another day.
        sql.execute("DELETE FROM changes").await;
        sql.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'changes'").await;
        sql.execute(&rename(&world, &ann)).await;
        assert_eq!(follower.poll().await.unwrap(), Changes::Everything);
        sql.execute(&rename(&world, &ann)).await;
        assert_eq!(follower.poll().await.unwrap(), of(&[&ann]));
    });
}
