//! Requests: what they are made with, and what comes back of them.

use crate::error::{Fault, ZooError};
use crate::part::Validator;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, BodyReader, Proxy};

/// How files are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// Through which proxies.
    pub proxies: Proxies,
    /// A file of certificates (PEM) to trust instead of Mozilla's, as behind a proxy that opens TLS.
    pub root_certificates: Option<PathBuf>,
    /// Longest wait for a connection. Default 15 s.
    pub connect_timeout: Duration,
    /// Longest wait for the next bytes. Default 30 s.
    pub read_timeout: Duration,
    /// How many times in a row a server may fail without a byte coming, 1 or more. Default 5.
    pub attempts: usize,
    /// Wait before the second attempt; doubled before each further one. Default half a second.
    pub backoff: Duration,
    /// Most redirects in a row. Default 5.
    pub max_redirects: u32,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            proxies: Proxies::default(),
            root_certificates: None,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
            attempts: 5,
            backoff: Duration::from_millis(500),
            max_redirects: 5,
        }
    }
}

/// Proxies by the scheme of the address that is asked for, each as `http://user:password@host:port`.
///
/// A proxy is asked to open a tunnel (`CONNECT`), for http too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For http.
    pub http: Option<String>,
    /// For https.
    pub https: Option<String>,
    /// Hosts that are reached without one; `example.com` stands for all below it too, `*` for all.
    pub except: Vec<String>,
}

impl Proxies {
    fn of(&self, url: &str) -> Result<Option<Proxy>, ZooError> {
        let address = if url.starts_with("https:") { &self.https } else { &self.http };
        let Some(address) = address.as_deref().filter(|address| !address.is_empty()) else { return Ok(None) };
        let wrong = |_| ZooError::Option {
            what: "proxy",
            expected: "an address as http://host:port",
            found: address.to_owned(),
        };
        let parsed = Proxy::new(address).map_err(wrong)?;
        let mut builder = Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
        if let Some(username) = parsed.username() {
            builder = builder.username(username);
        }
        if let Some(password) = parsed.password() {
            builder = builder.password(password);
        }
        for host in self.except.iter().map(|host| host.trim()).filter(|host| !host.is_empty()) {
            builder = builder.no_proxy(host);
            if !host.starts_with(['*', '.']) {
                builder = builder.no_proxy(&format!(".{host}"));
            }
        }
        builder.build().map(Some).map_err(wrong)
    }
}

/// Asks for one file.
pub(crate) struct Client {
    agent: Agent,
    max_redirects: u32,
}

/// An answer whose body has not been read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) validator: Option<Validator>,
    /// Bytes of this body, where the server says.
    pub(crate) length: Option<u64>,
    /// Of a part: its first byte, where the header can be read, and the bytes of the whole, where known.
    pub(crate) range: Option<(Option<u64>, Option<u64>)>,
    /// How long to wait before asking again, where the server says.
    pub(crate) retry_after: Option<Duration>,
    body: BodyReader<'static>,
}

/// What came of a request, if no answer.
pub(crate) enum Failure {
    /// It may go better the next time.
    Passing(Fault),
    /// There is no connection at all: worth a second try only where there was one before.
    Unreachable(Fault),
    /// It will be the same the next time.
    Lasting(Fault),
}

impl Client {
    pub(crate) fn new(options: &FetchOptions, url: &str) -> Result<Self, ZooError> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &options.root_certificates {
            let pem = std::fs::read(path).map_err(ZooError::io(path, "cannot read"))?;
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                let (what, expected) = ("root certificates", "a file of certificates in PEM form");
                return Err(ZooError::Option { what, expected, found: path.display().to_string() });
            }
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
        }
        let config = Agent::config_builder()
            // Without this line, the environment would be asked.
            .proxy(options.proxies.of(url)?)
            .tls_config(tls.build())
            .user_agent(concat!("retinanet/", env!("CARGO_PKG_VERSION")))
            .https_only(url.starts_with("https:"))
            .http_status_as_error(false)
            .max_redirects(options.max_redirects)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_per_read(Some(options.read_timeout))
            .timeout_per_write(Some(options.read_timeout))
            .timeout_recv_response(Some(options.read_timeout))
            .build();
        Ok(Self { agent: config.new_agent(), max_redirects: options.max_redirects })
    }

    /// Asks for all of the file, or for what follows the first bytes of this state of it.
    pub(crate) fn get(&self, url: &str, rest: Option<(u64, &Validator)>) -> Result<Answer, Failure> {
        // What is counted and hashed are the bytes of the file, not of a compressed form.
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if let Some((from, validator)) = rest {
            request =
                request.header(header::RANGE, format!("bytes={from}-")).header(header::IF_RANGE, validator.as_str());
        }
        let response = request.call().map_err(|error| self.failure(error))?;
        let (parts, body) = response.into_parts();
        Ok(Answer::new(parts.status.as_u16(), &parts.headers, body))
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        use ureq::Error;
        match error {
            Error::TooManyRedirects => Failure::Lasting(Fault::Redirects(self.max_redirects)),
            Error::RequireHttpsOnly(url) => Failure::Lasting(Fault::Insecure(url)),
            Error::HostNotFound => Failure::Unreachable(Fault::Unreachable("the host's name is not known".to_owned())),
            Error::ConnectProxyFailed(text) => Failure::Unreachable(Fault::Unreachable(format!("proxy: {text}"))),
            // rustls speaks through an I/O error while it shakes hands.
            Error::Io(error) if error.get_ref().is_some() && error.kind() == io::ErrorKind::InvalidData => {
                Failure::Lasting(Fault::Tls(error.to_string()))
            }
            Error::Io(error) if !is_passing(error.kind()) => {
                Failure::Unreachable(Fault::Unreachable(error.to_string()))
            }
            Error::Tls(text) => Failure::Lasting(Fault::Tls(text.to_owned())),
            Error::Rustls(error) => Failure::Lasting(Fault::Tls(error.to_string())),
            Error::Timeout(timeout) => Failure::Passing(Fault::Timeout(timeout.to_string())),
            Error::BadUri(_) | Error::Http(_) | Error::RedirectFailed | Error::LargeResponseHeader(..) => {
                Failure::Lasting(Fault::Connection(error.to_string()))
            }
            _ => Failure::Passing(Fault::Connection(error.to_string())),
        }
    }
}

/// What happens to connections that exist. Else there is none: nobody listens, no way leads there, the name is unknown (which
/// has no kind of its own).
fn is_passing(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof, WouldBlock,
    };
    matches!(
        kind,
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | TimedOut | UnexpectedEof | WouldBlock
    )
}

impl Answer {
    fn new(status: u16, headers: &HeaderMap, body: Body) -> Self {
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let seconds = text(header::RETRY_AFTER).and_then(|value| value.trim().parse().ok());
        Self {
            status,
            validator: Validator::of(text(header::ETAG), text(header::LAST_MODIFIED)),
            length: body.content_length(),
            range: text(header::CONTENT_RANGE).map(content_range),
            retry_after: seconds.map(Duration::from_secs),
            body: body.into_reader(),
        }
    }

    /// The next bytes of the body, 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        loop {
            return match self.body.read(buffer) {
                Ok(count) => Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(match ureq::Error::from(error) {
                    ureq::Error::Timeout(timeout) => Fault::Timeout(timeout.to_string()),
                    error => Fault::Connection(error.to_string()),
                }),
            };
        }
    }
}

/// First byte and whole size of `bytes 10-19/20`, `bytes 10-19/*` and `bytes */20`.
fn content_range(text: &str) -> (Option<u64>, Option<u64>) {
    let (range, whole) = text.trim().strip_prefix("bytes").unwrap_or("").trim().split_once('/').unwrap_or_default();
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    (first, whole.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        for (text, expected) in [
            ("bytes 10-19/20", (Some(10), Some(20))),
            ("bytes 0-0/*", (Some(0), None)),
            ("bytes */20", (None, Some(20))),
            (" bytes  10-19/20 ", (Some(10), Some(20))),
            ("bytes=10-19/20", (None, Some(20))),
            ("lines 1-2/3", (None, None)),
            ("bytes 99999999999999999999-1/99999999999999999999", (None, None)),
            ("", (None, None)),
        ] {
            assert_eq!(content_range(text), expected, "{text:?}");
        }
    }

    #[track_caller]
    fn check_failure(error: ureq::Error, expected: &str) {
        let client = Client::new(&FetchOptions::default(), "http://a.org").expect("good options");
        let shown = format!("{error:?}");
        let found = match client.failure(error) {
            Failure::Passing(fault) => format!("passing: {fault}"),
            Failure::Unreachable(fault) => format!("unreachable: {fault}"),
            Failure::Lasting(fault) => format!("lasting: {fault}"),
        };
        assert!(found.starts_with(expected), "{shown}: expected {expected:?}, found {found:?}");
    }

    #[test]
    fn failures_are_told_apart_by_what_another_attempt_would_bring() {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, InvalidData, NetworkUnreachable, UnexpectedEof};
        // As the system's resolver says it, without a kind.
        let lookup = io::Error::other("failed to lookup address information");
        check_failure(lookup.into(), "unreachable: cannot connect: failed to lookup");
        check_failure(ureq::Error::HostNotFound, "unreachable: cannot connect");
        check_failure(io::Error::from(ConnectionRefused).into(), "unreachable: cannot connect");
        check_failure(io::Error::from(NetworkUnreachable).into(), "unreachable: cannot connect");
        check_failure(io::Error::from(ConnectionReset).into(), "passing: connection: ");
        check_failure(io::Error::from(UnexpectedEof).into(), "passing: connection: ");
        check_failure(io::Error::new(InvalidData, "unknown issuer").into(), "lasting: no secure connection: unknown");
        check_failure(ureq::Error::TooManyRedirects, "lasting: redirects: expected at most 5");
        let insecure = ureq::Error::RequireHttpsOnly("http://b.org".to_owned());
        check_failure(insecure, "lasting: redirect: expected https, found http://b.org");
        check_failure(ureq::Error::Timeout(ureq::Timeout::Connect), "passing: expected an answer in time");
    }

    #[track_caller]
    fn check_proxy(proxies: &Proxies, url: &str, expected: Option<(&str, u16)>) {
        let proxy = proxies.of(url).expect("an address");
        let used = proxy.filter(|proxy| !proxy.is_no_proxy(&url.parse().expect("an address")));
        assert_eq!(used.as_ref().map(|proxy| (proxy.host(), proxy.port())), expected, "{url}");
    }

    #[test]
    fn the_proxy_goes_by_scheme_and_host() {
        let proxies = Proxies {
            http: Some("http://one:3128".to_owned()),
            https: Some("user:p%40ss@two:8080".to_owned()),
            except: vec![" example.com".to_owned(), ".inner.net".to_owned(), String::new()],
        };
        check_proxy(&proxies, "http://a.org/x", Some(("one", 3128)));
        check_proxy(&proxies, "https://a.org/x", Some(("two", 8080)));
        check_proxy(&proxies, "https://example.com/x", None);
        check_proxy(&proxies, "https://sub.example.com/x", None);
        check_proxy(&proxies, "https://notexample.com/x", Some(("two", 8080)));
        check_proxy(&proxies, "https://a.inner.net/x", None);
        check_proxy(&Proxies { except: vec!["*".to_owned()], ..proxies.clone() }, "http://a.org/x", None);
        check_proxy(&Proxies::default(), "https://a.org/x", None);
        let proxy = proxies.of("https://a.org").expect("an address").expect("a proxy");
        assert_eq!((proxy.username(), proxy.password()), (Some("user"), Some("p@ss")));
        let wrong = Proxies { http: Some("no proxy at all".to_owned()), ..Proxies::default() };
        let error = wrong.of("http://a.org").expect_err("no address").to_string();
        assert!(error.contains("proxy: expected") && error.contains("no proxy at all"), "{error}");
    }
}
