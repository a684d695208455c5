//! The connection layer over real sockets: what a peer may hold, for how long, and how a listener stops.
//!
//! The peers are written by hand, frame by frame, because a well-behaved client library cannot misbehave.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use doorward::{
    http::ops,
    server::{
        connections::{Limits, PeerAddr, Protocol, Shutdown, ShutdownTrigger, serve},
        health::{HealthState, HealthView, all_down, end_watches, mirror},
        metrics::{Connections, MetricsPage},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const STATUS_200: u8 = 0x88;
const NO_ERROR: [u8; 4] = [0; 4];
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];

/// For limits that a test waits out.
const SHORT: Duration = Duration::from_millis(400);
/// For limits that a well-behaved peer must keep, also on a busy machine.
const FAIR: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_hours(1);
/// Longer than any test may take, shorter than `LONG`: what waits for a long limit fails here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every time limit out of the way; a test shortens the one it is about.
fn limits() -> Limits {
    Limits {
        max_connections: 100,
        max_concurrent_streams: 128,
        handshake_timeout: LONG,
        keepalive_interval: LONG,
        keepalive_timeout: LONG,
        max_connection_age: None,
        age_seed: 7,
        drain_timeout: LONG,
        max_header_list_bytes: 16 * 1024,
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

struct Listener {
    addr: SocketAddr,
    trigger: ShutdownTrigger,
    serving: JoinSet<usize>,
}

impl Listener {
    async fn open(routes: Router, protocol: Protocol, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, routes, protocol, None, limits, Connections::default(), shutdown));
        Self { addr, trigger, serving }
    }

    /// The number of connections that were cut.
    async fn ended(&mut self) -> usize {
        soon("the end of the listener", self.serving.join_next()).await.unwrap().unwrap()
    }

    async fn is_refusing(&self) {
        soon("a closed port", async {
            while TcpStream::connect(self.addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// Routes whose handlers tell when they start and when they are dropped.
#[derive(Clone)]
struct Calls {
    started: mpsc::UnboundedSender<()>,
    dropped: mpsc::UnboundedSender<()>,
    release: Arc<Notify>,
}

struct Seen {
    started: mpsc::UnboundedReceiver<()>,
    dropped: mpsc::UnboundedReceiver<()>,
    release: Arc<Notify>,
}

struct TellDrop(mpsc::UnboundedSender<()>);

impl Drop for TellDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn routes() -> (Router, Seen) {
    let (started, started_seen) = mpsc::unbounded_channel();
    let (dropped, dropped_seen) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let calls = Calls { started, dropped, release: Arc::clone(&release) };
    let (waiting, endless) = (calls.clone(), calls.clone());
    let router = Router::new()
        .route("/", get(async || "ok"))
        .route("/peer", get(async |Extension(PeerAddr(peer)): Extension<PeerAddr>| peer.to_string()))
        .route(
            "/wait",
            get(async move || {
                let _guard = TellDrop(waiting.dropped);
                waiting.started.send(()).unwrap();
                waiting.release.notified().await;
                "released"
            }),
        )
        .route(
            "/endless",
            get(async move || {
                let _guard = TellDrop(endless.dropped);
                endless.started.send(()).unwrap();
                pending::<&str>().await
            }),
        )
        .route(
            "/big",
            get(async move || {
                let guard = TellDrop(calls.dropped);
                calls.started.send(()).unwrap();
                // No receive buffer takes this much.
                let chunks = std::iter::repeat_with(move || {
                    let _ = &guard;
                    Ok::<_, std::convert::Infallible>(vec![0_u8; 1 << 16])
                });
                axum::body::Body::from_stream(tokio_stream::iter(chunks))
            }),
        );
    (router, Seen { started: started_seen, dropped: dropped_seen, release })
}

/// An HTTP/2 peer that does only what it is told.
struct Peer(TcpStream);

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

impl Peer {
    /// Connected, and silent.
    async fn silent(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    /// Connected, with preface and settings sent.
    async fn greeted(addr: SocketAddr) -> Self {
        let mut peer = Self::silent(addr).await;
        peer.send(PREFACE).await;
        peer.send(EMPTY_SETTINGS).await;
        peer
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn request(&mut self, stream: u32, path: &str, more: &[u8]) {
        self.send(&headers(stream, path, more)).await;
    }

    /// The next frame; `None` when the connection is closed.
    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], flags: head[4], payload })
    }

    /// The next frame of this kind; answers pings on the way, as the shutdown handshake of HTTP/2 needs it.
    async fn until(&mut self, kind: u8) -> Frame {
        soon("a frame", async {
            loop {
                let frame = self.frame().await.expect("the connection was closed");
                if frame.kind == PING && frame.flags == 0 {
                    // The server may close right after it, so a failed answer is no failure here.
                    let _ = self.0.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0], &frame.payload[..]].concat()).await;
                }
                if frame.kind == kind {
                    return frame;
                }
            }
        })
        .await
    }

    /// The connection ends, whatever this peer does: it does nothing.
    async fn is_closed(&mut self) {
        soon("the end of the connection", async { while self.frame().await.is_some() {} }).await;
    }

    /// The server asks this peer to leave, and it does, as HTTP/2 wants it.
    async fn leaves(&mut self) {
        let goaway = self.until(GOAWAY).await;
        assert_eq!(goaway.payload[4..8], NO_ERROR);
        // The first GOAWAY announces; the second, after a ping, names the last stream.
        self.until(GOAWAY).await;
        self.is_closed().await;
    }

    /// A whole call over this connection works.
    async fn is_served(&mut self, stream: u32) {
        self.request(stream, "/", &[]).await;
        assert_eq!(self.until(HEADERS).await.payload[0], STATUS_200);
        self.until(DATA).await;
    }
}

/// A GET as one HEADERS frame that ends its stream; `more` are further HPACK literals.
fn headers(stream: u32, path: &str, more: &[u8]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x01, 1, b'x', 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend(more);
    let len = u32::try_from(block.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], HEADERS, 0x05];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

/// One HTTP/1.1 request on a connection of its own: the whole answer as text.
async fn http1(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_peer_that_does_not_finish_its_opening_is_closed() {
    let settings_cut_short = [PREFACE, &EMPTY_SETTINGS[..8]].concat();
    let openings: [(Protocol, &[u8]); 7] = [
        (Protocol::Http2, b""),
        (Protocol::Http2, &PREFACE[..20]),
        (Protocol::Http2, &settings_cut_short),
        (Protocol::Auto, b""),
        (Protocol::Auto, &PREFACE[..20]),
        (Protocol::Auto, &settings_cut_short),
        (Protocol::Auto, b"GET / HTTP/1.1\r\nhost"),
    ];
    let mut cases = JoinSet::new();
    for (protocol, opening) in openings {
        let opening = opening.to_vec();
        cases.spawn(async move {
            let limits = Limits { handshake_timeout: FAIR, ..limits() };
            let listener = Listener::open(routes().0, protocol, limits).await;
            // Older than the offender, so its own limit is over when the offender is closed.
            let mut good = Peer::greeted(listener.addr).await;
            good.until(SETTINGS).await;
            let mut offender = Peer::silent(listener.addr).await;
            offender.send(&opening).await;
            offender.is_closed().await;
            good.is_served(1).await;
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test]
async fn a_connection_above_the_cap_is_closed_at_once_and_leaves_no_trace() {
    let mut listener = Listener::open(routes().0, Protocol::Http2, Limits { max_connections: 2, ..limits() }).await;
    let mut first = Peer::greeted(listener.addr).await;
    let mut second = Peer::greeted(listener.addr).await;
    first.is_served(1).await;
    second.is_served(1).await;

    Peer::silent(listener.addr).await.is_closed().await;

    first.is_served(3).await;
    drop(second);
    soon("a free place", async {
        loop {
            // The place is free as soon as the server has seen the hang-up.
            let mut next = Peer::silent(listener.addr).await;
            let greeting = [PREFACE, EMPTY_SETTINGS].concat();
            if next.0.write_all(&greeting).await.is_ok() && next.frame().await.is_some() {
                return next.is_served(1).await;
            }
        }
    })
    .await;
    listener.trigger.abort();
    listener.ended().await;
}

#[tokio::test]
async fn a_stop_lets_running_calls_finish_and_takes_no_new_connections() {
    let (routes, mut seen) = routes();
    let mut listener = Listener::open(routes, Protocol::Http2, limits()).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.request(1, "/wait", &[]).await;
    seen.started.recv().await.unwrap();

    listener.trigger.begin();
    peer.until(GOAWAY).await;
    listener.is_refusing().await;
    assert!(seen.dropped.try_recv().is_err(), "the call still runs");
    seen.release.notify_one();

    assert_eq!(peer.until(HEADERS).await.payload[0], STATUS_200);
    assert_eq!(peer.until(DATA).await.payload, b"released");
    peer.is_closed().await;
    assert_eq!(listener.ended().await, 0);
}

#[tokio::test]
async fn a_running_http1_call_finishes_too() {
    let (routes, mut seen) = routes();
    let mut listener = Listener::open(routes, Protocol::Auto, limits()).await;
    let addr = listener.addr;
    let mut client = JoinSet::new();
    client.spawn(async move { http1(addr, "/wait").await });
    seen.started.recv().await.unwrap();
    listener.trigger.begin();
    listener.is_refusing().await;
    seen.release.notify_one();
    let answer = client.join_next().await.unwrap().unwrap();
    assert!(answer.ends_with("released"), "{answer}");
    assert_eq!(listener.ended().await, 0);
}

#[tokio::test]
async fn a_call_that_never_ends_is_cut_when_the_drain_time_is_over() {
    let (routes, mut seen) = routes();
    let limits = Limits { drain_timeout: SHORT, ..limits() };
    let mut listener = Listener::open(routes, Protocol::Http2, limits).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.request(1, "/endless", &[]).await;
    seen.started.recv().await.unwrap();

    listener.trigger.begin();
    peer.until(GOAWAY).await;

    assert_eq!(listener.ended().await, 1);
    peer.is_closed().await;
    soon("the handler's end", seen.dropped.recv()).await.unwrap();
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (routes, mut seen) = routes();
    let mut listener = Listener::open(routes, Protocol::Http2, limits()).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.request(1, "/endless", &[]).await;
    seen.started.recv().await.unwrap();

    listener.trigger.begin();
    peer.until(GOAWAY).await;
    listener.trigger.abort();

    assert_eq!(listener.ended().await, 1);
    peer.is_closed().await;
    soon("the handler's end", seen.dropped.recv()).await.unwrap();
}

#[tokio::test]
async fn an_abort_without_a_begin_ends_at_once_and_is_not_taken_back() {
    let (routes, mut seen) = routes();
    let mut listener = Listener::open(routes, Protocol::Http2, limits()).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.request(1, "/endless", &[]).await;
    seen.started.recv().await.unwrap();
    listener.trigger.abort();
    listener.trigger.begin();
    assert_eq!(listener.ended().await, 1);
}

#[tokio::test]
async fn a_lost_trigger_begins_a_stop() {
    let mut listener = Listener::open(routes().0, Protocol::Http2, limits()).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.until(SETTINGS).await;
    drop(std::mem::replace(&mut listener.trigger, Shutdown::new().0));
    peer.leaves().await;
    assert_eq!(listener.ended().await, 0);
}

#[tokio::test]
async fn sockets_that_never_spoke_do_not_hold_the_stop() {
    for protocol in [Protocol::Http2, Protocol::Auto] {
        let mut listener = Listener::open(routes().0, protocol, limits()).await;
        let mut silent = Peer::silent(listener.addr).await;
        // Accepted later than the silent one: when it is served, the silent one is inside as well.
        Peer::greeted(listener.addr).await.is_served(1).await;
        listener.trigger.begin();
        silent.is_closed().await;
        assert_eq!(listener.ended().await, 0);
    }
}

#[tokio::test]
async fn an_aged_connection_gets_a_goaway_and_finishes_its_calls() {
    let (routes, mut seen) = routes();
    let limits = Limits { max_connection_age: Some(FAIR), ..limits() };
    let listener = Listener::open(routes, Protocol::Http2, limits).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.request(1, "/wait", &[]).await;
    seen.started.recv().await.unwrap();

    let goaway = peer.until(GOAWAY).await;
    assert_eq!(goaway.payload[4..8], NO_ERROR);
    seen.release.notify_one();

    assert_eq!(peer.until(HEADERS).await.payload[0], STATUS_200);
    peer.is_closed().await;
    // The listener itself goes on.
    Peer::greeted(listener.addr).await.is_served(1).await;
}

#[test]
fn ages_are_spread_by_ten_percent_and_differ_by_process() {
    let limits = Limits { max_connection_age: Some(Duration::from_secs(1000)), ..limits() };
    let other = Limits { age_seed: 8, ..limits.clone() };
    let ages: Vec<_> = (0..1000).map(|serial| limits.age_of(serial).unwrap()).collect();
    assert!(ages.iter().all(|age| (900..=1100).contains(&age.as_secs())));
    assert!(ages.iter().any(|age| age.as_secs() < 920) && ages.iter().any(|age| age.as_secs() > 1080));
    let same = (0..1000).filter(|serial| limits.age_of(*serial) == other.age_of(*serial)).count();
    assert!(same < 50, "{same} of 1000 ages are those of another process");
    assert_eq!(Limits { max_connection_age: None, ..limits.clone() }.age_of(1), None);
    let forever = Limits { max_connection_age: Some(Duration::MAX), ..limits };
    assert!((0..100).all(|serial| forever.age_of(serial).is_some()));
}

#[tokio::test]
async fn the_limits_are_advertised() {
    let limits = Limits { max_concurrent_streams: 33, max_header_list_bytes: 4096, ..limits() };
    let listener = Listener::open(routes().0, Protocol::Http2, limits).await;
    let settings = Peer::greeted(listener.addr).await.until(SETTINGS).await.payload;
    let value = |id: u16| {
        let entry = settings.chunks(6).find(|entry| entry[..2] == id.to_be_bytes()).unwrap();
        u32::from_be_bytes(entry[2..].try_into().unwrap())
    };
    assert_eq!(value(3), 33, "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(value(4), 64 * 1024, "SETTINGS_INITIAL_WINDOW_SIZE");
    assert_eq!(value(6), 4096, "SETTINGS_MAX_HEADER_LIST_SIZE");
}

#[tokio::test]
async fn a_header_list_over_the_limit_is_refused() {
    let limits = Limits { max_header_list_bytes: 4096, ..limits() };
    let listener = Listener::open(routes().0, Protocol::Http2, limits).await;
    let mut peer = Peer::greeted(listener.addr).await;
    // 60 literal headers of 100 bytes each, without indexing, name `a`.
    let literal = [&[0x00, 1, b'a', 100][..], &[b'v'; 100]].concat();
    peer.request(1, "/", &literal.repeat(20)).await;
    assert_eq!(peer.until(HEADERS).await.payload[0], STATUS_200);
    peer.request(3, "/", &literal.repeat(60)).await;
    let refusal = peer.until(HEADERS).await;
    assert_ne!(refusal.payload[0], STATUS_200);
}

#[tokio::test]
async fn a_peer_that_provokes_many_resets_is_sent_away() {
    let listener = Listener::open(routes().0, Protocol::Http2, limits()).await;
    let mut peer = Peer::greeted(listener.addr).await;
    // `content-length: 5` on a request without a body is malformed (RFC 9113, 8.1.1): the server resets each such stream.
    let body_missing = [0x0f, 0x0d, 1, b'5'];
    for stream in (1..).step_by(2).take(300) {
        if peer.0.write_all(&headers(stream, "/", &body_missing)).await.is_err() {
            break;
        }
    }
    let goaway = peer.until(GOAWAY).await;
    assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn a_rapid_reset_is_sent_away() {
    let listener = Listener::open(routes().0, Protocol::Http2, limits()).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.until(SETTINGS).await;
    let burst: Vec<u8> = (1_u32..)
        .step_by(2)
        .take(60)
        .flat_map(|stream| {
            let id = stream.to_be_bytes();
            let reset = [0, 0, 4, RST_STREAM, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8];
            [headers(stream, "/", &[]), reset.to_vec()].concat()
        })
        .collect();
    peer.send(&burst).await;
    let goaway = peer.until(GOAWAY).await;
    assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed() {
    let limits = Limits { keepalive_interval: SHORT, keepalive_timeout: FAIR, ..limits() };
    let listener = Listener::open(routes().0, Protocol::Http2, limits).await;
    let mut dead = Peer::greeted(listener.addr).await;
    let mut living = Peer::greeted(listener.addr).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { dead.is_closed().await });
    // The living one answers pings until the dead one is gone, and one more.
    while !tasks.is_empty() {
        living.until(PING).await;
        if let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
    }
    living.until(PING).await;
    living.is_served(1).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut() {
    let (routes, mut seen) = routes();
    let limits = Limits { keepalive_timeout: SHORT, ..limits() };
    let listener = Listener::open(routes, Protocol::Auto, limits).await;
    let mut peer = Peer::silent(listener.addr).await;
    peer.send(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    seen.started.recv().await.unwrap();
    soon("the body's end", seen.dropped.recv()).await.unwrap();
    drop(peer);
}

#[tokio::test]
async fn a_peer_that_reads_slowly_is_not_cut() {
    let (routes, mut seen) = routes();
    let listener = Listener::open(routes, Protocol::Auto, Limits { keepalive_timeout: FAIR, ..limits() }).await;
    let mut peer = Peer::silent(listener.addr).await;
    peer.send(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let reading = timeout(2 * FAIR, async {
        let mut taken = vec![0; 1 << 20];
        while peer.0.read_exact(&mut taken).await.is_ok() {
            // Slower than the server writes, so that most of its writes have to wait.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(reading.await.is_err(), "cut while it was reading");
    assert!(seen.dropped.try_recv().is_err());
}

#[tokio::test]
async fn a_request_carries_its_peers_address() {
    let listener = Listener::open(routes().0, Protocol::Auto, limits()).await;
    let mut peer = Peer::greeted(listener.addr).await;
    peer.request(1, "/peer", &[]).await;
    let told = peer.until(DATA).await.payload;
    assert_eq!(told, peer.0.local_addr().unwrap().to_string().as_bytes());
}

#[tokio::test]
async fn the_grpc_listener_speaks_no_http1() {
    let listener = Listener::open(routes().0, Protocol::Http2, limits()).await;
    let mut stream = TcpStream::connect(listener.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset after the refusal is as good as an end.
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");
}

const SERVICES: &[&str] = &["doorward.v1.AuthService"];
const UP: HealthState = HealthState { startup: true, ready: true, live: true };

async fn channel(addr: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

struct Ops {
    listener: Listener,
    states: watch::Sender<HealthState>,
    reporter: tonic_health::server::HealthReporter,
    mirror: JoinSet<()>,
    client: HealthClient<Channel>,
}

async fn ops() -> Ops {
    let (states, view) = watch::channel(HealthState::default());
    let (reporter, health) = tonic_health::server::health_reporter();
    all_down(&reporter, SERVICES).await;
    let routes =
        ops::router(HealthView::new(view.clone()), MetricsPage::new(HealthView::new(view.clone())), tonic::service::Routes::new(health));
    let listener = Listener::open(routes, Protocol::Auto, limits()).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(mirror(view, reporter.clone(), SERVICES));
    let client = HealthClient::new(channel(listener.addr).await);
    Ops { listener, states, reporter, mirror: tasks, client }
}

impl Ops {
    async fn check(&mut self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest { service: service.into() };
        self.client.check(request).await.unwrap().into_inner().status()
    }

    /// Sends a state; gives what is told by HTTP at `/healthz /readyz /startupz`, then by gRPC of
    /// `"" readiness liveness startup service`.
    ///
    /// A test's runtime has one thread: the mirror, woken by the state, runs before the first answer arrives.
    async fn shown(&mut self, state: HealthState) -> String {
        self.states.send(state).unwrap();
        let mut all = String::new();
        for path in ["/healthz", "/readyz", "/startupz"] {
            let answer = http1(self.listener.addr, path).await;
            let up = answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok\n");
            let down = answer.starts_with("HTTP/1.1 503") && answer.ends_with("\r\n\r\nnot serving\n");
            assert!(up != down, "{answer}");
            all.push(if up { '+' } else { '-' });
        }
        all.push(' ');
        for name in ["", "readiness", "liveness", "startup", SERVICES[0]] {
            all.push(if self.check(name).await == ServingStatus::Serving { '+' } else { '-' });
        }
        all
    }
}

#[tokio::test]
async fn one_port_tells_the_same_health_over_http_and_grpc() {
    let mut ops = ops().await;
    let down = HealthState::default();
    assert_eq!(ops.shown(down).await, "--- -----");
    assert_eq!(ops.shown(HealthState { startup: false, ..UP }).await, "--- -----", "nothing before start-up");
    assert_eq!(ops.shown(UP).await, "+++ +++++");
    assert_eq!(ops.shown(HealthState { ready: false, ..UP }).await, "+-+ --++-");
    assert_eq!(ops.shown(HealthState { live: false, ..UP }).await, "-++ ++-++");
    assert_eq!(ops.shown(UP).await, "+++ +++++");

    // Nobody vouches any more.
    drop(ops.states);
    soon("the mirror's end", ops.mirror.join_next()).await.unwrap().unwrap();
    assert!(http1(ops.listener.addr, "/healthz").await.starts_with("HTTP/1.1 503"));
    let request = HealthCheckRequest { service: "liveness".into() };
    assert_eq!(ops.client.check(request).await.unwrap().into_inner().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn nothing_is_serving_before_the_mirror_runs() {
    let (reporter, health) = tonic_health::server::health_reporter();
    all_down(&reporter, SERVICES).await;
    let routes = tonic::service::Routes::new(health).into_axum_router();
    let listener = Listener::open(routes, Protocol::Http2, limits()).await;
    let mut client = HealthClient::new(channel(listener.addr).await);
    for name in ["", "readiness", "liveness", "startup", SERVICES[0]] {
        let request = HealthCheckRequest { service: name.into() };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::NotServing, "{name:?}");
    }
}

#[tokio::test]
async fn the_ops_port_serves_nothing_else() {
    let mut ops = ops().await;
    for path in ["/", "/metrics/", "/metrics/x", "/healthz/", "/grpc.health.v1.Health/Check"] {
        let answer = http1(ops.listener.addr, path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let request = HealthCheckRequest { service: "nobody".into() };
    assert_eq!(ops.client.check(request).await.unwrap_err().code(), Code::NotFound);
    // An unknown gRPC method gets an answer that a gRPC client understands.
    let mut unknown = tonic::client::Grpc::new(channel(ops.listener.addr).await);
    unknown.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
    let path = "/doorward.v1.AuthService/Login".parse().unwrap();
    let refusal = unknown.unary(tonic::Request::new(HealthCheckRequest::default()), path, codec).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
}

#[tokio::test]
async fn open_watches_hear_the_last_word_and_do_not_hold_the_stop() {
    let mut ops = ops().await;
    assert_eq!(ops.shown(UP).await, "+++ +++++");
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = ops.client.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    end_watches(&ops.reporter, SERVICES, HealthState::default()).await;
    assert_eq!(ops.check("readiness").await, ServingStatus::NotServing, "the names are still known");
    ops.listener.trigger.begin();

    assert_eq!(soon("the last word", watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(soon("the end of the watch", watch.message()).await.unwrap().is_none());
    assert_eq!(ops.listener.ended().await, 0);
}
