//! Whether a limit counts a request: the comparisons of matches, without precedence. Must not know routes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::condition::{CompiledMatch, Failing, PathPattern};
use crate::head::RequestHead;

/// The conditions of one limit, compiled. One without conditions takes every request.
#[derive(Debug, Default)]
pub struct When {
    /// Empty: any request.
    matches: Vec<CompiledMatch>,
    except: Vec<IpNet>,
}

impl When {
    /// Compiles conditions. One that can't be is taken for one that holds: fewer limits than were asked for would be
    /// open.
    pub fn new(when: Option<&ir::LimitWhen>) -> Self {
        // Of claims the table knows nothing: who asks the limit looks at them.
        let Some(ir::LimitWhen { matches, except, claims: _ }) = when else { return Self::default() };
        let mut problems = Vec::new();
        let compiled: Vec<CompiledMatch> =
            matches.iter().map(|matched| CompiledMatch::new(matched, &mut problems)).collect();
        let matches = if problems.is_empty() { compiled } else { Vec::new() };
        Self { matches, except: except.clone() }
    }

    /// Whether every request is counted.
    pub fn is_always(&self) -> bool {
        self.matches.is_empty() && self.except.is_empty()
    }

    /// Whether this request is counted. Of a client whose address is unsure nothing speaks against it.
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        let taken = |matched: &CompiledMatch| {
            matched.path.takes(head.path)
                && match matched.conditions.first_failing(head, head.method) {
                    None => true,
                    // It is compared last.
                    Some(Failing::Client) => head.client_is_unsure,
                    Some(_) => false,
                }
        };
        (head.client_is_unsure || !self.excepts(head.client))
            && (self.matches.is_empty() || self.matches.iter().any(taken))
    }

    fn excepts(&self, client: IpAddr) -> bool {
        self.except.iter().any(|net| net.contains(&client))
    }
}

impl PathPattern {
    /// Whether this canonical path fits. The index of a host asks in another way, and the same.
    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact { key, case_sensitive: true } => **key == *path,
            Self::Exact { key, case_sensitive: false } => key.eq_ignore_ascii_case(path),
            Self::Prefix { key, case_sensitive } => {
                let (Some(start), rest) = (path.get(..key.len()), path.get(key.len()..)) else {
                    return false;
                };
                let fits = if *case_sensitive { start == &**key } else { start.eq_ignore_ascii_case(key) };
                fits && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(regex) => regex.takes(path),
            Self::Never => false,
        }
    }
}
