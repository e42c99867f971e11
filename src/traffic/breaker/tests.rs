//! The breaker's bounds, alone and under threads.

use super::*;

const KINDS: [BreakerKind; 4] =
    [BreakerKind::Requests, BreakerKind::Pending, BreakerKind::Connections, BreakerKind::Retries];

fn bound(kind: BreakerKind, max: u32) -> ir::CircuitBreaker {
    let mut limits = ir::CircuitBreaker::default();
    *match kind {
        BreakerKind::Requests => &mut limits.max_requests,
        BreakerKind::Pending => &mut limits.max_pending_requests,
        BreakerKind::Connections => &mut limits.max_connections,
        BreakerKind::Retries => &mut limits.max_retries,
    } = Some(max);
    limits
}

#[test]
fn each_kind_has_its_own_bound_and_counter() {
    for kind in KINDS {
        let (breaker, limits) = (Breaker::default(), bound(kind, 2));
        assert!(breaker.try_acquire(kind, &limits), "{kind:?}");
        assert!(breaker.try_acquire(kind, &limits), "{kind:?}");
        assert!(!breaker.try_acquire(kind, &limits), "{kind:?}");
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            assert_eq!(breaker.in_use(other), 0, "{kind:?} counts as {other:?}");
            assert!(breaker.try_acquire(other, &limits), "{kind:?} bounds {other:?}");
        }
        breaker.release(kind);
        assert!(breaker.try_acquire(kind, &limits), "{kind:?} is not free again");
    }
}

#[test]
fn a_bound_of_zero_lets_nothing_through() {
    for kind in KINDS {
        let breaker = Breaker::default();
        assert!(!breaker.try_acquire(kind, &bound(kind, 0)), "{kind:?}");
        assert_eq!(breaker.in_use(kind), 0);
    }
}

#[test]
fn what_a_route_without_bounds_uses_counts_for_one_with_bounds() {
    let breaker = Breaker::default();
    let none = ir::CircuitBreaker::default();
    for _ in 0..3 {
        assert!(breaker.try_acquire(BreakerKind::Requests, &none));
    }
    assert!(!breaker.try_acquire(BreakerKind::Requests, &bound(BreakerKind::Requests, 3)));
    assert!(breaker.try_acquire(BreakerKind::Requests, &bound(BreakerKind::Requests, 4)));
}

#[test]
fn a_dropped_permit_gives_back_what_it_took() {
    let (breaker, limits) = (Arc::new(Breaker::default()), bound(BreakerKind::Connections, 1));
    let permit = BreakerPermit::try_acquire(&breaker, BreakerKind::Connections, &limits).unwrap();
    assert!(BreakerPermit::try_acquire(&breaker, BreakerKind::Connections, &limits).is_none());
    assert_eq!(breaker.in_use(BreakerKind::Connections), 1);
    drop(permit);
    assert_eq!(breaker.in_use(BreakerKind::Connections), 0);
}

#[test]
fn eight_threads_never_hold_more_than_the_bound() {
    let (breaker, limits) = (Arc::new(Breaker::default()), bound(BreakerKind::Requests, 3));
    let holders = AtomicU32::new(0);
    let most = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    if let Some(permit) = BreakerPermit::try_acquire(&breaker, BreakerKind::Requests, &limits)
                    {
                        let now = holders.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::hint::spin_loop();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!(breaker.in_use(BreakerKind::Requests), 0);
}
