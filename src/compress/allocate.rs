//! How many channels each group keeps, and which residual blocks: greedily, where they cost the answers least for what they
//! save.

use super::blocks::Block;
use super::groups::Groups;
use crate::Result;
use std::collections::HashSet;

/// A search takes about this many steps: each candidate is to save this share of what is to be saved in all.
const STEPS: f64 = 16.0;

/// How many exchanges are tried after it.
const EXCHANGES: usize = 24;

/// What is to be saved.
pub(super) struct Budget<'a> {
    pub(super) groups: &'a Groups,
    /// Branches that may go as a whole.
    pub(super) blocks: &'a [Block],
    /// Cost of each layer at full size, in any unit.
    pub(super) costs: &'a [f64],
    /// Share of all costs that is to go, 0..1.
    pub(super) share: f64,
    /// Counts stay multiples of this.
    pub(super) round_to: usize,
}

/// Counts (channels of each group, then 1 for each block that is there) and what they cost.
struct Proposal {
    counts: Vec<usize>,
    cost: f64,
}

impl Budget<'_> {
    /// Again and again the group whose next channels (or the block that) lose least per cost saved, until the share is reached as nearly as the
    /// steps allow. `loss` of counts is any measure of harm; a candidate is asked for it only when what it last lost does
    /// not rule it out, since channels seldom become cheaper by the removal of others (lazy greedy, Minoux 1978).
    pub(super) fn allocate(&self, loss: &mut dyn FnMut(&[usize]) -> Result<f64>) -> Result<Vec<usize>> {
        let counts: Vec<usize> = self.groups.groups.iter().map(|g| g.channels).chain(self.blocks.iter().map(|_| 1)).collect();
        let mut now = Proposal { cost: self.cost(&counts), counts };
        let target = now.cost * (1.0 - self.share);
        let portion = (now.cost - target) / STEPS;
        let mut lost = 0.0;
        // Loss per cost saved of each group's next channels; what was not asked yet comes first.
        let mut scores = vec![f64::NEG_INFINITY; now.counts.len()];
        loop {
            let blocks = self.groups.groups.len()..now.counts.len();
            let choices = self.groups.prunable().map(|(g, _)| g).chain(blocks);
            let mut open: Vec<(usize, Proposal)> = choices.filter_map(|c| Some((c, self.next(&now, c, target, portion)?))).collect();
            // The last steps are those that come near the target: what goes beyond it waits as long as something else fits.
            let fits = |p: &Proposal| target - p.cost <= 0.01 * target;
            if open.iter().any(|(_, p)| fits(p)) {
                open.retain(|(_, p)| fits(p));
            }
            let mut asked: Vec<Option<f64>> = vec![None; scores.len()];
            let (best, after) = loop {
                let best = (0..open.len()).min_by(|&a, &b| scores[open[a].0].total_cmp(&scores[open[b].0]));
                let Some(best) = best else { return self.exchange(now, lost, target, &scores, loss) };
                let (choice, proposal) = &open[best];
                if let Some(after) = asked[*choice] {
                    break (best, after);
                }
                let after = Some(loss(&proposal.counts)?).filter(|l| l.is_finite()).unwrap_or(f64::MAX);
                asked[*choice] = Some(after);
                scores[*choice] = (after - lost) / (now.cost - proposal.cost);
            };
            now = open.swap_remove(best).1;
            lost = after;
        }
    }

    /// Greedy choices bar better ones later: as long as it helps, one group gets its last channels back and another loses some
    /// instead. The pairs that promise most come first.
    fn exchange(
        &self,
        mut now: Proposal,
        mut lost: f64,
        target: f64,
        scores: &[f64],
        loss: &mut dyn FnMut(&[usize]) -> Result<f64>,
    ) -> Result<Vec<usize>> {
        let most = now.cost.max(1.01 * target);
        let mut tried: HashSet<Vec<usize>> = HashSet::from([now.counts.clone()]);
        for _ in 0..EXCHANGES {
            let choices: Vec<usize> = self.groups.prunable().map(|(g, _)| g).chain(self.groups.groups.len()..now.counts.len()).collect();
            let pairs = choices.iter().flat_map(|&grows| choices.iter().map(move |&shrinks| (grows, shrinks)));
            let mut pairs: Vec<(f64, Proposal)> = pairs
                .filter(|(grows, shrinks)| grows != shrinks)
                .filter_map(|(grows, shrinks)| Some((scores[shrinks] - scores[grows], self.exchanged(&now, grows, shrinks, most)?)))
                .filter(|(_, p)| p.cost >= 0.97 * now.cost && !tried.contains(&p.counts))
                .collect();
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, proposal)) = pairs.into_iter().next() else { break };
            tried.insert(proposal.counts.clone());
            let after = loss(&proposal.counts)?;
            if after < 0.99 * lost {
                (now, lost) = (proposal, after);
            }
        }
        Ok(now.counts)
    }

    /// `now` with one step more of one choice and as many fewer of another as keep the cost at `most`.
    fn exchanged(&self, now: &Proposal, grows: usize, shrinks: usize, most: f64) -> Option<Proposal> {
        let mut counts = now.counts.clone();
        counts[grows] = match self.groups.groups.get(grows) {
            Some(group) if counts[grows] < group.channels => {
                let step = group.step(self.round_to);
                ((counts[grows] / step + 1) * step).min(group.channels)
            }
            None if counts[grows] == 0 => 1,
            _ => return None,
        };
        loop {
            counts[shrinks] = self.lower(shrinks, counts[shrinks])?;
            let cost = self.cost(&counts);
            if cost <= most {
                return Some(Proposal { counts, cost });
            }
        }
    }

    /// The count of a choice one step below `count`.
    fn lower(&self, choice: usize, count: usize) -> Option<usize> {
        match self.groups.groups.get(choice) {
            Some(group) => lower(count, group.step(self.round_to)),
            None => count.checked_sub(1),
        }
    }

    fn cost(&self, counts: &[usize]) -> f64 {
        let gone =
            |layer: usize| self.blocks.iter().zip(&counts[self.groups.groups.len()..]).any(|(b, &n)| n == 0 && b.layers.contains(&layer));
        let cost = |(layer, cost): (usize, &f64)| if gone(layer) { 0.0 } else { cost * self.groups.share(layer, counts) };
        self.costs.iter().enumerate().map(cost).sum()
    }

    /// `now` without the next channels of a group: tile after tile until a portion is saved; or without a block. Nothing
    /// goes that would miss the target by more than leaving it does.
    fn next(&self, now: &Proposal, choice: usize, target: f64, portion: f64) -> Option<Proposal> {
        let mut found: Option<Proposal> = None;
        loop {
            let last = found.as_ref().unwrap_or(now);
            if now.cost - last.cost >= portion.max(f64::MIN_POSITIVE) {
                return found;
            }
            let Some(count) = self.lower(choice, last.counts[choice]) else { return found };
            let mut counts = last.counts.clone();
            counts[choice] = count;
            let cost = self.cost(&counts);
            if cost >= last.cost || target - cost >= last.cost - target {
                return found;
            }
            found = Some(Proposal { counts, cost });
        }
    }
}

/// The next multiple of `step` below `count`; `None` when nothing would be left.
fn lower(count: usize, step: usize) -> Option<usize> {
    let next = count.checked_sub(1)? / step * step;
    (next > 0).then_some(next)
}
