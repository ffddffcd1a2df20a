//! `retinanet losses` as scripts see it.

mod flawed;
mod run;
mod window;

use flawed::{SMALL, write_data};
use run::{check, path};

#[test]
fn losses_are_printed_and_drawn() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (run, picture) = (folder.path().join("run"), folder.path().join("losses.png"));
    write_data(folder.path());
    let train = ["train", "--data", path(folder.path()), "--output", path(&run), "--epochs", "1", "--threads", "2"];
    let small = SMALL.iter().flat_map(|assignment| ["--set", *assignment]);
    check(&train.into_iter().chain(small).collect::<Vec<_>>(), 1, "broken.bmp");
    let model = run.join("last.safetensors");
    let args = ["losses", "--model", path(&model), "--data", path(folder.path()), "--split", "train", "--threads", "2"];

    let output = check(&[&args[..], &["--json", "--output", path(&picture)]].concat(), 1, "broken.bmp");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let count = |side: &str| document[side]["examples"].as_u64().expect("a count");
    assert!(count("foreground") > 0 && count("background") > 50 * count("foreground"), "{document}");
    for side in ["foreground", "background"] {
        let curves = document[side]["curves"].as_array().expect("a list");
        let gammas: Vec<f64> = curves.iter().filter_map(|curve| curve["gamma"].as_f64()).collect();
        assert_eq!(gammas, [0.0, 0.5, 1.0, 2.0]);
        for curve in curves {
            let points: Vec<[f64; 2]> = serde_json::from_value(curve["cumulative"].clone()).expect("points");
            assert_eq!((points[0], points[points.len() - 1]), ([0.0, 0.0], [1.0, 1.0]));
            assert!(points.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1]), "{side} {curve}");
            // The easiest first: the curve is below the diagonal.
            assert!(points.iter().all(|[x, y]| *y <= x + 1e-9), "{side} {curve}");
        }
    }
    assert_eq!(document["errors"].as_array().map(Vec::len), Some(1));
    assert_eq!(&std::fs::read(&picture).expect("a picture")[1..4], b"PNG");

    let table = check(&[&args[..], &["--gamma", "3"]].concat(), 1, "");
    let text = String::from_utf8(table.stdout).expect("UTF-8");
    assert!(
        text.contains("hardest 20 % of the foreground") && text.lines().last().is_some_and(|row| row.starts_with('3'))
    );
    check(&[&args[..], &["--gamma", "-1"]].concat(), 2, "");
    check(&[&args[..], &["--gamma", "7"]].concat(), 2, "--gamma: expected a number within [0, 5], found 7");
    check(&[&args[..], &["--output", "losses.jpg"]].concat(), 2, "expected a name that ends in .png");
}
