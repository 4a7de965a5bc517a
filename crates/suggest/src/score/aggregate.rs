//! The figures over many cases.

use std::collections::HashMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::score::{Case, Outcome, Prediction, Threshold, judge, thresholds};

/// Figures over some cases: shares and means between 0 and 1, times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Aggregate {
    /// The number of cases.
    pub n: usize,
    /// Share whose whole rest is right.
    pub exact: f64,
    /// Share whose first word is right.
    pub next: f64,
    /// Mean of the right characters from the start over the characters expected.
    pub lcp: f64,
    /// The same over all characters of all cases.
    pub lcp_micro: f64,
    /// Key strokes saved over characters expected.
    pub saved: f64,
    /// Share without a suggestion.
    pub empty: f64,
    /// Share with a suggestion whose first word is wrong.
    pub wrong: f64,
    /// First word right among those with a suggestion.
    pub prec: f64,
    /// Every word right among those with a suggestion.
    pub whole: f64,
    /// Descriptions only: share with the right command name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nl_cmd: Option<f64>,
    /// Descriptions only: mean F1 over words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nl_f1: Option<f64>,
    /// Passes over the model's weights for each token that it wrote; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes_per_token: Option<f64>,
    /// Median time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms_p50: Option<f64>,
    /// 95th percentile of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms_p95: Option<f64>,
    /// Longest time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms_max: Option<f64>,
}

/// Named groups of cases, largest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups(pub Vec<(String, Aggregate)>);

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, aggregate) in &self.0 {
            map.serialize_entry(name, aggregate)?;
        }
        map.end()
    }
}

/// The figures over all cases and over groups of them.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// All cases; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<Aggregate>,
    /// By [`Case::kind`].
    pub kind: Groups,
    /// By collection.
    pub source: Groups,
    /// By where the line is cut.
    pub cut: Groups,
    /// By how common the command is.
    pub tier: Groups,
    /// By what the session's history holds of the answer.
    pub recover: Groups,
    /// By whether the line is general: `True` or `False`.
    pub generic: Groups,
    /// What higher estimates are worth; nothing where predictions come without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confidence: Vec<Threshold>,
}

/// Judges a prediction for every case; a case without one counts as an empty prediction, and of several for
/// one case the last counts.
pub fn report(cases: &[Case], predictions: &[Prediction]) -> Report {
    let by_id: HashMap<&str, &Prediction> = predictions.iter().map(|p| (p.id.as_str(), p)).collect();
    let rows: Vec<Row<'_>> = cases
        .iter()
        .map(|case| {
            let prediction = by_id.get(case.id.as_str());
            let completion = prediction.map_or("", |p| &p.completion);
            Row {
                case,
                outcome: judge(case, completion),
                ms: prediction.and_then(|p| p.ms),
                work: prediction.and_then(|p| p.passes.zip(p.tokens)),
            }
        })
        .collect();
    let generic = |case: &Case| case.generic.map(|generic| if generic { "True" } else { "False" }.to_owned());
    Report {
        all: aggregate(&rows.iter().collect::<Vec<_>>()),
        kind: group(&rows, |case| Some(case.kind().to_owned())),
        source: group(&rows, |case| Some(case.source.clone())),
        cut: group(&rows, |case| Some(case.cut.clone())),
        tier: group(&rows, |case| case.tier.clone()),
        recover: group(&rows, |case| case.recover.clone()),
        generic: group(&rows, generic),
        confidence: thresholds(cases, predictions),
    }
}

struct Row<'a> {
    case: &'a Case,
    outcome: Outcome,
    ms: Option<f64>,
    /// Passes, and the tokens that they gave.
    work: Option<(usize, usize)>,
}

/// Groups rows by a name, the largest group first, equals in the order of their first case.
fn group(rows: &[Row<'_>], name: impl Fn(&Case) -> Option<String>) -> Groups {
    let mut groups: Vec<(String, Vec<&Row<'_>>)> = Vec::new();
    for row in rows {
        let Some(name) = name(row.case) else { continue };
        match groups.iter_mut().find(|(existing, _)| *existing == name) {
            Some((_, members)) => members.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    Groups(groups.into_iter().filter_map(|(name, members)| Some((name, aggregate(&members)?))).collect())
}

fn aggregate(rows: &[&Row<'_>]) -> Option<Aggregate> {
    if rows.is_empty() {
        return None;
    }
    let n = rows.len() as f64;
    let share = |is: fn(&Outcome) -> bool| rows.iter().filter(|row| is(&row.outcome)).count() as f64 / n;
    let sum = |of: fn(&Outcome) -> usize| rows.iter().map(|row| of(&row.outcome)).sum::<usize>() as f64;
    let expected = sum(|o| o.expected).max(1.0);
    let lcp =
        rows.iter().map(|row| row.outcome.common as f64 / row.outcome.expected.max(1) as f64).sum::<f64>()
            / n;
    let (next, empty) = (share(|o| o.next), share(|o| o.empty));
    let of_shown = |share: f64| if empty < 1.0 { share / (1.0 - empty) } else { 0.0 };
    let descriptions: Vec<_> = rows.iter().filter_map(|row| row.outcome.description).collect();
    let of_descriptions = |sum: f64| (!descriptions.is_empty()).then(|| sum / descriptions.len() as f64);
    let mut ms: Vec<f64> = rows.iter().filter_map(|row| row.ms).collect();
    ms.sort_by(f64::total_cmp);
    let percentile = |share: f64| ms.get((ms.len() - 1).min((share * ms.len() as f64) as usize)).copied();
    let percentile = |share: f64| if ms.is_empty() { None } else { percentile(share) };
    let work = rows.iter().filter_map(|row| row.work);
    let (passes, tokens) = work.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    Some(Aggregate {
        n: rows.len(),
        exact: share(|o| o.exact),
        next,
        lcp,
        lcp_micro: sum(|o| o.common) / expected,
        saved: sum(|o| o.saved) / expected,
        empty,
        wrong: share(|o| o.wrong),
        prec: of_shown(next),
        whole: of_shown(share(|o| o.whole)),
        nl_cmd: of_descriptions(descriptions.iter().filter(|d| d.command).count() as f64),
        nl_f1: of_descriptions(descriptions.iter().map(|d| d.f1).sum()),
        passes_per_token: (tokens > 0).then(|| passes as f64 / tokens as f64),
        ms_p50: percentile(0.5),
        ms_p95: percentile(0.95),
        ms_max: ms.last().copied(),
    })
}
