//! A server with TLS as it is started by hand: what it refuses, what it tells to paste, and what its signals do.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};

use super::{Place, Serving, terminal};
use crate::harness::pki::{Authority, Issued};

/// A place with a certificate in it.
fn secured(issued: &Issued) -> Place {
    let place = Place::new().set("server.tls_cert_file", "tls.crt").set("server.tls_key_file", "tls.key");
    put(&place, issued);
    place
}

fn put(place: &Place, issued: &Issued) {
    fs::write(place.file("tls.crt"), &issued.cert).unwrap();
    fs::write(place.file("tls.key"), &issued.key).unwrap();
    fs::set_permissions(place.file("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// A server's certificate without an address.
fn named(authority: &Authority, names: &[&str]) -> Issued {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    authority.issue(|params| {
        params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    })
}

#[test]
fn files_that_are_no_good_are_named_by_check_and_by_serve() {
    let authority = Authority::new("prod");
    let place = secured(&authority.server());
    place.run(&["config", "check"]).done();
    let variable = "(DOORWARD__SERVER__TLS_KEY_FILE)";

    fs::write(place.file("tls.key"), authority.server().key).unwrap();
    let words = "server.tls_key_file: names a file whose key is not that of the first certificate in server.tls_cert_file";
    place.run(&["config", "check"]).refused(&[words, variable]);
    place.run(&["config", "show"]).refused(&[words, variable]);
    place.serve_in_vain().refused(&[words, "(tls.key)"]);

    fs::remove_file(place.file("tls.key")).unwrap();
    let words = "server.tls_key_file: names a file that cannot be read";
    let place = place.set("server.client_ca_file", "ca.crt");
    place.run(&["config", "check"]).refused(&[words, variable, "server.client_ca_file: names a file that cannot be read"]);
    place.serve_in_vain().refused(&[words, "(tls.key)"]);
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 1, "nothing was made beside the certificate");
    // Commands besides the server need not be able to read them.
    place.run(&["user", "list"]).refused(&["there is no database"]);
}

#[test]
fn what_is_printed_to_paste_trusts_the_servers_certificate() {
    let authority = Authority::new("prod");
    for (issued, more) in [
        (authority.server(), ""),
        (named(&authority, &["*.example.com", "auth.example.com", "b.example.com"]), " -authority auth.example.com"),
        (named(&authority, &["*.example.com"]), ""),
    ] {
        let place = secured(&issued);
        let mut serving = Serving::start(&place);
        let line = serving.wait_for("grpcurl");
        let cert = place.file("tls.crt").canonicalize().unwrap().display().to_string();
        assert!(line.contains(&format!("grpcurl -cacert {cert}{more} 127.0.0.1:")) && line.ends_with(" list"), "{line}");
        assert!(serving.log.iter().any(|line| line.contains("serving") && line.contains("tls=true")), "{:?}", serving.log);
        serving.signal("TERM");
        assert_eq!(serving.ended(), (Some(0), String::new()));
        let demo = place.run(&["demo"]).done().out;
        assert!(demo.contains(&format!("grpcurl -cacert {cert}{more} -d '{{")) && !demo.contains("-plaintext"), "{demo}");
    }
}

#[test]
fn sighup_looks_for_new_certificates_and_other_signals_stop() {
    let authority = Authority::new("prod");
    let place = secured(&authority.server());
    let mut serving = Serving::start(&place);
    serving.wait_for("grpcurl");
    put(&place, &authority.server());
    serving.signal("HUP");
    serving.wait_for("new TLS files are in use");
    fs::write(place.file("tls.crt"), "").unwrap();
    serving.signal("HUP");
    // By what it says: a look of its own between the two files above would have found others.
    let line = serving.wait_for("is empty");
    assert!(line.contains("ERROR") && line.contains("server.tls_cert_file") && line.contains("what is in use stays"), "{line}");
    serving.signal("HUP");
    serving.signal("TERM");
    serving.wait_for("stopping");
    assert_eq!(serving.log.iter().filter(|line| line.contains("is empty")).count(), 1, "it is told once");
    assert_eq!(serving.ended(), (Some(0), String::new()));
}

#[test]
fn a_closed_terminal_stops_a_server_with_tls_too() {
    let place = secured(&Authority::new("prod").server());
    let (mut keyboard, screen) = terminal();
    let program = place.command(&["serve"]);
    // In a session of its own, whose terminal this is.
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(program.get_program()).arg("serve").current_dir(place.folder.path());
    command.env_clear().envs(place.settings.iter().cloned());
    command.stdin(screen.try_clone().unwrap()).stdout(screen).stderr(Stdio::piped());
    let mut serving = Serving::spawn(&mut command);
    // It holds the second end of the terminal.
    drop(command);
    serving.wait_for("grpcurl");
    let mut shown = String::new();
    while !shown.contains("doorward.v1.AuthService/ChangePassword") {
        let mut bytes = [0; 4096];
        let read = keyboard.read(&mut bytes).unwrap();
        shown.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert!(shown.matches("grpcurl -cacert ").count() == 2 && !shown.contains("-plaintext"), "how to log in: {shown}");
    assert!(shown.contains(r#""new_password":"NEW_PASSWORD""#), "too short to be taken where it is pasted as it stands: {shown}");
    drop(keyboard);
    serving.wait_for("stopping");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn where_callers_must_be_known_the_command_to_paste_has_room_for_one() {
    let place = Place::new().set("callers.mode", "required");
    assert!(Serving::start(&place).wait_for("try it").contains("grpcurl -plaintext -H 'doorward-caller: Bearer TOKEN' 127.0.0.1:"));

    let ca = Authority::new("prod");
    let place = secured(&ca.server()).set("callers.mode", "required").set("server.client_ca_file", "ca.crt");
    fs::write(place.file("ca.crt"), ca.pem()).unwrap();
    assert!(Serving::start(&place).wait_for("try it").contains(" -cert CERTIFICATE -key KEY 127.0.0.1:"));
}
