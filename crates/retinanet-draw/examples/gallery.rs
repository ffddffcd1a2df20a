//! Draws one of everything into a folder, to be looked at: `cargo run --example gallery -- DIR`.

use std::error::Error;
use std::path::Path;

use retinanet_anchors::{BBox, ImageSize};
use retinanet_draw::{
    LabelledBox, Plot, RgbImage, Scale, Series, class_color, draw_detections, encode_png, grid, line_plot,
};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("give a folder to write to")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;

    for (name, width, height) in
        [("tiny", 64, 48), ("small", 320, 240), ("usual", 640, 480), ("large", 2400, 1600), ("wide", 1600, 120)]
    {
        let pictures = Ground::ALL.map(|ground| scene(ground, width, height));
        let sheet = grid(&pictures, if width > 1000 { 1 } else { 2 }, 8)?;
        std::fs::write(folder.join(format!("{name}.png")), encode_png(&sheet)?)?;
    }
    std::fs::write(folder.join("crowd.png"), encode_png(&crowd())?)?;
    std::fs::write(folder.join("colors.png"), encode_png(&colors())?)?;
    for (name, plot, width, height) in [
        ("loss", loss(Scale::Linear), 900, 560),
        ("loss_log", loss(Scale::Log), 900, 560),
        ("ap", average_precision(), 640, 400),
        ("ap_small", average_precision(), 260, 180),
        ("ap_large", average_precision(), 2000, 1300),
        ("odd", odd(), 640, 400),
    ] {
        let picture = line_plot(&plot, ImageSize::new(width, height));
        std::fs::write(folder.join(format!("{name}.png")), encode_png(&picture)?)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Ground {
    White,
    Black,
    Noise,
    Gradient,
}

impl Ground {
    const ALL: [Self; 4] = [Self::White, Self::Black, Self::Noise, Self::Gradient];

    fn picture(self, width: u32, height: u32) -> RgbImage {
        let mut noise = Noise(7);
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb(match self {
                Self::White => [250, 250, 250],
                Self::Black => [8, 8, 8],
                Self::Noise => [(); 3].map(|()| (noise.next() * 255.0) as u8),
                Self::Gradient => {
                    let share = |at: u32, end: u32| (255 * at / end.max(1)) as u8;
                    [share(x, width), share(y, height), 255 - share(x + y, width + height)]
                }
            })
        })
    }
}

/// Reproducible numbers from 0 to 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
}

fn scene(ground: Ground, width: u32, height: u32) -> RgbImage {
    let mut picture = ground.picture(width, height);
    let place = |[x0, y0, x1, y1]: [f32; 4]| BBox::new(x0, y0, x1, y1).scale(width as f32, height as f32);
    let boxes: Vec<LabelledBox> = [
        ([0.05, 0.20, 0.45, 0.90], "person 0.98"),
        ([0.30, 0.40, 0.80, 0.95], "bicycle 0.91"),
        ([0.32, 0.42, 0.82, 0.97], "motorcycle 0.55"),
        ([0.60, 0.00, 1.00, 0.35], "traffic light 0.83"),
        ([0.90, 0.60, 0.93, 0.65], "red blood cell 0.77"),
        ([0.86, 0.70, 0.98, 0.80], "Шар über ñandú 0.41"),
        ([0.15, 0.50, 0.17, 0.53], "ball 0.33"),
        ([0.00, 0.00, 1.00, 1.00], "scene 0.30"),
    ]
    .into_iter()
    .enumerate()
    .map(|(idx, (bbox, text))| LabelledBox { bbox: place(bbox), text: text.to_string(), color: class_color(idx) })
    .collect();
    draw_detections(&mut picture, &boxes);
    picture
}

/// As many boxes as a detector returns at most, on a picture of blood cells' density.
fn crowd() -> RgbImage {
    let mut picture = Ground::Gradient.picture(640, 480);
    let mut noise = Noise(3);
    let boxes: Vec<LabelledBox> = (0..60)
        .map(|idx| {
            let (x, y) = (noise.next() as f32 * 560.0, noise.next() as f32 * 400.0);
            let side = 40.0 + 60.0 * noise.next() as f32;
            let class_idx = idx % 3;
            LabelledBox {
                bbox: BBox::new(x, y, x + side, y + side),
                text: format!("{} 0.{:02}", ["RBC", "WBC", "Platelets"][class_idx], 99 - idx),
                color: class_color(class_idx),
            }
        })
        .collect();
    draw_detections(&mut picture, &boxes);
    picture
}

/// The first eighty class colours, as tags.
fn colors() -> RgbImage {
    let mut picture = Ground::White.picture(1000, 640);
    let boxes: Vec<LabelledBox> = (0..80)
        .map(|idx| {
            let (x, y) = ((idx % 10) as f32 * 98.0 + 12.0, (idx / 10) as f32 * 78.0 + 30.0);
            LabelledBox {
                bbox: BBox::new(x, y, x + 80.0, y + 45.0),
                text: format!("class {idx}"),
                color: class_color(idx),
            }
        })
        .collect();
    draw_detections(&mut picture, &boxes);
    picture
}

fn loss(y_scale: Scale) -> Plot {
    let mut noise = Noise(11);
    let mut curve = |name: &str, start: f64, floor: f64| Series {
        name: name.to_string(),
        points: (0..1500)
            .map(|step| {
                let progress = f64::from(step) / 250.0;
                (f64::from(step), (floor + start * (-progress).exp()) * (0.85 + 0.3 * noise.next()))
            })
            .collect(),
    };
    let series = vec![
        curve("class (focal)", 1.1, 0.12),
        curve("box (smooth L1)", 0.7, 0.2),
        curve("total", 1.8, 0.32),
        curve("validation", 1.2, 0.5),
    ];
    Plot { title: "Training losses".into(), x_label: "step".into(), y_label: "loss".into(), y_scale, series }
}

fn average_precision() -> Plot {
    let curve = |name: &str, best: f64, rate: f64| Series {
        name: name.to_string(),
        points: (1..=30).map(|epoch| (f64::from(epoch), best * (1.0 - (-f64::from(epoch) / rate).exp()))).collect(),
    };
    let series = vec![curve("AP", 0.47, 6.0), curve("AP50", 0.78, 4.0), curve("AP75", 0.44, 7.0)];
    Plot {
        title: "Average precision on val".into(),
        x_label: "epoch".into(),
        y_label: "AP".into(),
        series,
        ..Plot::default()
    }
}

fn odd() -> Plot {
    let series = |name: &str, points: &[(f64, f64)]| Series { name: name.into(), points: points.to_vec() };
    let nan = f64::NAN;
    Plot {
        title: "Gaps, one point, a constant, and a title that is much longer than the picture has room for".into(),
        x_label: "x".into(),
        y_label: String::new(),
        y_scale: Scale::Linear,
        series: vec![
            series("with a gap", &[(0.0, 1.0), (1.0, 3.0), (2.0, nan), (3.0, 2.0), (4.0, 4.0)]),
            series("alone", &[(2.0, 2.5)]),
            series("constant", &[(0.0, 2.0), (4.0, 2.0)]),
            series("dot between gaps", &[(0.0, nan), (3.5, 1.5), (4.0, nan)]),
            series("nothing", &[]),
            series("a fourth name of a series that takes a row of its own", &[(0.5, 3.9), (1.5, 3.7)]),
        ],
    }
}
