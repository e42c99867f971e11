//! Shares and the ends of the range.

use super::*;

fn weights(weights: &[u32]) -> Weights {
    let target = ir::BackendTarget::Backend(ir::BackendId::Address { host: "h".into(), port: 80 });
    let backends: Vec<_> = weights
        .iter()
        .map(|weight| ir::WeightedBackend {
            target: target.clone(),
            weight: *weight,
            protocol: ir::UpstreamProtocol::default(),
        })
        .collect();
    Weights::new(&backends)
}

#[test]
fn every_backend_gets_its_share() {
    let cases: [(&[u32], &[u64]); 4] = [
        (&[1], &[1000]),
        (&[90, 10], &[900, 100]),
        (&[0, 1, 0, 1, 0], &[0, 500, 0, 500, 0]),
        (&[1_000_000, 1_000_000, 2_000_000], &[250, 250, 500]),
    ];
    for (input, want) in cases {
        let weights = weights(input);
        let mut got = vec![0; input.len()];
        for step in 0..1000_u64 {
            let index = weights.pick(step * (u64::MAX / 1000) + u64::MAX / 2000).expect("a backend");
            got[index] += 1;
        }
        assert_eq!(got, want, "{input:?}");
    }
}

#[test]
fn the_ends_of_the_range_stay_inside() {
    let weights = weights(&[0, 3, 0]);
    assert_eq!(weights.pick(0), Some(1));
    assert_eq!(weights.pick(u64::MAX), Some(1));
}

#[test]
fn nothing_is_picked_without_weight() {
    assert_eq!(weights(&[]).pick(7), None);
    assert_eq!(weights(&[0, 0]).pick(7), None);
}
