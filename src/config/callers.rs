//! `[callers]`: whether the workloads that call must be known.

use super::reader::{Reader, Section, key};
use super::server::Server;
use super::setting::Shown;
use super::source::Entry;
use super::value::FromEntry;

/// Whether calling workloads must be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    /// The operator's choice; see [`Callers::mode`].
    pub mode: Option<CallersMode>,
}

/// Whether a call needs a caller with an identity of its own, besides the person it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersMode {
    /// A call without one is let in; a wrong one is refused all the same.
    Optional,
    /// A call without one is refused.
    Required,
}

impl Callers {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut callers = Self::default();
        section.set(
            key(
                "mode",
                "Whether every call needs a caller with an identity of its own, a service account by its token or client certificate: \
                 `optional` or `required`. Health never does.",
            )
            .unset("`optional` while server.grpc_addr is on loopback; beyond, it must be chosen", "\"optional\""),
            &mut callers.mode,
        );
        section.in_force("mode", &callers.mode());
        callers
    }

    /// The mode in force. Nobody has to choose while only this machine reaches the server: then it is optional.
    #[must_use]
    pub fn mode(&self) -> CallersMode {
        self.mode.unwrap_or(CallersMode::Optional)
    }

    pub(super) fn check(&self, server: &Server, reader: &mut Reader) {
        reader.require(
            server.grpc_is_on_loopback() || self.mode.is_some(),
            &[(
                "callers.mode",
                "must be chosen once server.grpc_addr is not on loopback: \"optional\", where the network decides who may call; \
                 \"required\" where every calling backend has a service account",
            )],
        );
    }
}

impl FromEntry for CallersMode {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        match String::from_entry(entry)?.as_str() {
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err("must be optional or required"),
        }
    }

    fn shown(&self) -> Option<Shown> {
        let name = match self {
            Self::Optional => "optional",
            Self::Required => "required",
        };
        Some(Shown::Text(name.to_owned()))
    }
}
