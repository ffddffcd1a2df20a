//! Norms and sums over pixels against the processor's kernels, in odd sizes.

mod support;

use retinanet_cuda::kernels::{
    batch_norm, batch_norm_gradient, batch_norm_statistics, batch_norm_statistics_bytes, channel_sums, group_norm,
    group_norm_gradient, group_norm_statistics_bytes, norm_workspace_bytes,
};
use retinanet_cuda::{Activation, Element};
use retinanet_ops::kernels::ImageShape;
use retinanet_ops::kernels::cpu::{self, Isa};
use support::{check_close, devices, download, download_f64, empty, epsilon, numbers, numbers_of, rounded, upload};

const SHAPES: [[usize; 4]; 8] = [
    [1, 1, 1, 1],
    [2, 1, 1, 8],
    [1, 3, 5, 12],
    [2, 7, 9, 20],
    [3, 4, 5, 64],
    [1, 5, 3, 136],
    [2, 33, 17, 16],
    [1, 2, 2, 600],
];
const EPSILON: f64 = 1e-5;

fn shape([batch, height, width, channels]: [usize; 4]) -> ImageShape {
    ImageShape { batch, height, width, channels }
}

/// Numbers whose mean is far from 0 beside their deviation.
fn shifted(element: Element, seed: u64, count: usize) -> Vec<f32> {
    let values: Vec<f32> = numbers(seed, count).iter().map(|value| 3.0 + value).collect();
    rounded(element, &values)
}

fn for_each_case(mut body: impl FnMut(&std::sync::Arc<dyn retinanet_cuda::Device>, Element, &ImageShape)) {
    for device in devices() {
        for element in Element::ALL {
            for dimensions in SHAPES {
                body(&device, element, &shape(dimensions));
            }
        }
    }
}

#[test]
fn batch_norm_and_its_gradient_are_those_of_the_processor() {
    for_each_case(|device, element, shape| {
        let (count, channels, isa) = (shape.len(), shape.channels, Isa::detect());
        let what = format!("{element:?} {shape:?}");
        let (x, residual) = (shifted(element, 1, count), numbers_of(element, 2, count));
        let (weight, bias, y_gradient) = (numbers(3, channels), numbers(4, channels), numbers_of(element, 5, count));
        let mut workspace = vec![0.0; cpu::batch_norm_workspace_len(shape)];
        let mut statistics = vec![0.0; 2 * channels];
        cpu::batch_norm_statistics(isa, shape, &x, &mut statistics, &mut workspace);

        let on_device = upload(device, element, &x);
        let (weight_on, bias_on) = (upload(device, Element::F32, &weight), upload(device, Element::F32, &bias));
        let statistics_on = empty(device, batch_norm_statistics_bytes(channels));
        let workspace_on = empty(device, norm_workspace_bytes(shape));
        batch_norm_statistics(element, shape, on_device.span(), statistics_on.span(), workspace_on.span()).unwrap();
        for (found, expected) in download_f64(&statistics_on, 2 * channels).iter().zip(&statistics) {
            assert!((found - expected).abs() <= 2e-6, "{what}: statistics: expected {expected}, found {found}");
        }

        for (activation, with_residual) in
            [(Activation::None, false), (Activation::Relu, true), (Activation::Relu, false)]
        {
            let mut expected = vec![0.0; count];
            let residual_of = with_residual.then_some(residual.as_slice());
            cpu::batch_norm(
                isa,
                shape,
                EPSILON,
                &x,
                &weight,
                &bias,
                &statistics,
                residual_of,
                activation,
                &mut expected,
                &mut workspace,
            );
            let residual_on = with_residual.then(|| upload(device, element, &residual));
            let y = empty(device, count * element.size());
            batch_norm(
                element,
                shape,
                EPSILON,
                on_device.span(),
                (weight_on.span(), bias_on.span()),
                statistics_on.span(),
                residual_on.as_ref().map(|residual| residual.span()),
                activation,
                y.span(),
                workspace_on.span(),
            )
            .unwrap();
            // A pixel alone has no deviation: what is left of x - mean is enlarged by 1 / sqrt(epsilon).
            let tolerance = epsilon(element) + if shape.num_pixels() < 3 { 3e-4 } else { 3e-6 };
            check_close(&what, &download(&y, element, count), &expected, tolerance);
        }

        let (mut x_gradient, mut weight_gradient, mut bias_gradient) =
            (y_gradient.clone(), vec![0.0; channels], vec![0.0; channels]);
        cpu::batch_norm_gradient(
            isa,
            shape,
            EPSILON,
            &x,
            &weight,
            &statistics,
            None,
            None,
            &mut x_gradient,
            &mut weight_gradient,
            &mut bias_gradient,
            &mut workspace,
        );
        // In place, and added to 1.
        let gradient_on = upload(device, element, &y_gradient);
        let ones = vec![1.0; channels];
        let parameters = [upload(device, Element::F32, &ones), upload(device, Element::F32, &ones)];
        batch_norm_gradient(
            element,
            shape,
            EPSILON,
            on_device.span(),
            weight_on.span(),
            statistics_on.span(),
            gradient_on.span(),
            gradient_on.span(),
            (Some(parameters[0].span()), Some(parameters[1].span())),
            workspace_on.span(),
        )
        .unwrap();
        if shape.num_pixels() > 2 {
            check_close(&what, &download(&gradient_on, element, count), &x_gradient, epsilon(element) + 1e-5);
            for (memory, expected) in parameters.iter().zip([weight_gradient, bias_gradient]) {
                let expected: Vec<f32> = expected.iter().map(|value| value + 1.0).collect();
                check_close(&what, &download(memory, Element::F32, channels), &expected, 1e-5);
            }
        }
    });
}

#[test]
fn group_norm_and_its_gradient_are_those_of_the_processor() {
    for_each_case(|device, element, shape| {
        for groups in [1, 4, shape.channels].into_iter().filter(|&groups| shape.channels.is_multiple_of(groups)) {
            let (count, channels, isa) = (shape.len(), shape.channels, Isa::detect());
            let what = format!("{element:?} {shape:?} {groups}");
            let (x, y_gradient) = (shifted(element, 1, count), numbers_of(element, 5, count));
            let (weight, bias) = (numbers(3, channels), numbers(4, channels));
            let mut workspace = vec![0.0; cpu::group_norm_workspace_len(shape)];
            let (mut statistics, mut expected) = (vec![0.0; shape.batch * groups * 2], vec![0.0; count]);
            cpu::group_norm(
                isa,
                shape,
                groups,
                EPSILON,
                &x,
                &weight,
                &bias,
                None,
                Activation::Relu,
                &mut expected,
                &mut statistics,
                &mut workspace,
            );

            let on_device = upload(device, element, &x);
            let (weight_on, bias_on) = (upload(device, Element::F32, &weight), upload(device, Element::F32, &bias));
            let statistics_on = empty(device, group_norm_statistics_bytes(shape.batch, groups));
            let (workspace_on, y) = (empty(device, norm_workspace_bytes(shape)), empty(device, count * element.size()));
            group_norm(
                element,
                shape,
                groups,
                EPSILON,
                on_device.span(),
                (weight_on.span(), bias_on.span()),
                statistics_on.span(),
                None,
                Activation::Relu,
                y.span(),
                workspace_on.span(),
            )
            .unwrap();
            let numbers_of_group = shape.height * shape.width * channels / groups;
            let tolerance = epsilon(element) + if numbers_of_group < 3 { 3e-4 } else { 3e-6 };
            check_close(&what, &download(&y, element, count), &expected, tolerance);
            if numbers_of_group < 3 {
                continue;
            }

            let (mut x_gradient, mut weight_gradient, mut bias_gradient) =
                (vec![0.0; count], vec![0.0; channels], vec![0.0; channels]);
            cpu::group_norm_gradient(
                isa,
                shape,
                groups,
                &x,
                &weight,
                &statistics,
                Some(&y_gradient),
                None,
                &mut x_gradient,
                &mut weight_gradient,
                &mut bias_gradient,
                &mut workspace,
            );
            let (from, to) = (upload(device, element, &y_gradient), empty(device, count * element.size()));
            let zeros = vec![0.0; channels];
            let parameters = [upload(device, Element::F32, &zeros), upload(device, Element::F32, &zeros)];
            group_norm_gradient(
                element,
                shape,
                groups,
                on_device.span(),
                weight_on.span(),
                statistics_on.span(),
                from.span(),
                to.span(),
                (Some(parameters[0].span()), Some(parameters[1].span())),
                workspace_on.span(),
            )
            .unwrap();
            check_close(&what, &download(&to, element, count), &x_gradient, epsilon(element) + 1e-5);
            for (memory, expected) in parameters.iter().zip([weight_gradient, bias_gradient]) {
                check_close(&what, &download(memory, Element::F32, channels), &expected, 1e-5);
            }
        }
    });
}

#[test]
fn a_bias_gets_the_sum_over_pixels_and_equal_runs_give_equal_bits() {
    for_each_case(|device, element, shape| {
        let (count, channels) = (shape.len(), shape.channels);
        let x = numbers_of(element, 7, count);
        let mut expected = vec![2.0f64; channels];
        x.iter().enumerate().for_each(|(i, &value)| expected[i % channels] += f64::from(value));
        let expected: Vec<f32> = expected.iter().map(|&value| value as f32).collect();
        let (memory, workspace) = (upload(device, element, &x), empty(device, norm_workspace_bytes(shape)));
        let run = || {
            let sums = upload(device, Element::F32, &vec![2.0; channels]);
            channel_sums(element, shape, memory.span(), sums.span(), workspace.span()).unwrap();
            download(&sums, Element::F32, channels)
        };
        let found = run();
        check_close(&format!("{element:?} {shape:?}"), &found, &expected, 1e-6);
        assert_eq!(found, run());
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    for device in devices() {
        let (shape, memory) = (shape([1, 2, 2, 6]), empty(&device, 4096));
        let (x, short) = (memory.span(), memory.span().part(0, 12));
        let refused = channel_sums(Element::F32, &shape, short, x, x).unwrap_err().to_string();
        assert_eq!(refused, "sums over pixels: a: expected 24 numbers of 4 bytes, found 12 bytes");
        let refused = group_norm(Element::F32, &shape, 4, EPSILON, x, (x, x), x, None, Activation::None, x, x);
        assert_eq!(refused.unwrap_err().to_string(), "group norm: channels: expected a multiple of 4 groups, found 6");
    }
}
