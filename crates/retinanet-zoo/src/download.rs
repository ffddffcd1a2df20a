//! From an address to a checked file: parts, retries, and what the server does between them.

use crate::agent::{Answer, Client, Failure, FetchOptions};
use crate::cache::Checked;
use crate::digest::Digests;
use crate::error::{Fault, FetchError, ZooError};
use crate::model::{Entry, Size};
use crate::part::Part;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// What happens while a model is fetched.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another process is fetching the model, which is waited for; said at every look.
    Waiting {
        /// The model.
        name: &'a str,
    },
    /// The server has begun to send.
    Started {
        /// The model.
        name: &'a str,
        /// Its address.
        url: &'a str,
        /// Bytes that are there from before.
        from: u64,
        /// Bytes of the whole file, where known.
        total: Option<u64>,
    },
    /// Bytes have come, or, while a pause lasts, none.
    Progress {
        /// Bytes that are there now.
        done: u64,
        /// Bytes of the whole file, where known.
        total: Option<u64>,
    },
    /// What was there is of no use, and the file is fetched from its first byte.
    Restarted(Restart),
    /// The server failed, and is asked again after a while.
    Retrying {
        /// How often it has failed in a row.
        failures: usize,
        /// How often it may.
        attempts: usize,
        /// What happened.
        fault: &'a Fault,
        /// How long is waited.
        wait: Duration,
    },
    /// The file is there.
    Fetched {
        /// The model.
        name: &'a str,
        /// Its SHA-256, all of it.
        sha256: &'a str,
        /// What that was compared with.
        checked: Checked,
    },
}

/// Why a file is fetched from its first byte though some of it was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// The file has changed on the server, or the server does not tell whether it has.
    Changed,
    /// The server sends files only as a whole.
    NoRanges,
    /// The parts together have another digest than the file should have.
    Damaged,
}

impl std::fmt::Display for Restart {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Changed => "the file may have changed on the server since its first part came",
            Self::NoRanges => "the server sends the file only as a whole",
            Self::Damaged => "the parts do not make the file that the manifest describes",
        })
    }
}

/// Tells the caller, who may say that it is enough.
pub(crate) type OnEvent<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// Without a published size and an announced length, more than this is no model.
const MOST_BYTES: u64 = 8 << 30;

/// What a server may ask to wait at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Fetches a file into its place, whole and with the right digest.
pub(crate) fn download(
    entry: &Entry,
    url: &str,
    target: &Path,
    options: &FetchOptions,
    on_event: &mut OnEvent,
) -> Result<Digests, ZooError> {
    let mut download = Download {
        entry,
        url,
        target,
        client: Client::new(options, url)?,
        part: Part::open(target, url)?,
        total: None,
        has_answered: false,
    };
    download.fetch(options, on_event)?;
    let mut digests = download.part.digests();
    if download.part.is_pieced() && !entry_has(entry, &digests) {
        download.tell(Event::Restarted(Restart::Damaged), on_event)?;
        download.part.restart(None)?;
        download.fetch(options, on_event)?;
        digests = download.part.digests();
    }
    if let Err(error) = crate::cache::compare(entry, &digests, url, true) {
        download.part.remove()?;
        return Err(error);
    }
    download.part.finish(target)?;
    Ok(digests)
}

fn entry_has(entry: &Entry, digests: &Digests) -> bool {
    entry.digest.known().is_none_or(|(algorithm, digits)| digests.of(algorithm).starts_with(digits))
}

/// How one attempt ended, if not with the whole file.
enum Stop {
    /// It is worth another attempt, after this long if the server says so.
    Retry(Fault, Option<Duration>),
    /// What was there is gone, and another attempt begins at once.
    Again,
    /// It will not get better.
    Fail(ZooError),
}

impl From<ZooError> for Stop {
    fn from(error: ZooError) -> Self {
        Self::Fail(error)
    }
}

struct Download<'a> {
    entry: &'a Entry,
    url: &'a str,
    target: &'a Path,
    client: Client,
    part: Part,
    /// Bytes of the whole file, once the server has said.
    total: Option<u64>,
    /// Whether the server has been reached already.
    has_answered: bool,
}

impl Download<'_> {
    /// Attempts until the part is whole.
    fn fetch(&mut self, options: &FetchOptions, on_event: &mut OnEvent) -> Result<(), ZooError> {
        let attempts = options.attempts.max(1);
        let (mut failures, mut furthest) = (0, self.part.len());
        loop {
            let (fault, retry_after) = match self.attempt(on_event) {
                Ok(()) => return Ok(()),
                Err(Stop::Fail(error)) => return Err(error),
                Err(Stop::Again) => continue,
                Err(Stop::Retry(fault, retry_after)) => (fault, retry_after),
            };
            // A long file on a poor line comes in many pieces: only failures that lead no further are counted.
            failures = if self.part.len() > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(self.part.len());
            if failures >= attempts {
                return Err(self.error(fault));
            }
            let doubled = options.backoff.saturating_mul(1 << (failures - 1).min(16));
            let wait = retry_after.unwrap_or(doubled).min(LONGEST_WAIT);
            self.tell(Event::Retrying { failures, attempts, fault: &fault, wait }, on_event)?;
            self.pause(wait, on_event)?;
        }
    }

    /// One request, and its body into the part.
    fn attempt(&mut self, on_event: &mut OnEvent) -> Result<(), Stop> {
        let rest = self.part.validator().filter(|_| self.part.len() > 0).map(|validator| (self.part.len(), validator));
        let is_rest = rest.is_some();
        if !is_rest && self.part.len() > 0 {
            self.tell(Event::Restarted(Restart::Changed), on_event)?;
        }
        let mut answer = self.client.get(self.url, rest).map_err(|failure| match failure {
            Failure::Passing(fault) => Stop::Retry(fault, None),
            Failure::Unreachable(fault) if self.has_answered => Stop::Retry(fault, None),
            Failure::Unreachable(fault) | Failure::Lasting(fault) => Stop::Fail(self.error(fault)),
        })?;
        self.has_answered = true;
        self.total = match answer.status {
            200 => self.begin(&answer, is_rest, on_event)?,
            206 if is_rest => self.go_on(&answer, on_event)?,
            416 if is_rest => return self.past_the_end(&answer, on_event),
            408 | 429 | 500..=599 => return Err(Stop::Retry(Fault::Status(answer.status), answer.retry_after)),
            status => return Err(Stop::Fail(self.error(Fault::Status(status)))),
        };
        let (name, url, from) = (self.entry.name.as_str(), self.url, self.part.len());
        self.tell(Event::Started { name, url, from, total: self.total }, on_event)?;
        self.receive(&mut answer, on_event)
    }

    /// The file from its first byte.
    fn begin(&mut self, answer: &Answer, is_rest: bool, on_event: &mut OnEvent) -> Result<Option<u64>, Stop> {
        if is_rest {
            let is_same = answer.validator.as_ref() == self.part.validator();
            let reason = if is_same { Restart::NoRanges } else { Restart::Changed };
            self.tell(Event::Restarted(reason), on_event)?;
        }
        self.check_announced(answer.length)?;
        self.part.restart(answer.validator.clone())?;
        Ok(answer.length)
    }

    /// The file from where the part ends.
    fn go_on(&mut self, answer: &Answer, on_event: &mut OnEvent) -> Result<Option<u64>, Stop> {
        let (first, whole) = answer.range.unwrap_or_default();
        // A server that knows no `If-Range` sends the part of another file.
        let is_same = answer.validator.is_none() || answer.validator.as_ref() == self.part.validator();
        if first != Some(self.part.len()) || !is_same {
            return self.again(on_event);
        }
        let whole = whole.or_else(|| answer.length.map(|length| self.part.len() + length));
        self.check_announced(whole)?;
        self.part.resume();
        Ok(whole)
    }

    /// The server has no bytes behind those of the part: these may be all.
    fn past_the_end(&mut self, answer: &Answer, on_event: &mut OnEvent) -> Result<(), Stop> {
        match answer.range {
            Some((_, Some(whole))) if whole == self.part.len() => {
                self.check_announced(Some(whole))?;
                self.part.resume();
                Ok(())
            }
            _ => self.again(on_event),
        }
    }

    fn again<T>(&mut self, on_event: &mut OnEvent) -> Result<T, Stop> {
        self.tell(Event::Restarted(Restart::Changed), on_event)?;
        self.part.restart(None)?;
        Err(Stop::Again)
    }

    /// The body into the part.
    fn receive(&mut self, answer: &mut Answer, on_event: &mut OnEvent) -> Result<(), Stop> {
        let total = self.total;
        let most = total.or(self.entry.size.map(Size::upper_bound)).unwrap_or(MOST_BYTES);
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = answer.read(&mut buffer).map_err(|fault| match total {
                Some(expected) if matches!(fault, Fault::Connection(_)) => {
                    Stop::Retry(Fault::Cut { expected, found: self.part.len() }, None)
                }
                _ => Stop::Retry(fault, None),
            })?;
            if count == 0 {
                break;
            }
            if self.part.len() + count as u64 > most {
                return Err(Stop::Fail(self.size_error(self.part.len() + count as u64, most)));
            }
            self.part.write(&buffer[..count])?;
            self.tell(Event::Progress { done: self.part.len(), total }, on_event)?;
        }
        let found = self.part.len();
        match total {
            Some(expected) if found < expected => Err(Stop::Retry(Fault::Cut { expected, found }, None)),
            Some(_) => Ok(()),
            // Nothing was announced: the end of the connection is the end of the file, or it broke.
            None => match self.entry.size {
                Some(size) if !size.fits(found) => {
                    Err(Stop::Retry(Fault::Cut { expected: size.approximate_bytes(), found }, None))
                }
                _ => Ok(()),
            },
        }
    }

    /// What the server announces is compared before it is fetched.
    fn check_announced(&self, bytes: Option<u64>) -> Result<(), Stop> {
        match (self.entry.size, bytes) {
            (Some(size), Some(bytes)) if !size.fits(bytes) => {
                Err(Stop::Fail(self.size_error(bytes, size.upper_bound())))
            }
            (None, Some(bytes)) if bytes > MOST_BYTES => Err(Stop::Fail(self.size_error(bytes, MOST_BYTES))),
            _ => Ok(()),
        }
    }

    fn size_error(&self, found: u64, most: u64) -> ZooError {
        let expected = self.entry.size.map_or_else(|| format!("at most {most} bytes"), |size| size.to_string());
        ZooError::Size { what: self.url.to_owned(), expected, found }
    }

    /// Waits, and goes on asking whether to.
    fn pause(&self, wait: Duration, on_event: &mut OnEvent) -> Result<(), ZooError> {
        let end = Instant::now() + wait;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(Duration::from_millis(50)));
            self.tell(Event::Progress { done: self.part.len(), total: self.total }, on_event)?;
        }
        Ok(())
    }

    fn tell(&self, event: Event, on_event: &mut OnEvent) -> Result<(), ZooError> {
        match on_event(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ZooError::Stopped { name: self.entry.name.clone(), kept: self.part.len() }),
        }
    }

    fn error(&self, fault: Fault) -> ZooError {
        ZooError::Fetch(Box::new(FetchError {
            name: self.entry.name.clone(),
            url: self.url.to_owned(),
            fault,
            place: self.target.to_owned(),
            digest: self.entry.digest.clone(),
        }))
    }
}
