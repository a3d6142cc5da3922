//! The tree keeps the shape that README.md draws: who may know whom, what stands at the top, how files begin.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_PER_FILE_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository is two folders up")
}

/// Paths of the files that git knows or would add, relative to the root.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(listed.status.success(), "the tests run in a git checkout");
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    text.lines()
        .filter(|path| root().join(path).is_file())
        .map(str::to_owned)
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every crate's manifest, by its folder.
fn manifests() -> BTreeMap<String, toml::Table> {
    files()
        .into_iter()
        .filter(|path| path.ends_with("/Cargo.toml") && !path.starts_with("fuzz/targets/"))
        .map(|path| {
            let table = read(&path)
                .parse()
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            (path.trim_end_matches("/Cargo.toml").to_owned(), table)
        })
        .collect()
}

/// Package names of the normal dependencies of a crate (not of its tests).
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let table = manifest
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .cloned()
        .unwrap_or_default();
    table
        .iter()
        .map(|(name, value)| {
            value
                .get("package")
                .and_then(toml::Value::as_str)
                .unwrap_or(name)
                .to_owned()
        })
        .map(|name| workspace_package(&name))
        .collect()
}

/// `protocol = { package = "tidegate-protocol" }` may stand in the workspace's table.
fn workspace_package(name: &str) -> String {
    let manifest: toml::Table = read("Cargo.toml")
        .parse()
        .expect("the root manifest parses");
    manifest["workspace"]["dependencies"]
        .get(name)
        .and_then(|value| value.get("package"))
        .and_then(toml::Value::as_str)
        .unwrap_or(name)
        .to_owned()
}

#[test]
fn the_top_level_holds_what_the_readme_names_and_nothing_else() {
    let allowed = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "backend",
        "bench",
        "fuzz",
        "gateway",
        "protocol",
        "rust-toolchain.toml",
        "scripts",
        "shm-bus",
    ];
    let strangers: Vec<String> = files()
        .iter()
        .filter_map(|path| path.split('/').next())
        .filter(|top| !top.starts_with('.') && !allowed.contains(top))
        .map(str::to_owned)
        .collect();
    assert_eq!(strangers, Vec::<String>::new());
}

#[test]
fn protocol_and_bus_know_nothing_of_ours_and_gateway_and_backend_not_each_other() {
    let manifests = manifests();
    let ours = |folder: &str| -> Vec<String> {
        let found = dependencies(&manifests[folder]);
        found
            .into_iter()
            .filter(|name| name.starts_with("tidegate"))
            .collect()
    };
    assert_eq!(ours("protocol"), Vec::<String>::new());
    assert_eq!(ours("shm-bus"), Vec::<String>::new());
    for folder in ["gateway", "backend"] {
        let strangers: Vec<String> = ours(folder)
            .into_iter()
            .filter(|name| !["tidegate-protocol", "tidegate-shm-bus"].contains(&name.as_str()))
            .collect();
        assert_eq!(
            strangers,
            Vec::<String>::new(),
            "{folder} may know protocol and shm-bus only"
        );
    }
}

#[test]
fn each_world_keeps_its_runtime_to_itself() {
    let homes: [(&str, &[&str]); 5] = [
        ("glommio", &["gateway", "bench"]),
        ("io-uring", &["gateway", "bench"]),
        ("axum", &["backend", "bench"]),
        ("tokio", &["backend", "bench"]),
        ("rusqlite", &["backend", "bench", "fuzz"]),
    ];
    for (folder, manifest) in manifests() {
        let found = dependencies(&manifest);
        for (name, allowed) in homes {
            assert!(
                !found.iter().any(|dependency| dependency == name)
                    || allowed.contains(&folder.as_str()),
                "{folder} depends on {name}, which belongs to {allowed:?}"
            );
        }
    }
}

#[test]
fn every_crate_inherits_the_workspace_lints() {
    for (folder, manifest) in manifests() {
        let inherited = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        assert_eq!(
            inherited,
            Some(true),
            "{folder}/Cargo.toml lacks `[lints] workspace = true`"
        );
    }
}

#[test]
fn dependencies_are_sorted() {
    for path in files().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let mut section = String::new();
        let mut previous = String::new();
        for line in read(path).lines() {
            if line.starts_with('[') || line.starts_with('#') {
                section = line.to_owned();
                previous.clear();
            } else if section.contains("dependencies]") || section.starts_with("# ") {
                let name = line
                    .split(['=', '.', ' '])
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                if name.is_empty() || !line.contains('=') {
                    continue;
                }
                assert!(
                    previous <= name,
                    "{path}: {name} stands after {previous} in {section}"
                );
                previous = name;
            }
        }
    }
}

#[test]
fn every_source_file_begins_by_saying_what_it_is() {
    let silent: Vec<String> = files()
        .into_iter()
        .filter(|path| !path.contains("/generated/") && !path.contains("/vendor/"))
        .filter(
            |path| match path.rsplit_once('.').map(|(_, extension)| extension) {
                Some("rs") => !read(path).starts_with("//") && !read(path).starts_with("#![doc ="),
                Some("js" | "mjs" | "ts") => {
                    !["//", "/*"].iter().any(|mark| read(path).starts_with(mark))
                }
                Some("py" | "sh") => !read(path).starts_with(['#', '"']),
                Some("sql") => !read(path).starts_with("--"),
                _ => false,
            },
        )
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn no_file_holds_more_than_a_person_reads_at_once() {
    let long: Vec<String> = files()
        .into_iter()
        .filter(|path| !path.contains("/generated/") && !path.contains("/vendor/"))
        .filter(|path| {
            [".rs", ".js", ".mjs", ".py", ".css", ".sh"]
                .iter()
                .any(|ending| path.ends_with(ending))
        })
        .filter(|path| read(path).lines().count() > LINES_PER_FILE_MAX)
        .collect();
    assert_eq!(long, Vec::<String>::new(), "split these by concept");
}

#[test]
fn no_name_says_nothing() {
    let vague: Vec<String> = files()
        .into_iter()
        .filter(|path| {
            let stem = |part: &str| part.split('.').next().unwrap_or_default().to_owned();
            path.split('/').any(|part| {
                ["util", "utils", "common", "misc", "helpers", "manager"]
                    .contains(&stem(part).as_str())
            })
        })
        .collect();
    assert_eq!(vague, Vec::<String>::new());
}
