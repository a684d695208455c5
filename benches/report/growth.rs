//! Whether it stays as fast among a million people: the same tokens and logins, among 10,000, 100,000 and 1,000,000 people with three
//! memberships each, in turns with the same among 1,000. The people are made by SQL in bulk, with triggers off: nobody knows of them yet.

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

/// What the small data set has.
const SMALL: i64 = 1_000;
const SIZES: [i64; 3] = [10_000, 100_000, 1_000_000];
const ROUNDS: usize = 5;
/// Tables that are filled.
const TABLES: [&str; 3] = ["users", "memberships", "membership_roles"];

/// Measures each size beside the small one, in turns: minutes apart the machine is another one.
pub async fn measure(table: &mut Table, small: &Data, grown: &Data, round: Duration) -> Result<()> {
    let mut sql = PgConnection::connect(grown.url().context("a database")?).await?;
    for size in SIZES {
        grow(&mut sql, size).await?;
        let (few, many) = (Servers::start(small).await?, Servers::start(grown).await?);
        let mut loads: [[Vec<Load>; 3]; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (servers, loads) in [&few, &many].into_iter().zip(&mut loads) {
                for (load, loads) in servers.measure(round).await?.into_iter().zip(loads) {
                    loads.push(load);
                }
            }
        }
        let [few_rates, many_rates] = loads.map(|loads| loads.map(|loads| Load::median(loads).per_second()));
        for (size, rates) in [(SMALL, few_rates), (size, many_rates)] {
            let [hit, miss, login] = rates.map(per_second);
            let what = format!("among {size} people: ValidateSession from memory, not remembered, Login");
            table.row(&what, &format!("{hit}, {miss}, {login}"), "", true);
        }
        let names = ["ValidateSession from memory", "ValidateSession, not remembered", "Login"];
        for ((what, few), many) in names.iter().zip(few_rates).zip(many_rates) {
            let ratio = few / many;
            table.row(&format!("{what}: time among {size} people ÷ among {SMALL}"), &times(ratio), "≤ 1.1", ratio <= 1.1);
        }
        few.stop()?;
        many.stop()?;
    }
    Ok(())
}

/// What is asked of one data set.
struct Servers<'data> {
    data: &'data Data,
    remembering: Process,
    forgetful: Process,
    hashing: Process,
}

impl<'data> Servers<'data> {
    async fn start(data: &'data Data) -> Result<Self> {
        let remembering = Process::doorward(data, Cores::First)?;
        load::ask_all(&remembering, data, &question).await?;
        Ok(Self { data, remembering, forgetful: Process::forgetful(data)?, hashing: Process::doorward(data, Cores::All)? })
    }

    async fn measure(&self, round: Duration) -> Result<[Load; 3]> {
        Ok([
            load::validations(&self.remembering, self.data, IN_FLIGHT, round).await?,
            load::validations(&self.forgetful, self.data, IN_FLIGHT, round).await?,
            load::logins(&self.hashing, self.data, 4, round).await?,
        ])
    }

    fn stop(self) -> Result<()> {
        for server in [self.remembering, self.forgetful, self.hashing] {
            server.stop()?;
        }
        Ok(())
    }
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
