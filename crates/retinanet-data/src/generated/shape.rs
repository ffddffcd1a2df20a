//! Outlines of shapes: what they contain and how far they reach.

use std::f64::consts::{FRAC_PI_2, PI, TAU};

/// A kind of shape; its position in [`Shape::ALL`] is its class index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Disc,
    Square,
    Triangle,
    Ring,
    Cross,
    Star,
}

impl Shape {
    pub(super) const ALL: [Self; 6] = [Self::Disc, Self::Square, Self::Triangle, Self::Ring, Self::Cross, Self::Star];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Disc => "disc",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Ring => "ring",
            Self::Cross => "cross",
            Self::Star => "star",
        }
    }

    /// Corners around the origin; none for round shapes, which have radius 1.
    fn corners(self) -> Vec<[f64; 2]> {
        let around = |count: usize, radius: &dyn Fn(usize) -> f64| {
            let corner = |i: usize| {
                let angle = TAU * i as f64 / count as f64 - FRAC_PI_2;
                [radius(i) * angle.cos(), radius(i) * angle.sin()]
            };
            (0..count).map(corner).collect()
        };
        match self {
            Self::Disc | Self::Ring => Vec::new(),
            Self::Square => vec![[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]],
            Self::Triangle => around(3, &|_| 1.0),
            Self::Star => around(10, &|i| if i % 2 == 0 { 1.0 } else { 0.45 }),
            Self::Cross => {
                let (a, b) = (0.36, 1.0);
                vec![
                    [-a, -b],
                    [a, -b],
                    [a, -a],
                    [b, -a],
                    [b, a],
                    [a, a],
                    [a, b],
                    [-a, b],
                    [-a, a],
                    [-b, a],
                    [-b, -a],
                    [-a, -a],
                ]
            }
        }
    }

    /// The largest turn either way that keeps the shapes apart: a square on its corner is no longer what its name says.
    pub(super) const fn max_turn(self) -> f64 {
        match self {
            Self::Disc | Self::Ring => 0.0,
            Self::Square | Self::Cross => PI / 9.0,
            Self::Triangle | Self::Star => PI,
        }
    }
}

/// A shape in its place.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    pub(super) center: [f64; 2],
    /// Half of the longest side of its box.
    reach: f64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Disc {
        squash: f64,
    },
    Ring {
        squash: f64,
        hole: f64,
    },
    /// Corners about the centre.
    Polygon {
        corners: Vec<[f64; 2]>,
    },
}

impl Outline {
    /// A shape whose box has its left top corner at the origin and `longest` as its longer side. `squash`, 0..=1, is the
    /// height of round shapes over their width, and of others before the turn.
    pub(super) fn new(shape: Shape, longest: f64, turn: f64, squash: f64) -> Self {
        let mut outline = Self {
            center: [0.0; 2],
            reach: longest / 2.0,
            kind: match shape {
                Shape::Disc => Kind::Disc { squash },
                Shape::Ring => Kind::Ring { squash, hole: 0.58 },
                _ => {
                    let (sin, cos) = turn.sin_cos();
                    let corners = shape.corners().into_iter().map(|[x, y]| {
                        let y = y * squash;
                        [x * cos - y * sin, x * sin + y * cos]
                    });
                    Kind::Polygon { corners: corners.collect() }
                }
            },
        };
        if let Kind::Polygon { corners } = &mut outline.kind {
            let [x0, y0, x1, y1] = corner_bounds(corners);
            let scale = longest / (x1 - x0).max(y1 - y0);
            corners.iter_mut().flatten().for_each(|v| *v *= scale);
        }
        let [x0, y0, ..] = outline.bounds();
        outline.center = [-x0, -y0];
        outline
    }

    /// `[x0, y0, x1, y1]` of the smallest box around it.
    pub(super) fn bounds(&self) -> [f64; 4] {
        let [cx, cy] = self.center;
        let [x0, y0, x1, y1] = match &self.kind {
            Kind::Disc { squash } | Kind::Ring { squash, .. } => {
                let (rx, ry) = (self.reach, self.reach * squash);
                [-rx, -ry, rx, ry]
            }
            Kind::Polygon { corners } => corner_bounds(corners),
        };
        [cx + x0, cy + y0, cx + x1, cy + y1]
    }

    /// Whether a point lies inside the shape drawn at `shrink` of its size about its centre; 1 for the shape itself.
    pub(super) fn contains(&self, [x, y]: [f64; 2], shrink: f64) -> bool {
        let (x, y) = (x - self.center[0], y - self.center[1]);
        match &self.kind {
            Kind::Disc { squash } => (x / self.reach).hypot(y / (self.reach * squash)) < shrink,
            Kind::Ring { squash, hole } => {
                // A smaller ring is a thinner one: the hole grows as the rim shrinks.
                let r = (x / self.reach).hypot(y / (self.reach * squash));
                r < shrink && r > hole + (1.0 - shrink)
            }
            Kind::Polygon { corners } => in_polygon(corners, x / shrink, y / shrink),
        }
    }
}

fn corner_bounds(corners: &[[f64; 2]]) -> [f64; 4] {
    let start = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    corners.iter().fold(start, |[x0, y0, x1, y1], &[x, y]| [x0.min(x), y0.min(y), x1.max(x), y1.max(y)])
}

/// A point is inside when a ray to the right crosses an odd number of sides.
fn in_polygon(corners: &[[f64; 2]], x: f64, y: f64) -> bool {
    let mut inside = false;
    let mut previous = corners[corners.len() - 1];
    for &corner in corners {
        let ([ax, ay], [bx, by]) = (previous, corner);
        if (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax) {
            inside = !inside;
        }
        previous = corner;
    }
    inside
}
