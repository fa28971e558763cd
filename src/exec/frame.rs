//! Frames: planes laid out so that a convolution reads them in place.
//!
//! A frame holds planes with their padding, split by the phases of the stride: elements that neighbouring outputs see lie next to
//! each other, whatever the stride. So the outputs of a whole plane see, through one kernel element, one run of the frame at a fixed
//! offset; no matrix of columns is made. Rows share their padding (what is right of a row is left of the next), and the few sums
//! between the end of a row of outputs and the start of the next are computed and left behind.

use super::window::{AXES, Window};
use crate::Result;
use crate::model::eval::count;
use std::ops::Range;

/// Where the elements of planes lie in a frame, and which of its sums are outputs.
#[derive(Debug)]
pub(super) struct Frame {
    /// Elements of one plane with all its phases.
    plane: usize,
    /// Elements of all planes, and room to read beyond the last.
    len: usize,
    /// Offset of each kernel element within a plane.
    taps: Vec<usize>,
    /// The rows to copy into a plane.
    copies: Vec<Copy>,
    input_len: usize,
    stride: usize,
    tiles: Vec<Tile>,
    pieces: Vec<Piece>,
}

/// A row of one phase: `len` elements from `source` on, every stride-th, go to `target`.
#[derive(Debug)]
struct Copy {
    source: usize,
    target: usize,
    len: usize,
}

/// Sums at consecutive places of the frame that are computed together.
#[derive(Debug)]
pub(super) struct Tile {
    /// The first place.
    pub(super) first: usize,
    pieces: Range<usize>,
}

/// Outputs in a tile that lie next to each other there and in the plane of outputs.
#[derive(Debug)]
pub(super) struct Piece {
    /// First element in the tile.
    pub(super) from: usize,
    /// First element of the output plane.
    pub(super) to: usize,
    pub(super) len: usize,
}

/// One axis of the planes in one phase: which of its elements are inputs, and the input of the first.
struct Phase {
    number: usize,
    inside: Range<usize>,
    source: usize,
}

impl Frame {
    /// A frame for `planes` planes whose sums are taken in tiles of `columns`.
    ///
    /// # Errors
    /// It would be too large.
    pub(super) fn new(window: &Window, planes: usize, columns: usize) -> Result<Self> {
        let Window { kernel, stride, dilation, output, .. } = *window;
        let shift = |axis: usize, k: usize| k * dilation[axis] / stride[axis];
        // Elements of a phase that outputs see.
        let lengths: [usize; AXES] = std::array::from_fn(|a| output[a].max(1) + shift(a, kernel[a] - 1));
        let phases: [Vec<Phase>; AXES] = std::array::from_fn(|a| phases(window, a, lengths[a]));
        // What a row has beyond the pitch must be padding, and so must be what it meets at the start of the next row.
        let pitch = phases[2].iter().map(|p| p.inside.end.max(lengths[2] - p.inside.start.min(lengths[2]))).max().unwrap_or(1).max(1);
        let pitch = pitch.min(lengths[2]);
        let region = count(&[lengths[0], lengths[1], pitch])? + lengths[2] - pitch;
        let plane = count(&[phases[0].len(), phases[1].len(), phases[2].len(), region])?;
        let len = count(&[planes.max(1), plane])? + columns;
        let at = |place: [usize; AXES]| (place[0] * lengths[1] + place[1]) * pitch + place[2];
        let start = |numbers: [usize; AXES]| ((numbers[0] * phases[1].len() + numbers[1]) * phases[2].len() + numbers[2]) * region;
        let number = |axis: usize, k: usize| {
            let phase = k * dilation[axis] % stride[axis];
            phases[axis].iter().position(|p| p.number == phase).unwrap_or(0)
        };
        let taps = window.taps().map(|k| start([0, 1, 2].map(|a| number(a, k[a]))) + at([0, 1, 2].map(|a| shift(a, k[a])))).collect();
        let mut copies = Vec::new();
        for (i, p) in phases[0].iter().enumerate() {
            for (j, q) in phases[1].iter().enumerate() {
                for (k, r) in phases[2].iter().enumerate().filter(|(_, r)| !r.inside.is_empty()) {
                    for (d, h) in p.inside.clone().flat_map(|d| q.inside.clone().map(move |h| (d, h))) {
                        let row =
                            (p.source + (d - p.inside.start) * stride[0]) * window.input[1] + q.source + (h - q.inside.start) * stride[1];
                        let (source, target) = (row * window.input[2] + r.source, start([i, j, k]) + at([d, h, r.inside.start]));
                        copies.push(Copy { source, target, len: r.inside.len() });
                    }
                }
            }
        }
        let rows: Vec<usize> = (0..output[0]).flat_map(|d| (0..output[1]).map(move |h| [d, h, 0])).map(at).collect();
        let (tiles, pieces) = tiles(&rows, output[2], columns);
        Ok(Frame { plane, len, taps, copies, input_len: window.input_len(), stride: stride[2], tiles, pieces })
    }

    /// Memory for the planes, all padding.
    pub(super) fn empty(&self) -> Vec<f32> {
        vec![0.0; self.len]
    }

    /// Where the kernel elements of `channels` planes are found.
    pub(super) fn offsets(&self, channels: usize) -> Vec<usize> {
        (0..channels).flat_map(|c| self.taps.iter().map(move |t| c * self.plane + t)).collect()
    }

    /// Copies `planes` (`[C, D, H, W]`) into `frame`, which was [`Frame::empty`]; the padding stays.
    pub(super) fn load(&self, planes: &[f32], frame: &mut [f32]) {
        for (plane, frame) in planes.chunks_exact(self.input_len.max(1)).zip(frame.chunks_exact_mut(self.plane)) {
            for Copy { source, target, len } in &self.copies {
                let target = &mut frame[*target..][..*len];
                match self.stride {
                    1 => target.copy_from_slice(&plane[*source..][..*len]),
                    step => target.iter_mut().zip(plane[*source..].iter().step_by(step)).for_each(|(o, &v)| *o = v),
                }
            }
        }
    }

    /// The tiles of a plane of outputs.
    pub(super) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// The outputs in `tile`.
    pub(super) fn pieces(&self, tile: &Tile) -> &[Piece] {
        &self.pieces[tile.pieces.clone()]
    }
}

/// The phases of `axis` that the kernel sees, `length` elements each.
fn phases(window: &Window, axis: usize, length: usize) -> Vec<Phase> {
    let (stride, pad) = (window.stride[axis], window.pad_begin[axis]);
    let mut seen: Vec<usize> = (0..window.kernel[axis].min(stride)).map(|k| k * window.dilation[axis] % stride).collect();
    seen.sort_unstable();
    seen.dedup();
    let phase = |number: usize| {
        let begin = pad.saturating_sub(number).div_ceil(stride);
        let end = (window.input[axis] + pad).saturating_sub(number).div_ceil(stride).min(length);
        Phase { number, inside: begin.min(end)..end, source: (begin * stride + number).saturating_sub(pad) }
    };
    seen.into_iter().map(phase).collect()
}

/// Cuts rows of `width` outputs, which start at `rows` in the frame, into tiles. A tile starts at an output: what lies between rows
/// is skipped where it can be.
fn tiles(rows: &[usize], width: usize, columns: usize) -> (Vec<Tile>, Vec<Piece>) {
    let (mut tiles, mut pieces) = (Vec::new(), Vec::new());
    let (mut row, mut done) = (0, 0);
    while row < rows.len() && width > 0 {
        let (first, begin) = (rows[row] + done, pieces.len());
        while row < rows.len() && rows[row] + done < first + columns {
            let from = rows[row] + done - first;
            let len = (width - done).min(columns - from);
            pieces.push(Piece { from, to: row * width + done, len });
            done += len;
            if done < width {
                break;
            }
            (row, done) = (row + 1, 0);
        }
        tiles.push(Tile { first, pieces: begin..pieces.len() });
    }
    (tiles, pieces)
}
