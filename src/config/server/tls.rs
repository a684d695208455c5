//! The files of TLS: read and judged, before the server starts and again while it serves.
//!
//! | key | holds, in PEM |
//! |---|---|
//! | `server.tls_cert_file` | the server's certificate, and after it those that lead up to its authority |
//! | `server.tls_key_file` | the private key of that certificate |
//! | `server.client_ca_file` | the authorities whose client certificates are accepted |
//!
//! A certificate and its key are one [`Identity`]: neither is taken over without the other. The file of the key is closed to others, but
//! its group may read it: so Kubernetes hands a secret to a server that does not run as root.
//!
//! Files are looked at by what they hold, never by their times: a Kubernetes volume changes by a link that points elsewhere. What was seen
//! is remembered as a digest, so that no copy of a key stays in memory for it.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio_rustls::rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject as _},
    sign::CertifiedKey,
};
use webpki::{EndEntityCert, KeyUsage};
use zeroize::Zeroizing;

use crate::values::{secret::sha256, time::Timestamp};

const CERT: &str = "server.tls_cert_file";
const KEY: &str = "server.tls_key_file";
const CLIENT_CA: &str = "server.client_ca_file";

/// Bytes at most of one file: more than a bundle of all public authorities.
const LARGE: usize = 1024 * 1024;
/// What nobody else may do with the file of a key: others nothing, the group not write.
const OPEN_TO_OTHERS: u32 = 0o027;

/// Where certificates and keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}: {words} ({})", path.display())]
pub struct Flaw {
    /// The key that names it.
    pub key: &'static str,
    /// What is wrong and what to do: the rest of a sentence that starts with the key.
    pub words: String,
    /// The file.
    pub path: PathBuf,
}

/// What files held, without holding it.
pub type Digest = [u8; 32];

/// What was seen in files.
#[derive(Debug)]
pub struct Look<T> {
    /// Of what they hold; of the reason where they could not be read.
    pub digest: Digest,
    /// What they are good for.
    pub found: Result<T, Flaw>,
}

/// The server's certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For handshakes.
    pub certified: Arc<CertifiedKey>,
    /// The last second in which the certificate is valid.
    pub not_after: Timestamp,
}

impl TlsFiles {
    /// The certificate and its key, unless the files hold what they held when they were `known`.
    #[must_use]
    pub fn identity(&self, known: Option<Digest>) -> Option<Look<Identity>> {
        let read = self.read_identity();
        let digest = match &read {
            Ok((cert, key)) => sha256(&[sha256(cert), sha256(key)].concat()),
            Err(flaw) => sha256(flaw.to_string().as_bytes()),
        };
        let judge = |(cert, key): (Bytes, Bytes)| self.judge_identity(&cert, &key);
        (known != Some(digest)).then(|| Look { digest, found: read.and_then(judge) })
    }

    /// The authorities of client certificates, unless the file holds what it held when it was `known`; nothing where it is not set.
    #[must_use]
    pub fn authorities(&self, known: Option<Digest>) -> Option<Look<Arc<RootCertStore>>> {
        let path = self.client_ca.as_deref()?;
        let flaw = |words: String| Flaw { key: CLIENT_CA, words, path: path.to_owned() };
        let read = read(path).map(|(bytes, _)| bytes).map_err(flaw);
        let digest = match &read {
            Ok(bytes) => sha256(bytes),
            Err(flaw) => sha256(flaw.to_string().as_bytes()),
        };
        let judge = |bytes: Bytes| authorities(&bytes).map(Arc::new).map_err(flaw);
        (known != Some(digest)).then(|| Look { digest, found: read.and_then(judge) })
    }

    /// Everything that is wrong with the files.
    #[must_use]
    pub fn flaws(&self) -> Vec<Flaw> {
        let identity = self.identity(None).and_then(|look| look.found.err());
        identity.into_iter().chain(self.authorities(None).and_then(|look| look.found.err())).collect()
    }

    /// Where the certificate is.
    #[must_use]
    pub fn cert(&self) -> &Path {
        &self.cert
    }

    /// For what shows only when everything is put together.
    #[must_use]
    pub fn unusable(&self, problem: &str) -> Flaw {
        self.cert_flaw(format!("names a file that cannot be used: {problem}"))
    }

    fn read_identity(&self) -> Result<(Bytes, Bytes), Flaw> {
        let (cert, _) = read(&self.cert).map_err(|words| self.cert_flaw(words))?;
        let (key, mode) = read(&self.key).map_err(|words| self.key_flaw(words))?;
        if mode & OPEN_TO_OTHERS != 0 {
            let words = format!("names a file that is open to others (mode {:o}): run chmod 640, or 600, on it", mode & 0o777);
            return Err(self.key_flaw(words));
        }
        Ok((cert, key))
    }

    fn judge_identity(&self, cert: &[u8], key: &[u8]) -> Result<Identity, Flaw> {
        let chain = certificates(cert).map_err(|words| self.cert_flaw(words))?;
        let not_after = chain.first().and_then(not_after).ok_or_else(|| self.cert_flaw(no_certificate(1)))?;
        let key = private_key(key).map_err(|words| self.key_flaw(words))?;
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|_| {
            let words = "names a file whose key TLS cannot use: make an ECDSA key of P-256, or an RSA key of 2048 bits or more";
            self.key_flaw(words.to_owned())
        })?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| {
            let words = "names a file whose key is not that of the first certificate in server.tls_cert_file: give the two of one issue, \
                         and the server's own certificate first";
            self.key_flaw(words.to_owned())
        })?;
        Ok(Identity { certified: Arc::new(certified), not_after })
    }

    fn cert_flaw(&self, words: String) -> Flaw {
        Flaw { key: CERT, words, path: self.cert.clone() }
    }

    fn key_flaw(&self, words: String) -> Flaw {
        Flaw { key: KEY, words, path: self.key.clone() }
    }
}

impl Identity {
    /// A name that a client has to expect in the place of this address; nothing where the certificate is good for the address itself, or
    /// has no name that could be expected.
    #[must_use]
    pub fn name_in_place_of(&self, address: IpAddr) -> Option<String> {
        let leaf = EndEntityCert::try_from(self.certified.cert.first()?).ok()?;
        if leaf.verify_is_valid_for_subject_name(&ServerName::from(address)).is_ok() {
            return None;
        }
        leaf.valid_dns_names().find(|name| !name.contains('*')).map(str::to_owned)
    }
}

type Bytes = Zeroizing<Vec<u8>>;

/// What stands in a file, and its mode.
fn read(path: &Path) -> Result<(Bytes, u32), String> {
    let cannot = |e: io::Error| format!("names a file that cannot be read: {e}; name one that the server's user may read");
    // Before it is opened: to open a pipe is to wait for its writer.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("names something that is no file: name a file in PEM".to_owned());
    }
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode();
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LARGE as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    match bytes.len() {
        0 => Err("names a file that is empty: it must be one in PEM".to_owned()),
        1..=LARGE => Ok((bytes, mode)),
        _ => Err("names a file that is too large: it must be one in PEM, of 1 MiB at most".to_owned()),
    }
}

/// The certificates of a file, each one that can be read; at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(no_pem)?;
    if all.is_empty() {
        return Err("names a file without a certificate: it must be one in PEM, with BEGIN CERTIFICATE".to_owned());
    }
    match all.iter().position(|der| EndEntityCert::try_from(der).is_err()) {
        Some(bad) => Err(no_certificate(bad + 1)),
        None => Ok(all),
    }
}

fn no_certificate(number: usize) -> String {
    format!("names a file whose certificate number {number} is no X.509 certificate of version 3: have it issued anew")
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|problem| match problem {
        _ if pem.windows(LEGACY_ENCRYPTION.len()).any(|part| part == LEGACY_ENCRYPTION) => ENCRYPTED.to_owned(),
        pem::Error::NoItemsFound if pem.windows(9).any(|part| part == b"ENCRYPTED") => ENCRYPTED.to_owned(),
        pem::Error::NoItemsFound => {
            "names a file without a private key: it must be the one of server.tls_cert_file in PEM, with BEGIN PRIVATE KEY".to_owned()
        }
        problem => no_pem(problem),
    })
}

const ENCRYPTED: &str = "names a file whose key is encrypted: write it without a passphrase (openssl pkey -in FILE -out NEW-FILE)";
/// What older programs write around an encrypted key, where the parser finds only broken base64.
const LEGACY_ENCRYPTION: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// Without the parser's words: they quote the file, and it may be one of a key.
fn no_pem(_problem: pem::Error) -> String {
    "names a file whose PEM is broken: a line BEGIN or END or the base64 between them".to_owned()
}

/// Authorities and nothing else: whoever is listed can issue certificates of any name, and the holder of a certificate that is only their
/// own must not.
fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for (at, der) in certificates(pem)?.into_iter().enumerate() {
        if !is_authority(&der) {
            let words = "is none of an authority (CA:TRUE): name those that sign client certificates";
            return Err(format!("names a file whose certificate number {} {words}", at + 1));
        }
        store.add(der).map_err(|_| no_certificate(at + 1))?;
    }
    Ok(store)
}

/// The verifier's own reading of a certificate as that of a peer, at a moment and with nobody to trust: it never comes to an end, and says
/// what stands in the way first. Validity is judged before anything else, then whether it is an authority's.
fn obstacle(der: &CertificateDer<'_>, time: UnixTime) -> Option<webpki::Error> {
    let leaf = EndEntityCert::try_from(der).ok()?;
    leaf.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
}

/// The last second in which a certificate is valid.
fn not_after(der: &CertificateDer<'static>) -> Option<Timestamp> {
    let end = end_of(der)?;
    Some(Timestamp::from_unix(i64::try_from(end.as_secs()).unwrap_or(i64::MAX)))
}

fn end_of(der: &CertificateDer<'_>) -> Option<UnixTime> {
    match obstacle(der, UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX)))? {
        webpki::Error::CertExpired { not_after, .. } => Some(not_after),
        _ => None,
    }
}

fn is_authority(der: &CertificateDer<'_>) -> bool {
    end_of(der).and_then(|end| obstacle(der, end)).is_some_and(|obstacle| obstacle == webpki::Error::CaUsedAsEndEntity)
}
