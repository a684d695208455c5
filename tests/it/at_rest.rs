//! Whoever reads the whole database, but not the root secret, can neither log in nor sign (invariant 11).

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use doorward::{
    domain,
    pb::v1,
    values::{
        entropy::Entropy,
        opaque::{ClientSecret, RefreshToken},
        secret::{self, RootSecrets, hex},
    },
};
use secrecy::ExposeSecret;

use crate::{harness::*, on_both, probe::*, workloads::*};

/// Everything that can be read: each row of each table in lower case (bytes in hexadecimal), and on SQLite the files as they are, too.
struct Thief {
    rows: String,
    files: Vec<u8>,
}

impl Thief {
    async fn read(world: &World) -> Self {
        let sql = world.sql().await;
        let mut text = String::new();
        for table in tables(&sql).await {
            for row in rows(&sql, &table).await {
                text.extend([table.as_str(), ": ", row.as_str(), "\n"]);
            }
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(world.folder()).unwrap() {
            let path = entry.unwrap().path();
            // The key file is the root secret.
            if path.extension().is_none_or(|extension| extension != "key") {
                files.extend(std::fs::read(path).unwrap());
            }
        }
        Self { rows: text, files }
    }

    /// Whether these bytes occur: plain, in hexadecimal of either case, in base64 of either alphabet.
    fn knows(&self, bytes: &[u8]) -> bool {
        let hexed = hex(bytes);
        let mut forms = vec![bytes.to_vec(), hexed.clone().into_bytes(), hexed.to_uppercase().into_bytes()];
        forms.extend([STANDARD_NO_PAD.encode(bytes).into_bytes(), URL_SAFE_NO_PAD.encode(bytes).into_bytes()]);
        let lower = self.rows.to_lowercase();
        lower.contains(&hexed)
            || forms.iter().any(|form| contains(self.rows.as_bytes(), form) || contains(&self.files, form))
            // Text that holds the hexadecimal of a text.
            || forms.iter().skip(1).any(|form| lower.contains(&hex(form)))
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The root secrets of the world, as bytes.
fn roots(world: &World) -> Vec<Vec<u8>> {
    let key_file = std::fs::read_to_string(world.folder().join("doorward.db.key")).unwrap_or_default();
    let configured = world.config.secrets.root.iter().map(|root| root.expose_secret().to_owned());
    let texts = key_file.split_whitespace().map(str::to_owned).chain(configured);
    let found: Vec<_> = texts.map(|text| URL_SAFE_NO_PAD.decode(text).unwrap()).collect();
    assert_eq!(found.len(), 1);
    found
}

/// Logins of every kind, refreshes, a change of password, a failed login: whatever leaves rows behind. Answers every set of tokens.
async fn a_busy_day(world: &World) -> Vec<v1::TokenSet> {
    let ann = world.person("ann@example.com").await;
    world.new_person(Person { email: Some("new@example.com"), must_change: true, ..Person::default() }).await;
    let acme = world.tenant("acme").await;
    world.member(&acme, &ann, &["member"]).await;
    let mut sets = vec![world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await];
    for _ in 0..2 {
        sets.push(world.refresh(&sets.last().unwrap().refresh_token).await.unwrap());
    }
    sets.push(grant(world, "ann@example.com", Ask { scope: "sales:read", ..Ask::default() }).await.unwrap());
    sets.push(world.login("new@example.com").await);
    assert_eq!(refused(world.try_login("ann@example.com", WRONG, "").await), "INVALID_CREDENTIALS");
    assert_eq!(refused(world.try_login(WRONG, WRONG, "").await), "INVALID_CREDENTIALS");
    // Reuse and logout leave events.
    assert_eq!(refused(world.refresh(&sets[1].refresh_token).await), "REFRESH_TOKEN_REUSED");
    let last = world.login("ann@example.com").await;
    world.logout(&last.access_token).await.unwrap();
    sets.push(last);
    sets
}

on_both! {
    async fn the_database_holds_no_secret(world: World) {
        let sets = a_busy_day(&world).await;
        let workload = instance_account(&world, &BOTH).await;
        let bought = token(&world, &workload).await;
        let app = world.app();
        let thief = Thief::read(&world).await;

        // That the search finds what is there.
        let current = RefreshToken::parse(&sets[0].refresh_token, &app.roots).unwrap();
        assert!(thief.knows(&current.digest()), "the digest of a refresh secret is there");
        assert!(thief.knows(app.keys.latest().signer().unwrap().kid.as_bytes()) && thief.knows(b"$argon2id$") && thief.knows(b"ann@example.com"));
        let sealed = thief.rows.lines().filter(|line| line.starts_with("signing_keys: ")).count();
        assert_eq!(sealed, 1);

        for set in &sets {
            assert!(!thief.knows(set.access_token.as_bytes()), "an access token");
            for part in set.access_token.split('.').skip(1) {
                assert!(!thief.knows(part.as_bytes()), "a part of an access token");
            }
            if set.refresh_token.is_empty() {
                continue;
            }
            let token = RefreshToken::parse(&set.refresh_token, &app.roots).unwrap();
            let next = token.successor(&app.roots).unwrap();
            assert!(!thief.knows(&set.refresh_token.as_bytes()[6..]), "a refresh token");
            assert!(!thief.knows(token.secret.as_slice()) && !thief.knows(next.secret.as_slice()), "a refresh secret");
        }
        let parsed = ClientSecret::parse(&workload.secret, &app.roots).unwrap();
        assert!(thief.knows(&parsed.digest()), "the digest of a client secret is there");
        assert!(!thief.knows(&workload.secret.as_bytes()[6..]) && !thief.knows(parsed.secret.as_slice()), "a client secret");
        for part in bought.split('.').skip(1) {
            assert!(!thief.knows(part.as_bytes()), "a part of a workload's token");
        }
        let private = private_key(app).await;
        let scalar = private.windows(2).position(|pair| pair == [0x04, 0x20]).map(|at| &private[at + 2..at + 34]).unwrap();
        assert!(!thief.knows(&private) && !thief.knows(scalar), "the private key");
        for root in roots(&world) {
            assert!(!thief.knows(&root), "the root secret");
            assert!(!thief.knows(&root[..16]) && !thief.knows(&root[16..]), "half of the root secret");
        }
        for password in [PASSWORD, WRONG] {
            assert!(!thief.knows(password.as_bytes()), "a password, also one that was typed as an identifier");
        }
    }

    async fn what_is_there_opens_nothing(world: World) {
        let ann = world.person("ann@example.com").await;
        let set = world.login("ann@example.com").await;
        let token = RefreshToken::parse(&set.refresh_token, &world.app().roots).unwrap();
        let sql = world.sql().await;

        // A refresh token put together of what the row says; the tag is anything that can be computed without the root.
        let digest = token.digest();
        let body = [&token.key_id[..], &token.session.as_bytes(), &0_u32.to_be_bytes(), &digest].concat();
        let tags = [[0; 16].to_vec(), digest[..16].to_vec(), secret::sha256(&body)[..16].to_vec()];
        let mut stolen: Vec<_> = tags.iter().map(|tag| format!("dw_rt_{}", URL_SAFE_NO_PAD.encode([&body[..], tag].concat()))).collect();
        stolen.extend([hex(&digest), URL_SAFE_NO_PAD.encode(digest), format!("dw_rt_{}", hex(&digest)), token.session.to_string()]);
        // Even with a good tag the digest is not the secret.
        let tagged = RefreshToken { secret: digest.into(), ..token.clone() };
        stolen.push(tagged.encode(&world.app().roots).unwrap().expose_secret().to_owned());
        for text in &stolen {
            assert_eq!(refused(world.refresh(text).await), "TOKEN_INVALID");
            assert_eq!(refused(world.validate(text).await), "TOKEN_INVALID");
        }

        // A tag under a root of the thief's own, whatever key id it names.
        let own = RootSecrets::parse(&[secret::generate_root(&Entropy::system())]).unwrap();
        let under_own = RefreshToken { key_id: own.first().key_id(), ..token.clone() }.encode(&own).unwrap();
        assert_eq!(refused(world.refresh(under_own.expose_secret()).await), "TOKEN_INVALID");
        let mut renamed = URL_SAFE_NO_PAD.decode(&under_own.expose_secret()[6..]).unwrap();
        renamed[..4].copy_from_slice(&token.key_id);
        assert_eq!(refused(world.refresh(&format!("dw_rt_{}", URL_SAFE_NO_PAD.encode(renamed))).await), "TOKEN_INVALID");

        // The stored hash is no password, and the sealed key is no key.
        let hashes = strings(&sql, "SELECT hash AS line FROM password_credentials").await;
        for text in hashes.iter().flat_map(|hash| [hash.as_str(), hash.rsplit('$').next().unwrap()]) {
            assert_eq!(refused(world.try_login("ann@example.com", text, "").await), "INVALID_CREDENTIALS");
        }
        let row = sql.query("SELECT sealed_private_key AS n FROM signing_keys").await;
        let sealed: Vec<u8> = row[0].try_get("", "n").unwrap();
        for at in 0..sealed.len() {
            let key = jsonwebtoken::EncodingKey::from_ec_der(&sealed[at..]);
            assert!(jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).is_err());
        }
        assert!(own.unseal(&sealed, ann.id.as_uuid().as_bytes()).is_err());
        world.refresh(&set.refresh_token).await.unwrap();
    }

    async fn what_is_there_of_a_client_secret_buys_nothing(world: World) {
        let account = instance_account(&world, &BOTH).await;
        let honest = ClientSecret::parse(&account.secret, &world.app().roots).unwrap();
        let digest = honest.digest();
        let text = |key_id: [u8; 4], secret: &[u8], tag: &[u8]| {
            format!("dw_cs_{}", URL_SAFE_NO_PAD.encode([&key_id[..], &honest.id.as_bytes(), secret, tag].concat()))
        };
        let tags = [[0; 16].to_vec(), digest[..16].to_vec(), secret::sha256(&digest)[..16].to_vec()];
        let mut stolen: Vec<_> = tags.iter().map(|tag| text(honest.key_id, &digest, tag)).collect();
        stolen.extend([hex(&digest), URL_SAFE_NO_PAD.encode(digest), format!("dw_cs_{}", hex(&digest)), account.secret_id.clone()]);
        // Even with a good tag the digest is not the secret; and a tag under a root of the thief's own is none.
        let tagged = ClientSecret { secret: digest.into(), ..honest.clone() };
        stolen.push(tagged.encode(&world.app().roots).unwrap().expose_secret().to_owned());
        let own = RootSecrets::parse(&[secret::generate_root(&Entropy::system())]).unwrap();
        let under_own = ClientSecret { key_id: own.first().key_id(), ..honest.clone() }.encode(&own).unwrap();
        stolen.push(under_own.expose_secret().to_owned());
        let mut renamed = URL_SAFE_NO_PAD.decode(&under_own.expose_secret()[6..]).unwrap();
        renamed[..4].copy_from_slice(&honest.key_id);
        stolen.push(format!("dw_cs_{}", URL_SAFE_NO_PAD.encode(renamed)));
        for text in &stolen {
            assert_eq!(refused(credentials(&world, &account.id, text, Ask::default()).await), "INVALID_CREDENTIALS", "{text}");
        }
        token(&world, &account).await;
    }

    async fn a_stolen_database_does_not_start_under_another_root(world: World) {
        world.person("ann@example.com").await;
        let mut config = world.config.clone();
        config.secrets.root = vec![secret::generate_root(&Entropy::system()).into()];
        let refusal = domain::start::open(config, world.clock.clone(), Entropy::system()).await.map(drop).unwrap_err();
        assert!(refusal.to_string().contains("another root secret"), "{refusal}");
    }
}
