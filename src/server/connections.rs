//! Connections: from an accepted socket to the service, with a limit on everything a peer can hold.
//!
//! tonic's own server is not used: it waits for ever for sockets that never speak and, at the stop, for calls that never end.
//! [`serve`] drives hyper itself. One listener is one call of it; one connection is one task of its `JoinSet`.
//!
//! ```text
//!              over max_connections              no TLS or no preface in handshake_timeout
//! accept ───────────────────────────▶ closed   ┌──────────────────────────────────▶ closed
//!    │                                         │
//!    └──▶ TLS, if there is any ──▶ opening ────┤
//!                                              └──▶ serving ──age, begin──▶ GOAWAY ──last call done──▶ closed
//!                                                                              └──drain_timeout, abort──▶ cut
//! ```
//!
//! A stop has two stages ([`Shutdown`]). *Begin*: the port closes, connections that said nothing yet are closed, all others get
//! a GOAWAY and may finish their calls for `drain_timeout`. *Abort*: whatever is left is dropped at once.
//!
//! Cutting a connection also drops the handlers that run for it; units of work that must not be torn have tasks of their own.

use std::{convert::Infallible, error::Error, future::pending, io, net::SocketAddr, pin::Pin, pin::pin, sync::Arc};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::Service as HyperService};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Duration, Interval, MissedTickBehavior, Sleep, interval, sleep, timeout},
};
use tower::{Service, ServiceExt, util::Oneshot};
use tracing::{debug, error, warn};

use super::{
    io::Watched,
    metrics::{Connections, Open},
    tls::{PeerCertificate, Tls},
};

/// Flow-control windows: small enough that a peer cannot park much in memory, and a 64 KiB message needs no update.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Resets by us for a peer's errors, and resets by the peer of streams not yet handled, before the connection is closed as
/// abusive (rapid reset, CVE-2023-44487, and its sister CVE-2025-8671).
const MAX_LOCAL_ERROR_RESETS: usize = 256;
const MAX_PENDING_RESETS: usize = 20;
/// hyper refuses a smaller HTTP/1 buffer.
const MIN_HTTP1_BUFFER: usize = 8 * 1024;
/// Waiting after an accept error that is not the peer's (no descriptors, no memory): doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Refused connections are reported at most this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; one more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// HTTP/2 streams at a time on one connection, advertised to the peer.
    pub max_concurrent_streams: u32,
    /// Time for the first bytes: the TLS handshake where there is one, HTTP/2 preface and first frame header, or the head of every HTTP/1
    /// request.
    pub handshake_timeout: Duration,
    /// Silence after which an HTTP/2 peer is pinged.
    pub keepalive_interval: Duration,
    /// Time for the answer to that ping, and for a peer to take any byte of a pending write.
    pub keepalive_timeout: Duration,
    /// Age at which a connection gets its GOAWAY, give or take 10 %; calls in flight finish. `None`: no limit.
    pub max_connection_age: Option<Duration>,
    /// Spreads the ages; a random number of the process.
    pub age_seed: u64,
    /// Time for calls in flight to finish after a stop began.
    pub drain_timeout: Duration,
    /// Size of a request's header list, in bytes as RFC 9113 section 6.5.2 counts them.
    pub max_header_list_bytes: u32,
}

impl Limits {
    /// The age limit of the listener's `serial`-th connection, within 10 % of `max_connection_age`, so that the connections of
    /// a burst, and those of several replicas, do not all return in one moment.
    #[must_use]
    pub fn age_of(&self, serial: u64) -> Option<Duration> {
        // SplitMix64: any two serials give unrelated numbers, without a generator to share.
        let mut mixed = self.age_seed.wrapping_add(serial.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let per_mille = 900 + u32::try_from(mixed % 201).unwrap_or(100);
        self.max_connection_age.map(|age| (age / 1000).saturating_mul(per_mille))
    }
}

/// What a listener speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge and nothing else: gRPC.
    Http2,
    /// HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the first bytes.
    Auto,
}

/// The peer's address, in the extensions of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerAddr(pub SocketAddr);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Running,
    Draining,
    Aborted,
}

/// The end of [`Shutdown`] that gives the signal. Dropping it begins a stop: nobody is left who could ask for one.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<Stage>);

impl ShutdownTrigger {
    /// First stage: no new connections, GOAWAY, drain.
    pub fn begin(&self) {
        self.advance(Stage::Draining);
    }

    /// Second stage: drop everything. Also the first, if that was skipped.
    pub fn abort(&self) {
        self.advance(Stage::Aborted);
    }

    fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|current| {
            let is_later = stage > *current;
            *current = stage.max(*current);
            is_later
        });
    }
}

/// A stop signal in two stages, for any number of listeners.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Stage>);

impl Shutdown {
    /// A signal not yet given, and its trigger.
    #[must_use]
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(Stage::Running);
        (ShutdownTrigger(sender), Self(receiver))
    }

    /// Completes when a stop has begun, or when the trigger is gone.
    pub async fn begun(&mut self) {
        // An error means that the trigger is gone, which begins a stop as well.
        let _ = self.0.wait_for(|stage| *stage >= Stage::Draining).await;
    }

    /// Completes when everything is to be dropped; never, once the trigger is gone without having asked for it.
    pub async fn aborted(&mut self) {
        if self.0.wait_for(|stage| *stage >= Stage::Aborted).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Serves `service` on `listener` until `shutdown`; gives the number of connections that had to be cut.
///
/// Every request carries its [`PeerAddr`], and behind `tls` the [`PeerCertificate`] of a client that presented one. Nothing that a peer
/// does ends this function.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    protocol: Protocol,
    tls: Option<Tls>,
    limits: Limits,
    counted: Connections,
    mut shutdown: Shutdown,
) -> usize
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let http = Arc::new(http_builder(protocol, &limits));
    let mut acceptor = Acceptor::new(listener);
    let mut refusals = Refusals::new();
    let mut connections = JoinSet::new();
    let mut serial = 0_u64;
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = shutdown.begun() => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            () = refusals.report(limits.max_connections) => continue,
            accepted = acceptor.next() => accepted,
        };
        if connections.len() >= limits.max_connections {
            refusals.count += 1;
            counted.refused.inc();
            continue;
        }
        serial = serial.wrapping_add(1);
        let connection = Connection {
            http: Arc::clone(&http),
            tls: tls.clone(),
            service: WithPeer { service: service.clone(), peer: PeerAddr(peer), certificate: None },
            age: limits.age_of(serial),
            handshake_timeout: limits.handshake_timeout,
            write_timeout: limits.keepalive_timeout,
            shutdown: shutdown.clone(),
            _counted: counted.accept(),
        };
        connections.spawn(connection.run(stream));
    }
    // The port closes here, so that a peer who comes now finds another replica.
    drop(acceptor);
    drain(connections, limits.drain_timeout, shutdown).await
}

/// Waits for the connections to finish; drops those that are left when time is up or the second signal comes.
async fn drain(mut connections: JoinSet<()>, limit: Duration, mut shutdown: Shutdown) -> usize {
    let finished = timeout(limit, async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    });
    tokio::select! {
        biased;
        () = shutdown.aborted() => {}
        _ = finished => {}
    }
    while let Some(ended) = connections.try_join_next() {
        report_panic(ended);
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(problem) = ended {
        error!(%problem, "a connection's task failed");
    }
}

fn http_builder(protocol: Protocol, limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_local_error_reset_streams(MAX_LOCAL_ERROR_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(limits.max_header_list_bytes)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(usize::try_from(limits.max_header_list_bytes).unwrap_or(usize::MAX).max(MIN_HTTP1_BUFFER));
    match protocol {
        Protocol::Http2 => builder.http2_only(),
        Protocol::Auto => builder,
    }
}

/// One connection and what decides about its end.
struct Connection<S> {
    http: Arc<auto::Builder<TokioExecutor>>,
    tls: Option<Tls>,
    service: WithPeer<S>,
    age: Option<Duration>,
    handshake_timeout: Duration,
    write_timeout: Duration,
    shutdown: Shutdown,
    /// Counts as open for as long as it lives.
    _counted: Open,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    async fn run(mut self, stream: TcpStream) {
        let peer = self.service.peer.0;
        if let Err(problem) = stream.set_nodelay(true) {
            debug!(%peer, %problem, "a socket without TCP_NODELAY");
        }
        let mut handshake_over = pin!(sleep(self.handshake_timeout));
        let Some(tls) = self.tls.take() else {
            let stream = Watched::new(stream, self.write_timeout);
            return self.drive(stream, handshake_over).await;
        };
        let accepted = tokio::select! {
            biased;
            // No request can be lost yet.
            () = self.shutdown.begun() => return,
            accepted = tls.accept(stream, self.write_timeout, handshake_over.as_mut()) => accepted,
        };
        match accepted {
            Ok((stream, certificate)) => {
                self.service.certificate = certificate;
                self.drive(stream, handshake_over).await;
            }
            Err(problem) => debug!(%peer, %problem, "a TLS handshake failed"),
        }
    }

    /// Serves what comes through the stream, to its end.
    async fn drive<I>(mut self, stream: Watched<I>, mut handshake_over: Pin<&mut Sleep>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = self.service.peer.0;
        let opening = stream.opening();
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(stream), self.service));
        let mut age_over = pin!(after(self.age));
        let mut stop = pin!(self.shutdown.begun());
        let mut is_opening = true;
        let mut is_closing = false;
        loop {
            tokio::select! {
                biased;
                ended = serving.as_mut() => {
                    if let Err(problem) = ended {
                        debug!(%peer, problem, "a connection ended early");
                    }
                    return;
                }
                () = handshake_over.as_mut(), if is_opening => {
                    if !opening.is_done() {
                        debug!(%peer, "a connection never said what it speaks");
                        return;
                    }
                    is_opening = false;
                    continue;
                }
                () = age_over.as_mut(), if !is_closing => {}
                () = stop.as_mut(), if !is_closing => {}
            }
            if opening.is_silent() {
                // No request can be lost, and hyper would go on waiting for the preface.
                return;
            }
            is_closing = true;
            serving.as_mut().graceful_shutdown();
        }
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

/// Adds who the peer is to each request.
#[derive(Clone)]
struct WithPeer<S> {
    service: S,
    peer: PeerAddr,
    certificate: Option<PeerCertificate>,
}

impl<S> HyperService<Request<Incoming>> for WithPeer<S>
where
    S: Service<Request<Incoming>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        self.service.clone().oneshot(request)
    }
}

/// Accepts, and pauses where trying again at once would only burn the processor.
struct Acceptor {
    listener: TcpListener,
    next_pause: Duration,
    /// Kept here, so that the wait goes on when [`Acceptor::next`] is dropped and called again.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Acceptor {
    fn new(listener: TcpListener) -> Self {
        Self { listener, next_pause: FIRST_PAUSE, pause: None }
    }

    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.as_mut().await;
                self.pause = None;
            }
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.next_pause = FIRST_PAUSE;
                    return accepted;
                }
                Err(problem) if is_peers_fault(&problem) => debug!(%problem, "a connection was gone before it was accepted"),
                Err(problem) => {
                    warn!(%problem, pause = ?self.next_pause, "cannot accept connections");
                    self.pause = Some(Box::pin(sleep(self.next_pause)));
                    self.next_pause = self.next_pause.saturating_mul(2).min(LAST_PAUSE);
                }
            }
        }
    }
}

fn is_peers_fault(problem: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(problem.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Counts refused connections, and reports them together: whoever floods the port shall not flood the log as well.
struct Refusals {
    count: u64,
    ticks: Interval,
}

impl Refusals {
    fn new() -> Self {
        let mut ticks = interval(REPORT_EVERY);
        // The first refusal after a quiet time is reported at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { count: 0, ticks }
    }

    async fn report(&mut self, max_connections: usize) {
        if self.count == 0 {
            pending::<()>().await;
        }
        self.ticks.tick().await;
        warn!(refused = self.count, max_connections, "connections refused: the listener is full");
        self.count = 0;
    }
}
