//! TLS on the gRPC listener, and whom a client's certificate names.
//!
//! # The life of a certificate
//!
//! ```text
//!                 ┌─ no: the start is refused
//! files ──bind──▶ whole and fitting? ──▶ current ──▶ every handshake from here on ──▶ its connections, to their end
//!   │                                       ▲
//!   └──run──▶ looked at every 5 s, and at once on SIGHUP
//!               what they held before     ──▶ nothing
//!               new, whole and fitting    ──┘
//!               anything else             ──▶ current stays; one error in the log for each change
//! ```
//!
//! [`Certificates`] follows the files, [`Tls`] has what is current and does the handshakes. The server's certificate comes with its key or
//! not at all; the authorities of client certificates are looked at apart from the two, so that a broken file of one does not hold back
//! the other. Whoever is connected stays connected, also when their certificate expires or their authority goes: until
//! `server.max_connection_age` at most.
//!
//! # Client certificates
//!
//! They are verified against `server.client_ca_file`, and not required: who must be known is for the gate to decide, which knows the call.
//! One that does not verify fails the handshake. The names of one that does are a [`PeerCertificate`] in the extensions of every request.
//!
//! Clients are not told which authorities are accepted. Those that are told (Go's, say) keep a certificate of another one to themselves and
//! come in as nobody, and their operator looks for the fault at the wrong end; and whom we trust is not for every stranger to read.
//!
//! Sessions are not resumed: a resumed one would bring its old client certificate along, unverified.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time::{MissedTickBehavior, Sleep, interval},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::CertificateDer,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
        sign::SingleCertAndKey,
    },
    server::TlsStream,
};
use webpki::EndEntityCert;

use super::io::Watched;
use crate::config::server::tls::{Digest, Flaw, Identity, Look, TlsFiles};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The one protocol that is spoken over TLS here (RFC 9113 section 3.2).
const ALPN: &[u8] = b"h2";
/// Names of one certificate at most; more are passed over.
const MAX_NAMES: usize = 64;
/// Bytes at most of one name, as SPIFFE ids have them; a longer one is passed over.
const MAX_NAME_BYTES: usize = 2048;
/// What stands before a DNS name. A URI may begin so as well (RFC 4501), and is then passed over: it must not pass for a DNS name.
const DNS: &str = "dns:";

/// What a verified client certificate calls its holder, in the extensions of every request of the connection.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    names: Arc<[String]>,
}

impl PeerCertificate {
    /// URIs as they stand (`spiffe://prod/ns/shop/sa/web`), then DNS names as `dns:` and the name in lower case. No wildcards, which name
    /// nobody. May be empty.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Of a certificate that was verified.
    fn of(leaf: &CertificateDer<'_>) -> Self {
        let Ok(leaf) = EndEntityCert::try_from(leaf) else { return Self { names: Arc::new([]) } };
        let is_name = |name: &&str| name.len() <= MAX_NAME_BYTES && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        let passes_for_dns = |uri: &&str| uri.get(..DNS.len()).is_some_and(|start| start.eq_ignore_ascii_case(DNS));
        let uris = leaf.valid_uri_names().filter(is_name).filter(|uri| !passes_for_dns(uri)).map(str::to_owned);
        let hosts = leaf.valid_dns_names().filter(is_name).filter(|name| !name.contains('*'));
        let hosts = hosts.map(|name| format!("{DNS}{}", name.to_ascii_lowercase()));
        Self { names: uris.chain(hosts).take(MAX_NAMES).collect() }
    }
}

/// Asks that the files be looked at now. Clones ask the same.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks; not lost where nobody listens yet.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// A stream of what comes through TLS, and the certificate of the client that presented one.
type Accepted<I> = (Watched<TlsStream<Watched<I>>>, Option<PeerCertificate>);

/// Does handshakes, with what is current. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Tls {
    current: watch::Receiver<Arc<ServerConfig>>,
    counted: Counters,
}

impl Tls {
    /// The handshake on a connection that was accepted, and what the client's certificate says, if there is one.
    ///
    /// The stream is watched on both sides of TLS: below for writes that stall, which TLS would hide in its buffers, and above for the
    /// first bytes of HTTP/2.
    ///
    /// # Errors
    /// It failed, or `over` came first.
    pub async fn accept<I>(&self, socket: I, write_timeout: Duration, over: Pin<&mut Sleep>) -> io::Result<Accepted<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let socket = Watched::new(socket, write_timeout);
        let opening = socket.opening();
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.borrow()));
        let accepted = tokio::select! {
            biased;
            accepted = acceptor.accept(socket) => accepted,
            () = over => Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time")),
        };
        match &accepted {
            Ok(_) => self.counted.completed.inc(),
            Err(problem) if problem.kind() == io::ErrorKind::TimedOut => self.counted.timed_out.inc(),
            // Load balancers look whether a port is open.
            Err(_) if opening.is_silent() => 0,
            Err(_) => self.counted.failed.inc(),
        };
        let stream = accepted?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(PeerCertificate::of);
        Ok((Watched::new(stream, write_timeout), certificate))
    }
}

/// Keeps [`Tls`] equal to the files.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    identity: Followed<Identity>,
    authorities: Option<Followed<Arc<RootCertStore>>>,
    current: watch::Sender<Arc<ServerConfig>>,
    counted: Counters,
}

/// What is current of files, and what they held when they were looked at last.
#[derive(Debug)]
struct Followed<T> {
    current: T,
    seen: Digest,
}

impl<T> Followed<T> {
    /// What was seen first must be good.
    fn from_first(look: Look<T>) -> Result<Self, Flaw> {
        Ok(Self { current: look.found?, seen: look.digest })
    }

    /// Takes over what was seen, if it is good; answers whether it is.
    fn take(&mut self, look: Look<T>, counted: &Counters) -> bool {
        self.seen = look.digest;
        match look.found {
            Ok(found) => {
                self.current = found;
                true
            }
            Err(flaw) => {
                counted.refused.inc();
                tracing::error!(file = %flaw.path.display(), "what is in use stays: {} {}", flaw.key, flaw.words);
                false
            }
        }
    }
}

impl Certificates {
    /// Reads the files for a server that starts.
    ///
    /// # Errors
    /// The first file that is not what it should be.
    pub fn open(files: TlsFiles, counted: Counters) -> Result<(Self, Tls), Flaw> {
        let identity = files.identity(None).map(Followed::from_first);
        // Without a digest that is known there is always something to see.
        let Some(identity) = identity.transpose()? else { return Err(files.unusable("it cannot be looked at")) };
        let authorities = files.authorities(None).map(Followed::from_first).transpose()?;
        let config = server_config(&identity.current, authorities.as_ref().map(|authorities| &authorities.current));
        let config = config.map_err(|problem| files.unusable(&problem.to_string()))?;
        counted.expiry.store(identity.current.not_after.as_unix(), Ordering::Relaxed);
        let (current, receiver) = watch::channel(config);
        let tls = Tls { current: receiver, counted: counted.clone() };
        Ok((Self { files, identity, authorities, current, counted }, tls))
    }

    /// Looks at the files every few seconds, and when `reload` asks. Ends only with the server.
    pub async fn follow(mut self, reload: Reload) -> usize {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = reload.0.notified() => {}
            }
            // Files may be on a network.
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(same) => self = same,
                Err(problem) => {
                    tracing::error!(%problem, "certificates are not followed any more: restart the server");
                    return 0;
                }
            }
        }
    }

    /// Looks at the files, and takes over what is new and good.
    pub fn look(&mut self) {
        let identity = self.files.identity(Some(self.identity.seen)).is_some_and(|look| self.identity.take(look, &self.counted));
        let authorities = self
            .authorities
            .as_mut()
            .is_some_and(|followed| self.files.authorities(Some(followed.seen)).is_some_and(|look| followed.take(look, &self.counted)));
        if !identity && !authorities {
            return;
        }
        match server_config(&self.identity.current, self.authorities.as_ref().map(|authorities| &authorities.current)) {
            Ok(config) => {
                self.current.send_replace(config);
                self.counted.taken.inc();
                let not_after = self.identity.current.not_after;
                self.counted.expiry.store(not_after.as_unix(), Ordering::Relaxed);
                tracing::info!(certificate = identity, client_authorities = authorities, %not_after, "new TLS files are in use");
            }
            Err(problem) => {
                self.counted.refused.inc();
                tracing::error!(%problem, "what is in use stays: the new TLS files cannot be used");
            }
        }
    }
}

/// What handshakes are done with.
fn server_config(identity: &Identity, authorities: Option<&Arc<RootCertStore>>) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match authorities {
        Some(authorities) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().clear_root_hint_subjects().build()?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.certified))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// What is counted. Clones count together.
#[derive(Clone, Debug)]
pub struct Counters {
    completed: Counter,
    failed: Counter,
    timed_out: Counter,
    taken: Counter,
    refused: Counter,
    /// The last second of the current certificate, in Unix time; 0 without TLS.
    expiry: Arc<AtomicI64>,
}

impl Counters {
    /// Counters under their names in a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let (handshakes, reloads) = (Family::<OutcomeLabels, Counter>::default(), Family::<OutcomeLabels, Counter>::default());
        registry.register("doorward_tls_handshakes", "TLS handshakes, by what came of them", handshakes.clone());
        registry.register("doorward_tls_reloads", "Changed TLS files, by whether they were taken over", reloads.clone());
        let expiry = Arc::new(AtomicI64::new(0));
        registry.register_collector(Box::new(Expiry(Arc::clone(&expiry))));
        let of = |family: &Family<OutcomeLabels, Counter>, outcome| family.get_or_create_owned(&OutcomeLabels { outcome });
        Self {
            completed: of(&handshakes, "completed"),
            failed: of(&handshakes, "failed"),
            timed_out: of(&handshakes, "timed_out"),
            taken: of(&reloads, "taken"),
            refused: of(&reloads, "refused"),
            expiry,
        }
    }
}

/// When the certificate expires, where there is one.
#[derive(Debug)]
struct Expiry(Arc<AtomicI64>);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let help = "When the server's certificate expires, in Unix time; nothing without TLS.";
        let metric = encoder.encode_descriptor("doorward_tls_certificate_expiry_seconds", help, None, MetricType::Gauge)?;
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            expiry => ConstGauge::new(expiry).encode(metric),
        }
    }
}
