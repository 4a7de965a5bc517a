//! Whether the estimates that come with completions mean something.

use std::collections::HashMap;

use crate::score::{Case, Prediction, judge};

/// What would be shown if only completions with at least this estimate were, of the lines that are cut (descriptions are
/// asked for, so they are always shown).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Threshold {
    /// The smallest estimate.
    pub threshold: f64,
    /// Share of the cases with a completion that is shown.
    pub shown: f64,
    /// First word right among those.
    pub prec: f64,
}

/// The thresholds that are reported.
const THRESHOLDS: [f64; 11] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// The figures for each threshold under which something is shown; none where predictions have no estimates.
pub fn thresholds(cases: &[Case], predictions: &[Prediction]) -> Vec<Threshold> {
    let by_id: HashMap<&str, &Prediction> = predictions.iter().map(|p| (p.id.as_str(), p)).collect();
    let lines: Vec<&Case> = cases.iter().filter(|case| !case.is_description()).collect();
    let judged: Vec<(f64, bool)> = lines
        .iter()
        .filter_map(|case| {
            let prediction = by_id.get(case.id.as_str())?;
            let outcome = judge(case, &prediction.completion);
            (!outcome.empty).then_some((prediction.score?, outcome.next))
        })
        .collect();
    let at = |threshold: f64| {
        let shown: Vec<bool> =
            judged.iter().filter(|(score, _)| *score >= threshold).map(|&(_, right)| right).collect();
        let right = shown.iter().filter(|&&right| right).count() as f64;
        (!shown.is_empty()).then(|| Threshold {
            threshold,
            shown: shown.len() as f64 / lines.len() as f64,
            prec: right / shown.len() as f64,
        })
    };
    THRESHOLDS.into_iter().filter_map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_threshold_shows_less() {
        let case = |id: &str, cut: &str| -> Case {
            serde_json::from_str(&format!(
                r#"{{"id":"{id}","source":"s","cut":"{cut}","prefix":"git ","expected":"add ."}}"#
            ))
            .unwrap()
        };
        let prediction = |id: &str, completion: &str, score: f64| Prediction {
            id: id.to_owned(),
            completion: completion.to_owned(),
            score: Some(score),
            ..Prediction::default()
        };
        let cases = [case("a", "mid_arg"), case("b", "mid_arg"), case("c", "mid_arg"), case("d", "nl")];
        let predictions = [
            prediction("a", "add x", 0.65),
            prediction("b", "push", 0.15),
            prediction("c", "", 0.9),
            prediction("d", "add", 0.9),
        ];
        let figures = thresholds(&cases, &predictions);
        let at = |threshold: f64| figures.iter().find(|figure| figure.threshold == threshold).copied();
        assert_eq!(at(0.0), Some(Threshold { threshold: 0.0, shown: 2.0 / 3.0, prec: 0.5 }));
        assert_eq!(at(0.2), Some(Threshold { threshold: 0.2, shown: 1.0 / 3.0, prec: 1.0 }));
        assert_eq!(at(0.7), None, "nothing is shown");
    }
}
