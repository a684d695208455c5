//! The files that a server is given: what is refused, with the key, the file and what to do.

use std::{fs, os::unix::fs::PermissionsExt};

use doorward::{
    config::{Config, settings},
    server::{Server, Stop},
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::watch;

use crate::harness::pki::{Authority, Issued, TlsFiles};

/// What is done to good files.
type Breaks<'a> = &'a dyn Fn(&TlsFiles);

const KEYS: [&str; 3] = ["server.tls_cert_file", "server.tls_key_file", "server.client_ca_file"];

fn chmod(files: &TlsFiles, name: &str, mode: u32) {
    fs::set_permissions(files.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// What a server says that is given such files.
async fn refusal(files: &TlsFiles) -> String {
    let mut config = Config::default();
    for addr in [&mut config.server.grpc_addr, &mut config.server.http_addr, &mut config.server.ops_addr] {
        *addr = "127.0.0.1:0".parse().unwrap();
    }
    files.set(&mut config);
    let (_stop, told) = watch::channel(Stop::Run);
    Server::bind(&config, told).await.err().map_or_else(|| "it started".to_owned(), |error| error.to_string())
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_refused_at_start() {
    let ca = Authority::new("prod");
    let (server, other) = (ca.server(), ca.server());
    let leaf_by_itself = {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(["web".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    };
    let encrypted = server.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    // As `openssl ecparam` and `openssl rsa` used to write them.
    let headers = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n";
    let long_encrypted = server.key.replace("-----BEGIN PRIVATE KEY-----\n", headers).replace("END PRIVATE", "END EC PRIVATE");
    let remove = |files: &TlsFiles, name: &str| fs::remove_file(files.path(name)).unwrap();
    let cases: [(&str, Breaks<'_>, &str, &str); 25] = [
        ("tls.crt", &|files| remove(files, "tls.crt"), KEYS[0], "cannot be read: No such file"),
        ("tls.key", &|files| remove(files, "tls.key"), KEYS[1], "cannot be read: No such file"),
        ("ca.crt", &|files| remove(files, "ca.crt"), KEYS[2], "cannot be read: No such file"),
        ("tls.crt", &|files| files.write("tls.crt", ""), KEYS[0], "is empty"),
        ("tls.key", &|files| files.write("tls.key", ""), KEYS[1], "is empty"),
        ("ca.crt", &|files| files.write("ca.crt", ""), KEYS[2], "is empty"),
        ("tls.crt", &|files| files.write("tls.crt", "certificate\n"), KEYS[0], "without a certificate"),
        ("tls.crt", &|files| files.write("tls.crt", &server.key), KEYS[0], "without a certificate"),
        ("tls.key", &|files| files.write("tls.key", "key\n"), KEYS[1], "without a private key"),
        ("tls.key", &|files| files.write("tls.key", &server.cert), KEYS[1], "without a private key"),
        ("tls.key", &|files| files.write("tls.key", &encrypted), KEYS[1], "is encrypted: write it without a passphrase"),
        ("tls.key", &|files| files.write("tls.key", &long_encrypted), KEYS[1], "is encrypted: write it without a passphrase"),
        ("ca.crt", &|files| files.write("ca.crt", "authority\n"), KEYS[2], "without a certificate"),
        ("tls.crt", &|files| files.write("tls.crt", &server.cert[..200]), KEYS[0], "PEM is broken"),
        ("tls.key", &|files| files.write("tls.key", &server.key[..100]), KEYS[1], "PEM is broken"),
        ("tls.crt", &|files| files.write("tls.crt", server.cert.clone() + &hollow("CERTIFICATE")), KEYS[0], "certificate number 2 is no"),
        ("ca.crt", &|files| files.write("ca.crt", ca.pem() + &hollow("CERTIFICATE")), KEYS[2], "certificate number 2 is no"),
        ("ca.crt", &|files| files.write("ca.crt", ca.pem() + &server.cert), KEYS[2], "certificate number 2 is none of an authority"),
        ("ca.crt", &|files| files.write("ca.crt", &leaf_by_itself), KEYS[2], "certificate number 1 is none of an authority"),
        ("tls.key", &|files| files.write("tls.key", hollow("PRIVATE KEY")), KEYS[1], "key TLS cannot use"),
        ("tls.key", &|files| files.write("tls.key", &other.key), KEYS[1], "is not that of the first certificate in server.tls_cert_file"),
        ("tls.key", &|files| files.write("tls.crt", ca.pem() + &server.cert), KEYS[1], "the server's own certificate first"),
        ("tls.key", &|files| chmod(files, "tls.key", 0o644), KEYS[1], "open to others (mode 644): run chmod 640"),
        ("tls.key", &|files| chmod(files, "tls.key", 0o660), KEYS[1], "open to others (mode 660): run chmod 640"),
        ("tls.crt", &|files| files.write("tls.crt", vec![b'x'; 2 << 20]), KEYS[0], "too large"),
    ];
    for (name, breaks, key, words) in cases {
        let files = TlsFiles::new(&server, Some(&ca));
        breaks(&files);
        let refusal = refusal(&files).await;
        let path = files.path(name).display().to_string();
        assert!(refusal.starts_with(&format!("{key}: ")) && refusal.contains(words), "{words:?}: {refusal}");
        assert!(refusal.ends_with(&format!("({path})")), "{path}: {refusal}");
        // Nothing of a key.
        assert!(!refusal.contains(&server.key[40..60]), "{refusal}");
    }
}

/// PEM in form, and nothing in content.
fn hollow(what: &str) -> String {
    format!("-----BEGIN {what}-----\nMAA=\n-----END {what}-----\n")
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for() {
    let ca = Authority::new("prod");
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let files = TlsFiles::new(&ca.server(), Some(&ca));
        fs::remove_file(files.path(name)).unwrap();
        mkfifo(&files.path(name), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(refusal(&files).await.contains("names something that is no file"), "{name}: a pipe");
        fs::remove_file(files.path(name)).unwrap();
        fs::create_dir(files.path(name)).unwrap();
        assert!(refusal(&files).await.contains("names something that is no file"), "{name}: a folder");
    }
}

#[tokio::test]
async fn a_key_may_be_readable_for_its_group() {
    let ca = Authority::new("prod");
    for mode in [0o600, 0o400, 0o440, 0o640] {
        let files = TlsFiles::new(&ca.server(), None);
        chmod(&files, "tls.key", mode);
        assert_eq!(refusal(&files).await, "it started", "{mode:o}");
    }
}

#[tokio::test]
async fn a_chain_and_every_form_of_a_key_are_taken() {
    let ca = Authority::new("prod");
    let server = ca.server();
    let chain = Issued { cert: format!("a word before\n{}{}", server.cert, ca.pem()), ..server.clone() };
    assert_eq!(refusal(&TlsFiles::new(&chain, None)).await, "it started");
    let both = Issued { key: server.cert.clone() + &server.key, ..server };
    assert_eq!(refusal(&TlsFiles::new(&both, None)).await, "it started", "one file for both");
}

#[tokio::test]
async fn half_of_a_configuration_is_not_served_in_plain_text() {
    let ca = Authority::new("prod");
    let files = TlsFiles::new(&ca.server(), Some(&ca));
    let addr = "127.0.0.1:0".parse().unwrap();
    for (missing, expected) in [(0, KEYS[0]), (1, KEYS[1])] {
        let mut config = Config::default();
        (config.server.grpc_addr, config.server.ops_addr) = (addr, addr);
        files.set(&mut config);
        if missing == 0 {
            config.server.tls_cert_file = None;
        } else {
            config.server.tls_key_file = None;
        }
        let (_stop, told) = watch::channel(Stop::Run);
        let refused = Server::bind(&config, told).await.err().unwrap().to_string();
        assert!(refused.starts_with(expected), "{refused}");
    }
}

fn load(pairs: &[(&str, &str)]) -> Result<Config, String> {
    let variables = pairs.iter().map(|(name, value)| (format!("DOORWARD__{name}"), (*value).to_owned()));
    Config::load(None, variables).map_err(|problems| problems.to_string())
}

#[test]
fn keys_that_need_each_other_are_asked_for() {
    let (cert, key, ca) = (("SERVER__TLS_CERT_FILE", "tls.crt"), ("SERVER__TLS_KEY_FILE", "tls.key"), ("SERVER__CLIENT_CA_FILE", "ca.crt"));
    for (given, expected) in [
        (&[cert][..], "server.tls_cert_file: needs server.tls_key_file"),
        (&[key], "server.tls_key_file: needs server.tls_cert_file"),
        (&[ca], "server.client_ca_file: needs server.tls_cert_file and server.tls_key_file"),
    ] {
        let problems = load(given).unwrap_err();
        assert!(problems.lines().count() == 1 && problems.starts_with(expected), "{problems}");
    }
    load(&[cert, key]).unwrap();
    load(&[cert, key, ca]).unwrap();
    assert_eq!(settings().iter().filter(|setting| KEYS.contains(&setting.key.as_str())).count(), 3);
}

#[test]
fn beyond_loopback_tls_is_as_good_as_a_word_that_there_is_none() {
    let beyond = [("SERVER__GRPC_ADDR", "0.0.0.0:50051"), ("TOKENS__ISSUER", "https://auth.example.com"), ("CALLERS__MODE", "optional")];
    let files = [("SERVER__TLS_CERT_FILE", "tls.crt"), ("SERVER__TLS_KEY_FILE", "tls.key")];
    let config = load(&[&beyond[..], &files].concat()).unwrap();
    assert!(config.server.tls_files().is_some() && !config.server.allow_plaintext && !config.server.grpc_is_on_loopback());

    let problems = load(&beyond).unwrap_err();
    assert!(problems.lines().count() == 1 && problems.starts_with("server.grpc_addr: is not on loopback"), "{problems}");
    assert!(problems.contains("server.tls_cert_file") && problems.contains("server.allow_plaintext"), "{problems}");
    let problems = load(&[&beyond[..], &[("SERVER__ALLOW_PLAINTEXT", "false")]].concat()).unwrap_err();
    assert!(problems.starts_with("server.grpc_addr: "), "{problems}");
    // One that is set and cannot be read may be meant: nothing about plain text.
    let problems = load(&[&beyond[..], &[("SERVER__TLS_CERT_FILE", ""), files[1]]].concat()).unwrap_err();
    assert!(problems.lines().count() == 1 && problems.starts_with("server.tls_cert_file: is empty"), "{problems}");
}
