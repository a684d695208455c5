//! What may not be a root secret. Whatever refuses one stands here: configuration, key file and start all come through.
//!
//! Only what no random root is can be refused; the chance that one of 32 random bytes falls under a rule is given beside the rule.
//! [`super::generate_root`] draws again, so that its own are always accepted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::ROOT_BYTES;

/// Different bytes at least. Of 32 random ones about 30 are different; fewer than 16 are a pattern.
const DIFFERENT_BYTES: usize = 16;

/// What placeholders for secrets are made of, in the form of [`fold`]: `super_secret_key_change_in_prod`, `Change-Me`. 43 random
/// characters hold one of them once in twenty million times.
const WORDS: [&str; 9] =
    ["secret", "password", "passphrase", "changeme", "changethis", "changein", "insecure", "placeholder", "production"];

/// Keys that are printed in manuals and standards, in the form of [`fold`], and look as random as they once were.
const PRINTED: [&str; 4] = [
    // FastAPI's tutorial on OAuth2.
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    // RFC 7515, appendix A.1.1.
    "aym1sysppbydfgzld3umj1qzkobwvmkoqqestjqlrt1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
    // RFC 7520, section 3.5.
    "hjtxiz2usn5kbqfbttnwbpdmhkv8fjgonbc6mxccyg",
    // RFC 7517, appendix A.3.
    "gawgguffyrgrwkav7ax4vkug",
];

/// Why a text is not fit to be a root secret: the rest of a sentence that starts with its place. Holds no part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RootFlaw {
    /// A known default, a printed example, or words in place of random bytes.
    #[error("is a well-known example or made of words, which anybody can guess; `doorward secret generate` makes one")]
    Guessable,
    /// Something but unpadded base64url (RFC 4648, section 5).
    #[error("is not base64url without padding (A-Z a-z 0-9 - _); `doorward secret generate` makes one")]
    Encoding,
    /// Fewer than [`ROOT_BYTES`] bytes.
    #[error("is shorter than {ROOT_BYTES} bytes; `doorward secret generate` makes one")]
    Short,
    /// The bytes are text.
    #[error("is the base64url of a text, not of random bytes; `doorward secret generate` makes one")]
    Text,
    /// Too few different bytes: one repeated, or a short pattern.
    #[error("is a pattern of few different bytes, not random; `doorward secret generate` makes one")]
    Pattern,
}

/// The bytes of a root secret, if the text is fit to be one.
///
/// # Errors
/// See [`RootFlaw`].
pub fn read_root(text: &str) -> Result<Zeroizing<Vec<u8>>, RootFlaw> {
    if is_guessable(text) {
        return Err(RootFlaw::Guessable);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| RootFlaw::Encoding)?;
    // The same in base64url is as well known.
    if std::str::from_utf8(&bytes).is_ok_and(is_guessable) {
        return Err(RootFlaw::Guessable);
    }
    if bytes.len() < ROOT_BYTES {
        return Err(RootFlaw::Short);
    }
    // 32 random bytes are all printable once in 10^14 times.
    if bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Err(RootFlaw::Text);
    }
    if different(&bytes) < DIFFERENT_BYTES {
        return Err(RootFlaw::Pattern);
    }
    Ok(bytes)
}

fn is_guessable(text: &str) -> bool {
    let folded = fold(text);
    PRINTED.contains(&folded.as_str()) || WORDS.iter().any(|word| folded.contains(word))
}

/// Letters and digits in lower case: `MY_SECRET-KEY` and `mySecretKey` are one default.
fn fold(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect())
}

fn different(bytes: &[u8]) -> usize {
    (0..=u8::MAX).filter(|byte| bytes.contains(byte)).count()
}
