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
    /// It runs in our region.
    placed_near: bool,
}

impl Nearness {
    pub(crate) fn of(endpoint: &Endpoint, own: Option<&str>, regions: &[String]) -> Self {
        let hints = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
        let mut zones = hints.into_iter().flatten();
        Self {
            hinted: hints.is_some_and(|zones| !zones.is_empty()),
            hinted_here: own.is_some_and(|own| zones.any(|zone| zone.name == own)),
            placed: endpoint.zone.is_some(),
            placed_here: own.is_some() && endpoint.zone.as_deref() == own,
            placed_near: endpoint
                .zone
                .as_deref()
                .is_some_and(|zone| regions.iter().any(|region| is_of_region(zone, region))),
        }
    }

    /// The same endpoint stands in another slice, too.
    pub(crate) fn add(&mut self, other: Self) {
        self.hinted |= other.hinted;
        self.hinted_here |= other.hinted_here;
        self.placed |= other.placed;
        self.placed_here |= other.placed_here;
        self.placed_near |= other.placed_near;
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

/// The places of those that run in our region or are for our zone. Empty where all are, or none.
pub(crate) fn near<'a>(endpoints: impl ExactSizeIterator<Item = &'a Nearness> + Clone) -> Vec<usize> {
    let all = endpoints.len();
    if !endpoints.clone().any(|nearness| nearness.placed_near)
        || !endpoints.clone().all(|nearness| nearness.placed)
    {
        return Vec::new();
    }
    let is_near = |nearness: &Nearness| nearness.placed_near || nearness.placed_here || nearness.hinted_here;
    let near: Vec<usize> =
        endpoints.enumerate().filter(|(_, nearness)| is_near(nearness)).map(|(place, _)| place).collect();
    if near.len() == all { Vec::new() } else { near }
}

/// Whether the zone is the region itself or is named after it: with a letter or a dash behind the region's name, as
/// `eu-west-1a` of `eu-west-1` and `europe-west1-b` of `europe-west1` (of which `europe-west10-b` is none).
fn is_of_region(zone: &str, region: &str) -> bool {
    let rest = (!region.is_empty()).then(|| zone.strip_prefix(region)).flatten();
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::is_of_region;

    #[test]
    fn zones_are_named_after_their_region() {
        for (zone, region, want) in [
            ("eu-west-1a", "eu-west-1", true),
            ("us-west-2-lax-1a", "us-west-2", true),
            ("europe-west1-b", "europe-west1", true),
            ("europe-west10-b", "europe-west1", false),
            ("westeurope-1", "westeurope", true),
            ("nyc1", "nyc1", true),
            ("nyc1", "nyc", false),
            ("a", "", false),
            ("eu-west-1", "eu-west-1a", false),
        ] {
            assert_eq!(is_of_region(zone, region), want, "{zone} {region}");
        }
    }
}
