//! The manifest of this workspace, and manifests with flaws.

mod server;

use retinanet_zoo::{
    Cache, Digest, Entry, Format, Located, Manifest, MetricKind, Size, Source, State, Task, Zoo, ZooError,
};
use server::manifest;
use std::collections::BTreeSet;
use std::path::Path;

/// The digits that a publisher put between the last `-` or `_` of a file's name and its ending.
fn digits_of_name(file: &str) -> Option<&str> {
    let (stem, _) = file.rsplit_once('.')?;
    let digits = stem.rsplit(['-', '_']).next()?;
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && digits.len() >= 6).then_some(digits)
}

#[test]
fn every_published_file_is_described_as_its_publisher_does() {
    let manifest = Manifest::embedded();
    assert_eq!(manifest.models().len(), 31);
    for entry in manifest.models() {
        let Entry { name, file, source, digest, size, task, .. } = entry;
        assert!(entry.page.starts_with("https://"), "{name}");
        assert!(!entry.licence.is_empty() && !entry.metric.data.is_empty(), "{name}");
        let url = match source {
            Source::Shipped(path) => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
                let cache = Cache::new("unused").with_shipped([root]);
                assert!(path.ends_with(file.as_str()), "{name}");
                assert!(cache.verify(entry).expect("the right file").is_some(), "{name}");
                continue;
            }
            Source::Url(url) => url,
        };
        assert!(url.starts_with("https://") && url.ends_with(&format!("/{file}")), "{name}");
        // The digits in the file's name are SHA-256 for torchvision and MMDetection, MD5 for Detectron2.
        let in_name = digits_of_name(file).unwrap_or_else(|| panic!("{name}: {file}"));
        match (entry.format, digest) {
            (Format::Detectron2, Digest::Md5(digits)) => assert_eq!(digits, in_name, "{name}"),
            (Format::Torchvision | Format::Mmdetection, Digest::Sha256(digits)) => {
                assert!(digits.starts_with(in_name), "{name}");
                assert!([8, 64].contains(&digits.len()), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(size.is_some(), entry.format == Format::Torchvision, "{name}");
        let (metric, num_classes) = match task {
            Task::Detector => (MetricKind::BoxAp, if entry.format == Format::Torchvision { 91 } else { 80 }),
            Task::Backbone => (MetricKind::Top1, 1000),
        };
        assert_eq!((entry.metric.kind, entry.classes.num_classes()), (metric, Some(num_classes)), "{name}");
        assert_eq!(entry.preprocessing.min_size.is_some(), *task == Task::Detector, "{name}");
    }
    let unique = |what: fn(&Entry) -> &str| manifest.models().iter().map(what).collect::<BTreeSet<_>>().len();
    assert_eq!((unique(|entry| &entry.name), unique(|entry| &entry.file)), (31, 31));
}

#[track_caller]
fn check_error(from: &str, to: &str, expected: &str) {
    let good = manifest("https://example.org/tiny.pth", "{ sha256 = \"0123456789abcdef\" }", Some("{ bytes = 4 }"));
    Manifest::parse(&good, "list.toml").expect("a good manifest");
    assert!(good.contains(from), "{from}");
    let error = Manifest::parse(&good.replace(from, to), "list.toml").expect_err(to).to_string();
    assert!(error.starts_with("list.toml: line ") && error.contains(expected), "expected {expected:?} in {error:?}");
}

#[test]
fn flaws_are_named_with_their_line() {
    check_error("name = \"tiny\"", "name = \"ti ny\"", "line 2: name: expected lower-case letters");
    check_error("name = \"tiny\"", "name = \"../tiny\"", "found \"../tiny\"");
    check_error("name = \"tiny\"", "nam = \"tiny\"", "line 3: unknown field `nam`");
    check_error("name = \"tiny\"", "name = tiny", "line 3: ");
    check_error("file = \"tiny.pth\"", "file = \"../../tiny.pth\"", "file: expected a plain file name");
    check_error("file = \"tiny.pth\"", "file = \".lock\"", "file: expected a plain file name");
    check_error("file = \"tiny.pth\"", "file = \"a\\\\b\"", "file: expected a plain file name");
    check_error("https://example.org/tiny.pth", "ftp://example.org/tiny.pth", "source.url: expected an address");
    check_error("{ url = \"https://example.org/tiny.pth\" }", "{ shipped = \"/etc/passwd\" }", "source.shipped");
    check_error("{ url = \"https://example.org/tiny.pth\" }", "{ shipped = \"a/../../b\" }", "without ..");
    check_error("0123456789abcdef", "01234", "sha256: expected 6 to 64 lower-case hexadecimal digits, found \"01234\"");
    check_error("0123456789abcdef", "0123456789ABCDEF", "lower-case hexadecimal");
    check_error("0123456789abcdef", &"0".repeat(65), "6 to 64");
    check_error("sha256", "sha1", "unknown variant `sha1`");
    check_error("\"coco91\"", "\"coco92\"", "unknown variant `coco92`");
    check_error("\"resnet18\"", "\"resnet19\"", "resnet18");
    check_error("12.5", "112.5", "metric.percent: expected 0 to 100, found \"112.5\"");
    check_error("licence = \"CC0-1.0\"\n", "", "missing field `licence`");
    let good = manifest("https://example.org/tiny.pth", "\"unknown\"", None);
    let twice = format!("{good}{good}");
    let error = Manifest::parse(&twice, "list.toml").expect_err("two of a name").to_string();
    assert_eq!(error, "list.toml: line 16: name: expected one model \"tiny\", found two");
    let error = Manifest::read(Path::new("nowhere.toml")).expect_err("no file").to_string();
    assert!(error.starts_with("nowhere.toml: cannot read: "), "{error}");
}

#[test]
fn sizes_fit_as_far_as_they_are_known() {
    for (size, bytes, fits) in [
        (Size::Bytes(136_595_076), 136_595_076, true),
        (Size::Bytes(136_595_076), 136_595_075, false),
        (Size::Mib(130.267), 136_595_076, true),
        (Size::Mib(130.267), 136_595_076 + 2000, false),
        (Size::Mib(130.267), 136_595_076 - 2000, false),
        (Size::Mib(97.79), 102_540_417, true),
        (Size::Mib(97.781), 102_530_333, true),
        (Size::Mib(0.0), 0, true),
    ] {
        assert_eq!(size.fits(bytes), fits, "{size}: {bytes}");
    }
}

fn zoo() -> Zoo {
    Zoo { manifest: Manifest::embedded(), cache: Cache::new("unused"), options: Default::default() }
}

#[track_caller]
fn check_nearest(name: &str, expected: &[&str]) {
    match zoo().locate(Path::new(name)) {
        Err(ZooError::UnknownModel { nearest, .. }) => assert_eq!(nearest, expected, "{name}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_names_are_told_the_nearest() {
    check_nearest("torchvison_r50_v1", &["torchvision_r50_v1", "torchvision_r50_v2"]);
    check_nearest("Torchvision_R50_V2", &["torchvision_r50_v2", "torchvision_r50_v1"]);
    check_nearest("torchvision_r50", &["torchvision_r50_v1", "torchvision_r50_v2"]);
    check_nearest("imagenet_r18", &["imagenet_r18_v1"]);
    check_nearest("yolo", &[]);
    let error = zoo().locate(Path::new("torchvision_r50")).expect_err("no such name").to_string();
    let expected = "model \"torchvision_r50\": expected a file or the name of a model, found neither; did you mean \
                    torchvision_r50_v1 or torchvision_r50_v2?";
    assert_eq!(error, expected);
}

#[test]
fn an_existing_file_wins_over_a_name() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("torchvision_r50_v1");
    std::fs::write(&file, "a model of one's own")?;
    let zoo = zoo();
    assert_eq!(zoo.locate(&file).expect("a file"), Located::File(&file));
    let located = zoo.locate(Path::new("torchvision_r50_v1")).expect("a name");
    assert!(matches!(located, Located::Model(entry) if entry.name == "torchvision_r50_v1"));
    for (argument, expected) in [
        (folder.path().join("last.safetensors"), "last.safetensors: expected a model file, found nothing there"),
        (folder.path().to_owned(), ": expected a model file, found a folder"),
        ("missing.pth".into(), "missing.pth: expected a model file, found nothing there"),
        ("runs/torchvision_r50_v1".into(), "runs/torchvision_r50_v1: expected a model file, found nothing there"),
        ("".into(), ": expected a model file, found nothing there"),
    ] {
        let error = zoo.locate(&argument).expect_err("no file").to_string();
        assert!(error.ends_with(expected), "expected {expected:?} in {error:?}");
    }
    Ok(())
}

#[test]
fn another_manifest_comes_first() {
    let own = manifest("http://localhost/tiny.pth", "\"unknown\"", None).replace("\"tiny\"", "\"torchvision_r50_v1\"");
    let both = Manifest::parse(&own, "own.toml").expect("a manifest").or(Manifest::embedded());
    assert_eq!(both.models().len(), 31);
    assert_eq!(both.get("torchvision_r50_v1").expect("a name").file, "tiny.pth");
    assert_eq!(both.get("torchvision_r50_v2").expect("a name").format, Format::Torchvision);
}

#[test]
fn what_ships_is_found_below_the_folders_that_are_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = Manifest::embedded();
    let entry = manifest.get("blood_cells_r18").expect("ours");
    let fetch = |cache: &Cache| cache.fetch(entry, &Default::default(), &mut |event| panic!("{event:?}"));
    let cache = Cache::new("unused").with_shipped(["nowhere".into(), root.clone()]);
    assert!(fetch(&cache).expect("it ships").ends_with("weights/blood_cells_r18.safetensors"));
    assert!(matches!(cache.state(entry), State::Here(_)));
    let cache = Cache::new("unused").with_shipped(["nowhere".into()]);
    assert_eq!(cache.state(entry), State::Missing);
    let error = fetch(&cache).expect_err("it is not there").to_string();
    assert!(error.contains("expected weights/blood_cells_r18.safetensors below nowhere, found none"), "{error}");
    assert!(!Path::new("unused").exists());
}
