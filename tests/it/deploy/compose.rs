//! The compose files: their settings start a server, their secrets are files, their stops are long enough.

use serde_json::Value;

use super::{STOP_MARGIN, assert_is_command, files::*, longest_stop};

const FILES: [&str; 2] = ["deploy/compose.yaml", "deploy/compose.postgres.yaml"];

/// The services of a file that run Doorward.
fn ours(compose: &Value) -> Vec<(&String, &Value)> {
    let services = compose["services"].as_object().unwrap();
    let found: Vec<_> = services.iter().filter(|(_, service)| string(&service["image"]).starts_with("doorward:")).collect();
    assert!(!found.is_empty());
    found
}

/// A service's variables over the image's, with `${NAME:-default}` and `${NAME:?message}` filled in.
fn variables(service: &Value) -> Variables {
    let fill = |value: &str| match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        None => value.to_owned(),
        Some(inner) => inner.split_once(":-").map_or("https://doorward.example".to_owned(), |(_, default)| default.to_owned()),
    };
    let set = service["environment"].as_object().unwrap();
    let mut variables = image_variables();
    variables.extend(set.iter().map(|(name, value)| (name.clone(), fill(string(value)))));
    variables
}

#[test]
fn compose_starts_a_server_that_can_be_reached() {
    for path in FILES {
        let compose = yaml(path);
        for (name, service) in ours(&compose) {
            assert_is_command(&strings(&service["command"]));
            let config = load(&variables(service));
            let addresses = [config.server.grpc_addr, config.server.http_addr, config.server.ops_addr];
            assert!(addresses.iter().all(|addr| addr.ip().is_unspecified()), "{path}, {name}: listens where Docker forwards to");
            assert_eq!(config.database.is_sqlite(), path == FILES[0], "{path}, {name}");
            if name != "doorward" {
                continue;
            }
            let published = addresses.map(|addr| format!("127.0.0.1:{0}:{0}", addr.port()));
            assert_eq!(strings(&service["ports"]), published, "{path}: published on the loopback alone, it is not encrypted");
        }
    }
}

#[test]
fn compose_waits_for_the_whole_stop() {
    for path in FILES {
        let compose = yaml(path);
        let service = &compose["services"]["doorward"];
        let given = doorward::config::duration::parse(string(&service["stop_grace_period"])).unwrap();
        let needed = longest_stop(&load(&variables(service)));
        assert!(given >= needed + STOP_MARGIN, "{path}: a stop may take {needed:?}, and is killed after {given:?}");
    }
}

#[test]
fn compose_keeps_data_in_a_volume_and_secrets_in_files() {
    let sqlite = yaml(FILES[0]);
    let mounted = strings(&sqlite["services"]["doorward"]["volumes"]);
    let (volume, folder) = mounted[0].split_once(':').unwrap();
    assert_eq!(folder, instruction("WORKDIR"));
    assert!(sqlite["volumes"].as_object().unwrap().contains_key(volume));
    let postgres = yaml(FILES[1]);
    for (name, service) in ours(&postgres) {
        let files: Vec<String> = variables(service).into_iter().filter(|(name, _)| name.ends_with("_FILE")).map(|(_, path)| path).collect();
        assert_eq!(files.len(), 2, "{name} reads its secrets from files");
        for path in files {
            let secret = path.strip_prefix("/run/secrets/").expect("where compose mounts secrets");
            assert!(strings(&service["secrets"]).contains(&secret), "{name} is not given the secret {secret}");
            assert_eq!(postgres["secrets"][secret]["file"], format!("./secrets/{secret}"));
        }
    }
    // A password in a file of the repository is one that everybody has.
    assert!(text(".gitignore").lines().any(|line| line == "/deploy/secrets/"));
    for path in FILES {
        assert!(!text(path).contains("postgres://doorward:secret"));
    }
}

#[test]
fn compose_migrates_before_it_serves() {
    let compose = yaml(FILES[1]);
    let services = &compose["services"];
    assert_eq!(strings(&services["migrate"]["command"]), ["migrate", "up"]);
    assert_eq!(services["migrate"]["restart"], "no");
    assert_eq!(services["migrate"]["environment"], services["doorward"]["environment"]);
    assert_eq!(services["migrate"]["depends_on"]["postgres"]["condition"], "service_healthy");
    assert_eq!(services["doorward"]["depends_on"]["migrate"]["condition"], "service_completed_successfully");
}

#[test]
fn compose_gives_no_more_than_is_needed() {
    for path in FILES {
        let compose = yaml(path);
        for (name, service) in ours(&compose) {
            assert_eq!(service["read_only"], true, "{path}, {name}");
            assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{path}, {name}");
            assert_eq!(strings(&service["security_opt"]), ["no-new-privileges:true"], "{path}, {name}");
        }
    }
}
