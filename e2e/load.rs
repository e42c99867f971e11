//! Load: threads with keep-alive connections that count every request which did not come back whole and as wanted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::client::{Connection, Request, Response};

/// The first failures are kept in words, the rest only counted.
const FAILURES_KEPT: usize = 20;

type RequestOf = dyn Fn(u64) -> Request + Send + Sync;
type Judge = dyn Fn(&Response) -> Result<(), String> + Send + Sync;

/// What is asked and what counts as success.
#[derive(Clone)]
pub struct Plan {
    /// The request of this number.
    pub request: Arc<RequestOf>,
    /// Why the answer is not the wanted one.
    pub judge: Arc<Judge>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").finish_non_exhaustive()
    }
}

impl Plan {
    /// The same GET again and again; every answer must be a 200.
    pub fn get(host: &str, path: &str) -> Self {
        let request = Request::get(host, path);
        Self { request: Arc::new(move |_| request.clone()), judge: Arc::new(is_200) }
    }

    /// Every third request is a POST with a body; every answer must be a 200.
    pub fn mixed(host: &str, path: &str) -> Self {
        let get = Request::get(host, path);
        let post = Request::new("POST", host, path).body(vec![b'x'; 3000]);
        let request = move |number: u64| if number.is_multiple_of(3) { post.clone() } else { get.clone() };
        Self { request: Arc::new(request), judge: Arc::new(is_200) }
    }
}

fn is_200(response: &Response) -> Result<(), String> {
    if response.status == 200 {
        return Ok(());
    }
    Err(format!("status {}: {}", response.status, response.text()))
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub succeeded: u64,
    pub failed: u64,
    pub failures: Vec<String>,
    /// Connections that were opened.
    pub connections: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.connections += other.connections;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT);
    }

    fn fail(&mut self, reason: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(reason);
        }
    }

    /// # Panics
    /// When a request failed, or none succeeded.
    pub fn assert_clean(&self) {
        assert_eq!(self.failed, 0, "{} failed beside {}: {:#?}", self.failed, self.succeeded, self.failures);
        assert!(self.succeeded > 0, "no request was sent");
    }
}

/// Running threads; [`Load::stop`] ends them.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Each thread keeps one connection and asks on it until [`Load::stop`].
    pub fn start(address: SocketAddr, threads: usize, plan: &Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let threads = (0..threads)
            .map(|_| {
                let (stop, done, plan) = (Arc::clone(&stop), Arc::clone(&done), plan.clone());
                thread::spawn(move || ask_until(address, &plan, &done, || stop.load(Ordering::Relaxed)))
            })
            .collect();
        Self { stop, done, threads }
    }

    /// How many requests have been answered, well or not.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Lets every thread finish its request.
    ///
    /// # Panics
    /// When a thread did.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for thread in self.threads {
            tally.add(thread.join().expect("a thread of the load"));
        }
        tally
    }
}

/// Asks this many requests over this many threads.
///
/// # Panics
/// When a thread does.
pub fn ask_times(address: SocketAddr, threads: usize, requests: u64, plan: &Plan) -> Tally {
    let taken = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicU64::new(0));
    let running: Vec<_> = (0..threads)
        .map(|_| {
            let (taken, done, plan) = (Arc::clone(&taken), Arc::clone(&done), plan.clone());
            thread::spawn(move || {
                ask_until(address, &plan, &done, || taken.fetch_add(1, Ordering::Relaxed) >= requests)
            })
        })
        .collect();
    let mut tally = Tally::default();
    for thread in running {
        tally.add(thread.join().expect("a thread of the load"));
    }
    tally
}

fn ask_until(address: SocketAddr, plan: &Plan, done: &AtomicU64, stop: impl Fn() -> bool) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while !stop() {
        let request = (plan.request)(done.load(Ordering::Relaxed));
        match ask(address, &mut connection, &request, &mut tally) {
            Ok(response) => {
                if response.closes() {
                    connection = None;
                }
                match (plan.judge)(&response) {
                    Ok(()) => tally.succeeded += 1,
                    Err(reason) => tally.fail(reason),
                }
            }
            Err(error) => {
                tally.fail(error.to_string());
                connection = None;
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    tally
}

fn ask(
    address: SocketAddr,
    connection: &mut Option<Connection>,
    request: &Request,
    tally: &mut Tally,
) -> io::Result<Response> {
    if connection.is_none() {
        tally.connections += 1;
        *connection = Some(Connection::open(address)?);
    }
    match connection {
        Some(open) => open.ask(request),
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}
