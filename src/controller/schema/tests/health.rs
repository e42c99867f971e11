//! The definition's rules of health checks and of the breaker that opens on failures.

use super::*;

#[test]
fn the_rules_of_health_checks_and_breakers_hold() {
    let active = |spec: Value| rule(&json!({"healthCheck": {"active": spec}}));
    let passive = |spec: Value| rule(&json!({"healthCheck": {"passive": spec}}));
    let failures = |spec: Value| rule(&json!({"circuitBreaker": {"failures": spec}}));
    check(&[
        (
            "only HTTP has a path",
            Kind::GatewayRoute,
            active(json!({"type": "HTTP", "path": "/healthz?x=1", "expected": ["200-299"]})),
            active(json!({"type": "TCP", "path": "/healthz"})),
            "spec.rules[0].healthCheck.active: path, host, headers and expected are for the type HTTP",
        ),
        (
            "only GRPC has a service",
            Kind::GatewayRoute,
            active(json!({"type": "GRPC", "service": "shop.Cart"})),
            active(json!({"service": "shop.Cart"})),
            "spec.rules[0].healthCheck.active: service is for the type GRPC",
        ),
        (
            "a check has its time",
            Kind::GatewayRoute,
            active(json!({"interval": "100ms", "timeout": "1m"})),
            active(json!({"interval": "99ms"})),
            "spec.rules[0].healthCheck.active.interval: interval is 100ms to 1h",
        ),
        (
            "the longest ejection is as long as the first",
            Kind::GatewayRoute,
            passive(json!({"ejectFor": "10s", "maxEjectFor": "10s"})),
            passive(json!({"ejectFor": "10s", "maxEjectFor": "9s"})),
            "spec.rules[0].healthCheck.passive: maxEjectFor is at least ejectFor",
        ),
        (
            "something opens the breaker",
            Kind::GatewayRoute,
            failures(json!({"successRate": {"minimumPercent": 50}})),
            failures(json!({"openFor": "1s"})),
            "spec.rules[0].circuitBreaker.failures: failures says nothing that could open the breaker",
        ),
    ]);
}
