//! What is made of samples: percentiles, and the median of pairs with an interval around it.

/// A median and where it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    /// The middle of the sample.
    pub(crate) median: f64,
    /// The lower end of the interval; the smallest value where the sample is too small for 95 %.
    pub(crate) lower: f64,
    /// The upper end; the largest value where the sample is too small.
    pub(crate) upper: f64,
}

/// The median of a sample and its interval from order statistics, which assumes nothing of how the values are spread: the
/// k-th smallest and the k-th largest enclose the true median unless fewer than k of n fair coins fall on one side.
/// None of an empty sample.
pub(crate) fn estimate(mut sample: Vec<f64>) -> Option<Estimate> {
    sample.sort_by(f64::total_cmp);
    let n = sample.len();
    let k = rank(n);
    Some(Estimate {
        median: f64::midpoint(*sample.get(n.checked_sub(1)? / 2)?, *sample.get(n / 2)?),
        lower: *sample.get(k)?,
        upper: *sample.get(n - 1 - k)?,
    })
}

/// The largest rank, counted from 0, whose order statistic lies beyond the true median with a chance of at most 2.5 %.
fn rank(n: usize) -> usize {
    // Chance of exactly `i` heads, beginning with none.
    let mut exactly = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let (mut at_most, mut rank) = (exactly, 0);
    for i in 1..n {
        exactly *= (n - i + 1) as f64 / i as f64;
        at_most += exactly;
        if at_most > 0.025 {
            break;
        }
        rank = i;
    }
    rank
}

/// The ratios of pairs: each value of `ours` by that of `theirs` taken beside it.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect()
}

/// The value that `share` (between 0 and 1) of a sample does not exceed, by nearest rank. None of an empty sample.
pub(crate) fn percentile(sample: &mut [f64], share: f64) -> Option<f64> {
    sample.sort_by(f64::total_cmp);
    let rank = (sample.len() as f64 * share).ceil() as usize;
    sample.get(rank.clamp(1, sample.len().max(1)) - 1).copied()
}

/// The order in which the members of a round are measured: each round begins with another, and every second lot of rounds
/// goes the other way round, so that none always comes after the same one.
pub(crate) fn order(round: usize, members: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members).map(|i| (i + round) % members.max(1)).collect();
    if members > 0 && (round / members) % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_thirty_pairs_lies_between_the_tenth_and_the_twenty_first() {
        // As tables of the sign test have it.
        assert_eq!([5, 6, 10, 20, 30].map(rank), [0, 0, 1, 5, 9]);
        let sample: Vec<f64> = (1..=30).rev().map(f64::from).collect();
        assert_eq!(estimate(sample), Some(Estimate { median: 15.5, lower: 10.0, upper: 21.0 }));
    }

    #[test]
    fn small_samples_give_what_they_have() {
        assert_eq!(estimate(vec![]), None);
        assert_eq!(estimate(vec![2.0]), Some(Estimate { median: 2.0, lower: 2.0, upper: 2.0 }));
        assert_eq!(estimate(vec![3.0, 1.0, 2.0]), Some(Estimate { median: 2.0, lower: 1.0, upper: 3.0 }));
    }

    #[test]
    fn one_wild_pair_moves_neither_median_nor_interval() {
        let mut sample = vec![1.0; 29];
        sample.push(1000.0);
        assert_eq!(estimate(sample), Some(Estimate { median: 1.0, lower: 1.0, upper: 1.0 }));
    }

    #[test]
    fn ratios_are_of_values_taken_together() {
        assert_eq!(ratios(&[1.0, 6.0, 5.0], &[2.0, 3.0, 0.0]), [0.5, 2.0]);
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut sample: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&mut sample, 0.99), Some(198.0));
        assert_eq!(percentile(&mut sample, 0.5), Some(100.0));
        assert_eq!(percentile(&mut [7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&mut [], 0.99), None);
    }

    #[test]
    fn everybody_is_measured_once_a_round_and_follows_each_neighbour() {
        for round in 0..20 {
            let mut all = order(round, 5);
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4]);
        }
        assert_eq!((order(0, 3), order(1, 3)), (vec![0, 1, 2], vec![1, 2, 0]));
        assert_eq!(order(3, 3), [2, 1, 0]);
        let first: std::collections::BTreeSet<usize> = (0..3).map(|round| order(round, 3)[0]).collect();
        assert_eq!(first.len(), 3);
    }
}
