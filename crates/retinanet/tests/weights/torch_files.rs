//! What `torch.save` writes is read, in every form a state dict comes in.

use super::torch_archive::{Pickle, TorchTensor, file, file_of, floats};
use super::{flat, read_bytes};
use half::{bf16, f16};

const SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

#[test]
fn a_state_dict_is_read() {
    let tensors = [TorchTensor::whole("conv.weight", "0", &[2, 3]), TorchTensor::whole("conv.bias", "1", &[1])];
    let read = read_bytes(&file(&tensors, &[("0", floats(&SIX)), ("1", floats(&[-0.5]))])).unwrap();
    assert_eq!(read.tensors.keys().collect::<Vec<_>>(), ["conv.bias", "conv.weight"]);
    assert_eq!(read.tensors["conv.weight"].dims(), [2, 3]);
    assert_eq!(flat(&read.tensors["conv.weight"]), SIX);
    assert_eq!(flat(&read.tensors["conv.bias"]), [-0.5]);
    assert!(read.metadata.is_empty());
}

#[test]
fn every_floating_type_becomes_f32_and_integers_are_left_out() {
    // 0.1 is exact in none of them, so that each shows its own rounding.
    let value = 0.1f64;
    let tensor = |name, key, class| TorchTensor::whole(name, key, &[1]).of(class);
    let tensors = [
        tensor("f64", "0", "DoubleStorage"),
        tensor("f32", "1", "FloatStorage"),
        tensor("f16", "2", "HalfStorage"),
        tensor("bf16", "3", "BFloat16Storage"),
        tensor("bn1.num_batches_tracked", "4", "LongStorage"),
        // Its storage is not in the archive: integers are not looked for.
        tensor("mask", "5", "BoolStorage"),
    ];
    let storages = [
        ("0", value.to_le_bytes().to_vec()),
        ("1", (value as f32).to_le_bytes().to_vec()),
        ("2", f16::from_f64(value).to_le_bytes().to_vec()),
        ("3", bf16::from_f64(value).to_le_bytes().to_vec()),
        ("4", 7i64.to_le_bytes().to_vec()),
    ];
    let read = read_bytes(&file(&tensors, &storages)).unwrap();
    let values: Vec<_> = read.tensors.iter().map(|(name, tensor)| (name.as_str(), flat(tensor)[0])).collect();
    assert_eq!(values, [("bf16", 0.100_097_656), ("f16", 0.099_975_586), ("f32", 0.1), ("f64", 0.1)]);
}

#[test]
fn views_share_a_storage() {
    let six = || TorchTensor::whole("", "0", &[6]);
    let named = |name, mut tensor: TorchTensor| {
        tensor.name = name;
        tensor
    };
    let tensors = [
        named("whole", six()),
        named("rows", six().view(0, &[2, 3], &[3, 1])),
        named("transposed", six().view(0, &[3, 2], &[1, 3])),
        named("right columns", six().view(1, &[2, 2], &[3, 1])),
        named("every other", six().view(1, &[3], &[2])),
        named("expanded", six().view(4, &[2, 2], &[0, 1])),
        named("scalar", six().view(5, &[], &[])),
        named("odd stride of one", six().view(3, &[1, 2], &[77, 1])),
        named("empty", six().view(0, &[0, 3], &[3, 1])),
    ];
    let read = read_bytes(&file(&tensors, &[("0", floats(&SIX))])).unwrap();
    let check = |name: &str, shape: &[usize], values: &[f32]| {
        assert_eq!(read.tensors[name].dims(), shape, "{name}");
        assert_eq!(flat(&read.tensors[name]), values, "{name}");
    };
    check("whole", &[6], &SIX);
    check("rows", &[2, 3], &SIX);
    check("transposed", &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    check("right columns", &[2, 2], &[2.0, 3.0, 5.0, 6.0]);
    check("every other", &[3], &[2.0, 4.0, 6.0]);
    check("expanded", &[2, 2], &[5.0, 6.0, 5.0, 6.0]);
    check("scalar", &[], &[6.0]);
    check("odd stride of one", &[1, 2], &[4.0, 5.0]);
    check("empty", &[0, 3], &[]);
}

#[test]
fn a_checkpoint_of_a_training_script_is_read() {
    let weight = [TorchTensor::whole("weight", "0", &[6])];
    for key in ["model", "state_dict", "model_state_dict"] {
        // Beside the state dict: the state of a random generator, options, a schedule, a loss, an epoch.
        let pickle = Pickle::new()
            .raw(b"}(")
            .text("rng")
            .tensor(&TorchTensor::whole("", "9", &[4]).of("ByteStorage"))
            .text("args")
            .global("argparse", "Namespace")
            .raw(b")\x81}")
            .text("lr")
            .raw(b"G\x3f\xb9\x99\x99\x99\x99\x99\x9asb")
            .text("milestones")
            .global("collections", "Counter")
            .raw(b"}K\x10K\x01s\x85R")
            .text("best")
            .raw(b"N")
            .text("seed")
            .raw(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00")
            .text(key)
            .state_dict(&weight)
            .raw(b"u");
        let read = read_bytes(&file_of(pickle.stop())).unwrap();
        assert_eq!(flat(&read.tensors["weight"]), SIX, "{key}");
        assert_eq!(read.tensors.len(), 1);
    }
}

#[test]
fn parameters_are_tensors() {
    let weight = TorchTensor::whole("", "0", &[6]);
    let pickle =
        Pickle::new().raw(b"}").text("weight").global("torch._utils", "_rebuild_parameter").raw(b"(").tensor(&weight);
    let pickle = pickle.raw(b"\x88").global("collections", "OrderedDict").raw(b")RtRs");
    assert_eq!(flat(&read_bytes(&file_of(pickle.stop())).unwrap().tensors["weight"]), SIX);
}

#[test]
fn later_protocols_and_the_memo_are_read() {
    // {"a": tensor, "b": the same tensor} of protocol 4: a frame, short texts, functions from the stack, values kept
    // for later.
    let pickle = Pickle(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}(\x8c\x01a".to_vec())
        .raw(b"\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93((")
        .raw(b"\x8c\x07storage\x94\x8c\x05torch\x8c\x0cFloatStorage\x93\x8c\x010\x8c\x03cpuK\x06tQ")
        .raw(b"K\x00K\x06\x85K\x01\x85tR\x94\x8c\x01bh\x01u");
    let read = read_bytes(&file_of(pickle.stop())).unwrap();
    assert_eq!(flat(&read.tensors["a"]), SIX);
    assert_eq!(flat(&read.tensors["b"]), SIX);
}

#[test]
fn a_name_given_twice_means_the_later_one() {
    let tensors = [TorchTensor::whole("a", "0", &[6]), TorchTensor::whole("a", "1", &[1])];
    let read = read_bytes(&file(&tensors, &[("0", floats(&SIX)), ("1", floats(&[9.0]))])).unwrap();
    assert_eq!(flat(&read.tensors["a"]), [9.0]);
}
