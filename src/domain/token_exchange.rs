//! The grant `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693): a person's access token for one that can do less, to be handed on.
//!
//! | | the new token has |
//! |---|---|
//! | audience | those asked for, of the old one's; none asked: all of the old one's. Never the issuer: it is *narrowed* |
//! | tenant | the old one's; where that had none, the one asked for, if the person may act there without being a superuser |
//! | scope | the old one's, or permissions within it |
//! | expiry | the old one's at the latest |
//! | session, login | the old one's: it dies with them |
//!
//! A narrowed token is good at none of Doorward's own methods that change anything, ends no session and buys no token that is not narrower
//! still. The new token's epochs of tenant and membership are those of this moment, so it dies with the membership too, although its session
//! may be bound to no tenant.
//!
//! Neither audited (there is no new session) nor answered with a refresh token. `issued_token_type` is always the access token's, and has no
//! field.

use std::sync::Arc;

use super::{
    access::{self, Accepts, Powers, Principal, Subject, TenantScope},
    callers::Client,
    memory::Freshness,
    refresh,
    tokens::{self, TokenSet, Wanted},
};
use crate::{
    app::App,
    ctx::tenant_key,
    error::{Error, Result},
    store::{facts::About, tenants::TenantKey},
    values::{permission::Scope, time::Timestamp},
};

/// RFC 8693, section 3: the one type of token that is exchanged.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What a client asks for with an access token.
#[derive(Debug)]
pub struct Request {
    /// The token to exchange.
    pub subject_token: String,
    /// Its type.
    pub subject_token_type: String,
    /// The type wanted; empty for the same.
    pub requested_token_type: String,
    /// Empty for the token's own, or the tenant to bind the new one to.
    pub tenant_id: String,
    /// Cap and audiences within the token's.
    pub wanted: Wanted,
    /// The client that asks.
    pub client: Client,
    /// When.
    pub now: Timestamp,
}

/// Exchanges a person's access token for a narrower one.
///
/// # Errors
/// [`Error::InvalidField`] for what is not within the token; [`Error::TokenInvalid`] for a service account's; the reasons of
/// [`access::authenticate`], and those of [`access::enter`] for the tenant.
pub async fn exchange(app: &App, request: Request) -> Result<TokenSet> {
    check_types(&request)?;
    let asked = tenant_key(&request.tenant_id)?;
    // One that was narrowed before can be narrowed further.
    let accepts = Accepts { narrowed: true, ..Accepts::default() };
    let principal = access::authenticate(app, &request.subject_token, accepts, About::Own, Freshness::latest(), request.now).await?;
    let Principal::User(subject) = principal else { return Err(Error::TokenInvalid) };
    let own = match &subject.token.claims.scope {
        Some(scope) => Scope::parse(scope).map_err(|_| Error::TokenInvalid)?,
        None => None,
    };
    let wanted =
        Wanted { audience: audience(app, &subject, request.wanted.audience)?, scope: refresh::narrower(own, request.wanted.scope)? };
    // A remembered subject has no standing that could be entered with other powers.
    let subject = match (&asked, subject.token.claims.tid.map(TenantKey::Id)) {
        (Some(key), None) => Arc::new(subject.about(app, key, request.now).await?),
        (_, Some(own)) => Arc::new(subject.about(app, &own, request.now).await?),
        (None, None) => subject,
    };
    let tenant = tenant(&subject, asked.as_ref(), &Powers::narrowed(wanted.scope.clone()))?;
    let (access_token, expires_in) =
        tokens::mint_narrowed(app, &subject.token, tenant.as_ref(), &wanted, &request.client, request.now).await?;
    Ok(TokenSet { access_token, expires_in, refresh_token: None, scope: wanted.scope })
}

fn check_types(request: &Request) -> Result<()> {
    if request.subject_token_type != ACCESS_TOKEN {
        return Err(Error::field("token_exchange.subject_token_type", format!("must be {ACCESS_TOKEN}")));
    }
    if !["", ACCESS_TOKEN].contains(&request.requested_token_type.as_str()) {
        return Err(Error::field("token_exchange.requested_token_type", format!("must be empty or {ACCESS_TOKEN}")));
    }
    Ok(())
}

/// The asked audiences, which must be among the token's, or all of those; the issuer is none of them.
fn audience(app: &App, subject: &Subject, asked: Vec<String>) -> Result<Vec<String>> {
    let issuer = &app.config.tokens.issuer;
    let own = &subject.token.claims.aud;
    if let Some(index) = asked.iter().position(|one| one == issuer || !own.contains(one)) {
        return Err(Error::field(format!("audience[{index}]"), "is none that the token can be narrowed to"));
    }
    let all = || own.iter().filter(|one| *one != issuer).cloned().collect();
    let narrowed: Vec<String> = if asked.is_empty() { all() } else { asked };
    if narrowed.is_empty() { Err(Error::field("audience", "is needed: the token has none but the issuer")) } else { Ok(narrowed) }
}

/// The tenant of the new token, entered with the powers of the new token.
fn tenant(subject: &Subject, asked: Option<&TenantKey>, powers: &Powers) -> Result<Option<TenantScope>> {
    if asked.is_none() && subject.token.claims.tid.is_none() {
        return Ok(None);
    }
    let scope = access::enter(&subject.facts.user, subject.facts.standing.clone(), powers)?;
    if asked.is_some_and(|key| !scope.tenant().is_named(key)) {
        return Err(Error::field("tenant_id", "is not the tenant of the token"));
    }
    Ok(Some(scope))
}
