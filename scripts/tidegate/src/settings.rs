//! One settings file < environment < flags. Every key has a default; an unknown key is a mistake that is explained.
//!
//! `TIDEGATE_GATEWAY__LISTEN=0.0.0.0:8601` sets `listen` of `[gateway]`: a double underscore goes a table deeper.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};
use serde::{Deserialize, Serialize};

use crate::logging::{self, LogSettings};

/// Where the settings file is looked for when no flag names one.
pub const DEFAULT_FILE: &str = "tidegate.toml";

const ENVIRONMENT_PREFIX: &str = "TIDEGATE_";
/// Variables that start with the prefix but are no settings.
const NOT_SETTINGS: [&str; 6] = [
    "clock_file",
    "config",
    "fault",
    "store_fault",
    "store_fault_once",
    "supervised",
];
/// A file with more mistakes than this is not one of ours.
const MISTAKES_MAX: usize = 50;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Database, secrets, journals. Created with mode 0700 on the first start.
    pub data_dir: PathBuf,
    /// The shared-memory bus. Empty: a directory under /dev/shm named after the user and the data directory.
    pub bus_dir: PathBuf,
    /// Who may look at the bus.
    pub bus: BusSettings,
    /// Log lines.
    pub log: LogSettings,
    /// The supervisor.
    pub up: UpSettings,
    /// The gateway processes.
    pub gateway: tidegate_gateway::Config,
    /// The backend process.
    pub backend: tidegate_backend::Config,
}

/// The `[bus]` table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusSettings {
    /// Members of this group (a name in /etc/group, or a number) may look at everything that goes over the bus: texts,
    /// names, and tokens that are good until they expire. Read-only: `tidegate bus … --bus DIRECTORY`. Empty: nobody
    /// but this user.
    #[serde(deserialize_with = "name_or_number")]
    pub tap_group: String,
}

/// A variable of the environment that looks like a number is one.
fn name_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a group's name or number")]
    enum Group {
        Name(String),
        Number(u32),
    }
    Ok(match Group::deserialize(from)? {
        Group::Name(name) => name,
        Group::Number(number) => number.to_string(),
    })
}

impl BusSettings {
    /// The group's number, if there is one.
    ///
    /// # Errors
    /// A name that is not in /etc/group.
    pub fn tap_group_id(&self) -> Result<Option<u32>> {
        let name = self.tap_group.as_str();
        if name.is_empty() {
            return Ok(None);
        }
        if let Ok(id) = name.parse() {
            return Ok(Some(id));
        }
        let groups = std::fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
        let found = groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1))?
        });
        let id = found.and_then(|id| id.parse().ok());
        id.with_context(|| {
            format!("no group {name} in /etc/group; name one that is there, or give its number")
        })
        .map(Some)
    }
}

/// The `[up]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpSettings {
    /// Gateway processes that share the port. More than one is for going past a process's limit of descriptors.
    pub gateways: usize,
    /// Milliseconds that the processes get between SIGTERM and SIGKILL.
    pub stop_ms_max: u64,
    /// Whether the first start makes an agent `demo` with a password of its own.
    pub demo_agent: bool,
}

impl Default for UpSettings {
    fn default() -> Self {
        Self {
            gateways: 1,
            stop_ms_max: 10_000,
            demo_agent: true,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("tidegate-data"),
            bus_dir: PathBuf::new(),
            bus: BusSettings::default(),
            log: LogSettings::default(),
            up: UpSettings::default(),
            gateway: tidegate_gateway::Config::default(),
            backend: tidegate_backend::Config::default(),
        }
    }
}

/// One thing that is wrong in the settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `gateway.listen`
    pub key: String,
    /// The file or variable it stands in.
    pub place: String,
    /// What was expected and found.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`: {}", self.place, self.key, self.what)
    }
}

/// Where settings come from: the file (if there is one), then the environment.
pub fn sources(file: Option<&Path>) -> Result<Figment> {
    let mut figment = Figment::from(Serialized::defaults(Settings::default()));
    let named = file.is_some();
    let file = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    if file.exists() {
        figment = figment.merge(Toml::file_exact(file));
    } else if named {
        anyhow::bail!(
            "settings file {} does not exist; leave --config away to run on the defaults",
            file.display()
        );
    }
    Ok(figment.merge(
        Env::prefixed(ENVIRONMENT_PREFIX)
            .ignore(&NOT_SETTINGS)
            .split("__"),
    ))
}

/// The settings, or the first mistake in a sentence.
pub fn load(figment: &Figment) -> Result<Settings> {
    match explain(figment) {
        Ok(settings) => Ok(settings),
        Err(found) => {
            let more = found.len() - 1;
            let tail = if more > 0 {
                format!(" (and {more} more: tidegate check-config shows all)")
            } else {
                String::new()
            };
            anyhow::bail!("{}{tail}", found[0])
        }
    }
}

/// The settings, or everything that is wrong with them.
pub fn explain(figment: &Figment) -> Result<Settings, Vec<Mistake>> {
    let mut found = mistakes(figment);
    if found.is_empty() {
        match resolve(figment) {
            Ok(settings) => {
                found = contradictions(figment, &settings);
                let tap_group = settings.bus.tap_group_id().err();
                let tap_group = tap_group.map(|error| error.to_string());
                found.extend(unworkable("bus.tap_group", tap_group));
                found.extend(unworkable("backend", settings.backend.mistakes()));
                found.extend(unworkable(
                    "gateway",
                    tidegate_gateway::run::check(&settings.gateway)
                        .err()
                        .map(|error| error.to_string()),
                ));
                if found.is_empty() {
                    return Ok(settings);
                }
            }
            Err(error) => {
                found.push(Mistake {
                    key: "settings".to_owned(),
                    place: "settings".to_owned(),
                    what: format!("{error:#}"),
                });
            }
        }
    }
    Err(found)
}

/// What a part says of its own table.
fn unworkable(
    table: &str,
    sentences: impl IntoIterator<Item = String>,
) -> impl Iterator<Item = Mistake> {
    sentences.into_iter().map(move |what| Mistake {
        key: table.to_owned(),
        place: "settings".to_owned(),
        what,
    })
}

/// Every mistake that the sources hold. Finds them one by one: takes the offending key out and reads again.
pub fn mistakes(figment: &Figment) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut rest = match figment.data() {
        Ok(mut data) => data.remove(&Profile::Default).unwrap_or_default(),
        Err(error) => {
            return error
                .into_iter()
                .map(|one| mistake(figment, &one, &one.path))
                .collect();
        }
    };
    while found.len() < MISTAKES_MAX {
        let Err(errors) = Figment::from(Serialized::defaults(&rest)).extract::<Settings>() else {
            break;
        };
        for error in errors {
            let mut path = error.path.clone();
            if let Kind::UnknownField(field, _) = &error.kind
                && path.last() != Some(field)
            {
                path.push(field.clone());
            }
            found.push(mistake(figment, &error, &path));
            if !remove(&mut rest, &path) {
                return found;
            }
        }
    }
    found
}

fn mistake(figment: &Figment, error: &figment::Error, path: &[String]) -> Mistake {
    let key = path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(_, expected) => {
            format!("no such key; expected one of: {}", expected.join(", "))
        }
        kind => kind.to_string(),
    };
    Mistake {
        place: place(figment, &key),
        key,
        what,
    }
}

/// The file or the variable that gave a key its value.
fn place(figment: &Figment, key: &str) -> String {
    match figment.find_metadata(key) {
        Some(data) if data.name.contains("environment") => {
            format!(
                "environment {ENVIRONMENT_PREFIX}{}",
                key.replace('.', "__").to_uppercase()
            )
        }
        Some(data) => data
            .source
            .as_ref()
            .map_or_else(|| "settings".to_owned(), ToString::to_string),
        None => "settings".to_owned(),
    }
}

fn remove(dict: &mut Dict, path: &[String]) -> bool {
    match path {
        [] => false,
        [last] => dict.remove(last).is_some(),
        [first, rest @ ..] => match dict.get_mut(first) {
            Some(Value::Dict(_, inner)) => remove(inner, rest),
            // A list with a bad element goes as a whole.
            Some(_) => dict.remove(first).is_some(),
            None => false,
        },
    }
}

/// Makes paths absolute and fills in what follows from other keys: both processes use one bus, one token key and
/// one port, so those stand in one place only.
fn resolve(figment: &Figment) -> Result<Settings> {
    let mut settings: Settings = figment.extract().context("settings")?;
    logging::parse_level(&settings.log.level)?;
    settings.data_dir = std::path::absolute(&settings.data_dir).context("data_dir")?;
    if settings.bus_dir.as_os_str().is_empty() {
        settings.bus_dir = default_bus_dir(&settings.data_dir);
    }
    settings.backend.data_dir.clone_from(&settings.data_dir);
    settings.backend.bus_dir.clone_from(&settings.bus_dir);
    settings.gateway.bus_dir.clone_from(&settings.bus_dir);
    settings.gateway.token_key_file = settings.backend.token_key_path();
    settings.backend.ws_port = settings.gateway.listen.port();
    if settings.gateway.shards == 0 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        settings.gateway.shards = u16::try_from(cores).unwrap_or(u16::MAX);
    }
    Ok(settings)
}

/// Keys of the parts that follow from another key, and which.
const DERIVED: [(&str, &str); 5] = [
    ("backend.data_dir", "data_dir"),
    ("backend.bus_dir", "bus_dir"),
    ("gateway.bus_dir", "bus_dir"),
    ("gateway.token_key_file", "backend.token_key_file"),
    ("backend.ws_port", "the port in gateway.listen"),
];

/// Derived keys that say something else than what they follow from.
fn contradictions(figment: &Figment, resolved: &Settings) -> Vec<Mistake> {
    let truth = Figment::from(Serialized::defaults(resolved));
    let defaults = Figment::from(Serialized::defaults(Settings::default()));
    // As text: a number from a file and the same number from a default are of different types.
    let value = |figment: &Figment, key: &str| {
        let value = figment.find_value(key).ok()?;
        value
            .as_str()
            .map(str::to_owned)
            .or_else(|| Some(value.to_num()?.to_u128_lossy()?.to_string()))
    };
    DERIVED
        .iter()
        .filter(|(key, _)| {
            let said = value(figment, key);
            said != value(&truth, key) && said != value(&defaults, key)
        })
        .map(|(key, source)| Mistake {
            key: (*key).to_owned(),
            place: place(figment, key),
            what: format!("follows from {source}; set that instead and leave this key away"),
        })
        .collect()
}

/// /dev/shm/tidegate-UID-HASH: one bus for each data directory of each user.
fn default_bus_dir(data_dir: &Path) -> PathBuf {
    // FNV-1a: only has to tell one user's data directories apart, and to stay the same between versions.
    let hash = data_dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    PathBuf::from(format!(
        "/dev/shm/tidegate-{}-{:08x}",
        rustix::process::getuid().as_raw(),
        hash >> 32
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Figment {
        Figment::from(Serialized::defaults(Settings::default())).merge(Toml::string(text))
    }

    #[test]
    fn the_defaults_hold_no_mistake() {
        assert_eq!(mistakes(&from_text("")), []);
    }

    #[test]
    fn every_mistake_of_a_file_is_found_and_named_by_its_key() {
        let found = mistakes(&from_text(
            "datadir = 'x'\n[up]\ngateways = 'two'\n[log]\nformat = 'xml'\ncolour = true\n",
        ));
        let mut keys: Vec<_> = found.iter().map(|mistake| mistake.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["datadir", "log.colour", "log.format", "up.gateways"],
            "{found:?}"
        );
    }

    #[test]
    fn an_unknown_key_lists_the_known_ones() {
        let found = mistakes(&from_text("[up]\ngateway = 2\n"));
        assert!(found[0].what.contains("gateways"), "{found:?}");
    }

    #[test]
    fn a_tap_group_is_a_name_or_a_number() {
        let group = |name: &str| {
            let tap_group = name.to_owned();
            BusSettings { tap_group }.tap_group_id()
        };
        assert_eq!(group("").expect("nobody"), None);
        assert_eq!(group("4711").expect("a number"), Some(4711));
        assert_eq!(group("root").expect("every /etc/group has it"), Some(0));
        let number = explain(&from_text("bus.tap_group = 4711")).expect("a number is taken");
        assert_eq!(number.bus.tap_group, "4711");
        let wrong = mistakes(&from_text("bus.tap_group = true"));
        assert_eq!(wrong[0].key, "bus.tap_group", "{wrong:?}");
        let error = group("no such group").expect_err("there is none");
        assert!(error.to_string().contains("or give its number"), "{error}");
    }

    #[test]
    fn two_data_directories_have_two_buses() {
        assert_ne!(
            default_bus_dir(Path::new("/a")),
            default_bus_dir(Path::new("/b"))
        );
    }
}
