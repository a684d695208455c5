//! The configuration: layers, origins, every rule.

mod documents;
mod log_lines;
mod mistakes;
mod shown;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use doorward::config::{self, CallersMode, Config, LogFormat, Problems};
use doorward::values::{entropy::Entropy, secret};
use secrecy::ExposeSecret;

/// 32 different bytes.
const ROOT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
/// 32 other ones.
const OTHER_ROOT: &str = "_wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// Loads `variables`, each without its `DOORWARD__`.
fn from_env(variables: &[(&str, &str)]) -> Result<Config, Problems> {
    Config::load(None, variables.iter().map(|(name, value)| (format!("DOORWARD__{name}"), (*value).to_owned())))
}

/// A folder with `doorward.toml` in it.
fn toml(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("doorward.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn from_toml(text: &str) -> Result<Config, Problems> {
    let (_folder, path) = toml(text);
    Config::load(Some(&path), [])
}

/// The keys of the problems, in order.
fn keys_of(result: Result<Config, Problems>) -> Vec<String> {
    result.unwrap_err().0.into_iter().map(|problem| problem.key).collect()
}

/// The variables make exactly one problem, at `key`, and its text holds `word`.
fn assert_one_problem(variables: &[(&str, &str)], key: &str, word: &str) {
    let problems = from_env(variables).unwrap_err().0;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].key, key);
    assert!(problems[0].message.contains(word), "{problems:?} should speak of {word}");
    // The key stands before the message.
    assert!(!problems[0].message.starts_with(key) && !problems[0].message.contains(&format!(" {key} ")), "{problems:?}");
}

#[test]
fn nothing_set_gives_the_valid_defaults() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(config.server.grpc_addr.to_string(), "127.0.0.1:50051");
    assert_eq!(config.database.url.expose_secret(), "sqlite://doorward.db");
    assert!(config.database.is_sqlite() && config.database.migrate_on_start());
    assert_eq!(config.callers.mode(), CallersMode::Optional);
    assert_eq!(config.tokens.audience, ["doorward-clients"]);
    assert_eq!(config.tokens.idle_lifetime, Duration::from_hours(7 * 24));
    assert!(config.secrets.root.is_empty(), "there is no default secret");
}

#[test]
fn the_environment_goes_before_the_file_and_the_file_before_the_default() {
    let (_folder, path) = toml("[tokens]\naccess_lifetime = \"5m\"\nrefresh_grace = \"10s\"\n");
    let environment = [("DOORWARD__TOKENS__ACCESS_LIFETIME".to_owned(), "6m".to_owned())];
    let tokens = Config::load(Some(&path), environment).unwrap().tokens;
    assert_eq!(tokens.access_lifetime, Duration::from_mins(6), "environment over file");
    assert_eq!(tokens.refresh_grace, Duration::from_secs(10), "file over default");
    assert_eq!(tokens.max_access_lifetime, Duration::from_hours(1), "default");
}

#[test]
fn the_environment_sets_every_type() {
    let config = from_env(&[
        ("SERVER__GRPC_ADDR", "[::1]:0"),
        ("SERVER__ALLOW_PLAINTEXT", "true"),
        ("SERVER__MAX_CONNECTIONS", "5"),
        ("TOKENS__AUDIENCE", "orders, billing"),
        ("DATABASE__MIGRATE_ON_START", "false"),
        ("PASSWORDS__HASH_THREADS", "3"),
        ("CALLERS__MODE", "required"),
        ("LOG__FORMAT", "json"),
        ("LOG__LEVEL", "warn,doorward=debug"),
        ("BOOTSTRAP__USERNAME", "admin"),
        ("BOOTSTRAP__PASSWORD_FILE", "/nowhere"),
    ])
    .unwrap();
    assert_eq!(config.server.grpc_addr.to_string(), "[::1]:0");
    assert!(config.server.allow_plaintext);
    assert_eq!(config.server.max_connections, 5);
    assert_eq!(config.tokens.audience, ["orders", "billing"]);
    assert!(!config.database.migrate_on_start());
    assert_eq!(config.passwords.hash_threads, Some(3));
    assert_eq!(config.callers.mode(), CallersMode::Required);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.level, "warn,doorward=debug");
    assert_eq!(config.bootstrap.username.as_deref(), Some("admin"));
    assert_eq!(config.bootstrap.password_file, Some(PathBuf::from("/nowhere")), "read only when it is needed");
}

#[test]
fn unknown_keys_are_refused_in_every_shape() {
    for text in [
        "[server]\ngrpc_adr = \"127.0.0.1:1\"",
        "[server.grpc_addr]\nx = 1",
        "[sever]",
        "\"server.grpc_addr\" = \"127.0.0.1:1\"",
        "server = 5",
        "[[server]]",
        "\"a\\nb\" = 1",
    ] {
        let problems = from_toml(text).expect_err(text);
        assert_eq!(problems.to_string().lines().count(), 1, "{text}: {problems}");
    }
    for name in
        ["SERVER", "SERVER__GRPC_ADDR__X", "SERVER__", "__GRPC_ADDR", "", "Server__Grpc_Addr", "server__grpc_addr", "SERVER.GRPC_ADDR", "X"]
    {
        let problems = from_env(&[(name, "127.0.0.1:1")]).expect_err(name);
        assert_eq!(problems.0.len(), 1, "{name}: {problems}");
        assert_eq!(problems.0[0].origin, format!("DOORWARD__{name}"));
    }
    // The message helps to find the right name.
    assert_one_problem(&[("LOG__COLOUR", "x")], "log.colour", "format, level");
    // An empty section is no mistake.
    from_toml("[server]\n[log]\n").unwrap();
}

#[test]
fn variables_of_others_are_passed_over() {
    let kubernetes = [
        ("DOORWARD_SERVICE_HOST", "10.0.0.1"),
        ("DOORWARD_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("DOORWARD_VECTORS_DIR", "x"),
        ("MY_DOORWARD__SERVER__GRPC_ADDR", "x"),
        ("SERVER__GRPC_ADDR", "x"),
    ];
    let config = Config::load(None, kubernetes.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
    assert_eq!(config.server, Config::default().server);
}

#[test]
fn audiences_are_as_many_as_a_token_takes() {
    let many = |count: usize| (0..count).map(|n| format!("a{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(from_env(&[("TOKENS__AUDIENCE", &many(15))]).unwrap().tokens.audience.len(), 15);
    let long = [1, 2, 3, 4, 5].map(|n| format!("{n}{}", "a".repeat(230))).join(",");
    for bad in [many(16).as_str(), "a,b,a", &long, "a b"] {
        assert_one_problem(&[("TOKENS__AUDIENCE", bad)], "tokens.audience", "different names");
    }
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_no_default() {
    let near = ["DOORWARD_DATABASE_URL", "doorward__database__url", "DOORWARD_DATABASE__URL", "DOORWARDDATABASEURL"];
    for name in near {
        let problems = Config::load(None, [(name.to_owned(), "sqlite://other.db".to_owned())]).unwrap_err().0;
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, name));
        assert!(problems[0].message.contains("DOORWARD__DATABASE__URL"), "{problems:?}");
    }
}

#[test]
fn an_empty_value_is_an_error_of_every_key() {
    let keys = config::keys();
    assert!(keys.len() > 40, "{keys:?}");
    for key in &keys {
        let variable = key.to_uppercase().replace('.', "__");
        for empty in ["", "  "] {
            assert_one_problem(&[(&variable, empty)], key, "is empty");
        }
        let (section, name) = key.split_once('.').unwrap();
        assert_eq!(keys_of(from_toml(&format!("[{section}]\n{name} = \"\""))), [key.as_str()]);
    }
    assert_eq!(keys_of(from_env(&[("TOKENS__AUDIENCE", "a,,b")])), ["tokens.audience"]);
    assert_eq!(keys_of(from_env(&[("SECRETS__ROOT", &format!("{ROOT},"))])), ["secrets.root"]);
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_of_every_key() {
    for key in config::keys() {
        let (section, name) = key.split_once('.').unwrap();
        // No key takes a date or a table; a list of lists fits no list either.
        for value in ["[[1]]", "{ x = 1 }", "1.5"] {
            let problems = from_toml(&format!("[{section}]\n{name} = {value}")).expect_err(&key);
            assert_eq!(problems.0[0].key, key, "{value}: {problems}");
        }
    }
}

#[test]
fn durations_have_a_unit() {
    let day = 86_400;
    for (text, seconds) in [("30s", 30), ("15m", 900), ("2h", 7_200), ("7d", 7 * day), ("0s", 0), ("3650d", 3_650 * day)] {
        assert_eq!(config::duration::parse(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    let bad = [
        "30",
        "",
        "s",
        "-1s",
        "+1s",
        "1.5h",
        "1h30m",
        "1 s",
        " 1s",
        "1S",
        "1ms",
        "1w",
        "1e3s",
        "3651d",
        "99999999999999999999s",
        "18446744073709551615d",
        "١s",
        "1s\0",
    ];
    for text in bad {
        config::duration::parse(text).expect_err(text);
    }
    assert_eq!(keys_of(from_toml("[tokens]\naccess_lifetime = 900")), ["tokens.access_lifetime"]);
    assert_one_problem(&[("TOKENS__ACCESS_LIFETIME", "900")], "tokens.access_lifetime", "unit");
}

#[test]
fn secrets_come_from_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let roots = write("roots", &format!("{ROOT}\r\n\n  {OTHER_ROOT}\n"));
    let url = write("url", "postgres://u:p@db/doorward\n");

    let config = from_env(&[("SECRETS__ROOT_FILE", &roots), ("DATABASE__URL_FILE", &url)]).unwrap();
    let found: Vec<&str> = config.secrets.root.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(found, [ROOT, OTHER_ROOT]);
    assert_eq!(config.database.url.expose_secret(), "postgres://u:p@db/doorward");
    assert!(!config.database.is_sqlite() && !config.database.migrate_on_start());

    // The higher layer wins, whichever of the two names it uses.
    let (_folder, path) = toml("[database]\nurl = \"sqlite://other.db\"\n");
    let environment = [("DOORWARD__DATABASE__URL_FILE".to_owned(), url.clone())];
    assert!(!Config::load(Some(&path), environment).unwrap().database.is_sqlite());
    let (_folder, path) = toml(&format!("[database]\nurl_file = {url:?}\n"));
    let environment = [("DOORWARD__DATABASE__URL".to_owned(), "sqlite://x.db".to_owned())];
    assert!(Config::load(Some(&path), environment).unwrap().database.is_sqlite());
    assert!(!Config::load(Some(&path), []).unwrap().database.is_sqlite());

    // Within one layer, nobody guesses.
    let both = [("DATABASE__URL_FILE", url.as_str()), ("DATABASE__URL", "sqlite://x.db")];
    assert_one_problem(&both, "database.url", "database.url_file too");
    // Bad files are errors of the key that names them.
    assert_one_problem(&[("SECRETS__ROOT_FILE", "/nowhere/at/all")], "secrets.root_file", "cannot be read");
    assert_one_problem(&[("SECRETS__ROOT_FILE", &write("empty", "\n"))], "secrets.root_file", "empty");
    assert_one_problem(&[("SECRETS__ROOT_FILE", &write("short", "c2hvcnQ"))], "secrets.root_file", "entry 1 is shorter");
    assert_one_problem(&[("DATABASE__URL_FILE", &write("two", "sqlite://a\nsqlite://b"))], "database.url_file", "one line");
    assert_one_problem(&[("DATABASE__URL_FILE", &write("none", ""))], "database.url_file", "one line");
}

#[test]
fn weak_root_secrets_are_refused() {
    assert_eq!(secret::read_root(ROOT).unwrap().len(), 32);
    let bad = [
        ("31 bytes", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg"),
        ("padded", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("standard alphabet", "/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"),
        ("hexadecimal of 32 bytes, one digit short", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1"),
        ("bits after the end", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9"),
        ("32 zero bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("32 bytes 0xff", "__________________________________________8"),
        ("space", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh 8"),
    ];
    for (what, text) in bad {
        let message = secret::read_root(text).expect_err(what).to_string();
        assert!(message.contains("doorward secret generate"), "{what}: {message}");
        assert_eq!(keys_of(from_env(&[("SECRETS__ROOT", text)])), ["secrets.root"], "{what}");
    }
    // The second of a list is looked at as well.
    assert_one_problem(&[("SECRETS__ROOT", &format!("{ROOT},c2hvcnQ"))], "secrets.root", "entry 2");
    assert_one_problem(&[("SECRETS__ROOT", &format!("{ROOT},{ROOT}"))], "secrets.root", "twice");
    assert_eq!(keys_of(from_toml("[secrets]\nroot = []")), ["secrets.root"]);
    let config = from_toml(&format!("[secrets]\nroot = [\"{ROOT}\", \"{OTHER_ROOT}\"]")).unwrap();
    assert_eq!(config.secrets.root.len(), 2);
}

#[test]
fn neither_debug_nor_problems_show_a_value() {
    let url = "postgres://doorward:hunter2canary@db/doorward";
    let config = from_env(&[("SECRETS__ROOT", ROOT), ("DATABASE__URL", url)]).unwrap();
    let debug = format!("{config:?} {config:#?}");
    assert!(!debug.contains(ROOT) && !debug.contains("hunter2canary"), "{debug}");
    assert!(debug.contains("REDACTED") && debug.contains("grpc_addr"), "{debug}");

    // A secret in any wrong place is not repeated.
    for key in config::keys() {
        let variable = format!("DOORWARD__{}", key.to_uppercase().replace('.', "__"));
        for value in ["hunter2canary", "hunter2canary\n", "ftp://hunter2canary"] {
            if let Err(problems) = Config::load(None, [(variable.clone(), value.to_owned())]) {
                assert!(!format!("{problems} {problems:?}").contains("hunter2canary"), "{problems}");
            }
        }
    }
    for text in [
        "[database]\nurl = 'hunter2canary\n",
        "[database]\nurl = hunter2canary",
        "hunter2canary",
        "[database]\nurl = \"\"\"hunter2canary\n\nhunter2canary",
        "[secrets]\nroot = [\"hunter2canary\" \"hunter2canary\"]",
        "[secrets]\nroot = \"hunter2canary\"",
        "[secrets]\nroot = { a = \"hunter2canary\" }",
        "[database]\nurl = \"\\xhunter2canary\"",
    ] {
        let problems = from_toml(text).expect_err(text);
        assert!(!format!("{problems} {problems:?}").contains("hunter2canary"), "{problems}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = PathBuf::from("/nowhere/doorward.toml");
    let beyond =
        [("DOORWARD__SERVER__GRPC_ADDR".to_owned(), "0.0.0.0:50051".to_owned()), ("DOORWARD__LOG__FORMAT".to_owned(), "xml".to_owned())];
    let problems = Config::load(Some(&missing), beyond).unwrap_err().0;
    // Nothing about allow_plaintext or the issuer: they may stand in the file.
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!((problems[0].key.as_str(), problems[0].origin.as_str()), ("configuration file", "/nowhere/doorward.toml"));
    assert_eq!(problems[1].key, "log.format");

    let problems = from_toml("[server]\n\ngrpc_addr = = 1\n").unwrap_err().0;
    assert!(problems[0].message.contains("line 3"), "{problems:?}");
    let (_folder, path) = toml("");
    std::fs::File::create(&path).unwrap().write_all(b"[server]\n# \xff\n").unwrap();
    assert_eq!(keys_of(Config::load(Some(&path), [])), ["configuration file"]);
}

/// What a listener beyond loopback needs besides [`server.allow_plaintext`].
const BEYOND: [(&str, &str); 2] = [("TOKENS__ISSUER", "https://auth.example.com"), ("CALLERS__MODE", "optional")];

#[test]
fn beyond_loopback_the_operator_has_to_choose() {
    let all = [&BEYOND[..], &[("SERVER__GRPC_ADDR", "0.0.0.0:50051"), ("SERVER__ALLOW_PLAINTEXT", "true")]].concat();
    let config = from_env(&all).unwrap();
    assert!(!config.server.is_on_loopback() && !config.server.grpc_is_on_loopback());
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(2), "endpoints need time to notice");
    assert_eq!(Config::default().server.shutdown_grace, Duration::ZERO);

    let without = |name: &str| {
        let kept: Vec<_> = all.iter().copied().filter(|(n, _)| *n != name).collect();
        from_env(&kept).unwrap_err().0
    };
    let problem = &without("SERVER__ALLOW_PLAINTEXT")[0];
    assert_eq!(problem.key, "server.grpc_addr");
    assert!(problem.message.contains("TLS") && problem.message.contains("server.allow_plaintext"), "{problem}");
    assert_eq!(without("TOKENS__ISSUER")[0].key, "tokens.issuer");
    assert_eq!(without("CALLERS__MODE")[0].key, "callers.mode");
    assert_eq!(without("CALLERS__MODE")[0].origin, "not set: DOORWARD__CALLERS__MODE");
    assert_eq!(without("TOKENS__ISSUER")[0].origin, "not set: DOORWARD__TOKENS__ISSUER");
    assert_eq!(keys_of(from_env(&[("SERVER__GRPC_ADDR", "[::]:1")])).len(), 3, "all three at once");

    // The other listeners take no credentials, but the instance is then known by another name than loopback.
    assert_one_problem(&[("SERVER__OPS_ADDR", "0.0.0.0:9090")], "tokens.issuer", "must be set");
    assert_one_problem(&[("SERVER__HTTP_ADDR", "10.0.0.1:8080")], "tokens.issuer", "must be set");
    for loopback in ["127.0.0.2:50051", "[::1]:50051", "[::ffff:127.0.0.1]:50051"] {
        from_env(&[("SERVER__GRPC_ADDR", loopback)]).expect(loopback);
    }
}

#[test]
fn listeners_do_not_collide() {
    assert_one_problem(&[("SERVER__OPS_ADDR", "127.0.0.1:50051")], "server.ops_addr", "server.grpc_addr");
    assert_one_problem(&[("SERVER__HTTP_ADDR", "127.0.0.1:9090")], "server.http_addr", "server.ops_addr");
    assert_one_problem(&[("SERVER__GRPC_ADDR", "127.0.0.1:8080")], "server.grpc_addr", "server.http_addr");
    let everywhere = [&BEYOND[..1], &[("SERVER__OPS_ADDR", "0.0.0.0:8080")]].concat();
    assert_one_problem(&everywhere, "server.ops_addr", "server.http_addr");
    from_env(&[("SERVER__OPS_ADDR", "127.0.0.2:50051")]).expect("another address");
    let any = [("SERVER__GRPC_ADDR", "127.0.0.1:0"), ("SERVER__HTTP_ADDR", "127.0.0.1:0"), ("SERVER__OPS_ADDR", "127.0.0.1:0")];
    from_env(&any).expect("port 0 is another port each time");
}

#[test]
fn deadlines_and_lifetimes_fit_together() {
    assert_one_problem(&[("SERVER__DEFAULT_DEADLINE", "61s")], "server.default_deadline", "max_deadline");
    assert_one_problem(&[("TOKENS__ACCESS_LIFETIME", "61m")], "tokens.access_lifetime", "max_access_lifetime");
    assert_one_problem(&[("TOKENS__MAX_ACCESS_LIFETIME", "14m")], "tokens.max_access_lifetime", "access_lifetime");
    assert_one_problem(&[("TOKENS__MAX_ACCESS_LIFETIME", "13h")], "tokens.max_access_lifetime", "12h");
    assert_one_problem(&[("TOKENS__REFRESH_GRACE", "301s")], "tokens.refresh_grace", "300s");
    assert_one_problem(&[("TOKENS__IDLE_LIFETIME", "930s")], "tokens.idle_lifetime", "refresh_grace");
    assert_one_problem(&[("TOKENS__IDLE_LIFETIME", "31d")], "tokens.idle_lifetime", "absolute_lifetime");
    assert_one_problem(&[("TOKENS__ABSOLUTE_LIFETIME", "6d")], "tokens.absolute_lifetime", "idle_lifetime");
    // A default in the place of a bad value accuses nobody.
    assert_one_problem(&[("TOKENS__IDLE_LIFETIME", "10m"), ("TOKENS__ACCESS_LIFETIME", "5")], "tokens.access_lifetime", "unit");
    from_env(&[("TOKENS__IDLE_LIFETIME", "931s"), ("TOKENS__REFRESH_GRACE", "30s")]).expect("one second longer");
    from_env(&[("TOKENS__REFRESH_GRACE", "0s"), ("LOGIN__FAILURE_FLOOR", "0s"), ("SERVER__SHUTDOWN_GRACE", "0s")])
        .expect("these may be zero");
    let positive = [
        "TOKENS__ACCESS_LIFETIME",
        "TOKENS__MAX_ACCESS_LIFETIME",
        "TOKENS__IDLE_LIFETIME",
        "TOKENS__ABSOLUTE_LIFETIME",
        "SERVER__HANDSHAKE_TIMEOUT",
        "SERVER__DRAIN_TIMEOUT",
        "SERVER__MAX_DEADLINE",
        "SERVER__DEFAULT_DEADLINE",
        "SERVER__KEEPALIVE_INTERVAL",
        "SERVER__KEEPALIVE_TIMEOUT",
        "SERVER__MAX_CONNECTION_AGE",
        "DATABASE__ACQUIRE_TIMEOUT",
        "DATABASE__STATEMENT_TIMEOUT",
    ];
    for variable in positive {
        assert_one_problem(&[(variable, "0s")], &variable.to_lowercase().replace("__", "."), "longer than zero");
    }
}

#[test]
fn issuer_audience_and_client_id_are_wellformed() {
    for good in ["https://auth.example.com", "http://10.0.0.1:8080/doorward", "https://[::1]:8443/", "HTTPS://A.example"] {
        from_env(&[("TOKENS__ISSUER", good)]).expect(good);
    }
    let long = format!("https://{}", "a".repeat(248));
    for bad in [
        "auth.example.com",
        "/auth",
        "ftp://a.example",
        "https://",
        "https:///x",
        "https://a.example?x=1",
        "https://a.example/?",
        "https://a.example#x",
        "https://u:p@a.example",
        "https://u@a.example:443",
        "https://a.example:99999",
        "https://a.example:",
        "https:// a",
        long.as_str(),
    ] {
        assert_one_problem(&[("TOKENS__ISSUER", bad)], "tokens.issuer", "absolute http or https URL");
    }

    assert_one_problem(&[("TOKENS__AUDIENCE", "a,http://127.0.0.1:8080")], "tokens.audience", "tokens.issuer");
    let same = [("TOKENS__AUDIENCE", "https://a.example"), ("TOKENS__ISSUER", "https://a.example")];
    assert_one_problem(&same, "tokens.audience", "tokens.issuer");
    from_env(&[("TOKENS__AUDIENCE", &"a".repeat(255))]).unwrap();
    assert_one_problem(&[("TOKENS__AUDIENCE", &"a".repeat(256))], "tokens.audience", "255");
    for text in ["[]", "[\"a\", \"\"]", "[\" a\"]", "[\"a\\nb\"]", "\"a\""] {
        assert_eq!(keys_of(from_toml(&format!("[tokens]\naudience = {text}"))), ["tokens.audience"], "{text}");
    }

    from_env(&[("TOKENS__DEFAULT_CLIENT_ID", &"c".repeat(255))]).unwrap();
    for bad in [&"c".repeat(256), "é", "a\tb"] {
        assert_eq!(keys_of(from_env(&[("TOKENS__DEFAULT_CLIENT_ID", bad)])), ["tokens.default_client_id"], "{bad}");
    }
}

#[test]
fn a_bound_on_staleness_is_one_that_a_revocation_can_wait_for() {
    for (bound, is_good) in [("0s", false), ("1s", true), ("5m", true), ("301s", false), ("365d", false)] {
        let found = from_env(&[("FRESHNESS__MAX_STALENESS", bound)]);
        assert_eq!(found.is_ok(), is_good, "{bound}");
    }
    assert_one_problem(&[("FRESHNESS__MAX_STALENESS", "1h")], "freshness.max_staleness", "must be from 1s to 5m");
}

#[test]
fn tokens_are_signed_by_what_is_fit_for_it() {
    for algorithm in ["none", "es256", "ES384", ""] {
        assert_eq!(keys_of(from_env(&[("TOKENS__ALGORITHM", algorithm)])), ["tokens.algorithm"], "{algorithm}");
    }
    assert_one_problem(&[("TOKENS__ALGORITHM", "HS256")], "tokens.algorithm", "needs tokens.hmac_secret");
    let (short, long) = (secret::generate::<32>(&Entropy::system()), secret::generate::<64>(&Entropy::system()));
    for (algorithm, floor) in [("HS384", "48 bytes"), ("HS512", "64 bytes")] {
        let both = format!("{long},{short}");
        let given = [("TOKENS__ALGORITHM", algorithm), ("TOKENS__HMAC_SECRET", both.as_str())];
        assert_one_problem(&given, "tokens.hmac_secret", floor);
        from_env(&[given[0], ("TOKENS__HMAC_SECRET", &long)]).unwrap();
    }
    assert_one_problem(
        &[("TOKENS__HMAC_SECRET", &short), ("SECRETS__ROOT", &short)],
        "tokens.hmac_secret",
        "must not be one of secrets.root",
    );
    assert_one_problem(&[("TOKENS__HMAC_SECRET", "changeme")], "tokens.hmac_secret", "well-known example");
    assert_one_problem(&[("TOKENS__KEY_ROTATION", "59m")], "tokens.key_rotation", "at least 1h");
    from_env(&[("TOKENS__KEY_ROTATION", "0s")]).unwrap();
}

#[test]
fn hashing_stays_above_the_floor() {
    for (memory, passes) in [("47104", "1"), ("19456", "2"), ("12288", "3"), ("9216", "4"), ("7168", "5"), ("65536", "3")] {
        from_env(&[("PASSWORDS__MEMORY_KIB", memory), ("PASSWORDS__ITERATIONS", passes)]).expect(memory);
    }
    for (memory, passes) in [("47103", "1"), ("19455", "2"), ("12287", "3"), ("9215", "4"), ("7167", "5"), ("7168", "4")] {
        let weak = [("PASSWORDS__MEMORY_KIB", memory), ("PASSWORDS__ITERATIONS", passes)];
        assert_eq!(keys_of(from_env(&weak)), ["passwords.memory_kib"], "{memory} {passes}");
    }
    assert_one_problem(&[("PASSWORDS__ITERATIONS", "1")], "passwords.iterations", "OWASP");
    for (variable, value) in [
        ("MIN_LENGTH", "7"),
        ("MIN_LENGTH", "65"),
        ("PARALLELISM", "0"),
        ("HASH_THREADS", "0"),
        ("QUEUE", "0"),
        ("QUEUE", "-1"),
        ("MEMORY_KIB", "5000000000"),
        ("ITERATIONS", "2.0"),
    ] {
        let key = format!("passwords.{}", variable.to_lowercase());
        assert_eq!(keys_of(from_env(&[(&format!("PASSWORDS__{variable}"), value)])), [key.as_str()], "{variable}={value}");
    }
}

#[test]
fn databases_are_sqlite_or_postgresql() {
    for good in ["sqlite://doorward.db", "sqlite:doorward.db", "postgres://db/x", "postgresql://u@db/x"] {
        let config = from_env(&[("DATABASE__URL", good)]).expect(good);
        assert_eq!(config.database.is_sqlite(), good.starts_with("sqlite"), "{good}");
        assert_eq!(config.database.migrate_on_start(), good.starts_with("sqlite"), "{good}");
    }
    for bad in ["mysql://db/x", "doorward.db", "postgres:db", "sqlite://", "sqlite:", "postgres://", "SQLITE://x"] {
        assert_one_problem(&[("DATABASE__URL", bad)], "database.url", "sqlite://FILE");
    }
}

#[test]
fn log_levels_are_checked_strictly() {
    for good in ["info", "off", "warn,doorward=debug", "info,doorward::store=trace,sqlx=info", "doorward=debug"] {
        from_env(&[("LOG__LEVEL", good)]).expect(good);
    }
    for bad in ["inof", "INFO", "info,", "doorward=", "=info", "info,doorward", "a=b=info", "info;debug", "[span]=info", "3"] {
        assert_one_problem(&[("LOG__LEVEL", bad)], "log.level", "must be error");
    }
}
