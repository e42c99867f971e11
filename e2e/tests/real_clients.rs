//! Clients that others wrote: curl, nghttp and h2load, openssl, gRPC of Python, WebSockets of Python and Node. A tool
//! that is missing is told in one line, and fails the test where CI is set.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::certificate::Authority;
use e2e::echo::Echo;
use e2e::folder::{Folder, route};
use e2e::h2_backend::H2Backend;
use e2e::tls_client::openssl;
use e2e::websocket::{EchoSocket, NORMAL};
use serde_json::Value;

use crate::site::{Site, site_with};

/// The longest that a client may take, in seconds, as `timeout` takes it.
const PATIENCE: &str = "50";

/// A tool by its name: what `.ci/tools` has put into the checkout, or what is on the path.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let own = [tools.join("venv/bin"), tools.join("bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Python with this module.
fn python_with(module: &str) -> Option<PathBuf> {
    let python = tool("python3")?;
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).output().ok()?;
    found.status.success().then_some(python)
}

/// Says what is missing; in CI that is a failure.
#[track_caller]
fn skip(what: &str, package: &str) {
    assert!(std::env::var("CI").is_err(), "{what} is missing: .ci/tools {package} (a skip fails in CI)");
    eprintln!("skipped: {what} is missing (.ci/tools {package})");
}

/// Runs it to its end and returns its standard output.
#[track_caller]
fn run(program: &Path, args: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run_any(program, args, environment);
    assert!(output.status.success(), "{program:?} {args:?}: {output:#?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn run_any(program: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let proxies =
        ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy"];
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(program).args(args).envs(environment.iter().copied());
    for proxy in proxies {
        command.env_remove(proxy);
    }
    command.output().expect("timeout (coreutils)")
}

/// Everything to one backend, whatever the host; the certificate is for 127.0.0.1 and localhost.
struct Open {
    site: Site,
    files: Folder,
}

impl Open {
    fn before(backend_ref: &str) -> Self {
        let authority = Authority::new();
        let spec = format!("rules: [{{name: all, backendRefs: [{backend_ref}]}}]");
        let yaml = authority.issue(&["127.0.0.1", "localhost"]).secret("open") + &route("open", &spec);
        let site = site_with(&yaml, &["--default-tls-secret", "shop/open"]);
        let files = Folder::new();
        files.write("authority.pem", &authority.pem);
        Self { site, files }
    }

    fn authority(&self) -> String {
        self.files.path().join("authority.pem").display().to_string()
    }

    fn http(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.site.gateway.http)
    }

    fn https(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.site.gateway.https)
    }
}

fn to(address: std::net::SocketAddr, fields: &str) -> String {
    format!("{{address: \"{}\", port: {}{fields}}}", address.ip(), address.port())
}

#[test]
fn curl_speaks_http2_by_alpn_and_by_prior_knowledge() {
    let upstream = Echo::start("a");
    let open = Open::before(&to(upstream.address, ""));
    let Some(curl) = tool("curl") else { return skip("curl", "curl") };
    let cases = [
        ("--http2", open.https("https"), "2"),
        ("--http2-prior-knowledge", open.http("http"), "2"),
        // Asks for an upgrade to h2c, which is ignored.
        ("--http2", open.http("http"), "1.1"),
        ("--http1.1", open.https("https"), "1.1"),
    ];
    for (flag, base, version) in cases {
        let args = [
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            flag,
            "--cacert",
            &open.authority(),
            "--write-out",
            "\n%{http_code} %{http_version} %{ssl_verify_result}",
            "--data",
            "from curl",
            &format!("{base}/a?b=c"),
        ];
        let text = run(&curl, &args, &[]);
        let (body, outcome) = text.rsplit_once('\n').unwrap_or_default();
        assert_eq!(outcome, format!("200 {version} 0"), "{flag} {base}");
        let echo: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&echo["path"], &echo["body"]), (&"/a?b=c".into(), &"from curl".into()), "{flag} {base}");
    }
    // Twenty at once on one connection.
    let urls: Vec<String> =
        (0..20).map(|number| open.https("https") + &format!("/{number}?delay=300ms")).collect();
    let authority = open.authority();
    let mut args = vec![
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--http2",
        "--parallel",
        "--cacert",
        &authority,
        "--write-out",
        "%{http_code} %{http_version}\n",
    ];
    for url in &urls {
        args.extend(["--output", "/dev/null", url]);
    }
    let text = run(&curl, &args, &[]);
    assert_eq!(text.lines().filter(|line| *line == "200 2").count(), 20, "{text}");
}

#[test]
fn nghttp_and_h2load_find_nothing_wrong() {
    let upstream = Echo::start("a");
    let open = Open::before(&to(upstream.address, ""));
    let (Some(nghttp), Some(h2load)) = (tool("nghttp"), tool("h2load")) else {
        return skip("nghttp or h2load", "h2load");
    };
    for base in [open.https("https"), open.http("http")] {
        let text =
            run(&nghttp, &["--verbose", "--null-out", "--timeout=20", &format!("{base}/?bytes=100Ki")], &[]);
        assert!(text.contains(":status: 200"), "{text}");
        assert!(!text.contains("RST_STREAM") && !text.contains("error_code=PROTOCOL_ERROR"), "{text}");
        for (requests, path) in [("5000", "/"), ("500", "/?bytes=64Ki&chunked")] {
            let args = [
                "--requests",
                requests,
                "--clients",
                "10",
                "--max-concurrent-streams",
                "50",
                &format!("{base}{path}"),
            ];
            let text = run(&h2load, &args, &[]);
            let all = format!(
                "{requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"
            );
            assert!(text.contains(&all), "{base}{path}: {text}");
            assert!(text.contains(&format!("{requests} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{base}{path}: {text}");
        }
    }
}

#[test]
fn openssl_agrees_on_http2_by_alpn() {
    let upstream = Echo::start("a");
    let open = Open::before(&to(upstream.address, ""));
    // What is sent is no HTTP/2, so that the connection ends.
    for (offered, agreed) in [("h2", "h2"), ("h2,http/1.1", "h2"), ("http/1.1", "http/1.1")] {
        let text = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let output =
            openssl(open.site.gateway.https, &["-alpn", offered, "-CAfile", &open.authority()], text);
        assert!(output.stdout.contains(&format!("ALPN protocol: {agreed}\n")), "{offered}: {output:?}");
        assert!(output.stdout.contains("Verify return code: 0 (ok)"), "{offered}: {output:?}");
    }
}

/// The four kinds of calls and what they come to, one JSON object for a channel.
const GRPC: &str = r#"
import json, sys
import grpc

plain, secure, authority = sys.argv[1:]
with open(authority, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())

def code(call):
    try:
        call()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name

for channel in (grpc.insecure_channel(plain), grpc.secure_channel(secure, credentials)):
    unary = channel.unary_unary("/test.Echo/Unary")
    many = [b"%d" % number for number in range(100)]
    response, call = unary.with_call(b"hello", metadata=(("x-a", "b"),), timeout=20)
    print(json.dumps({
        "unary": response.decode(),
        "code": call.code().name,
        "large": len(unary(b"x" * 3_000_000, timeout=20)),
        "client": channel.stream_unary("/test.Echo/Unary")(iter([b"one"]), timeout=20).decode(),
        "server": [r.decode() for r in channel.unary_stream("/test.Echo/Stream")(b"x", timeout=20)],
        "both": list(channel.stream_stream("/test.Echo/Stream")(iter(many), timeout=20)) == many,
        "fail": code(lambda: channel.unary_unary("/test.Echo/Fail")(b"x", timeout=20)),
        "deadline": code(lambda: channel.unary_unary("/silent")(b"x", timeout=0.5)),
        "parallel": sorted(f.result() for f in [unary.future(m, timeout=20) for m in many]) == sorted(many),
    }))
    channel.close()
"#;

#[test]
fn grpc_of_python_calls_in_all_directions() {
    let backend = H2Backend::start();
    let open = Open::before(&to(backend.address, ", protocol: GRPC"));
    let Some(python) = python_with("grpc") else { return skip("grpcio", "grpcio") };
    let (plain, secure) = (open.site.gateway.http.to_string(), open.site.gateway.https.to_string());
    let text = run(&python, &["-c", GRPC, &plain, &secure, &open.authority()], &[]);
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        let said: Value = serde_json::from_str(line).unwrap();
        for (what, want) in [
            ("unary", Value::from("hello")),
            ("code", "OK".into()),
            ("large", 3_000_000.into()),
            ("client", "one".into()),
            ("server", vec!["x"].into()),
            ("both", true.into()),
            ("fail", "NOT_FOUND".into()),
            ("deadline", "DEADLINE_EXCEEDED".into()),
            ("parallel", true.into()),
        ] {
            assert_eq!(said[what], want, "{what} in {line}");
        }
    }
    assert!(backend.seen().iter().any(|seen| seen.all("x-a") == ["b"]));
}

/// In one thread: the client of the same library that reads in a thread of its own can hang over TLS, where a socket of
/// Python must not be read and written at once (python-engineio#461).
const PYTHON_WEBSOCKET: &str = r#"
import asyncio, ssl, sys
from websockets.asyncio.client import connect

async def session(url, context):
    async with connect(url, ssl=context, proxy=None, max_size=None, open_timeout=20) as tunnel:
        for message in ("Grüße", b"bytes", "", b"x" * 3_000_000):
            await asyncio.wait_for(tunnel.send(message), 20)
            assert await asyncio.wait_for(tunnel.recv(), 20) == message
        await asyncio.wait_for(await tunnel.ping(), 20)
    assert tunnel.close_code == 1000, tunnel.close_code
    print("ok")

authority = sys.argv[1]
for url in sys.argv[2:]:
    context = ssl.create_default_context(cafile=authority) if url.startswith("wss") else None
    asyncio.run(session(url, context))
"#;

#[test]
fn websockets_of_python_and_node_are_tunnelled() {
    let upstream = EchoSocket::start();
    let open = Open::before(&to(upstream.address, ""));
    let urls = [open.http("ws") + "/a", open.https("wss") + "/b?c=d"];
    let authority = open.authority();
    let mut sessions = 0;
    match python_with("websockets") {
        None => skip("websockets", "websockets"),
        Some(python) => {
            let text = run(&python, &["-c", PYTHON_WEBSOCKET, &authority, &urls[0], &urls[1]], &[]);
            assert_eq!(text, "ok\nok\n");
            sessions += 2;
        }
    }
    match node() {
        None => skip("Node 22 or later", "node"),
        Some(node) => {
            let args = ["-e", NODE_WEBSOCKET, &urls[0], &urls[1]];
            let text = run(&node, &args, &[("NODE_EXTRA_CA_CERTS", &authority)]);
            assert_eq!(text, "ok\nok\n");
            sessions += 2;
        }
    }
    e2e::until::until("all have closed as they should", || {
        (upstream.closes() == vec![NORMAL; sessions]).then_some(())
    });
    assert_eq!((upstream.opened(), upstream.broken()), (sessions, 0));
}

/// Node with the global `WebSocket`.
fn node() -> Option<PathBuf> {
    let node = tool("node")?;
    let output = run_any(&node, &["-p", "typeof WebSocket"], &[]);
    (output.status.success() && output.stdout == b"function\n").then_some(node)
}

const NODE_WEBSOCKET: &str = r#"
const session = (url) => new Promise((resolve, reject) => {
  const tunnel = new WebSocket(url);
  tunnel.binaryType = "arraybuffer";
  const messages = ["Grüße", new Uint8Array(2_000_000).fill(7).buffer, "", "end"];
  let at = 0;
  tunnel.onopen = () => tunnel.send(messages[0]);
  tunnel.onerror = (event) => reject(new Error(`${url}: ${event.message ?? event.error}`));
  tunnel.onmessage = ({ data }) => {
    const want = messages[at++];
    const same = typeof want === "string" ? data === want : data.byteLength === want.byteLength;
    if (!same) return reject(new Error(`${url}: message ${at} is another`));
    if (at < messages.length) tunnel.send(messages[at]); else tunnel.close(1000);
  };
  tunnel.onclose = ({ code, wasClean }) => {
    if (code !== 1000 || !wasClean) return reject(new Error(`${url}: closed with ${code}`));
    console.log("ok");
    resolve();
  };
});
(async () => { for (const url of process.argv.slice(1)) await session(url); })()
  .catch((error) => { console.error(error); process.exit(1); });
"#;

const NODE_HTTP2: &str = r#"
const http2 = require("node:http2");
const ask = (session, number) => new Promise((resolve, reject) => {
  const stream = session.request({ ":method": "POST", ":path": `/${number}` }, { waitForTrailers: false });
  let status, text = "";
  stream.setEncoding("utf8");
  stream.on("response", (headers) => { status = headers[":status"]; });
  stream.on("data", (piece) => { text += piece; });
  stream.on("error", reject);
  stream.on("end", () => {
    const echo = JSON.parse(text);
    if (status !== 200 || echo.path !== `/${number}` || echo.body !== `body ${number}`) reject(new Error(text));
    else resolve();
  });
  stream.end(`body ${number}`);
});
(async () => {
  for (const url of process.argv.slice(1)) {
    const session = http2.connect(url);
    await Promise.all([...Array(80).keys()].map((number) => ask(session, number)));
    await new Promise((resolve) => session.close(resolve));
    console.log("ok");
  }
})().catch((error) => { console.error(error); process.exit(1); });
"#;

#[test]
fn http2_of_node_asks_eighty_at_once() {
    let upstream = Echo::start("a");
    let open = Open::before(&to(upstream.address, ""));
    let Some(node) = tool("node") else { return skip("Node", "node") };
    let args = ["-e", NODE_HTTP2, &open.http("http"), &open.https("https")];
    let text = run(&node, &args, &[("NODE_EXTRA_CA_CERTS", &open.authority())]);
    assert_eq!(text, "ok\nok\n");
}
