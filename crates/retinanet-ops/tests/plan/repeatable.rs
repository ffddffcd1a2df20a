//! The same bits from run to run, on any number of threads, alone or in a batch.

use super::network::{Network, run_first, run_rest};
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::plan::{Plan, Session};

const fn is_shared<T: Send + Sync>() {}
const _: () = is_shared::<Plan>();
const _: () = is_shared::<Session>();

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

fn plans() -> impl Iterator<Item = Plan> {
    [false, true].into_iter().flat_map(|group_norm| {
        let network = Network::new(group_norm);
        PRECISIONS.map(|precision| {
            let table = network.quantization(|name| name != "class.last");
            network.plan(precision, Some(&table))
        })
    })
}

fn outputs(session: &mut Session, sizes: &[(usize, usize)], first_seed: u64) -> Vec<Vec<f32>> {
    let mut outputs = run_first(session, sizes, first_seed);
    outputs.extend(run_rest(session, sizes.len()));
    outputs
}

#[test]
fn runs_and_threads_agree() {
    let sizes = [(75, 96), (33, 64)];
    for plan in plans() {
        let run = |num_threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().expect("a pool");
            pool.install(|| {
                let mut session = plan.session();
                let first = outputs(&mut session, &sizes, 0);
                // Memory that other images have used.
                outputs(&mut session, &[(50, 50)], 7);
                assert!(first == outputs(&mut session, &sizes, 0), "{num_threads} threads: a second run differs");
                first
            })
        };
        let one = run(1);
        assert!(one.iter().flatten().all(|value| value.is_finite()));
        assert!(one == run(2) && one == run(3), "threads differ");
    }
}

#[test]
fn a_batch_of_many_sizes_gives_what_each_image_gives() {
    let sizes = [(75, 96), (33, 64), (96, 75), (33, 64)];
    for plan in plans() {
        let together = outputs(&mut plan.session(), &sizes, 0);
        for (image_idx, &size) in sizes.iter().enumerate() {
            let alone = outputs(&mut plan.session(), &[size], image_idx as u64);
            for (output_idx, output) in alone.iter().enumerate() {
                assert!(*output == together[output_idx * sizes.len() + image_idx], "output {output_idx} of {size:?}");
            }
        }
    }
}

#[test]
fn sessions_of_one_plan_run_side_by_side() {
    let plan = Network::new(false).plan(Precision::F32, None);
    let sizes = [(64, 80)];
    let expected: Vec<_> = (0..4).map(|seed| outputs(&mut plan.session(), &sizes, seed)).collect();
    std::thread::scope(|scope| {
        for (seed, expected) in expected.iter().enumerate() {
            let plan = &plan;
            scope.spawn(move || {
                let mut session = plan.session();
                (0..5).for_each(|_| assert!(*expected == outputs(&mut session, &sizes, seed as u64)));
            });
        }
    });
}
