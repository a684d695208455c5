//! What ends a command without success: a sentence that says what to do next.

use thiserror::Error;

use super::output::quoted;
use crate::{
    config::Problems,
    domain::start::StartError,
    error::{Error, FieldViolation, Taken},
    server::BindError,
};

/// Why a command did not do what it was asked. Shown to the operator; holds no secret.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// From a sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// The same with a real name in the place of a placeholder, where the sentence names a command to be typed next.
    #[must_use]
    pub fn naming(self, placeholder: &str, name: &str) -> Self {
        Self(self.0.replace(&format!(" {placeholder}"), &format!(" {}", shell_word(name))))
    }
}

/// A name as it is typed: in quotes where a shell would read more into it.
pub(super) fn shell_word(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '-' | '_' | '+' | ':' | '/');
    let shown = quoted(&name);
    if !name.is_empty() && name.chars().all(is_plain) { shown } else { format!("'{}'", shown.replace('\'', "'\\''")) }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(sentence(&error))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Failed(error) => error.into(),
            StartError::Database(text) | StartError::RootSecret(text) => Self(text),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self(format!("the configuration cannot be used:\n{problems}"))
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self(error.to_string())
    }
}

/// What a decision refused, with the next step where one helps. A reason that no command meets says what clients would read.
fn sentence(error: &Error) -> String {
    match error {
        Error::InvalidField(violations) => flags(violations),
        Error::PasswordRejected(violations) => {
            let rules: Vec<&str> = violations.iter().map(|violation| violation.description.as_str()).collect();
            format!("the password is not acceptable: it {}", rules.join("; it "))
        }
        Error::NotFound(what) => missing(what),
        Error::Taken(taken) => format!("{error}: {}", instead(*taken)),
        Error::SeatLimit => format!("{error}: `doorward member list --tenant TENANT` shows them, and `doorward member remove` makes room"),
        // These two texts are meant for the log, and the operator of a command reads what a log would hold.
        Error::Unavailable(cause) => format!("{error} ({cause}): check database.url and try again"),
        Error::Internal(cause) => format!("{error}: {cause}"),
        other => other.to_string(),
    }
}

/// Fields under the names that they have on the command line.
fn flags(violations: &[FieldViolation]) -> String {
    let flag = |violation: &FieldViolation| {
        // Which entry of a list it is, whoever typed it sees.
        let name = match violation.field.split('[').next().unwrap_or_default() {
            // A configuration key.
            key if key.contains('.') => key.to_owned(),
            "passwords" => "the configuration's section passwords".to_owned(),
            "permissions" => "--permission".to_owned(),
            "roles" => "--role".to_owned(),
            "certificate_names" => "the certificate name".to_owned(),
            "service_account_id" => "the service account".to_owned(),
            "expire_time" | "secret_expire_time" => "--lifetime".to_owned(),
            field => format!("--{}", field.replace('_', "-")),
        };
        format!("{name}: {}", violation.description)
    };
    violations.iter().map(flag).collect::<Vec<_>>().join("; ")
}

fn missing(what: &str) -> String {
    match what {
        "user" => "there is no user of this id, e-mail address or user name: see `doorward user list`".to_owned(),
        "tenant" => "there is no tenant of this id or slug: see `doorward tenant list`".to_owned(),
        "role" => "the tenant has no role of this name: see `doorward role list --tenant TENANT`".to_owned(),
        "session" => "there is no session of this id: see `doorward session list --user USER`".to_owned(),
        "service account" => "the service account was deleted meanwhile: see `doorward service-account list`".to_owned(),
        "secret" => "the service account has no secret of this id: see `doorward service-account show ACCOUNT`, with --tenant for one of a tenant".to_owned(),
        "certificate name" => {
            "this certificate name does not stand for the service account: see `doorward service-account show ACCOUNT`, with --tenant for one \
             of a tenant"
                .to_owned()
        }
        "signing key" => "there is no signing key of this name: see `doorward key list`".to_owned(),
        "membership" => "the user is no member of the tenant: see `doorward member list --tenant TENANT`".to_owned(),
        other => format!("the {other} does not exist"),
    }
}

const fn instead(taken: Taken) -> &'static str {
    match taken {
        Taken::Email => "`doorward user show ADDRESS` says by whom",
        Taken::Username => "`doorward user show NAME` says by whom",
        Taken::Slug | Taken::TaxId | Taken::ExternalId => "`doorward tenant list --format json` says whose it is",
        Taken::RoleName => "choose another, or see `doorward role list --tenant TENANT`",
        Taken::Member => "to change their roles, `doorward member remove --tenant TENANT --user USER` and add them again",
    }
}
