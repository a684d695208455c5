//! `[server]`: the three listeners, TLS, their limits, and how the server stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Reader, Section, key};
use super::setting::NOT_SET;

pub mod tls;

pub use tls::TlsFiles;

/// How long the server keeps answering after it says that it is going, where nothing routes to it: not at all.
const GRACE_ON_LOOPBACK: Duration = Duration::ZERO;
/// The same beyond loopback, where a load balancer needs a moment to notice.
const GRACE_BEYOND_LOOPBACK: Duration = Duration::from_secs(2);

/// Listeners, limits and stopping. The limits' reasons are measured ones: without them one connection can open any number
/// of streams, and sockets that never say a word live for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where gRPC is served. Beyond loopback only with TLS or [`Server::allow_plaintext`].
    pub grpc_addr: SocketAddr,
    /// Where the key set and the discovery documents will be served over HTTP. Checked, without effect yet.
    pub http_addr: SocketAddr,
    /// Where health is served over HTTP and gRPC, always in plain text and without credentials.
    pub ops_addr: SocketAddr,
    /// Whether passwords and tokens may cross a network unencrypted: where the server itself speaks no TLS, beyond loopback
    /// something in front of it has to.
    pub allow_plaintext: bool,
    /// The server's certificate and those up to its authority. Set: gRPC is served over TLS.
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's private key.
    pub tls_key_file: Option<PathBuf>,
    /// The authorities whose client certificates are accepted. Not set: clients are not asked for one.
    pub client_ca_file: Option<PathBuf>,
    /// Open connections at most; more are closed at once.
    pub max_connections: usize,
    /// Calls in flight at most on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113 section 6.5.2).
    pub max_concurrent_streams: u32,
    /// Bytes at most of one request message.
    pub max_message_bytes: usize,
    /// Time for a new connection to do its TLS handshake and to send its HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// Silence after which the server pings a connection.
    pub keepalive_interval: Duration,
    /// Time for the answer to such a ping; then the connection is closed.
    pub keepalive_timeout: Duration,
    /// Age after which a connection is told to go, so that clients spread over new replicas.
    pub max_connection_age: Duration,
    /// Deadline of a call that names none.
    pub default_deadline: Duration,
    /// Longest deadline; a call that names a longer one gets this.
    pub max_deadline: Duration,
    /// Time between saying `NOT_SERVING` and GOAWAY when stopping. Default: none on loopback, 2 s beyond.
    pub shutdown_grace: Duration,
    /// Time for calls in flight to end after GOAWAY; then they are cut.
    pub drain_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            grpc_addr: loopback(50051),
            http_addr: loopback(8080),
            ops_addr: loopback(9090),
            allow_plaintext: false,
            tls_cert_file: None,
            tls_key_file: None,
            client_ca_file: None,
            max_connections: 10_000,
            max_concurrent_streams: 128,
            max_message_bytes: 65_536,
            handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_connection_age: Duration::from_mins(30),
            default_deadline: Duration::from_secs(10),
            max_deadline: Duration::from_mins(1),
            shutdown_grace: GRACE_ON_LOOPBACK,
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl Server {
    pub(super) fn read_ops_addr(section: &mut Section<'_>, addr: &mut SocketAddr) {
        let doc = "Where health (over HTTP and gRPC) and metrics are served, always in plain text and without credentials.";
        section.set(key("ops_addr", doc), addr);
    }

    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut server = Self::default();
        Self::read_listeners(&mut server, section);
        Self::read_tls(&mut server, section);
        Self::read_limits(&mut server, section);
        if !server.grpc_is_on_loopback() {
            server.shutdown_grace = GRACE_BEYOND_LOOPBACK;
        }
        section.set(
            key(
                "shutdown_grace",
                "Time between saying NOT_SERVING and GOAWAY when stopping. Where server.grpc_addr is not on loopback and nothing is set: \
                 `2s`, for load balancers to notice.",
            ),
            &mut server.shutdown_grace,
        );
        let drain = key("drain_timeout", "Time for calls in flight to end after GOAWAY; then they are cut.");
        section.set_positive(drain, &mut server.drain_timeout);
        server
    }

    fn read_listeners(server: &mut Self, section: &mut Section<'_>) {
        section.set(
            key(
                "grpc_addr",
                "Where gRPC is served. Beyond loopback, callers.mode and tokens.issuer must be set as well, and TLS \
                 (server.tls_cert_file) or server.allow_plaintext.",
            ),
            &mut server.grpc_addr,
        );
        section.set(
            key("http_addr", "Where the public keys and the documents that lead to them are served over HTTP, in plain text."),
            &mut server.http_addr,
        );
        Self::read_ops_addr(section, &mut server.ops_addr);
        section.set(
            key(
                "allow_plaintext",
                "Whether passwords and tokens may cross a network unencrypted, where the server speaks no TLS: put it behind something \
                 that does.",
            ),
            &mut server.allow_plaintext,
        );
    }

    fn read_tls(server: &mut Self, section: &mut Section<'_>) {
        section.set(
            key(
                "tls_cert_file",
                "PEM file with the server's certificate, and after it those up to its authority. With it gRPC is served over TLS 1.2 \
                 and 1.3, and over nothing else. This file and the next two are looked at every 5 seconds, and at once on SIGHUP: new \
                 ones serve new connections, broken ones are reported and change nothing.",
            )
            .unset(NOT_SET, "\"/etc/doorward/tls/tls.crt\""),
            &mut server.tls_cert_file,
        );
        section.set(
            key(
                "tls_key_file",
                "PEM file with the private key of server.tls_cert_file: not encrypted, and closed to all but its owner and group.",
            )
            .unset(NOT_SET, "\"/etc/doorward/tls/tls.key\""),
            &mut server.tls_key_file,
        );
        section.set(
            key(
                "client_ca_file",
                "PEM file with the authorities whose client certificates are accepted. A client may present none; with one that does \
                 not verify it does not get in. Where this is not set, clients are not asked.",
            )
            .unset(NOT_SET, "\"/etc/doorward/tls/client-ca.crt\""),
            &mut server.client_ca_file,
        );
    }

    fn read_limits(server: &mut Self, section: &mut Section<'_>) {
        let connections = key("max_connections", "Open connections at most; more are closed at once.");
        section.set_within(connections, &mut server.max_connections, 1..=1_000_000);
        let streams = key("max_concurrent_streams", "Calls in flight at most on one connection.");
        section.set_within(streams, &mut server.max_concurrent_streams, 1..=10_000);
        let message = key("max_message_bytes", "Bytes at most of one request; of those to AccessService 512 KiB, where this is less.");
        section.set_within(message, &mut server.max_message_bytes, 4_096..=4_194_304);
        let doc = "Time for a new connection to do its TLS handshake, where there is TLS, and to send its HTTP/2 preface.";
        let handshake = key("handshake_timeout", doc);
        section.set_positive(handshake, &mut server.handshake_timeout);
        let interval = key("keepalive_interval", "Silence after which the server pings a connection.");
        section.set_positive(interval, &mut server.keepalive_interval);
        let answer = key("keepalive_timeout", "Time for the answer to such a ping; then the connection is closed.");
        section.set_positive(answer, &mut server.keepalive_timeout);
        let age = key("max_connection_age", "Age after which a connection is told to go, so that clients spread over new replicas.");
        section.set_positive(age, &mut server.max_connection_age);
        let deadline = key("default_deadline", "Deadline of a call that names none.");
        section.set_positive(deadline, &mut server.default_deadline);
        let longest = key("max_deadline", "Longest deadline; a call that names a longer one gets this.");
        section.set_positive(longest, &mut server.max_deadline);
    }

    /// The files of TLS, where gRPC is served over it. One that is needed and not set has an empty name, which no file has.
    #[must_use]
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let (cert, key, client_ca) = (self.tls_cert_file.clone(), self.tls_key_file.clone(), self.client_ca_file.clone());
        let is_wanted = cert.is_some() || key.is_some() || client_ca.is_some();
        is_wanted.then(|| TlsFiles { cert: cert.unwrap_or_default(), key: key.unwrap_or_default(), client_ca })
    }

    /// Whether only this machine reaches the gRPC listener.
    #[must_use]
    pub fn grpc_is_on_loopback(&self) -> bool {
        is_loopback(self.grpc_addr)
    }

    /// Whether only this machine reaches any listener.
    #[must_use]
    pub fn is_on_loopback(&self) -> bool {
        [self.grpc_addr, self.http_addr, self.ops_addr].into_iter().all(is_loopback)
    }

    /// What the files of TLS hold. Not a matter of every load: commands besides the server need not be able to read them.
    pub(super) fn check_tls_files(&self, reader: &mut Reader) {
        let is_settled = self.tls_cert_file.is_some() && self.tls_key_file.is_some();
        for flaw in self.tls_files().filter(|_| is_settled).iter().flat_map(TlsFiles::flaws) {
            reader.problem(flaw.key, flaw.words);
        }
    }

    fn check_tls(&self, reader: &mut Reader) {
        // One that could not be read may be meant.
        let has_tls = self.tls_files().is_some() || ["server.tls_cert_file", "server.tls_key_file"].iter().any(|key| reader.is_unread(key));
        reader.require(
            self.grpc_is_on_loopback() || self.allow_plaintext || has_tls,
            &[
                (
                    "server.grpc_addr",
                    "is not on loopback, and the server speaks no TLS: passwords and tokens would cross the network unencrypted; set \
                     server.tls_cert_file and server.tls_key_file, or put TLS in front and set server.allow_plaintext = true",
                ),
                (
                    "server.allow_plaintext",
                    "must be true once server.grpc_addr is not on loopback, with TLS in front; or set server.tls_cert_file and \
                     server.tls_key_file",
                ),
            ],
        );
        reader.require(
            self.tls_cert_file.is_some() == self.tls_key_file.is_some(),
            &[
                ("server.tls_cert_file", "needs server.tls_key_file, its private key"),
                ("server.tls_key_file", "needs server.tls_cert_file, its certificate"),
            ],
        );
        reader.require(
            self.client_ca_file.is_none() || self.tls_cert_file.is_some(),
            &[("server.client_ca_file", "needs server.tls_cert_file and server.tls_key_file: client certificates come with TLS")],
        );
    }

    pub(super) fn check(&self, reader: &mut Reader) {
        self.check_tls(reader);
        let listeners = [
            ("server.grpc_addr", self.grpc_addr, "server.http_addr", self.http_addr),
            ("server.grpc_addr", self.grpc_addr, "server.ops_addr", self.ops_addr),
            ("server.http_addr", self.http_addr, "server.ops_addr", self.ops_addr),
        ];
        for (key, addr, other_key, other) in listeners {
            let sentence = |other| format!("must not be the address and port of {other} too");
            reader.require(!collide(addr, other), &[(key, &sentence(other_key)), (other_key, &sentence(key))]);
        }
        reader.require(
            self.default_deadline <= self.max_deadline,
            &[
                ("server.default_deadline", "must not be longer than server.max_deadline"),
                ("server.max_deadline", "must not be shorter than server.default_deadline"),
            ],
        );
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Also for `::ffff:127.0.0.1`, which is the same address in longer words.
fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// Whether the second listener could not be bound. Port 0 is a different free port each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && overlap
}
