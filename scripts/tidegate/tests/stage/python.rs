//! Programs of the repository in Python, with the library that cargo built for this test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `python3` on a file of the repository, ended after two minutes at the latest.
pub fn python(script: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["120", "python3"]);
    with_library(command, script)
}

/// The same without a bound, for whom a test stops and kills by its own process id.
pub fn python_itself(script: &str) -> Command {
    with_library(Command::new("python3"), script)
}

fn with_library(mut python: Command, script: &str) -> Command {
    let test = std::env::current_exe().expect("a test has a path");
    let library = test.with_file_name("libtidegate_bus.so");
    assert!(library.exists(), "{}", library.display());
    python
        .arg(root().join(script))
        .env("TIDEGATE_BUS_LIB", library)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    python
}
