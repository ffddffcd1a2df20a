//! Torch files that are cut, wrong, or ask for something to be called: refused by name, in bounded memory.

use super::torch_archive::{Entry, Pickle, TorchTensor, entries, file, file_of, floats, zip};
use super::{check_refused, read_bytes};
use retinanet::weights::WeightsError;

const SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

fn good_entries() -> Vec<Entry> {
    entries(Pickle::new().state_dict(&[TorchTensor::whole("weight", "0", &[2, 3])]).stop(), &[("0", floats(&SIX))])
}

/// A file whose archive was made wrong in one place.
fn spoilt(spoil: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
    let mut entries = good_entries();
    spoil(&mut entries);
    zip(&entries)
}

#[test]
fn nothing_is_called() {
    let calls = [
        ("posix.system", Pickle::new().global("posix", "system").text("touch /tmp/called").raw(b"\x85R").stop()),
        ("builtins.eval", Pickle(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R".to_vec()).stop()),
        ("torch.hub.load", Pickle::new().global("torch.hub", "load").raw(b")R").stop()),
        // Named, and never called: a name alone can load a module.
        ("antigravity.x", Pickle::new().raw(b"}").text("a").global("antigravity", "x").raw(b"s").stop()),
        ("torch._utils._rebuild_tensor", Pickle::new().global("torch._utils", "_rebuild_tensor").raw(b")R").stop()),
        (
            "torchvision.models.resnet.ResNet",
            Pickle::new().global("torchvision.models.resnet", "ResNet").raw(b")\x81").stop(),
        ),
    ];
    for (function, pickle) in calls {
        check_refused(function, &file_of(pickle.clone()), &format!("refuses to call {function}"));
        let error = read_bytes(&file_of(pickle)).unwrap_err();
        assert!(
            matches!(error, WeightsError::ForeignCall { function: ref found, .. } if *found == function),
            "{error:?}"
        );
    }
    // Other ways to call: by class and mark, by registered number.
    for operation in [b'i', b'o', 0x82, 0x92] {
        let pickle = Pickle::new().raw(&[b'(', operation]).raw(b"os\nsystem\n").stop();
        check_refused("operation", &file_of(pickle), &format!("operation 0x{operation:02x}"));
    }
}

#[test]
fn calls_of_known_functions_need_their_arguments() {
    let tensor = TorchTensor::whole("", "0", &[6]);
    let cases = [
        ("a value is no function", Pickle::new().raw(b"N)R"), "a function to call"),
        (
            "arguments are no tuple",
            Pickle::new().global("collections", "OrderedDict").raw(b"NR"),
            "a tuple of arguments",
        ),
        (
            "tensor of nothing",
            Pickle::new().global("torch._utils", "_rebuild_tensor_v2").raw(b")R"),
            "a tensor's storage",
        ),
        (
            "parameter of nothing",
            Pickle::new().global("torch._utils", "_rebuild_parameter").raw(b")R"),
            "a parameter's tensor",
        ),
        ("storage called", Pickle::new().global("torch", "FloatStorage").raw(b")R"), "a storage as a file"),
        ("storage of a text", Pickle::new().text("storage").raw(b"Q"), "a storage's class"),
        ("state of a text", Pickle::new().text("a").raw(b"}b"), "an object to give attributes to"),
        ("entry of a tensor", Pickle::new().tensor(&tensor).raw(b"NNs"), "a dict to fill"),
        ("item of a tensor", Pickle::new().tensor(&tensor).raw(b"Na"), "a list to append to"),
    ];
    for (label, pickle, words) in cases {
        check_refused(label, &file_of(pickle.stop()), words);
    }
}

#[test]
fn pickles_that_are_not_state_dicts_are_described() {
    let cases = [
        (
            "no tensors",
            Pickle::new().raw(b"}").text("epoch").raw(b"K\x03s"),
            "found a dict of no tensors with 1 entries: epoch",
        ),
        ("a tensor alone", Pickle::new().tensor(&TorchTensor::whole("", "0", &[6])), "found a tensor without a name"),
        ("a list", Pickle::new().raw(b"]"), "found a list"),
        ("nothing", Pickle::new().raw(b"N"), "found a single value"),
    ];
    for (label, pickle, words) in cases {
        check_refused(label, &file_of(pickle.stop()), words);
    }
}

#[test]
fn values_that_contain_themselves_end() {
    // The list [itself], the dict {"model": itself}, and a tuple doubled 40 times, which written out is 10^12 values.
    check_refused("list", &file_of(Pickle::new().raw(b"]q\x00h\x00a").stop()), "found a list");
    check_refused(
        "dict",
        &file_of(Pickle::new().raw(b"}q\x00").text("model").raw(b"h\x00s").stop()),
        "a dict of no tensors",
    );
    let doubled = (0..40).fold(Pickle::new().raw(b")"), |pickle, _| pickle.raw(b"q\x002\x86"));
    check_refused("doubled", &file_of(doubled.stop()), "found a list");
    // A shape that contains itself is none.
    let shape =
        Pickle::new().raw(b"}").text("a").global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage");
    let shape =
        shape.global("torch", "FloatStorage").text("0").text("cpu").raw(b"K\x06tQK\x00]q\x00h\x00aK\x01\x85tRs");
    check_refused("shape", &file_of(shape.stop()), "sizes and strides of 0 or more");
}

#[test]
fn broken_pickles_are_refused() {
    let many = |operation: u8, count: usize| Pickle::new().raw(&vec![operation; count]).stop();
    let cases = [
        ("protocol 0", b"(dp0\n.".to_vec(), "a pickle of protocol 2 to 5"),
        ("protocol 9", b"\x80\x09.".to_vec(), "a pickle of protocol 2 to 5"),
        ("empty", Vec::new(), "2 more bytes"),
        ("nothing to return", Pickle::new().stop(), "a value on the stack"),
        ("no end", Pickle::new().raw(b"N").0, "1 more bytes"),
        ("no mark", Pickle::new().raw(b"Nt").stop(), "a mark on the stack"),
        ("past a mark", Pickle::new().raw(b"N(\x85").stop(), "a value on the stack"),
        ("key alone", Pickle::new().raw(b"}(Nu").stop(), "keys with values"),
        ("unknown memo", Pickle::new().raw(b"h\x07").stop(), "none of number 7"),
        ("text of 4 GiB", Pickle::new().raw(b"X\xff\xff\xff\xffabc").stop(), "4294967295 more bytes"),
        ("text of 2^64 bytes", Pickle::new().raw(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").stop(), "more bytes"),
        ("text not in UTF-8", Pickle::new().raw(b"X\x01\x00\x00\x00\xff").stop(), "text in UTF-8"),
        ("line without end", Pickle::new().raw(b"ctorch").stop(), "a line"),
        ("deep", many(b'(', 2000), "nested at most 1000 deep"),
        ("many values", many(b'N', 500_000), "at most 400000 values"),
        ("many memos", Pickle::new().raw(b"N").raw(&vec![0x94; 500_000]).stop(), "values kept for later"),
        ("long", many(b'N', 9 << 20), "at most 8388608 bytes"),
    ];
    for (label, pickle, words) in cases {
        check_refused(label, &file_of(pickle), words);
    }
}

#[test]
fn views_must_lie_within_their_storage() {
    let six = || TorchTensor::whole("weight", "0", &[6]);
    let huge = i64::MAX;
    let cases = [
        ("too long", six().view(0, &[7], &[1]), "element 6 of shape [7]"),
        ("offset", six().view(1, &[6], &[1]), "element 6 of"),
        ("stride", six().view(0, &[2, 3], &[4, 1]), "element 6 of"),
        ("offset of a scalar", six().view(6, &[], &[]), "element 6 of"),
        ("negative size", six().view(0, &[-1], &[1]), "sizes and strides of 0 or more"),
        ("negative stride", six().view(5, &[6], &[-1]), "sizes and strides of 0 or more"),
        ("negative offset", six().view(-1, &[1], &[1]), "a tensor's storage, offset"),
        ("size overflows", six().view(0, &[huge, huge, 4], &[0, 0, 0]), "elements within the 6 of the storage"),
        ("stride overflows", six().view(0, &[3, 3], &[huge, huge]), "elements within the 6 of the storage"),
        ("offset overflows", six().view(huge, &[2], &[huge]), "elements within the 6 of the storage"),
        ("strides missing", six().view(0, &[2, 3], &[1]), "2 strides"),
        ("nine axes", six().view(0, &[1; 9], &[1; 9]), "at most 8 axes"),
        ("blown up", six().view(0, &[1 << 20, 1 << 12], &[0, 0]), "tensors: expected at most"),
    ];
    for (label, tensor, words) in cases {
        check_refused(label, &file(&[tensor], &[("0", floats(&SIX))]), words);
    }
    // A thousand names for one tensor of a megabyte would be a gigabyte.
    let names: Vec<_> = (0..1000).map(|i| i.to_string()).collect();
    let shared = names.iter().fold(
        Pickle::new().raw(b"}(").text("a").tensor(&TorchTensor::whole("", "0", &[1 << 18])).raw(b"q\x00"),
        |pickle, name| pickle.text(name).raw(b"h\x00"),
    );
    let bytes = zip(&entries(shared.raw(b"u").stop(), &[("0", vec![0; 1 << 20])]));
    check_refused("shared a thousand times", &bytes, "tensors: expected at most");
}

#[test]
fn storages_must_be_what_the_pickle_says() {
    let six = || TorchTensor::whole("weight", "0", &[6]);
    let mut longer = six();
    longer.len = 1 << 40;
    let cases = [
        (
            "short",
            file(&[six()], &[("0", floats(&SIX[..5]))]),
            "weights/data/0: expected 24 bytes as its tensors say, found 20",
        ),
        ("long", file(&[six()], &[("0", vec![0; 28])]), "expected 24 bytes as its tensors say, found 28"),
        ("other type", file(&[six().of("DoubleStorage")], &[("0", floats(&SIX))]), "expected 48 bytes"),
        ("terabyte", file(&[longer], &[("0", floats(&SIX))]), "expected 4398046511104 bytes"),
        ("absent", file(&[six()], &[]), "weights/data/0: expected to be in the archive, found no such file"),
        ("outside", file(&[TorchTensor::whole("weight", "../../../etc/passwd", &[6])], &[]), "found no such file"),
        (
            "two types",
            file(&[six(), TorchTensor { name: "b", ..six() }.of("DoubleStorage")], &[("0", floats(&SIX))]),
            "found 6 of F32",
        ),
    ];
    for (label, bytes, words) in cases {
        check_refused(label, &bytes, words);
    }
}

#[test]
fn archives_must_agree_with_themselves() {
    let cases = [
        ("no pickle", spoilt(|entries| entries[0].name = "weights/data.txt".to_owned()), "found 0 among 4 files"),
        ("two pickles", spoilt(|entries| entries[1].name = "other/data.pkl".to_owned()), "found 2 among 4 files"),
        ("TorchScript", spoilt(|entries| entries[1].name = "weights/constants.pkl".to_owned()), "TorchScript"),
        (
            "big endian",
            spoilt(|entries| entries[1] = Entry::new("weights/byteorder", b"big".to_vec())),
            "expected little, found \"big\"",
        ),
        ("checksum", spoilt(|entries| entries[2].crc ^= 1), "agree with their checksum"),
        ("checksum of the pickle", spoilt(|entries| entries[0].crc ^= 1), "agree with their checksum"),
        ("size", spoilt(|entries| entries[2].size = 1 << 30), "expected 24 bytes as are stored, found 1073741824"),
        (
            "both sizes",
            spoilt(|entries| (entries[2].size, entries[2].stored_size) = (1 << 30, 1 << 30)),
            "found 1073741824",
        ),
        (
            "pickle past the end",
            spoilt(|entries| (entries[0].size, entries[0].stored_size) = (1 << 22, 1 << 22)),
            "weights/data.pkl",
        ),
    ];
    for (label, bytes, words) in cases {
        check_refused(label, &bytes, words);
    }
}

#[test]
fn a_zip_bomb_is_not_unpacked() {
    // Deflate's largest factor is about a thousand: a megabyte that claims to be a gigabyte.
    let bomb = |name: &'static str| {
        spoilt(move |entries| {
            let entry = entries.iter_mut().find(|entry| entry.name == name).unwrap();
            *entry = Entry { method: 8, size: 1 << 30, ..Entry::new(name, vec![0; 1 << 20]) };
        })
    };
    check_refused("pickle", &bomb("weights/data.pkl"), "found 1048576 compressed bytes that claim to be 1073741824");
    check_refused(
        "byte order",
        &bomb("weights/byteorder"),
        "found 1048576 compressed bytes that claim to be 1073741824",
    );
    let storage = spoilt(|entries| (entries[2].method, entries[2].size) = (8, 24));
    check_refused("storage", &storage, "load and save the file again with torch");
}

#[test]
fn a_cut_file_is_refused_at_every_length() {
    let whole = zip(&good_entries());
    assert!(read_bytes(&whole).is_ok());
    for len in 0..whole.len() {
        let error = read_bytes(&whole[..len]).expect_err("a cut file").to_string();
        assert!(error.contains("expected ") && error.contains("found "), "{len}: {error}");
    }
}

#[test]
fn what_is_no_weight_file_is_named() {
    let cases: [(&str, &[u8], &str); 6] = [
        ("empty", b"", "found an empty file"),
        ("text", b"hello world", "begins with \"hello wo\""),
        ("page", b"<!DOCTYPE html><html>", "the download went wrong"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("pickle", b"\x80\x02}q\x00.", "a dict of no tensors with 0 entries"),
        (
            "older format",
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
            "torch's older format; write it again in Python: torch.save(",
        ),
    ];
    for (label, bytes, words) in cases {
        check_refused(label, bytes, words);
    }
    let folder = tempfile::tempdir().unwrap();
    let error = retinanet::weights::read(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("expected a file, found a directory"), "{error}");
    let error = retinanet::weights::read(&folder.path().join("absent.pth")).unwrap_err();
    assert!(matches!(error, WeightsError::Io { .. }) && error.to_string().contains("absent.pth: "), "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_without_reading_them() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.pth");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for path in [pipe, "/dev/zero".into()] {
            sender.send(retinanet::weights::read(&path).map(drop)).unwrap();
        }
    });
    for _ in 0..2 {
        let result = receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("it neither waits nor reads on");
        let error = result.unwrap_err();
        assert!(error.to_string().ends_with("expected a file, found a pipe or device"), "{error}");
    }
}
