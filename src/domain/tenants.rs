//! Tenants: what their members see of them, and making, suspending and activating them.

use serde_json::json;

use super::{
    access::{Powers, Subject, TenantView, Visible},
    audit::{self, Actor, Event, Origin},
    pages::{self, Page},
    roles,
};
use crate::{
    app::App,
    error::{Error, Result},
    store::{
        Tx, audit_events,
        audit_events::Row,
        memberships::{self, Standing},
        roles::NewRole,
        tenants::{self, NewTenant, Tenant, TenantState},
    },
    values::{
        ids::{MembershipId, TenantId, UserId},
        text,
    },
};

pub mod policy;

/// What page tokens of this list are bound to.
const LIST: &str = "doorward.v1.AuthService/ListTenants";

/// The first tenants of a user, and whether there are more.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn first_page(app: &App, user: UserId, visible: Visible, powers: &Powers, limit: usize) -> Result<(Vec<TenantView>, bool)> {
    let (standings, more) = page(app, user, visible, None, limit).await?;
    Ok((standings.into_iter().map(|standing| TenantView::listed(standing, powers)).collect(), more.is_some()))
}

/// A page of the subject's tenants and the token of the next one (empty at the end).
///
/// # Errors
/// [`Error::InvalidField`] for a page size below 0 and for a page token that is not of this list and subject.
pub async fn list(app: &App, subject: &Subject, page_size: i32, page_token: &str) -> Result<(Vec<TenantView>, String)> {
    let visible = subject.visible();
    let only = if let Visible::Only(tenant) = visible { tenant.as_bytes().to_vec() } else { Vec::new() };
    let asked = Page::read(app, LIST, pages::person(subject, only), page_size, page_token)?;
    let after = asked.after().map(MembershipId::from_uuid);
    let (standings, more) = page(app, subject.facts.user.id, visible, after, asked.limit()).await?;
    let next = more.map(|last| asked.next(app, last.as_uuid())).unwrap_or_default();
    Ok((standings.into_iter().map(|standing| TenantView::listed(standing, subject.powers())).collect(), next))
}

/// At most `limit` standings and, where there are more, the last membership of this page.
async fn page(
    app: &App,
    user: UserId,
    visible: Visible,
    after: Option<MembershipId>,
    limit: usize,
) -> Result<(Vec<Standing>, Option<MembershipId>)> {
    let only = match visible {
        Visible::All => None,
        Visible::Only(tenant) => Some(tenant),
        Visible::Nothing => return Ok((Vec::new(), None)),
    };
    let unit = move |db, ()| async move { memberships::list_standings(&db, user, only, after, pages::ask(limit)).await };
    let mut standings = app.store.read("list_tenants", (), unit).await?;
    let more = pages::cut(&mut standings, limit, |last| last.membership.as_ref().map(|membership| membership.id));
    Ok((standings, more))
}

/// What an operator makes a tenant of.
#[derive(Debug)]
pub struct NewTenantRequest {
    /// Short name.
    pub slug: String,
    /// The name to show.
    pub name: String,
    /// Tax number.
    pub tax_id: Option<String>,
    /// The id in another system.
    pub external_id: Option<String>,
    /// The most members; none for no limit.
    pub seat_limit: Option<i32>,
}

/// Makes a tenant with its system roles.
///
/// # Errors
/// [`Error::InvalidField`], [`Error::Taken`].
pub async fn create(app: &App, request: NewTenantRequest, actor: Actor) -> Result<Tenant> {
    let input = prepare(app, request, actor)?;
    app.store.write("create_tenant", input, |tx, input| async move { insert(&tx, input).await }).await
}

/// A tenant that is ready to be stored, with its system roles and its event.
pub(super) type Creating = (NewTenant, Vec<NewRole>, Row);

/// Checks everything that needs no transaction.
pub(super) fn prepare(app: &App, request: NewTenantRequest, actor: Actor) -> Result<Creating> {
    let check = |field: &str, outcome: Result<(), text::TextError>| outcome.map_err(|e| Error::field(field, e.to_string()));
    check("slug", text::slug(&request.slug))?;
    check("name", text::required_text(&request.name, 255))?;
    for (field, value) in [("tax_id", &request.tax_id), ("external_id", &request.external_id)] {
        if let Some(value) = value {
            check(field, text::required_text(value, 255))?;
        }
    }
    if request.seat_limit.is_some_and(|limit| limit < 0) {
        return Err(Error::field("seat_limit", "must not be negative"));
    }
    let id = TenantId::generate(&app.entropy, &app.clock);
    let origin = Origin::local(app);
    let now = origin.time;
    let about = audit::About {
        object_id: Some(id.to_string()),
        tenant_id: Some(id),
        details: Some(json!({ "slug": request.slug })),
        ..audit::About::default()
    };
    let event = audit::success(app, Event::TenantCreated, actor, &origin, about);
    let NewTenantRequest { slug, name, tax_id, external_id, seat_limit } = request;
    let new = NewTenant { id, slug, name, tax_id, external_id, seat_limit, now };
    Ok((new, roles::system_roles(app, id, now)?, event))
}

/// Stores a prepared tenant.
pub(super) async fn insert(tx: &Tx, (new, roles, event): Creating) -> Result<Tenant> {
    let tenant = tenants::insert(tx, new).await?;
    for role in roles {
        crate::store::roles::insert(tx, role).await?;
    }
    audit_events::insert(tx, event).await?;
    Ok(tenant)
}

/// Suspends a tenant (nobody may act in it) or activates it again. Doing it twice is no error.
///
/// # Errors
/// [`Error::NotFound`] for a deleted one.
pub async fn set_suspended(app: &App, tenant: &Tenant, suspended: bool, actor: Actor) -> Result<()> {
    if tenant.state == TenantState::Deleted {
        return Err(Error::NotFound("tenant"));
    }
    let (event, from, to) = if suspended {
        (Event::TenantSuspended, TenantState::Active, TenantState::Suspended)
    } else {
        (Event::TenantActivated, TenantState::Suspended, TenantState::Active)
    };
    let about = audit::About { object_id: Some(tenant.id.to_string()), tenant_id: Some(tenant.id), ..audit::About::default() };
    let event = audit::success(app, event, actor, &Origin::local(app), about);
    let unit = |tx, (id, from, to, event)| async move {
        if tenants::set_state(&tx, id, from, to).await? {
            audit_events::insert(&tx, event).await?;
        }
        Ok(())
    };
    app.store.write("set_tenant_state", (tenant.id, from, to, event), unit).await
}

/// The tenant that an operator names by id or slug.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn resolve(app: &App, name: &str) -> Result<Tenant> {
    let key: Option<TenantId> = name.parse().ok();
    let slug = name.to_owned();
    let unit = move |db, ()| async move {
        match key {
            Some(id) => tenants::find(&db, &tenants::TenantKey::Id(id)).await,
            None => tenants::find_by_slug(&db, &slug).await,
        }
    };
    app.store.read("resolve_tenant", (), unit).await?.ok_or(Error::NotFound("tenant"))
}

/// Every tenant, in the order of their ids.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list_all(app: &App) -> Result<Vec<Tenant>> {
    super::collect(
        |after: Option<TenantId>| {
            app.store.read("list_all_tenants", after, |db, after| async move { tenants::list(&db, after, super::BATCH).await })
        },
        |tenant| tenant.id,
    )
    .await
}
