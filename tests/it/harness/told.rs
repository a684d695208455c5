//! What a caller knows after a call: it was done, it was refused, or nobody can say.

use tonic::Status;

/// An answer, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// It was done.
    Yes(T),
    /// It was refused for this reason, and changed nothing but what the reason says.
    No(String),
    /// The server, the database or the connection was gone: it happened as a whole, or not at all.
    Unknown,
}

impl<T> Told<T> {
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Told<U> {
        match self {
            Self::Yes(value) => Told::Yes(change(value)),
            Self::No(reason) => Told::No(reason),
            Self::Unknown => Told::Unknown,
        }
    }

    /// What was done.
    #[track_caller]
    pub fn unwrap(self) -> T {
        match self {
            Self::Yes(value) => value,
            Self::No(reason) => panic!("refused: {reason}"),
            Self::Unknown => panic!("no answer"),
        }
    }
}

/// Reads an answer. A status without a reason is the client's own: it lost the server.
pub fn told<T>(answer: Result<T, Status>) -> Told<T> {
    match answer {
        Ok(value) => Told::Yes(value),
        Err(status) => match status.metadata().get("doorward-reason").map(|reason| reason.to_str().unwrap()) {
            None | Some("UNAVAILABLE" | "DEADLINE") => Told::Unknown,
            Some(reason) => Told::No(reason.to_owned()),
        },
    }
}
