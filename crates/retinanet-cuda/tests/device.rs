//! What every device promises: order, recordings, convolutions.

mod support;

use retinanet_cuda::kernels::{accumulate, relu};
use retinanet_cuda::{Activation, Argument, Convolution, Device, Element, Launch, Memory, Pass, Source, Twin};
use retinanet_ops::kernels::{ConvShape, ImageShape};
use std::sync::Arc;
use support::{check_close, devices, download, empty, epsilon, numbers_of, upload};

#[test]
fn what_was_recorded_is_done_again() {
    for device in devices() {
        let (from, to) = (upload(&device, Element::F32, &[1.0, -2.0, 3.0]), upload(&device, Element::F32, &[0.0; 3]));
        let work = || accumulate(Element::F32, 3, from.span(), to.span());
        let recording = device.record(&mut || work()).expect("a recording");
        assert_eq!(download(&to, Element::F32, 3), [1.0, -2.0, 3.0], "recorded work takes effect once");
        let values = [5.0f32, 5.0, 5.0].map(f32::to_ne_bytes).concat();
        from.span().write(&values).expect("a copy");
        // SAFETY: the memory is still there.
        unsafe { device.replay(&*recording) }.expect("a replay");
        assert_eq!(download(&to, Element::F32, 3), [6.0, 3.0, 8.0]);
    }
}

#[test]
fn bytes_that_are_fetched_are_those_of_when_they_were_asked_for() {
    for device in devices() {
        let memory = upload(&device, Element::F32, &[1.0, 2.0]);
        let fetched = memory.span().fetch().expect("bytes under way");
        memory.span().zero().expect("zeros");
        assert_eq!(fetched.wait().expect("bytes"), [1f32, 2.0].map(f32::to_ne_bytes).concat());

        let other: Arc<dyn Device> = Arc::new(Twin::new().expect("another"));
        // SAFETY: so long is the memory.
        let foreign = unsafe { device.fetch(memory.span().address(), 8) }.expect("bytes under way");
        let message = other.receive(foreign).expect_err("another device's").to_string();
        assert_eq!(message, "fetch: expected bytes of this device, found another device's");
    }
}

#[test]
fn a_recording_holds_no_copies_to_or_from_the_device() {
    let Ok(twin) = Twin::new() else { return println!("skipped: no C++ compiler") };
    let device: Arc<dyn Device> = Arc::new(twin);
    let memory = Memory::new(&device, 4).expect("memory");
    let refused = device.record(&mut || memory.span().write(&[0; 4])).expect_err("a copy in a recording");
    assert_eq!(
        refused.to_string(),
        "recording: expected launches, convolutions, copies within the device and fills, found a copy to the device"
    );
    // The failed recording has ended.
    memory.span().write(&[0; 4]).expect("a copy");
    let other: Arc<dyn Device> = Arc::new(Twin::new().expect("a compiler"));
    let recording = device.record(&mut || Ok(())).expect("a recording");
    // SAFETY: there is no memory in it.
    assert!(unsafe { other.replay(&*recording) }.is_err(), "another device's");
}

#[test]
fn the_twin_refuses_arguments_that_a_kernel_does_not_have() {
    let Ok(twin) = Twin::new() else { return println!("skipped: no C++ compiler") };
    let source = retinanet_cuda::kernels::SOURCES.iter().find(|source| source.name == "elementwise.cu").expect("it");
    let launch = |source: &'static Source, kernel: &'static str, arguments: &[Argument]| {
        // SAFETY: the kernel does not run.
        unsafe { twin.launch(&Launch { source, kernel, grid: [1, 1, 1], threads: 256, arguments }) }.expect_err("it")
    };
    let found = launch(source, "relu_forward_f32", &[Argument::I32(1)]).to_string();
    assert_eq!(found, "relu_forward_f32: other arguments than its parameters");
    assert!(launch(source, "no_such_kernel", &[]).to_string().contains("no_such_kernel"));
    static WRONG: Source = Source { name: "wrong.cu", text: "this is no C++" };
    assert!(launch(&WRONG, "wrong", &[]).to_string().starts_with("wrong.cu: "));
}

/// The plain sums, in f64.
fn convolve(shape: &ConvShape, x: &[f32], weight: &[f32], mut visit: impl FnMut(usize, usize, usize, f64)) {
    let (input, output, [outputs, inputs, kernel_height, kernel_width]) =
        (shape.input(), shape.output(), shape.weight());
    for place in 0..output.len() {
        let (o, column) = (place % outputs, place / outputs % output.width);
        let (row, image) =
            (place / outputs / output.width % output.height, place / outputs / output.width / output.height);
        let group = o / (outputs / shape.groups());
        for (r, c, i) in
            (0..kernel_height).flat_map(|r| (0..kernel_width).flat_map(move |c| (0..inputs).map(move |i| (r, c, i))))
        {
            let (y, z) = (row * shape.stride() + r, column * shape.stride() + c);
            let inside = |at: usize, len: usize| at.checked_sub(shape.padding()).filter(|&at| at < len);
            let (Some(y), Some(z)) = (inside(y, input.height), inside(z, input.width)) else { continue };
            let from = ((image * input.height + y) * input.width + z) * input.channels + group * inputs + i;
            let tap = ((o * kernel_height + r) * kernel_width + c) * inputs + i;
            visit(place, from, tap, f64::from(x[from]) * f64::from(weight[tap]));
        }
    }
}

#[test]
fn convolutions_and_their_gradients_are_plain_sums() {
    let cases = [
        ([1, 5, 7, 3], [8, 3, 3, 3], 2, 1, 1),
        ([2, 4, 4, 8], [5, 8, 1, 1], 1, 0, 1),
        ([1, 6, 5, 8], [4, 4, 3, 3], 1, 1, 2),
    ];
    for device in devices() {
        for element in Element::ALL {
            for ([batch, height, width, channels], weight, stride, padding, groups) in cases {
                let input = ImageShape { batch, height, width, channels };
                let shape = ConvShape::new(input, weight, stride, padding, groups).expect("a convolution");
                let convolution = Convolution { shape, element };
                let what = format!("{convolution:?}");
                let taps = weight.iter().product();
                let (x, w) = (numbers_of(element, 1, input.len()), numbers_of(element, 2, taps));
                let outputs = shape.output().len();
                let (residual, bias) = (numbers_of(element, 3, outputs), numbers_of(Element::F32, 4, weight[0]));
                let gradient = numbers_of(element, 5, outputs);
                let [x_on, w_on, residual_on, gradient_on] =
                    [&x, &w, &residual, &gradient].map(|values| upload(&device, element, values));
                let bias_on = upload(&device, Element::F32, &bias);
                let at = |memory: &Memory| memory.span().address();

                let mut sums: Vec<f64> =
                    (0..outputs).map(|i| f64::from(bias[i % weight[0]]) + f64::from(residual[i])).collect();
                convolve(&shape, &x, &w, |place, _, _, product| sums[place] += product);
                let expected: Vec<f32> = sums.iter().map(|sum| sum.max(0.0) as f32).collect();
                let y = empty(&device, outputs * element.size());
                let pass = Pass::Forward {
                    x: at(&x_on),
                    weight: at(&w_on),
                    bias: Some(at(&bias_on)),
                    residual: Some(at(&residual_on)),
                    activation: Activation::Relu,
                    y: at(&y),
                };
                // SAFETY: all memory is of the convolution's shapes.
                unsafe { device.convolve(&convolution, &pass) }.expect("a convolution");
                check_close(&what, &download(&y, element, outputs), &expected, 4.0 * epsilon(element));

                let (mut x_sums, mut w_sums) = (x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), vec![0.0; taps]);
                convolve(&shape, &x, &w, |place, from, tap, _| {
                    x_sums[from] += f64::from(gradient[place]) * f64::from(w[tap]);
                    w_sums[tap] += f64::from(gradient[place]) * f64::from(x[from]);
                });
                // Added to what is there.
                let x_gradient = upload(&device, element, &x);
                let w_gradient = empty(&device, taps * element.size());
                let passes = [
                    Pass::WeightGradient {
                        x: at(&x_on),
                        y_gradient: at(&gradient_on),
                        weight_gradient: at(&w_gradient),
                        accumulate: false,
                    },
                    Pass::InputGradient {
                        weight: at(&w_on),
                        y_gradient: at(&gradient_on),
                        x_gradient: at(&x_gradient),
                        accumulate: true,
                    },
                ];
                for pass in &passes {
                    // SAFETY: as above.
                    unsafe { device.convolve(&convolution, pass) }.expect("a gradient");
                }
                let narrow = |sums: &[f64]| sums.iter().map(|&sum| sum as f32).collect::<Vec<_>>();
                check_close(
                    &what,
                    &download(&x_gradient, element, input.len()),
                    &narrow(&x_sums),
                    4.0 * epsilon(element),
                );
                check_close(&what, &download(&w_gradient, element, taps), &narrow(&w_sums), 8.0 * epsilon(element));
            }
        }
        let (from, to) = (upload(&device, Element::F32, &[]), empty(&device, 1));
        relu(Element::F32, 0, from.span(), to.span()).expect("nothing to do");
    }
}
