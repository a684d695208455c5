//! Small refreshers with a planted flaw, over a table of their own: a race that does not find them proves nothing about the real one.

use std::sync::atomic::{AtomicI64, Ordering};

use doorward::values::{
    entropy::Entropy,
    secret::{hex, sha256},
};

use super::{
    arena::{Arena, Opened},
    oracle::{Act, Answer, Found},
};
use crate::harness::Sql;

/// What is wrong with a refresher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Nothing: it stands every race.
    Nothing,
    /// The row is read, and then written whatever it is by then.
    NotAtomic,
    /// The row is read, changed, and written back as a whole, with what was changed meanwhile.
    WritesBack,
    /// The update asks for a generation that is not older, in place of the one that was presented.
    ReplacedCondition,
    /// Reuse is answered as such, and ends nothing.
    SwallowedReuse,
    /// Reuse is answered with the tokens that were lost, however late.
    EndlessGrace,
    /// The second of two tabs is taken for a thief.
    NoGrace,
}

/// A refresher.
pub struct Planted {
    pub sql: Sql,
    pub plant: Plant,
    pub sessions: AtomicI64,
}

struct Row {
    generation: i64,
    secret: String,
    is_over: bool,
    is_past_grace: bool,
}

impl Planted {
    pub async fn new(sql: Sql, plant: Plant) -> Self {
        sql.execute("DROP TABLE IF EXISTS planted").await;
        let columns = "id bigint, generation bigint, secret text, is_over bigint, past_grace bigint, ends bigint, reuses bigint";
        sql.execute(&format!("CREATE TABLE planted ({columns})")).await;
        Self { sql, plant, sessions: AtomicI64::new(0) }
    }

    async fn row(&self, id: i64) -> Row {
        let query = format!("SELECT generation, secret, is_over, past_grace FROM planted WHERE id = {id}");
        let row = self.sql.query(&query).await.remove(0);
        let number = |column: &str| row.try_get::<i64>("", column).unwrap();
        let generation = number("generation");
        Row {
            generation,
            secret: row.try_get("", "secret").unwrap(),
            is_over: number("is_over") == 1,
            is_past_grace: generation <= number("past_grace"),
        }
    }

    /// Whether the row was moved on to `next`.
    async fn rotate(&self, id: i64, generation: i64, secret: &str, next: &str) -> bool {
        let set = format!("UPDATE planted SET generation = {generation} + 1, secret = '{next}'");
        let sql = match self.plant {
            Plant::NotAtomic | Plant::WritesBack => {
                let row = self.row(id).await;
                if row.is_over || row.generation != generation || row.secret != secret {
                    return false;
                }
                let over = if self.plant == Plant::WritesBack { ", is_over = 0, ends = 0, reuses = 0" } else { "" };
                format!("{set}{over} WHERE id = {id}")
            }
            Plant::ReplacedCondition => format!("{set} WHERE id = {id} AND is_over = 0 AND generation >= {generation}"),
            _ => format!("{set} WHERE id = {id} AND is_over = 0 AND generation = {generation} AND secret = '{secret}'"),
        };
        self.sql.execute(&sql).await == 1
    }

    async fn end(&self, id: i64, reuses: i64) {
        self.sql.execute(&format!("UPDATE planted SET is_over = 1, ends = 1, reuses = {reuses} WHERE id = {id} AND is_over = 0")).await;
    }
}

impl Arena for Planted {
    type Session = i64;

    async fn open(&self) -> Opened<i64> {
        let id = self.sessions.fetch_add(1, Ordering::Relaxed);
        self.sql.execute(&format!("INSERT INTO planted VALUES ({id}, 0, '{id}', 0, 0, 0, 0)")).await;
        Opened { session: id, refresh_token: format!("{id}.0.{id}") }
    }

    async fn call(&self, session: &i64, act: &Act, _choice: u64) -> Answer {
        let refused = |reason: &str| Answer::Refused(reason.to_owned());
        let Act::Refresh(token) = act else {
            match act {
                Act::Check if self.row(*session).await.is_over => return refused("SESSION_REVOKED"),
                Act::PassGrace => {
                    self.sql.execute(&format!("UPDATE planted SET past_grace = generation WHERE id = {session}")).await;
                }
                Act::End | Act::ChangePassword => self.end(*session, 0).await,
                _ => {}
            }
            return Answer::Done;
        };
        let [id, generation, secret] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let (id, generation): (i64, i64) = (id.parse().unwrap(), generation.parse().unwrap());
        let derived = hex(&sha256(secret.as_bytes()));
        let next = if self.plant == Plant::NotAtomic { hex(&Entropy::system().bytes::<16>()) } else { derived.clone() };
        let tokens = |secret: &str| Answer::Tokens(format!("{id}.{}.{secret}", generation + 1));
        if self.rotate(id, generation, secret, &next).await {
            return tokens(&next);
        }
        let row = self.row(id).await;
        if row.is_over {
            return refused("SESSION_REVOKED");
        }
        let may_heal = (!row.is_past_grace || self.plant == Plant::EndlessGrace) && self.plant != Plant::NoGrace;
        if generation + 1 == row.generation && may_heal {
            return tokens(&row.secret);
        }
        if generation >= row.generation {
            return refused("TOKEN_INVALID");
        }
        if self.plant != Plant::SwallowedReuse {
            self.end(id, 1).await;
        }
        refused("REFRESH_TOKEN_REUSED")
    }

    async fn found(&self, session: &i64) -> Found {
        let row = self.sql.query(&format!("SELECT generation, is_over, ends, reuses FROM planted WHERE id = {session}")).await.remove(0);
        let number = |column: &str| usize::try_from(row.try_get::<i64>("", column).unwrap()).unwrap();
        Found { generation: number("generation"), is_over: number("is_over") == 1, ends: number("ends"), reuses: number("reuses") }
    }
}
