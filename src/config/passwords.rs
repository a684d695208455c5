//! `[passwords]`: the cost of a hash, who computes it, and the shortest password.

use super::reader::{Reader, Section};

/// The weakest argon2id parameters that OWASP's Password Storage Cheat Sheet recommends, as (KiB, passes), all with one lane.
const FLOOR: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// What a hash may cost at most, in KiB, passes and lanes: for new ones, and for stored ones that are to be read back.
pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// See [`MAX_MEMORY_KIB`].
pub const MAX_ITERATIONS: u32 = 16;
/// See [`MAX_MEMORY_KIB`].
pub const MAX_PARALLELISM: u32 = 16;

/// Hashing cost and password length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwords {
    /// Characters at least of a new password (NIST SP 800-63B section 3.1.1.2: 15 where it is the only factor, never under
    /// 8).
    pub min_length: usize,
    /// argon2id's memory for one hash, in KiB. Each hashing thread holds as much for good.
    pub memory_kib: u32,
    /// argon2id's passes over that memory.
    pub iterations: u32,
    /// argon2id's lanes.
    pub parallelism: u32,
    /// Threads that hash. `None`: one less than the machine has cores, at least one, so that a flood of logins leaves a
    /// core to everything else.
    pub hash_threads: Option<usize>,
    /// Hashes at most that wait for a thread; further logins are refused at once.
    pub queue: usize,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { min_length: 15, memory_kib: 19_456, iterations: 2, parallelism: 1, hash_threads: None, queue: 64 }
    }
}

impl Passwords {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut passwords = Self::default();
        section.set_within("min_length", &mut passwords.min_length, 8..=64);
        section.set_within("memory_kib", &mut passwords.memory_kib, 7_168..=MAX_MEMORY_KIB);
        section.set_within("iterations", &mut passwords.iterations, 1..=MAX_ITERATIONS);
        section.set_within("parallelism", &mut passwords.parallelism, 1..=MAX_PARALLELISM);
        let mut threads = 0;
        section.set_within("hash_threads", &mut threads, 1..=1_024);
        passwords.hash_threads = (threads > 0).then_some(threads);
        section.set_within("queue", &mut passwords.queue, 1..=10_000);
        passwords
    }

    pub(super) fn check(&self, reader: &mut Reader) {
        let is_strong = |(memory, passes): &(u32, u32)| self.memory_kib >= *memory && self.iterations >= *passes;
        reader.require(
            &["passwords.memory_kib", "passwords.iterations"],
            FLOOR.iter().any(is_strong),
            "passwords.memory_kib and passwords.iterations are below OWASP's floor: at least 47104 and 1, 19456 and 2, \
             12288 and 3, 9216 and 4, or 7168 and 5",
        );
    }
}
