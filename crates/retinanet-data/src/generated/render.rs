//! Draws a scene, with four looks into each pixel so that edges are smooth.

use rand::Rng;

use super::GeneratedConfig;
use super::ground::Grain;
use super::scene::{Colour, Ground, Object, Scene, Stroke, Texture};
use crate::Image;
use crate::random::{Purpose, stream};

/// Where a pixel is looked at, from its left top corner.
const LOOKS: [[f64; 2]; 4] = [[0.125, 0.375], [0.375, 0.875], [0.625, 0.125], [0.875, 0.625]];

/// How large the figure inside a rim is.
const INSIDE: f64 = 0.88;

/// The picture of a scene.
pub(super) fn render(scene: &Scene, config: &GeneratedConfig, index: usize) -> Image {
    let size = config.size;
    let rng = &mut stream(config.seed, Purpose::Grain, index as u64, 0);
    let coarse = Grain::new(size.width, size.height, 23.0, rng);
    let fine = Grain::new(size.width, size.height, 3.0, rng);
    let grain = |x: f64, y: f64| 0.6 * coarse.at(x, y) + 0.4 * fine.at(x, y);

    let mut canvas = ground(&scene.ground, config, grain);
    for stroke in &scene.ground.strokes {
        draw_stroke(&mut canvas, config, stroke);
    }
    for object in &scene.objects {
        draw_object(&mut canvas, config, object, grain);
    }
    // A little noise of the sensor's kind, one draw a pixel.
    let pixels = canvas.iter().flat_map(|&rgb| {
        let noise = (f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5) * 0.04;
        rgb.map(|v| ((v + noise) * 255.0).round() as u8)
    });
    Image { size, pixels: pixels.collect() }
}

/// How much of each pixel an object covers, white for all of it.
pub(super) fn mask(object: &Object, config: &GeneratedConfig) -> Image {
    /// Looks into each pixel, across and down.
    const SIDE: usize = 8;
    let size = config.size;
    let mut pixels = vec![0; size.width * size.height * 3];
    for_pixels(config, object.outline.bounds(), |idx, x, y| {
        let look = |i: usize| (i as f64 + 0.5) / SIDE as f64;
        let is_inside = |i: &usize| object.outline.contains([x + look(i % SIDE), y + look(i / SIDE)], 1.0);
        let covered = (0..SIDE * SIDE).filter(is_inside).count();
        pixels[3 * idx..][..3].fill((covered * 255 / (SIDE * SIDE)) as u8);
    });
    Image { size, pixels }
}

fn ground(ground: &Ground, config: &GeneratedConfig, grain: impl Fn(f64, f64) -> f64) -> Vec<Colour> {
    let (width, height) = (config.size.width, config.size.height);
    let (sin, cos) = ground.angle.sin_cos();
    let half = [width as f64 / 2.0, height as f64 / 2.0];
    let reach = half[0] * cos.abs() + half[1] * sin.abs();
    let mut canvas = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
            let along = ((x - half[0]) * cos + (y - half[1]) * sin) / reach;
            let base = blend(ground.colours[0], ground.colours[1], 0.5 + 0.5 * along);
            let light = ground.grain * grain(x, y);
            canvas.push(base.map(|v| v + light));
        }
    }
    canvas
}

fn draw_stroke(canvas: &mut [Colour], config: &GeneratedConfig, stroke: &Stroke) {
    let ([ax, ay], [bx, by]) = (stroke.from, stroke.to);
    let (dx, dy) = (bx - ax, by - ay);
    let length_squared = dx * dx + dy * dy;
    let margin = stroke.half_width + 1.0;
    let bounds = [ax.min(bx) - margin, ay.min(by) - margin, ax.max(bx) + margin, ay.max(by) + margin];
    for_pixels(config, bounds, |idx, x, y| {
        let (x, y) = (x + 0.5, y + 0.5);
        let along = (((x - ax) * dx + (y - ay) * dy) / length_squared).clamp(0.0, 1.0);
        let distance = (x - ax - along * dx).hypot(y - ay - along * dy);
        let cover = (stroke.half_width + 0.5 - distance).clamp(0.0, 1.0);
        canvas[idx] = blend(canvas[idx], stroke.colour, 0.8 * cover);
    });
}

fn draw_object(canvas: &mut [Colour], config: &GeneratedConfig, object: &Object, grain: impl Fn(f64, f64) -> f64) {
    let outline = &object.outline;
    let [figure, rim] = object.colours;
    for_pixels(config, outline.bounds(), |idx, x, y| {
        let mut mixed = [0.0; 3];
        let mut shade = None;
        for [dx, dy] in LOOKS {
            let (x, y) = (x + dx, y + dy);
            let seen = if !outline.contains([x, y], 1.0) {
                canvas[idx]
            } else {
                let colour = if outline.contains([x, y], INSIDE) {
                    let share = pattern(object.texture, x, y, &grain);
                    blend(figure, rim, share)
                } else {
                    rim
                };
                let shade = *shade.get_or_insert_with(|| 0.1 * grain(x, y));
                colour.map(|v| v + shade)
            };
            for c in 0..3 {
                mixed[c] += seen[c] / LOOKS.len() as f64;
            }
        }
        canvas[idx] = mixed;
    });
}

/// How much of the second colour a texture shows, 0..=1.
fn pattern(texture: Texture, x: f64, y: f64, grain: impl Fn(f64, f64) -> f64) -> f64 {
    // Position along and across the pattern's direction, in periods.
    let turned = |angle: f64, period: f64| {
        let (sin, cos) = angle.sin_cos();
        ((x * cos + y * sin) / period, (y * cos - x * sin) / period)
    };
    let upper_half = |t: f64| t.rem_euclid(1.0) >= 0.5;
    let chosen = match texture {
        Texture::Plain => false,
        Texture::Stripes { angle, period } => upper_half(turned(angle, period).0),
        Texture::Checks { angle, period } => {
            let (u, v) = turned(angle, period);
            upper_half(u) != upper_half(v)
        }
        Texture::Dots { angle, period } => {
            let (u, v) = turned(angle, period);
            (u.rem_euclid(1.0) - 0.5).hypot(v.rem_euclid(1.0) - 0.5) < 0.3
        }
        Texture::Grain => return (0.35 + 0.9 * grain(x, y)).clamp(0.0, 0.8),
    };
    f64::from(u8::from(chosen)) * 0.85
}

/// Calls with the index, column and row of every pixel that a box touches inside the picture.
fn for_pixels(config: &GeneratedConfig, bounds: [f64; 4], mut visit: impl FnMut(usize, f64, f64)) {
    let range = |low: f64, high: f64, side: usize| {
        // The conversions saturate at 0.
        (low.floor() as usize).min(side)..(high.ceil() as usize).min(side)
    };
    for y in range(bounds[1], bounds[3], config.size.height) {
        for x in range(bounds[0], bounds[2], config.size.width) {
            visit(y * config.size.width + x, x as f64, y as f64);
        }
    }
}

fn blend(a: Colour, b: Colour, share: f64) -> Colour {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}
