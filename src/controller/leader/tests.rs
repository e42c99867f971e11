//! One candidate by hand, and several against a simulated API server: never do two of them lead.

use super::*;

const T: Timing = Timing::STANDARD;

fn wall(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

fn after(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

fn candidate(name: &str, now: Instant) -> Election {
    Election::new(name.to_owned(), T, now, 7)
}

fn held_by(name: &str, renewed: i64) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: Some(10),
        lease_transitions: Some(3),
        acquire_time: Some(micro(wall(0))),
        renew_time: Some(micro(wall(renewed))),
        ..LeaseSpec::default()
    };
    Lease { spec: Some(spec), ..Lease::default() }
}

fn replaced(step: Step) -> Lease {
    match step {
        Step::Replace(lease) => *lease,
        Step::Wait(_) | Step::Read | Step::Create(_) => panic!("{step:?} is no replacement"),
    }
}

/// Leads since `start`.
fn leader(start: Instant) -> Election {
    let mut election = candidate("a", start);
    assert_eq!(election.step(start, wall(0)), Step::Read);
    election.on_read(start, None);
    let Step::Create(lease) = election.step(start, wall(0)) else {
        panic!("a Lease that is not there is made")
    };
    election.on_written(start, start, *lease);
    election
}

#[test]
fn a_lease_that_is_not_there_is_made() {
    let start = Instant::now();
    let mut election = candidate("a", start);
    assert_eq!(election.leads_until(), None);
    assert_eq!(election.step(start, wall(0)), Step::Read);
    election.on_read(start, None);
    let Step::Create(lease) = election.step(start, wall(0)) else {
        panic!("a Lease that is not there is made")
    };
    assert_eq!(holder(&lease), Some("a"));
    assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, Some(0));
    assert_eq!(election.leads_until(), None, "before the answer nobody leads");
    election.on_written(start, after(start, 900), *lease);
    assert_eq!(election.leads_until(), Some(after(start, 6000)), "counted from when it was sent");
}

#[test]
fn a_leader_renews_every_two_seconds_and_keeps_when_it_came_to_lead() {
    let start = Instant::now();
    let mut election = leader(start);
    assert_eq!(election.step(after(start, 1999), wall(1999)), Step::Wait(after(start, 2000)));
    let lease = replaced(election.step(after(start, 2000), wall(2000)));
    let spec = lease.spec.unwrap();
    assert_eq!(spec.acquire_time, Some(micro(wall(0))));
    assert_eq!(spec.renew_time, Some(micro(wall(2000))));
    assert_eq!(spec.lease_transitions, Some(0));
}

#[test]
fn a_leader_that_cannot_renew_ends_at_its_deadline() {
    let start = Instant::now();
    let mut election = leader(start);
    for millis in (2000..6000).step_by(250) {
        let now = after(start, millis);
        match election.step(now, wall(0)) {
            Step::Wait(_) => {}
            Step::Read | Step::Create(_) | Step::Replace(_) => election.on_failed(now),
        }
        assert_eq!(election.leads_until(), Some(after(start, 6000)));
    }
    election.step(after(start, 6000), wall(0));
    assert_eq!(election.leads_until(), None);
}

#[test]
fn waiting_ends_with_the_leadership_at_the_latest() {
    let start = Instant::now();
    let mut election = leader(start);
    election.next = after(start, 60_000);
    assert_eq!(election.step(after(start, 1), wall(0)), Step::Wait(after(start, 6000)));
}

#[test]
fn a_follower_waits_for_ten_seconds_without_a_renewal_by_its_own_clock() {
    let start = Instant::now();
    let mut election = candidate("b", start);
    // The holder's clock is a year behind; nobody cares.
    let lease = held_by("a", -31_536_000_000);
    let mut now = start;
    let mut reads = 0;
    loop {
        match election.step(now, wall(0)) {
            Step::Wait(until) => now = until,
            Step::Read => {
                reads += 1;
                election.on_read(now, Some(lease.clone()));
            }
            Step::Replace(claim) => {
                assert_eq!(now, after(start, 10_000));
                assert_eq!(claim.spec.as_ref().unwrap().lease_transitions, Some(4));
                break;
            }
            Step::Create(_) => panic!("there is one"),
        }
    }
    assert!((6..=9).contains(&reads), "{reads} reads");
}

#[test]
fn each_renewal_that_is_seen_starts_the_wait_anew() {
    let start = Instant::now();
    let mut election = candidate("b", start);
    for second in 0..30_u32 {
        let now = start + Duration::from_secs(u64::from(second));
        election.must_read = true;
        election.next = now;
        assert_eq!(election.step(now, wall(0)), Step::Read);
        election.on_read(now, Some(held_by("a", i64::from(second / 5))));
        assert!(matches!(election.step(now, wall(0)), Step::Wait(_)), "second {second}");
    }
}

#[test]
fn a_lease_that_says_to_wait_longer_is_waited_for() {
    let start = Instant::now();
    let mut election = candidate("b", start);
    let mut lease = held_by("a", 0);
    lease.spec.as_mut().unwrap().lease_duration_seconds = Some(30);
    election.on_read(start, Some(lease));
    assert!(matches!(election.step(after(start, 29_999), wall(0)), Step::Wait(_)));
    election.must_read = false;
    election.next = start;
    replaced(election.step(after(start, 30_000), wall(0)));
}

#[test]
fn a_released_lease_is_taken_at_once_and_counts_as_a_change() {
    let start = Instant::now();
    let mut election = candidate("b", start);
    election.on_read(start, Some(held_by("", 0)));
    let claim = replaced(election.step(start, wall(5)));
    assert_eq!(holder(&claim), Some("b"));
    assert_eq!(claim.spec.unwrap().lease_transitions, Some(4));
}

#[test]
fn a_leader_that_releases_leads_no_more_and_leaves_no_holder() {
    let start = Instant::now();
    let mut election = leader(start);
    let lease = election.release(after(start, 100), wall(100)).unwrap();
    assert_eq!(holder(&lease), None);
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(0));
    assert_eq!(election.leads_until(), None);
    assert_eq!(election.release(after(start, 100), wall(100)), None, "only once");
    assert_eq!(leader(start).release(after(start, 6000), wall(0)), None, "not after its end");
}

#[test]
fn a_leader_whose_lease_another_took_ends_at_once() {
    let start = Instant::now();
    let mut election = leader(start);
    let now = after(start, 2000);
    replaced(election.step(now, wall(2000)));
    election.on_conflict(now);
    let now = after(now, 250);
    assert_eq!(election.step(now, wall(0)), Step::Read);
    election.on_read(now, Some(held_by("b", 0)));
    assert_eq!(election.leads_until(), None);
}

#[test]
fn a_leader_whose_lease_somebody_annotated_leads_on() {
    let start = Instant::now();
    let mut election = leader(start);
    let now = after(start, 2000);
    replaced(election.step(now, wall(2000)));
    election.on_conflict(now);
    let mut lease = election.seen.as_ref().unwrap().lease.clone();
    lease.metadata.resource_version = Some("99".to_owned());
    let now = after(now, 250);
    election.on_read(now, Some(lease));
    let renewal = replaced(election.step(now, wall(2250)));
    assert_eq!(renewal.metadata.resource_version.as_deref(), Some("99"));
    assert!(election.leads_until().is_some());
}

#[test]
fn a_leader_whose_lease_was_deleted_makes_another() {
    let start = Instant::now();
    let mut election = leader(start);
    let now = after(start, 2000);
    replaced(election.step(now, wall(2000)));
    election.on_failed(now);
    let now = after(now, 250);
    election.on_read(now, None);
    assert!(matches!(election.step(now, wall(0)), Step::Create(_)));
}

#[test]
fn a_write_without_an_answer_counts_from_when_it_was_sent_if_it_arrived() {
    let start = Instant::now();
    let mut election = leader(start);
    let sent = after(start, 2000);
    let renewal = replaced(election.step(sent, wall(2000)));
    let now = after(start, 5000);
    election.on_failed(now);
    assert_eq!(election.leads_until(), Some(after(start, 6000)));
    let now = after(now, 250);
    election.on_read(now, Some(renewal));
    assert_eq!(election.leads_until(), Some(after(sent, 6000)));
}

#[test]
fn a_holder_of_our_name_that_is_not_us_is_waited_for() {
    let start = Instant::now();
    let mut election = candidate("a", start);
    election.on_read(start, Some(held_by("a", 0)));
    assert!(matches!(election.step(start, wall(0)), Step::Wait(_)));
    assert_eq!(election.leads_until(), None);
}

#[test]
fn the_owner_is_set_once_beside_others() {
    let start = Instant::now();
    let mut election = leader(start);
    let owner = |uid: &str| OwnerReference { uid: uid.to_owned(), ..OwnerReference::default() };
    election.seen.as_mut().unwrap().lease.metadata.owner_references = Some(vec![owner("x")]);
    election.own(Some(&owner("y")));
    for second in [2, 4] {
        let now = start + Duration::from_secs(second);
        let lease = replaced(election.step(now, wall(0)));
        assert_eq!(lease.metadata.owner_references, Some(vec![owner("x"), owner("y")]));
        election.on_written(now, now, lease);
    }
}

/// An API server with one Lease, and candidates whose calls take time, get lost, or arrive although they were given up.
struct World {
    start: Instant,
    random: u64,
    lease: Option<Lease>,
    version: u64,
    candidates: Vec<Candidate>,
    /// Writes on their way: when they arrive, and whose they are.
    flying: Vec<(u64, usize, Lease, bool)>,
    /// Calls to the server are lost while this lasts.
    away_until: u64,
    /// Calls are quick, and none is lost.
    is_healthy: bool,
    timing: Timing,
}

struct Candidate {
    election: Election,
    /// How far its wall clock is off.
    skew: i64,
    /// The call it waits for.
    waits: Option<Call>,
    wake: u64,
    dead_until: u64,
}

enum Call {
    Read { at: u64 },
    Write { sent: u64, give_up: u64, answer: Option<(u64, Result<Box<Lease>, ()>)> },
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            random: seed,
            lease: None,
            version: 0,
            candidates: Vec::new(),
            flying: Vec::new(),
            away_until: 0,
            is_healthy: false,
            timing: T,
        };
        for n in 0..count {
            let skew = i64::try_from(world.below(7_200_000)).unwrap() - 3_600_000;
            let election = Election::new(format!("pod-{n}"), T, start, seed ^ world.random);
            let wake = world.below(3000);
            world.candidates.push(Candidate { election, skew, waits: None, wake, dead_until: 0 });
        }
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    /// Mostly quick, sometimes slower than anybody waits.
    fn latency(&mut self) -> u64 {
        match self.below(20) {
            _ if self.is_healthy => 1 + self.below(40),
            0 => 2500 + self.below(6000),
            1..=3 => 200 + self.below(1500),
            _ => 1 + self.below(40),
        }
    }

    fn is_lost(&mut self, millis: u64) -> bool {
        !self.is_healthy && (millis < self.away_until || self.below(50) == 0)
    }

    fn step_candidate(&mut self, n: usize, millis: u64) {
        let now = after(self.start, millis);
        let (latency, lost) = (self.latency(), self.is_lost(millis));
        let candidate = &mut self.candidates[n];
        match candidate.waits.take() {
            Some(Call::Read { at }) if at <= millis => {
                if lost || latency > 3000 {
                    candidate.election.on_failed(now);
                } else {
                    candidate.election.on_read(now, self.lease.clone());
                }
            }
            Some(Call::Write { sent, give_up, answer }) => match answer {
                Some((at, answer)) if at <= millis => match answer {
                    Ok(lease) => candidate.election.on_written(after(self.start, sent), now, *lease),
                    Err(()) => candidate.election.on_conflict(now),
                },
                _ if give_up <= millis => candidate.election.on_failed(now),
                answer => candidate.waits = Some(Call::Write { sent, give_up, answer }),
            },
            waits => candidate.waits = waits,
        }
        if candidate.waits.is_some() || candidate.wake > millis {
            return;
        }
        let wall = wall(i64::try_from(millis).unwrap() + candidate.skew);
        match candidate.election.step(now, wall) {
            Step::Wait(until) => {
                candidate.wake = u64::try_from((until - self.start).as_millis()).unwrap().max(millis + 1);
            }
            Step::Read => candidate.waits = Some(Call::Read { at: millis + latency.min(3000) }),
            Step::Create(lease) | Step::Replace(lease) => {
                let end = candidate.election.leads_until().map_or(3000, |until| (until - now).as_millis());
                let give_up = millis + u64::try_from(end).unwrap().min(3000);
                candidate.waits = Some(Call::Write { sent: millis, give_up, answer: None });
                // Half of what is lost is lost on its way back.
                self.flying.push((millis + latency, n, *lease, lost));
            }
        }
    }

    /// Writes that arrive now.
    fn arrive(&mut self, millis: u64) {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flying).into_iter().partition(|f| f.0 <= millis);
        self.flying = later;
        for (_, n, mut lease, lost) in now {
            if lost && millis.is_multiple_of(2) {
                continue;
            }
            let stands = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
            let answer = if stands == lease.metadata.resource_version {
                self.version += 1;
                lease.metadata.resource_version = Some(self.version.to_string());
                self.lease = Some(lease.clone());
                Ok(Box::new(lease))
            } else {
                Err(())
            };
            let back = millis + 1 + self.below(30);
            if let Some(Call::Write { answer: slot, .. }) = &mut self.candidates[n].waits
                && !lost
            {
                *slot = Some((back, answer));
            }
        }
    }

    /// Until when a write of this candidate may still be on its way.
    fn writes_until(&self, n: usize) -> Option<Instant> {
        self.candidates[n].election.leads_until().map(|until| until + self.timing.write_max)
    }
}

/// Returns how many changes of leader there were, and how long nobody led.
fn simulate(seed: u64, count: usize, length_ms: u64, timing: Timing) -> (u64, u64) {
    let mut world = World::new(seed, count);
    world.timing = timing;
    for candidate in &mut world.candidates {
        candidate.election.timing = timing;
    }
    let mut ends: Vec<Option<Instant>> = vec![None; count];
    let (mut changes, mut without, mut last) = (0, 0, None);
    for millis in 0..length_ms {
        let now = after(world.start, millis);
        world.arrive(millis);
        if world.below(20_000) == 0 {
            world.away_until = millis + world.below(20_000);
        }
        let mut leading = None;
        for n in 0..count {
            if world.candidates[n].dead_until > millis {
                continue;
            }
            if world.below(40_000) == 0 {
                // Half of them stop in order, half are killed; both come back as new processes.
                let released = world.candidates[n].election.release(now, wall(0));
                let version = |lease: &Lease| lease.metadata.resource_version.clone();
                if let Some(mut lease) = released
                    && world.below(2) == 0
                    && world.lease.as_ref().map(version) == Some(version(&lease))
                {
                    world.version += 1;
                    lease.metadata.resource_version = Some(world.version.to_string());
                    world.lease = Some(lease);
                    // Its writes had ended.
                    ends[n] = None;
                }
                let mut election = Election::new(format!("pod-{n}"), T, now, seed ^ millis);
                election.timing = timing;
                let candidate = &mut world.candidates[n];
                *candidate = Candidate {
                    election,
                    skew: candidate.skew,
                    waits: None,
                    wake: millis,
                    dead_until: millis + 3000,
                };
                continue;
            }
            world.step_candidate(n, millis);
            if world.candidates[n].election.leads_until().is_some_and(|until| now < until) {
                for (other, end) in ends.iter().enumerate() {
                    let writes = end.is_some_and(|end| now < end);
                    assert!(
                        other == n || !writes,
                        "seed {seed}: pod-{n} leads at {millis} while pod-{other} writes"
                    );
                }
                ends[n] = world.writes_until(n);
                leading = Some(n);
            }
        }
        if leading.is_some() && leading != last {
            changes += u64::from(last.is_some());
            last = leading;
        }
        without += u64::from(leading.is_none());
    }
    (changes, without)
}

#[test]
fn never_do_two_candidates_write_whatever_gets_lost() {
    let mut changes = 0;
    for seed in 0..60 {
        changes += simulate(seed, 2, 120_000, T).0;
    }
    for seed in 100..140 {
        changes += simulate(seed, 4, 120_000, T).0;
    }
    assert!(changes > 100, "only {changes} changes of leader: the simulation shows little");
}

#[test]
#[should_panic(expected = "writes")]
fn the_simulation_finds_two_writers_where_the_times_do_not_fit() {
    let timing = Timing { renew_deadline: Duration::from_secs(9), ..T };
    for seed in 0..60 {
        simulate(seed, 2, 120_000, timing);
    }
}

#[test]
fn a_dead_leader_is_followed_within_fifteen_seconds() {
    for seed in 0..50 {
        let mut world = World::new(seed, 2);
        world.is_healthy = true;
        let (first, at) = lead(&mut world, &[0, 1], 0, 15_000).unwrap();
        let mut died = at;
        // It dies somewhere between two renewals.
        let lives = world.below(5000);
        while died < at + lives {
            world.arrive(died);
            world.step_candidate(0, died);
            world.step_candidate(1, died);
            died += 1;
        }
        let (second, at) =
            lead(&mut world, &[1 - first], died, 15_000).unwrap_or_else(|| panic!("seed {seed}"));
        assert_ne!(first, second);
        assert!(at - died <= 12_500, "seed {seed}: {} ms", at - died);
        assert!(at - died >= 7_000, "seed {seed}: the Lease was taken after {} ms only", at - died);
    }
}

/// The first of `among` that leads, and when.
fn lead(world: &mut World, among: &[usize], from: u64, most: u64) -> Option<(usize, u64)> {
    for millis in from..from + most {
        world.arrive(millis);
        for n in among {
            world.step_candidate(*n, millis);
            let until = world.candidates[*n].election.leads_until();
            if until.is_some_and(|until| after(world.start, millis) < until) {
                return Some((*n, millis));
            }
        }
    }
    None
}
