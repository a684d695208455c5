//! A ledger of what servers told their clients, to be asked for afterwards: acknowledged writes are there, nothing that was ended lives,
//! and what was asked for without an answer is whole or absent.
//!
//! ```text
//! let mut ann = Holder::login(&mut replicas.client(), "ann@example.com").await.unwrap();
//! ann.refresh(&mut replicas.client()).await;           // rotated, or no answer: both are noted
//! ann.end(&mut replicas.client(), Ending::Logout).await;
//! replicas.at(0).kill9();
//! replicas.at(0).restart().await;
//!
//! let mut ledger = Ledger::default();
//! ledger.add(ann);
//! ledger.check(&replicas, &sql).await;                 // panics where a server's word does not hold
//! ```
//!
//! A [`Holder`] is the only client of its session. An answer that contradicts what it was told before is a panic at once.

use super::{
    Replicas, Serves, Sql,
    holder::{Ending, Holder},
    told::Told,
};

/// Every holder there was.
#[derive(Default)]
pub struct Ledger {
    /// Those whose sessions may live.
    pub open: Vec<Holder>,
    /// Those whose sessions were found to be over.
    closed: Vec<Holder>,
    /// Ends without an answer that had happened as a whole.
    pub whole: usize,
    /// Those that had not happened.
    pub absent: usize,
}

impl Ledger {
    /// Adds one.
    pub fn add(&mut self, holder: Holder) {
        self.open.push(holder);
    }

    /// Asks every server for whatever is open, and the database for halves. What is found to be over is asked for again by
    /// [`Ledger::close`] only.
    pub async fn check<S: Serves>(&mut self, replicas: &Replicas<S>, sql: &Sql) {
        for mut holder in std::mem::take(&mut self.open) {
            let was_unknown = holder.is_end_known() == Some(false);
            holder.check(replicas).await;
            let is_over = holder.is_end_known().is_some();
            self.whole += usize::from(was_unknown && is_over);
            self.absent += usize::from(was_unknown && !is_over);
            if is_over { self.closed.push(holder) } else { self.open.push(holder) }
        }
        assert_whole(sql).await;
    }

    /// Asks for everything once more, and lets an old token of each live session end it: none of them revives.
    pub async fn close<S: Serves>(mut self, replicas: &Replicas<S>, sql: &Sql) {
        for holder in &mut self.open {
            while !holder.has_two_back() {
                assert_eq!(holder.refresh(&mut replicas.client()).await, Told::Yes(()));
            }
            holder.end(&mut replicas.client(), Ending::Reuse).await;
        }
        self.open.append(&mut self.closed);
        self.check(replicas, sql).await;
        assert!(self.open.is_empty());
    }
}

/// Every fact has its event and every event its fact.
async fn assert_whole(sql: &Sql) {
    let events = |events: &str| format!("(SELECT count(*) FROM audit_events WHERE event IN ({events}))");
    let opened = events("'login.succeeded', 'password.changed'");
    let ended = events("'session.revoked', 'session.refresh_token_reused'");
    // One statement, one moment: a unit of work whose caller is gone may still be on its way.
    let surplus = format!(
        "SELECT abs((SELECT count(*) FROM sessions) - {opened}) AS sessions, \
         abs((SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL) - {ended}) AS ends"
    );
    let row = sql.query(&surplus).await.remove(0);
    for fact in ["sessions", "ends"] {
        assert_eq!(row.try_get::<i64>("", fact).unwrap(), 0, "{fact} without their event, or events without theirs");
    }
}
