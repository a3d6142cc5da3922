//! The one allow-list of origins, for CORS and `frame-ancestors`: the configuration's, and those that
//! administrators gave to widgets.

/// Is this an origin as a browser sends it (`scheme://host[:port]`), or `*`?
///
/// # Errors
/// A sentence that says what to write instead.
pub fn check(origin: &str) -> Result<(), &'static str> {
    if origin == "*" {
        return Ok(());
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err("write scheme and host, for example https://shop.example");
    };
    if scheme != "https" && scheme != "http" {
        return Err("the scheme is http or https");
    }
    if host.is_empty()
        || host.contains(['/', '?', '#', '@', ' ', '*', ';', ',', '\'', '"'])
        || !host.is_ascii()
    {
        return Err("write the host alone, without path; international names in their xn-- form");
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("browsers send origins in lower case");
    }
    Ok(())
}

/// The list as it stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    origins: Vec<String>,
}

impl AllowList {
    /// From the configuration's origins and the widgets'.
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a String>) -> Self {
        let mut origins: Vec<String> = origins.into_iter().cloned().collect();
        origins.sort_unstable();
        origins.dedup();
        Self { origins }
    }

    /// May pages of this origin call the API from a browser?
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.origins
            .iter()
            .any(|allowed| allowed == "*" || allowed == origin)
    }

    /// Who may show the widget in a frame: the value of `frame-ancestors`.
    #[must_use]
    pub fn frame_ancestors(&self) -> String {
        if self.origins.iter().any(|origin| origin == "*") {
            return "*".to_owned();
        }
        let mut value = "'self'".to_owned();
        for origin in &self.origins {
            value.push(' ');
            value.push_str(origin);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_checked_before_they_reach_a_header() {
        for good in [
            "*",
            "https://shop.example",
            "http://127.0.0.1:8080",
            "https://xn--fsq.example",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "shop.example",
            "https://",
            "https://a/b",
            "https://a;script-src",
            "HTTPS://a",
            "ftp://a",
            "https://*.a",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_list_serves_cors_and_frames() {
        let list = AllowList::new(&["https://shop.example".to_owned()]);
        assert!(list.allows("https://shop.example"));
        assert!(!list.allows("https://shop.example.evil.example"));
        assert!(!list.allows("null"));
        assert_eq!(list.frame_ancestors(), "'self' https://shop.example");
        assert_eq!(AllowList::new(&["*".to_owned()]).frame_ancestors(), "*");
    }
}
