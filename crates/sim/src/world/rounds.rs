//! What happens to every node once in each period, to each at its own moment: always in the same order, so that no queue is
//! needed for it, which would be full of little else.

use std::time::Duration;

/// Who is next, and when.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    period: Duration,
    /// Moments within the period, the earliest first, and whose they are.
    moments: Vec<(Duration, usize)>,
    began: Duration,
    index: usize,
}

impl Rounds {
    /// Node by node: which part of the period passes before its moment.
    pub(super) fn new(period: Duration, phases: &[f64]) -> Rounds {
        let moments = phases.iter().map(|phase| period.mul_f64(*phase));
        let mut moments: Vec<_> = moments.enumerate().map(|(node, moment)| (moment, node)).collect();
        moments.sort_unstable();
        Rounds { period, moments, began: Duration::ZERO, index: 0 }
    }

    /// When the next moment is; never, if there is nobody.
    pub(super) fn next(&self) -> Duration {
        self.moments.get(self.index).map_or(Duration::MAX, |(moment, _)| self.began + *moment)
    }

    /// It has come: whose it is.
    pub(super) fn pass(&mut self) -> usize {
        let (_, node) = self.moments[self.index];
        self.index += 1;
        if self.index == self.moments.len() {
            self.index = 0;
            self.began += self.period;
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_each_period() {
        let mut rounds = Rounds::new(Duration::from_secs(2), &[0.5, 0.25]);
        let turns: Vec<(u128, usize)> = (0..4).map(|_| (rounds.next().as_millis(), rounds.pass())).collect();
        assert_eq!(turns, [(500, 1), (1000, 0), (2500, 1), (3000, 0)]);
        assert_eq!(Rounds::default().next(), Duration::MAX);
    }
}
