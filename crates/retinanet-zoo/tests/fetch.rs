//! Fetching against servers that do what servers do.

mod server;

use retinanet_zoo::{Cache, Checked, Entry, Event, Fault, FetchOptions, Manifest, Proxies, Restart, State, ZooError};
use server::{Reply, Request, Server, bytes, manifest};
use sha2::Digest as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LEN: usize = 300_000;

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn options() -> FetchOptions {
    FetchOptions { backoff: Duration::from_millis(1), attempts: 3, ..FetchOptions::default() }
}

/// A model on a server, and a cache of its own.
struct Case {
    folder: tempfile::TempDir,
    entry: Entry,
    options: FetchOptions,
    restarts: Vec<Restart>,
    retries: usize,
}

impl Case {
    /// The model is what `body` says, to the byte.
    fn new(url: &str, body: &[u8]) -> Self {
        let digest = format!("{{ sha256 = \"{}\" }}", sha256(body));
        Self::with(url, &digest, Some(&format!("{{ bytes = {} }}", body.len())))
    }

    fn with(url: &str, digest: &str, size: Option<&str>) -> Self {
        let manifest = Manifest::parse(&manifest(url, digest, size), "test").expect("a manifest");
        let entry = manifest.models()[0].clone();
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, entry, options: options(), restarts: Vec::new(), retries: 0 }
    }

    fn cache(&self) -> Cache {
        Cache::new(self.folder.path().join("cache"))
    }

    fn place(&self) -> PathBuf {
        self.cache().place(&self.entry)
    }

    fn part(&self) -> PathBuf {
        self.place().with_file_name("tiny.pth.part")
    }

    fn fetch(&mut self) -> Result<PathBuf, ZooError> {
        self.fetch_until(u64::MAX)
    }

    /// Breaks off once so many bytes are there.
    fn fetch_until(&mut self, enough: u64) -> Result<PathBuf, ZooError> {
        let (cache, restarts, retries) = (self.cache(), &mut self.restarts, &mut self.retries);
        let mut before = 0;
        cache.fetch(&self.entry, &self.options, &mut |event| {
            match event {
                Event::Started { from, .. } => before = from,
                Event::Progress { done, total } => {
                    assert!(done >= before, "{done} after {before}");
                    assert!(total.is_none_or(|total| done <= total), "{done} of {total:?}");
                    before = done;
                    if done >= enough {
                        return ControlFlow::Break(());
                    }
                }
                Event::Restarted(reason) => {
                    before = 0;
                    restarts.push(reason);
                }
                Event::Retrying { .. } => *retries += 1,
                _ => {}
            }
            ControlFlow::Continue(())
        })
    }

    /// Fetches, and finds the whole file and nothing half beside it.
    #[track_caller]
    fn check(&mut self, body: &[u8]) {
        let path = self.fetch().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(path, self.place());
        assert!(std::fs::read(&path).expect("a file") == body, "another content");
        let note = std::fs::read_to_string(path.with_file_name("tiny.pth.sha256")).expect("a note");
        assert_eq!(note, format!("{}  tiny.pth\n", sha256(body)));
        self.check_files(&[".lock", "tiny.pth", "tiny.pth.sha256"]);
    }

    #[track_caller]
    fn check_files(&self, expected: &[&str]) {
        let entries = std::fs::read_dir(self.folder.path().join("cache/tiny")).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect();
        names.sort();
        assert_eq!(names, expected);
    }

    #[track_caller]
    fn check_fault(&mut self, expected: Fault) {
        match self.fetch() {
            Err(ZooError::Fetch(error)) => assert_eq!(error.fault, expected),
            other => panic!("expected {expected:?}, found {other:?}"),
        }
        assert!(!self.place().exists());
    }
}

/// Both sides of each request that asks for a rest.
fn ranges(requests: &[Request]) -> Vec<(&str, &str)> {
    requests.iter().map(|request| (request.header("range"), request.header("if-range"))).collect()
}

#[test]
fn a_good_file_is_fetched_once() {
    let body = bytes(LEN, 1);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let mut case = Case::new(&server.url("models/tiny.pth"), &body);
    assert_eq!(case.cache().state(&case.entry), State::Missing);
    let mut told = Vec::new();
    case.cache()
        .fetch(&case.entry, &case.options, &mut |event| {
            match event {
                Event::Started { name, from, total, .. } => told.push(format!("{name} {from} {total:?}")),
                Event::Fetched { sha256, checked, .. } => told.push(format!("{sha256} {checked:?}")),
                Event::Progress { .. } => {}
                other => panic!("{other:?}"),
            }
            ControlFlow::Continue(())
        })
        .expect("a good server");
    assert_eq!(told, [format!("tiny 0 Some({LEN})"), format!("{} Published", sha256(&body))]);
    case.check(&body);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "the second time, nothing is asked for");
    assert_eq!((requests[0].target.as_str(), requests[0].header("accept-encoding")), ("/models/tiny.pth", "identity"));
    assert_eq!(requests[0].header("range"), "");
    assert_eq!(case.cache().state(&case.entry), State::Here(case.place()));
}

#[test]
fn a_cut_file_is_resumed() {
    let body = bytes(LEN, 2);
    let sent = body.clone();
    // Three pieces: two connections break.
    let server = Server::start(move |request, number| {
        let reply = Reply::file(request, "\"a\"", &sent);
        if number < 2 { reply.cut(100_000) } else { reply }
    });
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.check(&body);
    let expected = [("", ""), ("bytes=100000-", "\"a\""), ("bytes=200000-", "\"a\"")];
    assert_eq!(ranges(&server.requests()), expected);
    assert_eq!((case.retries, case.restarts.as_slice()), (2, &[][..]));
}

#[test]
fn what_an_earlier_process_left_is_resumed() {
    let body = bytes(LEN, 3);
    let sent = body.clone();
    let server = Server::start(move |request, number| {
        let reply = Reply::file(request, "\"a\"", &sent);
        if number == 0 { reply.cut(120_000) } else { reply }
    });
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.options.attempts = 1;
    case.check_fault(Fault::Cut { expected: LEN as u64, found: 120_000 });
    case.check_files(&[".lock", "tiny.pth.part", "tiny.pth.part.toml"]);
    assert_eq!(case.cache().state(&case.entry), State::Partial(120_000));
    case.check(&body);
    assert_eq!(ranges(&server.requests()), [("", ""), ("bytes=120000-", "\"a\"")]);
}

#[test]
fn breaking_off_keeps_what_came() {
    let body = bytes(LEN, 4);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    let kept = match case.fetch_until(1000) {
        Err(ZooError::Stopped { kept, .. }) => kept,
        other => panic!("{other:?}"),
    };
    assert!((1000..LEN as u64).contains(&kept), "{kept}");
    assert_eq!(case.cache().state(&case.entry), State::Partial(kept));
    case.check(&body);
    assert_eq!(ranges(&server.requests())[1].0, format!("bytes={kept}-"));
}

#[test]
fn breaking_off_ends_a_pause() {
    let server = Server::start(|_, _| Reply::new(503, &[("Retry-After", "50")], b""));
    let mut case = Case::new(&server.url("tiny.pth"), b"body");
    assert!(matches!(case.fetch_until(0), Err(ZooError::Stopped { kept: 0, .. })));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let body = bytes(LEN, 5);
    let sent = body.clone();
    let server = Server::start(move |_, number| {
        let reply = Reply::new(200, &[("ETag", "\"a\"")], &sent);
        if number == 0 { reply.cut(100_000) } else { reply }
    });
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.check(&body);
    assert_eq!(case.restarts, [Restart::NoRanges]);
}

/// The file changes while its first part is here; the server has its own ways of saying so.
#[track_caller]
fn check_changed(second: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static, num_requests: usize) {
    let (old, new) = (bytes(LEN, 6), bytes(LEN + 5000, 7));
    let sent = new.clone();
    let server = Server::start(move |request, number| match number {
        0 => Reply::file(request, "\"old\"", &old).cut(100_000),
        _ => second(request, &sent),
    });
    let mut case = Case::with(&server.url("tiny.pth"), &format!("{{ sha256 = \"{}\" }}", sha256(&new)), None);
    case.check(&new);
    assert_eq!(case.restarts, [Restart::Changed]);
    assert_eq!(server.requests().len(), num_requests);
}

#[test]
fn a_file_that_changed_is_fetched_anew() {
    check_changed(|request, body| Reply::file(request, "\"new\"", body), 2);
    // Without `If-Range`, the rest of the new file would come, with its tag.
    let ignorant = |request: &Request, body: &[u8]| match request.range_start() {
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
            Reply::new(206, &[("ETag", "\"new\""), ("Content-Range", &range)], &body[start..])
        }
        None => Reply::file(request, "\"new\"", body),
    };
    check_changed(ignorant, 3);
    // Another part than the one that was asked for, and one without a word of where it belongs.
    for range in ["bytes 5-9/10", "bytes"] {
        let wrong = move |request: &Request, body: &[u8]| match request.range_start() {
            Some(_) => Reply::new(206, &[("ETag", "\"old\""), ("Content-Range", range)], b"wrong"),
            None => Reply::file(request, "\"new\"", body),
        };
        check_changed(wrong, 3);
    }
    // Shorter than what is here.
    let shorter = |request: &Request, body: &[u8]| match request.range_start() {
        Some(_) => Reply::new(416, &[("Content-Range", "bytes */7")], b""),
        None => Reply::file(request, "\"new\"", body),
    };
    check_changed(shorter, 3);
}

#[test]
fn parts_are_asked_for_only_of_a_known_state() {
    let body = bytes(LEN, 8);
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    let weak: &[(&'static str, &str)] = &[("ETag", "W/\"a\""), ("Last-Modified", date)];
    for (headers, expected) in [(weak, ("bytes=100000-", date)), (&weak[..1], ("", "")), (&[], ("", ""))] {
        let (sent, headers) = (body.clone(), headers.to_vec());
        let server = Server::start(move |request, number| match request.range_start() {
            Some(start) => {
                let range = format!("bytes {start}-{}/{LEN}", LEN - 1);
                let headers = [&headers[..], &[("Content-Range", range.as_str())]].concat();
                Reply::new(206, &headers, &sent[start..])
            }
            None if number == 0 => Reply::new(200, &headers, &sent).cut(100_000),
            None => Reply::new(200, &headers, &sent),
        });
        let mut case = Case::new(&server.url("tiny.pth"), &body);
        case.check(&body);
        assert_eq!(ranges(&server.requests()), [("", ""), expected]);
        let is_anew = expected.0.is_empty();
        assert_eq!(case.restarts, if is_anew { vec![Restart::Changed] } else { vec![] });
    }
}

#[test]
fn a_whole_part_is_taken_as_it_is() {
    let body = bytes(LEN, 9);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    // As after a process that was killed between the last byte and the renaming.
    assert!(case.fetch_until(LEN as u64).is_err());
    assert_eq!(case.cache().state(&case.entry), State::Partial(LEN as u64));
    case.check(&body);
    assert_eq!(ranges(&server.requests())[1], (format!("bytes={LEN}-").as_str(), "\"a\""));
}

#[test]
fn a_damaged_part_does_not_stand_in_the_way() {
    let body = bytes(LEN, 10);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    assert!(case.fetch_until(1000).is_err());
    // As a file system leaves it after a loss of power.
    let len = std::fs::metadata(case.part()).expect("a part").len();
    std::fs::write(case.part(), vec![0; len as usize]).expect("a part");
    case.check(&body);
    assert_eq!(case.restarts, [Restart::Damaged]);

    // Bytes that nobody knows the origin of.
    for note in [None, Some("torn = "), Some("url = \"http://elsewhere/tiny.pth\"")] {
        let mut case = Case::new(&server.url("tiny.pth"), &body);
        std::fs::create_dir_all(case.place().parent().expect("a folder")).expect("a folder");
        std::fs::write(case.part(), bytes(LEN + 10, 11)).expect("a part");
        if let Some(note) = note {
            std::fs::write(case.part().with_file_name("tiny.pth.part.toml"), note).expect("a note");
        }
        case.check(&body);
        assert_eq!(case.restarts, []);
    }
}

#[test]
fn a_file_with_another_digest_is_removed() {
    let body = bytes(LEN, 12);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let expected = "0".repeat(64);
    let mut case = Case::with(&server.url("tiny.pth"), &format!("{{ sha256 = \"{expected}\" }}"), None);
    let error = case.fetch().expect_err("another digest");
    assert!(matches!(error, ZooError::Digest { removed: true, .. }), "{error:?}");
    let message = error.to_string();
    for part in [&server.url("tiny.pth"), &expected, &sha256(&body), "removed"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    case.check_files(&[".lock"]);
}

#[test]
fn digests_are_compared_as_far_as_they_are_known() {
    let body = bytes(LEN, 13);
    let whole = sha256(&body);
    let md5: String = md5::Md5::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    for (digest, checked) in [
        (format!("{{ sha256 = \"{whole}\" }}"), Checked::Published),
        (format!("{{ sha256 = \"{}\" }}", &whole[..8]), Checked::Leading(8)),
        (format!("{{ md5 = \"{}\" }}", &md5[..6]), Checked::Leading(6)),
        (format!("{{ md5 = \"{md5}\" }}"), Checked::Published),
        ("\"unknown\"".to_owned(), Checked::FirstSeen),
    ] {
        let sent = body.clone();
        let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
        let mut case = Case::with(&server.url("tiny.pth"), &digest, None);
        case.check(&body);
        let verified = case.cache().verify(&case.entry).expect("a good file").expect("a file");
        assert_eq!((&verified.sha256, verified.checked), (&whole, checked), "{digest}");

        // Changed on the disk: seen when the file is looked at, whatever is known of it.
        std::fs::write(case.place(), bytes(LEN, 14)).expect("a file");
        let error = case.cache().verify(&case.entry).expect_err(&digest);
        assert!(matches!(error, ZooError::Digest { removed: false, .. }), "{digest}: {error:?}");
        assert!(case.place().exists());
    }
}

#[test]
fn what_a_person_puts_there_is_checked_and_left() {
    let body = bytes(LEN, 15);
    let server = Server::start(|_, _| Reply::new(404, &[], b""));
    let put = |case: &Case, body: &[u8]| {
        std::fs::create_dir_all(case.place().parent().expect("a folder")).expect("a folder");
        std::fs::write(case.place(), body).expect("a file");
    };
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    put(&case, &body);
    assert_eq!(case.fetch().expect("the right file"), case.place());
    case.check_files(&["tiny.pth", "tiny.pth.sha256"]);

    let mut case = Case::new(&server.url("tiny.pth"), &body);
    put(&case, &bytes(LEN, 16));
    let error = case.fetch().expect_err("another file").to_string();
    assert!(error.contains("sha256: expected") && !error.contains("removed"), "{error}");
    put(&case, &body[1..]);
    let error = case.fetch().expect_err("another size").to_string();
    assert!(error.contains(&format!("size: expected {LEN} bytes, found {} bytes", LEN - 1)), "{error}");
    case.check_files(&["tiny.pth"]);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn redirects_are_followed_with_the_range() {
    let body = bytes(LEN, 17);
    let sent = body.clone();
    let server = Server::start(move |request, number| match request.target.as_str() {
        "/tiny.pth" => Reply::new(302, &[("Location", "/elsewhere/1")], b"moved"),
        "/elsewhere/1" => Reply::new(307, &[("Location", "2")], b"moved"),
        _ if number < 3 => Reply::file(request, "\"a\"", &sent).cut(100_000),
        _ => Reply::file(request, "\"a\"", &sent),
    });
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.check(&body);
    let requests = server.requests();
    let targets: Vec<&str> = requests.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/tiny.pth", "/elsewhere/1", "/elsewhere/2", "/tiny.pth", "/elsewhere/1", "/elsewhere/2"]);
    assert_eq!(ranges(&requests)[5], ("bytes=100000-", "\"a\""));
}

#[test]
fn a_ring_of_redirects_is_left() {
    let server = Server::start(|request, _| {
        let next = if request.target == "/tiny.pth" { "/other" } else { "/tiny.pth" };
        Reply::new(302, &[("Location", next)], b"")
    });
    let mut case = Case::new(&server.url("tiny.pth"), b"body");
    case.check_fault(Fault::Redirects(5));
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_missing_file_is_not_asked_for_again() {
    let server = Server::start(|_, _| Reply::new(404, &[], b"<html>not here</html>"));
    let mut case = Case::new(&server.url("tiny.pth"), b"body");
    case.check_fault(Fault::Status(404));
    assert_eq!(server.requests().len(), 1);
    // What to do without this server is in the message.
    let message = case.fetch().expect_err("404").to_string();
    for part in ["tiny: ", &server.url("tiny.pth"), "404", "by hand", &case.place().display().to_string(), "sha256 "] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_failing_server_is_asked_again() {
    let body = bytes(LEN, 18);
    let sent = body.clone();
    let server = Server::start(move |request, number| match number {
        0 => Reply::new(500, &[], b"sorry"),
        1 => Reply::new(429, &[("Retry-After", "0")], b""),
        _ => Reply::file(request, "\"a\"", &sent),
    });
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.check(&body);
    assert_eq!((server.requests().len(), case.retries), (3, 2));

    let server = Server::start(|_, _| Reply::new(503, &[], b""));
    let mut case = Case::new(&server.url("tiny.pth"), b"body");
    case.check_fault(Fault::Status(503));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn attempts_end_though_the_server_always_sends_a_little() {
    let body = bytes(LEN, 19);
    let sent = body.clone();
    // The tag is new each time: no part is ever of use, and each attempt begins anew.
    let server = Server::start(move |request, number| match request.range_start() {
        Some(start) => {
            let range = format!("bytes {start}-{}/{LEN}", LEN - 1);
            Reply::new(206, &[("ETag", &format!("\"{number}\"")), ("Content-Range", &range)], &sent[start..]).cut(10)
        }
        None => Reply::new(200, &[("ETag", &format!("\"{number}\""))], &sent).cut(1000),
    });
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.check_fault(Fault::Cut { expected: LEN as u64, found: 1000 });
}

#[test]
fn a_silent_server_is_left() {
    let body = bytes(LEN, 20);
    let sent = body.clone();
    let silence = Duration::from_secs(20);
    let server = Server::start(move |request, number| {
        let reply = Reply::file(request, "\"a\"", &sent);
        if number == 0 { reply.cut(100_000).stalling(silence) } else { reply }
    });
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.options.read_timeout = Duration::from_secs(1);
    case.check(&body);
    assert_eq!(ranges(&server.requests())[1].0, "bytes=100000-");

    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", b"body").cut(0).stalling(silence));
    let mut case = Case::new(&server.url("tiny.pth"), b"body");
    case.options.read_timeout = Duration::from_millis(100);
    match case.fetch() {
        Err(ZooError::Fetch(error)) => assert!(matches!(error.fault, Fault::Timeout(_)), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(case.retries, 2);
}

#[test]
fn announced_sizes_are_compared_first() {
    let body = bytes(LEN, 21);
    // (what is announced, bytes sent, size in the manifest, part of the message)
    let size = Some(format!("{{ bytes = {LEN} }}"));
    for (announced, sent, size, expected) in [
        (Some(LEN + 1), LEN, size.clone(), format!("size: expected {LEN} bytes, found {} bytes", LEN + 1)),
        (Some(10), 10, size.clone(), format!("size: expected {LEN} bytes, found 10 bytes")),
        (Some(10), 10, Some("{ mib = 0.286 }".to_owned()), "size: expected 0.286 MiB, found 10 bytes".to_owned()),
        (Some(LEN + 1), LEN, None, format!("body: expected {} bytes, found {LEN}", LEN + 1)),
        (Some(LEN - 1), LEN, None, "sha256: expected".to_owned()),
        (None, LEN - 1, None, "sha256: expected".to_owned()),
        (None, LEN - 1, size.clone(), format!("body: expected {LEN} bytes, found {}", LEN - 1)),
        (None, 2 * LEN, size, "size: expected".to_owned()),
    ] {
        let file = bytes(2 * LEN, 21);
        let server = Server::start(move |_, _| Reply::new(200, &[], &file).cut(sent).announcing(announced));
        let digest = format!("{{ sha256 = \"{}\" }}", sha256(&body));
        let mut case = Case::with(&server.url("tiny.pth"), &digest, size.as_deref());
        let error = case.fetch().expect_err(&expected).to_string();
        assert!(error.contains(&expected), "expected {expected:?} in {error:?}");
        assert!(!case.place().exists());
    }
    // An end that is not announced is as good, where the digest is right; 0.286 MiB are 299,893 bytes, give or take 524.
    for size in [None, Some("{ mib = 0.286 }")] {
        let sent = body.clone();
        let server = Server::start(move |_, _| Reply::new(200, &[], &sent).announcing(None));
        let digest = format!("{{ sha256 = \"{}\" }}", &sha256(&body)[..8]);
        Case::with(&server.url("tiny.pth"), &digest, size).check(&body);
    }
}

#[test]
fn proxies_are_used_unless_the_host_is_excepted() {
    let body = bytes(LEN, 22);
    let sent = body.clone();
    let server = Server::start(move |request, _| Reply::file(request, "\"a\"", &sent));
    let proxy = Server::start_proxy(false);
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.options.proxies = Proxies { http: Some(proxy.url("")), ..Proxies::default() };
    case.check(&body);
    let asked = proxy.requests();
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "CONNECT"));
    assert!(server.url("tiny.pth").contains(&asked[0].target), "{}", asked[0].target);

    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.options.proxies =
        Proxies { http: Some(proxy.url("")), except: vec!["127.0.0.1".to_owned()], ..Proxies::default() };
    case.check(&body);
    // The proxy for https says nothing about http.
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.options.proxies = Proxies { https: Some(proxy.url("")), ..Proxies::default() };
    case.check(&body);
    assert_eq!(proxy.requests().len(), 1);

    let proxy = Server::start_proxy(true);
    let mut case = Case::new(&server.url("tiny.pth"), &body);
    case.options.proxies = Proxies { http: Some(proxy.url("")), ..Proxies::default() };
    let error = case.fetch().expect_err("the proxy refuses").to_string();
    assert!(error.contains("cannot connect: proxy: ") && error.contains("403"), "{error}");
    case.options.proxies = Proxies { http: Some("http://".to_owned()), ..Proxies::default() };
    let error = case.fetch().expect_err("no address").to_string();
    assert!(error.starts_with("proxy: expected an address"), "{error}");
}

#[test]
fn where_nothing_listens_one_attempt_is_enough() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/tiny.pth", listener.local_addr().expect("an address"));
    drop(listener);
    let mut case = Case::new(&url, b"body");
    match case.fetch() {
        Err(ZooError::Fetch(error)) => {
            assert!(matches!(error.fault, Fault::Unreachable(_)), "{error}");
            assert_eq!(error.place, case.place());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(case.retries, 0);
}

#[test]
fn two_that_want_one_model_fetch_it_once() {
    let body = bytes(LEN, 23);
    let (sent, is_waiting) = (body.clone(), Arc::new(AtomicBool::new(false)));
    let may_answer = Arc::clone(&is_waiting);
    let server = Server::start(move |request, _| {
        server::wait_until(|| may_answer.load(Ordering::SeqCst));
        Reply::file(request, "\"a\"", &sent)
    });
    let case = Case::new(&server.url("tiny.pth"), &body);
    // A lock that nobody holds is no lock.
    std::fs::create_dir_all(case.place().parent().expect("a folder")).expect("a folder");
    std::fs::write(case.place().with_file_name(".lock"), "").expect("a file");
    let fetch = || {
        let mut waited = false;
        let path = case.cache().fetch(&case.entry, &case.options, &mut |event| {
            if matches!(event, Event::Waiting { .. }) {
                waited = true;
                is_waiting.store(true, Ordering::SeqCst);
            }
            ControlFlow::Continue(())
        });
        (path.expect("a good server"), waited)
    };
    let found = std::thread::scope(|scope| {
        let both = [scope.spawn(fetch), scope.spawn(fetch)];
        both.map(|thread| thread.join().expect("no panic"))
    });
    assert!(found.iter().all(|(path, _)| *path == case.place()));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(found.iter().filter(|(_, waited)| *waited).count(), 1);
}

#[test]
fn who_waits_can_be_told_to_stop() {
    let case = Case::new("http://host.invalid/tiny.pth", b"body");
    let folder = case.place().parent().expect("a folder").to_owned();
    std::fs::create_dir_all(&folder).expect("a folder");
    let lock = std::fs::File::create(folder.join(".lock")).expect("a file");
    lock.lock().expect("nobody else has it");
    let stopped = case.cache().fetch(&case.entry, &case.options, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(ZooError::Stopped { kept: 0, .. })), "{stopped:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let server = Server::start(|request, _| Reply::file(request, "\"a\"", b"body"));
    let case = Case::new(&server.url("tiny.pth"), b"body");
    let file = case.folder.path().join("file");
    std::fs::write(&file, "no folder").expect("a file");
    // Nobody makes a folder in /proc, not even root.
    for folder in [file, PathBuf::from("/proc/retinanet")] {
        let error = Cache::new(&folder)
            .fetch(&case.entry, &case.options, &mut |_| ControlFlow::Continue(()))
            .expect_err("no folder");
        let expected = format!("{}: cannot make the folder: ", folder.join("tiny").display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn root_certificates_must_be_some() {
    let mut case = Case::new("https://host.invalid/tiny.pth", b"body");
    let path = case.folder.path().join("roots.pem");
    case.options.root_certificates = Some(path.clone());
    let error = case.fetch().expect_err("no file").to_string();
    assert!(error.contains("roots.pem: cannot read"), "{error}");
    std::fs::write(path, "nothing of the kind").expect("a file");
    let error = case.fetch().expect_err("no certificates").to_string();
    assert!(error.contains("root certificates: expected a file of certificates in PEM form"), "{error}");
}
