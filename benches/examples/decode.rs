//! Times the decoding of image files on one thread, for `cargo xtask bench --peers --only loader`: one path a line of the
//! first argument, as many rounds as the second says. Prints the mean over the files of the best of each file's rounds.

use retinanet_data::{DecodeLimits, decode_at_least, decode_file, image_size};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

/// What is timed of each file: whole, and with the sides divided.
const DIVISORS: [usize; 4] = [1, 2, 4, 8];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [list, rounds] = &arguments[..] else { return Err("usage: decode LIST_OF_FILES ROUNDS".into()) };
    let paths: Vec<PathBuf> = std::fs::read_to_string(list)?.lines().map(PathBuf::from).collect();
    let limits = DecodeLimits::default();
    let mut best = vec![[f64::INFINITY; DIVISORS.len()]; paths.len()];
    for _ in 0..rounds.parse::<usize>()? {
        for (path, best) in paths.iter().zip(&mut best) {
            let size = image_size(path)?;
            let shorter = size.width.min(size.height);
            for (best, divisor) in best.iter_mut().zip(DIVISORS) {
                let start = Instant::now();
                if divisor == 1 {
                    black_box(decode_file(path, &limits)?);
                } else {
                    black_box(decode_at_least(path, shorter.div_ceil(divisor), &limits)?);
                }
                *best = best.min(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let mean = |column: usize| best.iter().map(|times| times[column]).sum::<f64>() / paths.len().max(1) as f64;
    let fields = DIVISORS.iter().enumerate().map(|(column, divisor)| format!("\"1/{divisor}\": {:.4}", mean(column)));
    println!("{{{}}}", fields.collect::<Vec<_>>().join(", "));
    Ok(())
}
