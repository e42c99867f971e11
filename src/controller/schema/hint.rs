//! Finds what a misspelt name was meant to be.

/// The longest name that is compared, in characters; what is longer is no slip of the finger.
const NAME_CHARS_MAX: usize = 64;

/// The candidate that `name` most likely means: the same but for case, or at most a third of it (and at most
/// two characters) off. `None`: nothing is near.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_CHARS_MAX + 1).flat_map(char::to_lowercase).collect();
    if name.len() > NAME_CHARS_MAX {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let folded: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let off = distance(&name, &folded);
        let near = off <= 2 && off * 3 <= name.len().max(folded.len());
        if near && best.is_none_or(|(least, _)| off < least) {
            best = Some((off, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// How many characters must be added, removed, replaced or swapped with their neighbour (optimal string
/// alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut least =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                least = least.min(at(&before_last, j - 1) + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let fields = ["name", "matches", "filters", "backendRefs", "timeouts", "on", "ipAccess"];
        let rows = [
            ("match", Some("matches")),
            ("mathces", Some("matches")),
            ("matchs", Some("matches")),
            ("backendrefs", Some("backendRefs")),
            ("backendRef", Some("backendRefs")),
            ("timeout", Some("timeouts")),
            ("ipaccess", Some("ipAccess")),
            ("names", Some("name")),
            ("x", None),
            ("", None),
            ("service", None),
        ];
        for (name, want) in rows {
            assert_eq!(nearest(name, fields.into_iter()), want, "{name}");
        }
        assert_eq!(nearest(&"name".repeat(1000), fields.into_iter()), None);
    }
}
