//! Host and Origin: what a web page may do to a listener on loopback (the decision is in [`super`]).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::serve::Connection;
use super::{ApiError, Common};

/// Refuses changing requests that a foreign page may have sent over loopback.
pub(super) async fn guard(State(common): State<Common>, request: Request, next: Next) -> Response {
    // Consuming takes records from others, whatever its method says.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && request.uri().path() != "/consume";
    // Without the extension nobody listened (a test called the router): judged as loopback, the strict case.
    let loopback = request.extensions().get::<Connection>().is_none_or(|from| from.local.is_loopback());
    if !reads
        && loopback
        && let Err(why) = check(request.headers(), request.uri(), &common.config.allowed_hosts)
    {
        return ApiError::Forbidden(why).into_response();
    }
    next.run(request).await
}

fn check(headers: &HeaderMap, uri: &Uri, allowed: &[String]) -> Result<(), String> {
    let ok =
        |host: &str| is_loopback_host(host) || allowed.iter().any(|name| name.eq_ignore_ascii_case(host));
    // HTTP/1.0 clients may leave Host out; browsers never do.
    if let Some(value) = headers.get(header::HOST) {
        let host = value.to_str().unwrap_or_default();
        if !ok(without_port(host)) {
            return Err(format!("host {host:?} is not this machine: see allowed_hosts in the configuration"));
        }
    } else if let Some(host) = uri.host().filter(|host| !ok(host)) {
        return Err(format!("host {host:?} is not this machine: see allowed_hosts in the configuration"));
    }
    if let Some(value) = headers.get(header::ORIGIN) {
        let origin = value.to_str().unwrap_or_default();
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        if !ok(without_port(host)) {
            return Err(format!("origin {origin:?} may not change this machine: see allowed_hosts"));
        }
    }
    Ok(())
}

fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let ip = bare.parse::<std::net::IpAddr>();
    ip.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

/// `localhost:8090`, `[::1]:8090`, `127.0.0.1` without the port.
fn without_port(host: &str) -> &str {
    let end = host.rfind(']').unwrap_or(0);
    host[end..].find(':').map_or(host, |colon| &host[..end + colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().expect("a header value"));
            }
        }
        check(&headers, &Uri::from_static("/x"), &["node7.example".to_owned()]).is_ok()
    }

    #[test]
    fn only_this_machine_may_be_named() {
        let ours =
            ["localhost", "LOCALHOST:8090", "127.0.0.1:8090", "127.1.2.3", "[::1]:8090", "node7.example:1"];
        for host in ours {
            assert!(verdict(Some(host), None), "{host}");
            assert!(verdict(Some(host), Some(&format!("http://{host}"))), "{host} as origin");
        }
        assert!(verdict(None, None), "curl --http1.0");
        for host in
            ["evil.example", "evil.example:8090", "localhost.evil.example", "10.0.0.1", "", "[", "]:", "::"]
        {
            assert!(!verdict(Some(host), None), "{host}");
        }
        for origin in ["http://evil.example", "null", "", "https://127.0.0.1.evil.example", "file://"] {
            assert!(!verdict(Some("localhost:8090"), Some(origin)), "{origin}");
        }
    }
}
