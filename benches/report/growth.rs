//! Whether it stays as fast among a million people: the same tokens and logins, among 1,000, 10,000, 100,000 and 1,000,000 people with three
//! memberships each. The people are made by SQL in bulk, with triggers off: nobody knows of them yet.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    IN_FLIGHT,
    data::Data,
    load::{self, Load},
    process::{Cores, Process},
    question,
    table::{Table, per_second, times},
};

const SIZES: [i64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 3;
/// Tables that are filled.
const TABLES: [&str; 3] = ["users", "memberships", "membership_roles"];

/// Measures each size.
pub async fn measure(table: &mut Table, data: &Data, round: Duration) -> Result<()> {
    let mut sql = PgConnection::connect(data.url().context("a database")?).await?;
    let mut first: Option<[f64; 3]> = None;
    for size in SIZES {
        grow(&mut sql, size).await?;
        let (mut hits, mut misses, mut logins) = (Vec::new(), Vec::new(), Vec::new());
        let server = Process::doorward(data, Cores::First)?;
        load::ask_all(&server, data, &question).await?;
        let forgetful = Process::forgetful(data)?;
        let hashing = Process::doorward(data, Cores::All)?;
        for _ in 0..ROUNDS {
            hits.push(load::validations(&server, data, IN_FLIGHT, round).await?);
            misses.push(load::validations(&forgetful, data, IN_FLIGHT, round).await?);
            logins.push(load::logins(&hashing, data, 4, round).await?);
        }
        let rates = [hits, misses, logins].map(|loads| Load::median(loads).per_second());
        let base = *first.get_or_insert(rates);
        let [hit, miss, login] = rates.map(per_second);
        table.row(
            &format!("among {size} people: ValidateSession from memory, not remembered, Login"),
            &format!("{hit}, {miss}, {login}"),
            "",
            true,
        );
        if size == 1_000_000 {
            for ((what, rate), base) in
                ["ValidateSession from memory", "ValidateSession, not remembered", "Login"].iter().zip(rates).zip(base)
            {
                let ratio = base / rate;
                table.row(&format!("{what}: time among 1,000,000 people ÷ among 1,000"), &times(ratio), "≤ 1.1", ratio <= 1.1);
            }
        }
        for server in [server, forgetful, hashing] {
            server.stop()?;
        }
    }
    Ok(())
}

/// Fills up to so many people.
async fn grow(sql: &mut PgConnection, size: i64) -> Result<()> {
    let start = Instant::now();
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&mut *sql).await?;
    for table in TABLES {
        sqlx::query(AssertSqlSafe(format!("ALTER TABLE {table} DISABLE TRIGGER ALL"))).execute(&mut *sql).await?;
    }
    let people =
        "INSERT INTO users SELECT gen_random_uuid(), NULL, 'grown' || n || '@example.com', 'grown' || n || '@example.com', NULL, NULL,
                  'Person ' || n, '', '', 'active', false, false, '{}', 0, 0, 1800000000 FROM generate_series($1, $2) n";
    sqlx::query(people).bind(there + 1).bind(size).execute(&mut *sql).await?;
    let memberships =
        "INSERT INTO memberships SELECT gen_random_uuid(), t.id, u.id, 'active', NULL, 0, 0, 1800000000 FROM users u, tenants t
                       WHERE NOT EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = u.id)";
    sqlx::query(memberships).execute(&mut *sql).await?;
    let roles = "INSERT INTO membership_roles SELECT m.tenant_id, m.id, r.id FROM memberships m JOIN roles r ON r.tenant_id = m.tenant_id
                 AND r.name IN ('seller', 'member') WHERE NOT EXISTS (SELECT 1 FROM membership_roles l WHERE l.membership_id = m.id)";
    sqlx::query(roles).execute(&mut *sql).await?;
    for table in TABLES {
        sqlx::query(AssertSqlSafe(format!("ALTER TABLE {table} ENABLE TRIGGER ALL"))).execute(&mut *sql).await?;
        sqlx::query(AssertSqlSafe(format!("VACUUM ANALYZE {table}"))).execute(&mut *sql).await?;
    }
    eprintln!("{size} people with three memberships each after {} s", start.elapsed().as_secs());
    Ok(())
}
