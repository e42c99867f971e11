//! Answers of the gateway's own: small, typed, with a decision id, and nothing inside them that is nobody's business.

use e2e::backend::Backend;
use e2e::client::Request;
use e2e::folder::route;
use serde_json::Value;

use crate::site::{HOST, site, site_with, spec};

#[test]
fn a_problem_is_json_for_who_takes_json_and_text_for_others() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "ipAccess: {deny: [127.0.0.1]}")));
    let cases = [
        (None, true),
        (Some("*/*"), true),
        (Some("application/json"), true),
        (Some("application/problem+json, text/plain;q=0.5"), true),
        (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), false),
        (Some("text/plain"), false),
    ];
    for (accept, json) in cases {
        let mut request = Request::get(HOST, "/");
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        let response = site.gateway.ask(&request);
        assert_eq!(response.status, 403, "{accept:?}");
        let content_type = response.header("content-type").unwrap();
        assert_eq!(content_type == "application/problem+json", json, "{accept:?}: {content_type}");
        assert!(response.body.len() < 512, "{accept:?}: {}", response.text());
        if json {
            let problem = response.json();
            assert_eq!(problem["status"], 403);
            assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
        }
    }
}

#[test]
fn a_refusals_decision_id_stands_in_the_access_log() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "ipAccess: {deny: [127.0.0.1]}")));
    let mut seen = Vec::new();
    for (host, path, status) in [(HOST, "/", 403), ("nobody.example.com", "/", 404), (HOST, "/%00", 400)] {
        let response = site.gateway.get(host, path);
        assert_eq!(response.status, status);
        let id = response.header("x-baribhara-decision").expect("a decision id").to_owned();
        let line =
            site.gateway.access_line("the decision in the log", |line| line["decision"] == id.as_str());
        assert_eq!(line["status"], status);
        assert!(line["reason"].is_string(), "{line}");
        seen.push(id);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "each has its own: {seen:?}");
}

#[test]
fn an_answer_of_the_backend_has_no_decision_id() {
    let backend = Backend::start(|_| e2e::backend::Reply::status(404, "mine"));
    let site = site(&route("shop", &spec(backend.address, "")));
    let response = site.gateway.get(HOST, "/");
    assert_eq!((response.status, response.text().as_str()), (404, "mine"));
    assert_eq!(response.header("x-baribhara-decision"), None);
}

#[test]
fn inner_names_stand_in_answers_only_with_debug_errors() {
    let backend = Backend::named("ok");
    let yaml = route("inner-name", &spec(backend.address, "ipAccess: {deny: [127.0.0.1]}"));
    let plain = site(&yaml);
    let response = plain.gateway.get(HOST, "/");
    assert!(!format!("{response:?}").contains("inner-name"), "{response:?}");
    assert_eq!(response.header("x-baribhara-route"), None);
    let debugging = site_with(&yaml, &["--debug-errors"]);
    let response = debugging.gateway.get(HOST, "/");
    assert_eq!(response.header("x-baribhara-route"), Some("shop/inner-name/all"));
}

#[test]
fn a_head_request_that_is_refused_has_no_body() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "ipAccess: {deny: [127.0.0.1]}")));
    let mut connection = e2e::client::Connection::open(site.gateway.http).unwrap();
    let response = connection.ask(&Request::new("HEAD", HOST, "/")).unwrap();
    assert_eq!((response.status, response.body.len()), (403, 0));
    // Had a body been sent, it would stand in front of this answer.
    let next = connection.ask(&Request::get(HOST, "/")).unwrap();
    assert_eq!(next.status, 403);
}

#[test]
fn values_of_a_request_never_come_back_unescaped_in_an_answer() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::get("nobody.example.com", "/%3Cscript%3Ealert(1)%3C/script%3E?x=%3Cscript%3E")
        .header("Accept", "text/html")
        .header("X-Request-Id", "<script>");
    let response = site.gateway.ask(&request);
    assert_eq!(response.status, 404);
    assert!(!response.text().contains("script"), "{}", response.text());
    let content_type = response.header("content-type").unwrap_or_default();
    assert!(!content_type.starts_with("text/html"), "{content_type}");
    assert!(serde_json::from_str::<Value>(&response.text()).is_err());
}
