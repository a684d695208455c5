//! `doorward key …`.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    confirm::Confirm,
    desk::{Desk, running_servers},
    failure::Failure,
    output::{self, Format, View},
};
use crate::{
    domain::keys::{self, KeyOperator, Outlook},
    error::Error,
    store::signing_keys::{KeyState, SigningKey},
    values::algorithm::SigningAlgorithm,
};

/// What to do about signing keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys that access tokens are signed with, oldest first
    ///
    /// UNTIL is when a key was retired or revoked and signed no more, GONE when no token of it is good any
    /// more and it is taken away. A pending key is published and signs from SIGNS FROM on; an active one
    /// signs; a retired one verifies what it signed; what a revoked one signed is refused.
    #[command(verbatim_doc_comment, after_help = "Example:\n  doorward key list")]
    List,
    /// Make the next key: it is published now, and signs by itself 15 minutes later
    #[command(after_help = "Examples:\n  doorward key rotate\n  doorward key rotate --at-once --yes")]
    Rotate(Rotate),
    /// Let a key sign no more: the next one takes over, and tokens that it signed stay good until they expire
    #[command(after_help = "Example:\n  doorward key retire 8Xr2GrKIjYPAxqJKNzMWFMlXJ5ykF2OZYwpFLn9Rk0k --yes")]
    Retire(Named),
    /// Declare a key compromised: tokens that it signed are refused
    ///
    /// Every running server refuses them within `freshness.max_staleness`, one second by default.
    /// Sessions live on, and get new tokens by refreshing; the next key signs at once. Backends that
    /// verify tokens offline accept those of the key, and may refuse those of the next one, until they
    /// read the key set again.
    #[command(verbatim_doc_comment, after_help = "Example:\n  doorward key revoke 8Xr2GrKIjYPAxqJKNzMWFMlXJ5ykF2OZYwpFLn9Rk0k --yes")]
    Revoke(Named),
    /// Seal every private key under the first of `secrets.root`, when that is a new one
    ///
    /// Every server must have been started with the new root in its list before. One that was not
    /// goes on with the keys that it opened, and can open no other.
    #[command(verbatim_doc_comment, after_help = "Example:\n  doorward key reseal --yes")]
    Reseal(Confirm),
}

/// The next key.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Let it sign now: backends that verify offline have to read the key set again
    #[arg(long)]
    at_once: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// A key to be changed.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name, as `list` says it
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    kid: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does it.
///
/// # Errors
/// What `domain::keys` refuses.
pub async fn run(desk: &Desk, command: KeyCommand) -> Result<(), Failure> {
    let app = &desk.app;
    let outlook = Outlook::new(&app.config.tokens);
    let shown = |key: &SigningKey| KeyView::new(key, &outlook);
    let by = || KeyOperator::at_the_command(app, desk.actor());
    match command {
        KeyCommand::List => {
            output::list(desk.format, &keys::list(app).await?.iter().map(shown).collect::<Vec<_>>())?;
            let shared = app.config.tokens.algorithm;
            if outlook.algorithm().is_none() && desk.format == Format::Text {
                output::print(&format!(
                    "Tokens are signed with tokens.hmac_secret, as tokens.algorithm ({}) says here: these keys only verify.\n",
                    shared.as_str()
                ))?;
            }
            Ok(())
        }
        KeyCommand::Rotate(Rotate { at_once, confirm }) => {
            let all = keys::list(app).await?;
            let active = all.iter().rev().find(|key| key.state == KeyState::Active).map(|key| key.algorithm.as_str());
            let ours = outlook.algorithm().map(SigningAlgorithm::as_str);
            if let (Some(active), Some(ours)) = (active, ours)
                && active != ours
            {
                confirm.ask(&format!(
                    "makes a key for {ours}, as tokens.algorithm says here, while tokens are signed with {active}: verifiers must accept both"
                ))?;
            }
            if at_once {
                confirm.ask("lets a new key sign now: backends that verify offline refuse its tokens until they read the key set again")?;
            }
            let view = shown(&keys::rotate(app, by(), at_once).await?);
            let when = if at_once { "signs now".to_owned() } else { format!("signs from {} on", view.activate_time()) };
            output::one(desk.format, &view, &format!("The {} key {} is published, and {when}.", view.algorithm, view.kid))
        }
        KeyCommand::Retire(Named { kid, confirm }) => {
            // Before anything is asked.
            keys::get(app, &kid).await.map_err(|error| unknown(error, &kid))?;
            confirm.ask(&format!("lets the key {} sign no more", output::quoted(&kid)))?;
            let retired = keys::retire(app, by(), &kid).await.map_err(|error| unknown(error, &kid))?;
            let Some(key) = retired else {
                let text = format!("The key {kid} is gone: it had signed nothing.");
                return output::one(desk.format, &serde_json::json!({ "kid": kid, "state": "removed" }), &text);
            };
            let view = shown(&key);
            let until = view.remove_time.clone().unwrap_or_default();
            output::one(desk.format, &view, &format!("The key {kid} signs no more; it verifies what it signed until {until}."))
        }
        KeyCommand::Revoke(Named { kid, confirm }) => {
            keys::get(app, &kid).await.map_err(|error| unknown(error, &kid))?;
            let what = "refuses every token that the key signed, for good, and lets the next key sign, which backends that verify offline \
                        may have to read first";
            confirm.ask(&format!("{what}: {}", output::quoted(&kid)))?;
            let key = keys::revoke(app, by(), &kid).await.map_err(|error| unknown(error, &kid))?;
            let text = format!("The key {kid} is revoked: what it signed is refused, {}.", running_servers(&app.config));
            output::one(desk.format, &shown(&key), &text)
        }
        KeyCommand::Reseal(confirm) => {
            confirm.ask(
                "seals every private key so that only who has the first of secrets.root here can open it: servers, and copies of old",
            )?;
            let keys::Resealed { changed, unchanged } = keys::reseal(app, by()).await?;
            let answer = serde_json::json!({ "changed": changed, "unchanged": unchanged });
            let text = format!("Sealed anew: {changed}. Sealed under the first of secrets.root already: {unchanged}.");
            output::one(desk.format, &answer, &text)
        }
    }
}

fn unknown(error: Error, kid: &str) -> Failure {
    Failure::from(error).naming("KID", kid)
}

/// A signing key.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of doorward.v1.SigningKey")]
pub struct KeyView {
    pub kid: String,
    pub algorithm: String,
    pub state: &'static str,
    pub create_time: String,
    pub activate_time: Option<String>,
    pub retire_time: Option<String>,
    pub revoke_time: Option<String>,
    pub remove_time: Option<String>,
}

impl KeyView {
    fn new(key: &SigningKey, outlook: &Outlook) -> Self {
        Self {
            kid: key.kid.clone(),
            algorithm: key.algorithm.clone(),
            state: key.state.as_str(),
            create_time: key.created_at.to_string(),
            activate_time: outlook.activates_at(key).map(|time| time.to_string()),
            retire_time: key.retired_at.map(|time| time.to_string()),
            revoke_time: key.revoked_at.map(|time| time.to_string()),
            remove_time: outlook.removes_at(key).map(|time| time.to_string()),
        }
    }

    fn activate_time(&self) -> &str {
        self.activate_time.as_deref().unwrap_or_default()
    }
}

impl View for KeyView {
    const PLURAL: &'static str = "signing_keys";
    const COLUMNS: &'static [&'static str] = &["KID", "ALGORITHM", "STATE", "SIGNS FROM", "UNTIL", "GONE"];

    fn row(&self) -> Vec<String> {
        let time = |time: &Option<String>| time.clone().unwrap_or_default();
        let until = time(if self.retire_time.is_some() { &self.retire_time } else { &self.revoke_time });
        vec![self.kid.clone(), self.algorithm.clone(), self.state.to_owned(), time(&self.activate_time), until, time(&self.remove_time)]
    }
}
