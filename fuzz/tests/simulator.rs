//! The simulator itself: it repeats itself to the last event, and what it runs is not nothing.

use tidegate_fuzz::simulator::simulate;

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    let mut hashes = Vec::new();
    for seed in 1..=6 {
        println!("seed {seed}");
        let (first, second) = (simulate(seed, None), simulate(seed, None));
        assert_eq!(first, second);
        hashes.push(first.trace_hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 6, "and another seed another one");
}

#[test]
fn a_few_runs_meet_faults_kill_processes_and_have_messages_accepted_all_the_same() {
    let outcomes: Vec<_> = (1..=12).map(|seed| simulate(seed, None)).collect();
    let sum = |of: fn(&tidegate_fuzz::simulator::Figures) -> u64| -> u64 {
        outcomes.iter().map(|outcome| of(&outcome.figures)).sum()
    };
    assert!(sum(|figures| figures.faults) > 100);
    assert!(sum(|figures| figures.backend_deaths) > 10);
    assert!(sum(|figures| figures.gateway_deaths) > 3);
    assert!(sum(|figures| figures.accepted) > 200);
    for outcome in outcomes {
        assert_eq!(outcome.failure, None, "seed {}", outcome.seed);
        assert!(outcome.ledger.accepted >= outcome.figures.accepted);
        let ledger = outcome.ledger;
        assert_eq!(
            ledger.accepted,
            ledger.delivered + ledger.pending + ledger.expired
        );
    }
}
