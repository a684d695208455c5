//! `[passwords]`: the cost of a hash, who computes it, and the shortest password.

use super::reader::{Reader, Section, key};

/// The weakest argon2id parameters that OWASP's Password Storage Cheat Sheet recommends, as (KiB, passes), all with one lane.
const FLOOR: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];
const BELOW_FLOOR: &str = "is below OWASP's floor: memory_kib and iterations must be at least 47104 and 1, 19456 and 2, 12288 and 3, \
                           9216 and 4, or 7168 and 5";

/// What a hash may cost at most, in KiB, passes and lanes: for new ones, and for stored ones that are to be read back.
pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// See [`MAX_MEMORY_KIB`].
pub const MAX_ITERATIONS: u32 = 16;
/// See [`MAX_MEMORY_KIB`].
pub const MAX_PARALLELISM: u32 = 16;

/// Hashing cost and password length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwords {
    /// Characters at least of a new password.
    pub min_length: usize,
    /// argon2id's memory for one hash, in KiB.
    pub memory_kib: u32,
    /// argon2id's passes over that memory.
    pub iterations: u32,
    /// argon2id's lanes.
    pub parallelism: u32,
    /// Threads that hash; see [`Passwords::hash_threads`].
    pub hash_threads: Option<usize>,
    /// Hashes at most that wait for a thread.
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
        section.set_within(
            key(
                "min_length",
                "Characters at least of a new password (NIST SP 800-63B, 3.1.1.2: 15 where it is the only factor, never under 8).",
            ),
            &mut passwords.min_length,
            8..=64,
        );
        section.set_within(
            key(
                "memory_kib",
                "argon2id's memory for one hash, in KiB; each hashing thread holds as much for good. Together with iterations not below \
                 OWASP's floor.",
            ),
            &mut passwords.memory_kib,
            7_168..=MAX_MEMORY_KIB,
        );
        section.set_within(key("iterations", "argon2id's passes over that memory."), &mut passwords.iterations, 1..=MAX_ITERATIONS);
        section.set_within(
            key(
                "parallelism",
                "argon2id's lanes. After a change of one of these three, a wrong password for somebody who has not logged in since \
                 costs two hashes.",
            ),
            &mut passwords.parallelism,
            1..=MAX_PARALLELISM,
        );
        section.set_if(
            key("hash_threads", "Threads that hash, from 1 to 1024.").unset("one less than there are cores, at least one", "1"),
            &mut passwords.hash_threads,
            |threads| threads.is_some_and(|threads| (1..=1_024).contains(&threads)),
            "must be from 1 to 1024",
        );
        section.in_force("hash_threads", &passwords.hash_threads());
        let queue = key("queue", "Hashes at most that wait for a thread; further logins are refused at once.");
        section.set_within(queue, &mut passwords.queue, 1..=10_000);
        passwords
    }

    /// Threads that hash. Where nothing is chosen: one less than the machine has cores, so that a flood of logins leaves a core to
    /// everything else, and at least one.
    #[must_use]
    pub fn hash_threads(&self) -> usize {
        let spare = || std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
        self.hash_threads.unwrap_or_else(spare)
    }

    pub(super) fn check(&self, reader: &mut Reader) {
        let is_strong = |(memory, passes): &(u32, u32)| self.memory_kib >= *memory && self.iterations >= *passes;
        reader.require(FLOOR.iter().any(is_strong), &[("passwords.memory_kib", BELOW_FLOOR), ("passwords.iterations", BELOW_FLOOR)]);
    }
}
