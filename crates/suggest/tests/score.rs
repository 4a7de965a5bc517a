//! The scorer against figures that an independent implementation computed for the same made-up cases.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be read is a failed test")]

use std::collections::BTreeSet;

use nemoterm_suggest::score::{Case, Prediction, report};
use serde_json::Value;

const CASES: &str = include_str!("score/cases.jsonl");
const PREDICTIONS: &str = include_str!("score/predictions.jsonl");
const REPORT: &str = include_str!("score/report.json");

fn lines<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same keys everywhere, and numbers that differ by rounding at most.
#[track_caller]
fn assert_same(path: &str, ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let known = a.keys().filter(|key| *key != "whole").collect::<BTreeSet<_>>();
            assert_eq!(known, b.keys().collect::<BTreeSet<_>>(), "{path}");
            for (key, value) in b {
                assert_same(&format!("{path}/{key}"), &a[key], value);
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            let difference = (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
            assert!(difference < 1e-9, "{path}: {a} instead of {b}");
        }
        _ => panic!("{path}: {ours} instead of {theirs}"),
    }
}

#[test]
fn figures_agree_with_the_reference() {
    let report = report(&lines::<Case>(CASES), &lines::<Prediction>(PREDICTIONS));
    let expected: Value = serde_json::from_str(REPORT).unwrap();
    assert_same("", &serde_json::to_value(&report).unwrap(), &expected);
}

/// The reference has no such figure.
#[test]
fn what_one_key_may_take_is_right_to_its_last_word() {
    let case: Case =
        lines(r#"{"id":"a","source":"s","cut":"c","prefix":"git ","expected":"add -p src"}"#).remove(0);
    let whole = |completion: &str| {
        let prediction =
            Prediction { id: case.id.clone(), completion: completion.to_owned(), ..Prediction::default() };
        report(std::slice::from_ref(&case), &[prediction]).all.unwrap().whole
    };
    assert_eq!([whole("add -p src"), whole("add -p"), whole("add")], [1.0; 3]);
    assert_eq!([whole("add -p sr"), whole("add -p src lib"), whole("push"), whole("")], [0.0; 4]);
}

#[test]
fn no_cases_have_no_figures() {
    assert_eq!(report(&[], &[]).all, None);
}
