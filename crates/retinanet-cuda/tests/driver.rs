//! The host's side of a GPU, on a driver that is not one: `driver/fake.c` does all work in memory of the host, and as late as it may.

use retinanet_cuda::{Argument, Device, Error, Gpu, GpuOptions, Launch, Memory, Source, Twin};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

static SOURCE: Source = Source { name: "add.cu", text: "extern \"C\" void add(int *to, int value, long long count)" };

/// More than a chunk of what goes in and out at once, and not a multiple of one.
const LARGE: usize = 20_000_003;

/// The fake driver, one test at a time: its order is that of one thread. None, with a printed line, where there is no C compiler
/// or a real driver.
fn gpu() -> Option<(MutexGuard<'static, ()>, Arc<dyn Device>)> {
    static FOLDER: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for library in ["libcuda.so.1", "libnvrtc.so.13", "libcudnn.so.9"] {
            if let Err(error) = compile(folder.path(), library) {
                println!("skipped: {library}: {error}");
                return None;
            }
        }
        Some(folder)
    });
    let folders = vec![folder.as_ref()?.path().to_owned()];
    let gpu = Gpu::open(GpuOptions { folders, ..GpuOptions::default() }).expect("the fake driver opens");
    if !gpu.description().starts_with("fake, compute capability 9.0") {
        println!("skipped: {}", gpu.description());
        return None;
    }
    // The device is dropped before the turn ends.
    Some((turn, Arc::new(gpu)))
}

fn compile(folder: &Path, library: &str) -> Result<(), String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/driver/fake.c");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(folder.join(library)).arg(source);
    let output = command.arg(format!("-Wl,-soname,{library}")).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn bytes(seed: usize, count: usize) -> Vec<u8> {
    (0..count)
        .map(|i| (i.wrapping_mul(31).wrapping_add(i >> 11).wrapping_add(seed.wrapping_mul(97)) % 251) as u8)
        .collect()
}

fn read(memory: &Memory) -> Vec<u8> {
    let mut bytes = vec![0; memory.span().bytes()];
    memory.span().read(&mut bytes).expect("what is there");
    bytes
}

fn copy(from: &Memory, to: &Memory) {
    let (device, from, to) = (from.span().device(), from.span(), to.span());
    // SAFETY: both are so long, and two.
    unsafe { device.copy(from.address(), to.address(), from.bytes().min(to.bytes())).expect("a copy") }
}

/// Adds to the first i32s of memory.
fn add(to: &Memory, value: i32, count: usize) -> Result<(), Error> {
    let arguments = [Argument::Address(to.span().address()), Argument::I32(value), Argument::I64(count as i64)];
    let launch = Launch { source: &SOURCE, kernel: "add", grid: [1, 1, 1], threads: 32, arguments: &arguments };
    // SAFETY: what the fake driver's only kernel takes, of memory that is so long.
    unsafe { to.span().device().launch(&launch) }
}

#[test]
fn what_is_opened_says_what_it_is() {
    let Some((_turn, gpu)) = gpu() else { return };
    let expected = "fake, compute capability 9.0, 1.0 GiB, up to 1000 MHz, memory 1000 MHz, driver for CUDA 13.0, \
        NVRTC 13.0, cuDNN 9.19.0";
    assert_eq!(gpu.description(), expected);
    assert_eq!(Gpu::list().expect("a list").len(), 1);
    let absent = Gpu::open(GpuOptions { index: 3, ..GpuOptions::default() }).expect_err("one GPU");
    assert!(matches!(absent, Error::NoDevice { index: 3, found: 1 }), "{absent}");
}

#[test]
fn bytes_arrive_in_the_order_in_which_they_are_asked_for() {
    let Some((_turn, gpu)) = gpu() else { return };
    for count in [0, 1, 7, 65_536, 65_537, 8 << 20, (8 << 20) + 1, LARGE] {
        let memory = Memory::of(&gpu, &bytes(1, count)).expect("memory");
        assert_eq!(read(&memory)[..count], bytes(1, count), "{count} bytes");
    }
    // More than may be under way at once, into the same memory, with a copy of each state before the next.
    let states = 12;
    let memory = Memory::new(&gpu, LARGE).expect("memory");
    let copies: Vec<Memory> = (0..states).map(|_| Memory::new(&gpu, LARGE).expect("memory")).collect();
    for (state, kept) in copies.iter().enumerate() {
        memory.span().write(&bytes(state, LARGE)).expect("a write");
        memory.span().part(5, 3).write(&[state as u8; 3]).expect("a write");
        copy(&memory, kept);
    }
    memory.span().zero().expect("zeros");
    for (state, kept) in copies.iter().enumerate() {
        let mut expected = bytes(state, LARGE);
        expected[5..8].fill(state as u8);
        assert!(read(kept) == expected, "state {state}");
    }
    assert!(read(&memory).iter().all(|byte| *byte == 0));
}

#[test]
fn bytes_that_are_fetched_are_those_of_when_they_were_asked_for() {
    let Some((_turn, gpu)) = gpu() else { return };
    let memory = Memory::of(&gpu, &[0; 8]).expect("memory");
    let mut fetched = Vec::new();
    for _ in 0..5 {
        add(&memory, 3, 2).expect("a launch");
        fetched.push(memory.span().fetch().expect("bytes under way"));
    }
    // Whoever does not want them any more may go.
    drop(fetched.pop());
    for (fetched, expected) in fetched.into_iter().zip([3, 6, 9, 12]) {
        assert_eq!(fetched.wait().expect("bytes"), [expected; 2].map(i32::to_ne_bytes).concat());
    }
    let large = Memory::new(&gpu, (64 << 10) + 1).expect("memory");
    let message = large.span().fetch().expect_err("too many").to_string();
    assert_eq!(message, "fetch: expected at most 65536 bytes, found 65537");
}

#[test]
fn memory_is_given_back_after_the_work_before() {
    let Some((_turn, gpu)) = gpu() else { return };
    let kept = Memory::new(&gpu, 1000).expect("memory");
    for round in 0..100 {
        let memory = Memory::of(&gpu, &bytes(round, 1000)).expect("memory");
        copy(&memory, &kept);
    }
    assert_eq!(read(&kept), bytes(99, 1000));
    let full = gpu.allocate(1 << 40).expect_err("a gibibyte");
    assert!(matches!(full, Error::OutOfMemory { bytes: 0x100_0000_0000, free } if free < 1 << 30), "{full}");
}

#[test]
fn kernels_are_compiled_once_and_launched_in_order() {
    let Some((_turn, gpu)) = gpu() else { return };
    let memory = Memory::of(&gpu, &[0; 12]).expect("memory");
    add(&memory, 5, 2).and_then(|()| add(&memory, -7, 3)).expect("launches");
    assert_eq!(read(&memory), [-2i32, -2, -7].map(i32::to_ne_bytes).concat());

    let launch = |source, kernel, grid| {
        // SAFETY: the fake driver finds no kernel, or has nothing to do.
        unsafe { gpu.launch(&Launch { source, kernel, grid, threads: 32, arguments: &[] }) }
    };
    let absent = launch(&SOURCE, "subtract", [1, 1, 1]).expect_err("one kernel").to_string();
    assert_eq!(absent, "add.cu: expected a kernel subtract, found none");
    static BROKEN: Source = Source { name: "broken.cu", text: "#error" };
    assert_eq!(launch(&BROKEN, "k", [1, 1, 1]).expect_err("it does not compile").to_string(), "broken.cu: says no");
    launch(&SOURCE, "add", [3, 0, 1]).expect("no blocks are no work");
}

#[test]
fn compiled_kernels_are_kept_in_a_folder() {
    let Some((_turn, _)) = gpu() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files =
        || std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    // Compiled; found; found damaged, and compiled anew.
    for damaged in [false, false, true] {
        if damaged {
            std::fs::write(&files()[0], "damaged\0").expect("a file");
        }
        let cache = Some(folder.path().to_owned());
        let gpu: Arc<dyn Device> =
            Arc::new(Gpu::open(GpuOptions { cache, ..GpuOptions::default() }).expect("it opens"));
        let memory = Memory::of(&gpu, &[0; 4]).expect("memory");
        add(&memory, 5, 1).expect("a launch");
        assert_eq!(read(&memory)[0], 5);
        assert_eq!(std::fs::read(&files()[0]).expect("a file"), [SOURCE.text.as_bytes(), &[0]].concat());
        assert_eq!(files().len(), 1);
    }
}

#[test]
fn recorded_work_takes_effect_once_and_again_with_each_replay() {
    let Some((_turn, gpu)) = gpu() else { return };
    let (from, to) = (Memory::of(&gpu, &[1; 8]).expect("memory"), Memory::new(&gpu, 8).expect("memory"));
    let sum = Memory::of(&gpu, &[0; 8]).expect("memory");
    let mut work = || {
        copy(&from, &to);
        add(&sum, 3, 1)?;
        from.span().zero()
    };
    let recording = gpu.record(&mut work).expect("a recording");
    assert_eq!((read(&to), read(&from), read(&sum)[0]), (vec![1; 8], vec![0; 8], 3));
    from.span().write(&[9; 8]).expect("a write");
    for replays in 2..4 {
        // SAFETY: all memory is still there.
        unsafe { gpu.replay(&*recording).expect("a replay") };
        assert_eq!(read(&sum)[0], 3 * replays);
    }
    assert_eq!((read(&to), read(&from)), (vec![0; 8], vec![0; 8]));
}

#[test]
fn what_cannot_be_recorded_is_refused_and_leaves_the_device_as_it_was() {
    let Some((_turn, gpu)) = gpu() else { return };
    let memory = Memory::of(&gpu, &[0; 8]).expect("memory");
    let mut byte = [0];
    // The first call is for real; what is refused is asked for in the second.
    let refused = |work: &mut dyn FnMut() -> Result<(), Error>| gpu.record(work).expect_err("refused").to_string();
    let mut messages = vec![
        refused(&mut || memory.span().write(&[1])),
        refused(&mut || memory.span().read(&mut byte)),
        refused(&mut || Memory::new(&gpu, 8).map(drop)),
        refused(&mut || gpu.synchronize()),
    ];
    for message in messages.drain(..) {
        assert!(message.starts_with("recording: expected launches, convolutions, copies"), "{message}");
    }
    let within = refused(&mut || gpu.record(&mut || Ok(())).map(drop));
    assert_eq!(within, "recording: expected one at a time, found one within another");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut calls = 0;
        gpu.record(&mut || {
            calls += 1;
            if calls == 2 { panic!("in the middle of it") } else { Ok(()) }
        })
    }));
    assert!(panicked.is_err());
    add(&memory, 1, 1).expect("a launch");
    assert_eq!(read(&memory)[0], 2, "the write of the first call, and the launch");

    if let Ok(twin) = Twin::new() {
        let other = twin.record(&mut || Ok(())).expect("a recording");
        // SAFETY: it is refused.
        let message = unsafe { gpu.replay(&*other) }.expect_err("another device's").to_string();
        assert_eq!(message, "recording: expected one of this GPU, found another device's");
    }
}

#[test]
fn others_wait_while_work_is_recorded_and_memory_may_go_meanwhile() {
    let Some((_turn, gpu)) = gpu() else { return };
    let (sum, other) = (Memory::of(&gpu, &[0; 4]).expect("memory"), Memory::of(&gpu, &[0; 4]).expect("memory"));
    let mut spare = vec![Memory::new(&gpu, 100).expect("memory"), Memory::new(&gpu, 100).expect("memory")];
    std::thread::scope(|scope| {
        let mut started = None;
        let recording = gpu.record(&mut || {
            started.get_or_insert_with(|| scope.spawn(|| add(&other, 1, 1)));
            std::thread::sleep(std::time::Duration::from_millis(20));
            // Given back now, freed when that is no part of what is recorded.
            drop(spare.pop());
            add(&sum, 1, 1)
        });
        let recording = recording.expect("a recording");
        started.expect("a thread").join().expect("no panic").expect("a launch");
        // SAFETY: the memory is still there.
        unsafe { gpu.replay(&*recording).expect("a replay") };
    });
    assert_eq!((read(&sum)[0], read(&other)[0]), (2, 1), "what another thread asked for is not recorded");
}
