//! What a replica knows of the changes in its database, and since when: whoever remembers anything asks here whether it still holds.
//!
//! ```text
//! triggers ──► table changes ──poll──► Stamps: where each entity changed last ──► does this entry still hold?
//!                                 └──► age: now − start of the last completed poll ──► may memory be trusted at all?
//! ```
//!
//! The polls are `changes.rs`; who makes them, four times in `freshness.max_staleness`, is `domain::freshness`. A poll is also made at once
//! where somebody waits for one: a unit of work that has committed, so that whoever is told of it finds it on this replica; a call with
//! `freshness = LATEST`; another replica's wake-up. However many wait, one poll serves all that came before it began.
//!
//! The design had LATEST read the revisions and epochs of session, user, tenant and membership. A poll is one statement as well, but says of
//! everything whether it changed, also of roles and of what was changed by hand without its revision, and is one for all calls that wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::Counter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use stamps::Stamps;
pub use stamps::{Position, Stamp};

use crate::values::ids::{ServiceAccountId, SessionId, TenantId, UserId};

mod stamps;

/// What `stamps.rs` is built on; loom's in the tests.
mod sync {
    pub use std::sync::{
        RwLock,
        atomic::{AtomicU64, Ordering},
    };
}

/// Changes that are known at once, times two.
const KNOWN: usize = 50_000;
/// How long anybody waits for a poll: one takes a millisecond, and one that hangs has failed by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// What answers are made of, and change by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// The instance's epoch.
    Instance,
    /// A person, their memberships and the roles that they hold.
    User(UserId),
    /// A tenant and its roles.
    Tenant(TenantId),
    /// Any tenant: for what would be about another one if that was changed.
    AnyTenant,
    /// A session; not what moves at every refresh.
    Session(SessionId),
    /// A service account, its roles and its secrets.
    ServiceAccount(ServiceAccountId),
    /// Which names in certificates stand for which accounts.
    Certificates,
    /// The signing keys.
    SigningKeys,
}

impl Entity {
    /// As it stands in the table `changes`; none for what has to be taken for everything.
    pub(super) fn read(kind: &str, id: Option<Uuid>) -> Option<Self> {
        match (kind, id) {
            ("instance", None) => Some(Self::Instance),
            ("user", Some(id)) => Some(Self::User(UserId::from_uuid(id))),
            ("tenant", Some(id)) => Some(Self::Tenant(TenantId::from_uuid(id))),
            ("session", Some(id)) => Some(Self::Session(SessionId::from_uuid(id))),
            ("service_account", Some(id)) => Some(Self::ServiceAccount(ServiceAccountId::from_uuid(id))),
            ("certificate", None) => Some(Self::Certificates),
            ("signing_key", Some(_)) => Some(Self::SigningKeys),
            _ => None,
        }
    }
}

/// What a poll found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These, each at least once.
    Of(Vec<Entity>),
    /// Too many to tell, or what this version does not know.
    Everything,
}

impl Changes {
    /// Whether the signing keys may be among them.
    #[must_use]
    pub fn may_be_keys(&self) -> bool {
        match self {
            Self::Of(entities) => entities.contains(&Entity::SigningKeys),
            Self::Everything => true,
        }
    }
}

/// The state of it. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stamps: Stamps<Entity>,
    /// What `polled` counts from.
    made: Instant,
    /// When the last completed poll began, in nanoseconds; none yet: 0.
    polled: AtomicU64,
    /// The same, for those who wait.
    completed: watch::Sender<Option<Instant>>,
    demand: Notify,
    /// Whether a unit of work here has committed since the last poll.
    committed: AtomicBool,
    polls: Counter,
    changes: Counter,
    forgets: Counter,
}

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(Inner {
            stamps: Stamps::new(KNOWN),
            made: Instant::now(),
            polled: AtomicU64::new(0),
            completed: watch::Sender::default(),
            demand: Notify::new(),
            committed: AtomicBool::new(false),
            polls: Counter::default(),
            changes: Counter::default(),
            forgets: Counter::default(),
        }))
    }
}

impl Feed {
    /// Gives what is counted here its names.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("doorward_feed_polls", "Looks at what changed in the database", self.0.polls.clone());
        registry.register("doorward_feed_changes", "Changes that were found", self.0.changes.clone());
        let help = "Times that everything was forgotten: at a start, after an outage, for too many changes";
        registry.register("doorward_feed_forgets", help, self.0.forgets.clone());
        registry.register_collector(Box::new(Age(self.clone())));
    }

    /// Where the replica is; to be taken before the database is read for something that is to be remembered.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.stamps.position()
    }

    /// Whether what was stamped so, and is made of these, still holds as far as the replica knows; how far that is, says [`Feed::age`].
    #[must_use]
    pub fn holds(&self, stamp: &Stamp, entities: &[Entity]) -> bool {
        self.0.stamps.holds(stamp, entities)
    }

    /// How long ago the last completed poll began, by the monotonic clock; none where there never was one.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let polled = self.0.polled.load(Ordering::Acquire);
        (polled > 0).then(|| self.0.made.elapsed().saturating_sub(Duration::from_nanos(polled)))
    }

    /// Waits for a poll that began at this moment or later, and so saw every change of before. Answers whether there was one in time; at
    /// once, where nobody follows.
    pub async fn caught_up(&self, since: Instant) -> bool {
        let mut completed = self.0.completed.subscribe();
        if completed.borrow().is_some_and(|began| began >= since) {
            return true;
        }
        self.0.demand.notify_one();
        let seen = completed.wait_for(|began| began.is_none_or(|began| began >= since));
        matches!(tokio::time::timeout(PATIENCE, seen).await, Ok(Ok(began)) if began.is_some())
    }

    /// The same for a unit of work that has committed: other replicas are told to look, too. Where the change cannot be seen, nothing that
    /// is remembered is trusted any more until somebody looks again. Answers whether anybody follows who tells the others.
    pub(super) async fn committed(&self) -> bool {
        self.0.committed.store(true, Ordering::Release);
        let is_seen = self.caught_up(Instant::now()).await;
        if !is_seen {
            self.0.polled.store(0, Ordering::Release);
        }
        is_seen
    }

    /// Whether the changes are followed at the moment.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.0.completed.borrow().is_some()
    }

    /// Asks for a poll out of turn.
    pub(super) fn demand(&self) {
        self.0.demand.notify_one();
    }

    /// Waits until somebody wants a poll.
    pub async fn demanded(&self) {
        self.0.demand.notified().await;
    }

    /// Whether a unit of work has committed here since this was asked last.
    #[must_use]
    pub fn take_committed(&self) -> bool {
        self.0.committed.swap(false, Ordering::AcqRel)
    }

    /// A poll that began then has found this.
    pub fn publish(&self, changes: &Changes, began: Instant) {
        self.0.polls.inc();
        match changes {
            Changes::Of(entities) => {
                self.0.changes.inc_by(entities.len() as u64);
                let is_tenant = |entity: &Entity| matches!(entity, Entity::Tenant(_));
                let any = entities.iter().any(is_tenant).then_some(Entity::AnyTenant);
                self.0.stamps.publish(&entities.iter().copied().chain(any).collect::<Vec<_>>());
            }
            Changes::Everything => {
                self.0.forgets.inc();
                self.0.stamps.forget();
            }
        }
        let nanos = u64::try_from(began.saturating_duration_since(self.0.made).as_nanos()).unwrap_or(u64::MAX);
        self.0.polled.store(nanos.max(1), Ordering::Release);
        self.0.completed.send_replace(Some(began));
    }

    /// Nobody follows for the moment: whoever waits for a poll waits in vain. What is remembered may be trusted until it is too old.
    pub fn stop(&self) {
        self.0.completed.send_replace(None);
    }
}

/// Looks at the feed's age when it is asked.
#[derive(Debug)]
struct Age(Feed);

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let age = self.0.age().map_or(f64::INFINITY, |age| age.as_secs_f64());
        let help = "How long ago the last look at the changes began; above freshness.max_staleness nothing is answered from memory.";
        let metric = encoder.encode_descriptor("doorward_feed_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(age).encode(metric)
    }
}
