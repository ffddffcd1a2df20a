//! What is computed in part has the bits of the whole.

use super::network::{Network, run_first, run_rest};
use retinanet_ops::kernels::cpu::inference::Precision;

/// Which locations of a level are wanted, given its rows and columns.
type Pattern = fn(height: usize, width: usize, row: usize, column: usize) -> bool;

const PATTERNS: [(&str, Pattern); 6] = [
    ("none", |_, _, _, _| false),
    ("all", |_, _, _, _| true),
    ("corners", |height, width, row, column| (row == 0 || row + 1 == height) && (column == 0 || column + 1 == width)),
    ("one in the middle", |height, width, row, column| row == height / 2 && column == width / 2),
    ("a column at the edge", |_, width, _, column| column + 1 == width),
    // Of the finest level alone: the others have fewer columns.
    ("a few", |_, width, row, column| width > 20 && (row * 31 + column * 17) % 41 == 0),
];

#[test]
fn every_storage_gives_the_same_bits_where_wanted() {
    let sizes = [(150, 118), (64, 97)];
    for group_norm in [false, true] {
        let network = Network::new(group_norm);
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let table = network.quantization(|name| name != "box.1");
            let mut session = network.plan(precision, Some(&table)).session();
            run_first(&mut session, &sizes, 0);
            let dense = run_rest(&mut session, sizes.len());
            for (name, pattern) in PATTERNS {
                // What lies in the memory of the box subnet is of other images.
                run_first(&mut session, &sizes, 5);
                run_rest(&mut session, sizes.len());
                run_first(&mut session, &sizes, 0);
                session.clear_wanted();
                let (mut wanted, mut total) = (0, 0);
                let outputs = || (0..3).flat_map(|level| (0..sizes.len()).map(move |image| (level, image)));
                for (level, image) in outputs() {
                    let (height, width) =
                        (session.rest_output(level, image).height, session.rest_output(level, image).width);
                    let mask = session.wanted_mut(level, image);
                    assert_eq!(mask.len(), height * width);
                    for (location, wants) in mask.iter_mut().enumerate() {
                        *wants = u8::from(pattern(height, width, location / width, location % width));
                        wanted += usize::from(*wants);
                        total += 1;
                    }
                }
                let share = session.run_rest_where_wanted();
                let what = format!("{name}, {precision:?}, group norm {group_norm}");
                assert!(share >= 0.999 * wanted as f64 / total as f64 && share <= 1.0, "{what}: share {share}");
                assert!(wanted > 0 || share == 0.0, "{what}: share {share}");
                assert!(group_norm || name != "one in the middle" || share < 0.5, "{what}: share {share}");
                for ((level, image), dense) in outputs().zip(&dense) {
                    let (height, width) =
                        (session.rest_output(level, image).height, session.rest_output(level, image).width);
                    let found = session.rest_output(level, image).values;
                    let channels = found.len() / (height * width);
                    for location in 0..height * width {
                        if pattern(height, width, location / width, location % width) {
                            let range = location * channels..(location + 1) * channels;
                            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                            assert_eq!(
                                bits(&found[range.clone()]),
                                bits(&dense[range]),
                                "{what}: level {level} image {image} location {location}"
                            );
                        }
                    }
                }
            }
        }
    }
}
