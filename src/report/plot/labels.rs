//! Where labels go: beside their points, over nothing that matters.

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Rect {
    pub(super) fn around(centre: (f64, f64), width: f64, height: f64) -> Self {
        Rect { left: centre.0 - width / 2.0, top: centre.1 - height / 2.0, right: centre.0 + width / 2.0, bottom: centre.1 + height / 2.0 }
    }

    /// What a line from `a` to `b`, level or upright, covers.
    pub(super) fn between(a: (f64, f64), b: (f64, f64)) -> Self {
        Rect { left: a.0.min(b.0) - 1.0, top: a.1.min(b.1) - 1.0, right: a.0.max(b.0) + 1.0, bottom: a.1.max(b.1) + 1.0 }
    }

    fn common_area(&self, o: &Rect) -> f64 {
        let across = self.right.min(o.right) - self.left.max(o.left);
        let down = self.bottom.min(o.bottom) - self.top.max(o.top);
        across.max(0.0) * down.max(0.0)
    }

    fn area(&self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }
}

/// Places labels one after the other; each takes the place nearest to its point that covers least.
#[derive(Debug)]
pub(super) struct Placer {
    bounds: Rect,
    points: Vec<(f64, f64)>,
    taken: Vec<Rect>,
}

impl Placer {
    /// `bounds`: labels stay inside; `points`: all that could be meant by a label; `taken`: what labels should not cover.
    pub(super) fn new(bounds: Rect, points: Vec<(f64, f64)>, taken: Vec<Rect>) -> Self {
        Placer { bounds, points, taken }
    }

    /// The centre of a label of this size for the point `at`. The label's place is taken then.
    pub(super) fn place(&mut self, at: (f64, f64), width: f64, height: f64) -> (f64, f64) {
        // Up and left first: to the upper left of a staircase of accuracy against energy nothing is.
        const DIRECTIONS: [(f64, f64); 8] =
            [(-0.8, -0.8), (0.8, -0.8), (0.0, -1.0), (0.8, 0.8), (-1.0, 0.0), (1.0, 0.0), (-0.8, 0.8), (0.0, 1.0)];
        const DISTANCES: [f64; 6] = [6.0, 12.0, 20.0, 30.0, 44.0, 60.0];
        let candidates = DISTANCES
            .iter()
            .flat_map(|d| DIRECTIONS.iter().map(move |(x, y)| (at.0 + x * (d + 5.0 + width / 2.0), at.1 + y * (d + 3.0 + height / 2.0))));
        let mut best = (f64::INFINITY, at);
        for centre in candidates {
            let label = Rect::around(centre, width, height);
            let outside = label.area() - label.common_area(&self.bounds);
            let covered: f64 = self.taken.iter().map(|t| label.common_area(t)).sum();
            // A label must not stand nearer to another point than to its own: worth crossing a thin line.
            let far = distance(centre, at) + 4.0;
            let ambiguous = self.points.iter().filter(|&&p| p != at && distance(centre, p) < far).count() as f64;
            let cost = 10.0 * outside + covered + 2.0 * height * ambiguous;
            if cost < best.0 {
                best = (cost, centre);
            }
            if cost <= 0.0 {
                break;
            }
        }
        self.taken.push(Rect::around(best.1, width, height));
        best.1
    }
}

fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_dozen_labels_anywhere_do_not_overlap(points in prop::collection::vec((0.0..700.0f64, 0.0..550.0f64), 0..12)) {
            let bounds = Rect { left: 0.0, top: 0.0, right: 700.0, bottom: 550.0 };
            let mut placer = Placer::new(bounds, points.clone(), Vec::new());
            let labels: Vec<Rect> = points.iter().map(|&p| Rect::around(placer.place(p, 22.0, 16.0), 22.0, 16.0)).collect();
            for (i, a) in labels.iter().enumerate() {
                prop_assert!((a.common_area(&bounds) - a.area()).abs() < 1e-6, "outside");
                prop_assert!(labels[..i].iter().all(|b| a.common_area(b) == 0.0), "overlap");
            }
        }
    }
}
