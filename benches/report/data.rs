//! The data set: people with three memberships each, and as many sessions as there are tokens, made past the wire: a login hashes.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};
use doorward::{
    app::App,
    config::Config,
    domain::{
        self,
        audit::Actor,
        memberships, roles,
        sessions::{self, Opening},
        tenants,
        tokens::{self, Wanted},
        users,
    },
    store::{
        self,
        sessions::{Device, Session},
        tenants::Tenant,
        users::User,
    },
    values::{
        entropy::Entropy,
        secret::{self, Password},
        time::Clock,
    },
};
use secrecy::ExposeSecret as _;

/// The password of those who have one.
pub const PASSWORD: &str = "correct horse battery staple";
/// People; each has three memberships. Of two hundred, PostgreSQL would rather read all than use an index.
const PEOPLE: usize = 1_000;
/// People who have a password; the sessions are the others': a login ends the oldest of its person where there are too many.
pub const LOGINS: usize = 16;
/// Sessions that a transaction inserts.
const BATCH: usize = 1_000;
/// Sessions besides that are bound to a tenant.
const BOUND: usize = 200;

/// A filled database, and what is known of it.
pub struct Data {
    /// Settings that the server needs to serve it.
    pub environment: Vec<(String, String)>,
    /// The tenant that all are members of.
    pub tenant_id: String,
    access_tokens: Vec<String>,
    refresh_tokens: Vec<String>,
    bound_refresh_tokens: Vec<String>,
    session_ids: Vec<String>,
}

impl Data {
    /// In a file of this folder.
    pub async fn on_sqlite(folder: &Path, tokens: usize) -> Result<Self> {
        let mut config = Config::default();
        config.database.url = format!("sqlite://{}", folder.join("doorward.db").display()).into();
        Box::pin(Self::fill(config, Vec::new(), tokens)).await
    }

    /// On PostgreSQL.
    pub async fn on_postgres(url: String, tokens: usize) -> Result<Self> {
        let mut config = Config::default();
        config.database.url = url.into();
        config.database.migrate_on_start = Some(true);
        let root = secret::generate_root(&Entropy::system());
        config.secrets.root = vec![root.clone().into()];
        Box::pin(Self::fill(config, vec![("DOORWARD__SECRETS__ROOT".to_owned(), root.clone())], tokens)).await
    }

    /// An access token; those behind the last are the first again.
    pub fn access_token(&self, index: usize) -> &str {
        self.access_tokens.get(index % self.access_tokens.len()).map_or("", String::as_str)
    }

    /// How many access tokens there are.
    pub const fn len(&self) -> usize {
        self.access_tokens.len()
    }

    /// The refresh tokens, one a session.
    pub fn refresh_token(&self, index: usize) -> &str {
        self.refresh_tokens.get(index % self.refresh_tokens.len()).map_or("", String::as_str)
    }

    /// The same of sessions that are bound to a tenant.
    pub fn bound_refresh_token(&self, index: usize) -> &str {
        self.bound_refresh_tokens.get(index % self.bound_refresh_tokens.len()).map_or("", String::as_str)
    }

    /// The ids of the sessions.
    pub fn session_id(&self, index: usize) -> &str {
        self.session_ids.get(index % self.session_ids.len()).map_or("", String::as_str)
    }

    /// Where the database is.
    pub fn url(&self) -> Option<&str> {
        self.environment.iter().find(|(name, _)| name == "DOORWARD__DATABASE__URL").map(|(_, url)| url.as_str())
    }

    async fn fill(config: Config, mut environment: Vec<(String, String)>, tokens: usize) -> Result<Self> {
        let start = Instant::now();
        environment.push(("DOORWARD__DATABASE__URL".to_owned(), config.database.url.expose_secret().to_owned()));
        let app = Box::pin(domain::start::open(config, Clock::system(), Entropy::system())).await?;
        let mut homes = Vec::new();
        for slug in ["acme", "beta", "gamma"] {
            homes.push(tenant(&app, slug).await?);
        }
        let mut people = Vec::new();
        for number in 0..PEOPLE {
            let person = person(&app, number).await?;
            for home in &homes {
                memberships::add(&app, home, &person, vec!["seller".to_owned(), "member".to_owned()], actor()).await?;
            }
            if number >= LOGINS {
                people.push(person);
            }
        }
        let mut data = Self {
            environment,
            tenant_id: homes.first().context("a tenant")?.id.to_string(),
            access_tokens: Vec::with_capacity(tokens),
            refresh_tokens: Vec::with_capacity(tokens),
            bound_refresh_tokens: Vec::with_capacity(BOUND),
            session_ids: Vec::with_capacity(tokens),
        };
        while data.access_tokens.len() < tokens {
            data.sessions(&app, &people, BATCH.min(tokens - data.access_tokens.len())).await?;
        }
        data.bound_sessions(&app, &people, homes.first().context("a tenant")?).await?;
        app.store.close().await;
        eprintln!("a data set of {PEOPLE} people and {tokens} sessions was made in {} s", start.elapsed().as_secs());
        Ok(data)
    }

    async fn sessions(&mut self, app: &App, people: &[User], count: usize) -> Result<()> {
        let mut opened = Vec::with_capacity(count);
        for person in people.iter().cycle().take(count) {
            let (session, refresh) = session(app, person, None)?;
            let (access, _) = tokens::mint(app, &session, None, &Wanted::default(), session.created_at).await?;
            self.access_tokens.push(access.expose_secret().to_owned());
            self.refresh_tokens.push(refresh);
            self.session_ids.push(session.id.to_string());
            opened.push(session);
        }
        insert(app, opened).await
    }

    async fn bound_sessions(&mut self, app: &App, people: &[User], home: &Tenant) -> Result<()> {
        let mut opened = Vec::with_capacity(BOUND);
        for person in people.iter().cycle().take(BOUND) {
            let (session, refresh) = session(app, person, Some(home))?;
            self.bound_refresh_tokens.push(refresh);
            opened.push(session);
        }
        insert(app, opened).await
    }
}

/// A new session and its refresh token, good under the epochs that rows are made with.
fn session(app: &App, person: &User, tenant: Option<&Tenant>) -> Result<(Session, String)> {
    let client_id = app.config.tokens.default_client_id.clone();
    let is_bound = tenant.is_some();
    let opening = Opening { user_id: person.id, client_id, is_bound, scope: None, device: Device::default(), must_change: false };
    let (mut session, refresh) = sessions::prepare(app, opening, app.clock.now())?;
    if let Some(tenant) = tenant {
        session.tenant_id = Some(tenant.id);
        (session.epochs.tenant, session.epochs.membership) = (Some(0), Some(0));
    }
    let refresh = refresh.and_then(|token| token.encode(&app.roots)).context("a refresh token")?;
    Ok((session, refresh.expose_secret().to_owned()))
}

async fn insert(app: &App, opened: Vec<Session>) -> Result<()> {
    let unit = |tx, opened| async move {
        for session in opened {
            store::sessions::insert(&tx, session).await?;
        }
        Ok(())
    };
    Ok(app.store.write("fill", opened, unit).await?)
}

fn actor() -> Actor {
    Actor::Cli("bench".to_owned())
}

async fn tenant(app: &App, slug: &str) -> Result<Tenant> {
    let request =
        tenants::NewTenantRequest { slug: slug.to_owned(), name: slug.to_owned(), tax_id: None, external_id: None, seat_limit: None };
    let tenant = tenants::create(app, request, actor()).await?;
    let permissions = (0..12).map(|number| format!("sales:action{number}")).chain(["sales:write".to_owned()]).collect();
    let request = roles::NewRoleRequest { name: "seller".to_owned(), level: 10, permissions, description: String::new() };
    roles::create(app, &tenant, request, actor()).await?;
    Ok(tenant)
}

async fn person(app: &App, number: usize) -> Result<User> {
    let request = users::NewUserRequest {
        email: Some(email(number)),
        username: None,
        full_name: format!("Person {number}"),
        superuser: false,
        password: (number < LOGINS).then(|| (Password::new(PASSWORD.to_owned()), false)),
    };
    Ok(users::create(app, request, actor()).await?)
}

/// The address of a person.
pub fn email(number: usize) -> String {
    format!("person{number}@example.com")
}
