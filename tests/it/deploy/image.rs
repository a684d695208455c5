//! The image: who runs in it, where it listens, what it is built from.

use std::fs;

use doorward::config::Config;

use super::{assert_is_command, files::*};

#[test]
fn the_image_serves_as_nobody_special() {
    let user = instruction("USER");
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() > 0 && gid.parse::<u32>().unwrap() > 0, "USER is by number and not root: {user}");
    let pod = &yaml("deploy/kubernetes/deployment.yaml")["spec"]["template"]["spec"]["securityContext"];
    assert_eq!(format!("{}:{}", pod["runAsUser"], pod["runAsGroup"]), user, "the pod's user is the image's");
    let data = last_stage().into_iter().find(|(name, words)| name == "COPY" && words.contains("--chown")).unwrap().1;
    assert!(data.contains(&format!("--chown={user}")), "the data folder is the user's: {data}");
    assert!(data.ends_with(&instruction("WORKDIR")), "the server starts in the folder of its data: {data}");
    assert!(last_stage().iter().all(|(name, _)| name != "VOLUME"), "whoever mounts nothing gets no volume without a name");
}

#[test]
fn the_image_listens_where_it_says() {
    let variables = image_variables();
    let defaults = Config::default().server;
    let exposed: Vec<u16> = instruction("EXPOSE").split(' ').map(|port| port.parse().unwrap()).collect();
    assert_eq!(exposed, [defaults.grpc_addr, defaults.http_addr, defaults.ops_addr].map(|addr| addr.port()));
    for (name, port) in ["GRPC", "HTTP", "OPS"].iter().zip(&exposed) {
        assert_eq!(variables[&format!("DOORWARD__SERVER__{name}_ADDR")], format!("0.0.0.0:{port}"), "{name}");
    }
    assert_eq!(variables.len(), 3, "the image chooses nothing for the operator");
    assert!(variables.keys().filter_map(|name| key(name)).all(|key| doorward::config::keys().contains(&key)));
}

#[test]
fn the_image_runs_commands_that_exist() {
    let entry = exec(&instruction("ENTRYPOINT"));
    assert_eq!(entry, ["doorward"]);
    let command = exec(&instruction("CMD"));
    assert_is_command(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let binary = last_stage().into_iter().find(|(name, words)| name == "COPY" && words.contains("/out/doorward ")).unwrap().1;
    assert!(binary.ends_with("/usr/local/bin/doorward"), "on the PATH by the entry point's name: {binary}");
    let health = instruction("HEALTHCHECK");
    let (_, probe) = health.split_once(" CMD ").unwrap();
    assert_eq!(exec(probe), ["doorward", "health"]);
    assert_is_command(&["health"]);
}

#[test]
fn the_image_is_built_by_our_compiler_for_its_base() {
    let stages: Vec<String> = dockerfile().into_iter().filter(|(name, _)| name == "FROM").map(|(_, words)| words).collect();
    let rust = concat!(env!("CARGO_PKG_RUST_VERSION"), "-slim-trixie");
    assert_eq!(stages.first().unwrap(), &format!("docker.io/library/rust:{rust} AS build"), "the toolchain that Cargo.toml names");
    // Debian 13 is trixie. A newer glibc in the builder is one that the base lacks.
    assert_eq!(stages.last().unwrap(), "gcr.io/distroless/cc-debian13:nonroot");
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(instruction("ARG"), format!("VERSION={version}"));
    assert_eq!(yaml("deploy/kubernetes/kustomization.yaml")["images"][0]["newTag"], version);
    for path in ["deploy/compose.yaml", "deploy/compose.postgres.yaml"] {
        assert_eq!(yaml(path)["services"]["doorward"]["image"], format!("doorward:{version}"), "{path}");
    }
    for path in ["deploy/Dockerfile", "deploy/compose.postgres.yaml", "README.md"] {
        let text = text(path);
        let tags = text.match_indices("doorward:").map(|(at, name)| &text[at + name.len()..]);
        let other: Vec<&str> = tags.filter(|tag| tag.starts_with(|c: char| c.is_ascii_digit()) && !tag.starts_with(version)).collect();
        assert!(other.is_empty(), "{path} names an image of another version");
    }
}

/// The allow-list of `.dockerignore`.
fn context() -> Vec<String> {
    let text = text(".dockerignore");
    let rules: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(rules.first(), Some(&"*"), "nothing gets into the build that is not named");
    rules.iter().skip(1).map(|rule| rule.strip_prefix('!').expect("only names that are let in").to_owned()).collect()
}

#[test]
fn the_build_has_what_it_needs_and_nothing_that_is_secret() {
    let context = context();
    for name in &context {
        assert!(repository().join(name).exists(), ".dockerignore lets in {name}, which is not there");
    }
    for needed in ["Cargo.toml", "Cargo.lock", "build.rs", "proto", "src", "migrations"] {
        assert!(context.iter().any(|name| name == needed), ".dockerignore keeps out {needed}");
    }
    for kept in ["deploy", ".git", "target"] {
        assert!(!context.iter().any(|name| name.starts_with(kept)), ".dockerignore lets in {kept}");
    }
}

#[test]
fn the_build_includes_no_file_that_it_lacks() {
    fn walk(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut sources = vec![repository().join("build.rs")];
    walk(&repository().join("src"), &mut sources);
    walk(&repository().join("migrations/src"), &mut sources);
    let context = context();
    let mut included = 0;
    for source in sources.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = fs::read_to_string(source).unwrap();
        for macro_name in ["include_str!(", "include_bytes!("] {
            for (at, _) in text.match_indices(macro_name) {
                let argument = text[at + macro_name.len()..].split(')').next().unwrap();
                included += 1;
                // A file that the build itself makes is named by `concat!(env!("OUT_DIR"), …`.
                let Some(path) = argument.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { continue };
                let whole = fs::canonicalize(source.parent().unwrap().join(path)).unwrap();
                let inner = whole.strip_prefix(fs::canonicalize(repository()).unwrap()).unwrap();
                let is_there = context.iter().any(|name| inner.starts_with(name));
                assert!(is_there, "{} includes {}: let it in by .dockerignore", source.display(), inner.display());
            }
        }
    }
    assert!(included > 0, "src/pb.rs includes the descriptors");
}
