use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use image::{ImageBuffer, Rgb};
use retinanet_anchors::ImageSize;

use super::*;
use crate::decode_at_least;

/// Bytes of an entry of [`Folder::picture`] without its key.
const PIXELS: u64 = 3 * 40 * 20;

struct Folder {
    folder: tempfile::TempDir,
    decoded: AtomicUsize,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), decoded: AtomicUsize::new(0) }
    }

    /// A PNG of 40 x 20 pixels.
    fn picture(&self, number: u8) -> PathBuf {
        let path = self.folder.path().join(format!("{number}.png"));
        if !path.exists() {
            let pixels = ImageBuffer::from_fn(40, 20, |x, y| Rgb([x as u8, y as u8, number]));
            pixels.save(&path).expect("a picture");
        }
        path
    }

    fn cache_folder(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn open(&self, limit: u64) -> DiskCache {
        DiskCache::open(&self.cache_folder(), limit, |what| panic!("{what}")).expect("a cache")
    }

    #[track_caller]
    fn check(&self, cache: &DiskCache, number: u8) {
        let limits = DecodeLimits::default();
        let path = self.picture(number);
        let decode = || {
            self.decoded.fetch_add(1, Ordering::Relaxed);
            decode_at_least(&path, 20, &limits)
        };
        let ReducedImage { image, original } = cache.decode(&path, None, &limits, decode).expect("a picture");
        assert_eq!((image.size, original), (ImageSize::new(40, 20), ImageSize::new(40, 20)));
        assert_eq!(image.pixels[3 * (40 * 7 + 5)..][..3], [5, 7, number]);
    }

    fn decoded(&self) -> usize {
        self.decoded.swap(0, Ordering::Relaxed)
    }

    fn entries(&self) -> Vec<(PathBuf, u64)> {
        let files = fs::read_dir(self.cache_folder()).expect("a folder").map(|file| file.expect("a file").path());
        let entries = files.filter(|path| entry::is_entry(path) || entry::is_temporary(path));
        // One may be renamed or removed meanwhile.
        entries.filter_map(|path| Some((path.clone(), fs::metadata(path).ok()?.len()))).collect()
    }

    fn bytes(&self) -> u64 {
        self.entries().iter().map(|(_, bytes)| bytes).sum()
    }
}

#[test]
fn what_was_decoded_once_is_there_for_the_next_process() {
    let folder = Folder::new();
    let cache = folder.open(1 << 20);
    for (round, decoded) in [(0, 3), (1, 0)] {
        (0..3).for_each(|number| folder.check(&cache, number));
        assert_eq!(folder.decoded(), decoded, "round {round}");
    }
    let statistics = CacheStatistics { hits: 3, misses: 3, damaged: 0, held_bytes: folder.bytes() };
    assert_eq!(cache.statistics(), statistics);
    assert!(statistics.held_bytes > 3 * PIXELS);

    let next = folder.open(1 << 20);
    (0..3).for_each(|number| folder.check(&next, number));
    assert_eq!((folder.decoded(), next.statistics().held_bytes), (0, statistics.held_bytes));
    // A file that was replaced is another one.
    let path = folder.picture(1);
    fs::remove_file(&path).expect("it was there");
    ImageBuffer::from_pixel(9, 9, Rgb([1u8, 2, 3])).save(&path).expect("a picture");
    let image =
        next.decode(&path, None, &DecodeLimits::default(), || decode_at_least(&path, 9, &DecodeLimits::default()));
    assert_eq!(image.expect("a picture").image.size, ImageSize::new(9, 9));
}

#[test]
fn whole_and_reduced_pictures_are_apart() {
    let folder = Folder::new();
    let (cache, path, limits) = (folder.open(1 << 20), folder.picture(4), DecodeLimits::default());
    for _ in 0..2 {
        folder.check(&cache, 4);
        let half = cache.decode(&path, Some(10), &limits, || decode_at_least(&path, 10, &limits)).expect("a picture");
        assert_eq!((half.image.size, half.original), (ImageSize::new(20, 10), ImageSize::new(40, 20)));
    }
    assert_eq!((cache.statistics().hits, cache.statistics().misses), (2, 2));
}

#[test]
fn a_damaged_entry_is_decoded_anew_and_replaced() {
    let folder = Folder::new();
    let cache = folder.open(1 << 20);
    folder.check(&cache, 0);
    let (path, length) = folder.entries().remove(0);
    let whole = fs::read(&path).expect("an entry");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let last = whole.len() - 1;
    let mut damages: Vec<Vec<u8>> = [0, 9, 13, 17, 21, 25, 29, 40, last - 2000, last].map(flipped).to_vec();
    damages.extend([Vec::new(), whole[..20].to_vec(), whole[..last].to_vec(), [&whole[..], &[0]].concat()]);
    // A header that asks for more memory than there is.
    damages.push([&whole[..16], &[0xFF; 16], &whole[32..]].concat());
    for (idx, damage) in damages.iter().enumerate() {
        folder.decoded();
        fs::write(&path, damage).expect("an entry");
        folder.check(&cache, 0);
        assert_eq!((folder.decoded(), cache.statistics().damaged), (1, idx as u64 + 1), "damage {idx}");
        assert_eq!(fs::read(&path).expect("an entry"), whole, "damage {idx}");
        folder.check(&cache, 0);
        assert_eq!(folder.decoded(), 0, "damage {idx}");
    }
    // The account never fell behind what is there.
    assert!(cache.statistics().held_bytes >= length);
    // Once nobody uses the folder, it is counted anew.
    drop(cache);
    assert_eq!(folder.open(1 << 20).statistics().held_bytes, length);
}

#[test]
fn the_limit_holds_and_what_is_used_stays() {
    let folder = Folder::new();
    folder.check(&folder.open(1 << 20), 9);
    let one = folder.bytes();
    let limit = 2 * one + one / 2;
    let cache = folder.open(limit);
    // 9 is older, and gives way; of 0 to 2 two fit.
    for decoded in [3, 1, 1] {
        folder.decoded();
        (0..3).for_each(|number| folder.check(&cache, number));
        assert_eq!((folder.decoded(), folder.entries().len()), (decoded, 2));
        assert!(folder.bytes() <= limit);
    }
    folder.check(&cache, 9);
    assert_eq!(folder.decoded(), 1);
    // An entry that is larger than all the room pushes nobody out.
    let small = folder.open(one / 2);
    folder.check(&small, 5);
    assert_eq!(folder.entries().len(), 2);
}

#[test]
fn the_oldest_go_first() {
    let folder = Folder::new();
    let first = folder.open(1 << 20);
    let mut paths = Vec::new();
    for (number, age) in [(0, 300), (1, 100), (2, 200)] {
        folder.check(&first, number);
        let path = folder.entries().into_iter().map(|(path, _)| path).find(|path| !paths.contains(path)).expect("new");
        let file = fs::File::options().write(true).open(&path).expect("an entry");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("a time");
        paths.push(path);
    }
    let second = folder.open(folder.bytes());
    // What is used is not old any more.
    folder.check(&second, 0);
    folder.check(&second, 7);
    assert_eq!(paths.iter().map(|path| path.exists()).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn processes_that_share_a_folder_share_its_limit() {
    let folder = Folder::new();
    (0..16).for_each(|number| _ = folder.picture(number));
    let scratch = Folder::new();
    scratch.check(&scratch.open(1 << 20), 0);
    let limit = 10 * scratch.bytes() + 200;
    std::thread::scope(|scope| {
        for start in 0..4u8 {
            let folder = &folder;
            // Each with an account of its own, as processes have.
            scope.spawn(move || {
                let cache = folder.open(limit);
                for round in 0..5 {
                    (0..16u8).for_each(|number| folder.check(&cache, (number * 5 + 4 * start + round) % 16));
                    assert!(folder.bytes() <= limit);
                }
                assert_eq!(cache.statistics().damaged, 0);
            });
        }
    });
    assert!(folder.entries().len() >= 5);
    assert!(folder.entries().iter().all(|(path, _)| entry::is_entry(path)));
    assert!(folder.open(limit).statistics().held_bytes <= limit);
}

#[test]
fn a_full_disk_is_said_once_and_leaves_no_trace() {
    let folder = Folder::new();
    let said = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&said);
    let warn = move |what: &str| told.lock().expect("no panic").push(what.to_owned());
    let mut cache = DiskCache::open(&folder.cache_folder(), 1 << 20, warn).expect("a cache");
    folder.check(&cache, 0);
    let before = folder.bytes();
    cache.write = |folder, path, parts| {
        let half = &parts[1][..parts[1].len() / 2];
        let mut file = tempfile::Builder::new().prefix("entry-").suffix(".tmp").tempfile_in(folder)?;
        io::Write::write_all(&mut file, half)?;
        let _ = path;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    for number in [1, 2, 1, 0] {
        folder.check(&cache, number);
    }
    assert_eq!(folder.decoded(), 1 + 3);
    assert_eq!((folder.bytes(), folder.entries().len(), cache.statistics().held_bytes), (before, 1, before));
    let said = said.lock().expect("no panic");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("cache: ") && said[0].ends_with("no further images are kept"), "{}", said[0]);
}

#[test]
fn only_our_own_files_are_counted_or_removed() {
    let folder = Folder::new();
    folder.check(&folder.open(1 << 20), 0);
    let cache_folder = folder.cache_folder();
    let theirs = ["letter.txt", "photo.rgb", "0123456789abcdef0123456789abcdeX.rgb", "entry-1", "x.tmp"];
    theirs.iter().for_each(|name| fs::write(cache_folder.join(name), [0; 4096]).expect("a file"));
    let abandoned = cache_folder.join("entry-abc.tmp");
    fs::write(&abandoned, [0; 4096]).expect("a file");
    let file = fs::File::options().write(true).open(&abandoned).expect("a file");
    file.set_modified(SystemTime::now() - 2 * ABANDONED).expect("a time");
    let being_written = cache_folder.join("entry-abd.tmp");
    fs::write(&being_written, [0; 10]).expect("a file");

    let ours = folder.bytes() - 4096;
    let cache = folder.open(ours);
    assert_eq!(cache.statistics().held_bytes, ours);
    assert!(!abandoned.exists() && being_written.exists());
    folder.check(&cache, 1);
    assert!(theirs.iter().all(|name| cache_folder.join(name).exists()));
}

#[test]
fn a_file_without_a_picture_stays_an_error() {
    let folder = Folder::new();
    let cache = folder.open(1 << 20);
    let limits = DecodeLimits::default();
    for name in ["none.png", "text.png"] {
        let path = folder.folder.path().join(name);
        if name == "text.png" {
            fs::write(&path, "no picture").expect("a file");
        }
        for _ in 0..2 {
            let image = cache.decode(&path, None, &limits, || decode_at_least(&path, 1, &limits));
            assert!(image.expect_err("no picture").to_string().contains(name));
        }
    }
    assert!(folder.entries().is_empty());
}

#[test]
fn pixels_beyond_a_limit_do_not_come_from_the_cache() {
    let folder = Folder::new();
    let cache = folder.open(1 << 20);
    folder.check(&cache, 0);
    let (path, limits) = (folder.picture(0), DecodeLimits { max_pixels: 100, ..DecodeLimits::default() });
    let error = cache.decode(&path, None, &limits, || decode_at_least(&path, 20, &limits)).expect_err("too large");
    assert!(error.to_string().contains("expected at most 100, found 800"), "{error}");
}
