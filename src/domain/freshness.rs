//! Following the changes of the database, so that what this replica remembers is never older than `freshness.max_staleness`.
//!
//! ```text
//!           ┌──────────────── broken, late ◄─────────────────┐
//!           ▼                                                │
//! begin: a snapshot ──► keys read, everything forgotten ──► poll ──► changes published, keys read where they changed ──► wait
//!                                                            ▲                                                            │
//!                                                            └──── a quarter of max_staleness, or as soon as wanted ◄─────┘
//! ```
//!
//! A poll is completed when what it found is published; only then is the replica known to be as new as the poll's beginning. So a replica
//! whose polls fail, hang or come late stops trusting its memory by itself, and a change of the keys that cannot be read counts as a poll
//! that failed. Every new beginning forgets everything: between two connections anything can have happened, also to the server behind them.
//!
//! Who else looks at once: the poll that finds what was written here wakes the other replicas.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    app::App,
    error::{Error, Result},
    store::{
        changes::{self, KEPT},
        feed::{Changes, Feed},
    },
};

/// How soon after a failure it is tried again; after several, twice as late each time, up to a second.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often what is older than [`KEPT`] is looked for.
const PURGE: Duration = Duration::from_mins(1);

/// Tells the feed when nobody follows for the moment, whichever way that comes.
struct Following<'a>(&'a Feed);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Follows until it is dropped.
pub async fn follow(app: Arc<App>) -> usize {
    let (mut is_failing, mut pause) = (false, PAUSE);
    loop {
        let outcome = follow_one(&app, &mut is_failing).await;
        if let Err(error) = outcome
            && !is_failing
        {
            // An outage shows in readiness and metrics; what else it is, nothing else tells.
            tracing::warn!(cause = ?error, "the changes of the database cannot be followed: every call reads the database");
            (is_failing, pause) = (true, PAUSE);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Follows by one connection, as long as that goes well.
async fn follow_one(app: &App, is_failing: &mut bool) -> Result<()> {
    let feed = app.store.feed();
    let began = Instant::now();
    let mut follower = app.store.follow().await?;
    app.keys.refresh(app).await?;
    let _following = Following(feed);
    publish(app, &Changes::Everything, began);
    if std::mem::take(is_failing) {
        tracing::info!("the changes of the database are followed again");
    }
    // Never as rarely as what is told is taken away.
    let pace = (app.config.freshness.max_staleness / 4).min(KEPT / 4);
    let mut found_before = false;
    loop {
        // Whether it is wanted or due, it is the same poll.
        drop(tokio::time::timeout(pace, feed.demanded()).await);
        let (began, wrote) = (Instant::now(), feed.take_committed());
        let changes = follower.poll().await?;
        if changes.may_be_keys() {
            app.keys.refresh(app).await?;
        }
        publish(app, &changes, began);
        let found = changes != Changes::Of(Vec::new());
        // A commit between the two steps above was found by the poll before.
        if wrote && (found || found_before) {
            follower.wake_others().await;
        }
        found_before = found;
    }
}

fn publish(app: &App, changes: &Changes, began: Instant) {
    // The keys first: whoever trusts the feed trusts them.
    app.keys.confirm(began.into());
    app.store.feed().publish(changes, began);
}

/// Takes away changes that nobody waits for any more, until it is dropped.
pub async fn purge(app: Arc<App>) -> usize {
    let mut marks = VecDeque::new();
    loop {
        tokio::time::sleep(PURGE.max(app.config.freshness.max_staleness)).await;
        if let Err(error) = purge_once(&app, &mut marks).await {
            tracing::debug!(cause = ?error, "old changes were not taken away this time");
        }
    }
}

async fn purge_once(app: &App, marks: &mut VecDeque<(Instant, String)>) -> Result<(), Error> {
    let now = Instant::now();
    let mark = app.store.read("mark_changes", (), |db, ()| async move { changes::mark(&db).await }).await?;
    marks.push_back((now, mark));
    let is_old = |(at, _): &(Instant, String)| now.duration_since(*at) >= KEPT;
    let mut old = None;
    while marks.front().is_some_and(is_old) {
        old = marks.pop_front();
    }
    let Some((_, mark)) = old else { return Ok(()) };
    while app.store.write_once("purge_changes", mark.clone(), |db, mark| async move { changes::purge(db, mark).await }, |_| {}).await? {}
    Ok(())
}
