//! Certificates of a test's own: authorities, what they issue, the files that a server is given, and clients that trust them.
//!
//! ```text
//! let ca = Authority::new("prod");
//! let files = TlsFiles::new(&ca.server(), Some(&ca));                    // a server's files; the authority is its clients' as well
//! let world = World::start_with(backend, |config| files.set(config)).await;
//! let web = ca.client(&["spiffe://prod/ns/shop/sa/web"]);
//! let channel = channel(world.replica.grpc_addr, &trusting(&ca, Some(&web)));
//! let wire = Wire::over(connect(world.replica.grpc_addr, &trusting(&ca, Some(&web))).await.unwrap()).await;
//! ```

use std::{fs, io, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use doorward::config::Config;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DEFAULT_VERSIONS, RootCertStore, SupportedProtocolVersion,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tonic::transport::{Channel, Endpoint};

/// Who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
}

impl Authority {
    /// A new one. Two of one name are not the same: each has a key of its own.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's, for `127.0.0.1`, `::1` and `localhost`.
    pub fn server(&self) -> Issued {
        let names = ["127.0.0.1", "::1", "localhost"].map(str::to_owned);
        self.issue(|params| {
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// A client's: `dns:web.example` is a DNS name, everything else a URI.
    pub fn client(&self, names: &[&str]) -> Issued {
        self.issue(|params| client_of(params, names))
    }

    /// A client's that was valid until the end of 2024.
    pub fn expired_client(&self, names: &[&str]) -> Issued {
        self.issue(|params| {
            client_of(params, names);
            params.not_after = date_time_ymd(2025, 1, 1);
        })
    }

    /// Any certificate.
    pub fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a name that counts for nothing");
        change(&mut params);
        Issued { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// Makes a client's certificate of it.
pub fn client_of(params: &mut CertificateParams, names: &[&str]) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.strip_prefix("dns:") {
            Some(host) => SanType::DnsName(host.try_into().unwrap()),
            None => SanType::URI((*name).try_into().unwrap()),
        })
        .collect();
}

impl Issued {
    /// The certificate as the wire has it.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }
}

/// The files of a server's TLS.
pub struct TlsFiles {
    folder: TempDir,
    has_authority: bool,
}

impl TlsFiles {
    /// In a folder of their own. With an authority the server asks for client certificates of it.
    pub fn new(server: &Issued, client_ca: Option<&Authority>) -> Self {
        let files = Self { folder: TempDir::new().unwrap(), has_authority: client_ca.is_some() };
        files.put(server);
        if let Some(authority) = client_ca {
            files.write("ca.crt", authority.pem());
        }
        files
    }

    /// Names them to a server.
    pub fn set(&self, config: &mut Config) {
        config.server.tls_cert_file = Some(self.path("tls.crt"));
        config.server.tls_key_file = Some(self.path("tls.key"));
        config.server.client_ca_file = self.has_authority.then(|| self.path("ca.crt"));
    }

    /// One of `tls.crt`, `tls.key` and `ca.crt`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another certificate with its key in the place of the one that is there.
    pub fn put(&self, server: &Issued) {
        self.write("tls.crt", &server.cert);
        self.write("tls.key", &server.key);
    }

    /// Writes a file, for its owner alone.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        // Whole or not at all, as whoever renews certificates should do it.
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }
}

/// A client that trusts an authority's servers and may have a certificate of its own.
pub fn trusting(authority: &Authority, certificate: Option<&Issued>) -> Arc<ClientConfig> {
    trusting_all(&[authority], certificate, DEFAULT_VERSIONS)
}

/// The same with several authorities, and the versions of TLS that it speaks.
pub fn trusting_all(
    authorities: &[&Authority],
    certificate: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.0.der().clone()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
    let mut config = match certificate {
        Some(issued) => {
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![issued.der()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A connection after its handshake. (In TLS 1.3 a client learns only from its first read that its certificate was refused.)
pub async fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    // Else every call waits 40 ms for a delayed acknowledgement.
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::clone(config)).connect(ServerName::from(addr.ip()), stream).await
}

/// A channel that connects so.
pub fn channel(addr: SocketAddr, config: &Arc<ClientConfig>) -> Channel {
    let config = Arc::clone(config);
    let connector = tower::service_fn(move |_: http::Uri| {
        let config = Arc::clone(&config);
        async move { connect(addr, &config).await.map(TokioIo::new) }
    });
    // The connector does the TLS: for the channel this is a plain one.
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_with_connector_lazy(connector)
}
