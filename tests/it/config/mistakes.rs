//! Mistakes: all are named at once, each with its key, its origin and what was probably meant, and no value.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

use doorward::config::{Config, Problem};

use super::{ROOT, assert_one_problem, from_env, from_toml, keys_of, toml};

fn problems_of(file: Option<&Path>, environment: &[(&str, &str)]) -> Vec<Problem> {
    let environment = environment.iter().map(|(name, value)| (format!("DOORWARD__{name}"), (*value).to_owned()));
    Config::load_to_serve(file, environment, |_| true).unwrap_err().0
}

#[test]
fn ten_mistakes_are_named_at_once_with_key_and_origin() {
    let (folder, path) = toml(concat!(
        "colour = 1\n",
        "[server]\ngrpc_addr = \"localhost:50051\"\nmax_connections = 0\ntls = true\nmax_deadline = \"5s\"\n",
        "[tokens]\naccess_lifetime = 900\naudience = []\n",
        "[lgo]\nlevel = \"info\"\n",
        "[bootstrap]\nemail = \"nobody\"\nusername = \"an@admin\"\n",
    ));
    let in_folder = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let (url, password) = (in_folder("url", "mysql://root@db/x\n"), in_folder("password", "short\n"));
    let environment = [
        ("LOG__LEVEL", "inof"),
        ("CALLERS__MODE", ""),
        ("PASSWORDS__MEMORY_KIB", "lots"),
        ("SECRETS__ROOT_FILE", "/nowhere/at/all"),
        ("DATABASE__URL_FILE", &url),
        ("BOOTSTRAP__PASSWORD_FILE", &password),
        ("HEALTH__READYNESS", "true"),
        ("FRESHNESS__MAX_STALENESS", "\u{fffd}1s"),
    ];
    let problems = problems_of(Some(&path), &environment);

    let found: BTreeSet<(&str, &str)> = problems.iter().map(|p| (p.key.as_str(), p.origin.as_str())).collect();
    let file = path.to_str().unwrap();
    let expected = BTreeSet::from([
        ("colour", file),
        ("server.grpc_addr", file),
        ("server.max_connections", file),
        ("server.tls", file),
        ("server.max_deadline", file),
        ("tokens.access_lifetime", file),
        ("tokens.audience", file),
        ("lgo.level", file),
        ("bootstrap.email", file),
        ("bootstrap.username", file),
        ("log.level", "DOORWARD__LOG__LEVEL"),
        ("callers.mode", "DOORWARD__CALLERS__MODE"),
        ("passwords.memory_kib", "DOORWARD__PASSWORDS__MEMORY_KIB"),
        ("secrets.root_file", "DOORWARD__SECRETS__ROOT_FILE"),
        ("database.url_file", "DOORWARD__DATABASE__URL_FILE"),
        ("bootstrap.password_file", "DOORWARD__BOOTSTRAP__PASSWORD_FILE"),
        ("health.readyness", "DOORWARD__HEALTH__READYNESS"),
        ("freshness.max_staleness", "DOORWARD__FRESHNESS__MAX_STALENESS"),
    ]);
    assert_eq!(found, expected);
    assert_eq!(problems.len(), expected.len(), "each once: {problems:?}");

    let text = doorward::config::Problems(problems).to_string();
    assert_eq!(text.lines().count(), expected.len(), "one line a problem:\n{text}");
    assert!(text.contains("server.max_connections: must be from 1 to 1000000 ("), "{text}");
}

#[test]
fn unknown_names_are_answered_with_what_was_meant() {
    for (text, meant) in [
        ("[server]\ngrpc_adr = \"127.0.0.1:1\"", "`server.grpc_addr`"),
        ("[server]\ngrpcAddr = \"127.0.0.1:1\"", "`server.grpc_addr`"),
        ("[server]\nmax-connections = 5", "`server.max_connections`"),
        ("[sever]\ngrpc_addr = \"127.0.0.1:1\"", "`server.grpc_addr`"),
        ("[lgo]\nlevel = \"info\"", "`log.level`"),
        ("[token]\nacces_lifetime = \"5m\"", "`tokens.access_lifetime`"),
        ("[server]\nmax_staleness = \"1s\"", "`freshness.max_staleness`"),
        ("grpc_addr = \"127.0.0.1:1\"", "`server.grpc_addr`"),
        ("[databse]", "`database`"),
        ("[tokens]\nrefresh_graze = \"1s\"", "`tokens.refresh_grace`"),
        ("[secrets]\nroots = []", "`secrets.root`"),
    ] {
        let problems = from_toml(text).unwrap_err();
        assert!(problems.0.len() == 1 && problems.0[0].message.contains(&format!("did you mean {meant}")), "{text}: {problems}");
    }
    for (name, meant) in [
        ("SERVER__GRPC_ADR", "`DOORWARD__SERVER__GRPC_ADDR`"),
        ("LOGS__LEVEL", "`DOORWARD__LOG__LEVEL`"),
        ("log__level", "`DOORWARD__LOG__LEVEL`"),
        ("SECRETS__ROOT__FILE", "`DOORWARD__SECRETS__ROOT_FILE`"),
    ] {
        let problems = from_env(&[(name, "x")]).unwrap_err();
        assert!(problems.to_string().contains(&format!("did you mean {meant}?")), "{name}: {problems}");
    }
    // What is like nothing is answered with all there is.
    for (name, list) in
        [("LOG__TLS", "there are format, level"), ("TLS__CERT", "there are server, database, secrets"), ("LOG", "format, level")]
    {
        let problems = from_env(&[(name, "x")]).unwrap_err();
        assert!(problems.to_string().contains(list) && !problems.to_string().contains("did you mean"), "{problems}");
    }
}

#[test]
fn a_first_superuser_needs_a_name_and_a_password() {
    assert_one_problem(&[("BOOTSTRAP__EMAIL", "a@example.com")], "bootstrap.email", "needs bootstrap.password_file");
    assert_one_problem(&[("BOOTSTRAP__USERNAME", "admin")], "bootstrap.username", "needs bootstrap.password_file");
    assert_one_problem(&[("BOOTSTRAP__PASSWORD_FILE", "/x")], "bootstrap.password_file", "needs bootstrap.email");
    let named = |email: &str, username: &str| {
        keys_of(from_env(&[("BOOTSTRAP__EMAIL", email), ("BOOTSTRAP__USERNAME", username), ("BOOTSTRAP__PASSWORD_FILE", "/nowhere")]))
    };
    assert_eq!(named("a@b@c", "admin"), ["bootstrap.email"]);
    assert_eq!(named("a@example.com", "ad\u{200b}min"), ["bootstrap.username"]);
    assert_eq!(named("example.com", "a@b"), ["bootstrap.email", "bootstrap.username"]);
}

#[test]
fn the_first_superusers_password_is_judged_before_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first");
    let load = |more: &[(&str, &str)]| {
        let settings = [("BOOTSTRAP__USERNAME", "admin"), ("BOOTSTRAP__PASSWORD_FILE", path.to_str().unwrap())];
        let variables = [&settings[..], more].concat();
        let environment = variables.iter().map(|(name, value)| (format!("DOORWARD__{name}"), (*value).to_owned()));
        Config::load_to_serve(None, environment, |_| true)
    };
    let refused = |word: &str| {
        let problems = load(&[]).unwrap_err().0;
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "bootstrap.password_file"), "{problems:?}");
        assert!(problems[0].message.contains(word), "{problems:?}");
    };

    refused("cannot be read");
    from_env(&[("BOOTSTRAP__USERNAME", "admin"), ("BOOTSTRAP__PASSWORD_FILE", path.to_str().unwrap())])
        .expect("whoever made the superuser may delete the file");
    fs::create_dir(&path).unwrap();
    refused("a folder");
    fs::remove_dir(&path).unwrap();
    let long = [b'a'; 1025];
    for (content, word) in
        [(&b"short-canary\n"[..], "at least 15 characters"), (b"", "no password"), (b"\xff", "not UTF-8"), (&long, "at most 1024")]
    {
        fs::write(&path, content).unwrap();
        refused(word);
        assert!(!load(&[]).unwrap_err().to_string().contains("canary"));
    }
    fs::write(&path, "x".repeat(70_000)).unwrap();
    refused("too large");
    fs::write(&path, "fourteen chars\n").unwrap();
    load(&[("PASSWORDS__MIN_LENGTH", "14")]).expect("as long as it is configured to be");
    assert_eq!(keys_of(load(&[("PASSWORDS__MIN_LENGTH", "no")])), ["passwords.min_length"], "a default in its place proves nothing");
    fs::write(&path, "fifteen letters\n").unwrap();
    load(&[]).unwrap();
    // Whoever may read everything cannot be refused.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_err() {
        refused("cannot be read");
    }
}

#[test]
fn databases_that_cannot_be_used_are_refused_before_anything_is_opened() {
    for (url, word) in [
        ("sqlite::memory:", "in memory"),
        ("sqlite://x.db?mode=memory", "in memory"),
        ("sqlite://x.db?mode=ro", "behind its ?"),
        ("sqlite://x.db?cash=shared", "behind its ?"),
        ("sqlite://?mode=rwc", "name a file"),
        ("postgres://u:p@db/x?sslmod=require", "behind its ?"),
        ("postgres://u:p@db/x?SSLMODE=require", "behind its ?"),
        ("postgres://u:p/canary@db/x", "%2F"),
        ("postgres://u:p#canary@db/x", "%23"),
        ("postgres://u:12#canary@db/x", "%23"),
        ("postgres://u:p@db/x#canary", "%23"),
        ("postgres://u:12/canary@db/x", "%40"),
        ("postgres://u:p?canary@db/x", "URL"),
        ("postgres://u:12?canary@db/x", "behind its ?"),
        ("postgres://u:p@canary@db/x", "%40"),
        ("postgres://u:p:canary@db/x", "%3A"),
        ("postgres://u:p canary@db/x", "URL"),
        ("postgres://db:70000/x", "URL"),
        ("postgres://db/x?sslmode=verify-ful", "verify-full"),
        ("postgres://db/x?sslmode=", "verify-full"),
        ("postgres://db/x?sslmode", "verify-full"),
        ("postgres://db/x?sslmode=require&ssl-mode=canary", "verify-full"),
        ("postgres://db/x?hostaddr=db.canary", "hostaddr"),
        ("postgres://db/x?port=canary", "port"),
        ("postgres://db/x?statement-cache-capacity=canary", "statement-cache-capacity"),
    ] {
        assert_one_problem(&[("DATABASE__URL", url)], "database.url", word);
        assert!(!from_env(&[("DATABASE__URL", url)]).unwrap_err().to_string().contains("canary"));
    }
    for url in [
        "sqlite://x.db?mode=rwc&cache=private",
        "postgres:///x?host=/run/postgresql&user=doorward",
        "postgres://u:p%40%2F@[::1]:5432/x?sslmode=verify-full&options[search_path]=a",
        "postgres://%2Frun%2Fpostgresql/x",
        "postgres://db/x?sslmode=Verify%2dCA&hostaddr=%3A%3A1&port=5433&statement-cache-capacity=0",
    ] {
        from_env(&[("DATABASE__URL", url)]).expect(url);
    }
}

#[test]
fn a_file_that_is_no_toml_is_named_with_line_column_and_reason() {
    let (_folder, path) = toml("[database]\nurl = \"sqlite://a.db\"\n[log]\nlevel = canary\n");
    let problems = problems_of(Some(&path), &[]);
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].key.as_str(), problems[0].origin.as_str()), ("configuration file", path.to_str().unwrap()));
    let message = &problems[0].message;
    assert!(message.starts_with("is not valid TOML at line 4, column 9: string values must be quoted"), "{message}");
    for text in [
        "[log]\nlevel = canary\n",
        "[log]\nlevel = \"canary\nformat = \"text\"",
        "[log]\nlevel = [\"canary\"",
        "[log]\nlevel = \"canary\"\nlevel = \"canary\"",
        "[log]\nlevel \"canary\"",
        "[log\ncanary = 1",
        "canary",
        "x = 12canary",
        "x = 1979-05-27Tcanary",
        "x = \"\\qcanary\"",
    ] {
        let problems = from_toml(text).unwrap_err().to_string();
        assert!(problems.contains(" at line ") && problems.contains(", column ") && problems.lines().count() == 1, "{text:?}: {problems}");
        assert!(!problems.contains("canary"), "{text:?}: {problems}");
        let reason = problems.split_once(", column ").and_then(|(_, rest)| rest.split_once(": ")).map(|(_, reason)| reason);
        assert!(reason.is_some_and(|reason| reason.len() > 10), "{text:?}: {problems}");
    }
}

#[test]
fn a_file_without_a_name_is_told_from_no_file() {
    let problems = problems_of(Some(Path::new("")), &[]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].origin, "--config or DOORWARD_CONFIG");
    assert!(problems[0].message.contains("name a file"), "{problems:?}");
    let problems = problems_of(Some(Path::new("/nowhere/at/all")), &[]);
    assert_eq!(problems[0].to_string(), "configuration file: cannot be read: No such file or directory (os error 2) (/nowhere/at/all)");
}

#[test]
fn secrets_of_whatever_origin_are_judged_beside_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots");
    for (root, word) in [("MY_SECRET_KEY", "well-known"), ("c2hvcnQ", "shorter than 32 bytes"), ("no base64!", "is not base64url")] {
        fs::write(&roots, format!("{ROOT}\n{root}\n")).unwrap();
        let in_file = [("SECRETS__ROOT_FILE", roots.to_str().unwrap()), ("LOG__FORMAT", "xml")];
        let problems = problems_of(None, &in_file);
        let found: BTreeSet<(&str, &str)> = problems.iter().map(|p| (p.key.as_str(), p.origin.as_str())).collect();
        let expected = [("log.format", "DOORWARD__LOG__FORMAT"), ("secrets.root_file", "DOORWARD__SECRETS__ROOT_FILE")];
        assert_eq!(found, BTreeSet::from(expected));
        let message = &problems.iter().find(|problem| problem.key == "secrets.root_file").unwrap().message;
        assert!(message.starts_with("entry 2 ") && message.contains(word) && message.contains("doorward secret generate"), "{message}");
        assert!(!message.contains(root));

        let (_folder, path) = toml(&format!("[secrets]\nroot = [\"{ROOT}\", \"{root}\"]"));
        let problems = problems_of(Some(&path), &[]);
        assert_eq!((problems[0].key.as_str(), problems[0].origin.as_str()), ("secrets.root", path.to_str().unwrap()));
        assert_one_problem(&[("SECRETS__ROOT", root)], "secrets.root", word);
    }
}

#[test]
fn what_the_url_check_lets_through_the_driver_takes() {
    for value in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full", "VERIFY-FULL", "verify%2Dfull", "verify+full", "no"]
    {
        let url = format!("postgres://db/x?sslmode={value}");
        let driver = url.parse::<sea_orm::sqlx::postgres::PgConnectOptions>();
        assert_eq!(from_env(&[("DATABASE__URL", &url)]).is_ok(), driver.is_ok(), "{url}");
    }
}

#[test]
fn every_broken_relation_of_one_key_is_named() {
    let keys = keys_of(from_env(&[("TOKENS__ACCESS_LIFETIME", "2h"), ("TOKENS__IDLE_LIFETIME", "1h")]));
    assert_eq!(keys, ["tokens.access_lifetime", "tokens.idle_lifetime"]);
    // What could not be read proves nothing, whichever relation it is in.
    let keys = keys_of(from_env(&[("TOKENS__ACCESS_LIFETIME", "2x"), ("TOKENS__IDLE_LIFETIME", "1m")]));
    assert_eq!(keys, ["tokens.access_lifetime"]);
}

#[test]
fn a_secret_that_is_given_twice_is_judged_both_times() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roots");
    fs::write(&file, "c2hvcnQ\n").unwrap();
    let problems = problems_of(None, &[("SECRETS__ROOT", "MY_SECRET_KEY"), ("SECRETS__ROOT_FILE", file.to_str().unwrap())]);
    let found: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), problem.message.as_str())).collect();
    assert!(
        matches!(found[..], [
        ("secrets.root", twice),
        ("secrets.root", known),
        ("secrets.root_file", short),
    ] if twice.contains("only one of them") && known.contains("well-known") && short.contains("shorter")),
        "{found:?}"
    );
    fs::write(&file, "mysql://x\n").unwrap();
    let problems = problems_of(None, &[("DATABASE__URL", "sqlite::memory:"), ("DATABASE__URL_FILE", file.to_str().unwrap())]);
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["database.url", "database.url", "database.url_file"]);
}

#[test]
fn what_is_not_set_is_told_with_the_variable_that_would() {
    let root = Config::explain(None, [("DOORWARD__DATABASE__URL".to_owned(), "postgres://db/x".to_owned())]).unwrap_err().0;
    assert_eq!(root[0].origin, "not set: DOORWARD__SECRETS__ROOT or DOORWARD__SECRETS__ROOT_FILE");
    // A misspelt variable is set, and is where its problem comes from.
    let near = Config::load(None, [("DOORWARD_DATABASE_URL".to_owned(), "x".to_owned())]).unwrap_err().0;
    assert_eq!((near[0].key.as_str(), near[0].origin.as_str()), ("DOORWARD_DATABASE_URL", "DOORWARD_DATABASE_URL"));
}

#[test]
fn a_floor_under_failed_logins_ends_before_their_deadline() {
    assert_one_problem(&[("LOGIN__FAILURE_FLOOR", "10s")], "login.failure_floor", "shorter than server.default_deadline");
    let short = [("SERVER__DEFAULT_DEADLINE", "2s"), ("LOGIN__FAILURE_FLOOR", "1s")];
    from_env(&short).unwrap();
}
