//! Chromium loads a page through the gateway: everything over HTTP/2, a WebSocket and events among it, while the
//! certificate changes. It trusts the test's authority as it trusts any other and ignores no error.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::backend::{Arrived, Backend, Reply};
use e2e::certificate::Authority;
use e2e::folder::{Folder, route};
use e2e::gateway::Gateway;
use e2e::sockets::{ByHand, read_head};
use e2e::tls_client::config;
use e2e::until::{until, until_within};
use e2e::websocket::EchoSocket;
use serde_json::Value;

use crate::real_clients::tool;
use crate::site::{HOST, address};
use crate::tls_site::shows;

/// How long a browser may take to start and load a page on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many pieces a round fetches at once.
const PIECES: usize = 30;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Shop</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/style.css"><script src="/app.js" defer></script><img src="/pixel.svg">"#;

/// Each page does a round and tells of it. The first one does another round when the certificate has changed, and goes on
/// to the next page.
const SCRIPT: &str = r#"
const step = location.pathname.slice(1) || "first";
const seen = () => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .map(({ name, nextHopProtocol, responseStatus }) => [new URL(name).pathname, nextHopProtocol, responseStatus]);
const tell = (step, what) => fetch(`/tell/${step}`, { method: "POST", body: JSON.stringify(what) });
const broken = [];
const events = new EventSource("/events");
events.onerror = () => broken.push("events");
const event = () => new Promise((resolve) => { events.onmessage = ({ data }) => resolve(data); });
const socket = new WebSocket(`wss://${location.host}/socket`);
socket.onclose = ({ code, reason }) => broken.push(`socket ${code} ${reason}`);
const opened = new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
const echo = (text) => new Promise((resolve) => {
  socket.onmessage = ({ data }) => resolve(data === text);
  socket.send(text);
});
const piece = async (number) => await (await fetch(`/piece/${number}`)).text() === `piece ${number}`;
const round = async (from) => {
  await opened;
  const numbers = [...Array(PIECES).keys()].map((number) => from + number);
  const [whole, echoed, event_] = await Promise.all([
    Promise.all(numbers.map(piece)), echo(`${step} ${from} ` + "x".repeat(100_000)), event(),
  ]);
  return { pieces: whole.filter((right) => right).length, echoed, event: event_, broken, seen: seen() };
};
onload = async () => {
  try {
    await tell(step, await round(0));
    if (step !== "first") return;
    while (await (await fetch("/changed")).text() !== "yes") await new Promise((next) => setTimeout(next, 50));
    await tell("later", await round(1000));
    location.href = "/again";
  } catch (error) {
    await tell("error", { step, error: String(error) });
  }
};
"#;

/// A browser that keeps all it has in a folder. Killed when dropped.
struct Browser {
    process: Child,
    home: Folder,
}

impl Browser {
    /// Opens a page of [`HOST`], which is the gateway.
    fn open(https: SocketAddr, authority: &Authority, path: &str) -> Self {
        let (chromium, certutil) = (chromium(), tool("certutil"));
        let certutil = certutil.expect("certutil is missing: .ci/tools certutil");
        let home = Folder::new();
        home.write("authority.pem", &authority.pem);
        let database = home.path().join(".pki/nssdb");
        std::fs::create_dir_all(&database).expect("a folder");
        let database = format!("sql:{}", database.display());
        let pem = home.path().join("authority.pem").display().to_string();
        for args in
            [&["-N", "--empty-password"][..], &["-A", "-t", "C,,", "-n", "authority of the test", "-i", &pem]]
        {
            let output =
                Command::new(&certutil).args(["-d", &database]).args(args).output().expect("certutil");
            assert!(output.status.success(), "certutil {args:?}: {output:?}");
        }
        let process = Command::new(chromium)
            // With its children, which a wrapper would leave behind.
            .process_group(0)
            .env("HOME", home.path())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--no-first-run"])
            // Otherwise it ends as soon as the page is there.
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
            .arg(format!("--host-resolver-rules=MAP {HOST} {https}"))
            .arg(format!("https://{HOST}{path}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.path().join("stderr")).expect("a file"))
            .spawn()
            .expect("Chromium starts");
        Self { process, home }
    }

    /// What it has told of this step.
    fn told(&mut self, shop: &Backend, step: &str) -> Value {
        let target = format!("/tell/{step}");
        let at = |target: &str| {
            let body = |arrived: &Arrived| serde_json::from_slice(&arrived.body).expect("JSON");
            shop.arrived().iter().find(|arrived| arrived.target() == target).map(body)
        };
        until_within(PATIENCE, &format!("Chromium tells of {step}"), || {
            let error: Option<Value> = at("/tell/error");
            assert_eq!(error, None, "{}", self.log());
            assert_eq!(self.process.try_wait().expect("a child"), None, "{}", self.log());
            at(&target)
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.process.wait());
    }
}

/// Headless or not, by the names that packages give it.
fn chromium() -> PathBuf {
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find_map(|name| tool(name))
        .expect("Chromium is missing: .ci/tools chromium")
}

/// Answers what the page asks for.
fn shop(changed: &Arc<AtomicBool>) -> Backend {
    let changed = Arc::clone(changed);
    let script = SCRIPT.replace("PIECES", &PIECES.to_string());
    let with = |kind: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n");
        Reply::Bytes(format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes())
    };
    Backend::start(move |arrived| match arrived.target() {
        "/app.js" => with("text/javascript", &script),
        "/style.css" => with("text/css", "body { color: teal }"),
        "/pixel.svg" => {
            with("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>")
        }
        "/changed" => with("text/plain", if changed.load(Ordering::SeqCst) { "yes" } else { "no" }),
        target if target.starts_with("/tell/") => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".into()),
        target => match target.strip_prefix("/piece/") {
            Some(number) => with("text/plain", &format!("piece {number}")),
            None => with("text/html", PAGE),
        },
    })
}

/// An event every 100 ms for as long as somebody listens.
fn events(mut stream: TcpStream) -> io::Result<()> {
    read_head(&mut stream)?;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    for number in 0..10_000 {
        let event = format!("data: {number}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        match stream.read(&mut [0; 64]) {
            Err(error) if crate::tls_site::is_silence(&error) => {}
            Ok(_) | Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// All that a round should have come to; all of it over HTTP/2. Returns how many loads the browser tells of.
#[track_caller]
fn assert_whole(step: &str, told: &Value) -> usize {
    assert_eq!(told["broken"], Value::Array(Vec::new()), "{step}");
    assert_eq!((&told["pieces"], &told["echoed"]), (&PIECES.into(), &true.into()), "{step}: {told}");
    assert!(told["event"].is_string(), "{step}: {told}");
    let seen = told["seen"].as_array().expect("loads");
    for load in seen {
        assert!(load[1] == "h2" && (load[2] == 200 || load[2] == 204), "{step}: {load}");
    }
    seen.len()
}

#[test]
fn all_chromium_loads_a_page_over_http2_while_the_certificate_changes() {
    let authority = Authority::new();
    let (first, second) = (authority.issue(&[HOST]), authority.issue(&[HOST]));
    let changed = Arc::new(AtomicBool::new(false));
    let (shop, events, sockets) = (shop(&changed), ByHand::start(events), EchoSocket::start());
    let rule = |name: &str, path: &str, to: SocketAddr| {
        format!(
            "- {{name: {name}, matches: [{{path: {{type: PathPrefix, value: {path}}}}}], backendRefs: [{}]}}\n",
            address(to)
        )
    };
    let rules = [
        rule("socket", "/socket", sockets.address),
        rule("events", "/events", events.address),
        rule("all", "/", shop.address),
    ];
    let spec = format!("hostnames: [{HOST}]\ntls: {{secretRef: {{name: shop}}}}\nrules:\n{}", rules.concat());
    let folder = Folder::with(&route("shop", &spec));
    folder.write("certificate.yaml", &first.secret("shop"));
    let gateway = Gateway::start(folder.path(), &[]);
    let handshakes =
        format!("baribhara_tls_handshakes_total{{listener=\"{}\",result=\"ok\"}}", gateway.https);

    let mut browser = Browser::open(gateway.https, &authority, "/");
    let loads = assert_whole("first", &browser.told(&shop, "first"));
    let connections = gateway.metric(&handshakes);
    // The page, what it names, and the pieces.
    assert!(loads >= PIECES + 4, "{loads} loads");
    assert!((1.0..=2.0).contains(&connections), "{connections} connections for {loads} loads");

    folder.write("certificate.yaml", &second.secret("shop"));
    let client = Arc::new(config(&authority));
    until("the new certificate", || shows(gateway.https, HOST, &client, &second).then_some(()));
    changed.store(true, Ordering::SeqCst);
    // The socket and the events of before, and loads beside them; then another page.
    assert_whole("later", &browser.told(&shop, "later"));
    assert_whole("again", &browser.told(&shop, "again"));
    // A browser that has never seen the first certificate.
    let mut another = Browser::open(gateway.https, &authority, "/another");
    assert_whole("another", &another.told(&shop, "another"));
    assert_eq!((sockets.opened(), sockets.open()), (3, 2));
    drop((browser, another));

    until("the sockets have ended", || (sockets.open() == 0).then_some(()));
    let socket = gateway.access_line("the socket's line", |line| line["path"] == "/socket");
    assert_eq!((&socket["protocol"], &socket["status"]), (&"HTTP/2.0".into(), &200.into()), "{socket}");
    for line in gateway.access_log() {
        let status = line["status"].as_u64().unwrap_or_default();
        assert!((200..300).contains(&status) && line["protocol"] == "HTTP/2.0", "{line}");
    }
    println!("measured: {loads} loads and a WebSocket over {connections} connections");
}
