//! Pages, scripts and styles: embedded in the binary by `build.rs`, or read from a directory while somebody works
//! on them (`web_dir`, `sdk_dir`). Only GET and HEAD; an ETag each; always revalidated, so an upgrade shows at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::HttpState;
use super::problem::Problem;

/// One file in the binary.
pub struct Embedded {
    address: &'static str,
    etag: &'static str,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// `GET` of anything that is no route: a file, or 404.
pub async fn file(
    State(state): State<Arc<HttpState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = uri.path();
    if path.starts_with("/api/") {
        return Err(Problem::not_found());
    }
    let address = if path.ends_with('/') {
        format!("{path}index.html")
    } else {
        path.to_owned()
    };
    if let Some(response) = on_disk(&state, &address, &headers) {
        return Ok(response);
    }
    if let Some(file) = embedded(&address) {
        return Ok(serve(&address, file.etag, &headers, || file.bytes.into()));
    }
    // `/agent` means `/agent/`: relative addresses in the page would break otherwise.
    let index = format!("{path}/index.html");
    if embedded(&index).is_some() || on_disk(&state, &index, &headers).is_some() {
        let query = uri
            .query()
            .map_or_else(String::new, |query| format!("?{query}"));
        let location =
            HeaderValue::from_str(&format!("{path}/{query}")).map_err(|_| Problem::not_found())?;
        return Ok((
            StatusCode::PERMANENT_REDIRECT,
            [(header::LOCATION, location)],
        )
            .into_response());
    }
    Err(Problem::not_found())
}

fn embedded(address: &str) -> Option<&'static Embedded> {
    let place = FILES
        .binary_search_by(|file| file.address.cmp(address))
        .ok()?;
    FILES.get(place)
}

/// From the development directories; `None`: not configured, or no such file.
fn on_disk(state: &HttpState, address: &str, headers: &HeaderMap) -> Option<Response> {
    let (root, rest) = match address.strip_prefix("/sdk/") {
        Some(rest) => (&state.config.sdk_dir, rest),
        None => (&state.config.web_dir, address.strip_prefix('/')?),
    };
    if root.as_os_str().is_empty() {
        return None;
    }
    // Development only, small files, a warm cache: not worth a thread.
    let bytes = std::fs::read(inside(root, rest)?).ok()?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    Some(serve(address, &etag, headers, || bytes))
}

/// A path below a directory: no way up, no hidden files, no percent signs (our files have none).
fn inside(root: &Path, rest: &str) -> Option<PathBuf> {
    let rest = Path::new(rest);
    let plain = |component: Component<'_>| match component {
        Component::Normal(name) => name
            .to_str()
            .is_some_and(|name| !name.starts_with('.') && !name.contains('%')),
        _ => false,
    };
    rest.components().all(plain).then(|| root.join(rest))
}

fn serve(
    address: &str,
    etag: &str,
    headers: &HeaderMap,
    bytes: impl FnOnce() -> Vec<u8>,
) -> Response {
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| {
        known
            .split(',')
            .any(|tag| tag.trim().trim_start_matches("W/") == etag)
    });
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        bytes().into_response()
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type(address)),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn content_type(address: &str) -> &'static str {
    match address
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension)
    {
        "css" => "text/css; charset=utf-8",
        "gif" => "image/gif",
        "html" => "text/html; charset=utf-8",
        "ico" => "image/x-icon",
        "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "mp3" => "audio/mpeg",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "webmanifest" => "application/manifest+json",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_file_has_a_type() {
        assert!(FILES.is_sorted_by_key(|file| file.address));
        for file in FILES {
            assert_ne!(
                content_type(file.address),
                "application/octet-stream",
                "{}",
                file.address
            );
        }
    }

    #[test]
    fn no_address_leads_out_of_the_directory() {
        let root = Path::new("/srv/web");
        assert_eq!(
            inside(root, "ui/chat.js"),
            Some(PathBuf::from("/srv/web/ui/chat.js"))
        );
        for bad in [
            "../x",
            "a/../../x",
            "/etc/passwd",
            ".git/config",
            "a/.b",
            "%2e%2e/x",
            "./x",
        ] {
            assert_eq!(inside(root, bad), None, "{bad}");
        }
    }
}
