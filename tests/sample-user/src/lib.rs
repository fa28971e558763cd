//! Something worth measuring.

/// How many primes there are below `n`.
pub fn primes(n: usize) -> usize {
    let mut composite = vec![false; n];
    let mut count = 0;
    for i in 2..n {
        if !composite[i] {
            count += 1;
            (i * i..n).step_by(i).for_each(|k| composite[k] = true);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_25_primes_below_100() {
        assert_eq!(super::primes(100), 25);
    }
}
