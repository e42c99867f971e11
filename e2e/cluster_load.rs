//! Load on the cluster: keep-alive connections that ask at a set pace, and count what came of every request. The pace
//! is there because all of Kubernetes shares the machine: load that takes what it gets would starve what it waits for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Connection, Request};
use crate::cluster_report::{measured, ms, percentile};
use crate::until::until_within;

/// The first failures are kept in words, the rest only counted by kind.
const WORDS_MAX: usize = 12;
/// A connection that is behind its schedule by more than this forgets what it has missed.
const BACKLOG_MAX: Duration = Duration::from_millis(100);

/// What is asked, of whom, and how often.
#[derive(Clone, Debug)]
pub struct Aim {
    /// The connections are shared out over these.
    pub addresses: Vec<SocketAddr>,
    pub connections: u64,
    /// Requests a second, all connections together.
    pub rate: u64,
    /// Asked in turn.
    pub requests: Vec<Request>,
    /// The statuses that are no failure.
    pub statuses: Vec<u16>,
}

impl Aim {
    /// The same GET again and again.
    pub fn get(address: SocketAddr, host: &str, path: &str) -> Self {
        Self {
            addresses: vec![address],
            connections: 16,
            rate: 3000,
            requests: vec![Request::get(host, path)],
            statuses: vec![200],
        }
    }

    /// Every third request is a POST with a body.
    pub fn mixed(address: SocketAddr, host: &str, path: &str) -> Self {
        let get = Request::get(host, path);
        let post = Request::new("POST", host, path).body(vec![b'x'; 3000]);
        Self { requests: vec![get.clone(), get, post], ..Self::get(address, host, path) }
    }

    #[must_use]
    pub fn rate(self, rate: u64) -> Self {
        Self { rate, ..self }
    }
}

/// Running threads, one a connection; [`Load::stop`] ends them.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    started: Instant,
    threads: Vec<JoinHandle<Tally>>,
}

#[derive(Debug)]
struct Shared {
    aim: Aim,
    rate: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub succeeded: u64,
    /// Requests by what went wrong.
    pub failures: BTreeMap<String, u64>,
    /// Some failures in full, each with the time since the start.
    pub words: Vec<String>,
    /// Connections that were opened.
    pub connections: u64,
    /// Answers by the pod that gave them (`x-echo-pod`).
    pub pods: BTreeMap<String, u64>,
    /// Times from request to whole answer, of those that succeeded.
    pub times: Vec<Duration>,
    pub duration: Duration,
}

impl Load {
    pub fn start(aim: Aim) -> Self {
        let shared = Arc::new(Shared {
            rate: AtomicU64::new(aim.rate),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            aim,
        });
        let started = Instant::now();
        let threads = (0..shared.aim.connections)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || ask_on(&shared, number, started))
            })
            .collect();
        Self { shared, started, threads }
    }

    /// How many requests have been answered or have failed.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// How many have failed.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Requests a second from now on.
    pub fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    /// Waits until this many requests more have been asked.
    ///
    /// # Panics
    /// When they do not get done.
    pub fn go_on_for(&self, requests: u64) {
        let goal = self.done() + requests;
        self.reach(goal);
    }

    /// Waits until so many have been asked since the start.
    ///
    /// # Panics
    /// When they do not get done.
    pub fn reach(&self, requests: u64) {
        let rate = self.shared.rate.load(Ordering::Relaxed).max(1);
        let patience = Duration::from_secs(20 + 4 * requests.saturating_sub(self.done()) / rate);
        until_within(patience, "the load goes on", || (self.done() >= requests).then_some(()));
    }

    /// Lets every connection finish its request.
    ///
    /// # Panics
    /// When a thread did.
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for thread in self.threads {
            tally.add(thread.join().expect("a thread of the load"));
        }
        tally.duration = self.started.elapsed();
        tally
    }
}

impl Tally {
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// # Panics
    /// When no request succeeded.
    pub fn time(&self, share: f64) -> Duration {
        percentile(&self.times, share)
    }

    /// Reports the numbers, then asks for no failure and for so many requests.
    ///
    /// # Panics
    /// When a request failed, or fewer were asked.
    pub fn assert_clean(&self, what: &str, at_least: u64) {
        let (succeeded, failed) = (self.succeeded, self.failed());
        let rate = (succeeded + failed) as f64 / self.duration.as_secs_f64().max(0.001);
        if succeeded > 0 {
            let value = format!(
                "{failed} failed of {}, {rate:.0}/s, p50 {}, p99 {}, max {}",
                succeeded + failed,
                ms(self.time(0.5)),
                ms(self.time(0.99)),
                ms(self.time(1.0))
            );
            measured(what, value, &format!("0 failed of >= {at_least}"));
        }
        assert_eq!(
            failed, 0,
            "{what}: {failed} failed beside {succeeded}: {:#?}\n{:#?}",
            self.failures, self.words
        );
        assert!(succeeded >= at_least, "{what}: only {succeeded} requests, {at_least} are wanted");
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.connections += other.connections;
        self.times.extend(other.times);
        self.words.extend(other.words);
        self.words.truncate(WORDS_MAX);
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        for (pod, count) in other.pods {
            *self.pods.entry(pod).or_default() += count;
        }
    }

    fn fail(&mut self, kind: String, words: String) {
        *self.failures.entry(kind).or_default() += 1;
        if self.words.len() < WORDS_MAX {
            self.words.push(words);
        }
    }
}

/// One connection, one thread.
fn ask_on(shared: &Shared, number: u64, started: Instant) -> Tally {
    let aim = &shared.aim;
    let address = aim.addresses[number as usize % aim.addresses.len()];
    let mut tally = Tally::default();
    let mut connection = None;
    let mut turn = number as usize;
    // The connections take turns, so that the requests do not come in bursts.
    let mut due = started + interval(shared) * number as u32 / aim.connections.max(1) as u32;
    loop {
        pace(shared, &mut due);
        if shared.stop.load(Ordering::Relaxed) {
            return tally;
        }
        let request = &aim.requests[turn % aim.requests.len()];
        turn += 1;
        let sent = Instant::now();
        let failures = tally.failed();
        ask_once(address, &mut connection, request, (shared, &mut tally), started);
        if tally.failed() > failures {
            shared.failed.fetch_add(1, Ordering::Relaxed);
        } else {
            tally.times.push(sent.elapsed());
        }
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

fn interval(shared: &Shared) -> Duration {
    let rate = shared.rate.load(Ordering::Relaxed).max(1);
    Duration::from_nanos(1_000_000_000 * shared.aim.connections / rate)
}

/// Waits for the connection's turn, in slices so that a stop or a new rate is seen soon.
fn pace(shared: &Shared, due: &mut Instant) {
    while !shared.stop.load(Ordering::Relaxed) {
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            break;
        }
        thread::sleep(wait.min(Duration::from_millis(20)));
    }
    *due += interval(shared);
    let now = Instant::now();
    if *due + BACKLOG_MAX < now {
        *due = now;
    }
}

fn ask_once(
    address: SocketAddr,
    connection: &mut Option<Connection>,
    request: &Request,
    (shared, tally): (&Shared, &mut Tally),
    started: Instant,
) {
    let fresh = connection.is_none();
    let opened = match connection.take() {
        Some(open) => Ok(open),
        None => {
            tally.connections += 1;
            Connection::open(address)
        }
    };
    let at = started.elapsed();
    let age = if fresh { "a new connection" } else { "a kept connection" };
    let fail = |tally: &mut Tally, kind: String, more: &str| {
        let words = format!("at {}: {} {address} on {age}: {kind} {more}", ms(at), request.method);
        tally.fail(format!("{} on {age}: {kind}", request.method), words);
    };
    let mut open = match opened {
        Ok(open) => open,
        Err(error) => return fail(tally, format!("connect: {:?}", error.kind()), &error.to_string()),
    };
    match open.ask(request) {
        Ok(response) => {
            if shared.aim.statuses.contains(&response.status) {
                tally.succeeded += 1;
                if let Some(pod) = response.header("x-echo-pod") {
                    *tally.pods.entry(pod.to_owned()).or_default() += 1;
                }
            } else {
                let more = format!("{:?} {}", response.headers, response.text());
                fail(tally, format!("status {}", response.status), &more);
            }
            if !response.closes() {
                *connection = Some(open);
            }
        }
        Err(error) => fail(tally, format!("{:?}", error.kind()), &error.to_string()),
    }
}
