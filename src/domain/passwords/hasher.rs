//! The hashing threads.
//!
//! A fixed number of threads, each with memory blocks of its own that it uses again and again: allocating 19 MiB per hash costs a third
//! of the speed and, under glibc, ten times the memory. Calls wait in a short queue. The queue is measured in time, by a running
//! average of what a hash takes: a call whose turn would come after its deadline, or after `MAX_WAIT`, is refused at once with
//! OVERLOADED and told when to come back, and a job whose caller is gone by its turn is not started.
//!
//! ```text
//! caller ── admit? ──► queue ──► thread: caller gone or late? skip : hash ──► answer
//!              └─ no ► OVERLOADED
//! ```

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use argon2::{Block, Params, password_hash::phc};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::sync::oneshot;

use super::{ARGON2ID, HASH_BYTES, Normalized, Stored, context};
use crate::{
    error::{Error, Result},
    metrics::seconds,
    values::{entropy::Entropy, secret},
};

/// Nobody waits longer than this for a thread, whatever their deadline.
const MAX_WAIT: Duration = Duration::from_secs(3);
const SALT_BYTES: usize = 16;

/// What a password was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Not the stored one, or there is none.
    Wrong,
    /// The stored one.
    Right,
    /// The stored one, which was hashed with other parameters: the new PHC string is to be stored.
    RightButOld(String),
}

enum Work {
    Verify(Option<Stored>),
    Hash,
}

enum Done {
    Verdict(Verdict),
    Hash(String),
}

struct Job {
    password: Normalized,
    work: Work,
    deadline: Instant,
    caller: Weak<()>,
    since: Instant,
    answer: oneshot::Sender<Result<Done>>,
}

/// The threads and their queue. Clones are the same ones; dropping the last ends the threads after the job at hand.
#[derive(Clone, Debug)]
pub struct Hasher {
    queue: mpsc::SyncSender<Job>,
    shared: Arc<Shared>,
    threads: u64,
}

#[derive(Debug)]
struct Shared {
    parameters: Params,
    entropy: Entropy,
    /// Jobs that wait or run.
    pending: Gauge<u64, AtomicU64>,
    /// What a job takes on average, in microseconds.
    average_micros: AtomicU64,
    /// Hashes with the current parameters since the start.
    hashes: Counter,
    /// Jobs that the queue did not take.
    refused: Counter,
    /// Jobs whose turn came when nobody waited any more.
    skipped: Counter,
    /// What jobs waited for a thread.
    waited: Histogram,
    /// What they took there.
    took: Histogram,
}

impl Hasher {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// [`Error::Internal`] where the system gives no thread.
    pub fn start(parameters: Params, threads: usize, queue: usize, entropy: Entropy) -> Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(queue.max(1));
        let receiver = Arc::new(Mutex::new(receiver));
        // A first guess for the average; the first jobs mend it.
        let guess = u64::from(parameters.m_cost()) * u64::from(parameters.t_cost()) / 2;
        let shared = Arc::new(Shared {
            parameters,
            entropy,
            pending: Gauge::default(),
            average_micros: AtomicU64::new(guess.max(1)),
            hashes: Counter::default(),
            refused: Counter::default(),
            skipped: Counter::default(),
            waited: seconds(),
            took: seconds(),
        });
        for number in 0..threads.max(1) {
            let (receiver, shared) = (Arc::clone(&receiver), Arc::clone(&shared));
            let thread = thread::Builder::new().name(format!("hash-{number}"));
            thread.spawn(move || run(&receiver, &shared)).map_err(Error::internal)?;
        }
        Ok(Self { queue: sender, shared, threads: threads.max(1) as u64 })
    }

    /// Whether `password` is the stored one. Costs one hash of the current parameters in every case: for `None` (no such user, no
    /// password, unreadable) too.
    ///
    /// `caller` is whoever waits: a job is not started once they are gone, and comes to its end where it has been.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where the turn would come too late, [`Error::Deadline`] where it did.
    pub async fn verify(&self, password: Normalized, stored: Option<Stored>, deadline: Instant, caller: Weak<()>) -> Result<Verdict> {
        match self.submit(password, Work::Verify(stored), deadline, caller).await? {
            Done::Verdict(verdict) => Ok(verdict),
            Done::Hash(_) => Err(Error::internal("a hashing thread answered another question")),
        }
    }

    /// The scheme tag and PHC string of a new password.
    ///
    /// # Errors
    /// As [`Hasher::verify`].
    pub async fn hash(&self, password: Normalized, deadline: Instant) -> Result<(&'static str, String)> {
        let caller = Arc::new(());
        match self.submit(password, Work::Hash, deadline, Arc::downgrade(&caller)).await? {
            Done::Hash(phc) => Ok((ARGON2ID, phc)),
            Done::Verdict(_) => Err(Error::internal("a hashing thread answered another question")),
        }
    }

    /// How many hashes with the current parameters were done since the start.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.get()
    }

    /// Gives what is counted here its names.
    pub fn register(&self, registry: &mut Registry) {
        let shared = &self.shared;
        let threads: Gauge<u64, AtomicU64> = Gauge::default();
        threads.set(self.threads);
        registry.register("doorward_hash_threads", "Threads that hash passwords", threads);
        registry.register("doorward_hash_jobs", "Passwords that wait for a thread or are on one", shared.pending.clone());
        registry.register("doorward_hash_hashes", "Hashes with the current parameters", shared.hashes.clone());
        registry.register(
            "doorward_hash_refused",
            "Passwords refused because the queue was full or their turn would have come too late",
            shared.refused.clone(),
        );
        registry.register("doorward_hash_skipped", "Passwords not hashed because nobody waited any more", shared.skipped.clone());
        registry.register_with_unit("doorward_hash_wait", "Time a password waited for a thread", Unit::Seconds, shared.waited.clone());
        registry.register_with_unit("doorward_hash_work", "Time a password took on its thread", Unit::Seconds, shared.took.clone());
    }

    async fn submit(&self, password: Normalized, work: Work, deadline: Instant, caller: Weak<()>) -> Result<Done> {
        let now = Instant::now();
        if now >= deadline {
            return Err(Error::Deadline);
        }
        let pending = self.shared.pending.get();
        let average = self.shared.average_micros.load(Ordering::Relaxed);
        let turn = Duration::from_micros((pending / self.threads).saturating_mul(average));
        let wait = turn + Duration::from_micros(average);
        if turn > MAX_WAIT || now + wait > deadline {
            if pending == 0 {
                // No job is there to mend an average that a machine standing still drove up: each refusal takes an eighth off it.
                self.shared.average_micros.store((average * 7 / 8).max(1), Ordering::Relaxed);
            }
            self.shared.refused.inc();
            return Err(Error::Overloaded { retry_after: wait });
        }
        let (answer, answered) = oneshot::channel();
        self.shared.pending.inc();
        if self.queue.try_send(Job { password, work, deadline, caller, since: now, answer }).is_err() {
            self.shared.pending.dec();
            self.shared.refused.inc();
            return Err(Error::Overloaded { retry_after: wait });
        }
        answered.await.unwrap_or_else(|_| Err(Error::internal("a hashing thread is gone")))
    }
}

/// A thread's life. The blocks are its own; they grow to what the largest stored hash asks for, which [`Stored::read`] bounds.
fn run(receiver: &Mutex<mpsc::Receiver<Job>>, shared: &Shared) {
    // Made by the first job: a replica that only answers for tokens never needs them.
    let mut blocks = Vec::new();
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let start = Instant::now();
        if start >= job.deadline || job.caller.strong_count() == 0 {
            // Late or abandoned: a hash for nobody would only make the others late.
            shared.skipped.inc();
            drop(job.answer.send(Err(Error::Deadline)));
        } else {
            shared.waited.observe(start.duration_since(job.since).as_secs_f64());
            let done = work(&job.password, job.work, shared, &mut blocks);
            drop(job.answer.send(done));
            let elapsed = start.elapsed();
            shared.took.observe(elapsed.as_secs_f64());
            let took = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let average = shared.average_micros.load(Ordering::Relaxed);
            shared.average_micros.store((average * 7 + took) / 8, Ordering::Relaxed);
        }
        shared.pending.dec();
    }
}

fn work(password: &Normalized, work: Work, shared: &Shared, blocks: &mut Vec<Block>) -> Result<Done> {
    match work {
        Work::Hash => hash_new(password, shared, blocks).map(Done::Hash),
        Work::Verify(None) => {
            hash_new(password, shared, blocks)?;
            Ok(Done::Verdict(Verdict::Wrong))
        }
        Work::Verify(Some(stored)) => verify(password, &stored, shared, blocks).map(Done::Verdict),
    }
}

fn verify(password: &Normalized, stored: &Stored, shared: &Shared, blocks: &mut Vec<Block>) -> Result<Verdict> {
    let hash = compute(password, &stored.salt, stored.parameters(), stored.hash.len(), blocks)?;
    let right = secret::equal(&hash, &stored.hash);
    if same(stored.parameters(), &shared.parameters) {
        shared.hashes.inc();
        return Ok(if right { Verdict::Right } else { Verdict::Wrong });
    }
    // The hash of the current parameters that every attempt costs; here a right one is put to use.
    let renewed = hash_new(password, shared, blocks)?;
    Ok(if right { Verdict::RightButOld(renewed) } else { Verdict::Wrong })
}

fn hash_new(password: &Normalized, shared: &Shared, blocks: &mut Vec<Block>) -> Result<String> {
    let salt = shared.entropy.bytes::<SALT_BYTES>();
    let hash = compute(password, &salt, &shared.parameters, HASH_BYTES, blocks)?;
    shared.hashes.inc();
    let render = || -> Result<String, phc::Error> {
        Ok(phc::PasswordHash {
            algorithm: phc::Ident::new("argon2id")?,
            version: Some(argon2::Version::V0x13.into()),
            params: (&shared.parameters).try_into().map_err(|_| phc::Error::ParamValueInvalid)?,
            salt: Some(phc::Salt::new(&salt)?),
            hash: Some(phc::Output::new(&hash)?),
        }
        .to_string())
    };
    render().map_err(|e| Error::Internal(format!("the hash has no PHC form: {e}")))
}

fn compute(password: &Normalized, salt: &[u8], parameters: &Params, length: usize, blocks: &mut Vec<Block>) -> Result<Vec<u8>> {
    let needed = parameters.block_count();
    if blocks.len() < needed {
        blocks.resize(needed, Block::default());
    }
    let mut hash = vec![0; length];
    let memory = blocks.get_mut(..needed).ok_or_else(|| Error::internal("the hashing memory is too small"))?;
    context(parameters)
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut hash, memory)
        .map_err(|e| Error::Internal(format!("argon2 failed: {e}")))?;
    Ok(hash)
}

fn same(one: &Params, other: &Params) -> bool {
    (one.m_cost(), one.t_cost(), one.p_cost(), one.output_len()) == (other.m_cost(), other.t_cost(), other.p_cost(), other.output_len())
}
