//! Access tokens: minting, and reading one that somebody presents.
//!
//! Two kinds are JWTs, told apart by the header's `typ`, and neither is ever taken for the other:
//!
//! | `typ` | kind | good for |
//! |---|---|---|
//! | `at+jwt` (RFC 9068) | [`Kind::Access`] | everything its claims allow |
//! | `pwc+jwt` | [`Kind::PasswordChange`] | ChangePassword and Logout, ten minutes, the issuer as only audience |
//!
//! [`jws`] is the first layer of verification (header and signature), [`claims`] the second (payload). What the database says of the
//! session is `access`'s. The claims `roles` and `permissions` are for verifiers that are offline; this service never reads them.

use std::time::Duration;

use claims::{Claims, ClaimsError, Expected, ExpiryRule, SubjectKind};
use jws::{HeaderRule, JwsError, Verified};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{
    access::{TenantScope, workload},
    callers::Client,
    keys::{KeyRing, SignedBy},
    memory::Freshness,
    tenants::policy,
};
use crate::{
    app::App,
    error::{Error, Result},
    store::{
        account_facts::AccountFacts,
        sessions::{Epochs, Session},
    },
    values::{
        ids::{SessionId, TenantId, TokenId, UserId},
        permission::PermissionSet,
        time::Timestamp,
    },
};

pub mod claims;
pub mod jws;

/// The media type of access tokens.
const ACCESS_TYPE: &str = "at+jwt";
/// The media type of tokens of a login that must change its password.
const PASSWORD_CHANGE_TYPE: &str = "pwc+jwt";
/// How long a person has to change a password that must be.
pub const PASSWORD_CHANGE_LIFETIME: Duration = Duration::from_mins(10);

/// The kinds of JWT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary access token.
    Access,
    /// Good for changing the password only.
    PasswordChange,
}

/// A token whose signature and claims hold.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Its kind.
    pub kind: Kind,
    /// What it says.
    pub claims: Claims,
    /// What verified it.
    pub signed_by: SignedBy,
}

impl Presented {
    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let texts: usize = self.claims.aud.iter().map(|text| 48 + text.len()).sum();
        (768 + texts + self.claims.scope.as_ref().map_or(0, String::len)) as u64
    }

    /// Judges the time of a token that was good before.
    ///
    /// # Errors
    /// [`Error::TokenExpired`]; [`Error::TokenInvalid`] where the clock went back to before it was made.
    pub fn judge_time(&self, now: Timestamp) -> Result<()> {
        self.claims.judge_time(now, ExpiryRule::Enforced).map_err(refused)
    }
}

/// Which of the causes it was is for the log alone.
fn unverified(error: JwsError) -> Error {
    tracing::debug!(cause = %error, "a token was refused");
    Error::TokenInvalid
}

fn refused(error: ClaimsError) -> Error {
    tracing::debug!(cause = %error, "a token was refused");
    match error {
        ClaimsError::Expired => Error::TokenExpired,
        _ => Error::TokenInvalid,
    }
}

/// An answer of RFC 6749, section 5.1.
#[derive(Debug)]
pub struct TokenSet {
    /// The JWT.
    pub access_token: SecretString,
    /// How long it is good.
    pub expires_in: Duration,
    /// The opaque refresh token; none where the password must be changed first.
    pub refresh_token: Option<SecretString>,
    /// What the access token is capped to.
    pub scope: Option<PermissionSet>,
}

/// What an access token is to say beside what its session says.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The cap; none for no cap.
    pub scope: Option<PermissionSet>,
    /// The audiences; empty for all of the server's.
    pub audience: Vec<String>,
}

impl Wanted {
    /// Reads the fields `scope` and `audience` of a request.
    ///
    /// # Errors
    /// [`Error::InvalidField`] for a scope that is none, and for an audience that is not one of the server's.
    pub fn parse(app: &App, scope: &str, audience: Vec<String>) -> Result<Self> {
        let scope = crate::values::permission::Scope::parse(scope).map_err(|e| Error::field("scope", e.to_string()))?;
        if scope.as_ref().is_some_and(|scope| scope.to_string().len() > claims::MAX_SCOPE_BYTES) {
            return Err(Error::field("scope", format!("must have at most {} bytes", claims::MAX_SCOPE_BYTES)));
        }
        let tokens = &app.config.tokens;
        for (index, one) in audience.iter().enumerate() {
            if *one != tokens.issuer && !tokens.audience.contains(one) {
                return Err(Error::field(format!("audience[{index}]"), "is no audience of this server"));
            }
            if audience.iter().take(index).any(|earlier| earlier == one) {
                return Err(Error::field(format!("audience[{index}]"), "is named twice"));
            }
        }
        Ok(Self { scope, audience })
    }
}

/// What an access token says of its session.
#[derive(Clone, Debug)]
pub struct SessionClaims {
    /// The session.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// The tenant that it is bound to.
    pub tenant_id: Option<TenantId>,
    /// The client whose refresh tokens it answers.
    pub client_id: String,
    /// How the person proved who they are, separated by spaces.
    pub amr: String,
    /// What it was opened under.
    pub epochs: Epochs,
    /// Good for changing the password only.
    pub must_change: bool,
    /// When the login happened.
    pub created_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
}

impl From<&Session> for SessionClaims {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id,
            user_id: session.user_id,
            tenant_id: session.tenant_id,
            client_id: session.client_id.clone(),
            amr: session.amr.clone(),
            epochs: session.epochs,
            must_change: session.must_change,
            created_at: session.created_at,
            expires_at: session.expires_at,
        }
    }
}

/// What an access token says of the tenant that its session is bound to.
#[derive(Clone, Debug)]
pub struct TenantClaims {
    /// The names of the roles that it may show.
    pub roles: Vec<String>,
    /// What the subject may do there.
    pub permissions: PermissionSet,
    /// The tenant's own life of access tokens, if it has one.
    pub access_lifetime: Option<Duration>,
}

impl TenantClaims {
    /// What is said under a tenant's policy.
    ///
    /// # Errors
    /// Those of [`policy::read`].
    pub fn new(id: TenantId, policy: &serde_json::Value, roles: Vec<String>, permissions: PermissionSet) -> Result<Self> {
        let access_lifetime = policy::read(id, policy)?.map(|own| own.access());
        Ok(Self { roles, permissions, access_lifetime })
    }

    /// What is said of a tenant that was entered.
    ///
    /// # Errors
    /// Those of [`policy::read`].
    pub fn of(scope: &TenantScope) -> Result<Self> {
        Self::new(scope.tenant().id, &scope.tenant().policy, scope.role_names(), scope.permissions().clone())
    }
}

/// Makes the access token of a session. `tenant` is the one that the session is bound to, as it is now.
///
/// # Errors
/// [`Error::Internal`] where signing fails, and for a tenant whose policy cannot be read.
pub async fn mint(
    app: &App,
    session: &Session,
    tenant: Option<&TenantScope>,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<(SecretString, Duration)> {
    mint_with(app, session.into(), tenant.map(TenantClaims::of).transpose()?, wanted, now).await
}

/// [`mint`], where what is to be said was read otherwise.
///
/// # Errors
/// Those of [`mint`].
pub async fn mint_with(
    app: &App,
    session: SessionClaims,
    tenant: Option<TenantClaims>,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<(SecretString, Duration)> {
    let tokens = &app.config.tokens;
    let (typ, lifetime, aud) = if session.must_change {
        (PASSWORD_CHANGE_TYPE, PASSWORD_CHANGE_LIFETIME, vec![tokens.issuer.clone()])
    } else {
        let all = || tokens.audience.iter().chain([&tokens.issuer]).cloned().collect();
        let own = tenant.as_ref().and_then(|tenant| tenant.access_lifetime);
        let lifetime = own.map_or(tokens.access_lifetime, |own| own.min(tokens.max_access_lifetime));
        (ACCESS_TYPE, lifetime, if wanted.audience.is_empty() { all() } else { wanted.audience.clone() })
    };
    let exp = now.plus(lifetime).min(session.expires_at);
    let epochs = session.epochs;
    let mut ver = vec![epochs.instance, epochs.user];
    // A token that is good for changing the password only is good in no tenant, whatever its session is for.
    let (tid, tenant) = if session.must_change { (None, None) } else { (session.tenant_id, tenant) };
    if tid.is_some() {
        // No membership: a superuser's, which has no epoch of its own.
        ver.extend([epochs.tenant.unwrap_or_default(), epochs.membership.unwrap_or_default()]);
    }
    let claims = Claims {
        iss: tokens.issuer.clone(),
        sub: session.user_id.as_uuid(),
        sub_kind: SubjectKind::User,
        aud,
        client_id: session.client_id,
        iat: now,
        nbf: now,
        exp,
        jti: TokenId::generate(&app.entropy, &app.clock),
        sid: Some(session.id),
        // By the clock of the replica that opened the session, which may be ahead of this one's.
        auth_time: Some(session.created_at.min(now)),
        amr: session.amr.split_whitespace().map(str::to_owned).collect(),
        ver,
        scope: wanted.scope.as_ref().map(ToString::to_string),
        tid,
        permissions: tenant.as_ref().map(|tenant| tenant.permissions.to_strings()),
        roles: tid.map(|_| tenant.map(|tenant| tenant.roles).unwrap_or_default()),
        custom: serde_json::Map::new(),
    };
    Ok((sign(app, typ, claims).await?, exp.since(now)))
}

/// Makes the access token of a service account; `scope` is its tenant, where it has one. It has no session to outlive.
///
/// # Errors
/// [`Error::Internal`] where signing fails.
pub async fn mint_for_account(
    app: &App,
    facts: &AccountFacts,
    tenant: Option<&TenantScope>,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<(SecretString, Duration)> {
    let tokens = &app.config.tokens;
    let exp = now.plus(policy::access_lifetime(tokens, facts.tenant.as_ref())?);
    let tid = facts.account.tenant_id;
    let claims = Claims {
        iss: tokens.issuer.clone(),
        sub: facts.account.id.as_uuid(),
        sub_kind: SubjectKind::ServiceAccount,
        aud: if wanted.audience.is_empty() { vec![tokens.issuer.clone()] } else { wanted.audience.clone() },
        client_id: facts.account.id.to_string(),
        iat: now,
        nbf: now,
        exp,
        jti: TokenId::generate(&app.entropy, &app.clock),
        sid: None,
        auth_time: None,
        amr: Vec::new(),
        ver: workload::epochs(facts),
        scope: wanted.scope.as_ref().map(ToString::to_string),
        tid,
        roles: tid.map(|_| tenant.map(TenantScope::role_names).unwrap_or_default()),
        permissions: tenant.map(|tenant| tenant.permissions().to_strings()),
        custom: serde_json::Map::new(),
    };
    Ok((sign(app, ACCESS_TYPE, claims).await?, exp.since(now)))
}

/// Makes a token of another one: for the wanted audiences, scope and tenant, and good no longer.
///
/// # Errors
/// [`Error::TokenExpired`] for one that is good by the leeway alone; [`Error::Internal`] where signing fails.
pub async fn mint_narrowed(
    app: &App,
    from: &Presented,
    tenant: Option<&TenantScope>,
    wanted: &Wanted,
    client: &Client,
    now: Timestamp,
) -> Result<(SecretString, Duration)> {
    let lifetime = policy::access_lifetime(&app.config.tokens, tenant.map(TenantScope::tenant))?;
    let exp = now.plus(lifetime).min(from.claims.exp);
    if exp <= now {
        return Err(Error::TokenExpired);
    }
    let of_principal = from.claims.ver.iter().take(2).copied();
    let claims = Claims {
        aud: wanted.audience.clone(),
        client_id: client.id.clone(),
        iat: now,
        nbf: now,
        exp,
        jti: TokenId::generate(&app.entropy, &app.clock),
        auth_time: from.claims.auth_time.map(|login| login.min(now)),
        ver: of_principal.chain(tenant.into_iter().flat_map(TenantScope::epochs)).collect(),
        scope: wanted.scope.as_ref().map(ToString::to_string),
        tid: tenant.map(|tenant| tenant.tenant().id),
        roles: tenant.map(TenantScope::role_names),
        permissions: tenant.map(|tenant| tenant.permissions().to_strings()),
        ..from.claims.clone()
    };
    Ok((sign(app, ACCESS_TYPE, claims).await?, exp.since(now)))
}

/// Signs by keys that are new enough: a revoked one must not go on making tokens that nobody takes.
async fn sign(app: &App, typ: &str, claims: Claims) -> Result<SecretString> {
    let ring = match app.keys.trusted() {
        Some(ring) => ring,
        None => app.keys.since(app, Instant::now()).await?,
    };
    let signer = ring.signer()?;
    let sign = |claims: &Claims| jws::sign_with(typ, &signer.kid, signer.algorithm, claims, |message| signer.sign(message));
    let token = match sign(&claims) {
        // Like too many of them: who misses them asks.
        Err(JwsError::TooLong) => sign(&Claims { permissions: None, ..claims }),
        other => other,
    };
    token.map(SecretString::from).map_err(Error::internal)
}

/// What was signed, by keys that are new enough. What no key can make good is refused without asking for newer ones.
async fn verify(app: &App, token: &str, rule: &HeaderRule, freshness: Freshness) -> Result<(Verified, SignedBy)> {
    let (arrived, trusted) = match freshness {
        Freshness::Bounded => (Instant::now(), app.keys.trusted()),
        // The keys follow the changes.
        Freshness::Since(since) => (since.into(), app.store.feed().caught_up(since).await.then(|| app.keys.latest())),
    };
    let is_trusted = trusted.is_some();
    let ring = trusted.unwrap_or_else(|| app.keys.latest());
    match jws::verify(token, &ring.verifying, rule) {
        Ok(verified) if is_trusted => Ok(with_key(verified, &ring)),
        Ok(_) | Err(JwsError::UnknownKey) => {
            let ring = app.keys.since(app, arrived).await?;
            match jws::verify(token, &ring.verifying, rule) {
                // A holder who is told that the token is no good throws it away.
                Err(JwsError::UnknownKey) if jws::key_id(token).is_some_and(|kid| ring.is_unusable(&kid)) => {
                    Err(Error::internal("the token's signing key cannot be used"))
                }
                other => other.map(|verified| with_key(verified, &ring)).map_err(unverified),
            }
        }
        Err(error) => Err(unverified(error)),
    }
}

fn with_key(verified: Verified, ring: &KeyRing) -> (Verified, SignedBy) {
    let signed_by = ring.signed_by(verified.kid.clone());
    (verified, signed_by)
}

/// Reads a token of either kind.
///
/// # Errors
/// [`Error::TokenExpired`] for one that was good once, [`Error::TokenInvalid`] for everything else; [`Error::Unavailable`] where the keys are
/// too old to be trusted and the database is away.
pub async fn read(app: &App, token: &str, expiry: ExpiryRule, freshness: Freshness, now: Timestamp) -> Result<Presented> {
    let rule = HeaderRule::new(&[ACCESS_TYPE, PASSWORD_CHANGE_TYPE]);
    let (verified, signed_by) = verify(app, token, &rule, freshness).await?;
    // The rule let only these two through.
    let (kind, max_lifetime) = if verified.typ == PASSWORD_CHANGE_TYPE {
        (Kind::PasswordChange, PASSWORD_CHANGE_LIFETIME)
    } else {
        (Kind::Access, app.config.tokens.max_access_lifetime)
    };
    let expected = Expected { issuer: &app.config.tokens.issuer, now, max_lifetime, expiry };
    // What only verifiers that are offline read is not carried along, nor remembered.
    let claims = Claims { roles: None, permissions: None, ..claims::parse(&verified.payload, &expected).map_err(refused)? };
    Ok(Presented { kind, claims, signed_by })
}
