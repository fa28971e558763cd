//! From units to groups: every block of axes shrinks along one of them, and units that are alike become a group.

use super::layout::Layout;
use super::tracker::{Around, Tracker};
use super::{Channel, ChannelAxis, Edit, Group, Groups, LayerChannels, gcd};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The axis that shrinks, and the root of each entry along it.
type Line = (usize, Vec<u32>);

impl Tracker {
    /// Groups in the order of their first unit.
    pub(super) fn finish(mut self) -> Groups {
        self.settle();
        let axes: HashMap<&String, Line> = self.layouts.iter().map(|(t, l)| (t, self.line(l))).collect();
        let sites: Vec<Line> = self.sites.iter().map(|s| self.line(&s.layout)).collect();
        let around = |a: &Around| [&a.output, &a.input, &a.over].map(|l| l.as_ref().map(|l| self.line(l)));
        let layers: BTreeMap<usize, [Option<Line>; 3]> = self.layers.iter().map(|(&i, a)| (i, around(a))).collect();
        // Units are alike when they occur on the same lines, equally often.
        let mut lines: Vec<&Vec<u32>> =
            axes.values().chain(&sites).chain(layers.values().flatten().flatten()).map(|(_, roots)| roots).collect();
        lines.sort_unstable();
        lines.dedup();
        let of_weights: BTreeSet<&Vec<u32>> = layers.values().flat_map(|l| l[..2].iter().flatten()).map(|(_, roots)| roots).collect();
        let mut places: Vec<(u32, u32)> =
            lines.iter().enumerate().flat_map(|(number, line)| line.iter().map(move |&root| (root, number as u32))).collect();
        places.sort_unstable();
        let mut groups: Vec<Group> = Vec::new();
        let mut number: HashMap<(Vec<u32>, Option<&Arc<str>>), usize> = HashMap::new();
        // By root.
        let mut channel_of: Vec<Channel> = vec![Channel { group: 0, index: 0 }; self.len() as usize];
        for place in places.chunk_by(|a, b| a.0 == b.0) {
            let root = place[0].0;
            let why = self.reason(root);
            let on: Vec<u32> = place.iter().map(|p| p.1).collect();
            let counts: Vec<(u32, usize)> = on.chunk_by(|a, b| a == b).map(|c| (c[0], c.len())).collect();
            let group = *number.entry((on, why)).or_insert_with(|| {
                let weighed = counts.iter().filter(|(line, _)| of_weights.contains(lines[*line as usize]));
                let width = weighed.fold(0, |w, &(_, n)| gcd(w, n));
                groups.push(Group { width, frozen: why.map(|w| w.to_string()), ..Group::default() });
                groups.len() - 1
            });
            channel_of[root as usize] = Channel { group, index: groups[group].channels };
            groups[group].channels += 1;
        }
        for group in groups.iter_mut().filter(|g| g.channels == 1) {
            group.frozen.get_or_insert_with(|| "nothing would be left".into());
        }
        // What is the same line has the same channels in memory too.
        let shared: HashMap<&Vec<u32>, Arc<[Channel]>> =
            lines.iter().map(|&line| (line, line.iter().map(|&r| channel_of[r as usize]).collect())).collect();
        let channels = |roots: &Vec<u32>| -> Arc<[Channel]> { shared.get(roots).cloned().unwrap_or_default() };
        let mut edits = Vec::new();
        for (site, (axis, roots)) in self.sites.iter().zip(&sites) {
            // A block that shrinks along another axis leaves this one as it is.
            if site.axis == *axis {
                edits.push(Edit { change: site.change.clone(), channels: channels(roots) });
            }
        }
        let line = |l: &Option<Line>| l.as_ref().map(|(_, roots)| channels(roots));
        let around =
            |[output, input, over]: &[Option<Line>; 3]| LayerChannels { output: line(output), input: line(input), over: line(over) };
        let layers: BTreeMap<usize, LayerChannels> = layers.iter().map(|(&i, lines)| (i, around(lines))).collect();
        for (&index, around) in &layers {
            let of = |c: &Option<Arc<[Channel]>>| c.iter().flat_map(|c| c.iter().map(|c| c.group)).collect::<BTreeSet<_>>();
            of(&around.output).into_iter().for_each(|g| groups[g].producers.push(index));
            of(&around.input).into_iter().for_each(|g| groups[g].consumers.push(index));
        }
        let axes = axes.iter().map(|(t, (axis, roots))| ((*t).clone(), ChannelAxis { axis: *axis, channels: channels(roots) })).collect();
        Groups { groups, edits, axes, layers: layers.into_iter().collect() }
    }

    /// What is removed from a block of several axes must be whole slices of one of them. Where the graph leaves open of
    /// which, it is the one of which most can go separately; all that lies in one slice is joined.
    fn settle(&mut self) {
        let all = self.layouts.values().chain(self.sites.iter().map(|s| &s.layout));
        let all = all.chain(self.layers.values().flat_map(|a| a.output.iter().chain(&a.input).chain(&a.over)));
        let mut blocks: Vec<Layout> = all.filter(|l| l.axes.len() > 1).cloned().collect();
        blocks.sort_unstable_by(|a, b| (&a.units, &a.dims).cmp(&(&b.units, &b.dims)));
        blocks.dedup_by(|a, b| a.units == b.units && a.dims == b.dims);
        loop {
            let mut changed = false;
            for block in &blocks {
                let roots: Vec<u32> = block.units.iter().map(|&u| self.root(u)).collect();
                if shrinking(block, &roots).is_some() {
                    continue;
                }
                let sets = |p: usize| separate(block, &roots, p);
                // Of equals the first axis: heads rather than their entries.
                let Some(p) = (0..block.axes.len()).max_by_key(|&p| (sets(p), std::cmp::Reverse(p))) else { continue };
                let mut first: Vec<Option<u32>> = vec![None; block.dims[p]];
                for (e, &unit) in block.units.iter().enumerate() {
                    let other = *first[block.index(p, e)].get_or_insert(unit);
                    self.join(unit, other);
                }
                changed = true;
            }
            if !changed {
                return;
            }
        }
    }

    fn line(&self, layout: &Layout) -> Line {
        let roots: Vec<u32> = layout.units.iter().map(|&u| self.root(u)).collect();
        let p = shrinking(layout, &roots).unwrap_or(0);
        let mut line = vec![0; layout.dims[p]];
        roots.iter().enumerate().for_each(|(e, &root)| line[layout.index(p, e)] = root);
        (layout.axes[p], line)
    }
}

/// The axis (by its number in the block) whose index alone decides which unit an entry belongs to.
fn shrinking(block: &Layout, roots: &[u32]) -> Option<usize> {
    (0..block.axes.len()).find(|&p| {
        let mut seen: Vec<Option<u32>> = vec![None; block.dims[p]];
        roots.iter().enumerate().all(|(e, &root)| *seen[block.index(p, e)].get_or_insert(root) == root)
    })
}

/// In how many sets the slices along axis number `p` fall when those that share a unit go together.
fn separate(block: &Layout, roots: &[u32], p: usize) -> usize {
    let mut sets = Tracker::default();
    let Some(slices) = sets.fresh(0, block.dims[p]) else { return 0 };
    let mut owner: HashMap<u32, u32> = HashMap::new();
    for (e, &root) in roots.iter().enumerate() {
        let slice = slices.units[block.index(p, e)];
        let other = *owner.entry(root).or_insert(slice);
        sets.join(slice, other);
    }
    (0..sets.len()).filter(|&u| sets.root(u) == u).count()
}
