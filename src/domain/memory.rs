//! What a replica remembers of tokens that it judged, so that it need not ask the database who somebody is at every request that they make.
//!
//! | remembered | by | holds until one of these changes |
//! |---|---|---|
//! | a principal: verified token, facts, rights in one tenant | digest of the token, tenant asked about | instance, user, tenant, session; or service account, tenant |
//! | the tenants of a principal | digest of the token | what the principal hangs on, any tenant: one that is not listed could be |
//! | accounts behind the names of a certificate | the names | which names stand for whom, instance, each account, its tenant |
//!
//! An entry is used where three things hold:
//!
//! 1. the replica has followed the changes of the database up to `freshness.max_staleness` ago; or, for [`Freshness::Since`], up to that
//!    moment: the call waits for a poll, one for all calls that wait;
//! 2. nothing behind the entry changed since it was made ([`crate::store::feed::Feed::holds`]), and the key that signed the token is still one that verifies;
//! 3. token and session are in time, which is judged again at every use.
//!
//! Else the database is read, and where that is away the answer is UNAVAILABLE. Remembered is what was found, never that something was not
//! there: of a tenant or session that is made later nothing would tell. (Of a certificate's name that is mapped later something does.) Nor that
//! somebody is no member of a tenant: who asks about a thousand of them would hear from the time it takes which there are. What a
//! single-use step decides, no entry decides: methods that change anything ask for the latest, and their statements have conditions of their
//! own.
//!
//! Tokens are remembered by their SHA-256, so that a picture of the memory holds none. The memory is bounded by an estimate of its bytes
//! (`freshness.memory_mib`); what is used stays. An entry holds what answers are made of and no more: where it held the roles three times, as
//! they were read, as they are shown and as permissions, each member's own, 100,000 answers of the bench took 1 GiB.

use std::{
    fmt::{self, Debug, Formatter},
    hash::Hash,
    sync::Arc,
    time::Instant,
};

use aws_lc_rs::digest;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};
use quick_cache::{Equivalent, Weighter, sync::Cache};

use super::access::{Principal, TenantView};
use crate::{
    app::App,
    config,
    store::{
        account_facts::AccountFacts,
        facts::About,
        feed::{Entity, Position, Stamp},
    },
    values::permission::PermissionSet,
};

/// How current what is remembered must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// At most `freshness.max_staleness` old.
    Bounded,
    /// With everything that was committed before this moment.
    Since(Instant),
}

impl Freshness {
    /// As the database has it by now.
    #[must_use]
    pub fn latest() -> Self {
        Self::Since(Instant::now())
    }
}

/// A token, by its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        Self(digest.as_ref().try_into().unwrap_or_default())
    }
}

/// Bytes of a usual entry.
const USUAL: u64 = 4 * 1024;
/// Bytes that any entry takes beside what it holds: keys, counters, what the allocator rounds up.
const OF_ENTRY: u64 = 512;

/// A token and the tenant that is asked about.
type Asked = (Digest, About);

/// The tenants of a principal, and whether there are more than are listed.
pub type Listed = (Vec<TenantView>, bool);

/// What is remembered. Clones are the same.
#[derive(Clone, Debug)]
pub struct Memory {
    principals: Kind<Asked, Principal>,
    lists: Kind<Digest, Arc<Listed>>,
    certificates: Kind<Vec<String>, Arc<Vec<AccountFacts>>>,
    permissions: Arc<Cache<Arc<PermissionSet>, Arc<PermissionSet>, BySize>>,
}

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new(config: &config::Freshness, registry: &mut Registry) -> Self {
        let lookups = Family::default();
        let help = "Looks into the memory: hit; absent; changed since; untrusted, since the changes were not followed";
        registry.register("doorward_memory_lookups", help, lookups.clone());
        let bytes = u64::from(config.memory_mib) * 1024 * 1024;
        // Principals are asked for at every request, lists now and then.
        let memory = Self {
            principals: Kind::new("principals", bytes / 32 * 27, &lookups),
            lists: Kind::new("lists", bytes / 32 * 3, &lookups),
            certificates: Kind::new("certificates", bytes / 32, &lookups),
            permissions: Arc::new(Cache::with_weighter(expected(bytes / 32), bytes / 32, BySize)),
        };
        registry.register_collector(Box::new(memory.clone()));
        memory
    }

    /// Whom a token speaks for.
    pub async fn principal(&self, app: &App, asked: &Asked, freshness: Freshness) -> Option<Principal> {
        let Some(kept) = self.principals.get(asked).or_else(|| self.account(asked)) else { return self.principals.absent() };
        let still_verifies = |kept: &Principal| app.keys.latest().still_verifies(&kept.token().signed_by);
        self.principals.judge(app, kept, freshness, still_verifies).await.map(|kept| kept.value.clone())
    }

    /// A service account, whichever tenant is asked about: what is known of it is the same, and whoever has a token of one cannot fill the
    /// memory by asking about tenants that they make up.
    fn account(&self, (token, about): &Asked) -> Option<Arc<Kept<Principal>>> {
        let kept = if *about == About::Own { None } else { self.principals.get(&(*token, About::Own)) };
        kept.filter(|kept| matches!(kept.value, Principal::ServiceAccount(..)))
    }

    /// Remembers whom a token speaks for, as it was read after `position` was taken.
    pub fn keep_principal(&self, (token, about): Asked, principal: &Principal, position: Position) {
        let Some(entities) = principal.entities(&about) else { return };
        let about = if matches!(principal, Principal::ServiceAccount(..)) { About::Own } else { about };
        let mut own = 0;
        let slim = principal.slim(&mut |permissions| self.shared(permissions, &mut own));
        let weight = slim.weight() + own;
        self.principals.keep((token, about), slim, position, entities, weight);
    }

    /// One set for all that are equal: a tenant's members have a few sets between them. It weighs on the first of them.
    fn shared(&self, permissions: PermissionSet, own: &mut u64) -> Arc<PermissionSet> {
        if let Some(known) = self.permissions.get(&permissions) {
            return known;
        }
        *own += permissions.weight();
        let shared = Arc::new(permissions);
        self.permissions.insert(Arc::clone(&shared), Arc::clone(&shared));
        shared
    }

    /// The tenants of whoever a token speaks for.
    pub async fn list(&self, app: &App, token: Digest, freshness: Freshness) -> Option<Arc<Listed>> {
        let Some(kept) = self.lists.get(&token) else { return self.lists.absent() };
        self.lists.judge(app, kept, freshness, |_| true).await.map(|kept| Arc::clone(&kept.value))
    }

    /// Remembers them, as they were read after `position` was taken.
    pub fn keep_list(&self, token: Digest, principal: &Principal, listed: &Arc<Listed>, position: Position) {
        let Some(mut entities) = principal.entities(&About::Own) else { return };
        entities.push(Entity::AnyTenant);
        let weight = listed.0.iter().map(TenantView::weight).sum();
        self.lists.keep(token, Arc::clone(listed), position, entities, weight);
    }

    /// The accounts that the names of a certificate stand for.
    pub async fn accounts(&self, app: &App, names: &[String], freshness: Freshness) -> Option<Arc<Vec<AccountFacts>>> {
        let Some(kept) = self.certificates.get(names) else { return self.certificates.absent() };
        self.certificates.judge(app, kept, freshness, |_| true).await.map(|kept| Arc::clone(&kept.value))
    }

    /// Remembers them, as they were read after `position` was taken. Also that there are none: every name that is mapped is told of.
    pub fn keep_accounts(&self, names: Vec<String>, accounts: &Arc<Vec<AccountFacts>>, position: Position) {
        let mut entities = vec![Entity::Certificates];
        entities.extend(accounts.iter().flat_map(AccountFacts::entities));
        let weight = accounts.iter().map(AccountFacts::weight).sum::<u64>() + names.iter().map(|name| name.len() as u64).sum::<u64>();
        self.certificates.keep(names, Arc::clone(accounts), position, entities, weight);
    }
}

/// Entries of one kind.
struct Kind<K, V> {
    name: &'static str,
    cache: Arc<Cache<K, Arc<Kept<V>>, ByWeight>>,
    lookups: Arc<Lookups>,
}

impl<K, V> Clone for Kind<K, V> {
    fn clone(&self) -> Self {
        Self { name: self.name, cache: Arc::clone(&self.cache), lookups: Arc::clone(&self.lookups) }
    }
}

impl<K, V> Debug for Kind<K, V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).finish_non_exhaustive()
    }
}

struct Kept<V> {
    value: V,
    stamp: Stamp,
    entities: Box<[Entity]>,
    /// About how many bytes it takes.
    weight: u64,
}

/// An entry weighs what it was said to.
#[derive(Clone)]
struct ByWeight;

impl<K, V> Weighter<K, Arc<Kept<V>>> for ByWeight {
    fn weight(&self, _: &K, kept: &Arc<Kept<V>>) -> u64 {
        kept.weight
    }
}

/// A set of permissions weighs what it holds.
#[derive(Clone)]
struct BySize;

impl Weighter<Arc<PermissionSet>, Arc<PermissionSet>> for BySize {
    fn weight(&self, _: &Arc<PermissionSet>, set: &Arc<PermissionSet>) -> u64 {
        OF_ENTRY + set.weight()
    }
}

/// How many entries there will be, which a cache sizes its shards by, and its record of those that it had to let go. Nothing is taken before
/// it is needed.
fn expected(bytes: u64) -> usize {
    usize::try_from(bytes / USUAL).unwrap_or(usize::MAX).max(1)
}

struct Lookups {
    hit: Counter,
    absent: Counter,
    changed: Counter,
    untrusted: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    memory: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    memory: &'static str,
}

impl<K: Clone + Eq + Hash, V> Kind<K, V> {
    fn new(name: &'static str, bytes: u64, lookups: &Family<LookupLabels, Counter>) -> Self {
        let counter = |outcome| lookups.get_or_create_owned(&LookupLabels { memory: name, outcome });
        let lookups =
            Lookups { hit: counter("hit"), absent: counter("absent"), changed: counter("changed"), untrusted: counter("untrusted") };
        let cache = Cache::with_weighter(expected(bytes), bytes, ByWeight);
        Self { name, cache: Arc::new(cache), lookups: Arc::new(lookups) }
    }

    fn get<Q>(&self, key: &Q) -> Option<Arc<Kept<V>>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.cache.get(key)
    }

    /// Counts that there is none.
    fn absent<T>(&self) -> Option<T> {
        self.lookups.absent.inc();
        None
    }

    /// An entry that may be used, if what the changes do not tell of holds too.
    async fn judge(&self, app: &App, kept: Arc<Kept<V>>, freshness: Freshness, also: impl FnOnce(&V) -> bool) -> Option<Arc<Kept<V>>> {
        let feed = app.store.feed();
        let is_trusted = match freshness {
            Freshness::Bounded => feed.age().is_some_and(|age| age <= app.config.freshness.max_staleness),
            Freshness::Since(moment) => feed.caught_up(moment).await,
        };
        if !is_trusted {
            self.lookups.untrusted.inc();
            return None;
        }
        if !feed.holds(&kept.stamp, &kept.entities) || !also(&kept.value) {
            self.lookups.changed.inc();
            return None;
        }
        self.lookups.hit.inc();
        Some(kept)
    }

    fn keep(&self, key: K, value: V, position: Position, entities: Vec<Entity>, weight: u64) {
        let weight = weight + OF_ENTRY + (entities.len() * size_of::<Entity>()) as u64;
        let kept = Kept { value, stamp: Stamp::new(position), entities: entities.into_boxed_slice(), weight };
        self.cache.insert(key, Arc::new(kept));
    }
}

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let help = "Entries that are remembered.";
        let mut metric = encoder.encode_descriptor("doorward_memory_entries", help, None, MetricType::Gauge)?;
        let lengths = [
            (self.principals.name, self.principals.cache.len()),
            (self.lists.name, self.lists.cache.len()),
            (self.certificates.name, self.certificates.cache.len()),
        ];
        for (memory, length) in lengths {
            ConstGauge::new(length as u64).encode(metric.encode_family(&KindLabels { memory })?)?;
        }
        Ok(())
    }
}
