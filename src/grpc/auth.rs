//! `AuthService` on the wire.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{answer, convert, prepared::Prepared, sessions as own_sessions};
use crate::{
    app::App,
    ctx::{Ctx, tenant_key},
    domain::{
        access::Requirements,
        client_credentials,
        login::{self, Attempt, LoggedIn},
        password_change::{self, Change},
        refresh, sessions, tenants, token_exchange,
        tokens::{TokenSet, Wanted},
        validate::{self, Question},
    },
    error::{Error, Result},
    pb::v1::{self, auth_service_server::AuthService, issue_token_request::Grant, logout_request::Credential},
    values::{permission::Permission, secret::Password, text},
};

/// The most entries of a repeated field of ValidateSession.
const MAX_REQUIREMENTS: usize = 100;

/// The service.
#[derive(Clone, Debug)]
pub struct Auth(Arc<App>);

impl Auth {
    /// The service of an app.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        answer!(self, request, log_in)
    }

    async fn issue_token(&self, request: Request<v1::IssueTokenRequest>) -> Result<Response<v1::IssueTokenResponse>, Status> {
        answer!(self, request, issue_token)
    }

    async fn get_me(&self, request: Request<v1::GetMeRequest>) -> Result<Response<v1::GetMeResponse>, Status> {
        answer!(self, request, get_me)
    }

    async fn validate_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        // The route of `prepared.rs` comes before this one; what is answered is the same.
        answer!(self, request, validate_session)?.into_inner().into_message().map(Response::new)
    }

    async fn list_tenants(&self, request: Request<v1::ListTenantsRequest>) -> Result<Response<v1::ListTenantsResponse>, Status> {
        answer!(self, request, list_tenants)
    }

    async fn logout(&self, request: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutResponse>, Status> {
        answer!(self, request, log_out)
    }

    async fn change_password(&self, request: Request<v1::ChangePasswordRequest>) -> Result<Response<v1::ChangePasswordResponse>, Status> {
        answer!(self, request, change_password)
    }

    async fn list_sessions(&self, request: Request<v1::ListSessionsRequest>) -> Result<Response<v1::ListSessionsResponse>, Status> {
        answer!(self, request, own_sessions::list)
    }

    async fn revoke_session(&self, request: Request<v1::RevokeSessionRequest>) -> Result<Response<v1::RevokeSessionResponse>, Status> {
        answer!(self, request, own_sessions::revoke)
    }

    async fn revoke_all_sessions(
        &self,
        request: Request<v1::RevokeAllSessionsRequest>,
    ) -> Result<Response<v1::RevokeAllSessionsResponse>, Status> {
        answer!(self, request, own_sessions::revoke_all)
    }
}

async fn log_in(app: &App, ctx: &Ctx, request: v1::LoginRequest) -> Result<v1::LoginResponse> {
    let device = convert::device(request.client_info)?;
    let client = ctx.client(app);
    let attempt = Attempt {
        identifier: request.identifier,
        password: Password::new(request.password),
        tenant_id: request.tenant_id,
        wanted: Wanted::default(),
        origin: ctx.origin(&device, &client.id),
        client,
        device,
        deadline: ctx.deadline(),
    };
    let opened = login::log_in(app, attempt).await?;
    let (tenants, more_tenants) = opened.tenants(app).await?;
    let user = convert::user(opened.shown_user());
    let LoggedIn { tokens, session, .. } = opened;
    let current = session.id;
    Ok(v1::LoginResponse {
        tokens: Some(convert::token_set(tokens)),
        user: Some(user),
        session: Some(convert::session(session, current)),
        tenants: convert::tenants(&tenants),
        more_tenants,
        device_token: String::new(),
    })
}

async fn issue_token(app: &App, ctx: &Ctx, request: v1::IssueTokenRequest) -> Result<v1::IssueTokenResponse> {
    // This grant alone proves its caller; every other one is for callers who are known where they must be.
    if !matches!(request.grant, Some(Grant::ClientCredentials(_))) {
        ctx.demand_caller(app)?;
    }
    let set = match request.grant {
        Some(Grant::Password(ref grant)) => {
            let (username, password) = (grant.username.clone(), Password::new(grant.password.clone()));
            password_grant(app, ctx, username, password, request).await?
        }
        Some(Grant::RefreshToken(ref grant)) => {
            let token = grant.refresh_token.clone();
            refresh_grant(app, ctx, token, request).await?
        }
        Some(Grant::ClientCredentials(ref grant)) => {
            let (client_id, client_secret) = (grant.client_id.clone(), grant.client_secret.clone());
            client_credentials_grant(app, ctx, client_id, client_secret, request).await?
        }
        Some(Grant::TokenExchange(ref grant)) => {
            let grant = grant.clone();
            exchange_grant(app, ctx, grant, request).await?
        }
        None => return Err(Error::field("grant", "is needed")),
    };
    Ok(v1::IssueTokenResponse { tokens: Some(convert::token_set(set)) })
}

async fn password_grant(app: &App, ctx: &Ctx, username: String, password: Password, request: v1::IssueTokenRequest) -> Result<TokenSet> {
    let device = convert::device(request.client_info)?;
    let client = ctx.client(app);
    let attempt = Attempt {
        identifier: username,
        password,
        tenant_id: request.tenant_id,
        wanted: Wanted::parse(app, &request.scope, request.audience)?,
        origin: ctx.origin(&device, &client.id),
        client,
        device,
        deadline: ctx.deadline(),
    };
    Ok(login::log_in(app, attempt).await?.tokens)
}

async fn refresh_grant(app: &App, ctx: &Ctx, token: String, request: v1::IssueTokenRequest) -> Result<TokenSet> {
    let device = convert::device(request.client_info)?;
    let client = ctx.client(app);
    let request = refresh::Request {
        token,
        tenant_id: request.tenant_id,
        wanted: Wanted::parse(app, &request.scope, request.audience)?,
        origin: ctx.origin(&device, &client.id),
        client,
    };
    refresh::refresh(app, request).await
}

async fn client_credentials_grant(
    app: &App,
    ctx: &Ctx,
    client_id: String,
    client_secret: String,
    request: v1::IssueTokenRequest,
) -> Result<TokenSet> {
    let device = convert::device(request.client_info)?;
    let request = client_credentials::Request {
        origin: ctx.origin(&device, &ctx.client(app).id),
        client_id,
        client_secret,
        tenant_id: request.tenant_id,
        wanted: Wanted::parse(app, &request.scope, request.audience)?,
    };
    client_credentials::issue(app, request).await
}

async fn exchange_grant(app: &App, ctx: &Ctx, grant: v1::TokenExchangeGrant, request: v1::IssueTokenRequest) -> Result<TokenSet> {
    convert::device(request.client_info)?;
    let request = token_exchange::Request {
        subject_token: grant.subject_token,
        subject_token_type: grant.subject_token_type,
        requested_token_type: grant.requested_token_type,
        tenant_id: request.tenant_id,
        wanted: Wanted::parse(app, &request.scope, request.audience)?,
        client: ctx.client(app),
        now: ctx.now(),
    };
    token_exchange::exchange(app, request).await
}

async fn get_me(_: &App, ctx: &Ctx, _: v1::GetMeRequest) -> Result<v1::GetMeResponse> {
    let principal = ctx.principal()?;
    Ok(v1::GetMeResponse {
        principal: Some(convert::principal(principal)),
        session: convert::own_session(principal),
        token: Some(convert::token_facts(principal.token())),
    })
}

pub(super) async fn validate_session(app: &App, ctx: &Ctx, mut request: v1::ValidateSessionRequest) -> Result<Prepared> {
    let given = std::mem::take(&mut request.access_token);
    let token = ctx.token(&given)?;
    let answer = validate::validate(app, token, ctx.accepts(), question(request)?, ctx.now()).await?;
    let own = v1::ValidateSessionResponse {
        tenants: answer.tenants.as_deref().map(|(views, _)| convert::tenants(views)).unwrap_or_default(),
        more_tenants: answer.tenants.is_some_and(|listed| listed.1),
        superuser_access: answer.superuser_access,
        fresh_until: Some(convert::instant(answer.fresh_until)),
        ..v1::ValidateSessionResponse::default()
    };
    let (principal, tenant) = (&answer.principal, answer.tenant.as_deref());
    let kept = principal.shown(|| {
        let same = v1::ValidateSessionResponse {
            principal: Some(convert::principal(principal)),
            session: convert::own_session(principal),
            token: Some(convert::token_facts(principal.token())),
            tenant: tenant.map(convert::entered),
            ..v1::ValidateSessionResponse::default()
        };
        same.encode_to_vec().into()
    });
    Ok(Prepared::new(kept, own))
}

fn question(request: v1::ValidateSessionRequest) -> Result<Question> {
    for (field, count) in [("permissions", request.permissions.len()), ("any_role", request.any_role.len())] {
        if count > MAX_REQUIREMENTS {
            return Err(Error::field(field, format!("must be at most {MAX_REQUIREMENTS}")));
        }
    }
    let permission =
        |(index, text): (usize, &String)| Permission::parse(text).map_err(|e| Error::field(format!("permissions[{index}]"), e.to_string()));
    for (index, role) in request.any_role.iter().enumerate() {
        text::role_name(role).map_err(|e| Error::field(format!("any_role[{index}]"), e.to_string()))?;
    }
    convert::audience(&request.audience)?;
    let freshness = convert::freshness(request.freshness)?;
    Ok(Question {
        tenant: tenant_key(&request.tenant_id)?,
        requirements: Requirements {
            permissions: request.permissions.iter().enumerate().map(permission).collect::<Result<_>>()?,
            any_role: request.any_role,
            superuser: request.superuser,
        },
        audience: (!request.audience.is_empty()).then_some(request.audience),
        include_tenants: request.include_tenants,
        freshness,
    })
}

async fn list_tenants(app: &App, ctx: &Ctx, request: v1::ListTenantsRequest) -> Result<v1::ListTenantsResponse> {
    let (views, next_page_token) = tenants::list(app, ctx.subject()?, request.page_size, &request.page_token).await?;
    Ok(v1::ListTenantsResponse { tenants: convert::tenants(&views), next_page_token })
}

async fn log_out(app: &App, ctx: &Ctx, request: v1::LogoutRequest) -> Result<v1::LogoutResponse> {
    let ending = match request.credential {
        Some(Credential::RefreshToken(token)) if !token.is_empty() => sessions::Ending::RefreshToken(token),
        Some(Credential::AccessToken(token)) => sessions::Ending::AccessToken(ctx.token(&token)?.to_owned()),
        Some(Credential::RefreshToken(_)) | None => sessions::Ending::AccessToken(ctx.token("")?.to_owned()),
    };
    let client = ctx.client(app);
    let origin = ctx.origin(&crate::store::sessions::Device::default(), &client.id);
    sessions::end(app, ending, ctx.accepts(), &client, origin).await?;
    Ok(v1::LogoutResponse {})
}

async fn change_password(app: &App, ctx: &Ctx, request: v1::ChangePasswordRequest) -> Result<v1::ChangePasswordResponse> {
    let subject = ctx.subject()?;
    let device = convert::device(request.client_info)?;
    let change = Change {
        current: Password::new(request.current_password),
        new: Password::new(request.new_password),
        origin: ctx.origin(&device, &subject.facts.session.client_id),
        device,
        deadline: ctx.deadline(),
    };
    let (tokens, session) = password_change::change(app, subject, change).await?;
    let current = session.id;
    Ok(v1::ChangePasswordResponse { tokens: Some(convert::token_set(tokens)), session: Some(convert::session(session, current)) })
}
