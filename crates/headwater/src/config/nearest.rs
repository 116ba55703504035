//! Which of some texts was probably meant.

/// The candidate nearest to `given`, if one is near enough to be a typing error of it.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let enough = given.len().div_ceil(3).max(2);
    candidates
        .map(|candidate| (distance(given, candidate), candidate))
        .filter(|(distance, _)| *distance <= enough)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: how many characters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_what_was_meant_and_nonsense_finds_nothing() {
        let keys = ["http.listen", "nbd.listen", "nbd.workers"];
        let find = |given| nearest(given, keys.into_iter());
        assert_eq!(find("http.lisen"), Some("http.listen"));
        assert_eq!(find("nbd.worker"), Some("nbd.workers"));
        assert_eq!(find("frobnicate"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
