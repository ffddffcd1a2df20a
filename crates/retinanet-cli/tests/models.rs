//! Models by name, as scripts see them: a server on loopback, a cache folder, two processes, Ctrl-C.

#[path = "../../retinanet-zoo/tests/server/mod.rs"]
mod server;
mod window;

use retinanet::Config;
use retinanet::weights;
use retinanet_zoo::{Backbone, Channels, Manifest, Task};
use server::{Reply, Server, bytes, manifest, wait_until};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use window::bmp_with_window;

/// A cache folder and a manifest with one model on a server.
struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("models.toml"), manifest).expect("a manifest");
        Self { folder }
    }

    /// The model is these bytes on this server.
    fn of(server: &Server, body: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("body");
        std::fs::write(&path, body).expect("a file");
        let digest = weights::sha256(&path).expect("a file");
        Self::new(&manifest(&server.url("tiny.pth"), &format!("{{ sha256 = \"{digest}\" }}"), None))
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn place(&self) -> PathBuf {
        self.cache().join("tiny/tiny.pth")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retinanet"));
        command
            .args(args)
            .arg("--models-dir")
            .arg(self.cache())
            .arg("--manifest")
            .arg(self.folder.path().join("models.toml"));
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn check(&self, args: &[&str], code: i32, stderr_part: &str) -> String {
        check(self.command(args).output().expect("the binary runs"), code, stderr_part)
    }
}

/// Compares exit code and a part of standard error, and returns standard output.
#[track_caller]
fn check(output: Output, code: i32, stderr_part: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(stderr_part), "expected {stderr_part:?} in {stderr:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_list_says_what_there_is() {
    let body = bytes(2 << 20, 1);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let case = Case::of(&server, &body);
    let state = |name: &str| {
        let document = case.check(&["models", "--json"], 0, "");
        let document: serde_json::Value = serde_json::from_str(&document).expect("one JSON document");
        let models = document["models"].as_array().expect("a list").clone();
        let model = models.into_iter().find(|model| model["name"] == name).expect(name);
        (model["state"].as_str().expect("a state").to_owned(), model)
    };
    assert_eq!(state("tiny").0, "missing");
    let (_, model) = state("torchvision_r50_v1");
    assert_eq!((&model["metric"]["box_ap"], &model["licence"]), (&36.4.into(), &"BSD-3-Clause".into()));
    assert_eq!(
        (&model["bytes"], &model["classes"], &model["preset"]),
        (&136_595_076.into(), &91.into(), &"torchvision_r50_v1".into())
    );
    let listed = check(case.command(&["models"]).current_dir(root()).output().expect("the binary runs"), 0, "");
    let row = listed.lines().find(|line| line.starts_with("blood_cells_r18 ")).expect("a row");
    assert!(row.ends_with("yes"), "{row}");

    let path = case.check(&["models", "fetch", "tiny"], 0, "tiny (2.0 MiB): fetching http://127.0.0.1");
    assert_eq!(Path::new(path.trim_end()), case.place());
    assert_eq!(state("tiny").0, "here");
    let table = case.check(&["models", "list"], 0, "");
    for part in ["ResNet-50  41.5  COCO val2017  146.0 MiB", "imagenet_x101_64x4d_v1", "83.2  ImageNet-1K  319.3 MiB"] {
        assert!(table.contains(part), "expected {part:?} in\n{table}");
    }
    let row = table.lines().find(|line| line.starts_with("tiny ")).expect("a row");
    assert!(row.ends_with("yes"), "{row}");

    let verified = case.check(&["models", "verify", "tiny"], 0, "");
    assert!(verified.starts_with("tiny: sha256 ") && verified.contains("as published"), "{verified}");
    std::fs::write(case.place(), b"something else").expect("a file");
    case.check(&["models", "verify"], 1, "sha256: expected");
    case.check(&["models", "verify", "torchvision_r50_v1"], 1, "expected a file, found none");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_name_stands_where_a_model_does() {
    let model = std::fs::read(root().join("weights/blood_cells_r18.safetensors")).expect("the model that ships");
    let (num_bytes, sent) = (model.len(), model.clone());
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let case = Case::of(&server, &model);
    let image = case.folder.path().join("a.bmp");
    std::fs::write(&image, bmp_with_window()).expect("an image");
    let image = image.to_str().expect("a plain name");

    let found = case.check(&["detect", "--model", "tiny", "--json", "--no-pictures", image], 0, "tiny");
    let document: serde_json::Value = serde_json::from_str(&found).expect("one JSON document");
    assert_eq!(document["model"], "tiny");
    assert_eq!(std::fs::metadata(case.place()).expect("a file").len(), num_bytes as u64);
    let shown = case.check(&["info", "tiny"], 0, "");
    assert!(shown.contains("Platelets"), "{shown}");
    let output = case.folder.path().join("int8.safetensors");
    let quantize =
        ["quantize", "--model", "tiny", "--output", output.to_str().expect("a plain name"), "--images", image];
    case.check(&quantize, 0, "");
    assert!(output.is_file());
    case.check(&["eval", "--model", "tiny", "--data", "nowhere"], 2, "nowhere");
    case.check(&["train", "--weights", "tiny", "--data", "nowhere", "--output", "unused"], 2, "nowhere");
    case.check(&["train", "--backbone-weights", "tiny", "--data", "nowhere", "--output", "unused"], 2, "nowhere");
    case.check(&["bench", "--model", "tiny", "--size", "64x64", "--repeat", "1"], 0, "");
    assert_eq!(server.requests().len(), 1, "fetched once, on first use");
    // What ships needs no server, and a file comes before a name.
    let mut ours = case.command(&["detect", "--model", "blood_cells_r18", "--no-pictures", image]);
    check(ours.current_dir(root()).output().expect("the binary runs"), 0, "");
    std::fs::write(case.folder.path().join("tiny"), b"a file of one's own").expect("a file");
    case.check(&["info", "tiny"], 2, "a file that begins with");
}

#[test]
fn what_is_not_there_says_what_to_do() {
    let server = Server::start(|_, _| Reply::new(404, &[], b""));
    let case = Case::of(&server, b"body");
    case.check(&["detect", "--model", "tinny", "a.jpg"], 2, "did you mean tiny?");
    case.check(&["detect", "--model", "nothing-like-it", "a.jpg"], 2, "models` lists them");
    case.check(&["detect", "--model", "missing.pth", "a.jpg"], 2, "missing.pth: expected a model file");
    case.check(
        &["eval", "--model", "imagenet_r50_v2", "--data", "."],
        2,
        "expected a detector, found a backbone (ResNet-50)",
    );
    case.check(&["models", "fetch", "torchvison_r50_v1"], 2, "torchvision_r50_v1");
    case.check(
        &["models", "fetch", "tiny"],
        2,
        "status: expected 200, found 404; to put the file there by hand, save it as",
    );
    let mut both = case.command(&["models", "fetch", "tiny", "blood_cells_r18"]);
    let paths = check(both.current_dir(root()).output().expect("the binary runs"), 1, "failed: tiny: ");
    assert!(paths.trim_end().ends_with("weights/blood_cells_r18.safetensors"), "{paths}");
    case.check(&["models", "verify"], 0, "");
    let mut unreadable = case.command(&["models"]);
    unreadable.arg("--json").current_dir("/");
    std::fs::write(case.folder.path().join("models.toml"), "[[model]]\nname = 3\n").expect("a manifest");
    check(unreadable.output().expect("the binary runs"), 2, "models.toml: line 2: ");
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let body = bytes(100_000, 2);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let case = Case::of(&server, &body);
    let proxy = Server::start_proxy(false);
    let mut fetch = case.command(&["models", "fetch", "tiny"]);
    fetch.env("http_proxy", proxy.url(""));
    check(fetch.output().expect("the binary runs"), 0, "as published");
    assert_eq!(proxy.requests().len(), 1);
    // And its list of exceptions.
    std::fs::remove_dir_all(case.cache()).expect("a folder");
    let mut fetch = case.command(&["models", "fetch", "tiny"]);
    fetch.env("http_proxy", proxy.url("")).env("no_proxy", "example.org,127.0.0.1");
    // What only the library beneath would look at changes nothing.
    fetch.env("HTTP_PROXY", "http://127.0.0.1:1");
    check(fetch.output().expect("the binary runs"), 0, "as published");
    assert_eq!((proxy.requests().len(), server.requests().len()), (1, 2));
}

#[test]
fn two_processes_fetch_a_model_once() {
    let body = bytes(1 << 20, 3);
    // The server answers once one of the two has said that it waits.
    let (sent, has_waited) = (body.clone(), Arc::new(AtomicBool::new(false)));
    let may_answer = Arc::clone(&has_waited);
    let server = Server::start(move |request, _| {
        wait_until(|| may_answer.load(Ordering::SeqCst));
        Reply::file(request, "\"a\"", &sent)
    });
    let case = Case::of(&server, &body);
    let both = [0, 1].map(|_| {
        let mut process = case.command(&["models", "fetch", "tiny"]).spawn().expect("the binary runs");
        let (stderr, has_waited) = (process.stderr.take().expect("a pipe"), Arc::clone(&has_waited));
        let reader = std::thread::spawn(move || {
            let is_waiting = |line: &String| line.contains("tiny: another process is fetching it; waiting");
            let waits = BufReader::new(stderr).lines().map_while(Result::ok).filter(is_waiting);
            waits.inspect(|_| has_waited.store(true, Ordering::SeqCst)).count()
        });
        (process, reader)
    });
    let waits = both.map(|(mut process, reader)| {
        assert_eq!(process.wait().expect("it ends").code(), Some(0));
        reader.join().expect("no panic")
    });
    assert_eq!(waits[0] + waits[1], 1);
    assert_eq!(server.requests().len(), 1);
    assert!(std::fs::read(case.place()).expect("a file") == body);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_came_and_a_kill_too() {
    let body = bytes(1 << 20, 4);
    let sent = body.clone();
    // Half of it, and then for a long time nothing: both signals come in the middle.
    let server = Server::start(move |request, number| {
        let reply = Reply::file(request, "\"a\"", &sent);
        match number {
            0 | 1 => reply.cut(300_000).stalling(Duration::from_secs(3)),
            _ => reply,
        }
    });
    let case = Case::of(&server, &body);
    let part = case.cache().join("tiny/tiny.pth.part");
    let wait_for = |bytes| wait_until(|| std::fs::metadata(&part).is_ok_and(|part| part.len() >= bytes));
    let mut killed = case.command(&["models", "fetch", "tiny"]).spawn().expect("the binary runs");
    wait_for(300_000);
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");

    let interrupted = case.command(&["detect", "--model", "tiny", "a.jpg"]).spawn().expect("the binary runs");
    wait_for(600_000);
    // SAFETY: the process is ours and has not been waited for, so that its number belongs to it.
    assert_eq!(unsafe { libc::kill(interrupted.id() as i32, libc::SIGINT) }, 0);
    let output = interrupted.wait_with_output().expect("it ends");
    check(output, 1, "tiny: 0.6 MiB are kept in ");

    case.check(&["models", "fetch", "tiny"], 0, "tiny (1.0 MiB): going on after 0.6 MiB: http://");
    assert!(std::fs::read(case.place()).expect("a file") == body);
    let starts: Vec<Option<usize>> = server.requests().iter().map(server::Request::range_start).collect();
    assert_eq!(starts, [None, Some(300_000), Some(600_000)]);
}

/// A limit on the size of files stands in for a full disk: both refuse a write in the middle.
#[cfg(unix)]
#[test]
fn a_write_that_is_refused_is_told_and_loses_nothing() {
    let body = bytes(4 << 20, 5);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let case = Case::of(&server, &body);
    let mut limited = Command::new("sh");
    let script =
        "trap '' XFSZ; ulimit -f 2048; exec \"$0\" models fetch tiny --models-dir cache --manifest models.toml";
    limited.args(["-c", script, env!("CARGO_BIN_EXE_retinanet")]).current_dir(case.folder.path()).env("no_proxy", "*");
    let output = limited.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("a shell");
    check(output, 2, "tiny.pth.part: cannot write: ");
    assert!(!case.place().exists());
    case.check(&["models", "fetch", "tiny"], 0, "going on after");
    assert!(std::fs::read(case.place()).expect("a file") == body);
}

#[test]
fn detectors_are_described_as_their_presets_are() {
    let mut num_presets = 0;
    for entry in Manifest::embedded().models() {
        let Some(preset) = &entry.preset else { continue };
        num_presets += 1;
        assert_eq!(entry.task, Task::Detector, "{}", entry.name);
        let config = Config::preset(preset).expect("a preset");
        let (depth, preprocessing) = (format!("{:?}", config.backbone.depth), config.preprocessing);
        let is_same_depth = match entry.backbone {
            Backbone::Resnet18 => depth == "R18",
            Backbone::Resnet50 => depth == "R50",
            other => panic!("{}: {other:?}", entry.name),
        };
        assert!(is_same_depth && config.backbone.groups == 1, "{}: {depth}", entry.name);
        let ours = entry.preprocessing;
        assert_eq!((ours.channels, ours.pixel_max), (Channels::Rgb, 1.0), "{}", entry.name);
        assert_eq!(ours.mean.map(|mean| mean as f32), preprocessing.mean, "{}", entry.name);
        assert_eq!(ours.std.map(|std| std as f32), preprocessing.std, "{}", entry.name);
        let sizes = (Some(preprocessing.min_size), Some(preprocessing.max_size));
        assert_eq!((ours.min_size, ours.max_size), sizes, "{}", entry.name);
    }
    assert_eq!(num_presets, 3);
}

/// torchvision's released files are known by the digests that the manifest has, and so get COCO's names.
#[test]
fn released_files_are_known_by_the_digests_of_the_manifest() {
    let manifest = Manifest::embedded();
    let digits =
        |name: &str| manifest.find(name).and_then(|entry| entry.digest.known()).expect("a digest").1.to_owned();
    assert!(weights::is_torchvision_coco_v1(&digits("torchvision_r50_v1")));
    assert!(weights::is_torchvision_v2_coco_v1(&digits("torchvision_r50_v2")));
}
