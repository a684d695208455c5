//! `[tokens]`: who issues them, whom they are for, how long they last.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::reader::{Reader, Section, key};
use super::secrets::Secrets;
use super::server::Server;
use super::setting::Shown;
use super::source::Entry;
use super::value::FromEntry;
use crate::values::algorithm::SigningAlgorithm;
use crate::values::{secret, text};

/// Bytes at most of an issuer.
const MAX_ISSUER_BYTES: usize = 255;
/// Audiences at most: one less than a token takes, which has the issuer besides.
const MAX_AUDIENCES: usize = 15;
/// Their names together: every token has them.
const MAX_AUDIENCE_BYTES: usize = 1024;
/// No access token may live longer, whatever is configured: it is good offline until it expires.
pub const MAX_ACCESS_LIFETIME: Duration = Duration::from_hours(12);
/// A previous refresh token may be accepted no longer than this after its successor was made.
pub const MAX_REFRESH_GRACE: Duration = Duration::from_mins(5);
/// A signing key may be in use no shorter than this, but for none at all: each is published for a while before and after.
pub const MIN_KEY_ROTATION: Duration = Duration::from_hours(1);
/// Live sessions of one user, between these.
const SESSIONS: RangeInclusive<u32> = 1..=10_000;

/// Issuer, audience and lifetimes.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Claim `iss` and a member of every unnarrowed `aud` (RFC 7519 section 4.1.1): the URL of this instance. The default
    /// serves only while all listeners are on loopback.
    pub issuer: String,
    /// Claim `aud` besides the issuer: the backends that accept the tokens.
    pub audience: Vec<String>,
    /// Life of an access token.
    pub access_lifetime: Duration,
    /// Longest life of any access token, whoever asks; checked on verification too.
    pub max_access_lifetime: Duration,
    /// A session that is not refreshed for so long ends.
    pub idle_lifetime: Duration,
    /// A session ends so long after its login, refreshed or not.
    pub absolute_lifetime: Duration,
    /// A refresh token that was just used is answered again for so long, for lost answers and second tabs; 0 switches it
    /// off.
    pub refresh_grace: Duration,
    /// Live sessions of one user at most; a login beyond them ends the oldest.
    pub max_sessions: u32,
    /// Claim `client_id` of logins by a caller without an identity of its own (RFC 6749 appendix A.1 has its alphabet).
    pub default_client_id: String,
    /// What access tokens are signed with.
    pub algorithm: SigningAlgorithm,
    /// Shared secrets of the HMAC algorithms: the first signs, all are accepted, under whichever algorithm is in force.
    pub hmac_secret: Vec<SecretString>,
    /// A signing key is replaced after so long; zero for never.
    pub key_rotation: Duration,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuer: "http://127.0.0.1:8080".to_owned(),
            audience: vec!["doorward-clients".to_owned()],
            access_lifetime: Duration::from_mins(15),
            max_access_lifetime: Duration::from_hours(1),
            idle_lifetime: Duration::from_hours(7 * 24),
            absolute_lifetime: Duration::from_hours(30 * 24),
            refresh_grace: Duration::from_secs(30),
            max_sessions: 100,
            default_client_id: "doorward".to_owned(),
            algorithm: SigningAlgorithm::Es256,
            hmac_secret: Vec::new(),
            key_rotation: Duration::from_hours(30 * 24),
        }
    }
}

impl Tokens {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut tokens = Self::default();
        Self::read_claims(&mut tokens, section);
        let access = key("access_lifetime", "Life of an access token.");
        section.set_positive(access, &mut tokens.access_lifetime);
        section.set_if(
            key("max_access_lifetime", "Longest life of any access token, at most 12h; checked on verification too."),
            &mut tokens.max_access_lifetime,
            |lifetime| !lifetime.is_zero() && *lifetime <= MAX_ACCESS_LIFETIME,
            "must be longer than zero and at most 12h",
        );
        let idle = key(
            "idle_lifetime",
            "A session that is not refreshed for so long ends. Longer than tokens.access_lifetime and tokens.refresh_grace together.",
        );
        section.set_positive(idle, &mut tokens.idle_lifetime);
        let absolute = key("absolute_lifetime", "A session ends so long after its login, refreshed or not.");
        section.set_positive(absolute, &mut tokens.absolute_lifetime);
        section.set_if(
            key(
                "refresh_grace",
                "A refresh token that was just used is answered again for so long, for lost answers and second tabs; at most 300s, and \
                 0s switches it off.",
            ),
            &mut tokens.refresh_grace,
            |grace| *grace <= MAX_REFRESH_GRACE,
            "must be at most 300s",
        );
        let sessions = key("max_sessions", "Live sessions of one user at most; a login beyond them ends the oldest.");
        section.set_within(sessions, &mut tokens.max_sessions, SESSIONS);
        Self::read_keys(&mut tokens, section);
        tokens
    }

    fn read_keys(tokens: &mut Self, section: &mut Section<'_>) {
        section.set(
            key(
                "algorithm",
                "What access tokens are signed with: ES256, EdDSA or RS256, whose public keys are published; HS256, HS384 or HS512 where \
                 everybody who verifies may sign too.",
            ),
            &mut tokens.algorithm,
        );
        section.set_secrets(
            key(
                "hmac_secret",
                "Shared secrets of HS256, HS384 and HS512, base64url of at least 32, 48 and 64 random bytes: the first signs, all are \
                 accepted. Tokens signed with them are accepted under any tokens.algorithm.",
            )
            .unset("none: no token of an HMAC algorithm is accepted", "[\"OUTPUT-OF-DOORWARD-SECRET-GENERATE\"]"),
            &mut tokens.hmac_secret,
            |text| secret::read_root(text).map(drop).map_err(|flaw| flaw.to_string()),
        );
        section.set_if(
            key("key_rotation", "A signing key is replaced after so long, at least 1h; 0s for never, then `doorward key rotate` does it."),
            &mut tokens.key_rotation,
            |every| every.is_zero() || *every >= MIN_KEY_ROTATION,
            "must be at least 1h, or 0s for never",
        );
    }

    fn read_claims(tokens: &mut Self, section: &mut Section<'_>) {
        section.set_if(
            key("issuer", "The URL of this instance, claim `iss`. The default serves only while all listeners are on loopback."),
            &mut tokens.issuer,
            |issuer| is_issuer(issuer),
            "must be an absolute http or https URL of at most 255 bytes without user, query and fragment",
        );
        section.set_if(
            key("audience", "The backends that accept the tokens, claim `aud`, to which the issuer is added."),
            &mut tokens.audience,
            |audience| are_audiences(audience),
            "must be 1 to 15 different names of 1 to 255 visible ASCII characters each, and 1024 together",
        );
        section.set_if(
            key("default_client_id", "Claim `client_id` of logins by callers without an identity of their own."),
            &mut tokens.default_client_id,
            |id| text::client_id(id).is_ok(),
            "must be 1 to 255 visible ASCII characters",
        );
    }

    /// What whoever runs a server with this listener should know: that the default issuer, by which verifiers find the keys, is another
    /// address.
    #[must_use]
    pub fn advice(&self, http_addr: SocketAddr) -> Option<String> {
        let is_known = http_addr.port() != 0;
        let leads_elsewhere = is_known && self.issuer == Self::default().issuer && http_addr != Server::default().http_addr;
        leads_elsewhere.then(|| {
            format!(
                "the keys are published on {http_addr}, and tokens.issuer, by which verifiers find them, is still {}: set it to where they do",
                self.issuer
            )
        })
    }

    pub(super) fn check(&self, server: &Server, secrets: &Secrets, reader: &mut Reader) {
        if !server.is_on_loopback() && !reader.is_set("tokens.issuer") {
            reader.problem("tokens.issuer", "must be set once a listener is not on loopback: the URL of this instance");
        }
        self.check_secrets(secrets, reader);
        reader.require(
            !self.audience.contains(&self.issuer),
            &[
                ("tokens.audience", "must not name tokens.issuer, which every token carries anyway"),
                ("tokens.issuer", "must not be one of tokens.audience, to which it is added anyway"),
            ],
        );
        reader.require(
            self.access_lifetime <= self.max_access_lifetime,
            &[
                ("tokens.access_lifetime", "must not be longer than tokens.max_access_lifetime"),
                ("tokens.max_access_lifetime", "must not be shorter than tokens.access_lifetime"),
            ],
        );
        reader.require(
            self.idle_lifetime > self.access_lifetime.saturating_add(self.refresh_grace),
            &[
                (
                    "tokens.idle_lifetime",
                    "must be longer than tokens.access_lifetime and tokens.refresh_grace together, or sessions end that are in use",
                ),
                (
                    "tokens.access_lifetime",
                    "must, with tokens.refresh_grace, be shorter than tokens.idle_lifetime, or sessions end that are in use",
                ),
                (
                    "tokens.refresh_grace",
                    "must, with tokens.access_lifetime, be shorter than tokens.idle_lifetime, or sessions end that are in use",
                ),
            ],
        );
        reader.require(
            self.absolute_lifetime >= self.idle_lifetime,
            &[
                ("tokens.absolute_lifetime", "must not be shorter than tokens.idle_lifetime"),
                ("tokens.idle_lifetime", "must not be longer than tokens.absolute_lifetime"),
            ],
        );
    }
}

impl Tokens {
    fn check_secrets(&self, secrets: &Secrets, reader: &mut Reader) {
        let is_root = |text: &SecretString| secrets.root.iter().any(|root| root.expose_secret() == text.expose_secret());
        reader.require(
            !self.hmac_secret.iter().any(is_root),
            &[("tokens.hmac_secret", "must not be one of secrets.root: whoever verifies tokens has it")],
        );
        let Some(floor) = self.algorithm.secret_bytes() else { return };
        reader.require(
            !self.hmac_secret.is_empty(),
            &[("tokens.algorithm", "needs tokens.hmac_secret: `doorward secret generate --bytes 64` makes one that all three take")],
        );
        // Those that are no secrets at all were told already.
        let is_short = |text: &SecretString| secret::read_root(text.expose_secret()).is_ok_and(|bytes| bytes.len() < floor);
        let message = format!("has an entry that is shorter than the {floor} bytes that {} needs", self.algorithm);
        reader.require(!self.hmac_secret.iter().any(is_short), &[("tokens.hmac_secret", &message)]);
    }
}

impl FromEntry for SigningAlgorithm {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        String::from_entry(entry)?.parse().map_err(|_| "must be ES256, EdDSA, RS256, HS256, HS384 or HS512")
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::Text(self.to_string()))
    }
}

/// What a token can carry besides the issuer, and what its verifiers take: none twice.
fn are_audiences(names: &[String]) -> bool {
    let is_new = |(at, name): (usize, &String)| names.iter().take(at).all(|earlier| earlier != name);
    (1..=MAX_AUDIENCES).contains(&names.len())
        && names.iter().map(String::len).sum::<usize>() <= MAX_AUDIENCE_BYTES
        && names.iter().all(|name| text::audience(name).is_ok())
        && names.iter().enumerate().all(is_new)
}

/// Relying parties compare issuers byte by byte and append paths to them (RFC 8414 section 2).
fn is_issuer(issuer: &str) -> bool {
    if issuer.len() > MAX_ISSUER_BYTES || issuer.contains('#') {
        return false;
    }
    let Ok(uri) = issuer.parse::<http::Uri>() else { return false };
    let Some(authority) = uri.authority() else { return false };
    // What follows the host is nothing, or a port that fits 16 bits.
    let after_host = authority.as_str().strip_prefix(authority.host());
    matches!(uri.scheme_str(), Some("http" | "https"))
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && (after_host == Some("") || authority.port_u16().is_some())
        && uri.query().is_none()
}
