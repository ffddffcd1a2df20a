//! A server on loopback that does what a test tells it, and one that passes connections on.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    /// A header, empty where it was not sent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The first byte asked for.
    pub(crate) fn range_start(&self) -> Option<usize> {
        self.header("range").strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What a server answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that are really sent.
    pub(crate) sent: usize,
    /// How long the connection then stays open.
    pub(crate) stall: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Self {
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        headers.push(("Content-Length", body.len().to_string()));
        Self { status, headers, body: body.to_vec(), sent: body.len(), stall: Duration::ZERO }
    }

    /// A file as servers give it: all of it, or what is asked for if the file is still the same.
    pub(crate) fn file(request: &Request, etag: &str, body: &[u8]) -> Self {
        let is_same = request.header("if-range") == etag;
        match request.range_start().filter(|_| is_same) {
            Some(start) if start >= body.len() => {
                Self::new(416, &[("Content-Range", &format!("bytes */{}", body.len()))], b"")
            }
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
                Self::new(206, &[("ETag", etag), ("Content-Range", &range)], &body[start..])
            }
            None => Self::new(200, &[("ETag", etag), ("Accept-Ranges", "bytes")], body),
        }
    }

    /// The same, ended after so many bytes of the body.
    pub(crate) fn cut(self, sent: usize) -> Self {
        Self { sent: sent.min(self.body.len()), ..self }
    }

    /// The same, left open at the end.
    pub(crate) fn stalling(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// The same with this length announced instead; none if not given.
    pub(crate) fn announcing(mut self, length: Option<usize>) -> Self {
        self.headers.retain(|(name, _)| *name != "Content-Length");
        self.headers.extend(length.map(|length| ("Content-Length", length.to_string())));
        self
    }

    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", self.status);
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body[..self.sent])?;
        stream.flush()?;
        thread::sleep(self.stall);
        // The other side reads to the end before the connection goes, which it would not if bytes of it were unread here.
        stream.shutdown(Shutdown::Write)
    }
}

/// A server that runs until the test ends.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request, with its number from 0.
    pub(crate) fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let address = accept(move |mut stream| {
            let Some(request) = read_request(&mut stream) else { return };
            let number = {
                let mut seen = seen.lock().expect("no test thread panicked");
                seen.push(request.clone());
                seen.len() - 1
            };
            // A client may leave before the end.
            let _ = answer(&request, number).write(&mut stream);
        });
        Self { address, requests }
    }

    /// A proxy that opens a tunnel to whatever it is asked for, or refuses.
    pub(crate) fn start_proxy(refuses: bool) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let address = accept(move |mut stream| {
            let Some(request) = read_request(&mut stream) else { return };
            seen.lock().expect("no test thread panicked").push(request.clone());
            if refuses || request.method != "CONNECT" {
                let _ = Reply::new(403, &[], b"").write(&mut stream);
                return;
            }
            let Ok(mut target) = TcpStream::connect(&request.target) else { return };
            let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
            let (mut from, mut to) = (stream.try_clone().expect("a socket"), target.try_clone().expect("a socket"));
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
            });
            let _ = std::io::copy(&mut target, &mut stream);
            let _ = stream.shutdown(Shutdown::Both);
        });
        Self { address, requests }
    }

    /// An address on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// What it was asked for so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test thread panicked").clone()
    }
}

fn accept(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new((&mut *stream).take(1 << 16));
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => return Some(Request { method, target, headers }),
        };
    }
}

/// Waits for something that another thread or process does.
#[track_caller]
pub(crate) fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..1200 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come about within a minute");
}

/// Bytes that look like nothing, the same for one seed.
pub(crate) fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// A manifest with one model. `digest` and `size` are as they are written there.
pub(crate) fn manifest(url: &str, digest: &str, size: Option<&str>) -> String {
    let size = size.map_or(String::new(), |size| format!("size = {size}\n"));
    format!(
        r#"
[[model]]
name = "tiny"
task = "detector"
format = "torchvision"
backbone = "resnet18"
source = {{ url = "{url}" }}
file = "tiny.pth"
digest = {digest}
{size}licence = "CC0-1.0"
page = "https://example.org/tiny"
classes = "coco91"
preprocessing = {{ channels = "rgb", pixel_max = 1, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }}
metric = {{ kind = "box_ap", percent = 12.5, data = "nothing" }}
"#
    )
}
