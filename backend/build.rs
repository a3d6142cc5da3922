//! Puts the pages (`backend/web`) and the browser SDK (`protocol/js`) into the binary: writes a table of
//! `include_bytes!` for every file found, sorted by its address. New files are picked up by themselves.

use std::error::Error;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What is served, by extension; anything else stays out of the binary.
const SERVED: &[&str] = &[
    "css",
    "gif",
    "html",
    "ico",
    "jpg",
    "js",
    "json",
    "map",
    "mjs",
    "mp3",
    "png",
    "svg",
    "webmanifest",
    "webp",
    "woff2",
];
/// Directories that are for development only.
const NOT_SERVED: &[&str] = &["node_modules", "test", "tests", "vectors"];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let roots = [
        ("/", here.join("web")),
        ("/sdk/", here.join("../protocol/js")),
    ];
    let mut files = Vec::new();
    for (prefix, root) in &roots {
        // Cargo looks at every file below a directory; an absent one is looked for again.
        println!("cargo::rerun-if-changed={}", root.display());
        collect(prefix, root, &mut files)?;
    }
    files.sort();
    let mut table = String::from("pub static FILES: &[Embedded] = &[\n");
    for (address, path) in &files {
        let path = path.canonicalize()?;
        let mut hasher = DefaultHasher::new();
        fs::read(&path)?.hash(&mut hasher);
        let tag = hasher.finish();
        writeln!(
            table,
            "    Embedded {{ address: {address:?}, etag: \"\\\"{tag:016x}\\\"\", bytes: include_bytes!({path:?}) }},"
        )?;
    }
    table.push_str("];\n");
    fs::write(
        PathBuf::from(env::var("OUT_DIR")?).join("embedded.rs"),
        table,
    )?;
    Ok(())
}

fn collect(
    prefix: &str,
    dir: &Path,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<(), Box<dyn Error>> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') || name == "package.json" {
            continue;
        }
        if path.is_dir() {
            if !NOT_SERVED.contains(&name) {
                collect(&format!("{prefix}{name}/"), &path, files)?;
            }
        } else if path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|found| SERVED.contains(&found))
        {
            files.push((format!("{prefix}{name}"), path));
        }
    }
    Ok(())
}
