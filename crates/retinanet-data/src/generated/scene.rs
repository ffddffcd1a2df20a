//! What stands where in a generated picture, and how it is coloured; no pixels.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::GeneratedConfig;
use super::shape::{Outline, Shape};
use crate::random::{Purpose, stream};

/// Colours are red, green and blue in 0..=1.
pub(super) type Colour = [f64; 3];

/// A whole picture, before it is drawn.
pub(super) struct Scene {
    pub(super) ground: Ground,
    /// Drawn in this order.
    pub(super) objects: Vec<Object>,
}

/// What lies behind the objects.
pub(super) struct Ground {
    /// The colours at the start and end of a slope across the picture.
    pub(super) colours: [Colour; 2],
    /// Direction of the slope.
    pub(super) angle: f64,
    /// How far the grain lightens and darkens.
    pub(super) grain: f64,
    pub(super) strokes: Vec<Stroke>,
}

/// A line that belongs to no object.
pub(super) struct Stroke {
    pub(super) from: [f64; 2],
    pub(super) to: [f64; 2],
    pub(super) half_width: f64,
    pub(super) colour: Colour,
}

/// A shape with its surface.
pub(super) struct Object {
    pub(super) class_idx: usize,
    pub(super) outline: Outline,
    pub(super) texture: Texture,
    /// Of the figure and of the rim.
    pub(super) colours: [Colour; 2],
}

/// The pattern on a shape.
#[derive(Clone, Copy)]
pub(super) enum Texture {
    Plain,
    /// Stripes of this direction and period, in radians and pixels.
    Stripes {
        angle: f64,
        period: f64,
    },
    Checks {
        angle: f64,
        period: f64,
    },
    Dots {
        angle: f64,
        period: f64,
    },
    Grain,
}

impl Scene {
    /// The scene of picture `index`: a pure function of the configuration and the index.
    pub(super) fn new(config: &GeneratedConfig, index: usize) -> Self {
        let rng = &mut stream(config.seed, Purpose::Scene, index as u64, 0);
        let ground = Ground::new(config, rng);
        let count = if rng.random::<f64>() < config.empty { 0 } else { rng.random_range(1..=config.max_objects) };
        let mut objects: Vec<Object> = Vec::with_capacity(count);
        for _ in 0..count {
            // A crowded picture gets fewer objects rather than hidden ones; the first always finds its place.
            for _ in 0..20 {
                let object = Object::new(config, rng);
                let hidden = |other: &Object| covered(&object.outline, &other.outline) > 0.2;
                if !objects.iter().any(hidden) {
                    objects.push(object);
                    break;
                }
            }
        }
        Self { ground, objects }
    }
}

impl Ground {
    fn new(config: &GeneratedConfig, rng: &mut ChaCha8Rng) -> Self {
        let (width, height) = (config.size.width as f64, config.size.height as f64);
        let hue = rng.random::<f64>();
        let brightness = rng.random_range(0.25..0.75);
        let dull = |rng: &mut ChaCha8Rng| {
            let hue = hue + rng.random_range(-0.08..0.08);
            let value = brightness + rng.random_range(-0.12..0.12);
            colour(hue, rng.random_range(0.05..0.3), value)
        };
        let colours = [dull(rng), dull(rng)];
        let strokes = (0..rng.random_range(6..18)).map(|_| {
            let from = [rng.random_range(0.0..width), rng.random_range(0.0..height)];
            let angle = rng.random_range(0.0..std::f64::consts::TAU);
            let length = width.min(height) * rng.random_range(0.1..0.7);
            Stroke {
                from,
                to: [from[0] + length * angle.cos(), from[1] + length * angle.sin()],
                half_width: rng.random_range(0.6..2.6),
                colour: colour(rng.random(), rng.random_range(0.1..0.6), rng.random_range(0.2..0.9)),
            }
        });
        let strokes = strokes.collect();
        Self {
            colours,
            angle: rng.random_range(0.0..std::f64::consts::TAU),
            grain: rng.random_range(0.08..0.22),
            strokes,
        }
    }
}

impl Object {
    fn new(config: &GeneratedConfig, rng: &mut ChaCha8Rng) -> Self {
        let class_idx = rng.random_range(0..config.classes);
        let shape = Shape::ALL[class_idx];
        let [least, most] = config.object_size;
        let longest = least * (most / least).powf(rng.random());
        let turn = shape.max_turn() * rng.random_range(-1.0..1.0);
        let mut outline = Outline::new(shape, longest, turn, rng.random_range(0.75..1.0));
        let [_, _, width, height] = outline.bounds();
        outline.center[0] += (config.size.width as f64 - width) * rng.random::<f64>();
        outline.center[1] += (config.size.height as f64 - height) * rng.random::<f64>();

        let angle = rng.random_range(0.0..std::f64::consts::PI);
        let period = (longest * rng.random_range(0.14..0.3)).max(4.0);
        let texture = match rng.random_range(0..5) {
            0 => Texture::Plain,
            1 => Texture::Stripes { angle, period },
            2 => Texture::Checks { angle, period },
            3 => Texture::Dots { angle, period },
            _ => Texture::Grain,
        };
        // Strong colours stand out from the dull ground; the second is far in hue or in brightness.
        let hue = rng.random::<f64>();
        let bright = colour(hue, rng.random_range(0.6..0.95), rng.random_range(0.8..1.0));
        let other = if rng.random() {
            colour(hue + rng.random_range(0.3..0.7), 0.7, rng.random_range(0.25..0.55))
        } else {
            colour(hue, 0.12, rng.random_range(0.9..1.0))
        };
        let colours = if rng.random() { [bright, other] } else { [other, bright] };
        Self { class_idx, outline, texture, colours }
    }
}

/// The share of the smaller box that two boxes have in common.
fn covered(a: &Outline, b: &Outline) -> f64 {
    let (a, b) = (a.bounds(), b.bounds());
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |b: [f64; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    side(0, 2) * side(1, 3) / area(a).min(area(b))
}

/// The colour of a hue (in turns), saturation and value.
fn colour(hue: f64, saturation: f64, value: f64) -> Colour {
    [0.0, 1.0 / 3.0, 2.0 / 3.0].map(|third| {
        let distance = (hue - third).rem_euclid(1.0);
        let share = (2.0 - 6.0 * distance.min(1.0 - distance)).clamp(0.0, 1.0);
        value.clamp(0.0, 1.0) * (1.0 - saturation * (1.0 - share))
    })
}
