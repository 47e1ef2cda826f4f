use std::net::IpAddr;

/// Whether what is sent to this address can be read by no one on the way: HTTPS, or this very machine.
pub(crate) fn is_safe_address(url: &str) -> bool {
    let Ok(uri) = url.parse::<::http::Uri>() else { return false };
    uri.scheme_str() == Some("https") || uri.host().is_some_and(is_this_machine)
}

pub(super) fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_safe_on_this_machine_only() {
        for url in
            ["https://example.test", "http://127.0.0.1:1", "http://127.8.0.1", "http://[::1]:9", "http://localhost"]
        {
            assert!(is_safe_address(url), "{url}");
        }
        for url in ["http://example.test", "http://127.0.0.1.example.test", "http://localhost.example.test", "", "/x"] {
            assert!(!is_safe_address(url), "{url}");
        }
    }
}
