//! Sets written in every format and read again.

mod round_trip;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use retinanet_anchors::ImageSize;
use retinanet_annotations::{
    AnnotatedImage, Annotation, AnnotationSet, Class, Conversion, DataRequest, Details, Effect, Format, ImageDetails,
    ImageTransfer, Loss, Outline, coco,
};
use tempfile::{TempDir, tempdir};

/// The size that a file holds as text.
fn probe(path: &Path) -> Result<ImageSize, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let (width, height) = text.split_once('x').ok_or("no size")?;
    Ok(ImageSize::new(width.parse().map_err(|_| "no width")?, height.parse().map_err(|_| "no height")?))
}

fn coordinates(limit: f64) -> impl Strategy<Value = (f64, f64)> {
    let fractional = (0.0..0.9_f64, 0.001..1.0_f64).prop_map(move |(start, part)| {
        let start = start * limit;
        (start, (part * (limit - start)).max(1.0 + 1e-3))
    });
    let whole = (0.0..0.9_f64, 0.0..1.0_f64).prop_map(move |(start, part)| {
        let start = (start * limit).floor();
        (start, (part * (limit - start)).floor().max(2.0))
    });
    prop_oneof![fractional, whole]
}

fn details(xywh: [f64; 4]) -> impl Strategy<Value = Details> {
    let [x, y, width, height] = xywh;
    let flag = || prop::option::of(any::<bool>());
    // A triangle and a diamond fill the box, the third shape does not, the fourth has two parts, the fifth is a mask.
    let outlines = [
        Outline::Polygons(vec![vec![[x, y], [x + width, y], [x + width / 2.0, y + height]]]),
        Outline::Polygons(vec![vec![
            [x + width / 2.0, y],
            [x + width, y + height / 2.0],
            [x + width / 3.0, y + height],
            [x, y + height / 2.0],
        ]]),
        Outline::Polygons(vec![vec![[x, y], [x + width / 2.0, y], [x, y + height / 2.0]]]),
        Outline::Polygons(vec![
            vec![[x, y], [x + width, y], [x, y + height]],
            vec![[x, y], [x + 1.0, y], [x, y + 1.0]],
        ]),
        Outline::Mask(r#"{"counts":[3,1,2],"size":[2,3]}"#.to_owned()),
    ];
    let text = prop::option::of(prop::sample::select(vec!["Left".to_owned(), "a, \"b\" <c> & č".to_owned()]));
    let field = prop::option::of(prop::sample::select(vec![("score", "0.5"), ("attributes", r#"{"a":[1,null]}"#)]));
    (
        prop::option::weighted(0.6, prop::sample::select(outlines.to_vec())),
        [flag(), flag(), flag(), flag()],
        (text.clone(), text),
        prop::option::of(0.0..1.0_f64),
        field,
    )
        .prop_map(
            |(outline, [is_truncated, is_occluded, is_depiction, is_inside], (pose, source), confidence, field)| {
                Details {
                    outline,
                    is_truncated,
                    is_occluded,
                    is_depiction,
                    is_inside,
                    pose,
                    source,
                    confidence,
                    fields: field.into_iter().map(|(name, json)| (name.to_owned(), json.to_owned())).collect(),
                    ..Details::default()
                }
            },
        )
}

fn annotation(num_classes: usize, size: ImageSize) -> impl Strategy<Value = Annotation> {
    let boxes = (coordinates(size.width as f64), coordinates(size.height as f64))
        .prop_map(|((x, width), (y, height))| [x, y, width, height]);
    let with_details = boxes.prop_flat_map(|xywh| (Just(xywh), prop::option::weighted(0.5, details(xywh))));
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::option::weighted(0.2, 1.0..500.0_f64));
    (0..num_classes, with_details, flags).prop_map(|(class_idx, (xywh, details), (is_crowd, is_difficult, area))| {
        let plain = Annotation::new(class_idx, xywh);
        let details = details.filter(|details| *details != Details::default()).map(Box::new);
        Annotation { is_crowd, is_difficult, area: area.unwrap_or(plain.area), details, ..plain }
    })
}

fn image(num_classes: usize) -> impl Strategy<Value = AnnotatedImage> {
    let size = (20..2000_usize, 20..2000_usize).prop_map(|(width, height)| ImageSize::new(width, height));
    let with_boxes =
        size.prop_flat_map(move |size| (Just(size), prop::collection::vec(annotation(num_classes, size), 0..4)));
    let license = prop::option::of(Just(ImageDetails {
        fields: [("license".to_owned(), "4".to_owned())].into(),
        ..ImageDetails::default()
    }));
    (with_boxes, license).prop_map(|((size, annotations), details)| AnnotatedImage {
        size: Some(size),
        annotations,
        details: details.map(Box::new),
        ..AnnotatedImage::default()
    })
}

/// Splits with one list of classes, sparse ids and images of names that are not plain.
fn splits() -> impl Strategy<Value = Vec<(String, AnnotationSet)>> {
    let names = ["person", "traffic light", "a, \"b\"", "<&>", "č: #1", "yes", "3"].map(str::to_owned).to_vec();
    let classes = prop::sample::subsequence(names, 1..5).prop_shuffle();
    let split_names = prop::sample::select(vec![vec![""], vec!["train", "val"], vec!["train", "val", "test", "night"]]);
    (classes, split_names).prop_flat_map(|(names, split_names)| {
        let num_classes = names.len();
        let images = prop::collection::vec(prop::collection::vec(image(num_classes), 1..4), split_names.len());
        (Just(names), Just(split_names), images).prop_map(|(names, split_names, images)| {
            let classes: Vec<Class> = names
                .into_iter()
                .zip([7, 1, 30, 90, 2])
                .map(|(name, category_id)| Class { category_id, name })
                .collect();
            let mut number = 0;
            let split = |(name, mut images): (&str, Vec<AnnotatedImage>)| {
                for (image, id) in images.iter_mut().zip(1..) {
                    number += 1;
                    let kinds = ["a b.JPG", "ü.png", "x.y.jpeg", "12"];
                    image.file_name = format!("{number} {}", kinds[number % 3]);
                    image.path = image.file_name.clone().into();
                    image.id = if number % 2 == 0 { id } else { id + 100 };
                }
                (name.to_owned(), AnnotationSet { classes: classes.clone(), images, ..AnnotationSet::default() })
            };
            split_names.into_iter().zip(images).map(split).collect()
        })
    })
}

/// Writes a set in a format, with image files that hold their sizes.
fn write(format: Format, mut splits: Vec<(String, AnnotationSet)>, folder: &Path) {
    let files = folder.join("files");
    fs::create_dir_all(&files).unwrap();
    for image in splits.iter_mut().flat_map(|(_, set)| &mut set.images) {
        image.path = files.join(&image.file_name);
        fs::write(&image.path, image.size.unwrap().to_string()).unwrap();
    }
    // COCO holds all of it; from there it goes into the format as any set does.
    let coco = folder.join("coco");
    fs::create_dir(&coco).unwrap();
    let originals: Vec<(String, PathBuf)> = splits
        .iter()
        .flat_map(|(name, set)| set.images.iter().map(move |image| (name.clone(), image.path.clone())))
        .collect();
    assert!(Format::Coco.write(&coco, splits, &probe).unwrap().is_empty());
    for (name, path) in originals {
        let target = if name.is_empty() { coco.join("images") } else { coco.join("images").join(name) };
        fs::create_dir_all(&target).unwrap();
        fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
    }
    round_trip::convert(&coco, format, folder.join("set"), &probe);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn every_pair_of_formats_gives_back_what_both_hold(splits in splits()) {
        for from in Format::ALL {
            let folder = tempdir().unwrap();
            write(from, splits.clone(), folder.path());
            for to in Format::ALL {
                let target = tempdir().unwrap();
                round_trip::check(&folder.path().join("set"), to, from, target.path(), &probe);
            }
        }
    }
}

/// The ids are 1, 2 in the order of the list, and 2, 1 in that of the folder.
#[test]
fn ids_that_a_folder_counts_otherwise_are_counted_as_lost() {
    let folder = tempdir().unwrap();
    let image = |id, file_name: &str| AnnotatedImage {
        id,
        file_name: file_name.to_owned(),
        size: Some(ImageSize::new(40, 30)),
        ..AnnotatedImage::default()
    };
    let set = AnnotationSet { images: vec![image(1, "9.png"), image(2, "10.png")], ..AnnotationSet::default() };
    let losses = Format::Yolo.write(folder.path(), vec![("train".to_owned(), set)], &probe).unwrap();
    assert_eq!(losses.count(Loss::ImageIds), 2);
}

/// Two images of one name in two folders, one without boxes, one whose file is missing.
fn sample() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let root = folder.path().join("source");
    for (name, content) in [("a/1.jpg", "40x30"), ("b/1.jpg", "50x20"), ("b/empty.PNG", "10x10")] {
        let path = root.join("images").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir(root.join("annotations")).unwrap();
    let json = r#"{"info": {"year": 2024}, "images": [
        {"id": "x1", "file_name": "a/1.jpg", "width": 40, "height": 30, "license": 3},
        {"id": 5, "file_name": "b/1.jpg", "width": 50, "height": 20},
        {"id": 6, "file_name": "b/empty.PNG", "width": 10, "height": 10},
        {"id": 7, "file_name": "../gone.jpg", "width": 10, "height": 10}],
      "categories": [{"id": 3, "name": "dog", "supercategory": "animal"}, {"id": 9, "name": "unused"}],
      "annotations": [
        {"id": 11, "image_id": "x1", "category_id": 3, "bbox": [1, 2, 10, 20], "area": 150, "iscrowd": 0, "score": 0.5,
         "segmentation": [[1, 2, 11, 2, 6, 22]]},
        {"id": 12, "image_id": 5, "category_id": 3, "bbox": [1, 2, 1, 2], "area": 2, "iscrowd": 1,
         "segmentation": {"counts": "abc", "size": [20, 50]}},
        {"id": 13, "image_id": 5, "category_id": 3, "bbox": [1, 2, 0, 2], "area": 0},
        {"id": 14, "image_id": 7, "category_id": 3, "bbox": [2, 2, 3, 3], "area": 9}]}"#;
    fs::write(root.join("annotations/instances_train2017.json"), json).unwrap();
    (folder, root)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                names.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

#[track_caller]
fn check_losses(format: Format, expected: &[(Loss, usize)], files: &[&str]) {
    let (folder, root) = sample();
    let output = folder.path().join("out");
    let conversion = Conversion::new(DataRequest::new([&root]), format, &output);
    let converted = conversion.run(&probe, &mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!(converted.losses.iter().collect::<Vec<_>>(), expected, "{format}");
    assert_eq!(names(&output), files, "{format}");
    assert_eq!((converted.missing_files, converted.is_complete()), (1, false));
    let renamed: Vec<&str> = converted.renamed.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(renamed, ["1-2.jpg"]);
    // Nothing but the source and the output is left behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn what_a_format_cannot_hold_is_counted_by_kind() {
    let plain = [(Loss::AnnotationIds, 3), (Loss::ImageIds, 4), (Loss::CategoryIds, 2), (Loss::Fields, 4)];
    let images = |folder: &str| ["1-2.jpg", "1.jpg", "empty.PNG"].map(|name| format!("{folder}/{name}"));
    let files = |folder: &str, others: &[&str]| {
        let mut files: Vec<String> =
            images(folder).into_iter().chain(others.iter().map(|&name| name.to_owned())).collect();
        files.sort();
        files
    };
    let check = |format, losses: &[(Loss, usize)], files: Vec<String>| {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        check_losses(format, losses, &files);
    };
    check(Format::Coco, &[], files("images/train", &["annotations/instances_train.json"]));
    check(
        Format::Voc,
        &[
            (Loss::BoxesWithoutExtent, 1),
            (Loss::ThinBoxes, 1),
            (Loss::Polygons, 1),
            (Loss::Areas, 1),
            (Loss::AnnotationIds, 2),
            (Loss::ImageIds, 4),
            (Loss::CategoryIds, 1),
            (Loss::UnusedClasses, 1),
            (Loss::Fields, 4),
        ],
        files(
            "JPEGImages",
            &[
                "Annotations/1-2.xml",
                "Annotations/1.xml",
                "Annotations/empty.xml",
                "Annotations/gone.xml",
                "ImageSets/Main/train.txt",
            ],
        ),
    );
    let flags = [(Loss::BoxesWithoutExtent, 1), (Loss::Masks, 1), (Loss::CrowdFlags, 1), (Loss::Areas, 1)];
    check(
        Format::Yolo,
        &[&flags[..], &plain[..]].concat(),
        files(
            "images/train",
            &[
                "data.yaml",
                "labels/train/1-2.txt",
                "labels/train/1.txt",
                "labels/train/empty.txt",
                "labels/train/gone.txt",
            ],
        ),
    );
    let flags =
        [(Loss::BoxesWithoutExtent, 1), (Loss::Polygons, 1), (Loss::Masks, 1), (Loss::CrowdFlags, 1), (Loss::Areas, 1)];
    let plain_csv = [(Loss::AnnotationIds, 3), (Loss::ImageIds, 4), (Loss::Fields, 4)];
    check(Format::Csv, &[&flags[..], &plain_csv[..]].concat(), files("images/train", &["classes.csv", "train.csv"]));
    let flags = [(Loss::BoxesWithoutExtent, 1), (Loss::Polygons, 1), (Loss::Masks, 1), (Loss::Areas, 1)];
    check(
        Format::OpenImages,
        &[&flags[..], &plain[..]].concat(),
        files("train", &["class-descriptions-boxable.csv", "train-annotations-bbox.csv", "train-images.csv"]),
    );
}

#[test]
fn coco_to_coco_keeps_everything() {
    let (folder, root) = sample();
    let output = folder.path().join("out");
    round_trip::convert(&root, Format::Coco, output.clone(), &probe);
    let [before, after] = [&root, &output].map(|path| {
        let mut request = DataRequest::new([path]);
        request.details = true;
        request.read(Some("train"), &probe).unwrap()
    });
    assert_eq!(before.classes, after.classes);
    assert_eq!(before.details, after.details);
    for (before, after) in before.images.iter().zip(&after.images) {
        assert_eq!(
            (before.id, before.size, &before.annotations, &before.details),
            (after.id, after.size, &after.annotations, &after.details)
        );
    }
}

#[test]
fn the_output_is_new_or_empty_or_replaced_on_demand() {
    let (folder, root) = sample();
    let output = folder.path().join("out");
    fs::create_dir(&output).unwrap();
    let mut conversion = Conversion::new(DataRequest::new([&root]), Format::Yolo, &output);
    let run = |conversion: &Conversion| conversion.run(&probe, &mut |_, _| ControlFlow::Continue(()));
    run(&conversion).unwrap();
    fs::write(output.join("mine.txt"), "mine").unwrap();
    let error = run(&conversion).unwrap_err().to_string();
    assert!(
        error.contains("out: output: expected a folder that is new or empty, found one with something in it"),
        "{error}"
    );
    assert!(output.join("mine.txt").is_file());
    conversion.overwrite = true;
    run(&conversion).unwrap();
    assert!(!output.join("mine.txt").exists() && output.join("data.yaml").is_file());
    // What is read is never replaced.
    for path in [folder.path().to_owned(), root.clone(), root.join("images")] {
        conversion.output = path;
        let error = run(&conversion).unwrap_err().to_string();
        assert!(
            error.contains("expected a folder without the data that is converted, found one that holds"),
            "{error}"
        );
    }
    conversion.output = root.join("annotations/instances_train2017.json");
    assert!(run(&conversion).unwrap_err().to_string().ends_with("found a file"));
    assert!(root.join("images/a/1.jpg").is_file() && root.join("annotations/instances_train2017.json").is_file());
}

#[test]
fn nothing_is_left_of_what_is_broken_off() {
    let (folder, root) = sample();
    let output = folder.path().join("deep/out");
    let conversion = Conversion::new(DataRequest::new([&root]), Format::Voc, &output);
    for stop_at in 0..=4 {
        let outcome = conversion.run(&probe, &mut |done, _| {
            if done == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(outcome.unwrap().is_none());
        assert_eq!(names(folder.path()).iter().filter(|name| !name.starts_with("source")).count(), 0);
    }
    // What a process left that was killed is removed by the next one.
    let left = folder.path().join("deep/.out.4000000-0.partial");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(".writing"), "").unwrap();
    conversion.run(&probe, &mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1);
}

#[test]
fn lists_that_overlap_are_one_set() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("voc");
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in ["1", "2", "3"] {
        write(
            &format!("Annotations/{name}.xml"),
            "<annotation><size><width>9</width><height>9</height></size></annotation>",
        );
        write(&format!("JPEGImages/{name}.jpg"), "9x9");
    }
    for (list, text) in [("train", "1\n2\n"), ("val", "3\n"), ("trainval", "1\n2\n3\n"), ("dog_train", "1 1\n2 -1\n")] {
        write(&format!("ImageSets/Main/{list}.txt"), text);
    }
    let output = folder.path().join("out");
    let converted = round_trip::convert(&root, Format::Yolo, output.clone(), &probe);
    let splits: Vec<(&str, usize)> = converted.splits.iter().map(|split| (split.name.as_str(), split.images)).collect();
    assert_eq!(splits, [("train", 2), ("val", 1)]);
    assert!(converted.problems.iter().any(|problem| problem.what.starts_with("split \"trainval\" is left out")));
    assert_eq!(converted.problems.count(Effect::ImageDropped), 0);
    assert_eq!(names(&output).iter().filter(|name| name.ends_with(".jpg")).count(), 3);
}

#[test]
fn an_undivided_set_is_divided_on_demand() {
    let (folder, root) = sample();
    let single = folder.path().join("single.json");
    fs::rename(root.join("annotations/instances_train2017.json"), &single).unwrap();
    let mut request = DataRequest::new([&single]);
    request.division.val_fraction = Some(0.25);
    let output = folder.path().join("out");
    let mut conversion = Conversion::new(request, Format::Coco, &output);
    conversion.images = ImageTransfer::None;
    let converted = conversion.run(&probe, &mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
    let names: Vec<(&str, usize)> = converted.splits.iter().map(|split| (split.name.as_str(), split.images)).collect();
    assert_eq!(names, [("train", 3), ("val", 1)]);
    let set = coco::read_ground_truth(&output.join("annotations/instances_val.json")).unwrap();
    assert_eq!(set.images.len(), 1);
}
