//! A set without flaws in three formats, to plant flaws into.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ImageEncoder as _, ImageFormat, RgbImage};
use retinanet_anchors::ImageSize;
use retinanet_data::{Dataset, GeneratedConfig, GeneratedDataset};
use serde_json::json;

const WIDTH: u32 = 160;
const HEIGHT: u32 = 120;

/// A box before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Annotated {
    pub(crate) class_idx: usize,
    pub(crate) xywh: [f64; 4],
}

/// An image before it is written.
#[derive(Clone)]
pub(crate) struct PlantedImage {
    pub(crate) name: String,
    pub(crate) pixels: Vec<[u8; 3]>,
    pub(crate) boxes: Vec<Annotated>,
    /// The size that annotations state.
    pub(crate) stated: (usize, usize),
}

impl PlantedImage {
    fn picture(&self) -> RgbImage {
        RgbImage::from_raw(WIDTH, HEIGHT, self.pixels.as_flattened().to_vec()).expect("as many pixels")
    }

    pub(crate) fn png(&self) -> Vec<u8> {
        encoded(&self.picture().into(), ImageFormat::Png)
    }
}

fn encoded(picture: &image::DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("an encoder");
    bytes.into_inner()
}

/// The set.
pub(crate) struct Planted {
    folder: tempfile::TempDir,
    splits: Vec<(&'static str, Vec<PlantedImage>)>,
    pub(crate) classes: Vec<String>,
    pub(crate) category_ids: Vec<i64>,
    pub(crate) yaml_suffix: String,
    /// Whether the second annotation has the id of the first.
    pub(crate) repeat_id: bool,
    extra: Vec<serde_json::Value>,
    lists: Vec<(&'static str, Vec<&'static str>)>,
    labels: Vec<(&'static str, &'static str)>,
    /// Files to write over, or to remove, once the set is written.
    after: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Planted {
    /// 30 images to train on and 15 to validate on, with one to three discs and squares each.
    pub(crate) fn new() -> Self {
        let config = GeneratedConfig {
            images: 45,
            size: ImageSize::new(WIDTH as usize, HEIGHT as usize),
            seed: 3,
            classes: 2,
            max_objects: 3,
            empty: 0.0,
            object_size: [24.0, 64.0],
        };
        let dataset = GeneratedDataset::new(config).expect("a good configuration");
        let mut splits = vec![("train", Vec::new()), ("val", Vec::new())];
        for (idx, annotated) in dataset.annotations().images.iter().enumerate() {
            let (split, number) = if idx < 30 { (0, idx) } else { (1, idx - 30) };
            let pixels = dataset.sample(idx).expect("a sample").image.pixels.as_chunks::<3>().0.to_vec();
            let boxes = annotated.annotations.iter().map(|a| Annotated { class_idx: a.class_idx, xywh: a.xywh });
            let (name, images) = &mut splits[split];
            images.push(PlantedImage {
                name: format!("{name}-{number}"),
                pixels,
                boxes: boxes.collect(),
                stated: (WIDTH as usize, HEIGHT as usize),
            });
        }
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            splits,
            classes: vec!["disc".to_owned(), "square".to_owned()],
            category_ids: Vec::new(),
            yaml_suffix: String::new(),
            repeat_id: false,
            extra: Vec::new(),
            lists: Vec::new(),
            labels: Vec::new(),
            after: Vec::new(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn split_mut(&mut self, name: &str) -> &mut Vec<PlantedImage> {
        let split = self.splits.iter_mut().find(|(split, _)| *split == name);
        &mut split.expect("a split of this name").1
    }

    pub(crate) fn images(&self) -> impl Iterator<Item = &PlantedImage> {
        self.splits.iter().flat_map(|(_, images)| images)
    }

    pub(crate) fn all_images(&mut self) -> impl Iterator<Item = &mut PlantedImage> {
        self.splits.iter_mut().flat_map(|(_, images)| images)
    }

    /// Changes every box, given its number in the set.
    pub(crate) fn each_box(&mut self, mut change: impl FnMut(usize, &mut Annotated)) {
        let boxes = self.all_images().flat_map(|image| &mut image.boxes);
        boxes.enumerate().for_each(|(idx, annotated)| change(idx, annotated));
    }

    /// An annotation more in the file of the split train.
    pub(crate) fn extra_annotation(&mut self, image_id: i64, category_id: i64) {
        let bbox = [30.0, 30.0, 20.0, 20.0];
        self.extra.push(json!({ "id": 100_000, "image_id": image_id, "category_id": category_id, "bbox": bbox }));
    }

    /// A list of the images of some splits.
    pub(crate) fn add_list(&mut self, name: &'static str, splits: &[&'static str]) {
        self.lists.push((name, splits.to_vec()));
    }

    /// Lines more in a label file of the split train.
    pub(crate) fn append_label(&mut self, name: &'static str, lines: &'static str) {
        self.labels.push((name, lines));
    }

    /// Writes over a file of the set, once it is there.
    pub(crate) fn write_after(&mut self, path: &str, bytes: &[u8]) {
        self.after.push((self.folder().join(path), Some(bytes.to_vec())));
    }

    pub(crate) fn remove_after(&mut self, path: &str) {
        self.after.push((self.folder().join(path), None));
    }

    fn find(&self, name: &str) -> &PlantedImage {
        self.images().find(|image| image.name == name).expect("an image of this name")
    }

    pub(crate) fn recolour(&mut self, name: &str, change: impl Fn([u8; 3]) -> [u8; 3]) {
        let image = self.all_images().find(|image| image.name == name).expect("an image of this name");
        image.pixels.iter_mut().for_each(|pixel| *pixel = change(*pixel));
    }

    /// Has a JPEG in place of the PNG of COCO's form, whole or cut short.
    pub(crate) fn save_jpeg(&mut self, name: &str, is_cut: bool) {
        let mut bytes = encoded(&self.find(name).picture().into(), ImageFormat::Jpeg);
        if is_cut {
            bytes.truncate(bytes.len() * 9 / 10);
        }
        self.write_after(&format!("images/{name}.png"), &bytes);
    }

    /// Has 16 bits a channel in the PNG of COCO's form.
    pub(crate) fn save_deep(&mut self, name: &str) {
        let deep = image::DynamicImage::from(self.find(name).picture()).into_rgb16();
        self.write_after(&format!("images/{name}.png"), &encoded(&deep.into(), ImageFormat::Png));
    }

    /// Does what is to be done once the set is written.
    pub(crate) fn finish(&self) {
        for (path, bytes) in &self.after {
            match bytes {
                Some(bytes) => std::fs::write(path, bytes).expect("a file"),
                None => std::fs::remove_file(path).expect("a file to remove"),
            }
        }
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }

    /// `annotations/instances_<split>.json` and `images/<name>.png`.
    pub(crate) fn write_coco(&self) {
        let category_id = |idx: usize| self.category_ids.get(idx).copied().unwrap_or(idx as i64 + 1);
        let categories: Vec<_> = self
            .classes
            .iter()
            .enumerate()
            .map(|(idx, name)| json!({ "id": category_id(idx), "name": name }))
            .collect();
        let mut id = 0;
        for (split, images) in &self.splits {
            let (mut entries, mut annotations) = (Vec::new(), Vec::new());
            for (image_id, image) in images.iter().enumerate() {
                let file_name = format!("{}.png", image.name);
                self.write(&format!("images/{file_name}"), image.png());
                let (width, height) = image.stated;
                entries.push(json!({ "id": image_id, "file_name": file_name, "width": width, "height": height }));
                for Annotated { class_idx, xywh } in &image.boxes {
                    id += 1;
                    let id = if self.repeat_id && id == 2 { 1 } else { id };
                    let (category_id, area) = (category_id(*class_idx), xywh[2] * xywh[3]);
                    annotations.push(json!({ "id": id, "image_id": image_id, "category_id": category_id, "bbox": xywh, "area": area, "iscrowd": 0 }));
                }
            }
            if *split == "train" {
                annotations.extend(self.extra.iter().cloned());
            }
            let document = json!({ "images": entries, "annotations": annotations, "categories": categories });
            self.write(&format!("annotations/instances_{split}.json"), document.to_string());
        }
    }

    /// `data.yaml`, `images/<split>/<name>.png` and `labels/<split>/<name>.txt`.
    pub(crate) fn write_yolo(&self) {
        let yaml = format!("train: images/train\nval: images/val\nnames: {:?}\n{}", self.classes, self.yaml_suffix);
        self.write("data.yaml", yaml);
        for (split, images) in &self.splits {
            for image in images {
                self.write(&format!("images/{split}/{}.png", image.name), image.png());
                let (width, height) = (f64::from(WIDTH), f64::from(HEIGHT));
                let mut text = String::new();
                for Annotated { class_idx, xywh: [x, y, w, h] } in &image.boxes {
                    let (cx, cy) = ((x + w / 2.0) / width, (y + h / 2.0) / height);
                    writeln!(text, "{class_idx} {cx} {cy} {} {}", w / width, h / height).expect("a string");
                }
                let more = self.labels.iter().filter(|(name, _)| *name == format!("{}.txt", image.name));
                more.for_each(|(_, lines)| text += lines);
                self.write(&format!("labels/{split}/{}.txt", image.name), text);
            }
        }
        let is_orphan = |name: &str| !self.images().any(|image| name == format!("{}.txt", image.name));
        for (name, lines) in self.labels.iter().filter(|(name, _)| is_orphan(name)) {
            self.write(&format!("labels/train/{name}"), lines);
        }
    }

    /// `Annotations/<name>.xml`, `ImageSets/Main/<split>.txt` and `JPEGImages/<name>.png`.
    pub(crate) fn write_voc(&self) {
        let names = |split: &str| {
            let images = self.splits.iter().filter(|(name, _)| *name == split).flat_map(|(_, images)| images);
            images.map(|image| format!("{}\n", image.name)).collect::<String>()
        };
        for (split, _) in &self.splits {
            self.write(&format!("ImageSets/Main/{split}.txt"), names(split));
        }
        for (list, splits) in &self.lists {
            self.write(
                &format!("ImageSets/Main/{list}.txt"),
                splits.iter().map(|split| names(split)).collect::<String>(),
            );
        }
        // A split that was emptied keeps its files: only the list is empty.
        let all = Self::new();
        for image in
            self.images().chain(all.images().filter(|image| !self.images().any(|kept| kept.name == image.name)))
        {
            self.write(&format!("JPEGImages/{}.png", image.name), image.png());
            let (width, height) = image.stated;
            let mut text = format!(
                "<annotation><filename>{}.png</filename><size><width>{width}</width><height>{height}</height></size>\n",
                image.name
            );
            for Annotated { class_idx, xywh: [x, y, w, h] } in &image.boxes {
                let name = &self.classes[*class_idx];
                let [x0, y0, x1, y1] = [x + 1.0, y + 1.0, x + w, y + h];
                writeln!(text, "<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>").expect("a string");
            }
            self.write(&format!("Annotations/{}.xml", image.name), text + "</annotation>\n");
        }
    }
}

/// A PNG whose EXIF orientation turns it by a quarter.
pub(crate) fn turned_png(pixels: &[[u8; 3]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    encoder.set_exif_metadata(exif).expect("room for it");
    encoder.write_image(pixels.as_flattened(), WIDTH, HEIGHT, image::ExtendedColorType::Rgb8).expect("an encoder");
    bytes
}

/// A baseline JPEG of 8 x 8 pixels in four channels, each of them even: every code is a single bit.
pub(crate) fn cmyk_jpeg() -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    let mut segment = |marker: u8, content: &[u8]| {
        bytes.extend([0xff, marker, 0, content.len() as u8 + 2]);
        bytes.extend(content);
    };
    segment(0xdb, &[&[0][..], &[1; 64]].concat());
    let component = |id: u8| [id, 0x11, 0];
    segment(0xc0, &[&[8, 0, 8, 0, 8, 4][..], &[1, 2, 3, 4].map(component).concat()].concat());
    for table in [0x00, 0x10] {
        // One code of one bit, for the value 0: no difference, and the end of a block.
        segment(0xc4, &[&[table, 1][..], &[0; 15], &[0]].concat());
    }
    segment(0xda, &[&[4][..], &[1, 0, 2, 0, 3, 0, 4, 0], &[0, 63, 0]].concat());
    // Two bits for each of the four blocks.
    bytes.extend([0, 0xff, 0xd9]);
    bytes
}
