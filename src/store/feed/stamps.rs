//! Which of what is remembered still holds.
//!
//! ```text
//! reader:  position p ──► reads the database ──► keeps (value, stamp p, the entities behind it)
//! feed:                        change of an entity ──► poll ──► changed[entity] = p + 1 ──► position = p + 1
//! later:   holds(stamp)  ⇔  no entity behind it changed after its stamp
//! ```
//!
//! A *position* counts polls that saw something. Whoever fills takes it **before** reading: what its statement did not see yet becomes visible
//! to a later poll, and gets a later position. So it does not matter when the fill is kept, nor what came between: a fill that raced with a
//! change does not hold. What it did see and a poll tells of later is dropped for nothing, which costs a read.
//!
//! What was looked at and holds is stamped anew, so that between two positions an entry is compared once. Two generations of changes are
//! kept; what was stamped before the oldest of them is not known to hold, and does not.
//!
//! This file is compiled a second time in the tests, with loom's atomics and locks in the place of [`super::sync`]: they try every
//! interleaving of fills, changes and looks.

use std::{collections::HashMap, hash::Hash};

use super::sync::{AtomicU64, Ordering, RwLock};

/// How far a replica had followed the changes of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

/// Up to which position something is known to hold.
#[derive(Debug)]
pub struct Stamp(AtomicU64);

impl Stamp {
    /// Of what was read after this position was taken.
    #[must_use]
    pub fn new(position: Position) -> Self {
        Self(AtomicU64::new(position.0))
    }
}

/// The changes that are known, of entities of some kind.
#[derive(Debug)]
pub struct Stamps<E> {
    position: AtomicU64,
    changed: RwLock<Changed<E>>,
    /// How many entities a generation has.
    limit: usize,
}

#[derive(Debug)]
struct Changed<E> {
    /// Where an entity changed last.
    recent: HashMap<E, u64>,
    older: HashMap<E, u64>,
    /// What was stamped before this is not known to hold.
    floor: u64,
}

impl<E: Copy + Eq + Hash> Stamps<E> {
    /// Of a replica that knows of no change yet, and keeps at most twice `limit` of them.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let changed = Changed { recent: HashMap::new(), older: HashMap::new(), floor: 0 };
        Self { position: AtomicU64::new(0), changed: RwLock::new(changed), limit }
    }

    /// Where the replica is; to be taken before the database is read.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    /// Whether what was stamped so, and is made of these, still holds.
    #[must_use]
    pub fn holds(&self, stamp: &Stamp, entities: &[E]) -> bool {
        let (position, filled) = (self.position.load(Ordering::Acquire), stamp.0.load(Ordering::Relaxed));
        if filled == position {
            return true;
        }
        {
            let Ok(changed) = self.changed.read() else { return false };
            let last = |entity| changed.recent.get(entity).or_else(|| changed.older.get(entity)).copied();
            if filled < changed.floor || entities.iter().any(|entity| last(entity).is_some_and(|at| at > filled)) {
                return false;
            }
        }
        // All changes up to the position were in the maps before it was told. Of two who write here the lower one may win: it is true too.
        stamp.0.store(position, Ordering::Relaxed);
        true
    }

    /// A poll saw that these changed. One at a time publishes.
    pub fn publish(&self, entities: &[E]) {
        if entities.is_empty() {
            return;
        }
        let next = self.position.load(Ordering::Relaxed) + 1;
        if let Ok(mut changed) = self.changed.write() {
            if changed.recent.len() + entities.len() > self.limit {
                let older = std::mem::take(&mut changed.recent);
                let dropped = std::mem::replace(&mut changed.older, older);
                changed.floor = dropped.into_values().max().unwrap_or(0).max(changed.floor);
            }
            changed.recent.extend(entities.iter().map(|entity| (*entity, next)));
        }
        // Last: whoever sees the position finds what it stands for.
        self.position.store(next, Ordering::Release);
    }

    /// Nothing that was read before this is known to hold.
    pub fn forget(&self) {
        let next = self.position.load(Ordering::Relaxed) + 1;
        if let Ok(mut changed) = self.changed.write() {
            changed.recent.clear();
            changed.older.clear();
            changed.floor = next;
        }
        self.position.store(next, Ordering::Release);
    }
}
