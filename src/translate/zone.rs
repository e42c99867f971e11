//! Which endpoints are meant for the zone that this gateway runs in, as kube-proxy reads EndpointSlices. Knows no nodes.

use k8s_openapi::api::discovery::v1::Endpoint;

/// What slices say of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nearness {
    /// The cluster has divided the endpoints between the zones (`hints.forZones`).
    hinted: bool,
    /// And this one is for ours.
    hinted_here: bool,
    placed: bool,
    /// It runs in ours.
    placed_here: bool,
}

impl Nearness {
    pub(crate) fn of(endpoint: &Endpoint, own: Option<&str>) -> Self {
        let hints = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
        let mut zones = hints.into_iter().flatten();
        Self {
            hinted: hints.is_some_and(|zones| !zones.is_empty()),
            hinted_here: own.is_some_and(|own| zones.any(|zone| zone.name == own)),
            placed: endpoint.zone.is_some(),
            placed_here: own.is_some() && endpoint.zone.as_deref() == own,
        }
    }

    /// The same endpoint stands in another slice, too.
    pub(crate) fn add(&mut self, other: Self) {
        self.hinted |= other.hinted;
        self.hinted_here |= other.hinted_here;
        self.placed |= other.placed;
        self.placed_here |= other.placed_here;
    }
}

/// The places of those for our zone. Hints count before where an endpoint runs, since they keep a zone with few endpoints
/// from too many requests; where some have them and others not, they are just being given or taken away, and none count.
/// Empty where all are for our zone, or none.
pub(crate) fn local<'a>(endpoints: impl ExactSizeIterator<Item = &'a Nearness> + Clone) -> Vec<usize> {
    let hinted = endpoints.clone().filter(|nearness| nearness.hinted).count();
    let all = endpoints.len();
    let is_local: fn(&Nearness) -> bool = if hinted == all {
        |nearness| nearness.hinted_here
    } else if hinted == 0 && endpoints.clone().all(|nearness| nearness.placed) {
        |nearness| nearness.placed_here
    } else {
        return Vec::new();
    };
    let local: Vec<usize> =
        endpoints.enumerate().filter(|(_, nearness)| is_local(nearness)).map(|(place, _)| place).collect();
    if local.len() == all { Vec::new() } else { local }
}
