//! TLS: who gets in, who is turned away, what a peer may hold meanwhile, and what a request knows of its client's certificate.
//!
//! The rules stand on a listener with a service of a few lines; `replaced.rs` has certificates that change while they are in use, also
//! those of a whole server, and `files.rs` what is refused at start.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router, body::Body, routing::get};
use doorward::{
    config::Config,
    server::{
        connections::{Limits, Protocol, Shutdown, ShutdownTrigger, serve},
        metrics::Connections,
        tls::{Certificates, Counters, PeerCertificate},
    },
};
use http::Request;
use http_body::Body as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::{encoding::text, registry::Registry};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ClientConnection, HandshakeKind, SignatureScheme, SupportedProtocolVersion,
        client::ResolvesClientCert,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        sign::{CertifiedKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    },
};

use crate::{
    harness::pki::{Authority, Issued, TlsFiles, client_of, connect, trusting, trusting_all},
    life::soon,
};

mod files;
mod replaced;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Of a record that is an alert, RFC 8446 section 5.1.
const ALERT: u8 = 21;
/// For limits that a test waits out.
const SHORT: Duration = Duration::from_millis(400);
/// For limits that a well-behaved peer must keep, also on a busy machine.
const FAIR: Duration = Duration::from_millis(1500);
/// Longer than any test may take.
const LONG: Duration = Duration::from_hours(1);

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

/// A listener with TLS whose files are in the hands of the test.
struct Secured {
    addr: SocketAddr,
    trigger: ShutdownTrigger,
    serving: JoinSet<usize>,
    certificates: Certificates,
    registry: Registry,
    /// Requests that came to the service.
    requests: Arc<AtomicUsize>,
    /// Of a body that was dropped.
    dropped: mpsc::UnboundedReceiver<()>,
}

struct TellDrop(mpsc::UnboundedSender<()>);

impl Drop for TellDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Secured {
    async fn open(files: &TlsFiles) -> Self {
        Self::open_with(files, Protocol::Http2, limits()).await
    }

    async fn open_with(files: &TlsFiles, protocol: Protocol, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut config = Config::default();
        files.set(&mut config);
        let mut registry = Registry::default();
        let (certificates, tls) = Certificates::open(config.server.tls_files().unwrap(), Counters::register(&mut registry)).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let (tell, dropped) = mpsc::unbounded_channel();
        let requests = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, routes(&requests, tell), protocol, Some(tls), limits, Connections::default(), shutdown));
        Self { addr, trigger, serving, certificates, registry, requests, dropped }
    }

    /// The value of a sample of the page of metrics.
    fn counted(&self, sample: &str) -> u64 {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {page}")).parse().unwrap()
    }

    fn handshakes(&self, outcome: &str) -> u64 {
        self.counted(&format!("doorward_tls_handshakes_total{{outcome=\"{outcome}\"}}"))
    }

    fn reloads(&self, outcome: &str) -> u64 {
        self.counted(&format!("doorward_tls_reloads_total{{outcome=\"{outcome}\"}}"))
    }
}

/// What a request's certificate is called, one name a line; `-` without a certificate.
fn routes(requests: &Arc<AtomicUsize>, tell: mpsc::UnboundedSender<()>) -> Router {
    let requests = Arc::clone(requests);
    let names = async move |certificate: Option<Extension<PeerCertificate>>| {
        requests.fetch_add(1, Ordering::Relaxed);
        certificate.map_or_else(|| "-".to_owned(), |Extension(certificate)| certificate.names().join("\n"))
    };
    let big = async move || {
        let guard = TellDrop(tell.clone());
        // No receive buffer takes this much.
        let chunks = std::iter::repeat_with(move || {
            let _ = &guard;
            Ok::<_, std::convert::Infallible>(vec![0_u8; 1 << 16])
        });
        Body::from_stream(tokio_stream::iter(chunks))
    };
    Router::new().route("/", get(names)).route("/big", get(big))
}

/// One request over a connection of its own.
async fn ask(addr: SocketAddr, config: &Arc<ClientConfig>) -> Result<String, String> {
    let stream = soon("a handshake", connect(addr, config)).await.map_err(|error| error.to_string())?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut send, connection) = opened.map_err(|error| error.to_string())?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get("http://doorward/").body(Body::empty()).unwrap();
    let answer = soon("an answer", send.send_request(request)).await.map_err(|error| error.to_string())?;
    let (_, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        bytes.extend_from_slice(frame.map_err(|error| error.to_string())?.data_ref().unwrap());
    }
    Ok(String::from_utf8(bytes).unwrap())
}

/// The names that the service was told.
async fn names(addr: SocketAddr, config: &Arc<ClientConfig>) -> Vec<String> {
    ask(addr, config).await.unwrap().split('\n').map(str::to_owned).collect()
}

/// The certificate that the server shows on a new connection.
async fn shown(addr: SocketAddr, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = soon("a handshake", connect(addr, config)).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// TLS 1.2 and 1.3, each for itself.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[tokio::test]
async fn whoever_trusts_the_servers_authority_is_served() {
    let ca = Authority::new("prod");
    for client_ca in [None, Some(&ca)] {
        let listener = Secured::open(&TlsFiles::new(&ca.server(), client_ca)).await;
        for version in VERSIONS {
            let client = trusting_all(&[&ca], None, &[version]);
            let stream = connect(listener.addr, &client).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
            assert_eq!(names(listener.addr, &client).await, ["-"], "a certificate is not required");
        }
        assert_eq!(listener.handshakes("completed"), 4);
    }
}

#[tokio::test]
async fn a_client_that_trusts_somebody_else_does_not_get_in() {
    let (ca, other) = (Authority::new("prod"), Authority::new("prod"));
    let listener = Secured::open(&TlsFiles::new(&ca.server(), None)).await;
    let refused = ask(listener.addr, &trusting(&other, None)).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    until(&listener, "failed", 1).await;
    assert_eq!(names(listener.addr, &trusting(&ca, None)).await, ["-"]);
}

#[tokio::test]
async fn a_client_without_tls_is_turned_away() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), None)).await;
    for opening in [[PREFACE, EMPTY_SETTINGS].concat(), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), vec![0; 1 << 16]] {
        let mut stream = TcpStream::connect(listener.addr).await.unwrap();
        // It may be gone before all is written.
        let _ = stream.write_all(&opening).await;
        let mut answer = Vec::new();
        let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty() || answer[0] == ALERT, "{answer:?}");
    }
    until(&listener, "failed", 3).await;
    assert_eq!(listener.requests.load(Ordering::Relaxed), 0);
    assert_eq!(names(listener.addr, &trusting(&ca, None)).await, ["-"]);
}

#[tokio::test]
async fn a_look_whether_the_port_is_open_is_no_handshake() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), None)).await;
    drop(TcpStream::connect(listener.addr).await.unwrap());
    // Its task has ended before that of a connection that comes later: a test's runtime has one thread.
    assert_eq!(names(listener.addr, &trusting(&ca, None)).await, ["-"]);
    assert_eq!((listener.handshakes("failed"), listener.handshakes("completed")), (0, 1));
}

#[tokio::test]
async fn only_h2_is_spoken() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), None)).await;
    let mut client = ClientConfig::clone(&trusting(&ca, None));
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    connect(listener.addr, &Arc::new(client)).await.unwrap_err();
}

// Client certificates.

/// Certificates that must not be believed, each with why.
fn unbelievable(ca: &Authority) -> Vec<(&'static str, Issued)> {
    const NAME: &str = "spiffe://prod/ns/shop/sa/web";
    let by_itself = || {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        client_of(&mut params, &[NAME]);
        Issued { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    };
    let early = ca.issue(|params| {
        client_of(params, &[NAME]);
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let of_a_server = ca.issue(|params| {
        client_of(params, &[NAME]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    vec![
        ("of another authority of the same name", Authority::new("prod").client(&[NAME])),
        ("signed by itself", by_itself()),
        ("expired", ca.expired_client(&[NAME])),
        ("not valid yet", early),
        ("for servers", of_a_server),
        // Of the right certificate, and somebody else's key.
        ("without its key", Issued { key: ca.client(&[NAME]).key, ..ca.client(&[NAME]) }),
    ]
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_does_not_get_in() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), Some(&ca))).await;
    let mut refused = 0;
    for (why, issued) in unbelievable(&ca) {
        for version in VERSIONS {
            let client = presenting(&trusting_all(&[&ca], None, &[version]), &issued);
            assert!(ask(listener.addr, &client).await.is_err(), "one that is {why} got in");
            refused += 1;
            until(&listener, "failed", refused).await;
        }
    }
    assert_eq!(listener.requests.load(Ordering::Relaxed), 0, "none of them came to the service");
    let good = trusting(&ca, Some(&ca.client(&["spiffe://prod/ns/shop/sa/web"])));
    assert_eq!(names(listener.addr, &good).await, ["spiffe://prod/ns/shop/sa/web"]);
}

/// A client of Go's keeps a certificate to itself that is of none of these, and would come in as nobody.
#[tokio::test]
async fn no_client_is_told_which_authorities_are_accepted() {
    #[derive(Debug)]
    struct Hints(mpsc::UnboundedSender<usize>);
    impl ResolvesClientCert for Hints {
        fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            self.0.send(hints.len()).unwrap();
            None
        }

        fn has_certs(&self) -> bool {
            true
        }
    }
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), Some(&ca))).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    for version in VERSIONS {
        let mut client = ClientConfig::clone(&trusting_all(&[&ca], None, &[version]));
        client.client_auth_cert_resolver = Arc::new(Hints(tell.clone()));
        assert_eq!(names(listener.addr, &Arc::new(client)).await, ["-"]);
        assert_eq!(told.recv().await, Some(0));
    }
}

/// The same client with a certificate, whether the key fits or not.
fn presenting(client: &Arc<ClientConfig>, issued: &Issued) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let key = client.crypto_provider().key_provider.load_private_key(key).unwrap();
    let mut client = ClientConfig::clone(client);
    client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![issued.der()], key)));
    Arc::new(client)
}

#[tokio::test]
async fn where_no_authority_is_set_a_certificate_says_nothing() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), None)).await;
    assert_eq!(names(listener.addr, &trusting(&ca, Some(&ca.client(&["spiffe://prod/web"])))).await, ["-"]);
}

#[tokio::test]
async fn a_request_has_the_names_of_its_clients_certificate() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), Some(&ca))).await;
    let told = async |issued: &Issued| names(listener.addr, &trusting(&ca, Some(issued))).await;

    let web = ca.client(&["dns:Web.Shop.Example", "spiffe://prod/ns/shop/sa/Web", "dns:web"]);
    for version in VERSIONS {
        let client = trusting_all(&[&ca], Some(&web), &[version]);
        assert_eq!(names(listener.addr, &client).await, ["spiffe://prod/ns/shop/sa/Web", "dns:web.shop.example", "dns:web"]);
    }
    let wildcard = ca.client(&["dns:*.shop.example", "dns:web.shop.example"]);
    assert_eq!(told(&wildcard).await, ["dns:web.shop.example"], "a wildcard is nobody");
    // The common name counts for nothing, and an address is no name.
    let nameless = ca.issue(|params| {
        client_of(params, &[]);
        params.subject_alt_names =
            vec![SanType::IpAddress("127.0.0.1".parse().unwrap()), SanType::Rfc822Name("web@shop.example".try_into().unwrap())];
    });
    assert_eq!(told(&nameless).await, [""], "known to the authority, and called nothing");
    assert_eq!(names(listener.addr, &trusting(&ca, None)).await, ["-"], "nothing is left of the ones before");
}

#[tokio::test]
async fn a_uri_does_not_pass_for_a_dns_name() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), Some(&ca))).await;
    let forged = ca.issue(|params| {
        client_of(params, &["spiffe://prod/web"]);
        let uris = ["dns:admin.example", "DNS:admin.example", "dNs:admin.example"];
        params.subject_alt_names.extend(uris.map(|uri| SanType::URI(uri.try_into().unwrap())));
    });
    assert_eq!(names(listener.addr, &trusting(&ca, Some(&forged))).await, ["spiffe://prod/web"]);
}

#[tokio::test]
async fn names_are_bounded_in_number_and_length_and_hold_nothing_but_visible_ascii() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), Some(&ca))).await;
    let told = async |uris: &[String]| {
        let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
        names(listener.addr, &trusting(&ca, Some(&ca.client(&uris)))).await
    };
    let many: Vec<String> = (0..100).map(|number| format!("spiffe://prod/{number}")).collect();
    assert_eq!(told(&many).await, many[..64]);
    let longest = format!("spiffe://prod/{}", "a".repeat(2048 - 14));
    assert_eq!(told(&[format!("{longest}a"), longest.clone()]).await, [longest]);
    let odd = ["", "spiffe://prod/a b", "spiffe://prod/a\tb", "spiffe://prod/a\u{7f}", "spiffe://prod/web"].map(str::to_owned);
    assert_eq!(told(&odd).await, ["spiffe://prod/web"]);
}

#[tokio::test]
async fn no_session_is_resumed() {
    let ca = Authority::new("prod");
    let listener = Secured::open(&TlsFiles::new(&ca.server(), Some(&ca))).await;
    for version in VERSIONS {
        // One configuration: it keeps the sessions that it could go back to.
        let client = trusting_all(&[&ca], Some(&ca.client(&["spiffe://prod/web"])), &[version]);
        for _ in 0..3 {
            ask(listener.addr, &client).await.unwrap();
            let stream = connect(listener.addr, &client).await.unwrap();
            assert_ne!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed), "its certificate was not verified again");
        }
    }
}

// What a peer may hold.

/// The first message of a client.
fn client_hello(client: &Arc<ClientConfig>) -> Vec<u8> {
    let mut connection = ClientConnection::new(Arc::clone(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = Vec::new();
    // A reset is as good as an end.
    let _ = soon("the end of the connection", stream.read_to_end(&mut bytes)).await;
}

#[tokio::test]
async fn a_peer_that_does_not_finish_its_handshake_is_closed() {
    let ca = Authority::new("prod");
    let files = TlsFiles::new(&ca.server(), Some(&ca));
    let hello = client_hello(&trusting(&ca, None));
    let openings = [Vec::new(), hello[..1].to_vec(), hello[..hello.len() / 2].to_vec(), hello];
    let mut cases = JoinSet::new();
    for opening in openings {
        let (listener, client) =
            (Secured::open_with(&files, Protocol::Http2, Limits { handshake_timeout: FAIR, ..limits() }).await, trusting(&ca, None));
        cases.spawn(async move {
            let mut offender = TcpStream::connect(listener.addr).await.unwrap();
            offender.write_all(&opening).await.unwrap();
            is_closed(&mut offender).await;
            assert_eq!(listener.handshakes("timed_out"), 1);
            assert_eq!(names(listener.addr, &client).await, ["-"]);
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_drips_is_closed() {
    let ca = Authority::new("prod");
    let files = TlsFiles::new(&ca.server(), None);
    let listener = Secured::open_with(&files, Protocol::Http2, Limits { handshake_timeout: SHORT, ..limits() }).await;
    let mut offender = TcpStream::connect(listener.addr).await.unwrap();
    let (mut reading, mut writing) = offender.split();
    let drip = async {
        // Far slower than the limit as a whole, and never silent for long.
        for byte in client_hello(&trusting(&ca, None)) {
            if writing.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(SHORT / 8).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = is_closed(&mut reading) => {}
        () = drip => {}
    }
    assert_eq!(listener.handshakes("timed_out"), 1);
}

#[tokio::test]
async fn a_peer_that_goes_silent_after_its_handshake_is_closed() {
    let ca = Authority::new("prod");
    let files = TlsFiles::new(&ca.server(), None);
    let mut cases = JoinSet::new();
    for opening in [vec![], PREFACE[..20].to_vec(), [PREFACE, &EMPTY_SETTINGS[..8]].concat()] {
        let (listener, client) =
            (Secured::open_with(&files, Protocol::Http2, Limits { handshake_timeout: FAIR, ..limits() }).await, trusting(&ca, None));
        cases.spawn(async move {
            let mut offender = connect(listener.addr, &client).await.unwrap();
            offender.write_all(&opening).await.unwrap();
            offender.flush().await.unwrap();
            is_closed(&mut offender).await;
            assert_eq!((listener.handshakes("completed"), listener.handshakes("timed_out")), (1, 0));
            assert_eq!(names(listener.addr, &client).await, ["-"]);
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut() {
    let ca = Authority::new("prod");
    let files = TlsFiles::new(&ca.server(), None);
    let mut listener = Secured::open_with(&files, Protocol::Auto, Limits { keepalive_timeout: SHORT, ..limits() }).await;
    let mut peer = connect(listener.addr, &trusting(&ca, None)).await.unwrap();
    peer.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    peer.flush().await.unwrap();
    soon("the body's end", listener.dropped.recv()).await.unwrap();
    drop(peer);
}

/// What TLS has taken into its buffers is written, as seen from above; only below it shows that the peer takes nothing.
#[tokio::test]
async fn a_peer_that_never_reads_is_found_out_behind_the_buffers_of_tls() {
    let ca = Authority::new("prod");
    let mut config = Config::default();
    let files = TlsFiles::new(&ca.server(), None);
    files.set(&mut config);
    let counted = Counters::register(&mut Registry::default());
    let (_certificates, tls) = Certificates::open(config.server.tls_files().unwrap(), counted).unwrap();
    let (near, far) = tokio::io::duplex(4096);
    let connector = TlsConnector::from(trusting(&ca, None));
    let client = connector.connect(ServerName::try_from("localhost").unwrap(), far);
    let over = pin!(sleep(LONG));
    let (accepted, client) = tokio::join!(tls.accept(near, SHORT, over), client);
    let (mut stream, _client) = (accepted.unwrap().0, client.unwrap());

    stream.write_all(&[0; 16 * 1024]).await.unwrap();

    let refused = soon("the end of the patience", stream.flush()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn half_a_handshake_does_not_hold_the_stop() {
    let ca = Authority::new("prod");
    let mut listener = Secured::open(&TlsFiles::new(&ca.server(), None)).await;
    let client = trusting(&ca, None);
    let mut silent = TcpStream::connect(listener.addr).await.unwrap();
    let mut half = TcpStream::connect(listener.addr).await.unwrap();
    half.write_all(&client_hello(&client)).await.unwrap();
    let mut done = connect(listener.addr, &client).await.unwrap();
    // Accepted later than those: when it is served, they are inside as well.
    ask(listener.addr, &client).await.unwrap();
    listener.trigger.begin();
    is_closed(&mut silent).await;
    is_closed(&mut half).await;
    is_closed(&mut done).await;
    assert_eq!(soon("the end of the listener", listener.serving.join_next()).await.unwrap().unwrap(), 0);
}

/// Waits until this many handshakes have ended so.
async fn until(listener: &Secured, outcome: &str, count: u64) {
    soon(&format!("{count} handshakes that {outcome}"), async {
        while listener.handshakes(outcome) < count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(listener.handshakes(outcome), count);
}
