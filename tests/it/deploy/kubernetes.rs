//! The Kubernetes manifests: ports and probes that the server has, times that fit, rights that it needs and no more.

use std::{collections::BTreeSet, fs, time::Duration};

use doorward::{config::Config, server::health};
use serde_json::{Value, json};
use tonic::{Code, Request};
use tonic_health::{
    pb::{HealthCheckRequest, health_server::Health},
    server::{HealthReporter, HealthService},
};

use super::{STOP_MARGIN, assert_is_command, files::*, longest_stop};

const FOLDER: &str = "deploy/kubernetes";

fn manifest(name: &str) -> Value {
    yaml(&format!("{FOLDER}/{name}.yaml"))
}

fn pod() -> Value {
    manifest("deployment")["spec"]["template"]["spec"].clone()
}

fn server() -> Value {
    named(&pod()["containers"], "doorward").clone()
}

/// What the operator must add to the settings.
const ISSUER: &str = "DOORWARD__TOKENS__ISSUER";

/// A container's variables over the ones of `settings.env`.
fn variables(container: &Value) -> Variables {
    let text = text(&format!("{FOLDER}/settings.env"));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut variables: Variables = lines.map(|line| line.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let own = list(&container["env"]).map(|variable| (string(&variable["name"]).to_owned(), string(&variable["value"]).to_owned()));
    variables.extend(own);
    variables
}

/// The configuration of a container whose operator has set what is theirs to set.
fn load_of(container: &Value) -> Config {
    let mut variables = variables(container);
    variables.insert(ISSUER.to_owned(), "https://auth.example.com".to_owned());
    load(&variables)
}

fn config() -> Config {
    load_of(&server())
}

/// The port that a container's port of this name is.
fn port(name: &str) -> u64 {
    number(&named(&server()["ports"], name)["containerPort"])
}

#[test]
fn pods_start_with_their_settings() {
    let settings = manifest("kustomization")["configMapGenerator"][0].clone();
    assert_eq!(settings["envs"], json!(["settings.env"]));
    for container in list(&pod()["initContainers"]).chain(list(&pod()["containers"])) {
        assert_eq!(container["envFrom"], json!([{ "configMapRef": { "name": settings["name"] } }]));
        let config = load_of(container);
        assert!(!config.database.is_sqlite(), "several replicas need PostgreSQL");
        assert!(container["command"].is_null(), "the entry point is the image's");
        assert_is_command(&strings(&container["args"]));
    }
    assert_eq!(strings(&named(&pod()["initContainers"], "migrate")["args"]), ["migrate", "up"]);
    assert_eq!(strings(&server()["args"]), ["serve"]);
    assert!(!config().database.migrate_on_start(), "migrations are a step of their own");
}

#[test]
fn nobody_serves_under_the_issuer_of_an_example() {
    assert!(text(&format!("{FOLDER}/settings.env")).contains(&format!("#{ISSUER}=")), "the line to fill in");
    let problems = try_load(&variables(&server())).unwrap_err().to_string();
    assert!(problems.lines().count() == 1 && problems.starts_with("tokens.issuer: "), "nothing else is missing: {problems}");
}

#[test]
fn ports_are_the_servers() {
    let server = config().server;
    // The kubelet probes the pod's address.
    assert!([server.grpc_addr, server.http_addr, server.ops_addr].iter().all(|addr| addr.ip().is_unspecified()));
    assert_eq!(port("grpc"), u64::from(server.grpc_addr.port()));
    assert_eq!(port("http"), u64::from(server.http_addr.port()));
    assert_eq!(port("ops"), u64::from(server.ops_addr.port()));
    let annotations = &manifest("deployment")["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(string(&annotations["prometheus.io/port"]), port("ops").to_string());
    for name in ["service", "service-headless"] {
        for service_port in list(&manifest(name)["spec"]["ports"]) {
            let target = string(&service_port["targetPort"]);
            assert!(target == "grpc" || target == "http", "{name}: the ops port is for the pod's neighbours alone");
            assert_eq!(number(&service_port["port"]), port(target), "{name}");
        }
    }
    assert_eq!(manifest("service-headless")["spec"]["clusterIP"], "None");
    for rule in list(&manifest("networkpolicy")["spec"]["ingress"]) {
        assert!(list(&rule["ports"]).all(|allowed| port(string(&allowed["port"])) > 0));
        assert!(rule["from"].is_array(), "nobody is let in unnamed");
    }
}

#[tokio::test]
async fn probes_ask_for_names_that_the_server_answers() {
    let reporter = HealthReporter::new();
    health::all_down(&reporter, &[]).await;
    let service = HealthService::from_health_reporter(reporter);
    for (probe, name) in [("startupProbe", "startup"), ("readinessProbe", "readiness"), ("livenessProbe", "liveness")] {
        let grpc = &server()[probe]["grpc"];
        assert_eq!(grpc["service"], name, "{probe}");
        assert_eq!(number(&grpc["port"]), port("ops"), "{probe}: the kubelet speaks no TLS, and the ops port never does");
        let answer = service.check(Request::new(HealthCheckRequest { service: name.to_owned() })).await;
        assert!(answer.is_ok(), "the server does not know {name}: {answer:?}");
    }
    let unknown = service.check(Request::new(HealthCheckRequest { service: "ready".to_owned() })).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound, "a name that the server does not know shows in this test");
}

#[test]
fn probes_leave_the_server_its_time() {
    let time = |probe: &str, factor: &str| {
        let probe = &server()[probe];
        Duration::from_secs(number(&probe["periodSeconds"]) * number(&probe[factor]))
    };
    let database = config().database;
    // Start-up is a handful of statements, each of which may wait for a connection and take its time.
    assert!(time("startupProbe", "failureThreshold") >= (database.acquire_timeout + database.statement_timeout) * 5);
    // The server says so within two seconds; an unready replica is out of the endpoints within two more.
    assert!(time("readinessProbe", "failureThreshold") <= Duration::from_secs(2));
    assert!(number(&server()["readinessProbe"]["failureThreshold"]) > 1, "one slow answer is no outage");
    assert!(time("livenessProbe", "failureThreshold") >= Duration::from_secs(20), "a busy server is not a dead one");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let probe = &server()[probe];
        assert!(number(&probe["timeoutSeconds"]) <= number(&probe["periodSeconds"]));
    }
}

#[test]
fn a_stop_ends_before_it_is_killed() {
    let needed = longest_stop(&config());
    // A hook would run before the server hears of the stop, and its time counts too.
    assert!(server()["lifecycle"].is_null(), "a preStop hook belongs into this sum");
    let given = Duration::from_secs(number(&pod()["terminationGracePeriodSeconds"]));
    assert!(given >= needed + STOP_MARGIN, "a stop may take {needed:?}, and is killed after {given:?}");
    assert!(config().server.shutdown_grace >= Duration::from_secs(5), "endpoints need a moment to lose a pod");
}

#[test]
fn updates_lose_no_replica() {
    let deployment = manifest("deployment")["spec"].clone();
    assert!(number(&deployment["replicas"]) >= 2);
    assert_eq!(deployment["strategy"]["rollingUpdate"], json!({ "maxUnavailable": 0, "maxSurge": 1 }));
    assert_eq!(manifest("poddisruptionbudget")["spec"]["maxUnavailable"], 1);
    let labels = &deployment["template"]["metadata"]["labels"];
    let mut selectors = vec![deployment["selector"]["matchLabels"].clone()];
    selectors.extend(["service", "service-headless"].map(|name| manifest(name)["spec"]["selector"].clone()));
    selectors.push(manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"].clone());
    selectors.push(manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"].clone());
    selectors.extend(list(&pod()["topologySpreadConstraints"]).map(|spread| spread["labelSelector"]["matchLabels"].clone()));
    for selector in selectors {
        assert_eq!(&selector, labels, "every selector selects the pods");
    }
}

#[test]
fn secrets_are_references() {
    let files: BTreeSet<String> = fs::read_dir(repository().join(FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "kustomization.yaml" && name != "settings.env")
        .collect();
    let listed = manifest("kustomization")["resources"].clone();
    let resources: BTreeSet<String> = strings(&listed).into_iter().map(str::to_owned).collect();
    assert_eq!(files, resources, "kustomization.yaml lists every manifest");
    for file in &files {
        assert_ne!(yaml(&format!("{FOLDER}/{file}"))["kind"], "Secret", "{file}: no secret lies in the repository");
    }
    let pod = pod();
    let volume = &named(&pod["volumes"], "secrets")["secret"];
    assert_eq!(number(&volume["defaultMode"]), 0o440, "for the user's group, and for nobody else");
    assert_eq!(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"]);
    for container in list(&pod["initContainers"]).chain(list(&pod["containers"])) {
        let mount = named(&container["volumeMounts"], "secrets");
        assert_eq!(mount["readOnly"], true);
        let mounted = list(&volume["items"]).map(|item| format!("{}/{}", string(&mount["mountPath"]), string(&item["path"])));
        let named_by_settings = variables(container).into_iter().filter(|(name, _)| name.ends_with("_FILE")).map(|(_, path)| path);
        assert_eq!(mounted.collect::<BTreeSet<_>>(), named_by_settings.collect::<BTreeSet<_>>());
    }
    for (name, value) in variables(&server()) {
        let key = key(&name).unwrap();
        assert!(!["secrets.root", "database.url"].contains(&key.as_str()), "{name} is a secret: {value}");
    }
}

#[test]
fn pods_have_no_rights_that_they_do_not_need() {
    let pod = pod();
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["serviceAccountName"], manifest("serviceaccount")["metadata"]["name"]);
    assert_eq!(manifest("serviceaccount")["automountServiceAccountToken"], false);
    // A Service named doorward makes variables that begin like settings.
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in list(&pod["initContainers"]).chain(list(&pod["containers"])) {
        let restricted = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } });
        assert_eq!(container["securityContext"], restricted);
    }
    assert_eq!(manifest("namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(manifest("namespace")["metadata"]["name"], manifest("kustomization")["namespace"]);
}

#[test]
fn the_memory_limit_fits_the_hashing_threads() {
    let passwords = config().passwords;
    // Left alone it follows the node's cores, of which the limit knows nothing.
    let threads = u64::try_from(passwords.hash_threads.expect("the number of hashing threads is fixed")).unwrap();
    let needed_kib = threads * u64::from(passwords.memory_kib) * 11 / 10 + 64 * 1024;
    let limit = string(&server()["resources"]["limits"]["memory"]).strip_suffix("Mi").unwrap().parse::<u64>().unwrap();
    // As much again, for a command beside the server, which hashes too.
    assert!(limit * 1024 >= 2 * needed_kib, "{limit} Mi are too little for {threads} threads");
    assert!(server()["resources"]["limits"]["cpu"].is_null(), "a limit of CPU stops validations while passwords are hashed");
}
