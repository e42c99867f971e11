//! Which objects are ours to serve, by their class.

use std::collections::BTreeSet;

use ir::Kind;

use crate::{Settings, Snapshot};

/// The classes of this install. Equal values take the same objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    ours: BTreeSet<String>,
    /// An IngressClass of ours is the default one.
    default_is_ours: bool,
    /// This install is alone, and no IngressClass object gives what names no class to another controller.
    lone: bool,
}

/// Whether an object is served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClassVerdict<'a> {
    Ours,
    /// It names a class that is not ours.
    Other(&'a str),
    /// It names no class, and ours is not the default one. `orphan`: nor is any other's.
    Classless {
        orphan: bool,
    },
}

impl Classes {
    /// An IngressClass object of the configured name that belongs to another controller takes the name away from
    /// us: the object is the user's word, the flag only a default.
    pub(crate) fn read(snapshot: &Snapshot, settings: &Settings) -> Self {
        let mut ours = BTreeSet::from([settings.ingress_class.clone()]);
        let mut default_is_ours = false;
        let mut default_is_foreign = false;
        for (_, name, class) in snapshot.ingress_classes.iter() {
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
            let annotations = class.metadata.annotations.as_ref();
            let is_default = annotations
                .and_then(|a| a.get(api::DEFAULT_CLASS_ANNOTATION))
                .is_some_and(|value| value == "true");
            match controller {
                Some(api::CONTROLLER_NAME) => {
                    ours.insert(name.as_ref().to_owned());
                    default_is_ours |= is_default;
                }
                Some(_) => {
                    ours.remove(name.as_ref());
                    default_is_foreign |= is_default;
                }
                None => {}
            }
        }
        let lone = settings.default_class_if_lone && !default_is_foreign;
        Self { ours, default_is_ours, lone }
    }

    /// `named` is `spec.ingressClassName`, or the old annotation where that is missing. An Ingress without a class
    /// belongs to the default class only, as in every cluster; a GatewayRoute is ours by its kind, so a lone install
    /// serves it.
    pub(crate) fn verdict<'a>(&self, kind: Kind, named: Option<&'a str>) -> ClassVerdict<'a> {
        match named {
            Some(class) if self.ours.contains(class) => ClassVerdict::Ours,
            Some(class) => ClassVerdict::Other(class),
            None if self.default_is_ours => ClassVerdict::Ours,
            None if self.lone && kind == Kind::GatewayRoute => ClassVerdict::Ours,
            None => ClassVerdict::Classless { orphan: self.lone },
        }
    }
}
