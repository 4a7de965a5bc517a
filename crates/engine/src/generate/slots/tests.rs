//! Which cache a text goes on in, with a session that knows tokens instead of keys and values.

use std::sync::{Arc, Mutex};

use candle_core::Result;

use super::{BESIDE, Best, LaneRun, Slots};
use crate::decoder::{Run, Session};

/// A position of a cache: the token, and the number of the pass that computed it.
type Position = (u32, usize);

#[derive(Default)]
struct Facts {
    caches: Vec<Vec<Position>>,
    passes: usize,
    /// Positions that were copied from one cache to another.
    copied: usize,
}

struct Fake(Arc<Mutex<Facts>>);

impl Session for Fake {
    fn reachable(&self, slot: usize, len: usize) -> usize {
        self.0.lock().unwrap().caches[slot].len().min(len)
    }

    fn truncate(&mut self, slot: usize, len: usize) -> usize {
        let cache = &mut self.0.lock().unwrap().caches[slot];
        cache.truncate(len);
        cache.len()
    }

    fn fork(&mut self, from: usize, to: usize, len: usize, shared: usize) -> Result<usize> {
        let mut facts = self.0.lock().unwrap();
        let source = facts.caches[from].clone();
        let len = len.min(source.len());
        let shared = shared.min(len).min(facts.caches[to].len());
        assert_eq!(
            facts.caches[to][..shared],
            source[..shared],
            "what is shared is the same, down to its pass"
        );
        facts.copied += len - shared;
        facts.caches[to] = source[..len].to_vec();
        Ok(len)
    }

    fn forward_all(&mut self, runs: &[Run<'_>]) -> Result<Vec<f32>> {
        let mut facts = self.0.lock().unwrap();
        facts.passes += 1;
        let pass = facts.passes;
        for run in runs {
            facts.caches[run.slot].extend(run.tokens.iter().map(|&token| (token, pass)));
        }
        Ok(Vec::new())
    }

    fn forward_best(&mut self, _runs: &[Run<'_>]) -> Result<Vec<Option<Best>>> {
        unreachable!("nothing is chosen here")
    }
}

/// The current cache with `prompt`, and lanes beside it that hold so many tokens of it and others behind them.
fn slots(prompt: &[u32], beside: &[(usize, &[u32])]) -> (Slots, Arc<Mutex<Facts>>) {
    let facts = Arc::new(Mutex::new(Facts { caches: vec![Vec::new(); 2 + BESIDE], ..Facts::default() }));
    let mut slots = Slots::new(Box::new(Fake(Arc::clone(&facts))), 2, 0);
    slots.take(prompt, prompt.len()).unwrap();
    slots.read(prompt, 1, prompt.len()).unwrap();
    for (i, &(len, tokens)) in beside.iter().enumerate() {
        slots.copy_lane(0, i + 1).unwrap();
        slots.truncate_lane(i + 1, len);
        if !tokens.is_empty() {
            slots.forward_lanes(&[LaneRun { lane: i + 1, tokens: tokens.to_vec(), rows: 1 }]).unwrap();
        }
    }
    facts.lock().unwrap().copied = 0;
    (slots, facts)
}

/// Opens lanes for texts and checks that each has one of its own which holds as much of it as any did; returns lanes and how many
/// positions were copied.
fn open(prompt: &[u32], beside: &[(usize, &[u32])], texts: &[&[u32]], stays: bool) -> (Vec<usize>, usize) {
    let (mut slots, facts) = slots(prompt, beside);
    let case = format!("{prompt:?} {beside:?} {texts:?} {stays}");
    let most = |text: &[u32]| {
        let common =
            |lane: usize| slots.lane_tokens(lane).iter().zip(text).take_while(|(a, b)| a == b).count();
        (0..=BESIDE).map(common).max().unwrap().min(text.len() - 1)
    };
    let expected: Vec<usize> = texts.iter().map(|text| most(text)).collect();
    let texts: Vec<Vec<u32>> = texts.iter().map(|text| text.to_vec()).collect();
    let opened = slots.open_lanes(&texts, stays).unwrap();
    for (((lane, known), text), expected) in opened.iter().zip(&texts).zip(expected) {
        assert_eq!(*known, expected, "{case}: {opened:?}");
        assert_eq!(slots.lane_tokens(*lane), &text[..*known], "{case}: {opened:?}");
        let cache: Vec<u32> =
            facts.lock().unwrap().caches[slots.lane(*lane)].iter().map(|&(token, _)| token).collect();
        assert_eq!(cache, text[..*known], "{case}: {opened:?}");
    }
    let lanes: Vec<usize> = opened.into_iter().map(|(lane, _)| lane).collect();
    for (i, lane) in lanes.iter().enumerate() {
        assert!(!lanes[..i].contains(lane) && (*lane == 0) == (stays && i == 0), "{case}: {lanes:?}");
    }
    let copied = facts.lock().unwrap().copied;
    (lanes, copied)
}

#[test]
fn texts_go_on_where_most_of_them_is() {
    let prompt: &[u32] = &[1, 2, 3, 4];
    let texts: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6, 7], &[1, 2, 3, 4, 8, 9], &[1, 2, 3, 4, 10]];
    // All that is known is the prompt: it is copied for the others, whose caches hold other things.
    let (lanes, copied) = open(prompt, &[(0, &[]), (0, &[])], &texts, true);
    assert_eq!((lanes, copied), (vec![0, 1, 2], 8));
    // Where they have begun like it before, nothing is copied but what differs.
    let (_, copied) = open(prompt, &[(3, &[70]), (4, &[71])], &texts, true);
    assert_eq!(copied, 1);
    // Each has its beginning in a lane of its own; that of the first comes to the prompt, which is there already.
    let beside: [(usize, &[u32]); 3] = [(4, &[10]), (4, &[8]), (4, &[5, 6])];
    let (lanes, copied) = open(prompt, &beside, &texts, true);
    assert_eq!((lanes[0], lanes[1], copied), (0, 2, 2));
    // Later batches leave the prompt where it is.
    let (lanes, copied) = open(prompt, &beside, &texts, false);
    assert_eq!((&lanes[..2], copied), (&[3, 2][..], 0));
}

#[test]
fn texts_that_begin_alike_have_copies() {
    let prompt: &[u32] = &[1, 2];
    let texts: [&[u32]; 3] = [&[1, 2, 5, 6, 7, 8], &[1, 2, 5, 6, 9], &[1, 2, 5, 6, 7, 9]];
    // One goes on where that is; the copies are made before it is cut back.
    for stays in [false, true] {
        let (lanes, copied) = open(prompt, &[(2, &[40]), (2, &[5, 6, 7]), (1, &[])], &texts, stays);
        assert_eq!((lanes[usize::from(stays)], copied), (2, 6), "{lanes:?}");
    }
}

#[test]
fn no_text_loses_its_beginning_to_another() {
    let mut state = 1_u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for round in 0..2000 {
        // Few different tokens, so that there is much in common.
        let mut tokens = |count: u64| -> Vec<u32> { (0..count).map(|_| below(2) as u32).collect() };
        let prompt = tokens(5);
        let lanes: Vec<Vec<u32>> = (0..BESIDE as u64).map(|lane| tokens(lane % 4)).collect();
        let ends: Vec<Vec<u32>> = (1..=BESIDE as u64).map(|end| tokens(1 + end % 4)).collect();
        let beside: Vec<(usize, &[u32])> =
            lanes.iter().enumerate().map(|(i, lane)| (5 - (round + i) % 3, lane.as_slice())).collect();
        let texts: Vec<Vec<u32>> = ends.iter().map(|end| [&prompt[..4], end].concat()).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).take(1 + round % BESIDE).collect();
        open(&prompt, &beside, &texts, round % 2 == 0);
    }
}
