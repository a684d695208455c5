//! Every table is one of facts or is not, every column of a table of facts is announced or routine, and what is announced reaches `changes`,
//! whoever writes it.

use std::collections::{BTreeMap, BTreeSet};

use doorward::store::tenants::Tenant;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, QueryResult, Statement, TransactionTrait};

use crate::{
    harness::*,
    on_both,
    probe::tables,
    workloads::{self, tenant_account},
};

/// A table of facts: its kind, its routine columns, and whether a new row is announced.
const FACTS: [(&str, &str, &[&str], bool); 12] = [
    ("instance", "instance", &["bootstrapped", "root_check", "created_at"], true),
    ("users", "user", &["email_canonical", "username_canonical"], true),
    ("tenants", "tenant", &[], true),
    ("roles", "tenant", &[], true),
    ("memberships", "user", &[], true),
    ("membership_roles", "user", &[], true),
    (
        "sessions",
        "session",
        &[
            "last_seen_at",
            "idle_expires_at",
            "ip_address",
            "user_agent",
            "device_name",
            "refresh_generation",
            "refresh_digest",
            "rotated_at",
        ],
        false,
    ),
    ("signing_keys", "signing_key", &[], true),
    ("service_accounts", "service_account", &[], true),
    ("service_account_roles", "service_account", &[], true),
    ("service_account_secrets", "service_account", &["last_used_at"], true),
    ("service_account_certificates", "certificate", &[], true),
];
/// Nothing that is remembered is made of these.
const OTHERS: [&str; 4] = ["audit_events", "changes", "password_credentials", "seaql_migrations"];

async fn query(db: &impl ConnectionTrait, sql: &str) -> Vec<QueryResult> {
    db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap()
}

/// The columns of a table, each with its type.
async fn columns(db: &impl ConnectionTrait, table: &str) -> BTreeMap<String, String> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => format!(
            "SELECT column_name::text AS name, data_type::text AS type FROM information_schema.columns WHERE table_name = '{table}'
             AND table_schema = current_schema()"
        ),
        _ => format!("SELECT name, type FROM pragma_table_info('{table}')"),
    };
    query(db, &sql).await.iter().map(|row| (row.try_get("", "name").unwrap(), row.try_get("", "type").unwrap())).collect()
}

/// Another value for a column, made of the one that it has.
fn other(db: &impl ConnectionTrait, column: &str, kind: &str) -> String {
    match (db.get_database_backend(), kind) {
        (DbBackend::Postgres, "uuid") => "gen_random_uuid()".to_owned(),
        (DbBackend::Postgres, "boolean") => format!("NOT {column}"),
        (DbBackend::Postgres, "jsonb") => r#"'{"other": 1}'"#.to_owned(),
        (DbBackend::Postgres, "bytea") => "'other'::bytea".to_owned(),
        (DbBackend::Postgres, "bigint" | "integer") => format!("coalesce({column}, 0) + 1"),
        (DbBackend::Postgres, "text") => format!("coalesce({column}, '') || 'x'"),
        (DbBackend::Postgres, kind) => panic!("{column} is a {kind}"),
        _ => format!(
            "CASE typeof({column}) WHEN 'integer' THEN {column} + 1 WHEN 'text' THEN {column} || 'x' WHEN 'blob' THEN randomblob(16)
             ELSE 'x' END"
        ),
    }
}

/// A transaction in which things are tried, and which never happened.
struct Trial(DatabaseTransaction);

impl Trial {
    async fn begin(db: &DatabaseConnection) -> Self {
        Self(db.begin().await.unwrap())
    }

    async fn forget(&self) {
        for sql in ["ROLLBACK TO SAVEPOINT trial", "RELEASE SAVEPOINT trial"] {
            self.0.execute_unprepared(sql).await.unwrap();
        }
    }

    /// The kinds that a statement announces; none where the database refuses it for what the row must be.
    async fn announces(&self, sql: &str) -> Option<BTreeSet<String>> {
        self.0.execute_unprepared("DELETE FROM changes").await.unwrap();
        self.0.execute_unprepared("SAVEPOINT trial").await.unwrap();
        if self.0.execute_unprepared(sql).await.is_err() {
            self.forget().await;
            return None;
        }
        let rows = query(&self.0, "SELECT kind, CASE WHEN entity_id IS NULL THEN 0 ELSE 1 END AS is_one FROM changes").await;
        let kinds = rows.iter().map(|row| {
            let (kind, is_one): (String, i32) = (row.try_get("", "kind").unwrap(), row.try_get("", "is_one").unwrap());
            if is_one == 1 { kind } else { format!("{kind}, all") }
        });
        let kinds = kinds.collect();
        self.forget().await;
        Some(kinds)
    }
}

/// What is wrong with the announcements of a database whose tables of facts each have a row.
async fn flaws(world: &World) -> Vec<String> {
    let sql = world.sql().await;
    let mut flaws = Vec::new();
    let known: BTreeSet<String> = FACTS.iter().map(|fact| fact.0).chain(OTHERS).map(str::to_owned).collect();
    let there: BTreeSet<String> = tables(&sql).await.into_iter().collect();
    flaws.extend(there.symmetric_difference(&known).map(|table| format!("{table} is neither of facts nor another")));
    // SQLite has one connection for whoever asks by hand.
    let tried = world.sql().await;
    let trial = Trial::begin(&tried.0).await;
    for (table, kind, routine, inserts) in FACTS {
        let all = if ["instance", "certificate"].contains(&kind) { ", all" } else { "" };
        let announced = Some(BTreeSet::from([format!("{kind}{all}")]));
        let columns = columns(&sql.0, table).await;
        flaws.extend(routine.iter().filter(|column| !columns.contains_key(**column)).map(|column| format!("{table}.{column} is gone")));
        let mut judged = 0;
        for (column, type_of) in &columns {
            let said = trial.announces(&format!("UPDATE {table} SET {column} = {}", other(&sql.0, column, type_of))).await;
            let is_routine = routine.contains(&column.as_str());
            judged += usize::from(said.is_some());
            match said {
                Some(said) if is_routine && !said.is_empty() => {
                    flaws.push(format!("{table}.{column} is routine, and announced as {said:?}"));
                }
                Some(said) if !is_routine && Some(&said) != announced.as_ref() => {
                    flaws.push(format!("{table}.{column} announces {said:?}"));
                }
                // A key to another table cannot be moved alone; that it is named is seen below.
                _ => {}
            }
            let same = trial.announces(&format!("UPDATE {table} SET {column} = {column}")).await;
            if same != Some(BTreeSet::new()) {
                flaws.push(format!("{table}.{column} that is written as it was announces {same:?}"));
            }
            if !is_routine && !watches(&sql, table, column).await {
                flaws.push(format!("{table}.{column} is in no trigger"));
            }
        }
        if judged * 2 < columns.len() && columns.len() > 3 {
            flaws.push(format!("{table}: the database refused most changes"));
        }
        let gone = trial.announces(&format!("DELETE FROM {table}")).await;
        if gone.is_some() && gone != announced {
            flaws.push(format!("{table}: a row that is gone announces {gone:?}"));
        }
        for (event, expected) in [("INSERT", i64::from(inserts)), ("DELETE", 1)] {
            let after = after(&sql, table, event).await;
            if after != expected {
                flaws.push(format!("{table}: {after} triggers after {event}"));
            }
        }
        if world.backend == Backend::Postgres {
            let everything = trial.announces(&format!("TRUNCATE {table} CASCADE")).await;
            if everything != Some(BTreeSet::from(["everything, all".to_owned()])) {
                flaws.push(format!("{table}: TRUNCATE announces {everything:?}"));
            }
        }
    }
    trial.0.rollback().await.unwrap();
    flaws
}

/// How many enabled triggers after an event a table has.
async fn after(sql: &Sql, table: &str, event: &str) -> i64 {
    match sql.0.get_database_backend() {
        DbBackend::Postgres => {
            sql.count(&format!(
                "SELECT count(*) AS n FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal AND tgenabled = 'A'
                 AND pg_get_triggerdef(oid) LIKE '%AFTER {event} ON%'"
            ))
            .await
        }
        _ => {
            sql.count(&format!(
                "SELECT count(*) AS n FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}' AND sql LIKE '%AFTER {event} ON%'"
            ))
            .await
        }
    }
}

/// Whether a trigger compares a column before and after an update.
async fn watches(sql: &Sql, table: &str, column: &str) -> bool {
    let n = match sql.0.get_database_backend() {
        DbBackend::Postgres => {
            let named = format!("%old.{column} IS DISTINCT FROM new.{column}%");
            let quoted = format!("%old.\"{column}\" IS DISTINCT FROM new.\"{column}\"%");
            sql.count(&format!(
                "SELECT count(*) AS n FROM pg_trigger t JOIN pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[])
                 WHERE t.tgrelid = '{table}'::regclass AND t.tgenabled = 'A' AND a.attname = '{column}'
                 AND (pg_get_triggerdef(t.oid) LIKE '{named}' OR pg_get_triggerdef(t.oid) LIKE '{quoted}')"
            ))
            .await
        }
        _ => {
            sql.count(&format!(
                "SELECT count(*) AS n FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'
                 AND sql LIKE '%OLD.{column} IS NOT NEW.{column}%' AND (sql LIKE '%UPDATE OF {column}, %WHEN%' OR sql LIKE '%UPDATE OF %, {column}, %WHEN%'
                 OR sql LIKE '%UPDATE OF %, {column} ON %WHEN%')"
            ))
            .await
        }
    };
    n > 0
}

/// A row in every table of facts.
async fn fill(world: &World) -> Tenant {
    let ann = world.person("ann@example.com").await;
    let acme = world.tenant("acme").await;
    world.role(&acme, "seller", &["sales:write"]).await;
    world.member(&acme, &ann, &["seller"]).await;
    world.login_to("ann@example.com", &acme).await;
    let robot = tenant_account(world, &acme, &["seller"]).await;
    let account = robot.key();
    let operator = workloads::operator(world, Some(&acme));
    doorward::domain::service_accounts::add_certificate(world.app(), operator, account, "spiffe://acme/robot".to_owned()).await.unwrap();
    acme
}

on_both! {
    async fn every_column_is_announced_or_routine(world: World) {
        fill(&world).await;
        assert_eq!(flaws(&world).await, Vec::<String>::new());
    }

    async fn a_trigger_that_is_swallowed_is_found(world: World) {
        fill(&world).await;
        let sql = world.sql().await;
        let on = |table: &str| if world.backend == Backend::Postgres { format!(" ON {table}") } else { String::new() };
        for (table, event) in [("users", "update"), ("sessions", "update"), ("signing_keys", "insert"), ("membership_roles", "delete")] {
            let drop = format!("DROP TRIGGER changes_{table}_{event}{}", on(table));
            let again = match world.backend {
                Backend::Postgres => format!("SELECT pg_get_triggerdef(oid) AS sql FROM pg_trigger WHERE tgname = 'changes_{table}_{event}'"),
                Backend::Sqlite => format!("SELECT sql FROM sqlite_master WHERE name = 'changes_{table}_{event}'"),
            };
            let again: String = sql.query(&again).await[0].try_get("", "sql").unwrap();
            sql.execute(&drop).await;
            let found = flaws(&world).await;
            assert!(found.iter().any(|flaw| flaw.starts_with(table)), "{table} {event}: {found:?}");
            sql.execute(&again).await;
            if world.backend == Backend::Postgres {
                // One that is not fired for what is replicated is no good either.
                let flaws = Box::pin(flaws(&world)).await;
                assert!(flaws.iter().any(|flaw| flaw.starts_with(table)), "{table} {event}: {flaws:?}");
                sql.execute(&format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER changes_{table}_{event}")).await;
            }
        }
        assert_eq!(flaws(&world).await, Vec::<String>::new());
    }

    async fn a_table_or_a_column_that_is_new_is_found(world: World) {
        fill(&world).await;
        let sql = world.sql().await;
        sql.execute("CREATE TABLE api_keys (id bigint)").await;
        sql.execute("ALTER TABLE users ADD COLUMN nickname text").await;
        let flaws = flaws(&world).await;
        assert!(flaws.iter().any(|flaw| flaw.starts_with("api_keys")) && flaws.iter().any(|flaw| flaw.starts_with("users.nickname")), "{flaws:?}");
    }
}
