//! Everything between norms, number by number and map by map, against the processor's kernels.

mod support;

use proptest::prelude::*;
use retinanet_cuda::kernels::{
    accumulate, add, convert, fold_norm, gate, max_pool, max_pool_gradient, pack_weight, relu, relu_gradient,
    unpack_weight_gradient, update_running_statistics, upsample_add, upsample_gradient,
};
use retinanet_cuda::{Activation, Element, Memory};
use retinanet_ops::kernels::cpu::{self, Isa};
use retinanet_ops::kernels::{ImageShape, PoolShape};
use support::{check_close, devices, download, empty, epsilon, numbers, numbers_of, upload, upload_i32};

#[test]
fn elementwise_kernels_do_what_they_say() {
    for device in devices() {
        for element in Element::ALL {
            for count in [1, 7, 8, 1000, 4099] {
                let (mut x, y) = (numbers_of(element, 1, count), numbers_of(element, 2, count));
                x[0] = f32::NAN;
                let (on_x, on_y) = (upload(&device, element, &x), upload(&device, element, &y));
                let read = |memory: &Memory| download(memory, element, count);
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                let is_positive = |value: f32| value > 0.0;

                let to = empty(&device, count * element.size());
                relu(element, count, on_x.span(), to.span()).unwrap();
                let positive = x.iter().map(|&x| if is_positive(x) { x } else { 0.0 });
                assert_eq!(bits(&read(&to)), bits(&positive.collect::<Vec<_>>()), "relu");

                relu_gradient(element, count, on_y.span(), on_y.span(), false, to.span()).unwrap();
                relu_gradient(element, count, on_y.span(), on_y.span(), true, to.span()).unwrap();
                let twice = y.iter().map(|&y| if is_positive(y) { 2.0 * y } else { 0.0 });
                assert_eq!(read(&to), twice.collect::<Vec<_>>(), "relu gradient");

                add(element, count, on_y.span(), on_y.span(), Activation::Relu, to.span()).unwrap();
                gate(element, count, on_y.span(), to.span()).unwrap();
                accumulate(element, count, on_y.span(), to.span()).unwrap();
                let sums = y.iter().map(|&y| if is_positive(y) { rounded_to(element, 3.0 * y) } else { y });
                assert_eq!(read(&to), sums.collect::<Vec<_>>(), "add, gate, accumulate");
                // What is no number is not positive.
                gate(element, count, on_x.span(), to.span()).unwrap();
                assert_eq!(read(&to)[0], 0.0, "gate by NaN");
            }
        }
    }
}

fn rounded_to(element: Element, value: f32) -> f32 {
    support::rounded(element, &[value])[0]
}

#[test]
fn conversion_rounds_to_nearest_even() {
    let mut values = vec![0.0, -0.0, 1.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-45];
    // Halves between two neighbours, and what lies beside them.
    for upper in [0x3f80u32, 0x3f81, 0xc123, 0x0001, 0x7f7f] {
        values.extend([0x7fff, 0x8000, 0x8001].map(|lower| f32::from_bits(upper << 16 | lower)));
    }
    // The same of half precision, where it has all its digits, where it has fewer, and where it ends.
    for upper in
        [0x3f80_0000u32, 0x3f80_2000, 0xc123_4000, 0x477f_e000, 0x3880_0000, 0x3850_0000, 0x33c0_0000, 0x3300_0000]
    {
        values.extend([0, 0xfff, 0x1000, 0x1001, 0x1fff].map(|lower| f32::from_bits(upper + lower)));
    }
    values.extend((0..2000).map(|i| f32::from_bits(0x3200_0000 + i * 0x3_1415)));
    for device in devices() {
        for element in [Element::Bf16, Element::F16] {
            let (from, to) = (upload(&device, Element::F32, &values), empty(&device, values.len() * 2));
            convert(values.len(), (Element::F32, from.span()), (element, to.span())).unwrap();
            let expected = support::rounded(element, &values);
            assert_eq!(download(&to, element, values.len()), expected);
            convert(values.len(), (element, to.span()), (Element::F32, from.span())).unwrap();
            assert_eq!(download(&from, Element::F32, values.len()), expected);
            let nan = upload(&device, Element::F32, &[f32::from_bits(0x7f80_0001)]);
            convert(1, (Element::F32, nan.span()), (element, to.span())).unwrap();
            assert!(download(&to, element, 1)[0].is_nan());
        }
    }
}

fn check_pool(input: ImageShape, kernel: usize, stride: usize, padding: usize) {
    let Ok(shape) = PoolShape::new(input, kernel, stride, padding) else { return };
    for device in devices() {
        for element in Element::ALL {
            let what = format!("{element:?} {shape:?}");
            // Few different numbers, so that windows have equal ones.
            let mut x: Vec<f32> = numbers(1, input.len()).iter().map(|x| (4.0 * x).floor()).collect();
            x[input.len() / 2] = f32::NEG_INFINITY;
            let y_gradient = numbers_of(element, 2, shape.output().len());
            let (mut y, mut gradient) = (vec![0.0; y_gradient.len()], vec![0.0; x.len()]);
            cpu::max_pool2d(Isa::detect(), &shape, &x, &mut y);
            cpu::max_pool2d_gradient(Isa::detect(), &shape, &x, &y_gradient, &mut gradient);

            let on_device = upload(&device, element, &x);
            let y_on = empty(&device, y.len() * element.size());
            max_pool(element, &shape, on_device.span(), y_on.span()).unwrap();
            assert_eq!(download(&y_on, element, y.len()), y, "{what}");
            let (from, to) = (upload(&device, element, &y_gradient), empty(&device, x.len() * element.size()));
            max_pool_gradient(element, &shape, on_device.span(), from.span(), false, to.span()).unwrap();
            check_close(&what, &download(&to, element, x.len()), &gradient, epsilon(element));
            max_pool_gradient(element, &shape, on_device.span(), from.span(), true, to.span()).unwrap();
            gradient.iter_mut().for_each(|gradient| *gradient *= 2.0);
            check_close(&what, &download(&to, element, x.len()), &gradient, epsilon(element));
        }
    }
}

fn check_upsampling(coarse: ImageShape, (height, width): (usize, usize)) {
    let shape = ImageShape { height, width, ..coarse };
    for device in devices() {
        for element in Element::ALL {
            let what = format!("{element:?} {coarse:?} {height} x {width}");
            let (above, fine) = (numbers_of(element, 1, coarse.len()), numbers_of(element, 2, shape.len()));
            let mut expected = vec![0.0; shape.len()];
            cpu::upsample_nearest2d(&coarse, (height, width), &above, &mut expected);
            expected.iter_mut().zip(&fine).for_each(|(sum, fine)| *sum += fine);
            let (above_on, fine_on) = (upload(&device, element, &above), upload(&device, element, &fine));
            let y = empty(&device, shape.len() * element.size());
            upsample_add(element, (&coarse, above_on.span()), (&shape, fine_on.span()), y.span()).unwrap();
            check_close(&what, &download(&y, element, shape.len()), &expected, epsilon(element));

            let mut gradient = vec![0.0; coarse.len()];
            cpu::upsample_nearest2d_gradient(Isa::detect(), &coarse, (height, width), &fine, &mut gradient);
            upsample_gradient(element, (&shape, fine_on.span()), true, (&coarse, above_on.span())).unwrap();
            let expected: Vec<f32> = gradient.iter().zip(&above).map(|(gradient, before)| gradient + before).collect();
            check_close(&what, &download(&above_on, element, coarse.len()), &expected, 2.0 * epsilon(element));
            upsample_gradient(element, (&shape, fine_on.span()), false, (&coarse, above_on.span())).unwrap();
            check_close(&what, &download(&above_on, element, coarse.len()), &gradient, 2.0 * epsilon(element));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn pooling_is_that_of_the_processor(
        sides in (1usize..3, 1usize..12, 1usize..12, 1usize..20),
        kernel in 1usize..4,
        stride in 1usize..4,
    ) {
        let (batch, height, width, channels) = sides;
        for padding in 0..=kernel / 2 {
            check_pool(ImageShape { batch, height, width, channels }, kernel, stride, padding);
        }
    }

    #[test]
    fn upsampling_is_that_of_the_processor(
        coarse in (1usize..3, 1usize..9, 1usize..9, 1usize..18),
        size in (1usize..20, 1usize..40),
    ) {
        let (batch, height, width, channels) = coarse;
        check_upsampling(ImageShape { batch, height, width, channels }, size);
    }
}

#[test]
fn weights_are_folded_packed_and_their_gradients_unpacked() {
    let dimensions = [3, 5, 3, 2];
    let count = dimensions.iter().product();
    for device in devices() {
        let upload = |values: &[f32]| upload(&device, Element::F32, values);
        let (weight, channels) = (numbers(1, count), 3);
        let norm: [Vec<f32>; 4] = [2, 3, 4, 5].map(|seed| numbers(seed, channels).iter().map(|x| x + 1.5).collect());
        let on = norm.each_ref().map(|numbers| upload(numbers));
        let (scale, shift) = (empty(&device, 12), empty(&device, 12));
        fold_norm(channels, 1e-5, on.each_ref().map(|memory| memory.span()), (scale.span(), shift.span())).unwrap();
        let [factor, bias, mean, variance] = norm;
        let scales: Vec<f32> =
            factor.iter().zip(&variance).map(|(&w, &v)| (f64::from(w) / (f64::from(v) + 1e-5).sqrt()) as f32).collect();
        assert_eq!(download(&scale, Element::F32, channels), scales);
        let shifts: Vec<f32> =
            (0..channels).map(|c| (f64::from(bias[c]) - f64::from(mean[c]) * f64::from(scales[c])) as f32).collect();
        assert_eq!(download(&shift, Element::F32, channels), shifts);

        for element in Element::ALL {
            let packed = empty(&device, count * element.size());
            let on = upload(&weight);
            pack_weight(element, dimensions, on.span(), Some(scale.span()), packed.span()).unwrap();
            let found = download(&packed, element, count);
            for (o, i, tap) in (0..3).flat_map(|o| (0..5).flat_map(move |i| (0..6).map(move |tap| (o, i, tap)))) {
                let expected = rounded_to(element, weight[(o * 5 + i) * 6 + tap] * scales[o]);
                assert_eq!(found[(o * 6 + tap) * 5 + i], expected, "{element:?} {o} {i} {tap}");
            }
            // There and back, added to what was there.
            pack_weight(element, dimensions, on.span(), None, packed.span()).unwrap();
            unpack_weight_gradient(element, dimensions, packed.span(), Some(scale.span()), on.span()).unwrap();
            let back = download(&on, Element::F32, count);
            for (i, (&found, &before)) in back.iter().zip(&weight).enumerate() {
                assert_eq!(found, before + rounded_to(element, before) * scales[i / 30], "{element:?} {i}");
            }
        }
    }
}

#[test]
fn running_statistics_move_where_they_may() {
    for device in devices() {
        let statistics: Vec<u8> = [1.0f64, -2.0, 0.5, 4.0].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let statistics = Memory::of(&device, &statistics).unwrap();
        let state = || (upload(&device, Element::F32, &[0.0, 1.0]), upload(&device, Element::F32, &[1.0, 1.0]));
        let after = |go: Option<i32>| {
            let (mean, variance) = state();
            let go = go.map(|go| upload_i32(&device, &[go]));
            let go = go.as_ref().map(|go| go.span());
            update_running_statistics(2, 5, 0.25, statistics.span(), (mean.span(), variance.span()), go).unwrap();
            [download(&mean, Element::F32, 2), download(&variance, Element::F32, 2)].concat()
        };
        // Unbiased: .5 * 5 / 4 and 4 * 5 / 4.
        let moved = [0.25, 0.25, 0.75 + 0.625 * 0.25, 0.75 + 5.0 * 0.25];
        assert_eq!(after(None), moved);
        assert_eq!(after(Some(1)), moved);
        assert_eq!(after(Some(0)), [0.0, 1.0, 1.0, 1.0]);
    }
}
