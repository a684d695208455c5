//! Several servers over one database, and a client that spreads its calls over them.
//!
//! ```text
//! let replicas = Replicas::in_process(&world).await;             // three servers in this process, on the clock of the world
//! let replicas = Replicas::processes(&ground.config, &[]).await;   // three real ones (on SQLite one: a file takes one server)
//!
//! replicas.client().login(request).await                         // at the next one in turn
//! for server in replicas.all() {                                 // at each
//!     server.client().validate_session(request).await
//! }
//! replicas.at(1).kill9();                                        // a process can die, and come back
//! replicas.at(1).restart().await;
//! ```
//!
//! Each has its own `App`, pools and keys in memory, as replicas have that only share a database. Processes are killed when this is
//! dropped; servers in this process end with the test.

use std::sync::atomic::{AtomicUsize, Ordering};

use doorward::{config::Config, pb::v1::auth_service_client::AuthServiceClient};
use tonic::transport::Channel;

use super::{Replica, World, process::Process};

/// As many as there are.
const REPLICAS: usize = 3;

/// Whatever serves.
pub trait Serves: Send + Sync + 'static {
    /// A client of it.
    fn client(&self) -> AuthServiceClient<Channel>;
}

impl Serves for Process {
    fn client(&self) -> AuthServiceClient<Channel> {
        self.client()
    }
}

/// A replica in this process, and the connection that its clients share.
pub struct Inner {
    pub replica: Replica,
    channel: Channel,
}

impl Serves for Inner {
    fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }
}

/// Servers over one database.
pub struct Replicas<S> {
    all: Vec<S>,
    turn: AtomicUsize,
}

impl Replicas<Inner> {
    /// Three more on the database of a world, with its clock, in this process.
    pub async fn in_process(world: &World) -> Self {
        let mut all = Vec::new();
        for _ in 0..REPLICAS {
            let replica = world.another_replica().await;
            let channel = replica.channel();
            all.push(Inner { replica, channel });
        }
        Self { all, turn: AtomicUsize::new(0) }
    }
}

impl Replicas<Process> {
    /// Three processes of the real binary on the database of a configuration; on SQLite one. They get `settings` besides, by
    /// `section.key`.
    pub async fn processes(config: &Config, settings: &[(&str, &str)]) -> Self {
        let number = if config.database.is_sqlite() { 1 } else { REPLICAS };
        let mut all = Vec::new();
        for _ in 0..number {
            all.push(Process::start(config, settings).await);
        }
        Self { all, turn: AtomicUsize::new(0) }
    }
}

impl<S: Serves> Replicas<S> {
    /// A client of the next one in turn.
    pub fn client(&self) -> AuthServiceClient<Channel> {
        self.at(self.turn.fetch_add(1, Ordering::Relaxed)).client()
    }

    /// One of them, counted around.
    pub fn at(&self, index: usize) -> &S {
        &self.all[index % self.all.len()]
    }

    /// Each of them.
    pub fn all(&self) -> &[S] {
        &self.all
    }
}
