//! Names that somebody may have meant.

/// Up to three names that are near to what was typed: those that hold it, then those with the
/// fewest letters changed.
pub(super) fn near<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = typed.to_lowercase();
    let mut ranked: Vec<(bool, usize, &str)> = names
        .into_iter()
        .map(|name| {
            let lower = name.to_lowercase();
            (!lower.contains(&typed), distance(&typed, &lower), name)
        })
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked
        .into_iter()
        .take(3)
        .map(|(_, _, name)| name)
        .collect()
}

/// How many letters must be put in, taken out or changed (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (at, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_the_word_comes_first_then_what_is_spelt_alike() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        let names = [
            "net-bench/tcp_stream",
            "net-bench/tcp_rr",
            "mpi-kernels/barrier",
        ];
        assert_eq!(near("tcp_rr", names)[0], "net-bench/tcp_rr");
        assert_eq!(near("mpi-kernel/barier", names)[0], "mpi-kernels/barrier");
    }
}
