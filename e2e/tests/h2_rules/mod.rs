//! What RFC 9113 and RFC 7541 ask of a server when a frame or a header block is not as it should be, case by case: an
//! error of the connection, one of the stream, or nothing. The cases stand in the files below; here is how one is judged.
//! Fields that HTTP/1.1 would read otherwise are judged in `h2_smuggling`.

mod floods;
mod frames;
mod hpack;
mod states;
mod windows;

use std::io;
use std::time::Duration;

use e2e::backend::{Backend, Reply};
use e2e::folder::route;
use e2e::h2_client::{
    DATA, END_HEADERS, END_STREAM, H2Connection, H2Request, HEADERS, Outcome, frame, is_end,
};
use e2e::hpack::encode;

use crate::site::{HOST, Site, address, site};

/// The numbers below this one are the cases' own.
const PROBE: u32 = 100_001;
/// The longest wait for something that a case wants.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What comes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing: the next request is answered.
    Nothing,
    /// This stream is answered with this status, and the next request too.
    Answer(u32, u16),
    /// RST_STREAM of this stream with this code; the next request is answered.
    Stream(u32, u32),
    /// GOAWAY with this code, and the connection is closed.
    Connection(u32),
    /// The connection is closed without a GOAWAY.
    Closed,
}

/// One case: what goes over the wire behind the preface, and what the RFC wants.
struct Case {
    /// The RFC's section: of RFC 9113, where a file does not say otherwise.
    section: &'static str,
    what: &'static str,
    /// Sent first; what follows is sent when stream 1 has come to its end.
    first: Option<Vec<u8>>,
    send: Vec<u8>,
    want: End,
    /// What happens for now, and why that is no harm.
    instead: Option<(End, &'static str)>,
}

fn case(section: &'static str, what: &'static str, send: impl Into<Vec<u8>>, want: End) -> Case {
    Case { section, what, first: None, send: send.into(), want, instead: None }
}

impl Case {
    fn after(mut self, first: impl Into<Vec<u8>>) -> Self {
        self.first = Some(first.into());
        self
    }

    /// The HTTP/2 library does something else.
    fn instead(mut self, end: End, why: &'static str) -> Self {
        self.instead = Some((end, why));
        self
    }
}

/// A gateway for all cases: `/` is answered, `/held` never.
struct Rules {
    site: Site,
    _answering: Backend,
    _silent: Backend,
}

impl Rules {
    fn start() -> Self {
        let (answering, silent) = (Backend::named("ok"), Backend::start(|_| Reply::Silence));
        let spec = format!(
            "hostnames: [{HOST}]
rules:
- {{name: held, matches: [{{path: {{type: Exact, value: /held}}}}], backendRefs: [{}]}}
- {{name: all, backendRefs: [{}]}}",
            address(silent.address),
            address(answering.address)
        );
        Self { site: site(&route("shop", &spec)), _answering: answering, _silent: silent }
    }

    fn connect(&self) -> H2Connection {
        let mut connection = H2Connection::plain(self.site.gateway.http).expect("a connection");
        connection.set_patience(SILENCE_MAX).expect("a socket");
        connection.settle().expect("SETTINGS");
        // Those that cases use, 1 to 7.
        for _ in 0..4 {
            connection.new_stream();
        }
        connection.go_on_with(PROBE);
        connection
    }

    /// Judges all cases before it fails, so that one run shows all that is wrong.
    #[track_caller]
    fn judge(&self, cases: impl IntoIterator<Item = Case>) {
        let mut wrong = Vec::new();
        for case in cases {
            let end =
                self.end(&case).unwrap_or_else(|error| panic!("§{}, {}: {error}", case.section, case.what));
            let right = match case.instead {
                None => end == case.want || end == as_of_connection(case.want),
                // Once it does as the RFC wants, the case need not say otherwise.
                Some((instead, _)) => end == instead,
            };
            if !right {
                let why = case.instead.map_or("", |(_, why)| why);
                wrong
                    .push(format!("§{}, {}: {end:?} and not {:?} {why}", case.section, case.what, case.want));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    fn end(&self, case: &Case) -> io::Result<End> {
        let mut connection = self.connect();
        if let Some(first) = &case.first {
            connection.send_raw(first)?;
            connection.wait_for("the end of stream 1", |c| c.so_far(1).map(drop))?;
        }
        // It may be closed before all of it is sent.
        match connection.send_raw(&case.send) {
            Err(error) if is_end(&error) => {}
            sent => sent?,
        }
        let expected = case.instead.map_or(case.want, |(end, _)| end);
        match expected {
            // A frame into a connection that is being closed could cost the GOAWAY.
            End::Connection(_) | End::Closed => match connection.until_closed() {
                Ok(()) => return Ok(closed(&connection)),
                Err(error) if is_silence(&error) => {}
                Err(error) => return Err(error),
            },
            End::Answer(stream, _) | End::Stream(stream, _) => {
                let outcome = connection.wait_for("the end of the stream", |c| c.so_far(stream).map(drop));
                match outcome {
                    Err(error) if is_end(&error) => return Ok(closed(&connection)),
                    Err(error) if is_silence(&error) => {}
                    outcome => outcome?,
                }
            }
            End::Nothing => {}
        }
        self.probe(&mut connection, expected)
    }

    /// The connection has not been closed: what shows when it is used again.
    fn probe(&self, connection: &mut H2Connection, expected: End) -> io::Result<End> {
        let outcome = connection.outcome_of(&H2Request::get(HOST, "/"));
        if outcome.status() != Some(200) {
            connection.until_closed()?;
            return Ok(closed(connection));
        }
        if let End::Answer(stream, _) = expected
            && let Some(Outcome::Answer(response)) = connection.so_far(stream)
        {
            return Ok(End::Answer(stream, response.status));
        }
        let reset = connection.first_reset().map(|(stream, code)| End::Stream(stream, code));
        Ok(reset.unwrap_or(End::Nothing))
    }
}

/// An error of a stream may end the connection (RFC 9113 §5.4.1).
fn as_of_connection(end: End) -> End {
    match end {
        End::Stream(_, code) => End::Connection(code),
        End::Nothing | End::Answer(..) | End::Connection(_) | End::Closed => end,
    }
}

fn closed(connection: &H2Connection) -> End {
    connection.goaways.last().map_or(End::Closed, |goaway| End::Connection(goaway.code))
}

fn is_silence(error: &io::Error) -> bool {
    crate::tls_site::is_silence(error)
}

/// The header block of a request, without a table and without Huffman codes.
fn block(method: &str, path: &str) -> Vec<u8> {
    encode([(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path)])
}

/// A whole request.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", "/"))
}

/// A whole request that is never answered.
fn held(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", "/held"))
}

/// The head of a request that has a body.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block("POST", "/"))
}

/// The last of a body.
fn end(stream: u32) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, b"end")
}
