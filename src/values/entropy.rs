//! Randomness: one source, handed in, so that no leaf reaches for its own.

use uuid::{Builder, Uuid};

use super::time::Clock;

/// The system's randomness, through the generator of aws-lc-rs (seeded by the operating system, safe after a fork).
#[derive(Clone, Debug)]
pub struct Entropy {
    // Keeps literals out: the only way to one is `system`.
    _source: (),
}

impl Entropy {
    /// The system's generator.
    #[must_use]
    pub const fn system() -> Self {
        Self { _source: () }
    }

    /// `N` fresh random bytes.
    ///
    /// Ends the process when the generator fails. It fails only if the operating system gives no randomness, and then nothing
    /// this service could still answer would be safe: no id, no token, no nonce.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0_u8; N];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            std::process::abort();
        }
        bytes
    }

    /// A new UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds by the clock, 74 random bits.
    #[must_use]
    pub fn uuid_v7(&self, clock: &Clock) -> Uuid {
        Builder::from_unix_timestamp_millis(clock.now_millis(), &self.bytes::<10>()).into_uuid()
    }
}
