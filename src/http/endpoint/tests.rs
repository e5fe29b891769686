use super::*;

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new(url).expect("it is valid")
}

/// Where a request for `target` goes.
fn directed(url: &str, target: &str) -> String {
    let mut request = Request::new(());
    *request.uri_mut() = target.parse().expect("it is a URI");
    endpoint(url).apply(&mut request);
    request.uri().to_string()
}

#[test]
fn a_request_goes_to_the_endpoint_with_its_own_path_and_query() {
    for (url, target, expected) in [
        (
            "https://eu.example",
            "/v1/m?a=b",
            "https://eu.example/v1/m?a=b",
        ),
        (
            "https://eu.example/",
            "http://us.example:80/v1",
            "https://eu.example/v1",
        ),
        (
            "http://[::1]:8080",
            "https://us.example",
            "http://[::1]:8080/",
        ),
        ("HTTPS://eu.example", "/", "https://eu.example/"),
        (
            "https://eu.example/base",
            "/v1/m?a=b",
            "https://eu.example/base/v1/m?a=b",
        ),
        (
            "https://eu.example/base//",
            "/v1",
            "https://eu.example/base/v1",
        ),
        (
            "https://eu.example/a/b",
            "https://us.example?q",
            "https://eu.example/a/b/?q",
        ),
        (
            "https://eu.example",
            "https://us.example?q",
            "https://eu.example/?q",
        ),
        (
            "https://eu.example/base",
            "//evil.example/v1",
            "https://eu.example/base//evil.example/v1",
        ),
        (
            "https://eu.example",
            "//evil.example/v1",
            "https://eu.example//evil.example/v1",
        ),
        ("https://eu.example/base", "*", "https://eu.example/base/"),
        (
            "https://eu.example",
            "us.example:443",
            "https://eu.example/",
        ),
    ] {
        assert_eq!(directed(url, target), expected, "{url} {target}");
    }
}

#[test]
fn a_path_too_long_for_a_uri_with_the_base_stays_too_long_for_any_server() {
    let base = "https://eu.example/base";
    // One is left for the `/` that a path of a query alone gets.
    let fits = LONGEST_URI - "/base/".len() - 1;
    let target = format!("/{}?q", "x".repeat(fits - 2));
    assert_eq!(directed(base, &target), format!("{base}{target}"));
    let longer = format!("/{}?q", "x".repeat(fits - 1));
    assert_eq!(
        directed(base, &longer),
        format!("https://eu.example{longer}")
    );
}

#[test]
fn a_host_header_follows_and_none_is_invented() {
    let mut request = Request::new(());
    endpoint("https://eu.example:8443/base").apply(&mut request);
    assert!(request.headers().is_empty());
    for host in ["us.example", "other.example"] {
        let host = HeaderValue::from_static(host);
        request.headers_mut().append(header::HOST, host);
    }
    endpoint("https://eu.example:8443/base").apply(&mut request);
    let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
    assert_eq!(hosts, ["eu.example:8443"]);
}

#[test]
fn a_url_that_is_no_base_is_refused_without_being_printed() {
    let write = "write it as https://host/base";
    let own = "the URL of `eu.example`";
    let no_port = "the URL of `eu.example` has no proper host and port; \
                   write it as https://host:443/base";
    let no_user = "a user or password never goes into a URL; give it to a key's `Source`";
    let no_query = "has a query or fragment, which are a request's own; leave it out";
    for (url, problem) in [
        ("", format!("empty string; {write}")),
        ("Zq7 Zq7", format!("invalid uri character; {write}")),
        ("Zq7/base", format!("invalid format; {write}")),
        ("/Zq7", format!("scheme and host are missing; {write}")),
        ("Zq7", format!("the scheme is missing; {write}")),
        ("https://Zq7@eu.example", no_user.into()),
        ("https://me:Zq7@eu.example/base", no_user.into()),
        (
            "wss://eu.example/Zq7",
            format!("{own} has another scheme than https and http; use one of the two"),
        ),
        ("https://eu.example:", no_port.into()),
        ("https://eu.example:0", no_port.into()),
        ("https://eu.example:65536", no_port.into()),
        ("https://eu.example/?key=Zq7", format!("{own} {no_query}")),
        ("https://eu.example?", format!("{own} {no_query}")),
        ("https://eu.example/#Zq7", format!("{own} {no_query}")),
        (
            &format!("https://eu.example/{}", "Zq7".repeat(400)),
            format!("{own} has a path above 1,024 characters; shorten it"),
        ),
    ] {
        let error = Endpoint::new(url).expect_err(url).to_string();
        assert_eq!(error, format!("endpoint: {problem}"), "{url}");
        assert!(!error.contains("Zq7"));
    }
}

#[test]
fn a_header_replaces_the_caller_s_and_its_value_is_not_printed() {
    let endpoint = endpoint("https://eu.example/base")
        .header("X-Project", "first")
        .and_then(|endpoint| endpoint.header("x-project", "Zq7"))
        .and_then(|endpoint| endpoint.header("api-version", "2"))
        .expect("they are valid");
    assert_eq!(
        format!("{endpoint:?}"),
        r#"Endpoint { url: https://eu.example/base, headers: ["x-project", "api-version"], .. }"#
    );
    let mut request = Request::new(());
    for value in ["a", "b"] {
        let value = HeaderValue::from_static(value);
        request.headers_mut().append("x-project", value);
    }
    endpoint.apply(&mut request);
    let values: Vec<_> = request.headers().get_all("x-project").iter().collect();
    assert_eq!(values, ["Zq7"]);
    assert_eq!(request.headers()["api-version"], "2");
    assert!(!format!("{request:?}").contains("Zq7"));
}

#[test]
fn a_header_that_cannot_be_sent_is_refused_without_its_value() {
    for (name, problem) in [
        (
            "Zq7 Zq7",
            "a name is not valid; use letters, digits and `-`",
        ),
        ("", "a name is not valid; use letters, digits and `-`"),
        (
            "X-Api-Key",
            "`x-api-key` is for the key; give the secret to a key's `Source`",
        ),
        (
            "Authorization",
            "`authorization` is for the key; give the secret to a key's `Source`",
        ),
        ("Host", "`host` is set by the client; leave it out"),
        (
            "transfer-encoding",
            "`transfer-encoding` is set by the client; leave it out",
        ),
        (
            "x-a",
            "the value of `x-a` is not valid; use visible ASCII, on one line",
        ),
    ] {
        let found = endpoint("https://eu.example:1/b").header(name, "Zq7\n");
        let error = found.expect_err(name).to_string();
        let expected = format!("endpoint.header: the endpoint `eu.example:1`: {problem}");
        assert_eq!(error, expected);
    }
}
