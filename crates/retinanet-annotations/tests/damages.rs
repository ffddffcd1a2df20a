//! What is damaged costs itself, in every format: an error or a counted problem with its place, and the rest is read.

use std::fs::{self, File};
use std::path::Path;

use retinanet_anchors::ImageSize;
use retinanet_annotations::{AnnotationError, AnnotationSet, Effect, Format, Problems, read};
use tempfile::tempdir;

const SIZE: ImageSize = ImageSize { width: 100, height: 100 };

/// The file that holds boxes, below the set's folder.
fn file(format: Format) -> &'static str {
    match format {
        Format::Coco => "annotations/instances.json",
        Format::Voc => "Annotations/a.xml",
        Format::Yolo => "labels/a.txt",
        Format::Csv => "annotations.csv",
        Format::OpenImages => "annotations-bbox.csv",
        _ => unreachable!("five formats"),
    }
}

/// A file with this object behind a good one of class `dog`; the good one alone where it is empty.
fn text(format: Format, object: &str) -> String {
    match format {
        Format::Coco => {
            let good = r#"{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400}"#;
            let objects = if object.is_empty() { good.to_owned() } else { format!("{good},\n{object}") };
            let image = r#"{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}"#;
            format!(
                "{{\"images\": [{image}],\n\"categories\": [{{\"id\": 1, \"name\": \"dog\"}}],\n\"annotations\": [{objects}]}}\n"
            )
        }
        Format::Voc => format!("<annotation>\n{}\n{object}</annotation>\n", voc("dog", ["11", "11", "30", "30"])),
        Format::Yolo => format!("0 0.2 0.2 0.2 0.2\n{object}\n"),
        Format::Csv => format!("a.jpg,10,10,30,30,dog\n{object}\n"),
        _ => format!("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/0bt9lr,0.1,0.3,0.1,0.3\n{object}\n"),
    }
}

fn voc(name: &str, [x0, y0, x1, y1]: [&str; 4]) -> String {
    format!(
        "<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
    )
}

fn coco(rest: &str) -> String {
    format!(r#"{{"id": 2, {rest}}}"#)
}

fn coco_box(bbox: &str) -> String {
    coco(&format!(r#""image_id": 1, "category_id": 1, "bbox": [{bbox}]"#))
}

fn read_bytes(format: Format, bytes: &[u8]) -> Result<AnnotationSet, AnnotationError> {
    let folder = tempdir().unwrap();
    write(folder.path(), format, bytes);
    read(folder.path(), None, &|_| Ok(SIZE))
}

/// The set around the file.
fn write(root: &Path, format: Format, bytes: &[u8]) {
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write(file(format), bytes);
    write("images/a.jpg", b"");
    match format {
        Format::Yolo => write("data.yaml", b"names: [dog]\n"),
        Format::Csv => write("classes.csv", b"dog,0\n"),
        Format::OpenImages => write("class-descriptions-boxable.csv", b"/m/0bt9lr,dog\n"),
        _ => {}
    }
}

/// The good box stays, the other one is left out or, where `is_kept`, noted, with this text and its place.
#[track_caller]
fn check(format: Format, object: &str, place: &str, expected: &str, is_kept: bool) {
    let set = read_bytes(format, text(format, object).as_bytes()).unwrap();
    let problems: Vec<String> = set.problems.iter().map(ToString::to_string).collect();
    let [problem] = problems.as_slice() else { panic!("{format}: {object}: {problems:?}") };
    let (effect, boxes) = if is_kept { (Effect::Noted, 2) } else { (Effect::BoxDropped, 1) };
    assert_eq!((set.num_annotations(), set.problems.count(effect)), (boxes, 1), "{format}: {object}: {problems:?}");
    assert!(problem.contains(place) && problem.contains(expected), "{format}: {object}: {problem}");
    let name = Path::new(file(format)).file_name().unwrap().to_str().unwrap();
    assert!(problem.contains(name), "{problem}");
}

#[test]
fn boxes_without_sense_are_told_with_their_place() {
    let cases = [
        ("10,10,0,20", "0.2 0.2 0 0.2", ["10", "10", "10", "30"], "box has non-positive width: expected > 0, found 0"),
        (
            "10,10,20,-5",
            "0.2 0.2 0.2 -0.05",
            ["10", "30", "30", "25"],
            "box has non-positive height: expected > 0, found -5",
        ),
        (
            "10,10,-20,20",
            "0.2 0.2 -0.2 0.2",
            ["30", "10", "10", "30"],
            "box has non-positive width: expected > 0, found -20",
        ),
        ("\"NaN\",10,20,20", "NaN 0.2 0.2 0.2", ["NaN", "10", "30", "30"], "expected"),
        ("10,10,1e308,1e308", "0.2 0.2 1e308 1e308", ["10", "10", "1e308", "1e308"], "box is not finite: expected"),
        ("10,10,\"inf\",20", "0.2 0.2 inf 0.2", ["10", "10", "inf", "30"], "expected"),
    ];
    for (coco, yolo, [x0, y0, x1, y1], expected) in cases {
        let is_kept = expected.contains("non-positive");
        check(Format::Coco, &coco_box(coco), ": annotation 2: ", expected, is_kept);
        check(Format::Voc, &voc("dog", [x0, y0, x1, y1]), ": line 3: ", expected, false);
        check(Format::Yolo, &format!("0 {yolo}"), ": line 2: ", expected, false);
        check(Format::Csv, &format!("a.jpg,{x0},{y0},{x1},{y1},dog"), ": line 2: ", expected, false);
        let part = |text: &str| {
            text.parse().ok().filter(|v: &f64| *v < 1e300).map_or(text.to_owned(), |v| (v / 100.0).to_string())
        };
        let [x0, y0, x1, y1] = [x0, y0, x1, y1].map(part);
        let row = format!("a,/m/0bt9lr,{x0},{x1},{y0},{y1}");
        check(Format::OpenImages, &row, ": line 3: ", expected.split(", found").next().unwrap(), false);
    }
}

#[test]
fn unknown_ids_and_missing_parts_are_told_with_their_place() {
    let coco_case = |rest: &str, expected| check(Format::Coco, &coco(rest), ": annotation 2: ", expected, false);
    coco_case(
        r#""image_id": 9, "category_id": 1, "bbox": [1, 1, 2, 2]"#,
        "image_id: expected the id of an image, found 9",
    );
    coco_case(
        r#""image_id": 1, "category_id": 9, "bbox": [1, 1, 2, 2]"#,
        "category_id: expected the id of a category, found 9",
    );
    coco_case(r#""image_id": 1, "category_id": 1"#, "bbox: expected four numbers, found nothing");
    coco_case(r#""category_id": 1, "bbox": [1, 1, 2, 2]"#, "image_id: expected the id of an image, found nothing");
    let twice = r#"{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}"#;
    check(Format::Coco, twice, ": annotations[1]: ", "id is used again", true);
    check(Format::Voc, "<object><name>dog</name></object>", ": line 3: ", "bndbox: expected one, found nothing", false);
    check(Format::Voc, &voc("", ["1", "1", "5", "5"]), ": line 3: ", "name: expected text, found nothing", false);
    check(Format::Voc, &voc("dog", ["1", "", "5", "5"]), ": line 3: ", "ymin: expected a number, found nothing", false);
    check(Format::Yolo, "7 0.2 0.2 0.2 0.2", ": line 2: ", "class: expected one of 0..=0, found \"7\"", false);
    check(Format::Yolo, "0 0.2 0.2", ": line 2: ", "columns: expected 5", false);
    check(
        Format::Csv,
        "a.jpg,1,2,3,4,cat",
        ": line 2: ",
        "class: expected one of the class file, found \"cat\"",
        false,
    );
    check(Format::Csv, "a.jpg,1,,3,4,dog", ": line 2: ", "y1: expected a finite number, found nothing", false);
    check(Format::Csv, "a.jpg,,,,,dog", ": line 2: ", "box: expected four numbers for the class", false);
    check(Format::Csv, "a.jpg,1,2,3,4", ": line 2: ", "class: expected a name, found nothing", false);
    check(Format::Csv, ",1,2,3,4,dog", ": line 2: ", "path: expected one, found nothing", false);
    check(
        Format::OpenImages,
        "a,/m/none,0.1,0.3,0.1,0.3",
        ": line 3: ",
        "LabelName: expected a described label",
        false,
    );
    check(Format::OpenImages, "a,/m/0bt9lr,0.1,0.3", ": line 3: ", "YMin: expected a finite number, found \"\"", false);
    check(
        Format::OpenImages,
        ",/m/0bt9lr,0.1,0.3,0.1,0.3",
        ": line 3: ",
        "ImageID: expected one, found nothing",
        false,
    );
}

#[test]
fn marks_and_line_ends_of_other_systems_change_nothing() {
    for format in Format::ALL {
        let good = text(format, "");
        let expected = read_bytes(format, good.as_bytes()).unwrap();
        assert_eq!((expected.num_annotations(), expected.problems.len()), (1, 0), "{format}: {:?}", expected.problems);
        let marked = [b"\xef\xbb\xbf", good.as_bytes()].concat();
        for bytes in [marked.as_slice(), good.replace('\n', "\r\n").as_bytes()] {
            let found = read_bytes(format, bytes).unwrap();
            assert_eq!((found.num_annotations(), found.problems.len()), (1, 0), "{format}: {:?}", found.problems);
            assert_eq!(found.images[0].annotations, expected.images[0].annotations, "{format}");
            assert_eq!(found.images[0].annotations[0].xywh.map(f64::round), [10.0, 10.0, 20.0, 20.0], "{format}");
        }
    }
}

/// An error, or a set in which the damage is counted, says this.
#[track_caller]
fn check_whole(format: Format, bytes: &[u8], expected: &str) {
    let message = match read_bytes(format, bytes) {
        Err(error) => error.to_string(),
        Ok(set) => {
            assert!(set.problems.count(Effect::ImageDropped) > 0, "{format}: {:?}", set.problems);
            set.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        }
    };
    assert!(message.contains(expected), "{format}: {message}");
}

#[test]
fn utf_16_is_named() {
    for format in [Format::Voc, Format::Yolo] {
        let text = text(format, "");
        let little: Vec<u8> =
            [0xfffe_u16.swap_bytes()].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = [0xfeff_u16].into_iter().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
        for bytes in [little, big] {
            check_whole(format, &bytes, "text: expected UTF-8, found UTF-16");
        }
    }
    for (format, path) in
        [(Format::Coco, "a.json"), (Format::Csv, "a.csv"), (Format::OpenImages, "a.csv"), (Format::Yolo, "a.yaml")]
    {
        let folder = tempdir().unwrap();
        let path = folder.path().join(path);
        fs::write(
            &path,
            text(format, "").encode_utf16().fold(vec![0xff, 0xfe], |mut bytes, unit| {
                bytes.extend(unit.to_le_bytes());
                bytes
            }),
        )
        .unwrap();
        let error = read(&path, None, &|_| Ok(SIZE)).unwrap_err().to_string();
        assert!(error.contains("text: expected UTF-8, found UTF-16"), "{format}: {error}");
    }
}

#[test]
fn files_cut_short_are_read_or_refused_and_never_more_than_was_there() {
    for format in Format::ALL {
        let whole = text(format, "");
        for end in (0..whole.len()).step_by(3) {
            if let Ok(set) = read_bytes(format, &whole.as_bytes()[..end]) {
                assert!(set.num_annotations() <= 1, "{format}");
            }
        }
    }
    check_whole(Format::Coco, &text(Format::Coco, "").as_bytes()[..100], "instances.json: line 2, column ");
    check_whole(Format::Voc, &text(Format::Voc, "").as_bytes()[..60], "a.xml: line 1");
}

#[test]
fn bombs_are_refused() {
    let mut laughs = "<!DOCTYPE annotation [<!ENTITY a0 \"ha\">".to_owned();
    for level in 1..12 {
        laughs += &format!("<!ENTITY a{level} \"{}\">", format!("&a{};", level - 1).repeat(10));
    }
    laughs += "]><annotation><object><name>&a11;</name></object></annotation>";
    check_whole(Format::Voc, laughs.as_bytes(), "XML: ");
    let nested = format!("<annotation>{}</annotation>", "<a>".repeat(100_000));
    check_whole(Format::Voc, nested.as_bytes(), "XML: ");
}

#[test]
fn two_hundred_megabytes_on_one_line_are_refused_in_little_memory() {
    for format in [Format::Voc, Format::Yolo, Format::Csv, Format::OpenImages] {
        let folder = tempdir().unwrap();
        write(folder.path(), format, text(format, "").as_bytes());
        // The rest of the last line is zeros, of which the file system keeps none.
        File::options().append(true).open(folder.path().join(file(format))).unwrap().set_len(200 << 20).unwrap();
        let message = match read(folder.path(), None, &|_| Ok(SIZE)) {
            Err(error) => error.to_string(),
            Ok(set) => set.problems.iter().map(ToString::to_string).collect(),
        };
        assert!(message.contains("expected at most"), "{format}: {message}");
    }
}

#[test]
fn a_hundred_thousand_bad_lines_are_counted_and_few_are_kept() {
    for (format, line) in [
        (Format::Yolo, "0 0.2 0.2 0 0.2\n"),
        (Format::Csv, "a.jpg,3,3,1,9,dog\n"),
        (Format::OpenImages, "a,/m/0bt9lr,0.3,0.1,0.1,0.3\n"),
    ] {
        let set = read_bytes(format, text(format, &line.repeat(100_000)).as_bytes()).unwrap();
        assert_eq!((set.num_annotations(), set.num_dropped_boxes()), (1, 100_000), "{format}");
        assert_eq!(set.problems.iter().count(), Problems::KEPT_PER_KIND, "{format}");
    }
}

#[test]
fn names_that_lead_out_are_told_and_stay_inside_where_nothing_is_there() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    let outside = folder.path().join("outside.jpg");
    write(&root, Format::Csv, b"");
    fs::write(&outside, "").unwrap();
    let absolute = outside.to_str().unwrap().to_owned();
    for (name, expected) in [
        ("../outside.jpg", root.join("../outside.jpg")),
        (absolute.as_str(), outside.clone()),
        ("../../nothing/a.jpg", root.join("images/a.jpg")),
        ("/nothing/a.jpg", root.join("images/a.jpg")),
        ("C:\\nothing\\a.jpg", root.join("images/a.jpg")),
    ] {
        let json = name.replace('\\', "\\\\");
        let coco = text(Format::Coco, "").replace("a.jpg", &json);
        let table = text(Format::Csv, "").replace("a.jpg", name);
        for (path, text) in [("a.json", coco), ("b.csv", table)] {
            let path = root.join(path);
            fs::write(&path, text).unwrap();
            let set = read(&path, None, &|_| Ok(SIZE)).unwrap();
            assert_eq!(set.images[0].path, expected, "{name}");
            let problems: Vec<String> = set.problems.iter().map(ToString::to_string).collect();
            assert!(problems.len() == 1 && problems[0].contains("name leads out of the set"), "{name}: {problems:?}");
        }
    }
    // Pascal VOC and Open Images only know names.
    let xml = "<annotation><filename>../../outside.jpg</filename></annotation>";
    let set = read_bytes(Format::Voc, xml.as_bytes()).unwrap();
    assert!(set.images[0].path.ends_with("images/a.jpg"), "{:?}", set.images[0].path);
    let table = text(Format::OpenImages, "../../outside,/m/0bt9lr,0.1,0.3,0.1,0.3");
    let set = read_bytes(Format::OpenImages, table.as_bytes()).unwrap();
    assert_eq!((set.images.len(), set.problems.len()), (1, 1));
}
