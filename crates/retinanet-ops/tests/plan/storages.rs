//! Lower precisions: near single precision, and only where they are asked for.

use super::network::{Network, relative_error, run_first, run_rest};
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::plan::Plan;
use std::collections::BTreeMap;

const SIZES: [(usize, usize); 2] = [(75, 96), (33, 64)];

/// The largest relative error of an output against f32.
fn error(network: &Network, plan: &Plan) -> f64 {
    let outputs = |plan: &Plan| {
        let mut session = plan.session();
        let mut outputs = run_first(&mut session, &SIZES, 0);
        outputs.extend(run_rest(&mut session, SIZES.len()));
        outputs
    };
    let expected = outputs(&network.plan(Precision::F32, None));
    let found = outputs(plan);
    let errors = found.iter().zip(&expected).map(|(found, expected)| relative_error(found, expected));
    errors.fold(0.0, f64::max)
}

#[test]
fn bf16_is_near_f32() {
    for group_norm in [false, true] {
        let network = Network::new(group_norm);
        let found = error(&network, &network.plan(Precision::Bf16, None));
        assert!(found > 1e-4 && found < 0.03, "relative error {found}");
    }
}

#[test]
fn int8_is_near_f32_whichever_layers_it_has() {
    let passes: [fn(&str) -> bool; 5] = [
        |_| true,
        |name| name != "stem",
        // A value that is read in 8 bits and in a higher precision.
        |name| name != "box.0" && name != "block.1",
        |name| name.starts_with("class"),
        |name| name == "block.2" || name == "shortcut",
    ];
    for group_norm in [false, true] {
        let network = Network::new(group_norm);
        for passes in passes {
            let table = network.quantization(passes);
            let found = error(&network, &network.plan(Precision::Int8, Some(&table)));
            assert!(found > 1e-4 && found < 0.15, "{:?}: relative error {found}", table.layers.keys());
        }
    }
}

#[test]
fn layers_multiply_what_the_table_says() {
    let network = Network::new(false);
    let table = network.quantization(|name| name.starts_with("class"));
    let precisions = |precision: Precision| -> BTreeMap<String, Precision> {
        let plan = network.plan(precision, Some(&table));
        plan.layers().map(|layer| (layer.name.to_owned(), layer.precision)).collect()
    };
    assert!(precisions(Precision::F32).values().all(|&precision| precision == Precision::F32));
    assert!(precisions(Precision::Bf16).values().all(|&precision| precision == Precision::Bf16));
    let high = if Isa::detect().has_bf16_products() { Precision::Bf16 } else { Precision::F32 };
    for (name, precision) in precisions(Precision::Int8) {
        assert_eq!(precision, if name.starts_with("class") { Precision::Int8 } else { high }, "{name}");
    }
}
