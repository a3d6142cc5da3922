//! What a person sees when everything is up.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// What the banner tells.
#[derive(Debug)]
pub struct Started<'a> {
    /// Where pages and REST are served.
    pub http: SocketAddr,
    /// Where the gateways' figures are served.
    pub metrics: Option<SocketAddr>,
    /// Addresses of this machine that a phone can open; empty without `--lan`.
    pub lan: &'a [IpAddr],
    /// Where everything is kept.
    pub data_dir: &'a Path,
    /// User and fresh password of the demo agent on the first start.
    pub first_agent: Option<(String, String)>,
    /// The user to name in advice on a later start.
    pub agent_user: &'a str,
    /// The bus, where it is left to a backend of the reader's own.
    pub free_bus: Option<&'a Path>,
    /// Whether the reader is a terminal.
    pub colours: bool,
}

/// The banner as text.
pub fn banner(started: &Started<'_>) -> String {
    let port = started.http.port();
    let host = if started.http.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        started.http.ip().to_string()
    };
    let mut text = String::from("\n  Tidegate is up.\n\n");
    let mut line = |label: &str, value: &str| {
        let _infallible = writeln!(text, "  {label:<15} {value}");
    };
    line("visitor page", &format!("http://{host}:{port}/"));
    if started.free_bus.is_none() {
        line("agent console", &format!("http://{host}:{port}/agent/"));
    }
    match &started.first_agent {
        _ if started.free_bus.is_some() => {}
        Some((user, password)) => {
            line(
                "",
                &format!("user {user}   password {password}   (shown this once)"),
            );
        }
        None => line(
            "",
            &format!(
                "password unknown?  tidegate agent passwd {}",
                started.agent_user
            ),
        ),
    }
    match started.free_bus {
        Some(bus) => {
            line("bus", &format!("{}   (no backend: yours)", bus.display()));
            line("try", "python3 shm-bus/examples/echo_backend.py");
        }
        None => line("admin", &format!("http://{host}:{port}/admin/")),
    }
    let gateways = started
        .metrics
        .map(|address| format!("   http://{address}/metrics"))
        .unwrap_or_default();
    line(
        "metrics",
        &format!("http://{host}:{port}/metrics{gateways}"),
    );
    // Without a backend nobody makes the first agent, by whom a first start is known.
    let kept = match (started.free_bus, &started.first_agent) {
        (Some(_), _) => "",
        (None, Some(_)) => "   (new)",
        (None, None) => "   (kept from earlier starts)",
    };
    line("data", &format!("{}{kept}", started.data_dir.display()));
    line("stop", "Ctrl+C");
    line(
        "begin afresh",
        &format!("stop, then: rm -r {}", quoted(started.data_dir)),
    );
    for address in started.lan {
        let url = format!("http://{}/", SocketAddr::new(*address, port));
        let _infallible = writeln!(text, "\n  on a phone      {url}");
        if let Ok(code) = QrCode::new(&url) {
            let drawn = code.render::<Dense1x2>().quiet_zone(true).build();
            // Black on white whatever the terminal's colours are: a phone's camera wants it so.
            let (paint, plain) = if started.colours {
                ("\x1b[30;107m", "\x1b[0m")
            } else {
                ("", "")
            };
            for row in drawn.lines() {
                let _infallible = writeln!(text, "    {paint}{row}{plain}");
            }
        }
    }
    text
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(first_agent: Option<(String, String)>, lan: &[IpAddr]) -> String {
        banner(&Started {
            http: "127.0.0.1:8600".parse().expect("an address"),
            metrics: "127.0.0.1:8602".parse().ok(),
            lan,
            data_dir: Path::new("/srv/my chat"),
            first_agent,
            agent_user: "demo",
            free_bus: None,
            colours: false,
        })
    }

    #[test]
    fn without_a_backend_the_bus_is_shown_and_no_console_that_nobody_serves() {
        let text = banner(&Started {
            http: "127.0.0.1:8600".parse().expect("an address"),
            metrics: None,
            lan: &[],
            data_dir: Path::new("/srv/chat"),
            first_agent: Some(("demo".to_owned(), "abcd".to_owned())),
            agent_user: "demo",
            free_bus: Some(Path::new("/dev/shm/my-bus")),
            colours: false,
        });
        assert!(text.contains("/dev/shm/my-bus"), "{text}");
        assert!(
            !text.contains("/agent/") && !text.contains("/admin/") && !text.contains("abcd"),
            "{text}"
        );
        assert!(!text.contains("(new)") && !text.contains("kept"), "{text}");
    }

    #[test]
    fn the_first_start_shows_the_password_and_a_later_one_how_to_set_it() {
        let first = started(Some(("demo".to_owned(), "abcd-efgh".to_owned())), &[]);
        assert!(
            first.contains("password abcd-efgh") && first.contains("(new)"),
            "{first}"
        );
        let later = started(None, &[]);
        assert!(
            later.contains("tidegate agent passwd demo") && later.contains("kept"),
            "{later}"
        );
        assert!(later.contains("rm -r '/srv/my chat'"), "{later}");
    }

    #[test]
    fn an_address_of_the_lan_comes_with_a_code_for_a_phone() {
        let text = started(None, &["192.0.2.7".parse().expect("an address")]);
        assert!(text.contains("http://192.0.2.7:8600/"), "{text}");
        assert!(
            text.lines().filter(|line| line.contains('█')).count() > 8,
            "{text}"
        );
    }
}
