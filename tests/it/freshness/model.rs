//! Every interleaving of fills, changes and looks, with the very code of the service: `src/store/feed/stamps.rs` compiled over loom's
//! atomics and locks. The database is one number; whoever polls reads it, and publishes what changed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    thread,
};

mod sync {
    pub use loom::sync::{
        RwLock,
        atomic::{AtomicU64, Ordering},
    };
}

#[path = "../../../src/store/feed/stamps.rs"]
mod stamps;

use stamps::{Stamp, Stamps};
use sync::Ordering::SeqCst;

/// A replica and its database. There is one entity, and what is remembered of it.
struct Replica {
    database: AtomicU64,
    /// How much of the database the completed polls have seen.
    polled: AtomicU64,
    stamps: Stamps<u8>,
    kept: Mutex<Option<(u64, Arc<Stamp>)>>,
}

const ENTITY: u8 = 7;

/// When a fill takes its position.
#[derive(Clone, Copy)]
enum Takes {
    BeforeReading,
    AfterReading,
}

/// What a poll does first.
#[derive(Clone, Copy)]
enum Polls {
    PublishesThenCounts,
    CountsThenPublishes,
}

impl Replica {
    fn new() -> Self {
        Self { database: AtomicU64::new(0), polled: AtomicU64::new(0), stamps: Stamps::new(2), kept: Mutex::new(None) }
    }

    fn change(&self) {
        self.database.fetch_add(1, SeqCst);
    }

    /// Publishes what changed since the last poll; or, as at a new beginning, that anything may have.
    fn poll(&self, polls: Polls, forgets: bool) {
        let (before, now) = (self.polled.load(SeqCst), self.database.load(SeqCst));
        if matches!(polls, Polls::CountsThenPublishes) {
            self.polled.store(now, SeqCst);
        }
        match (now == before, forgets) {
            (_, true) => self.stamps.forget(),
            (true, false) => self.stamps.publish(&[]),
            (false, false) => self.stamps.publish(&[ENTITY]),
        }
        self.polled.store(now, SeqCst);
    }

    fn fill(&self, takes: Takes) {
        let before = self.stamps.position();
        let value = self.database.load(SeqCst);
        let position = match takes {
            Takes::BeforeReading => before,
            Takes::AfterReading => self.stamps.position(),
        };
        *self.kept.lock().unwrap() = Some((value, Arc::new(Stamp::new(position))));
    }

    /// Whatever memory answers is at least as new as the last poll that was completed when it was asked.
    fn look(&self) {
        let polled = self.polled.load(SeqCst);
        let kept = self.kept.lock().unwrap().clone();
        if let Some((value, stamp)) = kept
            && self.stamps.holds(&stamp, &[ENTITY])
        {
            assert!(value >= polled, "memory says {value} after a poll saw {polled}");
        }
    }
}

/// A fill, two changes with their polls, and somebody who looks twice, all at once.
fn explore(takes: Takes, polls: Polls, forgets: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let replica = Arc::new(Replica::new());
        let (filling, changing) = (Arc::clone(&replica), Arc::clone(&replica));
        let fill = thread::spawn(move || filling.fill(takes));
        let change = thread::spawn(move || {
            for round in 0..2 {
                changing.change();
                changing.poll(polls, forgets && round == 0);
            }
        });
        replica.look();
        replica.look();
        fill.join().unwrap();
        change.join().unwrap();
        replica.look();
    });
}

/// Whether an exploration finds something wrong.
fn is_found(takes: Takes, polls: Polls) -> bool {
    catch_unwind(AssertUnwindSafe(|| explore(takes, polls, false))).is_err()
}

#[test]
fn a_fill_that_races_with_a_change_is_never_used() {
    explore(Takes::BeforeReading, Polls::PublishesThenCounts, false);
}

#[test]
fn what_was_read_before_everything_is_forgotten_is_never_used() {
    explore(Takes::BeforeReading, Polls::PublishesThenCounts, true);
}

#[test]
fn a_fill_that_takes_its_position_too_late_is_found() {
    assert!(is_found(Takes::AfterReading, Polls::PublishesThenCounts));
}

#[test]
fn a_poll_that_is_completed_before_it_is_published_is_found() {
    assert!(is_found(Takes::BeforeReading, Polls::CountsThenPublishes));
}

/// What the maps no longer hold counts as changed.
#[test]
fn what_is_older_than_the_known_changes_does_not_hold() {
    loom::model(|| {
        let stamps: Stamps<u8> = Stamps::new(2);
        let (old, used) = (Stamp::new(stamps.position()), Stamp::new(stamps.position()));
        for entity in 0..6 {
            stamps.publish(&[entity]);
            assert!(stamps.holds(&used, &[100]), "what is looked at is stamped anew");
        }
        assert!(!stamps.holds(&old, &[100]), "what was not may have changed before what is known");
        let now = Stamp::new(stamps.position());
        stamps.publish(&[5]);
        assert!(!stamps.holds(&now, &[4, 5]) && stamps.holds(&now, &[4]));
    });
}
