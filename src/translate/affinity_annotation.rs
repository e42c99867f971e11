//! Sessions as an Ingress asks for them by annotations. A word that is not understood leaves the default in its place.

use std::time::Duration;

use ir::{Affinity, AffinityCookie, AffinityFailure, AffinityMode, RouteId, SameSite};

use crate::affinity::{self, SealMaterial};
use crate::report::{Field, Lines};

/// The sessions of all paths of one Ingress.
#[derive(Debug)]
pub(crate) struct IngressAffinity {
    /// As of a path whose cookie is named.
    template: Affinity,
    /// The cookie of each path has a name of its own.
    is_named: bool,
}

/// Looks an annotation up by its name: the text and where it stands.
pub(crate) type Annotation<'a> = &'a dyn Fn(&'static str) -> Option<(&'a str, Field<'a>)>;

impl IngressAffinity {
    /// `None`: there are no sessions.
    pub(crate) fn read(
        get: Annotation<'_>,
        (id, material): (&RouteId, impl FnOnce(&mut Lines) -> SealMaterial),
        lines: &mut Lines,
    ) -> Option<Self> {
        let (text, field) = get(api::AFFINITY_ANNOTATION)?;
        if !text.eq_ignore_ascii_case("cookie") {
            let message = format!("'{text}' is no affinity; there are no sessions");
            lines.error(field, message, "write cookie");
            return None;
        }
        let mut template = affinity::default(id, &material(lines));
        let choose = |name: &'static str, words: &str, lines: &mut Lines| {
            let (text, field) = get(name)?;
            let place = words.split(' ').position(|word| word.eq_ignore_ascii_case(text));
            if place.is_none() {
                let message = format!("'{text}' is not known; the default is used");
                lines.error(field, message, &format!("write one of {words}"));
            }
            place
        };
        if choose(api::AFFINITY_MODE_ANNOTATION, "balanced persistent", lines) == Some(1) {
            template.mode = AffinityMode::Persistent;
        }
        if choose(api::SESSION_COOKIE_CHANGE_ON_FAILURE_ANNOTATION, "true false", lines) == Some(1) {
            template.on_failure = AffinityFailure::Fail;
        }
        let same_site = choose(api::SESSION_COOKIE_SAMESITE_ANNOTATION, "Strict Lax None", lines);
        let secure = choose(api::SESSION_COOKIE_SECURE_ANNOTATION, "true false", lines);
        let mut cookie = AffinityCookie {
            same_site: [SameSite::Strict, SameSite::Lax, SameSite::None]
                .into_iter()
                .nth(same_site.unwrap_or(1))
                .unwrap_or(SameSite::Lax),
            secure: secure.map(|place| place == 0),
            ttl: max_age(get, lines),
            ..template.cookie.clone()
        };
        let named = get(api::SESSION_COOKIE_NAME_ANNOTATION);
        for (text, into) in
            [(named, &mut cookie.name), (get(api::SESSION_COOKIE_PATH_ANNOTATION), &mut cookie.path)]
        {
            if let Some((text, _)) = text {
                *into = text.to_owned();
            }
        }
        cookie.domain = get(api::SESSION_COOKIE_DOMAIN_ANNOTATION).map(|(text, _)| text.to_owned());
        match affinity::check(&mut cookie) {
            Ok(()) => template.cookie = cookie,
            Err((_, what, remedy)) => {
                lines.error(field, format!("{what}; the default cookie is used"), remedy);
            }
        }
        let is_named = named.is_some_and(|(text, _)| text == template.cookie.name);
        Some(Self { template, is_named })
    }

    /// Of one path.
    pub(crate) fn of(&self, id: &RouteId) -> Affinity {
        let mut affinity = self.template.clone();
        if !self.is_named {
            affinity.cookie.name = affinity::own_name(id);
        }
        affinity
    }
}

/// In seconds as in ingress-nginx, or a duration. 0 is as long as the browser runs.
fn max_age(get: Annotation<'_>, lines: &mut Lines) -> Option<Duration> {
    let (text, field) = get(api::SESSION_COOKIE_MAX_AGE_ANNOTATION)?;
    let seconds = text.parse().ok().map(Duration::from_secs);
    let age = seconds.or_else(|| api::Duration::parse(text).map(api::Duration::get));
    if age.is_none() {
        let message = format!("'{text}' is no time; the cookie lasts as long as the browser runs");
        lines.error(field, message, "write seconds, or a duration like 1h");
    }
    age.filter(|age| !age.is_zero())
}
