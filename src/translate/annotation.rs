//! What an Ingress says by annotation of its backends: protocol, TLS, upgrades and idle streams. A word that is not
//! understood fails closed where TLS hangs on it.

use std::sync::Arc;
use std::time::Duration;

use api::{BackendProtocol, CaRef};
use ir::{
    Action, BackendId, BackendTarget, BalancePolicy, LoadBalancing, Route, RouteId, Trust, Upgrades,
    UpstreamProtocol, UpstreamTls, WeightedBackend,
};
use k8s_openapi::api::networking::v1::Ingress;

use crate::affinity::SealMaterial;
use crate::affinity_annotation::IngressAffinity;
use crate::authority::{self, authorities};
use crate::notes::Notes;
use crate::protocol::{self, NO_TLS, Offer, TlsDemand};
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::{balance, upstream};

/// How all backends of one Ingress are spoken to.
#[derive(Debug, Default)]
pub(crate) struct IngressUpstream {
    protocol: Option<BackendProtocol>,
    tls: Option<TlsDemand>,
    /// Protocol or TLS cannot be had as asked for: every backend counts as missing.
    is_refused: bool,
    upgrades: Upgrades,
    load_balancing: LoadBalancing,
    affinity: Option<IngressAffinity>,
    /// `None`: the default.
    stream_idle: Option<Option<Duration>>,
    /// One value for the paths that speak alike.
    shared: Vec<Arc<UpstreamTls>>,
}

impl IngressUpstream {
    pub(crate) fn read(ingress: &Ingress, reader: &mut Reader<'_>, lines: &mut Lines) -> Self {
        let Some(annotations) = &ingress.metadata.annotations else { return Self::default() };
        let root = Field::root("metadata");
        let notes = Notes { annotations, field: root.key("annotations") };
        let protocol = notes.protocol(lines);
        let tls = notes.tls(reader, lines);
        let mut upstream = Self {
            is_refused: protocol.is_err() || tls.is_err(),
            protocol: protocol.ok().flatten(),
            tls: tls.ok().flatten(),
            upgrades: notes.upgrades(lines),
            load_balancing: notes.load_balancing(lines),
            affinity: notes.affinity(ingress, reader, lines),
            stream_idle: notes.stream_idle(lines),
            shared: Vec::new(),
        };
        if upstream.tls.is_some() && upstream.protocol.is_some_and(|protocol| !protocol::has_tls(protocol)) {
            let message = format!("the protocol has no TLS, and annotations ask for it; {NO_TLS}");
            let remedy = "write HTTPS or GRPCS, or remove the annotations backend-tls-…";
            lines.error(notes.field.quoted(api::BACKEND_PROTOCOL_ANNOTATION), message, remedy);
            upstream.is_refused = true;
        }
        upstream
    }

    /// The only backend of a path.
    pub(crate) fn backend(&mut self, found: Result<(BackendId, Offer), BackendId>) -> WeightedBackend {
        let missing = |id| WeightedBackend {
            target: BackendTarget::Missing(id),
            weight: 1,
            protocol: UpstreamProtocol::default(),
        };
        let (id, offer) = match found {
            Ok((id, _)) if self.is_refused => return missing(id),
            Ok(found) => found,
            Err(id) => return missing(id),
        };
        let mut protocol = protocol::protocol(self.protocol, self.tls.as_ref(), &offer);
        if let Some(tls) = &mut protocol.tls {
            match self.shared.iter().find(|shared| *shared == tls) {
                Some(shared) => *tls = Arc::clone(shared),
                None => self.shared.push(Arc::clone(tls)),
            }
        }
        WeightedBackend { target: BackendTarget::Backend(id), weight: 1, protocol }
    }

    /// Puts what is not of a backend on a route that has its own.
    pub(crate) fn finish(&self, route: &mut Route) {
        if let Some(stream_idle) = self.stream_idle {
            route.timeouts.stream_idle = stream_idle;
        }
        if let Action::Forward { upgrades, load_balancing, .. } = &mut route.action {
            upgrades.clone_from(&self.upgrades);
            load_balancing.clone_from(&self.load_balancing);
            load_balancing.affinity = self.affinity.as_ref().map(|affinity| Box::new(affinity.of(&route.id)));
        }
    }
}

/// The reference of an annotation that names authorities; `None`: there is none that can be read.
pub(crate) fn ca_ref(ingress: &Ingress, annotation: &str) -> Option<CaRef> {
    authority::written(ingress.metadata.annotations.as_ref()?.get(annotation)?.trim())
}

impl Notes<'_> {
    fn protocol(&self, lines: &mut Lines) -> Result<Option<BackendProtocol>, Refused> {
        let Some((text, field)) = self.get(api::BACKEND_PROTOCOL_ANNOTATION) else { return Ok(None) };
        protocol::named(&text.to_ascii_uppercase()).map(Some).ok_or_else(|| {
            let message = format!("'{text}' is no protocol of a backend; {NO_TLS}");
            lines.error(field, message, "write HTTP, H2C, HTTPS, GRPC or GRPCS")
        })
    }

    /// All that is wrong gets its line, and one wrong part refuses the whole.
    fn tls(&self, reader: &mut Reader<'_>, lines: &mut Lines) -> Result<Option<TlsDemand>, Refused> {
        let trust = self.trust(reader, lines);
        let hostname = self
            .get(api::BACKEND_TLS_HOSTNAME_ANNOTATION)
            .map(|(text, field)| protocol::server_name(text, field, lines));
        let client = self
            .get(api::BACKEND_TLS_CLIENT_CERT_ANNOTATION)
            .map(|(name, field)| protocol::client_certificate(name, field, reader, lines));
        let (trust, hostname, client) = (trust?, hostname.transpose()?, client.transpose()?);
        if trust.is_none() && hostname.is_none() && client.is_none() {
            return Ok(None);
        }
        Ok(Some(TlsDemand {
            trust: trust.unwrap_or(Trust::System),
            hostname,
            subject_alt_names: Vec::new(),
            client_certificate: client,
        }))
    }

    fn trust(&self, reader: &mut Reader<'_>, lines: &mut Lines) -> Result<Option<Trust>, Refused> {
        let verifies = match self.get(api::BACKEND_TLS_VERIFY_ANNOTATION) {
            None | Some(("on", _)) => true,
            Some(("off", _)) => false,
            Some((text, field)) => {
                let message = format!("'{text}' is neither on nor off; {NO_TLS}");
                return Err(lines.error(field, message, "write \"on\" or \"off\""));
            }
        };
        let Some((text, field)) = self.get(api::BACKEND_TLS_CA_ANNOTATION) else {
            return Ok((!verifies).then_some(Trust::Anyone));
        };
        if !verifies {
            let message = format!("authorities are named, and nothing is verified; {NO_TLS}");
            let remedy = "remove this annotation or backend-tls-verify";
            return Err(lines.error(field, message, remedy));
        }
        let Some(reference) = authority::written(text) else {
            let message = format!("'{text}' names no object with authorities; {NO_TLS}");
            return Err(lines.error(field, message, "write configmap/NAME or secret/NAME"));
        };
        let found = authorities(&reference, (field, field), NO_TLS, reader, lines)?;
        Ok(Some(Trust::Authorities { source: found.source, pem: found.pem }))
    }

    fn upgrades(&self, lines: &mut Lines) -> Upgrades {
        let Some((text, field)) = self.get(api::UPGRADES_ANNOTATION) else { return Upgrades::default() };
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        upstream::upgrades(&names, field, "websocket alone is allowed", lines).unwrap_or_default()
    }

    fn affinity(
        &self,
        ingress: &Ingress,
        reader: &mut Reader<'_>,
        lines: &mut Lines,
    ) -> Option<IngressAffinity> {
        let id = RouteId { object: lines.object().clone(), rule: "".into() };
        let material = |lines: &mut Lines| SealMaterial::read(&ingress.metadata, reader, lines);
        IngressAffinity::read(&|name| self.get(name), (&id, material), lines)
    }

    /// Nothing is less safe for a word that is not understood, so the default holds.
    fn load_balancing(&self, lines: &mut Lines) -> LoadBalancing {
        let policy = self.get(api::LOAD_BALANCE_ANNOTATION).and_then(|(text, field)| {
            let policy = balance::named_policy(text);
            if policy.is_none() {
                let message = format!("'{text}' is no way to choose an endpoint; RoundRobin is used");
                lines.error(field, message, "write RoundRobin, LeastRequest, EWMA or Random");
            }
            policy
        });
        let hash = self.get(api::UPSTREAM_HASH_BY_ANNOTATION).and_then(|(text, field)| {
            let on = balance::named_hash(text);
            if on.is_none() {
                let message = format!("'{text}' is nothing to hash; nothing is hashed");
                let remedy = "write Header, Cookie or QueryParam and a name, or SourceIP, Host, Path or URI";
                lines.error(field, message, remedy);
            }
            on.map(BalancePolicy::ConsistentHash)
        });
        hash.or(policy).unwrap_or_default().into()
    }

    fn stream_idle(&self, lines: &mut Lines) -> Option<Option<Duration>> {
        let (text, field) = self.get(api::STREAM_IDLE_TIMEOUT_ANNOTATION)?;
        let Some(duration) = api::Duration::parse(text) else {
            let message = format!("'{text}' is no duration; 1h is used");
            lines.error(field, message, "write a duration like 30m, or 0s for no bound");
            return None;
        };
        Some(Some(duration.get()).filter(|duration| !duration.is_zero()))
    }
}
