//! Passwords: what may be one, and what is stored of it.
//!
//! - The bytes that are hashed are the NFKC form of what was typed, and nothing else is folded: case, spaces, NUL and every byte after
//!   the 72nd count (NIST SP 800-63B, 3.1.1.2).
//! - What is over [`PASSWORD_MAX_BYTES`] (before normalisation) is nobody's password. It takes the path of a wrong one.
//! - A stored password is a scheme tag and a string. The only scheme now is [`ARGON2ID`] with a PHC string; an unknown tag or a string
//!   that cannot be read is a wrong password to the person and an error in the log.
//!
//! **One hash.** Every admitted attempt costs exactly one hash of the current parameters, whatever the reason it fails: an absent user,
//! a disabled one and a wrong password cannot be told apart by time. (A stored hash of *other* parameters costs a second one, until its
//! owner logs in and it is renewed.) [`hasher`] has the threads that do it; [`verify`] is the one way to them, and stores the event of a
//! wrong attempt.
//!
//! **Sources**: RFC 9106; OWASP Password Storage Cheat Sheet (m=19456, t=2, p=1); ASVS 6.2.

use std::{sync::Arc, time::Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use hasher::Verdict;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::{
    app::App,
    config::{
        self,
        passwords::{MAX_ITERATIONS, MAX_MEMORY_KIB, MAX_PARALLELISM},
    },
    error::{Error, FieldViolation, Result},
    store::{
        audit_events::{self, Row},
        credentials::Credential,
    },
    values::secret::{PASSWORD_MAX_BYTES, Password, PasswordFlaw},
};

pub mod hasher;

/// The scheme tag of passwords that this version makes.
pub const ARGON2ID: &str = "argon2id";
const HASH_BYTES: usize = 32;

/// The parameters that new passwords are hashed with.
///
/// # Errors
/// [`Error::InvalidField`] where argon2 does not take them.
pub fn parameters(config: &config::Passwords) -> Result<Params> {
    Params::new(config.memory_kib, config.iterations, config.parallelism, Some(HASH_BYTES))
        .map_err(|e| Error::field("passwords", format!("argon2 does not take these parameters: {e}")))
}

/// The bytes of a password that are hashed.
#[derive(Clone)]
pub struct Normalized(Zeroizing<Vec<u8>>);

impl Normalized {
    /// The bytes; none for what is over the limit.
    #[must_use]
    pub fn new(password: &Password) -> Option<Self> {
        if password.as_str().len() > PASSWORD_MAX_BYTES {
            return None;
        }
        // NFKC at most multiplies the length by 18; all the room at once leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(password.as_str().len() * 18));
        let mut buffer = [0; 4];
        for letter in password.as_str().nfkc() {
            bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
        }
        Some(Self(bytes))
    }

    /// What stands in for a password that is nobody's: its hash costs the same, and its outcome is ignored.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Zeroizing::new(Vec::new()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Checks a password that is to be set.
///
/// # Errors
/// [`Error::PasswordRejected`] with each broken rule, at `field`.
pub fn check_new(password: &Password, field: &str, min_length: usize) -> Result<Normalized> {
    let reject =
        |flaw: PasswordFlaw| Error::PasswordRejected(vec![FieldViolation { field: field.to_owned(), description: flaw.to_string() }]);
    password.check(min_length).map_err(reject)?;
    Normalized::new(password).ok_or_else(|| reject(PasswordFlaw::Long))
}

/// Whether a password is that of a credential; none is the credential of whoever may not log in, and costs the same. Where it is wrong,
/// `failure` is stored.
///
/// Once the hash has begun both come to their end, whether or not the caller still waits: who guesses and hangs up leaves the same trace
/// as who listens.
///
/// # Errors
/// [`Error::Overloaded`], [`Error::Deadline`]; [`Error::Unavailable`] where `failure` cannot be stored.
pub async fn verify(app: &App, password: &Password, credential: Option<&Credential>, deadline: Instant, failure: Row) -> Result<Verdict> {
    let normalized = Normalized::new(password);
    let credential = credential.filter(|credential| normalized.is_some() && !credential.reset_required);
    let stored = credential.and_then(Stored::read);
    if let (Some(credential), None) = (credential, &stored) {
        tracing::error!(scheme = credential.scheme, "a stored password cannot be read");
    }
    let caller = Arc::new(());
    let (hasher, store, waits) = (app.hasher.clone(), app.store.clone(), Arc::downgrade(&caller));
    let attempt = async move {
        let verdict = hasher.verify(normalized.unwrap_or_else(Normalized::nobody), stored, deadline, waits).await?;
        if verdict == Verdict::Wrong {
            store.write("record_wrong_password", failure, |tx, failure| async move { audit_events::insert(&tx, failure).await }).await?;
        }
        Ok(verdict)
    };
    #[expect(clippy::disallowed_methods, reason = "awaited here by whoever waits; else it ends by itself after one hash and one row")]
    let task = tokio::spawn(attempt);
    task.await.unwrap_or_else(|_| Err(Error::internal("verifying a password panicked")))
}

/// A stored argon2id hash, read and bounded.
pub struct Stored {
    parameters: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Stored {
    /// Reads a credential; none for another scheme, a malformed string or parameters out of bounds.
    #[must_use]
    pub fn read(credential: &Credential) -> Option<Self> {
        use argon2::password_hash::phc::PasswordHash;
        if credential.scheme != ARGON2ID {
            return None;
        }
        let phc = PasswordHash::new(&credential.hash).ok()?;
        let parameters = Params::try_from(&phc).ok()?;
        let bounded =
            parameters.m_cost() <= MAX_MEMORY_KIB && parameters.t_cost() <= MAX_ITERATIONS && parameters.p_cost() <= MAX_PARALLELISM;
        let ours = phc.algorithm.as_str() == "argon2id" && phc.version == Some(u32::from(Version::V0x13));
        let hash = phc.hash?.as_bytes().to_vec();
        (bounded && ours && hash.len() >= 16).then_some(Self { parameters, salt: phc.salt?.as_ref().to_vec(), hash })
    }

    /// The parameters it was made with.
    #[must_use]
    pub const fn parameters(&self) -> &Params {
        &self.parameters
    }
}

/// The one place that knows how argon2id is called.
fn context(parameters: &Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters.clone())
}
