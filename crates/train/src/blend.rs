//! What the model has beside its weights: counts of the lines it was trained on, and how much to make of them and of
//! copies from the context.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use indicatif::ProgressIterator as _;
use nemoterm_engine::train::{BLEND, Counts, GATES};
use nemoterm_engine::{LoadOptions, Model, Source};

use crate::cases::{self, Case};
use crate::corpora::{Corpora, Excluded};
use crate::documents::{Document, Documents, described, line_after};
use crate::everyday;

/// Steps in which the weights are found, and their size.
const STEPS: usize = 400;
const RATE: f64 = 0.05;
/// How much large weights cost, so that what was seen a few times only does not decide.
const PENALTY: f64 = 1e-3;

/// Counts the lines of the corpora and writes them beside the weights in `directory`; with `cases`, a file as
/// `nemoterm eval` reads it, weighs them as suits those best.
pub fn write(directory: &Path, texts: &Documents, cases: Option<&Path>) -> Result<()> {
    let path = directory.join(BLEND);
    // The tokenizer alone is wanted here, and an older file may not fit it.
    if path.is_file() {
        fs::remove_file(&path)?;
    }
    let load = || Model::load(&Source::Directory(directory.to_owned()), &LoadOptions::default());
    let model = load()?;
    let vocabulary = model.info().vocabulary;
    anyhow::ensure!(vocabulary <= 1 << 16, "counts are kept of 65536 tokens at most, not of {vocabulary}");
    let counts = count(&model, texts.corpora(), texts.excluded())?;
    let (contexts, followers) = counts.sizes();
    let mut gates = fitted(&[]);
    counts.write(&gates, &path)?;
    if let Some(cases) = cases {
        let points = points(&load()?, &documents(cases, texts)?)?;
        let before = loss(&points, |_| [0.0, 0.0]);
        gates = fitted(&points);
        let after = loss(&points, |point| gate(&gates, point));
        println!(
            "loss of {} tokens of the cases: {before:.3} without counts and copies, {after:.3} with them",
            points.len()
        );
        counts.write(&gates, &path)?;
    }
    println!("{contexts} contexts with {followers} followers in {}", path.display());
    Ok(())
}

/// How often a line of our own counts for each time that it stands there, where one of the documentation counts once in all.
const EVERYDAY: f64 = 16.0;

fn count(model: &Model, corpora: &Corpora, excluded: &Excluded) -> Result<Counts> {
    let end = model.encode("</s>")?.last().copied().context("the vocabulary has no </s>")?;
    let mut counts = Counts::default();
    let mut lines: Vec<&str> = corpora.lines().collect();
    // A line that many pages have is typed by more people, but not by that many more.
    lines.sort_unstable();
    lines.dedup();
    for line in lines.into_iter().filter(|line| !excluded.command(line)) {
        let mut tokens = model.encode_plain(line)?;
        tokens.push(end);
        counts.add(&tokens, 1.0);
    }
    // What is typed every day stands there as often as it is typed.
    let everyday = corpora.sessions.iter().filter(|session| session.source == everyday::NAME);
    for line in everyday.flat_map(|session| &session.commands).filter(|line| !excluded.command(line)) {
        let mut tokens = model.encode_plain(line)?;
        tokens.push(end);
        counts.add(&tokens, EVERYDAY);
    }
    counts.prune();
    Ok(counts)
}

/// The cases as documents.
fn documents(path: &Path, texts: &Documents) -> Result<Vec<Document>> {
    let document = |case: &Case| match case.description() {
        Some(description) => {
            let shown = texts.known().consult(description, |_| true).shown;
            described(case.history(), shown.into_iter().collect(), description, &case.command())
        }
        None => line_after(case.history(), &case.command()),
    };
    Ok(cases::read(path)?.iter().map(document).collect())
}

/// What the three sources said about a token that came.
#[derive(Debug, Clone, Copy)]
struct Point {
    described: usize,
    order: usize,
    matched: usize,
    network: f64,
    copied: f64,
    counted: f64,
    /// The sum of all that the counts have followers for.
    counted_mass: f64,
}

fn points(model: &Model, documents: &[Document]) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for document in documents.iter().progress() {
        let prompt = model.encode_plain(&document.prompt)?;
        let answer = model.encode_plain(&document.answer)?;
        let mut tokens = prompt;
        let first = tokens.len().max(1);
        let skip = usize::from(!tokens.is_empty() && tokens.first() == answer.first());
        tokens.extend(&answer[skip..]);
        tokens.extend(model.encode("</s>")?.last());
        if tokens.len() > model.info().context {
            continue;
        }
        let logits = model.logits(&tokens)?;
        for at in first..tokens.len() {
            let wanted = tokens[at];
            let is_wanted =
                |token: u32| token == wanted || (model.ends_line(wanted) && model.ends_line(token));
            let row = &logits[at - 1];
            let normaliser = f64::from(nemoterm_engine::log_sum_exp(row));
            let chance = |(token, &logit): (usize, &f32)| {
                if is_wanted(token as u32) { (f64::from(logit) - normaliser).exp() } else { 0.0 }
            };
            let evidence = model.evidence(&tokens[..at]).context("the counts were not read")?;
            let of = |shares: &[(u32, f32)]| -> f64 {
                shares.iter().filter(|(token, _)| is_wanted(*token)).map(|&(_, share)| f64::from(share)).sum()
            };
            points.push(Point {
                described: usize::from(evidence.is_described),
                order: evidence.order,
                matched: evidence.matched,
                network: row.iter().enumerate().map(chance).sum(),
                copied: of(&evidence.copied),
                counted: of(&evidence.counted),
                counted_mass: evidence.counted.iter().map(|&(_, share)| f64::from(share)).sum(),
            });
        }
    }
    Ok(points)
}

/// The mean negative log-probability with these weights of copies and counts.
fn loss(points: &[Point], weights: impl Fn(&Point) -> [f64; 2]) -> f64 {
    let sum: f64 = points.iter().map(|point| -blended(point, weights(point)).ln()).sum();
    sum / points.len().max(1) as f64
}

fn blended(point: &Point, [copied, counted]: [f64; 2]) -> f64 {
    let network = (1.0 - copied - counted * point.counted_mass) * point.network;
    (network + copied * point.copied + counted * point.counted).max(1e-9)
}

fn gate(gates: &[f32], point: &Point) -> [f64; 2] {
    let at = 2 * ((point.described * GATES[1] + point.order) * GATES[2] + point.matched);
    [f64::from(gates[at]), f64::from(gates[at + 1])]
}

/// The logits of copies and counts, sums of a part by the comment, one by the order and one by the match: each is learnt from
/// more points than one for every triple would be. The network's is 0.
struct Logits {
    /// `[comment or not, 2]`, then `[orders, 2]`, then `[matches, 2]`.
    values: Vec<f64>,
}

/// What the parts are before anything is learnt.
const INITIAL: f64 = -0.5;

impl Logits {
    fn length() -> usize {
        2 * (GATES[0] + GATES[1] + GATES[2])
    }

    /// Where the parts of a point begin.
    fn parts([described, order, matched]: [usize; 3]) -> [usize; 3] {
        [2 * described, 2 * (GATES[0] + order), 2 * (GATES[0] + GATES[1] + matched)]
    }

    fn weights(&self, at: [usize; 3]) -> [f64; 2] {
        let source =
            |which: usize| Self::parts(at).iter().map(|part| self.values[part + which]).sum::<f64>().exp();
        let (copied, counted) = (source(0), source(1));
        let sum = 1.0 + copied + counted;
        // Where a source has nothing to say, the network speaks for it.
        [if at[2] == 0 { 0.0 } else { copied / sum }, if at[1] == 0 { 0.0 } else { counted / sum }]
    }
}

/// The weights under which the points are likeliest, by Adam; without points, what they begin with.
fn fitted(points: &[Point]) -> Vec<f32> {
    let length = Logits::length();
    let mut logits = Logits { values: vec![INITIAL; length] };
    let (mut first, mut second) = (vec![0.0; length], vec![0.0; length]);
    for step in 1..=if points.is_empty() { 0 } else { STEPS } {
        let mut gradient: Vec<f64> =
            logits.values.iter().map(|value| 2.0 * PENALTY * (value - INITIAL)).collect();
        for point in points {
            let at = [point.described, point.order, point.matched];
            let [copied, counted] = logits.weights(at);
            let probability = blended(point, [copied, counted]);
            // How the probability changes with each weight, and each weight with each logit.
            let by_copied = point.copied - point.network;
            let by_counted = point.counted - point.counted_mass * point.network;
            let scale = -1.0 / (probability * points.len() as f64);
            let mixed = copied * by_copied + counted * by_counted;
            let of = [scale * copied * (by_copied - mixed), scale * counted * (by_counted - mixed)];
            for (which, value) in of.into_iter().enumerate() {
                for part in Logits::parts(at) {
                    gradient[part + which] += value;
                }
            }
        }
        for i in 0..length {
            first[i] = 0.9 * first[i] + 0.1 * gradient[i];
            second[i] = 0.99 * second[i] + 0.01 * gradient[i] * gradient[i];
            let mean: f64 = first[i] / (1.0 - 0.9_f64.powi(step as i32));
            let deviation = (second[i] / (1.0 - 0.99_f64.powi(step as i32))).sqrt() + 1e-9;
            logits.values[i] -= RATE * mean / deviation;
        }
    }
    let mut gates = Vec::with_capacity(GATES.iter().product());
    for described in 0..GATES[0] {
        for order in 0..GATES[1] {
            for matched in 0..GATES[2] {
                gates.extend(logits.weights([described, order, matched]).map(|weight| weight as f32));
            }
        }
    }
    gates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_right_more_often_weighs_more() {
        let point = |order, matched, copied, counted| Point {
            described: 0,
            order,
            matched,
            network: 0.1,
            copied,
            counted,
            counted_mass: 1.0,
        };
        // Short copies are wrong, long ones right; what was counted is right half of the time.
        let points: Vec<Point> = (0..200)
            .flat_map(|i| {
                let counted = if i % 2 == 0 { 0.9 } else { 0.01 };
                [point(2, 1, 0.01, counted), point(2, 8, 0.95, counted), point(0, 0, 0.0, 0.0)]
            })
            .collect();
        let gates = fitted(&points);
        let [short, counted] = gate(&gates, &points[0]);
        let [long, _] = gate(&gates, &points[1]);
        assert!(long > 0.7 && short < 0.1 && counted > 0.1, "{short} {long} {counted}");
        assert_eq!(gate(&gates, &points[2]), [0.0, 0.0], "nothing to say, no weight");
        assert!(loss(&points, |point| gate(&gates, point)) < loss(&points, |_| [0.0, 0.0]));
        assert!(gates.chunks(2).all(|pair| pair[0] + pair[1] < 1.0));
    }
}
