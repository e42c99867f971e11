//! Every command, as its user sees it: what stands on standard output and standard error, and the exit code.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

const ROUTE: &str = "apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {name: shop, namespace: shop}
spec:
  hostnames: [shop.example.com]
  rules:
  - name: post
    matches: [{path: {type: PathPrefix, value: /cart}, methods: [POST]}]
    backendRefs: [{name: cart, port: 80}]
  - name: all
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-A, value: b}]}}]
    backendRefs: [{name: web, port: 80}, {address: 192.0.2.1, port: 8080, weight: 3}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: few, namespace: shop}
spec:
  targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]
  limits: [{name: per-client, keys: [{type: ClientIP}], rates: [{requests: 5, per: 1m}]}]
";

/// Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("baribhara-commands-{}-{test}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(test: &str, yaml: &str) -> Self {
        let folder = Self::new(test);
        fs::write(folder.0.join("all.yaml"), yaml).unwrap();
        folder
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

fn baribhara() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baribhara"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BARIBHARA_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG");
    command
}

fn run(args: &[&str]) -> Outcome {
    let output = baribhara().args(args).stdin(Stdio::null()).output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn help_names_every_command_and_every_flag_with_its_default() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    for command in ["run", "check", "explain", "routes", "crds", "echo", "token", "completions"] {
        assert!(help.stdout.contains(&format!("  {command}")), "{command}: {}", help.stdout);
    }
    let help = run(&["run", "--help"]).stdout;
    for text in [
        "--http <ADDR>",
        "[default: [::]:8080]",
        "--https <ADDR>",
        "[default: [::]:8443]",
        "[default: 127.0.0.1:9900]",
        "[default: 120s]",
        "[default: 1Mi]",
        "[env: BARIBHARA_LAME_DUCK=]",
        "[default: one a core]",
    ] {
        assert!(help.contains(text), "{text}: {help}");
    }
    let version = run(&["--version"]);
    assert_eq!(version.stdout, concat!("baribhara ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn run_without_a_folder_is_a_usage_error_in_one_line() {
    let outcome = run(&["run"]);
    assert_eq!(outcome.code, 2);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(
        outcome.stderr.starts_with("error: ") && outcome.stderr.contains("--config"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn run_on_a_folder_that_is_not_there_says_so_in_one_line() {
    let outcome = run(&[
        "run",
        "--config",
        "/nowhere/at/all",
        "--http",
        "127.0.0.1:0",
        "--https",
        "off",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(outcome.code, 1);
    let last = outcome.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("/nowhere/at/all"), "{}", outcome.stderr);
}

#[test]
fn run_says_when_its_address_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::with("taken", ROUTE);
    let outcome = run(&[
        "run",
        "--config",
        folder.text(),
        "--http",
        &address,
        "--https",
        "off",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.lines().last().unwrap().contains(&address), "{}", outcome.stderr);
}

#[test]
fn a_flag_can_come_from_the_environment() {
    let output =
        baribhara().args(["run", "--config", "d"]).env("BARIBHARA_READ_TIMEOUT", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--read-timeout") && stderr.contains("a number is missing"), "{stderr}");
}

#[test]
fn check_is_content_with_a_good_folder() {
    let folder = Folder::with("check-good", ROUTE);
    let outcome = run(&["check", folder.text()]);
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    let last = outcome.stdout.lines().last().unwrap();
    assert!(last.starts_with("0 errors, ") && last.ends_with(" warnings, 2 routes"), "{last}");
}

#[test]
fn check_prints_a_missing_backend_as_a_warning_and_succeeds() {
    let folder =
        Folder::with("check-warning", &ROUTE.replace("{name: web, port: 80}", "{name: gone, port: 80}"));
    let outcome = run(&["check", folder.text()]);
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    assert!(
        outcome.stdout.lines().any(|line| {
            line.starts_with("warning: ")
                && line.contains("all.yaml:")
                && line.contains("GatewayRoute/shop/shop")
                && line.contains("gone")
        }),
        "{}",
        outcome.stdout
    );
}

#[test]
fn check_fails_on_an_error_and_names_file_line_object_field_and_remedy() {
    let yaml = ROUTE.replace("type: PathPrefix, value: /cart", "type: RegularExpression, value: \"(\"");
    let folder = Folder::with("check-error", &yaml);
    let outcome = run(&["check", folder.text()]);
    assert_eq!(outcome.code, 1, "{}", outcome.stdout);
    let field = "spec.rules[0].matches[0].path";
    let line = outcome.stdout.lines().find(|line| line.contains(field)).expect("a line about the path");
    assert!(line.starts_with("error: "), "{line}");
    for part in ["all.yaml:8:", "GatewayRoute/shop/shop: ", "; "] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let outcome = run(&["check", folder.text(), "-o", "json"]);
    assert_eq!(outcome.code, 1);
    let checked = outcome.json();
    assert!(checked["errors"].as_u64().is_some_and(|errors| errors > 0), "{checked}");
    let problems = checked["problems"].as_array().unwrap();
    let problem =
        problems.iter().find(|problem| problem["field"].as_str().unwrap().starts_with(field)).unwrap();
    assert_eq!(problem["line"], 8);
    assert_eq!(problem["severity"], "Error");
    assert_eq!(problem["object"], "GatewayRoute/shop/shop");
}

#[test]
fn check_says_what_is_wrong_with_yaml_that_is_none() {
    let folder = Folder::with("check-yaml", "kind: [unclosed\n");
    let outcome = run(&["check", folder.text()]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stdout.contains("all.yaml:"), "{}", outcome.stdout);
    let missing = run(&["check", "/nowhere/at/all"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.starts_with("error: /nowhere/at/all cannot be read"), "{}", missing.stderr);
}

#[test]
fn check_reads_several_folders_as_one() {
    let routes = Folder::with("check-two-a", ROUTE);
    let (route, services) = ROUTE.split_once("---").unwrap();
    fs::write(routes.0.join("all.yaml"), route).unwrap();
    let beside = Folder::with("check-two-b", services);
    let alone = run(&["check", routes.text(), "-o", "json"]).json();
    let both = run(&["check", routes.text(), beside.text(), "-o", "json"]).json();
    assert_eq!(alone["warnings"].as_u64(), Some(2), "{alone}");
    assert_eq!(both["errors"], 0, "{both}");
    let gone = |checked: &Value| checked["problems"].to_string().contains("backendRefs");
    assert!(gone(&alone), "{alone}");
}

#[test]
fn explain_names_winner_losers_filters_policies_keys_and_backends() {
    let folder = Folder::with("explain", ROUTE);
    let url = "http://SHOP.example.com.:8080/x/../cart//a?q=1";
    let explained =
        run(&["explain", "GET", url, "--client-ip", "192.0.2.9", "--config", folder.text(), "-o", "json"]);
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    let json = explained.json();
    assert_eq!(json["request"]["host"], "shop.example.com");
    assert_eq!(json["request"]["path"], "/cart/a");
    let winner = &json["winner"];
    assert_eq!(winner["route"], "shop/shop/all");
    assert_eq!(winner["object"], "GatewayRoute/shop/shop");
    assert!(winner["filters"].to_string().contains("ResponseHeaderModifier"), "{winner}");
    assert!(winner["policies"].to_string().contains("RateLimitPolicy/shop/few"), "{winner}");
    assert!(winner["limitKeys"].to_string().contains("192.0.2.9"), "{winner}");
    assert_eq!(winner["backends"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["losers"][0]["route"], "shop/shop/post");
    assert!(json["losers"][0]["reason"].as_str().unwrap().starts_with("method"), "{json}");

    let text = run(&["explain", "POST", "/cart", "-H", "Host: shop.example.com", "--config", folder.text()]);
    assert_eq!(text.code, 0);
    assert!(text.stdout.contains("route shop/shop/post"), "{}", text.stdout);
    assert!(text.stdout.contains("shop/shop/all"), "{}", text.stdout);

    let nobody =
        run(&["explain", "GET", "http://other.example.com/", "--config", folder.text(), "-o", "json"]).json();
    assert_eq!(nobody["winner"], Value::Null);
    assert_eq!(nobody["losers"].as_array().map(Vec::len), Some(2));
    assert!(nobody["losers"][0]["reason"].as_str().unwrap().starts_with("host"), "{nobody}");
}

#[test]
fn explain_says_what_the_proxy_refuses_at_the_door() {
    let folder = Folder::with("explain-door", ROUTE);
    let cases = [
        ("http://shop.example.com/a%00", "control character"),
        ("http://shop.example.com/a%5cb", "backslash"),
        ("http://shop..example.com/", "host"),
    ];
    for (url, reason) in cases {
        let text = run(&["explain", "GET", url, "--config", folder.text()]);
        assert_eq!(text.code, 0);
        assert!(text.stdout.contains("400") && text.stdout.contains(reason), "{url}: {}", text.stdout);
        let json = run(&["explain", "GET", url, "--config", folder.text(), "-o", "json"]).json();
        assert_eq!(json["winner"], Value::Null);
        assert_eq!(json["refused"]["status"], 400);
    }
    let no_colon = run(&["explain", "GET", "/", "-H", "nonsense", "--config", folder.text()]);
    assert_eq!(no_colon.code, 1);
    assert!(no_colon.stderr.contains("no colon"), "{}", no_colon.stderr);
}

#[test]
fn routes_lists_the_most_specific_first() {
    let folder = Folder::with("routes", ROUTE);
    let text = run(&["routes", "--config", folder.text()]);
    assert_eq!(text.code, 0, "{}", text.stderr);
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", text.stdout);
    assert!(lines[0].contains("/cart") && lines[0].contains("shop/shop/post"), "{}", lines[0]);
    assert!(lines[1].contains("shop/shop/all"), "{}", lines[1]);
    let json = run(&["routes", "--config", folder.text(), "-o", "json"]).json();
    assert_eq!(json[0]["route"], "shop/shop/post");
    assert_eq!(json[0]["methods"], json!(["POST"]));
}

#[test]
fn a_folder_with_errors_is_mentioned_beside_the_answer() {
    let folder = Folder::with("routes-errors", ROUTE);
    fs::write(folder.0.join("broken.yaml"), "kind: [unclosed\n").unwrap();
    let outcome = run(&["routes", "--config", folder.text()]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.stderr.starts_with("warning: 1 error"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout.lines().count(), 2);
}

#[test]
fn crds_prints_one_document_for_each_kind_as_they_stand_in_the_repository() {
    let outcome = run(&["crds"]);
    assert_eq!(outcome.code, 0);
    let documents: Vec<&str> = outcome.stdout.split("---\n").filter(|text| !text.is_empty()).collect();
    assert_eq!(documents.len(), 3);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    for (document, name) in documents.iter().zip(["gatewayroutes", "ratelimitpolicies", "authpolicies"]) {
        let stored = fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        assert_eq!(document.trim(), stored.trim_start_matches("---").trim(), "crds/{name}.yaml is stale");
    }
    let stored = fs::read_to_string(folder.join("../docs/reference.md")).unwrap();
    assert_eq!(run(&["crds", "--reference"]).stdout, stored, "docs/reference.md is stale");
}

#[test]
fn token_signs_what_it_is_told() {
    let outcome = run(&[
        "token",
        "--secret",
        "s",
        "--kid",
        "k1",
        "--claim",
        "sub=ada",
        "--claim",
        "roles=[\"a\"]",
        "--expires-in",
        "10m",
    ]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let parts: Vec<&str> = outcome.stdout.trim().split('.').collect();
    assert_eq!(parts.len(), 3, "{}", outcome.stdout);
    let head: Value = serde_json::from_slice(&base64url(parts[0])).unwrap();
    assert_eq!((&head["alg"], &head["kid"]), (&json!("HS256"), &json!("k1")));
    let claims: Value = serde_json::from_slice(&base64url(parts[1])).unwrap();
    assert_eq!((&claims["sub"], &claims["roles"]), (&json!("ada"), &json!(["a"])));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
}

#[test]
fn token_refuses_a_key_that_does_not_fit_in_one_line() {
    let folder = Folder::new("token");
    let file = folder.0.join("key.pem");
    fs::write(&file, "no key").unwrap();
    for args in [
        ["token", "--alg", "RS256", "--secret", "s"].as_slice(),
        &["token", "--alg", "ES256", "--key", file.to_str().unwrap()],
        &["token", "--key", "/nowhere/at/all"],
        &["token", "--secret", "s", "--claim", "nonsense"],
    ] {
        let outcome = run(args);
        assert_eq!(outcome.code, 1, "{args:?}");
        assert!(outcome.stderr.starts_with("error: "), "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{args:?}");
    }
}

/// Decodes base64url without padding.
fn base64url(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = 0u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn completions_are_scripts_that_know_the_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = run(&["completions", shell]);
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("max-connection-age"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = baribhara().arg("crds").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut byte = [0];
    stdout.read_exact(&mut byte).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn echo_answers_with_the_request() {
    let mut child = Killed(
        baribhara()
            .args(["echo", "--listen", "127.0.0.1:0", "--name", "pod-7"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut first = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let address = first.trim().strip_prefix("pod-7 listening on ").unwrap().to_owned();
    let ask = |head: &str, body: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "{head}\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        // Byte for character (Latin-1), because a pattern is no text.
        let answer: String = bytes.into_iter().map(char::from).collect();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    };
    let (head, body) = ask("POST /a/b?status=418&x=1 HTTP/1.1\r\nX-B: 2\r\nX-A: 1\r\nX-B: 3", "hello");
    assert!(head.starts_with("HTTP/1.1 418 "), "{head}");
    let echo: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(echo["pod"], "pod-7");
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["path"], "/a/b?status=418&x=1");
    assert_eq!(echo["body"], "hello");
    assert_eq!(echo["bodyBytes"], 5);
    assert_eq!(echo["bodySha256"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    let values: Vec<&Value> = echo["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair[0] == "x-b")
        .map(|pair| &pair[1])
        .collect();
    assert_eq!(values, [&json!("2"), &json!("3")]);
    let (head, body) = ask("GET /healthz HTTP/1.1", "");
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "ok\n", "{head}");
    let (head, body) = ask("GET /?bytes=1000 HTTP/1.1", "");
    assert!(head.contains("content-length: 1000") && body.chars().count() == 1000, "{head}");
    let (head, _) = ask("GET /?status=99 HTTP/1.1", "");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}
