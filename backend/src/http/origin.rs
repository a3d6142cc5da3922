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
