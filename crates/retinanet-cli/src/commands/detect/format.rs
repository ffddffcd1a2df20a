//! The forms that results are written in, image after image, so that no run is too long for the memory.

use super::entry::{Entry, ImageEntry};
use crate::args::ResultFormat;
use crate::inputs::ErrorEntry;
use anyhow::Context;
use retinanet_annotations::{Class, coco, write_atomically};
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The image ids of COCO's results.
#[derive(Debug, Default)]
pub(crate) struct ImageIds {
    /// Of a file of ground truth: ids by the name it gives and by the bare file name.
    by_name: Option<HashMap<String, i64>>,
}

impl ImageIds {
    pub(crate) fn read(ground_truth: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = ground_truth else { return Ok(Self::default()) };
        let set = coco::read_ground_truth(path)?;
        let mut by_name = HashMap::new();
        for image in &set.images {
            by_name.insert(bare(&image.file_name).to_owned(), image.id);
        }
        // A name with its folders counts more than another image's bare one.
        by_name.extend(set.images.into_iter().map(|image| (image.file_name, image.id)));
        Ok(Self { by_name: Some(by_name) })
    }

    /// The id of the image at this position, or why there is none.
    pub(crate) fn find(&self, position: usize, path: &str) -> anyhow::Result<i64> {
        let Some(by_name) = &self.by_name else { return Ok(position as i64 + 1) };
        let id = by_name.get(path).or_else(|| by_name.get(bare(path)));
        id.copied().with_context(|| format!("{path}: --image-ids: expected an image of this name, found none"))
    }
}

fn bare(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Writes the entries of a run, in the order of its inputs, in any form but YOLO's.
pub(crate) struct Writer<'a, W: Write> {
    format: ResultFormat,
    ids: &'a ImageIds,
    out: W,
    /// Whether the list that is being written has an item.
    has_item: bool,
    errors: Vec<ErrorEntry>,
}

impl<'a, W: Write> Writer<'a, W> {
    pub(crate) fn begin(format: ResultFormat, ids: &'a ImageIds, model: &str, mut out: W) -> anyhow::Result<Self> {
        match format {
            ResultFormat::Json => write!(out, "{{\"model\":{},\"images\":[", json!(model))?,
            ResultFormat::Coco => write!(out, "[")?,
            ResultFormat::Csv => {
                writeln!(out, "path,image_width,image_height,x0,y0,x1,y1,category_id,name,score")?;
            }
            ResultFormat::Jsonl | ResultFormat::Yolo => {}
        }
        Ok(Self { format, ids, out, has_item: false, errors: Vec::new() })
    }

    /// Writes one; `position` is that among the inputs, from 0.
    pub(crate) fn entry(&mut self, position: usize, entry: &Entry) -> anyhow::Result<()> {
        match (self.format, entry) {
            (ResultFormat::Jsonl, entry) => writeln!(self.out, "{}", serde_json::to_string(entry)?)?,
            (ResultFormat::Json, Entry::Error(error)) => self.errors.push(error.clone()),
            (_, Entry::Error(_)) => {}
            (ResultFormat::Json, Entry::Image(image)) => self.item(&serde_json::to_string(image)?)?,
            (ResultFormat::Coco, Entry::Image(image)) => {
                let image_id = self.ids.find(position, &image.path)?;
                for detection in &image.detections {
                    let [x0, y0, x1, y1] = detection.r#box.map(f64::from);
                    self.item(
                        &json!({
                            "image_id": image_id, "category_id": detection.category_id,
                            "bbox": [x0, y0, x1 - x0, y1 - y0], "score": detection.score, "file_name": image.path,
                        })
                        .to_string(),
                    )?;
                }
            }
            (ResultFormat::Csv, Entry::Image(image)) => {
                let mut rows = csv::Writer::from_writer(&mut self.out);
                for detection in &image.detections {
                    let [x0, y0, x1, y1] = detection.r#box;
                    let (path, name) = (&image.path, &detection.name);
                    rows.serialize((
                        path,
                        image.width,
                        image.height,
                        x0,
                        y0,
                        x1,
                        y1,
                        detection.category_id,
                        name,
                        detection.score,
                    ))?;
                }
                rows.flush()?;
            }
            (ResultFormat::Yolo, Entry::Image(_)) => unreachable!("YOLO's form is a folder"),
        }
        Ok(())
    }

    fn item(&mut self, text: &str) -> std::io::Result<()> {
        let separator = if std::mem::replace(&mut self.has_item, true) { ",\n" } else { "\n" };
        write!(self.out, "{separator}{text}")
    }

    /// Closes what is open.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        match self.format {
            ResultFormat::Json => writeln!(self.out, "],\"errors\":{}}}", serde_json::to_string(&self.errors)?)?,
            ResultFormat::Coco => writeln!(self.out, "]")?,
            ResultFormat::Jsonl | ResultFormat::Csv | ResultFormat::Yolo => {}
        }
        Ok(self.out.flush()?)
    }
}

/// Writes a label file in YOLO's form with a sixth column for the score: `class cx cy width height score`.
pub(crate) fn write_yolo(path: &Path, image: &ImageEntry, classes: &[Class]) -> anyhow::Result<()> {
    let (width, height) = (image.width as f64, image.height as f64);
    let write = |out: &mut dyn Write| {
        for detection in &image.detections {
            let class = classes.iter().position(|class| class.category_id == detection.category_id).unwrap_or(0);
            let [x0, y0, x1, y1] = detection.r#box.map(f64::from);
            let (cx, cy) = ((x0 + x1) / 2.0 / width, (y0 + y1) / 2.0 / height);
            writeln!(out, "{class} {cx} {cy} {} {} {}", (x1 - x0) / width, (y1 - y0) / height, detection.score)?;
        }
        Ok(())
    };
    write_atomically(path, write).with_context(|| format!("{}: cannot write", path.display()))
}

/// Writes the names behind the numbers of YOLO's label files.
pub(crate) fn write_class_names(folder: &Path, classes: &[Class]) -> anyhow::Result<PathBuf> {
    let path = folder.join("classes.txt");
    let write = |out: &mut dyn Write| {
        // A name in two lines would shift all that follow.
        classes.iter().try_for_each(|class| writeln!(out, "{}", class.name.replace(['\n', '\r'], " ")))
    };
    write_atomically(&path, write).with_context(|| format!("{}: cannot write", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::super::entry::DetectionEntry;
    use super::*;

    fn entries() -> [Entry; 3] {
        let detection =
            DetectionEntry { r#box: [1.0, 2.0, 4.0, 8.0], category_id: 7, name: "a, \"b\"".to_owned(), score: 0.5 };
        [
            Entry::Image(ImageEntry { path: "x/1.jpg".to_owned(), width: 10, height: 20, detections: vec![detection] }),
            Entry::Error(ErrorEntry { path: "2.jpg".to_owned(), error: "2.jpg: torn".to_owned() }),
            Entry::Image(ImageEntry { path: "3.jpg".to_owned(), width: 5, height: 5, detections: Vec::new() }),
        ]
    }

    #[track_caller]
    fn written(format: ResultFormat, ids: &ImageIds) -> String {
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(format, ids, "m", &mut bytes).expect("memory takes all");
        for (position, entry) in entries().iter().enumerate() {
            writer.entry(position, entry).expect("an entry");
        }
        writer.finish().expect("memory takes all");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn every_form_is_whole() {
        let ids = ImageIds::default();
        let json: serde_json::Value = serde_json::from_str(&written(ResultFormat::Json, &ids)).expect("JSON");
        assert_eq!((json["images"].as_array().map(Vec::len), &json["errors"][0]["path"]), (Some(2), &"2.jpg".into()));
        assert_eq!(json["images"][0]["detections"][0]["box"], json!([1.0, 2.0, 4.0, 8.0]));
        let jsonl = written(ResultFormat::Jsonl, &ids);
        let lines: Vec<Entry> = jsonl.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect();
        assert!(matches!(&lines[..], [Entry::Image(_), Entry::Error(_), Entry::Image(_)]));
        let coco: serde_json::Value = serde_json::from_str(&written(ResultFormat::Coco, &ids)).expect("JSON");
        assert_eq!(
            coco,
            json!([{ "image_id": 1, "category_id": 7, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5, "file_name": "x/1.jpg" }])
        );
        let csv = written(ResultFormat::Csv, &ids);
        assert_eq!(csv.lines().nth(1), Some("x/1.jpg,10,20,1.0,2.0,4.0,8.0,7,\"a, \"\"b\"\"\",0.5"));
    }

    #[test]
    fn image_ids_come_from_ground_truth_by_name() {
        let ids = ImageIds { by_name: Some(HashMap::from([("1.jpg".to_owned(), 42), ("3.jpg".to_owned(), 43)])) };
        let coco: serde_json::Value = serde_json::from_str(&written(ResultFormat::Coco, &ids)).expect("JSON");
        assert_eq!(coco[0]["image_id"], 42);
        assert!(ids.find(0, "4.jpg").expect_err("no such image").to_string().contains("4.jpg"));
    }

    #[test]
    fn yolo_lines_are_relative() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Entry::Image(image) = &entries()[0] else { unreachable!() };
        let classes =
            [Class { category_id: 3, name: "c".to_owned() }, Class { category_id: 7, name: "d\ne".to_owned() }];
        let path = folder.path().join("1.txt");
        write_yolo(&path, image, &classes).expect("a file");
        assert_eq!(std::fs::read_to_string(path).expect("a file"), "1 0.25 0.25 0.3 0.3 0.5\n");
        let names = write_class_names(folder.path(), &classes).expect("a file");
        assert_eq!(std::fs::read_to_string(names).expect("a file"), "c\nd e\n");
    }
}
